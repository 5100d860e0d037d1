//! A stream's creation and its end: the policy that a `PUT` brings is stored before anything is
//! forwarded, and settled by the answer before the caller has it. The states are `stream::creation`'s.
//!
//! The store blocks: everything here waits for it off the threads that serve, and not for ever. What is
//! given up goes on to its end there, and takes back what it had begun.

use super::admit::Answers;
use super::ctx::Ctx;
use super::fork;
use super::gateway::{Gateway, Reached};
use super::stream::{ALLOWED_ORIGINS, Watch, admits, look};
use crate::config::Provider;
use crate::egress::fetch;
use crate::policy::{Code, Denial, Pass};
use crate::provider::path::Path;
use crate::slot::inject::{Filled, inject};
use crate::stream::creation::Wish;
use crate::stream::streams::Refusal;
use crate::stream::{Creation, Name, Policy};
use http::request::Parts;
use http::{HeaderMap, Method};
use pingora_proxy::Session;
use std::time::{Duration, Instant};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// How long a creation waits for others of the same stream.
const TURN: Duration = Duration::from_secs(5);
/// How often another process is looked at that has the turn.
const LOOK: Duration = Duration::from_millis(50);
/// How long the store may take to begin, and to settle.
const BEGIN: Duration = Duration::from_secs(2);
const SETTLE: Duration = Duration::from_secs(5);
/// How long a stream server may take to say whether it has a stream.
const ASK: Duration = Duration::from_secs(2);

/// Before a request for a stream is forwarded: what an earlier one has left behind is settled, and what
/// this one brings is stored.
///
/// # Errors
/// As [`begin`].
pub(super) async fn open(
    gateway: &Gateway,
    session: &Session,
    ctx: &Ctx,
    (asked, permit): (&mut Answers, &Pass),
) -> Result<(), Denial> {
    let Some(watch) = &mut asked.stream else { return Ok(()) };
    let index = asked.route.provider;
    let (providers, upstreams) = (&ctx.snapshot.config.providers, &ctx.snapshot.upstreams);
    let (Some(provider), Some(reached)) = (providers.get(index), upstreams.get(index)) else {
        return Err(Code::InternalError.into());
    };
    let request = session.req_header();
    if matches!(request.method, Method::PUT | Method::DELETE) {
        // What is to be replaced or removed is what stands now, whoever has stored it.
        look(gateway).await;
        watch.seen = gateway.streams.known(&watch.name).map_or(0, |known| known.seq);
    }
    if request.method == Method::PUT {
        let source = fork::path(provider, &request.headers)?;
        watch.source = source.map(|source| Name::of(&provider.name, source));
        watch.creation = Some(begin(gateway, provider, request, watch).await?);
        return Ok(());
    }
    let path = request.uri.path().get(asked.route.skip..).unwrap_or_default();
    settle_leftover(gateway, (provider, reached), watch, (permit, path)).await;
    Ok(())
}

/// Stores what a `PUT` brings.
///
/// # Errors
/// 400 for what is no policy; 403 where the source of a fork may not be used from this origin; 503 where
/// it can't be stored.
async fn begin(
    gateway: &Gateway,
    provider: &Provider,
    request: &Parts,
    watch: &Watch,
) -> Result<Creation, Denial> {
    let streams = &gateway.streams;
    let brought = brought(&request.headers)?;
    if brought.as_ref().is_some_and(Policy::is_same_origin) && watch.page.own.is_none() {
        let why = "Stream-Allowed-Origins: same-origin needs server_names in the gateway's \
                   configuration; list the origins";
        return Err(Denial::new(Code::MalformedRequest, why));
    }
    let wish = Wish {
        name: watch.name,
        label: watch.label.clone(),
        brought,
        inherited: inherited(gateway, provider, request, watch).await?,
    };
    let until = Instant::now() + TURN;
    let turn = timeout(TURN, streams.turns.wait(watch.name.key)).await;
    let mut turn = turn.map_err(|_| busy())?;
    loop {
        let (wish, of, now_ms) = (wish.clone(), streams.clone(), gateway.clock.wall_ms());
        let begun = spawn_blocking(move || of.begin(wish, turn, now_ms));
        match timeout(BEGIN, begun).await {
            Ok(Ok(Ok(creation))) => return Ok(creation),
            Ok(Ok(Err(Refusal::Busy(_)))) if Instant::now() >= until => return Err(busy()),
            Ok(Ok(Err(Refusal::Busy(again)))) => turn = again,
            Ok(Ok(Err(Refusal::Misspelt))) => {
                admits(crate::stream::Verdict::Misspelt)?;
                return Err(Code::InternalError.into());
            }
            Ok(Ok(Err(Refusal::NoStore))) => {
                let why = "the gateway has no store to keep Stream-Allowed-Origins in; tell its \
                           operator";
                return Err(Denial::new(Code::StoreUnavailable, why));
            }
            Ok(Ok(Err(Refusal::Failed(why)))) => {
                log::error!("{}: its policy can't be stored: {why}", watch.label);
                return Err(Code::StoreUnavailable.into());
            }
            Ok(Err(_)) | Err(_) => return Err(Code::StoreUnavailable.into()),
        }
        sleep(LOOK).await;
    }
}

