//! Web origins, ASCII-serialised as browsers send them (RFC 6454 section 6.2, WHATWG HTML).
//!
//! An origin is normalised once, when it is configured; a request's `Origin` header is then
//! compared byte for byte. Look-alikes (other port, trailing dot, upper case) can't match.

use super::Invalid;
use std::fmt;
use url::Url;

/// `scheme://host[:port]`, lower case, punycode, without the scheme's default port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin(Box<str>);

/// Characters of one: a scheme, a host of at most 253 (RFC 1035 section 2.3.4), a port.
const LONGEST: usize = 300;

impl Origin {
    /// Reads and normalises a configured origin.
    ///
    /// # Errors
    /// A path, query, fragment or user info; `null`; a wildcard; a missing scheme or host.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let bad = |why: &str| Invalid::new(format!("'{text}' is no origin: {why}"));
        if text.len() > LONGEST {
            return Err(Invalid::new("an origin has 300 characters at most"));
        }
        if text == "null" {
            return Err(bad("'null' is what every sandboxed page sends; name a real site"));
        }
        if text.contains('*') {
            return Err(bad("wildcards are not allowed; list each site"));
        }
        if text.trim() != text || text.chars().any(|c| c.is_control() || c == '\\') {
            return Err(bad("blanks, backslashes and control characters are not allowed"));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| bad("write it as scheme://host[:port]"))?;
        if rest.is_empty() || rest.contains(['/', '?', '#']) {
            return Err(bad("it ends after host and port: no path, no query, no slash"));
        }
        if rest.contains('@') {
            return Err(bad("user info has no place in an origin"));
        }
        let url = Url::parse(text).map_err(|e| bad(&e.to_string()))?;
        let scheme = scheme.to_ascii_lowercase();
        if url.scheme() != scheme {
            // `https:x/y://host` is read as `https://x/…`.
            return Err(bad("write it as scheme://host[:port]"));
        }
        let host =
            url.host_str().filter(|h| !h.is_empty()).ok_or_else(|| bad("the host is missing"))?;
        // Hosts of schemes that browsers do not know are not turned into punycode.
        if rest.contains('%') || host.contains('%') {
            return Err(bad("write the host in ASCII, without percent-encoding"));
        }
        if host.ends_with('.') {
            return Err(bad("browsers treat a trailing dot as another site; leave it out"));
        }
        let host = host.to_ascii_lowercase();
        Ok(Self(match url.port() {
            Some(port) => format!("{scheme}://{host}:{port}").into(),
            None => format!("{scheme}://{host}").into(),
        }))
    }

    /// The serialised origin.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request's origin, as it was sent, is this one.
    pub fn equals(&self, sent: &[u8]) -> bool {
        self.0.as_bytes() == sent
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn configured_origins_are_normalised_as_browsers_serialise_them() {
        for (written, serialised) in [
            ("https://App.Example.com", "https://app.example.com"),
            ("https://app.example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("HTTPS://app.example.com", "https://app.example.com"),
            ("http://[::1]:8080", "http://[::1]:8080"),
            ("chrome-extension://abcdefgh", "chrome-extension://abcdefgh"),
        ] {
            assert_eq!(
                Origin::parse(written).map(|o| o.to_string()),
                Ok(serialised.into()),
                "{written}"
            );
        }
    }

    #[test]
    fn what_is_not_exactly_one_site_is_refused() {
        for text in [
            "",
            "null",
            "*",
            "https://*.example.com",
            "https://a.example/",
            "https://a.example/x",
            "https://a.example?x",
            "https://u@a.example",
            "https://a.example#f",
            "app.example.com",
            "https://",
            "https://a.example.",
            " https://a.example",
            "https:\\\\a.example",
            "https://a.example\n",
            "https:t/cobhttps://a.example",
            "https://%2a.example",
            "app://bücher.example",
        ] {
            assert!(Origin::parse(text).is_err(), "{text:?} must be refused");
        }
    }

    #[test]
    fn comparison_is_byte_for_byte() {
        let origin = Origin::parse("https://ok.example").unwrap();
        assert!(origin.equals(b"https://ok.example"));
        for sent in [
            "https://OK.example",
            "https://ok.example.",
            "https://ok.example:443",
            "https://ok.example.evil",
            "http://ok.example",
        ] {
            assert!(!origin.equals(sent.as_bytes()), "{sent} is another site");
        }
    }
}
