//! What a grant lists for models and paths: an exact text, or a prefix with `*` at the end.

use super::Invalid;
use std::fmt;

/// `gpt-4o-mini` matches itself; `gpt-4o*` matches what begins so; `*` matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: Box<str>,
    prefix: bool,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// Empty text, a `*` elsewhere than at the end, control characters, blanks around it.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.is_empty() {
            return Err(Invalid::new(
                "an empty pattern matches nothing: leave it out or name something",
            ));
        }
        if text.chars().any(char::is_control) || text.trim() != text {
            return Err(Invalid::new(format!(
                "{text:?}: blanks around it or control characters are not allowed"
            )));
        }
        let (body, prefix) = text.strip_suffix('*').map_or((text, false), |body| (body, true));
        if body.contains('*') {
            return Err(Invalid::new(format!("'{text}': '*' may stand at the end only")));
        }
        Ok(Self { text: body.into(), prefix })
    }

    /// Whether `candidate` (decoded, case-sensitive) is covered.
    pub fn matches(&self, candidate: &str) -> bool {
        if self.prefix { candidate.starts_with(&*self.text) } else { candidate == &*self.text }
    }
}

impl Pattern {
    /// What both cover: the narrower of the two, or nothing.
    pub fn meet(&self, other: &Self) -> Option<Self> {
        let other_is_narrower =
            self.prefix && (!other.prefix || other.text.len() > self.text.len());
        let (narrow, wide) = if other_is_narrower { (other, self) } else { (self, other) };
        let covered = if wide.prefix {
            narrow.text.starts_with(&*wide.text)
        } else {
            narrow.text == wide.text
        };
        covered.then(|| narrow.clone())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.prefix { "*" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_and_prefix() {
        let exact = Pattern::parse("gpt-4o").unwrap();
        assert!(
            exact.matches("gpt-4o") && !exact.matches("gpt-4o-mini") && !exact.matches("GPT-4o")
        );
        let prefix = Pattern::parse("gpt-4o*").unwrap();
        assert!(
            prefix.matches("gpt-4o") && prefix.matches("gpt-4o-mini") && !prefix.matches("gpt-4")
        );
        assert_eq!(prefix.to_string(), "gpt-4o*", "patterns show as they were written");
    }

    #[test]
    fn what_two_patterns_share_is_never_wider_than_either() {
        let meet = |a: &str, b: &str| {
            let (a, b) = (Pattern::parse(a).unwrap(), Pattern::parse(b).unwrap());
            assert_eq!(a.meet(&b), b.meet(&a), "the order does not matter");
            a.meet(&b).map(|p| p.to_string())
        };
        assert_eq!(meet("gpt-4o*", "gpt-4o-mini").as_deref(), Some("gpt-4o-mini"));
        assert_eq!(meet("gpt-4o*", "gpt*").as_deref(), Some("gpt-4o*"));
        assert_eq!(meet("*", "*").as_deref(), Some("*"));
        assert_eq!(meet("a", "a").as_deref(), Some("a"));
        for (a, b) in [("a", "b"), ("a*", "b*"), ("ab*", "a"), ("gpt-4o*", "gpt-5")] {
            assert_eq!(meet(a, b), None, "{a} and {b} share nothing");
        }
    }

    #[test]
    fn misleading_patterns_are_refused() {
        for text in ["", "*gpt", "g*t", "gpt**", " gpt", "gpt\n"] {
            assert!(Pattern::parse(text).is_err(), "{text:?} must be refused");
        }
    }
}
