//! Which processes live, and that one of them has changed something.
//!
//! What a process had under way when it was killed is nobody's any more.
//! Each process draws a number and locks that byte of a file beside the database (an open file
//! description's lock, `fcntl(2)`): the kernel lets it go with the process, however that ends, and tells
//! everybody who shares the file, whatever names processes have where they run. The file's first bytes
//! are another number after every change: reading them is one call of the kernel, and no lock.

use crate::stream::store::Failed;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Bytes of the number that changes.
const MARK: usize = 8;

/// This process, once it has something under way.
pub(super) struct Owner {
    path: PathBuf,
    claimed: OnceLock<(i64, File)>,
}

impl Owner {
    /// Of the processes that share the database at `path`.
    pub(super) fn beside(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-owners");
        Self { path: name.into(), claimed: OnceLock::new() }
    }

    /// This process's number; never 0.
    pub(super) fn number(&self) -> Result<i64, Failed> {
        let failed = |e: &dyn std::fmt::Display| Failed(format!("{}: {e}", self.path.display()));
        if let Some((number, _)) = self.claimed.get() {
            return Ok(*number);
        }
        let file = self.open().map_err(|e| failed(&e))?;
        if file.metadata().map_err(|e| failed(&e))?.len() == 0 {
            // From here on there is room for it, however full the disk.
            file.write_all_at(&[0; MARK], 0).map_err(|e| failed(&e))?;
        }
        let drawn = getrandom::u64().map_err(|e| failed(&e))?;
        // Two billion processes may come before two draw the same.
        let number = i64::try_from(drawn >> 2).unwrap_or(i64::MAX / 2) + 1;
        lock(&file, number, libc::F_WRLCK).map_err(|e| failed(&e))?;
        // Of two threads that come first, one counts; the other's lock goes with its file.
        Ok(self.claimed.get_or_init(|| (number, file)).0)
    }

    /// Another number after every change by anybody.
    pub(super) fn mark(&self) -> Option<u64> {
        let (_, file) = self.claimed.get()?;
        let mut mark = [0; MARK];
        file.read_exact_at(&mut mark, 0).ok()?;
        Some(u64::from_be_bytes(mark))
    }

    /// Tells everybody that something has changed.
    pub(super) fn tell(&self) -> Result<(), Failed> {
        self.number()?;
        let failed = |e: &dyn std::fmt::Display| Failed(format!("{}: {e}", self.path.display()));
        let Some((_, file)) = self.claimed.get() else { return Ok(()) };
        // Drawn, not counted: of two that count from the same one, one would be missed.
        let drawn = getrandom::u64().map_err(|e| failed(&e))?;
        file.write_all_at(&drawn.to_be_bytes(), 0).map_err(|e| failed(&e))
    }

    /// Whether the process with this number lives.
    pub(super) fn lives(&self, number: i64) -> bool {
        if self.claimed.get().is_some_and(|(own, _)| *own == number) {
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
        assert_eq!(one.mark(), other.mark(), "nothing has changed");
        let before = other.mark();
        one.tell().expect("it is told");
        assert_ne!(other.mark(), before, "everybody sees it");
        assert!(before.is_some());
        drop(one);
        assert!(!other.lives(number), "it is gone");
        assert!(!other.lives(12_345), "nobody ever had this one");
    }
}
