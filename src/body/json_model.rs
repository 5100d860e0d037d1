//! Finds the models that a JSON body names. Strict: what two parsers could read differently is
//! refused.
//!
//! The body is at hand as a whole (64 KiB at most); longer ones are refused before they get here.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Levels that arrays and objects may stand in each other.
const DEEPEST: usize = 128;

/// What to look for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Top-level members that name the model.
    pub main: &'a [&'a str],
    /// Paths of further ones; `[]` goes into every element of an array.
    pub further: &'a [&'a [&'a str]],
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// From the top-level members.
    pub main: Vec<Box<str>>,
    /// From the further paths.
    pub further: Vec<Box<str>>,
}

/// Why a body was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// No JSON by RFC 8259, or nested over 128 levels.
    Syntax(String),
    /// A wanted member stands twice, after decoding and folding case.
    Duplicate,
    /// A model that is no text, empty, or has blanks around it or control characters in it.
    NotAName,
}

/// Reads `body` to its end.
///
/// # Errors
/// See [`Refused`].
pub fn scan(body: &[u8], wanted: Wanted<'_>) -> Result<Found, Refused> {
    let text = std::str::from_utf8(body).map_err(|_| Refused::Syntax("it is not UTF-8".into()))?;
    if nesting(body) > DEEPEST {
        return Err(Refused::Syntax("it is nested over 128 levels".into()));
    }
    let mut state = State { found: Found::default(), refused: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let seed = Top { wanted, state: &mut state };
    let result = seed.deserialize(&mut json).and_then(|()| json.end());
    match (state.refused, result) {
        (Some(refused), _) => Err(refused),
        (None, Ok(())) => Ok(state.found),
        (None, Err(e)) => Err(Refused::Syntax(format!(
            "{:?} error at line {} column {}",
            e.classify(),
            e.line(),
            e.column()
        ))),
    }
}

/// How deep arrays and objects stand in each other: what is skipped, the parser does not limit.
fn nesting(body: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_text, mut escaped) = (0_usize, 0, false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Scalars where an object could be: they name nothing.
macro_rules! scalars_name_nothing {
    () => {
        fn visit_bool<E>(self, _: bool) -> Result<(), E> {
            Ok(())
        }
        fn visit_i64<E>(self, _: i64) -> Result<(), E> {
            Ok(())
        }
        fn visit_u64<E>(self, _: u64) -> Result<(), E> {
            Ok(())
        }
        fn visit_f64<E>(self, _: f64) -> Result<(), E> {
            Ok(())
        }
        fn visit_str<E>(self, _: &str) -> Result<(), E> {
            Ok(())
        }
        fn visit_unit<E>(self) -> Result<(), E> {
            Ok(())
        }
    };
}

struct State {
    found: Found,
    refused: Option<Refused>,
}

impl State {
    /// Notes why and stops the parser.
    fn refuse<E: serde::de::Error>(&mut self, why: Refused) -> E {
        self.refused.get_or_insert(why);
        E::custom("refused")
    }
}

/// The document: an object whose members are looked at; anything else names no model.
struct Top<'a, 's> {
    wanted: Wanted<'a>,
    state: &'s mut State,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = vec![false; self.wanted.main.len()];
        while let Some(Key(key)) = map.next_key()? {
            let place = self.wanted.main.iter().position(|m| m.eq_ignore_ascii_case(&key));
            if let Some(seen) = place.and_then(|p| seen.get_mut(p)) {
                if std::mem::replace(seen, true) {
                    return Err(self.state.refuse(Refused::Duplicate));
                }
                let name = map.next_value_seed(Name(self.state))?;
                // In another case it is what some servers read, and others don't: it must be
                // allowed, and names no model.
                if self.wanted.main.contains(&&*key) {
                    self.state.found.main.push(name);
                } else {
                    self.state.found.further.push(name);
                }
                continue;
            }
            let below = step(self.wanted.further, &key);
            if below.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Below { paths: below, state: self.state })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    scalars_name_nothing!();
}

/// A value inside which paths go on; an empty path means: here.
struct Below<'a, 's> {
    paths: Vec<&'a [&'a str]>,
    state: &'s mut State,
}

impl<'de> DeserializeSeed<'de> for Below<'_, '_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        if self.paths.iter().any(|p| p.is_empty()) {
            let name = Name(self.state).deserialize(d)?;
            self.state.found.further.push(name);
            return Ok(());
        }
        d.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let paths = step(&self.paths, &key);
            if paths.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else {
                map.next_value_seed(Below { paths, state: self.state })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let paths = step(&self.paths, "[]");
            if paths.is_empty() {
                if seq.next_element::<IgnoredAny>()?.is_none() {
                    return Ok(());
                }
            } else if seq.next_element_seed(Below { paths, state: self.state })?.is_none() {
                return Ok(());
            }
        }
    }

    scalars_name_nothing!();
}

