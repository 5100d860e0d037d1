//! What is measured of each request, per provider.
//!
//! Invariant: observing is a few atomic additions. A series is looked up, and so comes into being,
//! the first time that its status and transport occur; from then on its handle is at hand.

use super::Transport;
use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec};
use std::sync::OnceLock;

/// Statuses 100 to 599, and one place for whatever else an upstream may say.
const STATUSES: usize = 501;

/// A request that ended.
#[derive(Debug, Clone, Copy)]
pub struct Observation {
    /// How it was answered.
    pub transport: Transport,
    /// Status of the answer.
    pub status: u16,
    /// From the request's first byte to the end.
    pub duration_us: u64,
    /// From the request's first byte to the answer's, if there was one.
    pub first_byte_us: Option<u64>,
    /// Body bytes from the caller.
    pub bytes_in: u64,
    /// Body bytes to the caller.
    pub bytes_out: u64,
}

/// Metrics with a provider's name on them.
#[derive(Clone)]
pub(crate) struct Families {
    pub(crate) requests: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) first_byte: HistogramVec,
    pub(crate) request_bytes: IntCounterVec,
    pub(crate) response_bytes: IntCounterVec,
}

/// Handles to one provider's series.
pub struct ProviderMetrics {
    name: Box<str>,
    families: Families,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    http: Series,
    sse: Series,
    websocket: Series,
}

struct Series {
    by_status: Box<[OnceLock<IntCounter>]>,
    duration: OnceLock<Histogram>,
    first_byte: OnceLock<Histogram>,
}

impl ProviderMetrics {
    pub(crate) fn new(name: &str, families: Families) -> Self {
        Self {
            name: name.into(),
            request_bytes: families.request_bytes.with_label_values(&[name]),
            response_bytes: families.response_bytes.with_label_values(&[name]),
            families,
            http: Series::new(),
            sse: Series::new(),
            websocket: Series::new(),
        }
    }

    /// Counts a request that ended.
    pub fn observe(&self, seen: &Observation) {
        let series = match seen.transport {
            Transport::Http => &self.http,
            Transport::Sse => &self.sse,
            Transport::WebSocket => &self.websocket,
        };
        let labels = [&*self.name, seen.transport.as_str()];
        series.count_status(&self.families.requests, labels, seen.status);
        series
            .duration
            .get_or_init(|| self.families.duration.with_label_values(&labels))
            .observe(seconds(seen.duration_us));
        if let Some(first_byte) = seen.first_byte_us {
            series
                .first_byte
                .get_or_init(|| self.families.first_byte.with_label_values(&labels))
                .observe(seconds(first_byte));
        }
        self.request_bytes.inc_by(seen.bytes_in);
        self.response_bytes.inc_by(seen.bytes_out);
    }
}

impl Series {
    fn new() -> Self {
        Self {
            by_status: (0..STATUSES).map(|_| OnceLock::new()).collect(),
            duration: OnceLock::new(),
            first_byte: OnceLock::new(),
        }
    }

    fn count_status(&self, requests: &IntCounterVec, labels: [&str; 2], status: u16) {
        let known = (100..600).contains(&status);
        let place = if known { usize::from(status) - 100 } else { STATUSES - 1 };
        let Some(cell) = self.by_status.get(place) else { return };
        let counter = cell.get_or_init(|| {
            let text = if known { status.to_string() } else { "other".to_owned() };
            let [provider, transport] = labels;
            requests.with_label_values(&[provider, transport, &text])
        });
        counter.inc();
    }
}

#[allow(clippy::cast_precision_loss, reason = "exact up to 285 years")]
fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}
