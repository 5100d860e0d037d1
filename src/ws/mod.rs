//! WebSocket frames (RFC 6455), as far as keygate looks at them: where they begin and end, how
//! long messages are, and the close frame that ends a socket.

pub mod close;
pub mod frame;
