//! Which origins may use a stream, where requests pass: asked before one is forwarded, when its answer
//! comes and while it runs; and what an answer says of the stream's policy. What it says itself is
//! `stream`'s.
//!
//! A read that was let through before a policy was stored may reach the stream server after the stream
//! was created with it: what counts is what stands when the answer is there.

use super::ctx::{Ctx, Stage};
use super::gateway::Gateway;
use super::{canonical, creation};
use crate::config::{Config, Kind, Provider};
use crate::cors::StreamCors;
use crate::policy::{Code, Denial, origin};
use crate::stream::{Creation, Ground, Name, Page, Source, Streams, Verdict};
use crate::values::origin::Origin;
use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use pingora::http::ResponseHeader;
use pingora_core::{Error, ErrorType, Result};
use pingora_proxy::Session;
use std::time::Duration;

/// What creators send, and what answers about a stream carry.
pub(super) static ALLOWED_ORIGINS: HeaderName =
    HeaderName::from_static(crate::stream::allowed_origins::HEADER);
/// How long a request waits for what others have stored.
const LOOK: Duration = Duration::from_millis(250);
static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// A request for a stream.
pub(super) struct Watch {
    /// Which one.
    pub(super) name: Name,
    /// What people call it.
    pub(super) label: Box<str>,
    /// Where the request says it comes from.
    pub(super) page: Page,
    /// When the policies were last asked.
    generation: u64,
    /// The row that was in force when the request was let through; 0: none.
    pub(super) seen: i64,
    /// What a `PUT` would make a copy of.
    pub(super) source: Option<Name>,
    /// What a `PUT` would put in force.
    pub(super) creation: Option<Creation>,
}

/// Scheme and host that the caller used.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) scheme: &'a str,
    pub(super) host: &'a str,
}

impl Watch {
    /// The stream at `path` below the provider, as it is on the wire.
    ///
    /// # Errors
    /// 400 for a path that some servers take for another one.
    pub(super) fn of(
        provider: &Provider,
        path: &str,
        page: Page,
        streams: &Streams,
    ) -> Result<Self, Denial> {
        if path.ends_with('/') {
            let why = "the path of a stream does not end with '/'";
            return Err(Denial::new(Code::MalformedRequest, why));
        }
        let name = Name::of(&provider.name, path);
        let generation = streams.generation();
        let seen = streams.known(&name).map_or(0, |known| known.seq);
        let label = format!("{}{path}", provider.name).into();
        Ok(Self { name, label, page, generation, seen, source: None, creation: None })
    }

    /// What stands for this request now.
    pub(super) fn verdict(&self, streams: &Streams) -> Verdict {
        streams.verdict(&self.name, &self.page, false)
    }

    /// Asks again, if any policy has changed since it was last asked.
    fn again(&mut self, streams: &Streams, established: bool) -> Verdict {
        let generation = streams.generation();
        // What is running goes on while nobody knows better; a browser's answer does not begin.
        let sure = established || !self.page.is_browser() || streams.is_in_step();
        if generation == self.generation && sure {
            return Verdict::Allowed(Ground::Free);
        }
        self.generation = generation;
        streams.verdict(&self.name, &self.page, established)
    }
}

/// Where a request says it comes from.
pub(super) fn page(config: &Config, headers: &HeaderMap, place: Place<'_>) -> Page {
    let Place { scheme, host } = place;
    // Any page can make its own name lead here: only a host that is ours is.
    let own = config.server_names.as_ref().and_then(|_| {
        let own = Origin::parse(&format!("{scheme}://{host}")).ok()?;
        Some(Box::<str>::from(own.as_str()))
    });
    let source = match origin::effective(headers, scheme, host) {
        origin::Effective::Site(sent) if headers.contains_key(ORIGIN) => {
            Source::Site(sent.into_owned().into())
        }
        origin::Effective::Site(sent) => {
            let own = own.as_ref().map(|own| own.as_bytes().into());
            Source::Site(own.unwrap_or_else(|| sent.into_owned().into()))
        }
        origin::Effective::Absent => Source::Program,
        origin::Effective::AbsentFromBrowser => {
            let visit = headers.get_all(&SEC_FETCH_SITE).iter().all(|site| site == "none");
            if visit { Source::Visit } else { Source::Elsewhere }
        }
        origin::Effective::Repeated => Source::Several,
    };
    Page { source, own }
}

