//! The real binary as a service: signals, the control socket, the command line beside it, what it
//! says and what it does not.

use crate::support::canary;
use crate::support::client::{Raw, Request};
use crate::support::process::{Process, keygate_in};
use crate::support::upstream::{Answer, Upstream};
use crate::support::within;
use crate::support::ws;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Service {
    process: Process,
    upstream: Upstream,
    dir: Arc<TempDir>,
    addr: SocketAddr,
    admin: SocketAddr,
    token: String,
}

/// The address behind `listening on ` in a log, from the n-th such line on.
fn address(log: &str, marker: &str) -> SocketAddr {
    let at = log.find(marker).unwrap_or_else(|| panic!("{marker:?} is not in {log}"));
    let rest = &log[at + marker.len()..];
    rest.split_whitespace().next().expect("an address").parse().expect("an address")
}

impl Service {
    async fn start(more: &str) -> Self {
        let upstream = Upstream::start().await;
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        std::fs::write(dir.path().join("openai.key"), canary::key("openai")).expect("a key");
        let yaml = format!(
            "listen: [{{ address: 127.0.0.1:0 }}]\nstore: {{ sqlite: {d}/keygate.db }}\nadmin: {{ address: 127.0.0.1:0 }}\n\
             access_log: {{ file: {d}/access.log }}\nproviders:\n  openai: {{ kind: openai, url: '{u}', keys: [{{ file: {d}/openai.key }}] }}\n\
             default_policy: {{ rate_limit: {{ requests: 100000, per: 60s }} }}\n{more}",
            d = dir.path().display(),
            u = upstream.url(),
        );
        std::fs::write(dir.path().join("keygate.yaml"), yaml).expect("a configuration");
        let created =
            keygate_in(&dir, ["token", "create", "-c", "keygate.yaml", "--name", "t", "--json"])
                .run()
                .await;
        let created: serde_json::Value = serde_json::from_str(created.success()).expect("JSON");
        let token = created["token"].as_str().expect("a token").to_owned();
        canary::adopt_token(&token);
        let mut process = keygate_in(&dir, ["serve", "-c", "keygate.yaml"]).start();
        process.wait_for_stderr("keygate is ready").await;
        let log = process.stderr();
        let (addr, admin) =
            (address(&log, "listening on "), address(&log, "health and metrics on "));
        Self { process, upstream, dir, addr, admin, token }
    }

    fn get(&self, target: &str) -> Request {
        Request::get(self.addr, target).bearer(&self.token)
    }