/// The paths that go on behind `key`. Every spelling counts: some servers fold case.
fn step<'a>(paths: &[&'a [&'a str]], key: &str) -> Vec<&'a [&'a str]> {
    let fits = |path: &&'a [&'a str]| match path.split_first() {
        Some((first, rest)) if first.eq_ignore_ascii_case(key) => Some(rest),
        _ => None,
    };
    paths.iter().filter_map(fits).collect()
}

/// A model's name: text, not empty, no blanks around it, no control characters in it.
struct Name<'s>(&'s mut State);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Box<str>;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Box<str>, D::Error> {
        d.deserialize_any(self)
    }
}

macro_rules! refuse_scalars {
    ($($method:ident: $type:ty),*) => {
        $(fn $method<E: serde::de::Error>(self, _: $type) -> Result<Box<str>, E> {
            Err(self.0.refuse(Refused::NotAName))
        })*
    };
}

impl<'de> Visitor<'de> for Name<'_> {
    type Value = Box<str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a model's name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Box<str>, E> {
        if text.is_empty() || text.trim() != text || text.chars().any(char::is_control) {
            return Err(self.0.refuse(Refused::NotAName));
        }
        Ok(text.into())
    }

    refuse_scalars!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64);

    fn visit_unit<E: serde::de::Error>(self) -> Result<Box<str>, E> {
        Err(self.0.refuse(Refused::NotAName))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Box<str>, A::Error> {
        Err(self.0.refuse(Refused::NotAName))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Box<str>, A::Error> {
        Err(self.0.refuse(Refused::NotAName))
    }
}

/// A member's name, decoded; borrowed where it has no escapes.
struct Key<'de>(Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        d.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'static> = Wanted {
        main: &["model"],
        further: &[&["tools", "[]", "model"], &["requests", "[]", "params", "model"]],
    };

    fn names(body: &str) -> Result<Vec<String>, Refused> {
        scan(body.as_bytes(), WANTED)
            .map(|f| f.main.iter().chain(&f.further).map(ToString::to_string).collect())
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        for body in [
            r#"{"model":"m"}"#,
            r#"{"messages":[{"model":"inner"}],"x":{"model":1},"model":"m"}"#,
            r#"{"mo\u0064el":"\u006d"}"#,
            " \n{ \"model\" : \"m\" } ",
        ] {
            assert_eq!(names(body), Ok(vec!["m".into()]), "{body}");
        }
        assert_eq!(names(r#"{"messages":[]}"#), Ok(vec![]));
        assert_eq!(names("[]"), Ok(vec![]), "no object, no model");
        assert_eq!(names("7"), Ok(vec![]));
    }

    #[test]
    fn hidden_models_are_found_too() {
        let body = r#"{"model":"m","tools":[{"type":"x"},{"model":"t"}],"Tools":[{"Model":"u"}]}"#;
        assert_eq!(names(body), Ok(vec!["m".into(), "t".into(), "u".into()]));
        let batch = r#"{"requests":[{"params":{"model":"a"}},{"params":{"model":"b"}}]}"#;
        assert_eq!(names(batch), Ok(vec!["a".into(), "b".into()]));
    }

    #[test]
    fn a_second_model_is_ambiguous_however_it_is_spelt() {
        for body in [
            r#"{"model":"a","model":"a"}"#,
            r#"{"model":"a","Model":"b"}"#,
            r#"{"MODEL":"a","model":"b"}"#,
            r#"{"model":"a","mode\u006c":"b"}"#,
        ] {
            assert_eq!(names(body), Err(Refused::Duplicate), "{body}");
        }
        let other = scan(br#"{"Model":"a"}"#, WANTED).unwrap();
        assert!(other.main.is_empty(), "another spelling alone names nothing");
        assert_eq!(&*other.further, ["a".into()], "but must be allowed: some servers fold case");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for value in [
            "1",
            "null",
            "true",
            "1.5",
            "-1",
            "[]",
            "{}",
            r#""""#,
            r#"" a""#,
            r#""a\n""#,
            r#""a\u0000b""#,
        ] {
            assert_eq!(
                names(&format!(r#"{{"model":{value}}}"#)),
                Err(Refused::NotAName),
                "{value}"
            );
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        for body in [
            "",
            "{",
            r#"{"model":"a"} x"#,
            r#"{"model":"a"}{"model":"b"}"#,
            "\u{feff}{}",
            r#"{"a":NaN}"#,
            r#"{'model':'a'}"#,
            r#"{"model":"a",}"#,
            "{\"a\":\"\u{1}\"}",
            &deep,
            &format!("{{\"a\":{deep},\"model\":\"m\"}}"),
        ] {
            assert!(matches!(names(body), Err(Refused::Syntax(_))), "{body:?}");
        }
        assert!(
            matches!(scan(b"{\"a\":\"\xff\"}", WANTED), Err(Refused::Syntax(_))),
            "invalid UTF-8"
        );
        assert!(matches!(scan(&[0x7b, 0, 0x7d, 0], WANTED), Err(Refused::Syntax(_))), "UTF-16");
    }
}
