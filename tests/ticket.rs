//! Resumable uploads: the second leg comes back through the gate, by a ticket that is good for its
//! URL alone and dies with its parent token.

use crate::support::canary;
use crate::support::client::{Request, Response};
use crate::support::gateway::{ALL, Setup, record};
use crate::support::process::keygate_in;
use crate::support::upstream::{Answer, Upstream};
use keygate::store::Sqlite;
use keygate::token::store::{Change, ClientStore, TokenStore};
use keygate::values::clock::Clock;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const START: &str = "/upload/v1beta/files";
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
const UPLOAD_URL: &str = "x-goog-upload-url";

/// [`ALL`] at a public address, beside a second provider of the kind.
fn yaml() -> String {
    ALL.replace("\nproviders:", "\npublic_url: https://gate.test\nproviders:\n  second: { kind: gemini, url: $UPSTREAM, routes: [], keys: [{ file: $KEY(second) }] }")
}

/// With a policy for the token `bound`.
fn bound(policy: &str) -> String {
    yaml().replace("policies:", &format!("policies:\n  bound: {policy}"))
        + "  - { name: bound, sha256: $SHA(bound), policy: bound }\n"
}

/// The provider: names where the upload goes on, under an id that counts up, then takes what comes.
fn answer_uploads(upstream: &Upstream) {
    let url = upstream.url();
    let count = std::sync::atomic::AtomicUsize::new(0);
    upstream.answer_with(move |request| {
        let command = request.header("x-goog-upload-command").unwrap_or_default();
        if command != "start" {
            let state = if command.contains("finalize") { "final" } else { "active" };
            return Answer::json(200, "{}").header("x-goog-upload-status", state);
        }
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        Answer::json(200, "{}").header("x-goog-upload-status", "active").header(
            "x-goog-upload-url",
            format!("{url}{START}?upload_id=id-{number}&upload_protocol=resumable"),
        )
    });
}

async fn setup(yaml: &str) -> Setup {
    let setup = Setup::with(yaml).await;
    answer_uploads(&setup.upstream);
    setup
}

fn start(addr: SocketAddr, target: &str, token: &str) -> Request {
    Request::post(addr, target)
        .header("x-goog-api-key", token)
        .header("X-Goog-Upload-Protocol", "resumable")
        .header("X-Goog-Upload-Command", "start")
        .json(r#"{"file":{"display_name":"f"}}"#)
}

/// The first leg; the target of the second, as the caller would ask for it.
async fn begin(setup: &Setup, token: &str) -> String {
    let answer = start(setup.addr(), START, setup.token(token)).send().await;
    answer.assert_status(200);
    target_of(&answer, "https://gate.test")
}

fn target_of(answer: &Response, base: &str) -> String {
    let url = answer.header(UPLOAD_URL).expect("an upload URL");
    let target = url.strip_prefix(base).unwrap_or_else(|| panic!("{url} must begin with {base}"));
    let (_, ticket) = target.split_once("keygate_ticket=").expect("a ticket");
    assert!(ticket.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)), "{ticket}");
    // From here on the ticket may show nowhere, at the provider neither.
    canary::adopt_token(ticket);
    target.to_owned()
}

fn send(setup: &Setup, target: &str, command: &str) -> Request {
    setup
        .request("POST", target)
        .header("X-Goog-Upload-Command", command)
        .header("X-Goog-Upload-Offset", "0")
        .body("application/octet-stream", b"\x00content".to_vec())
}

