//! Configuration files: what is accepted, and the exact words in which the rest is refused.
//!
//! Each file in `config/invalid` begins with `# expect: LINE` comments, one per problem.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use keygate::config::secret_ref::SecretRef;
use keygate::config::{self, Config, Kind, ModelChoice, Problems, SlotChoice, review};
use keygate::values::secret::Secret;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Stands in for a literal key or token in fixtures; no message may contain it.
const CANARY: &str = "CANARY";

/// A certificate of this test's own, and its key, in PEM form.
static PAIR: std::sync::LazyLock<(String, String)> = std::sync::LazyLock::new(|| {
    let issued = rcgen::generate_simple_self_signed(vec!["gate.test".into()]).unwrap();
    (issued.cert.pem(), issued.signing_key.serialize_pem())
});

/// Every reference leads to a secret but those with a telling name.
fn source(reference: &SecretRef) -> Result<Secret, String> {
    match reference.name() {
        "MISSING" => Err("the environment variable MISSING is not set".to_owned()),
        "EMPTY" => Ok(Secret::new("")),
        "cert.pem" => Ok(Secret::new(PAIR.0.as_str())),
        "key.pem" => Ok(Secret::new(PAIR.1.as_str())),
        "other-key.pem" => {
            Ok(Secret::new(rcgen::KeyPair::generate().unwrap().serialize_pem().as_str()))
        }
        "BLANK" => Ok(Secret::new("sk-CANARY with blanks")),
        name => Ok(Secret::new(format!("secret-of-{name}"))),
    }
}

fn parse(text: &str) -> Result<Config, Problems> {
    config::parse_with(text, &source)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

fn fixtures(directory: &str) -> Vec<(String, String)> {
    let mut found: Vec<_> = std::fs::read_dir(root().join("tests/config").join(directory))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&path)))
        .collect();
    found.sort();
    found
}

#[test]
fn every_invalid_file_is_refused_in_exactly_the_words_it_expects() {
    let fixtures = fixtures("invalid");
    assert!(fixtures.len() >= 30, "only {} invalid files were found", fixtures.len());
    let mut wrong = String::new();
    for (name, text) in &fixtures {
        let expected: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("# expect: ")).collect();
        let found = match parse(text) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
        };
        assert!(!found.concat().contains(CANARY), "{name}: a value that may be a key is repeated");
        if expected.is_empty() || found != expected {
            write!(wrong, "\n{name}:").unwrap();
            found.iter().for_each(|line| write!(wrong, "\n# expect: {line}").unwrap());
        }
    }
    assert!(wrong.is_empty(), "these say something else than they expect:{wrong}");
}

#[test]
fn every_valid_file_is_accepted() {
    let fixtures = fixtures("valid");
    assert!(fixtures.len() >= 5, "only {} valid files were found", fixtures.len());
    for (name, text) in &fixtures {
        if let Err(problems) = parse(text) {
            panic!("{name} must be accepted:\n{problems}");
        }
    }
}

#[test]
fn the_whole_format_is_read_and_exactly_what_comes_later_is_refused() {
    let problems = parse(&read("tests/config/example.yaml")).unwrap_err().0;
    let paths: Vec<&str> = problems.iter().map(|problem| &*problem.path).collect();
    assert_eq!(
        paths,
        [
            "providers.openai.keys[1]",
            "providers.openai.egress",
            "policies.browser.token_rate",
            "policies.browser.budget",
            "prices",
        ]
    );
    for problem in &problems {
        assert!(problem.message.starts_with("not in effect yet"), "{problem}");
    }
}

/// A provider that is refused anyway must not send its operator looking for a key first.
#[test]
fn what_is_not_in_effect_needs_no_secret() {
    let asked = std::cell::RefCell::new(Vec::new());
    let result = config::parse_with(&read("tests/config/example.yaml"), &|reference| {
        asked.borrow_mut().push(reference.name().to_owned());
        source(reference)
    });
    assert!(result.is_err());
    assert_eq!(
        asked.into_inner(),
        [
            "cert.pem",
            "key.pem",
            "admin-password",
            "OPENAI_API_KEY",
            "anthropic-key",
            "GEMINI_API_KEY",
            "DECART_API_KEY",
            "INTERNAL_KEY"
        ]
    );
}

