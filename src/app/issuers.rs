//! Fetching other issuers' keys, in the background: requests never wait for it.

use crate::config::client::Jwks;
use crate::egress::fetch;
use crate::proxy::gateway::Gateway;
use crate::token::issuers::Source;
use futures_util::FutureExt;
use nix::fcntl::OFlag;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};

const EVERY: Duration = Duration::from_millis(200);
/// Bytes of a set.
const LARGEST: usize = 256 << 10;
/// For a set, from the look-up of its host to its last byte.
const WITHIN: Duration = Duration::from_secs(5);

/// Looks until `stop` turns true. Each set is read by itself: one that answers late keeps no other.
pub(super) async fn run(gateway: Arc<Gateway>, mut stop: watch::Receiver<bool>) {
    let mut reading = JoinSet::new();
    loop {
        for source in gateway.clients.issuers.due(gateway.clock.steady_ms()) {
            let gateway = gateway.clone();
            reading.spawn(async move {
                let read = AssertUnwindSafe(read(&source)).catch_unwind().await;
                source.rest();
                if read.unwrap_or(false) {
                    // What a key that is gone has signed is not good any more.
                    gateway.clients.forget_verified();
                }
            });
        }
        while reading.try_join_next().is_some() {}
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            _ = stop.changed() => return,
        }
    }
}

/// Reads one set; gives whether it brought another.
async fn read(source: &Source) -> bool {
    let text = match &source.jwks {
        Jwks::Url(url) => match tokio::time::timeout(WITHIN, fetch::get(url, LARGEST)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {WITHIN:?}")),
        },
        Jwks::File(path) => {
            let path = path.clone();
            match spawn_blocking(move || file(&path)).await {
                Ok(read) => read.map_err(|e| e.to_string()),
                Err(e) => Err(e.to_string()),
            }
        }
    };
    let taken = text.and_then(|text| source.take(&text).map_err(|e| e.to_string()));
    // Files are looked at every other second: what is wrong with one is said once.
    let first = source.note(taken.is_ok());
    taken.unwrap_or_else(|why| {
        if first {
            log::warn!(
                "the keys of issuer {} can't be read, the last good ones stay: {why}",
                source.issuer
            );
        }
        false
    })
}

/// Reads a set from a file. What would wait for somebody (a pipe) is none.
fn file(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut text = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut text)?;
    if text.len() > LARGEST {
        return Err(io::Error::other(format!("it is longer than {LARGEST} bytes")));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_or_too_long_is_refused_and_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("jwks.json");
        std::fs::write(&path, "{}").unwrap();
        assert_eq!(file(&path).unwrap(), b"{}");
        std::fs::write(&path, vec![b' '; LARGEST + 1]).unwrap();
        assert!(file(&path).unwrap_err().to_string().contains("longer than"));
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for odd in [pipe.as_path(), dir.path()] {
            assert!(file(odd).unwrap_err().to_string().contains("no file"), "{}", odd.display());
        }
    }
}
