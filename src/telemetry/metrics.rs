//! Metrics in Prometheus' text format, in a registry of our own.
//!
//! Whatever a request touches is a handle resolved beforehand ([`ProviderMetrics`]) or a plain
//! atomic; labels come from the configuration and from our own closed lists, never from callers, so
//! that nobody can grow the number of series. `docs/operations.md` names every metric; a test
//! holds it to that.

use super::provider_metrics::{Families, ProviderMetrics};
use crate::telemetry::diagnostics;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::sync::Arc;

/// Asked for a count when metrics are rendered.
type Count = Box<dyn Fn() -> u64 + Send + Sync>;

/// Why a connection was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// Its address has too many already.
    PerAddress,
    /// The gateway is going away.
    Draining,
    /// Its TLS handshake failed, or took too long.
    Handshake,
}

/// Everything that is measured.
pub struct Metrics {
    registry: Registry,
    families: Families,
    /// Connections of callers, now.
    pub connections_open: IntGauge,
    /// Requests, streams and sockets, now.
    pub requests_in_flight: IntGauge,
    /// Requests whose token was unknown, revoked or expired.
    pub failed_authentications: IntCounter,
    /// Requests that passed because a limiter failed.
    pub limiter_failures: IntCounter,
    /// Tokens known, disabled ones too.
    pub tokens: IntGauge,
    /// 1 while the store answers, else 0.
    pub store_healthy: IntGauge,
    /// Answers that had a key in them.
    pub redacted_responses: IntCounter,
    /// Upload URLs that could not be made to lead back here.
    pub upload_urls_unchanged: IntCounter,
    denials: IntCounterVec,
    connections_refused: IntCounterVec,
    sessions_cut: IntCounterVec,
    reloads: IntCounterVec,
    config_loaded: IntGauge,
    certificate_ends: IntGaugeVec,
    certificates_loaded: IntCounterVec,
    key_errors: IntCounterVec,
    access_log_dropped: IntCounter,
    diagnostics_dropped: IntCounter,
    access_log: Mutex<Option<Count>>,
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// Two metrics have the same name, which a test excludes.
    pub fn new() -> Result<Self, prometheus::Error> {
        let make = Maker(Registry::new());
        let metrics = Self {
            families: families(&make)?,
            connections_open: make.gauge(names::CONNECTIONS_OPEN)?,
            requests_in_flight: make.gauge(names::REQUESTS_IN_FLIGHT)?,
            failed_authentications: make.counter(names::FAILED_AUTHENTICATIONS)?,
            limiter_failures: make.counter(names::LIMITER_FAILURES)?,
            tokens: make.gauge(names::TOKENS)?,
            store_healthy: make.gauge(names::STORE_HEALTHY)?,
            redacted_responses: make.counter(names::REDACTED_RESPONSES)?,
            upload_urls_unchanged: make.counter(names::UPLOAD_URLS_UNCHANGED)?,
            denials: make.counters(names::DENIALS, &["code"])?,
            connections_refused: make.counters(names::CONNECTIONS_REFUSED, &["reason"])?,
            sessions_cut: make.counters(names::SESSIONS_CUT, &["reason"])?,
            reloads: make.counters(names::RELOADS, &["result"])?,
            config_loaded: make.gauge(names::CONFIG_LOADED)?,
            certificate_ends: make.gauges(names::CERTIFICATE_ENDS, &["listener"])?,
            certificates_loaded: make.counters(names::CERTIFICATES_LOADED, &["result"])?,
            key_errors: make.counters(names::KEY_ERRORS, &["provider", "key"])?,
            access_log_dropped: make.counter(names::ACCESS_LOG_DROPPED)?,
            diagnostics_dropped: make.counter(names::DIAGNOSTICS_DROPPED)?,
            access_log: Mutex::new(None),
            registry: make.0.clone(),
        };
        let build = make.gauges(names::BUILD_INFO, &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        // Closed lists begin at zero, so that the first increase is seen as one.
        for reason in [Refused::PerAddress, Refused::Draining, Refused::Handshake] {
            metrics.connections_refused.with_label_values(&[reason.as_str()]);
        }
        for result in ["ok", "failed"] {
            metrics.reloads.with_label_values(&[result]);
            metrics.certificates_loaded.with_label_values(&[result]);
        }
        Ok(metrics)
    }

    /// Handles for requests to the provider of this name: resolved once, when a configuration is
    /// made. The same name continues the same series.
    pub fn provider(&self, name: &str) -> Arc<ProviderMetrics> {
        Arc::new(ProviderMetrics::new(name, self.families.clone()))
    }

    /// A request was denied with this code.
    pub fn denied(&self, code: &'static str) {
        self.denials.with_label_values(&[code]).inc();
    }

    /// A connection was not taken.
    pub fn connection_refused(&self, reason: Refused) {
        self.connections_refused.with_label_values(&[reason.as_str()]).inc();
    }

    /// A session was ended by us, for the reason that its close frame gives.
    pub fn session_cut(&self, reason: &'static str) {
        self.sessions_cut.with_label_values(&[reason]).inc();
    }

    /// A reload was tried.
    pub fn reloaded(&self, ok: bool) {
        self.reloads.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// The configuration that serves now was loaded at `wall_ms` (milliseconds since 1970).
    pub fn configuration_loaded(&self, wall_ms: u64) {
        self.config_loaded.set(i64::try_from(wall_ms / 1000).unwrap_or(i64::MAX));
    }

    /// The listener at this address now shows a certificate that ends then (seconds since 1970).
    pub fn certificate_ends(&self, listener: &str, not_after: i64) {
        self.certificate_ends.with_label_values(&[listener]).set(not_after);
    }

    /// The files of a certificate had changed by themselves, and were read.
    pub fn certificate_loaded(&self, ok: bool) {
        self.certificates_loaded.with_label_values(&[if ok { "ok" } else { "failed" }]).inc();
    }

    /// A provider rejected one of our keys. `key` is its name, not the key.
    pub fn key_error(&self, provider: &str, key: &str) {
        self.key_errors.with_label_values(&[provider, key]).inc();
    }

    /// Where the number of lost access-log lines comes from.
    pub fn watch_access_log(&self, dropped: impl Fn() -> u64 + Send + Sync + 'static) {
        *self.access_log.lock() = Some(Box::new(dropped));
    }

    /// Prometheus' text format, version 0.0.4.
    pub fn render(&self) -> String {
        if let Some(dropped) = &*self.access_log.lock() {
            raise(&self.access_log_dropped, dropped());
        }
        raise(&self.diagnostics_dropped, diagnostics::dropped());
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_else(|error| {
            log::error!("metrics can't be rendered: {error}");
            String::new()
        })
    }
}

impl Refused {
    fn as_str(self) -> &'static str {
        match self {
            Self::PerAddress => "per_address",
            Self::Draining => "draining",
            Self::Handshake => "tls_handshake",
        }
    }
}

/// Brings a counter up to what somebody else counted. It never falls.
fn raise(counter: &IntCounter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

fn families(make: &Maker) -> Result<Families, prometheus::Error> {
    Ok(Families {
        requests: make.counters(names::REQUESTS, &["provider", "transport", "status"])?,
        duration: make.histograms(names::REQUEST_DURATION)?,
        first_byte: make.histograms(names::FIRST_BYTE)?,
        request_bytes: make.counters(names::REQUEST_BYTES, &["provider"])?,
        response_bytes: make.counters(names::RESPONSE_BYTES, &["provider"])?,
    })
}

/// Makes metrics and registers them.
struct Maker(Registry);

impl Maker {
    fn register<C: Collector + Clone + 'static>(&self, made: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counter(&self, (name, help): names::Named) -> Result<IntCounter, prometheus::Error> {
        self.register(IntCounter::new(name, help)?)
    }

    fn gauge(&self, (name, help): names::Named) -> Result<IntGauge, prometheus::Error> {
        self.register(IntGauge::new(name, help)?)
    }

    fn gauges(
        &self,
        (name, help): names::Named,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(
        &self,
        (name, help): names::Named,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn histograms(&self, (name, help): names::Named) -> Result<HistogramVec, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(BUCKETS.to_vec());
        self.register(HistogramVec::new(options, &["provider", "transport"])?)
    }
}

/// Seconds: from a cached answer to a realtime session.
const BUCKETS: [f64; 18] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 600.0,
];

/// Every name, with its help text.
mod names {
    pub(super) type Named = (&'static str, &'static str);

