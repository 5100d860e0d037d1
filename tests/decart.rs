//! Decart: what its provider sees of each of its paths, by which slot, and what of them a token with
//! models and a client token may use.

use crate::support::client::{Request, Response};
use crate::support::gateway::Setup;
use crate::support::upstream::Answer;
use crate::support::{canary, ws};
use serde_json::{Value, json};

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
limits: { max_body: 1KiB, max_upload: 8KiB }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  decart: { kind: decart, url: $UPSTREAM, keys: [{ file: $KEY(decart) }] }
policies:
  one_model: { models: [lucy-2.5] }
  jobs: { models: [lucy-2.5], paths: ['/v1/jobs/*'] }
tokens:
  - { name: free, sha256: $SHA(free) }
  - { name: one_model, sha256: $SHA(one_model), policy: one_model }
  - { name: jobs, sha256: $SHA(jobs), policy: jobs }
  - { name: server, sha256: $SHA(server), may_mint: true }
";

async fn ask(setup: &Setup, token: &str, method: &str, path: &str) -> Response {
    keyed(setup, setup.token(token), method, path).send().await
}

/// As the SDKs ask.
fn keyed(setup: &Setup, token: &str, method: &str, path: &str) -> Request {
    let request = setup.request(method, &format!("/decart{path}")).header("x-api-key", token);
    if method == "POST" { request.json("{}") } else { request }
}

/// What came to the provider since the last time: paths, each with the key in its slot and no token.
#[track_caller]
fn assert_seen(setup: &Setup, before: &mut usize, expected: &[&str]) {
    let received = setup.upstream.received();
    let new = received.get(*before..).unwrap_or_default();
    *before = received.len();
    let lines: Vec<_> = new.iter().map(|r| format!("{} {}", r.method, r.target)).collect();
    assert_eq!(lines, expected, "what the provider saw");
    for request in new {
        assert_eq!(request.header("x-api-key"), Some(setup.key("decart")), "{}", request.target);
        assert_eq!(request.header("authorization"), None, "{}", request.target);
    }
}

#[tokio::test]
async fn the_key_goes_into_its_header_wherever_the_token_was() {
    let setup = Setup::with(CONFIG).await;
    let token = setup.token("free");
    let path = "/decart/v1/generate/lucy-image-2";
    let form = |request: Request| request.json("{}").send();
    let mut seen = 0;
    form(setup.request("POST", path).header("X-API-KEY", token)).await.assert_status(200);
    form(setup.request("POST", path).bearer(token)).await.assert_status(200);
    let query = format!("{path}?api_key={token}&resolution=720p");
    form(setup.request("POST", &query)).await.assert_status(200);
    let line = "POST /v1/generate/lucy-image-2";
    assert_seen(&setup, &mut seen, &[line, line, &format!("{line}?resolution=720p")]);
}

