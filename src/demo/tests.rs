//! The mock over real sockets: dialects, keys, streams, the end.

use super::*;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

const OPENAI: (&str, &str) = ("authorization", "Bearer test-openai-key");
const ANTHROPIC: (&str, &str) = ("x-api-key", "test-anthropic-key");
const GEMINI: (&str, &str) = ("x-goog-api-key", "test-gemini-key");
const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

struct Running {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<()>>,
}

fn start() -> Running {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let keys = Keys {
        openai: "test-openai-key".into(),
        anthropic: "test-anthropic-key".into(),
        gemini: "test-gemini-key".into(),
    };
    let (stop, stopped) = watch::channel(false);
    Running { address, stop, task: tokio::spawn(serve(listener, keys, stopped)) }
}

struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e} in {}", self.body))
    }

    /// The data of every event of a stream.
    fn data(&self) -> Vec<&str> {
        self.body.lines().filter_map(|line| line.strip_prefix("data: ")).collect()
    }
}

async fn send(mock: &Running, target: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let method = if body.is_null() { "GET" } else { "POST" };
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let mut request = format!("{method} {target} HTTP/1.0\r\nhost: mock\r\n");
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("content-length: {}\r\n\r\n{body}", body.len());
    let mut socket = TcpStream::connect(mock.address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).expect("a status").parse().unwrap();
    Reply { status, head: head.to_lowercase(), body: body.to_owned() }
}

#[tokio::test]
async fn each_api_answers_its_own_key_in_its_own_slot_and_nothing_else() {
    let mock = start();
    let chat = json!({"model": "m", "messages": [], "contents": [], "input": "", "max_tokens": 1});
    let all = [OPENAI, ANTHROPIC, GEMINI];
    for (target, right, shape) in [
        ("/v1/chat/completions", OPENAI, "/error/code"),
        ("/v1/responses", OPENAI, "/error/code"),
        ("/v1/messages", ANTHROPIC, "/request_id"),
        ("/v1beta/models/m:generateContent", GEMINI, "/error/status"),
        ("/v1/models/m:generateContent", GEMINI, "/error/status"),
        ("/v1beta/models/m:streamGenerateContent", GEMINI, "/error/status"),
    ] {
        for slot in all {
            let reply = send(&mock, target, &[slot, VERSION], &chat).await;
            let expected = if slot == right { 200 } else { 401 };
            assert_eq!(reply.status, expected, "{target} with {slot:?}: {}", reply.body);
            if slot != right {
                let refusal = reply.json();
                assert!(refusal.pointer(shape).is_some(), "{target}: not its shape: {refusal}");
            }
        }
        for wrong in [(right.0, "a-token"), (right.0, "Bearer a-token"), ("x-nothing", "")] {
            let reply = send(&mock, target, &[wrong, VERSION], &chat).await;
            assert_eq!(reply.status, 401, "{target} with {wrong:?}");
        }
        let reply = send(&mock, target, &[right, right, VERSION], &chat).await;
        assert_eq!(reply.status, 401, "{target}: the key twice is not one key");
    }
}

#[tokio::test]
async fn model_lists_are_told_apart_by_path_and_version() {
    let mock = start();
    let get = Value::Null;
    for (target, headers, place) in [
        ("/v1/models", &[OPENAI][..], "/data/0/owned_by"),
        ("/v1/models", &[ANTHROPIC, VERSION], "/data/0/display_name"),
        ("/v1/models", &[GEMINI], "/models/0/name"),
        ("/v1beta/models", &[GEMINI], "/models/0/name"),
        ("/v1/models/org%2Fm", &[OPENAI], "/owned_by"),
        ("/v1/models/m", &[ANTHROPIC, VERSION], "/display_name"),
        ("/v1beta/models/m", &[GEMINI], "/displayName"),
    ] {
        let reply = send(&mock, target, headers, &get).await;
        assert_eq!(reply.status, 200, "{target}: {}", reply.body);
        assert!(reply.json().pointer(place).is_some(), "{target}: {}", reply.body);
        assert_eq!(send(&mock, target, &[], &get).await.status, 401, "{target} without a key");
    }
}

