//! The header `Stream-Allowed-Origins`: `*`, `same-origin`, or a list of origins.
//!
//! A policy is its canonical text: origins normalised, sorted, each once. Equal policies are equal
//! texts, so that a million streams share a few of them.

use crate::values::Invalid;
use crate::values::origin::Origin;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The header's name.
pub const HEADER: &str = "stream-allowed-origins";
/// Origins in a list.
const MOST: usize = 20;

const ANY: &str = "*";
const SAME: &str = "same-origin";
/// No origin at all: what two lists without a common origin leave. Never read from a header.
const NONE: &str = "none";
/// Stands for what the store has and nobody can read. Never written.
const UNREADABLE: &str = "?";
const BETWEEN: &str = ", ";

/// Which origins may use a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy(Arc<str>);

/// What a policy says of origins.
pub(super) enum Rule<'a> {
    /// Every origin.
    Any,
    /// The one that the request itself was sent to.
    Same,
    /// These; perhaps none.
    List(&'a str),
    /// Nobody knows.
    Unreadable,
}

impl Policy {
    /// Reads the header's value.
    ///
    /// # Errors
    /// What is wrong with it, for the caller.
    pub fn parse(value: &[u8]) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new(format!("Stream-Allowed-Origins: {why}"));
        let text = std::str::from_utf8(value).map_err(|_| bad("write origins in ASCII"))?;
        let text = text.trim_matches([' ', '\t']);
        match text {
            ANY | SAME => return Ok(Self(text.into())),
            "" => return Err(bad("write '*', 'same-origin' or a list of origins")),
            _ => {}
        }
        if text.split(',').count() > MOST {
            return Err(bad("at most 20 origins"));
        }
        let mut origins = BTreeSet::new();
        for written in text.split(',') {
            let written = written.trim_matches([' ', '\t']);
            let origin = Origin::parse(written).map_err(|why| bad(&why.to_string()))?;
            let origin = origin.to_string();
            // Schemes that no vendor registers may hold what would end an element of the list.
            if origin.contains([',', ' ']) {
                return Err(bad("an origin holds a comma or a blank"));
            }
            origins.insert(origin);
        }
        Ok(Self::of(origins))
    }

    /// Reads what the store has: what was written here, a million times at a start. An origin that is not
    /// as browsers write it is nobody's; what does not even look like one can't be read.
    pub fn stored(text: &str) -> Self {
        let plain = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase() && b != b',';
        let is_origin = |o: &str| o.contains("://") && o.bytes().all(plain);
        let readable = matches!(text, ANY | SAME | NONE) || text.split(BETWEEN).all(is_origin);
        Self(if readable { text } else { UNREADABLE }.into())
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it compares origins with the gateway's own name.
    pub fn is_same_origin(&self) -> bool {
        &*self.0 == SAME
    }

    /// One policy that allows nothing that either refuses.
    pub fn narrower(&self, other: &Self) -> Self {
        match (self.rule(), other.rule()) {
            (Rule::Unreadable, _) | (_, Rule::Any) => self.clone(),
            (_, Rule::Unreadable) | (Rule::Any, _) => other.clone(),
            (Rule::Same, Rule::Same) => self.clone(),
            (Rule::List(list), Rule::List(others)) => {
                let others: BTreeSet<&str> = each(others).collect();
                Self::of(each(list).filter(|o| others.contains(o)).map(str::to_owned).collect())
            }
            // Which of the list is the gateway's own depends on who asks: nobody is both for sure.
            (Rule::Same, Rule::List(_)) | (Rule::List(_), Rule::Same) => Self(NONE.into()),
        }
    }

    /// Shared with whoever has the same.
    pub(super) fn shared(text: &Arc<str>) -> Self {
        Self(text.clone())
    }

    pub(super) fn text(&self) -> &Arc<str> {
        &self.0
    }

    pub(super) fn rule(&self) -> Rule<'_> {
        match &*self.0 {
            ANY => Rule::Any,
            SAME => Rule::Same,
            NONE => Rule::List(""),
            UNREADABLE => Rule::Unreadable,
            list => Rule::List(list),
        }
    }

    fn of(origins: BTreeSet<String>) -> Self {
        let text = origins.into_iter().collect::<Vec<_>>().join(BETWEEN);
        Self(if text.is_empty() { NONE.into() } else { text.into() })
    }
}

/// The origins of a list.
pub(super) fn each(list: &str) -> impl Iterator<Item = &str> {
    list.split(BETWEEN).filter(|origin| !origin.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Option<String> {
        Policy::parse(value.as_bytes()).ok().map(|policy| policy.as_str().to_owned())
    }

    #[test]
    fn the_header_is_read_into_one_canonical_text() {
        for (written, canonical) in [
            ("*", "*"),
            (" same-origin\t", "same-origin"),
            ("https://a.example", "https://a.example"),
            ("https://B.example:443,https://a.example", "https://a.example, https://b.example"),
            ("https://a.example ,\thttps://a.example", "https://a.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(read(written).as_deref(), Some(canonical), "{written}");
            let stored = Policy::stored(canonical);
            assert_eq!(stored.as_str(), canonical, "what was stored is read as it is");
        }
    }

    #[test]
    fn anything_else_is_no_policy() {
        let many: Vec<_> = (0..21).map(|n| format!("https://a{n}.example")).collect();
        assert!(read(&many[..20].join(",")).is_some(), "20 are allowed");
        for written in [
            "",
            " ",
            ",",
            "*, https://a.example",
            "Same-Origin",
            "same-origin, https://a.example",
            "null",
            "none",
            "?",
            "https://a.example,",
            "https://a.example,,https://b.example",
            "https://a.example https://b.example",
            "https://*.example",
            "https://a.example/",
            "a.example",
            "https://a.example;https://b.example",
            "\u{7f}",
            &many.join(","),
        ] {
            assert_eq!(read(written), None, "{written:?}");
        }
        assert!(Policy::parse(b"https://\xff.example").is_err(), "no text");
    }

    #[test]
    fn what_the_store_has_is_believed_only_if_it_may_have_been_written_here() {
        let long = "https://a.example,https://b.example";
        for text in ["", "https://A.example", "x", "?", "*, https://a.example", long, "a://b, "] {
            let policy = Policy::stored(text);
            assert!(matches!(policy.rule(), Rule::Unreadable), "{text:?} was not written by us");
        }
        assert!(matches!(Policy::stored("none").rule(), Rule::List("")));
    }

    #[test]
    fn two_policies_leave_what_both_allow() {
        let of = |a: &str, b: &str| {
            let (a, b) = (Policy::stored(a), Policy::stored(b));
            assert_eq!(a.narrower(&b), b.narrower(&a), "the order does not matter");
            a.narrower(&b).as_str().to_owned()
        };
        let (a, b) = ("https://a.example", "https://b.example");
        assert_eq!(of("*", "*"), "*");
        assert_eq!(of("*", a), a);
        assert_eq!(of("*", "same-origin"), "same-origin");
        assert_eq!(of("same-origin", "same-origin"), "same-origin");
        assert_eq!(of("same-origin", a), "none");
        assert_eq!(of(&format!("{a}, {b}"), b), b);
        assert_eq!(of(a, b), "none");
        assert_eq!(of("none", "*"), "none");
        assert_eq!(of("x", "*"), "?", "what can't be read is never forgotten");
        assert_eq!(of("x", a), "?");
    }
}
