//! Looking for models in a body: what is looked for, and how what was found becomes step 12's
//! answer. Used at once where the body is at hand, and by [`Ahead`] while it passes.

use crate::body::disposition;
use crate::body::json_model::{self, Found, Refused, Wanted};
use crate::body::multipart_model::{self, Broken};
use crate::policy::{Code, Denial, model::Named};
use crate::provider::BodyPlaces;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

/// A search that stands at one byte of a body.
pub(super) struct Search<'a> {
    wanted: Wanted<'a>,
    shape: Shape,
    scanner: Scanner<'a>,
}

/// What the headers say that the body is.
#[derive(Clone)]
enum Shape {
    Json,
    /// A form with this boundary.
    Form(Box<str>),
    /// Something else, which may be JSON all the same.
    Other,
}

enum Scanner<'a> {
    Json(json_model::Scanner<'a>),
    Form(multipart_model::Scanner<'a>),
}

impl<'a> Search<'a> {
    /// What a body with these headers is searched for; `None` where there is nothing to look for.
    ///
    /// # Errors
    /// 415 for what can't be read, 400 for what can be read in two ways.
    pub(super) fn of(places: &BodyPlaces<'a>, headers: &HeaderMap) -> Result<Option<Self>, Denial> {
        let (main, configured, further) = match *places {
            BodyPlaces::None | BodyPlaces::Frames(_) => return Ok(None),
            BodyPlaces::Json { main, configured, further } => (main, configured, further),
        };
        let plain = |e: &HeaderValue| e.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
            return Err(Denial::new(
                Code::UnsupportedBody,
                "this token is limited to certain models, and a compressed body can't be searched for one",
            ));
        }
        let wanted = Wanted { main, configured: configured.map(Into::into), further };
        Ok(Some(Self::begin(wanted, Shape::of(headers)?)))
    }

    fn begin(wanted: Wanted<'a>, shape: Shape) -> Self {
        let scanner = match &shape {
            Shape::Form(boundary) => {
                Scanner::Form(multipart_model::Scanner::new(boundary, wanted.clone()))
            }
            Shape::Json | Shape::Other => Scanner::Json(json_model::Scanner::new(wanted.clone())),
        };
        Self { wanted, shape, scanner }
    }

    /// The same search from the beginning, borrowing nothing.
    fn again(&self) -> Search<'static> {
        let Wanted { main, configured, further } = &self.wanted;
        let configured = configured.as_ref().map(|name| name.clone().into_owned().into());
        Search::begin(Wanted { main, configured, further }, self.shape.clone())
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// 400, 415.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), Denial> {
        match &mut self.scanner {
            Scanner::Json(scanner) => scanner.feed(chunk).map_err(|r| denial(r, &self.shape)),
            Scanner::Form(scanner) => scanner.feed(chunk).map_err(|b| broken(b, &self.shape)),
        }
    }

    /// The body has ended.
    ///
    /// # Errors
    /// 400, 415.
    pub(super) fn finish(self, named: &mut Named) -> Result<(), Denial> {
        let found = match self.scanner {
            Scanner::Json(scanner) => scanner.finish().map_err(|r| denial(r, &self.shape))?,
            Scanner::Form(scanner) => scanner.finish().map_err(|b| broken(b, &self.shape))?,
        };
        found.main.into_iter().chain(found.others).for_each(|model| named.add(model));
        named.further.extend(found.further);
        Ok(())
    }

    fn found(&self) -> impl Iterator<Item = &str> {
        let Found { main, others, further } = match &self.scanner {
            Scanner::Json(scanner) => scanner.found(),
            Scanner::Form(scanner) => scanner.found(),
        };
        main.iter().chain(others).chain(further).map(|model| &**model)
    }
}