#[tokio::test]
async fn plain_answers_echo_the_user_and_count() {
    let mock = start();
    let said = json!([{"role": "user", "content": "red green"}]);
    let request = json!({"model": "m", "max_tokens": 9, "messages": said, "input": said,
                         "contents": [{"parts": [{"text": "red green"}]}]});
    for (target, headers, text, tokens) in [
        (
            "/v1/chat/completions",
            &[OPENAI][..],
            "/choices/0/message/content",
            "/usage/completion_tokens",
        ),
        ("/v1/responses", &[OPENAI], "/output/0/content/0/text", "/usage/output_tokens"),
        ("/v1/messages", &[ANTHROPIC, VERSION], "/content/0/text", "/usage/output_tokens"),
        (
            "/v1beta/models/m:generateContent",
            &[GEMINI],
            "/candidates/0/content/parts/0/text",
            "/usageMetadata/candidatesTokenCount",
        ),
    ] {
        let reply = send(&mock, target, headers, &request).await.json();
        assert_eq!(reply.pointer(text), Some(&json!("You said: red green")), "{target}: {reply}");
        assert_eq!(reply.pointer(tokens), Some(&json!(4)), "{target}: {reply}");
    }
}

#[tokio::test]
async fn chat_streams_end_with_done_and_tell_usage_only_when_asked() {
    let mock = start();
    let mut request = json!({"model": "m", "stream": true,
                             "messages": [{"role": "user", "content": "red green"}]});
    let plain = send(&mock, "/v1/chat/completions", &[OPENAI], &request).await;
    assert!(plain.head.contains("content-type: text/event-stream"), "{}", plain.head);
    assert_eq!(plain.data().last(), Some(&"[DONE]"));
    assert!(!plain.body.contains("usage"), "nobody asked for usage: {}", plain.body);
    let text: String = plain
        .data()
        .iter()
        .filter_map(|data| serde_json::from_str::<Value>(data).ok())
        .filter_map(|c| c.pointer("/choices/0/delta/content")?.as_str().map(str::to_owned))
        .collect();
    assert_eq!(text, "You said: red green");

    request["stream_options"] = json!({"include_usage": true});
    let asked = send(&mock, "/v1/chat/completions", &[OPENAI], &request).await;
    let data = asked.data();
    let last: Value = serde_json::from_str(data[data.len() - 2]).unwrap();
    assert_eq!(last["choices"], json!([]), "the usage chunk has no choices");
    assert_eq!(last["usage"]["total_tokens"], 6, "2 words in, 4 out");
}

#[tokio::test]
async fn typed_streams_run_from_their_first_event_to_their_last() {
    let mock = start();
    let request = json!({"model": "m", "max_tokens": 9, "stream": true, "input": "red",
                         "messages": [{"role": "user", "content": "red"}]});
    for (target, headers, first, last, tokens) in [
        (
            "/v1/responses",
            &[OPENAI][..],
            "response.created",
            "response.completed",
            "/response/usage/output_tokens",
        ),
        ("/v1/messages", &[ANTHROPIC, VERSION], "message_start", "message_stop", "/type"),
    ] {
        let reply = send(&mock, target, headers, &request).await;
        let events: Vec<Value> =
            reply.data().iter().map(|data| serde_json::from_str(data).unwrap()).collect();
        assert_eq!(events[0]["type"], first, "{target}");
        assert_eq!(events[events.len() - 1]["type"], last, "{target}");
        assert!(events[events.len() - 1].pointer(tokens).is_some(), "{target}: {}", reply.body);
        let named = reply.body.lines().filter(|line| line.starts_with("event: ")).count();
        assert_eq!(named, events.len(), "{target}: every event has its name");
    }
}

