//! Small validated types: what is built once can't be wrong later.
//!
//! Nothing here knows of HTTP frameworks, files or the network. A value is checked where it is
//! made (configuration, command line, store) and compared without ceremony on the request path.

pub mod clock;
pub mod duration;
pub mod grant;
pub mod ids;
pub mod net;
pub mod origin;
pub mod pattern;
pub mod secret;
pub mod size;
pub mod timestamp;

/// Why a value was refused; starts in lower case and says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    /// A refusal with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