#[tokio::test]
async fn the_ticket_alone_carries_the_upload_to_its_end() {
    let setup = setup(&yaml()).await;
    let target = begin(&setup, "free").await;
    assert!(
        target.starts_with("/upload/v1beta/files?upload_id=id-0&upload_protocol=resumable&"),
        "the URL is the provider's own, and a ticket: {target}"
    );
    for (n, command) in ["query", "upload", "query", "upload, finalize"].into_iter().enumerate() {
        let answer = send(&setup, &target, command).send().await;
        answer.assert_status(200);
        assert!(answer.header("x-goog-upload-status").is_some(), "{command}: {answer:?}");
        let seen = setup.upstream.wait_for(n + 2).await.pop().expect("it was waited for");
        assert_eq!(seen.target, format!("{START}?upload_id=id-0&upload_protocol=resumable"));
        assert_eq!(seen.header("x-goog-api-key"), Some(setup.key("gemini")), "{command}");
        assert_eq!(seen.header("authorization"), None, "one slot only");
        assert_eq!(seen.header("x-goog-upload-command"), Some(command));
        assert_eq!(seen.body, b"\x00content");
        let raw = String::from_utf8_lossy(&seen.raw).to_lowercase();
        assert!(!raw.contains("ticket"), "nothing of the ticket reached the provider:\n{raw}");
    }
    let put = setup.request("PUT", &target).body("text/plain", "x");
    put.send().await.assert_status(200);
    let log = setup.access_log();
    assert_eq!(log.last().expect("a line")["token_id"], "free", "its parent's, as to the log");
    assert!(!format!("{log:?}{}", setup.metrics()).contains("ticket="), "tickets are in no log");
}

#[tokio::test]
async fn the_token_may_come_along_and_no_other() {
    let setup = setup(&yaml()).await;
    let target = begin(&setup, "free").await;
    let (free, scoped) = (setup.token("free").to_owned(), setup.token("scoped").to_owned());
    for request in [
        send(&setup, &target, "upload").header("x-goog-api-key", &free),
        send(&setup, &target, "upload").bearer(&free),
        send(&setup, &format!("{target}&key={free}"), "upload"),
        send(&setup, &target.replacen('?', &format!("?%6bey={free}&"), 1), "upload"),
    ] {
        request.send().await.assert_status(200);
        let seen = setup.upstream.received().pop().expect("it came through");
        assert_eq!(seen.target, format!("{START}?upload_id=id-0&upload_protocol=resumable"));
        assert_eq!(seen.header("x-goog-api-key"), Some(setup.key("gemini")));
    }
    let reached = setup.upstream.received().len();
    let other = send(&setup, &target, "upload").header("x-goog-api-key", &scoped);
    other.send().await.assert_denied(400, "ambiguous_credentials");
    let unknown = send(&setup, &target, "upload").bearer(&canary::token());
    unknown.send().await.assert_denied(401, "token_invalid");
    let second = format!("{target}&KEYGATE_ticket=AAAA");
    send(&setup, &second, "upload").send().await.assert_denied(400, "ambiguous_credentials");
    assert_eq!(setup.upstream.received().len(), reached, "no key may leave on a denial");
}

