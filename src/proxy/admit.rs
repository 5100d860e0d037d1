//! How Pingora's session answers what the gate asks, step by step; the order itself is
//! `policy::check`'s.

use super::canonical::{self, Framing};
use super::ctx::{Ctx, Note};
use super::gateway::{Gateway, Reached, Snapshot};
use super::search::Ahead;
use super::socket::Reader;
use super::stream::{self, Place, Watch};
use super::{creation, enter, fork, forwarded, head, keep_alive, models, own, reject, ticket};
use crate::config::{Kind, Provider};
use crate::cors;
use crate::policy::own::Own;
use crate::policy::{self, Class, Code, Denial, Rules, Verdict, model::Named, origin, scope};
use crate::provider::route::Route;
use crate::provider::{minting, path::Path};
use crate::session::connection::{Carrier, Connection};
use crate::slot::extract;
use crate::slot::place::QueryNames;
use crate::token::mint::shape::Shape;
use crate::token::ticket::Subject;
use crate::token::{Credential, Token};
use crate::values::net::AddressKey;
use http::{HeaderMap, Method, Version};
use pingora_core::Result;
use pingora_proxy::Session;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Acquire;

/// Runs the gate. Gives `true` when the answer has been sent.
pub(super) async fn admit(gateway: &Gateway, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
    keep_alive::decide(gateway, session);
    let (verdict, asked) = {
        let snapshot = &ctx.snapshot;
        let connection = ctx.connection.as_deref();
        let mut asked = Asked::new(gateway, session, snapshot, &mut ctx.note, connection);
        let rules = Rules {
            config: &snapshot.config,
            index: &gateway.index,
            clients: &gateway.clients,
            seal: &gateway.seal,
            failed_auth: &gateway.failed_auth,
            clock: &gateway.clock,
        };
        let verdict = policy::check(rules, &mut asked).await;
        (verdict, asked.end())
    };
    let mut asked = asked;
    ctx.continued = asked.continued;
    match verdict {
        Ok(Verdict::Preflight) => {
            let from = (asked.trusted, asked.scheme);
            stream::preflight(gateway, session.req_header(), ctx, from);
            reject::preflight(session, ctx).await
        }
        Ok(Verdict::Public) => own::jwks(gateway, session, ctx).await,
        Ok(Verdict::Mint(permit)) => own::mint(gateway, session, ctx, asked, permit).await,
        Ok(Verdict::Pass(permit)) => {
            if let Err(denial) = creation::open(gateway, session, ctx, (&mut asked, &permit)).await
            {
                return reject::answer(gateway, session, ctx, denial).await;
            }
            if asked.expects_continue && !asked.continued {
                session.write_continue_response().await?;
                ctx.continued = true;
            }
            let Some(handle) = ctx.handle() else {
                return reject::answer(gateway, session, ctx, Code::InternalError.into()).await;
            };
            enter::enter(gateway, session, ctx, asked, permit, handle);
            // What was revoked while the body was read found nothing in the registry to cut.
            let changed = gateway.changes.load(Acquire) != ctx.changes;
            if changed && ctx.flight().is_some_and(|f| !gateway.still_allows(f.entry.live())) {
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

/// What admission found out about a request.
pub(super) struct Answers {
    pub(super) route: Route,
    pub(super) class: Class,
    pub(super) decoded: Box<str>,
    pub(super) framing: Framing,
    pub(super) trusted: bool,
    pub(super) scheme: &'static str,
    pub(super) expects_continue: bool,
    pub(super) continued: bool,
    pub(super) max_body: u64,
    pub(super) own: Option<Own>,
    pub(super) ticket_ends_ms: Option<u64>,
    pub(super) ahead: Option<Box<Ahead>>,
    pub(super) reader: Option<Box<Reader>>,
    pub(super) stream: Option<Box<Watch>>,
}

/// The session, as the gate sees it.
struct Asked<'a> {
    gateway: &'a Gateway,
    session: &'a mut Session,
    snapshot: &'a Snapshot,
    note: &'a mut Note,
    peer: Option<IpAddr>,
    connection: Option<&'a Connection>,
    found: Answers,
}

impl<'a> Asked<'a> {
    fn new(
        gateway: &'a Gateway,
        session: &'a mut Session,
        snapshot: &'a Snapshot,
        note: &'a mut Note,
        connection: Option<&'a Connection>,
    ) -> Self {
        let peer = session.client_addr().and_then(|a| a.as_inet()).map(std::net::SocketAddr::ip);
        let trusted = peer.is_some_and(|p| forwarded::trusts(&snapshot.config, p));
        let headers = &session.req_header().headers;
        let peer =
            if trusted { forwarded::client(&snapshot.config, headers).or(peer) } else { peer };
        note.client = peer;
        let scheme = if trusted { forwarded::scheme(headers) } else { None };
        let secure = connection.is_some_and(|c| c.carrier() != Carrier::Plain);
        let scheme = scheme.unwrap_or(if secure { "https" } else { "http" });
        let found = Answers {
            route: Route { provider: usize::MAX, skip: 0 },
            class: Class::Stateful,
            decoded: Box::default(),
            framing: Framing::default(),
            trusted,
            scheme,
            expects_continue: false,
            continued: false,
            max_body: snapshot.config.limits.max_body,
            own: None,
            ticket_ends_ms: None,
            ahead: None,
            reader: None,
            stream: None,
        };
        Self { gateway, session, snapshot, note, peer, connection, found }
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

    /// The cookie that may carry a token here: on connections on which browsers say where a request
    /// comes from, TLS and loopback (Fetch Metadata, section 3), and through proxies that have one.
    fn cookie(&self) -> Option<&'a str> {
        let name = self.reached()?.0.cookie.as_deref()?;
        let near =
            || !self.found.trusted && self.peer.is_some_and(|p| p.to_canonical().is_loopback());
        (self.found.scheme == "https" || near()).then_some(name)
    }

    /// The stream, where the path is one.
    fn watch(&self, provider: &Provider, path: &str) -> Result<Option<Box<Watch>>, Denial> {
        if provider.kind != Kind::DurableStreams {
            return Ok(None);
        }
        let place = Place { scheme: self.found.scheme, host: self.caller_host() };
        let page = stream::page(&self.snapshot.config, self.headers(), place);
        Watch::of(provider, path, page, &self.gateway.streams).map(|watch| Some(Box::new(watch)))
    }

    fn reached(&self) -> Option<(&'a Provider, &'a Reached)> {
        let index = self.found.route.provider;
        Some((self.snapshot.config.providers.get(index)?, self.snapshot.upstreams.get(index)?))
    }
}

impl policy::Request for Asked<'_> {
    fn framing(&mut self) -> Result<(), Denial> {
        self.found.framing = head::framing(self.session, self.connection)?;
        let request = self.session.req_header();
        if self.found.framing.upgrade {
            canonical::handshake(&request.method, self.found.framing)
        } else {
            Ok(())
        }
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
        if let Some(own) = own::at(&request.method, path)? {
            self.found.decoded = path.into();
            own::claim(&mut self.found, self.note, own);
            return Ok(());
        }
        let extra = usize::from(path.starts_with(canonical::DOUBLE_SLASH));
        let seen = path.get(extra..).unwrap_or_default();
        let version = self.found.framing.anthropic_version;
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
        let class = minting::class(&provider.url.path, &path, || {
            (reached.api.class)(provider, &self.session.req_header().method, &path)
        });
        let upload = (reached.api.upload)(&path);
        let mints = class == Class::Minting && self.session.req_header().method == Method::POST;
        let shape = if mints { Shape::of(path.trimmed()) } else { None };
        let decoded = path.decoded().into();
        let watch = self.watch(provider, path.raw())?;
        self.note.stream = watch.as_ref().map(|w| stream::cors(w.verdict(&self.gateway.streams)));
        self.found.stream = watch;
        self.found.class = class;
        self.found.decoded = decoded;
        if upload {
            self.found.max_body = self.snapshot.config.limits.max_upload;
        }
        if let Some(shape) = shape {
            own::claim(&mut self.found, self.note, Own::Mint(shape));
        }
        Ok(())
    }

    fn is_public(&self) -> bool {
        self.found.own == Some(Own::Jwks)
    }

    fn extract(&mut self) -> Result<Credential, Denial> {
        let request = self.session.req_header();
        let names = self.query_names();
        let cookie = self.cookie();
        let found = extract::extract(&request.headers, request.uri.query(), names, cookie)?;
        let ticket = found.ticket.as_ref().and_then(|ticket| ticket.as_ref().ok());
        self.found.ticket_ends_ms = ticket.map(|ticket| ticket.expires_ms());
        Ok(found)
    }

    fn is_open(&self) -> bool {
        let path = Path::new(self.raw_path());
        let open = |(p, _): (&Provider, _)| fork::is_public(p, &path, self.headers());
        self.found.class != Class::Minting && self.reached().is_some_and(open)
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

    fn copied(&self) -> Result<Option<Box<str>>, Denial> {
        let streams = self.reached().filter(|(provider, _)| provider.kind == Kind::DurableStreams);
        streams.map_or(Ok(None), |(provider, _)| fork::source(provider, self.headers()))
    }

    fn origin(&self) -> origin::Effective<'_> {
        origin::effective(self.headers(), self.found.scheme, self.caller_host())
    }

    async fn stream(&mut self) -> Result<(), Denial> {
        let Some(watch) = &self.found.stream else { return Ok(()) };
        stream::catch_up(self.gateway, watch).await;
        let verdict = watch.verdict(&self.gateway.streams);
        self.note.stream = Some(stream::cors(verdict));
        stream::admits(verdict)
    }

    fn body(&mut self) -> Result<(), Denial> {
        let framing = self.found.framing;
        if framing.expect == Some(false) {
            return Err(Code::ExpectationFailed.into());
        }
        if framing.length.unwrap_or(0) > self.found.max_body {
            return Err(Code::BodyTooLarge.into());
        }
        self.found.expects_continue = framing.expect.is_some()
            && framing.has_body()
            && self.session.req_header().version == Version::HTTP_11;
        Ok(())
    }

    async fn models(&mut self) -> Result<Named, Denial> {
        let Some((provider, reached)) = self.reached() else {
            return Err(Code::InternalError.into());
        };
        // Cheap to clone, and the session is needed to read the body.
        let uri = self.session.req_header().uri.clone();
        let path = Path::new(uri.path().get(self.found.route.skip..).unwrap_or_default());
        let places = (reached.api.models)(provider, &self.session.req_header().method, &path);
        let body = models::Body {
            framing: self.found.framing,
            within: self.snapshot.config.limits.idle_timeout,
        };
        if body.is_read(&places, self.session)
            && self.found.expects_continue
            && !self.found.continued
        {
            self.found.continued = true;
            let sent = self.session.write_continue_response().await;
            sent.map_err(|_| Denial::new(Code::InvalidBody, "the connection broke"))?;
        }
        let (named, ahead) = models::collect(provider, &places, self.session, body).await?;
        self.found.ahead = ahead;
        self.found.reader = Reader::of(&places, uri.query(), body.framing);
        Ok(named)
    }

    async fn spend(&mut self, token: &Arc<Token>, uses: u32) -> Result<(), Denial> {
        self.gateway.spend(token, uses).await
    }

    fn key(&mut self) -> Result<(), Denial> {
        // One key per provider, checked when the configuration was read; a provider without one
        // (generic) gets none.
        Ok(())
    }
}