#[tokio::test]
async fn a_signal_that_names_another_model_ends_the_session_unheard() {
    let setup = Setup::with(CONFIG).await;
    setup.upstream.answer(Answer::websocket());
    let target = format!("/decart/v1/stream?api_key={}&model=lucy-2.5", setup.token("one_model"));
    let (mut socket, _) = ws::connect(setup.addr(), &target, &[], &[]).await.expect("it opens");
    for signal in [r#"{"type":"livekit_join"}"#, r#"{"type":"set","model":"lucy-2.5"}"#] {
        socket.say(signal).await;
        assert_eq!(socket.hear().await, signal, "messages pass as they are");
    }
    socket.say(r#"{"type":"set","model":"mirage"}"#).await;
    assert_eq!(socket.hear_close().await, (1008, "model_not_allowed".into()));
}

#[tokio::test]
async fn a_socket_has_the_key_in_its_query_and_the_rest_as_it_was() {
    let setup = Setup::with(CONFIG).await;
    setup.upstream.answer(Answer::websocket());
    let token = setup.token("one_model");
    let target = format!(
        "/decart/v1/stream?api_key={token}&model=lucy-2.5&livekit_early_room_info=true&user_agent=a%2F1"
    );
    let (mut socket, _) = ws::connect(setup.addr(), &target, &[], &[]).await.expect("it opens");
    socket.say(r#"{"type":"livekit_join"}"#).await;
    assert_eq!(socket.hear().await, r#"{"type":"livekit_join"}"#, "messages pass as they are");
    let seen = setup.upstream.only_request();
    let key = setup.key("decart");
    let expected = format!(
        "/v1/stream?model=lucy-2.5&livekit_early_room_info=true&user_agent=a%2F1&api_key={key}"
    );
    assert_eq!(seen.target, expected);
    assert!(!String::from_utf8_lossy(&seen.raw).contains(token), "the token is nowhere");
    assert_eq!(seen.header("x-api-key"), None, "and the key in one place");

    for (query, status, code) in [
        ("model=lucy-2.1", 403, "model_not_allowed"),
        ("x=1", 403, "model_not_allowed"),
        ("model=lucy-2.5&model=lucy-2.1", 400, "ambiguous_model"),
        ("model=lucy-2.5&Model=lucy-2.1", 400, "ambiguous_model"),
    ] {
        let target = format!("/decart/v1/stream?api_key={token}&{query}");
        let refused = ws::connect(setup.addr(), &target, &[], &[]).await;
        refused.expect_err("no such session").assert_denied(status, code);
    }
    assert_eq!(setup.upstream.received().len(), 1, "nothing that was refused went on");
}

#[tokio::test]
async fn a_model_in_the_path_is_held_against_the_grant_and_a_jobs_id_is_none() {
    let setup = Setup::with(CONFIG).await;
    let mut seen = 0;
    for path in ["/v1/jobs/lucy-2.5", "/v1/generate/lucy-2.5"] {
        ask(&setup, "one_model", "POST", path).await.assert_status(200);
    }
    assert_seen(&setup, &mut seen, &["POST /v1/jobs/lucy-2.5", "POST /v1/generate/lucy-2.5"]);
    let other = "/v1/generate/lucy-2.5?model=lucy-2.1";
    ask(&setup, "one_model", "POST", other).await.assert_denied(400, "ambiguous_model");
    for path in ["/v1/jobs/lucy-2.1", "/v1/generate/lucy-2.1", "/v1/jobs/lucy-2.1/"] {
        ask(&setup, "one_model", "POST", path).await.assert_denied(403, "model_not_allowed");
    }
    // Whose jobs and files these are is not known.
    for (method, path) in [
        ("GET", "/v1/jobs/job_1"),
        ("GET", "/v1/jobs/lucy-2.5"),
        ("GET", "/v1/jobs/job_1/content"),
        ("DELETE", "/v1/jobs/job_1"),
        ("GET", "/v1/files/file_1"),
        ("POST", "/v1/files"),
        ("POST", "/watch-stream/room"),
    ] {
        let denied = ask(&setup, "one_model", method, path).await;
        denied.assert_denied(403, "path_not_allowed");
    }
    assert_seen(&setup, &mut seen, &[]);

    // By name they open, and an id needs no model; a submission does as ever.
    let (status, content) = ("/v1/jobs/job_1", "/v1/jobs/job_1/content");
    ask(&setup, "jobs", "GET", status).await.assert_status(200);
    ask(&setup, "jobs", "GET", content).await.assert_status(200);
    ask(&setup, "jobs", "POST", "/v1/jobs/lucy-2.5").await.assert_status(200);
    let other = ask(&setup, "jobs", "POST", "/v1/jobs/lucy-2.1").await;
    other.assert_denied(403, "model_not_allowed");
    let deeper = ask(&setup, "jobs", "POST", "/v1/jobs/lucy-2.1/x").await;
    deeper.assert_denied(403, "model_not_allowed");
    let expected = ["GET /v1/jobs/job_1", "GET /v1/jobs/job_1/content", "POST /v1/jobs/lucy-2.5"];
    assert_seen(&setup, &mut seen, &expected);
    // Unrestricted is unrestricted.
    ask(&setup, "free", "POST", "/watch-stream/room").await.assert_status(200);
    assert_seen(&setup, &mut seen, &["POST /watch-stream/room"]);
}

#[tokio::test]
async fn refusals_say_in_detail_what_is_wrong() {
    let setup = Setup::with(CONFIG).await;
    let denied = ask(&setup, "one_model", "POST", "/v1/jobs/lucy-2.1").await;
    denied.assert_denied(403, "model_not_allowed");
    assert_eq!(denied.json(), json!({"detail": "the token may not use this model"}));
    let nobody =
        setup.request("POST", "/decart/v1/jobs/lucy-2.1").header("x-api-key", "ptk_nobody");
    let denied = nobody.json("{}").send().await;
    denied.assert_denied(401, "token_invalid");
    assert!(denied.json()["detail"].is_string(), "{}", denied.text());

    // The vendor about our key: not the caller's affair, and nothing of it passes.
    let key = setup.key("decart").to_owned();
    setup.upstream.answer(Answer::json(401, json!({"detail": format!("Invalid API key {key}")})));
    let rejected = ask(&setup, "free", "POST", "/v1/jobs/lucy-2.5").await;
    rejected.assert_denied(502, "upstream_rejected_key");
    assert!(!rejected.text().contains(&key), "the key stays here");
    assert!(rejected.json()["detail"].is_string(), "{}", rejected.text());
    // About anything else: as it is.
    let said = json!({"detail": "Prompt is too long"});
    setup.upstream.answer(Answer::json(422, said.to_string()));
    let passed = ask(&setup, "free", "POST", "/v1/jobs/lucy-2.5").await;
    assert_eq!((passed.status, passed.json()), (422, said));
}

#[tokio::test]
async fn jobs_and_files_bring_videos_and_have_the_limit_of_uploads() {
    let setup = Setup::with(CONFIG).await;
    let video = "x".repeat(4_000);
    let send = |path: &str| {
        let request = setup.request("POST", path).header("x-api-key", setup.token("free"));
        request.body("multipart/form-data; boundary=b", video.clone()).send()
    };
    for path in ["/decart/v1/jobs/lucy-2.5", "/decart/v1/files"] {
        send(path).await.assert_status(200);
    }
    send("/decart/v1/generate/lucy-image-2").await.assert_denied(413, "body_too_large");
}

#[tokio::test]
async fn client_tokens_open_sessions_and_submit_and_see_nobodys_jobs() {
    let setup = Setup::with(CONFIG).await;
    let body = r#"{"expiresIn":300,"allowedModels":["lucy-2.5"],"providers":["decart"]}"#;
    for path in ["/v1/client/tokens", "/decart/v1/client/tokens"] {
        let request = setup.request("POST", path).header("x-api-key", setup.token("server"));
        let minted: Value = request.json(body).send().await.json();
        for form in ["apiKey", "token"] {
            let token = minted[form].as_str().expect("both forms");
            canary::adopt_token(token);
            setup.upstream.answer(Answer::json(200, r#"{"job_id":"job_1","status":"pending"}"#));
            let as_client =
                async |method: &str, path: &str| keyed(&setup, token, method, path).send().await;
            as_client("POST", "/v1/jobs/lucy-2.5").await.assert_status(200);
            let status = as_client("GET", "/v1/jobs/job_1").await;
            status.assert_denied(403, "path_not_allowed");
            let again = as_client("POST", "/v1/client/tokens").await;
            again.assert_denied(403, "may_not_mint");
            setup.upstream.answer(Answer::websocket());
            let open = async |model: &str| {
                let target = format!("/decart/v1/stream?api_key={token}&model={model}");
                ws::connect(setup.addr(), &target, &[], &[]).await
            };
            let (mut socket, _) = open("lucy-2.5").await.expect("it opens");
            socket.say("{}").await;
            assert_eq!(socket.hear().await, "{}");
            let refused = open("lucy-2.1").await;
            refused.expect_err("another model").assert_denied(403, "model_not_allowed");
        }
    }
    for seen in setup.upstream.received() {
        assert!(!seen.target.contains("client/tokens"), "keygate mints by itself");
    }
}

/// `conf/examples/voice-app.yaml` with this test's addresses, keys and token.
fn voice_app() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/examples/voice-app.yaml");
    let mut text = std::fs::read_to_string(path).expect("the example is there");
    for (theirs, ours) in [
        ("0.0.0.0:443", "127.0.0.1:0"),
        ("    tls: { cert: /etc/keygate/cert.pem, key: /etc/keygate/key.pem }\n", ""),
        ("127.0.0.1:9090", "127.0.0.1:0"),
        ("/var/lib/keygate", "$DIR"),
        ("/var/log/keygate", "$DIR"),
        ("server_names: [gateway.example.com]", "server_names: [127.0.0.1]"),
        ("keys: [{ credential: openai-key }]", "url: $UPSTREAM, keys: [{ file: $KEY(openai) }]"),
        ("keys: [{ credential: decart-key }]", "url: $UPSTREAM, keys: [{ file: $KEY(decart) }]"),
    ] {
        assert_eq!(text.matches(theirs).count(), 1, "{theirs} is there once");
        text = text.replace(theirs, ours);
    }
    text + "tokens: [{ name: app, sha256: $SHA(app), policy: voice, may_mint: true }]\n"
}

#[tokio::test]
async fn the_voice_apps_example_opens_its_sessions_and_nothing_else() {
    let setup = Setup::with(&voice_app()).await;
    let ask = async |path: &str, body: &str| {
        let request = setup.request("POST", path).bearer(setup.token("app")).json(body);
        let answer = request.send().await;
        answer.assert_status(200);
        answer.json()
    };
    let body = r#"{"session":{"type":"realtime","model":"gpt-realtime-mini"}}"#;
    let secret = ask("/v1/realtime/client_secrets", body).await;
    let secret = secret["value"].as_str().expect("a token").to_owned();
    let body = r#"{"allowedModels":["lucy-2.5"],"allowedOrigins":["https://app.example.com"]}"#;
    let minted = ask("/decart/v1/client/tokens", body).await;
    let minted = minted["apiKey"].as_str().expect("a token").to_owned();
    for token in [&secret, &minted] {
        canary::adopt_token(token);
    }

    setup.upstream.answer(Answer::websocket());
    let (page, other) = ("https://app.example.com", "https://evil.example.com");
    let offer = format!("openai-insecure-api-key.{secret}");
    let voice = "/v1/realtime?model=gpt-realtime-mini".to_owned();
    let video = format!("/decart/v1/stream?api_key={minted}&model=lucy-2.5");
    for (target, protocols) in [(&voice, vec!["realtime", &*offer]), (&video, vec![])] {
        let open = async |target: &str, origin| {
            ws::connect(setup.addr(), target, &[("Origin", origin)], &protocols).await
        };
        let (mut socket, _) = open(target, page).await.expect("it opens");
        socket.say("{}").await;
        assert_eq!(socket.hear().await, "{}", "{target}");
        let foreign = open(target, other).await.expect_err("a foreign page");
        foreign.assert_denied(403, "origin_not_allowed");
        let (head, _) = target.split_once("model=").expect("it names one");
        let model = open(&format!("{head}model=another"), page).await.expect_err("another model");
        model.assert_denied(403, "model_not_allowed");
    }
    let without = ws::connect(setup.addr(), &video, &[], &[]).await.expect_err("no page");
    without.assert_denied(403, "origin_not_allowed");
    let chat = setup.request("POST", "/v1/chat/completions").bearer(&secret).origin(page);
    let body = r#"{"model":"gpt-realtime-mini"}"#;
    chat.json(body).send().await.assert_denied(403, "path_not_allowed");
    assert_eq!(setup.upstream.received().len(), 2, "the two sessions");
}
