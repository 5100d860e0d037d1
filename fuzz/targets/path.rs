//! From the target on the wire to the provider's path: what the front lets pass means one thing,
//! and the tables judge the same thing that the provider will see.
#![no_main]

use http::uri::PathAndQuery;
use http::{Method, Uri};
use keygate::config::{self, Config, Provider};
use keygate::policy::Class;
use keygate::provider::path::Path;
use keygate::provider::route::Table;
use keygate::provider::{BodyPlaces, ModelPlaces, api, minting};
use keygate::proxy::{canonical, segments_may_hold_slashes};
use keygate::values::secret::Secret;
use libfuzzer_sys::{arbitrary, fuzz_target};
use percent_encoding::percent_decode_str;
use std::sync::LazyLock;

const CONFIG: &str = "
listen: [{ address: 127.0.0.1:0 }]
providers:
  openai: { kind: openai, url: https://o.example, keys: [{ env: KEY }] }
  anthropic: { kind: anthropic, url: https://a.example, keys: [{ env: KEY }] }
  gemini: { kind: gemini, url: https://g.example, keys: [{ env: KEY }] }
  decart: { kind: decart, url: https://d.example, keys: [{ env: KEY }] }
  internal:
    kind: generic
    url: https://i.example
    routes: [/tools/]
    model: { path: '/models/{model}' }
    keys: [{ env: KEY }]
";

static WORLD: LazyLock<(Config, Table)> = LazyLock::new(|| {
    let config = config::parse_with(CONFIG, &|_| Ok(Secret::new("sk-not-a-real-key")))
        .expect("the configuration is good");
    let routes = Table::new(&config);
    (config, routes)
});

/// What must never be reached behind any provider, as the vendors' documents spell it.
const MINTING: [&str; 8] = [
    "/v1alpha/auth_tokens",
    "/v1/organizations/api_keys",
    "/v1/realtime/client_secrets",
    "/v1/realtime/sessions",
    "/v1/realtime/transcription_sessions",
    "/v1/realtime/translations/client_secrets",
    "/v1/chatkit/sessions",
    "/v1/organization/admin_api_keys",
];

#[derive(arbitrary::Arbitrary, Debug)]
struct Input<'a> {
    method: u8,
    anthropic_version: bool,
    upgrade: bool,
    target: &'a [u8],
}

fuzz_target!(|input: Input<'_>| {
    let Ok(uri) = Uri::try_from(input.target) else { return };
    let whole = uri.path();
    if canonical::target(input.target, whole).is_err() {
        return;
    }
    let methods = [Method::GET, Method::POST, Method::DELETE, Method::HEAD];
    let method = &methods[usize::from(input.method) % methods.len()];
    // As in `proxy::admit`.
    let extra = usize::from(whole.starts_with(canonical::DOUBLE_SLASH));
    let (config, routes) = &*WORLD;
    let Some(mut route) = routes.find(method, &whole[extra..], input.anthropic_version) else {
        return;
    };
    route.skip += extra;
    if whole[route.skip..].starts_with("//") {
        route.skip += 1;
    }
    let (provider, raw) = (&config.providers[route.provider], &whole[route.skip..]);
    let path = Path::new(raw);
    if raw.contains("//")
        || canonical::has_slash(raw) && !segments_may_hold_slashes(provider, &path)
    {
        return;
    }
    means_one_thing(raw, &path);
    is_judged_as_it_is_meant(provider, method, raw, input.upgrade);
});

fn means_one_thing(raw: &str, path: &Path<'_>) {
    assert!(raw.starts_with('/'), "{raw:?} is no path");
    assert_eq!(canonical::target(raw.as_bytes(), raw), Ok(()), "{raw:?} did not come that way");
    assert!(PathAndQuery::try_from(raw).is_ok(), "{raw:?} can't be written");
    let decoded = path.decoded();
    assert!(!decoded.contains(['\\', ';']), "{raw:?} hides a separator");
    assert!(!decoded.chars().any(|c| c.is_ascii_control()), "{raw:?} hides a control character");
    assert!(!decoded.split('/').any(|s| matches!(s, "." | "..")), "{raw:?} hides a dot segment");
    let twice: Vec<u8> = percent_decode_str(decoded).collect();
    assert_eq!(twice, decoded.as_bytes(), "{raw:?} is encoded twice");
}

fn is_judged_as_it_is_meant(provider: &Provider, method: &Method, raw: &str, upgrade: bool) {
    let (api, plain) = (api(provider.kind), plainly(raw));
    let (path, other) = (Path::new(raw), Path::new(&plain));
    let class = |path: &Path<'_>| {
        minting::class(&provider.url.path, path, || (api.class)(provider, method, path))
    };
    assert_eq!(class(&path), class(&other), "{raw:?} is {plain:?}");
    let models = (api.models)(provider, method, &path);
    let others = (api.models)(provider, method, &other);
    assert_eq!(shown(&models), shown(&others), "{raw:?} is {plain:?}");
    assert_eq!((api.upload)(&path), (api.upload)(&other), "{raw:?} is {plain:?}");
    let places = ((api.place)(provider, &path, upgrade), (api.place)(provider, &other, upgrade));
    assert_eq!(places.0, places.1, "{raw:?} is {plain:?}");

    let lenient = plain.to_ascii_lowercase();
    let hands_out_keys = MINTING.iter().any(|minting| {
        let rest = lenient.strip_prefix(minting);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    assert!(!hands_out_keys || class(&path) == Class::Minting, "{raw:?} mints");
}

/// The same path without an escape that it does not need (RFC 3986, section 6.2.2.2).
fn plainly(raw: &str) -> String {
    let mut plain = String::new();
    let mut rest = raw;
    while let Some((before, after)) = rest.split_once('%') {
        plain.push_str(before);
        let (digits, behind) = after.split_at(2);
        let byte = u8::from_str_radix(digits, 16).expect("the escape was checked");
        match byte {
            b'/' | b'%' | b'?' | b'#' => plain.push_str(&format!("%{byte:02X}")),
            byte if byte.is_ascii_graphic() => plain.push(char::from(byte)),
            byte => plain.push_str(&format!("%{byte:02X}")),
        }
        rest = behind;
    }
    plain + rest
}

/// Where the model is, and the model itself as the provider will read it.
fn shown(places: &ModelPlaces<'_>) -> (Option<Vec<u8>>, Option<String>, String, bool) {
    let model = places.path.as_deref().map(|m| percent_decode_str(m).collect());
    let body = match &places.body {
        BodyPlaces::None => String::new(),
        BodyPlaces::Json { main, configured, further } => {
            format!("{main:?} {configured:?} {further:?}")
        }
        BodyPlaces::Frames(messages) => format!("{messages:?}"),
    };
    (model, places.query.map(str::to_owned), body, places.expected)
}
