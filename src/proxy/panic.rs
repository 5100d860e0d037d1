//! A panic ends one request: every phase runs inside one of these. Phases come pinned: they are
//! large, and would be copied into every wrapper.

use crate::policy::{Code, Denial};
use futures_util::FutureExt;
use pingora_core::{Error, ErrorType, Result};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;

/// Runs a phase.
///
/// # Errors
/// It panicked; the panic hook has logged where.
pub(super) async fn caught<T>(phase: Pin<&mut impl Future<Output = T>>) -> Result<T, Denial> {
    AssertUnwindSafe(phase).catch_unwind().await.map_err(|_| Code::InternalError.into())
}

/// Runs a phase whose panic becomes Pingora's internal error.
pub(super) async fn flat<T>(phase: Pin<&mut impl Future<Output = Result<T>>>) -> Result<T> {
    AssertUnwindSafe(phase).catch_unwind().await.unwrap_or_else(|_| panicked())
}

/// The same for a phase that does not wait.
pub(super) fn caught_now<T>(phase: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(phase)).unwrap_or_else(|_| panicked())
}

fn panicked<T>() -> Result<T> {
    Error::e_explain(ErrorType::InternalError, "a phase panicked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_internal_error_of_that_request() {
        assert_eq!(
            caught(std::pin::pin!(async { panic!("planted") })).await.map(|(): ()| ()),
            Err(Code::InternalError.into())
        );
        assert!(flat::<()>(std::pin::pin!(async { panic!("planted") })).await.is_err());
        assert!(caught_now::<()>(|| panic!("planted")).is_err());
        assert!(caught_now(|| Ok(())).is_ok(), "what does not panic passes");
    }
}
