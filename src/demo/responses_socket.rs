//! `GET /v1/responses` upgraded: responses over a WebSocket, one `response.create` a turn.
//!
//! The model is in each message, none in the URL. One turn at a time.

use super::responses::Turn;
use super::{Mock, openai, sse};
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Checks the key, then upgrades.
pub(super) async fn upgrade(
    keys: Mock,
    headers: HeaderMap,
    socket: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Err(refusal) = openai::authenticate(&keys, &headers) {
        return *refusal;
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
        // Reading on is what answers a ping or a close.
        let Message::Text(text) = message? else { continue };
        match turn(&text) {
            Ok(turn) => {
                for event in turn.events() {
                    send(&mut socket, &event).await?;
                    tokio::time::sleep(sse::PACE).await;
                }
            }
            Err(message) => {
                let error = json!({"type": "invalid_request_error", "code": "invalid_value",
                                   "message": message, "param": null});
                send(&mut socket, &json!({"type": "error", "status": 400, "error": error})).await?;
            }
        }
    }
    Ok(())
}

/// The turn that a message asks for.
fn turn(text: &str) -> Result<Turn, &'static str> {
    let event: Value = serde_json::from_str(text).map_err(|_| "the message is no JSON")?;
    if event.get("type").and_then(Value::as_str) != Some("response.create") {
        return Err("the mock knows response.create");
    }
    let model = event.get("model").and_then(Value::as_str).ok_or("model is required")?;
    let input = event.get("input").ok_or("input is required")?;
    Ok(Turn::new(model.to_owned(), input))
}

async fn send(socket: &mut WebSocket, event: &Value) -> Result<(), axum::Error> {
    socket.send(Message::Text(event.to_string().into())).await
}
