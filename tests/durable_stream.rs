//! The kind `durable-streams`: its routes and slots, who needs a token, what passes and what pages may
//! read. Which origins a stream lets in is another module's.

use crate::support::canary;
use crate::support::client::{Request, Response};
use crate::support::gateway::Setup;
use crate::support::tls::{H2, bridge};
use crate::support::upstream::{Answer, Received};
use serde_json::json;

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
server_names: [127.0.0.1, gate.test]
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  streams:
    kind: durable-streams
    url: $UPSTREAM
    cookie: keygate_token
    access: ACCESS
  keyed:
    kind: durable-streams
    url: $UPSTREAM/base
    routes: [/other/]
    query_slots: [access_token]
    keys: [{ file: $KEY(keyed) }]
  internal: { kind: generic, url: $UPSTREAM, routes: [/tools/] }
policies:
  one: { providers: [streams], paths: ['/v1/stream/user-42/*'] }
  modelled: { models: [gpt-4o-mini] }
  page: { origins: ['https://app.test'] }
tokens:
  - { name: free, sha256: $SHA(free) }
  - { name: minter, sha256: $SHA(minter), may_mint: true }
  - { name: one, sha256: $SHA(one), policy: one }
  - { name: modelled, sha256: $SHA(modelled), policy: modelled }
  - { name: page, sha256: $SHA(page), policy: page }
";

const STREAM: &str = "/v1/stream/user-42/chat";

async fn setup() -> Setup {
    Setup::with(&CONFIG.replace("ACCESS", "token")).await
}

async fn public() -> Setup {
    Setup::with(&CONFIG.replace("ACCESS", "public")).await
}

fn last(setup: &Setup) -> Received {
    setup.upstream.received().pop().expect("it was forwarded")
}

fn cookie(setup: &Setup, name: &str) -> String {
    format!("keygate_token={}", setup.token(name))
}

#[tokio::test]
async fn routes_are_forwarded_whole_and_the_name_is_a_prefix() {
    let setup = setup().await;
    let base = "/base/other/x?offset=-1&key=data";
    for (target, seen) in [
        (STREAM, STREAM),
        ("/v1/stream/a%20b/c", "/v1/stream/a%20b/c"),
        ("/streams/v1/stream/x?offset=now", "/v1/stream/x?offset=now"),
        ("/other/x?offset=-1&key=data", base),
        ("/keyed/other/x?offset=-1&key=data", base),
    ] {
        let asked = setup.request("GET", target).bearer(setup.token("free"));
        asked.send().await.assert_status(200);
        assert_eq!(last(&setup).target, seen, "{target}");
    }
    let more = setup.request("GET", "/v1/stream%2Fx").bearer(setup.token("free"));
    more.send().await.assert_denied(400, "malformed_request");
}

#[tokio::test]
async fn the_key_goes_in_if_there_is_one_and_the_token_never() {
    let setup = setup().await;
    let token = setup.token("free");
    let ways: [(&str, Request); 3] = [
        ("a header", setup.request("GET", STREAM).bearer(token)),
        ("the query", setup.request("GET", &format!("{STREAM}?offset=-1&key={token}&live=sse"))),
        ("a cookie", {
            let crumbs = format!("a=b; {}; c=d", cookie(&setup, "free"));
            setup.request("GET", STREAM).header("cookie", crumbs).origin("https://app.test")
        }),
    ];
    for (way, request) in ways {
        request.send().await.assert_status(200);
        let seen = last(&setup);
        assert_eq!(seen.header("authorization"), None, "{way}: there is no key");
        assert!(!String::from_utf8_lossy(&seen.raw).contains(token), "{way}: the token is ours");
    }
    assert_eq!(last(&setup).header("cookie"), Some("a=b; c=d"), "the others go on");
    assert_eq!(setup.upstream.received()[1].target, format!("{STREAM}?offset=-1&live=sse"));

    setup.request("GET", "/other/x").bearer(token).send().await.assert_status(200);
    let key = format!("Bearer {}", setup.key("keyed"));
    assert_eq!(last(&setup).header("authorization"), Some(&*key));
}

