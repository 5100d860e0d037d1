//! Plain and streaming requests of every library.

use super::install::{Environment, NODE, NODE_PREVIOUS, PYTHON, PYTHON_PREVIOUS};
use super::rig::{Rig, assert_pieces};
use super::table;
use crate::support::wire::value;
use serde_json::{Value, json};

const TABLE: &str = "Requests and streams";

/// Where the older generation of Anthropic's libraries puts `api_key` and `auth_token`.
const BOTH: &str = "`authorization`, `x-api-key`";

/// What OpenAI's libraries do, in whatever language and version.
async fn openai(client: &str, environment: Environment, script: &str, agent: &str) {
    let rig = Rig::start().await;
    let got = rig.run(environment, script).await;
    assert_eq!(got["chat"], "You said: openai plain chat");
    assert_eq!(got["chat_tokens"], 8, "3 words in, 5 out");
    assert_eq!(got["chat_stream"], "You said: openai streaming chat");
    assert_eq!(got["chat_stream_tokens"], 8, "the usage that was asked for comes at the end");
    assert_pieces(&got["chat_stream_pieces"]);
    assert_eq!(got["response"], "You said: openai plain response");
    assert_eq!(got["response_stream"], "You said: openai streaming response");
    assert_eq!(got["response_stream_ends"], json!(["response.created", "response.completed"]));
    assert_model(&got, "gpt-4o-mini");

    let seen = rig.assert_seen(
        &[
            "POST /v1/chat/completions",
            "POST /v1/chat/completions",
            "POST /v1/responses",
            "POST /v1/responses",
            "GET /v1/models",
        ],
        "authorization",
        &format!("Bearer {}", rig.keys.openai),
    );
    let version = environment.version("openai");
    for request in &seen {
        let sent = value(&request.headers, "user-agent").unwrap_or_default();
        let own = format!("{agent} {version}");
        assert!(sent.starts_with(&own), "the client's own headers pass: {sent}, not {own}");
    }
    let bodies: String = seen.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    for said in ["openai plain chat", "openai streaming chat", "\"include_usage\""] {
        assert!(bodies.contains(said), "the body passes as it is: {said} in {bodies}");
    }
    assert_eq!(rig.statuses(5).await, [200; 5]);
    row(&rig, client, &version, ["chat, responses, models", "chat, responses"]);
}

/// What Anthropic's libraries do; `slots` is where `api_key` and `auth_token` go.
async fn anthropic(client: &str, environment: Environment, script: &str, slots: &str) {
    let rig = Rig::start().await;
    let got = rig.run(environment, script).await;
    for way in ["api_key", "auth_token"] {
        let got = &got[way];
        assert_eq!(got["message"], format!("You said: anthropic plain {way}"));
        assert_eq!(got["tokens"], 5);
        assert_eq!(got["stream"], format!("You said: anthropic streaming {way}"));
        assert_eq!((&got["stream_tokens"], &got["stream_stop"]), (&json!(5), &json!("end_turn")));
        assert_pieces(&got["stream_pieces"]);
    }
    assert_model(&got, "claude-sonnet-5-5");

    let seen = rig.assert_seen(
        &[
            "POST /v1/messages",
            "POST /v1/messages",
            "POST /v1/messages",
            "POST /v1/messages",
            "GET /v1/models",
        ],
        "x-api-key",
        &rig.keys.anthropic,
    );
    let package = match environment {
        Environment::Node(_) => "@anthropic-ai/sdk",
        _ => "anthropic",
    };
    let version = environment.version(package);
    for request in &seen {
        let sent = |name| value(&request.headers, name).unwrap_or_default();
        let said = sent("anthropic-version");
        assert!(said.starts_with("20"), "{}: {said} as it was sent", request.line);
        if let Some(own) = got["api_version"].as_str() {
            assert_eq!(said, own, "{} as it was sent", request.line);
        }
        let agent = sent("user-agent");
        assert!(agent.contains(&version), "the client's own headers pass: {agent}, not {version}");
    }
    assert_eq!(rig.statuses(5).await, [200; 5]);
    assert_eq!(row(&rig, client, &version, ["messages, models", "messages"]), slots);
}

