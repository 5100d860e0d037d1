//! Anthropic: `POST /v1/messages`, plain and streaming, and the list of models.

use super::answer::{self, Answer};
use super::{Keys, Mock, single, sse};
use axum::Json;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// The header that every request to this API carries.
pub(super) const VERSION: &str = "anthropic-version";

/// Models that the list names; others work, too.
const MODELS: [&str; 2] = ["claude-sonnet-5-5", "claude-haiku-5-5"];

/// Answers the last user message.
pub(super) async fn message(keys: Mock, headers: HeaderMap, body: Bytes) -> Response {
    if let Err(refusal) = authenticate(&keys, &headers) {
        return *refusal;
    }
    if !headers.contains_key(VERSION) {
        return invalid("anthropic-version: header is required");
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else {
        return invalid("The request body is not valid JSON.");
    };
    for field in ["model", "messages", "max_tokens"] {
        if request.get(field).is_none_or(Value::is_null) {
            return invalid(&format!("{field}: Field required"));
        }
    }
    let answer = Answer::to(request.get("messages").unwrap_or(&Value::Null));
    let model = request.get("model").and_then(Value::as_str).unwrap_or_default();
    if request.get("stream") == Some(&Value::Bool(true)) {
        let events = events(&answer, model);
        return sse::stream(sse::EVENT_STREAM, events.iter().map(sse::typed).collect());
    }
    let content = json!([{"type": "text", "text": answer.text}]);
    Json(whole(&answer, model, &content, &json!("end_turn"), answer.output_tokens)).into_response()
}

/// `GET /v1/models` with `anthropic-version`.
pub(super) fn models(keys: &Keys, headers: &HeaderMap) -> Response {
    if let Err(refusal) = authenticate(keys, headers) {
        return *refusal;
    }
    let data: Vec<Value> = MODELS.iter().map(|name| describe(name)).collect();
    Json(json!({
        "data": data, "has_more": false, "first_id": MODELS.first(), "last_id": MODELS.last(),
    }))
    .into_response()
}

/// `GET /v1/models/{name}` with `anthropic-version`.
pub(super) fn model(keys: &Keys, headers: &HeaderMap, name: &str) -> Response {
    match authenticate(keys, headers) {
        Ok(()) => Json(describe(name)).into_response(),
        Err(refusal) => *refusal,
    }
}

fn authenticate(keys: &Keys, headers: &HeaderMap) -> Result<(), Box<Response>> {
    match single(headers, "x-api-key") {
        Some(key) if key == keys.anthropic => Ok(()),
        Some(_) => Err(Box::new(refused("invalid x-api-key"))),
        None => Err(Box::new(refused("x-api-key header is required"))),
    }
}

fn refused(message: &str) -> Response {
    error(StatusCode::UNAUTHORIZED, "authentication_error", message)
}

fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", message)
}

/// `{"type":"error","error":{"type","message"},"request_id"}`
fn error(status: StatusCode, kind: &str, message: &str) -> Response {
    let error = json!({"type": kind, "message": message});
    let body = json!({"type": "error", "error": error, "request_id": answer::id("req_")});
    (status, Json(body)).into_response()
}

fn describe(name: &str) -> Value {
    json!({"type": "model", "id": name, "display_name": name,
           "created_at": "2025-09-29T00:00:00Z"})
}

/// The message object, as it is in full, or at the start of a stream.
fn whole(
    answer: &Answer,
    model: &str,
    content: &Value,
    stop_reason: &Value,
    output_tokens: usize,
) -> Value {
    json!({
        "id": answer::id("msg_"), "type": "message", "role": "assistant", "model": model,
        "content": content, "stop_reason": stop_reason, "stop_sequence": null,
        "usage": {
            "input_tokens": answer.input_tokens, "output_tokens": output_tokens,
            "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
            "service_tier": "standard",
        },
    })
}

fn events(answer: &Answer, model: &str) -> Vec<Value> {
    let message = whole(answer, model, &json!([]), &Value::Null, 1);
    let mut events = vec![
        json!({"type": "message_start", "message": message}),
        json!({"type": "content_block_start", "index": 0,
               "content_block": {"type": "text", "text": ""}}),
        json!({"type": "ping"}),
    ];
    events.extend(answer.pieces().into_iter().map(|text| {
        json!({"type": "content_block_delta", "index": 0,
               "delta": {"type": "text_delta", "text": text}})
    }));
    events.extend([
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta",
               "delta": {"stop_reason": "end_turn", "stop_sequence": null},
               "usage": {"output_tokens": answer.output_tokens}}),
        json!({"type": "message_stop"}),
    ]);
    events
}
