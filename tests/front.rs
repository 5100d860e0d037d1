//! The canonical front, byte by byte: what two parsers could read differently gets 400 and a closed
//! connection, and the upstream saw nothing, or exactly one canonical request.

use crate::abuse::frame;
use crate::support::client::Raw;
use crate::support::gateway::{ALL, Setup};
use crate::support::tls::shake_hands;
use crate::support::upstream::Answer;
use crate::support::within;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BODY: &str = r#"{"model":"gpt-4o-mini"}"#;

/// A chat request with `start` as its first line and these lines between the usual ones and the body.
fn with(setup: &Setup, start: &str, lines: &str, body: &str) -> Vec<u8> {
    let token = setup.token("scoped");
    format!("{start}\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n{lines}\r\n{body}")
        .into_bytes()
}

fn post(setup: &Setup, lines: &str, body: &str) -> Vec<u8> {
    with(setup, "POST /v1/chat/completions HTTP/1.1", lines, body)
}

/// Sends `bytes`, expects `status` and the connection's end, and that the next caller is served.
async fn refused(setup: &Setup, what: &str, bytes: &[u8], status: u16) {
    let before = setup.upstream.received().len();
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(bytes).await;
    let answer = raw.try_read_response().await;
    let answer = answer.unwrap_or_else(|e| panic!("{what}: no answer came: {e:?}"));
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    raw.assert_closed().await;
    assert_eq!(setup.upstream.received().len(), before, "{what}: the upstream saw nothing");
    serves(setup, what).await;
}

async fn serves(setup: &Setup, behind: &str) {
    let answer = setup.chat("scoped").send().await;
    assert_eq!(answer.status, 200, "behind {behind}: {}", answer.text());
}

#[tokio::test]
async fn a_length_that_can_be_read_in_two_ways_is_400_and_closes() {
    let setup = Setup::all().await;
    for lines in [
        "Content-Length: 23\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\ncontent-length: 23\r\n",
        "Content-Length: 23\r\nContent-Length: 23\r\n",
        "Content-Length: 23\r\nContent-Length: 3\r\n",
        "Content-Length: 23, 23\r\n",
        "Content-Length: 23,23\r\n",
        "Content-Length: 3, 23\r\n",
        "Content-Length: +23\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x17\r\n",
        "Content-Length: 2 3\r\n",
        "Content-Length: 23.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
    ] {
        refused(&setup, lines, &post(&setup, lines, BODY), 400).await;
    }
}