#[tokio::test]
async fn a_cookie_counts_only_where_browsers_say_where_they_come_from() {
    let setup = setup().await;
    let ask = |target: &str| setup.request("GET", target).header("cookie", cookie(&setup, "free"));
    let refused = ask(STREAM).send().await;
    refused.assert_denied(403, "origin_not_allowed");
    assert!(refused.text().contains("Sec-Fetch-Site"), "{}", refused.text());
    let twice = ask(STREAM).origin("https://a.test").origin("https://a.test");
    twice.send().await.assert_denied(403, "origin_not_allowed");
    assert!(setup.upstream.received().is_empty());

    ask(STREAM).header("sec-fetch-site", "same-site").send().await.assert_status(200);
    ask(STREAM).origin("https://a.test").send().await.assert_status(200);
    // A program that has the token may keep its cookies.
    ask(STREAM).bearer(setup.token("free")).send().await.assert_status(200);
    let two = ask(STREAM).origin("https://a.test").bearer(setup.token("one"));
    two.send().await.assert_denied(400, "ambiguous_credentials");
    let two = setup.request("GET", STREAM).origin("https://a.test");
    let two =
        two.header("cookie", format!("{}; {}", cookie(&setup, "free"), cookie(&setup, "one")));
    two.send().await.assert_denied(400, "ambiguous_credentials");
    let wrong = setup.request("GET", STREAM).header("cookie", "keygate_token=nobodys-token");
    wrong.send().await.assert_denied(401, "token_invalid");

    // Elsewhere it is no slot; and the grant's own origins hold as ever.
    for target in ["/other/x", "/tools/x", "/v1/chat/completions"] {
        ask(target).origin("https://a.test").send().await.assert_denied(401, "token_missing");
    }
    let page = |origin: &str| {
        setup.request("GET", STREAM).header("cookie", cookie(&setup, "page")).origin(origin)
    };
    page("https://app.test").send().await.assert_status(200);
    page("https://evil.test").send().await.assert_denied(403, "origin_not_allowed");
}

#[tokio::test]
async fn a_cookie_is_read_over_tls_from_proxies_that_say_https_and_on_loopback() {
    let yaml = CONFIG.replace("ACCESS", "token");
    let trusting = Setup::with(&format!("{yaml}trusted_proxies: [127.0.0.0/8]\n")).await;
    let ask = |setup: &Setup| {
        let asked = setup.request("GET", STREAM).header("cookie", cookie(setup, "free"));
        asked.origin("https://app.test")
    };
    ask(&trusting).send().await.assert_denied(401, "token_missing");
    for (scheme, status) in [("https", 200), ("http", 401)] {
        let asked = ask(&trusting).header("x-forwarded-proto", scheme);
        assert_eq!(asked.send().await.status, status, "a proxy that says {scheme}");
    }
    ask(&trusting).to(bridge(trusting.tls()).await).send().await.assert_status(200);
    let plain_before = ask(&trusting).header("x-forwarded-proto", "http");
    let plain_before = plain_before.to(bridge(trusting.tls()).await).send().await;
    plain_before.assert_denied(401, "token_missing");
    let ignored = trusting.request("GET", STREAM).bearer(trusting.token("free"));
    let ignored = ignored.header("cookie", cookie(&trusting, "one"));
    ignored.header("x-forwarded-proto", "http").send().await.assert_status(200);
    assert_eq!(last(&trusting).header("cookie"), None, "ignored, and stripped");

    let setup = setup().await;
    ask(&setup).send().await.assert_status(200);
    let h2 = H2::connect(setup.tls()).await;
    // HTTP/2 may split cookies.
    let asked = setup.request("GET", STREAM).host("gate.test").origin("https://app.test");
    let asked = asked.header("cookie", "a=b").header("cookie", cookie(&setup, "free"));
    h2.send(asked.header("cookie", "c=d")).await.assert_status(200);
    assert_eq!(last(&setup).header("cookie"), Some("a=b; c=d"));
}

#[tokio::test]
async fn the_slot_cookie_reaches_no_provider_and_is_set_by_none() {
    let setup = setup().await;
    let crumbs = format!("{}; theme=dark", cookie(&setup, "free"));
    setup.upstream.answer(
        Answer::json(200, "{}")
            .header("Set-Cookie", "keygate_token=theirs; Path=/")
            .header("Set-Cookie", "session=1"),
    );
    for (target, kept) in
        [("/tools/x", Some("theme=dark")), (STREAM, Some("theme=dark")), ("/v1/models", None)]
    {
        let asked = setup.request("GET", target).bearer(setup.token("free"));
        let answer = asked.header("cookie", &crumbs).send().await;
        answer.assert_status(200);
        assert_eq!(last(&setup).header("cookie"), kept, "{target}");
        let set = answer.headers_named("set-cookie");
        assert!(!set.iter().any(|s| s.starts_with(b"keygate_token")), "{target}: {set:?}");
    }
}

