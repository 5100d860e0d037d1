//! What operators see: the access log, metrics, diagnostics; and what keeps secrets out of them.
//!
//! Nothing here decides anything about a request, and nothing here may make one wait: a blocked
//! log costs lines, which are counted, never traffic. [`redact`] finds keys in whatever is about
//! to leave. What is measured, and when, is up to those who call.

pub mod access_log;
pub mod diagnostics;
pub(crate) mod line;
pub mod metrics;
pub mod provider_metrics;
pub mod redact;
pub(crate) mod sink;

/// How a request was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// One answer with an end.
    Http,
    /// Server-sent events.
    Sse,
    /// A WebSocket, counted once for its whole life.
    WebSocket,
}

impl Transport {
    /// As logs and metric labels write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Sse => "sse",
            Self::WebSocket => "websocket",
        }
    }
}
