//! A token for one model names another where a provider, a router or another parser would find it:
//! nothing of the request may leave.

use crate::support::client::Request;
use crate::support::gateway::Setup;
use crate::support::upstream::Answer;
use crate::support::ws;

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  anthropic: { kind: anthropic, url: $UPSTREAM, keys: [{ file: $KEY(anthropic) }] }
  gemini: { kind: gemini, url: $UPSTREAM, keys: [{ file: $KEY(gemini) }] }
policies:
  small: { models: [small] }
  anywhere: { models: [small], paths: ['/*'] }
tokens:
  - { name: small, sha256: $SHA(small), policy: small }
  - { name: anywhere, sha256: $SHA(anywhere), policy: anywhere }
";

fn post(setup: &Setup, path: &str, body: &str) -> Request {
    setup.request("POST", path).bearer(setup.token("anywhere")).json(body)
}

#[tokio::test]
async fn members_that_name_another_model_are_found() {
    let setup = Setup::with(CONFIG).await;
    for (path, body) in [
        ("/v1/messages", r#"{"model":"small","fallbacks":[{"model":"LARGE"}]}"#),
        ("/v1/messages", r#"{"model":"small","fallbacks":["LARGE"]}"#),
        ("/v1/messages", r#"{"model":"small","fallbacks":"default"}"#),
        (
            "/anthropic/v1/messages/batches",
            r#"{"requests":[{"params":{"model":"small","tools":[{"model":"LARGE"}]}}]}"#,
        ),
        ("/v1/chat/completions", r#"{"model":"small","models":["LARGE"]}"#),
        ("/v1/chat/completions", r#"{"model":"small","fallbacks":[{"model":"LARGE"}]}"#),
        (
            "/v1/live/sessions",
            r#"{"session":{"model":"small","delegation":{"responses":{"model":"LARGE"}}}}"#,
        ),
        ("/v1beta/interactions", r#"{"agent":"small","agent_config":{"model":"LARGE"}}"#),
        (
            "/v1beta/models/small:batchGenerateContent",
            r#"{"batch":{"inputConfig":{"requests":{"requests":[{"request":{"model":"models/LARGE"}}]}}}}"#,
        ),
        ("/v1beta/openai/responses", r#"{"model":"small","tools":[{"model":"LARGE"}]}"#),
    ] {
        let path = if body.contains("fallbacks") && path == "/v1/messages" {
            "/anthropic/v1/messages"
        } else {
            path
        };
        post(&setup, path, body).send().await.assert_denied(403, "model_not_allowed");
        let allowed = body.replace("LARGE", "small").replace("default", "small");
        let before = setup.upstream.received().len();
        post(&setup, path, &allowed).send().await.assert_status(200);
        assert_eq!(setup.upstream.received().len(), before + 1, "only this one left: {path}");
        assert!(!String::from_utf8_lossy(&setup.upstream.received()[before].raw).contains("LARGE"));
    }
}

#[tokio::test]
async fn path_and_body_of_gemini_agree() {
    let setup = Setup::with(CONFIG).await;
    let path = "/v1beta/models/small:generateContent";
    for body in [r#"{"model":"models/LARGE","contents":[]}"#, r#"{"agent":"LARGE"}"#] {
        post(&setup, path, body).send().await.assert_denied(400, "ambiguous_model");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
    for body in [r#"{"model":"models/small","contents":[]}"#, r#"{"contents":[]}"#] {
        post(&setup, path, body).send().await.assert_status(200);
    }
}

#[tokio::test]
async fn a_live_session_of_openai_begins_with_its_model_and_keeps_to_it() {
    let setup = Setup::with(CONFIG).await;
    let auth = format!("Bearer {}", setup.token("anywhere"));
    let start = r#"{"type":"session.start","session":{"model":"small"}}"#;
    for (path, good, bad) in [
        ("/v1/live/sessions", None, r#"{"type":"session.start","session":{}}"#),
        ("/v1/live/sessions/x/fork", None, r#"{"type":"session.start"}"#),
        ("/v1/live/sessions", None, r#"{"type":"session.start","session":{"model":"LARGE"}}"#),
        (
            "/v1/live/sessions",
            Some(start),
            r#"{"type":"session.update","session":{"delegation":{"responses":{"model":"LARGE"}}}}"#,
        ),
        (
            "/v1/live/sessions",
            Some(start),
            r#"{"type":"session.update","session":{"delegation":{"decisions":{"model":"LARGE"}}}}"#,
        ),
    ] {
        setup.upstream.answer(Answer::websocket());
        let opened = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
        let mut socket = opened.expect("it opens").0;
        if let Some(good) = good {
            socket.say(good).await;
            assert_eq!(socket.hear().await, good, "what names the token's model passes");
        }
        socket.say(bad).await;
        assert_eq!(socket.hear_close().await, (1008, "model_not_allowed".into()), "{bad}");
        let connection = setup.upstream.connections().len() - 1;
        setup.upstream.wait_for_close_of(connection).await;
        let seen = setup.upstream.sockets().pop().expect("a socket");
        assert_eq!(seen.texts(), good.as_slice(), "{bad}: the provider never had it");
    }
}

#[tokio::test]
async fn a_body_that_its_type_says_is_something_else_is_not_read_as_json() {
    let setup = Setup::with(CONFIG).await;
    let body = r#"{"model":"small","x":"&model=LARGE&y="}"#;
    for kind in [
        "application/x-www-form-urlencoded",
        "multipart/related; boundary=b",
        "application/json; charset=utf-7",
        "application/json; charset=UTF-16",
        "application/json; charset*=utf-8''utf-7",
        "multipart/related; x=\u{e9}",
    ] {
        let asked = setup.request("POST", "/v1/chat/completions").bearer(setup.token("small"));
        let asked = asked.body(kind, body);
        asked.send().await.assert_denied(415, "unsupported_body");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
    for kind in ["application/json; charset=utf-8", "application/json; charset=\"UTF-8\""] {
        let asked = setup.request("POST", "/v1/chat/completions").bearer(setup.token("small"));
        asked.body(kind, body).send().await.assert_status(200);
    }
}

#[tokio::test]
async fn a_socket_that_nobody_would_read_does_not_open() {
    let setup = Setup::with(CONFIG).await;
    let auth = format!("Bearer {}", setup.token("anywhere"));
    for path in ["/v1/models", "/v1/models/small", "/v1beta/openai/responses?model=small"] {
        let refused = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
        assert!(refused.is_err(), "{path} must not open");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
}

#[tokio::test]
async fn a_model_behind_a_semicolon_is_ambiguous() {
    let setup = Setup::with(CONFIG).await;
    for query in ["model=small&x=1;model=LARGE", "x=1;Model=LARGE&model=small"] {
        let path = format!("/v1/chat/completions?{query}");
        let denied = post(&setup, &path, r#"{"model":"small"}"#).send().await;
        denied.assert_denied(400, "ambiguous_model");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
}