#[tokio::test]
async fn gemini_streams_as_events_or_as_one_array() {
    let mock = start();
    let request = json!({"contents": [{"role": "user", "parts": [{"text": "red"}]}]});
    let target = "/v1beta/models/m:streamGenerateContent";
    let array = send(&mock, target, &[GEMINI], &request).await.json();
    let events = send(&mock, &format!("{target}?alt=sse"), &[GEMINI], &request).await;
    assert_eq!(array.as_array().map(Vec::len), Some(events.data().len()), "the same chunks");
    let last: Value = serde_json::from_str(events.data()[events.data().len() - 1]).unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
}

#[tokio::test]
async fn what_a_vendor_requires_is_required() {
    let mock = start();
    let empty = json!({});
    for (target, headers, word) in [
        ("/v1/chat/completions", &[OPENAI][..], "model"),
        ("/v1/responses", &[OPENAI], "model"),
        ("/v1/messages", &[ANTHROPIC], "anthropic-version"),
        ("/v1/messages", &[ANTHROPIC, VERSION], "Field required"),
        ("/v1beta/models/m:generateContent", &[GEMINI], "contents"),
    ] {
        let reply = send(&mock, target, headers, &empty).await;
        assert_eq!(reply.status, 400, "{target}: {}", reply.body);
        let message = reply.json()["error"]["message"].to_string();
        assert!(message.contains(word), "{target}: {message}");
    }
    assert_eq!(send(&mock, "/v2/x", &[], &empty).await.status, 404);
}

