//! Finds the models that a `multipart/form-data` body names, while it passes (RFC 7578). Strict:
//! what two parsers could read differently is refused.
//!
//! Files of any size pass by; what is kept is one part's header, 8 KiB at most, and one name. A
//! field leads to a model by its name, in brackets too (`session[model]`), or is a JSON document in
//! which a path goes on (`session`).

use super::disposition::{self, Part};
use super::json_model::{Found, Refused, Scanner as Json, Wanted};
use super::text::{LONGEST, same};
use std::borrow::Cow;

/// The longest header of a part.
const LONGEST_HEADER: usize = 8 << 10;

/// Different models that may stand beside the main one.
const MOST_FURTHER: usize = 64;

/// Why a body was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// No form by RFC 7578, or one that parsers read differently.
    Form(&'static str),
    /// A field that names a model, or a document that holds one.
    Model(Refused),
}

const BOUNDARY: Broken = Broken::Form("the boundary is broken");

/// Stands at a place in a form.
pub struct Scanner<'a> {
    wanted: Wanted<'a>,
    /// `--` and the boundary.
    delimiter: Box<[u8]>,
    state: State,
    /// What is kept of a header.
    header: Vec<u8>,
    field: Field,
    seen: u32,
    found: Found,
}

/// What may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first delimiter, so much of which has come.
    First(usize),
    /// Two bytes behind a delimiter; the first one.
    Behind(Option<u8>),
    Header,
    Content(Line),
    /// The last line's end, so much of which has come.
    End(usize),
    Over,
}

/// Where in a line the content stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Within,
    /// Behind a carriage return.
    Return,
    /// In what may be a delimiter, behind a line's end.
    Delimiter(LineEnd, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineEnd {
    /// The content begins here.
    None,
    Return,
    Feed,
    Both,
}

impl LineEnd {
    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Return => b"\r",
            Self::Feed => b"\n",
            Self::Both => b"\r\n",
        }
    }
}

/// What a part is to us.
enum Field {
    Other,
    /// A model, in a main field if `main`.
    Name {
        text: Vec<u8>,
        main: bool,
    },
    Document(Box<Json<'static>>),
}

impl<'a> Scanner<'a> {
    /// Before the first byte of a form with this boundary ([`super::disposition::boundary`]).
    pub fn new(boundary: &str, wanted: Wanted<'a>) -> Self {
        Self {
            wanted,
            delimiter: [b"--", boundary.as_bytes()].concat().into(),
            state: State::First(0),
            header: Vec::new(),
            field: Field::Other,
            seen: 0,
            found: Found::default(),
        }
    }

    /// What has been found so far, in parts that have ended.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// See [`Broken`]; after one, everything is refused.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), Broken> {
        let mut rest = chunk;
        while !rest.is_empty() {
            match self.step(rest) {
                Ok(left) => rest = left,
                Err(broken) => {
                    self.state = State::Over;
                    return Err(broken);
                }
            }
        }
        Ok(())
    }

    /// The body has ended.
    ///
    /// # Errors
    /// See [`Broken`].
    pub fn finish(self) -> Result<Found, Broken> {
        match self.state {
            State::End(0 | 2) => Ok(self.found),
            _ => Err(Broken::Form("it ends early")),
        }
    }

