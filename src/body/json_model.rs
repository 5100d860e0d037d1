//! Finds the models that a JSON body names, while it passes. Strict: what two parsers could read
//! differently is refused.
//!
//! Nothing is kept but the names that were found, and nothing else is allocated. What the names are
//! worth is decided elsewhere.

use super::json::{Look, Parser, Stop};
use super::text::{LONGEST, same};
use std::borrow::Cow;

/// Levels in which members are looked at: longer than any path of [`Wanted::further`].
pub(super) const LEVELS: usize = 8;

/// Different models that may stand beside the main one.
pub(super) const MOST_FURTHER: usize = 64;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct Wanted<'a> {
    /// Top-level members that name the model, by the API.
    pub main: &'static [&'static str],
    /// One by the configuration.
    pub configured: Option<Cow<'a, str>>,
    /// Paths of further ones, of 7 members at most; `[]` goes into every element of an array.
    pub further: &'static [&'static [&'static str]],
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// From the first top-level member that names one.
    pub main: Option<Box<str>>,
    /// From other such members.
    pub others: Vec<Box<str>>,
    /// From the further paths, each once.
    pub further: Vec<Box<str>>,
}

/// Why a body was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// No JSON by RFC 8259, or nested over 128 levels.
    Syntax(String),
    /// A wanted member stands twice, after decoding and folding case.
    Duplicate,
    /// A model that is no text, empty, over 512 bytes, or has blanks around it or control
    /// characters in it.
    NotAName,
    /// More than 64 different models.
    TooMany,
}

/// Reads `body` as a whole.
///
/// # Errors
/// See [`Refused`].
pub fn scan(body: &[u8], wanted: Wanted<'_>) -> Result<Found, Refused> {
    let mut scanner = Scanner::new(wanted);
    scanner.feed(body)?;
    scanner.finish()
}

/// Stands at a place in a document.
pub struct Scanner<'a> {
    parser: Parser,
    members: Members<'a>,
}

impl<'a> Scanner<'a> {
    /// Before the first byte.
    pub fn new(wanted: Wanted<'a>) -> Self {
        Self { parser: Parser::new(), members: Members::new(wanted) }
    }

    /// Before the first byte of a document that stands `steps` below the top, where the paths that
    /// `lead` there go on.
    pub(super) fn inside(
        further: &'static [&'static [&'static str]],
        steps: usize,
        lead: impl Fn(&[&str]) -> bool,
    ) -> Self {
        let mut members = Members::new(Wanted { main: &[], configured: None, further });
        let paths = further.iter().enumerate().filter(|(_, path)| lead(path));
        members.below = paths.fold(0, |all, (n, _)| all | bit(n));
        members.above = steps;
        Self { parser: Parser::new(), members }
    }

    /// What has been found so far.
    pub fn found(&self) -> &Found {
        &self.members.found
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// See [`Refused`]; after one, everything is refused.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Refused> {
        self.parser.feed(chunk, &mut self.members).map_err(refused)
    }

    /// The body has ended.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn finish(mut self) -> Result<Found, Refused> {
        self.parser.finish().map_err(refused)?;
        Ok(self.members.found)
    }
}

pub(super) fn refused((stop, at): (Stop, u64)) -> Refused {
    match stop {
        Stop::Syntax(what) => Refused::Syntax(format!("{what} at or behind byte {at}")),
        Stop::Duplicate => Refused::Duplicate,
        Stop::NotAName => Refused::NotAName,
        Stop::TooMany => Refused::TooMany,
    }
}

/// Which members lead to a model.
struct Members<'a> {
    wanted: Wanted<'a>,
    /// What the value that comes next is.
    next: Next,
    /// The further paths that go on in it, a bit each.
    below: u32,
    /// By depth: the further paths that lead here.
    paths: [u32; LEVELS],
    /// How many steps of them lead to the document itself.
    above: usize,
    /// Main members that have been there, a bit each.
    seen: u32,
    found: Found,
}

/// What a value is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Other,
    Main,
    Further,
    /// Further, if it is a text.
    Maybe,
}

