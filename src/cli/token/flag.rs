//! The flags that `create` and `update` share, and what they come to.
//!
//! Values are checked here, before the store is opened, by the same code that reads them back
//! from it ([`GrantText::read`]): what was accepted is never unreadable later.

use crate::values::clock::Clock;
use crate::values::grant::{GrantText, RateText};
use crate::values::{duration, timestamp};
use anyhow::{anyhow, bail};

const LONGEST_NAME: usize = 100;

/// A grant of the token's own.
#[derive(Debug, clap::Args)]
pub(super) struct GrantFlags {
    /// A provider that it may use (repeat for several; as all of these: left out, any)
    #[arg(long = "provider", value_name = "NAME")]
    providers: Option<Vec<String>>,
    /// A model, exact or with * at the end
    #[arg(long = "model", value_name = "MODEL")]
    models: Option<Vec<String>>,
    /// A site whose pages may use it (`scheme://host` or `scheme://host:port`)
    #[arg(long = "origin", value_name = "ORIGIN")]
    origins: Option<Vec<String>>,
    /// A path as the provider sees it, exact or with * at the end
    #[arg(long = "path", value_name = "PATH")]
    paths: Option<Vec<String>>,
    /// An HTTP method
    #[arg(long = "method", value_name = "METHOD")]
    methods: Option<Vec<String>>,
    /// At most so many requests in each window
    #[arg(long, value_name = "20/60s", value_parser = rate)]
    rate: Option<RateText>,
    /// At most so many requests and sockets at a time
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
}

/// When the token ends.
#[derive(Debug, clap::Args)]
pub(super) struct ExpiryFlags {
    /// When it ends (2099-01-01T00:00:00Z)
    #[arg(long, value_name = "TIME", conflicts_with = "ttl")]
    expires_at: Option<String>,
    /// How long it lasts from now (60s, 10m, 24h, 30d)
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
}

impl GrantFlags {
    /// Whether any was given.
    pub(super) fn given(&self) -> bool {
        self.over(GrantText::default()) != GrantText::default()
    }

    /// `base` with the given dimensions in place of its own, checked.
    pub(super) fn apply(&self, base: GrantText, known: &[String]) -> anyhow::Result<GrantText> {
        for provider in self.providers.iter().flatten() {
            require_known("provider", provider, known)?;
        }
        let text = self.over(base);
        text.read().map_err(|problems| {
            let all: Vec<_> =
                problems.iter().map(|(place, why)| format!("{}: {why}", flag(place))).collect();
            anyhow!(all.join("\n"))
        })?;
        Ok(text)
    }

    fn over(&self, base: GrantText) -> GrantText {
        GrantText {
            providers: self.providers.clone().or(base.providers),
            methods: self.methods.clone().or(base.methods),
            paths: self.paths.clone().or(base.paths),
            models: self.models.clone().or(base.models),
            origins: self.origins.clone().or(base.origins),
            allow_missing_origin: base.allow_missing_origin,
            rate_limit: self.rate.clone().or(base.rate_limit),
            concurrency: self.concurrency.or(base.concurrency),
            max_session: base.max_session,
            end_at_expiry: base.end_at_expiry,
        }
    }
}

impl ExpiryFlags {
    /// The end as it is stored, where one was given.
    pub(super) fn read(&self, clock: &Clock) -> anyhow::Result<Option<String>> {
        let now = clock.wall_ms();
        let end = match (&self.expires_at, &self.ttl) {
            (Some(text), _) => timestamp::parse(text).map_err(|e| anyhow!("--expires-at: {e}"))?,
            (None, Some(text)) => {
                let ttl = duration::parse(text).map_err(|e| anyhow!("--ttl: {e}"))?.as_millis();
                u64::try_from(ttl).map_or(u64::MAX, |ttl| now.saturating_add(ttl))
            }
            (None, None) => return Ok(None),
        };
        if end <= now {
            bail!("--expires-at: that is past already; name an instant in the future");
        }
        let text = timestamp::format(end);
        // The calendar ends with the year 9999; what can't be read back would count as expired.
        if timestamp::parse(&text) != Ok(end) {
            bail!("--ttl: that is too far ahead; leave it out for a token that does not end");
        }
        Ok(Some(text))
    }
}

