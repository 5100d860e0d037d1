//! Sessions over a WebSocket, over TLS with a CA of the tests' own: OpenAI's realtime and responses,
//! Gemini Live, and the bare libraries.

use super::install::{Environment, NODE, PYTHON, PYTHON_PREVIOUS};
use super::rig::{Rig, assert_pieces};
use super::table;
use crate::support::wire::value;
use serde_json::Value;

const TABLE: &str = "Sessions over a WebSocket";
const REALTIME: &str = "GET /v1/realtime?model=gpt-realtime";

#[track_caller]
fn assert_answer(got: &Value, said: &str) {
    assert_eq!(got["text"], format!("You said: {said}"), "{got}");
    assert_pieces(&got["pieces"]);
}

/// Realtime and responses by OpenAI's library, from one script.
async fn openai(suffix: &str, environment: Environment, script: &str) {
    let rig = Rig::start().await;
    // Its models are read out of its messages.
    let got = rig.run_tls(environment, script, "any").await;
    assert_answer(&got["realtime"], "openai realtime");
    assert_answer(&got["responses"], "openai responses socket");

    let key = format!("Bearer {}", rig.keys.openai);
    rig.assert_seen(&[REALTIME, "GET /v1/responses"], "authorization", &key);
    assert_eq!(rig.statuses(2).await, [101, 101]);
    let version = environment.version("openai");
    let row = |what: &str| {
        table::check(
            TABLE,
            &format!("OpenAI {what}, {suffix}"),
            &[&version, "`wss`", "`Authorization`"],
        );
    };
    row("realtime");
    row("responses");
}

/// Live by Google's library. The one for JavaScript asks for `//ws/…`: it is the same place.
async fn live(client: &str, environment: Environment, script: &str, package: &str) {
    let rig = Rig::start().await;
    let got = rig.run_tls(environment, script, "any").await;
    assert_answer(&got["live"], "gemini live");

    // The key is in the query here, and in no header.
    let path = "/ws/google.ai.generativelanguage.v1.GenerativeService.BidiGenerateContent";
    rig.assert_seen(&[&format!("GET {path}?key={}", rig.keys.gemini)], "", "");
    assert_eq!(rig.statuses(1).await, [101]);
    table::check(TABLE, client, &[&environment.version(package), "`wss`", "`?key=`"]);
}

/// A bare library, by header and by either subprotocol.
async fn bare(client: &str, environment: Environment, script: &str, package: &str) {
    let rig = Rig::start().await;
    let got = rig.run_tls(environment, script, "any").await;
    for (way, said, protocol) in [
        ("header", "header", "realtime"),
        ("openai_subprotocol", "openai subprotocol", "realtime"),
        ("keygate_subprotocol", "keygate subprotocol", "keygate"),
    ] {
        let got = &got[way];
        assert_answer(got, said);
        assert_eq!(got["protocol"], protocol, "{way}: {got}");
        assert_eq!(got["close"], 1000, "{way}: the close is answered: {got}");
        assert!(got["total_tokens"].as_u64() > Some(0), "{way}: {got}");
    }

    let key = format!("Bearer {}", rig.keys.openai);
    let seen = rig.assert_seen(&[REALTIME; 3], "authorization", &key);
    let protocols: Vec<_> =
        seen.iter().map(|r| value(&r.headers, "sec-websocket-protocol")).collect();
    assert_eq!(protocols, [Some("realtime"), Some("realtime"), None], "without the credentials");
    assert_eq!(rig.statuses(3).await, [101; 3]);
    let version = environment.version(package);
    table::check(TABLE, client, &[&version, "`wss`", "`Authorization`"]);
}

#[tokio::test]
async fn openai_for_python_in_sessions() {
    openai("Python", PYTHON, "openai_realtime.py").await;
}

#[tokio::test]
async fn openai_for_python_of_the_previous_major_in_sessions() {
    openai("Python, previous major", PYTHON_PREVIOUS, "openai_realtime.py").await;
}

#[tokio::test]
async fn openai_for_javascript_in_sessions() {
    openai("JavaScript", NODE, "openai_realtime.mjs").await;
}

#[tokio::test]
async fn google_genai_for_python_live() {
    live("Gemini Live, Python", PYTHON, "gemini_live.py", "google-genai").await;
}

#[tokio::test]
async fn google_genai_for_javascript_live() {
    live("Gemini Live, JavaScript", NODE, "gemini_live.mjs", "@google/genai").await;
}

#[tokio::test]
async fn websockets_for_python_by_header_and_by_either_subprotocol() {
    bare("`websockets`, Python", PYTHON, "websockets_client.py", "websockets").await;
}

