//! The database's files: who owns them, who may read them, and whether they are still the ones
//! that were opened.
//!
//! Root's command line works in the directory of the service's user: a file that it leaves behind
//! as root's would lock the service out of its own store. Nothing here opens an existing
//! database: closing any descriptor of it would drop SQLite's locks (POSIX advisory locks belong
//! to the process, `https://sqlite.org/howtocorrupt.html` section 2.2).

use crate::token::store::StoreError;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

/// Device and inode.
pub(super) type Identity = (u64, u64);

/// Which file is at `path` now.
pub(super) fn identity(path: &Path) -> Result<Identity, StoreError> {
    let found = std::fs::metadata(path)
        .map_err(|e| StoreError::Failed(format!("{}: {e}; put the file back", path.display())))?;
    Ok((found.dev(), found.ino()))
}

/// Makes an empty database file, 0600 and owned as its directory is, unless there is one.
pub(super) fn create(path: &Path) -> Result<(), StoreError> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let made = match opened {
        Ok(file) => give_to_directory(path, &file),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::Failed(format!(
                "the directory {} does not exist; create it, owned by the user that keygate runs as",
                directory(path).display()
            )));
        }
        Err(e) => Err(e),
    };
    made.map_err(|e| StoreError::Failed(format!("can't create {}: {e}", path.display())))
}

/// Gives root's files of a database in another user's directory to that user.
pub(super) fn adopt(path: &Path) {
    for file in files(path) {
        if let Err(e) = adopt_one(path, &file) {
            log::warn!("can't give {} to its directory's owner: {e}", file.display());
        }
    }
}

/// The database, its write-ahead log and its shared memory.
pub(super) fn files(path: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| {
        let mut name = OsString::from(path);
        name.push(suffix);
        PathBuf::from(name)
    })
}

/// Says so when others than the owner may read or write the database.
pub(super) fn warn_of_mode(path: &Path) {
    let mode = std::fs::metadata(path).map_or(0, |found| found.mode());
    if mode & 0o077 != 0 {
        let mode = mode & 0o777;
        log::warn!("{} has mode {mode:o}: `chmod 600` keeps others out", path.display());
    }
}

fn give_to_directory(path: &Path, file: &File) -> io::Result<()> {
    let owner = std::fs::metadata(directory(path))?;
    // The new file's owner is this process's effective user.
    if file.metadata()?.uid() == 0 && owner.uid() != 0 {
        fchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.sync_all()?;
    File::open(directory(path))?.sync_all()
}

fn adopt_one(database: &Path, file: &Path) -> io::Result<()> {
    let owner = std::fs::metadata(directory(database))?;
    let found = match std::fs::symlink_metadata(file) {
        Ok(found) => found,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    // A link would let the directory's owner aim root's chown at a file elsewhere.
    let plain = found.is_file() && found.nlink() == 1;
    if plain && found.uid() == 0 && owner.uid() != 0 {
        lchown(file, Some(owner.uid()), Some(owner.gid()))?;
    }
    Ok(())
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
