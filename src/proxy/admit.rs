//! How Pingora's session answers what the gate asks, step by step; the order itself is
//! `policy::check`'s.

use super::canonical;
use super::ctx::{Ctx, Flight, Note, Stage};
use super::gateway::{Gateway, Reached, Snapshot};
use super::{forwarded, models, reject, ticket};
use crate::config::Provider;
use crate::cors;
use crate::policy::{self, Class, Code, Denial, Rules, Verdict, model::Named, origin, scope};
use crate::provider::route::Route;
use crate::provider::{self, path::Path};
use crate::session::handle::Handle;
use crate::session::registry::{Live, Reach};
use crate::slot::extract;
use crate::slot::place::QueryNames;
use crate::token::ticket::Subject;
use crate::token::{Credential, Token};
use crate::values::net::AddressKey;
use http::header::{EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use pingora_core::Result;
use pingora_proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Runs the gate. Gives `true` when the answer has been sent.
pub(super) async fn admit(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    let snapshot = ctx.snapshot.clone();
    keep_alive(gateway, session, &snapshot);
    let (verdict, asked) = {
        let secure = ctx.is_secure();
        let mut asked = Asked::new(session, &snapshot, &mut ctx.note, secure);
        let rules = Rules {
            config: &snapshot.config,
            index: &gateway.index,
            seal: &gateway.seal,
            failed_auth: &gateway.failed_auth,
            clock: &gateway.clock,
        };
        let verdict = policy::check(rules, &mut asked).await;
        (verdict, asked.end())
    };
    ctx.continued = asked.continued;
    match verdict {
        Ok(Verdict::Preflight) => reject::preflight(session, ctx).await,
        Ok(Verdict::Permit(permit)) => {
            if asked.expects_continue && !asked.continued {
                session.write_continue_response().await?;
                ctx.continued = true;
            }
            let Some(handle) = ctx.handle() else {
                return reject::answer(gateway, session, ctx, Code::InternalError.into()).await;
            };
            enter(gateway, session, ctx, &asked, permit, handle);
            // What was revoked while the body was read found nothing in the registry to cut.
            if ctx.flight().is_some_and(|f| !gateway.still_allows(f.entry.live())) {
                return reject::answer(gateway, session, ctx, Code::TokenInvalid.into()).await;
            }
            Ok(false)
        }
        Err(denial) => {
            if matches!(denial.code, Code::TokenInvalid | Code::RateLimited)
                && denial.step == Some(policy::Step::Authentication)
            {
                gateway.metrics.failed_authentications.inc();
            }
            reject::answer(gateway, session, ctx, denial).await
        }
    }
}

/// The configuration's idle time for the connection, unless it is to be closed anyway.
fn keep_alive(gateway: &Gateway, session: &mut Session, snapshot: &Snapshot) {
    if gateway.draining.load(std::sync::atomic::Ordering::Acquire) {
        session.set_keepalive(None);
    } else if session.get_keepalive().is_some() {
        session.set_keepalive(Some(snapshot.config.limits.idle_timeout.as_secs().max(1)));
    }
}

/// Enters the registry: from here on the request can be found and ended.
fn enter(
    gateway: &Gateway,
    session: &Session,
    ctx: &mut Ctx,
    asked: &Answers,
    permit: policy::Permit,
    handle: Handle,
) {
    let config = &ctx.snapshot.config;
    let Some(provider) = config.providers.get(asked.route.provider) else { return };
    let scoped = policy::granted(config, permit.token()).is_ok_and(|g| g.models.is_some());
    let now = gateway.clock.steady_ms();
    let first_byte = config.limits.upstream_first_byte_timeout.as_millis();
    let live = Live {
        token: permit.token().clone(),
        reach: Reach {
            provider: provider.name.clone(),
            path: asked.decoded.clone(),
            class: asked.class,
            method: session.req_header().method.clone(),
            model: permit.model().map(Into::into),
            modelless: scoped && permit.model().is_none(),
        },
        handle,
        started_ms: now,
        moved_ms: AtomicU64::new(now),
        first_byte_due_ms: AtomicU64::new(now + u64::try_from(first_byte).unwrap_or(u64::MAX / 2)),
    };
    let entry = gateway.registry.enter(live);
    ctx.note.live = Some(entry.live().clone());
    ctx.stage = Stage::Passed(Box::new(Flight {
        entry,
        permit,
        provider: asked.route.provider,
        skip: asked.route.skip,
        upgrade: asked.upgrade,
        trusted: asked.trusted,
        scheme: asked.scheme,
        ticket_ends_ms: asked.ticket_ends_ms,
        attempts: 0,
        sent: false,
        body: 0,
        max_body: asked.max_body,
        held: None,
        frames: asked.upgrade.then(Box::default),
        refusal: None,
    }));
}

/// What admission found out about a request.
struct Answers {
    route: Route,
    class: Class,
    decoded: Box<str>,
    upgrade: bool,
    trusted: bool,
    scheme: &'static str,
    expects_continue: bool,
    continued: bool,
    max_body: u64,
    ticket_ends_ms: Option<u64>,
}

/// The session, as the gate sees it.
struct Asked<'a> {
    session: &'a mut Session,
    snapshot: &'a Snapshot,
    note: &'a mut Note,
    peer: Option<IpAddr>,
    found: Answers,
}

