//! An answer whose body is still coming: chunks and server-sent events as they arrive.

use super::super::wire::{self, Headers};
use super::super::within;
use super::response::observe;
use super::{How, Incoming, Raw, Response, finish};
use std::time::Instant;

/// A server-sent event, and when it was there.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `event:`
    pub(crate) event: Option<String>,
    /// `id:`
    pub(crate) id: Option<String>,
    /// `data:`, lines joined.
    pub(crate) data: String,
    /// When its last byte had been read.
    pub(crate) at: Instant,
}

/// An answer whose head is there. Dropping it closes the connection.
#[derive(Debug)]
pub(crate) struct Open {
    /// Its status code.
    pub(crate) status: u16,
    parts: Option<(Raw, Incoming)>,
    body: Vec<u8>,
    /// How much of the body was given out.
    used: usize,
    last: Instant,
}

impl Open {
    pub(super) fn new(raw: Raw, incoming: Incoming) -> Self {
        let status = incoming.status;
        Self {
            status,
            parts: Some((raw, incoming)),
            body: Vec::new(),
            used: 0,
            last: Instant::now(),
        }
    }

    /// Its header fields.
    pub(crate) fn headers(&self) -> &Headers {
        &self.parts.as_ref().expect("taken only by value").1.headers
    }

    /// The only value of a header; panics when it came twice.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::value(self.headers(), name)
    }

    /// The next bytes of the body as they arrive, however they were chunked; `None` at the end,
    /// proper or not.
    pub(crate) async fn next_chunk(&mut self) -> Option<Vec<u8>> {
        while self.used == self.body.len() {
            if !within("the next chunk", self.more()).await {
                return None;
            }
        }
        let chunk = self.body[self.used..].to_vec();
        self.used = self.body.len();
        Some(chunk)
    }

    /// The next server-sent event; `None` when the stream has ended, proper or not.
    pub(crate) async fn next_event(&mut self) -> Option<Event> {
        loop {
            if let Some((block, end)) = block(&self.body[self.used..]) {
                let event = parse(&block, self.last);
                self.used += end;
                return Some(event);
            }
            if !within("the next event", self.more()).await {
                return None;
            }
        }
    }

    /// Reads the rest.
    pub(crate) async fn rest(self) -> Response {
        self.rest_and_connection().await.0
    }

    /// Reads the rest, and leaves the connection for the next request.
    pub(crate) async fn rest_and_connection(mut self) -> (Response, Raw) {
        within("the rest of the answer", async { while self.more().await {} }).await;
        let (mut raw, incoming) = self.parts.take().expect("taken only by value");
        raw.reader.show();
        let ended = raw.reader.ended;
        (finish(incoming, std::mem::take(&mut self.body), ended), raw)
    }

    /// Waits until the other side ends the connection, and says how.
    pub(crate) async fn wait_for_close(&mut self) -> How {
        let (raw, _) = self.parts.as_mut().expect("taken only by value");
        within("the connection to end", async { while raw.reader.more().await {} }).await;
        raw.reader.ended.unwrap_or(How::Fin)
    }

    async fn more(&mut self) -> bool {
        let (raw, incoming) = self.parts.as_mut().expect("taken only by value");
        let more = raw.reader.piece(&mut incoming.decoder, &mut self.body).await;
        self.last = Instant::now();
        more
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some((_, incoming)) = &self.parts {
            observe(&incoming.headers, &self.body);
        }
    }
}

/// The first block of lines that an empty line ends, and where what follows begins.
fn block(body: &[u8]) -> Option<(String, usize)> {
    let mut at = 0;
    loop {
        let end = at + body[at..].iter().position(|b| *b == b'\n')?;
        if body[at..end].trim_ascii().is_empty() {
            return Some((String::from_utf8_lossy(&body[..at]).into_owned(), end + 1));
        }
        at = end + 1;
    }
}

fn parse(block: &str, at: Instant) -> Event {
    let mut event = Event { event: None, id: None, data: String::new(), at };
    let mut data = Vec::new();
    for line in block.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => event.event = Some(value.to_owned()),
            "id" => event.id = Some(value.to_owned()),
            "data" => data.push(value),
            _ => {}
        }
    }
    event.data = data.join("\n");
    event
}
