//! Every dimension of a grant that a client token can be minted with, held against requests, streams
//! and sockets alike, in both forms of the token.

use crate::support::canary;
use crate::support::client::{Request, Response};
use crate::support::gateway::Setup;
use crate::support::upstream::Answer;
use crate::support::ws;
use serde_json::{Value, json};

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  other: { kind: openai, url: $UPSTREAM, routes: [], keys: [{ file: $KEY(other) }] }
tokens:
  - { name: server, sha256: $SHA(server), may_mint: true }
";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Http,
    Sse,
    WebSocket,
}

const TRANSPORTS: [Transport; 3] = [Transport::Http, Transport::Sse, Transport::WebSocket];

/// A request that differs from another one in one thing.
#[derive(Debug, Clone)]
struct Asked {
    transport: Transport,
    prefix: &'static str,
    path: Option<&'static str>,
    model: &'static str,
    headers: Vec<(&'static str, &'static str)>,
}

impl Asked {
    fn by(transport: Transport) -> Self {
        Self { transport, prefix: "", path: None, model: "m", headers: Vec::new() }
    }

    fn origin(mut self, origin: &'static str) -> Self {
        self.headers.push(("Origin", origin));
        self
    }

    fn path(&self) -> &'static str {
        self.path.unwrap_or(match self.transport {
            Transport::Http => "/v1/chat/completions",
            Transport::Sse => "/v1/responses",
            Transport::WebSocket => "/v1/realtime",
        })
    }

    /// Status and code of the answer.
    async fn send(&self, setup: &Setup, token: &str) -> (u16, Option<String>) {
        let told = |answer: &Response| (answer.status, answer.denial().map(str::to_owned));
        let (prefix, path, model) = (self.prefix, self.path(), self.model);
        if self.transport == Transport::WebSocket {
            setup.upstream.answer(Answer::websocket());
            let auth = format!("Bearer {token}");
            let mut headers = vec![("Authorization", auth.as_str())];
            headers.extend(&self.headers);
            let target = format!("{prefix}{path}?model={model}");
            return match ws::connect(setup.addr(), &target, &headers, &[]).await {
                Err(refused) => told(&refused),
                Ok((mut socket, _)) => {
                    socket.say(r#"{"type":"through"}"#).await;
                    assert_eq!(socket.hear().await, r#"{"type":"through"}"#);
                    socket.close(1000, "done").await;
                    (101, None)
                }
            };
        }
        setup.upstream.answer(match self.transport {
            Transport::Sse => Answer::sse(["one", "two"]),
            _ => Answer::json(200, "{}"),
        });
        let stream = self.transport == Transport::Sse;
        let body = json!({ "model": model, "stream": stream, "input": [], "messages": [] });
        let mut ask = Request::post(setup.addr(), &format!("{prefix}{path}")).bearer(token);
        for (name, value) in &self.headers {
            ask = ask.header(name, value);
        }
        told(&ask.json(body).send().await)
    }
}

async fn mint(setup: &Setup, body: &Value) -> [String; 2] {
    let ask = setup.request("POST", "/v1/client/tokens").bearer(setup.token("server"));
    let answer = ask.json(body).send().await;
    answer.assert_status(200);
    let minted: Value = answer.json();
    ["apiKey", "token"].map(|form| {
        let token = minted[form].as_str().expect("text").to_owned();
        canary::adopt_token(&token);
        token
    })
}

/// A token minted with `body` passes each of `good` and gets `code` for each of `bad`, whichever
/// form it has; of those nothing reaches the provider.
async fn hold(setup: &Setup, body: &Value, good: &[Asked], bad: &[Asked], code: &str) {
    for token in mint(setup, body).await {
        for asked in good {
            let before = setup.upstream.received().len();
            let (status, denial) = asked.send(setup, &token).await;
            let right = if asked.transport == Transport::WebSocket { 101 } else { 200 };
            assert_eq!((status, denial), (right, None), "{body}: {asked:?}");
            let seen = setup.upstream.received();
            assert_eq!(seen.len(), before + 1, "{body}: {asked:?}");
            let key = if asked.prefix == "/other" { "other" } else { "openai" };
            let slot = seen[before].header("authorization");
            assert_eq!(slot, Some(&*format!("Bearer {}", setup.key(key))), "the real key");
            assert!(!String::from_utf8_lossy(&seen[before].raw).contains(&token), "and no token");
        }
        let before = setup.upstream.received().len();
        for asked in bad {
            let got = asked.send(setup, &token).await;
            assert_eq!(got, (403, Some(code.to_owned())), "{body}: {asked:?}");
        }
        assert_eq!(setup.upstream.received().len(), before, "no key may leave on a denial");
    }
}

#[tokio::test]
async fn each_dimension_that_was_minted_holds_for_requests_streams_and_sockets() {
    let setup = Setup::with(CONFIG).await;
    for transport in TRANSPORTS {
        let asked = || Asked::by(transport);
        let other = || Asked { prefix: "/other", ..asked() };
        let body = json!({ "providers": ["other"] });
        hold(&setup, &body, &[other()], &[asked()], "provider_not_allowed").await;

        let path = asked().path();
        let body = json!({ "paths": [path] });
        let elsewhere = Asked { path: Some("/v1/completions"), ..asked() };
        hold(&setup, &body, &[asked()], &[elsewhere], "path_not_allowed").await;
        let body = json!({ "paths": [format!("{path}/*"), "/v1/x"] });
        hold(&setup, &body, &[], &[asked()], "path_not_allowed").await;

        let (own, wrong) =
            if transport == Transport::WebSocket { ("GET", "POST") } else { ("POST", "GET") };
        hold(&setup, &json!({ "methods": [own] }), &[asked()], &[], "").await;
        hold(&setup, &json!({ "methods": [wrong] }), &[], &[asked()], "method_not_granted").await;

        let body = json!({ "allowedModels": ["m", "gpt-*"] });
        let named = |model| Asked { model, ..asked() };
        let (good, bad) = ([asked(), named("gpt-5")], [named("M"), named("mm"), named("gpt")]);
        hold(&setup, &body, &good, &bad, "model_not_allowed").await;
    }
}

#[tokio::test]
async fn origins_that_were_minted_hold_for_requests_streams_and_sockets() {
    let setup = Setup::with(CONFIG).await;
    let body = json!({ "allowedOrigins": ["HTTPS://App.Example:443", "http://localhost:5173"] });
    for transport in TRANSPORTS {
        let from = |origin| Asked::by(transport).origin(origin);
        let good = [from("https://app.example"), from("http://localhost:5173")];
        let mut bad: Vec<Asked> = [
            "null",
            "https://app.example.evil",
            "https://evil.example",
            "https://app.example.",
            "https://app.example:444",
            "https://app.example:443",
            "https://APP.example",
            "http://app.example",
            "http://localhost",
            "https://sub.app.example",
        ]
        .map(from)
        .into();
        bad.push(Asked::by(transport));
        bad.push(from("https://app.example").origin("https://app.example"));
        bad.push(from("https://app.example").origin("https://evil.example"));
        let mut betrayed = Asked::by(transport);
        betrayed.headers.push(("Sec-Fetch-Site", "cross-site"));
        bad.push(betrayed);
        hold(&setup, &body, &good, &bad, "origin_not_allowed").await;
    }
}

#[tokio::test]
async fn unasked_a_client_token_has_inference_and_the_list_of_models_alone() {
    let setup = Setup::with(CONFIG).await;
    let [token, _] = mint(&setup, &json!({})).await;
    let upgrade = |path| Asked { path: Some(path), ..Asked::by(Transport::WebSocket) };
    for path in ["/v1/files", "/v1/batches", "/v1/responses/r", "/v1/realtime/calls/c"] {
        for method in ["GET", "POST", "DELETE"] {
            let ask = setup.request(method, path).bearer(&token);
            let ask = if method == "POST" { ask.json("{}") } else { ask };
            ask.send().await.assert_denied(403, "path_not_allowed");
        }
        let refused = upgrade(path).send(&setup, &token).await;
        assert_eq!(refused, (403, Some("path_not_allowed".to_owned())), "{path} as a socket");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
    setup.upstream.answer(Answer::json(200, "{}"));
    setup.request("GET", "/v1/models").bearer(&token).send().await.assert_status(200);
    // No entry lets minting through to the provider, whoever names it.
    let paths = json!({ "paths": ["/v1/*"] });
    let [token, _] = mint(&setup, &paths).await;
    for path in ["/v1/realtime/client_secrets", "/v1/realtime/sessions", "/v1/client/tokens"] {
        let ask = setup.request("POST", path).bearer(&token).json("{}");
        ask.send().await.assert_denied(403, "may_not_mint");
    }
    assert_eq!(setup.upstream.received().len(), 1, "the list of models, and nothing of minting");
}