impl Shape {
    fn of(headers: &HeaderMap) -> Result<Self, Denial> {
        let invalid = |why: &'static str| Denial::new(Code::InvalidBody, why);
        let mut types = headers.get_all(CONTENT_TYPE).iter();
        let Some(first) = types.next() else { return Ok(Self::Json) };
        if types.next().is_some() {
            return Err(invalid("the request has two Content-Type fields"));
        }
        let unread = |why: &'static str| Denial::new(Code::UnsupportedBody, why);
        let text = first.to_str().map_err(|_| unread("the Content-Type is not in ASCII"))?;
        let essence = text.split(';').next().unwrap_or_default().trim().as_bytes();
        if essence.eq_ignore_ascii_case(b"multipart/form-data") {
            return Ok(Self::Form(disposition::boundary(text).map_err(invalid)?.into()));
        }
        // Whoever believes the type reads something else in it than JSON.
        let begins = |kind: &[u8]| {
            essence.get(..kind.len()).is_some_and(|start| start.eq_ignore_ascii_case(kind))
        };
        if begins(b"multipart/") || begins(b"application/x-www-form-urlencoded") {
            return Err(unread("a token with models sends JSON or multipart/form-data"));
        }
        if !is_utf8(text) {
            return Err(unread("the body's charset is not UTF-8; its model can't be relied upon"));
        }
        let suffix = essence.last_chunk::<5>().is_some_and(|s| s.eq_ignore_ascii_case(b"+json"));
        let json = suffix || essence.eq_ignore_ascii_case(b"application/json");
        Ok(if json { Self::Json } else { Self::Other })
    }
}

/// Whether a content type names no charset, or UTF-8 (of which ASCII is a part).
fn is_utf8(content_type: &str) -> bool {
    let parameters = content_type.split(';').skip(1).filter_map(|part| part.split_once('='));
    let mut charsets = parameters.filter(|(name, _)| {
        let name = name.trim();
        name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("charset"))
    });
    charsets.all(|(_, value)| {
        let value = value.trim().trim_matches('"');
        ["utf-8", "utf8", "us-ascii"].iter().any(|known| value.eq_ignore_ascii_case(known))
    })
}

fn broken(broken: Broken, shape: &Shape) -> Denial {
    match broken {
        Broken::Form(why) => Denial::new(
            Code::InvalidBody,
            format!("the body is no form that can be relied upon: {why}"),
        ),
        Broken::Model(refused) => denial(refused, shape),
    }
}

fn denial(refused: Refused, shape: &Shape) -> Denial {
    match refused {
        Refused::Syntax(_) if matches!(shape, Shape::Other) => Denial::new(
            Code::UnsupportedBody,
            "the body is not JSON; the model can't be found in it",
        ),
        Refused::Syntax(why) => {
            Denial::new(Code::InvalidBody, format!("the body is not valid JSON: {why}"))
        }
        Refused::Duplicate => Denial::new(Code::AmbiguousModel, "the body names the model twice"),
        Refused::TooMany => {
            Denial::new(Code::AmbiguousModel, "the body names more than 64 different models")
        }
        Refused::NotAName => Denial::new(
            Code::AmbiguousModel,
            "the model in the body is not a plain name: a string of at most 512 bytes without blanks around it or control characters",
        ),
    }
}

/// A body that goes to the provider while it is searched; what is held stays here until everything is
/// decided.
pub(super) struct Ahead {
    search: Search<'static>,
    /// What the gate has read and Pingora will not replay.
    prefix: Bytes,
    prefixed: bool,
    held: Bytes,
    /// How many names have been looked at.
    seen: usize,
}

impl Ahead {
    /// A body of which `prefix` has been read for good.
    pub(super) fn new(search: &Search<'_>, prefix: Bytes) -> Self {
        Self { search: search.again(), prefix, prefixed: false, held: Bytes::new(), seen: 0 }
    }

    /// The body comes again, from its beginning.
    pub(super) fn reset(&mut self) {
        *self = Self::new(&self.search, self.prefix.clone());
    }

    /// Puts what was read before in front of the first chunk.
    pub(super) fn complete(&mut self, body: &mut Option<Bytes>) {
        if !std::mem::replace(&mut self.prefixed, true) && !self.prefix.is_empty() {
            *body = Some(join(self.prefix.clone(), body.take()));
        }
    }

