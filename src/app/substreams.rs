//! One HTTP/2 connection: bounds for what it may use, and a request of its own for each stream.

use crate::proxy::Proxy;
use crate::session::handle::Substream;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora_core::server::ShutdownWatch;
use pingora_proxy::HttpProxy;
use std::sync::Arc;
use std::time::Duration;

/// Requests at a time.
const STREAMS: u32 = 100;
/// What a caller may send ahead on one stream, and on all of them together.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Decoded header fields of a request. The gate refuses more than half of it in words.
const HEADER_LIST: u32 = 64 << 10;
/// Answers that wait for a caller who does not read, per stream.
const SEND_BUFFER: usize = 256 << 10;
/// Streams that the caller reset before they were looked at; beyond it GOAWAY (rapid reset).
const PENDING_RESETS: usize = 20;

/// Serves the streams of one connection.
pub(super) struct Substreams {
    proxy: Arc<HttpProxy<Proxy>>,
    options: HttpServerOptions,
}

impl Substreams {
    /// The connection ends when no stream has been open for `idle`.
    pub(super) fn new(proxy: Arc<HttpProxy<Proxy>>, idle: Duration) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(idle);
        Self { proxy, options }
    }
}

#[async_trait]
impl HttpServerApp for Substreams {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        Substream::serve(self.proxy.process_new_http(session, shutdown)).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        let mut options = default_h2_options();
        options
            .max_concurrent_streams(STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADER_LIST)
            .max_send_buffer_size(SEND_BUFFER)
            .max_pending_accept_reset_streams(PENDING_RESETS);
        Some(options)
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }
}