/// The last step of a path that leads to a text or to something else.
const IF_TEXT: &str = "?";

impl<'a> Members<'a> {
    fn new(wanted: Wanted<'a>) -> Self {
        let further = wanted.further;
        debug_assert!(further.len() <= 32 && further.iter().all(|p| p.len() < LEVELS), "too many");
        let below = further.iter().enumerate().fold(0, |all, (n, _)| all | bit(n));
        let (paths, found) = ([0; LEVELS], Found::default());
        Self { wanted, next: Next::Other, below, paths, above: 0, seen: 0, found }
    }

    /// The further paths that lead to the container at `depth`.
    fn here(&self, depth: u32) -> u32 {
        self.paths.get(depth as usize).copied().unwrap_or(0)
    }

    /// Those of `paths` that go on with `name` at `depth`. Every spelling counts: some servers
    /// fold case.
    fn steps(&self, paths: u32, depth: u32, name: &[u8]) -> u32 {
        if paths == 0 {
            return 0;
        }
        let at = self.above + depth as usize;
        let step = |path: &[&'static str]| path.get(at.checked_sub(1)?).copied();
        let all = self.wanted.further.iter().enumerate().filter(|(n, _)| paths & bit(*n) != 0);
        all.filter(|(_, path)| step(path).is_some_and(|wanted| same(wanted, name)))
            .fold(0, |fit, (n, _)| fit | bit(n))
    }

    /// The next value is one to which `paths` lead.
    fn expect(&mut self, paths: u32, depth: u32) {
        self.below = paths;
        let at = self.above + depth as usize;
        self.next = Next::Other;
        if paths == 0 {
            return;
        }
        for (n, path) in self.wanted.further.iter().enumerate() {
            if paths & bit(n) == 0 {
                continue;
            }
            if path.len() == at {
                self.next = Next::Further;
                return;
            }
            if path.len() == at + 1 && path.last() == Some(&IF_TEXT) {
                self.next = Next::Maybe;
            }
        }
    }

    /// Whether `key` names the model itself.
    fn is_main(&mut self, key: &[u8]) -> Result<bool, Stop> {
        let Wanted { main, configured, .. } = &self.wanted;
        let mut names = main.iter().copied().chain(configured.as_deref()).enumerate();
        let Some((place, wanted)) = names.find(|(_, wanted)| same(wanted, key)) else {
            return Ok(false);
        };
        // In another case it is what some servers read, and others don't: it must be allowed, and
        // names no model.
        self.next = if wanted.as_bytes() == key { Next::Main } else { Next::Further };
        self.below = 0;
        if self.seen & bit(place) != 0 {
            return Err(Stop::Duplicate);
        }
        self.seen |= bit(place);
        Ok(true)
    }
}

pub(super) const fn bit(n: usize) -> u32 {
    if n < 32 { 1 << n } else { 0 }
}

impl Look for Members<'_> {
    fn minds_keys(&self, depth: u32) -> bool {
        depth == 1 || self.here(depth) != 0
    }

    fn key(&mut self, depth: u32, key: Option<&[u8]>) -> Result<(), Stop> {
        let Some(key) = key else {
            self.other_key();
            return Ok(());
        };
        if depth == 1 && self.is_main(key)? {
            return Ok(());
        }
        self.expect(self.steps(self.here(depth), depth, key), depth);
        Ok(())
    }

    fn other_key(&mut self) {
        (self.next, self.below) = (Next::Other, 0);
    }

    fn element(&mut self, depth: u32) {
        self.expect(self.here(depth), depth);
    }

    fn open(&mut self, depth: u32, object: bool) {
        let paths = if object { self.below } else { self.steps(self.below, depth, b"[]") };
        if let Some(here) = self.paths.get_mut(depth as usize) {
            *here = paths;
        }
    }

    fn wants_name(&self) -> bool {
        matches!(self.next, Next::Main | Next::Further)
    }

    fn takes_name(&self) -> bool {
        self.next != Next::Other
    }