#[tokio::test]
async fn whatever_is_changed_the_ticket_is_none() {
    // Refusals of many wrong ones must not become 429.
    let lenient = yaml() + "limits: { failed_auth: { requests: 100000, per: 60s } }\n";
    let setup = setup(&lenient).await;
    let target = begin(&setup, "free").await;
    let (url, ticket) = target.split_once("keygate_ticket=").expect("a ticket");
    let (_, other) = begin(&setup, "free")
        .await
        .split_once("keygate_ticket=")
        .map(|(a, b)| (a.to_owned(), b.to_owned()))
        .expect("a ticket");
    let mut wrong = vec![
        target.replace("id-0", "id-1"),
        target.replace("upload_id=id-0&", ""),
        target.replace("upload_protocol=resumable", "upload_protocol=resumable&x=1"),
        target.replace(
            "upload_id=id-0&upload_protocol=resumable",
            "upload_protocol=resumable&upload_id=id-0",
        ),
        target.replace("id-0", "id%2D0"),
        target.replace(START, "/upload/v1beta/files/"),
        target.replace(START, "/upload/v1beta/files/other"),
        target.replace(START, "/gemini/upload/v1beta/files"),
        target.replace(START, "/second/upload/v1beta/files"),
        target.replace(START, "/v1beta/files"),
        target.replace(START, "/v1/chat/completions"),
        format!("{url}keygate_ticket={other}"),
        format!("{url}keygate_ticket={ticket}A"),
        format!("{url}keygate_ticket={}", "A".repeat(4_000)),
        format!("{url}keygate_ticket=%00"),
        format!("{START}?keygate_ticket={ticket}"),
    ];
    for at in (0..ticket.len()).step_by(3) {
        let mut changed = ticket.to_owned();
        let letter = if &ticket[at..=at] == "A" { "B" } else { "A" };
        changed.replace_range(at..=at, letter);
        wrong.push(format!("{url}keygate_ticket={changed}"));
    }
    let reached = setup.upstream.received().len();
    for target in wrong {
        send(&setup, &target, "upload").send().await.assert_denied(401, "token_invalid");
    }
    for method in ["GET", "HEAD", "DELETE", "PATCH"] {
        let answer = setup.request(method, &target).send().await;
        assert_eq!((answer.status, answer.denial()), (401, Some("token_invalid")), "{method}");
    }
    // A good token does not make up for a ticket that is none.
    let both = send(&setup, &target.replace("id-0", "id-1"), "upload").bearer(setup.token("free"));
    both.send().await.assert_denied(401, "token_invalid");
    assert_eq!(setup.upstream.received().len(), reached, "no key may leave on a denial");
    assert!(setup.metric("keygate_failed_authentications_total") > 40.0, "each is counted");
    send(&setup, &target, "upload").send().await.assert_status(200);
}

#[tokio::test]
async fn wrong_tickets_are_limited_by_address_and_good_ones_pass_all_the_same() {
    let setup = setup(&(yaml() + "limits: { failed_auth: { requests: 2, per: 60s } }\n")).await;
    let target = begin(&setup, "free").await;
    let wrong = target.replace("id-0", "id-1");
    for _ in 0..2 {
        send(&setup, &wrong, "upload").send().await.assert_denied(401, "token_invalid");
    }
    send(&setup, &wrong, "upload").send().await.assert_denied(429, "rate_limited");
    send(&setup, &target, "upload").send().await.assert_status(200);
}

#[tokio::test]
async fn a_ticket_lasts_a_day_and_can_not_renew_itself() {
    let setup = setup(&yaml()).await;
    let target = begin(&setup, "free").await;
    setup.clock.advance(DAY_MS - 1);
    send(&setup, &target, "upload").send().await.assert_status(200);
    // The provider names the URL again: the new ticket ends with the one that it was asked with.
    let again = send(&setup, &target, "start").send().await;
    let renewed = target_of(&again, "https://gate.test");
    send(&setup, &renewed, "upload").send().await.assert_status(200);
    setup.clock.advance(1);
    let reached = setup.upstream.received().len();
    for target in [&target, &renewed] {
        let over = send(&setup, target, "upload").send().await;
        over.assert_denied(401, "token_expired");
        assert!(over.text().contains("begin the upload anew"), "{}", over.text());
    }
    assert_eq!(setup.upstream.received().len(), reached, "no key may leave on a denial");
}

#[tokio::test]
async fn a_ticket_dies_with_what_its_parent_may_no_longer_do() {
    let open = bound("{ providers: [gemini] }");
    let mut setup = setup(&open).await;
    let target = begin(&setup, "bound").await;
    for (policy, status, code) in [
        ("{ providers: [openai] }", 403, "provider_not_allowed"),
        ("{ paths: ['/v1beta/*'] }", 403, "path_not_allowed"),
        ("{ models: [m] }", 403, "path_not_allowed"),
        ("{ methods: [GET] }", 403, "method_not_granted"),
        ("{ origins: ['https://app.test'] }", 403, "origin_not_allowed"),
    ] {
        setup.reload(&bound(policy)).await.expect("a good configuration");
        send(&setup, &target, "upload").send().await.assert_denied(status, code);
    }
    for (change, code) in [
        ("disabled: true", "token_invalid"),
        ("expires_at: '2020-01-01T00:00:00Z'", "token_expired"),
    ] {
        let yaml = open.replace("policy: bound }", &format!("policy: bound, {change} }}"));
        setup.reload(&yaml).await.expect("a good configuration");
        send(&setup, &target, "upload").send().await.assert_denied(401, code);
    }
    let gone = open.replace("  - { name: bound,", "  - { name: renamed,");
    setup.reload(&gone).await.expect("a good configuration");
    send(&setup, &target, "upload").send().await.assert_denied(401, "token_invalid");
    // Another secret under the same name is another token.
    let replaced = open.replace("$SHA(bound)", "$SHA(new)");
    setup.reload(&replaced).await.expect("a good configuration");
    send(&setup, &target, "upload").send().await.assert_denied(401, "token_invalid");
    setup.reload(&open).await.expect("a good configuration");
    send(&setup, &target, "upload").send().await.assert_status(200);
}