    /// Searches a chunk, and shows each model that is new in it to `allows`.
    ///
    /// # Errors
    /// 400, 415, and what `allows` says.
    pub(super) fn search(
        &mut self,
        chunk: &[u8],
        allows: impl Fn(&str) -> Result<(), Denial>,
    ) -> Result<(), Denial> {
        self.search.feed(chunk)?;
        let count = self.search.found().count();
        if count > self.seen {
            self.seen = count;
            self.search.found().try_for_each(allows)?;
        }
        Ok(())
    }

    /// Keeps a chunk back, and gives the one before.
    pub(super) fn hold(&mut self, chunk: Bytes) -> Bytes {
        if chunk.is_empty() { chunk } else { std::mem::replace(&mut self.held, chunk) }
    }

    /// The body has ended: what it names, and what was held back of it.
    ///
    /// # Errors
    /// 400, 415.
    pub(super) fn finish(self) -> Result<(Named, Bytes), Denial> {
        let mut named = Named::default();
        self.search.finish(&mut named)?;
        Ok((named, self.held))
    }
}

/// Two pieces as one.
pub(super) fn join(first: Bytes, second: Option<Bytes>) -> Bytes {
    match second {
        Some(second) if first.is_empty() => second,
        Some(second) if !second.is_empty() => {
            let mut both = BytesMut::with_capacity(first.len() + second.len());
            both.extend_from_slice(&first);
            both.extend_from_slice(&second);
            both.freeze()
        }
        _ => first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(prefix: &'static [u8]) -> Ahead {
        let places = BodyPlaces::Json { main: &["model"], configured: None, further: &[] };
        let search = Search::of(&places, &HeaderMap::new()).unwrap().unwrap();
        Ahead::new(&search, Bytes::from_static(prefix))
    }

    fn pass(ahead: &mut Ahead, chunk: &'static [u8]) -> Result<Bytes, Code> {
        let mut body = Some(Bytes::from_static(chunk));
        ahead.complete(&mut body);
        let allows = |m: &str| if m == "ok" { Ok(()) } else { Err(Code::ModelNotAllowed.into()) };
        let chunk = body.unwrap_or_default();
        ahead.search(&chunk, allows).map_err(|d| d.code)?;
        Ok(ahead.hold(chunk))
    }

    #[test]
    fn it_stays_a_chunk_behind_whatever_was_read_before() {
        for prefix in [&b""[..], br#"{"x":"#] {
            let mut ahead = ahead(prefix);
            let first: &[u8] = if prefix.is_empty() { br#"{"x":1,"# } else { b"1," };
            let mut out = pass(&mut ahead, first).unwrap().to_vec();
            assert!(out.is_empty(), "nothing goes before there is more");
            out.extend(pass(&mut ahead, br#""model":"ok""#).unwrap());
            assert_eq!(out, br#"{"x":1,"#, "now the first");
            assert!(pass(&mut ahead, b"").unwrap().is_empty(), "an empty chunk moves nothing");
            out.extend(pass(&mut ahead, b"}").unwrap());
            let (named, held) = ahead.finish().unwrap();
            assert_eq!(named.model.as_deref(), Some("ok"));
            assert_eq!(held, &b"}"[..], "the end is held to the end");
            out.extend(held);
            assert_eq!(out, br#"{"x":1,"model":"ok"}"#);
        }
    }

    #[test]
    fn a_forbidden_model_is_seen_as_soon_as_it_is_there() {
        let mut ahead = ahead(b"");
        assert_eq!(pass(&mut ahead, br#"{"model":"no","x":"#), Err(Code::ModelNotAllowed));
    }

    #[test]
    fn a_second_attempt_begins_anew() {
        let mut ahead = ahead(br#"{"model":"#);
        pass(&mut ahead, br#""ok","#).unwrap();
        ahead.reset();
        pass(&mut ahead, br#""ok"}"#).unwrap();
        let (named, held) = ahead.finish().unwrap();
        assert_eq!(named.model.as_deref(), Some("ok"), "no duplicate of the first attempt's");
        assert_eq!(held, &br#"{"model":"ok"}"#[..], "with what was read before");
    }
}