/// What other processes have stored is looked at before a browser's request is judged. Where that takes
/// too long, nobody knows.
pub(super) async fn catch_up(gateway: &Gateway, watch: &Watch) {
    if watch.page.is_browser() {
        look(gateway).await;
    }
}

/// What other processes have stored is taken in.
pub(super) async fn look(gateway: &Gateway) {
    if !gateway.streams.is_behind() {
        return;
    }
    let streams = gateway.streams.clone();
    let looking = async {
        // A store that hangs has one thread waiting for it, not one for each request.
        let turn = streams.looking.clone().lock_owned().await;
        if !streams.is_behind() {
            return Ok(Ok(()));
        }
        let streams = streams.clone();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            streams.follow()
        })
        .await
    };
    match tokio::time::timeout(LOOK, looking).await {
        Ok(Ok(Ok(()))) => {}
        // It has said so itself.
        Ok(Ok(Err(why))) => log::error!("the policies of streams can't be read: {why}"),
        Ok(Err(_)) | Err(_) => gateway.streams.lost(),
    }
}

/// Whether a request may go on.
///
/// # Errors
/// 403 for another origin, 503 where nobody knows, 400 for another spelling.
pub(super) fn admits(verdict: Verdict) -> Result<(), Denial> {
    match verdict {
        Verdict::Allowed(_) => Ok(()),
        Verdict::Refused => {
            let why = "the stream may not be used from this origin";
            Err(Denial::new(Code::OriginNotAllowed, why))
        }
        Verdict::Unknown => {
            let why = "which origins may use the stream can't be looked up now; try again later";
            Err(Denial::new(Code::StoreUnavailable, why))
        }
        Verdict::Misspelt => {
            let why = "the stream's path is spelt otherwise: encode it as its creator did";
            Err(Denial::new(Code::MalformedRequest, why))
        }
    }
}

/// The same, for the answer's headers.
pub(super) fn cors(verdict: Verdict) -> StreamCors {
    match verdict {
        Verdict::Allowed(Ground::Open) => StreamCors::Open,
        Verdict::Allowed(Ground::Free) => StreamCors::Allowed,
        Verdict::Allowed(Ground::Listed) => StreamCors::Listed,
        Verdict::Refused | Verdict::Unknown | Verdict::Misspelt => StreamCors::Refused,
    }
}

/// A preflight has no token and reaches nothing, but what it is told is the stream's policy.
pub(super) fn preflight(
    gateway: &Gateway,
    request: &Parts,
    ctx: &mut Ctx,
    (trusted, scheme): (bool, &str),
) {
    let snapshot = ctx.snapshot.clone();
    let path = request.uri.path();
    let meant = request.headers.get(http::header::ACCESS_CONTROL_REQUEST_METHOD);
    let meant = meant.and_then(|method| Method::from_bytes(method.as_bytes()).ok());
    let Some(route) = snapshot.routes.find(&meant.unwrap_or(Method::GET), path, false) else {
        return;
    };
    let provider = snapshot.config.providers.get(route.provider);
    let Some(provider) = provider.filter(|p| p.kind == Kind::DurableStreams) else { return };
    let host = canonical::caller_host(request, trusted).unwrap_or_default();
    let page = page(&snapshot.config, &request.headers, Place { scheme, host });
    let below = path.get(route.skip..).unwrap_or_default();
    ctx.note.provider = Some(route.provider);
    let watch = Watch::of(provider, below, page, &gateway.streams);
    let verdict = watch.map_or(Verdict::Misspelt, |watch| watch.verdict(&gateway.streams));
    ctx.note.stream = Some(cors(verdict));
}

