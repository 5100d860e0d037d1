//! Client tokens by the libraries' own calls: minted by an app's server, used by a device.

use super::install::{Environment, NODE, PYTHON};
use super::rig::{Rig, assert_pieces};
use crate::support::canary;

/// Google's auth token, then Live with its name. It is good for one session.
async fn live_with_an_auth_token(environment: Environment, script: &str, models: &[&str]) {
    let rig = Rig::start().await;
    let got = rig.run_with(environment, script, models, "minter", "https").await;
    let name = got["name"].as_str().expect("a name");
    assert!(name.starts_with("auth_tokens/"), "as Google names them: {name}");
    canary::adopt_token(name);
    assert_eq!(got["live"]["text"], "You said: an auth token", "{got}");
    assert_pieces(&got["live"]["pieces"]);
    assert_eq!(got["again"], 401, "it had one use: {got}");

    // The ordinary method, with the real key; nothing of minting came, nor of the second session.
    let path = "/ws/google.ai.generativelanguage.v1alpha.GenerativeService.BidiGenerateContent";
    rig.assert_seen(&[&format!("GET {path}?key={}", rig.keys.gemini)], "", "");
    for raw in rig.tap.raw.lock().expect("nobody panics with it").iter() {
        let found = String::from_utf8_lossy(raw).contains("auth_tokens");
        assert!(!found, "the token reached the provider");
    }
    let log = rig.log(3).await;
    let told = |n: usize| (log[n]["path"].as_str().unwrap_or_default(), log[n]["status"].as_u64());
    let ended: Vec<_> = (0..3).map(told).collect();
    assert_eq!(ended[0], ("/v1alpha/auth_tokens", Some(200)), "minted: {ended:?}");
    assert!(ended.iter().any(|line| line.1 == Some(101)), "opened once: {ended:?}");
    let child = log.iter().find(|line| line["status"] == 101).expect("just seen");
    assert!(child["token_id"].as_str().is_some_and(|id| id.starts_with("ctk_")), "{child}");
}

/// One that is bound to a model: what names it is the session's first message, which is read.
const BOUND: &[&str] = &["gemini-2.5-flash"];

#[tokio::test]
async fn google_genai_for_python_mints_an_auth_token_and_opens_live_with_it() {
    live_with_an_auth_token(PYTHON, "gemini_auth_token.py", &[]).await;
    live_with_an_auth_token(PYTHON, "gemini_auth_token.py", BOUND).await;
}

#[tokio::test]
async fn google_genai_for_javascript_mints_an_auth_token_and_opens_live_with_it() {
    live_with_an_auth_token(NODE, "gemini_auth_token.mjs", &[]).await;
    live_with_an_auth_token(NODE, "gemini_auth_token.mjs", BOUND).await;
}
