//! Ways around the gate's checks, and what each comes to.

use crate::support::client::Raw;
use crate::support::gateway::{ALL, Setup};
use crate::support::upstream::Answer;
use crate::support::ws;
use keygate::store::Sqlite;
use keygate::token::store::{Change, Record, TokenStore};
use keygate::values::ids::TokenDigest;
use std::time::Duration;

const FORBIDDEN: &str = r#"{"model":"gpt-4o","messages":[]}"#;

#[tokio::test]
async fn upgrade_does_not_hide_a_body_from_the_model_check() {
    let setup = Setup::all().await;
    for connection in ["Upgrade", "keep-alive"] {
        let answer = setup
            .request("POST", "/v1/chat/completions?model=gpt-4o-mini")
            .bearer(setup.token("scoped"))
            .header("Connection", connection)
            .header("Upgrade", "websocket")
            .json(FORBIDDEN)
            .send()
            .await;
        assert!(answer.status >= 400, "{connection}: {} {}", answer.status, answer.text());
        assert!(
            setup.upstream.received().is_empty(),
            "the upstream of a denied request saw nothing"
        );
    }
}

#[tokio::test]
async fn an_encoded_path_does_not_hide_the_model_in_it() {
    let setup = Setup::all().await;
    for target in [
        "/v1beta/m%6fdels/gemini-2.5-pro:generateContent?model=gemini-2.5-flash",
        "/v1beta/m%6fdels/gemini-2.5-pro:generateContent",
        "/v1%62eta/models/gemini-2.5-pro:generateContent",
        "/gemini/v1%62eta/models/gemini-2.5-pro:generateContent",
    ] {
        let answer = setup
            .request("POST", target)
            .bearer(setup.token("scoped"))
            .json(r#"{"model":"gemini-2.5-flash"}"#)
            .send()
            .await;
        assert!(
            answer.status >= 400 && setup.upstream.received().is_empty(),
            "{target}: {}",
            answer.status
        );
    }
}

#[tokio::test]
async fn a_model_in_the_query_does_not_stand_for_those_in_frames() {
    let setup = Setup::all().await;
    setup.upstream.answer(Answer::websocket());
    let auth = format!("Bearer {}", setup.token("scoped"));
    for path in [
        "/v1/responses?model=gpt-4o-mini",
        "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent?model=gemini-2.5-flash",
    ] {
        let refused = ws::connect(setup.addr(), path, &[("Authorization", &auth)], &[]).await;
        assert!(refused.is_err(), "{path}: frames choose the model there");
    }
}