#[tokio::test]
async fn ws_for_node_by_header_and_by_either_subprotocol() {
    bare("`ws`, Node", NODE, "ws_client.mjs", "ws").await;
}

/// By case: status before the session is open or close code after it, and the access log's word.
const REFUSALS: [(&str, u64, &str); 6] = [
    ("401", 401, "token_invalid"),
    ("403", 403, "model_not_allowed"),
    ("404", 404, "no_route"),
    ("413", 1009, "message_too_big"),
    ("429", 429, "concurrency_limited"),
    ("502", 502, "upstream_rejected_key"),
];

/// Every refusal of a session: `before` is the class of what comes instead of it, `after` of what
/// ends one that is open.
async fn refused(
    client: &str,
    (environment, package): (Environment, &str),
    argument: &str,
    (before, after): (&str, &str),
) {
    let rig = Rig::start().await;
    let script = match environment {
        Environment::Node(_) => "session_denials.mjs",
        _ => "session_denials.py",
    };
    let got = rig.run_with(environment, script, &[argument], "any", "https").await;
    // The session that is in the way of the second one is the seventh line.
    let log = rig.log(7).await;
    assert_eq!(log.len(), 7, "nothing is tried again: {log:?}");
    let mut cells = vec![environment.version(package)];
    // Where the model is in a message, the session is open when that comes.
    let later = ["responses", "gemini"].contains(&argument);
    // Google's for JavaScript hands no session out before the first message is answered.
    let waits = argument == "gemini" && matches!(environment, Environment::Node(_));
    for (case, status, denial) in REFUSALS {
        let got = &got[case];
        let status = if case == "403" && later { 1008 } else { status };
        let opened = status == 1009 || status == 1008 && !waits;
        let class = if opened { after } else { before };
        assert_eq!(got["class"], class, "{client}, {case}: {got}");
        let said = got["message"].as_str().unwrap_or_default();
        let word = if status > 1000 { denial.to_owned() } else { status.to_string() };
        let told = said.contains(&word) || got["status"] == status;
        assert!(told, "{client}, {case}: {got} must tell {word}");
        if let Some(error) = got["error"].as_str() {
            assert_eq!(error, denial, "{client}, {case}: `x-keygate-error` says more");
        }
        let times = log.iter().filter(|line| line["denial"] == denial).count();
        assert_eq!(times, 1, "{client}, {case}: asked once: {log:?}");
        cells.push(if class == "close" { format!("close {status}") } else { format!("`{class}`") });
    }
    let cells: Vec<_> = cells.iter().map(String::as_str).collect();
    table::check("What a refused session becomes", client, &cells);
}

const WEBSOCKETS: (&str, &str) = ("InvalidStatus", "ConnectionClosedError");

#[tokio::test]
async fn openai_for_python_is_refused_sessions() {
    refused("OpenAI realtime, Python", (PYTHON, "openai"), "openai", WEBSOCKETS).await;
}

#[tokio::test]
async fn openai_for_python_of_the_previous_major_is_refused_sessions() {
    let client = "OpenAI realtime, Python, previous major";
    refused(client, (PYTHON_PREVIOUS, "openai"), "openai", WEBSOCKETS).await;
}

#[tokio::test]
async fn openai_for_python_is_refused_responses_over_a_websocket() {
    refused("OpenAI responses, Python", (PYTHON, "openai"), "responses", WEBSOCKETS).await;
}

#[tokio::test]
async fn google_genai_for_python_is_refused_live() {
    let classes = ("InvalidStatus", "APIError");
    refused("Gemini Live, Python", (PYTHON, "google-genai"), "gemini", classes).await;
}

#[tokio::test]
async fn websockets_for_python_is_refused_sessions() {
    refused("`websockets`, Python", (PYTHON, "websockets"), "websockets", WEBSOCKETS).await;
}

#[tokio::test]
async fn openai_for_javascript_is_refused_sessions() {
    let classes = ("OpenAIRealtimeError", "close");
    refused("OpenAI realtime, JavaScript", (NODE, "openai"), "openai", classes).await;
}

#[tokio::test]
async fn openai_for_javascript_is_refused_responses_over_a_websocket() {
    let classes = ("WebSocketError", "close");
    refused("OpenAI responses, JavaScript", (NODE, "openai"), "responses", classes).await;
}

#[tokio::test]
async fn google_genai_for_javascript_is_refused_live() {
    let classes = ("Error", "close");
    refused("Gemini Live, JavaScript", (NODE, "@google/genai"), "gemini", classes).await;
}

#[tokio::test]
async fn ws_for_node_is_refused_sessions() {
    refused("`ws`, Node", (NODE, "ws"), "ws", ("Error", "close")).await;
}