#[tokio::test]
async fn a_length_over_every_limit_is_413_and_closes() {
    let setup = Setup::all().await;
    for length in ["18446744073709551615", "9223372036854775808"] {
        let lines = format!("Content-Length: {length}\r\n");
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(post(&setup, &lines, BODY)).await;
        raw.shutdown().await;
        raw.read_response().await.assert_denied(413, "body_too_large");
        raw.assert_closed().await;
        assert!(setup.upstream.received().is_empty(), "{length}: the upstream saw nothing");
    }
    serves(&setup, "endless lengths").await;
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_alone_is_400_and_closes() {
    let setup = Setup::all().await;
    let body = "17\r\n{\"model\":\"gpt-4o-mini\"}\r\n0\r\n\r\n";
    for lines in [
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: chunked;a=b\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding:\r\n",
    ] {
        refused(&setup, lines, &post(&setup, lines, body), 400).await;
    }
    let old = "POST /v1/chat/completions HTTP/1.0";
    let bytes = with(&setup, old, "Transfer-Encoding: chunked\r\n", body);
    refused(&setup, "chunks in HTTP/1.0", &bytes, 400).await;
}

#[tokio::test]
async fn chunked_has_no_case_and_blanks_around_it_do_not_count() {
    let setup = Setup::all().await;
    let body = "17\r\n{\"model\":\"gpt-4o-mini\"}\r\n0\r\n\r\n";
    for value in [" Chunked", " CHUNKED", "\tchunked", " chunked \t", "chunked"] {
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(post(&setup, &format!("Transfer-Encoding:{value}\r\n"), body)).await;
        raw.read_response().await.assert_status(200);
    }
    let seen = setup.upstream.received();
    assert_eq!(seen.len(), 5, "each is one request");
    for request in seen {
        assert!(request.complete && request.text() == BODY, "one canonical body: {request:?}");
        assert_eq!(request.header("transfer-encoding").unwrap_or("chunked"), "chunked");
        let both = request.header("content-length").is_some()
            && request.header("transfer-encoding").is_some();
        assert!(!both, "one length alone: {request:?}");
    }
}

#[tokio::test]
async fn lines_that_end_or_go_on_oddly_are_400_and_close() {
    let setup = Setup::all().await;
    let line = "POST /v1/chat/completions HTTP/1.1\r\n";
    let fields = format!(
        "Host: h\r\nAuthorization: Bearer {}\r\nContent-Length: 23\r\n",
        setup.token("scoped")
    );
    for (what, head) in [
        ("LF at the end of the request line", format!("{}\n{fields}\r\n", line.trim_end())),
        ("LF at the end of a field", format!("{line}A: b\n{fields}\r\n")),
        ("LF at the end of the last field", format!("{line}{}\n\r\n", fields.trim_end())),
        ("LF as the empty line", format!("{line}{fields}\n")),
        ("LF everywhere", format!("{line}{fields}\r\n").replace("\r\n", "\n")),
        ("LF before the request", format!("\n{line}{fields}\r\n")),
        ("a field behind LF", format!("{line}A: b\nX-Api-Key: c\r\n{fields}\r\n")),
        ("a folded line", format!("{line}A: b\r\n c\r\n{fields}\r\n")),
        ("a line folded by a tab", format!("{line}A: b\r\n\tc\r\n{fields}\r\n")),
        ("a folded line at the end", format!("{line}{fields} c\r\n\r\n")),
        ("a first field that is folded", format!("{line} A: b\r\n{fields}\r\n")),
        ("CR in a value", format!("{line}A: b\rX: c\r\n{fields}\r\n")),
        ("CR before CRLF", format!("{line}A: b\r\r\n{fields}\r\n")),
        ("CR in the request line", format!("POST /v1/chat/completions\r HTTP/1.1\r\n{fields}\r\n")),
        ("CR in the query", line.replace(" HTTP", "?a\rb HTTP") + &fields + "\r\n"),
        ("CR that hides a field", line.replace(" HTTP", "?a HTTP/1.1\rX: HTTP") + &fields + "\r\n"),
        ("CR behind the request line", format!("{}\r\r\n{fields}\r\n", line.trim_end())),
        ("NUL in a value", format!("{line}A: b\0c\r\n{fields}\r\n")),
        ("NUL in a name", format!("{line}A\0: b\r\n{fields}\r\n")),
        ("NUL in the path", line.replace(" HTTP", "\0 HTTP") + &fields + "\r\n"),
        ("NUL in the query", line.replace(" HTTP", "?a=\0 HTTP") + &fields + "\r\n"),
        ("a blank before the colon", format!("{line}A : b\r\n{fields}\r\n")),
        ("a tab before the colon", format!("{line}A\t: b\r\n{fields}\r\n")),
        (
            "a blank before the colon of a length",
            format!("{line}{}\r\n", fields.replace("th:", "th :")),
        ),
        ("a line without a colon", format!("{line}A\r\n{fields}\r\n")),
        ("a field without a name", format!("{line}: b\r\n{fields}\r\n")),
        ("a name in Latin-1", format!("{line}\u{e9}: b\r\n{fields}\r\n")),
        ("two blanks", line.replace(" HTTP", "  HTTP") + &fields + "\r\n"),
        ("a tab for a blank", line.replace(" HTTP", "\tHTTP") + &fields + "\r\n"),
        ("a blank at the line's end", format!("{} \r\n{fields}\r\n", line.trim_end())),
        ("a blank in the path", line.replace("chat", "ch at") + &fields + "\r\n"),
        ("a blank in the query", line.replace(" HTTP", "?a b HTTP") + &fields + "\r\n"),
        ("no version", line.replace(" HTTP/1.1", "") + &fields + "\r\n"),
        ("an odd version", line.replace("1.1", "1.2") + &fields + "\r\n"),
        ("a version of two", line.replace("1.1", "2.0") + &fields + "\r\n"),
        ("UTF-8 in the path", line.replace("chat", "ch\u{e9}t") + &fields + "\r\n"),
    ] {
        refused(&setup, what, format!("{head}{BODY}").as_bytes(), 400).await;
    }
}

#[tokio::test]
async fn an_odd_head_is_noticed_in_pieces_and_on_a_kept_connection() {
    let setup = Setup::all().await;
    let bytes = post(&setup, "A: b\nContent-Length: 23\r\n", BODY);
    let mut raw = Raw::connect(setup.addr()).await;
    for _ in 0..2 {
        raw.send(setup.chat("scoped").to_bytes()).await;
        raw.read_response().await.assert_status(200);
    }
    for piece in bytes.chunks(7) {
        raw.send(piece).await;
        tokio::task::yield_now().await;
    }
    raw.read_response().await.assert_denied(400, "malformed_request");
    raw.assert_closed().await;
    assert_eq!(setup.upstream.received().len(), 2, "the odd one went nowhere");
}

#[tokio::test]
async fn bodies_are_not_taken_for_heads() {
    let setup = Setup::all().await;
    let mut raw = Raw::connect(setup.addr()).await;
    for body in [&b"\n\n#\r\r\n \0"[..], b"GET /#x HTTP/1.1\n\n"] {
        let request = || {
            let request = setup.request("POST", "/v1/files").bearer(setup.token("free"));
            request.body("text/plain", body)
        };
        let whole = request().to_bytes();
        let (head, rest) = whole.split_at(whole.len() - body.len());
        raw.send(&whole).await;
        raw.read_response().await.assert_status(200);
        // The body behind its head, in pieces of its own.
        raw.send(head).await;
        setup.upstream.wait_for_heads(1).await;
        for byte in rest {
            raw.send([*byte]).await;
        }
        raw.read_response().await.assert_status(200);
        raw.send(request().chunked(3).to_bytes()).await;
        raw.read_response().await.assert_status(200);
    }
    assert_eq!(setup.upstream.received().len(), 6, "on one connection");
}

#[tokio::test]
async fn who_is_asked_must_be_said_once() {
    let setup = Setup::all().await;
    let token = setup.token("free");
    for (what, line, hosts) in [
        ("no Host", "GET /v1/models HTTP/1.1", ""),
        ("two Hosts", "GET /v1/models HTTP/1.1", "Host: h\r\nHost: h\r\n"),
        ("two different Hosts", "GET /v1/models HTTP/1.1", "Host: h\r\nHost: i\r\n"),
        ("two Hosts in HTTP/1.0", "GET /v1/models HTTP/1.0", "Host: h\r\nHost: h\r\n"),
        ("a list", "GET /v1/models HTTP/1.1", "Host: h, i\r\n"),
        ("an empty Host", "GET http://h/v1/models HTTP/1.1", "Host:\r\n"),
        ("another authority", "GET http://i/v1/models HTTP/1.1", "Host: h\r\n"),
        ("another port", "GET http://h:1/v1/models HTTP/1.1", "Host: h\r\n"),
        ("a user", "GET http://u@h/v1/models HTTP/1.1", "Host: h\r\n"),
        ("an authority and no Host", "GET http://h/v1/models HTTP/1.1", ""),
        ("a fragment", "GET /v1/models#x HTTP/1.1", "Host: h\r\n"),
        ("an empty fragment", "GET /v1/models# HTTP/1.1", "Host: h\r\n"),
        ("a fragment behind a query", "GET /v1/models?a=b#c HTTP/1.1", "Host: h\r\n"),
        ("an absolute fragment", "GET http://h/v1/models#x HTTP/1.1", "Host: h\r\n"),
        ("a fragment that hides a query", "GET /v1/models#?model=x HTTP/1.1", "Host: h\r\n"),
    ] {
        let bytes = format!("{line}\r\n{hosts}Authorization: Bearer {token}\r\n\r\n");
        refused(&setup, what, bytes.as_bytes(), 400).await;
    }
}

#[tokio::test]
async fn methods_are_a_closed_list() {
    let setup = Setup::all().await;
    for method in ["TRACE", "CONNECT", "get", "Post", "PROPFIND", "PRI", "M-SEARCH", "GETX"] {
        let mut raw = Raw::connect(setup.addr()).await;
        let line = format!("{method} /v1/chat/completions HTTP/1.1");
        raw.send(with(&setup, &line, "Connection: close\r\nContent-Length: 23\r\n", BODY)).await;
        let answer = raw.read_response().await;
        assert_eq!(answer.status, 405, "{method}: {}", answer.text());
        raw.assert_closed().await;
        assert!(setup.upstream.received().is_empty(), "{method}: the upstream saw nothing");
    }
    serves(&setup, "odd methods").await;
}

#[tokio::test]
async fn fields_with_an_underscore_and_trailers_go_no_further() {
    let setup = Setup::all().await;
    let lines = "X_Api_Key: a\r\n_b: c\r\nContent_Length: 3\r\nTransfer_Encoding: chunked\r\nX-Kept: d\r\nTrailer: X-T\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n";
    let token = setup.token("free");
    let trailers = format!(
        "17\r\n{BODY}\r\n0\r\nX-T: u\r\nAuthorization: Bearer {token}\r\nContent-Length: 3\r\n\r\n"
    );
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(post(&setup, lines, &trailers)).await;
    raw.read_response().await.assert_status(200);
    let seen = setup.upstream.only_request();
    assert!(seen.complete && seen.text() == BODY && seen.trailers.is_empty(), "{seen:?}");
    assert!(seen.headers.iter().all(|(name, _)| !name.contains('_')), "{seen:?}");
    assert_eq!(seen.header("x-kept"), Some("d"));
    let raw = String::from_utf8_lossy(&seen.raw).to_lowercase();
    assert!(!raw.contains("x-t: u") && !raw.contains("content-length"), "{raw}");
    serves(&setup, "trailers").await;
}

#[tokio::test]
async fn heads_that_are_too_long_are_said_so_however_long_they_are() {
    let setup = Setup::all().await;
    let fields = |count: usize| "A: b\r\n".repeat(count);
    let long = |bytes: usize| format!("A: {}\r\n", "x".repeat(bytes));
    let lines = |lines: String| post(&setup, &format!("{lines}Content-Length: 23\r\n"), BODY);
    for (what, bytes) in [
        ("101 fields", lines(fields(97))),
        ("300 fields", lines(fields(300))),
        ("100,000 fields", lines(fields(100_000))),
        ("33 KiB in a field", lines(long(33 << 10))),
        ("33 KiB in several", lines(long(3_400).repeat(10))),
        ("100 KiB in a field", lines(long(100 << 10))),
        ("3 MiB in a field", lines(long(3 << 20))),
    ] {
        refused(&setup, what, &bytes, 431).await;
    }
    for length in [8 << 10, 20 << 10, 70 << 10, 3 << 20] {
        for target in ["/v1/chat/completions?a=", "/v1/x/"] {
            let line = format!("POST {target}{} HTTP/1.1", "a".repeat(length));
            let bytes = with(&setup, &line, "Content-Length: 23\r\n", BODY);
            refused(&setup, &format!("{target} of {length} bytes"), &bytes, 414).await;
        }
    }
    let just = format!("POST /v1/chat/completions?a={} HTTP/1.1", "a".repeat(8_100));
    let bytes = with(&setup, &just, &format!("{}Content-Length: 23\r\n", fields(90)), BODY);
    let mut raw = Raw::connect(setup.addr()).await;
    raw.send(bytes).await;
    raw.read_response().await.assert_status(200);
}

#[tokio::test]
async fn chunks_that_are_none_end_the_request_unfinished() {
    let setup = Setup::all().await;
    let good = format!("17\r\n{BODY}\r\n");
    for token in ["scoped", "free"] {
        for (what, body) in [
            ("no number", format!("x\r\n{BODY}\r\n0\r\n\r\n")),
            ("an empty size", format!("\r\n{BODY}\r\n0\r\n\r\n")),
            ("a sign", format!("+17\r\n{BODY}\r\n0\r\n\r\n")),
            ("a negative size", format!("-1\r\n{BODY}\r\n0\r\n\r\n")),
            ("a prefix", format!("0x17\r\n{BODY}\r\n0\r\n\r\n")),
            ("an overflow", format!("10000000000000017\r\n{BODY}\r\n0\r\n\r\n")),
            ("the largest size", format!("ffffffffffffffff\r\n{BODY}\r\n0\r\n\r\n")),
            ("a longer chunk than announced", format!("16\r\n{BODY}\r\n0\r\n\r\n")),
            ("LF for CRLF behind a chunk", format!("17\r\n{BODY}\n0\r\n\r\n")),
            ("an endless extension", format!("17;{}\r\n{BODY}\r\n0\r\n\r\n", "a".repeat(100_000))),
            ("an endless size", format!("{}17\r\n{BODY}\r\n0\r\n\r\n", "0".repeat(100_000))),
            ("a bad size behind a good chunk", format!("{good}zz\r\n\r\n")),
        ] {
            let before = setup.upstream.received().len();
            let mut raw = Raw::connect(setup.addr()).await;
            let head = format!(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\r\n",
                setup.token(token)
            );
            let _ = raw.try_send(head + &body).await;
            raw.shutdown().await;
            let (answer, _) = raw.read_until_close().await;
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert!(!answer.contains(" 200 "), "{what}, {token}: {answer}");
            for seen in setup.upstream.received().iter().skip(before) {
                assert!(!seen.complete, "{what}, {token}: it stays incomplete: {seen:?}");
            }
            setup.assert_nothing_is_left_open().await;
        }
        serves(&setup, "bad chunks").await;
    }
}

#[tokio::test]
async fn extensions_of_chunks_are_dropped() {
    let setup = Setup::all().await;
    let mut raw = Raw::connect(setup.addr()).await;
    let body = format!("0017;a=b;c=\"d\"\r\n{BODY}\r\n00;x\r\n\r\n");
    raw.send(post(&setup, "Transfer-Encoding: chunked\r\n", &body)).await;
    raw.read_response().await.assert_status(200);
    let seen = setup.upstream.only_request();
    assert!(seen.complete && seen.text() == BODY, "{seen:?}");
    assert!(!String::from_utf8_lossy(&seen.raw).contains("a=b"), "{seen:?}");
}

#[tokio::test]
async fn what_is_behind_a_request_is_not_another_one() {
    let setup = Setup::all().await;
    let second = setup.chat("free").to_bytes();
    for (what, first, status) in [
        ("a GET with a body", "GET /v1/models HTTP/1.1\r\nContent-Length: 0\r\n", 200),
        (
            "a refused upgrade",
            "GET /v1/realtime HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            403,
        ),
        ("a refusal", "POST /v1/nowhere%2f HTTP/1.1\r\n", 400),
    ] {
        let before = setup.upstream.received().len();
        let mut raw = Raw::connect(setup.addr()).await;
        let first =
            format!("{first}Host: h\r\nAuthorization: Bearer {}\r\n\r\n", setup.token("scoped"));
        raw.send([first.as_bytes(), &second].concat()).await;
        let answer = raw.read_response().await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text());
        raw.assert_closed().await;
        let seen = setup.upstream.received().len() - before;
        assert!(seen <= 1, "{what}: the second was not served");
        serves(&setup, what).await;
    }
}

