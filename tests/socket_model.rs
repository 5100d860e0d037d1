//! Models in a socket's messages: a token that may use certain models only says nothing to a provider
//! that names another one, in whatever frames it comes; what the upstream recorded decides.

use crate::support::client::Raw;
use crate::support::frame::{BINARY, CONTINUATION, Frame, PING, PONG, TEXT};
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;
use crate::support::{canary, ws};
use serde_json::Value;

const REALTIME: &str = "/v1/realtime?model=gpt-realtime";
const TRANSCRIPTION: &str = "/v1/realtime?intent=transcription";
const RESPONSES: &str = "/v1/responses";
const LIVE: &str = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
const SDK_LIVE: &str =
    "//ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent";

const TURN: &str =
    r#"{"type":"response.create","stream_id":"a","model":"gpt-4o-mini","input":"hi"}"#;
const SETUP: &str = r#"{"setup":{"model":"models/gemini-2.5-flash"}}"#;
const LISTEN: &str = r#"{"type":"session.update","session":{"type":"transcription","audio":{"input":{"transcription":{"model":"gpt-4o-mini"}}}}}"#;

async fn started() -> Setup {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    setup
}

fn bearer(setup: &Setup, name: &str) -> String {
    format!("Bearer {}", setup.token(name))
}

async fn open(setup: &Setup, token: &str, path: &str) -> ws::Socket {
    let auth = bearer(setup, token);
    let opened = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
    opened.unwrap_or_else(|refused| panic!("{path} opens, not {refused:?}")).0
}

