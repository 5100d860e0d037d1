//! Looking for models in a body: what is looked for, and how what was found becomes step 12's
//! answer. Used at once where the body is at hand, and by [`Ahead`] while it passes.

use crate::body::json_model::{Found, Refused, Scanner, Wanted};
use crate::policy::{Code, Denial, model::Named};
use crate::provider::BodyPlaces;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};

/// A search that stands at one byte of a body.
pub(super) struct Search<'a> {
    wanted: Wanted<'a>,
    scanner: Scanner<'a>,
    says_json: bool,
}

impl<'a> Search<'a> {
    /// What a body with these headers is searched for; `None` where there is nothing to look for.
    ///
    /// # Errors
    /// 415 for what can't be read.
    pub(super) fn of(places: &BodyPlaces<'a>, headers: &HeaderMap) -> Result<Option<Self>, Denial> {
        let (main, configured, further) = match *places {
            BodyPlaces::None | BodyPlaces::Frames => return Ok(None),
            BodyPlaces::Multipart => {
                return Err(Denial::new(
                    Code::UnsupportedBody,
                    "this token is limited to certain models, and multipart bodies can't be searched for one yet",
                ));
            }
            BodyPlaces::Json { main, configured, further } => (main, configured, further),
        };
        let plain = |e: &http::HeaderValue| e.as_bytes().eq_ignore_ascii_case(b"identity");
        if !headers.get_all(CONTENT_ENCODING).iter().all(plain) {
            return Err(Denial::new(
                Code::UnsupportedBody,
                "this token is limited to certain models, and a compressed body can't be searched for one",
            ));
        }
        let wanted = Wanted { main, configured: configured.map(Into::into), further };
        Ok(Some(Self::begin(wanted, is_json(headers))))
    }

    fn begin(wanted: Wanted<'a>, says_json: bool) -> Self {
        Self { scanner: Scanner::new(wanted.clone()), wanted, says_json }
    }

    /// The same search from the beginning, borrowing nothing.
    fn again(&self) -> Search<'static> {
        let Wanted { main, configured, further } = &self.wanted;
        let configured = configured.as_ref().map(|name| name.clone().into_owned().into());
        Search::begin(Wanted { main, configured, further }, self.says_json)
    }

    /// Takes the next chunk.
    ///
    /// # Errors
    /// 400, 415.
    pub(super) fn feed(&mut self, chunk: &[u8]) -> Result<(), Denial> {
        let says_json = self.says_json;
        self.scanner.feed(chunk).map_err(|refused| denial(refused, says_json))
    }

    /// The body has ended.
    ///
    /// # Errors
    /// 400, 415.
    pub(super) fn finish(self, named: &mut Named) -> Result<(), Denial> {
        let found = self.scanner.finish().map_err(|refused| denial(refused, self.says_json))?;
        found.main.into_iter().chain(found.others).for_each(|model| named.add(model));
        named.further.extend(found.further);
        Ok(())
    }

    fn found(&self) -> impl Iterator<Item = &str> {
        let Found { main, others, further } = self.scanner.found();
        main.iter().chain(others).chain(further).map(|model| &**model)
    }
}

fn denial(refused: Refused, says_json: bool) -> Denial {
    match refused {
        Refused::Syntax(_) if !says_json => Denial::new(
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

fn is_json(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).is_none_or(|t| {
        let essence = t.split(';').next().unwrap_or_default().trim().as_bytes();
        let suffix = essence.last_chunk::<5>().is_some_and(|s| s.eq_ignore_ascii_case(b"+json"));
        suffix || essence.eq_ignore_ascii_case(b"application/json")
    })
}

/// A body that goes to the provider while it is searched: always a chunk behind, so that its end
/// stays here until everything is decided.
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

    /// Takes a chunk, and shows each model that is new in it to `allows`. Gives the chunk before.
    ///
    /// # Errors
    /// 400, 415, and what `allows` says.
    pub(super) fn take(
        &mut self,
        chunk: Bytes,
        allows: impl Fn(&str) -> Result<(), Denial>,
    ) -> Result<Bytes, Denial> {
        self.search.feed(&chunk)?;
        let count = self.search.found().count();
        if count > self.seen {
            self.seen = count;
            self.search.found().try_for_each(allows)?;
        }
        if chunk.is_empty() {
            return Ok(chunk);
        }
        Ok(std::mem::replace(&mut self.held, chunk))
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
        ahead.take(body.unwrap_or_default(), allows).map_err(|d| d.code)
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
