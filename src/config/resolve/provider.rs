//! Providers: name, kind, URL and keys. [`super::route`] has their paths, [`super::slot`] what only
//! `generic` providers choose, [`super::stream`] what only `durable-streams` do.

use super::{slot, stream, url};
use crate::config::file::provider as file;
use crate::config::secret_ref::{KeyRef, Keys, Source, check};
use crate::config::{Access, BaseUrl, Kind, Problems, Provider, ProviderKey, STREAMS};

/// First segments of bare paths: a provider of that name would take them away.
const RESERVED: [&str; 7] = ["v1", "v1beta", "v1alpha", "upload", "download", "ws", ".well-known"];

/// An entry of `providers:`; `None` if it has problems, or is refused as not in effect yet.
pub(super) fn one(
    name: &str,
    written: file::Provider,
    source: &Source<'_>,
    problems: &mut Problems,
) -> Option<Provider> {
    let path = format!("providers.{name}");
    check_name(&path, name, problems);
    let kind = kind(&path, &written.kind, problems);
    let url = base(&path, kind, written.url.as_deref(), problems);
    // Without a kind it is unknown what else belongs here, and the key may not be needed.
    let kind = kind?;
    check_foreign_keys(&path, kind, &written, problems);
    let choice = match kind {
        Kind::Generic => slot::generic(&path, &written, problems),
        Kind::DurableStreams => slot::Generic {
            query_slots: slot::query_slots(&path, &written, problems),
            ..slot::Generic::default()
        },
        Kind::OpenAi | Kind::Anthropic | Kind::Gemini | Kind::Decart => slot::Generic::default(),
    };
    let (access, cookie) = match kind {
        Kind::DurableStreams => stream::choices(&path, &written, problems),
        _ => (Access::Token, None),
    };
    let routes = written.routes.map(|routes| routes.into_iter().map(Into::into).collect());
    Some(Provider {
        name: name.into(),
        kind,
        keys: keys(&path, kind, written.keys, source, problems),
        url: url?,
        routes: routes.or_else(|| (kind == Kind::DurableStreams).then(|| vec![STREAMS.into()])),
        forward_billing_headers: written.forward_billing_headers.unwrap_or(false),
        forward_origin: written.forward_origin.unwrap_or(false),
        query_slots: choice.query_slots,
        access,
        cookie,
        slot: choice.slot,
        model: choice.model,
    })
}

fn check_name(path: &str, name: &str, problems: &mut Problems) {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let begins_well = name.bytes().next().is_some_and(allowed);
    if RESERVED.contains(&name) {
        let why = "this name is the beginning of providers' own paths: choose another";
        problems.push(path, why);
    } else if !begins_well || !name.bytes().all(|c| allowed(c) || c == b'-' || c == b'_') {
        let why = "a provider's name is a path segment: a-z, 0-9, - and _, beginning with a \
                   letter or digit";
        problems.push(path, why);
    }
}

fn kind(path: &str, text: &str, problems: &mut Problems) -> Option<Kind> {
    let kinds = [
        Kind::OpenAi,
        Kind::Anthropic,
        Kind::Gemini,
        Kind::Decart,
        Kind::DurableStreams,
        Kind::Generic,
    ];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == text);
    if kind.is_none() {
        let why = format!(
            "'{text}' is no kind: use openai, anthropic, gemini, decart, durable-streams or generic"
        );
        problems.push(format!("{path}.kind"), why);
    }
    kind
}

/// The URL, or the vendor's own.
fn base(
    path: &str,
    kind: Option<Kind>,
    written: Option<&str>,
    problems: &mut Problems,
) -> Option<BaseUrl> {
    let read = match (written, kind.map(Kind::url)) {
        (Some(text), _) => url::base(text),
        (None, Some(Some(usual))) => url::base(usual),
        (None, Some(None)) => Err("no URL: add url: https://HOST".to_owned()),
        // Whether it needs one is unknown.
        (None, None) => return None,
    };
    read.map_err(|why| problems.push(format!("{path}.url"), why)).ok()
}

/// Keys that belong to other kinds.
fn check_foreign_keys(path: &str, kind: Kind, written: &file::Provider, problems: &mut Problems) {
    let generic = kind == Kind::Generic;
    let streams = kind == Kind::DurableStreams;
    for (key, is_foreign, owner) in [
        ("access", written.access.is_some() && !streams, "durable-streams"),
        ("cookie", written.cookie.is_some() && !streams, "durable-streams"),
        ("query_slots", written.query_slots.is_some() && !generic && !streams, "generic"),
        ("slot", written.slot.is_some() && !generic, "generic"),
        ("model", written.model.is_some() && !generic, "generic"),
    ] {
        if is_foreign {
            let why = format!("only for kind {owner}: remove it");
            problems.push(format!("{path}.{key}"), why);
        }
    }
}

/// The first key; further ones are refused as not in effect yet, and not looked for.
fn keys(
    path: &str,
    kind: Kind,
    written: Option<Keys>,
    source: &Source<'_>,
    problems: &mut Problems,
) -> Vec<ProviderKey> {
    let written = written.map(|keys| keys.0).unwrap_or_default();
    if written.is_empty() && !matches!(kind, Kind::DurableStreams | Kind::Generic) {
        problems.push(format!("{path}.keys"), "no key: add keys: [{ env: NAME }]");
    }
    for (index, key) in written.iter().enumerate() {
        if key.weight == Some(0) {
            problems.push(format!("{path}.keys[{index}].weight"), "must be at least 1");
        }
    }
    let first = written.into_iter().next();
    let found = first.map(|KeyRef { secret: reference, .. }| {
        let secret = source(&reference)?;
        check(&secret)?;
        Ok(ProviderKey { name: reference.name().into(), secret })
    });
    match found {
        None => Vec::new(),
        Some(Ok(key)) => vec![key],
        Some(Err::<_, String>(why)) => {
            problems.push(format!("{path}.keys[0]"), why);
            Vec::new()
        }
    }
}