impl<'a> Asked<'a> {
    fn new(
        session: &'a mut Session,
        snapshot: &'a Snapshot,
        note: &'a mut Note,
        secure: bool,
    ) -> Self {
        let peer = session.client_addr().and_then(|a| a.as_inet()).map(std::net::SocketAddr::ip);
        let trusted = peer.is_some_and(|p| forwarded::trusts(&snapshot.config, p));
        let headers = &session.req_header().headers;
        let peer =
            if trusted { forwarded::client(&snapshot.config, headers).or(peer) } else { peer };
        note.client = peer;
        let scheme = if trusted { forwarded::scheme(headers) } else { None };
        let scheme = scheme.unwrap_or(if secure { "https" } else { "http" });
        let found = Answers {
            route: Route { provider: usize::MAX, skip: 0 },
            class: Class::Stateful,
            decoded: Box::default(),
            upgrade: is_upgrade(session),
            trusted,
            scheme,
            expects_continue: false,
            continued: false,
            max_body: snapshot.config.limits.max_body,
            ticket_ends_ms: None,
        };
        Self { session, snapshot, note, peer, found }
    }

    fn end(self) -> Answers {
        self.found
    }

    fn headers(&self) -> &HeaderMap {
        &self.session.req_header().headers
    }

    /// Host that the caller used.
    fn caller_host(&self) -> &str {
        canonical::caller_host(self.session.req_header(), self.found.trusted).unwrap_or_default()
    }

    /// The provider's path as it is on the wire.
    fn raw_path(&self) -> &str {
        self.session.req_header().uri.path().get(self.found.route.skip..).unwrap_or_default()
    }

    fn query_names(&self) -> QueryNames<'a> {
        QueryNames(self.reached().and_then(|(provider, _)| provider.query_slots.as_deref()))
    }

    fn reached(&self) -> Option<(&'a Provider, &'a Reached)> {
        let index = self.found.route.provider;
        Some((self.snapshot.config.providers.get(index)?, self.snapshot.upstreams.get(index)?))
    }
}

