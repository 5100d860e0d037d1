//! Many durations, told as a few numbers of JSON.

/// Durations in nanoseconds.
#[derive(Default)]
pub struct Summary(Vec<u64>);

impl Summary {
    /// Adds one.
    pub fn add(&mut self, duration: u64) {
        self.0.push(duration);
    }

    /// `{"count": …, "p50_us": …, "p99_us": …}`
    pub fn to_json(&self) -> String {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let at = |percent: usize| {
            let index = sorted.len().saturating_sub(1) * percent / 100;
            sorted.get(index).map_or(0.0, |ns| *ns as f64 / 1000.0)
        };
        format!(r#"{{"count":{},"p50_us":{:.1},"p99_us":{:.1}}}"#, sorted.len(), at(50), at(99))
    }
}
