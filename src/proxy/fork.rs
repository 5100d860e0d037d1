//! The stream that a new one would begin as a copy of. It is named in a header, and whoever may not
//! reach it must not read it by way of a copy: the gate asks of it what it asks of the path.

use super::canonical;
use crate::config::{Access, Provider};
use crate::policy::{Code, Denial};
use crate::provider::path::Path;
use crate::provider::streams::{self, FORKED_FROM};
use http::HeaderMap;

/// Its path as the provider will see it, decoded.
///
/// # Errors
/// As [`path`].
pub(super) fn source(provider: &Provider, headers: &HeaderMap) -> Result<Option<Box<str>>, Denial> {
    Ok(path(provider, headers)?.map(|path| Path::new(path).decoded().into()))
}

/// Whether everybody may have this request for `path`: the stream is public, and so is what it would be
/// a copy of.
pub(super) fn is_public(provider: &Provider, path: &Path<'_>, headers: &HeaderMap) -> bool {
    let copied = || match self::path(provider, headers) {
        Ok(Some(source)) => streams::is_stream(provider, &Path::new(source)),
        Ok(None) => true,
        Err(_) => false,
    };
    provider.access == Access::Public && streams::is_stream(provider, path) && copied()
}

/// Its path below the provider, as it is on the wire.
///
/// # Errors
/// 400 where it is there twice, or no path that the gate would let pass.
pub(super) fn path<'a>(
    provider: &Provider,
    headers: &'a HeaderMap,
) -> Result<Option<&'a str>, Denial> {
    let mut sent = headers.get_all(FORKED_FROM).iter();
    let Some(first) = sent.next() else { return Ok(None) };
    let wrong = |why: &'static str| Denial::new(Code::MalformedRequest, why);
    if sent.next().is_some() {
        return Err(wrong("Stream-Forked-From is there twice; send it once"));
    }
    let no_path = "Stream-Forked-From is the path of a stream, such as /v1/stream/name";
    let sent = first.to_str().map_err(|_| wrong(no_path))?;
    if sent.contains('?') || sent.contains("//") || canonical::has_slash(sent) {
        return Err(wrong(no_path));
    }
    canonical::target(sent.as_bytes(), sent).map_err(|_| wrong(no_path))?;
    // It goes on as it is, so it has to say the provider's own base, as the target will.
    let below = sent.strip_prefix(&*provider.url.path).filter(|path| path.starts_with('/'));
    let path = below.ok_or_else(|| wrong("Stream-Forked-From is no path of this provider"))?;
    if path.ends_with('/') {
        return Err(wrong(no_path));
    }
    Ok(Some(path))
}
