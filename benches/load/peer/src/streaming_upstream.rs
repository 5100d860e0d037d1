//! An upstream that streams: SSE events that say when they left, and WebSocket frames echoed.
//!
//! It speaks as much HTTP/1.1 as the measurement needs, keeps connections open, and decides by the
//! request alone: an upgrade gets a WebSocket, anything else gets SSE.

use crate::clock::now_ns;
use std::error::Error;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// Events of one answer; the first follows the headers at once.
const EVENTS: usize = 4;
/// Long enough that each event is a packet of its own.
const BETWEEN_EVENTS: Duration = Duration::from_millis(2);

struct Request {
    upgrade: bool,
}

/// Serves until the process is stopped.
pub fn run(listen: &str) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A caller that hangs up, or that sends nonsense, ends its own connection only.
                if let Err(error) = serve(stream).await {
                    eprintln!("connection: {error}");
                }
            });
        }
    })
}

async fn serve(stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await? {
        if request.upgrade {
            return echo_frames(stream).await;
        }
        send_events(stream.get_mut()).await?;
    }
    Ok(())
}

/// `None`: the connection ended between two requests.
async fn read_request(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let (mut upgrade, mut length) = (false, 0_u64);
    loop {
        line.clear();
        stream.read_line(&mut line).await?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "upgrade" => upgrade = true,
            "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
            "transfer-encoding" => return Err(io::Error::other("chunked bodies are not expected")),
            _ => {}
        }
    }
    let mut body = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    stream.read_exact(&mut body).await?;
    Ok(Some(Request { upgrade }))
}

async fn send_events(stream: &mut TcpStream) -> io::Result<()> {
    stream
        .write_all(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await?;
    for n in 0..EVENTS {
        if n > 0 {
            tokio::time::sleep(BETWEEN_EVENTS).await;
        }
        let event = format!(
            "data: {{\"object\":\"chat.completion.chunk\",\"choices\":[{{\"index\":0,\"delta\":\
             {{\"content\":\"x\"}}}}],\"sent_ns\":{}}}\n\n",
            now_ns()
        );
        stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
    }
    stream.write_all(b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").await
}

/// Short frames only. The caller masks with zeros (see `websocket`), so the payload is echoed as
/// it came, without the mask.
async fn echo_frames(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    stream.get_mut().write_all(crate::websocket::ACCEPTED.as_bytes()).await?;
    let mut frame = [0_u8; 2 + 4 + 125];
    loop {
        let mut head = [0_u8; 2];
        if stream.read_exact(&mut head).await.is_err() {
            return Ok(());
        }
        let [first, second] = head;
        let length = usize::from(second & 0x7f);
        let masked = frame.get_mut(..4 + length).ok_or(io::Error::other("frame too long"))?;
        stream.read_exact(masked).await?;
        let payload = masked.get(4..).unwrap_or_default();
        let answer = [&[first, second & 0x7f], payload].concat();
        stream.get_mut().write_all(&answer).await?;
        if first & 0x0f == 8 {
            return Ok(());
        }
    }
}
