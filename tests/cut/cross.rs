//! Every way to end a client token's sessions, by every way to have one open, before a provider in
//! the clear and one with TLS: the real binary, its own commands, and the system's clock.

use crate::support::binary::Binary;
use crate::support::client::{Open, Request};
use crate::support::process::keygate_in;
use crate::support::tls::{self, H2, Pair};
use crate::support::upstream::{Answer, Upstream};
use crate::support::ws::{self, Socket};
use crate::support::{canary, within};
use keygate::values::ids::TokenDigest;
use serde_json::Value;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const LIVE: &str = "/v1/realtime?model=gpt-realtime";
const CHAT: &str = "/v1/chat/completions";
/// The promise of a second, and what a loaded machine may add.
const SOON: Duration = Duration::from_secs(3);

/// What ends the sessions, by the parent's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// `keygate token delete ctk_…`
    Revoke,
    /// `keygate token disable ctk_…`
    DisableChild,
    /// `keygate token disable tok_…`
    DisableParent,
    /// `keygate token delete tok_…`
    DeleteParent,
    /// A reload in which the parent's policy has another provider.
    Narrow,
    /// A reload without the parent.
    Remove,
    /// The policy's `max_session`.
    MaxSession,
    /// The policy's `end_at_expiry`, and the child's end.
    EndAtExpiry,
}

const CAUSES: [Cause; 8] = [
    Cause::Revoke,
    Cause::DisableChild,
    Cause::DisableParent,
    Cause::DeleteParent,
    Cause::Narrow,
    Cause::Remove,
    Cause::MaxSession,
    Cause::EndAtExpiry,
];

/// Children last long, but for what their parents' policies say.
const POLICIES: &str = "
policies:
  any: { providers: [openai] }
  narrow: { providers: [NARROW] }
  short: { max_session: 1500ms }
  expiring: { end_at_expiry: true }
";

struct World {
    gateway: Binary,
    dir: Arc<TempDir>,
    upstream: Upstream,
    url: String,
    free: String,
    /// Parents of the file: name, policy, token.
    fixed: Vec<(&'static str, &'static str, String)>,
}

impl World {
    async fn start(with_tls: bool) -> Self {
        let upstream = Upstream::start().await;
        upstream.answer_with(|request| match &*request.target {
            _ if request.header("upgrade").is_some() => Answer::websocket(),
            CHAT => Answer::sse(["one"]).endless(),
            _ => Answer::sse((0..9_000).map(|n| n.to_string())).pause(Duration::from_millis(50)),
        });
        let url = match with_tls {
            true => format!("https://localhost:{}", tls::front(upstream.addr()).await.port()),
            false => upstream.url(),
        };
        let dir = Arc::new(tempfile::tempdir().expect("a directory"));
        Pair::until(2090).write(dir.path());
        std::fs::write(dir.path().join("ca.pem"), tls::authority()).expect("an authority");
        std::fs::write(dir.path().join("openai.key"), canary::key("openai")).expect("a key");
        let fixed = [
            ("revoke", "any"),
            ("narrowed", "narrow"),
            ("removed", "any"),
            ("short", "short"),
            ("expiring", "expiring"),
        ];
        let fixed: Vec<_> = fixed.map(|(name, policy)| (name, policy, canary::token())).into();
        let free = canary::token();
        write(dir.path(), &url, &free, &fixed, None);
        let authority = dir.path().join("ca.pem").display().to_string();
        let gateway = Binary::start(&dir, "keygate.yaml", &[("SSL_CERT_FILE", &authority)]).await;
        Self { gateway, dir, upstream, url, free, fixed }
    }

    /// A command of keygate's.
    async fn command(&self, args: &[&str]) -> String {
        let args: Vec<&str> = args.iter().copied().chain(["-c", "keygate.yaml"]).collect();
        keygate_in(&self.dir, args).run().await.success().to_owned()
    }

