//! A real browser on streams: pages of the app, of a foreign site, of the gateway's own origin and of
//! a name that somebody else has made lead to it. Asserted is what each page could read, and what the
//! stream server received.

use crate::support::canary;
use crate::support::chromium::{Page, pair};
use crate::support::client::Request;
use crate::support::gateway::Setup;
use crate::support::tls;
use crate::support::upstream::{Answer, Received, Upstream};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The first listener is the app's own server's way, the second the pages'.
const CONFIG: &str = "
listen:
  - { address: 127.0.0.1:0 }
  - { address: 127.0.0.1:0, tls: { cert: $PAIR/cert.pem, key: $PAIR/key.pem } }
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
server_names: [gate.corp.test, 127.0.0.1]
providers:
  streams: { kind: durable-streams, url: $UPSTREAM, cookie: keygate_token }
tokens:
  - { name: server, sha256: $SHA(server), may_mint: true }
";

const LISTED: &str = "/v1/stream/user-42/listed";
const OPEN: &str = "/v1/stream/user-42/open";
const OWN: &str = "/v1/stream/user-42/own";
const FREE: &str = "/v1/stream/user-42/free";

/// A gateway with streams of each policy, an app on the gateway's site, and a client token of its
/// server's making, for reading `user-42`'s streams and nothing else.
struct Rig {
    setup: Setup,
    app: String,
    foreign: String,
    /// The gateway by its own name, and by one that somebody else has made lead to it.
    url: String,
    rebound: String,
    token: String,
    /// What the stream server had received when all was set up.
    before: usize,
    _pages: Upstream,
    _pair: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        let pages = Upstream::start().await;
        let port = tls::front_as(pair(), pages.addr()).await.port();
        let app = format!("https://app.corp.test:{port}");
        let files = tempfile::tempdir().expect("a temporary directory");
        pair().write(files.path());
        let config = CONFIG.replace("$PAIR", &files.path().display().to_string());
        let setup = Setup::with(&config).await;
        setup.upstream.answer_with(stream_server);
        for (path, policy) in
            [(LISTED, Some(&*app)), (OPEN, Some("*")), (OWN, Some("same-origin")), (FREE, None)]
        {
            create(&setup, path, policy).await;
        }
        let token = mint(&setup).await;
        // The app's server sets the cookie: for the gateway alone, out of reach of scripts.
        let cookie = format!(
            "keygate_token={token}; Domain=corp.test; Path=/v1/stream; Secure; HttpOnly; SameSite=None"
        );
        pages.answer_with(move |request| page(request, &cookie));
        let gate = setup.tls().port();
        Self {
            app,
            foreign: format!("https://evil.test:{port}"),
            url: format!("https://gate.corp.test:{gate}"),
            rebound: format!("https://rebound.test:{gate}"),
            token,
            before: setup.upstream.received().len(),
            setup,
            _pages: pages,
            _pair: files,
        }
    }

    /// A page at this address, in a browser whose user has signed in to the app.
    async fn signed_in(&self, address: &str) -> Page {
        let page = Page::open(address).await;
        let sign_in =
            "(app) => fetch(`${app}/sign-in`, { mode: 'no-cors', credentials: 'include' })
            .then(() => null)";
        page.call(sign_in, json!([self.app])).await.expect("the app's server answers");
        page
    }

    fn gateway(&self) -> Value {
        json!({ "url": self.url, "token": self.token })
    }

    /// Targets that the stream server received since all was set up.
    fn reached(&self) -> Vec<String> {
        let received = self.setup.upstream.received();
        for seen in &received[self.before..] {
            for name in ["authorization", "cookie", "origin"] {
                assert_eq!(
                    seen.header(name),
                    None,
                    "{name} is no business of the server: {seen:?}"
                );
            }
            assert!(!String::from_utf8_lossy(&seen.raw).contains(&self.token), "{seen:?}");
        }
        received[self.before..].iter().map(|seen| seen.target.clone()).collect()
    }
}

/// Every stream has one event in it, and is followed without end.
fn stream_server(request: &Received) -> Answer {
    let path = request.target.split('?').next().unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    let answer = match &*request.method {
        "PUT" => Answer::status(201),
        _ if request.target.contains("live=sse") => {
            Answer::sse([format!("event: data\ndata: secret of {name}")]).endless()
        }
        _ => Answer::body(200, "text/plain", format!("secret of {name}")),
    };
    answer.header("Stream-Next-Offset", "1").header("Access-Control-Allow-Origin", "*")
}

