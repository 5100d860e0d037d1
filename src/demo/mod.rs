//! The built-in mock provider: what `keygate demo` stands in front of.
//!
//! It speaks the vendors' dialects well enough for their own SDKs, plain and streaming, and
//! echoes what the user said last. Each API wants its own demo key in exactly the place where
//! the vendor wants it, and answers like the vendor without: so an answer that comes through
//! the gateway proves that the token was swapped for the key.
//!
//! It knows nothing of the gateway, and no model: any name will do.

mod answer;
mod anthropic;
mod chat;
mod gemini;
mod live;
mod openai;
mod realtime;
mod responses;
mod responses_socket;
mod sse;
mod upload;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path};
use axum::http::HeaderMap;
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;
use tokio::sync::watch;

/// The largest body that is read, in bytes: what the gateway lets through by default.
const MAX_BODY: usize = 32 << 20;

/// The credential that each of the mock APIs demands.
#[derive(Debug, Clone)]
pub struct Keys {
    /// In `Authorization: Bearer`.
    pub openai: String,
    /// In `x-api-key`.
    pub anthropic: String,
    /// In `x-goog-api-key`, for a WebSocket in `?key=`.
    pub gemini: String,
}

impl Default for Keys {
    /// Well-known keys: they open nothing but this mock.
    fn default() -> Self {
        Self {
            openai: "demo-openai-key-opens-only-the-mock".into(),
            anthropic: "demo-anthropic-key-opens-only-the-mock".into(),
            gemini: "demo-gemini-key-opens-only-the-mock".into(),
        }
    }
}

type Mock = axum::extract::State<Arc<Keys>>;

/// The mock APIs of all three vendors, on one origin, each demanding its key of `keys`.
pub fn router(keys: Keys) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/responses", post(responses::create).get(responses_socket::upgrade))
        .route("/v1/realtime", get(realtime::upgrade))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model).post(gemini::generate))
        .route("/v1/messages", post(anthropic::message))
        .route("/v1beta/models", get(gemini::models))
        .route("/v1beta/models/{call}", get(gemini::model).post(gemini::generate))
        .route("/v1/files/{name}", get(upload::file))
        .route("/v1beta/files/{name}", get(upload::file))
        .route("/upload/{version}/files", post(upload::upload).put(upload::upload))
        .route(live::PATH, get(live::upgrade))
        .route(live::PATH_OF_SOME_SDKS, get(live::upgrade))
        .fallback(openai::no_such_path)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(keys))
}

/// Serves [`router`] on `listener` until `stop` holds `true` or its sender is gone; requests in
/// flight are answered to their end, WebSockets end with the runtime.
///
/// # Errors
/// The listener can't be used.
pub async fn serve(
    listener: std::net::TcpListener,
    keys: Keys,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let stopped = async move {
        if stop.wait_for(|stop| *stop).await.is_err() {
            // A sender that is gone can't say stop any more: that is a stop, too.
        }
    };
    axum::serve(listener, router(keys)).with_graceful_shutdown(stopped).await
}

/// Whose list of models is meant: all three vendors have one on this path.
enum Vendor {
    OpenAi,
    Anthropic,
    Gemini,
}

impl Vendor {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(anthropic::VERSION) {
            Self::Anthropic
        } else if headers.contains_key(gemini::SLOT) {
            Self::Gemini
        } else {
            Self::OpenAi
        }
    }
}

async fn models(keys: Mock, headers: HeaderMap) -> Response {
    match Vendor::of(&headers) {
        Vendor::OpenAi => openai::models(&keys, &headers),
        Vendor::Anthropic => anthropic::models(&keys, &headers),
        Vendor::Gemini => gemini::models(keys, headers).await,
    }
}

async fn model(keys: Mock, name: Path<String>, headers: HeaderMap) -> Response {
    match Vendor::of(&headers) {
        Vendor::OpenAi => openai::model(&keys, &headers, &name),
        Vendor::Anthropic => anthropic::model(&keys, &headers, &name),
        Vendor::Gemini => gemini::model(keys, name, headers).await,
    }
}

/// The value of `name` if it is there exactly once and readable: two credentials are none.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
