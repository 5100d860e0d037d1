//! A real browser, Debian's Chromium: the pages of `tests/browser/`, which are also the example of
//! how a web app uses keygate, on a site that its token admits and on a foreign one.
//!
//! Gateway and pages are of different origins, all over https; the browser speaks HTTP/2 with the
//! gateway. Asserted is what the page could read, and what the upstream received.

mod secret;

use crate::support::chromium::{Page, pair};
use crate::support::gateway::Setup;
use crate::support::tls;
use crate::support::upstream::{Answer, Received, Upstream};
use crate::support::within;
use serde_json::{Value, json};
use std::time::Duration;

/// The path of chats.
const CHAT: &str = "/v1/chat/completions";
/// The path of realtime sessions.
const LIVE: &str = "/v1/realtime?model=gpt-realtime";

/// One token is for pages of the app alone, `anyone`'s for pages of every site.
const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0, tls: { cert: $PAIR/cert.pem, key: $PAIR/key.pem } }]
access_log: { file: $DIR/access.log }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  anthropic: { kind: anthropic, url: $UPSTREAM, keys: [{ file: $KEY(anthropic) }] }
  internal: { kind: generic, url: $UPSTREAM, routes: [/tools/], keys: [{ file: $KEY(internal) }] }
policies:
  app: { origins: ['$APP'] }
  hasty: { rate_limit: { requests: 1, per: 60s } }
tokens:
  - { name: app, sha256: $SHA(app), policy: app }
  - { name: anyone, sha256: $SHA(anyone) }
  - { name: hasty here, sha256: $SHA(hasty here), policy: hasty }
  - { name: hasty there, sha256: $SHA(hasty there), policy: hasty }
";

/// A gateway, a provider behind it, and a server with pages.
struct Rig {
    setup: Setup,
    /// The app's origin: the same site as the gateway.
    app: String,
    /// Somebody else's.
    foreign: String,
    url: String,
    _pages: Upstream,
    _pair: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Self {
        Self::with(CONFIG).await
    }

    async fn with(config: &str) -> Self {
        let pages = Upstream::start().await;
        pages.answer_with(page);
        let port = tls::front_as(pair(), pages.addr()).await.port();
        let app = format!("https://app.corp.test:{port}");
        let files = tempfile::tempdir().expect("a temporary directory");
        pair().write(files.path());
        let config =
            config.replace("$PAIR", &files.path().display().to_string()).replace("$APP", &app);
        let setup = Setup::with(&config).await;
        let url = format!("https://gate.corp.test:{}", setup.addr().port());
        let foreign = format!("https://evil.test:{port}");
        Self { setup, app, foreign, url, _pages: pages, _pair: files }
    }

    async fn app_page(&self) -> Page {
        Page::open(&format!("{}/", self.app)).await
    }

    async fn foreign_page(&self) -> Page {
        Page::open(&format!("{}/", self.foreign)).await
    }

    /// What the app's functions want, with this token.
    fn gateway(&self, token: &str) -> Value {
        json!({ "url": self.url, "token": self.setup.token(token) })
    }

