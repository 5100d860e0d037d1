//! What a signed client token costs beside an opaque one: the first time its signature is
//! verified, from then on it is remembered.

#[path = "timing/mod.rs"]
mod timing;

use keygate::config;
use keygate::token::client::Clients;
use keygate::token::jwt::{self, Audience, Claims};
use keygate::token::{Presented, jwks};
use keygate::values::clock::Clock;
use std::error::Error;
use std::hint::black_box;

fn main() -> Result<(), Box<dyn Error>> {
    let now_ms = Clock::system().wall_ms();
    let config = config::parse("listen: [{ address: 127.0.0.1:0 }]").map_err(|e| e.to_string())?;
    for algorithm in config::client::Algorithm::ALL {
        let clients = Clients::new();
        let key = jwks::generate(algorithm, now_ms, now_ms)?;
        clients.keys.replace(std::slice::from_ref(&key));
        let seconds = now_ms / 1_000;
        let claims = Claims {
            iss: config.client_tokens.issuer.to_string(),
            aud: Audience::One(config.client_tokens.audience.to_string()),
            sub: Some("tok_0123456789abcdef".to_owned()),
            jti: Some("ctk_0123456789abcdef".to_owned()),
            iat: Some(seconds.into()),
            nbf: Some(seconds.into()),
            exp: (seconds + 3_600).into(),
            models: Some(vec!["gpt-4o-mini".to_owned(), "gpt-realtime*".to_owned()]),
            origins: Some(vec!["https://app.example.com".to_owned()]),
            providers: None,
            paths: None,
            methods: None,
            inference: None,
            allow_missing_origin: None,
            uses: None,
            constraints: None,
            end_at_expiry: None,
            metadata: None,
        };
        let token = jwt::sign(&clients, &claims, now_ms).ok_or("no key signs")?;
        let find = || {
            let presented = Presented::of(black_box(token.as_bytes()));
            clients.find(&presented, &config, now_ms).map(drop).ok_or("the token is good")
        };
        let first = timing::median_ns(1, || {
            clients.forget_verified();
            find()
        })?;
        let again = timing::median_ns(16, || (0..16).try_for_each(|_| find()))?;
        // What nothing here can make cheaper.
        let (message, signature) = token.rsplit_once('.').ok_or("no signature")?;
        let signature = timing::median_ns(1, || {
            let good = clients.keys.verifies(&key.kid, algorithm, black_box(message), signature);
            good.then_some(()).ok_or("the signature is good")
        })?;
        let [first, again, signature] = [first, again, signature].map(|ns| ns / 1e3);
        let name = algorithm.as_str();
        timing::report(format_args!(
            "{name}: first verification {first:.2} us ({signature:.2} of it the signature alone), \
             remembered {again:.2} us"
        ))?;
    }
    Ok(())
}