/// The last look before the request goes out.
///
/// # Errors
/// As [`admits`]; the refusal waits in the flight.
pub(super) fn forward(gateway: &Gateway, ctx: &mut Ctx) -> Result<()> {
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let Some(watch) = &mut flight.stream else { return Ok(()) };
    if let Some(creation) = &mut watch.creation {
        creation.forwarded(!flight.has_body);
        return Ok(());
    }
    let verdict = watch.again(&gateway.streams, false);
    refuse_unless(verdict, ctx)
}

/// The stream server has answered: what this means for the stream's policy, durably, and whether the
/// answer may pass.
///
/// # Errors
/// The refusal waits in the flight.
pub(super) async fn answered(
    gateway: &Gateway,
    session: &Session,
    header: &ResponseHeader,
    ctx: &mut Ctx,
) -> Result<()> {
    let status = header.status.as_u16();
    if header.status.is_informational() && status != 101 {
        return Ok(());
    }
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let Some(watch) = &mut flight.stream else { return Ok(()) };
    let method = &session.req_header().method;
    if let Some(creation) = watch.creation.take() {
        let refusal = creation::settle(gateway, creation, (watch.source, status)).await;
        ctx.note.stream = Some(cors(watch.verdict(&gateway.streams)));
        return refusal.map_or(Ok(()), |denial| refuse(denial, ctx));
    }
    if *method == Method::DELETE {
        if matches!(status, 200..300 | 404 | 410) {
            creation::remove(gateway, watch).await;
        }
        return Ok(());
    }
    catch_up(gateway, watch).await;
    let verdict = watch.again(&gateway.streams, false);
    if !matches!(verdict, Verdict::Allowed(_)) {
        ctx.note.stream = Some(cors(verdict));
    }
    refuse_unless(verdict, ctx)
}

/// What an answer that passes says of the stream's policy.
pub(super) fn dress(
    gateway: &Gateway,
    method: &Method,
    answer: &mut http::response::Parts,
    ctx: &Ctx,
) {
    let Stage::Passed(flight) = &ctx.stage else { return };
    let Some(watch) = &flight.stream else { return };
    if !answer.status.is_success() || !matches!(*method, Method::PUT | Method::HEAD) {
        return;
    }
    let policy = gateway.streams.told(&watch.name);
    if let Some(value) = policy.and_then(|p| HeaderValue::from_str(p.as_str()).ok()) {
        answer.headers.insert(&ALLOWED_ORIGINS, value);
    }
}

/// Whether a stream that is being read may still be: it may have been created anew meanwhile.
///
/// # Errors
/// It may not, and the answer ends unfinished.
pub(super) fn goes_on(gateway: &Gateway, ctx: &mut Ctx) -> Result<()> {
    let Stage::Passed(flight) = &mut ctx.stage else { return Ok(()) };
    let Some(watch) = &mut flight.stream else { return Ok(()) };
    match watch.again(&gateway.streams, true) {
        Verdict::Allowed(_) => Ok(()),
        _ => {
            flight.refusal = Some(Code::OriginNotAllowed.into());
            Error::e_explain(ErrorType::ConnectionClosed, "the stream is another one now")
        }
    }
}

fn refuse_unless(verdict: Verdict, ctx: &mut Ctx) -> Result<()> {
    admits(verdict).or_else(|denial| refuse(denial, ctx))
}

fn refuse(denial: Denial, ctx: &mut Ctx) -> Result<()> {
    let code = denial.code;
    if let Some(flight) = ctx.flight() {
        flight.refusal = Some(denial);
    }
    Error::e_explain(ErrorType::HTTPStatus(code.status()), code.as_str())
}
