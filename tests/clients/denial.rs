//! Refusals as each library shows them: the right exception, a message to read, no needless
//! retries.

use super::install::{Environment, NODE, NODE_PREVIOUS, PYTHON, PYTHON_PREVIOUS};
use super::rig::{Rig, of};
use super::table;
use serde_json::Value;
use std::sync::atomic::Ordering::SeqCst;

/// By case: what the message must say, and what the access log calls it.
const CASES: [(&str, &str, u64, &str); 8] = [
    ("401", "the token is not valid", 401, "token_invalid"),
    ("403", "the token may not use this model", 403, "model_not_allowed"),
    ("404", "no provider answers at this path", 404, "no_route"),
    ("413", "the body is too large", 413, "body_too_large"),
    ("429", "too many requests for this token", 429, "rate_limited"),
    ("502, key rejected", "rejected the gateway's own key", 502, "upstream_rejected_key"),
    ("502, connection cut", "the provider could not be reached", 502, "upstream_unreachable"),
    ("502, unreachable", "the provider could not be reached", 502, "upstream_unreachable"),
];

/// A library, and what is expected of it.
struct Client {
    name: &'static str,
    environment: Environment,
    package: &'static str,
    vendor: &'static str,
    slot: &'static str,
    request: &'static str,
    /// The class of the exception, by case.
    classes: [&'static str; 8],
    /// Whether it tries again where that may help: 429, and a request that went nowhere.
    retries: bool,
}

async fn check(client: Client, argument: &str) {
    let rig = Rig::start().await;
    let script = match client.environment {
        Environment::Node(_) => "denials.mjs",
        _ => "denials.py",
    };
    let got = rig.run_with(client.environment, script, &[argument], "any", "http").await;
    let succeeded = if client.retries { 3 } else { 2 };
    let tries = if client.retries { 3 } else { 1 };
    let lines = succeeded + 9 + tries;
    let log = rig.log(lines).await;
    assert_eq!(log.len(), lines, "a request each, but for retries that may help: {log:?}");
    let count = |denial: &str, name: &str, value: &str| {
        let fits = |l: &&Value| {
            l["denial"] == denial && l[name].as_str().unwrap_or_default().ends_with(value)
        };
        log.iter().filter(fits).count()
    };

    let mut cells = vec![version(&client)];
    for ((case, message, status, denial), class) in CASES.into_iter().zip(client.classes) {
        let got = &got[case];
        assert_eq!(got["class"], class, "{}, {case}: {got}", client.name);
        assert_eq!(got["status"], status, "{}, {case}: {got}", client.name);
        let said = got["message"].as_str().unwrap_or_default();
        assert!(said.contains(message), "{}, {case}: {said} says {message}", client.name);
        let (seen, expected) = match case {
            "429" => (count(denial, "token_name", "once_a_minute"), 1),
            "502, connection cut" => (count(denial, "provider", "-drops"), 1),
            // No byte reached the provider: trying again is safe, and may help.
            "502, unreachable" => (count(denial, "provider", "-gone"), tries),
            // Once plain, once streaming.
            "403" => (count(denial, "token_name", "other_model"), 2),
            _ => (count(denial, "path", ""), 1),
        };
        assert_eq!(seen, expected, "{}, {case}: that often it was tried: {log:?}", client.name);
        cells.push(match case {
            "502, unreachable" if tries > 1 => format!("`{class}`, {seen} tries"),
            _ => format!("`{class}`"),
        });
    }
    let streaming = &got["403, streaming"];
    assert_eq!(streaming["class"], client.classes[1], "{}: {streaming}", client.name);
    assert_eq!(streaming["status"], 403, "{}: {streaming}", client.name);
    cells.insert(
        6,
        waited(
            &client,
            &got["429, retried"],
            count("rate_limited", "token_name", "once_in_three_seconds"),
        ),
    );
    assert_upstreams(&rig, &client, succeeded);
    let cells: Vec<_> = cells.iter().map(String::as_str).collect();
    table::check("What a refusal becomes", client.name, &cells);
}

fn version(client: &Client) -> String {
    match client.package {
        "" => "22".to_owned(),
        package => client.environment.version(package),
    }
}

/// Whether the library waited as `Retry-After` says: a retry before would have been refused again.
fn waited(client: &Client, got: &Value, refused: usize) -> String {
    assert_eq!(refused, 1, "{}: one refusal, and no retry too early", client.name);
    if client.retries {
        assert_eq!(got["class"], Value::Null, "{}: the retry passes: {got}", client.name);
        let seconds = got["seconds"].as_f64().unwrap_or_default();
        assert!((1.0..20.0).contains(&seconds), "{}: it waited {seconds} s", client.name);
        "waits as told".to_owned()
    } else {
        assert_eq!(got["status"], 429, "{}: {got}", client.name);
        "does not retry".to_owned()
    }
}

/// Nothing that was refused reached a provider, and nothing was sent there twice.
fn assert_upstreams(rig: &Rig, client: &Client, succeeded: usize) {
    let credential = |keys| match client.slot {
        "authorization" => format!("Bearer {}", of(keys, client.vendor)),
        _ => of(keys, client.vendor).to_owned(),
    };
    let (right, wrong) = (credential(&rig.keys), credential(&rig.wrong));
    let mut expected = vec![(client.request, right.as_str()); succeeded];
    expected.push((client.request, wrong.as_str()));
    rig.assert_seen_with(&expected, client.slot);
    let dropped = rig.dropped.load(SeqCst);
    assert_eq!(dropped, 1, "{}: what a provider may have begun is not repeated", client.name);
}

/// The classes that OpenAI's and Anthropic's libraries share; the one of 413 varies.
const fn usual(too_large: &'static str) -> [&'static str; 8] {
    [
        "AuthenticationError",
        "PermissionDeniedError",
        "NotFoundError",
        too_large,
        "RateLimitError",
        "InternalServerError",
        "InternalServerError",
        "InternalServerError",
    ]
}

const OPENAI: Client = Client {
    name: "OpenAI, Python",
    environment: PYTHON,
    package: "openai",
    vendor: "openai",
    slot: "authorization",
    request: "POST /v1/chat/completions",
    classes: usual("APIStatusError"),
    retries: true,
};

const ANTHROPIC: Client = Client {
    name: "Anthropic, Python",
    environment: PYTHON,
    package: "anthropic",
    vendor: "anthropic",
    slot: "x-api-key",
    request: "POST /v1/messages",
    classes: usual("ContentTooLargeError"),
    retries: true,
};

const GEMINI: Client = Client {
    name: "google-genai, Python",
    environment: PYTHON,
    package: "google-genai",
    vendor: "gemini",
    slot: "x-goog-api-key",
    request: "POST /v1/models/gemini-2.5-flash:generateContent",
    classes: [
        "ClientError",
        "ClientError",
        "ClientError",
        "ClientError",
        "ClientError",
        "ServerError",
        "ServerError",
        "ServerError",
    ],
    retries: false,
};

#[tokio::test]
async fn openai_for_python_raises_the_right_exceptions() {
    check(OPENAI, "openai").await;
}

#[tokio::test]
async fn openai_for_python_of_the_previous_major_raises_the_right_exceptions() {
    let (name, environment) = ("OpenAI, Python, previous major", PYTHON_PREVIOUS);
    check(Client { name, environment, ..OPENAI }, "openai").await;
}

#[tokio::test]
async fn openai_for_javascript_throws_the_right_errors() {
    let (name, environment) = ("OpenAI, JavaScript", NODE);
    check(Client { name, environment, classes: usual("APIError"), ..OPENAI }, "openai").await;
}

#[tokio::test]
async fn anthropic_for_python_raises_the_right_exceptions() {
    check(ANTHROPIC, "anthropic").await;
}

#[tokio::test]
async fn anthropic_for_python_when_it_sent_x_api_key_raises_the_right_exceptions() {
    let (name, environment) = ("Anthropic, Python, `x-api-key` generation", PYTHON_PREVIOUS);
    let classes = usual("RequestTooLargeError");
    check(Client { name, environment, classes, ..ANTHROPIC }, "anthropic").await;
}

#[tokio::test]
async fn anthropic_for_javascript_throws_the_right_errors() {
    let (name, environment) = ("Anthropic, JavaScript", NODE);
    let package = "@anthropic-ai/sdk";
    check(Client { name, environment, package, ..ANTHROPIC }, "anthropic").await;
}

#[tokio::test]
async fn anthropic_for_javascript_when_it_sent_x_api_key_throws_the_right_errors() {
    let (name, environment) = ("Anthropic, JavaScript, `x-api-key` generation", NODE_PREVIOUS);
    let (package, classes) = ("@anthropic-ai/sdk", usual("APIError"));
    check(Client { name, environment, package, classes, ..ANTHROPIC }, "anthropic").await;
}

#[tokio::test]
async fn google_genai_for_python_raises_the_right_exceptions() {
    check(GEMINI, "gemini").await;
}

#[tokio::test]
async fn google_genai_for_javascript_throws_the_right_errors() {
    let (name, environment, package) = ("google-genai, JavaScript", NODE, "@google/genai");
    check(Client { name, environment, package, classes: ["ApiError"; 8], ..GEMINI }, "gemini")
        .await;
}

#[tokio::test]
async fn fetch_of_node_sees_the_statuses() {
    let (name, environment, package) = ("`fetch`, Node", NODE, "");
    let (classes, retries) = (["Response"; 8], false);
    check(Client { name, environment, package, classes, retries, ..OPENAI }, "fetch").await;
}
