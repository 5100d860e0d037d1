//! The real binary under load and abuse: its memory does not follow what callers send.

use crate::support::client::Request;
use crate::support::frame::{CONTINUATION as CONTINUED, Frame, TEXT};
use crate::support::process;
use crate::support::standalone::Standalone;
use crate::support::tls::{H2, shake_hands};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;
use crate::support::ws;
use sha2::{Digest, Sha256};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What memory may rise by, whatever comes.
const RISE: u64 = 16 << 20;

/// An upstream that counts and hashes bodies, and keeps none.
struct Sink {
    url: String,
    bodies: Arc<Mutex<Vec<Body>>>,
}

/// A body that has ended, one way or the other.
struct Body {
    bytes: usize,
    announced: usize,
    digest: [u8; 32],
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = bodies.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, kept.clone()));
            }
        });
        Self { url, bodies }
    }

    async fn wait_for(&self, count: usize) {
        within("the bodies to have ended", async {
            while self.bodies.lock().expect("no panic").len() < count {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}

async fn serve(mut stream: TcpStream, bodies: Arc<Mutex<Vec<Body>>>) {
    let mut buffer = vec![0; 64 << 10];
    let mut have = 0;
    // Each of these requests comes on a connection of its own, or after the one before was answered.
    loop {
        let end = loop {
            if let Some(at) = buffer[..have].windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            match stream.read(&mut buffer[have..]).await {
                Ok(n) if n > 0 => have += n,
                _ => return,
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|r| r.lines().next());
        let announced: usize = length.map_or(0, |l| l.parse().expect("a number"));
        let mut hash = Sha256::new_with_prefix(&buffer[end..have]);
        let mut bytes = have - end;
        while bytes < announced {
            match stream.read(&mut buffer).await {
                Ok(n) if n > 0 => {
                    hash.update(&buffer[..n]);
                    bytes += n;
                }
                _ => break,
            }
        }
        bodies.lock().expect("no panic").push(Body {
            bytes,
            announced,
            digest: hash.finalize().into(),
        });
        have = 0;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        if bytes < announced || stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

/// A JSON body of so many bytes and some with `end` as its last.
struct Long {
    filler: usize,
    end: &'static str,
}

const BEGIN: &[u8] = br#"{"messages":[{"role":"user","content":""#;
static PIECE: [u8; 64 << 10] = [b'a'; 64 << 10];

impl Long {
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let filler = std::iter::repeat_n(&PIECE[..], self.filler / PIECE.len());
        [BEGIN].into_iter().chain(filler).chain([br#""}]"#, self.end.as_bytes()])
    }

    fn len(&self) -> usize {
        self.pieces().map(<[u8]>::len).sum()
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        self.pieces().for_each(|piece| hash.update(piece));
        hash.finalize().into()
    }
}

/// MiB of each body: 4, or what `make bench` says.
fn size() -> usize {
    let told = std::env::var_os("KEYGATE_BODY_MIB").and_then(|n| n.into_string().ok());
    told.map_or(4, |n| n.parse().expect("KEYGATE_BODY_MIB is a number")) << 20
}

/// Sends half of a body, waits for the others, sends the rest, and gives the status.
async fn upload(
    addr: std::net::SocketAddr,
    token: String,
    body: Long,
    met: Arc<tokio::sync::Barrier>,
) -> u16 {
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("it reads");
    let half = body.filler / PIECE.len() / 2;
    for (n, piece) in body.pieces().enumerate() {
        if n == half {
            met.wait().await;
        }
        // A refusal may come before the end; it is read below.
        if stream.write_all(piece).await.is_err() {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    String::from_utf8_lossy(&answer[9..]).parse().expect("a status")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_long_bodies_with_the_model_at_their_end_take_no_memory() {
    const ENDS: [(&str, u16); 5] = [
        (r#","model":"gpt-4o-mini"}"#, 200),
        (r#","model":"gpt-4o"}"#, 403),
        (r#","model":"gpt-4o-mini","model":"gpt-4o-mini"}"#, 400),
        (r#","model":"gpt-4o-mini"}"#, 200),
        ("}", 403),
    ];
    let sink = Sink::start().await;
    let binary = Standalone::start(&sink.url, "limits: { max_body: 1GiB }\n").await;
    let filler = size();
    let send = async |filler, count| {
        let met = Arc::new(tokio::sync::Barrier::new(count));
        let mut uploads = JoinSet::new();
        for n in 0..count {
            let (end, status) = ENDS[n % ENDS.len()];
            let sent =
                upload(binary.addr, binary.scoped.clone(), Long { filler, end }, met.clone());
            uploads.spawn(async move { (sent.await, status, end) });
        }
        while let Some(done) = uploads.join_next().await {
            let (got, expected, end) = done.expect("no panic");
            assert_eq!(got, expected, "{end}");
        }
        sink.wait_for(count).await;
    };
    // Without optimization fifty connections alone, with any body, take most of it.
    let warm = if process::chosen().is_none() { 50 } else { ENDS.len() };
    send(256 << 10, warm).await;
    sink.bodies.lock().expect("no panic").clear();

    let before = binary.resident();
    binary.forget_peak();
    send(filler, 50).await;
    let rise = binary.peak().saturating_sub(before);
    eprintln!("50 bodies of {} MiB: memory rose by {} KiB", filler >> 20, rise >> 10);
    assert!(rise < RISE, "memory rose by {rise} bytes");

    let bodies = sink.bodies.lock().expect("no panic");
    let (whole, partial): (Vec<_>, Vec<_>) = bodies.iter().partition(|b| b.bytes == b.announced);
    assert_eq!((whole.len(), partial.len()), (20, 30), "the allowed ones, and the others");
    let digest = Long { filler, end: ENDS[0].0 }.digest();
    assert!(whole.iter().all(|b| b.digest == digest), "every byte arrived, in its order");
    assert!(partial.iter().all(|b| b.bytes >= filler / 2), "those were on their way");
}

/// An HTTP/2 frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `GET /` for gate.test, as HPACK has it.
fn get() -> Vec<u8> {
    [&[0x82, 0x87, 0x84, 0x41, 9][..], b"gate.test"].concat()
}

/// `POST /v1/files` with a token.
fn post(token: &str) -> Vec<u8> {
    let bearer = format!("Bearer {token}");
    let mut block = [&[0x83, 0x87, 0x04, 9][..], b"/v1/files", &[0x41, 9], b"gate.test"].concat();
    // A literal that is not indexed: the static table's 23, its value below 127 bytes.
    block.extend([0x0F, 8, u8::try_from(bearer.len()).expect("a short token")]);
    block.extend(bearer.as_bytes());
    block
}

/// How a flood ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The other side closed the connection.
    Closed,
    /// It takes no more.
    Held,
    /// It took all of it.
    Taken,
}

/// Sends `first`, then frames by number until the connection ends or is no longer read, 16 MiB at
/// most. `reads` says whether what comes back is read.
async fn flood(
    binary: &Standalone,
    first: &[u8],
    reads: bool,
    next: impl Fn(u32) -> Vec<u8>,
) -> (End, Vec<u8>) {
    let tls = shake_hands(binary.tls, &["h2"]).await.expect("a handshake");
    let (mut reader, mut writer) = tokio::io::split(tls);
    let over = Arc::new(tokio::sync::Notify::new());
    let told = over.clone();
    let reading = tokio::spawn(async move {
        let mut got = Vec::new();
        if reads {
            tokio::select! {
                _ = reader.read_to_end(&mut got) => {}
                () = told.notified() => {}
            }
        } else {
            told.notified().await;
        }
        got
    });
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut sent = [&preface[..], &frame(SETTINGS, 0, 0, &[]), first].concat();
    let (mut number, mut total) = (0, 0);
    let end = loop {
        let write = tokio::time::timeout(Duration::from_secs(2), writer.write_all(&sent));
        match write.await {
            Err(_) => break End::Held,
            Ok(Err(_)) => break End::Closed,
            Ok(Ok(())) if total > 16 << 20 => break End::Taken,
            Ok(Ok(())) => {}
        }
        total += sent.len();
        sent = (0..200).flat_map(|n| next(number + n)).collect();
        number += 200;
    };
    over.notify_one();
    (end, reading.await.expect("no panic"))
}

/// Runs one flood and holds it to what every flood is held to.
async fn withstands(
    binary: &Standalone,
    what: &str,
    ends: &[End],
    flooding: impl Future<Output = (End, Vec<u8>)>,
) {
    let neighbour = H2::connect(binary.tls).await;
    let good = || Request::get(binary.addr, "/v1/models").bearer(&binary.free);
    neighbour.send(good()).await.assert_status(200);
    let before = binary.resident();
    binary.forget_peak();
    let served = async {
        for _ in 0..5 {
            neighbour.send(good()).await.assert_status(200);
        }
    };
    let ((end, got), ()) = tokio::join!(flooding, served);
    let rise = binary.peak().saturating_sub(before);
    eprintln!("{what}: {end:?}, {} bytes came back, memory rose by {} KiB", got.len(), rise >> 10);
    assert!(ends.contains(&end), "{what}: {end:?}");
    assert!(rise < RISE, "{what}: memory rose by {rise} bytes");
    neighbour.send(good()).await.assert_status(200);
    good().send().await.assert_status(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http2_floods_end_or_are_held_back_and_take_no_memory() {
    let upstream = Upstream::start().await;
    let binary = Standalone::start(&upstream.url(), "").await;
    let odd = |number: u32| number * 2 + 1;
    let b = &binary;
    let over = &[End::Closed][..];
    let bounded = &[End::Closed, End::Held, End::Taken][..];

    let resets = flood(b, &[], true, |n| {
        let headers = frame(HEADERS, END_HEADERS | END_STREAM, odd(n), &get());
        [headers, frame(RST_STREAM, 0, odd(n), &8_u32.to_be_bytes())].concat()
    });
    withstands(b, "rapid resets", over, resets).await;
    let block = post(&binary.free);
    let resets = flood(b, &[], true, |n| {
        let headers = frame(HEADERS, END_HEADERS, odd(n), &block);
        let data = frame(DATA, 0, odd(n), b"x");
        [headers, data, frame(RST_STREAM, 0, odd(n), &8_u32.to_be_bytes())].concat()
    });
    withstands(b, "resets of admitted requests", bounded, resets).await;
    // A stream error each, for which the other side resets: the same from within.
    let errors = flood(b, &[], true, |n| {
        let headers = frame(HEADERS, END_HEADERS, odd(n), &get());
        [headers, frame(WINDOW_UPDATE, 0, odd(n), &0_u32.to_be_bytes())].concat()
    });
    withstands(b, "made resets", over, errors).await;
    let open = frame(HEADERS, 0, 1, &get());
    let endless = flood(b, &open, true, |_| {
        frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 100][..], &[b'y'; 100]].concat())
    });
    withstands(b, "CONTINUATION", over, endless).await;
    let empty = flood(b, &open, true, |_| frame(CONTINUATION, 0, 1, &[]));
    withstands(b, "empty CONTINUATION", over, empty).await;

    // One entry of 4,000 bytes, then sixteen thousand references to it in a frame.
    let mut entry = get();
    entry.extend([0x40, 1, b'x', 127]);
    entry.extend([0xA1, 0x1E]); // 127 + 0x21 + (0x1E << 7) = 4,000
    entry.extend([b'y'; 4_000]);
    let mut bomb = get();
    bomb.extend([0xBE; 16_000]);
    let first = frame(HEADERS, END_HEADERS | END_STREAM, 1, &entry);
    let bombs =
        flood(b, &first, true, |n| frame(HEADERS, END_HEADERS | END_STREAM, odd(n) + 2, &bomb));
    withstands(b, "HPACK bombs", bounded, bombs).await;

    for reads in [false, true] {
        let pings = flood(b, &[], reads, |_| frame(PING, 0, 0, &[0; 8]));
        withstands(b, "pings", bounded, pings).await;
        let settings = flood(b, &[], reads, |n| {
            let window = (n % 60_000 + 1).to_be_bytes();
            frame(SETTINGS, 0, 0, &[&[0, 4][..], &window].concat())
        });
        withstands(b, "settings", bounded, settings).await;
    }
    let priority =
        flood(b, &[], true, |n| frame(PRIORITY, 0, odd(n % 1_000_000), &[0, 0, 0, 0, 1]));
    withstands(b, "priorities", bounded, priority).await;
    let first = frame(HEADERS, END_HEADERS, 1, &block);
    let data = flood(b, &first, true, |_| frame(DATA, 0, 1, &[]));
    withstands(b, "empty data", bounded, data).await;
    let windows = flood(b, &[], true, |_| frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()));
    withstands(b, "window updates", bounded, windows).await;
    let unknown = flood(b, &[], true, |_| frame(0xFA, 0, 0, &[0; 100]));
    withstands(b, "unknown frames", bounded, unknown).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_without_a_window_hold_their_providers_back() {
    let upstream = Upstream::start().await;
    let binary = Standalone::start(&upstream.url(), "").await;
    let mut settings = h2::client::Builder::new();
    settings.initial_window_size(0);
    let h2 = H2::with(binary.tls, &mut settings).await;
    let neighbour = H2::connect(binary.tls).await;
    let good = || Request::get(binary.addr, "/v1/models").bearer(&binary.free);
    neighbour.send(good()).await.assert_status(200);
    let before = binary.resident();
    binary.forget_peak();
    let mut streams = Vec::new();
    upstream.answer(Answer::sse(["flood".repeat(4_000)]).flood());
    for _ in 0..100 {
        streams.push(h2.open(good()).await);
    }
    upstream.answer(Answer::json(200, "{}"));
    for _ in 0..20 {
        neighbour.send(good()).await.assert_status(200);
    }
    let rise = binary.peak().saturating_sub(before);
    eprintln!("100 streams without a window: memory rose by {} KiB", rise >> 10);
    assert!(rise < 2 * RISE, "memory rose by {rise} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_endless_empty_fragments_takes_no_memory() {
    let upstream = Upstream::start().await;
    upstream.answer(Answer::websocket().quiet());
    let binary = Standalone::start(&upstream.url(), "limits: { max_ws_message: 1KiB }\n").await;
    let auth = format!("Bearer {}", binary.free);
    let path = "/v1/realtime?model=gpt-realtime";
    let headers = [("Authorization", auth.as_str())];
    let (mut raw, _) = ws::upgrade(binary.addr, path, &headers, &[]).await.expect("it opens");
    let before = binary.resident();
    binary.forget_peak();
    let first = Frame { fin: false, ..Frame::new(TEXT, "x") }.masked().to_bytes();
    let next = Frame { fin: false, ..Frame::new(CONTINUED, "") }.masked().to_bytes();
    raw.send(first).await;
    for _ in 0..100 {
        raw.send(next.repeat(1_000)).await;
    }
    // What they add up to is what counts.
    let last = Frame { fin: true, ..Frame::new(CONTINUED, vec![b'x'; 1_024]) }.masked();
    let _ = raw.try_send(last.to_bytes()).await;
    let (got, _) = raw.read_until_close().await;
    assert!(got.windows(15).any(|w| w == b"message_too_big"), "over all fragments");
    let rise = binary.peak().saturating_sub(before);
    assert!(rise < RISE, "memory rose by {rise} bytes");
}
