//! Client tokens: minted through the gate in three shapes, good in both forms, never wider than
//! their parent, and gone with it.

use crate::support::canary;
use crate::support::client::{Request, Response};
use crate::support::gateway::{NEW_YEAR_MS, Setup};
use crate::support::upstream::Answer;
use crate::support::ws;
use keygate::config::client::Algorithm;
use keygate::store::Sqlite;
use keygate::token::store::ClientStore;
use keygate::token::{jwk, jwks};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LIVE: &str = "/v1/realtime?model=gpt-realtime";
const SOON: Duration = Duration::from_secs(3);

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
public_url: https://gate.test
limits: { failed_auth: { requests: 10000, per: 60s } }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
  gemini: { kind: gemini, url: $UPSTREAM, keys: [{ file: $KEY(gemini) }] }
policies:
  narrow: { models: [gpt-4o-mini, 'gpt-realtime*'], paths: ['/v1/*'], rate_limit: { requests: 3, per: 60s } }
  other: { models: [gpt-5] }
  short: { max_session: 1s }
  expiring: { end_at_expiry: true }
tokens:
  - { name: server, sha256: $SHA(server), may_mint: true }
  - { name: narrow, sha256: $SHA(narrow), may_mint: true, policy: narrow }
  - { name: short, sha256: $SHA(short), may_mint: true, policy: short }
  - { name: expiring, sha256: $SHA(expiring), may_mint: true, policy: expiring }
  - { name: ending, sha256: $SHA(ending), may_mint: true, expires_at: '2026-01-01T00:00:30Z' }
  - { name: plain, sha256: $SHA(plain) }
";

async fn mint(setup: &Setup, name: &str, body: &str) -> Value {
    let answer = asked(setup, name, "/v1/client/tokens", body).await;
    answer.assert_status(200);
    let minted: Value = answer.json();
    for form in ["apiKey", "token"] {
        canary::adopt_token(text(&minted, form));
    }
    minted
}

async fn asked(setup: &Setup, name: &str, path: &str, body: &str) -> Response {
    setup.request("POST", path).bearer(setup.token(name)).json(body).send().await
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is text: {value}"))
}

fn chat(setup: &Setup, token: &str, model: &str) -> Request {
    let body = json!({ "model": model, "messages": [] });
    setup.request("POST", "/v1/chat/completions").bearer(token).json(body)
}

#[tokio::test]
async fn both_forms_of_a_token_have_the_same_rights_and_die_together() {
    let setup = Setup::with(CONFIG).await;
    let body = r#"{"expiresIn":60,"allowedModels":["gpt-4o-mini"],
        "allowedOrigins":["https://app.test"],"metadata":{"user":7}}"#;
    let minted = mint(&setup, "server", body).await;
    let (opaque, signed) = (text(&minted, "apiKey"), text(&minted, "token"));
    assert!(opaque.starts_with("ek_kg") && signed.len() < 4096, "{minted}");
    assert_eq!(minted["expiresAt"], "2026-01-01T00:01:00Z");
    assert_eq!(
        minted["permissions"],
        json!({"models": ["gpt-4o-mini"], "origins": ["https://app.test"]})
    );
    assert_eq!(minted["constraints"], Value::Null);
    assert!(setup.upstream.received().is_empty(), "no provider is asked");
    for (n, token) in [opaque, signed].into_iter().enumerate() {
        let good = chat(&setup, token, "gpt-4o-mini").origin("https://app.test");
        good.send().await.assert_status(200);
        assert_eq!(setup.upstream.received().len(), n + 1);
        let from = |model, origin| chat(&setup, token, model).origin(origin).send();
        from("gpt-5", "https://app.test").await.assert_denied(403, "model_not_allowed");
        from("gpt-4o-mini", "https://evil.test").await.assert_denied(403, "origin_not_allowed");
        let files = setup.request("GET", "/v1/files").bearer(token).origin("https://app.test");
        files.send().await.assert_denied(403, "path_not_allowed");
    }
    let key = format!("Bearer {}", setup.key("openai"));
    for seen in setup.upstream.received() {
        assert_eq!(seen.header("authorization"), Some(&*key), "the real key, and no token");
    }
    setup.clock.advance(60_000);
    for token in [opaque, signed] {
        let late = chat(&setup, token, "gpt-4o-mini").origin("https://app.test").send().await;
        late.assert_denied(401, "token_expired");
    }
}

