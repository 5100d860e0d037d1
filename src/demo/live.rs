//! Gemini Live: sessions over a WebSocket, text only. Here the key is a query parameter.

use super::answer::Answer;
use super::{Mock, gemini, sse};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::collections::HashMap;

/// Where Live is, in whatever version of the API.
pub(super) const PATH: &str = "/ws/{service}";

/// The same as some SDKs put it together.
pub(super) const PATH_OF_SOME_SDKS: &str = "//ws/{service}";

/// Checks the key, then upgrades.
pub(super) async fn upgrade(
    keys: Mock,
    Path(service): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if query.get("key").is_none_or(|key| *key != keys.gemini) {
        return gemini::refused();
    }
    if !service.ends_with(".GenerativeService.BidiGenerateContent") {
        return gemini::no_such_method();
    }
    match socket {
        Ok(socket) => socket.on_upgrade(|socket| async move {
            if converse(socket).await.is_err() {
                // The caller has gone, in whatever way: the session is over.
            }
        }),
        Err(not_a_websocket) => not_a_websocket.into_response(),
    }
}

async fn converse(mut socket: WebSocket) -> Result<(), axum::Error> {
    while let Some(message) = socket.recv().await {
        // Some SDKs send their JSON in binary messages.
        let text = match message? {
            Message::Text(text) => text.as_bytes().to_vec(),
            Message::Binary(bytes) => bytes.to_vec(),
            // Reading on is what answers a ping or a close.
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) => continue,
        };
        let event = serde_json::from_slice::<Value>(&text).unwrap_or_default();
        if event.get("setup").is_some() {
            send(&mut socket, json!({"setupComplete": {}})).await?;
        } else if let Some(turns) = turns(&event) {
            answer(&mut socket, &Answer::to(turns)).await?;
        }
    }
    Ok(())
}

/// What the user said, once the turn is complete.
fn turns(event: &Value) -> Option<&Value> {
    if let Some(text) = event.pointer("/realtimeInput/text") {
        return Some(text);
    }
    let content = event.get("clientContent").or_else(|| event.get("client_content"))?;
    let complete = content.get("turnComplete").or_else(|| content.get("turn_complete"));
    if complete == Some(&Value::Bool(false)) { None } else { content.get("turns") }
}

async fn answer(socket: &mut WebSocket, answer: &Answer) -> Result<(), axum::Error> {
    for text in answer.pieces() {
        let turn = json!({"role": "model", "parts": [{"text": text}]});
        send(socket, json!({"serverContent": {"modelTurn": turn}})).await?;
        tokio::time::sleep(sse::PACE).await;
    }
    send(socket, json!({"serverContent": {"generationComplete": true}})).await?;
    let usage = gemini::usage(answer, "responseTokenCount");
    let end = json!({"serverContent": {"turnComplete": true}, "usageMetadata": usage});
    send(socket, end).await
}

async fn send(socket: &mut WebSocket, event: Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(event.to_string().into())).await
}