fn page(request: &Received, cookie: &str) -> Answer {
    match request.target.as_str() {
        "/" => Answer::body(200, "text/html", include_str!("browser/index.html")),
        "/app.js" => Answer::body(200, "text/javascript", include_str!("browser/app.js")),
        "/sign-in" => Answer::status(204).header("Set-Cookie", cookie),
        _ => Answer::status(404),
    }
}

/// As the app's own server does it.
fn by_server(setup: &Setup, method: &str, path: &str) -> Request {
    setup.request(method, path).bearer(setup.token("server"))
}

async fn create(setup: &Setup, path: &str, policy: Option<&str>) {
    let mut request = by_server(setup, "PUT", path);
    if let Some(policy) = policy {
        request = request.header("Stream-Allowed-Origins", policy);
    }
    let answer = request.body("text/plain", "").send().await;
    answer.assert_status(201);
    assert_eq!(answer.header("stream-allowed-origins"), policy, "{path}");
}

async fn mint(setup: &Setup) -> String {
    let wish = json!({
        "expiresIn": 600,
        "providers": ["streams"],
        "paths": ["/v1/stream/user-42/*"],
        "methods": ["GET", "HEAD"],
    });
    let minted = by_server(setup, "POST", "/v1/client/tokens").json(wish).send().await;
    minted.assert_status(200);
    let token = minted.json()["apiKey"].as_str().expect("a token").to_owned();
    canary::adopt_token(&token);
    token
}

/// Follows a stream with the cookie up to its first event.
async fn follow(page: &Page, gateway: &Value, path: &str) -> Result<Value, Value> {
    let first = "async (gateway, path) => {
        const { follow } = await import(`${location.origin}/app.js`);
        for await (const event of follow(gateway, path)) return event;
    }";
    page.call(first, json!([gateway, path])).await
}

async fn read(page: &Page, gateway: &Value, path: &str) -> Result<Value, Value> {
    page.call("app.read", json!([gateway, path])).await
}

/// What `fetch` with these options gives a page; `options` may name anything that it takes.
async fn fetched(page: &Page, url: &str, options: Value) -> Result<Value, Value> {
    let fetch = "async (url, options) => {
        const response = await fetch(url, options);
        const denial = response.headers.get('x-keygate-error');
        return [response.type, response.status, await response.text(), denial];
    }";
    page.call(fetch, json!([url, options])).await
}

#[tokio::test]
async fn a_page_on_the_list_follows_with_its_cookie_and_reads_with_its_token() {
    let rig = Rig::start().await;
    let app = rig.signed_in(&format!("{}/", rig.app)).await;
    assert_eq!(follow(&app, &rig.gateway(), LISTED).await, Ok(json!("secret of listed")));
    assert_eq!(
        read(&app, &rig.gateway(), LISTED).await,
        Ok(json!({ "text": "secret of listed", "next": "1" })),
        "the exposed names are readable"
    );
    let with_cookie = json!({ "credentials": "include" });
    let got = fetched(&app, &format!("{}{LISTED}", rig.url), with_cookie.clone()).await;
    assert_eq!(got, Ok(json!(["cors", 200, "secret of listed", null])));
    // Without a list there is no reading with a cookie; with a token there is.
    for path in [OPEN, FREE] {
        let got = fetched(&app, &format!("{}{path}", rig.url), with_cookie.clone()).await;
        assert_eq!(got.expect_err("not with credentials")["name"], "TypeError", "{path}");
        assert!(read(&app, &rig.gateway(), path).await.is_ok(), "{path}");
    }
    let refused = read(&app, &rig.gateway(), OWN).await;
    assert_eq!(refused.expect_err("it is another origin")["name"], "TypeError");
    let reached = rig.reached();
    assert!(reached.iter().all(|target| !target.starts_with(OWN)), "{reached:?}");

    // The token reads, and does no more.
    let write = json!({ "method": "POST", "body": "x", "headers": bearer(&rig) });
    let got = fetched(&app, &format!("{}{LISTED}", rig.url), write).await.expect("readable");
    assert_eq!((&got[1], &got[3]), (&json!(403), &json!("method_not_granted")));
    let elsewhere = json!({ "headers": bearer(&rig) });
    let url = format!("{}/v1/stream/user-43/listed", rig.url);
    let got = fetched(&app, &url, elsewhere).await.expect("readable");
    assert_eq!((&got[1], &got[3]), (&json!(403), &json!("path_not_allowed")));
    assert_eq!(rig.reached().len(), reached.len(), "neither was forwarded");
}

fn bearer(rig: &Rig) -> Value {
    json!({ "authorization": format!("Bearer {}", rig.token) })
}

