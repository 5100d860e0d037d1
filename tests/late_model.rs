//! Bodies that are longer than what is read ahead: they go to the provider while they are searched,
//! and what may not pass leaves it with an incomplete request.

use crate::support::client::{Request, Response};
use crate::support::gateway::{ALL, Setup};
use crate::support::tls::H2;
use crate::support::upstream::Answer;
use crate::support::within;
use serde_json::Value;

/// Longer than what is read ahead, and no multiple of any chunk.
const FILLER: usize = 300_001;

fn config() -> String {
    let tls = "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]";
    ALL.replace("listen: [{ address: 127.0.0.1:0 }]", tls).replace(
        "policies:",
        "policies:\n  twice: { models: [gpt-4o-mini], rate_limit: { requests: 2, per: 60s } }",
    ) + "  - { name: twice, sha256: $SHA(twice), policy: twice }\n"
}

/// A long body that ends with `end`.
fn long(end: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"{}"}}]{end}"#, "a".repeat(FILLER))
}

/// How a request gets to the gateway.
#[derive(Debug, Clone, Copy)]
enum Way {
    Length,
    Chunked,
    Http2,
    Http2WithoutLength,
}

const WAYS: [Way; 4] = [Way::Length, Way::Chunked, Way::Http2, Way::Http2WithoutLength];

impl Way {
    async fn send(self, setup: &Setup, request: Request) -> Response {
        match self {
            Self::Length => request.send().await,
            Self::Chunked => request.chunked(10_007).send().await,
            Self::Http2 => H2::connect(setup.tls()).await.send(request).await,
            Self::Http2WithoutLength => {
                H2::connect(setup.tls()).await.send(request.chunked(10_007)).await
            }
        }
    }
}