    fn step<'c>(&mut self, text: &'c [u8]) -> Result<&'c [u8], Broken> {
        let Some((byte, rest)) = text.split_first() else { return Ok(text) };
        match self.state {
            State::First(come) => {
                if self.delimiter.get(come) != Some(byte) {
                    return Err(Broken::Form("it does not begin with its boundary"));
                }
                let whole = come + 1 == self.delimiter.len();
                self.state = if whole { State::Behind(None) } else { State::First(come + 1) };
            }
            State::Behind(None) => self.state = State::Behind(Some(*byte)),
            State::Behind(Some(first)) => {
                self.state = match [first, *byte] {
                    [b'-', b'-'] => State::End(0),
                    [b'\r', b'\n'] => {
                        self.header.clear();
                        State::Header
                    }
                    _ => return Err(BOUNDARY),
                }
            }
            State::Header => self.header(*byte)?,
            State::Content(line) => return self.content(line, text),
            State::End(come) => {
                if b"\r\n".get(come) != Some(byte) {
                    return Err(Broken::Form("something stands behind its end"));
                }
                self.state = State::End(come + 1);
            }
            State::Over => return Err(BOUNDARY),
        }
        Ok(rest)
    }

    fn header(&mut self, byte: u8) -> Result<(), Broken> {
        if self.header.len() == LONGEST_HEADER {
            return Err(Broken::Form("a part has more than 8 KiB of headers"));
        }
        self.header.push(byte);
        if !self.header.ends_with(b"\r\n\r\n") {
            return Ok(());
        }
        let header = std::mem::take(&mut self.header);
        let part = disposition::read(&header).map_err(Broken::Form)?;
        self.field = self.field_of(&part)?;
        self.header = header;
        self.state = State::Content(Line::Delimiter(LineEnd::None, 0));
        Ok(())
    }

    /// What a part with this header is.
    fn field_of(&mut self, part: &Part) -> Result<Field, Broken> {
        let steps = disposition::steps(&part.name);
        let Some(first) = steps.first() else { return Ok(Field::Other) };
        let Wanted { main, configured, .. } = &self.wanted;
        let mut names = main.iter().copied().chain(configured.as_deref()).enumerate();
        let place = names.find(|(_, wanted)| same(wanted, first.as_bytes()));
        let field = if let Some((place, wanted)) = place {
            if steps.len() > 1 {
                return Err(Broken::Model(Refused::NotAName));
            }
            let bit = 1_u32.checked_shl(u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or(0);
            if self.seen & bit != 0 {
                return Err(Broken::Model(Refused::Duplicate));
            }
            self.seen |= bit;
            // In another case it is what some servers read, and others don't.
            Field::Name { text: Vec::new(), main: *wanted == *part.name }
        } else {
            self.further(&steps)
        };
        if !matches!(field, Field::Other) && !part.is_plain(matches!(field, Field::Document(_))) {
            return Err(Broken::Form("a field that names a model is a file, or no plain text"));
        }
        Ok(field)
    }

    /// Whether one of the further paths leads here: to its end, or into a document.
    fn further(&self, steps: &[Cow<'_, str>]) -> Field {
        let further = self.wanted.further;
        let leads = |path: &[&str]| {
            let all = || path.iter().zip(steps).all(|(w, s)| same(w, s.as_bytes()));
            path.len() >= steps.len() && all()
        };
        if further.iter().any(|path| path.len() == steps.len() && leads(path)) {
            return Field::Name { text: Vec::new(), main: false };
        }
        if further.iter().any(|path| leads(path)) {
            return Field::Document(Box::new(Json::inside(further, steps.len(), leads)));
        }
        Field::Other
    }

    fn content<'c>(&mut self, line: Line, text: &'c [u8]) -> Result<&'c [u8], Broken> {
        let Some((byte, rest)) = text.split_first() else { return Ok(text) };
        let next = match (line, *byte) {
            (Line::Within, _) => {
                let plain = memchr::memchr2(b'\r', b'\n', text).unwrap_or(text.len());
                let (piece, rest) = text.split_at_checked(plain).unwrap_or((text, &[]));
                self.take(piece)?;
                let Some((end, rest)) = rest.split_first() else {
                    self.state = State::Content(Line::Within);
                    return Ok(rest);
                };
                let feed = Line::Delimiter(LineEnd::Feed, 0);
                self.state = State::Content(if *end == b'\r' { Line::Return } else { feed });
                return Ok(rest);
            }
            (Line::Return, b'\n') => Line::Delimiter(LineEnd::Both, 0),
            (Line::Return, _) => {
                self.state = State::Content(Line::Delimiter(LineEnd::Return, 0));
                return Ok(text);
            }
            (Line::Delimiter(end, come), byte) if self.delimiter.get(come) == Some(&byte) => {
                if come + 1 < self.delimiter.len() {
                    Line::Delimiter(end, come + 1)
                } else if end == LineEnd::Both {
                    self.ended()?;
                    self.state = State::Behind(None);
                    return Ok(rest);
                } else {
                    // There are parsers that take it for a boundary.
                    return Err(BOUNDARY);
                }
            }
            (Line::Delimiter(end, come), _) => {
                self.take(end.bytes())?;
                let begun = self.delimiter.get(..come).unwrap_or_default().to_vec();
                self.take(&begun)?;
                self.state = State::Content(Line::Within);
                return Ok(text);
            }
        };
        self.state = State::Content(next);
        Ok(rest)
    }

    /// A piece of the content.
    fn take(&mut self, piece: &[u8]) -> Result<(), Broken> {
        match &mut self.field {
            Field::Other => Ok(()),
            Field::Name { text, .. } if text.len() + piece.len() > LONGEST => {
                Err(Broken::Model(Refused::NotAName))
            }
            Field::Name { text, .. } => {
                text.extend_from_slice(piece);
                Ok(())
            }
            Field::Document(json) => json.feed(piece).map_err(Broken::Model),
        }
    }

    /// A part has ended.
    fn ended(&mut self) -> Result<(), Broken> {
        match std::mem::replace(&mut self.field, Field::Other) {
            Field::Other => Ok(()),
            Field::Name { text, main } => {
                let not_a_name = || Broken::Model(Refused::NotAName);
                let name = super::json_model::name(&text).ok_or_else(not_a_name)?.into();
                match main {
                    true if self.found.main.is_none() => self.found.main = Some(name),
                    true => self.found.others.push(name),
                    false => self.further_model(name)?,
                }
                Ok(())
            }
            Field::Document(json) => {
                let found = json.finish().map_err(Broken::Model)?;
                found.further.into_iter().try_for_each(|name| self.further_model(name))
            }
        }
    }

    fn further_model(&mut self, name: Box<str>) -> Result<(), Broken> {
        if !self.found.further.contains(&name) {
            if self.found.further.len() == MOST_FURTHER {
                return Err(Broken::Model(Refused::TooMany));
            }
            self.found.further.push(name);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'static> = Wanted {
        main: &["model"],
        configured: None,
        further: &[&["tools", "[]", "model"], &["session", "model"]],
    };

    const MODEL: &str = "Content-Disposition: form-data; name=\"model\"\r\n\r\nm";
    const FILE: &str = "Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n";

    fn form(parts: &[&str]) -> String {
        let all: String = parts.iter().map(|part| format!("--B\r\n{part}\r\n")).collect();
        format!("{all}--B--\r\n")
    }

    /// Read at once, and in chunks of every size: both must come to the same.
    fn names(body: &[u8]) -> Result<Vec<String>, Broken> {
        let read = |size: usize| {
            let mut scanner = Scanner::new("B", WANTED);
            body.chunks(size).try_for_each(|chunk| scanner.feed(chunk))?;
            scanner.finish()
        };
        let whole = read(body.len().max(1));
        for size in 1..body.len().min(32) {
            let split = read(size);
            let same = match (&whole, &split) {
                (
                    Err(Broken::Model(Refused::Syntax(_))),
                    Err(Broken::Model(Refused::Syntax(_))),
                ) => true,
                (whole, split) => whole == split,
            };
            assert!(same, "in chunks of {size}: {split:?} instead of {whole:?}");
        }
        whole.map(|f| {
            let all = f.main.iter().chain(&f.others).chain(&f.further);
            all.map(ToString::to_string).collect()
        })
    }

    #[test]
    fn the_model_is_found_wherever_it_stands_among_files() {
        let file = format!("{FILE}{}\r\n--Bx-\r\n\r--\n\r\n--", "\r\n-\r\n--\0\u{1}".repeat(50));
        for parts in [
            &[MODEL][..],
            &[MODEL, &file.replace("--Bx", "-Bx")],
            &[&file.replace("--Bx", "-Bx"), MODEL],
        ] {
            assert_eq!(names(form(parts).as_bytes()), Ok(vec!["m".into()]));
        }
        assert_eq!(names(form(&[FILE]).as_bytes()), Ok(vec![]));
        assert_eq!(names(b"--B--"), Ok(vec![]), "an empty form");
    }

    #[test]
    fn models_inside_fields_are_found_too() {
        let session = "Content-Disposition: form-data; name=\"session\"\r\nContent-Type: application/json\r\n\r\n{\"type\":\"realtime\",\"Model\":\"s\"}";
        assert_eq!(names(form(&[session]).as_bytes()), Ok(vec!["s".into()]));
        let tools = "Content-Disposition: form-data; name=\"tools\"\r\n\r\n[{\"model\":\"t\"},{\"x\":{\"model\":\"no\"}}]";
        assert_eq!(names(form(&[MODEL, tools]).as_bytes()), Ok(vec!["m".into(), "t".into()]));
        for name in ["session[model]", "Session[MODEL]", "tools[][model]", "tools[12][model]"] {
            let field = format!("Content-Disposition: form-data; name=\"{name}\"\r\n\r\nx");
            assert_eq!(names(form(&[&field]).as_bytes()), Ok(vec!["x".into()]), "{name}");
        }
        let upper = MODEL.replace("\"model\"", "\"MODEL\"");
        let mut scanner = Scanner::new("B", WANTED);
        scanner.feed(form(&[&upper]).as_bytes()).unwrap();
        let found = scanner.finish().unwrap();
        assert!(found.main.is_none() && *found.further == ["m".into()], "another spelling");
    }

    #[test]
    fn a_field_that_could_mean_something_else_is_refused() {
        let twice = form(&[MODEL, MODEL]);
        assert_eq!(names(twice.as_bytes()), Err(Broken::Model(Refused::Duplicate)));
        let cased = form(&[MODEL, &MODEL.replace("\"model\"", "\"Model\"")]);
        assert_eq!(names(cased.as_bytes()), Err(Broken::Model(Refused::Duplicate)));
        for (from, to) in [
            ("\"model\"", "\"model\"; filename=\"x\""),
            ("\"model\"", "\"model\"; filename*=utf-8''x"),
            ("\"model\"", "\"model\"\r\nContent-Type: application/json"),
            ("\"model\"", "\"model\"\r\nContent-Type: text/plain; charset=utf-7"),
            ("\"model\"", "\"model[]\""),
            ("\r\n\r\nm", "\r\n\r\n"),
            ("\r\n\r\nm", "\r\n\r\n m"),
            ("\r\n\r\nm", "\r\n\r\nm\r\n"),
        ] {
            let body = form(&[&MODEL.replace(from, to)]);
            assert!(names(body.as_bytes()).is_err(), "{body}");
        }
        let long = form(&[&format!("{MODEL}{}", "m".repeat(512))]);
        assert_eq!(names(long.as_bytes()), Err(Broken::Model(Refused::NotAName)));
        let broken = "Content-Disposition: form-data; name=\"session\"\r\n\r\n{\"model\":";
        assert!(names(form(&[broken]).as_bytes()).is_err());
    }

    #[test]
    fn a_broken_boundary_is_refused() {
        let good = form(&[MODEL, FILE]);
        for (from, to) in [
            ("--B\r\n", " --B\r\n"),
            ("--B\r\n", "\r\n--B\r\n"),
            ("--B\r\n", "--B\n"),
            ("--B\r\n", "--B \r\n"),
            ("--B\r\n", "--Bx\r\n"),
            ("m\r\n--B", "m\n--B"),
            ("m\r\n--B", "m\r--B"),
            ("m\r\n--B", "m\r\n--Bx"),
            ("\r\n\r\nm\r\n--B", "\r\n\r\n--B"),
            ("--B--\r\n", "--B--\r\nx"),
            ("--B--\r\n", "--B--\r\n\r\n"),
            ("--B--\r\n", "--B-"),
            ("--B--\r\n", "--B\r\n"),
            ("--B--\r\n", ""),
        ] {
            let body = good.replacen(from, to, 1);
            assert_ne!(body, good, "{from:?} is there");
            assert!(names(body.as_bytes()).is_err(), "{from:?} became {to:?}");
        }
        assert!(names(b"").is_err() && names(b"{\"model\":\"m\"}").is_err());
        let endless = format!("--B\r\nX: {}", "x".repeat(10_000));
        assert!(names(endless.as_bytes()).is_err(), "a header without end");
    }
}