#[tokio::test]
async fn public_streams_need_no_token_and_nothing_else_is_public() {
    let mut setup = public().await;
    setup.upstream.answer(Answer::json(200, "{}"));
    for method in ["GET", "HEAD", "POST", "DELETE"] {
        let answer = setup.request(method, STREAM).origin("https://any.test").send().await;
        answer.assert_status(200);
    }
    setup.request("GET", "/streams/v1/stream/x").send().await.assert_status(200);
    let line = setup.access_log().pop().expect("a line");
    assert!(line["token_id"].is_null() && line["token_name"].is_null(), "{line}");
    assert_eq!(line["provider"], "streams", "{line}");

    let before = setup.upstream.received().len();
    for target in [
        "/streams/metrics",
        "/v1/stream",
        "/v1/stream/__ds/subscriptions/s",
        "/other/x",
        "/v1/models",
        "/tools/x",
    ] {
        let answer = setup.request("GET", target).send().await;
        assert_eq!(answer.denial(), Some("token_missing"), "{target}");
    }
    for path in ["/v1/client/tokens", "/streams/v1/client/tokens"] {
        setup.request("POST", path).send().await.assert_denied(401, "token_missing");
    }
    // What is presented is judged, wherever it stands.
    let wrong = setup.request("GET", STREAM).bearer("nobodys-token");
    wrong.send().await.assert_denied(401, "token_invalid");
    let wrong = setup.request("GET", &format!("{STREAM}?key=nobodys-token"));
    wrong.send().await.assert_denied(401, "token_invalid");
    let narrow = setup.request("GET", "/v1/stream/other").bearer(setup.token("one"));
    narrow.send().await.assert_denied(403, "path_not_allowed");
    let cookie = setup.request("GET", STREAM).header("cookie", cookie(&setup, "free"));
    cookie.send().await.assert_denied(403, "origin_not_allowed");
    assert_eq!(setup.upstream.received().len(), before, "none of these was forwarded");

    // An open stream of nobody's ends with the access.
    setup.upstream.answer(Answer::sse(["one", "two", "three"]).gated());
    let mut open = setup.request("GET", &format!("{STREAM}?live=sse")).open().await;
    setup.upstream.release();
    assert_eq!(open.next_event().await.expect("an event").data, "one");
    setup.reload(&CONFIG.replace("ACCESS", "public")).await.expect("it reloads");
    setup.upstream.release();
    assert_eq!(open.next_event().await.expect("still public").data, "two");
    setup.reload(&CONFIG.replace("ACCESS", "token")).await.expect("it reloads");
    let rest = open.rest().await;
    assert!(!rest.complete, "it must end visibly unfinished: {rest:?}");
    setup.request("GET", STREAM).send().await.assert_denied(401, "token_missing");
}

#[tokio::test]
async fn a_public_stream_keeps_its_origins() {
    let setup = public().await;
    setup.upstream.answer(Answer::status(201));
    let create = setup.request("PUT", STREAM).bearer(setup.token("free"));
    let create = create.header("stream-allowed-origins", "https://app.test");
    create.body("text/plain", "").send().await.assert_status(201);
    setup.upstream.answer(Answer::body(200, "text/plain", "for the app"));
    let before = setup.upstream.received().len();
    let foreign = setup.request("GET", STREAM).origin("https://evil.test").send().await;
    foreign.assert_denied(403, "origin_not_allowed");
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    let hidden = setup.request("GET", STREAM).header("sec-fetch-site", "cross-site");
    hidden.send().await.assert_denied(403, "origin_not_allowed");
    assert_eq!(setup.upstream.received().len(), before, "neither was forwarded");
    let listed = setup.request("GET", STREAM).origin("https://app.test").send().await;
    assert_eq!((listed.status, &*listed.text()), (200, "for the app"));
    assert_eq!(listed.header("access-control-allow-credentials"), Some("true"));
    setup.request("GET", STREAM).send().await.assert_status(200);
}