#[tokio::test]
async fn a_realtime_session_runs_from_created_to_done() {
    let mock = start();
    let url = format!("ws://{}/v1/realtime", mock.address);
    let upgrade = |target: String, key: &str| {
        let mut request = target.into_client_request().unwrap();
        request.headers_mut().insert("authorization", key.parse().unwrap());
        request.headers_mut().insert("sec-websocket-protocol", "realtime".parse().unwrap());
        tokio_tungstenite::connect_async(request)
    };
    for (target, key, status) in [
        (format!("{url}?model=m"), "Bearer a-token", 401),
        (url.clone(), "Bearer test-openai-key", 400),
    ] {
        match upgrade(target, key).await {
            Err(Error::Http(refusal)) => assert_eq!(refusal.status().as_u16(), status),
            other => panic!("it must be refused with {status}, not {other:?}"),
        }
    }
    let (mut socket, reply) =
        upgrade(format!("{url}?model=gpt-x"), "Bearer test-openai-key").await.unwrap();
    assert_eq!(reply.headers()["sec-websocket-protocol"], "realtime");
    let item = json!({"type": "message", "role": "user",
                      "content": [{"type": "input_text", "text": "red"}]});
    let create = json!({"type": "conversation.item.create", "item": item});
    socket.send(Message::text(create.to_string())).await.unwrap();
    socket.send(Message::text(r#"{"type":"response.create"}"#)).await.unwrap();
    let mut types = Vec::new();
    let mut text = String::new();
    loop {
        let message = socket.next().await.expect("an answer").unwrap();
        let event: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        types.push(event["type"].as_str().unwrap().to_owned());
        text += event["delta"].as_str().unwrap_or_default();
        if event["type"] == "session.created" {
            assert_eq!(event["session"]["model"], "gpt-x");
        }
        if event["type"] == "response.done" {
            assert_eq!(event["response"]["usage"]["output_tokens"], 3, "{event}");
            break;
        }
    }
    socket.close(None).await.unwrap();
    let end = socket.next().await;
    assert!(matches!(end, Some(Ok(Message::Close(_)))), "a close is answered: {end:?}");
    assert_eq!(text, "You said: red");
    assert_eq!(types[0], "session.created");
    assert!(types.contains(&"response.created".to_owned()), "{types:?}");
}

#[tokio::test]
async fn a_live_session_wants_its_key_in_the_query() {
    let mock = start();
    let name = "google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
    for path in [live::PATH, live::PATH_OF_SOME_SDKS] {
        let url = format!("ws://{}{}", mock.address, path.replace("{service}", name));
        match tokio_tungstenite::connect_async(format!("{url}?key=a-token")).await {
            Err(Error::Http(refusal)) => assert_eq!(refusal.status().as_u16(), 401),
            other => panic!("a token must be refused, not {other:?}"),
        }
        let (mut socket, _) =
            tokio_tungstenite::connect_async(format!("{url}?key=test-gemini-key")).await.unwrap();
        socket.send(Message::text(r#"{"setup":{"model":"models/m"}}"#)).await.unwrap();
        let turn = json!({"clientContent": {"turnComplete": true,
            "turns": [{"role": "user", "parts": [{"text": "red"}]}]}});
        socket.send(Message::binary(turn.to_string())).await.unwrap();
        let mut all = String::new();
        while !all.contains("turnComplete") {
            all += socket.next().await.expect("an answer").unwrap().to_text().unwrap();
        }
        assert!(all.starts_with(r#"{"setupComplete""#) && all.contains("responseTokenCount"));
    }
}

#[tokio::test]
async fn responses_over_a_websocket_say_what_is_missing_and_answer_turn_by_turn() {
    let mock = start();
    let upgrade = |key: &'static str| {
        let url = format!("ws://{}/v1/responses", mock.address);
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("authorization", key.parse().unwrap());
        tokio_tungstenite::connect_async(request)
    };
    match upgrade("Bearer a-token").await {
        Err(Error::Http(refusal)) => assert_eq!(refusal.status().as_u16(), 401),
        other => panic!("a token must be refused, not {other:?}"),
    }
    let (mut socket, _) = upgrade(OPENAI.1).await.unwrap();
    for (message, last) in [
        (r#"{"type":"response.create","input":"red"}"#, "model is required"),
        (r#"{"type":"response.create","model":"m","input":"red"}"#, "response.completed"),
        (r#"{"type":"response.create","model":"m","input":"blue"}"#, "response.completed"),
    ] {
        socket.send(Message::text(message)).await.unwrap();
        let mut all = String::new();
        while !all.contains(last) {
            all += socket.next().await.expect("an answer").unwrap().to_text().unwrap();
        }
        assert_eq!(all.contains("response.created"), last == "response.completed", "{all}");
    }
}

#[tokio::test]
async fn an_upload_becomes_a_file_of_its_length_where_it_says_to_go_on() {
    let mock = start();
    let (file, command) = (json!({"file": {}}), "x-goog-upload-command");
    let begin = send(&mock, "/upload/v1beta/files", &[GEMINI, (command, "start")], &file).await;
    let url = begin.head.lines().find_map(|line| line.strip_prefix("x-goog-upload-url: "));
    let target = url.and_then(|url| url.strip_prefix("http://mock")).expect("where to go on");
    let last = (command, "upload, finalize");
    let offset = ("x-goog-upload-offset", "100");
    let end = send(&mock, target, &[GEMINI, last, offset], &json!("four")).await;
    assert!(end.head.contains("x-goog-upload-status: final"), "{}", end.head);
    assert_eq!(end.json()["file"]["sizeBytes"], "106", "with what came before, and the quotes");
    assert_eq!(send(&mock, target, &[last, offset], &json!("four")).await.status, 401);
}

#[tokio::test]
async fn a_stop_lets_the_stream_in_flight_run_to_its_end() {
    let mock = start();
    let request = json!({"model": "m", "stream": true,
                         "messages": [{"role": "user", "content": "red green blue"}]});
    let body = request.to_string();
    let mut socket = TcpStream::connect(mock.address).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.0\r\n{}: {}\r\ncontent-length: {}\r\n\r\n",
        OPENAI.0,
        OPENAI.1,
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut begun = [0; 1];
    socket.read_exact(&mut begun).await.unwrap();
    mock.stop.send(true).unwrap();
    let mut rest = String::new();
    socket.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("data: [DONE]\n\n"), "cut off: {rest}");
    let ended = tokio::time::timeout(Duration::from_secs(10), mock.task).await;
    assert!(matches!(ended, Ok(Ok(Ok(())))), "the mock must end after its last answer: {ended:?}");
}
