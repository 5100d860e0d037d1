//! Ways around the gate's checks, and what each comes to.

use crate::support::client::Raw;
use crate::support::gateway::{ALL, Setup, record};
use crate::support::upstream::Answer;
use crate::support::ws;
use keygate::store::Sqlite;
use keygate::token::store::{Change, Record, TokenStore};
use std::sync::atomic::Ordering::Acquire;
use std::time::{Duration, Instant};

const FORBIDDEN: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[tokio::test]
async fn upgrade_does_not_hide_a_body_from_the_model_check() {
    let setup = Setup::all().await;
    for connection in ["Upgrade", "keep-alive"] {
        let answer = setup
            .request("POST", "/v1/chat/completions?model=gpt-4o-mini")
            .bearer(setup.token("scoped"))
            .header("Connection", connection)
            .header("Upgrade", "websocket")
            .json(FORBIDDEN)
            .send()
            .await;
        assert!(answer.status >= 400, "{connection}: {} {}", answer.status, answer.text());
        assert!(
            setup.upstream.received().is_empty(),
            "the upstream of a denied request saw nothing"
        );
    }
}

#[tokio::test]
async fn an_encoded_path_does_not_hide_the_model_in_it() {
    let setup = Setup::all().await;
    for target in [
        "/v1beta/m%6fdels/gemini-2.5-pro:generateContent?model=gemini-2.5-flash",
        "/v1beta/m%6fdels/gemini-2.5-pro:generateContent",
        "/v1%62eta/models/gemini-2.5-pro:generateContent",
        "/gemini/v1%62eta/models/gemini-2.5-pro:generateContent",
    ] {
        let answer = setup
            .request("POST", target)
            .bearer(setup.token("scoped"))
            .json(r#"{"model":"gemini-2.5-flash"}"#)
            .send()
            .await;
        assert!(
            answer.status >= 400 && setup.upstream.received().is_empty(),
            "{target}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn a_model_in_the_query_does_not_stand_for_those_in_frames() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    let auth = format!("Bearer {}", setup.token("scoped"));
    for path in [
        "/v1/responses?model=gpt-4o-mini",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?model=gemini-2.5-flash",
    ] {
        let opened = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
        let (mut socket, _) = opened.expect("its messages are read");
        socket.say(r#"{"type":"response.create","input":"hi"}"#).await;
        let close = socket.hear_close().await;
        assert_eq!(close, (1008, "model_not_allowed".into()), "{path}: frames choose the model");
        assert!(setup.upstream.texts().is_empty(), "{path}: it never arrived");
    }
}

#[tokio::test]
async fn the_log_names_the_model_that_was_refused_and_no_token_in_its_place() {
    let setup = Setup::all().await;
    let token = setup.token("scoped");
    let cases = [("gpt-4o", "gpt-4o"), (token, &token[..32]), ("gpt\"ü\\", "gpt\"ü\\")];
    for (number, (model, logged)) in cases.into_iter().enumerate() {
        let request = setup.request("POST", "/v1/chat/completions").bearer(token);
        let answer = request.json(serde_json::json!({ "model": model })).send().await;
        answer.assert_denied(403, "model_not_allowed");
        until("its line", || setup.access_log().len() > number).await;
        let line = setup.access_log().pop().expect("it is there");
        assert_eq!(line["model"], *logged, "{line}");
    }
    assert!(setup.upstream.received().is_empty(), "the upstream saw nothing");
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_token_disabled_while_its_body_is_read_does_not_pass() {
    let yaml = ALL.to_owned();
    let setup = Setup::with(&yaml).await;
    let token = crate::support::canary::token();
    let store = Sqlite::open(setup.dir().join("keygate.db")).expect("opens");
    let record = Record { policy: Some("scoped".into()), ..record("test", &token) };
    let gateway = setup.running().gateway().clone();
    let known = || gateway.index.lookup(&record.digest);
    store.create(&record).expect("created");
    until("the token is known", || known().is_some()).await;
    let body = r#"{"model":"gpt-4o-mini"}"#;
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len(),
    ))
    .await;
    let go = raw.read_some().await;
    assert!(go.starts_with(b"HTTP/1.1 100"), "it has been authenticated, and its body is wanted");
    let before = gateway.changes.load(Acquire);
    store.update(&record.id, &Change { disabled: Some(true), ..Change::default() }).expect("ok");
    let told = || gateway.changes.load(Acquire) > before && known().is_some_and(|t| t.disabled);
    until("sessions have been asked about", told).await;
    raw.send(body).await;
    let answer = raw.read_response().await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(setup.upstream.received().is_empty());
}

#[tokio::test]
async fn a_session_on_a_named_path_without_a_model_passes_and_outlives_a_reload() {
    let yaml = ALL
        .replace("policies:", "policies:\n  files: { models: [m], paths: ['/v1/files*'] }")
        + "  - { name: files, sha256: $SHA(files), policy: files }\n";
    let mut setup = Setup::with(&yaml).await;
    setup.upstream.answer(Answer::sse(["one", "two"]).gated());
    let get = setup.request("GET", "/v1/files/f/content").bearer(setup.token("files"));
    let mut open = get.open().await;
    setup.upstream.release();
    assert_eq!(open.next_event().await.expect("an event").data, "one");
    setup.reload(&yaml).await.expect("nothing has changed");
    setup.upstream.release();
    assert!(open.rest().await.complete, "nothing of its grant has changed");
}

#[tokio::test]
async fn an_absolute_target_becomes_the_providers_own() {
    let setup = Setup::all().await;
    for target in [
        "http://h/v1/models",
        "http://evil/v1/models",
        "HTTP://h/v1/models?key=x",
        "h:80",
        "*",
        "//evil.test/v1/models",
        "http:///v1/models",
        "/v1/models#f",
        "http://u@h/v1/models",
        "http://h",
    ] {
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n", setup.token("free"))).await;
        let (bytes, _) = raw.read_until_close().await;
        assert!(bytes.starts_with(b"HTTP/1.1 "), "{target} must be answered");
    }
    for r in setup.upstream.received() {
        assert_eq!(r.target, "/v1/models");
    }
}

#[tokio::test]
async fn the_double_slash_form_is_exact() {
    let setup = Setup::all().await;
    for target in [
        "/v1/files//ws/google.ai.generativelanguage.x",
        "/openai/v1//ws/google.ai.generativelanguage.x",
    ] {
        let answer = setup.request("GET", target).bearer(setup.token("free")).send().await;
        assert_eq!(answer.status, 400, "{target}");
    }
}

#[tokio::test]
async fn another_spelling_of_model_is_no_way_around() {
    let setup = Setup::all().await;
    let answer = setup
        .request("POST", "/v1/chat/completions?model=gpt-4o-mini")
        .bearer(setup.token("scoped"))
        .json(r#"{"Model":"gpt-4o"}"#)
        .send()
        .await;
    assert!(answer.status >= 400 && setup.upstream.received().is_empty(), "{}", answer.status);
}