#[tokio::test]
async fn every_other_check_holds_for_a_ticket_too() {
    let yaml = bound(
        "{ models: [m], paths: ['/upload/*'], origins: ['https://app.test'], rate_limit: { requests: 3, per: 60s } }",
    ) + "limits: { max_upload: 1KiB }\n";
    let setup = setup(&yaml).await;
    let first = start(setup.addr(), START, setup.token("bound")).origin("https://app.test");
    let first = first.send().await;
    first.assert_status(200);
    let exposed = first.header("access-control-expose-headers").unwrap_or_default();
    assert!(exposed.contains(UPLOAD_URL), "a page must be able to read it: {exposed}");
    let target = target_of(&first, "https://gate.test");
    let preflight = Request::preflight(setup.addr(), &target, "POST", "x-goog-upload-command");
    preflight.origin("https://app.test").send().await.assert_status(204);
    let upload = || send(&setup, &target, "upload").origin("https://app.test");
    send(&setup, &target, "upload").send().await.assert_denied(403, "origin_not_allowed");
    let evil = send(&setup, &target, "upload").origin("https://evil.test");
    evil.send().await.assert_denied(403, "origin_not_allowed");
    let big = setup.request("POST", &target).origin("https://app.test").body("a/b", [0; 1_025]);
    big.send().await.assert_denied(413, "body_too_large");
    upload().send().await.assert_status(200);
    upload().send().await.assert_status(200);
    upload().send().await.assert_denied(429, "rate_limited");
    assert_eq!(setup.upstream.received().len(), 3, "the first leg and two of the second");
}

#[tokio::test]
async fn the_url_keeps_the_way_that_the_caller_came() {
    let setup = setup(&yaml()).await;
    let token = setup.token("free");
    for (provider, way) in [("gemini", "/gemini"), ("second", "/second")] {
        let target = format!("{way}{START}?key={token}");
        let first = Request::post(setup.addr(), &target).header("X-Goog-Upload-Command", "start");
        let target = target_of(&first.body("a/b", "x").send().await, "https://gate.test");
        assert!(target.starts_with(&format!("{way}{START}?")), "{target}");
        send(&setup, &target, "upload").send().await.assert_status(200);
        let seen = setup.upstream.received().pop().expect("it came through");
        assert_eq!(seen.header("x-goog-api-key"), Some(setup.key(provider)), "{way}");
    }
}

#[tokio::test]
async fn the_host_is_taken_from_a_caller_only_if_it_is_listed() {
    let listed = ALL.replace(
        "\nproviders:",
        "\nserver_names: [gate.test]\ntrusted_proxies: [127.0.0.1/32]\nproviders:",
    );
    let setup = setup(&listed).await;
    let first = || start(setup.addr(), START, setup.token("free")).host("gate.test:8443");
    let target = target_of(&first().send().await, "http://gate.test:8443");
    send(&setup, &target, "upload").host("gate.test").send().await.assert_status(200);
    let outer =
        first().header("X-Forwarded-Host", "gate.test").header("X-Forwarded-Proto", "https");
    target_of(&outer.send().await, "https://gate.test");
    assert_eq!(setup.metric("keygate_upload_urls_unchanged_total"), 0.0);
}