#[test]
fn the_file_that_is_shipped_is_valid_as_it_stands() {
    let config = parse(&read("conf/keygate.yaml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(!config.providers.is_empty() && !config.policies.is_empty());
}

/// What is to be copied must be good as it stands: accepted, and without anything that `check` warns
/// of, but for what the file's own text says about plain HTTP and the admin listener in a network.
#[test]
fn every_example_is_accepted_and_leaves_open_only_what_it_says() {
    let examples = fixtures("../../conf/examples");
    let names: Vec<&str> = examples.iter().map(|(name, _)| name.as_str()).collect();
    let tasks = ["browser-app", "ci", "load-balancer", "model-server", "streams", "voice-app"];
    for name in tasks.map(|task| format!("{task}.yaml")) {
        assert!(names.contains(&&*name), "{name} is missing: {names:?}");
    }
    let readme = read("docs/configuration.md");
    for (name, text) in &examples {
        let config = parse(text).unwrap_or_else(|problems| panic!("{name}:\n{problems}"));
        let review = review::review(&config);
        let odd: Vec<_> = review.iter().filter(|l| l.starts_with("warning: ")).collect();
        let said = ["speaks plain HTTP", "is no loopback address: whoever reaches it may read"];
        let told = |line: &&&String| said.iter().any(|words| line.contains(words));
        assert_eq!(odd.iter().filter(told).count(), odd.len(), "{name}: {odd:#?}");
        for policy in
            review.iter().filter(|l| l.starts_with("policies.") || l.starts_with("default"))
        {
            for open in ["any model", "any path (", "no rate limit", "no limit of concurrency"] {
                assert!(!policy.contains(open), "{name} leaves too much open: {policy}");
            }
        }
        assert!(text.contains("keygate check"), "{name} says how to begin");
        assert!(
            readme.contains(&format!("conf/examples/{name}")),
            "the documentation names {name}"
        );
    }
}

/// Uncommenting a section must lead to "not in effect yet", not to a complaint about its shape.
#[test]
fn what_is_commented_out_in_the_shipped_file_is_the_format_of_what_comes_later() {
    let is_setting = |line: &str| {
        let line = line.trim_start();
        line.starts_with('#') && !line.starts_with("# ") && line != "#"
    };
    let text: String = read("conf/keygate.yaml")
        .lines()
        .map(|line| match is_setting(line) {
            true => format!("{}\n", line.replacen('#', "", 1)),
            false => format!("{line}\n"),
        })
        .collect();
    let problems = parse(&text).unwrap_err().0;
    assert!(problems.len() >= 6, "sections were found: {problems:?}");
    for problem in problems {
        assert!(problem.message.starts_with("not in effect yet"), "{problem}");
    }
}

#[test]
fn what_is_left_out_has_the_documented_defaults() {
    let config = parse("listen: [{ address: 127.0.0.1:0 }]").unwrap();
    let limits = &config.limits;
    assert_eq!(limits.max_body, 32 << 20);
    assert_eq!(limits.max_ws_message, 16 << 20);
    assert_eq!(limits.max_upload, 2 << 30);
    assert_eq!(limits.connections_per_address, 1000);
    assert_eq!((limits.failed_auth.requests, limits.failed_auth.per.as_secs()), (20, 60));
    let times = [
        (limits.header_timeout, 10),
        (limits.idle_timeout, 75),
        (limits.upstream_connect_timeout, 5),
        (limits.upstream_first_byte_timeout, 600),
        (limits.stream_idle_timeout, 600),
        (limits.drain, 30),
        (config.cors.max_age, 86_400),
    ];
    for (index, (time, seconds)) in times.into_iter().enumerate() {
        assert_eq!(time, Duration::from_secs(seconds), "time {index}");
    }
    assert_eq!(config.cors.allow_origins, None, "any origin");
    assert_eq!(config.access_log, config::AccessLog::Stdout);
    assert!(config.store.is_none() && config.admin.is_none() && config.server_names.is_none());
    assert!(config.default_policy.is_none() && config.tokens.is_empty());
}

#[test]
fn what_is_written_is_what_it_means() {
    let config = parse(&read("tests/config/valid/everything.yaml")).unwrap();
    assert_eq!(config.public_url.as_deref(), Some("https://gateway.example.com"));
    let names: Vec<&str> = config.server_names.iter().flatten().map(|n| &**n).collect();
    assert_eq!(names, ["gateway.example.com", "xn--bcher-kva.example", "[::1]"]);
    let networks: Vec<String> = config.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(networks, ["10.0.0.0/8", "192.0.2.7/32"], "host bits do not count");
    assert_eq!(config.limits.max_body, 1 << 20);
    assert_eq!(config.limits.idle_timeout, Duration::from_millis(1500));
    let password = config.admin.as_ref().and_then(|admin| admin.password.as_ref()).unwrap();
    assert_eq!(password.expose(), "secret-of-admin-password");

    let names: Vec<&str> = config.providers.iter().map(|p| &*p.name).collect();
    assert_eq!(names, ["openai", "azure", "claude", "gemini", "internal"], "the file's order");
    let [openai, azure, .., internal] = &config.providers[..] else { panic!("five providers") };
    assert_eq!((openai.kind, &*openai.keys[0].name), (Kind::OpenAi, "OPENAI_API_KEY"));
    assert_eq!(openai.keys[0].secret.expose(), "secret-of-OPENAI_API_KEY");
    assert!(openai.routes.is_none() && !openai.forward_origin);
    assert_eq!(&*azure.keys[0].name, "azure.key", "a file's key has its last component's name");
    assert_eq!(azure.routes.as_deref(), Some(&[][..]), "routes: [] is not the same as none");
    assert!(azure.forward_billing_headers && azure.forward_origin);
    assert_eq!((&*azure.url.host, &*azure.url.path), ("azure.example.com", "/openai"));
    assert_eq!(internal.slot, SlotChoice::Header("x-internal-key".parse().unwrap()));
    assert_eq!(internal.query_slots.as_deref(), Some(&["key".into()][..]));
    let model = ModelChoice::Path { before: "/models/".into(), after: ":run".into() };
    assert_eq!(internal.model, model);

    let browser = &config.policies["browser"];
    assert_eq!(browser.origins.as_ref().unwrap()[0].as_str(), "https://app.example.com");
    assert!(browser.allow_missing_origin);
    assert_eq!(browser.rate_limit.unwrap().requests, 20);
    assert_eq!(config.tokens.len(), 2);
    assert!(config.tokens[1].disabled && config.tokens[1].policy.is_none());
}

#[test]
fn a_vendors_url_may_be_left_out_and_another_one_counts() {
    let config = parse(
        "listen: [{ address: 127.0.0.1:0 }]
providers:
  openai: { kind: openai, keys: [{ env: A }] }
  anthropic: { kind: anthropic, keys: [{ env: A }] }
  gemini: { kind: gemini, keys: [{ env: A }] }
  decart: { kind: decart, keys: [{ env: A }] }
  other: { kind: decart, url: 'http://127.0.0.1:1/base', keys: [{ env: A }] }",
    )
    .unwrap_or_else(|problems| panic!("{problems}"));
    let urls: Vec<_> = config.providers.iter().map(|p| (p.url.tls, &*p.url.authority)).collect();
    assert_eq!(
        urls,
        [
            (true, "api.openai.com"),
            (true, "api.anthropic.com"),
            (true, "generativelanguage.googleapis.com"),
            (true, "api.decart.ai"),
            (false, "127.0.0.1:1"),
        ]
    );
    assert_eq!(config.providers[3].kind, Kind::Decart);
    assert!(
        config.providers[3].routes.is_none(),
        "two of the kind get along: neither has bare paths"
    );
}

/// Valid files say in `# review: LINE` comments what `check` tells about them.
#[test]
fn the_review_says_what_is_left_open() {
    let mut reviewed = 0;
    for (name, text) in fixtures("valid") {
        let expected: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# review: ")).collect();
        if !expected.is_empty() {
            assert_eq!(review::review(&parse(&text).unwrap()), expected, "{name}");
            reviewed += 1;
        }
    }
    assert!(reviewed >= 2, "only {reviewed} files have a review");
}

#[test]
fn a_configuration_that_is_closed_gets_no_warning() {
    let lines = review::review(&parse(&read("tests/config/valid/closed.yaml")).unwrap());
    assert_eq!(
        lines,
        ["policies.browser: restricted in every way", "default_policy: restricted in every way"]
    );
}

#[test]
fn check_says_ok_or_everything_that_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("openai.key");
    std::fs::write(&key, "sk-CANARY\n").unwrap();
    let check = |text: &str| {
        let file = directory.path().join("keygate.yaml");
        std::fs::write(&file, text).unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_keygate"))
            .args(["check", "-c"])
            .arg(&file)
            .output()
            .unwrap();
        let printed = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!printed.contains(CANARY), "a secret is printed: {printed}");
        (output.status.code(), printed.replace(&*file.to_string_lossy(), "FILE"))
    };

    let (code, printed) = check(&format!(
        "listen: [{{ address: 127.0.0.1:0 }}]\nserver_names: [localhost]\nproviders:\n  \
         openai: {{ kind: openai, url: \"https://api.openai.com\", keys: [{{ file: {} }}] }}\n\
         default_policy: {{ models: [gpt-4o-mini], concurrency: 1 }}\nstore: {{ sqlite: /k.db }}\n",
        key.display()
    ));
    assert_eq!(
        (code, &*printed),
        (
            Some(0),
            "default_policy: any provider, any method, any inference path, any origin, no rate \
             limit\nFILE: ok\n"
        )
    );

    let (code, printed) = check("tokens: [{ name: a, sha256: sk-CANARY, policy: ci }]\n");
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(code, Some(1));
    assert_eq!(lines[0], "keygate: FILE: 3 problems");
    assert!(lines[1].starts_with("listen: ") && lines[2].starts_with("tokens[0].sha256: "));
    assert!(lines[3].starts_with("tokens[0].policy: ") && lines.len() == 4, "{printed}");
}