    pub(super) const REQUESTS: Named =
        ("keygate_requests_total", "Requests that ended, by provider, transport and status.");
    pub(super) const REQUEST_DURATION: Named =
        ("keygate_request_duration_seconds", "From a request's first byte to its end.");
    pub(super) const FIRST_BYTE: Named =
        ("keygate_first_byte_seconds", "From a request's first byte to the answer's.");
    pub(super) const REQUEST_BYTES: Named =
        ("keygate_request_bytes_total", "Body bytes that callers sent.");
    pub(super) const RESPONSE_BYTES: Named =
        ("keygate_response_bytes_total", "Body bytes that callers got.");
    pub(super) const DENIALS: Named =
        ("keygate_denials_total", "Requests that did not pass the gate, by code.");
    pub(super) const CONNECTIONS_OPEN: Named =
        ("keygate_connections_open", "Connections of callers that are open.");
    pub(super) const CONNECTIONS_REFUSED: Named =
        ("keygate_connections_refused_total", "Connections that were not taken, by reason.");
    pub(super) const REQUESTS_IN_FLIGHT: Named =
        ("keygate_requests_in_flight", "Requests, streams and sockets that are under way.");
    pub(super) const SESSIONS_CUT: Named =
        ("keygate_sessions_cut_total", "Sessions that keygate ended, by reason.");
    pub(super) const FAILED_AUTHENTICATIONS: Named = (
        "keygate_failed_authentications_total",
        "Requests with a token that is unknown, revoked or expired.",
    );
    pub(super) const LIMITER_FAILURES: Named =
        ("keygate_limiter_failures_total", "Requests that passed because a limiter failed.");
    pub(super) const ACCESS_LOG_DROPPED: Named = (
        "keygate_access_log_dropped_lines_total",
        "Access-log lines that were lost because the log blocked or failed.",
    );
    pub(super) const DIAGNOSTICS_DROPPED: Named = (
        "keygate_diagnostics_dropped_lines_total",
        "Lines for standard error that were lost because it blocked or failed.",
    );
    pub(super) const RELOADS: Named =
        ("keygate_reloads_total", "Reloads of the configuration, by result.");
    pub(super) const CONFIG_LOADED: Named = (
        "keygate_config_loaded_timestamp_seconds",
        "When the configuration that serves now was loaded, in seconds since 1970.",
    );
    pub(super) const CERTIFICATE_ENDS: Named = (
        "keygate_certificate_not_after_seconds",
        "When the certificate that a listener shows expires, in seconds since 1970.",
    );
    pub(super) const CERTIFICATES_LOADED: Named = (
        "keygate_certificate_loads_total",
        "Certificates that were read because their files had changed, by result.",
    );
    pub(super) const TOKENS: Named = ("keygate_tokens", "Tokens that are known.");
    pub(super) const STORE_HEALTHY: Named =
        ("keygate_store_healthy", "1 while the store answers, else 0.");
    pub(super) const KEY_ERRORS: Named =
        ("keygate_key_errors_total", "Answers that reject our key, by provider and key name.");
    pub(super) const REDACTED_RESPONSES: Named =
        ("keygate_redacted_responses_total", "Answers that had a key in them, taken out.");
    pub(super) const UPLOAD_URLS_UNCHANGED: Named = (
        "keygate_upload_urls_unchanged_total",
        "Upload URLs that passed as the provider wrote them, and lead around the gateway.",
    );
    pub(super) const BUILD_INFO: Named =
        ("keygate_build_info", "Always 1; the version is in the label.");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Transport;
    use crate::telemetry::provider_metrics::Observation;
    use std::collections::BTreeSet;

