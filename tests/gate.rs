//! The gate's order: of two steps that both refuse, the earlier one answers. Every adjacent pair
//! is tried, and a step without a row here fails the suite.

use crate::support::client::{Request, Response};
use crate::support::gateway::Setup;
use crate::support::upstream::Answer;
use keygate::policy::Step;

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
server_names: [gate.test]
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
policies:
  bound: { models: [gpt-4o-mini], origins: ['https://app.test'], paths: [/v1/chat/*] }
  spent: { models: [gpt-4o-mini], origins: ['https://app.test'], paths: [/v1/chat/*], rate_limit: { requests: 1, per: 60s } }
  busy: { models: [gpt-4o-mini], origins: ['https://app.test'], paths: [/v1/chat/*], concurrency: 1 }
  both: { models: [gpt-4o-mini], origins: ['https://app.test'], paths: [/v1/chat/*], rate_limit: { requests: 1, per: 60s }, concurrency: 1 }
tokens:
  - { name: bound, sha256: $SHA(bound), policy: bound }
  - { name: spent, sha256: $SHA(spent), policy: spent }
  - { name: busy, sha256: $SHA(busy), policy: busy }
  - { name: both, sha256: $SHA(both), policy: both }
";

/// A request that passes every step, and what makes it fail some.
#[derive(Clone, Default)]
struct Ask {
    violated: Vec<Step>,
}

impl Ask {
    fn breaks(&self, step: Step) -> bool {
        self.violated.contains(&step)
    }

    /// The same request with each violated step's fault in it.
    fn build(&self, setup: &Setup) -> Request {
        let mut path = "/v1/chat/completions".to_owned();
        if self.breaks(Step::Scope) {
            path = "/v1/embeddings".to_owned();
        }
        if self.breaks(Step::Own) {
            path = "/v1/client/tokens".to_owned();
        }
        if self.breaks(Step::Route) {
            path = "/nowhere".to_owned();
        }
        if self.breaks(Step::Target) {
            path.push_str(";x");
        }
        let method = if self.breaks(Step::Method) { "PROPFIND" } else { "POST" };
        let model = if self.breaks(Step::Model) { "gpt-5" } else { "gpt-4o-mini" };
        let host = if self.breaks(Step::Host) { "evil.test" } else { "gate.test" };
        let origin =
            if self.breaks(Step::Origin) { "https://evil.test" } else { "https://app.test" };
        let token = match (self.breaks(Step::Rate), self.breaks(Step::Concurrency)) {
            (true, true) => "both",
            (true, false) => "spent",
            (false, true) => "busy",
            (false, false) => "bound",
        };
        let token = if self.breaks(Step::Authentication) {
            "not-a-token-at-all"
        } else {
            setup.token(token)
        };
        let mut request = setup.request(method, &path).host(host).bearer(token).origin(origin);
        if self.breaks(Step::Framing) {
            for n in 0..101 {
                request = request.header(&format!("x-filler-{n}"), "x");
            }
        }
        if self.breaks(Step::Extraction) {
            request = request.header("x-api-key", "another-token-here");
        }
        if self.breaks(Step::Body) {
            request = request.header("expect", "a-miracle");
        }
        request.json(format!(r#"{{"model":"{model}","messages":[]}}"#))
    }
}

/// What each step answers. A new step has no row and fails here.
fn row(step: Step) -> Option<(u16, &'static str)> {
    Some(match step {
        Step::Framing => (431, "headers_too_large"),
        Step::Host => (421, "wrong_host"),
        Step::Target => (400, "malformed_request"),
        Step::Method => (405, "method_not_allowed"),
        Step::Route => (404, "no_route"),
        Step::Extraction => (400, "ambiguous_credentials"),
        Step::Authentication => (401, "token_invalid"),
        Step::Scope => (403, "path_not_allowed"),
        Step::Origin => (403, "origin_not_allowed"),
        Step::Body => (417, "expectation_failed"),
        Step::Model => (403, "model_not_allowed"),
        Step::Rate => (429, "rate_limited"),
        Step::Concurrency => (429, "concurrency_limited"),
        Step::Own => (403, "may_not_mint"),
        Step::Preflight | Step::Budget | Step::Key => return None,
    })
}

async fn prepared() -> Setup {
    let setup = Setup::with(CONFIG).await;
    let usual = |token: &str| {
        setup
            .request("POST", "/v1/chat/completions")
            .host("gate.test")
            .bearer(setup.token(token))
            .origin("https://app.test")
            .json(r#"{"model":"gpt-4o-mini"}"#)
    };
    usual("spent").send().await.assert_status(200);
    setup.upstream.answer(Answer::hang());
    for (n, token) in ["busy", "both"].into_iter().enumerate() {
        let held = usual(token);
        tokio::spawn(async move { held.try_send().await });
        setup.upstream.wait_for(n + 2).await;
    }
    setup
}

async fn answer(setup: &Setup, violated: &[Step]) -> Response {
    Ask { violated: violated.to_vec() }.build(setup).send().await
}

#[tokio::test]
async fn of_two_adjacent_steps_the_earlier_one_answers() {
    let setup = prepared().await;
    let before = setup.upstream.received().len();
    let refusing: Vec<Step> = Step::ALL.into_iter().filter(|s| s.refuses()).collect();
    for step in &refusing {
        let (status, code) =
            row(*step).unwrap_or_else(|| panic!("{step:?} has no row in this test"));
        answer(&setup, &[*step]).await.assert_denied(status, code);
    }
    for pair in refusing.windows(2) {
        let (status, code) = row(pair[0]).expect("shown above");
        let response = answer(&setup, pair).await;
        assert_eq!(response.denial(), Some(code), "{pair:?}: the earlier step answers");
        response.assert_denied(status, code);
    }
    let (_, first) = row(refusing[0]).expect("shown above");
    let all = answer(&setup, &refusing).await;
    assert_eq!(all.denial(), Some(first), "with everything wrong the first step answers");
    assert_eq!(setup.upstream.received().len(), before, "no refused request reached the upstream");
}

#[tokio::test]
async fn a_preflight_is_answered_behind_the_method_and_before_the_route() {
    let setup = Setup::with(CONFIG).await;
    let preflight = |target: &str, host: &str| {
        Request::preflight(setup.addr(), target, "POST", "authorization")
            .host(host)
            .origin("https://a.test")
    };
    preflight("/nowhere", "gate.test").send().await.assert_status(204);
    preflight("/v1/x;y", "gate.test").send().await.assert_denied(400, "malformed_request");
    preflight("/v1/x", "evil.test").send().await.assert_denied(421, "wrong_host");
    assert!(setup.upstream.received().is_empty(), "a preflight is never forwarded");
}

#[tokio::test]
async fn what_passes_every_step_reaches_the_upstream_with_the_real_key() {
    let setup = Setup::with(CONFIG).await;
    answer(&setup, &[]).await.assert_status(200);
    let seen = setup.upstream.only_request();
    let expected = format!("Bearer {}", setup.key("openai"));
    assert_eq!(seen.header("authorization"), Some(&*expected), "the key is in its slot");
    assert_eq!(seen.header("origin"), None, "the origin is not the provider's business");
}