    /// Method, status and denial of every line of the access log, once there are so many.
    async fn log(&self, count: usize) -> Vec<(String, u64, String)> {
        let told = |line: &Value| {
            let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
            (text("method"), line["status"].as_u64().unwrap_or_default(), text("denial"))
        };
        let log = within("the access log", async {
            loop {
                let log = self.setup.access_log();
                if log.len() >= count {
                    return log;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        log.await.iter().map(told).collect()
    }

    /// The only request that the upstream got since it was `before` many.
    #[track_caller]
    fn only_new(&self, before: usize) -> Received {
        let mut seen = self.setup.upstream.received();
        assert_eq!(seen.len(), before + 1, "one request more must have come: {seen:#?}");
        seen.remove(before)
    }

    /// A request with the provider's own key, and nothing of the caller's identity.
    #[track_caller]
    fn assert_swapped(&self, seen: &Received, slot: &str, credential: &str) {
        for name in ["authorization", "x-api-key", "cookie", "origin"] {
            let right = (name == slot).then_some(credential);
            assert_eq!(seen.header(name), right, "{name} at the provider: {seen:?}");
        }
        let raw = String::from_utf8_lossy(&seen.raw);
        for token in ["app", "anyone"] {
            assert!(!raw.contains(self.setup.token(token)), "the token came through: {raw}");
        }
    }

    fn openai(&self) -> String {
        format!("Bearer {}", self.setup.key("openai"))
    }
}

/// The server with the pages.
fn page(request: &Received) -> Answer {
    match request.target.as_str() {
        "/" => Answer::body(200, "text/html", include_str!("browser/index.html")),
        // An origin of its own, which is told to nobody (`null`).
        "/sandboxed" => Answer::body(200, "text/html", "<title>Sandboxed</title>")
            .header("content-security-policy", "sandbox allow-scripts"),
        "/app.js" => Answer::body(200, "text/javascript", include_str!("browser/app.js")),
        _ => Answer::status(404),
    }
}

fn logged(method: &str, status: u64, denial: &str) -> (String, u64, String) {
    (method.to_owned(), status, denial.to_owned())
}

fn completion(text: &str) -> Answer {
    Answer::json(200, json!({ "choices": [{ "message": { "content": text } }] }))
}

/// What the page learns of a token that is not for its origin.
#[track_caller]
fn assert_foreign(got: &Result<Value, Value>) {
    let denied = got.as_ref().expect_err("a foreign page is refused");
    assert_eq!(denied["status"], 403, "{denied}");
    assert_eq!(denied["code"], "origin_not_allowed", "{denied}");
    let message = denied["message"].as_str().unwrap_or_default();
    assert!(message.starts_with("the token may not be used from this origin"), "{denied}");
    assert!(denied["requestId"].as_str().is_some_and(|id| !id.is_empty()), "{denied}");
}

#[tokio::test]
async fn a_page_reads_its_answer_and_the_exposed_headers_over_http2() {
    let rig = Rig::start().await;
    let upstream = &rig.setup.upstream;
    upstream.answer(
        completion("hello yourself")
            .header("x-ratelimit-remaining-requests", 41)
            .header("x-ratelimit-reset-tokens", "6m0s")
            .header("x-hidden", "not exposed")
            .header("access-control-allow-origin", "https://provider.test")
            .header("access-control-expose-headers", "x-hidden")
            .header("set-cookie", "provider=1"),
    );
    let app = rig.app_page().await;
    for turn in 0..2 {
        let got = app.call("app.chat", json!([rig.gateway("app"), "hello"])).await;
        let got = got.expect("the app's own page may");
        assert_eq!(got["text"], "hello yourself");
        let headers = &got["headers"];
        assert_eq!(headers["x-ratelimit-remaining-requests"], "41", "{headers}");
        assert_eq!(headers["x-ratelimit-reset-tokens"], "6m0s", "{headers}");
        assert!(headers["x-request-id"].as_str().is_some_and(|id| !id.is_empty()), "{headers}");
        assert!(headers["x-hidden"].is_null(), "the upstream's own list is replaced: {headers}");
        rig.assert_swapped(&rig.only_new(turn), "authorization", &rig.openai());
    }
    let expected =
        [logged("OPTIONS", 204, ""), logged("POST", 200, ""), logged("POST", 200, "")].to_vec();
    assert_eq!(rig.log(3).await, expected, "the preflight is remembered");
    let protocols = app.protocols(&format!("{}{CHAT}", rig.url));
    assert_eq!(protocols, ["\"h2\""; 3], "HTTP/2 for the preflight too");

    let foreign = rig.foreign_page().await;
    assert_foreign(&foreign.call("app.chat", json!([rig.gateway("app"), "hello"])).await);
    assert_eq!(upstream.received().len(), 2, "no key may leave for a foreign page");
    let got = foreign.call("app.chat", json!([rig.gateway("anyone"), "hello"])).await;
    assert_eq!(got.expect("this token has no origins")["text"], "hello yourself");
    rig.assert_swapped(&rig.only_new(2), "authorization", &rig.openai());
    let log = rig.log(6).await;
    assert_eq!(log[3], logged("OPTIONS", 204, ""), "a preflight has no token to be judged by");
    assert_eq!(log[4], logged("POST", 403, "origin_not_allowed"));
}

#[tokio::test]
async fn refusals_are_readable_from_either_page() {
    let rig = Rig::start().await;
    rig.setup.upstream.answer(completion("once"));
    let unknown = json!({ "url": rig.url, "token": "ptk_nobody_has_this_token" });
    let missing = json!({ "url": rig.url, "token": null });
    for (passed, (page, hasty)) in
        [(rig.app_page().await, "hasty here"), (rig.foreign_page().await, "hasty there")]
            .iter()
            .enumerate()
    {
        let chat = async |gateway: &Value| page.call("app.chat", json!([gateway, "hello"])).await;
        for (gateway, code) in [(&missing, "token_missing"), (&unknown, "token_invalid")] {
            let denied = chat(gateway).await.expect_err("it is no token");
            assert_eq!((&denied["status"], &denied["code"]), (&json!(401), &json!(code)));
            assert!(denied["message"].as_str().is_some_and(|m| m.contains("token")), "{denied}");
        }
        assert!(chat(&rig.gateway(hasty)).await.is_ok(), "a preflight is not counted");
        let denied = chat(&rig.gateway(hasty)).await.expect_err("one a minute");
        assert_eq!((&denied["status"], &denied["code"]), (&json!(429), &json!("rate_limited")));
        let wait = denied["retryAfter"].as_str().and_then(|s| s.parse::<u64>().ok());
        assert!(wait.is_some_and(|s| (1..=60).contains(&s)), "when to come back: {denied}");
        rig.assert_swapped(&rig.only_new(passed), "authorization", &rig.openai());
    }
}

#[tokio::test]
async fn a_page_without_an_origin_of_its_own_is_a_foreign_one() {
    let rig = Rig::start().await;
    let page = Page::open(&format!("{}/sandboxed", rig.app)).await;
    let fetch = "async (gateway, path) => {
        const headers = { authorization: `Bearer ${gateway.token}` };
        const answer = await fetch(gateway.url + path, { method: 'POST', headers });
        return [origin, answer.status, answer.headers.get('x-keygate-error')];
    }";
    let got = page.call(fetch, json!([rig.gateway("app"), CHAT])).await;
    assert_eq!(got, Ok(json!(["null", 403, "origin_not_allowed"])));
    assert!(rig.setup.upstream.received().is_empty(), "no key may leave for it");
}

#[tokio::test]
async fn a_fetched_stream_arrives_piece_by_piece() {
    let rig = Rig::start().await;
    let upstream = &rig.setup.upstream;
    let piece = |text| json!({ "choices": [{ "delta": { "content": text } }] }).to_string();
    upstream.answer(
        Answer::sse([piece("one"), piece("two"), piece("three"), "[DONE]".to_owned()]).gated(),
    );
    let begin = "(...those) => { window.pieces = app.stream(...those) }";
    let next = "() => window.pieces.next()";
    let app = rig.app_page().await;
    app.call(begin, json!([rig.gateway("app"), "count"])).await.expect("it begins");
    for text in ["one", "two", "three"] {
        // The upstream has not said more than this one yet.
        upstream.release();
        let got = app.call(next, json!([])).await;
        assert_eq!(got, Ok(json!({ "value": text, "done": false })));
    }
    upstream.release();
    let got = app.call(next, json!([])).await.expect("it ends");
    assert_eq!(got["done"], true);
    let seen = rig.only_new(0);
    rig.assert_swapped(&seen, "authorization", &rig.openai());
    assert_eq!(seen.json()["stream"], true);

    let foreign = rig.foreign_page().await;
    foreign.call(begin, json!([rig.gateway("app"), "count"])).await.expect("it begins");
    assert_foreign(&foreign.call(next, json!([])).await);
    assert_eq!(upstream.received().len(), 1, "no key may leave for a foreign page");
}

#[tokio::test]
async fn an_event_source_with_its_token_in_the_query_listens_and_comes_back() {
    let rig = Rig::start().await;
    let upstream = &rig.setup.upstream;
    upstream.answer_next(Answer::sse(["retry: 10\nid: 6\ndata: one", "id: 7\ndata: two"]).gated());
    upstream.answer(Answer::sse(["data: three"]).endless());
    let begin = "(...those) => { window.events = app.listen(...those) }";
    let next = "() => window.events.next()";
    let app = rig.app_page().await;
    app.call(begin, json!([rig.gateway("app"), "/tools/events"])).await.expect("it begins");
    for text in ["one", "two", "three"] {
        // What is open as the second stream is not gated.
        if text != "three" {
            upstream.release();
        }
        let got = app.call(next, json!([])).await;
        assert_eq!(got, Ok(json!({ "value": text, "done": false })));
    }
    app.call("() => window.events.return()", json!([])).await.expect("it closes");
    let key = format!("Bearer {}", rig.setup.key("internal"));
    let seen = upstream.wait_for(2).await;
    assert_eq!(seen.len(), 2, "{seen:#?}");
    for (seen, last) in seen.iter().zip([None, Some("7")]) {
        assert_eq!(seen.target, "/tools/events", "the token has gone from the query");
        assert_eq!(seen.header("last-event-id"), last, "where it goes on: {seen:?}");
        rig.assert_swapped(seen, "authorization", &key);
    }
    let expected = [logged("GET", 200, ""), logged("GET", 200, "")].to_vec();
    assert_eq!(rig.log(2).await, expected, "without a preflight, and closed by the page");

    let foreign = rig.foreign_page().await;
    foreign.call(begin, json!([rig.gateway("app"), "/tools/events"])).await.expect("it begins");
    let refused = foreign.call(next, json!([])).await.expect_err("a foreign page is refused");
    assert_eq!(refused["message"], "refused", "for good: it does not come back");
    assert_eq!(rig.log(3).await[2], logged("GET", 403, "origin_not_allowed"));
    assert_eq!(upstream.received().len(), 2, "no key may leave for a foreign page");
}

#[tokio::test]
async fn a_socket_takes_its_token_from_either_subprotocol() {
    let rig = Rig::start().await;
    let upstream = &rig.setup.upstream;
    let (app, foreign) = (rig.app_page().await, rig.foreign_page().await);
    let token = rig.setup.token("app").to_owned();
    let openai = format!("openai-insecure-api-key.{token}");
    let own = format!("keygate.{token}");
    let gateway = json!({ "url": rig.url });
    let converse = async |page: &Page, offers: &[&str], text: &str| {
        page.call("app.converse", json!([gateway, LIVE, offers, text])).await
    };
    let (openai, own) = (openai.as_str(), own.as_str());
    // Offered, what of it reaches the upstream, what that chooses, what the page is told.
    let cases = [
        (&["realtime", openai][..], Some("realtime"), Some("realtime"), "realtime"),
        (&["keygate", own], None, None, "keygate"),
        (&["realtime", "keygate", own], Some("realtime"), Some("realtime"), "realtime"),
        (&["realtime", "keygate", own], Some("realtime"), None, "keygate"),
        (&[openai, "keygate", "realtime"], Some("realtime"), None, "keygate"),
    ];
    for (number, (offered, reached, chosen, protocol)) in cases.into_iter().enumerate() {
        upstream.answer(Answer::websocket().choose_protocol(chosen));
        let text = format!("socket {number}");
        let got = converse(&app, offered, &text).await;
        let right = json!({ "heard": text, "protocol": protocol, "code": 1000, "wasClean": true });
        assert_eq!(got, Ok(right), "case {number}, of which the upstream chose {chosen:?}");
        let seen = rig.only_new(number);
        assert_eq!(seen.header("sec-websocket-protocol"), reached, "without the credentials");
        rig.assert_swapped(&seen, "authorization", &rig.openai());
    }
    assert_eq!(rig.log(5).await, vec![logged("GET", 101, ""); 5]);

    let refused = [
        (&app, &[openai][..], 400, "malformed_request"),
        (&app, &[own], 400, "malformed_request"),
        (&app, &["realtime"], 401, "token_missing"),
        (&foreign, &["realtime", openai], 403, "origin_not_allowed"),
        (&foreign, &["keygate", own], 403, "origin_not_allowed"),
    ];
    for (number, (page, offered, status, denial)) in refused.into_iter().enumerate() {
        let refused = converse(page, offered, "hello").await.expect_err(denial);
        assert_eq!(refused["code"], 1006, "all that a page learns: {refused}");
        assert_eq!(rig.log(6 + number).await[5 + number], logged("GET", status, denial));
    }
    assert_eq!(upstream.received().len(), 5, "no key may leave on a denial");
}

#[tokio::test]
async fn a_browser_gives_up_a_socket_of_which_nothing_was_chosen() {
    let rig = Rig::start().await;
    rig.setup.upstream.answer(Answer::websocket());
    let page = rig.app_page().await;
    let offers = ["realtime".to_owned(), format!("keygate.{}", rig.setup.token("app"))];
    let got = page.call("app.converse", json!([{ "url": rig.url }, LIVE, offers, "hello"])).await;
    assert_eq!(got.expect_err("that is why keygate is to be offered")["code"], 1006);
    rig.setup.assert_nothing_is_left_open().await;
    assert!(rig.setup.upstream.texts().is_empty(), "nothing was said");
}

#[tokio::test]
async fn a_preflight_may_ask_for_any_header_and_method() {
    let rig = Rig::start().await;
    let headers = json!({
        "content-type": "application/json",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": "tools-2024-04-04",
        "anthropic-dangerous-direct-browser-access": "true",
        "x-stainless-arch": "unknown",
        "x-stainless-helper-method": "stream",
        "x-stainless-lang": "js",
        "x-stainless-os": "Unknown",
        "x-stainless-package-version": "0.1.0",
        "x-stainless-retry-count": "0",
        "x-stainless-runtime": "browser:chrome",
        "x-stainless-runtime-version": "156.0.0",
        "x-stainless-timeout": "600",
        "x-entirely-custom": "yes, really",
    });
    let ask = "async (gateway, path, { token, ...headers }, options) => {
        const slot = token ? { 'x-api-key': gateway.token } : {};
        const own = token ? { url: gateway.url } : gateway;
        const answer = await app.ask(own, path, { headers: { ...headers, ...slot }, ...options });
        return answer.status;
    }";
    let message = json!({ "method": "POST", "body": r#"{"model":"claude-sonnet-5-5"}"# });
    let mut by_key = headers.clone();
    by_key["token"] = json!(true);
    let delete = json!({ "method": "DELETE" });
    let cases = [
        (json!(["/v1/messages", by_key, message]), "x-api-key", "anthropic"),
        (json!(["/v1/messages", headers, message]), "x-api-key", "anthropic"),
        (json!(["/openai/v1/responses/resp_1", headers, delete]), "authorization", "openai"),
    ];
    let (app, foreign) = (rig.app_page().await, rig.foreign_page().await);
    for (number, (arguments, slot, provider)) in cases.into_iter().enumerate() {
        let arguments = json!([rig.gateway("app"), arguments[0], arguments[1], arguments[2]]);
        assert_eq!(app.call(ask, arguments.clone()).await, Ok(json!(200)));
        let seen = rig.only_new(number);
        let key = rig.setup.key(provider);
        let key = if slot == "authorization" { format!("Bearer {key}") } else { key.to_owned() };
        rig.assert_swapped(&seen, slot, &key);
        for (name, value) in headers.as_object().expect("it is one") {
            // Anthropic's servers refuse what a browser sends without this header, not with it.
            assert_eq!(seen.header(name), value.as_str(), "{name} as it was sent: {seen:?}");
        }
        assert_foreign(&foreign.call(ask, arguments).await);
    }
    assert_eq!(rig.setup.upstream.received().len(), 3, "no key may leave for a foreign page");
    let log = rig.log(12).await;
    let preflights = log.iter().filter(|line| **line == logged("OPTIONS", 204, "")).count();
    assert_eq!((log.len(), preflights), (12, 6), "each asks for what the last did not: {log:?}");
}

#[tokio::test]
async fn credentials_go_only_to_the_origins_of_a_list() {
    let config = CONFIG.replace("providers:", "cors: { allow_origins: ['$APP'] }\nproviders:");
    let rig = Rig::with(&config).await;
    let upstream = &rig.setup.upstream;
    upstream.answer(
        Answer::json(200, r#"{"ok":true}"#).header("set-cookie", "session=abc; Secure; HttpOnly"),
    );
    let ask = "async (gateway, path) => {
        const answer = await app.ask(gateway, path, { method: 'POST', credentials: 'include' });
        return answer.json();
    }";
    let own = json!([rig.gateway("app"), "/tools/run"]);
    let app = rig.app_page().await;
    for (number, cookie) in [None, Some("session=abc")].into_iter().enumerate() {
        assert_eq!(app.call(ask, own.clone()).await, Ok(json!({ "ok": true })));
        assert_eq!(rig.only_new(number).header("cookie"), cookie, "the tool's own cookie");
    }
    // An AI provider gets no cookies, whosever they are.
    assert!(app.call(ask, json!([rig.gateway("app"), CHAT])).await.is_ok());
    rig.assert_swapped(&rig.only_new(2), "authorization", &rig.openai());

    let foreign = rig.foreign_page().await;
    for token in ["app", "anyone"] {
        for function in [ask, "app.chat"] {
            let arguments = json!([rig.gateway(token), "/tools/run"]);
            let failed = foreign.call(function, arguments).await.expect_err("it is not listed");
            assert_eq!(failed["name"], "TypeError", "the browser itself refuses: {failed}");
        }
    }
    assert_eq!(upstream.received().len(), 3, "a preflight is all that came");

    // Without a list every origin may ask, but none with credentials.
    let rig = Rig::start().await;
    for page in [rig.app_page().await, rig.foreign_page().await] {
        let own = json!([rig.gateway("anyone"), "/tools/run"]);
        let failed = page.call(ask, own).await.expect_err("not with credentials");
        assert_eq!(failed["name"], "TypeError", "the browser itself refuses: {failed}");
    }
    assert!(rig.setup.upstream.received().is_empty(), "a preflight is all that came");
}
