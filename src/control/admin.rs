//! The admin listener: `/healthz`, `/readyz`, `/metrics`, for `GET` and `HEAD`.
//!
//! Invariant: nobody can hold it up. Connections, header bytes and times are bounded, and what
//! [`Operations`] says is asked on threads where it may block. It answers no caller's request, and
//! changes nothing.

use super::Operations;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

/// Connections served at a time.
const CONNECTIONS: usize = 64;
/// For a request's headers, and between two requests.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes and fields of a request's headers.
const HEADER_BYTES: usize = 16 * 1024;
const HEADER_FIELDS: usize = 64;
/// After this a connection ends with the request that it is at.
const LIFETIME: Duration = Duration::from_secs(60);
/// How long that request may still take.
const LAST_REQUEST: Duration = Duration::from_secs(10);
/// The same, once the gateway stops.
const FAREWELL: Duration = Duration::from_millis(500);

type Asked = State<Arc<dyn Operations>>;

/// Serves on `listener` until `stop` turns true.
///
/// # Errors
/// The runtime can't watch the listener.
pub async fn serve(
    listener: std::net::TcpListener,
    operations: Arc<dyn Operations>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let router = router(operations);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, router.clone(), stop.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: those come back.
                log::warn!("the admin listener can't take a connection: {error}");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn serve_connection(stream: TcpStream, router: Router, mut stop: watch::Receiver<bool>) {
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES)
        .max_headers(HEADER_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let patience = tokio::select! {
        // Whoever sends nonsense, or goes, concerns nobody.
        _ = connection.as_mut() => return,
        _ = stop.wait_for(|stop| *stop) => FAREWELL,
        () = sleep(LIFETIME) => LAST_REQUEST,
    };
    connection.as_mut().graceful_shutdown();
    let _late = timeout(patience, connection).await;
}

fn router(operations: Arc<dyn Operations>) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(operations)
}

async fn health(State(operations): Asked) -> Response {
    ask(operations, |operations| {
        let health = match operations.status().get_mut("health").map(Value::take) {
            Some(Value::Object(members)) => Value::Object(members),
            Some(Value::String(word)) => json!({ "status": word }),
            _ => json!({ "status": "ok" }),
        };
        answer(StatusCode::OK, "application/json", format!("{health}\n"))
    })
    .await
}

async fn ready(State(operations): Asked) -> Response {
    ask(operations, |operations| {
        if operations.ready() {
            answer(StatusCode::OK, "text/plain; charset=utf-8", "ready\n".into())
        } else {
            let text = "not ready\n".into();
            answer(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text)
        }
    })
    .await
}

async fn metrics(State(operations): Asked) -> Response {
    ask(operations, |operations| {
        let text = operations.metrics();
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    })
    .await
}

async fn ask(
    operations: Arc<dyn Operations>,
    question: impl FnOnce(&dyn Operations) -> Response + Send + 'static,
) -> Response {
    spawn_blocking(move || question(&*operations)).await.unwrap_or_else(|error| {
        log::error!("the admin listener could not answer: {error}");
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    })
}

