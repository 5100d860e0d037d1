//! Signed tokens between keygate and others, both ways, by another library than keygate's: what it
//! signs anybody verifies, and whom it trusts it verifies; the set comes from a file, or from a
//! server in the clear on loopback, or over TLS by a private authority.

use crate::clients::{PYTHON_JWT, install};
use crate::support::binary::{Binary, configure};
use crate::support::canary;
use crate::support::client::Request;
use crate::support::upstream::{Answer, Upstream};
use crate::support::{DEADLINE, tls};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Runs a script of the other library's and gives the line that it printed.
async fn python(script: &str, args: &[&str], env: &[(&str, &str)]) -> Value {
    tokio::task::spawn_blocking(install).await.expect("the clients are installed");
    let mut command = PYTHON_JWT.command(script);
    command.args(args).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.envs(env.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it returns").expect("it can be started");
    let problems = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script}: {problems}");
    serde_json::from_slice(&output.stdout).expect("one line of JSON")
}

fn chat(gateway: &Binary, token: &str, model: &str) -> Request {
    let body = json!({ "model": model, "messages": [] });
    Request::post(gateway.addr, "/v1/chat/completions").bearer(token).json(body)
}

#[tokio::test]
async fn another_library_verifies_what_each_algorithm_signed_by_the_published_set() {
    for algorithm in ["EdDSA", "ES256", "RS256"] {
        let upstream = Upstream::start().await;
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        let more = format!("client_tokens: {{ signing: {algorithm} }}");
        let server = configure(&dir, "keygate.yaml", &upstream, &more);
        let gateway = Binary::start(&dir, "keygate.yaml", &[]).await;
        let url = format!("http://{}", gateway.addr);
        let env = [("KEYGATE_URL", &*url), ("KEYGATE_TOKEN", &server)];
        let got = python("jwt_verify.py", &[], &env).await;
        let token = got["token"].as_str().expect("a token");
        canary::adopt_token(token);
        assert_eq!(got["alg"], algorithm);
        assert_eq!(got["claims"]["sub"], "server", "its parent: {got}");
        assert_eq!(got["claims"]["models"], json!(["gpt-4o-mini"]));
        assert_eq!(got["changed"], "InvalidSignatureError", "{algorithm}");
        assert_eq!(got["elsewhere"], "InvalidAudienceError", "{algorithm}");
        chat(&gateway, token, "gpt-4o-mini").send().await.assert_status(200);
        chat(&gateway, token, "gpt-5").send().await.assert_denied(403, "model_not_allowed");
        assert_eq!(upstream.received().len(), 1, "nothing else reached the provider");
        gateway.stop().await;
    }
}

/// Where a set is published.
struct Published {
    yaml: String,
    tokens: Value,
    /// Who is asked for it.
    server: Option<Upstream>,
}

async fn issue(dir: &Path, name: &str, algorithm: &str) -> Published {
    let file = dir.join(format!("{name}.json"));
    let path = file.display().to_string();
    let issuer = format!("https://{name}.test/");
    // All of them call their key the same: a name says nothing about whose it is.
    let tokens = python("jwt_issue.py", &[&path, algorithm, &issuer, "key-1"], &[]).await;
    for token in tokens.as_object().expect("tokens").values() {
        canary::adopt_token(token.as_str().expect("text"));
    }
    let server = Upstream::start().await;
    server.answer(Answer::json(200, std::fs::read_to_string(&file).expect("a set")));
    let jwks = match name {
        "file" => format!("{{ file: '{path}' }}"),
        "plain" => format!("{{ url: '{}/jwks' }}", server.url()),
        _ => format!(
            "{{ url: 'https://localhost:{}/jwks' }}",
            tls::front(server.addr()).await.port()
        ),
    };
    let yaml = format!(
        "  - {{ issuer: '{issuer}', audience: keygate, jwks: {jwks}, algorithms: [{algorithm}], \
         policy: theirs }}\n"
    );
    Published { yaml, tokens, server: (name != "file").then_some(server) }
}