/// What Google's libraries do; `api` is the version of the API that they ask for.
async fn gemini(client: &str, environment: Environment, script: &str, package: &str, api: &str) {
    let rig = Rig::start().await;
    let got = rig.run(environment, script).await;
    assert_eq!(got["content"], "You said: gemini plain");
    assert_eq!(got["tokens"], 6, "2 words in, 4 out");
    assert_eq!(got["stream"], "You said: gemini streaming");
    assert_pieces(&got["stream_pieces"]);
    assert_model(&got, "models/gemini-2.5-flash");

    let models = format!("/{api}/models");
    rig.assert_seen(
        &[
            &format!("POST {models}/gemini-2.5-flash:generateContent"),
            &format!("POST {models}/gemini-2.5-flash:streamGenerateContent?alt=sse"),
            &format!("GET {models}"),
        ],
        "x-goog-api-key",
        &rig.keys.gemini,
    );
    assert_eq!(rig.statuses(3).await, [200; 3]);
    let version = environment.version(package);
    row(&rig, client, &version, ["generateContent, models", "streamGenerateContent"]);
}

#[track_caller]
fn assert_model(got: &Value, model: &str) {
    let models = got["models"].as_array();
    assert!(models.is_some_and(|models| models.contains(&json!(model))), "{model} in {got}");
}

/// The row; the last cell is where the client put its token.
#[track_caller]
fn row(rig: &Rig, client: &str, version: &str, [plain, streaming]: [&str; 2]) -> String {
    let slots = rig.slots(|_| true);
    table::check(TABLE, client, &[version, plain, streaming, &slots]);
    slots
}

#[tokio::test]
async fn openai_for_python() {
    openai("OpenAI, Python", PYTHON, "openai_client.py", "OpenAI/Python").await;
}

#[tokio::test]
async fn openai_for_python_of_the_previous_major() {
    let client = "OpenAI, Python, previous major";
    openai(client, PYTHON_PREVIOUS, "openai_client.py", "OpenAI/Python").await;
}

#[tokio::test]
async fn openai_for_javascript() {
    openai("OpenAI, JavaScript", NODE, "openai_client.mjs", "OpenAI/JS").await;
}

#[tokio::test]
async fn anthropic_for_python() {
    anthropic("Anthropic, Python", PYTHON, "anthropic_client.py", "`authorization`").await;
}

#[tokio::test]
async fn anthropic_for_python_when_it_sent_x_api_key() {
    let client = "Anthropic, Python, `x-api-key` generation";
    anthropic(client, PYTHON_PREVIOUS, "anthropic_client.py", BOTH).await;
}

#[tokio::test]
async fn anthropic_for_javascript() {
    anthropic("Anthropic, JavaScript", NODE, "anthropic_client.mjs", "`authorization`").await;
}

#[tokio::test]
async fn anthropic_for_javascript_when_it_sent_x_api_key() {
    let client = "Anthropic, JavaScript, `x-api-key` generation";
    anthropic(client, NODE_PREVIOUS, "anthropic_client.mjs", BOTH).await;
}

#[tokio::test]
async fn google_genai_for_python() {
    gemini("google-genai, Python", PYTHON, "gemini_client.py", "google-genai", "v1").await;
}

#[tokio::test]
async fn google_genai_for_javascript() {
    gemini("google-genai, JavaScript", NODE, "gemini_client.mjs", "@google/genai", "v1").await;
}

#[tokio::test]
async fn fetch_of_node() {
    let rig = Rig::start().await;
    let got = rig.run(NODE, "fetch_client.mjs").await;
    assert_eq!(got["chat"], "You said: fetch plain");
    assert_eq!(got["stream"], "You said: fetch streaming");
    assert_pieces(&got["stream_pieces"]);
    let id = got["request_id"].as_str().unwrap_or_default();

    let line = "POST /v1/chat/completions";
    let key = format!("Bearer {}", rig.keys.openai);
    rig.assert_seen(&[line, line], "authorization", &key);
    let log = rig.log(2).await;
    assert!(log.iter().any(|l| l["request_id"] == id && l["status"] == 200), "{id} in {log:?}");
    row(&rig, "`fetch`, Node", "22", ["chat", "chat"]);
}

#[tokio::test]
async fn curl_with_the_token_as_query_parameter() {
    let rig = Rig::start().await;
    let got = rig.run(Environment::Bash, "curl.sh").await;
    assert_eq!(got["content"], "You said: curl plain");
    assert_eq!(got["stream"], "You said: curl streaming");
    assert_pieces(&got["stream_pieces"]);
    assert_eq!(got["denied"], json!({"status": 401, "error": "token_invalid"}));

    rig.assert_seen(
        &[
            "POST /v1beta/models/gemini-2.5-flash:generateContent",
            "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        ],
        "x-goog-api-key",
        &rig.keys.gemini,
    );
    assert_eq!(rig.statuses(3).await, [200, 200, 401]);
    row(&rig, "curl", "any", ["generateContent", "streamGenerateContent"]);
}