fn busy() -> Denial {
    let why = "another creation of this stream is under way; try again";
    let denial = Denial::new(Code::StoreUnavailable, why);
    Denial { retry_after_ms: Some(1_000), ..denial }
}

/// The header, which comes once.
fn brought(headers: &HeaderMap) -> Result<Option<Policy>, Denial> {
    let mut sent = headers.get_all(&ALLOWED_ORIGINS).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let wrong = |why: String| Denial::new(Code::MalformedRequest, why);
    if sent.next().is_some() {
        return Err(wrong("Stream-Allowed-Origins is there twice; send one list".to_owned()));
    }
    Policy::parse(first.as_bytes()).map(Some).map_err(|why| wrong(why.to_string()))
}

/// What a fork has from its source: that is read, so its own policy must allow this.
async fn inherited(
    gateway: &Gateway,
    provider: &Provider,
    request: &Parts,
    watch: &Watch,
) -> Result<Option<Policy>, Denial> {
    let Some(source) = fork::path(provider, &request.headers)? else { return Ok(None) };
    let source = Name::of(&provider.name, source);
    look(gateway).await;
    if !gateway.streams.is_in_step() {
        return Err(Code::StoreUnavailable.into());
    }
    admits(gateway.streams.verdict(&source, &watch.page, false))?;
    Ok(gateway.streams.in_force(&source))
}

/// Settles a creation by the answer's status. Gives what the caller is refused with, where it is not
/// the answer itself.
pub(super) async fn settle(
    gateway: &Gateway,
    mut creation: Creation,
    (source, status): (Option<Name>, u16),
) -> Option<Denial> {
    if let (Some(source), 201) = (source, status) {
        // It may have been created with a policy while this was under way.
        look(gateway).await;
        creation.inherits(gateway.streams.in_force(&source));
    }
    let agrees = creation.agrees();
    let settled = match status {
        201 => spawn_blocking(move || creation.created()),
        200 | 202..500 => spawn_blocking(move || creation.dropped()),
        // A gateway that gave up, a server that failed half-way: nobody knows what it has done.
        _ => {
            drop(creation);
            return None;
        }
    };
    let done = match timeout(SETTLE, settled).await {
        Ok(Ok(Ok(()))) => true,
        Ok(Ok(Err(why))) => {
            log::error!("what became of a stream's creation can't be stored: {why}");
            false
        }
        Ok(Err(_)) | Err(_) => false,
    };
    match status {
        201 if !done => {
            let why = "the stream was created, but the gateway's store failed: ask for it again";
            Some(Denial::new(Code::StoreUnavailable, why))
        }
        200 | 202..300 if !agrees => Some(Code::Conflict.into()),
        _ => None,
    }
}

/// The stream is gone, and its policy with it. Where that can't be stored it stays in force.
pub(super) async fn remove(gateway: &Gateway, watch: &Watch) {
    let (streams, name, label) = (gateway.streams.clone(), watch.name, watch.label.clone());
    let seen = watch.seen;
    if seen == 0 {
        return;
    }
    let removing = spawn_blocking(move || {
        streams.remove(&name, &label, seen).inspect_err(|why| {
            log::error!("{label}: the policy of a deleted stream stays: {why}");
        })
    });
    let _ = timeout(SETTLE, removing).await;
}

/// Settles what a creation has left behind that got no answer, by asking whether there is a stream.
async fn settle_leftover(
    gateway: &Gateway,
    (provider, reached): (&Provider, &Reached),
    watch: &Watch,
    (permit, path): (&Pass, &str),
) {
    let Some(leftover) = gateway.streams.leftover(&watch.name) else { return };
    let key = provider.keys.first().and_then(|key| {
        let place = (reached.api.place)(provider, &Path::new(path), false);
        inject(permit, &key.secret, &place, None)
    });
    let key = match key {
        Some(Filled::Header(name, value)) => Some((name, value)),
        Some(Filled::Query(_)) | None => None,
    };
    let asked = timeout(ASK, fetch::head(&provider.url, path, key)).await;
    let exists = match asked {
        Ok(Ok(200..300)) => true,
        Ok(Ok(404 | 410)) => false,
        Ok(Ok(status)) => {
            return log::warn!(
                "{}: whether it exists is not known: HEAD got {status}",
                watch.label
            );
        }
        Ok(Err(why)) => {
            return log::warn!("{}: whether it exists is not known: {why}", watch.label);
        }
        Err(_) => return log::warn!("{}: whether it exists is not known in time", watch.label),
    };
    let (streams, name, label) = (gateway.streams.clone(), watch.name, watch.label.clone());
    let now_ms = gateway.clock.wall_ms();
    let settling = spawn_blocking(move || {
        if let Err(why) = streams.settle(&name, &label, (leftover, exists), now_ms) {
            log::error!("{label}: what its creation left can't be settled: {why}");
        }
    });
    let _ = timeout(SETTLE, settling).await;
}
