//! Finds the models that one message of a socket names, while it passes. Strict, as for bodies:
//! what two readers could take differently is refused.
//!
//! A message is a JSON object. Members that lead to a model stand once, whatever the case in which
//! they are written; every model that is found has to be allowed, in whatever case its path is
//! written; only one whose path is written exactly counts as the message's own.

use super::json::{Look, Parser, Stop};
use super::json_model::{LEVELS, MOST_FURTHER, Refused, bit, name, refused};
use super::text::same;

/// Paths of members, from the top; `[]` goes into every element of an array.
pub type Paths = &'static [&'static [&'static str]];

/// What to look for: at most 32 paths of 7 members.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// Where a message names the model that is its own.
    pub main: Paths,
    /// Where it may name others.
    pub further: Paths,
    /// The `type` that matters.
    pub kind: Option<&'static str>,
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The message's own model.
    pub main: Option<Box<str>>,
    /// Every model, each once; the main one is among them.
    pub models: Vec<Box<str>>,
    /// Its `type`, by this very name, is another than the one that matters.
    pub other_kind: bool,
}

/// Stands at a place in a message.
pub struct Scanner {
    parser: Parser,
    members: Members,
}

impl Scanner {
    /// Before the first byte.
    pub fn new(wanted: Wanted) -> Self {
        Self { parser: Parser::new(), members: Members::new(wanted) }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// See [`Refused`]; after one, everything is refused.
    pub fn feed(&mut self, piece: &[u8]) -> Result<(), Refused> {
        let fed = self.parser.feed(piece, &mut self.members);
        fed.map_err(|(stop, at)| match stop {
            Stop::NotAName if self.members.next == Next::Kind => {
                Refused::Syntax(format!("a type that is no text at or behind byte {at}"))
            }
            stop => refused((stop, at)),
        })
    }

    /// The message has ended.
    ///
    /// # Errors
    /// See [`Refused`]; what is no object is refused too.
    pub fn finish(&mut self) -> Result<Found, Refused> {
        self.parser.finish().map_err(refused)?;
        if !self.members.is_object {
            return Err(Refused::Syntax("no object".to_owned()));
        }
        Ok(std::mem::take(&mut self.members.found))
    }
}

/// Which members lead to a model. Sets of paths have a bit for each.
struct Members {
    wanted: Wanted,
    next: Next,
    /// The paths that go on in the value that comes next.
    below: Fit,
    /// By depth: the paths that lead here.
    here: [Fit; LEVELS],
    /// By depth: the paths on which a member of the object at hand has been.
    seen: [u32; LEVELS],
    /// There has been a `type`.
    typed: bool,
    is_object: bool,
    found: Found,
}

/// Paths that fit so far.
#[derive(Debug, Clone, Copy, Default)]
struct Fit {
    /// In whatever case.
    any: u32,
    /// Written as they are in the table.
    exact: u32,
}

/// What a value is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Other,
    Kind,
    Main,
    Further,
}

impl Members {
    fn new(wanted: Wanted) -> Self {
        let count = wanted.main.len() + wanted.further.len();
        let mut paths = wanted.main.iter().chain(wanted.further);
        debug_assert!(count <= 32 && paths.all(|p| p.len() < LEVELS), "too many");
        let all = (0..count).fold(0, |all, n| all | bit(n));
        Self {
            wanted,
            next: Next::Other,
            below: Fit { any: all, exact: all },
            here: [Fit::default(); LEVELS],
            seen: [0; LEVELS],
            typed: false,
            is_object: false,
            found: Found::default(),
        }
    }

    fn here(&self, depth: u32) -> Fit {
        self.here.get(depth as usize).copied().unwrap_or_default()
    }

