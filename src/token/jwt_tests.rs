//! What a signed token must not get away with: every line has a token that was good before one
//! thing of it changed.

use super::*;
use crate::config;
use crate::token::client::Clients;
use crate::token::{Above, Presented, jwks};
use crate::values::timestamp::Expiry;
use serde_json::json;

const NOW: u64 = 1_767_225_600_000;
const NOW_S: u64 = NOW / 1_000;

struct World {
    config: Config,
    clients: Clients,
    kid: String,
    /// Another issuer's keys, known under its `iss`.
    foreign: jwks::Keys,
    foreign_kid: String,
}

fn world() -> World {
    let yaml = "listen: [{ address: 127.0.0.1:0 }]
client_tokens: { issuer: us, audience: here }
policies: { p: { concurrency: 1 } }
issuers:
  - { issuer: them, audience: keygate, jwks: { file: /x }, policy: p, algorithms: [EdDSA] }
  - { issuer: others, audience: keygate, jwks: { file: /y } }";
    let config = config::parse(yaml).unwrap();
    let clients = Clients::new();
    let own = jwks::generate(Algorithm::EdDsa, NOW, NOW).unwrap();
    clients.keys.replace(std::slice::from_ref(&own));
    clients.issuers.replace(&config.issuers);
    let theirs = jwks::generate(Algorithm::EdDsa, NOW, NOW).unwrap();
    let foreign = jwks::Keys::new();
    foreign.replace(std::slice::from_ref(&theirs));
    for source in clients.issuers.due(0) {
        if &*source.issuer == "them" {
            source.take(foreign.document().body.as_bytes()).unwrap();
        }
    }
    World { config, clients, kid: own.kid, foreign, foreign_kid: theirs.kid }
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn signed(keys: &jwks::Keys, header: &Value, claims: &Value) -> String {
    keys.sign(NOW, |_, _| format!("{}.{}", encoded(header), encoded(claims))).unwrap()
}

impl World {
    fn header(&self) -> Value {
        json!({ "alg": "EdDSA", "typ": "JWT", "kid": self.kid })
    }

    fn claims() -> Value {
        json!({ "iss": "us", "aud": "here", "sub": "tok_1", "jti": "ctk_1", "iat": NOW_S,
            "nbf": NOW_S, "exp": NOW_S + 60 })
    }

    fn their_header(&self) -> Value {
        json!({ "alg": "EdDSA", "kid": self.foreign_kid })
    }

    fn their_claims() -> Value {
        json!({ "iss": "them", "aud": ["x", "keygate"], "sub": "alice", "exp": NOW_S + 60 })
    }

    fn find_at(&self, text: &str, now_ms: u64) -> Option<std::sync::Arc<crate::token::Token>> {
        self.clients.find(&Presented::of(text.as_bytes()), &self.config, now_ms)
    }

    fn accepts(&self, text: &str) -> bool {
        self.find_at(text, NOW).is_some_and(|token| !token.expires_at.is_over(NOW))
    }

    fn ours(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.header(), Self::claims());
        change(&mut header, &mut claims);
        signed(&self.clients.keys, &header, &claims)
    }

    fn theirs(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut claims) = (self.their_header(), Self::their_claims());
        change(&mut header, &mut claims);
        signed(&self.foreign, &header, &claims)
    }
}

#[test]
fn what_is_good_is_accepted_and_remembered() {
    let world = world();
    let ours = world.ours(|_, _| ());
    let token = world.find_at(&ours, NOW).unwrap();
    assert_eq!((&*token.id, token.expires_at), ("ctk_1", Expiry::At(NOW + 60_000)));
    let again = world.find_at(&ours, NOW).unwrap();
    assert!(std::sync::Arc::ptr_eq(&token, &again), "the second time it is remembered");
    world.clients.forget_verified();
    assert!(!std::sync::Arc::ptr_eq(&token, &world.find_at(&ours, NOW).unwrap()));
    let theirs = world.find_at(&world.theirs(|_, _| ()), NOW).unwrap();
    assert_eq!(&*theirs.id, "them#alice", "issuer and subject, never `jti`");
    assert_eq!(theirs.client.as_ref().unwrap().above, Above::Issuer("them".into()));
}

