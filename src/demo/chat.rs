//! `POST /v1/chat/completions`, plain and streaming.

use super::answer::{self, Answer};
use super::{Mock, openai, sse};
use axum::Json;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Answers the last user message.
pub(super) async fn complete(keys: Mock, headers: HeaderMap, body: Bytes) -> Response {
    let (request, model) = match openai::request(&keys, &headers, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let Some(messages) = request.get("messages") else {
        return openai::invalid("Missing required parameter: 'messages'.");
    };
    let answer = Answer::to(messages);
    let id = answer::id("chatcmpl-");
    if request.get("stream") == Some(&Value::Bool(true)) {
        let usage = request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true));
        return sse::stream(sse::EVENT_STREAM, chunks(&answer, &id, &model, usage));
    }
    let message = json!({
        "role": "assistant", "content": answer.text, "refusal": null, "annotations": []
    });
    Json(json!({
        "id": id, "object": "chat.completion", "created": answer::now(), "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": usage(&answer),
        "service_tier": "default", "system_fingerprint": "fp_keygate_demo",
    }))
    .into_response()
}

/// The stream's events: role, pieces, finish, the usage if it was asked for, `[DONE]`.
fn chunks(answer: &Answer, id: &str, model: &str, with_usage: bool) -> Vec<String> {
    let created = answer::now();
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = json!({
            "id": id, "object": "chat.completion.chunk", "created": created, "model": model,
            "system_fingerprint": "fp_keygate_demo", "choices": choices,
        });
        // Only a stream that was asked for usage has the member: null until the last chunk.
        if let (true, Some(chunk)) = (with_usage, chunk.as_object_mut()) {
            chunk.insert("usage".to_owned(), usage);
        }
        sse::data(&chunk)
    };
    let delta = |delta: Value, finish: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish});
        chunk(json!([choice]), Value::Null)
    };
    let mut events = vec![delta(json!({"role": "assistant", "content": ""}), Value::Null)];
    events.extend(answer.pieces().iter().map(|text| delta(json!({"content": text}), Value::Null)));
    events.push(delta(json!({}), json!("stop")));
    if with_usage {
        events.push(chunk(json!([]), usage(answer)));
    }
    events.push("data: [DONE]\n\n".to_owned());
    events
}

fn usage(answer: &Answer) -> Value {
    json!({
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": answer.output_tokens,
        "total_tokens": answer.total_tokens(),
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    })
}
