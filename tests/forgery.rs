//! Forged and malformed signed tokens through the gate, in our name and in another issuer's: each
//! gets the same 401, byte for byte, and makes nobody fetch anything.

use crate::support::canary;
use crate::support::client::Request;
use crate::support::gateway::{NEW_YEAR_MS, Setup};
use crate::support::upstream::{Answer, Upstream};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keygate::config::client::Algorithm;
use keygate::token::jwks::{self, Keys};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
access_log: { file: $DIR/access.log }
store: { sqlite: $DIR/keygate.db }
limits: { failed_auth: { requests: 100000, per: 60s } }
client_tokens: { signing: RS256 }
providers:
  openai: { kind: openai, url: $UPSTREAM, keys: [{ file: $KEY(openai) }] }
tokens:
  - { name: server, sha256: $SHA(server), may_mint: true }
issuers:
  - { issuer: 'https://auth.test/', audience: keygate, jwks: { url: '$ISSUER/jwks' } }
";

const NOW: u64 = NEW_YEAR_MS / 1_000;

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn message(header: &Value, claims: &Value) -> String {
    format!("{}.{}", encoded(header), encoded(claims))
}

/// One in whose name tokens are forged: what a good one looks like, and the keys that sign it.
struct Signer<'a> {
    keys: &'a Keys,
    header: Value,
    claims: Value,
}

impl Signer<'_> {
    fn sign(&self, header: &Value, claims: &Value) -> String {
        self.keys.sign(NEW_YEAR_MS, |_, _| message(header, claims)).expect("a key signs")
    }

    fn good(&self) -> String {
        self.sign(&self.header, &self.claims)
    }

    fn with_header(&self, name: &str, value: &Value) -> String {
        let mut header = self.header.clone();
        header[name] = value.clone();
        self.sign(&header, &self.claims)
    }

    fn with_claim(&self, name: &str, value: &Value) -> String {
        let mut claims = self.claims.clone();
        claims[name] = value.clone();
        self.sign(&self.header, &claims)
    }

    fn without(&self, name: &str) -> String {
        let mut claims = self.claims.clone();
        claims.as_object_mut().expect("an object").remove(name);
        self.sign(&self.header, &claims)
    }

    /// By what is wrong with them. `elsewhere` is a server that must not be asked.
    fn forged(&self, elsewhere: &str) -> Vec<(String, String)> {
        let mut all = Vec::new();
        self.unsigned(&mut all);
        self.symmetric(&mut all);
        self.by_header(elsewhere, &mut all);
        self.by_claims(&mut all);
        all
    }

    /// `none` in any case, with a signature, another one, or none.
    fn unsigned(&self, all: &mut Vec<(String, String)>) {
        for alg in ["none", "None", "NONE", "nOnE", "", "null"] {
            let mut header = self.header.clone();
            header["alg"] = json!(alg);
            let text = message(&header, &self.claims);
            all.push((format!("alg {alg:?}, unsigned"), format!("{text}.")));
            all.push((format!("alg {alg:?}, a byte"), format!("{text}.AA")));
            all.push((format!("alg {alg:?}, signed"), self.sign(&header, &self.claims)));
        }
    }

    /// What is public of the key, taken for a secret.
    fn symmetric(&self, all: &mut Vec<(String, String)>) {
        let set: Value = serde_json::from_str(&self.keys.document().body).expect("a set");
        let modulus = set["keys"][0]["n"].as_str().expect("an RSA key").to_owned();
        let raw = URL_SAFE_NO_PAD.decode(&modulus).expect("base64url");
        let secrets = [
            self.keys.document().body.as_bytes().to_vec(),
            set["keys"][0].to_string().into_bytes(),
            modulus.into_bytes(),
            raw,
            Vec::new(),
        ];
        let hs = [
            ("HS256", jsonwebtoken::Algorithm::HS256),
            ("HS384", jsonwebtoken::Algorithm::HS384),
            ("HS512", jsonwebtoken::Algorithm::HS512),
        ];
        for (number, secret) in secrets.iter().enumerate() {
            for (alg, algorithm) in hs {
                let mut header = self.header.clone();
                header["alg"] = json!(alg);
                let text = message(&header, &self.claims);
                let key = jsonwebtoken::EncodingKey::from_secret(secret);
                let signature = jsonwebtoken::crypto::sign(text.as_bytes(), &key, algorithm);
                let signature = signature.expect("any secret signs");
                all.push((
                    format!("{alg} by public bytes {number}"),
                    format!("{text}.{signature}"),
                ));
            }
        }
    }

    fn by_header(&self, elsewhere: &str, all: &mut Vec<(String, String)>) {
        for alg in ["ES256", "EdDSA", "RS384", "PS256", "rs256"] {
            all.push((format!("alg {alg}"), self.with_header("alg", &json!(alg))));
        }
        let long = "k".repeat(4_000);
        for (name, value) in [
            ("crit", json!(["b64"])),
            ("crit", json!(["exp"])),
            ("crit", json!(["x-unknown"])),
            ("crit", json!([])),
            ("jku", json!(format!("{elsewhere}/jwks"))),
            ("x5u", json!(format!("{elsewhere}/cert"))),
            ("x5c", json!(["AA=="])),
            ("b64", json!(false)),
            ("kid", json!(format!("{elsewhere}/key"))),
            ("kid", json!("../../../../etc/passwd")),
            ("kid", json!("/dev/null")),
            ("kid", json!("' UNION SELECT 'x' --")),
            ("kid", json!("\u{0}")),
            ("kid", json!("")),
            ("kid", json!(long)),
            ("kid", json!(7)),
            ("kid", json!({"a": 1})),
        ] {
            all.push((format!("{name}: {value:.60}"), self.with_header(name, &value)));
        }
        // A stranger's key, which the token itself brings along, or points to.
        let record = jwks::generate(Algorithm::Rs256, 0, 0).expect("a key");
        let stranger = Keys::new();
        stranger.replace(std::slice::from_ref(&record));
        let set: Value = serde_json::from_str(&stranger.document().body).expect("a set");
        let brought = [
            ("jwk", set["keys"][0].clone()),
            ("jku", json!(format!("{elsewhere}/jwks"))),
            ("kid", json!(record.kid)),
            ("typ", json!("JWT")),
        ];
        for (name, value) in brought {
            let mut header = self.header.clone();
            header[name] = value;
            let text = stranger.sign(1, |_, _| message(&header, &self.claims)).expect("signed");
            all.push((format!("a stranger's key, {name}"), text));
        }
    }

    fn by_claims(&self, all: &mut Vec<(String, String)>) {
        for name in ["iss", "aud", "sub", "exp"] {
            all.push((format!("no {name}"), self.without(name)));
            all.push((format!("{name}: null"), self.with_claim(name, &Value::Null)));
        }
        for (name, value) in [
            ("exp", json!((NOW + 60).to_string())),
            ("exp", json!("2099-01-01T00:00:00Z")),
            ("exp", json!([NOW + 60])),
            ("exp", json!(true)),
            ("exp", json!(-1)),
            ("exp", json!(1e300)),
            ("nbf", json!(NOW + 31)),
            ("nbf", json!("0")),
            ("iat", json!(NOW + 3_600)),
            ("iss", json!("https://elsewhere.test/")),
            ("iss", json!(["keygate"])),
            ("aud", json!("elsewhere")),
            ("aud", json!(["elsewhere"])),
            ("aud", json!([])),
            ("models", json!([])),
            ("origins", json!(["*"])),
            ("paths", Value::Null),
        ] {
            all.push((format!("{name}: {value}"), self.with_claim(name, &value)));
        }
    }
}

