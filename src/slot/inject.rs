//! Step 17's swap: the real key goes into exactly one slot.

use super::place::Place;
use crate::policy::Pass;
use crate::values::secret::Secret;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// RFC 3986 section 2.3: what a query value may hold as it is.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The filled slot, ready to be put into the request to the key's own provider.
pub enum Filled {
    /// A header, marked sensitive.
    Header(HeaderName, HeaderValue),
    /// The query, credential included.
    Query(String),
}

/// Takes the key out of its wrapper and puts it where the provider wants it. `query` is the
/// request's own, already stripped.
///
/// # Errors
/// `None` for a key that no header can hold; configuration refuses those.
pub fn inject(_permit: &Pass, key: &Secret, place: &Place, query: Option<&str>) -> Option<Filled> {
    // The one exit of provider keys: a permit is at hand, decided or pending, and the request goes to the key's own
    // provider.
    let key = key.expose();
    Some(match place {
        Place::Bearer => Filled::Header(AUTHORIZATION, sensitive(&["Bearer ", key].concat())?),
        Place::Header(name) => Filled::Header(name.clone(), sensitive(key)?),
        Place::Query(name) => {
            let key = utf8_percent_encode(key, UNRESERVED);
            Filled::Query(match query {
                Some(query) if !query.is_empty() => format!("{query}&{name}={key}"),
                _ => format!("{name}={key}"),
            })
        }
    })
}

fn sensitive(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
