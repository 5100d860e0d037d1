//! A realtime session from a page: an app's server mints a client secret with OpenAI's own library
//! (or asks in an older shape), the page has its value and nothing else.

use super::{LIVE, Rig, logged};
use crate::clients::{Environment, NODE, PYTHON, install};
use crate::support::canary;
use crate::support::gateway::NEW_YEAR_MS;
use crate::support::upstream::Answer;
use crate::support::within;
use serde_json::{Value, json};
use std::time::Duration;

/// Pages come over TLS, the app's server by the second listener. It sends no origin, so its policy
/// lets it do without; pages have one, whether they want to or not.
const CONFIG: &str = "
listen:
  - { address: 127.0.0.1:0, tls: { cert: $PAIR/cert.pem, key: $PAIR/key.pem } }
  - { address: 127.0.0.1:0 }
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
policies:
  site: { origins: ['$APP'], allow_missing_origin: true }
tokens:
  - { name: app, sha256: $SHA(app), may_mint: true, policy: site }
  - { name: anyone, sha256: $SHA(anyone) }
";

/// Messages of a session that is bound to a model are read.
const SPOKEN: &str = r#"{"type":"response.create"}"#;

/// The library, as an app's server runs it.
async fn create(rig: &Rig, environment: Environment, script: &str) -> Value {
    tokio::task::spawn_blocking(install).await.expect("the clients are installed");
    let mut command = environment.command(script);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("KEYGATE_URL", format!("http://{}", rig.setup.tls()));
    command.env("KEYGATE_TOKEN", rig.setup.token("app"));
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it returns").expect("it can be started");
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {problems}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

/// The log's lines of sessions, in their order; minting has its own.
async fn sessions(rig: &Rig) -> Vec<(String, u64, String)> {
    rig.log(0).await.into_iter().filter(|line| line.0 == "GET").collect()
}

/// A page of the app, and one of somebody else, each with this value.
async fn speak(rig: &Rig, value: &str) {
    canary::adopt_token(value);
    let upstream = &rig.setup.upstream;
    let (before, lines) = (upstream.received().len(), sessions(rig).await.len());
    let offers = json!(["realtime", format!("openai-insecure-api-key.{value}")]);
    upstream.answer(Answer::websocket().choose_protocol(Some("realtime")));
    let gateway = json!({ "url": rig.url });
    let app = rig.app_page().await;
    let got = app.call("app.converse", json!([gateway, LIVE, offers, SPOKEN])).await;
    let right = json!({ "heard": SPOKEN, "protocol": "realtime", "code": 1000, "wasClean": true });
    assert_eq!(got, Ok(right), "the app's own page opens a session");
    let seen = rig.only_new(before);
    rig.assert_swapped(&seen, "authorization", &rig.openai());
    assert!(!String::from_utf8_lossy(&seen.raw).contains(value), "no token reached the provider");

    let foreign = rig.foreign_page().await;
    let refused = foreign.call("app.converse", json!([gateway, LIVE, offers, "stolen"])).await;
    assert_eq!(refused.expect_err("a foreign page is refused")["code"], 1006);
    let other = "/v1/realtime?model=gpt-realtime-mini";
    let refused = app.call("app.converse", json!([gateway, other, offers, "cheaper"])).await;
    assert_eq!(refused.expect_err("another model is refused")["code"], 1006);
    assert_eq!(upstream.received().len(), before + 1, "no key may leave on a denial");
    let log = within("a line for each session", async {
        loop {
            let log = sessions(rig).await;
            if log.len() >= lines + 3 {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let expected = [
        logged("GET", 101, ""),
        logged("GET", 403, "origin_not_allowed"),
        logged("GET", 403, "model_not_allowed"),
    ];
    assert_eq!(log[lines..], expected, "why, the operator can see");
}

async fn by_library(environment: Environment, script: &str) {
    let rig = Rig::with(CONFIG).await;
    let secret = create(&rig, environment, script).await;
    assert_eq!(secret["expires_at"], NEW_YEAR_MS / 1_000 + 120, "{secret}");
    assert_eq!((&secret["type"], &secret["model"]), (&json!("realtime"), &json!("gpt-realtime")));
    assert_eq!(secret["output_modalities"], json!(["text"]), "the session as it was asked for");
    assert!(rig.setup.upstream.received().is_empty(), "the provider never mints");
    speak(&rig, secret["value"].as_str().expect("a value")).await;
}

#[tokio::test]
async fn a_secret_of_openai_for_python_opens_a_session_from_the_apps_page_alone() {
    by_library(PYTHON, "openai_client_secret.py").await;
}

#[tokio::test]
async fn a_secret_of_openai_for_javascript_opens_a_session_from_the_apps_page_alone() {
    by_library(NODE, "openai_client_secret.mjs").await;
}

#[tokio::test]
async fn secrets_of_the_older_shapes_open_sessions_too() {
    let rig = Rig::with(CONFIG).await;
    let transcription = json!({ "input_audio_transcription": { "model": "gpt-realtime" } });
    for (path, body) in [
        ("/v1/realtime/sessions", json!({ "model": "gpt-realtime", "voice": "verse" })),
        ("/openai/v1/realtime/sessions", json!({ "model": "gpt-realtime" })),
        ("/v1/realtime/transcription_sessions", transcription),
        (
            "/v1/realtime/translations/client_secrets",
            json!({ "session": { "type": "realtime", "model": "gpt-realtime" } }),
        ),
    ] {
        let before = rig.setup.upstream.received().len();
        let ask = crate::support::client::Request::post(rig.setup.tls(), path);
        let answer = ask.bearer(rig.setup.token("app")).json(&body).send().await;
        answer.assert_status(200);
        assert_eq!(rig.setup.upstream.received().len(), before, "{path}: the provider never mints");
        let session: Value = answer.json();
        let value = session.pointer("/client_secret/value").or(session.get("value"));
        let value = value.and_then(Value::as_str).unwrap_or_else(|| panic!("{path}: {session}"));
        speak(&rig, value).await;
    }
}