#[tokio::test]
async fn a_token_with_models_has_only_the_streams_that_it_names() {
    let setup = setup().await;
    let asked = setup.request("GET", STREAM).bearer(setup.token("modelled"));
    asked.send().await.assert_denied(403, "path_not_allowed");
    let yaml = CONFIG.replace("ACCESS", "token").replace(
        "modelled: { models: [gpt-4o-mini] }",
        "modelled: { models: [gpt-4o-mini], paths: ['/v1/stream/user-42/*'] }",
    );
    let setup = Setup::with(&yaml).await;
    let asked = setup.request("GET", STREAM).bearer(setup.token("modelled"));
    asked.send().await.assert_status(200);
}

/// A request of the protocol and its answer: method, query, headers, body.
struct Row(
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
    &'static str,
    Answer,
);

fn writes() -> Vec<Row> {
    const FIRST: &[(&str, &str)] =
        &[("producer-id", "p"), ("producer-epoch", "1"), ("producer-seq", "7")];
    const STALE: &[(&str, &str)] =
        &[("producer-id", "p"), ("producer-epoch", "0"), ("producer-seq", "0")];
    let gap = Answer::status(409).header("Producer-Expected-Seq", "8");
    let stale = Answer::body(403, "text/plain", "stale epoch").header("Producer-Epoch", "1");
    let closed = Answer::status(409).header("Stream-Closed", "true");
    vec![
        Row("POST", "", FIRST, "[1]", Answer::status(204).header("Stream-Next-Offset", "1")),
        Row("POST", "", FIRST, "[1]", Answer::status(200).header("Producer-Seq", "7")),
        Row("POST", "", STALE, "[3]", stale),
        Row("POST", "", FIRST, "[3]", gap.header("Producer-Received-Seq", "9")),
        Row("POST", "", &[("stream-seq", "0001")], "[2]", Answer::status(200)),
        Row("POST", "", &[("stream-closed", "true")], "", closed),
        Row("DELETE", "", &[], "", Answer::status(204)),
    ]
}

fn reads() -> Vec<Row> {
    let text = "text/event-stream";
    let sse = "event: data\ndata: [1]\n\nevent: control\ndata: {\"streamNextOffset\":\"2\"}\n\n";
    let sse = Answer::body(200, text, sse).header("Stream-SSE-Data-Encoding", "base64");
    let page = Answer::body(200, "application/json", "[1]").header("Stream-Up-To-Date", "true");
    let page = page.header("ETag", "\"a:1\"").header("Cache-Control", "public, max-age=60");
    let resumes = &[("accept", "text/event-stream"), ("last-event-id", "9")];
    let poll = "?offset=1_2&live=long-poll&cursor=3";
    vec![
        Row("GET", "?offset=-1", &[], "", page),
        Row("GET", "?offset=-1", &[("if-none-match", "\"a:1\"")], "", Answer::status(304)),
        Row("GET", poll, &[], "", Answer::status(204).header("Stream-Cursor", "4")),
        Row("GET", "?offset=now&live=sse", resumes, "", sse),
        Row("HEAD", "", &[], "", Answer::status(200).header("Stream-TTL", "60")),
        Row("GET", "", &[], "", Answer::body(410, "text/plain", "Stream is gone")),
        Row("GET", "", &[], "", Answer::body(404, "text/plain", "Stream not found")),
    ]
}

/// Both must arrive as they were sent: what goes through keygate, and what goes straight.
#[tokio::test]
async fn every_method_and_live_mode_passes_faithfully() {
    let setup = setup().await;
    for Row(method, query, headers, body, answer) in writes().into_iter().chain(reads()) {
        setup.upstream.answer(answer);
        let target = format!("{STREAM}{query}");
        let mut through = setup.request(method, &target).bearer(setup.token("free"));
        let mut straight = Request::new(setup.upstream.addr(), method, &target);
        for (name, value) in headers {
            through = through.header(name, value);
            straight = straight.header(name, value);
        }
        if method == "POST" {
            through = through.body("application/json", body);
            straight = straight.body("application/json", body);
        }
        let (got, expected) = (through.send().await, straight.send().await);
        assert_same(&got, &expected, &format!("{method} {target} {headers:?}"));
        let received = setup.upstream.received();
        let [.., seen, direct] = &received[..] else { panic!("two requests") };
        assert_eq!((&seen.method, &seen.target), (&direct.method, &direct.target));
        assert_eq!(seen.body, direct.body, "{method}: every byte arrived");
        for (name, value) in headers {
            assert_eq!(seen.header(name), Some(*value), "{method}: {name}");
        }
    }
}