    fn name(&mut self, text: Option<&[u8]>) -> Result<(), Stop> {
        let name = text.and_then(name).ok_or(Stop::NotAName)?;
        let found = &mut self.found;
        match self.next {
            Next::Main if found.main.is_none() => found.main = Some(name.into()),
            Next::Main => found.others.push(name.into()),
            _ if found.further.iter().any(|f| **f == *name) => {}
            _ if found.further.len() == MOST_FURTHER => return Err(Stop::TooMany),
            _ => found.further.push(name.into()),
        }
        Ok(())
    }
}

/// A model's name: not empty, no blanks around it, no control characters in it.
pub(super) fn name(text: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(text).ok().filter(|_| text.len() <= LONGEST)?;
    let odd = text.is_empty() || text.trim() != text || text.chars().any(char::is_control);
    (!odd).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'static> = Wanted {
        main: &["model"],
        configured: None,
        further: &[&["tools", "[]", "model"], &["requests", "[]", "params", "model"]],
    };

    /// Read at once, and in chunks of every size: both must come to the same.
    fn names(body: &str) -> Result<Vec<String>, Refused> {
        let whole = scan(body.as_bytes(), WANTED);
        for size in 1..body.len().min(64) {
            let split = chunked(body.as_bytes(), size);
            let same = match (&whole, &split) {
                (Err(Refused::Syntax(_)), Err(Refused::Syntax(_))) => true,
                (whole, split) => whole == split,
            };
            assert!(same, "in chunks of {size}, {body}: {split:?} instead of {whole:?}");
        }
        whole.map(|f| {
            let all = f.main.iter().chain(&f.others).chain(&f.further);
            all.map(ToString::to_string).collect()
        })
    }

    fn chunked(body: &[u8], size: usize) -> Result<Found, Refused> {
        let mut scanner = Scanner::new(WANTED);
        body.chunks(size).try_for_each(|chunk| scanner.feed(chunk))?;
        scanner.finish()
    }

    #[test]
    fn the_model_is_found_wherever_it_stands() {
        for body in [
            r#"{"model":"m"}"#,
            r#"{"messages":[{"model":"inner"}],"x":{"model":1},"model":"m"}"#,
            r#"{"mo\u0064el":"\u006d"}"#,
            r#"{"x":"\ud800 \"model\":\\","y":[1,-2.5e+3,true,false,null,{}],"model":"m"}"#,
            r#"{"x":{"model":7},"é\n":[[]],"":"","model":"m"}"#,
            " \n{ \"model\" : \"m\" } ",
        ] {
            assert_eq!(names(body), Ok(vec!["m".into()]), "{body}");
        }
        assert_eq!(names(r#"{"messages":[]}"#), Ok(vec![]));
        assert_eq!(names("[]"), Ok(vec![]), "no object, no model");
        assert_eq!(names("7"), Ok(vec![]));
    }

    #[test]
    fn a_text_where_a_list_may_stand_is_a_name_too() {
        const WANTED: Wanted<'static> = Wanted {
            main: &["model"],
            configured: None,
            further: &[&["more", "[]", "model"], &["more", "[]", "?"], &["more", "?"]],
        };
        let found = |body: &str| {
            let found = scan(body.as_bytes(), WANTED).unwrap();
            found.further.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found(r#"{"model":"m","more":"a"}"#), ["a"]);
        assert_eq!(found(r#"{"more":["a",{"model":"b"},7,null],"model":"m"}"#), ["a", "b"]);
        assert!(found(r#"{"more":{"x":"a"},"model":"m"}"#).is_empty());
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
        assert!(other.main.is_none(), "another spelling alone names nothing");
        assert_eq!(&*other.further, ["a".into()], "but must be allowed: some servers fold case");
    }

    #[test]
    fn a_long_s_is_no_way_around() {
        let body = "{\"model\":\"m\",\"tool\u{17F}\":[{\"model\":\"t\"}]}";
        assert_eq!(names(body), Ok(vec!["m".into(), "t".into()]), "some servers fold it");
    }

    #[test]
    fn two_main_members_and_a_configured_one_are_all_found() {
        let wanted = || Wanted {
            main: &["model", "agent"],
            configured: Some("engine".into()),
            further: &[],
        };
        let body = br#"{"agent":"a","engine":"e","model":"m"}"#;
        let found = scan(body, wanted()).unwrap();
        assert_eq!(found.main.as_deref(), Some("a"));
        assert_eq!(found.others, ["e".into(), "m".into()]);
        let twice = br#"{"engine":"e","ENGINE":"e"}"#;
        assert_eq!(scan(twice, wanted()), Err(Refused::Duplicate));
    }

    #[test]
    fn memory_is_bounded_whatever_the_body_holds() {
        let long = "a".repeat(513);
        assert_eq!(names(&format!(r#"{{"model":"{long}"}}"#)), Err(Refused::NotAName));
        assert_eq!(names(&format!(r#"{{"model":"\n{long}"}}"#)), Err(Refused::NotAName));
        let key = format!(r#"{{"{long}":1,"\u0061{long}":"x","model":"m"}}"#);
        assert_eq!(names(&key), Ok(vec!["m".into()]), "a long member is no wanted one");
        let batch = |models: usize| {
            let one = |n| format!(r#"{{"params":{{"model":"m{}"}}}}"#, n % models);
            let all: Vec<_> = (0..1_000).map(one).collect();
            names(&format!(r#"{{"requests":[{}]}}"#, all.join(","))).map(|names| names.len())
        };
        assert_eq!(batch(64), Ok(64), "each once");
        assert_eq!(batch(65), Err(Refused::TooMany));
    }

    #[test]
    fn what_was_refused_stays_refused() {
        let mut scanner = Scanner::new(WANTED);
        assert_eq!(scanner.feed(br#"{"model":1"#), Err(Refused::NotAName));
        assert!(scanner.feed(br#"{"model":"m"}"#).is_err(), "no second beginning");
        assert!(scanner.finish().is_err(), "and no good end");
    }

    #[test]
    fn half_a_surrogate_pair_is_refused_where_it_is_read() {
        for body in [
            r#"{"model":"\ud83d"}"#,
            r#"{"model":"\ud83dx"}"#,
            r#"{"model":"\ude00"}"#,
            r#"{"model":"\ud83d\n"}"#,
            r#"{"\ud83d":1}"#,
        ] {
            assert!(matches!(names(body), Err(Refused::Syntax(_))), "{body}");
        }
        assert_eq!(names(r#"{"model":"\ud83d\ude00"}"#), Ok(vec!["😀".into()]));
        assert_eq!(names(r#"{"x":["\ud83d"]}"#), Ok(vec![]), "prompts hold such things");
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
            "{\"a\u{1}\":1}",
            "{\"model\":\"\n\"}",
            r#"{"a":"\x"}"#,
            r#"{"a":"\u12g4"}"#,
            r#"{"a":01}"#,
            r#"{"a":1.}"#,
            r#"{"a":tru}"#,
            r#"{"a":nulll}"#,
            r#"{"a" 1}"#,
            r#"{"a":1 "b":2}"#,
            r#"{,}"#,
            "[1,]",
            "[,]",
            "[1}",
            r#"{"a":1]"#,
            "]",
            "-",
            "\"a",
            "{}\u{0}",
            "\u{a0}{}",
            &deep,
            &format!("{{\"a\":{deep},\"model\":\"m\"}}"),
        ] {
            assert!(matches!(names(body), Err(Refused::Syntax(_))), "{body:?}");
        }
        assert!(
            matches!(chunked(b"{\"a\":\"\xe6\x97\"}", 1), Err(Refused::Syntax(_))),
            "half a character"
        );
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert_eq!(names(&nested(128)), Ok(vec![]));
        assert!(matches!(names(&nested(129)), Err(Refused::Syntax(_))), "129 levels");
        assert!(
            matches!(scan(b"{\"a\":\"\xff\"}", WANTED), Err(Refused::Syntax(_))),
            "invalid UTF-8"
        );
        assert!(matches!(scan(&[0x7b, 0, 0x7d, 0], WANTED), Err(Refused::Syntax(_))), "UTF-16");
    }
}
