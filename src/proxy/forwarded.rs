//! `X-Forwarded-*`, believed from trusted proxies only.

use crate::config::Config;
use http::HeaderMap;
use std::net::IpAddr;

/// Whether `peer` is a configured proxy.
pub(super) fn trusts(config: &Config, peer: IpAddr) -> bool {
    !config.trusted_proxies.is_empty() && {
        let peer = peer.to_canonical();
        config.trusted_proxies.iter().any(|net| net.contains(&peer))
    }
}

/// The client behind the trusted proxies: the last `X-Forwarded-For` entry that is none of them.
pub(super) fn client(config: &Config, headers: &HeaderMap) -> Option<IpAddr> {
    let mut entries: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .collect();
    entries.reverse();
    let mut last = None;
    for entry in entries {
        let Some(address) = address(entry) else { break };
        last = Some(address);
        if !trusts(config, address) {
            break;
        }
    }
    last
}

/// An address, perhaps with a port, perhaps in brackets.
fn address(entry: &str) -> Option<IpAddr> {
    entry
        .parse()
        .ok()
        .or_else(|| entry.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

/// The scheme that the caller used.
pub(super) fn scheme(headers: &HeaderMap) -> Option<&'static str> {
    match headers.get("x-forwarded-proto")?.as_bytes() {
        b"https" => Some("https"),
        b"http" => Some("http"),
        _ => None,
    }
}

/// The host that the caller used.
pub(super) fn host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get("x-forwarded-host")?.to_str().ok()?.trim();
    let odd = |b: u8| !(b.is_ascii_alphanumeric() || b".-_:[]".contains(&b));
    (!host.is_empty() && !host.bytes().any(odd)).then_some(host)
}
