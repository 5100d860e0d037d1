//! What `check` tells about a valid configuration: what each policy leaves unrestricted, and what
//! an operator may not have meant. Nothing here is an error.

use super::{Access, AccessLog, BaseUrl, Config, Kind, Provider};
use crate::values::clock::Clock;
use crate::values::grant::Grant;
use std::net::{IpAddr, SocketAddr};

/// One line each: first the policies, then warnings.
pub fn review(config: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, grant) in &config.policies {
        lines.push(format!("policies.{name}: {}", unrestricted(config, grant)));
    }
    lines.push(match &config.default_policy {
        Some(grant) => format!("default_policy: {}", unrestricted(config, grant)),
        None => format!(
            "warning: there is no default_policy: a token that names no policy is unrestricted \
             ({})",
            unrestricted(config, &Grant::default())
        ),
    });
    issuers(config, &mut lines);
    doors(config, &mut lines);
    callers(config, &mut lines);
    providers(config, &mut lines);
    lines
}

/// Whose tokens nobody has bounded.
fn issuers(config: &Config, lines: &mut Vec<String>) {
    for (index, issuer) in config.issuers.iter().enumerate().filter(|(_, i)| i.policy.is_none()) {
        let bound = match &config.default_policy {
            Some(_) => "only default_policy bounds its tokens",
            None => "its tokens may do everything that their claims leave open",
        };
        lines.push(format!(
            "warning: issuers[{index}] ({}) names no policy: {bound}",
            issuer.issuer
        ));
    }
}

/// The dimensions in which a grant sets no bounds.
fn unrestricted(config: &Config, grant: &Grant) -> String {
    let any = |patterns: &Option<Vec<crate::values::pattern::Pattern>>, all: &[&str]| {
        let is_all = |p: &crate::values::pattern::Pattern| all.contains(&p.to_string().as_str());
        patterns.as_ref().is_none_or(|patterns| patterns.iter().any(is_all))
    };
    // Streams have none.
    let has_models = |p: &Provider| p.kind != Kind::DurableStreams;
    let reaches_models = grant.providers.as_ref().is_none_or(|names| {
        config.providers.iter().any(|p| names.contains(&p.name) && has_models(p))
    });
    let any_model = reaches_models && any(&grant.models, &["*"]);
    let mut open = Vec::new();
    if grant.providers.is_none() {
        open.push("any provider");
    }
    if grant.methods.is_none() {
        open.push("any method");
    }
    match &grant.paths {
        None if grant.models.is_some() => open.push("any inference path"),
        _ if any(&grant.paths, &["*", "/*"]) => {
            open.push("any path (files, batches and other stored objects of all callers too)");
        }
        _ => {}
    }
    if any_model {
        open.push("any model");
    }
    if grant.origins.is_none() {
        open.push("any origin");
    } else if grant.allow_missing_origin {
        open.push("callers without an origin");
    }
    if grant.rate_limit.is_none() {
        open.push("no rate limit");
    }
    if grant.concurrency.is_none() {
        open.push("no limit of concurrency");
    }
    if open.is_empty() { "restricted in every way".to_owned() } else { open.join(", ") }
}

