//! Gemini: `generateContent`, `streamGenerateContent` and the list of models, in `/v1beta` and, as
//! current SDKs ask for it, in `/v1`.

use super::answer::{self, Answer};
use super::{Keys, Mock, single, sse};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Where this API wants its key.
pub(super) const SLOT: &str = "x-goog-api-key";

/// Models that the list names; others work, too.
const MODELS: [&str; 2] = ["gemini-2.5-flash", "gemini-2.5-pro"];

/// Answers the last contents of the user; `call` is `{model}:{verb}`.
pub(super) async fn generate(
    keys: Mock,
    Path(call): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = authenticate(&keys, &headers) {
        return *refusal;
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return error(
            StatusCode::BAD_REQUEST,
            "INVALID_ARGUMENT",
            "Invalid JSON payload received.",
        );
    };
    let Some(contents) = request.get("contents") else {
        return error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", "contents is not specified");
    };
    let answer = Answer::to(contents);
    match call.rsplit_once(':') {
        Some((model, "generateContent")) => {
            Json(chunk(&answer, model, &answer.text, true)).into_response()
        }
        Some((model, "streamGenerateContent")) => {
            let chunks = chunks(&answer, model);
            if query.get("alt").is_some_and(|alt| alt == "sse") {
                sse::stream(sse::EVENT_STREAM, chunks.iter().map(sse::data).collect())
            } else {
                sse::stream("application/json; charset=UTF-8", array(&chunks))
            }
        }
        _ => no_such_method(),
    }
}

/// `GET /v1beta/models`
pub(super) async fn models(keys: Mock, headers: HeaderMap) -> Response {
    if let Err(refusal) = authenticate(&keys, &headers) {
        return *refusal;
    }
    let models: Vec<Value> = MODELS.iter().map(|name| describe(name)).collect();
    Json(json!({ "models": models })).into_response()
}

/// `GET /v1beta/models/{name}`
pub(super) async fn model(keys: Mock, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match authenticate(&keys, &headers) {
        Ok(()) => Json(describe(&name)).into_response(),
        Err(refusal) => *refusal,
    }
}

/// The refusal of a missing or wrong key.
pub(super) fn refused() -> Response {
    let message = "Request had invalid authentication credentials. Expected an API key.";
    error(StatusCode::UNAUTHORIZED, "UNAUTHENTICATED", message)
}

/// A verb or service that the mock lacks.
pub(super) fn no_such_method() -> Response {
    error(StatusCode::NOT_FOUND, "NOT_FOUND", "The mock has no such method.")
}

/// `usageMetadata`, but for the output's name: Live has another one.
pub(super) fn usage(answer: &Answer, output: &str) -> Value {
    json!({
        "promptTokenCount": answer.input_tokens,
        output: answer.output_tokens,
        "totalTokenCount": answer.total_tokens(),
    })
}

pub(super) fn authenticate(keys: &Keys, headers: &HeaderMap) -> Result<(), Box<Response>> {
    match single(headers, SLOT) {
        Some(key) if key == keys.gemini => Ok(()),
        _ => Err(Box::new(refused())),
    }
}

/// `{"error":{"code","message","status"}}`
pub(super) fn error(code: StatusCode, status: &str, message: &str) -> Response {
    let error = json!({"code": code.as_u16(), "message": message, "status": status});
    (code, Json(json!({ "error": error }))).into_response()
}

fn describe(name: &str) -> Value {
    json!({
        "name": format!("models/{name}"), "version": "demo", "displayName": name,
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    })
}

/// One `GenerateContentResponse`; the last of a stream, or the only one, has a finish reason.
fn chunk(answer: &Answer, model: &str, text: &str, last: bool) -> Value {
    let mut candidate = json!({
        "content": {"parts": [{"text": text}], "role": "model"}, "index": 0,
    });
    if let (true, Some(candidate)) = (last, candidate.as_object_mut()) {
        candidate.insert("finishReason".to_owned(), json!("STOP"));
    }
    json!({
        "candidates": [candidate],
        "usageMetadata": usage(answer, "candidatesTokenCount"),
        "modelVersion": model,
        "responseId": answer::id(""),
    })
}

fn chunks(answer: &Answer, model: &str) -> Vec<Value> {
    let pieces = answer.pieces();
    let last = pieces.len().saturating_sub(1);
    pieces.iter().enumerate().map(|(at, text)| chunk(answer, model, text, at == last)).collect()
}

/// Without `alt=sse` the same chunks come as one JSON array, piece by piece.
fn array(chunks: &[Value]) -> Vec<String> {
    let mut parts: Vec<String> = chunks
        .iter()
        .enumerate()
        .map(|(at, chunk)| if at == 0 { format!("[{chunk}") } else { format!("\n,\r\n{chunk}") })
        .collect();
    parts.push("\n]".to_owned());
    parts
}
