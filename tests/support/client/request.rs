//! An ordinary request, said in one line.

use super::super::within;
use super::{Ended, Open, Raw, Response};
use std::net::SocketAddr;

/// A request to be sent. It carries `Host` and the length of its body, and nothing else that was
/// not asked for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    addr: SocketAddr,
    method: String,
    target: String,
    host: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Option<Vec<u8>>,
    chunked: Option<usize>,
    sends_first: bool,
}

impl Request {
    /// Any method, any target.
    pub(crate) fn new(addr: SocketAddr, method: &str, target: &str) -> Self {
        Self {
            addr,
            method: method.to_owned(),
            target: target.to_owned(),
            host: addr.to_string(),
            headers: Vec::new(),
            body: None,
            chunked: None,
            sends_first: false,
        }
    }

    /// `GET`
    pub(crate) fn get(addr: SocketAddr, target: &str) -> Self {
        Self::new(addr, "GET", target)
    }

    /// `POST`
    pub(crate) fn post(addr: SocketAddr, target: &str) -> Self {
        Self::new(addr, "POST", target)
    }

    /// `OPTIONS`, as a browser asks before it sends `method` with `headers`.
    pub(crate) fn preflight(addr: SocketAddr, target: &str, method: &str, headers: &str) -> Self {
        Self::new(addr, "OPTIONS", target)
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", headers)
    }

    /// Adds a header field; a name may come twice.
    pub(crate) fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// `Authorization: Bearer`
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    /// `Origin`
    pub(crate) fn origin(self, origin: &str) -> Self {
        self.header("Origin", origin)
    }

    /// Another `Host` than the address.
    pub(crate) fn host(mut self, host: &str) -> Self {
        self.host = host.to_owned();
        self
    }

    /// A JSON body (`json!(…)`, or a text).
    pub(crate) fn json(self, body: impl ToString) -> Self {
        self.body("application/json", body.to_string())
    }

    /// A body of this type.
    pub(crate) fn body(self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        let mut request = self.header("Content-Type", content_type);
        request.body = Some(body.into());
        request
    }

    /// Sends the body in chunks of this size, instead of announcing its length.
    pub(crate) fn chunked(mut self, size: usize) -> Self {
        self.chunked = Some(size);
        self
    }

    /// Sends everything before it reads anything, as a blocking client does. A refusal must reach
    /// such a client too.
    pub(crate) fn sends_first(mut self) -> Self {
        self.sends_first = true;
        self
    }

    /// The request as it goes over the wire.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        bytes.extend_from_slice(format!("Host: {}\r\n", self.host).as_bytes());
        for (name, value) in &self.headers {
            bytes.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        match (&self.body, self.chunked) {
            (None, _) => bytes.extend_from_slice(b"\r\n"),
            (Some(body), None) => {
                bytes.extend_from_slice(
                    format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(),
                );
                bytes.extend_from_slice(body);
            }
            (Some(body), Some(size)) => {
                bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(size) {
                    let head = format!("{:x}\r\n", chunk.len());
                    bytes.extend_from_slice(&[head.as_bytes(), chunk, b"\r\n"].concat());
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }

    /// Sends it to another address, with the `Host` that it has.
    pub(crate) fn to(mut self, addr: SocketAddr) -> Self {
        self.addr = addr;
        self
    }

    /// The request as HTTP/2 has it, with its body; one that was to be chunked announces no
    /// length.
    pub(crate) fn into_h2(self) -> (http::Request<()>, Option<Vec<u8>>) {
        let uri = format!("https://{}{}", self.host, self.target);
        let mut request = http::Request::builder().method(self.method.as_str()).uri(uri);
        for (name, value) in &self.headers {
            request = request.header(name.as_str(), value.as_slice());
        }
        if let (Some(body), None) = (&self.body, self.chunked) {
            request = request.header("content-length", body.len());
        }
        (request.body(()).expect("a good request"), self.body)
    }

    /// Sends it on a fresh connection and reads the answer; panics when none comes.
    pub(crate) async fn send(self) -> Response {
        self.try_send().await.unwrap_or_else(|e| panic!("no answer came: {e:?}"))
    }

    /// Sends it on a fresh connection.
    ///
    /// # Errors
    /// The connection ended before the answer's head.
    pub(crate) async fn try_send(self) -> Result<Response, Ended> {
        let mut raw = Raw::connect(self.addr).await;
        self.exchange(&mut raw).await
    }

    /// Sends it on a connection that is there, and leaves that for the next one.
    pub(crate) async fn send_on(self, raw: &mut Raw) -> Response {
        self.exchange(raw).await.unwrap_or_else(|e| panic!("no answer came: {e:?}"))
    }

    /// Sends it on a fresh connection and returns when the answer's head is there.
    pub(crate) async fn open(self) -> Open {
        let mut raw = Raw::connect(self.addr).await;
        raw.send(self.to_bytes()).await;
        raw.open(self.method == "HEAD").await
    }

    async fn exchange(&self, raw: &mut Raw) -> Result<Response, Ended> {
        let bodiless = self.method == "HEAD";
        if !self.sends_first {
            return raw.exchange(&self.to_bytes(), bodiless).await;
        }
        // A broken pipe shows in what can still be read, as it does for a real client.
        let _ = raw.try_send(self.to_bytes()).await;
        within("an answer", raw.reader.response(bodiless)).await
    }
}
