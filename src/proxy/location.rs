//! `Location` that points at the provider is rewritten to point here.

use super::canonical;
use super::ctx::{Ctx, Flight, Stage};
use crate::config::Provider;
use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, HeaderValue};
use pingora_proxy::Session;

/// Rewrites `Location` and `Content-Location`.
pub(super) fn rewrite(session: &Session, answer: &mut HeaderMap, ctx: &Ctx) {
    for name in [LOCATION, CONTENT_LOCATION] {
        let sent = answer.get(&name).and_then(|value| value.to_str().ok());
        let Some(value) = sent.and_then(|sent| rewritten(sent, session, ctx)) else { continue };
        match HeaderValue::from_str(&value) {
            Ok(value) => answer.insert(name, value),
            Err(_) => answer.remove(name),
        };
    }
}

fn rewritten(sent: &str, session: &Session, ctx: &Ctx) -> Option<String> {
    let Stage::Passed(flight) = &ctx.stage else { return None };
    let provider = ctx.provider()?;
    let prefix = prefix(session, flight);
    let path = below_base(sent, provider)?;
    if !sent.contains("://") && !sent.starts_with("//") {
        return Some(format!("{prefix}{path}"));
    }
    let base = match &ctx.snapshot.config.public_url {
        Some(url) => url.to_string(),
        None => format!("{}://{}", flight.scheme, host(session, flight)?),
    };
    Some(format!("{base}{prefix}{path}"))
}

/// `/openai`, if that is how the caller came in.
pub(super) fn prefix<'a>(session: &'a Session, flight: &Flight) -> &'a str {
    let seen = session.req_header().uri.path();
    seen.get(..flight.skip).filter(|p| p.len() > 1).unwrap_or_default()
}

/// The host that the caller used.
pub(super) fn host<'a>(session: &'a Session, flight: &Flight) -> Option<&'a str> {
    canonical::caller_host(session.req_header(), flight.trusted)
}

/// The part of `sent` that lies below the provider's base URL, beginning with a slash; `None`
/// where it points elsewhere or is relative to the request's own path.
pub(super) fn below_base<'a>(sent: &'a str, provider: &Provider) -> Option<&'a str> {
    let absolute = sent
        .strip_prefix(if provider.url.tls { "https:" } else { "http:" })
        .unwrap_or(sent)
        .strip_prefix("//");
    let path = match absolute {
        Some(rest) => {
            let (authority, path) =
                rest.split_at_checked(rest.find(['/', '?']).unwrap_or(rest.len()))?;
            let port = format!("{}:{}", provider.url.host, provider.url.port);
            if !authority.eq_ignore_ascii_case(&provider.url.authority)
                && !authority.eq_ignore_ascii_case(&port)
            {
                return None;
            }
            if path.is_empty() { "/" } else { path }
        }
        None if sent.starts_with('/') => sent,
        None => return None,
    };
    path.strip_prefix(&*provider.url.path).filter(|p| p.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Access, BaseUrl, Kind, ModelChoice, SlotChoice};

    fn provider(path: &str) -> Provider {
        Provider {
            name: "p".into(),
            kind: Kind::OpenAi,
            url: BaseUrl {
                tls: true,
                host: "api.example".into(),
                port: 443,
                authority: "api.example".into(),
                path: path.into(),
            },
            keys: vec![],
            routes: None,
            forward_billing_headers: false,
            forward_origin: false,
            query_slots: None,
            access: Access::Token,
            cookie: None,
            slot: SlotChoice::Bearer,
            model: ModelChoice::None,
        }
    }

    #[test]
    fn only_what_points_at_the_provider_is_ours_to_rewrite() {
        let plain = provider("");
        assert_eq!(below_base("https://api.example/v1/x?y", &plain), Some("/v1/x?y"));
        assert_eq!(below_base("https://API.example:443/v1", &plain), Some("/v1"));
        assert_eq!(below_base("//api.example/v1", &plain), Some("/v1"));
        assert_eq!(below_base("/v1/x", &plain), Some("/v1/x"));
        assert_eq!(below_base("x", &plain), None, "relative to where the caller is anyway");
        assert_eq!(below_base("https://elsewhere.example/v1", &plain), None);
        assert_eq!(below_base("https://api.example.evil/v1", &plain), None);
        assert_eq!(
            below_base("http://api.example/v1", &plain),
            None,
            "another scheme is another place"
        );
        let deep = provider("/base");
        assert_eq!(below_base("https://api.example/base/v1", &deep), Some("/v1"));
        assert_eq!(below_base("/other/v1", &deep), None);
    }
}
