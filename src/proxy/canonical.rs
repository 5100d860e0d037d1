//! The canonical front: steps 1 to 4. What two parsers could read differently gets no further,
//! and the path that is checked is the path that is forwarded.
//!
//! Pure functions on `http` types. What Pingora refuses before a filter sees it is listed in
//! `docs/request-path.md`.

use super::forwarded;
use crate::policy::{Code, Denial};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

const MAX_FIELDS: usize = 100;
const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_TARGET: usize = 8 << 10;

/// Gemini's SDKs put two slashes before this, and only they may.
pub const DOUBLE_SLASH: &str = "//ws/google.ai.generativelanguage";

/// What the headers say of the request's framing, gathered in one walk over them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing {
    /// `Content-Length`.
    pub length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// There is an `Expect`, and it is `100-continue`.
    pub expect: Option<bool>,
    /// It asks to become a WebSocket. Decides slots, never whether a check runs.
    pub upgrade: bool,
    /// A body may follow that no header announces: HTTP/2 needs none.
    pub unannounced: bool,
    /// There is an `anthropic-version`.
    pub anthropic_version: bool,
    /// Bytes of the header fields.
    pub fields: usize,
}

/// What an empty send buffer takes in any case (`tcp_wmem` begins with 16 KiB, half of it for the
/// kernel's own).
const AT_ONCE: u64 = 8 << 10;

impl Framing {
    /// Whether the request, with a target of so many bytes, fits the upstream socket's buffer, so that
    /// writing it never waits.
    pub fn fits_at_once(self, target: usize) -> bool {
        let open = self.chunked || self.upgrade || self.unannounced;
        let head = self.fields.saturating_add(target) as u64;
        !open && self.length.unwrap_or(0).saturating_add(head) <= AT_ONCE
    }

    /// Whether a body may follow that is longer than what is read ahead.
    pub fn may_be_long(self) -> bool {
        self.chunked || self.unannounced || self.length.unwrap_or(0) > 64 << 10
    }

    /// Whether a body follows.
    pub fn has_body(self) -> bool {
        self.chunked || self.length.unwrap_or(0) > 0
    }
}

/// Step 1: what can be told from parsed headers.
///
/// # Errors
/// 400 `malformed_request`, 431 `headers_too_large`.
pub fn framing(headers: &HeaderMap, version: Version) -> Result<Framing, Denial> {
    let malformed = |why: &'static str| Err(Denial::new(Code::MalformedRequest, why));
    let mut found = Framing::default();
    let (mut bytes, mut lengths, mut codings) = (0, 0, 0);
    for (name, value) in headers {
        bytes += name.as_str().len() + value.len() + 4;
        let is = |text: &[u8]| value.as_bytes().eq_ignore_ascii_case(text);
        match name.as_str() {
            "content-length" => {
                lengths += 1;
                found.length = number(value.as_bytes());
            }
            "transfer-encoding" => {
                codings += 1;
                found.chunked = is(b"chunked");
            }
            "expect" => found.expect = Some(found.expect.unwrap_or(true) && is(b"100-continue")),
            // Any field of that name makes it one, as any makes it one to the provider.
            "upgrade" => found.upgrade |= version == Version::HTTP_11 && is(b"websocket"),
            "anthropic-version" => found.anthropic_version = true,
            _ => {}
        }
    }
    if headers.len() > MAX_FIELDS || bytes > MAX_HEADER_BYTES {
        return Err(Code::HeadersTooLarge.into());
    }
    if lengths > 1 {
        return malformed("the request has two Content-Length fields");
    }
    if lengths == 1 && found.length.is_none() {
        return malformed("Content-Length is not a number");
    }
    if codings > 0 {
        if lengths > 0 || codings > 1 || version != Version::HTTP_11 {
            return malformed(
                "Transfer-Encoding stands beside another length, twice, or in HTTP/1.0",
            );
        }
        if !found.chunked {
            return malformed("the only Transfer-Encoding understood is 'chunked'");
        }
    }
    found.unannounced = version == Version::HTTP_2 && lengths == 0;
    found.fields = bytes;
    Ok(found)
}

