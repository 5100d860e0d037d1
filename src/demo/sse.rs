//! Answers that come in pieces, at a pace at which a person sees them come.

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::Value;
use std::convert::Infallible;
use std::time::Duration;

/// Between two pieces.
pub(super) const PACE: Duration = Duration::from_millis(20);

/// `text/event-stream`, as all three vendors declare theirs.
pub(super) const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

/// An event without a name.
pub(super) fn data(value: &Value) -> String {
    format!("data: {value}\n\n")
}

/// An event named after its own `type`, as OpenAI (responses) and Anthropic do.
pub(super) fn typed(value: &Value) -> String {
    let name = value.get("type").and_then(Value::as_str).unwrap_or("message");
    format!("event: {name}\ndata: {value}\n\n")
}

/// A streamed answer: the first part at once, the others at [`PACE`].
pub(super) fn stream(content_type: &'static str, parts: Vec<String>) -> Response {
    let body = stream::unfold((parts.into_iter(), false), |(mut rest, begun)| async move {
        let part = rest.next()?;
        if begun {
            tokio::time::sleep(PACE).await;
        }
        Some((Ok::<_, Infallible>(part), (rest, true)))
    });
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(body)).into_response()
}
