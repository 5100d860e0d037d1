//! Which processes live: what one of them had under way when it was killed is nobody's any more.
//!
//! Each process draws a number and locks that byte of a file beside the database (an open file
//! description's lock, `fcntl(2)`): the kernel lets it go with the process, however that ends, and tells
//! everybody who shares the file, whatever names processes have where they run.

use crate::stream::store::Failed;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// This process, once it has something under way.
pub(super) struct Owner {
    path: PathBuf,
    claimed: Mutex<Option<(i64, File)>>,
}

impl Owner {
    /// Of the processes that share the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-owners");
        Self { path: name.into(), claimed: Mutex::new(None) }
    }

    /// This process's number; never 0.
    pub(super) fn number(&self) -> Result<i64, Failed> {
        let failed = |e: &dyn std::fmt::Display| Failed(format!("{}: {e}", self.path.display()));
        let mut claimed = self.claimed.lock();
        if let Some((number, _)) = &*claimed {
            return Ok(*number);
        }
        let file = self.open().map_err(|e| failed(&e))?;
        let drawn = getrandom::u64().map_err(|e| failed(&e))?;
        // Two billion processes may come before two draw the same.
        let number = i64::try_from(drawn >> 2).unwrap_or(i64::MAX / 2) + 1;
        lock(&file, number, libc::F_WRLCK).map_err(|e| failed(&e))?;
        *claimed = Some((number, file));
        Ok(number)
    }

    /// Whether the process with this number lives.
    pub(super) fn lives(&self, number: i64) -> bool {
        if self.claimed.lock().as_ref().is_some_and(|(own, _)| *own == number) {
            return true;
        }
        let Ok(file) = self.open() else { return true };
        // The lock goes with the file, at the end of this function.
        !matches!(lock(&file, number, libc::F_WRLCK), Ok(()))
    }

    fn open(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o600)
            .open(&self.path)
    }
}

fn lock(file: &File, number: i64, kind: i32) -> Result<(), Errno> {
    let range = libc::flock {
        l_type: i16::try_from(kind).unwrap_or_default(),
        l_whence: i16::try_from(libc::SEEK_SET).unwrap_or_default(),
        l_start: number,
        l_len: 1,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&range)).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_as_long_as_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keygate.db");
        let (one, other) = (Owner::beside(&path), Owner::beside(&path));
        let number = one.number().expect("a number");
        assert_eq!(one.number().expect("the same"), number, "drawn once");
        assert_ne!(other.number().expect("another"), number);
        assert!(number > 0 && one.lives(number) && other.lives(number));
        assert!(other.lives(number), "asking takes nothing away");
        drop(one);
        assert!(!other.lives(number), "it is gone");
        assert!(!other.lives(12_345), "nobody ever had this one");
    }
}