async fn raw(setup: &Setup, token: &str, path: &str) -> Raw {
    let auth = bearer(setup, token);
    let opened = ws::upgrade(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
    opened.unwrap_or_else(|refused| panic!("{path} opens, not {refused:?}")).0
}

/// One masked frame.
fn frame(opcode: u8, fin: bool, payload: impl Into<Vec<u8>>) -> Vec<u8> {
    Frame { fin, ..Frame::new(opcode, payload) }.masked().to_bytes()
}

fn message(text: &str) -> Vec<u8> {
    frame(TEXT, true, text)
}

/// Reads to the end, which must be this close frame.
async fn assert_closes(raw: &mut Raw, code: u16, reason: &str, what: &str) {
    let (bytes, _) = raw.read_until_close().await;
    let mut rest = &bytes[..];
    let mut last = None;
    while let Some((frame, used)) = Frame::parse(rest) {
        last = frame.close_code();
        rest = &rest[used..];
    }
    assert_eq!(last, Some((code, reason.to_owned())), "{what}");
}

/// What passes, and what ends the socket, by path.
const BAD: &[(&str, &[&str], &str, &str)] = &[
    // A session's model, wherever it was and is.
    (
        REALTIME,
        &[],
        r#"{"type":"session.update","session":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"whisper-1"}}}}}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"session.update","session":{"input_audio_transcription":{"model":"whisper-1"}}}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"transcription_session.update","session":{"input_audio_transcription":{"model":"whisper-1"}}}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"response.create","response":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"response.create","response":{"tools":[{},{"model":"gpt-image-1"}]}}"#,
        "model_not_allowed",
    ),
    (REALTIME, &[], r#"{"type":"whatever.comes","model":"gpt-4o"}"#, "model_not_allowed"),
    (
        REALTIME,
        &[],
        r#"{"session":{"Mod\u0065l":"gpt-4o"},"type":"session.update"}"#,
        "model_not_allowed",
    ),
    (
        REALTIME,
        &[],
        r#"{"type":"session.update","session":{"model":"gpt-4o-mini"}}"#,
        "ambiguous_model",
    ),
    (REALTIME, &[], r#"{"session":{"model":"gpt-realtime"},"session":{}}"#, "ambiguous_model"),
    (
        REALTIME,
        &[],
        r#"{"session":{"model":"gpt-realtime","MODEL":"gpt-realtime"}}"#,
        "ambiguous_model",
    ),
    (REALTIME, &[], r#"{"session":{"model":["gpt-realtime"]}}"#, "ambiguous_model"),
    (REALTIME, &[], "hello", "invalid_body"),
    (REALTIME, &[], r#"[{"type":"session.update"}]"#, "invalid_body"),
    (REALTIME, &[], r#"{"type":"a"}{"session":{"model":"gpt-4o"}}"#, "invalid_body"),
    (REALTIME, &[], "\u{feff}{}", "invalid_body"),
    (REALTIME, &[], "", "invalid_body"),
    (
        REALTIME,
        &[
            r#"{"type":"session.update","session":{"model":"gpt-realtime","tools":[]}}"#,
            r#"{"type":"response.create"}"#,
            r#"{"type":"brand.new","x":{"session":{"model":"gpt-4o"}}}"#,
        ],
        r#"{"type":"session.update","session":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
    // Sessions that transcribe have no model in the URL.
    (
        TRANSCRIPTION,
        &[],
        r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#,
        "model_not_allowed",
    ),
    (
        TRANSCRIPTION,
        &[],
        r#"{"type":"session.update","session":{"type":"transcription"}}"#,
        "model_not_allowed",
    ),
    (
        TRANSCRIPTION,
        &[],
        r#"{"session":{"audio":{"Input":{"transcription":{"model":"gpt-4o-mini"}}}}}"#,
        "model_not_allowed",
    ),
    (
        TRANSCRIPTION,
        &[LISTEN, r#"{"type":"input_audio_buffer.append"}"#],
        r#"{"session":{"input_audio_transcription":{"model":"whisper-1"}}}"#,
        "model_not_allowed",
    ),
    (
        TRANSCRIPTION,
        &[LISTEN],
        r#"{"type":"session.update","session":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
    // Responses: each turn has its own.
    (RESPONSES, &[], r#"{"type":"response.create","input":"hi"}"#, "model_not_allowed"),
    (RESPONSES, &[], r#"{"input":"hi"}"#, "model_not_allowed"),
    (
        RESPONSES,
        &[],
        r#"{"type":"response.create","response":{"model":"gpt-4o-mini"}}"#,
        "model_not_allowed",
    ),
    (RESPONSES, &[], r#"{"type":"response.create","Model":"gpt-4o-mini"}"#, "model_not_allowed"),
    (RESPONSES, &[], r#"{"type":"response.steer","Type":"response.create"}"#, "ambiguous_model"),
    (RESPONSES, &[], r#"{"type":["response.create"]}"#, "invalid_body"),
    (
        RESPONSES,
        &[TURN, TURN],
        r#"{"type":"response.create","stream_id":"b","model":"gpt-4o","input":"hi"}"#,
        "model_not_allowed",
    ),
    (
        RESPONSES,
        &[TURN],
        r#"{"type":"response.create","stream_id":"a","input":"hi"}"#,
        "model_not_allowed",
    ),
    (
        RESPONSES,
        &[TURN],
        r#"{"type":"response.create","model":"gpt-4o-mini","tools":[{"type":"image_generation","model":"gpt-image-1"}]}"#,
        "model_not_allowed",
    ),
    (
        RESPONSES,
        &[TURN],
        r#"{"type":"response.create","model":"gpt-4o-mini","tools":[{"type":"image_generation","svg":{"model":"gpt-5"}}]}"#,
        "model_not_allowed",
    ),
    (
        RESPONSES,
        &[TURN],
        r#"{"type":"response.create","model":"gpt-4o-mini","moderation":{"model":"m"}}"#,
        "model_not_allowed",
    ),
    (
        RESPONSES,
        &[r#"{"type":"response.steer","previous_response_id":"r","input":"hi"}"#],
        r#"{"type":"session.update","session":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
    (
        "/v1/responses?model=gpt-4o-mini",
        &[TURN],
        r#"{"type":"response.create","input":"hi"}"#,
        "model_not_allowed",
    ),
    (
        "/v1/responses?model=gpt-4o-mini",
        &[TURN],
        r#"{"type":"response.create","model":"gpt-realtime"}"#,
        "ambiguous_model",
    ),
    // Live: nothing before the setup.
    (LIVE, &[], r#"{"clientContent":{"turns":[]}}"#, "model_not_allowed"),
    (LIVE, &[], r#"{"setup":{}}"#, "model_not_allowed"),
    (LIVE, &[], r#"{"Setup":{"model":"models/gemini-2.5-flash"}}"#, "model_not_allowed"),
    (LIVE, &[], r#"{"setup":{"model":"models/gemini-2.5-pro"}}"#, "model_not_allowed"),
    (LIVE, &[], r#"{"setup":{"model":"models/gemini-2.5-flash"},"setup":{}}"#, "ambiguous_model"),
    (
        SDK_LIVE,
        &[SETUP, r#"{"realtimeInput":{"text":"hi"}}"#],
        r#"{"setup":{"model":"models/gemini-2.5-pro"}}"#,
        "model_not_allowed",
    ),
    (
        "/v1/realtime?model=gpt-realtime&x=1",
        &[],
        r#"{"session":{"model":"gpt-4o"}}"#,
        "model_not_allowed",
    ),
];

#[tokio::test]
async fn a_message_that_may_not_pass_ends_the_socket_and_never_arrives() {
    let setup = started().await;
    for (path, good, bad, reason) in BAD {
        for opcode in [TEXT, BINARY] {
            let before = setup.upstream.sockets().len();
            let mut raw = raw(&setup, "scoped", path).await;
            // All in one piece, and something behind that would be allowed.
            let mut stream: Vec<u8> = good.iter().flat_map(|text| message(text)).collect();
            stream.extend(frame(opcode, true, *bad));
            stream.extend(message(good.first().unwrap_or(&r#"{"type":"x"}"#)));
            raw.send(stream).await;
            assert_closes(&mut raw, 1008, reason, bad).await;
            let connection = setup.upstream.connections().len() - 1;
            setup.upstream.wait_for_close_of(connection).await;
            let seen = &setup.upstream.sockets()[before];
            assert_eq!(
                seen.texts(),
                *good,
                "{path} {bad}: what came before, in order, and no more"
            );
            assert_eq!(seen.frames.len(), good.len(), "{path} {bad}: and nothing else");
        }
    }
    setup.assert_nothing_is_left_open().await;
    let line = setup.access_log().pop().expect("a line");
    assert_eq!((&line["denial"], &line["status"]), (&"model_not_allowed".into(), &101.into()));
    let cut = r#"keygate_sessions_cut_total{reason="model_not_allowed"}"#;
    assert!(setup.metric(cut) > 10.0, "they are counted");
}

#[tokio::test]
async fn allowed_messages_pass_byte_by_byte_as_they_came() {
    let setup = started().await;
    for (path, good) in [
        (REALTIME, &[r#"{"type":"session.update","session":{"model":"gpt-realtime"}}"#, "{}"][..]),
        (TRANSCRIPTION, &[LISTEN, r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#]),
        (
            RESPONSES,
            &[TURN, r#"{"type":"response.create","stream_id":"b","model":"gpt-realtime"}"#],
        ),
        (LIVE, &[SETUP, r#"{"realtimeInput":{"text":"hi"}}"#]),
    ] {
        let mut raw = raw(&setup, "scoped", path).await;
        let mut expected: Vec<Frame> = Vec::new();
        for text in good {
            let (first, last) = text.split_at(text.len() / 2);
            expected.extend([
                Frame { fin: false, ..Frame::new(BINARY, first) }.masked(),
                Frame::new(PING, "between").masked(),
                Frame::new(CONTINUATION, last).masked(),
            ]);
        }
        let stream: Vec<u8> = expected.iter().flat_map(Frame::to_bytes).collect();
        for byte in stream {
            raw.send([byte]).await;
        }
        let mut heard = Vec::new();
        while heard.len() < good.iter().map(|text| text.len() + 2 + 9).sum() {
            heard.extend(raw.read_some().await);
        }
        let sockets = setup.upstream.sockets();
        let seen = sockets.last().expect("it is open");
        let data = |f: &&Frame| f.opcode != PING;
        let (came, sent): (Vec<_>, Vec<_>) =
            (seen.frames.iter().filter(data).collect(), expected.iter().filter(data).collect());
        assert_eq!(came, sent, "{path}: the same frames, masks included");
        let pings = seen.frames.iter().filter(|f| f.opcode == PING).count();
        assert_eq!(pings, good.len(), "{path}: and the pings between them");
    }
}

#[tokio::test]
async fn a_message_is_read_over_its_fragments_and_any_chunking() {
    let setup = started().await;
    let bad = r#"{"type":"response.create","model":"gpt-4o"}"#;
    for step in [1, 3, 20] {
        let before = setup.upstream.sockets().len();
        let mut raw = raw(&setup, "scoped", RESPONSES).await;
        let mut stream = message(TURN);
        for (n, part) in bad.as_bytes().chunks(7).enumerate() {
            let opcode = if n == 0 { TEXT } else { CONTINUATION };
            stream.extend(frame(opcode, false, part));
            stream.extend(frame(PING, true, ""));
        }
        stream.extend(frame(CONTINUATION, true, ""));
        for piece in stream.chunks(step) {
            if raw.try_send(piece).await.is_err() {
                break;
            }
        }
        assert_closes(&mut raw, 1008, "model_not_allowed", "in fragments").await;
        let connection = setup.upstream.connections().len() - 1;
        setup.upstream.wait_for_close_of(connection).await;
        let seen = &setup.upstream.sockets()[before];
        assert_eq!(seen.texts(), [TURN], "pieces of {step}");
        let data = seen.frames.iter().filter(|f| f.opcode != PING).count();
        assert_eq!(data, 1, "pieces of {step}: no fragment of the other arrived");
    }
}

#[tokio::test]
async fn a_ping_between_fragments_is_answered_before_the_message_ends() {
    let setup = started().await;
    let mut raw = raw(&setup, "scoped", RESPONSES).await;
    let (first, last) = TURN.split_at(10);
    raw.send(frame(TEXT, false, first)).await;
    raw.send(frame(PING, true, "now")).await;
    let pong = Frame::new(PONG, "now").to_bytes();
    let mut heard = Vec::new();
    while heard.len() < pong.len() {
        heard.extend(raw.read_some().await);
    }
    assert_eq!(heard, pong, "the provider's answer");
    raw.send(frame(CONTINUATION, true, last)).await;
    assert_eq!(setup.upstream.wait_for_texts(1).await, [TURN]);
}

#[tokio::test]
async fn a_long_message_passes_while_it_is_read_and_its_end_only_if_it_may() {
    let setup = started().await;
    let filler = "a".repeat(300_000);
    let turn = |model: &str| {
        format!(r#"{{"type":"response.create","input":"{filler}","model":"{model}"}}"#)
    };
    let mut socket = open(&setup, "scoped", RESPONSES).await;
    let good = turn("gpt-4o-mini");
    socket.say(&good).await;
    assert_eq!(socket.hear().await, good, "the echo");
    let mut raw = raw(&setup, "scoped", RESPONSES).await;
    let bad = message(&turn("gpt-4o"));
    for piece in bad.chunks(10_000) {
        if raw.try_send(piece).await.is_err() {
            break;
        }
    }
    assert_closes(&mut raw, 1008, "model_not_allowed", "at the end").await;
    let connection = setup.upstream.connections().len() - 1;
    setup.upstream.wait_for_close_of(connection).await;
    assert_eq!(setup.upstream.texts().len(), 1, "the message never came to its end");
    let sockets = setup.upstream.sockets();
    assert!(sockets.last().expect("two").frames.is_empty(), "not even its one frame");
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_socket_unseen() {
    let setup = started().await;
    let update = r#"{"type":"session.update"}"#;
    let bare = Frame::new(TEXT, update);
    for (what, bytes) in [
        ("no mask", bare.to_bytes()),
        ("compressed", Frame { rsv: 4, ..bare.clone() }.masked().to_bytes()),
        ("a reserved bit", Frame { rsv: 1, ..bare.clone() }.masked().to_bytes()),
        ("unknown data", frame(3, true, update)),
        ("the continuation of nothing", frame(CONTINUATION, true, update)),
        ("half a ping", frame(PING, false, "")),
        ("a message in another", [frame(TEXT, false, "{"), message(update)].concat()),
    ] {
        let before = setup.upstream.sockets().len();
        let mut raw = raw(&setup, "scoped", REALTIME).await;
        raw.send([message(update), bytes].concat()).await;
        assert_closes(&mut raw, 1002, "malformed_request", what).await;
        let connection = setup.upstream.connections().len() - 1;
        setup.upstream.wait_for_close_of(connection).await;
        let seen = &setup.upstream.sockets()[before];
        assert_eq!(seen.frames, [Frame::new(TEXT, update).masked()], "{what}: the good one alone");
    }
}

#[tokio::test]
async fn a_message_over_the_limit_ends_a_socket_that_is_read() {
    let setup = Setup::with(&format!("{ALL}limits: {{ max_ws_message: 1KiB }}\n")).await;
    setup.upstream.answer(Answer::websocket());
    let mut raw = raw(&setup, "scoped", REALTIME).await;
    let text = |n: usize| format!(r#"{{"x":"{}"}}"#, "a".repeat(n - 8));
    let long = text(1_025);
    let (first, last) = long.split_at(1_000);
    raw.send(
        [message(&text(1_024)), frame(TEXT, false, first), frame(CONTINUATION, true, last)]
            .concat(),
    )
    .await;
    assert_closes(&mut raw, 1009, "message_too_big", "over both fragments").await;
    setup.upstream.wait_for_close().await;
    assert_eq!(setup.upstream.texts(), [text(1_024)], "the limit itself passes");
}

#[tokio::test]
async fn what_comes_along_with_the_handshake_is_read_too() {
    let setup = started().await;
    for bad in ["hello", r#"{"type":"response.create","model":"gpt-4o"}"#] {
        let mut raw = Raw::connect(setup.addr()).await;
        let request = setup.request("GET", RESPONSES).bearer(setup.token("scoped"));
        let request = request
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket")
            .header("Sec-WebSocket-Version", "13")
            .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        raw.send([request.to_bytes(), message(bad)].concat()).await;
        let _ = raw.read_until_close().await;
        setup.upstream.wait_for_close().await;
        assert!(setup.upstream.sockets().iter().all(|s| s.frames.is_empty()), "{bad}");
    }
}

#[tokio::test]
async fn extensions_are_not_offered_where_frames_are_read() {
    let setup = started().await;
    const OFFER: &str = "permessage-deflate; client_max_window_bits";
    for (token, seen) in [("scoped", None), ("free", Some(OFFER))] {
        let auth = bearer(&setup, token);
        let headers = [("Authorization", &*auth), ("Sec-WebSocket-Extensions", OFFER)];
        ws::upgrade(setup.addr(), REALTIME, &headers, &[]).await.expect("it opens");
        let request = setup.upstream.received().pop().expect("it came");
        assert_eq!(request.header("sec-websocket-extensions"), seen, "{token}");
    }
    setup
        .upstream
        .answer(Answer::websocket().header("Sec-WebSocket-Extensions", "permessage-deflate"));
    let auth = bearer(&setup, "scoped");
    let refused = ws::connect(setup.addr(), REALTIME, &[("Authorization", &auth)], &[]).await;
    refused.expect_err("nobody could read it").assert_denied(502, "upstream_unreachable");
    let mut free = raw(&setup, "free", REALTIME).await;
    let compressed = Frame { rsv: 4, ..Frame::new(BINARY, "x") }.masked().to_bytes();
    free.send(compressed).await;
    assert!(!free.read_some().await.is_empty(), "what is not read passes");
}

#[tokio::test]
async fn without_models_in_the_grant_every_byte_passes() {
    let setup = started().await;
    let strange = [
        message("no JSON"),
        message(r#"{"type":"response.create","model":"gpt-4o"}"#),
        frame(BINARY, true, vec![0xFF; 300]),
    ];
    for path in [REALTIME, RESPONSES, LIVE, "/v1/realtime?call_id=rtc_1", TRANSCRIPTION] {
        let before = setup.upstream.sockets().len();
        let mut raw = raw(&setup, "free", path).await;
        raw.send(strange.concat()).await;
        let mut heard = 0;
        while heard < strange.iter().map(|s| s.len() - 4).sum() {
            heard += raw.read_some().await.len();
        }
        let seen = &setup.upstream.sockets()[before];
        let came: Vec<u8> = seen.frames.iter().flat_map(Frame::to_bytes).collect();
        assert!(came == strange.concat(), "{path}: untouched");
    }
}

#[tokio::test]
async fn a_socket_that_joins_a_call_is_refused_and_one_that_is_none_too() {
    let setup = started().await;
    let auth = bearer(&setup, "scoped");
    for path in [
        "/v1/realtime?call_id=rtc_1",
        "/v1/realtime?model=gpt-realtime&call_id=rtc_1",
        "/v1/realtime?intent=transcription&Call%5Fid=rtc_1",
        "/v1/realtime?intent=transcription&model=whisper-1",
        "/v1/realtime?intent=other",
    ] {
        let refused = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
        refused.expect_err(path).assert_denied(403, "model_not_allowed");
    }
    // A plain request opens no socket in which a model could be named.
    for path in [RESPONSES, LIVE] {
        let plain = setup.request("GET", path).bearer(setup.token("scoped")).send().await;
        plain.assert_denied(403, "model_not_allowed");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
    setup.upstream.answer(Answer::json(200, r#"{"data":[]}"#));
    let refused = ws::connect(setup.addr(), RESPONSES, &[("Authorization", &auth)], &[]).await;
    refused.expect_err("an answer").assert_denied(502, "upstream_unreachable");
}

#[tokio::test]
async fn the_log_has_the_model_that_was_named_last() {
    let setup = started().await;
    for (path, said, model) in [
        (RESPONSES, vec![TURN], "gpt-4o-mini"),
        (
            RESPONSES,
            vec![TURN, r#"{"type":"response.create","model":"gpt-realtime"}"#],
            "gpt-realtime",
        ),
        (LIVE, vec![SETUP], "gemini-2.5-flash"),
        (REALTIME, vec!["{}"], "gpt-realtime"),
    ] {
        let mut socket = open(&setup, "scoped", path).await;
        for text in said {
            socket.say(text).await;
            assert_eq!(socket.hear().await, text);
        }
        socket.close(1000, "").await;
        socket.wait_for_end().await;
        setup.assert_nothing_is_left_open().await;
        let line = setup.access_log().pop().expect("a line");
        assert_eq!(line["model"], model, "{path}");
    }
}

#[tokio::test]
async fn later_messages_are_held_against_the_grant_as_it_is_now() {
    let turn = |model: &str| format!(r#"{{"type":"response.create","model":"{model}"}}"#);
    let mut setup = started().await;
    let (mut used, mut unused) =
        (open(&setup, "scoped", RESPONSES).await, open(&setup, "scoped", RESPONSES).await);
    used.say(&turn("gpt-realtime")).await;
    used.hear().await;
    unused.say(&turn("gpt-4o-mini")).await;
    unused.hear().await;
    let narrow = ALL.replace("gemini-2.5-flash, gpt-realtime]", "gemini-2.5-flash, gpt-5]");
    setup.reload(&narrow).await.expect("a good file");
    assert_eq!(used.hear_close().await, (1008, "token_revoked".into()), "it used what is gone");
    for now in ["gpt-4o-mini", "gpt-5"] {
        unused.say(&turn(now)).await;
        assert_eq!(unused.hear().await, turn(now), "{now} is allowed now");
    }
    unused.say(&turn("gpt-realtime")).await;
    assert_eq!(unused.hear_close().await, (1008, "model_not_allowed".into()));
    assert_eq!(setup.upstream.texts().len(), 4, "the last never arrived");
}

#[tokio::test]
async fn a_socket_names_so_many_models_and_no_more() {
    let yaml = ALL.replace("models: [gpt-4o-mini, ", "models: ['m*', ");
    let setup = Setup::with(&yaml).await;
    setup.upstream.answer(Answer::websocket());
    let mut raw = raw(&setup, "scoped", RESPONSES).await;
    let turn = |n: usize| message(&format!(r#"{{"type":"response.create","model":"m{n}"}}"#));
    let often = (0..200).flat_map(|n| turn(n % 64));
    raw.send(often.chain(turn(64)).collect::<Vec<u8>>()).await;
    assert_closes(&mut raw, 1008, "ambiguous_model", "the 65th").await;
    setup.upstream.wait_for_close().await;
    assert_eq!(setup.upstream.texts().len(), 200, "each of 64 as often as one likes");
}

#[tokio::test]
async fn a_client_token_s_models_bound_its_sockets() {
    let yaml = ALL.replace("sha256: $SHA(free) }", "sha256: $SHA(free), may_mint: true }");
    let setup = Setup::with(&yaml).await;
    let mint = async |path: &str, body: &str, field: &str| {
        let answer =
            setup.request("POST", path).bearer(setup.token("free")).json(body).send().await;
        answer.assert_status(200);
        let minted: Value = answer.json();
        let token = minted[field].as_str().expect("a token").to_owned();
        canary::adopt_token(&token);
        token
    };
    let browser = mint("/v1/client/tokens", r#"{"allowedModels":["gpt-4o-mini"]}"#, "apiKey").await;
    let body = r#"{"bidiGenerateContentSetup":{"setup":{"model":"models/gemini-2.5-flash"}}}"#;
    let live = mint("/v1alpha/auth_tokens", body, "name").await;
    setup.upstream.answer(Answer::websocket());
    let constrained = format!("{LIVE}Constrained?access_token={}", live.replace('/', "%2F"));
    let other = SETUP.replace("flash", "pro");
    for (path, auth, good, bad) in [
        (RESPONSES, Some(format!("Bearer {browser}")), TURN, TURN.replace("-mini", "")),
        (&*constrained, None, SETUP, other),
    ] {
        let headers: Vec<_> = auth.iter().map(|auth| ("Authorization", auth.as_str())).collect();
        let before = setup.upstream.texts().len();
        let (mut socket, _) =
            ws::connect(setup.addr(), path, &headers, &[]).await.expect("it opens");
        socket.say(good).await;
        assert_eq!(socket.hear().await, good);
        socket.say(&bad).await;
        assert_eq!(socket.hear_close().await, (1008, "model_not_allowed".into()), "{path}");
        assert_eq!(setup.upstream.texts().len(), before + 1, "{path}: the other never arrived");
    }
}
