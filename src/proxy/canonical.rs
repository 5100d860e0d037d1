//! The canonical front: steps 1 to 4. What two parsers could read differently gets no further,
//! and the path that is checked is the path that is forwarded.
//!
//! Pure functions on `http` types. What Pingora refuses before a filter sees it is listed in
//! `docs/request-path.md`.

use super::forwarded;
use crate::policy::{Code, Denial};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, Method, Uri, Version};

const MAX_FIELDS: usize = 100;
const MAX_HEADER_BYTES: usize = 32 << 10;
const MAX_TARGET: usize = 8 << 10;

/// Gemini's SDKs put two slashes before this, and only they may.
pub const DOUBLE_SLASH: &str = "//ws/google.ai.generativelanguage";

/// Step 1: what can be told from parsed headers.
///
/// # Errors
/// 400 `malformed_request`, 431 `headers_too_large`.
pub fn framing(headers: &HeaderMap, version: Version) -> Result<(), Denial> {
    let bytes: usize = headers.iter().map(|(n, v)| n.as_str().len() + v.len() + 4).sum();
    if headers.len() > MAX_FIELDS || bytes > MAX_HEADER_BYTES {
        return Err(Code::HeadersTooLarge.into());
    }
    let malformed = |why: &'static str| Err(Denial::new(Code::MalformedRequest, why));
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if lengths.next().is_some() {
        return malformed("the request has two Content-Length fields");
    }
    if length.is_some_and(|l| l.is_empty() || !l.as_bytes().iter().all(u8::is_ascii_digit)) {
        return malformed("Content-Length is not a number");
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if length.is_some() || codings.next().is_some() || version != Version::HTTP_11 {
            return malformed(
                "Transfer-Encoding stands beside another length, twice, or in HTTP/1.0",
            );
        }
        if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return malformed("the only Transfer-Encoding understood is 'chunked'");
        }
    }
    Ok(())
}

/// Step 1, of a WebSocket handshake: a GET without a body (RFC 6455 section 4.1). Whatever came
/// along with it would reach the provider as a body that nobody has looked into.
///
/// # Errors
/// 400 `malformed_request`.
pub(crate) fn handshake(request: &Parts) -> Result<(), Denial> {
    let length = request.headers.get(CONTENT_LENGTH).is_some_and(|l| l.as_bytes() != b"0");
    let chunked = request.headers.contains_key(TRANSFER_ENCODING);
    if request.method == Method::GET && !length && !chunked {
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
    if path.bytes().any(|b| matches!(b, b'\\' | b';')) {
        return malformed("the path holds '\\' or ';'");
    }
    if let Some(at) = path.find("//") {
        let rest = path.get(at..).unwrap_or_default();
        if !rest.starts_with(DOUBLE_SLASH) || rest.get(1..).is_some_and(|r| r.contains("//")) {
            return malformed("the path holds '//'");
        }
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return malformed("the path holds dot segments");
    }
    if path.contains('%') { escapes(path) } else { Ok(()) }
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
    path.contains("%2F") || path.contains("%2f")
}

/// A body's declared length; framing has passed.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
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

    fn map(headers: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    #[test]
    fn lengths_must_be_told_once_and_plainly() {
        let of =
            |h: &[(&'static str, &str)]| framing(&map(h), Version::HTTP_11).map_err(|d| d.code);
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