fn ask(setup: &Setup, token: &str) -> Request {
    setup.request("GET", "/v1/models").bearer(token)
}

#[tokio::test]
async fn every_forgery_gets_the_same_answer_and_makes_nobody_fetch() {
    let theirs = jwks::generate(Algorithm::Rs256, 0, 0).expect("a key");
    let foreign = Keys::new();
    foreign.replace(std::slice::from_ref(&theirs));
    let (issuer, elsewhere) = (Upstream::start().await, Upstream::start().await);
    issuer.answer(Answer::json(200, &*foreign.document().body));
    let setup = Setup::with(&CONFIG.replace("$ISSUER", &issuer.url())).await;
    issuer.wait_for(1).await;

    let set: Value = setup.request("GET", "/.well-known/jwks.json").send().await.json();
    let own = Signer {
        keys: &setup.running().gateway().clients.keys,
        header: json!({ "alg": "RS256", "typ": "JWT", "kid": set["keys"][0]["kid"] }),
        claims: json!({ "iss": "keygate", "aud": "keygate", "sub": "server", "jti": "ctk_forged",
            "iat": NOW, "nbf": NOW, "exp": NOW + 60 }),
    };
    let other = Signer {
        keys: &foreign,
        header: json!({ "alg": "RS256", "typ": "JWT", "kid": theirs.kid }),
        claims: json!({ "iss": "https://auth.test/", "aud": "keygate", "sub": "alice",
            "iat": NOW, "exp": NOW + 60 }),
    };
    let unknown = ask(&setup, "ptk_nobody_has_this_token").send().await;
    unknown.assert_denied(401, "token_invalid");
    for signer in [&own, &other] {
        let good = signer.good();
        canary::adopt_token(&good);
        let begun = Instant::now();
        while ask(&setup, &good).send().await.status != 200 {
            assert!(begun.elapsed() < Duration::from_secs(10), "what is forged is good otherwise");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let reached = setup.upstream.received().len();
        let forged = signer.forged(&elsewhere.url());
        assert!(forged.len() > 60, "all of them: {}", forged.len());
        for (what, token) in forged {
            let denied = ask(&setup, &token).send().await;
            let name = &signer.claims["iss"];
            assert_eq!(denied.status, 401, "{name}, {what}: {}", denied.text());
            assert_eq!(denied.header("x-keygate-error"), Some("token_invalid"), "{name}, {what}");
            assert_eq!(denied.body, unknown.body, "{name}, {what}: it tells nothing");
        }
        assert_eq!(setup.upstream.received().len(), reached, "no key may leave on a denial");
    }
    assert!(elsewhere.connections().is_empty(), "nothing that a token names is fetched");
    assert_eq!(issuer.received().len(), 1, "nor the set again, before the cooldown is over");
    setup.clock.advance(30_001);
    issuer.wait_for(2).await;
    // Half a minute later what was too early is not any more; no name of a key became known.
    let forged = other.forged(&elsewhere.url());
    let named = forged.iter().filter(|(what, _)| what.starts_with("kid"));
    assert!(named.clone().count() > 5, "there are some");
    for (_, token) in named {
        ask(&setup, token).send().await.assert_denied(401, "token_invalid");
    }
    assert_eq!(issuer.received().len(), 2, "and then once, whatever comes");
}
