//! One access-log line: what is said of a request, and its JSON.
//!
//! Written straight into the shared buffer, without an allocation. Keys and their order are fixed;
//! what is not known is null. The caller hands over a path without its query, and never a token.

use super::Transport;
use std::cell::Cell;
use std::io::Write;
use std::net::IpAddr;
use time::OffsetDateTime;

/// What the fixed parts of a line (keys, numbers, time, address) need at most.
const FIXED: usize = 640;
/// A control character becomes `\u001f`.
const LONGEST_ESCAPE: usize = 6;

/// A finished request.
#[derive(Debug, Clone)]
pub struct Line<'a> {
    /// When it began: milliseconds since 1970.
    pub time_ms: u64,
    /// `x-request-id`.
    pub request_id: &'a str,
    /// Which token, once that is known.
    pub token_id: Option<&'a str>,
    /// Its name.
    pub token_name: Option<&'a str>,
    /// Where the route leads.
    pub provider: Option<&'a str>,
    /// What was asked for.
    pub model: Option<&'a str>,
    /// How it was answered.
    pub transport: Transport,
    /// HTTP method.
    pub method: &'a str,
    /// Path as the caller sent it, without the query.
    pub path: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// The denial's code.
    pub denial: Option<&'static str>,
    /// Bytes of the request's body, or from the caller over the socket.
    pub bytes_in: u64,
    /// Bytes of the answer's body, or to the caller over the socket.
    pub bytes_out: u64,
    /// From the request's first byte to the end.
    pub duration_us: u64,
    /// From the request's first byte to the answer's.
    pub first_byte_us: Option<u64>,
    /// Who connected.
    pub client: Option<IpAddr>,
}

impl Line<'_> {
    /// An upper bound of the bytes that [`Self::write`] adds.
    pub(crate) fn room(&self) -> usize {
        let optional = |text: Option<&str>| text.map_or(0, str::len);
        let text = self.request_id.len()
            + optional(self.token_id)
            + optional(self.token_name)
            + optional(self.provider)
            + optional(self.model)
            + self.method.len()
            + self.path.len()
            + optional(self.denial);
        FIXED + text * LONGEST_ESCAPE
    }

    /// Appends the line, line feed included.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        push_time(out, self.time_ms);
        out.extend_from_slice(b"\",\"request_id\":");
        push_text(out, self.request_id);
        out.extend_from_slice(b",\"token_id\":");
        push_optional_text(out, self.token_id);
        out.extend_from_slice(b",\"token_name\":");
        push_optional_text(out, self.token_name);
        out.extend_from_slice(b",\"provider\":");
        push_optional_text(out, self.provider);
        out.extend_from_slice(b",\"model\":");
        push_optional_text(out, self.model);
        out.extend_from_slice(b",\"transport\":");
        push_text(out, self.transport.as_str());
        out.extend_from_slice(b",\"method\":");
        push_text(out, self.method);
        out.extend_from_slice(b",\"path\":");
        push_text(out, self.path);
        out.extend_from_slice(b",\"status\":");
        push_number(out, self.status.into());
        out.extend_from_slice(b",\"denial\":");
        push_optional_text(out, self.denial);
        out.extend_from_slice(b",\"bytes_in\":");
        push_number(out, self.bytes_in);
        out.extend_from_slice(b",\"bytes_out\":");
        push_number(out, self.bytes_out);
        out.extend_from_slice(b",\"duration_us\":");
        push_number(out, self.duration_us);
        out.extend_from_slice(b",\"first_byte_us\":");
        match self.first_byte_us {
            Some(value) => push_number(out, value),
            None => out.extend_from_slice(b"null"),
        }
        // Nothing meters usage yet; the keys are there so that readers need not change.
        out.extend_from_slice(b",\"input_tokens\":null,\"output_tokens\":null,\"usd\":null");
        out.extend_from_slice(b",\"client\":");
        push_client(out, self.client);
        out.extend_from_slice(b"}\n");
    }
}

fn push_client(out: &mut Vec<u8>, client: Option<IpAddr>) {
    let written = match client {
        Some(IpAddr::V4(address)) => {
            out.push(b'"');
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                push_number(out, octet.into());
            }
            out.push(b'"');
            Ok(())
        }
        Some(IpAddr::V6(address)) => write!(out, "\"{address}\""),
        None => out.write_all(b"null"),
    };
    debug_assert!(written.is_ok(), "writing into a Vec does not fail");
}

fn push_optional_text(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    // No shortcut: the compiler looks at many bytes at once. Almost no text needs escapes.
    if bytes.iter().fold(false, |any, &byte| any | needs_escape(byte)) {
        push_escaped(out, bytes);
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

/// DEL needs no escape in JSON, but a terminal acts on it.
fn needs_escape(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte == 0x7f)
}

fn push_escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !needs_escape(byte) {
            continue;
        }
        out.extend_from_slice(bytes.get(copied..at).unwrap_or_default());
        copied = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex(byte >> 4), hex(byte & 15)]);
            }
        }
    }
    out.extend_from_slice(bytes.get(copied..).unwrap_or_default());
}