/// Status, body, and every header that the upstream sent but those about connection and CORS.
fn assert_same(got: &Response, sent: &Response, row: &str) {
    assert_eq!((got.status, got.text()), (sent.status, sent.text()), "{row}");
    for (name, value) in &sent.headers {
        let name = name.to_ascii_lowercase();
        if !["connection", "date", "transfer-encoding", "content-length"].contains(&&*name) {
            let value = String::from_utf8_lossy(value);
            assert_eq!(got.header(&name), Some(&*value), "{row}: {name}");
        }
    }
}

#[tokio::test]
async fn creating_forwards_what_was_sent_and_its_location_leads_back_here() {
    let setup = setup().await;
    let here = format!("http://{}", setup.addr());
    for (target, sent, expected) in [
        (STREAM, format!("{}{STREAM}", setup.upstream.url()), format!("{here}{STREAM}")),
        (STREAM, STREAM.to_owned(), STREAM.to_owned()),
        (
            "/streams/v1/stream/x",
            format!("{}/v1/stream/x", setup.upstream.url()),
            format!("{here}/streams/v1/stream/x"),
        ),
    ] {
        setup.upstream.answer(
            Answer::status(201).header("Location", &sent).header("Stream-Next-Offset", "0"),
        );
        let asked = setup.request("PUT", target).bearer(setup.token("free"));
        let asked = asked.header("stream-ttl", "60").header("stream-closed", "true");
        let answer = asked.body("application/json", "[1]").send().await;
        answer.assert_status(201);
        assert_eq!(answer.header("location"), Some(&*expected), "{target} {sent}");
        assert_eq!(answer.header("stream-next-offset"), Some("0"));
        let seen = setup.upstream.received();
        let seen = seen.iter().rfind(|seen| seen.method == "PUT").expect("it was forwarded");
        assert_eq!((seen.header("stream-ttl"), &*seen.text()), (Some("60"), "[1]"));
        assert_eq!(seen.header("content-type"), Some("application/json"));
        setup.request("DELETE", target).bearer(setup.token("free")).send().await;
    }
}

#[tokio::test]
async fn a_fork_may_copy_only_what_its_token_may_reach() {
    let setup = setup().await;
    setup.upstream.answer(Answer::status(201));
    let fork = |token: &str, from: &str| {
        let asked = setup.request("PUT", "/v1/stream/user-42/copy").bearer(setup.token(token));
        asked.header("stream-forked-from", from).header("stream-fork-offset", "1_2")
    };
    fork("one", STREAM).send().await.assert_status(201);
    let seen = setup.upstream.received();
    let seen = seen.iter().rfind(|seen| seen.method == "PUT").expect("it was forwarded");
    assert_eq!(seen.header("stream-forked-from"), Some(STREAM));
    assert_eq!(seen.header("stream-fork-offset"), Some("1_2"));

    let before = setup.upstream.received().len();
    for from in ["/v1/stream/user-43/secret", "/metrics"] {
        fork("one", from).send().await.assert_denied(403, "path_not_allowed");
    }
    for from in [
        "",
        "user-42/chat",
        "http://elsewhere.test/v1/stream/user-42/chat",
        "/v1/stream/user-42/../user-43/secret",
        "/v1/stream/user-42/%2e%2e/user-43/secret",
        "/v1/stream/user-42/..%2fuser-43",
        "/v1//stream/user-42/chat",
        "/v1/stream/user-42/chat?x",
        "/v1/stream/user-4%33/secret",
    ] {
        let answer = fork("one", from).send().await;
        assert_eq!(answer.denial(), Some("malformed_request"), "{from}");
    }
    let twice = fork("one", STREAM).header("stream-forked-from", "/v1/stream/user-43/secret");
    twice.send().await.assert_denied(400, "malformed_request");
    // Behind a base the source has to lie below it too: the header goes on as it is.
    let keyed = |from: &str| {
        let asked = setup.request("PUT", "/other/copy").bearer(setup.token("free"));
        asked.header("stream-forked-from", from)
    };
    keyed("/other/x").send().await.assert_denied(400, "malformed_request");
    assert_eq!(setup.upstream.received().len(), before, "none of these was forwarded");
    keyed("/base/other/x").send().await.assert_status(201);
}