#[test]
fn ten_thousand_static_tokens_are_read() {
    let mut text = String::from(
        "listen: [{ address: 127.0.0.1:0 }]\npolicies: { ci: { concurrency: 1 } }\ntokens:\n",
    );
    for index in 0..10_000 {
        writeln!(text, "  - {{ name: t{index}, sha256: \"{index:064x}\", policy: ci }}").unwrap();
    }
    let config = parse(&text).unwrap();
    assert_eq!(config.tokens.len(), 10_000);
    assert_eq!(&*config.tokens[9_999].name, "t9999");
}

/// A bad file is explained by reading it again; that must not take longer than a reload may.
#[test]
fn a_mistake_at_the_end_of_ten_thousand_tokens_is_found_with_its_place() {
    let mut text = String::from("listen: [{ address: 127.0.0.1:0 }]\ntokens:\n");
    for index in 0..10_000 {
        writeln!(text, "  - {{ name: t{index}, sha256: \"{index:064x}\" }}").unwrap();
    }
    text.push_str("  - { name: last }\n");
    assert_eq!(
        parse(&text).unwrap_err().to_string(),
        "line 10003 column 5: tokens[10000]: the key sha256 is missing"
    );
}

/// Keys and tokens are pasted into wrong places; whatever is wrong then, they are not repeated.
#[test]
fn no_place_of_the_file_repeats_a_pasted_key() {
    let example = read("tests/config/valid/everything.yaml");
    let mut tried = 0;
    for (number, line) in example.lines().enumerate() {
        let Some((key, _)) = line.split_once(": ") else { continue };
        if line.trim_start().starts_with('#') || !is_secret_place(key) {
            continue;
        }
        for pasted in ["sk-CANARY-1x2y3z", "[sk-CANARY-1x2y3z]", "{ sk-CANARY-1x2y3z: x }", "5"] {
            let mut lines: Vec<&str> = example.lines().collect();
            let wrong = format!("{key}: {pasted}");
            lines[number] = &wrong;
            let problems = parse(&lines.join("\n")).expect_err(&wrong).to_string();
            assert!(!problems.contains("CANARY"), "{wrong}: {problems}");
            tried += 1;
        }
    }
    assert!(tried >= 20, "only {tried} places were tried");
}

fn is_secret_place(key: &str) -> bool {
    let key = key.trim_start().trim_start_matches("- ");
    matches!(key, "keys" | "password" | "sha256" | "url" | "public_url")
}