fn push_number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        start -= 1;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(start..).unwrap_or_default());
}

/// `2025-01-02T03:04:05` of one second.
#[derive(Clone, Copy)]
struct Stamp {
    second: u64,
    text: [u8; 19],
}

thread_local! {
    /// Lines come by the thousand in a second: its text is made once per thread.
    static STAMP: Cell<Stamp> =
        const { Cell::new(Stamp { second: 0, text: *b"1970-01-01T00:00:00" }) };
}

fn push_time(out: &mut Vec<u8>, time_ms: u64) {
    let second = time_ms / 1000;
    let mut stamp = STAMP.get();
    if stamp.second != second {
        stamp = Stamp { second, text: stamp_text(second) };
        STAMP.set(stamp);
    }
    out.extend_from_slice(&stamp.text);
    let digit = |divisor: u64| b'0' + (time_ms / divisor % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
}

/// What lies beyond the year 9999 is written as 1970.
fn stamp_text(second: u64) -> [u8; 19] {
    let instant = i64::try_from(second)
        .ok()
        .and_then(|second| OffsetDateTime::from_unix_timestamp(second).ok())
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let mut text = *b"0000-00-00T00:00:00";
    let year = instant.year().unsigned_abs();
    let mut put = |at: usize, value: u32| {
        for (slot, divisor) in text.iter_mut().skip(at).zip([10, 1]) {
            *slot = b'0' + (value / divisor % 10) as u8;
        }
    };
    put(0, year / 100);
    put(2, year % 100);
    put(5, u8::from(instant.month()).into());
    put(8, instant.day().into());
    put(11, instant.hour().into());
    put(14, instant.minute().into());
    put(17, instant.second().into());
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plain() -> Line<'static> {
        Line {
            time_ms: 1_700_000_000_007,
            request_id: "req_1",
            token_id: None,
            token_name: None,
            provider: None,
            model: None,
            transport: Transport::Http,
            method: "GET",
            path: "/v1/models",
            status: 401,
            denial: Some("token_missing"),
            bytes_in: 0,
            bytes_out: 17,
            duration_us: u64::MAX,
            first_byte_us: None,
            client: None,
        }
    }

    fn written(line: &Line<'_>) -> String {
        let mut out = Vec::new();
        line.write(&mut out);
        assert!(out.len() <= line.room(), "{} bytes in room for {}", out.len(), line.room());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_has_exactly_the_documented_keys_in_their_order() {
        let expected = concat!(
            r#"{"time":"2023-11-14T22:13:20.007Z","request_id":"req_1","token_id":null,"#,
            r#""token_name":null,"provider":null,"model":null,"transport":"http","method":"GET","#,
            r#""path":"/v1/models","status":401,"denial":"token_missing","bytes_in":0,"#,
            r#""bytes_out":17,"duration_us":18446744073709551615,"first_byte_us":null,"#,
            r#""input_tokens":null,"output_tokens":null,"usd":null,"client":null}"#,
            "\n"
        );
        assert_eq!(written(&plain()), expected);
    }

    #[test]
    fn what_callers_wrote_comes_back_from_the_json_unchanged() {
        let odd: String = (0_u8..=0x7f).map(char::from).chain("é\u{2028}🙂".chars()).collect();
        let line = Line {
            token_id: Some("tok_1"),
            token_name: Some(&odd),
            provider: Some("openai"),
            model: Some(&odd),
            path: &odd,
            transport: Transport::WebSocket,
            first_byte_us: Some(5),
            client: "2001:db8:1111:2222:3333:4444:5555:6666".parse().ok(),
            ..plain()
        };
        let text = written(&line);
        assert_eq!(text.matches('\n').count(), 1, "one line, whatever callers put in: {text:?}");
        assert!(!text.trim_end().chars().any(|c| c.is_ascii_control()), "no raw control character");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["path"], odd);
        assert_eq!(read["model"], odd);
        assert_eq!(read["token_name"], odd);
        assert_eq!(read["transport"], "websocket");
        assert_eq!(read["first_byte_us"], 5);
        assert_eq!(read["client"], "2001:db8:1111:2222:3333:4444:5555:6666");
    }

    #[test]
    fn room_covers_the_longest_line() {
        let control = "\u{1}".repeat(9000);
        let line = Line {
            time_ms: u64::MAX,
            request_id: &control,
            path: &control,
            status: u16::MAX,
            bytes_in: u64::MAX,
            bytes_out: u64::MAX,
            first_byte_us: Some(u64::MAX),
            client: "::ffff:255.255.255.255".parse().ok(),
            ..plain()
        };
        let text = written(&line);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "still JSON");
    }

    #[test]
    fn time_is_written_as_rfc_3339_with_milliseconds() {
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (4_102_444_799_010, "2099-12-31T23:59:59.010Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
        ] {
            let mut out = Vec::new();
            push_time(&mut out, ms);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{ms}");
        }
    }
}
