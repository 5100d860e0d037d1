//! A value that must not be seen: a provider key, a password.
//!
//! It has no `Display`, `Serialize`, `Deref` or derived `Debug`, is zeroed on drop, and leaves
//! through one named exit, [`Secret::expose`].

use std::fmt;
use zeroize::Zeroizing;

/// Text that no output may contain.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<str>>);

impl Secret {
    /// Takes `text` into custody.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The only way out. Each caller says in a comment why it may.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing_of_the_value() {
        let shown = format!("{:?}", Secret::new("sk-abcdef"));
        assert_eq!(shown, "[secret]", "not even its length or ends may show");
    }
}