    /// Asks with `token` until it gets `status`.
    async fn until(&self, token: &str, status: u16) {
        let begun = Instant::now();
        while Request::get(self.addr, "/v1/models").bearer(token).send().await.status != status {
            assert!(
                begun.elapsed() < Duration::from_secs(3),
                "{status} must come within a second or so"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn command(&self, args: &[&str]) -> crate::support::process::Output {
        let args: Vec<&str> = args.iter().copied().chain(["-c", "keygate.yaml"]).collect();
        keygate_in(&self.dir, args).run().await
    }
}

#[tokio::test]
async fn tokens_of_the_command_line_are_known_within_a_second_and_so_is_their_end() {
    let service = Service::start("").await;
    service.get("/v1/models").send().await.assert_status(200);
    let made = service
        .command(&["token", "create", "--name", "second", "--json", "--model", "gpt-4o-mini"])
        .await;
    let made: serde_json::Value = serde_json::from_str(made.success()).expect("JSON");
    let (id, token) = (made["id"].as_str().expect("id"), made["token"].as_str().expect("token"));
    canary::adopt_token(token);
    service.until(token, 200).await;
    service.command(&["token", "disable", id]).await.success();
    service.until(token, 401).await;
    service.command(&["token", "enable", id]).await.success();
    service.until(token, 200).await;
    service.command(&["token", "delete", id]).await.success();
    service.until(token, 401).await;
}

/// A token that may mint, and what was minted with it: its record, and both forms of each.
async fn minted(service: &Service, bodies: [&str; 2]) -> (serde_json::Value, Vec<[String; 2]>) {
    let created = service.command(&["token", "create", "--name", "app", "--may-mint", "--json"]);
    let parent: serde_json::Value = serde_json::from_str(created.await.success()).expect("JSON");
    let token = text(&parent, "token");
    canary::adopt_token(&token);
    service.until(&token, 200).await;
    assert!(service.command(&["token", "list", "--client"]).await.success().contains("no client"));
    let mut minted = Vec::new();
    for body in bodies {
        let ask = Request::post(service.addr, "/v1/client/tokens").bearer(&token).json(body);
        let answer: serde_json::Value = ask.send().await.json();
        let forms = ["apiKey", "token"].map(|form| text(&answer, form));
        forms.iter().for_each(|form| canary::adopt_token(form));
        minted.push(forms);
    }
    (parent, minted)
}

fn text(value: &serde_json::Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is text: {value}")).to_owned()
}

#[tokio::test]
async fn client_tokens_are_listed_shown_and_revoked_in_both_forms_for_good() {
    let mut service = Service::start("").await;
    let bodies = [
        r#"{"expiresIn":600,"allowedModels":["m"],"metadata":{"user":"u-1"}}"#,
        r#"{"singleUse":true}"#,
    ];
    let (parent, minted) = minted(&service, bodies).await;
    service.get("/v1/models").send().await.assert_status(200);
    let once = Request::get(service.addr, "/v1/models").bearer(&minted[1][0]);
    once.send().await.assert_status(200);

    let list = service.command(&["token", "list", "--client", "--json"]).await;
    let list: Vec<serde_json::Value> = serde_json::from_str(list.success()).expect("JSON");
    let [scoped, single] = &list[..] else { panic!("two were minted: {list:?}") };
    assert_eq!((&scoped["parent"], text(scoped, "parent_name")), (&parent["id"], "app".to_owned()));
    assert_eq!(scoped["grant"]["models"], serde_json::json!(["m"]));
    assert_eq!(scoped["metadata"]["user"], "u-1");
    assert!(text(scoped, "expires_at").ends_with('Z'), "{scoped}");
    let used = |row: &serde_json::Value| (row["status"].clone(), row["uses"].clone());
    assert_eq!(used(scoped), ("active".into(), serde_json::Value::Null));
    assert_eq!(used(single), ("used up".into(), 1.into()));
    assert_eq!(single["used"], 1);
    let table = service.command(&["token", "list", "--client"]).await;
    let table = table.success();
    assert!(table.contains("1 of 1") && table.contains("app"), "{table}");
    assert!(!table.contains("ek_kg") && !table.contains("eyJ"), "no token is shown: {table}");

    let id = text(scoped, "id");
    assert!(id.starts_with("ctk_"), "{id}");
    let shown = service.command(&["token", "show", &id]).await;
    assert!(shown.success().contains("models") && shown.stdout.contains("active"), "{shown:?}");
    for refused in [&["token", "enable", &*id][..], &["token", "update", &id, "--name", "x"]] {
        let output = service.command(refused).await;
        assert!(output.failure(1).contains("mint another"), "{output:?}");
    }
    let output = service.command(&["token", "disable", &id]).await;
    assert!(output.success().contains("revoked"), "{output:?}");
    for form in &minted[0] {
        service.until(form, 401).await;
    }
    // Not even a restart brings it back, nor does it lose its parent's other children.
    service.process.signal("TERM");
    assert!(service.process.wait().await.success());
    service.process = keygate_in(&service.dir, ["serve", "-c", "keygate.yaml"]).start();
    service.process.wait_for_stderr("keygate is ready").await;
    service.addr = address(&service.process.stderr(), "listening on ");
    for form in &minted[0] {
        let answer = Request::get(service.addr, "/v1/models").bearer(form).send().await;
        answer.assert_denied(401, "token_invalid");
    }
    service.get("/v1/models").send().await.assert_status(200);
    let gone = service.command(&["token", "delete", "ctk_0123456789abcdef"]).await;
    assert!(gone.failure(1).contains("no token"), "{gone:?}");
}

#[tokio::test]
async fn reload_says_how_it_went_and_sighup_reloads_too() {
    let service = Service::start("").await;
    let file = service.dir.path().join("keygate.yaml");
    let good = std::fs::read_to_string(&file).expect("the configuration");
    let message = service.command(&["reload"]).await.success().to_owned();
    assert!(message.contains("reloaded"), "{message}");
    std::fs::write(&file, good.replace("kind: openai", "kind: oops")).expect("written");
    let failed = service.command(&["reload"]).await;
    assert!(failed.failure(1).contains("kind"), "the reason is told: {failed:?}");
    service.get("/v1/models").send().await.assert_status(200);
    std::fs::write(&file, format!("{good}server_names: [only.test]\n")).expect("written");
    service.process.signal("HUP");
    within("the signal to take effect", async {
        while service.get("/v1/models").send().await.status != 421 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let status = service.command(&["status", "--json"]).await;
    let status: serde_json::Value = serde_json::from_str(status.success()).expect("JSON");
    assert_eq!(
        (&status["health"]["status"], &status["configuration"]["reloads"]),
        (&"ok".into(), &2.into())
    );
}

#[tokio::test]
async fn commands_fail_clearly_when_nobody_answers() {
    let mut service = Service::start("").await;
    service.process.signal("TERM");
    service.process.wait().await;
    let failed = service.command(&["reload"]).await;
    assert!(failed.failure(1).contains("control.sock"), "{failed:?}");
}

#[tokio::test]
async fn an_idle_service_is_gone_in_under_a_second() {
    let mut service = Service::start("limits: { drain: 30s }\n").await;
    let mut kept = Raw::connect(service.addr).await;
    service.get("/v1/models").send_on(&mut kept).await.assert_status(200);
    let begun = Instant::now();
    service.process.signal("TERM");
    assert!(service.process.wait().await.success(), "a stop is no failure");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "an idle connection does not hold it: {:?}",
        begun.elapsed()
    );
    assert!(!service.dir.path().join("control.sock").exists(), "its socket is gone");
}

#[tokio::test]
async fn a_stop_refuses_new_connections_and_lets_what_is_open_finish() {
    let mut service = Service::start("limits: { drain: 20s }\n").await;
    service.upstream.answer(Answer::sse(["one", "two"]).gated());
    let mut stream = service.get("/v1/stream").open().await;
    service.upstream.release();
    assert_eq!(stream.next_event().await.expect("an event").data, "one");
    service.process.signal("TERM");
    within("new connections to be refused", async {
        while tokio::net::TcpStream::connect(service.addr).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(service.process.is_running(), "it waits for the stream");
    service.upstream.release();
    service.upstream.release();
    assert!(stream.rest().await.complete, "the stream finished");
    let begun = Instant::now();
    assert!(service.process.wait().await.success());
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "gone with the last session: {:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn sockets_that_outlive_the_drain_get_1001() {
    let mut service = Service::start("limits: { drain: 500ms }\n").await;
    service.upstream.answer(Answer::websocket());
    let auth = format!("Bearer {}", service.token);
    let (mut socket, _) =
        ws::connect(service.addr, "/v1/realtime?model=m", &[("Authorization", &auth)], &[])
            .await
            .expect("it opens");
    let begun = Instant::now();
    service.process.signal("TERM");
    assert_eq!(socket.hear_close().await, (1001, "shutting_down".into()));
    assert!(begun.elapsed() >= Duration::from_millis(400), "it had its time");
    assert!(service.process.wait().await.success());
}

#[tokio::test]
async fn health_readiness_and_metrics_are_on_the_admin_listener() {
    let service = Service::start("").await;
    service.get("/v1/models").send().await.assert_status(200);
    Request::get(service.addr, "/v1/models").send().await.assert_denied(401, "token_missing");
    Request::get(service.admin, "/healthz").send().await.assert_status(200);
    Request::get(service.admin, "/readyz").send().await.assert_status(200);
    let metrics = Request::get(service.admin, "/metrics").send().await.text();
    for part in [
        r#"keygate_requests_total{provider="openai""#,
        r#"keygate_denials_total{code="token_missing"} 1"#,
        "keygate_tokens 1",
        "keygate_store_healthy 1",
        "keygate_build_info",
    ] {
        assert!(metrics.contains(part), "{part} is missing in:\n{metrics}");
    }
    Request::get(service.addr, "/metrics").send().await.assert_denied(404, "no_route");
}

#[tokio::test]
async fn without_a_store_and_a_runtime_directory_it_serves_all_the_same() {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let yaml = "listen: [{ address: 127.0.0.1:0 }]\naccess_log: none\nproviders:\n  x: { kind: generic, url: 'http://127.0.0.1:1' }\n";
    std::fs::write(dir.path().join("keygate.yaml"), yaml).expect("written");
    let mut process = keygate_in(&dir, ["serve", "-c", "keygate.yaml"]).start();
    process.wait_for_stderr("keygate is ready").await;
    let addr = address(&process.stderr(), "listening on ");
    Request::get(addr, "/x/y").send().await.assert_denied(401, "token_missing");
}

#[tokio::test]
async fn a_bad_configuration_does_not_start_and_says_everything() {
    let dir = Arc::new(tempfile::tempdir().expect("a directory"));
    let yaml = "listen: [{ address: nowhere }]\nproviders:\n  openai: { kind: openai, url: 'ftp://x', keys: [{ env: MISSING_KEY }] }\n";
    std::fs::write(dir.path().join("keygate.yaml"), yaml).expect("written");
    for command in ["serve", "check"] {
        let failed = keygate_in(&dir, [command, "-c", "keygate.yaml"]).run().await;
        let text = failed.failure(1);
        for place in ["listen[0].address", "providers.openai.url", "MISSING_KEY"] {
            assert!(text.contains(place), "{command} must name {place}: {text}");
        }
    }
}
