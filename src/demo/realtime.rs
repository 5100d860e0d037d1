//! `GET /v1/realtime?model=`: OpenAI's realtime sessions over a WebSocket, text only.
//!
//! One turn at a time; what the caller sends while an answer is being spoken waits its turn.

use super::answer::{self, Answer};
use super::{Mock, openai, sse};
use axum::extract::Query;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Checks the key, then upgrades.
pub(super) async fn upgrade(
    keys: Mock,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Err(refusal) = openai::authenticate(&keys, &headers) {
        return *refusal;
    }
    let Some(model) = query.get("model").filter(|model| !model.is_empty()).cloned() else {
        return openai::invalid("you must provide a model parameter");
    };
    match socket {
        Ok(socket) => socket.protocols(["realtime"]).on_upgrade(move |socket| async move {
            if Session::new(socket, model).run().await.is_err() {
                // The caller has gone, in whatever way: the session is over.
            }
        }),
        Err(not_a_websocket) => not_a_websocket.into_response(),
    }
}

struct Session {
    socket: WebSocket,
    id: String,
    model: String,
    items: Vec<Value>,
}

impl Session {
    fn new(socket: WebSocket, model: String) -> Self {
        Self { socket, id: answer::id("sess_"), model, items: Vec::new() }
    }

    async fn run(mut self) -> Result<(), axum::Error> {
        let session = self.describe();
        self.send(json!({"type": "session.created", "session": session})).await?;
        while let Some(message) = self.socket.recv().await {
            match message? {
                Message::Text(text) => self.hear(&text).await?,
                Message::Binary(_) => self.refuse("send JSON as text messages").await?,
                // Reading on is what answers a ping or a close.
                Message::Ping(_) | Message::Pong(_) | Message::Close(_) => {}
            }
        }
        Ok(())
    }

    async fn hear(&mut self, text: &str) -> Result<(), axum::Error> {
        let Ok(event) = serde_json::from_str::<Value>(text) else {
            return self.refuse("the message is no JSON").await;
        };
        match event.get("type").and_then(Value::as_str) {
            Some("session.update") => {
                if let Some(model) = event.pointer("/session/model").and_then(Value::as_str) {
                    self.model = model.to_owned();
                }
                let session = self.describe();
                self.send(json!({"type": "session.updated", "session": session})).await
            }
            Some("conversation.item.create") => {
                let mut item = event.get("item").cloned().unwrap_or_else(|| json!({}));
                if let Some(item) = item.as_object_mut() {
                    item.insert("id".to_owned(), json!(answer::id("item_")));
                    item.insert("status".to_owned(), json!("completed"));
                }
                self.items.push(item.clone());
                self.send(json!({"type": "conversation.item.added", "item": item})).await?;
                self.send(json!({"type": "conversation.item.done", "item": item})).await
            }
            Some("response.create") => self.respond().await,
            _ => {
                self.refuse(
                    "the mock knows session.update, conversation.item.create and response.create",
                )
                .await
            }
        }
    }

    /// One turn: from `response.created` to `response.done`.
    async fn respond(&mut self) -> Result<(), axum::Error> {
        let answer = Answer::to(&Value::Array(self.items.clone()));
        let (id, item) = (answer::id("resp_"), answer::id("item_"));
        let message = |status: &str, text: Option<&str>| {
            let content: Vec<_> =
                text.iter().map(|text| json!({"type": "output_text", "text": text})).collect();
            json!({"id": item, "object": "realtime.item", "type": "message", "status": status,
                   "role": "assistant", "content": content})
        };
        let response = |status: &str, output: Vec<Value>, usage: Value| {
            json!({"object": "realtime.response", "id": id, "status": status,
                   "status_details": null, "output": output, "output_modalities": ["text"],
                   "usage": usage, "metadata": null})
        };
        let place = |mut event: Value| {
            if let Some(event) = event.as_object_mut() {
                event.insert("response_id".to_owned(), json!(id));
                event.insert("item_id".to_owned(), json!(item));
                event.insert("output_index".to_owned(), json!(0));
                event.insert("content_index".to_owned(), json!(0));
            }
            event
        };
        let begun = response("in_progress", vec![], Value::Null);
        self.send(json!({"type": "response.created", "response": begun})).await?;
        self.send(json!({"type": "response.output_item.added", "response_id": id,
            "output_index": 0, "item": message("in_progress", None)}))
            .await?;
        let part = |text: &str| json!({"type": "text", "text": text});
        self.send(place(json!({"type": "response.content_part.added", "part": part("")}))).await?;
        for piece in answer.pieces() {
            self.send(place(json!({"type": "response.output_text.delta", "delta": piece}))).await?;
            tokio::time::sleep(sse::PACE).await;
        }
        let text = &answer.text;
        self.send(place(json!({"type": "response.output_text.done", "text": text}))).await?;
        self.send(place(json!({"type": "response.content_part.done", "part": part(text)}))).await?;
        let spoken = message("completed", Some(text));
        self.items.push(spoken.clone());
        self.send(json!({"type": "response.output_item.done", "response_id": id,
            "output_index": 0, "item": spoken}))
            .await?;
        let done = response("completed", vec![spoken], usage(&answer));
        self.send(json!({"type": "response.done", "response": done})).await
    }

    fn describe(&self) -> Value {
        json!({"type": "realtime", "object": "realtime.session", "id": self.id,
               "model": self.model, "output_modalities": ["text"]})
    }

    async fn refuse(&mut self, message: &str) -> Result<(), axum::Error> {
        let error = json!({"type": "invalid_request_error", "code": "invalid_value",
                           "message": message, "param": null, "event_id": null});
        self.send(json!({"type": "error", "error": error})).await
    }

    async fn send(&mut self, mut event: Value) -> Result<(), axum::Error> {
        if let Some(event) = event.as_object_mut() {
            event.insert("event_id".to_owned(), json!(answer::id("event_")));
        }
        self.socket.send(Message::Text(event.to_string().into())).await
    }
}

fn usage(answer: &Answer) -> Value {
    json!({
        "total_tokens": answer.total_tokens(),
        "input_tokens": answer.input_tokens,
        "output_tokens": answer.output_tokens,
        "input_token_details": {
            "text_tokens": answer.input_tokens, "audio_tokens": 0, "image_tokens": 0,
            "cached_tokens": 0,
        },
        "output_token_details": {"text_tokens": answer.output_tokens, "audio_tokens": 0},
    })
}
