//! A caller and a provider on the loopback interface, each as simple as can be: threads that block,
//! so that nothing of them runs on the gateway's.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// What may fail in a benchmark.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

const BODY: &str = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}]}"#;
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

/// The request of the load test.
pub(crate) fn request(token: &str, origin: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nAuthorization: Bearer {token}\r\nOrigin: {origin}\r\n\r\n{BODY}",
        BODY.len()
    )
}

/// A kept connection.
pub(crate) struct Client(BufReader<TcpStream>);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Outcome<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends a request; another status is an error.
    pub(crate) fn send(&mut self, request: &str, status: u16) -> Outcome<()> {
        self.0.get_mut().write_all(request.as_bytes())?;
        let (head, _) = message(&mut self.0)?;
        if !head.starts_with(&format!("HTTP/1.1 {status} ")) {
            return Err(format!("{status} was expected, this came: {head}").into());
        }
        Ok(())
    }
}

/// Answers every request alike, each connection on a thread of its own.
pub(crate) fn upstream() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    Ok(address)
}

fn answer(stream: TcpStream) -> Outcome<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        let (head, body) = message(&mut stream)?;
        if body != BODY.as_bytes() || !head.starts_with("POST /v1/chat/completions ") {
            // The client sees a 502 and says so.
            return Err("the request was changed on its way".into());
        }
        stream.get_mut().write_all(ANSWER)?;
    }
}

/// One message of known length: its head and its body.
fn message(stream: &mut BufReader<TcpStream>) -> Outcome<(String, Vec<u8>)> {
    let mut head = String::new();
    let mut length = 0;
    loop {
        let start = head.len();
        if stream.read_line(&mut head)? == 0 {
            return Err("the connection was closed".into());
        }
        let line = head.get(start..).unwrap_or_default().trim_end();
        if line.is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok((head, body))
}
