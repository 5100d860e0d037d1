//! What a `durable-streams` provider chooses for itself: who may come, and which cookie carries the
//! token.

use crate::config::file::provider as file;
use crate::config::{Access, Listener, Problems, Provider};
use ipnet::IpNet;

/// Reads them; what has a problem stays at its default.
pub(super) fn choices(
    path: &str,
    written: &file::Provider,
    problems: &mut Problems,
) -> (Access, Option<Box<str>>) {
    let access = match written.access.as_deref() {
        None | Some("token") => Access::Token,
        Some("public") => Access::Public,
        Some(_) => {
            problems.push(format!("{path}.access"), "write token or public");
            Access::Token
        }
    };
    let cookie = written.cookie.as_deref().filter(|name| {
        // RFC 6265 section 4.1.1: a token of RFC 9110.
        let fits = |c: u8| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c);
        let is_name = !name.is_empty() && name.bytes().all(fits);
        if !is_name {
            let why = format!("'{name}' is no cookie's name, such as keygate_token");
            problems.push(format!("{path}.cookie"), why);
        }
        is_name
    });
    (access, cookie.map(Into::into))
}

/// Refuses a cookie that no connection could carry.
pub(super) fn check_cookies(
    providers: &[Provider],
    listeners: &[Listener],
    trusted: &[IpNet],
    problems: &mut Problems,
) {
    let carries = |l: &Listener| l.tls.is_some() || l.address.ip().to_canonical().is_loopback();
    if !trusted.is_empty() || listeners.iter().any(carries) {
        return;
    }
    for provider in providers.iter().filter(|provider| provider.cookie.is_some()) {
        let why = "a cookie is read from TLS connections, from trusted proxies that say https, and \
                   on loopback only, and there is none of these: add tls to a listener, or \
                   trusted_proxies";
        problems.push(format!("providers.{}.cookie", provider.name), why);
    }
}
