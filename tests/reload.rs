//! Reloads: atomic or nothing happens; a bad file leaves the old configuration serving and says
//! why.

use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;

#[tokio::test]
async fn a_good_file_is_in_force_at_once_and_a_bad_one_changes_nothing() {
    let mut setup = Setup::all().await;
    setup.chat("free").send().await.assert_status(200);
    let closed = ALL.replace("sha256: $SHA(free) }", "sha256: $SHA(free), disabled: true }");
    setup.reload(&closed).await.expect("a good file");
    setup.chat("free").send().await.assert_denied(401, "token_invalid");
    for (bad, place) in [
        (ALL.replace("kind: anthropic", "kind: anthropomorphic"), "kind"),
        (ALL.replace("policy: scoped", "policy: nobody"), "tokens[1].policy"),
        (ALL.replace("providers:", "providers: ["), "line"),
        (ALL.replace("models: [gpt-4o-mini", "models: [], x: [gpt-4o-mini"), "scoped"),
        (ALL.replace("127.0.0.1:0 }]", "127.0.0.1:1 }]"), "listen"),
        (ALL.replace("keygate.db", "other.db"), "store"),
        (
            ALL.replace("127.0.0.1:0 }]", "127.0.0.1:1 }]").replace("keygate.db", "other.db"),
            "\nstore",
        ),
        (String::new(), ""),
    ] {
        let problem = setup.reload(&bad).await.expect_err("a bad file");
        assert!(problem.contains(place), "{problem:?} must name {place:?}");
        setup.chat("free").send().await.assert_denied(401, "token_invalid");
        setup.chat("scoped").send().await.assert_status(200);
    }
    setup.reload(ALL).await.expect("a good file again");
    setup.chat("free").send().await.assert_status(200);
    assert_eq!(setup.metric(r#"keygate_reloads_total{result="ok"}"#), 2.0);
    assert_eq!(setup.metric(r#"keygate_reloads_total{result="failed"}"#), 8.0);
}

#[tokio::test]
async fn a_request_in_flight_keeps_its_configuration() {
    let mut setup = Setup::all().await;
    setup.upstream.answer(Answer::sse(["one", "two"]).gated());
    let mut stream = setup.chat("free").open().await;
    setup.upstream.release();
    assert_eq!(stream.next_event().await.expect("an event").data, "one");
    // A new key and other limits: not this stream's business.
    setup.reload(&format!("{ALL}limits: {{ max_body: 1KiB }}\n")).await.expect("a good file");
    setup.upstream.release();
    setup.upstream.release();
    assert!(stream.rest().await.complete, "the stream runs to its own end");
    let big = setup
        .request("POST", "/v1/x")
        .bearer(setup.token("free"))
        .body("text/plain", vec![b'x'; 2_000]);
    big.send().await.assert_denied(413, "body_too_large");
}

#[tokio::test]
async fn rates_survive_a_reload() {
    let yaml = ALL
        .replace("policies:", "policies:\n  few: { rate_limit: { requests: 1, per: 60s } }")
        + "  - { name: few, sha256: $SHA(few), policy: few }\n";
    let mut setup = Setup::with(&yaml).await;
    setup.chat("few").send().await.assert_status(200);
    setup.reload(&yaml).await.expect("a good file");
    setup.chat("few").send().await.assert_denied(429, "rate_limited");
}

#[tokio::test]
async fn expiry_follows_the_wall_clock_and_limits_the_monotonic_one() {
    let yaml = ALL
        .replace("policies:", "policies:\n  few: { rate_limit: { requests: 2, per: 60s } }")
        + "  - { name: few, sha256: $SHA(few), policy: few, expires_at: '2026-01-01T01:00:00Z' }\n";
    let setup = Setup::with(&yaml).await;
    setup.chat("few").send().await.assert_status(200);
    setup.clock.set_wall_ms(crate::support::gateway::NEW_YEAR_MS + 3_600_000);
    setup.chat("few").send().await.assert_denied(401, "token_expired");
    setup.clock.set_wall_ms(crate::support::gateway::NEW_YEAR_MS - 86_400_000);
    setup.chat("few").send().await.assert_status(200);
    setup.chat("few").send().await.assert_denied(429, "rate_limited");
}