/// The last line of the log, which is written when a request is over.
async fn last_line(setup: &Setup) -> Value {
    within("a line", async {
        loop {
            match setup.access_log().pop() {
                Some(line) => return line,
                None => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    })
    .await
}

fn post(setup: &Setup, token: &str, body: &str) -> Request {
    setup.request("POST", "/v1/chat/completions").bearer(setup.token(token)).json(body)
}

#[tokio::test]
async fn a_model_at_the_end_of_a_long_body_is_found_and_the_body_arrives() {
    for way in WAYS {
        let setup = Setup::with(&config()).await;
        let body = long(r#","model":"gpt-4o-mini"}"#);
        way.send(&setup, post(&setup, "scoped", &body)).await.assert_status(200);
        let seen = setup.upstream.only_request();
        assert!(seen.complete && seen.text() == body, "{way:?}: every byte arrived once");
        setup.assert_nothing_is_left_open().await;
        let line = setup.access_log().pop().expect("a line");
        assert_eq!(line["model"], "gpt-4o-mini", "{way:?}: the log knows the model");
        assert_eq!(line["bytes_in"], body.len(), "{way:?}");
    }
}

#[tokio::test]
async fn what_may_not_pass_leaves_the_provider_with_an_incomplete_request() {
    let cases = [
        (r#","model":"gpt-4o"}"#, 403, "model_not_allowed"),
        ("}", 403, "model_not_allowed"),
        (r#","model":"gpt-4o-mini","model":"gpt-4o"}"#, 400, "ambiguous_model"),
        (r#","model":"gpt-4o-mini","mod\u0065l":"gpt-4o"}"#, 400, "ambiguous_model"),
        (r#","model":"gpt-4o-mini","MODEL":"gpt-4o"}"#, 400, "ambiguous_model"),
        (r#","model":"gpt-4o-mini","tools":[{"model":"gpt-4o"}]}"#, 403, "model_not_allowed"),
        (r#","model":"gpt-4o-mini","x":nul}"#, 400, "invalid_body"),
        (r#","model":"gpt-4o-mini""#, 400, "invalid_body"),
        (r#","model":"gpt-4o-mini"}{"model":"gpt-4o"}"#, 400, "invalid_body"),
        (r#","model":"gpt-4o-mini"} x"#, 400, "invalid_body"),
        (r#","model":["gpt-4o-mini"]}"#, 400, "ambiguous_model"),
    ];
    for way in WAYS {
        for (end, status, code) in cases {
            let setup = Setup::with(&config()).await;
            let body = long(end);
            let answer = way.send(&setup, post(&setup, "scoped", &body).sends_first()).await;
            answer.assert_denied(status, code);
            setup.upstream.wait_for_close().await;
            for seen in setup.upstream.received() {
                assert!(!seen.complete, "{way:?} {end}: the request must stay incomplete");
                assert!(seen.body.len() < body.len(), "{way:?} {end}: the last byte stays here");
                assert!(body.as_bytes().starts_with(&seen.body), "{way:?} {end}: unchanged");
            }
            setup.assert_nothing_is_left_open().await;
            let line = last_line(&setup).await;
            let model = if end.contains(r#":"gpt-4o"}"#) && status == 403 {
                "gpt-4o".into()
            } else {
                Value::Null
            };
            assert_eq!(line["model"], model, "{way:?} {end}: the log says what was refused");
        }
    }
}

#[tokio::test]
async fn the_last_byte_alone_is_held_back_too() {
    let setup = Setup::with(&config()).await;
    let body = long(r#","model":"gpt-4o-mini"}x"#);
    let mut raw = crate::support::client::Raw::connect(setup.addr()).await;
    let bytes = post(&setup, "scoped", &body).to_bytes();
    let (head, last) = bytes.split_at(bytes.len() - 1);
    raw.send(head).await;
    let seen = setup.upstream.wait_for_heads(1).await;
    assert_eq!(seen.len(), 1, "the key's own provider has the head already");
    raw.send(last).await;
    raw.read_response().await.assert_denied(400, "invalid_body");
    setup.upstream.wait_for_close().await;
    assert!(!setup.upstream.only_request().complete);
}

#[tokio::test]
async fn what_path_and_query_say_is_decided_before_the_provider_sees_anything() {
    let setup = Setup::with(&config()).await;
    let body = long(r#","model":"gpt-4o-mini"}"#);
    let at = |target: &str| setup.request("POST", target).bearer(setup.token("scoped"));
    let forbidden = at("/v1/chat/completions?model=gpt-4o").json(&body);
    forbidden.sends_first().send().await.assert_denied(403, "model_not_allowed");
    let compressed = post(&setup, "scoped", &body).header("Content-Encoding", "gzip");
    compressed.sends_first().send().await.assert_denied(415, "unsupported_body");
    assert!(setup.upstream.received().is_empty(), "the upstream saw nothing");
    let differs = at("/v1/chat/completions?model=gpt-realtime").json(&body);
    differs.sends_first().send().await.assert_denied(400, "ambiguous_model");
    setup.upstream.wait_for_close().await;
    assert!(!setup.upstream.only_request().complete, "the body disagreed");
}

#[tokio::test]
async fn pending_denials_count_against_the_rate() {
    let setup = Setup::with(&config()).await;
    let body = long(r#","model":"gpt-4o"}"#);
    for _ in 0..2 {
        let answer = post(&setup, "twice", &body).sends_first().send().await;
        answer.assert_denied(403, "model_not_allowed");
    }
    setup.upstream.wait_for_close().await;
    let before = setup.upstream.received().len();
    let answer = post(&setup, "twice", &body).sends_first().send().await;
    answer.assert_denied(429, "rate_limited");
    assert_eq!(setup.upstream.received().len(), before, "the rate comes before the provider");
}

#[tokio::test]
async fn a_body_that_grows_over_the_limit_is_cut_off() {
    let yaml = format!("{}limits: {{ max_body: 200KiB }}\n", config());
    for way in [Way::Chunked, Way::Http2WithoutLength] {
        let setup = Setup::with(&yaml).await;
        let body = long(r#","model":"gpt-4o-mini"}"#);
        let answer = way.send(&setup, post(&setup, "scoped", &body).sends_first()).await;
        answer.assert_denied(413, "body_too_large");
        setup.upstream.wait_for_close().await;
        assert!(!setup.upstream.only_request().complete, "{way:?}");
    }
}

const FORM: &str = "multipart/form-data; boundary=xyz";

/// A form with a file of so many bytes between `before` and `after`.
fn form(before: &str, file: usize, after: &str) -> Vec<u8> {
    let head = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";
    let sound: Vec<u8> = (0..file).map(|n| (n * 31 % 251) as u8).collect();
    [before.as_bytes(), head.as_bytes(), &sound, b"\r\n", after.as_bytes(), b"--xyz--\r\n"].concat()
}

fn field(name: &str, value: &str) -> String {
    format!("--xyz\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
}

#[tokio::test]
async fn a_form_s_model_is_found_before_and_behind_files_of_any_size() {
    let model = field("model", "gpt-4o-mini");
    for file in [10, 300_001] {
        for way in WAYS {
            let setup = Setup::with(&config()).await;
            let post = |body: &[u8]| {
                let request = setup.request("POST", "/v1/audio/transcriptions");
                request.bearer(setup.token("scoped")).body(FORM, body)
            };
            let bodies = [form(&model, file, ""), form("", file, &model)];
            for body in &bodies {
                way.send(&setup, post(body)).await.assert_status(200);
            }
            let seen = setup.upstream.wait_for(2).await;
            assert!(seen.iter().zip(&bodies).all(|(s, body)| s.complete && s.body == *body));
        }
    }
}

#[tokio::test]
async fn a_form_that_may_not_pass_never_arrives_whole() {
    let good = field("model", "gpt-4o-mini");
    let cases = [
        (field("model", "gpt-4o"), 403, "model_not_allowed"),
        (String::new(), 403, "model_not_allowed"),
        (field("Model", "gpt-4o-mini"), 403, "model_not_allowed"),
        (format!("{good}{good}"), 400, "ambiguous_model"),
        (format!("{good}{}", field("MODEL", "gpt-4o-mini")), 400, "ambiguous_model"),
        (format!("{good}{}", field("tools[0][model]", "gpt-4o")), 403, "model_not_allowed"),
        (format!("{good}{}", field("session", r#"{"model":"gpt-4o"}"#)), 403, "model_not_allowed"),
        (good.replace("\"model\"", "\"model\"; filename=\"m\""), 400, "invalid_body"),
        (good.replace("\"model\"", "\"model\"; filename*=utf-8''m"), 400, "invalid_body"),
        (good.replace("--xyz\r\n", "--xyz\n"), 400, "invalid_body"),
        (format!("{good}--xyz--\r\n{}", field("model", "gpt-4o")), 400, "invalid_body"),
    ];
    for file in [10, 300_001] {
        for (fields, status, code) in &cases {
            let setup = Setup::with(&config()).await;
            let body = form("", file, fields);
            let request = setup.request("POST", "/v1/images/edits").bearer(setup.token("scoped"));
            let answer = request.body(FORM, &*body).sends_first().send().await;
            answer.assert_denied(*status, code);
            setup.assert_nothing_is_left_open().await;
            if file < 65_536 {
                assert!(setup.upstream.received().is_empty(), "{fields}: nothing was seen");
                continue;
            }
            setup.upstream.wait_for_close().await;
            let seen = setup.upstream.only_request();
            assert!(!seen.complete && seen.body.len() < body.len(), "{fields}");
        }
    }
}

#[tokio::test]
async fn a_form_without_one_boundary_is_refused_before_it_is_read() {
    let setup = Setup::with(&config()).await;
    let body = form(&field("model", "gpt-4o-mini"), 300_001, "");
    for bad in ["multipart/form-data", "multipart/form-data; boundary=xyz; boundary=abc"] {
        let request = setup.request("POST", "/v1/images/edits").bearer(setup.token("scoped"));
        let answer = request.body(bad, &*body).sends_first().send().await;
        answer.assert_denied(400, "invalid_body");
    }
    let request = setup.request("POST", "/v1/images/edits").bearer(setup.token("scoped"));
    let two = request.header("Content-Type", "application/json").body(FORM, &*body);
    two.sends_first().send().await.assert_denied(400, "invalid_body");
    assert!(setup.upstream.received().is_empty(), "the upstream saw nothing");
}

#[tokio::test]
async fn tokens_without_models_are_not_searched() {
    let setup = Setup::with(&config()).await;
    let body = long("no JSON at all");
    post(&setup, "free", &body).send().await.assert_status(200);
    assert_eq!(setup.upstream.only_request().text(), body);
}

#[tokio::test]
async fn chunks_around_the_limit_of_what_is_read_ahead_arrive_whole() {
    let setup = Setup::with(&config()).await;
    let h2 = H2::connect(setup.tls()).await;
    for length in [40_000, 49_152, 60_000, 65_535, 65_536, 65_537, 70_000, 131_072] {
        let start = r#"{"model":"gpt-4o-mini","x":""#;
        let body = format!("{start}{}\"}}", "a".repeat(length - start.len() - 2));
        let request = || post(&setup, "scoped", &body);
        request().send().await.assert_status(200);
        request().chunked(9_001).send().await.assert_status(200);
        request().chunked(length).send().await.assert_status(200);
        h2.send(request()).await.assert_status(200);
        h2.send(request().chunked(1)).await.assert_status(200);
    }
    for seen in setup.upstream.wait_for(40).await {
        assert!(seen.complete && seen.json()["model"] == "gpt-4o-mini", "{seen:?}");
    }
}

#[tokio::test]
async fn an_answer_to_half_a_request_is_not_passed_on() {
    let setup = Setup::with(&config()).await;
    setup.upstream.answer(Answer::json(200, "{}").early());
    let body = long(r#","model":"gpt-4o"}"#);
    let mut raw = crate::support::client::Raw::connect(setup.addr()).await;
    let bytes = post(&setup, "scoped", &body).to_bytes();
    raw.send(&bytes[..bytes.len() / 2]).await;
    raw.read_response().await.assert_denied(502, "upstream_unreachable");
    setup.assert_nothing_is_left_open().await;
}

#[tokio::test]
async fn a_caller_that_waits_for_100_is_told_to_go_on() {
    let setup = Setup::with(&config()).await;
    let body = long(r#","model":"gpt-4o-mini"}"#);
    let request = post(&setup, "scoped", &body).header("Expect", "100-continue");
    let bytes = request.to_bytes();
    let (head, body) = bytes.split_at(bytes.len() - body.len());
    let mut raw = crate::support::client::Raw::connect(setup.addr()).await;
    raw.send(head).await;
    let told = String::from_utf8(raw.read_some().await).expect("ASCII");
    assert!(told.starts_with("HTTP/1.1 100 Continue"), "{told}");
    raw.send(body).await;
    raw.read_response().await.assert_status(200);
}