fn doors(config: &Config, lines: &mut Vec<String>) {
    let plain = config.listen.iter().filter(|l| l.tls.is_none()).map(|l| l.address);
    if let Some(address) = plain.into_iter().find(|address| !is_loopback(address)) {
        lines.push(format!(
            "warning: {address} speaks plain HTTP: let a proxy with TLS stand before it, or tokens \
             can be read on the way"
        ));
    }
    let now = i64::try_from(Clock::system().wall_ms() / 1_000).unwrap_or(i64::MAX);
    for (index, listener) in config.listen.iter().enumerate() {
        if listener.tls.as_ref().is_some_and(|tls| tls.certificate.not_after < now) {
            lines.push(format!("warning: listen[{index}].tls.cert has expired: renew it"));
        }
    }
    match &config.server_names {
        None => lines.push(
            "warning: server_names is left out: any Host is accepted (a page that rebinds its name \
             can reach the gateway)"
                .to_owned(),
        ),
        Some(names) => {
            let host = config.public_url.as_deref().and_then(|url| url::Url::parse(url).ok());
            let host = host.as_ref().and_then(url::Url::host_str);
            if let Some(host) = host.filter(|host| !names.iter().any(|name| &**name == *host)) {
                lines.push(format!(
                    "warning: {host}, the host of public_url, is not among server_names: requests \
                     to it get 421"
                ));
            }
        }
    }
    if config.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        lines.push(
            "warning: trusted_proxies has a network of everybody: any caller can forge its address"
                .to_owned(),
        );
    }
    if let Some(admin) = &config.admin
        && !is_loopback(&admin.address)
    {
        lines.push(format!(
            "warning: admin.address {} is no loopback address: whoever reaches it may read \
             (admin.password is not asked for yet)",
            admin.address
        ));
    }
}

fn callers(config: &Config, lines: &mut Vec<String>) {
    if config.store.is_none() && config.tokens.is_empty() {
        lines.push("warning: neither store nor tokens: nobody has a token".to_owned());
    }
    if config.access_log == AccessLog::None {
        lines.push("warning: access_log is none: no request leaves a trace".to_owned());
    }
}

fn providers(config: &Config, lines: &mut Vec<String>) {
    if config.providers.is_empty() {
        lines.push("warning: no providers: every request gets 404".to_owned());
    }
    for provider in &config.providers {
        let name = &provider.name;
        if provider.kind == Kind::Gemini
            && config.public_url.is_none()
            && config.server_names.is_none()
        {
            lines.push(format!(
                "warning: providers.{name}: neither public_url nor server_names says where resumable \
                 uploads come back to: they go around the gateway"
            ));
        }
        if provider.access == Access::Public {
            lines.push(format!(
                "warning: providers.{name}.access is public: whoever reaches the gateway may read, \
                 write and delete its streams, without limits"
            ));
        }
        if provider.kind == Kind::DurableStreams {
            stream_policies(config, provider, lines);
        }
        if provider.keys.is_empty() {
            lines.push(format!("providers.{name}: no key, requests go on without one"));
        } else if !provider.url.tls && !is_near(&provider.url) {
            lines.push(format!(
                "warning: providers.{name}.url is http: its key can be read on the way to {}",
                provider.url.host
            ));
        }
    }
}

/// What keeps `Stream-Allowed-Origins` from meaning what it says.
fn stream_policies(config: &Config, provider: &Provider, lines: &mut Vec<String>) {
    let name = &provider.name;
    if config.server_names.is_none() {
        lines.push(format!(
            "warning: providers.{name}: without server_names a stream can't ask for same-origin: such \
             a PUT gets 400"
        ));
    }
    if config.store.is_none() {
        lines.push(format!(
            "warning: providers.{name}: without a store there is no place for Stream-Allowed-Origins: \
             a PUT that brings it gets 503"
        ));
    }
    let same = |p: &&Provider| p.name != *name && p.url == provider.url;
    if let Some(other) = config.providers.iter().find(same) {
        lines.push(format!(
            "warning: providers.{name}: {} has the same url: origins that are stored for a stream hold \
             for the provider through which it was created",
            other.name
        ));
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Loopback, private and link-local addresses (RFC 1918, 4193, 3927), and names that public DNS
/// does not have (RFC 6761, 6762, 8375; names without a dot are containers and search domains).
fn is_near(url: &BaseUrl) -> bool {
    let host = url.host.trim_end_matches('.');
    match host.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(v4)) => v4.is_loopback() || v4.is_private() || v4.is_link_local(),
        Ok(IpAddr::V6(v6)) => {
            v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
        Err(_) => {
            let local = [".localhost", ".local", ".internal", ".home.arpa"];
            !host.contains('.') || local.iter().any(|end| host.ends_with(end))
        }
    }
}
