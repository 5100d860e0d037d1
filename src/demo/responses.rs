//! `POST /v1/responses`, plain and streaming. What an answer looks like, `responses_socket` says too.

use super::answer::{self, Answer};
use super::{Mock, openai, sse};
use axum::Json;
use axum::body::Bytes;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Answers the input: a text, or a list of items.
pub(super) async fn create(keys: Mock, headers: HeaderMap, body: Bytes) -> Response {
    let (request, model) = match openai::request(&keys, &headers, &body) {
        Ok(request) => request,
        Err(refusal) => return *refusal,
    };
    let Some(input) = request.get("input") else {
        return openai::invalid("Missing required parameter: 'input'.");
    };
    let turn = Turn::new(model, input);
    if request.get("stream") == Some(&Value::Bool(true)) {
        sse::stream(sse::EVENT_STREAM, turn.events().iter().map(sse::typed).collect())
    } else {
        Json(turn.response("completed")).into_response()
    }
}

/// One answer.
pub(super) struct Turn {
    id: String,
    item: String,
    created: u64,
    model: String,
    answer: Answer,
}

impl Turn {
    /// Answers `input`: a text, or a list of items.
    pub(super) fn new(model: String, input: &Value) -> Self {
        Self {
            id: answer::id("resp_"),
            item: answer::id("msg_"),
            created: answer::now(),
            model,
            answer: Answer::to(input),
        }
    }

    fn part(&self, text: &str) -> Value {
        json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
    }

    fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.item, "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    /// The response object; output and usage are there once it is completed.
    fn response(&self, status: &str) -> Value {
        let done = status == "completed";
        let output =
            if done { vec![self.message(status, &[self.part(&self.answer.text)])] } else { vec![] };
        let usage = json!({
            "input_tokens": self.answer.input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": self.answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": self.answer.total_tokens(),
        });
        json!({
            "id": self.id, "object": "response", "created_at": self.created, "status": status,
            "background": false, "error": null, "incomplete_details": null, "instructions": null,
            "max_output_tokens": null, "model": self.model, "output": output,
            "parallel_tool_calls": true, "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null}, "store": false, "temperature": 1.0,
            "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
            "top_p": 1.0, "truncation": "disabled", "metadata": {},
            "usage": if done { usage } else { Value::Null },
        })
    }

    /// The stream's events, numbered.
    pub(super) fn events(&self) -> Vec<Value> {
        let text = &self.answer.text;
        let mut events = vec![
            json!({"type": "response.created", "response": self.response("in_progress")}),
            json!({"type": "response.in_progress", "response": self.response("in_progress")}),
            json!({"type": "response.output_item.added", "output_index": 0,
                   "item": self.message("in_progress", &[])}),
            self.place(json!({"type": "response.content_part.added", "part": self.part("")})),
        ];
        events.extend(self.answer.pieces().into_iter().map(|piece| {
            self.place(json!({
                "type": "response.output_text.delta", "delta": piece, "logprobs": [],
            }))
        }));
        events.extend([
            self.place(json!({"type": "response.output_text.done", "text": text, "logprobs": []})),
            self.place(json!({"type": "response.content_part.done", "part": self.part(text)})),
            json!({"type": "response.output_item.done", "output_index": 0,
                   "item": self.message("completed", &[self.part(text)])}),
            json!({"type": "response.completed", "response": self.response("completed")}),
        ]);
        for (number, event) in events.iter_mut().enumerate() {
            if let Some(event) = event.as_object_mut() {
                event.insert("sequence_number".to_owned(), json!(number));
            }
        }
        events
    }

    /// Adds where in the response an event belongs.
    fn place(&self, mut event: Value) -> Value {
        if let Some(event) = event.as_object_mut() {
            event.insert("item_id".to_owned(), json!(self.item));
            event.insert("output_index".to_owned(), json!(0));
            event.insert("content_index".to_owned(), json!(0));
        }
        event
    }
}