impl policy::Request for Asked<'_> {
    fn framing(&mut self) -> Result<(), Denial> {
        let request = self.session.req_header();
        canonical::framing(&request.headers, request.version)?;
        if self.found.upgrade { canonical::handshake(request) } else { Ok(()) }
    }

    fn host(&mut self) -> Result<(), Denial> {
        let request = self.session.req_header();
        canonical::host(&request.headers, &request.uri, request.version)?;
        canonical::answers_to(self.caller_host(), self.snapshot.config.server_names.as_deref())
    }

    fn target(&mut self) -> Result<(), Denial> {
        let request = self.session.req_header();
        canonical::target(request.raw_path(), request.uri.path())
    }

    fn method(&mut self) -> Result<(), Denial> {
        canonical::method(&self.session.req_header().method)
    }

    fn is_preflight(&self) -> bool {
        let request = self.session.req_header();
        cors::is_preflight(&request.method, &request.headers)
    }

    fn route(&mut self) -> Result<(), Denial> {
        let request = self.session.req_header();
        let path = request.uri.path();
        let extra = usize::from(path.starts_with(canonical::DOUBLE_SLASH));
        let seen = path.get(extra..).unwrap_or_default();
        let version = request.headers.contains_key("anthropic-version");
        let Some(mut route) = self.snapshot.routes.find(&request.method, seen, version) else {
            return Err(Code::NoRoute.into());
        };
        route.skip += extra;
        // `/gemini//ws/…`: the second slash is not the provider's either.
        if path.get(route.skip..).is_some_and(|rest| rest.starts_with("//")) {
            route.skip += 1;
        }
        self.found.route = route;
        self.note.provider = Some(route.provider);
        let (provider, reached) = self.reached().ok_or(Code::InternalError)?;
        let path = Path::new(self.raw_path());
        if path.raw().contains("//") {
            return Err(Denial::new(Code::MalformedRequest, "the path holds '//'"));
        }
        if canonical::has_slash(path.raw()) && !models::segments_may_hold_slashes(provider, &path) {
            return Err(Denial::new(Code::MalformedRequest, "the path holds an encoded '/'"));
        }
        let class = if provider::mints(&provider.url.path, &path) {
            Class::Minting
        } else {
            (reached.api.class)(provider, &self.session.req_header().method, &path)
        };
        let upload = (reached.api.upload)(&path);
        let decoded = path.decoded().into();
        self.found.class = class;
        self.found.decoded = decoded;
        if upload {
            self.found.max_body = self.snapshot.config.limits.max_upload;
        }
        Ok(())
    }

    fn extract(&mut self) -> Result<Credential, Denial> {
        let request = self.session.req_header();
        let names = self.query_names();
        let found = extract::extract(&request.headers, request.uri.query(), names)?;
        let ticket = found.ticket.as_ref().and_then(|ticket| ticket.as_ref().ok());
        self.found.ticket_ends_ms = ticket.map(|ticket| ticket.expires_ms());
        Ok(found)
    }

    fn ticket_subject(&self) -> Subject<'_> {
        let uri = &self.session.req_header().uri;
        let query = uri.query().unwrap_or_default();
        Subject {
            provider: self.reached().map_or("", |(provider, _)| &provider.name),
            path: uri.path(),
            query: ticket::bare(query, self.query_names()),
        }
    }

    fn client(&self) -> AddressKey {
        AddressKey::of(self.peer.unwrap_or(IpAddr::from([0, 0, 0, 0])))
    }

    fn authenticated(&mut self, token: &Arc<Token>) {
        self.note.token = Some(token.clone());
    }

    fn scope(&self) -> scope::Target<'_> {
        scope::Target {
            provider: self.reached().map_or("", |(provider, _)| &provider.name),
            path: &self.found.decoded,
            class: self.found.class,
            method: &self.session.req_header().method,
        }
    }

    fn origin(&self) -> origin::Effective<'_> {
        origin::effective(self.headers(), self.found.scheme, self.caller_host())
    }

    fn body(&mut self) -> Result<(), Denial> {
        let headers = self.headers();
        let expect = headers.get(EXPECT);
        let continues = expect.is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        if expect.is_some() && !continues {
            return Err(Code::ExpectationFailed.into());
        }
        let length = canonical::content_length(headers).unwrap_or(0);
        if length > self.found.max_body {
            return Err(Code::BodyTooLarge.into());
        }
        let expects = length > 0 || headers.contains_key(TRANSFER_ENCODING);
        self.found.expects_continue =
            continues && expects && self.session.req_header().version == Version::HTTP_11;
        Ok(())
    }

    async fn models(&mut self) -> Result<Named, Denial> {
        let Some((provider, reached)) = self.reached() else {
            return Err(Code::InternalError.into());
        };
        let raw: Box<str> = self.raw_path().into();
        let path = Path::new(&raw);
        let places = (reached.api.models)(provider, &self.session.req_header().method, &path);
        let within = self.snapshot.config.limits.idle_timeout;
        let reads = models::reads_body(&places, self.session);
        if reads && self.found.expects_continue && !self.found.continued {
            self.found.continued = true;
            let sent = self.session.write_continue_response().await;
            sent.map_err(|_| Denial::new(Code::InvalidBody, "the connection broke"))?;
        }
        models::collect(provider, &places, self.session, reads, within).await
    }

    fn key(&mut self) -> Result<(), Denial> {
        // One key per provider, checked when the configuration was read; a provider without one
        // (generic) gets none.
        Ok(())
    }
}

/// Whether the request asks to become a WebSocket. Decides slots, never whether a check runs.
fn is_upgrade(session: &Session) -> bool {
    let request = session.req_header();
    let upgrade = request.headers.get(http::header::UPGRADE);
    request.version == Version::HTTP_11
        && upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket"))
}
