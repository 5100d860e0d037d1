//! Refusals reach clients that are still sending: 5 MB, and the status, not a broken pipe.

use super::install::{Environment, NODE, PYTHON, install};
use crate::support::canary;
use crate::support::client::Request;
use crate::support::standalone::Standalone;
use crate::support::tls;
use crate::support::upstream::Upstream;
use serde_json::{Value, json};

async fn check(environment: Environment, script: &str, clients: &[&str]) {
    tokio::task::spawn_blocking(install).await.expect("the clients are installed");
    let upstream = Upstream::start().await;
    let binary = Standalone::start(&upstream.url(), "limits: { max_body: 1MiB }\n").await;
    let spent = Request::get(binary.addr, "/v1/models").bearer(&binary.once);
    spent.send().await.assert_status(200);
    let cases = json!({
        "401": ["/v1/chat/completions", "ptk_nobody_has_this_token"],
        "403": ["/v1/files", binary.scoped],
        "413": ["/v1/chat/completions", binary.free],
        "429": ["/v1/files", binary.once],
    });
    let expected = json!({
        "401": [401, "token_invalid"],
        "403": [403, "path_not_allowed"],
        "413": [413, "body_too_large"],
        "429": [429, "rate_limited"],
    });
    let authority = binary.dir.path().join("ca.pem");
    std::fs::write(&authority, tls::authority()).expect("written");
    let mut command = environment.command(script);
    command.env_clear().env("HOME", binary.dir.path());
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("KEYGATE_URL", format!("http://{}", binary.addr));
    command.env("KEYGATE_TLS", format!("https://{}", binary.tls));
    command.env("KEYGATE_CASES", cases.to_string());
    command.env("SSL_CERT_FILE", &authority).env("NODE_EXTRA_CA_CERTS", &authority);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.expect("it returns").expect("it can be started");
    canary::search([&*output.stdout, &output.stderr].concat(), script);
    let (said, problems) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let got: Value = serde_json::from_str(said.trim_end())
        .unwrap_or_else(|e| panic!("{script} must print one line of JSON ({e}): {said}{problems}"));
    for client in clients {
        assert_eq!(got[client], expected, "{script}, {client}");
    }
    for seen in upstream.received().iter().skip(1) {
        assert!(!seen.complete, "no refused body reached the provider whole: {seen:?}");
    }
}

#[tokio::test]
async fn python_sees_refusals_of_long_bodies() {
    let clients = ["http.client", "http.client, chunked", "http.client, TLS", "h2"];
    check(PYTHON, "refused_body.py", &clients).await;
}

#[tokio::test]
async fn node_sees_refusals_of_long_bodies() {
    check(NODE, "refused_body.mjs", &["fetch", "fetch, TLS"]).await;
}
