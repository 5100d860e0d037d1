//! Google's resumable upload: the second leg comes back through the gate, by a ticket.

use super::install::{Environment, NODE, PYTHON};
use super::rig::Rig;
use super::table;
use super::tap::Seen;

async fn upload(client: &str, environment: Environment, script: &str, package: &str) {
    let rig = Rig::start().await;
    let got = rig.run_with(environment, script, &[], "unscoped", "http").await;
    assert_eq!(got["size"], 9_000_000, "all of it has arrived: {got}");
    assert_eq!(got["state"], "ACTIVE", "{got}");
    assert_eq!(got["content"], "You said: what is in it", "{got}");

    let seen = rig.tap.seen();
    let legs: Vec<_> = seen.iter().filter(|r| r.line.contains("upload_id=")).collect();
    assert_eq!(legs.len(), 2, "in two parts, each through the gate");
    let sent: usize = legs.iter().map(|leg| leg.body.len()).sum();
    assert_eq!(sent, 9_000_000, "the bytes as they are");
    let mut expected: Vec<_> = legs.iter().map(|leg| leg.line.clone()).collect();
    let started =
        seen.iter().find(|r| r.line.starts_with("POST /upload/") && !r.line.contains('?'));
    expected.push(started.expect("the first leg").line.clone());
    expected.push("POST /v1/models/gemini-2.5-flash:generateContent".to_owned());
    assert!(
        expected.iter().all(|line| !line.contains("ticket")),
        "the ticket is ours: {expected:?}"
    );
    let expected: Vec<_> = expected.iter().map(String::as_str).collect();
    rig.assert_seen(&expected, "x-goog-api-key", &rig.keys.gemini);
    assert_eq!(rig.statuses(4).await, [200; 4]);
    let is_further = |seen: &Seen| seen.line.contains("upload_id=");
    let further = match rig.slots(is_further) {
        none if none.is_empty() => "the ticket".to_owned(),
        token => format!("the ticket, {token}"),
    };
    let first = rig.slots(|seen| !is_further(seen));
    table::check("Uploads", client, &[&environment.version(package), &first, &further]);
}

#[tokio::test]
async fn google_genai_for_python_uploads_a_file() {
    upload("google-genai, Python", PYTHON, "gemini_upload.py", "google-genai").await;
}

#[tokio::test]
async fn google_genai_for_javascript_uploads_a_file() {
    upload("google-genai, JavaScript", NODE, "gemini_upload.mjs", "@google/genai").await;
}
