//! How operators reach a running gateway: [`socket`] for commands, [`admin`] for health and metrics.
//!
//! Both only carry questions and answers; what they do is [`Operations`], which the app implements.
//! Of callers' requests only those to keygate's own endpoints are answered here: [`mint`].

pub mod admin;
pub mod mint;
pub mod socket;

/// What an operator may ask of a running gateway. Calls may block: they are made off the runtime's
/// own threads.
pub trait Operations: Send + Sync + 'static {
    /// Reads the configuration again and serves it. Gives what to tell the operator.
    ///
    /// # Errors
    /// Every problem, one a line; the old configuration serves on.
    fn reload(&self) -> Result<String, String>;

    /// How it is doing, as an object. Its member `health` is what `/healthz` answers: an object with
    /// `status`, `"ok"` or `"degraded"`.
    fn status(&self) -> serde_json::Value;

    /// Whether new requests are welcome.
    fn ready(&self) -> bool;

    /// Metrics in Prometheus' text format.
    fn metrics(&self) -> String;
}

#[cfg(test)]
pub(crate) mod tests {
    use super::Operations;
    use parking_lot::Mutex;
    use serde_json::{Value, json};
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// Operations that do as they are told.
    pub(crate) struct Scripted {
        pub(crate) reload: Mutex<Result<String, String>>,
        pub(crate) reloads: AtomicU32,
        pub(crate) ready: bool,
        pub(crate) health: Value,
    }

    impl Default for Scripted {
        fn default() -> Self {
            Self {
                reload: Mutex::new(Ok("2 providers, 3 tokens".into())),
                reloads: AtomicU32::new(0),
                ready: true,
                health: json!({ "status": "ok" }),
            }
        }
    }

    impl Operations for Scripted {
        fn reload(&self) -> Result<String, String> {
            self.reloads.fetch_add(1, Relaxed);
            let result = self.reload.lock().clone();
            assert_ne!(result, Ok("panic".into()), "as the test asked");
            result
        }
        fn status(&self) -> Value {
            json!({ "version": "1.2.3", "health": self.health, "providers": ["a", "b"] })
        }
        fn ready(&self) -> bool {
            self.ready
        }
        fn metrics(&self) -> String {
            "keygate_tokens 1\n".into()
        }
    }
}