#[tokio::test]
async fn a_foreign_page_reads_nothing_that_is_not_for_everybody() {
    let rig = Rig::start().await;
    let foreign = rig.signed_in(&format!("{}/", rig.foreign)).await;
    // Of the same site: no rule about cookies of other sites stands in its way.
    let sibling = rig.signed_in(&format!("{}/", rig.app.replace("app.", "other."))).await;
    for (foreign, path) in
        [(&foreign, LISTED), (&foreign, OWN), (&sibling, LISTED), (&sibling, OWN)]
    {
        let refused = follow(foreign, &rig.gateway(), path).await.expect_err("it is foreign");
        assert_eq!(refused["message"], "refused", "{path}");
        let refused = read(foreign, &rig.gateway(), path).await.expect_err("even with the token");
        assert_eq!(refused["name"], "TypeError", "{path}");
        let url = format!("{}{path}", rig.url);
        for options in [
            json!({ "credentials": "include" }),
            json!({ "credentials": "include", "method": "POST", "body": "x" }),
        ] {
            let refused = fetched(foreign, &url, options).await.expect_err("it is foreign");
            assert_eq!(refused["name"], "TypeError", "{path}");
        }
        // What sends no Origin: the browser's other headers tell.
        let opaque = json!({ "credentials": "include", "mode": "no-cors" });
        let got = fetched(foreign, &url, opaque).await;
        assert!(got.is_err() || got == Ok(json!(["opaque", 0, "", null])), "{path}: {got:?}");
        let embed = "(url, tag) => new Promise((done) => {
            const element = document.createElement(tag);
            element.onload = () => done('loaded');
            element.onerror = () => done('failed');
            element.src = url;
            document.head.append(element);
        })";
        for tag in ["script", "img"] {
            let got = foreign.call(embed, json!([url, tag])).await;
            assert_eq!(got, Ok(json!("failed")), "{path} as {tag}");
        }
    }
    assert_eq!(rig.reached(), Vec::<String>::new(), "the stream server heard of none of it");
    // Their cookie came along: without one the answers would have been others.
    let log = rig.setup.access_log();
    let count = |denial: &str| log.iter().filter(|line| line["denial"] == denial).count();
    assert_eq!(count("token_missing"), 0, "{log:?}");
    assert_eq!((count("origin_not_allowed"), count("method_not_granted")), (20, 4), "{log:?}");
    for path in [OPEN, FREE] {
        let got = read(&foreign, &rig.gateway(), path).await.expect("it is for everybody");
        assert_eq!(got["next"], "1", "{path}");
    }
    assert_eq!(rig.reached().len(), 2);
}

#[tokio::test]
async fn a_name_that_was_made_to_lead_here_is_not_the_gateways_own() {
    let rig = Rig::start().await;
    // What such a page asks for is of its own origin, so no rule of the browser's stands in its way.
    let rebound = rig.signed_in(&format!("{}/", rig.rebound)).await;
    for path in [LISTED, OPEN, OWN, FREE] {
        for options in [json!({ "credentials": "include" }), json!({ "headers": bearer(&rig) })] {
            let got = fetched(&rebound, path, options).await.expect("readable: it is its own");
            assert_eq!((&got[1], &got[3]), (&json!(421), &json!("wrong_host")), "{path}");
        }
        // By the gateway's right name it is a foreign page like any other.
        if path == LISTED || path == OWN {
            let url = format!("{}{path}", rig.url);
            let refused = fetched(&rebound, &url, json!({ "headers": bearer(&rig) })).await;
            assert_eq!(refused.expect_err("foreign")["name"], "TypeError", "{path}");
        }
    }
    assert_eq!(rig.reached(), Vec::<String>::new(), "the stream server heard of none of it");
}

#[tokio::test]
async fn a_page_of_the_gateways_own_origin_reads_what_is_for_it() {
    let rig = Rig::start().await;
    // Whatever answers there: the document's origin is the gateway's.
    let own = rig.signed_in(&format!("{}/", rig.url)).await;
    for (path, status) in [(OWN, 200), (FREE, 200), (OPEN, 200), (LISTED, 403)] {
        for options in [json!({ "credentials": "include" }), json!({ "headers": bearer(&rig) })] {
            let got = fetched(&own, path, options).await.expect("readable: it is its own");
            assert_eq!(got[1], status, "{path}: {got}");
        }
    }
    let addr: SocketAddr = rig.setup.addr();
    // Programs are the token's business alone.
    let program = Request::get(addr, LISTED).bearer(&rig.token).send().await;
    program.assert_status(200);
    assert_eq!(rig.reached().len(), 7);
}