/// Refuses a name that the configuration does not have, and lists what it has.
pub(super) fn require_known(what: &str, name: &str, known: &[String]) -> anyhow::Result<()> {
    if known.iter().any(|k| k == name) {
        return Ok(());
    }
    let plural = if what == "policy" { "policies" } else { "providers" };
    if known.is_empty() {
        bail!("there is no {what} '{name}': the configuration has no {plural}");
    }
    bail!("there is no {what} '{name}'; the configuration has: {}", known.join(", "))
}

/// Refuses names that would spoil a listing.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let length = name.chars().count();
    if length == 0
        || length > LONGEST_NAME
        || name.trim() != name
        || name.chars().any(char::is_control)
    {
        bail!(
            "--name: use 1 to {LONGEST_NAME} characters, no control characters, no blanks around them"
        );
    }
    Ok(())
}

fn rate(text: &str) -> Result<RateText, String> {
    let (requests, per) =
        text.split_once('/').ok_or("write it as REQUESTS/WINDOW, such as 20/60s")?;
    let requests = requests.parse().map_err(|_| "the number of requests is no number")?;
    let rate = RateText { requests, per: per.to_owned() };
    rate.read().map_err(|e| e.to_string())?;
    Ok(rate)
}

/// The flag that a place in a grant was given by.
fn flag(place: &str) -> &str {
    match place.split('[').next() {
        Some("providers") => "--provider",
        Some("methods") => "--method",
        Some("paths") => "--path",
        Some("models") => "--model",
        Some("origins") => "--origin",
        Some("rate_limit") => "--rate",
        Some("concurrency") => "--concurrency",
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expiry(expires_at: Option<&str>, ttl: Option<&str>) -> Result<Option<String>, String> {
        let flags =
            ExpiryFlags { expires_at: expires_at.map(str::to_owned), ttl: ttl.map(str::to_owned) };
        flags.read(&Clock::manual(1_700_000_000_000)).map_err(|e| e.to_string())
    }

    #[test]
    fn an_end_is_stored_in_utc_and_lies_ahead() {
        assert_eq!(expiry(None, None), Ok(None));
        assert_eq!(
            expiry(Some("2099-01-01T02:00:00+02:00"), None),
            Ok(Some("2099-01-01T00:00:00Z".into()))
        );
        assert_eq!(expiry(None, Some("1d")), Ok(Some("2023-11-15T22:13:20Z".into())));
        for (at, ttl) in [
            (Some("2023-11-14T22:13:20Z"), None),
            (Some("2001-01-01T00:00:00Z"), None),
            (Some("tomorrow"), None),
            (None, Some("1y")),
            (None, Some("99999999d")),
            (None, Some("213503982334d")),
        ] {
            assert!(expiry(at, ttl).is_err(), "{at:?} {ttl:?} must be refused");
        }
    }

    #[test]
    fn rates_are_read() {
        assert_eq!(rate("20/60s"), Ok(RateText { requests: 20, per: "60s".into() }));
        for text in ["20", "20/", "/60s", "0/60s", "-1/60s", "20/60", "20/31d", "20/60s/2"] {
            assert!(rate(text).is_err(), "{text} must be refused");
        }
    }

    #[test]
    fn names_are_printable() {
        assert!(check_name("ci <b>ümläut</b> 日本").is_ok(), "escaping is the page's matter");
        for name in ["", " ", " a", "a\n", "a\u{1b}[31m", &"x".repeat(101)] {
            assert!(check_name(name).is_err(), "{name:?} must be refused");
        }
    }
}
