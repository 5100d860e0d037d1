//! Pingora's phases, one delegating line each. A panic in any of them ends that request alone.
//!
//! - [`admit`], [`enter`], [`fork`]: the gate, and what passes it; [`head`], [`canonical`]: its first steps
//! - [`own`]: keygate's own endpoints
//! - [`upstream_request`]: the swap
//! - [`request_body`], [`response_body`]: what passes; [`socket`]: a caller's messages, read
//! - [`response`], [`held`], [`location`], [`ticket`]: the way back
//! - [`stream`], [`creation`]: which origins may use a stream
//! - [`reject`]: every denial
//! - [`finish`]: log and counters

mod admit;
// For benches/ and fuzz/, which run it without a server.
#[doc(hidden)]
pub mod canonical;
mod creation;
pub mod ctx;
mod enter;
mod finish;
mod fork;
mod forwarded;
pub mod gateway;
mod head;
mod held;
mod keep_alive;
mod location;
mod models;
mod own;
mod panic;
mod reject;
mod request_body;
mod response;
mod response_body;
mod search;
mod socket;
mod stream;
mod ticket;
mod upstream;
mod upstream_request;

#[doc(hidden)]
pub use models::segments_may_hold_slashes;

use async_trait::async_trait;
use bytes::Bytes;
use ctx::Ctx;
use gateway::Gateway;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora_core::modules::http::HttpModules;
use pingora_core::protocols::Digest;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, Result};
use pingora_proxy::{FailToProxy, ProxyHttp, Session};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// The gateway as Pingora sees it.
pub struct Proxy(pub Arc<Gateway>);

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::new(&self.0)
    }

    /// Pingora's default adds a compression module to every request.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        ctx.arrive(&self.0, session);
        let admitted = panic::caught(pin!(admit::admit(&self.0, session, ctx))).await;
        match admitted {
            Ok(result) => result,
            Err(fault) => reject::answer(&self.0, session, ctx, fault).await,
        }
    }

    async fn upstream_peer(&self, _: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        panic::flat(pin!(upstream::peer(ctx))).await
    }

    fn fail_to_connect(
        &self,
        _: &mut Session,
        _: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        upstream::try_next(ctx, error)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        let error = error.more_context(format!("Peer: {peer}"));
        upstream::try_again(session, ctx, error, reused)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        _: bool,
        _: &HttpPeer,
        _: std::os::fd::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        upstream::connected(&self.0, digest, ctx)
    }

    async fn upstream_request_filter(
        &self,
        _: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        panic::caught_now(|| {
            stream::forward(&self.0, ctx)?;
            upstream_request::rewrite(ctx, request)
        })
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        panic::flat(pin!(request_body::pass(&self.0, session, body, end, ctx))).await
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        header: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        if ctx.flight().is_some_and(|flight| flight.stream.is_some()) {
            panic::flat(pin!(stream::answered(&self.0, session, header, ctx))).await?;
        }
        panic::caught_now(|| response::receive(&self.0, session, header, ctx))
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        header: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        panic::caught_now(|| response::dress(&self.0, session, header, ctx))
    }

    fn response_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        panic::caught_now(|| response_body::pass(&self.0, session, body, end, ctx)).map(|()| None)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        let told = panic::flat(pin!(upstream::fail(&self.0, session, error, ctx))).await;
        FailToProxy { error_code: told.unwrap_or(0), can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, _: Option<&Error>, ctx: &mut Ctx) {
        // The request is over; what a panic here could spoil is only its own line.
        let _ = panic::caught_now(|| {
            finish::settle(&self.0, session, ctx);
            Ok(())
        });
    }

    /// What Pingora's error lines say of a request: never its path or query.
    fn request_summary(&self, _: &Session, ctx: &Ctx) -> String {
        ctx.id.as_str().to_owned()
    }

    /// Refusals and kept answers travel as errors; they are in the access log.
    fn suppress_error_log(&self, _: &Session, ctx: &Ctx, error: &Error) -> bool {
        upstream::is_expected(ctx, error)
    }
}
