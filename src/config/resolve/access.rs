//! Store, admin listener, cross-origin rules and access log.

use super::{limit, listen};
use crate::config::file::{self, shape::AnyOr, shape::Choice};
use crate::config::secret_ref::{Source, check};
use crate::config::{AccessLog, Admin, Cors, Problems};
use crate::values::origin::Origin;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `store:`
pub(super) fn store(written: file::Store, problems: &mut Problems) -> Option<PathBuf> {
    match written.sqlite {
        // Refused as not in effect yet, whatever stands beside it.
        _ if written.redis.is_some() => None,
        None => {
            let why = "it names no store: add sqlite: PATH, or leave the section out";
            problems.push("store", why);
            None
        }
        // SQLite takes some names for something else than a file.
        Some(path) if path.is_empty() || path.starts_with([':', ' ']) || path.ends_with('/') => {
            let why = "this is no file: write a path such as /var/lib/keygate/keygate.db";
            problems.push("store.sqlite", why);
            None
        }
        Some(path) => Some(path.into()),
    }
}

/// `admin:`
pub(super) fn admin(
    written: file::Admin,
    listen: &[Option<SocketAddr>],
    source: &Source<'_>,
    problems: &mut Problems,
) -> Option<Admin> {
    let address = listen::address("admin.address", &written.address, problems);
    if let Some(index) = listen::taken(address, listen) {
        problems.push("admin.address", format!("listen[{index}] has it: give admin another"));
    }
    let password = written.password.and_then(|reference| {
        let found = source(&reference).and_then(|secret| check(&secret).map(|()| secret));
        found.map_err(|why| problems.push("admin.password", why)).ok()
    });
    address.map(|address| Admin { address, password })
}

/// `cors:`
pub(super) fn cors(written: file::Cors, problems: &mut Problems) -> Cors {
    let max_age = limit::duration("cors.max_age", written.max_age.as_deref(), problems);
    let allow_origins = match written.allow_origins {
        None | Some(AnyOr::Any) => None,
        Some(AnyOr::List(list)) => {
            if list.is_empty() {
                let why = "an empty list would allow nothing: write any, or name an origin";
                problems.push("cors.allow_origins", why);
            }
            let mut origins = Vec::with_capacity(list.len());
            for (index, text) in list.iter().enumerate() {
                match Origin::parse(text) {
                    Ok(origin) => origins.push(origin),
                    Err(why) => {
                        problems.push(format!("cors.allow_origins[{index}]"), why.to_string());
                    }
                }
            }
            Some(origins)
        }
    };
    Cors { allow_origins, max_age: max_age.unwrap_or(Duration::from_secs(86_400)) }
}

/// `access_log:`
pub(super) fn access_log(written: Option<&Choice>, problems: &mut Problems) -> AccessLog {
    match written {
        None => AccessLog::Stdout,
        Some(Choice::Word(word)) if word == "stdout" => AccessLog::Stdout,
        Some(Choice::Word(word)) if word == "none" => AccessLog::None,
        Some(Choice::Entry(key, path)) if key == "file" && !path.is_empty() => {
            AccessLog::File(path.into())
        }
        Some(_) => {
            problems.push("access_log", "write stdout, { file: PATH } or none");
            AccessLog::Stdout
        }
    }
}