/// Asks until the set is in force.
async fn accepted(gateway: &Binary, token: &str) {
    let begun = Instant::now();
    while chat(gateway, token, "gpt-4o-mini").send().await.status != 200 {
        let log = gateway.process.stderr();
        assert!(begun.elapsed() < DEADLINE, "the set must be in force soon: {log}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

const POLICIES: &str = "
limits: { failed_auth: { requests: 10000, per: 60s } }
policies: { theirs: { models: [gpt-4o-mini, gpt-4o] } }
issuers:
";

#[tokio::test]
async fn what_another_library_signs_passes_within_its_policy_wherever_its_set_is() {
    let upstream = Upstream::start().await;
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    std::fs::write(dir.path().join("ca.pem"), tls::authority()).expect("an authority");
    let mut published = Vec::new();
    for (name, algorithm) in [("file", "EdDSA"), ("plain", "ES256"), ("tls", "RS256")] {
        published.push(issue(dir.path(), name, algorithm).await);
    }
    let yaml: String = published.iter().map(|p| &*p.yaml).collect();
    configure(&dir, "keygate.yaml", &upstream, &format!("{POLICIES}{yaml}"));
    let authority = dir.path().join("ca.pem").display().to_string();
    let begun = Instant::now();
    let gateway = Binary::start(&dir, "keygate.yaml", &[("SSL_CERT_FILE", &authority)]).await;
    for Published { yaml, tokens, .. } in &published {
        let token = |name: &str| tokens[name].as_str().expect("a token").to_owned();
        accepted(&gateway, &token("good")).await;
        let ask = async |name: &str, model: &str| chat(&gateway, &token(name), model).send().await;
        ask("good", "gpt-4o").await.assert_status(200);
        ask("good", "gpt-5").await.assert_denied(403, "model_not_allowed");
        ask("wide", "gpt-5").await.assert_denied(403, "model_not_allowed");
        ask("narrow", "gpt-4o").await.assert_denied(403, "origin_not_allowed");
        let from =
            |model| chat(&gateway, &token("narrow"), model).origin("https://app.test").send();
        from("gpt-4o-mini").await.assert_status(200);
        from("gpt-4o").await.assert_denied(403, "model_not_allowed");
        for bad in ["wrong_aud", "wrong_iss", "early", "stranger", "unknown_kid"] {
            let denied = ask(bad, "gpt-4o").await;
            assert_eq!(denied.header("x-keygate-error"), Some("token_invalid"), "{bad}: {yaml}");
            assert_eq!(denied.status, 401, "{bad}: {yaml}");
        }
        ask("expired", "gpt-4o").await.assert_denied(401, "token_expired");
    }
    for server in published.iter().filter_map(|p| p.server.as_ref()) {
        // On a machine this slow the cooldown may have passed.
        let most = 1 + begun.elapsed().as_secs() / 30;
        let fetched = server.received().len() as u64;
        assert!((1..=most).contains(&fetched), "{fetched} fetches, whatever was presented");
    }
    for seen in upstream.received() {
        let slot = seen.header("authorization").unwrap_or_default();
        assert!(slot.starts_with("Bearer sk-canary-"), "the real key, and no token");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_set_over_tls_by_an_authority_that_nobody_knows_is_not_taken() {
    let upstream = Upstream::start().await;
    let dir: Arc<TempDir> = Arc::new(tempfile::tempdir().expect("a directory"));
    let published = issue(dir.path(), "tls", "EdDSA").await;
    configure(&dir, "keygate.yaml", &upstream, &format!("{POLICIES}{}", published.yaml));
    let mut gateway = Binary::start(&dir, "keygate.yaml", &[]).await;
    let told = gateway.process.wait_for_stderr("the keys of issuer https://tls.test/").await;
    assert!(told.contains("certificate"), "it says why: {told}");
    let good = published.tokens["good"].as_str().expect("a token");
    chat(&gateway, good, "gpt-4o").send().await.assert_denied(401, "token_invalid");
    let server = published.server.expect("it has one");
    assert!(server.received().is_empty(), "nothing was asked of a server that is not known");
    assert!(upstream.received().is_empty(), "no key may leave on a denial");
}
