//! References to secrets: the only door through which a secret comes in.
//!
//! The file names a secret (`{ env: NAME }`, `{ file: PATH }`, `{ credential: NAME }`) and never
//! contains one. Whatever is written in such a place instead is refused without being repeated:
//! it may well be the key itself.

mod load;
mod shape;

pub(crate) use load::check;
pub use load::load;
pub(crate) use shape::{KeyRef, Keys};

use crate::values::secret::Secret;
use std::path::PathBuf;

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; a line break at its end does not count.
    File(PathBuf),
    /// A file of this name in systemd's `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// What gives the secret that a reference names, or says why it can't; [`load()`] does it for real.
pub type Source<'a> = dyn Fn(&SecretRef) -> Result<Secret, String> + 'a;

impl SecretRef {
    /// What logs and metrics call the secret: the variable's or credential's name, the last
    /// component of the path.
    pub fn name(&self) -> &str {
        match self {
            Self::Env(name) | Self::Credential(name) => name,
            Self::File(path) => path.file_name().and_then(|n| n.to_str()).unwrap_or("file"),
        }
    }
}

/// A name may be a key that was pasted into the wrong place.
impl std::fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Env(_) => "{ env }",
            Self::File(_) => "{ file }",
            Self::Credential(_) => "{ credential }",
        })
    }
}
