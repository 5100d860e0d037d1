//! Step 10: from which sites' pages a token may be used.
//!
//! This stops browsers on other sites. It does not stop a program that forges headers.

use super::denial::{Code, Denial};
use crate::values::grant::Grant;
use http::HeaderMap;
use http::header::ORIGIN;

/// Where a request says it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effective<'a> {
    /// One `Origin` header, or the request's own site for `Sec-Fetch-Site: same-origin`.
    Site(std::borrow::Cow<'a, [u8]>),
    /// None, and nothing that betrays a browser.
    Absent,
    /// None, but a browser sent it (`Sec-Fetch-Site`).
    AbsentFromBrowser,
    /// More than one `Origin` header.
    Repeated,
}

/// The effective origin: the `Origin` header; without one and with `Sec-Fetch-Site: same-origin`
/// the request's own scheme and host; else none.
pub fn effective<'a>(headers: &'a HeaderMap, scheme: &str, host: &str) -> Effective<'a> {
    let mut sent = headers.get_all(ORIGIN).iter();
    match (sent.next(), sent.next()) {
        (Some(_), Some(_)) => Effective::Repeated,
        (Some(origin), None) => Effective::Site(origin.as_bytes().into()),
        (None, _) => match headers.get("sec-fetch-site").map(http::HeaderValue::as_bytes) {
            None => Effective::Absent,
            Some(b"same-origin") => {
                Effective::Site(format!("{scheme}://{host}").into_bytes().into())
            }
            Some(_) => Effective::AbsentFromBrowser,
        },
    }
}

/// Holds the origin against the grant. What a browser has sent by itself, a cookie, counts only
/// with word of where it came from.
///
/// # Errors
/// `origin_not_allowed`.
pub(super) fn check(grant: &Grant, origin: &Effective<'_>, by_cookie: bool) -> Result<(), Denial> {
    if by_cookie && matches!(origin, Effective::Absent | Effective::Repeated) {
        return Err(Denial::new(
            Code::OriginNotAllowed,
            "a token in a cookie counts only with Origin or Sec-Fetch-Site; a program sends it as 'Authorization: Bearer TOKEN'",
        ));
    }
    let Some(allowed) = &grant.origins else { return Ok(()) };
    let passes = match origin {
        Effective::Site(sent) => allowed.iter().any(|o| o.equals(sent)),
        Effective::Absent => grant.allow_missing_origin,
        Effective::AbsentFromBrowser | Effective::Repeated => false,
    };
    if passes { Ok(()) } else { Err(Code::OriginNotAllowed.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::grant::GrantText;

    fn verdict(headers: &[(&str, &str)], allow_missing: bool) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                http::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        let grant = GrantText {
            origins: Some(vec!["https://app.example.com".into(), "https://gate.example".into()]),
            allow_missing_origin: Some(allow_missing),
            ..GrantText::default()
        };
        check(&grant.read().unwrap(), &effective(&map, "https", "gate.example"), false).is_ok()
    }

    #[test]
    fn only_a_listed_site_passes() {
        assert!(verdict(&[("origin", "https://app.example.com")], false));
        for origin in [
            "https://evil.test",
            "null",
            "https://app.example.com.evil",
            "https://app.example.com.",
            "https://app.example.com:8443",
            "https://APP.example.com",
            "http://app.example.com",
        ] {
            assert!(!verdict(&[("origin", origin)], true), "{origin} is another site");
        }
        assert!(!verdict(
            &[("origin", "https://app.example.com"), ("origin", "https://app.example.com")],
            true
        ));
    }

    #[test]
    fn none_at_all_passes_only_where_the_policy_says_so_and_no_browser_shows() {
        assert!(!verdict(&[], false));
        assert!(verdict(&[], true));
        assert!(
            !verdict(&[("sec-fetch-site", "cross-site")], true),
            "a browser without Origin is no program"
        );
        assert!(
            verdict(&[("sec-fetch-site", "same-origin")], false),
            "the gateway's own site is listed"
        );
    }
}
