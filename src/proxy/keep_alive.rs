//! Whether a connection serves another request; for how long it may rest, the session knows.

use super::gateway::Gateway;
use pingora_proxy::Session;

/// Whether the connection goes on after this request.
pub(super) fn decide(gateway: &Gateway, session: &mut Session) {
    if gateway.draining.load(std::sync::atomic::Ordering::Acquire) {
        session.set_keepalive(None);
    } else if session.get_keepalive().is_some() {
        // Without a timer of Pingora's: the connection itself knows how long it may rest.
        session.set_keepalive(Some(0));
    }
}