#[tokio::test]
async fn a_url_that_cannot_be_rewritten_passes_unchanged_and_is_counted() {
    let setup = setup(ALL).await;
    let answer = start(setup.addr(), START, setup.token("free")).send().await;
    let own = format!("{}{START}?upload_id=id-0&upload_protocol=resumable", setup.upstream.url());
    assert_eq!(answer.header(UPLOAD_URL), Some(&*own), "nobody says where the gateway is");
    assert_eq!(setup.metric("keygate_upload_urls_unchanged_total"), 1.0);

    let public = Setup::with(&yaml()).await;
    for elsewhere in ["https://elsewhere.test/upload?upload_id=x", "https://127.0.0.1/x", "x"] {
        public.upstream.answer(Answer::json(200, "{}").header(UPLOAD_URL, elsewhere));
        let answer = start(public.addr(), START, public.token("free")).send().await;
        assert_eq!(answer.header(UPLOAD_URL), Some(elsewhere), "it is not the provider's");
    }
    assert_eq!(public.metric("keygate_upload_urls_unchanged_total"), 3.0);
}

#[tokio::test]
async fn control_urls_are_tickets_too_and_a_key_in_them_never_passes() {
    let setup = setup(&yaml()).await;
    let url = format!("{}{START}?upload_id=c", setup.upstream.url());
    setup.upstream.answer(Answer::json(200, "{}").header("x-goog-upload-control-url", &url));
    let answer = start(setup.addr(), START, setup.token("free")).send().await;
    let control = answer.header("x-goog-upload-control-url").expect("it is there");
    assert!(control.starts_with("https://gate.test/upload/v1beta/files?upload_id=c&"), "{control}");
    let leaking = format!("{url}&key={}", setup.key("gemini"));
    setup.upstream.answer(Answer::json(200, "{}").header(UPLOAD_URL, leaking));
    let answer = start(setup.addr(), START, setup.token("free")).send().await;
    assert_eq!(answer.header(UPLOAD_URL), None, "a header with the key goes no further");
}

/// A second gateway as a process of its own, over the same store.
#[tokio::test]
async fn another_process_over_the_same_store_carries_the_upload_on() {
    // Both by the system's clock: they have to agree.
    let mut first = Setup::at(&yaml(), Clock::system()).await;
    answer_uploads(&first.upstream);
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let file = first.dir().join("keygate.yaml");
    let serve = ["serve", "-c", file.to_str().expect("a path")];
    let mut process = keygate_in(&dir, serve).start();
    process.wait_for_stderr("keygate is ready").await;
    let log = process.stderr();
    let (_, rest) = log.split_once("listening on ").expect("its address");
    let addr = rest.split_whitespace().next().expect("it").parse().expect("an address");

    let token = canary::token();
    let store = Sqlite::open(first.dir().join("keygate.db")).expect("opens");
    store.create(&record("upload", &token)).expect("created");
    for addr in [first.addr(), addr] {
        until(addr, &token, 200).await;
    }
    let answer = start(first.addr(), START, &token).send().await;
    let target = target_of(&answer, "https://gate.test");
    first.stop().await;
    let resume = || Request::post(addr, &target).header("X-Goog-Upload-Command", "upload");
    resume().body("a/b", "rest").send().await.assert_status(200);
    let seen = first.upstream.received().pop().expect("it came through");
    assert_eq!(
        (seen.text().as_str(), seen.header("x-goog-api-key")),
        ("rest", Some(first.key("gemini")))
    );
    let disabled = Change { disabled: Some(true), ..Change::default() };
    store.update("tok_upload", &disabled).expect("changed");
    until(addr, &token, 401).await;
    resume().body("a/b", "rest").send().await.assert_denied(401, "token_invalid");
    store.delete("tok_upload").expect("deleted");
    resume().body("a/b", "rest").send().await.assert_denied(401, "token_invalid");
}