/// Digits and nothing else (RFC 9110 section 8.6).
fn number(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    // More than fits is as long as can be: over every limit.
    digits.then(|| std::str::from_utf8(text).ok()?.parse().ok().or(Some(u64::MAX)))?
}

/// Step 1, of a WebSocket handshake: a GET without a body (RFC 6455 section 4.1). Whatever came
/// along with it would reach the provider as a body that nobody has looked into.
///
/// # Errors
/// 400 `malformed_request`.
pub(crate) fn handshake(method: &Method, framing: Framing) -> Result<(), Denial> {
    if *method == Method::GET && !framing.has_body() {
        return Ok(());
    }
    Err(Denial::new(Code::MalformedRequest, "a WebSocket handshake is a GET without a body"))
}

/// Step 2: one `Host`, equal to the authority of an absolute target. Gives it as it was sent.
///
/// # Errors
/// 400 `malformed_request`.
pub fn host<'a>(headers: &'a HeaderMap, uri: &'a Uri, version: Version) -> Result<&'a str, Denial> {
    let malformed = |why: &'static str| Denial::new(Code::MalformedRequest, why);
    let mut hosts = headers.get_all(HOST).iter();
    let sent = hosts.next();
    if hosts.next().is_some() {
        return Err(malformed("the request has two Host fields"));
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = match (sent, authority) {
        (Some(host), None) => host.to_str().map_err(|_| malformed("Host is not ASCII"))?,
        (Some(host), Some(authority))
            if host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) =>
        {
            authority
        }
        (Some(_), Some(_)) => return Err(malformed("the target's authority is not the Host")),
        (None, Some(authority)) if version == Version::HTTP_2 => authority,
        (None, _) if version == Version::HTTP_10 => "",
        (None, _) => return Err(malformed("the Host field is missing")),
    };
    let odd = |b: u8| !(b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    if host.bytes().any(odd) {
        return Err(malformed("Host is not a host and port"));
    }
    Ok(host)
}

/// The host that the caller used: `:authority` on HTTP/2, which need not have a `Host` beside it.
pub(super) fn caller_host(request: &Parts, trusted: bool) -> Option<&str> {
    let outer = if trusted { forwarded::host(&request.headers) } else { None };
    outer
        .or_else(|| request.headers.get(HOST)?.to_str().ok())
        .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
}

/// Whether the gateway answers to `host` (its port aside).
///
/// # Errors
/// 421 `wrong_host`.
pub fn answers_to(host: &str, names: Option<&[Box<str>]>) -> Result<(), Denial> {
    let Some(names) = names else { return Ok(()) };
    let name = match host.rfind(']') {
        Some(end) => host.get(..=end).unwrap_or(host),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    if names.iter().any(|n| n.eq_ignore_ascii_case(name)) {
        Ok(())
    } else {
        Err(Code::WrongHost.into())
    }
}

/// Step 3: length and path. `raw` is the target as it stands on the wire, `path` its path.
///
/// # Errors
/// 414 `uri_too_long`, 400 `malformed_request`.
pub fn target(raw: &[u8], path: &str) -> Result<(), Denial> {
    if raw.len() > MAX_TARGET {
        return Err(Code::UriTooLong.into());
    }
    let malformed = |why: &'static str| Err(Denial::new(Code::MalformedRequest, why));
    if raw.iter().any(|b| *b <= b' ' || *b >= 0x7F || *b == b'#') {
        return malformed("the target has a fragment, blanks, control or non-ASCII characters");
    }
    if !path.starts_with('/') {
        return malformed("the path does not begin with '/'");
    }
    let (mut encoded, mut odd, mut double) = (false, false, None);
    let mut last = 0;
    for (at, byte) in path.bytes().enumerate() {
        encoded |= byte == b'%';
        odd |= matches!(byte, b'\\' | b';');
        if byte == b'/' && last == b'/' && double.is_none() {
            double = Some(at - 1);
        }
        last = byte;
    }
    if odd {
        return malformed("the path holds '\\' or ';'");
    }
    if let Some(at) = double {
        let rest = path.get(at..).unwrap_or_default();
        if !rest.starts_with(DOUBLE_SLASH) || rest.get(1..).is_some_and(|r| r.contains("//")) {
            return malformed("the path holds '//'");
        }
    }
    if path.contains("/.") && path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return malformed("the path holds dot segments");
    }
    if encoded { escapes(path) } else { Ok(()) }
}

/// Percent-encodings that another parser could take for structure. `%2F` passes in a model
/// segment only; whether the provider has such is asked once it is known ([`has_slash`]).
fn escapes(path: &str) -> Result<(), Denial> {
    let malformed = |why: &'static str| Err(Denial::new(Code::MalformedRequest, why));
    let bytes = path.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, b)| **b == b'%') {
        let digit = |offset| bytes.get(at + offset).and_then(|b| char::from(*b).to_digit(16));
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return malformed("the path holds a broken percent-encoding");
        };
        match high * 16 + low {
            0..=0x1F | 0x7F => return malformed("the path holds an encoded control character"),
            0x2E | 0x3B | 0x5C => return malformed("the path holds an encoded '.', ';' or '\\'"),
            // RFC 3986 section 2.3: these mean the same encoded or not, so nobody has to; the
            // tables of paths must not be read differently by the provider.
            0x30..=0x39 | 0x41..=0x5A | 0x61..=0x7A | 0x2D | 0x5F | 0x7E => {
                return malformed("the path holds an encoded letter, digit, '-', '_' or '~'");
            }
            // Behind an encoded '%' anything could hide from whoever decodes once.
            0x25 if digit(3).is_some() && digit(4).is_some() => {
                return malformed("the path is percent-encoded twice");
            }
            0x2F if !path.get(..at).is_some_and(|head| head.contains("/models/")) => {
                return malformed("the path holds an encoded '/'");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether the path holds an encoded slash.
pub fn has_slash(path: &str) -> bool {
    path.contains('%') && (path.contains("%2F") || path.contains("%2f"))
}

/// Step 4.
///
/// # Errors
/// 405 `method_not_allowed`.
pub fn method(method: &Method) -> Result<(), Denial> {
    match *method {
        Method::GET
        | Method::HEAD
        | Method::POST
        | Method::PUT
        | Method::PATCH
        | Method::DELETE
        | Method::OPTIONS => Ok(()),
        _ => Err(Code::MethodNotAllowed.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Result<(), Code> {
        target(path.as_bytes(), path).map_err(|d| d.code)
    }

    #[test]
    fn ordinary_paths_pass() {
        for p in [
            "/",
            "/v1/chat/completions",
            "/v1/models/org%2Fmodel",
            "/v1/models/a%20b",
            "/v1/100%25",
            "/v1beta/models/gemini-2.5-flash:generateContent",
            "//ws/google.ai.generativelanguage.v1beta.X",
            "/gemini//ws/google.ai.generativelanguage.v1beta.X",
            "/v1/x.y/..z",
            "/v1/...",
        ] {
            assert_eq!(path(p), Ok(()), "{p}");
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for p in [
            "/v1/../x",
            "/v1/./x",
            "/v1/..",
            "/%2e%2e/x",
            "/v1/%2E/x",
            "/v1/%252e%252e/x",
            "/v1//x",
            "//v1/x",
            "/v1/x\\y",
            "/v1%2fx",
            "/v1/%2Fmodels/x",
            "/v1/%5cx",
            "/v1/%00",
            "/v1/x;y",
            "/v1/%3Bx",
            "/v1/%zz",
            "/v1/files/f%2Dx",
            "/v1beta/m%6fdels/m",
            "/v1/%",
            "/v1/%2",
            "/v1/x#y",
            "/v1/x y",
            "/v1/é",
            "v1/x",
            "*",
            "/v1/%7f",
            "/v1/%0d%0a",
            "//ws/google.ai.generativelanguage//x",
            "//ws/other",
        ] {
            assert_eq!(path(p), Err(Code::MalformedRequest), "{p}");
        }
        assert_eq!(path(&format!("/{}", "a".repeat(9_000))), Err(Code::UriTooLong));
    }

    #[test]
    fn head_and_body_together_must_fit_at_once() {
        let framing = Framing { length: Some(6 << 10), fields: 1 << 10, ..Framing::default() };
        assert!(framing.fits_at_once(1 << 10) && !framing.fits_at_once((1 << 10) + 1));
        assert!(!Framing { fields: 30 << 10, ..Framing::default() }.fits_at_once(1), "no body");
        assert!(!Framing { chunked: true, ..framing }.fits_at_once(1), "who knows how long");
        assert!(!Framing { length: Some(u64::MAX), ..framing }.fits_at_once(1));
    }

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn lengths_must_be_told_once_and_plainly() {
        let of = |h: &[(&'static str, &str)]| {
            framing(&map(h), Version::HTTP_11).map(|_| ()).map_err(|d| d.code)
        };
        assert_eq!(of(&[("content-length", "3")]), Ok(()));
        assert_eq!(of(&[("transfer-encoding", "chunked")]), Ok(()));
        for bad in [
            vec![("content-length", "3"), ("content-length", "3")],
            vec![("content-length", "3, 3")],
            vec![("content-length", "+3")],
            vec![("content-length", "")],
            vec![("content-length", "3"), ("transfer-encoding", "chunked")],
            vec![("transfer-encoding", "gzip, chunked")],
            vec![("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(of(&bad), Err(Code::MalformedRequest), "{bad:?}");
        }
        let many: Vec<_> = (0..101).map(|_| ("x-a", "b")).collect();
        assert_eq!(of(&many), Err(Code::HeadersTooLarge));
        assert_eq!(of(&[("x-a", &"b".repeat(33_000))]), Err(Code::HeadersTooLarge));
    }

    #[test]
    fn the_host_must_be_one_and_agree_with_the_target() {
        let of = |h: &[(&'static str, &str)], uri: &str| {
            host(&map(h), &uri.parse().unwrap(), Version::HTTP_11)
                .map(str::to_owned)
                .map_err(|d| d.code)
        };
        assert_eq!(of(&[("host", "g.example:8080")], "/x"), Ok("g.example:8080".into()));
        assert_eq!(of(&[("host", "g.example")], "http://G.example/x"), Ok("G.example".into()));
        assert_eq!(of(&[("host", "g.example")], "http://other/x"), Err(Code::MalformedRequest));
        assert_eq!(of(&[("host", "a"), ("host", "a")], "/x"), Err(Code::MalformedRequest));
        assert_eq!(of(&[], "/x"), Err(Code::MalformedRequest));
        assert_eq!(of(&[("host", "a b")], "/x"), Err(Code::MalformedRequest));
        assert_eq!(of(&[("host", "u@a")], "/x"), Err(Code::MalformedRequest));
    }

    #[test]
    fn only_configured_names_are_answered_to() {
        let names: Vec<Box<str>> = vec!["gateway.example".into(), "[::1]".into()];
        for ok in ["gateway.example", "Gateway.Example:8443", "[::1]:80"] {
            assert!(answers_to(ok, Some(&names)).is_ok(), "{ok}");
        }
        for bad in ["", "gateway.example.", "evil.test", "gateway.example.evil.test"] {
            assert_eq!(answers_to(bad, Some(&names)).unwrap_err().code, Code::WrongHost, "{bad}");
        }
        assert!(answers_to("anything", None).is_ok(), "without names any host is answered to");
    }
}
