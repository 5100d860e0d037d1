//! What the gate costs: `policy::check` on the request of the load test, without a server.
//!
//! The request is asked the same as in `proxy::admit`, by the same functions, over `http` types
//! instead of Pingora's session; what reading from the socket costs is not in it.

mod timing;

use bytes::Bytes;
use futures_util::FutureExt;
use http::Request;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TRANSFER_ENCODING, UPGRADE,
};
use keygate::body::json_model::{self, Wanted};
use keygate::config::{self, Config, Provider};
use keygate::cors;
use keygate::policy::failed_auth::FailedAuth;
use keygate::policy::{
    self, Class, Code, Denial, Pass, Rules, Verdict, model::Named, origin, scope,
};
use keygate::provider::path::Path;
use keygate::provider::route::{Route, Table};
use keygate::provider::{self, Api, BodyPlaces};
use keygate::proxy::canonical;
use keygate::slot::extract;
use keygate::slot::place::QueryNames;
use keygate::token::client::Clients;
use keygate::token::index::{Entry, Index};
use keygate::token::ticket::{Seal, Subject};
use keygate::token::{Credential, GrantSource, Token, opaque};
use keygate::values::clock::Clock;
use keygate::values::ids::TokenDigest;
use keygate::values::net::AddressKey;
use keygate::values::secret::Secret;
use keygate::values::timestamp::Expiry;
use std::error::Error;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const TOKENS: usize = 1_000;
const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#;

