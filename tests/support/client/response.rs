//! An answer that has been read, and how it is handed to the canary.

use crate::support::canary;
use crate::support::wire::{self, Headers};
use std::fmt;
use std::io::Read;

/// An answer.
#[derive(Clone)]
pub(crate) struct Response {
    /// Its status code.
    pub(crate) status: u16,
    /// In order, names as written.
    pub(crate) headers: Headers,
    /// Out of its framing, not out of its compression.
    pub(crate) body: Vec<u8>,
    /// Behind a chunked body.
    pub(crate) trailers: Headers,
    /// The body's end came. Until-close bodies are complete when the close was orderly.
    pub(crate) complete: bool,
    /// Informational answers that came before it.
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// An answer that came otherwise than over HTTP/1.
    pub(crate) fn from_parts(status: u16, headers: Headers, body: Vec<u8>, complete: bool) -> Self {
        observe(&headers, &body);
        let (trailers, interim) = (Headers::new(), Vec::new());
        Self { status, headers, body, trailers, complete, interim }
    }

    /// The only value of a header; panics when it came twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::value(&self.headers, name)
    }

    /// Every value of a header.
    pub(crate) fn headers_named(&self, name: &str) -> Vec<&[u8]> {
        wire::values(&self.headers, name).collect()
    }

    /// The body out of its compression; as it is when it can't be read to its end.
    pub(crate) fn decoded(&self) -> Vec<u8> {
        decompress(&self.headers, &self.body)
    }

    /// The body as text, decompressed.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.decoded()).into_owned()
    }

    /// The body as JSON; panics when it is none.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.decoded())
            .unwrap_or_else(|e| panic!("the answer is no JSON ({e}): {self:?}"))
    }

    /// The stable code of a denial.
    #[track_caller]
    pub(crate) fn denial(&self) -> Option<&str> {
        self.header("x-keygate-error")
    }

    /// Panics unless it is this denial, and whole.
    #[track_caller]
    pub(crate) fn assert_denied(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.denial()), (status, Some(code)), "the denial of {self:?}");
        assert!(self.complete, "a denial must be whole: {self:?}");
    }

    /// Panics unless it has this status and is whole.
    #[track_caller]
    pub(crate) fn assert_status(&self, status: u16) {
        assert_eq!(self.status, status, "the status of {self:?}");
        assert!(self.complete, "the answer must be whole: {self:?}");
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", self.status, wire::show(&self.headers))?;
        let body = self.decoded();
        write!(f, "{}", String::from_utf8_lossy(&body[..body.len().min(2_000)]))?;
        write!(f, "\n[{} bytes of body, complete: {}]", self.body.len(), self.complete)
    }
}

/// Hands in what an answer says, without its framing and without its compression.
pub(super) fn observe(headers: &Headers, body: &[u8]) {
    // A key in a URL or a header may be cut off from its neighbours by the framing.
    canary::observe("response-headers", wire::show(headers).as_bytes());
    canary::observe("response-body", body);
    if wire::values(headers, "content-encoding").next().is_some() {
        canary::observe("response-decompressed", &decompress(headers, body));
    }
}

/// As much of `body` as can be decompressed.
fn decompress(headers: &Headers, body: &[u8]) -> Vec<u8> {
    let coding = wire::values(headers, "content-encoding").next().unwrap_or_default();
    let mut out = Vec::new();
    // An unfinished stream ends in an error behind what could be read.
    let _ = match coding {
        b"gzip" => flate2::read::MultiGzDecoder::new(body).read_to_end(&mut out),
        b"br" => brotli::Decompressor::new(body, 4_096).read_to_end(&mut out),
        b"zstd" => zstd::Decoder::new(body).and_then(|mut d| d.read_to_end(&mut out)),
        _ => return body.to_vec(),
    };
    out
}