#[tokio::test]
async fn every_answer_says_what_pages_may_do_with_it() {
    let setup = setup().await;
    setup.upstream.answer(
        Answer::json(200, "{}")
            .header("Access-Control-Allow-Origin", "*")
            .header("Access-Control-Expose-Headers", "x-theirs")
            .header("Stream-Next-Offset", "1"),
    );
    let ask = |token: &str| setup.request("GET", STREAM).bearer(token).origin("https://app.test");
    let good = ask(setup.token("free")).send().await;
    good.assert_status(200);
    let denied = ask("nobodys-token").send().await;
    denied.assert_denied(401, "token_invalid");
    for answer in [good, denied] {
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-site"));
        assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.test"));
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        let exposed = answer.header("access-control-expose-headers").expect("names");
        for name in [
            "Stream-Next-Offset",
            "Stream-Up-To-Date",
            "Stream-Closed",
            "Stream-Cursor",
            "Stream-Allowed-Origins",
            "Stream-TTL",
            "Stream-Expires-At",
            "ETag",
            "Location",
            "Producer-Epoch",
            "Producer-Seq",
            "Producer-Expected-Seq",
            "Producer-Received-Seq",
            "Stream-SSE-Data-Encoding",
            "x-keygate-error",
        ] {
            let name = name.to_ascii_lowercase();
            assert!(exposed.split(", ").any(|n| n == name), "{name} is not in {exposed}");
        }
    }
    setup.upstream.answer(
        Answer::json(200, "{}")
            .header("Cross-Origin-Resource-Policy", "same-origin")
            .header("X-Content-Type-Options", "nosniff"),
    );
    let answer = ask(setup.token("free")).send().await;
    assert_eq!(answer.headers_named("cross-origin-resource-policy"), [b"same-origin"]);
    assert_eq!(answer.headers_named("x-content-type-options"), [b"nosniff"]);
    // Other kinds are as they were.
    let other = setup.request("GET", "/v1/models").bearer(setup.token("free")).send().await;
    assert_eq!(other.header("cross-origin-resource-policy"), Some("same-origin"), "verbatim");
}

#[tokio::test]
async fn a_client_token_can_be_for_one_stream_read_only() {
    let setup = setup().await;
    let mint = |body: serde_json::Value| {
        setup.request("POST", "/v1/client/tokens").bearer(setup.token("minter")).json(body)
    };
    let wish = json!({ "providers": ["streams"], "paths": ["/v1/stream/user-42/*"], "methods": ["GET", "HEAD"] });
    let minted = mint(wish).send().await;
    minted.assert_status(200);
    let minted = minted.json();
    for form in ["apiKey", "token"] {
        let token = minted[form].as_str().expect("a token");
        canary::adopt_token(token);
        let ask = |method: &str, target: &str| setup.request(method, target).bearer(token);
        ask("GET", STREAM).send().await.assert_status(200);
        ask("HEAD", &format!("/streams{STREAM}")).send().await.assert_status(200);
        let query = format!("{STREAM}?offset=-1&live=sse&key={token}");
        setup.request("GET", &query).send().await.assert_status(200);
        for method in ["PUT", "POST", "DELETE"] {
            ask(method, STREAM).send().await.assert_denied(403, "method_not_granted");
        }
        for target in ["/v1/stream/user-43/chat", "/v1/stream/user-42", "/other/user-42/x"] {
            assert_eq!(ask("GET", target).send().await.status, 403, "{target}");
        }
    }
    // Without paths a client token has no streams at all.
    let minted = mint(json!({})).send().await.json();
    let token = minted["apiKey"].as_str().expect("a token");
    canary::adopt_token(token);
    let asked = setup.request("GET", STREAM).bearer(token);
    asked.send().await.assert_denied(403, "path_not_allowed");
}

#[tokio::test]
async fn who_needs_no_token_copies_no_stream_that_needs_one() {
    let setup = Setup::with(
        "
listen: [{ address: 127.0.0.1:0 }]
store: { sqlite: $DIR/keygate.db }
server_names: [127.0.0.1]
providers:
  streams:
    kind: durable-streams
    url: $UPSTREAM
    access: public
    routes: ['/v1/stream/public/']
",
    )
    .await;
    let put = |source: &str| {
        setup.request("PUT", "/v1/stream/public/copy").header("Stream-Forked-From", source).send()
    };
    put("/v1/stream/private/s").await.assert_denied(401, "token_missing");
    assert!(setup.upstream.received().is_empty(), "nothing is copied");
    setup.upstream.answer(Answer::json(201, "{}"));
    put("/v1/stream/public/s").await.assert_status(201);
}
