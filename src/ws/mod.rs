//! WebSocket frames (RFC 6455), as far as keygate looks at them: where they begin and end, how
//! long messages are, what a caller's say where a grant needs it, and the close frame that ends a
//! socket.

pub mod close;
pub mod frame;
pub mod inspect;
