//! What the demo prints: where it is, its token, and commands to paste. The text is `guide.txt`;
//! this file fills it in.

use crate::values::secret::Secret;
use std::net::SocketAddr;
use std::path::Path;

const TEXT: &str = include_str!("guide.txt");

/// What the text is about.
pub(super) struct Guide<'a> {
    pub(super) gateway: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) mock: SocketAddr,
    pub(super) token: &'a Secret,
    pub(super) config: &'a Path,
    pub(super) access_log: &'a Path,
}

impl Guide<'_> {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        // Whoever runs it may not have it in the search path yet.
        let keygate = std::env::current_exe().unwrap_or_else(|_| "keygate".into());
        TEXT.trim_end()
            .replace("$GATEWAY", &self.gateway.to_string())
            .replace("$ADMIN", &self.admin.to_string())
            .replace("$MOCK", &self.mock.to_string())
            // The demo's own token is for whoever started the demo: this is where they get it.
            .replace("$TOKEN", self.token.expose())
            .replace("$KEYGATE", &quote(&keygate))
            .replace("$CONFIG", &quote(self.config))
            .replace("$LOG", &quote(self.access_log))
    }
}

/// For a POSIX shell; bare where nothing in it is special.
fn quote(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c)) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_in_the_text_is_filled_in() {
        let token = Secret::new("ptk_in_the_guide");
        let text = Guide {
            gateway: "127.0.0.1:1".parse().unwrap(),
            admin: "127.0.0.1:2".parse().unwrap(),
            mock: "127.0.0.1:3".parse().unwrap(),
            token: &token,
            config: Path::new("/tmp/it's here/keygate.yaml"),
            access_log: Path::new("/tmp/access.log"),
        }
        .text();
        assert!(!text.contains('$'), "a name is left: {text}");
        for part in ["127.0.0.1:1/", "127.0.0.1:2 ", "127.0.0.1:3/", "ptk_in_the_guide"] {
            assert!(text.contains(part), "{part} is missing");
        }
        assert!(text.contains(r"-c '/tmp/it'\''s here/keygate.yaml'"), "quoted for a shell");
    }
}
