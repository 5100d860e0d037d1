//! The demo's directory: readable by its owner alone, and gone when the demo ends.

use crate::demo::Keys;
use anyhow::Context;
use serde_json::json;
use std::fs::{DirBuilder, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory. Removed with everything in it on drop.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let name = format!("keygate-demo-{:016x}", getrandom::u64()?);
        let path = std::env::temp_dir().join(name);
        // Creating fails if somebody got there first: nothing of another's is ever used.
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("creating {}", path.display()))?;
        Ok(Self(path))
    }

    pub(super) fn config(&self) -> PathBuf {
        self.0.join("keygate.yaml")
    }

    pub(super) fn store(&self) -> PathBuf {
        self.0.join("keygate.db")
    }

    pub(super) fn access_log(&self) -> PathBuf {
        self.0.join("access.log")
    }

    /// Writes each provider's key into a file of its own.
    pub(super) fn write_keys(&self, keys: &Keys) -> anyhow::Result<()> {
        self.write(&self.key("openai"), &keys.openai)?;
        self.write(&self.key("anthropic"), &keys.anthropic)?;
        self.write(&self.key("gemini"), &keys.gemini)
    }

    /// Writes the configuration of a gateway on `port` in front of the mock provider at `mock`.
    pub(super) fn write_config(&self, port: u16, mock: SocketAddr) -> anyhow::Result<()> {
        // A JSON string is a YAML string, whatever is in the path.
        let quote = |path: &Path| json!(path.to_string_lossy()).to_string();
        let providers: String = ["openai", "anthropic", "gemini"]
            .iter()
            .map(|kind| {
                let key = quote(&self.key(kind));
                format!("  {kind}:\n    kind: {kind}\n    url: http://{mock}\n    keys: [{{ file: {key} }}]\n")
            })
            .collect();
        let text = format!(
            "listen:\n  - address: 127.0.0.1:{port}\n\
             admin:\n  address: 127.0.0.1:0\n\
             store:\n  sqlite: {store}\n\
             access_log: {{ file: {log} }}\n\
             limits:\n  drain: 2s\n\
             providers:\n{providers}",
            store = quote(&self.store()),
            log = quote(&self.access_log()),
        );
        self.write(&self.config(), &text)
    }

    fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| format!("writing {}", path.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            log::warn!("{} is left behind: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn what_is_in_the_directory_is_its_owners_alone_and_goes_with_it() {
        let scratch = Scratch::new().unwrap();
        scratch.write_keys(&Keys::default()).unwrap();
        scratch.write_config(0, "127.0.0.1:1".parse().unwrap()).unwrap();
        let dir = scratch.0.clone();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        let files: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|f| f.unwrap().path()).collect();
        assert_eq!(files.len(), 4, "three keys and the configuration: {files:?}");
        for file in files {
            assert_eq!(mode(&file), 0o600, "{}", file.display());
        }
        drop(scratch);
        assert!(!dir.exists(), "nothing may stay behind");
    }

    #[test]
    fn the_configuration_is_one_that_loads() {
        let scratch = Scratch::new().unwrap();
        scratch.write_keys(&Keys::default()).unwrap();
        scratch.write_config(1234, "127.0.0.1:1".parse().unwrap()).unwrap();
        let config = crate::config::load(&scratch.config()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(config.listen[0].address, "127.0.0.1:1234".parse().unwrap());
        let kinds: Vec<_> = config.providers.iter().map(|p| (&*p.name, p.kind.as_str())).collect();
        assert_eq!(kinds, [("openai", "openai"), ("anthropic", "anthropic"), ("gemini", "gemini")]);
    }
}