#[tokio::test]
async fn bytes_behind_an_upgrade_that_never_comes_about_reach_no_upstream() {
    let setup = Setup::all().await;
    let early = "GET /v1/early HTTP/1.1\r\nHost: h\r\nx-early: 1\r\n\r\n";
    let token = setup.token("free");
    let upgrade = format!(
        "GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    for (answer, status) in [
        (Answer::json(403, "{}").delay(Duration::from_millis(300)), 403),
        (Answer::json(200, "{}").delay(Duration::from_millis(300)), 200),
        (Answer::reset(), 502),
    ] {
        for together in [true, false] {
            setup.upstream.answer(answer.clone());
            let before = setup.upstream.received().len();
            let mut raw = Raw::connect(setup.addr()).await;
            if together {
                raw.send(format!("{upgrade}{early}")).await;
            } else {
                raw.send(&upgrade).await;
                let came = || setup.upstream.received().len() > before;
                within("the upgrade to be on its way", async {
                    while !came() {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                })
                .await;
                // The connection may have ended by now.
                let _ = raw.try_send(early).await;
            }
            if let Ok(got) = raw.try_read_response().await {
                // Bytes that come before the answer are themselves a reason to refuse.
                assert!([status, 400].contains(&got.status), "{together}: {}", got.text());
            }
            let (rest, _) = raw.read_until_close().await;
            assert!(!rest.starts_with(b"HTTP"), "{status}: nothing answers the early bytes");
            setup.assert_nothing_is_left_open().await;
        }
    }
    let raw = String::from_utf8_lossy(&setup.upstream.raw_bytes()).into_owned();
    assert!(!raw.contains("early"), "no upstream saw any of it: {raw}");
}

#[tokio::test]
async fn an_expectation_other_than_100_is_417_and_nobody_waits_for_ever() {
    let setup = Setup::all().await;
    for expect in ["200-ok", "100-continue, x", "x", ""] {
        let lines = format!("Expect: {expect}\r\nContent-Length: 23\r\n");
        let mut raw = Raw::connect(setup.addr()).await;
        // The body is not sent: the answer comes at once.
        raw.send(post(&setup, &lines, "")).await;
        raw.read_response().await.assert_denied(417, "expectation_failed");
        raw.assert_closed().await;
    }
    for (token, length, status) in
        [("scoped", 23, 100), ("free", 23, 100), ("free", 2_000_000_000, 413)]
    {
        let mut raw = Raw::connect(setup.addr()).await;
        raw.send(format!(
            "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {}\r\nExpect: 100-Continue\r\nContent-Length: {length}\r\n\r\n",
            setup.token(token)
        ))
        .await;
        let answer = raw.read_some().await;
        let expected = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(expected.as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
    setup.assert_nothing_is_left_open().await;
    assert!(setup.upstream.received().iter().all(|r| !r.complete), "no body was ever sent");
}

#[tokio::test]
async fn a_refused_head_is_answered_though_megabytes_follow() {
    let setup = Setup::all().await;
    let body = "x".repeat(5 << 20);
    for lines in [
        format!("A: b\nContent-Length: {}\r\n", body.len()),
        format!("A : b\r\nContent-Length: {}\r\n", body.len()),
        format!("Content-Length: {}\r\nContent-Length: 1\r\n", body.len()),
        format!("Content-Length: {}\r\nTransfer-Encoding: x\r\n", body.len()),
    ] {
        // It sends everything before it reads.
        refused(&setup, &lines, &post(&setup, &lines, &body), 400).await;
    }
}

/// Sends one `GET` for this `:path`, byte by byte as it stands here, and gives the kind of the frame that
/// answers it.
async fn path_on_http2(setup: &Setup, path: &str) -> u8 {
    let bearer = format!("Bearer {}", setup.token("free"));
    let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    // :method GET, :scheme https, :path, :authority, authorization (RFC 7541, appendix A).
    let block = [
        vec![0x82, 0x87, 0x04],
        text(path),
        vec![0x41],
        text("gate.test"),
        vec![0x0F, 8],
        text(&bearer),
    ]
    .concat();
    let mut tls = shake_hands(setup.tls(), &["h2"]).await.expect("a handshake");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let sent = [&preface[..], &frame(4, 0, 0, &[]), &frame(1, 5, 1, &block)].concat();
    tls.write_all(&sent).await.expect("it reads");
    within("an answer", async {
        loop {
            let mut head = [0; 9];
            tls.read_exact(&mut head).await.expect("a frame");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            tls.read_exact(&mut payload).await.expect("its payload");
            if matches!(head[3], 1 | 3 | 7) {
                return head[3];
            }
        }
    })
    .await
}

#[tokio::test]
async fn on_http2_a_fragment_is_cut_off_and_one_canonical_request_is_left() {
    let tls = "listen: [{ address: 127.0.0.1:0 }, { address: 127.0.0.1:0, tls: $TLS }]";
    let setup = Setup::with(&ALL.replace("listen: [{ address: 127.0.0.1:0 }]", tls)).await;
    assert_eq!(path_on_http2(&setup, "/v1/models#?model=x").await, 1, "it is answered");
    assert_eq!(path_on_http2(&setup, "/v1/models?a=b#c").await, 1, "it is answered");
    for path in ["/v1/models\r\nX: y", "/v1/mo dels", "/v1/models\0"] {
        assert_ne!(path_on_http2(&setup, path).await, 1, "{path:?} ends its stream");
    }
    let targets: Vec<_> = setup.upstream.received().into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/v1/models", "/v1/models?a=b"]);
    serves(&setup, "fragments").await;
}
