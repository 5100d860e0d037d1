//! Limits that hold for everybody, and their defaults.

use crate::config::file;
use crate::config::{Limits, Problems};
use crate::values::grant::{RateLimit, RateText};
use crate::values::{Invalid, duration, size};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// `limits:`
pub(super) fn limits(written: &file::Limits, problems: &mut Problems) -> Limits {
    let mut bytes = |key: &str, text: &Option<String>, default| {
        value(&format!("limits.{key}"), text.as_deref(), size::parse, problems).unwrap_or(default)
    };
    let max_body = bytes("max_body", &written.max_body, 32 * MIB);
    let max_ws_message = bytes("max_ws_message", &written.max_ws_message, 16 * MIB);
    let max_upload = bytes("max_upload", &written.max_upload, 2048 * MIB);
    if written.connections_per_address == Some(0) {
        problems.push("limits.connections_per_address", "must be at least 1");
    }
    let failed_auth = failed_auth(written.failed_auth.as_ref(), problems);
    let mut time = |key: &str, text: &Option<String>, seconds| {
        duration(&format!("limits.{key}"), text.as_deref(), problems)
            .unwrap_or(Duration::from_secs(seconds))
    };
    Limits {
        max_body,
        max_ws_message,
        max_upload,
        connections_per_address: written.connections_per_address.unwrap_or(1000),
        failed_auth,
        header_timeout: time("header_timeout", &written.header_timeout, 10),
        idle_timeout: time("idle_timeout", &written.idle_timeout, 75),
        upstream_connect_timeout: time(
            "upstream_connect_timeout",
            &written.upstream_connect_timeout,
            5,
        ),
        upstream_first_byte_timeout: time(
            "upstream_first_byte_timeout",
            &written.upstream_first_byte_timeout,
            600,
        ),
        stream_idle_timeout: time("stream_idle_timeout", &written.stream_idle_timeout, 600),
        drain: time("drain", &written.drain, 30),
    }
}

/// A duration, if it was written.
pub(super) fn duration(
    path: &str,
    text: Option<&str>,
    problems: &mut Problems,
) -> Option<Duration> {
    value(path, text, duration::parse, problems)
}

fn failed_auth(written: Option<&RateText>, problems: &mut Problems) -> RateLimit {
    let default = RateLimit { requests: 20, per: Duration::from_secs(60) };
    match written.map(RateText::read) {
        None => default,
        Some(Ok(limit)) => limit,
        Some(Err(why)) => {
            problems.push("limits.failed_auth", why.to_string());
            default
        }
    }
}

fn value<T>(
    path: &str,
    text: Option<&str>,
    parse: impl Fn(&str) -> Result<T, Invalid>,
    problems: &mut Problems,
) -> Option<T> {
    match parse(text?) {
        Ok(value) => Some(value),
        Err(why) => {
            problems.push(path, why.to_string());
            None
        }
    }
}
