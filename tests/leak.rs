//! Providers echo keys. None passes: not split over chunks, not compressed, not in a header, not
//! where the key itself is the problem.

use crate::support::canary;
use crate::support::gateway::Setup;
use crate::support::upstream::Answer;

fn echo(setup: &Setup) -> String {
    format!(r#"{{"error":{{"message":"bad request with {} in it"}}}}"#, setup.key("openai"))
}

#[tokio::test]
async fn an_error_that_echoes_the_key_is_cleaned_however_it_comes() {
    let setup = Setup::all().await;
    let body = echo(&setup);
    for (n, answer) in [
        Answer::json(500, &body),
        Answer::json(429, &body).split(3),
        Answer::json(400, &body).gzip(),
        Answer::json(404, &body).gzip().split(5),
        Answer::json(503, &body).brotli(),
        Answer::json(422, &body).zstd(),
        Answer::json(500, &body).until_close(),
    ]
    .into_iter()
    .enumerate()
    {
        setup.upstream.answer(answer);
        let answer = setup.chat("free").header("Accept-Encoding", "gzip, br, zstd").send().await;
        assert!(
            answer.status >= 400 && answer.complete,
            "case {n}: the status is the provider's: {answer:?}"
        );
        assert!(
            answer.text().contains("bad request with [redacted] in it"),
            "case {n}: {answer:?}"
        );
        assert_eq!(answer.denial(), None, "it is the provider's error, not ours");
    }
    assert!(setup.metric("keygate_redacted_responses_total") >= 7.0, "each is counted");
}

#[tokio::test]
async fn an_error_without_a_key_passes_byte_for_byte() {
    let setup = Setup::all().await;
    let body = r#"{"error":{"message":"no such model","code":"model_not_found"}}"#;
    setup.upstream.answer(
        Answer::json(404, body)
            .header("x-request-id", "req_vendor")
            .header("retry-after", "7")
            .gzip(),
    );
    let answer = setup.chat("free").send().await;
    answer.assert_status(404);
    assert_eq!(answer.header("content-encoding"), Some("gzip"), "as it came");
    assert_eq!(
        (answer.text().as_str(), answer.header("x-request-id"), answer.header("retry-after")),
        (body, Some("req_vendor"), Some("7"))
    );
}

#[tokio::test]
async fn an_error_that_cannot_be_searched_is_not_shown() {
    let setup = Setup::all().await;
    for answer in [
        Answer::json(500, echo(&setup)).header("Content-Encoding", "compress"),
        Answer::json(500, echo(&setup) + &"x".repeat(400_000)),
    ] {
        setup.upstream.answer(answer);
        let answer = setup.chat("free").send().await;
        answer.assert_status(500);
        assert_eq!(answer.json()["error"]["code"], "unreadable_error");
    }
}

#[tokio::test]
async fn a_rejected_key_is_the_gateways_problem() {
    let setup = Setup::all().await;
    let about_key = r#"{"error":{"code":"invalid_api_key","message":"Incorrect API key provided: sk-ab***yz"}}"#;
    for answer in [
        Answer::json(401, about_key),
        Answer::json(403, about_key),
        Answer::json(403, about_key).gzip().split(4),
        Answer::json(401, ""),
    ] {
        setup.upstream.answer(answer);
        let answer = setup.chat("free").send().await;
        answer.assert_denied(502, "upstream_rejected_key");
        assert!(!answer.text().contains("sk-ab"), "nothing of the provider's answer passes");
    }
    setup.upstream.answer(Answer::json(
        400,
        r#"{"error":{"status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}"#,
    ));
    let gemini = setup
        .request("POST", "/v1beta/models/m:generateContent")
        .bearer(setup.token("free"))
        .json("{}");
    gemini.send().await.assert_denied(502, "upstream_rejected_key");
    setup
        .upstream
        .answer(Answer::json(403, r#"{"error":{"code":"unsupported_country_region_territory"}}"#));
    setup.chat("free").send().await.assert_status(403);
    assert!(
        setup.metric(r#"keygate_key_errors_total{key="openai.key",provider="openai"}"#) >= 4.0,
        "counted by the key's name"
    );
}

#[tokio::test]
async fn headers_and_redirects_that_echo_a_key_or_point_at_it_are_dropped() {
    let setup = Setup::all().await;
    let key = setup.key("openai").to_owned();
    setup.upstream.answer(
        Answer::json(302, "{}")
            .header("X-Debug-Auth", format!("Bearer {key}"))
            .header("Location", format!("https://elsewhere.test/?key={key}")),
    );
    let answer = setup.chat("free").send().await;
    answer.assert_status(302);
    assert_eq!((answer.header("x-debug-auth"), answer.header("location")), (None, None));
    canary::search(answer.body, "the body of a redirect");
}

#[tokio::test]
async fn an_empty_error_and_a_head_request_are_not_waited_for() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::status(404));
    setup.chat("free").send().await.assert_status(404);
    setup.upstream.answer(Answer::json(404, "x").chunks(Vec::<Vec<u8>>::new()));
    setup.chat("free").send().await.assert_status(404);
    setup.assert_nothing_is_left_open().await;
}
