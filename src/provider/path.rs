//! A provider's path, as it is on the wire and as it means.
//!
//! Tables decide on the decoded path: `%63lient_secrets` is `client_secrets` to a provider.

use percent_encoding::percent_decode_str;
use std::borrow::Cow;

/// A canonical path below a provider (prefix removed, no dot segments).
#[derive(Debug, Clone)]
pub struct Path<'a> {
    raw: &'a str,
    decoded: Cow<'a, str>,
}

impl<'a> Path<'a> {
    /// `raw` is canonical: `proxy::canonical` has passed it.
    pub fn new(raw: &'a str) -> Self {
        let decoded = if raw.contains('%') {
            percent_decode_str(raw).decode_utf8_lossy()
        } else {
            Cow::Borrowed(raw)
        };
        Self { raw, decoded }
    }

    /// As it is on the wire.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Decoded.
    pub fn decoded(&self) -> &str {
        &self.decoded
    }

    /// Decoded, without slashes at the end: servers differ in whether they count.
    pub fn trimmed(&self) -> &str {
        self.decoded.trim_end_matches('/')
    }

    /// What follows `prefix` and a slash in the raw path, without slashes at the end.
    pub fn raw_below(&self, prefix: &str) -> Option<&'a str> {
        let rest = self.raw.strip_prefix(prefix)?.strip_prefix('/')?.trim_end_matches('/');
        (!rest.is_empty()).then_some(rest)
    }

    /// Whether the trimmed path is `prefix` or lies below it.
    pub fn is_at_or_below(&self, prefix: &str) -> bool {
        below(self.trimmed(), prefix).is_some()
    }

    /// The same in any case: for paths that must never pass, however they are spelt.
    pub fn is_at_or_below_any_case(&self, prefix: &str) -> bool {
        let path = self.trimmed();
        path.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
            && matches!(path.as_bytes().get(prefix.len()), None | Some(b'/'))
    }
}

/// What follows `prefix`: empty for the prefix itself, else beginning with a slash.
pub(crate) fn below<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_segments() {
        let path = Path::new("/v1/files%2dx/");
        assert_eq!(path.trimmed(), "/v1/files-x");
        assert!(!path.is_at_or_below("/v1/files"), "a longer segment is another path");
        assert!(
            Path::new("/V1/Realtime/Client_Secrets/")
                .is_at_or_below_any_case("/v1/realtime/client_secrets")
        );
        assert_eq!(Path::new("/v1/models/org%2Fm").raw_below("/v1/models"), Some("org%2Fm"));
        assert_eq!(Path::new("/v1/models/").raw_below("/v1/models"), None);
    }
}