    /// Those of `paths` for which `fits` holds, each with its number.
    fn those(&self, paths: u32, fits: impl Fn(&[&'static str]) -> bool) -> u32 {
        if paths == 0 {
            return 0;
        }
        let all = self.wanted.main.iter().chain(self.wanted.further).enumerate();
        all.filter(|(n, path)| paths & bit(*n) != 0 && fits(path))
            .fold(0, |fit, (n, _)| fit | bit(n))
    }

    /// Those of `paths` that go on with `name` at `depth`.
    fn steps(&self, paths: Fit, depth: u32, name: &[u8]) -> Fit {
        let at = |path: &[&'static str]| path.get((depth as usize).checked_sub(1)?).copied();
        let any = self.those(paths.any, |path| at(path).is_some_and(|step| same(step, name)));
        let exact =
            self.those(paths.exact & any, |path| at(path).is_some_and(|s| s.as_bytes() == name));
        Fit { any, exact }
    }

    /// The next value is one to which `paths` lead.
    fn expect(&mut self, paths: Fit, depth: u32) {
        self.below = paths;
        let ends = self.those(paths.any, |path| path.len() == depth as usize);
        let main = self.wanted.main.len();
        self.next = if ends == 0 {
            Next::Other
        } else if (0..main).any(|n| ends & paths.exact & bit(n) != 0) {
            Next::Main
        } else {
            Next::Further
        };
    }
}

impl Look for Members {
    fn minds_keys(&self, depth: u32) -> bool {
        depth == 1 || self.here(depth).any != 0
    }

    fn key(&mut self, depth: u32, key: Option<&[u8]>) -> Result<(), Stop> {
        self.other_key();
        let Some(key) = key else { return Ok(()) };
        if depth == 1 && self.wanted.kind.is_some() && same("type", key) {
            if std::mem::replace(&mut self.typed, true) {
                return Err(Stop::Duplicate);
            }
            if key == b"type" {
                self.next = Next::Kind;
            }
            return Ok(());
        }
        let paths = self.steps(self.here(depth), depth, key);
        if let Some(seen) = self.seen.get_mut(depth as usize) {
            if *seen & paths.any != 0 {
                return Err(Stop::Duplicate);
            }
            *seen |= paths.any;
        }
        self.expect(paths, depth);
        Ok(())
    }

    fn other_key(&mut self) {
        (self.next, self.below) = (Next::Other, Fit::default());
    }

    fn element(&mut self, depth: u32) {
        self.expect(self.here(depth), depth);
    }

    fn open(&mut self, depth: u32, object: bool) {
        self.is_object |= object && depth == 1;
        let paths = if object { self.below } else { self.steps(self.below, depth, b"[]") };
        if let Some(here) = self.here.get_mut(depth as usize) {
            *here = paths;
        }
        if let Some(seen) = self.seen.get_mut(depth as usize) {
            *seen = 0;
        }
    }

    fn wants_name(&self) -> bool {
        self.next != Next::Other
    }

    fn takes_name(&self) -> bool {
        self.wants_name()
    }

    fn name(&mut self, text: Option<&[u8]>) -> Result<(), Stop> {
        if self.next == Next::Kind {
            let it = |text| self.wanted.kind.is_some_and(|kind| same(kind, text));
            self.found.other_kind = !text.is_some_and(it);
            return Ok(());
        }
        let model = text.and_then(name).ok_or(Stop::NotAName)?;
        let found = &mut self.found;
        if self.next == Next::Main {
            found.main = Some(model.into());
        }
        match found.models.iter().any(|known| **known == *model) {
            true => {}
            false if found.models.len() == MOST_FURTHER => return Err(Stop::TooMany),
            false => found.models.push(model.into()),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted = Wanted {
        main: &[&["model"], &["session", "audio", "model"]],
        further: &[
            &["session", "model"],
            &["tools", "[]", "model"],
            &["tools", "[]", "svg", "model"],
        ],
        kind: Some("response.create"),
    };

    fn scan(message: &str, size: usize) -> Result<Found, Refused> {
        let mut scanner = Scanner::new(WANTED);
        message.as_bytes().chunks(size).try_for_each(|piece| scanner.feed(piece))?;
        scanner.finish()
    }

    /// The main model, all of them, whether it is of another kind; the same in pieces of any size.
    #[track_caller]
    fn found(message: &str) -> Result<(Option<String>, Vec<String>, bool), Refused> {
        let tell = |found: Found| {
            let models = found.models.into_iter().map(String::from).collect();
            (found.main.map(String::from), models, found.other_kind)
        };
        let whole = scan(message, message.len().max(1)).map(tell);
        for size in 1..message.len().min(40) {
            let pieces = scan(message, size).map(tell);
            let same = match (&whole, &pieces) {
                (Err(Refused::Syntax(_)), Err(Refused::Syntax(_))) => true,
                (whole, pieces) => whole == pieces,
            };
            assert!(same, "in pieces of {size}, {message}: {pieces:?} instead of {whole:?}");
        }
        whole
    }

    fn names(main: Option<&str>, models: &[&str]) -> (Option<String>, Vec<String>) {
        (main.map(Into::into), models.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_model_is_found_and_the_message_s_own_is_told_apart() {
        for (message, main, models) in [
            (r#"{"model":"m"}"#, Some("m"), &["m"][..]),
            (r#"{"mo\u0064el":"m"}"#, Some("m"), &["m"]),
            (r#"{"session":{"audio":{"model":"m"},"model":"s"}}"#, Some("m"), &["m", "s"]),
            (r#"{"session":{"model":"s"}}"#, None, &["s"]),
            (
                r#"{"tools":[{},{"model":"t"},{"svg":{"model":"u"}}],"model":"m"}"#,
                Some("m"),
                &["t", "u", "m"],
            ),
            (r#"{"tools":{"model":"t"},"session":[{"model":1}],"x":{"model":2}}"#, None, &[]),
            (r#"{"audio":{"model":1},"session":{"x":{"audio":{"model":2}}}}"#, None, &[]),
            (r"{}", None, &[]),
        ] {
            let (own, all, _) = found(message).expect("it is good");
            assert_eq!((own, all), names(main, models), "{message}");
        }
    }

    #[test]
    fn another_spelling_must_be_allowed_and_names_nothing() {
        for message in [r#"{"Model":"m"}"#, r#"{"SESSION":{"audio":{"model":"m"}}}"#] {
            let (own, all, _) = found(message).expect("it is good");
            assert_eq!((own, all), names(None, &["m"]), "{message}");
        }
    }

    #[test]
    fn what_leads_to_a_model_stands_once() {
        for message in [
            r#"{"model":"a","model":"a"}"#,
            r#"{"model":"a","MODEL":"b"}"#,
            r#"{"session":{"model":"a"},"session":{}}"#,
            r#"{"session":{"model":"a","audio":{}},"sess\u0069on":1}"#,
            "{\"session\":{},\"se\u{17F}sion\":{}}",
            r#"{"type":"a","Type":"b"}"#,
        ] {
            assert_eq!(found(message), Err(Refused::Duplicate), "{message}");
        }
        let two = r#"{"tools":[{"model":"a"},{"model":"b"}],"x":1,"x":2}"#;
        assert_eq!(found(two).expect("it is good").1, ["a", "b"], "each element its own");
    }

    #[test]
    fn the_kind_is_another_only_where_everybody_would_say_so() {
        for (message, other) in [
            (r#"{"type":"session.update"}"#, true),
            (r#"{"type":"response.create"}"#, false),
            (r#"{"type":"response.cr\u0065ate"}"#, false),
            (r#"{"type":"Response.Create"}"#, false),
            (r#"{"Type":"session.update"}"#, false),
            (r#"{"x":{"type":"session.update"}}"#, false),
            ("{}", false),
        ] {
            assert_eq!(found(message).expect("it is good").2, other, "{message}");
        }
        assert!(matches!(found(r#"{"type":7}"#), Err(Refused::Syntax(_))), "no text");
    }

    #[test]
    fn what_is_no_object_or_no_json_is_refused() {
        let deep = format!(r#"{{"x":{}1{}}}"#, "[".repeat(128), "]".repeat(128));
        for message in [
            "",
            "[]",
            "7",
            r#""x""#,
            "null",
            r#"[{"model":"m"}]"#,
            "{",
            "{} x",
            "{}{}",
            "\u{feff}{}",
            &deep,
        ] {
            assert!(matches!(found(message), Err(Refused::Syntax(_))), "{message}");
        }
        let mut latin = Scanner::new(WANTED);
        assert!(latin.feed(b"{\"x\":\"\xff\"}").is_err(), "no UTF-8");
        for message in [r#"{"model":null}"#, r#"{"model":""}"#, r#"{"session":{"model":[]}}"#] {
            assert_eq!(found(message), Err(Refused::NotAName), "{message}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let tools = |n: usize| {
            let all: Vec<_> = (0..n).map(|n| format!(r#"{{"model":"m{n}"}}"#)).collect();
            scan(&format!(r#"{{"tools":[{}]}}"#, all.join(",")), 1_000).map(|f| f.models.len())
        };
        assert_eq!(tools(64), Ok(64));
        assert_eq!(tools(65), Err(Refused::TooMany));
    }
}