/// A client token that may upload, in both forms: the opaque one first.
async fn child(setup: &Setup, parent: &str, more: &str) -> [String; 2] {
    let body = format!(r#"{{"paths":["/upload/*"],"expiresIn":60{more}}}"#);
    let mint = Request::post(setup.addr(), "/v1/client/tokens").bearer(setup.token(parent));
    let answer = mint.json(body).send().await;
    answer.assert_status(200);
    let minted: serde_json::Value = answer.json();
    ["apiKey", "token"].map(|form| {
        let token = minted[form].as_str().expect("text").to_owned();
        canary::adopt_token(&token);
        token
    })
}

fn minting(more: &str) -> String {
    yaml() + &format!("  - {{ name: minter, sha256: $SHA(minter), may_mint: true{more} }}\n")
}

async fn begin_as(setup: &Setup, token: &str) -> String {
    let answer = start(setup.addr(), START, token).send().await;
    answer.assert_status(200);
    target_of(&answer, "https://gate.test")
}

#[tokio::test]
async fn a_client_tokens_ticket_costs_no_use_and_both_legs_are_counted_as_one() {
    let setup = setup(&minting("")).await;
    for form in 0..2 {
        let token = &child(&setup, "minter", r#","singleUse":true"#).await[form];
        let target = begin_as(&setup, token).await;
        // Beside the ticket its token may come along, in whichever form: that is no use either.
        send(&setup, &target, "upload").send().await.assert_status(200);
        send(&setup, &target, "query").bearer(token).send().await.assert_status(200);
        send(&setup, &target, "upload, finalize").send().await.assert_status(200);
        let seen = setup.upstream.received().pop().expect("it came through");
        assert_eq!(seen.header("x-goog-api-key"), Some(setup.key("gemini")));
        let again = start(setup.addr(), START, token).send().await;
        again.assert_denied(401, "token_expired");
    }
}

#[tokio::test]
async fn a_client_tokens_ticket_dies_with_it_and_with_its_parent() {
    let mut setup = setup(&minting("")).await;
    let store = Sqlite::open(setup.dir().join("keygate.db")).expect("opens");
    for form in 0..2 {
        let target = begin_as(&setup, &child(&setup, "minter", "").await[form]).await;
        send(&setup, &target, "upload").send().await.assert_status(200);
        setup.clock.advance(60_000);
        send(&setup, &target, "upload").send().await.assert_denied(401, "token_expired");

        let target = begin_as(&setup, &child(&setup, "minter", "").await[form]).await;
        let (_, records) = store.clients_since(0).expect("it reads");
        let newest = records.iter().rfind(|record| !record.revoked).expect("one");
        store.revoke_client(&newest.id).expect("revoked");
        let begun = Instant::now();
        while send(&setup, &target, "upload").send().await.status != 401 {
            assert!(begun.elapsed() < Duration::from_secs(10), "it is revoked soon");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        send(&setup, &target, "upload").send().await.assert_denied(401, "token_invalid");

        let target = begin_as(&setup, &child(&setup, "minter", "").await[form]).await;
        let reached = setup.upstream.received().len();
        for (change, code) in [
            (", disabled: true", "token_invalid"),
            (", expires_at: '2020-01-01T00:00:00Z'", "token_expired"),
        ] {
            setup.reload(&minting(change)).await.expect("a good configuration");
            send(&setup, &target, "upload").send().await.assert_denied(401, code);
        }
        setup.reload(&yaml()).await.expect("a good configuration");
        send(&setup, &target, "upload").send().await.assert_denied(401, "token_invalid");
        assert_eq!(setup.upstream.received().len(), reached, "no key may leave on a denial");
        setup.reload(&minting("")).await.expect("a good configuration");
        send(&setup, &target, "upload").send().await.assert_status(200);
    }
}

/// Asks with `token` until it gets `status`: other processes follow the store within a second.
async fn until(addr: SocketAddr, token: &str, status: u16) {
    let begun = Instant::now();
    while Request::get(addr, "/v1/models").bearer(token).send().await.status != status {
        assert!(begun.elapsed() < Duration::from_secs(10), "{status} must come at {addr}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
