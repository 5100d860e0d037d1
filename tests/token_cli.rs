//! `keygate token …` as operators and scripts run it: the real binary, a real store.
//!
//! No provider key is set here; these commands must not need one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "all of this file is a test, its shared functions too"
)]

use serde_json::Value;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
store: { sqlite: STORE }
providers:
  openai: { kind: openai, url: 'https://api.openai.com', keys: [{ env: KEYGATE_TEST_UNSET }] }
  gemini: { kind: gemini, url: 'https://example.com', keys: [{ env: KEYGATE_TEST_UNSET }] }
policies:
  browser: { origins: ['https://app.example.com'] }
  ci: { models: [gpt-4o-mini] }
";

struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let setup = Self { dir };
        let text = CONFIG.replace("STORE", setup.database().to_str().unwrap());
        std::fs::write(setup.config(), text).unwrap();
        setup
    }

    fn database(&self) -> PathBuf {
        self.dir.path().join("keygate.db")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("keygate.yaml")
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        command.arg("token").args(args).arg("-c").arg(self.config());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Standard output of a command that must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        assert!(errors.is_empty(), "{args:?} succeeds without complaint: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        let text = self.ok(&[args, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{args:?}: {e}: {text}"))
    }

    /// Standard error of a command that must fail with this exit code.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        assert_eq!(output.status.code(), Some(code), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}: a failure prints no result");
        String::from_utf8(output.stderr).unwrap()
    }

    fn create(&self, args: &[&str]) -> Value {
        self.json(&[&["create"], args].concat())
    }

    fn ids(&self) -> HashSet<String> {
        let list = self.json(&["list"]);
        list.as_array().unwrap().iter().map(|t| text(t, "id").to_owned()).collect()
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

#[test]
fn a_token_may_mint_only_if_it_was_told_so() {
    let t = Setup::new();
    assert_eq!(t.create(&["--name", "a"])["may_mint"], false);
    let minter = t.create(&["--name", "b", "--may-mint"]);
    assert_eq!(minter["may_mint"], true);
    let after = t.json(&["update", text(&minter, "id"), "--may-mint", "false"]);
    assert_eq!(after["may_mint"], false);
}

#[test]
fn a_signing_key_is_made_and_the_next_one_waits_its_turn() {
    let t = Setup::new();
    let keys = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keygate"));
        command.arg("keys").args(args).arg("--json").arg("-c").arg(t.config()).output().unwrap()
    };
    let list = || {
        let output = keys(&["list"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().len()
    };
    assert_eq!(list(), 0);
    assert!(keys(&["rotate"]).status.success(), "the first signs at once");
    assert!(keys(&["rotate"]).status.success(), "the second waits");
    let third = keys(&["rotate"]);
    assert_eq!(third.status.code(), Some(1), "there is one waiting already");
    let told = String::from_utf8_lossy(&third.stderr);
    assert!(told.contains("keys list"), "it says what to do: {told}");
    assert_eq!(list(), 2);
}

#[test]
fn a_token_lives_from_create_to_delete() {
    let t = Setup::new();
    let made =
        t.create(&["--name", "web", "--policy", "browser", "--expires-at", "2099-01-01T00:00:00Z"]);
    let (id, token) = (text(&made, "id"), text(&made, "token"));
    assert!(id.starts_with("tok_") && id.len() == 20, "{id}");
    assert!(token.starts_with("ptk_") && token.len() == 36, "the documented shape");
    assert!(token.ends_with(text(&made, "last4")));
    assert_eq!(made["name"], "web");
    assert_eq!(made["policy"], "browser");
    assert_eq!(made["grant"], Value::Null);
    assert_eq!(made["expires_at"], "2099-01-01T00:00:00Z");
    assert_eq!(made["status"], "active");

    let mut shown = made.clone();
    shown.as_object_mut().unwrap().remove("token");
    assert_eq!(t.json(&["show", id]), shown, "show gives what create gave, but for the token");
    assert_eq!(t.json(&["list"]), Value::Array(vec![shown.clone()]));

    assert_eq!(t.json(&["disable", id])["status"], "disabled");
    assert_eq!(t.json(&["show", id])["disabled"], true);
    assert_eq!(t.json(&["enable", id]), shown, "enabled again, it is as it was");

    let renamed = t.json(&["update", id, "--name", "site", "--policy", "ci", "--no-expiry"]);
    assert_eq!(renamed["name"], "site");
    assert_eq!(renamed["policy"], "ci");
    assert_eq!(renamed["expires_at"], Value::Null);

    assert_eq!(t.json(&["delete", id]), serde_json::json!({ "id": id, "deleted": true }));
    let gone = t.fails(1, &["show", id]);
    assert!(gone.contains(id) && gone.contains("keygate token list"), "{gone}");
    assert!(t.ids().is_empty());
}

#[test]
fn a_grant_of_its_own_is_stored_and_changed_by_dimension() {
    let t = Setup::new();
    let made = t.create(&[
        "--name",
        "own",
        "--provider",
        "openai",
        "--provider",
        "gemini",
        "--model",
        "gpt-4o*",
        "--origin",
        "https://a.example",
        "--path",
        "/v1/files*",
        "--method",
        "POST",
        "--rate",
        "20/60s",
        "--concurrency",
        "4",
    ]);
    let id = text(&made, "id");
    let mut grant = serde_json::json!({
        "providers": ["openai", "gemini"],
        "models": ["gpt-4o*"],
        "origins": ["https://a.example"],
        "paths": ["/v1/files*"],
        "methods": ["POST"],
        "rate_limit": { "requests": 20, "per": "60s" },
        "concurrency": 4,
    });
    assert_eq!(made["grant"], grant);
    let changed = t.json(&["update", id, "--model", "gpt-5", "--model", "o*", "--rate", "5/1s"]);
    grant["models"] = serde_json::json!(["gpt-5", "o*"]);
    grant["rate_limit"] = serde_json::json!({ "requests": 5, "per": "1s" });
    assert_eq!(changed["grant"], grant, "named dimensions are replaced, the others stay");

    let under = t.json(&["update", id, "--policy", "ci"]);
    assert_eq!((&under["policy"], &under["grant"]), (&"ci".into(), &Value::Null));
    let refused = t.fails(1, &["update", id, "--model", "x"]);
    assert!(refused.contains("'ci'") && refused.contains("--no-policy"), "{refused}");
    let own = t.json(&["update", id, "--no-policy", "--model", "x"]);
    assert_eq!(own["grant"], serde_json::json!({ "models": ["x"] }), "nothing of the old returns");
    assert_eq!(own["policy"], Value::Null);
}

#[test]
fn what_makes_no_sense_is_refused_with_what_to_do() {
    let t = Setup::new();
    let past = ["--expires-at", "2001-01-01T00:00:00Z"];
    let cases: [(&[&str], i32, &str); 15] = [
        (&["--policy", "brwoser"], 1, "the configuration has: browser, ci"),
        (&["--provider", "opnai"], 1, "the configuration has: openai, gemini"),
        (&["--policy", "ci", "--model", "gpt-4o"], 2, "cannot be used with"),
        (&["--policy", "ci", "--rate", "1/1s"], 2, "cannot be used with"),
        (&past, 1, "in the future"),
        (&["--expires-at", "tomorrow"], 1, "RFC 3339"),
        (&["--ttl", "1y"], 1, "--ttl"),
        (&["--ttl", "1d", "--expires-at", "2099-01-01T00:00:00Z"], 2, "cannot be used with"),
        (&["--model", ""], 1, "--model"),
        (&["--model", "g*t"], 1, "--model"),
        (&["--origin", "https://*.example"], 1, "--origin"),
        (&["--path", "v1"], 1, "--path"),
        (&["--method", "get"], 1, "--method"),
        (&["--rate", "20"], 2, "20/60s"),
        (&["--concurrency", "0"], 1, "--concurrency"),
    ];
    for (args, code, remedy) in cases {
        let error = t.fails(code, &[&["create", "--name", "x"], args].concat());
        assert!(error.contains(remedy), "{args:?} must say {remedy:?}: {error}");
    }
    assert!(t.ids().is_empty(), "nothing of it was stored");
    let nothing = t.fails(1, &["update", "tok_AAAAAAAAAAAAAAAA"]);
    assert!(nothing.contains("nothing to change"), "{nothing}");
    assert!(t.fails(1, &["create", "--name", "a\u{1b}[2J"]).contains("--name"));
}

#[test]
fn without_a_store_it_says_what_to_add() {
    let t = Setup::new();
    std::fs::write(t.config(), "providers: {}").unwrap();
    let error = t.fails(1, &["list"]);
    assert!(error.contains("add `store: { sqlite: "), "{error}");
    std::fs::write(t.config(), "store: { sqlite: [").unwrap();
    let error = t.fails(1, &["list"]);
    assert!(error.contains("keygate.yaml") && error.contains("line 2"), "{error}");
}

#[test]
fn no_output_or_file_holds_a_plain_token() {
    let t = Setup::new();
    let custom = "canary-6f1d.CUSTOM_token~0451";
    let mut piped = t
        .command(&["create", "--name", "piped", "--token", "-", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let from_pipe = "canary-91ab.PIPED_token~1999";
    writeln!(piped.stdin.take().unwrap(), "{from_pipe}").unwrap();
    let piped: Value = serde_json::from_slice(&piped.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(piped["token"], from_pipe);
    let drawn = t.create(&["--name", "drawn"]);
    let given = t.create(&["--name", "given", "--token", custom, "--model", "m"]);
    assert_eq!(given["token"], custom, "create shows it, this once");
    let human = t.ok(&["create", "--name", "human"]);
    let human_token =
        human.split_whitespace().find(|word| word.starts_with("ptk_")).expect("shown to people");

    let id = text(&given, "id");
    let outputs = [
        t.ok(&["list"]),
        t.ok(&["list", "--json"]),
        t.ok(&["show", id]),
        t.ok(&["show", id, "--json"]),
        t.ok(&["update", id, "--name", "n"]),
        t.ok(&["disable", id]),
        t.ok(&["enable", id, "--json"]),
        // A token where an id is wanted, or one that exists already, is in no message either.
        t.fails(1, &["show", custom]),
        t.fails(1, &["delete", text(&drawn, "token")]),
        t.fails(1, &["create", "--name", "twice", "--token", custom]),
        t.fails(1, &["create", "--name", "short", "--token", "canary-6f1"]),
        t.fails(1, &["create", "--name", "odd", "--token", "canary-6f1d/CUSTOM"]),
        t.fails(1, &["create", "--name", "dashes", "--token", "--canary-6f1 CUSTOM"]),
        t.ok(&["delete", id]),
    ];
    let files: Vec<_> = std::fs::read_dir(t.dir.path())
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(files.len() >= 2, "the store was looked at");
    let canaries = [custom, "canary-6f1", from_pipe, text(&drawn, "token"), human_token];
    for canary in canaries {
        for output in &outputs {
            assert!(!output.contains(canary), "a plain token shows in: {output}");
        }
        for file in &files {
            let found = file.windows(canary.len()).any(|window| window == canary.as_bytes());
            assert!(!found, "a plain token is in a file");
        }
    }
}

#[test]
fn people_get_an_aligned_table() {
    let t = Setup::new();
    assert!(t.ok(&["list"]).contains("keygate token create"), "an empty list says what to do");
    t.create(&["--name", "a", "--policy", "browser"]);
    t.create(&["--name", "a much longer name", "--model", "m", "--ttl", "30d"]);
    let list = t.ok(&["list"]);
    let lines: Vec<_> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    let column = |line: &str, word: &str| {
        let byte = line.find(word).unwrap_or_else(|| panic!("no {word} in {line}"));
        line[..byte].chars().count()
    };
    let status = column(lines[0], "STATUS");
    assert_eq!([column(lines[1], "active"), column(lines[2], "active")], [status; 2], "{list}");
    assert!(lines[1].contains("policy browser") && lines[2].contains("its own"), "{list}");
}

#[test]
fn what_cannot_be_read_is_shown_as_such_and_can_be_deleted() {
    let t = Setup::new();
    let [good, digest, grant, expiry] = ["good", "digest", "grant", "expiry"]
        .map(|name| text(&t.create(&["--name", name]), "id").to_owned());
    rusqlite::Connection::open(t.database())
        .unwrap()
        .execute_batch(
            "UPDATE tokens SET sha256 = x'00' WHERE name = 'digest';
             UPDATE tokens SET grant_json = '{' WHERE name = 'grant';
             UPDATE tokens SET expires_at = 'soon' WHERE name = 'expiry';",
        )
        .unwrap();
    let output = t.run(&["list", "--json"]);
    assert!(String::from_utf8_lossy(&output.stderr).contains(&digest), "the unreadable is named");
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let states: Vec<_> =
        list.as_array().unwrap().iter().map(|t| (text(t, "id"), text(t, "status"))).collect();
    let expected = [(&good, "active"), (&grant, "unreadable"), (&expiry, "expired")];
    assert_eq!(states, expected.map(|(id, status)| (id.as_str(), status)));
    assert_eq!(list[1]["grant"], "{", "never null, which would mean unrestricted");
    t.ok(&["delete", &digest]);
    assert!(!t.ids().contains(&digest));
}

#[test]
fn concurrent_commands_on_a_new_store_all_succeed() {
    let t = Setup::new();
    let children: Vec<Child> = (0..12)
        .map(|i| {
            t.command(&["create", "--json", "--name", &format!("c{i}")])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut made = HashSet::new();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let value: Value = serde_json::from_slice(&output.stdout).unwrap();
        made.insert(text(&value, "id").to_owned());
    }
    assert_eq!(t.ids(), made, "each is there, and nothing else");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&t.database()), 0o600);
}

#[test]
fn a_killed_command_has_done_all_it_said_or_nothing() {
    let t = Setup::new();
    let begun = Instant::now();
    t.create(&["--name", "first"]);
    let usual = begun.elapsed();
    let (mut acknowledged, mut silent) = (HashSet::new(), 0_u32);
    for i in 0..24_u32 {
        let mut child = t
            .command(&["create", "--json", "--name", "killed"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Kills spread over the usual run time and a little beyond.
        std::thread::sleep(usual * i / 16);
        child.kill().unwrap();
        let mut said = String::new();
        child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        child.wait().unwrap();
        match serde_json::from_str::<Value>(&said) {
            Ok(made) => assert!(acknowledged.insert(text(&made, "id").to_owned())),
            Err(_) => silent += 1,
        }
    }
    let begun = Instant::now();
    let stored = t.ids();
    assert!(begun.elapsed() < Duration::from_secs(2), "opens in {:?}", begun.elapsed());
    assert!(acknowledged.is_subset(&stored), "every acknowledged create is there");
    assert!(silent > 0, "the first kill comes before any answer");
    let check: String = rusqlite::Connection::open(t.database())
        .unwrap()
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
}
