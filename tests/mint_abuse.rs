//! What hostile eyes look for in client tokens: real credentials by another path, a life that is
//! longer than it was given, and restrictions that two readers read differently.

use crate::support::canary;
use crate::support::gateway::{Setup, record};
use crate::support::upstream::Answer;
use keygate::store::Sqlite;
use keygate::token::store::{Change, TokenStore};
use serde_json::Value;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
store: { sqlite: $DIR/keygate.db }
public_url: https://gate.test
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  gemini: { kind: gemini, url: $UPSTREAM, keys: [{ file: $KEY(gemini) }] }
  anything: { kind: generic, url: $UPSTREAM, keys: [{ file: $KEY(anything) }] }
policies:
  expiring: { end_at_expiry: true }
tokens:
  - { name: free, sha256: $SHA(free) }
  - { name: server, sha256: $SHA(server), may_mint: true }
  - { name: ending, sha256: $SHA(ending), may_mint: true, expires_at: '2026-01-01T00:00:00.500Z' }
";

#[tokio::test]
async fn a_real_minting_endpoint_is_never_reached_at_whatever_depth() {
    let setup = Setup::with(CONFIG).await;
    for path in [
        "/openai/openai/v1/realtime/client_secrets",
        "/openai/openai/realtimeapi/sessions",
        "/openai/v1/v1/realtime/sessions",
        "/openai/v1/realtime/client_secrets%20",
        "/openai/v1/realtime/client_secrets%3fx",
        "/anything/some/proxy/v1/realtime/client_secrets",
        "/anything/v1alpha/auth_tokens:create",
        "/gemini/$rpc/google.ai.generativelanguage.v1alpha.AuthTokenService/CreateToken",
        "/gemini/batch",
        "/gemini/batch/generativelanguage/v1beta",
    ] {
        for method in ["POST", "GET", "PUT"] {
            let asked = setup.request(method, path).bearer(setup.token("free")).json("{}");
            asked.send().await.assert_denied(403, "may_not_mint");
        }
    }
    assert!(setup.upstream.received().is_empty(), "nothing of it may reach a provider");
    let other = setup.request("GET", "/anything/tools/client/list").bearer(setup.token("free"));
    other.send().await.assert_status(200);
}

#[tokio::test]
async fn a_method_cannot_be_another_than_the_one_that_was_checked() {
    let setup = Setup::with(CONFIG).await;
    let asked = setup
        .request("POST", "/v1/responses/resp_1")
        .bearer(setup.token("free"))
        .header("X-HTTP-Method-Override", "DELETE")
        .header("x-http-method", "DELETE")
        .header("X-Method-Override", "DELETE");
    asked.json("{}").send().await.assert_status(200);
    let seen = setup.upstream.received();
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        assert_eq!(seen[0].header(name), None, "{name} goes no further");
    }
}

#[tokio::test]
async fn what_is_open_follows_an_expiry_that_was_changed() {
    let setup = Setup::with(CONFIG).await;
    let store = Sqlite::open(setup.dir().join("keygate.db")).expect("it opens");
    let plain = canary::token();
    let mut kept = record("shortened", &plain);
    kept.policy = Some("expiring".into());
    kept.expires_at = Some("2026-01-02T00:00:00Z".into());
    store.create(&kept).expect("created");
    let begun = Instant::now();
    loop {
        setup.upstream.answer(Answer::json(200, "{}"));
        let asked = setup.request("GET", "/v1/models").bearer(&plain).send().await;
        if asked.status == 200 {
            break;
        }
        assert!(begun.elapsed() < SOON, "a new token must be known soon");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.upstream.answer(Answer::sse(["one"]).endless());
    let mut stream = setup.request("GET", "/v1/stream").bearer(&plain).open().await;
    assert_eq!(stream.next_event().await.expect("an event").data, "one");
    let sooner =
        Change { expires_at: Some(Some("2026-01-01T00:00:01Z".into())), ..Change::default() };
    store.update(&kept.id, &sooner).expect("updated");
    setup.clock.advance(2_000);
    let ended = tokio::time::timeout(SOON, stream.rest()).await.expect("it ends with its token");
    assert!(!ended.complete, "and visibly unfinished");
}

#[tokio::test]
async fn nothing_is_minted_that_has_ended_already() {
    let setup = Setup::with(CONFIG).await;
    let ask = |name: &str| {
        setup.request("POST", "/v1/client/tokens").bearer(setup.token(name)).json("{}").send()
    };
    ask("ending").await.assert_denied(401, "token_expired");
    let minted: Value = ask("server").await.json();
    for form in ["apiKey", "token"] {
        canary::adopt_token(minted[form].as_str().expect("text"));
    }
}

#[tokio::test]
async fn a_restriction_that_could_be_misread_mints_nothing() {
    let setup = Setup::with(CONFIG).await;
    for (path, body) in [
        ("/v1/client/tokens", r#"{"allowedModels":["a"],"allowedModels":["*"]}"#),
        ("/v1alpha/auth_tokens", r#"{"bidi_generate_content_setup":{"model":7}}"#),
        ("/v1alpha/auth_tokens", r#"{"expireTime":null,"expire_time":"2025-01-01T00:00:00Z"}"#),
        ("/v1alpha/auth_tokens", r#"{"expire_time":"2025-01-01T00:00:00Z"}"#),
        ("/v1alpha/auth_tokens", r#"{"usse":1}"#),
        ("/v1/realtime/client_secrets", r#"{"expires_after":{"anchor":5,"seconds":60}}"#),
    ] {
        let asked = setup.request("POST", path).bearer(setup.token("server")).json(body);
        asked.send().await.assert_status(422);
    }
    let long = "m".repeat(5_000);
    let body = format!(r#"{{"session":{{"type":"realtime","model":"{long}"}}}}"#);
    let asked = setup.request("POST", "/v1/realtime/client_secrets").bearer(setup.token("server"));
    asked.json(body).send().await.assert_status(422);
    assert!(setup.upstream.received().is_empty(), "no provider is asked");
}
