//! The harness tested against itself: client and upstream, with nothing in between.

mod faults;
mod http;
mod leaks;
mod streams;
mod websocket;

use super::client::{How as ClientHow, Raw, Request};
use super::frame::{self, Frame};
use super::upstream::{Answer, How, Refusing, Upstream};
use super::{canary, ws};
use serde_json::json;
use std::time::{Duration, Instant};