    /// The parent of a cause's child: its id, if it has one in the store, and its token.
    async fn parent(&self, cause: Cause) -> (Option<String>, String) {
        let name = match cause {
            Cause::Revoke | Cause::DisableChild => "revoke",
            Cause::Narrow => "narrowed",
            Cause::Remove => "removed",
            Cause::MaxSession => "short",
            Cause::EndAtExpiry => "expiring",
            Cause::DisableParent | Cause::DeleteParent => {
                let made =
                    self.command(&["token", "create", "--name", "p", "--may-mint", "--json"]).await;
                let made: Value = serde_json::from_str(&made).expect("JSON");
                let text = |key: &str| made[key].as_str().expect("text").to_owned();
                canary::adopt_token(&text("token"));
                return (Some(text("id")), text("token"));
            }
        };
        let found = self.fixed.iter().find(|parent| parent.0 == name).expect("it is configured");
        (None, found.2.clone())
    }

    /// A child of this parent's, once it is known: both forms, the opaque one first.
    async fn mint(&self, parent: &str, cause: Cause) -> [String; 2] {
        let seconds = if cause == Cause::EndAtExpiry { 2 } else { 3_600 };
        let body = format!(r#"{{"expiresIn":{seconds}}}"#);
        let begun = Instant::now();
        let minted = loop {
            let ask = Request::post(self.gateway.addr, "/v1/client/tokens").bearer(parent);
            let answer = ask.json(&body).send().await;
            if answer.status == 200 {
                break answer.json();
            }
            assert!(begun.elapsed() < SOON, "a new parent is known soon: {}", answer.text());
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        let text = |name: &str| minted[name].as_str().expect("text").to_owned();
        let forms = ["apiKey", "token"].map(text);
        forms.iter().for_each(|form| canary::adopt_token(form));
        forms
    }

    /// Does what ends the child's sessions; returns when it is done.
    async fn end(&self, cause: Cause, parent: Option<&str>, signed: &str) {
        let child = id_of(signed);
        match cause {
            Cause::Revoke => drop(self.command(&["token", "delete", &child]).await),
            Cause::DisableChild => drop(self.command(&["token", "disable", &child]).await),
            Cause::DisableParent => {
                self.command(&["token", "disable", parent.expect("it has one")]).await;
            }
            Cause::DeleteParent => {
                self.command(&["token", "delete", parent.expect("it has one")]).await;
            }
            Cause::Narrow | Cause::Remove => {
                write(self.dir.path(), &self.url, &self.free, &self.fixed, Some(cause));
                self.command(&["reload"]).await;
            }
            // Time does it.
            Cause::MaxSession | Cause::EndAtExpiry => {}
        }
    }
}

fn write(
    dir: &std::path::Path,
    url: &str,
    free: &str,
    fixed: &[(&str, &str, String)],
    after: Option<Cause>,
) {
    let at = dir.display();
    let sha = |token: &str| TokenDigest::of(token.as_bytes()).to_hex();
    let mut text = format!(
        "
listen:
  - {{ address: 127.0.0.1:0 }}
  - {{ address: 127.0.0.1:0, tls: {{ cert: {at}/cert.pem, key: {at}/key.pem }} }}
store: {{ sqlite: {at}/keygate.db }}
access_log: {{ file: {at}/access.log }}
limits: {{ failed_auth: {{ requests: 10000, per: 60s }} }}
providers:
  openai: {{ kind: openai, url: '{url}', keys: [{{ file: {at}/openai.key }}] }}
  other: {{ kind: openai, url: '{url}', routes: [], keys: [{{ file: {at}/openai.key }}] }}
{}tokens:
  - {{ name: free, sha256: '{}' }}
",
        POLICIES.replace("NARROW", if after == Some(Cause::Narrow) { "other" } else { "openai" }),
        sha(free)
    );
    for (name, policy, token) in fixed {
        if (*name, after) != ("removed", Some(Cause::Remove)) {
            let sha = sha(token);
            text += &format!(
                "  - {{ name: {name}, sha256: '{sha}', policy: {policy}, may_mint: true }}\n"
            );
        }
    }
    std::fs::write(dir.join("keygate.yaml"), text).expect("a configuration");
}

/// `jti`: what commands call a client token.
fn id_of(signed: &str) -> String {
    use base64::Engine;
    let claims = signed.split('.').nth(1).expect("claims");
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims);
    let claims: Value = serde_json::from_slice(&claims.expect("base64url")).expect("JSON");
    claims["jti"].as_str().expect("an id").to_owned()
}

/// A session of each kind, all with one token: its forms take turns.
struct Sessions {
    socket: Socket,
    stream: Open,
    substream: tls::Stream,
}

impl Sessions {
    async fn open(world: &World, h2: &H2, [opaque, signed]: &[String; 2]) -> Self {
        let chat = |token: &str, addr| {
            Request::post(addr, CHAT).bearer(token).json(r#"{"model":"m","messages":[]}"#)
        };
        let (addr, secure) = (world.gateway.addr, world.gateway.addresses[1]);
        let auth = format!("Bearer {signed}");
        let (mut socket, _) =
            ws::connect(addr, LIVE, &[("Authorization", &auth)], &[]).await.expect("it opens");
        socket.say("still here").await;
        assert_eq!(socket.hear().await, "still here");
        let mut stream = chat(opaque, addr).open().await;
        assert_eq!(stream.next_event().await.expect("an event").data, "one");
        let mut substream = h2.open(chat(signed, secure)).await;
        assert!(substream.next().await.expect("an event").is_some());
        Self { socket, stream, substream }
    }

    /// Each ends as its kind does.
    async fn end(mut self, why: &str, cause: Cause) {
        assert_eq!(self.socket.hear_close().await, (1008, why.to_owned()), "{cause:?}");
        assert!(!self.stream.rest().await.complete, "{cause:?}: it ends visibly unfinished");
        let end = self.substream.end().await.expect_err("it ends visibly unfinished");
        assert!(end.is_reset() && end.is_remote(), "{cause:?}: that stream alone is reset: {end}");
    }
}

async fn all_causes(with_tls: bool) {
    let world = World::start(with_tls).await;
    let h2 = H2::connect(world.gateway.addresses[1]).await;
    let free = Request::get(world.gateway.addresses[1], "/v1/busy").bearer(&world.free);
    let mut neighbour = h2.open(free).await;
    for cause in CAUSES {
        let (parent, token) = world.parent(cause).await;
        let forms = world.mint(&token, cause).await;
        let sessions = Sessions::open(&world, &h2, &forms).await;
        let seen = world.upstream.received().len();
        world.end(cause, parent.as_deref(), &forms[1]).await;
        let (why, lasts) = match cause {
            Cause::MaxSession => ("session_expired", Duration::from_millis(1_500)),
            Cause::EndAtExpiry => ("session_expired", Duration::from_secs(2)),
            _ => ("token_revoked", Duration::ZERO),
        };
        let begun = Instant::now();
        within(&format!("the end by {cause:?}"), sessions.end(why, cause)).await;
        let took = begun.elapsed();
        assert!(took < lasts + SOON, "{cause:?} took {took:?}");
        for _ in 0..3 {
            let next = neighbour.next().await.expect("a neighbour is unharmed");
            assert!(next.is_some(), "{cause:?}: on the same connection");
        }
        // A session's length ends sessions; its token goes on.
        if cause != Cause::MaxSession {
            for form in &forms {
                let denied = Request::get(world.gateway.addr, "/v1/models").bearer(form);
                assert_eq!(refusal(cause), denied.send().await.denial(), "{cause:?}");
            }
            assert_eq!(world.upstream.received().len(), seen, "{cause:?}: no key may leave");
        }
    }
    drop((neighbour, h2));
    world.gateway.stop().await;
    let log = std::fs::read_to_string(world.dir.path().join("access.log")).expect("a log");
    canary::observe("access log", log.as_bytes());
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let cut = lines.filter(|l| {
        (l["path"] == CHAT || l["path"] == "/v1/realtime")
            && (l["denial"] == "token_revoked" || l["denial"] == "session_expired")
    });
    assert_eq!(cut.count(), 3 * CAUSES.len(), "each session has its line: {log}");
}

/// What the token gets afterwards.
fn refusal(cause: Cause) -> Option<&'static str> {
    Some(match cause {
        Cause::EndAtExpiry => "token_expired",
        Cause::Narrow => "provider_not_allowed",
        _ => "token_invalid",
    })
}

#[tokio::test]
async fn whatever_ends_a_client_token_ends_its_sessions_before_a_provider_in_the_clear() {
    all_causes(false).await;
}

#[tokio::test]
async fn whatever_ends_a_client_token_ends_its_sessions_before_a_provider_with_tls() {
    all_causes(true).await;
}