    /// What stands between backquotes, or quotes, and looks like a metric.
    fn metrics_in(text: &str, quote: char) -> BTreeSet<&str> {
        let is_name = |s: &&str| {
            s.starts_with("keygate_") && s.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        };
        text.split(quote).filter(is_name).collect()
    }

    #[test]
    fn every_exported_name_is_documented_and_every_documented_one_exported() {
        let (source, _tests) = include_str!("metrics.rs").split_once("#[cfg(test)]").unwrap();
        let exported = metrics_in(source, '"');
        let documented = metrics_in(include_str!("../../docs/operations.md"), '`');
        assert!(exported.len() > 20, "the source must have been read: {exported:?}");
        assert_eq!(exported, documented, "docs/operations.md names exactly what there is");
    }

    #[test]
    fn what_is_counted_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.connections_open.add(3);
        metrics.failed_authentications.inc();
        metrics.denied("rate_limited");
        metrics.denied("rate_limited");
        metrics.connection_refused(Refused::PerAddress);
        metrics.session_cut("token_revoked");
        metrics.reloaded(true);
        metrics.reloaded(false);
        metrics.configuration_loaded(1_700_000_000_999);
        metrics.key_error("openai", "OPENAI_API_KEY");
        let text = metrics.render();
        for line in [
            "keygate_connections_open 3",
            "keygate_failed_authentications_total 1",
            "keygate_denials_total{code=\"rate_limited\"} 2",
            "keygate_connections_refused_total{reason=\"per_address\"} 1",
            "keygate_connections_refused_total{reason=\"draining\"} 0",
            "keygate_sessions_cut_total{reason=\"token_revoked\"} 1",
            "keygate_reloads_total{result=\"ok\"} 1",
            "keygate_reloads_total{result=\"failed\"} 1",
            "keygate_config_loaded_timestamp_seconds 1700000000",
            "keygate_key_errors_total{key=\"OPENAI_API_KEY\",provider=\"openai\"} 1",
            concat!("keygate_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "'{line}' is not in\n{text}");
        }
    }

