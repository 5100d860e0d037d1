//! URLs of providers and of the gateway itself. No message repeats one: passwords and keys are
//! pasted into URLs.

use crate::config::BaseUrl;
use url::{Host, Url};

/// Reads an `http` or `https` URL that has neither user info nor query nor fragment.
pub(super) fn read(text: &str) -> Result<Url, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !matches!(scheme.as_deref(), Some("http" | "https")) {
        return Err("this is no URL: begin with https:// or http://".to_owned());
    }
    // The URL standard removes or converts these silently; here they are mistakes.
    if text.chars().any(|c| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err("blanks and backslashes have no place in this URL".to_owned());
    }
    let url = Url::parse(text).map_err(|why| format!("this is no URL: {why}"))?;
    let authority = text.split("://").nth(1).and_then(|rest| rest.split(['/', '?', '#']).next());
    let authority = authority.unwrap_or_default();
    // `https:///v1` would be read as the host v1.
    if authority.is_empty() {
        return Err("this is no URL: the host is missing".to_owned());
    }
    if authority.contains('@') {
        return Err("user info has no place in this URL: leave out what is before the @".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("a query or fragment has no place in this URL: leave it out".to_owned());
    }
    Ok(url)
}

/// Host, and port unless it is the scheme's.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// A provider's URL, taken apart.
pub(super) fn base(text: &str) -> Result<BaseUrl, String> {
    let url = read(text)?;
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err("the host is missing".to_owned()),
    };
    let port = url.port_or_known_default().filter(|port| *port != 0);
    Ok(BaseUrl {
        tls: url.scheme() == "https",
        host: host.into(),
        port: port.ok_or("port 0 can't be connected to")?,
        authority: authority(&url).into(),
        path: url.path().trim_end_matches('/').into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        for (text, tls, host, port, authority, path) in [
            ("https://api.example.com", true, "api.example.com", 443, "api.example.com", ""),
            ("https://API.example.com:443/", true, "api.example.com", 443, "api.example.com", ""),
            ("http://[::1]:9000/v1/", false, "::1", 9000, "[::1]:9000", "/v1"),
            ("http://127.0.0.1", false, "127.0.0.1", 80, "127.0.0.1", ""),
        ] {
            let base = base(text).unwrap();
            let expected = BaseUrl {
                tls,
                host: host.into(),
                port,
                authority: authority.into(),
                path: path.into(),
            };
            assert_eq!(base, expected, "{text}");
        }
    }

    #[test]
    fn what_is_more_or_less_than_a_base_is_refused_and_not_repeated() {
        for text in [
            "",
            "canary.example",
            "ftp://canary.example",
            "https:canary.example",
            "https://",
            "https:///canary",
            "https://user:canary@a.example",
            "https://@a.example",
            "https://a.example?key=canary",
            "https://a.example#canary",
            "https://a.example/ canary",
            "https://a.example\\canary",
            "https://a.example:0",
            "https://a.example:canary",
        ] {
            let why = base(text).unwrap_err();
            assert!(!why.contains("canary"), "{text} is repeated: {why}");
        }
    }
}