#[test]
fn two_tokens_of_one_subject_are_counted_together() {
    let world = world();
    let first = world.find_at(&world.theirs(|_, c| c["jti"] = json!("1")), NOW).unwrap();
    let second = world.find_at(&world.theirs(|_, c| c["jti"] = json!("2")), NOW).unwrap();
    assert!(std::sync::Arc::ptr_eq(&first.counters, &second.counters));
}

#[test]
fn headers_that_change_how_a_token_is_read_are_refused() {
    let world = world();
    for alg in ["none", "None", "NONE", "nOnE", "", "HS256", "RS256", "ES256", "eddsa", "Ed25519"] {
        let text = world.ours(|h, _| h["alg"] = json!(alg));
        assert!(!world.accepts(&text), "alg {alg:?}");
        let unsigned = text.rsplit_once('.').unwrap().0.to_owned() + ".";
        assert!(!world.accepts(&unsigned), "alg {alg:?} without a signature");
    }
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("crit", json!(null)),
        ("jwk", json!({"kty": "OKP"})),
        ("jku", json!("http://127.0.0.1/x")),
        ("x5u", json!("http://127.0.0.1/x")),
        ("x5c", json!(["AA"])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A128GCM")),
        ("typ", json!("at+jwt")),
        ("typ", json!(null)),
        ("kid", json!(null)),
        ("kid", json!(7)),
        ("kid", json!("../../etc/passwd")),
        ("kid", json!("' OR 1=1 --")),
        ("kid", json!("http://127.0.0.1/")),
        ("kid", json!("")),
        ("kid", json!(world.foreign_kid)),
        ("alg", json!(["EdDSA"])),
    ] {
        assert!(!world.accepts(&world.ours(|h, _| h[name] = value.clone())), "{name}: {value}");
    }
    for name in ["alg", "typ", "kid"] {
        let without = world.ours(|h, _| drop(h.as_object_mut().unwrap().remove(name)));
        assert!(!world.accepts(&without), "without {name}");
    }
}

#[test]
fn a_public_key_is_no_secret_to_sign_with() {
    let world = world();
    let header = json!({ "alg": "HS256", "typ": "JWT", "kid": world.kid });
    let public = world.clients.keys.document().body;
    let secret = jsonwebtoken::EncodingKey::from_secret(public.as_bytes());
    let message = format!("{}.{}", encoded(&header), encoded(&World::claims()));
    let hs = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &secret, hs).unwrap();
    assert!(!world.accepts(&format!("{message}.{signature}")));
}

