//! Step 1 by what came over the wire, before Pingora mended it: what the stream wrapper has noted
//! (`session::head`), and a length beside chunks. Then by the parsed headers (`canonical`).

use super::canonical::{self, Framing};
use crate::policy::{Code, Denial};
use crate::session::connection::Connection;
use crate::session::head::Oddity;
use pingora_proxy::Session;

/// What the head says of the request's framing.
///
/// # Errors
/// 400 `malformed_request`, 414 `uri_too_long`, 431 `headers_too_large`.
pub(super) fn framing(
    session: &Session,
    connection: Option<&Connection>,
) -> Result<Framing, Denial> {
    if let Some(oddity) = connection.and_then(Connection::oddity) {
        return Err(odd(oddity));
    }
    let request = session.req_header();
    let framing = canonical::framing(&request.headers, request.version)?;
    if framing.chunked
        && let Some(session) = session.as_http1()
    {
        one_length(&session.get_headers_raw_bytes())?;
    }
    Ok(framing)
}

/// A head that is not what it looks like once it has been parsed.
fn odd(oddity: Oddity) -> Denial {
    match oddity {
        Oddity::BareLineFeed => Denial::new(
            Code::MalformedRequest,
            "a line of the head ends with a bare LF; end lines with CRLF",
        ),
        Oddity::RequestLine => Denial::new(
            Code::MalformedRequest,
            "the request line is not method, target and version in printable ASCII with single blanks between, or the target has a fragment",
        ),
        Oddity::EndlessTarget => Code::UriTooLong.into(),
        Oddity::Endless => Code::HeadersTooLarge.into(),
    }
}

/// Of a body in chunks: `head`, as it came, must announce no other length. Pingora takes it
/// out before anybody sees it.
///
/// # Errors
/// 400 `malformed_request`.
fn one_length(head: &[u8]) -> Result<(), Denial> {
    const NAME: &[u8] = b"content-length:";
    let named = |line: &[u8]| line.get(..NAME.len()).is_some_and(|n| n.eq_ignore_ascii_case(NAME));
    if head.split(|b| *b == b'\n').any(named) {
        let why = "Content-Length stands beside Transfer-Encoding; send one of them";
        return Err(Denial::new(Code::MalformedRequest, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beside_chunks_is_found_as_a_field_of_its_own() {
        for head in ["A: b\r\nContent-Length: 3\r\n\r\n", "content-length:\n", "CONTENT-LENGTH: x"]
        {
            assert!(one_length(head.as_bytes()).is_err(), "{head:?}");
        }
        for head in
            ["X-Content-Length: 3\r\n", "Content-Length-X: 3\r\n", "A: Content-Length: 3\r\n"]
        {
            assert!(one_length(head.as_bytes()).is_ok(), "{head:?}");
        }
    }
}