fn answer(status: StatusCode, kind: &'static str, text: String) -> Response {
    let headers =
        [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-store"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    (status, headers, text).into_response()
}

#[cfg(test)]
mod tests {
    use super::super::tests::Scripted;
    use super::*;
    use std::io::{Read, Write};
    use std::net::SocketAddr;
    use std::time::Instant;

    struct Served {
        address: SocketAddr,
        stop: watch::Sender<bool>,
        served: Option<std::thread::JoinHandle<io::Result<()>>>,
    }

    impl Served {
        fn start(operations: Scripted) -> Self {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = watch::channel(false);
            let served = std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(1)
                    .enable_all()
                    .build()?;
                runtime.block_on(serve(listener, Arc::new(operations), stopped))
            });
            Self { address, stop, served: Some(served) }
        }

        fn connect(&self) -> std::net::TcpStream {
            let stream = std::net::TcpStream::connect(self.address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream
        }

        /// The whole answer, as text.
        fn ask(&self, method: &str, path: &str) -> String {
            let mut stream = self.connect();
            write!(stream, "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        }

        fn end(&mut self) -> io::Result<()> {
            self.stop.send_replace(true);
            self.served.take().map_or(Ok(()), |served| served.join().unwrap())
        }
    }

    impl Drop for Served {
        fn drop(&mut self) {
            self.end().unwrap();
        }
    }

    fn status_and_body(answer: &str) -> (u16, &str) {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
    }

    #[test]
    fn health_is_200_and_says_what_is_degraded() {
        let served = Served::start(Scripted::default());
        let answer = served.ask("GET", "/healthz");
        assert_eq!(status_and_body(&answer), (200, "{\"status\":\"ok\"}\n"));
        assert!(answer.contains("content-type: application/json\r\n"), "{answer}");

        let health = json!({ "status": "degraded", "store": "unavailable" });
        let served = Served::start(Scripted { health: health.clone(), ..Scripted::default() });
        let answer = served.ask("GET", "/healthz");
        let (status, body) = status_and_body(&answer);
        assert_eq!(status, 200, "degraded is no reason for a restart");
        assert_eq!(serde_json::from_str::<Value>(body).unwrap(), health);
    }

    #[test]
    fn readiness_is_a_status() {
        for (ready, expected) in [(true, 200), (false, 503)] {
            let served = Served::start(Scripted { ready, ..Scripted::default() });
            assert_eq!(status_and_body(&served.ask("GET", "/readyz")).0, expected);
        }
    }

    #[test]
    fn metrics_have_the_text_formats_type() {
        let served = Served::start(Scripted::default());
        let answer = served.ask("GET", "/metrics");
        assert_eq!(status_and_body(&answer), (200, "keygate_tokens 1\n"));
        assert!(answer.contains("content-type: text/plain; version=0.0.4;"), "{answer}");
    }

    #[test]
    fn only_get_and_head_and_these_three_paths() {
        let served = Served::start(Scripted::default());
        assert_eq!(status_and_body(&served.ask("HEAD", "/healthz")), (200, ""));
        for path in ["/", "/healthz/", "/metrics/x", "/debug/pprof", "/v1/models"] {
            assert_eq!(status_and_body(&served.ask("GET", path)).0, 404, "{path}");
        }
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            assert_eq!(status_and_body(&served.ask(method, "/metrics")).0, 405, "{method}");
        }
    }

    #[test]
    fn a_slow_or_idle_peer_is_hung_up_on_and_a_big_head_is_refused() {
        let served = Served::start(Scripted::default());
        let started = Instant::now();
        let mut slow = served.connect();
        slow.write_all(b"GET /healthz HTTP/1.1\r\nHost:").unwrap();
        let mut idle = served.connect();
        idle.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut text = String::new();
        idle.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("ready\n"), "answered once: {text}");
        slow.read_to_string(&mut String::new()).unwrap();
        let took = started.elapsed();
        assert!(took >= HEADER_TIMEOUT - Duration::from_millis(50), "at the deadline: {took:?}");

        let mut big = served.connect();
        let head = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(2 * HEADER_BYTES));
        let _refused_early = big.write_all(head.as_bytes());
        let mut start = [0; 12];
        big.read_exact(&mut start).unwrap();
        assert_eq!(&start, b"HTTP/1.1 431");
    }

    #[test]
    fn stopping_waits_for_no_idle_or_slow_peer() {
        let mut served = Served::start(Scripted::default());
        let _silent = served.connect();
        let mut slow = served.connect();
        slow.write_all(b"GET /healthz HTT").unwrap();
        assert_eq!(status_and_body(&served.ask("GET", "/readyz")).0, 200);
        let started = Instant::now();
        served.end().unwrap();
        assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
        assert!(std::net::TcpStream::connect(served.address).is_err(), "nobody listens");
    }
}