#[test]
fn claims_that_are_missing_or_of_the_wrong_type_are_refused() {
    let world = world();
    for name in ["iss", "aud", "sub", "jti", "iat", "nbf", "exp"] {
        let without = world.ours(|_, c| drop(c.as_object_mut().unwrap().remove(name)));
        assert!(!world.accepts(&without), "without {name}");
        let null = world.ours(|_, c| c[name] = json!(null));
        assert!(!world.accepts(&null), "{name}: null");
    }
    for (name, value) in [
        ("exp", json!("1999999999")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", json!([NOW_S + 60])),
        ("exp", json!(true)),
        ("nbf", json!("0")),
        ("nbf", json!(NOW_S + 31)),
        ("iat", json!(NOW_S + 31)),
        ("iss", json!("US")),
        ("iss", json!(["us"])),
        ("iss", json!("nobody")),
        ("aud", json!("elsewhere")),
        ("aud", json!([])),
        ("aud", json!(["elsewhere"])),
        ("aud", json!({"here": 1})),
        ("sub", json!("")),
        ("jti", json!(1)),
        ("models", json!(null)),
        ("models", json!([])),
        ("models", json!("gpt")),
        ("models", json!([1])),
        ("origins", json!([])),
        ("origins", json!(["*"])),
        ("origins", json!(null)),
        ("providers", json!(null)),
        ("paths", json!(["v1"])),
        ("methods", json!(["BREW"])),
        ("uses", json!(null)),
        ("uses", json!("1")),
        ("inference", json!("no")),
        ("constraints", json!({"realtime": {"maxSessionDuration": "10"}})),
        ("constraints", json!({"realtime": {"other": 1}})),
        ("constraints", json!({"realtime": {"maxSessionDuration": 0}})),
    ] {
        assert!(!world.accepts(&world.ours(|_, c| c[name] = value.clone())), "{name}: {value}");
    }
}

#[test]
fn ours_ends_on_the_second_and_others_half_a_minute_later() {
    let world = world();
    let over = |text: &str, at: u64| world.find_at(text, at).unwrap().expires_at.is_over(at);
    let ours = world.ours(|_, _| ());
    assert!(!over(&ours, NOW + 59_999) && over(&ours, NOW + 60_000), "no leeway on our own");
    let theirs = world.theirs(|_, _| ());
    assert!(!over(&theirs, NOW + 89_999) && over(&theirs, NOW + 90_000), "30 s on others'");
    assert!(world.accepts(&world.ours(|_, c| c["nbf"] = json!(NOW_S + 30))), "30 s on nbf");
}

#[test]
fn a_signature_is_over_every_byte_and_one_issuers_key_verifies_its_own_tokens_only() {
    let world = world();
    let good = world.ours(|_, _| ());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let wider = world.ours(|_, c| c["exp"] = json!(NOW_S + 600));
    let (wide, _) = wider.rsplit_once('.').unwrap();
    for bad in [
        format!("{wide}.{signature}"),
        format!("{message}."),
        format!("{message}.{signature}A"),
        format!("{message}.{}", &signature[..signature.len() - 2]),
        format!("{message}.{signature}="),
        format!("{message}.{}", "A".repeat(86)),
        format!("{good}.x"),
        format!(" {good}"),
        good.replace('.', ".."),
    ] {
        assert!(!world.accepts(&bad), "{bad}");
    }
    let as_us = signed(&world.foreign, &world.their_header(), &World::claims());
    assert!(!world.accepts(&as_us), "their key, our name");
    let as_them = signed(&world.clients.keys, &world.header(), &World::their_claims());
    assert!(!world.accepts(&as_them), "our key, their name");
    let as_others = world.theirs(|_, c| c["iss"] = json!("others"));
    assert!(!world.accepts(&as_others), "their key, another's name");
    for (name, value) in [("aud", json!("here")), ("sub", json!("")), ("uses", json!(1))] {
        assert!(!world.accepts(&world.theirs(|_, c| c[name] = value.clone())), "{name}");
    }
    assert!(world.accepts(&world.theirs(|h, _| drop(h.as_object_mut().unwrap().remove("kid")))));
}

#[test]
fn a_claim_that_is_there_twice_is_refused() {
    let world = world();
    let claims = World::claims().to_string().replace("\"exp\"", "\"exp\":9999999999,\"exp\"");
    let text = world.clients.keys.sign(NOW, |_, _| {
        format!("{}.{}", encoded(&world.header()), URL_SAFE_NO_PAD.encode(claims))
    });
    assert!(!world.accepts(&text.unwrap()));
}

#[test]
fn what_is_no_signed_token_is_never_read_as_one() {
    for text in ["ptk_abc", "eyJ", "eyJ.b", "eyJa.b.c.d", "a.b.c", ""] {
        assert!(looks_signed(text.as_bytes()).is_none(), "{text:?}");
    }
    assert!(looks_signed(format!("eyJ.{}.c", "x".repeat(8 << 10)).as_bytes()).is_none());
    assert!(looks_signed(b"eyJhbGciOi.e30.c").is_some());
}