    #[test]
    fn a_request_is_counted_under_provider_transport_and_status() {
        let metrics = Metrics::new().unwrap();
        let observation = Observation {
            transport: Transport::Sse,
            status: 200,
            duration_us: 2_000_000,
            first_byte_us: Some(30_000),
            bytes_in: 10,
            bytes_out: 500,
        };
        metrics.provider("openai").observe(&observation);
        // As after a reload.
        let provider = metrics.provider("openai");
        provider.observe(&observation);
        provider.observe(&Observation { status: 502, first_byte_us: None, ..observation });
        provider.observe(&Observation { status: 7, ..observation });
        let text = metrics.render();
        let labels = "provider=\"openai\",transport=\"sse\"";
        for line in [
            "keygate_requests_total{provider=\"openai\",status=\"200\",transport=\"sse\"} 2",
            "keygate_requests_total{provider=\"openai\",status=\"502\",transport=\"sse\"} 1",
            "keygate_requests_total{provider=\"openai\",status=\"other\",transport=\"sse\"} 1",
            &format!("keygate_request_duration_seconds_bucket{{{labels},le=\"1\"}} 0"),
            &format!("keygate_request_duration_seconds_bucket{{{labels},le=\"2.5\"}} 4"),
            &format!("keygate_request_duration_seconds_sum{{{labels}}} 8"),
            &format!("keygate_first_byte_seconds_count{{{labels}}} 3"),
            "keygate_request_bytes_total{provider=\"openai\"} 40",
            "keygate_response_bytes_total{provider=\"openai\"} 2000",
        ] {
            assert!(text.lines().any(|l| l == line), "'{line}' is not in\n{text}");
        }
        assert!(!text.contains("websocket"), "what never happened has no series:\n{text}");
    }

    #[test]
    fn lost_access_log_lines_are_asked_for_and_never_fall() {
        let metrics = Metrics::new().unwrap();
        let lost = Arc::new(std::sync::atomic::AtomicU64::new(5));
        let asked = lost.clone();
        metrics.watch_access_log(move || asked.load(std::sync::atomic::Ordering::Relaxed));
        let name = "keygate_access_log_dropped_lines_total";
        assert!(metrics.render().contains(&format!("\n{name} 5\n")));
        lost.store(3, std::sync::atomic::Ordering::Relaxed);
        assert!(metrics.render().contains(&format!("\n{name} 5\n")), "a counter does not fall");
    }
}