/// The load test's, with everything on.
const CONFIG: &str = "
listen: [{ address: 127.0.0.1:8080 }]
server_names: [gateway.example.com]
providers:
  openai: { kind: openai, url: https://api.openai.com, keys: [{ env: KEY }] }
  anthropic: { kind: anthropic, url: https://api.anthropic.com, keys: [{ env: KEY }] }
  gemini: { kind: gemini, url: https://generativelanguage.googleapis.com, keys: [{ env: KEY }] }
policies:
  bench:
    providers: [openai]
    methods: [GET, POST]
    paths: ['/v1/chat/*']
    models: [gpt-4o-mini, 'gpt-realtime*']
    origins: ['https://app.example.com']
    rate_limit: { requests: 16777215, per: 60s }
    concurrency: 10000
";

fn main() -> Result<(), Box<dyn Error>> {
    let config = config::parse_with(CONFIG, &|_| Ok(Secret::new("sk-not-a-real-key")))?;
    let world = World { routes: Table::new(&config), config };
    let (index, requests) = tokens()?;
    let clients = Clients::new();
    let (seal, failed_auth, clock) = (Seal::draw()?, FailedAuth::new(), Clock::system());
    let rules = Rules {
        config: &world.config,
        index: &index,
        clients: &clients,
        seal: &seal,
        failed_auth: &failed_auth,
        clock: &clock,
    };
    let median = timing::median_ns(requests.len(), || {
        for request in &requests {
            let mut asked = Asked::new(black_box(request), &world);
            let verdict = policy::check(rules, &mut asked).now_or_never();
            match black_box(verdict) {
                Some(Ok(Verdict::Pass(Pass::Decided(permit))))
                    if permit.model() == Some("gpt-4o-mini") => {}
                other => return Err(format!("a permit was expected, this came: {other:?}")),
            }
        }
        Ok(())
    })?;
    timing::report(format_args!("gate (opaque token): {median:.0} ns (wanted: under 2000)"))?;
    Ok(())
}

/// A thousand tokens of the store, and a request of each: no two calls in a row look up the same.
/// Known tokens, and a request of each.
type Known = (Index, Vec<Request<Bytes>>);

fn tokens() -> Result<Known, Box<dyn Error>> {
    let index = Index::new();
    let (mut entries, mut requests) = (Vec::new(), Vec::new());
    for number in 0..TOKENS {
        let token = opaque::draw()?;
        entries.push(Entry {
            id: opaque::draw_id()?.into(),
            name: format!("token {number}").into(),
            digest: TokenDigest::of(token.as_bytes()),
            expires_at: Expiry::read(Some("2099-01-01T00:00:00Z")),
            disabled: false,
            may_mint: false,
            grant: GrantSource::Policy("bench".into()),
        });
        let request = Request::post("/v1/chat/completions")
            .header("host", "gateway.example.com")
            .header("authorization", format!("Bearer {token}"))
            .header("origin", "https://app.example.com")
            .header("content-type", "application/json")
            .header("content-length", BODY.len())
            .header("accept", "*/*")
            .header("user-agent", "bench");
        requests.push(request.body(Bytes::from_static(BODY.as_bytes()))?);
    }
    index.replace_stored(entries);
    Ok((index, requests))
}

struct World {
    config: Config,
    routes: Table,
}

/// What `proxy::admit` finds out on the way.
struct Asked<'a> {
    request: &'a Request<Bytes>,
    world: &'a World,
    upgrade: bool,
    route: Route,
    class: Class,
    decoded: Box<str>,
    token: Option<Arc<Token>>,
}

impl<'a> Asked<'a> {
    fn new(request: &'a Request<Bytes>, world: &'a World) -> Self {
        let upgrade = request.headers().get(UPGRADE);
        Self {
            request,
            world,
            upgrade: upgrade.is_some_and(|u| u.as_bytes().eq_ignore_ascii_case(b"websocket")),
            route: Route { provider: usize::MAX, skip: 0 },
            class: Class::Stateful,
            decoded: Box::default(),
            token: None,
        }
    }

    fn caller_host(&self) -> &str {
        let host = self.request.headers().get(HOST);
        host.and_then(|h| h.to_str().ok()).unwrap_or_default()
    }

    fn raw_path(&self) -> &'a str {
        self.request.uri().path().get(self.route.skip..).unwrap_or_default()
    }

    fn reached(&self) -> Result<(&'a Provider, &'static Api), Denial> {
        let provider = self.world.config.providers.get(self.route.provider);
        let provider = provider.ok_or(Code::InternalError)?;
        Ok((provider, provider::api(provider.kind)))
    }

    fn content_length(&self) -> u64 {
        let length = self.request.headers().get(CONTENT_LENGTH).and_then(|l| l.to_str().ok());
        length.and_then(|l| l.parse().ok()).unwrap_or(0)
    }
}

impl policy::Request for Asked<'_> {
    fn framing(&mut self) -> Result<(), Denial> {
        canonical::framing(self.request.headers(), self.request.version())?;
        // This is no upgrade, whose handshake would be looked at here.
        if self.upgrade { Err(Code::MalformedRequest.into()) } else { Ok(()) }
    }

    fn host(&mut self) -> Result<(), Denial> {
        let request = self.request;
        canonical::host(request.headers(), request.uri(), request.version())?;
        canonical::answers_to(self.caller_host(), self.world.config.server_names.as_deref())
    }

    fn target(&mut self) -> Result<(), Denial> {
        let path = self.request.uri().path();
        canonical::target(path.as_bytes(), path)
    }

    fn method(&mut self) -> Result<(), Denial> {
        canonical::method(self.request.method())
    }

    fn is_preflight(&self) -> bool {
        cors::is_preflight(self.request.method(), self.request.headers())
    }

    fn route(&mut self) -> Result<(), Denial> {
        let (method, path) = (self.request.method(), self.request.uri().path());
        let version = self.request.headers().contains_key("anthropic-version");
        self.route = self.world.routes.find(method, path, version).ok_or(Code::NoRoute)?;
        let (provider, api) = self.reached()?;
        let path = Path::new(self.raw_path());
        if path.raw().contains("//") || canonical::has_slash(path.raw()) {
            return Err(Code::MalformedRequest.into());
        }
        self.class = provider::minting::class(&provider.url.path, &path, || {
            (api.class)(provider, method, &path)
        });
        black_box((api.upload)(&path));
        self.decoded = path.decoded().into();
        Ok(())
    }

    fn is_public(&self) -> bool {
        false
    }

    fn extract(&mut self) -> Result<Credential, Denial> {
        let (provider, _) = self.reached()?;
        let names = QueryNames(provider.query_slots.as_deref());
        extract::extract(self.request.headers(), self.request.uri().query(), names, None)
    }

    fn is_open(&self) -> bool {
        false
    }

    fn ticket_subject(&self) -> Subject<'_> {
        Subject { provider: "", path: "", query: "".into() }
    }

    fn client(&self) -> AddressKey {
        AddressKey::of(IpAddr::V4(Ipv4Addr::LOCALHOST))
    }

    fn authenticated(&mut self, token: &Arc<Token>) {
        self.token = Some(token.clone());
    }

    fn scope(&self) -> scope::Target<'_> {
        scope::Target {
            provider: self.reached().map_or("", |(provider, _)| &provider.name),
            path: &self.decoded,
            class: self.class,
            method: self.request.method(),
        }
    }

    fn copied(&self) -> Result<Option<Box<str>>, Denial> {
        Ok(None)
    }

    fn origin(&self) -> origin::Effective<'_> {
        origin::effective(self.request.headers(), "http", self.caller_host())
    }

    fn body(&mut self) -> Result<(), Denial> {
        if self.request.headers().contains_key(EXPECT) {
            return Err(Code::ExpectationFailed.into());
        }
        let large = self.content_length() > self.world.config.limits.max_body;
        if large { Err(Code::BodyTooLarge.into()) } else { Ok(()) }
    }

    async fn models(&mut self) -> Result<Named, Denial> {
        let (provider, api) = self.reached()?;
        let raw: Box<str> = self.raw_path().into();
        let path = Path::new(&raw);
        let places = (api.models)(provider, self.request.method(), &path);
        let mut named = Named { expected: places.expected, ..Named::default() };
        let has_body =
            self.content_length() > 0 || self.request.headers().contains_key(TRANSFER_ENCODING);
        if let BodyPlaces::Json { main, configured, further } = &places.body
            && has_body
        {
            let headers = self.request.headers();
            let says_json = headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok());
            let says_json = says_json.is_none_or(|t| {
                let essence = t.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
                essence == "application/json" || essence.ends_with("+json")
            });
            if headers.contains_key(CONTENT_ENCODING) || !says_json {
                return Err(Code::UnsupportedBody.into());
            }
            let wanted = Wanted { main, configured: configured.map(Into::into), further };
            let found = json_model::scan(self.request.body(), wanted);
            let found = found.map_err(|_| Denial::from(Code::InvalidBody))?;
            found.main.into_iter().chain(found.others).for_each(|model| named.add(model));
            named.further = found.further;
        }
        Ok(named)
    }

    async fn spend(&mut self, _: &Arc<Token>, _: u32) -> Result<(), Denial> {
        Ok(())
    }

    fn key(&mut self) -> Result<(), Denial> {
        Ok(())
    }
}
