//! Where callers connect, under which names, and whom they may come through.

use super::url;
use crate::config::certificate::{Certificate, Tls, Unusable};
use crate::config::file::{self, Listen};
use crate::config::secret_ref::{SecretRef, Source};
use crate::config::{Listener, Problems};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// `listen:`, an entry for each that was written, so that indexes keep their meaning.
pub(super) fn addresses(written: &[Listen], problems: &mut Problems) -> Vec<Option<SocketAddr>> {
    if written.is_empty() {
        let why = "no listener: add one, such as listen: [{ address: 127.0.0.1:8080 }]";
        problems.push("listen", why);
    }
    let mut found: Vec<Option<SocketAddr>> = Vec::with_capacity(written.len());
    for (index, listen) in written.iter().enumerate() {
        let path = format!("listen[{index}].address");
        let address = address(&path, &listen.address, problems);
        if let Some(first) = taken(address, &found) {
            problems.push(path, format!("listen[{first}] has the same address: keep one"));
        }
        found.push(address);
    }
    found
}

/// The listeners at these addresses, with the certificates that they name.
pub(super) fn listeners(
    written: Vec<Listen>,
    addresses: &[Option<SocketAddr>],
    source: &Source<'_>,
    problems: &mut Problems,
) -> Vec<Listener> {
    let mut listeners = Vec::with_capacity(written.len());
    for (index, (listen, address)) in written.into_iter().zip(addresses).enumerate() {
        let path = format!("listen[{index}].tls");
        let tls = listen.tls.map(|written| tls(&path, written, source, problems));
        match (address, tls) {
            (Some(address), None) => listeners.push(Listener { address: *address, tls: None }),
            (Some(address), Some(Some(tls))) => {
                listeners.push(Listener { address: *address, tls: Some(tls) });
            }
            // Its problem has been pushed.
            (None, _) | (_, Some(None)) => {}
        }
    }
    listeners
}

fn tls(
    path: &str,
    written: file::Tls,
    source: &Source<'_>,
    problems: &mut Problems,
) -> Option<Tls> {
    let mut fetch = |key: &str, file: &str| {
        let fetched = source(&SecretRef::File(file.into()));
        fetched.map_err(|why| problems.push(format!("{path}.{key}"), why)).ok()
    };
    let (cert, key) = (fetch("cert", &written.cert), fetch("key", &written.key));
    // A certificate is no secret; it comes through the same door.
    match Certificate::read(cert?.expose(), &key?) {
        Ok(certificate) => {
            Some(Tls { cert: written.cert.into(), key: written.key.into(), certificate })
        }
        Err(Unusable::Cert(why)) => {
            problems.push(format!("{path}.cert"), why);
            None
        }
        Err(Unusable::Key(why)) => {
            problems.push(format!("{path}.key"), why);
            None
        }
    }
}

/// An address and port to listen on.
pub(super) fn address(path: &str, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let address = text.parse().ok();
    if address.is_none() {
        let why = format!("'{text}' is no address: write IP:PORT, such as 0.0.0.0:8080 or [::]:80");
        problems.push(path, why);
    }
    address
}

/// Which listener has this address. Port 0 asks the system for a free one, any number of times.
pub(super) fn taken(address: Option<SocketAddr>, listen: &[Option<SocketAddr>]) -> Option<usize> {
    let address = address.filter(|address| address.port() != 0)?;
    listen.iter().position(|other| *other == Some(address))
}

/// `public_url:`
pub(super) fn public_url(text: &str, problems: &mut Problems) -> Option<Box<str>> {
    let checked = url::read(text).and_then(|url| match url.path() {
        "" | "/" => Ok(url),
        _ => Err("it ends after host and port: no path".to_owned()),
    });
    match checked {
        Ok(url) => Some(format!("{}://{}", url.scheme(), url::authority(&url)).into()),
        Err(why) => {
            problems.push("public_url", why);
            None
        }
    }
}

/// `server_names:`
pub(super) fn server_names(written: &[String], problems: &mut Problems) -> Vec<Box<str>> {
    if written.is_empty() {
        let why = "an empty list would refuse every host: leave the key out or name one";
        problems.push("server_names", why);
    }
    let mut names = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        match host_name(text) {
            Ok(name) => names.push(name),
            Err(why) => problems.push(format!("server_names[{index}]"), why),
        }
    }
    names
}

/// A host as it is compared: lower case, punycode, an IPv6 address in brackets.
fn host_name(text: &str) -> Result<Box<str>, String> {
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        let address: Ipv6Addr =
            inner.parse().map_err(|_| format!("'{text}' is no IPv6 address in brackets"))?;
        return Ok(format!("[{address}]").into());
    }
    if text.contains([':', '/']) {
        return Err(format!("'{text}': write the host name alone, without scheme, port or path"));
    }
    let bad = || format!("'{text}' is no host name: write one such as gateway.example.com");
    let name = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        ::url::Host::parse(text).map_err(|_| bad())?.to_string()
    };
    let is_label = |label: &str| {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(bad());
    }
    Ok(name.into())
}

/// `trusted_proxies:`
pub(super) fn trusted_proxies(written: &[String], problems: &mut Problems) -> Vec<IpNet> {
    let mut networks = Vec::with_capacity(written.len());
    for (index, text) in written.iter().enumerate() {
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => networks.push(network.trunc()),
            Err(_) => {
                let why = format!(
                    "'{text}' is no network: write it as 10.0.0.0/8, fd00::/8 or 192.0.2.7"
                );
                problems.push(format!("trusted_proxies[{index}]"), why);
            }
        }
    }
    networks
}
