//! The swap: whatever slot carried the token, the provider gets its real key in its own slot, the
//! token nowhere, and the rest verbatim.

use crate::support::client::Request;
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;
use crate::support::ws;

/// Each slot a caller may use, by a function that fills it.
type Slot = (&'static str, fn(&Setup, &str, &str) -> Request);

fn post(setup: &Setup, target: &str) -> Request {
    setup.request("POST", target).json(r#"{"model":"gpt-4o-mini","x":"ümlaut"}"#)
}

const SLOTS: &[Slot] = &[
    ("bearer", |s, path, t| post(s, path).header("Authorization", format!("Bearer {t}"))),
    ("bearer, odd case and blanks", |s, path, t| {
        post(s, path).header("authorization", format!("bEARER \t{t} "))
    }),
    ("token scheme", |s, path, t| post(s, path).header("Authorization", format!("Token {t}"))),
    ("x-api-key", |s, path, t| post(s, path).header("X-Api-Key", t)),
    ("x-goog-api-key", |s, path, t| post(s, path).header("x-goog-api-key", t)),
    ("api-key", |s, path, t| post(s, path).header("api-key", t)),
    ("?key=", |s, path, t| post(s, &format!("{path}?a=%41&key={t}&b"))),
    ("?api_key=", |s, path, t| post(s, &format!("{path}?api_key={t}"))),
    ("?access_token=", |s, path, t| post(s, &format!("{path}?access_token={t}"))),
    ("encoded name", |s, path, t| post(s, &format!("{path}?%6b%65y={t}"))),
    ("upper-case name", |s, path, t| post(s, &format!("{path}?KEY={t}"))),
];

/// Where each provider wants its key.
const PROVIDERS: &[(&str, &str, &str, &str)] = &[
    ("openai", "/openai/v1/chat/completions", "authorization", "Bearer "),
    ("anthropic", "/anthropic/v1/messages", "x-api-key", ""),
    ("gemini", "/gemini/v1beta/models/gemini-2.5-flash:generateContent", "x-goog-api-key", ""),
    ("gemini", "/gemini/v1beta/openai/chat/completions", "authorization", "Bearer "),
    ("internal", "/internal/work", "x-internal-key", ""),
];

#[tokio::test]
async fn every_slot_leads_to_the_one_that_the_provider_wants() {
    let setup = Setup::all().await;
    let token = setup.token("free").to_owned();
    let mut sent = 0;
    for (provider, path, header, scheme) in PROVIDERS {
        for (name, fill) in SLOTS {
            fill(&setup, path, &token).send().await.assert_status(200);
            sent += 1;
            let seen = setup.upstream.wait_for(sent).await.pop().expect("it was waited for");
            let key = format!("{scheme}{}", setup.key(provider));
            assert_eq!(seen.header(header), Some(&*key), "{provider} by {name}");
            let raw = String::from_utf8_lossy(&seen.raw).into_owned();
            assert!(!raw.contains(&token), "the token reached {provider} by {name}:\n{raw}");
            assert_eq!(
                raw.matches(setup.key(provider)).count(),
                1,
                "{provider} by {name}: one slot only"
            );
            for other in ["authorization", "x-api-key", "x-goog-api-key", "api-key"] {
                assert!(
                    other == *header || seen.header(other).is_none(),
                    "{provider} by {name}: {other} is left"
                );
            }
            assert_eq!(
                seen.body,
                r#"{"model":"gpt-4o-mini","x":"ümlaut"}"#.as_bytes(),
                "the body is verbatim"
            );
        }
    }
}

#[tokio::test]
async fn a_query_keeps_its_bytes_but_for_the_credential() {
    let setup = Setup::all().await;
    let token = setup.token("free");
    let target = format!("/v1/files?limit=%32&after=a%2Fb&key={token}&x=&y");
    setup.request("GET", &target).send().await.assert_status(200);
    assert_eq!(setup.upstream.only_request().target, "/v1/files?limit=%32&after=a%2Fb&x=&y");
}

#[tokio::test]
async fn a_query_of_nothing_but_the_token_disappears() {
    let setup = Setup::all().await;
    setup.request("GET", &format!("/v1/models?key={}", setup.token("free"))).send().await;
    assert_eq!(setup.upstream.only_request().target, "/v1/models");
}

#[tokio::test]
async fn what_is_the_gateways_or_the_callers_own_goes_no_further() {
    let setup = Setup::all().await;
    let request = setup.chat("free");
    let hidden = [
        ("Cookie", "a=b"),
        ("Proxy-Authorization", "Basic eDp5"),
        ("X-Keygate-Debug", "1"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("X-Forwarded-Host", "evil.test"),
        ("Forwarded", "for=1.2.3.4"),
        ("X-Forwarded-Uri", "/?key=x"),
        ("OpenAI-Organization", "org"),
        ("OpenAI-Project", "proj"),
        ("x_api_key", "sneaky"),
        ("Origin", "https://app.test"),
        ("Connection", "keep-alive, X-Hop"),
        ("X-Hop", "1"),
    ];
    let kept = [
        ("anthropic-beta", "b1"),
        ("User-Agent", "sdk/1"),
        ("x-stainless-lang", "python"),
        ("Accept", "*/*"),
    ];
    let request = hidden.iter().chain(&kept).fold(request, |r, (n, v)| r.header(n, v));
    request.send().await.assert_status(200);
    let seen = setup.upstream.only_request();
    for (name, _) in hidden.iter().filter(|(n, _)| *n != "Connection") {
        assert_eq!(seen.header(name), None, "{name} must not reach the provider");
    }
    for (name, value) in kept {
        assert_eq!(seen.header(name), Some(value), "{name} is forwarded verbatim");
    }
    let addr = setup.upstream.addr().to_string();
    assert_eq!(seen.header("host"), Some(&*addr), "Host is the provider's");
}

#[tokio::test]
async fn the_callers_connection_header_never_removes_the_key() {
    let setup = Setup::all().await;
    setup
        .chat("free")
        .header("Connection", "close, Authorization, x-api-key")
        .send()
        .await
        .assert_status(200);
    let expected = format!("Bearer {}", setup.key("openai"));
    assert_eq!(setup.upstream.only_request().header("authorization"), Some(&*expected));
}

#[tokio::test]
async fn two_different_credentials_are_refused_wherever_they_sit() {
    let setup = Setup::all().await;
    let (free, scoped) = (setup.token("free").to_owned(), setup.token("scoped").to_owned());
    for request in [
        setup.chat("free").header("x-api-key", &scoped),
        setup.chat("free").header("Authorization", format!("Bearer {free}")),
        setup.request("GET", &format!("/v1/models?key={free}&key={scoped}")),
        setup.request("GET", &format!("/v1/models?key={free}&%6Bey={scoped}")),
        setup.request("GET", &format!("/v1/models?key={free}")).header("api-key", &scoped),
    ] {
        request.send().await.assert_denied(400, "ambiguous_credentials");
    }
    assert!(setup.upstream.received().is_empty(), "no key may leave on a denial");
    setup.chat("free").header("x-api-key", &free).send().await.assert_status(200);
}

#[tokio::test]
async fn where_key_is_data_it_stays_and_cookies_pass_a_generic_provider() {
    let yaml = ALL.replace("slot: { header: X-Internal-Key }", "slot: bearer\n    query_slots: []");
    let setup = Setup::with(&yaml).await;
    let request = setup
        .request("GET", "/tools/x?key=data")
        .bearer(setup.token("free"))
        .header("Cookie", "a=b");
    request.send().await.assert_status(200);
    let seen = setup.upstream.only_request();
    assert_eq!((&*seen.target, seen.header("cookie")), ("/tools/x?key=data", Some("a=b")));
}

#[tokio::test]
async fn a_generic_provider_can_take_its_key_in_the_query() {
    let setup =
        Setup::with(&ALL.replace("slot: { header: X-Internal-Key }", "slot: { query: auth }"))
            .await;
    let request = setup.request("GET", "/tools/x?a=1&auth=mine").bearer(setup.token("free"));
    request.send().await.assert_status(200);
    let expected = format!("/tools/x?a=1&auth={}", setup.key("internal"));
    assert_eq!(
        setup.upstream.only_request().target,
        expected,
        "the caller's own value does not stay beside it"
    );
}

#[tokio::test]
async fn sockets_carry_tokens_as_subprotocols_and_keep_the_others() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket().choose_protocol(Some("realtime")));
    let token = setup.token("free").to_owned();
    let offer = format!("openai-insecure-api-key.{token}");
    let offers = ["realtime", &offer, "openai-agents-sdk.1", "openai-project.p"];
    let (_, chosen) =
        ws::connect(setup.addr(), "/v1/realtime?model=m", &[], &offers).await.expect("it opens");
    assert_eq!(chosen.as_deref(), Some("realtime"), "what the upstream chooses is echoed");
    let seen = setup.upstream.wait_for_heads(1).await.remove(0);
    assert_eq!(seen.header("sec-websocket-protocol"), Some("realtime, openai-agents-sdk.1"));
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {}", setup.key("openai"))));

    setup.upstream.answer(Answer::websocket().choose_protocol(None));
    let own = format!("keygate.{token}");
    let (_, chosen) = ws::connect(setup.addr(), "/v1/realtime?model=m", &[], &["keygate", &own])
        .await
        .expect("it opens");
    assert_eq!(chosen.as_deref(), Some("keygate"), "a browser needs one to be chosen");
    let seen = setup.upstream.wait_for_heads(2).await.remove(1);
    assert_eq!(seen.header("sec-websocket-protocol"), None);

    let refused = ws::connect(setup.addr(), "/v1/realtime?model=m", &[], &[&own]).await;
    refused.expect_err("only credentials are offered").assert_denied(400, "malformed_request");
}

#[tokio::test]
async fn gemini_sockets_get_the_key_in_the_query_also_behind_two_slashes() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    let live = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";
    let token = setup.token("free").to_owned();
    for (n, path) in [
        format!("{live}?key={token}"),
        format!("/{live}?key={token}"),
        format!("/gemini/{live}?key={token}"),
    ]
    .iter()
    .enumerate()
    {
        ws::connect(setup.addr(), path, &[], &[]).await.unwrap_or_else(|r| panic!("{path}: {r:?}"));
        let seen = setup.upstream.wait_for_heads(n + 1).await.remove(n);
        assert_eq!(seen.target, format!("{live}?key={}", setup.key("gemini")), "{path}");
        assert_eq!(seen.header("x-goog-api-key"), None, "one slot only");
    }
}