#[tokio::test]
async fn an_unasked_token_has_inference_only_and_paths_open_what_the_parent_has() {
    let setup = Setup::with(CONFIG).await;
    let child = mint(&setup, "server", "").await;
    assert_eq!(child["permissions"], Value::Null, "nothing is restricted");
    for form in ["apiKey", "token"] {
        let get = |path| setup.request("GET", path).bearer(text(&child, form)).send();
        get("/v1/files").await.assert_denied(403, "path_not_allowed");
        get("/v1/models").await.assert_status(200);
        get("/v1/realtime/calls/x").await.assert_denied(403, "path_not_allowed");
    }
    let files = mint(&setup, "server", r#"{"paths":["/v1/files*"],"methods":["GET"]}"#).await;
    for form in ["apiKey", "token"] {
        let ask = |method, path| setup.request(method, path).bearer(text(&files, form)).send();
        ask("GET", "/v1/files").await.assert_status(200);
        ask("DELETE", "/v1/files/f").await.assert_denied(403, "method_not_granted");
        ask("GET", "/v1/models").await.assert_denied(403, "path_not_allowed");
    }
    let inherited = mint(&setup, "narrow", "").await;
    let get = setup.request("GET", "/v1/files").bearer(text(&inherited, "token"));
    get.send().await.assert_denied(403, "path_not_allowed");
}

#[tokio::test]
async fn a_child_is_never_wider_than_its_parent_now_or_later() {
    let mut setup = Setup::with(CONFIG).await;
    let child = mint(&setup, "narrow", r#"{"allowedModels":["gpt-4o-mini","gpt-5"]}"#).await;
    assert_eq!(child["permissions"], json!({"models": ["gpt-4o-mini"]}), "and no null beside it");
    let outside = r#"{"allowedModels":["gpt-5"]}"#;
    let refused = asked(&setup, "narrow", "/v1/client/tokens", outside).await;
    refused.assert_denied(403, "model_not_allowed");
    let token = text(&child, "token").to_owned();
    chat(&setup, &token, "gpt-4o-mini").send().await.assert_status(200);
    // Two that minted, and this one: three of the parent's.
    chat(&setup, &token, "gpt-4o-mini").send().await.assert_denied(429, "rate_limited");
    setup.clock.advance(61_000);
    let child = mint(&setup, "narrow", r#"{"expiresIn":3600}"#).await;
    let (opaque, signed) = (text(&child, "apiKey"), text(&child, "token"));
    chat(&setup, opaque, "gpt-4o-mini").send().await.assert_status(200);
    chat(&setup, signed, "gpt-4o-mini").send().await.assert_status(200);
    let fourth = chat(&setup, signed, "gpt-4o-mini").send().await;
    fourth.assert_denied(429, "rate_limited");
    setup.clock.advance(61_000);
    let narrowed =
        CONFIG.replace("may_mint: true, policy: narrow", "may_mint: true, policy: other");
    setup.reload(&narrowed).await.expect("a good file");
    for token in [opaque, signed] {
        let denied = chat(&setup, token, "gpt-4o-mini").send().await;
        denied.assert_denied(403, "model_not_allowed");
    }
}

#[tokio::test]
async fn who_may_not_mint_and_every_client_token_gets_403() {
    let setup = Setup::with(CONFIG).await;
    let child = mint(&setup, "server", "").await;
    let child = text(&child, "token");
    for path in [
        "/v1/client/tokens",
        "/openai/v1/client/tokens",
        "/v1/realtime/client_secrets",
        "/v1/realtime/sessions",
        "/v1/realtime/transcription_sessions",
        "/v1/realtime/translations/client_secrets",
        "/v1alpha/auth_tokens",
        "/gemini/v1beta/auth_tokens",
    ] {
        asked(&setup, "plain", path, "{}").await.assert_denied(403, "may_not_mint");
        let refused = setup.request("POST", path).bearer(child).json("{}").send().await;
        refused.assert_denied(403, "may_not_mint");
        asked(&setup, "server", path, "{}").await.assert_status(200);
        setup.request("POST", path).json("{}").send().await.assert_denied(401, "token_missing");
    }
    let refused = setup.request("POST", "/v1/client/tokens").bearer(child).send().await;
    let told = json!({"detail": "Cannot create client token from a client token"});
    assert_eq!(refused.json(), told);
    // What the provider mints and we do not.
    for path in ["/v1/chatkit/sessions", "/v1/organization/admin_api_keys"] {
        asked(&setup, "server", path, "{}").await.assert_denied(403, "may_not_mint");
    }
    assert!(setup.upstream.received().is_empty(), "nothing of all this is forwarded");
}

#[tokio::test]
async fn a_wrong_field_is_422_and_named_in_each_shape() {
    let setup = Setup::with(CONFIG).await;
    let answer = asked(&setup, "server", "/v1/client/tokens", r#"{"expiresIn":0}"#).await;
    answer.assert_denied(422, "invalid_field");
    assert_eq!(answer.json()["detail"][0]["loc"], json!(["body", "expiresIn"]));
    let body = r#"{"expires_after":{"anchor":"created_at","seconds":9}}"#;
    let answer = asked(&setup, "server", "/v1/realtime/client_secrets", body).await;
    answer.assert_denied(422, "invalid_field");
    assert_eq!(answer.json()["error"]["param"], "expires_after.seconds");
    let answer = asked(&setup, "server", "/v1alpha/auth_tokens", r#"{"uses":-1}"#).await;
    answer.assert_denied(422, "invalid_field");
    assert!(answer.text().contains("uses"), "{}", answer.text());
    let long = format!(r#"{{"paths":["/{}"]}}"#, "x".repeat(4_000));
    let answer = asked(&setup, "server", "/v1/client/tokens", &long).await;
    answer.assert_denied(422, "invalid_field");
}

#[tokio::test]
async fn where_nothing_is_signed_the_opaque_form_does_everything_else() {
    let unsigned = format!("{CONFIG}client_tokens: {{ signing: 'off' }}\n");
    let setup = Setup::with(&unsigned).await;
    let answer = asked(&setup, "server", "/v1/client/tokens", "").await;
    answer.assert_status(200);
    let minted: Value = answer.json();
    assert_eq!(minted["token"], Value::Null, "there is none");
    let opaque = text(&minted, "apiKey");
    canary::adopt_token(opaque);
    chat(&setup, opaque, "m").send().await.assert_status(200);
    let set = setup.request("GET", "/.well-known/jwks.json").send().await;
    set.assert_status(200);
    assert_eq!(set.json()["keys"], json!([]), "nothing is published");
}

#[tokio::test]
async fn a_parent_that_ends_sooner_ends_its_children() {
    let setup = Setup::with(CONFIG).await;
    let child = mint(&setup, "ending", r#"{"expiresIn":3600}"#).await;
    assert_eq!(child["expiresAt"], "2026-01-01T00:00:30Z");
}

#[tokio::test]
async fn secrets_and_auth_tokens_have_their_providers_shapes() {
    let setup = Setup::with(CONFIG).await;
    let body = r#"{"expires_after":{"anchor":"created_at","seconds":60},
        "session":{"type":"realtime","model":"gpt-realtime","voice":"v"}}"#;
    let secret = asked(&setup, "server", "/v1/realtime/client_secrets", body).await.json();
    assert_eq!(secret["expires_at"], NEW_YEAR_MS / 1_000 + 60);
    assert_eq!(secret["session"]["model"], "gpt-realtime");
    assert_eq!(secret["session"]["voice"], "v");
    setup.upstream.answer(Answer::websocket());
    let protocol = format!("realtime, openai-insecure-api-key.{}", text(&secret, "value"));
    let offer = [("Sec-WebSocket-Protocol", &*protocol)];
    let (mut socket, _) = ws::connect(setup.addr(), LIVE, &offer, &[]).await.expect("it opens");
    socket.say("{}").await;
    assert_eq!(socket.hear().await, "{}");
    let other = ws::connect(setup.addr(), "/v1/realtime?model=gpt-5", &offer, &[]).await;
    other.expect_err("another model").assert_denied(403, "model_not_allowed");

    let name = asked(&setup, "server", "/v1alpha/auth_tokens", r#"{"uses":2}"#).await.json();
    let name = text(&name, "name");
    assert!(name.starts_with("auth_tokens/"), "{name}");
    setup.upstream.answer(Answer::json(200, "{}"));
    let path = "/v1beta/models/gemini-2.5-flash:generateContent";
    let query = format!("{path}?access_token={}", name.replace('/', "%2F"));
    let by_query = setup.request("POST", &query).json("{}").send().await;
    by_query.assert_status(200);
    let by_header = setup.request("POST", path).header("x-goog-api-key", name).json("{}");
    by_header.send().await.assert_status(200);
    let third = setup.request("POST", path).header("authorization", format!("Token {name}"));
    third.json("{}").send().await.assert_denied(401, "token_expired");
}

#[tokio::test]
async fn a_live_session_with_an_auth_token_uses_the_ordinary_method_and_slot() {
    let setup = Setup::with(CONFIG).await;
    let name = asked(&setup, "server", "/v1alpha/auth_tokens", "{}").await.json();
    setup.upstream.answer(Answer::websocket());
    let service = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService";
    let target =
        format!("{service}.BidiGenerateContentConstrained?access_token={}", text(&name, "name"));
    let (mut socket, _) = ws::connect(setup.addr(), &target, &[], &[]).await.expect("it opens");
    socket.say("hi").await;
    assert_eq!(socket.hear().await, "hi");
    let seen = &setup.upstream.received()[0];
    let path = seen.target.split('?').next();
    assert_eq!(path, Some(&*format!("{service}.BidiGenerateContent")), "the ordinary method");
    let key = setup.key("gemini");
    let in_slot = seen.target.contains(key) || seen.header("x-goog-api-key") == Some(key);
    assert!(in_slot, "the real key is where Gemini wants it");
    assert!(!String::from_utf8_lossy(&seen.raw).contains("auth_tokens"), "and no token");
}

#[tokio::test]
async fn a_single_use_token_opens_exactly_one_connection_in_whichever_form() {
    let setup = Setup::with(CONFIG).await;
    let minted = mint(&setup, "server", r#"{"singleUse":true}"#).await;
    let forms = [text(&minted, "apiKey"), text(&minted, "token")];
    let asks = (0..16).map(|n| chat(&setup, forms[n % 2], "m").send());
    let answers = futures_util::future::join_all(asks).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(
        passed,
        1,
        "exactly one: {:?}",
        answers.iter().map(|a| a.status).collect::<Vec<_>>()
    );
    assert_eq!(setup.upstream.received().len(), 1);
}

#[tokio::test]
async fn revoking_a_child_or_losing_the_parent_ends_what_is_open() {
    for by_parent in [false, true] {
        let mut setup = Setup::with(CONFIG).await;
        let minted = mint(&setup, "server", r#"{"expiresIn":3600}"#).await;
        let signed = text(&minted, "token").to_owned();
        setup.upstream.answer(Answer::websocket());
        let auth = format!("Bearer {signed}");
        let (mut socket, _) =
            ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("opens");
        let begun = Instant::now();
        if by_parent {
            let gone =
                CONFIG.replace("$SHA(server), may_mint: true", "$SHA(server), disabled: true");
            setup.reload(&gone).await.expect("a good file");
        } else {
            let store = Sqlite::open(setup.dir().join("keygate.db")).expect("it opens");
            let (_, records) = store.clients_since(0).expect("it reads");
            store.revoke_client(&records[0].id).expect("revoked");
        }
        assert_eq!(socket.hear_close().await, (1008, "token_revoked".into()));
        assert!(begun.elapsed() < SOON, "it took {:?}", begun.elapsed());
        for form in ["apiKey", "token"] {
            let denied = chat(&setup, text(&minted, form), "m").send().await;
            denied.assert_denied(401, "token_invalid");
        }
    }
}

#[tokio::test]
async fn another_token_of_the_same_name_inherits_no_children() {
    let mut setup = Setup::with(CONFIG).await;
    let minted = mint(&setup, "server", r#"{"expiresIn":3600}"#).await;
    for form in ["apiKey", "token"] {
        chat(&setup, text(&minted, form), "m").send().await.assert_status(200);
    }
    // As after a leak: the name stays, the secret is another.
    let renewed = CONFIG.replace("$SHA(server)", "$SHA(renewed)");
    setup.reload(&renewed).await.expect("a good file");
    let before = setup.upstream.received().len();
    for form in ["apiKey", "token"] {
        let denied = chat(&setup, text(&minted, form), "m").send().await;
        denied.assert_denied(401, "token_invalid");
    }
    assert_eq!(setup.upstream.received().len(), before, "nothing of it reached the provider");
    chat(&setup, setup.token("renewed"), "m").send().await.assert_status(200);
}

#[tokio::test]
async fn a_session_ends_at_its_length_and_where_the_policy_says_so_at_expiry() {
    let setup = Setup::with(CONFIG).await;
    setup.upstream.answer(Answer::websocket());
    for (name, body) in [
        ("server", r#"{"constraints":{"realtime":{"maxSessionDuration":10}},"expiresIn":3600}"#),
        ("expiring", r#"{"expiresIn":10}"#),
    ] {
        let minted = mint(&setup, name, body).await;
        let auth = format!("Bearer {}", text(&minted, "apiKey"));
        let (mut socket, _) =
            ws::connect(setup.addr(), LIVE, &[("Authorization", &auth)], &[]).await.expect("opens");
        socket.say("still here").await;
        assert_eq!(socket.hear().await, "still here");
        setup.clock.advance(10_000);
        assert_eq!(socket.hear_close().await, (1008, "session_expired".into()), "{name}");
    }
}

#[tokio::test]
async fn the_published_set_is_public_cacheable_and_verifies_what_was_minted() {
    let setup = Setup::with(CONFIG).await;
    let path = "/.well-known/jwks.json";
    let set = setup.request("GET", path).origin("https://any.test").send().await;
    set.assert_status(200);
    assert_eq!(set.header("cache-control"), Some("public, max-age=300"));
    assert_eq!(set.header("access-control-allow-origin"), Some("https://any.test"));
    let tag = set.header("etag").expect("a tag").to_owned();
    let same = setup.request("GET", path).header("if-none-match", &tag).send().await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    let head = setup.request("HEAD", path).send().await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    setup.request("POST", path).send().await.assert_denied(405, "method_not_allowed");
    let keys = jwk::read_set(&set.body).expect("a usable set");
    let minted = mint(&setup, "server", "").await;
    let (message, signature) = text(&minted, "token").rsplit_once('.').expect("three parts");
    assert!(keys.iter().any(|key| key.verifies(message.as_bytes(), signature)));
}

#[tokio::test]
async fn a_rotation_and_a_restart_fail_no_token() {
    let mut setup = Setup::with(CONFIG).await;
    let before = mint(&setup, "server", r#"{"expiresIn":3600}"#).await;
    let store = Sqlite::open(setup.dir().join("keygate.db")).expect("it opens");
    let now = NEW_YEAR_MS;
    let month = Duration::from_secs(30 * 86_400);
    let mut rotate = |keys: &[jwks::KeyRecord]| jwks::due(keys, Algorithm::EdDsa, month, now, true);
    store.rotate(&mut rotate).expect("it rotates");
    let begun = Instant::now();
    loop {
        let set = setup.request("GET", "/.well-known/jwks.json").send().await.json();
        if set["keys"].as_array().map(Vec::len) == Some(2) {
            break;
        }
        assert!(begun.elapsed() < SOON, "a new key is published soon: {set}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    setup.clock.advance(601_000);
    let after = mint(&setup, "server", "").await;
    let kid = |minted: &Value| text(minted, "token").split('.').next().map(str::to_owned);
    assert_ne!(kid(&before), kid(&after), "the new key signs");
    // The same store under another process of the same configuration.
    let text_of = std::fs::read_to_string(setup.dir().join("keygate.yaml")).expect("the file");
    let config = keygate::config::parse(&text_of).expect("a good file");
    setup.stop().await;
    let options = keygate::app::Options {
        file: None,
        threads: Some(1),
        clock: setup.clock.clone(),
        control: false,
    };
    let again = keygate::app::start(config, options).expect("it starts again");
    let addr = again.addresses()[0];
    for minted in [&before, &after] {
        for form in ["apiKey", "token"] {
            let ask = Request::get(addr, "/v1/models").bearer(text(minted, form));
            ask.send().await.assert_status(200);
        }
    }
    tokio::task::spawn_blocking(move || again.stop()).await.expect("it stops");
}

#[tokio::test]
async fn other_issuers_tokens_pass_within_their_policy_and_no_key_is_fetched_for_each() {
    let record = jwks::generate(Algorithm::Es256, 0, 0).expect("a key");
    let keys = jwks::Keys::new();
    keys.replace(std::slice::from_ref(&record));
    let issuer = crate::support::upstream::Upstream::start().await;
    issuer.answer(Answer::json(200, &*keys.document().body));
    let yaml = format!(
        "{CONFIG}issuers:\n  - {{ issuer: 'https://auth.test/', audience: keygate, jwks: {{ url: '{}/jwks' }}, policy: narrow }}\n",
        issuer.url()
    );
    let setup = Setup::with(&yaml).await;
    issuer.wait_for(1).await;
    let now = NEW_YEAR_MS / 1_000;
    let sign = |kid: &str, models: Value| {
        use base64::Engine;
        let encode = |value: Value| {
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
        };
        let header = encode(json!({ "alg": "ES256", "kid": kid }));
        let mut claims = json!({ "iss": "https://auth.test/", "aud": "keygate", "sub": "alice",
            "exp": now + 600 });
        if !models.is_null() {
            claims["models"] = models;
        }
        let text = keys.sign(1, |_, _| format!("{header}.{}", encode(claims))).expect("signed");
        canary::adopt_token(&text);
        text
    };
    let good = sign(&record.kid, Value::Null);
    let begun = Instant::now();
    while chat(&setup, &good, "gpt-4o-mini").send().await.status != 200 {
        assert!(begun.elapsed() < SOON, "the set is in force soon");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let wider = sign(&record.kid, json!(["*"]));
    chat(&setup, &wider, "gpt-5").send().await.assert_denied(403, "model_not_allowed");
    let narrower = sign(&record.kid, json!(["gpt-realtime"]));
    let denied = chat(&setup, &narrower, "gpt-4o-mini").send().await;
    denied.assert_denied(403, "model_not_allowed");
    chat(&setup, &good, "gpt-4o-mini").send().await.assert_status(200);
    for n in 0..50 {
        let unknown = sign(&format!("k{n}"), Value::Null);
        chat(&setup, &unknown, "gpt-4o-mini").send().await.assert_denied(401, "token_invalid");
    }
    assert_eq!(issuer.received().len(), 1, "no fetch before the cooldown is over");
    setup.clock.advance(30_001);
    issuer.wait_for(2).await;
    let mint = setup.request("POST", "/v1/client/tokens").bearer(&good).json("{}").send().await;
    mint.assert_denied(403, "may_not_mint");
    assert_eq!(issuer.received().len(), 2, "and then one");
}
