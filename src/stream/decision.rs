//! The decision: what is stored for a stream, held against where a request says it comes from. One
//! pure function, the same for every method and every way of reading.

use super::allowed_origins::{Policy, Rule, each};

/// Where a request says it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// One effective origin, as it was sent.
    Site(Box<[u8]>),
    /// None, and nothing that betrays a browser.
    Program,
    /// None, from a browser whose user went there (`Sec-Fetch-Site: none`).
    Visit,
    /// None, from another site's page.
    Elsewhere,
    /// More than one.
    Several,
}

/// A request's side of the decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where it says it comes from.
    pub source: Source,
    /// Scheme and host that the caller used, as an origin. `None` where anybody could have chosen the
    /// host: without `server_names` a page that rebinds its name makes both equal.
    pub own: Option<Box<str>>,
}

/// What is stored for a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// What it was created with.
    pub current: Option<Policy>,
    /// What a `PUT` would put in its place.
    pub pending: Option<Policy>,
}

/// What the policies say of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may go on.
    Allowed(Ground),
    /// It comes from an origin that may not use the stream.
    Refused,
    /// Nobody knows.
    Unknown,
    /// The stream's policy stands under another spelling of its path.
    Misspelt,
}

/// Why it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ground {
    /// The policy is `*`.
    Open,
    /// Nothing is stored, or the origin is the stream's own.
    Free,
    /// The policy is a list, and the origin is on it; or none was sent.
    Listed,
}

impl Page {
    /// Whether a browser sent it, as far as that can be told.
    pub fn is_browser(&self) -> bool {
        self.source != Source::Program
    }
}

/// Holds `page` against every policy that stands: it needs all of them.
pub fn decide(standing: &Standing, page: &Page) -> Verdict {
    let current = hold(standing.current.as_ref(), page);
    let Some(pending) = &standing.pending else { return current };
    match (current, hold(Some(pending), page)) {
        (Verdict::Refused, _) | (_, Verdict::Refused) => Verdict::Refused,
        (Verdict::Allowed(a), Verdict::Allowed(b)) if a == b => current,
        // Of two grounds, the one that promises the least.
        (Verdict::Allowed(_), Verdict::Allowed(_)) => Verdict::Allowed(Ground::Free),
        _ => Verdict::Unknown,
    }
}

fn hold(policy: Option<&Policy>, page: &Page) -> Verdict {
    let Some(policy) = policy else { return Verdict::Allowed(Ground::Free) };
    let (ground, fits) = match policy.rule() {
        Rule::Any => return Verdict::Allowed(Ground::Open),
        Rule::Unreadable if page.is_browser() => return Verdict::Unknown,
        Rule::Unreadable => return Verdict::Allowed(Ground::Free),
        Rule::Same => {
            let own = page.own.as_deref().map(str::as_bytes);
            (Ground::Free, own == site(&page.source))
        }
        Rule::List(list) => {
            let listed = |sent: &[u8]| each(list).any(|origin| origin.as_bytes() == sent);
            (Ground::Listed, site(&page.source).is_some_and(listed))
        }
    };
    match page.source {
        Source::Site(_) if fits => Verdict::Allowed(ground),
        // Programs are the token's business.
        Source::Program | Source::Visit => Verdict::Allowed(ground),
        Source::Site(_) | Source::Elsewhere | Source::Several => Verdict::Refused,
    }
}

fn site(source: &Source) -> Option<&[u8]> {
    match source {
        Source::Site(sent) => Some(sent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "https://gate.example";
    const LISTED: &str = "https://app.example";

    fn verdict(current: Option<&str>, pending: Option<&str>, source: &Source) -> Verdict {
        let read = |text: &str| Policy::stored(text);
        let standing = Standing { current: current.map(read), pending: pending.map(read) };
        decide(&standing, &Page { source: source.clone(), own: Some(OWN.into()) })
    }

    fn from(origin: &str) -> Source {
        Source::Site(origin.as_bytes().into())
    }

    /// The table: what is stored, and what each source gets.
    #[test]
    fn every_row_of_the_table_holds() {
        use Ground::*;
        let sources = [
            from(LISTED),
            from(OWN),
            from("https://evil.test"),
            from("null"),
            from("https://APP.example"),
            from(""),
            Source::Several,
            Source::Elsewhere,
            Source::Visit,
            Source::Program,
        ];
        let (y, n, u) = (Verdict::Allowed, Verdict::Refused, Verdict::Unknown);
        let none = [y(Free); 10];
        let any = [y(Open); 10];
        let same = [n, y(Free), n, n, n, n, n, n, y(Free), y(Free)];
        let list = [y(Listed), n, n, n, n, n, n, n, y(Listed), y(Listed)];
        let nobody = [n, n, n, n, n, n, n, n, y(Listed), y(Listed)];
        let unreadable = [u, u, u, u, u, u, u, u, u, y(Free)];
        for (stored, row) in [
            (None, none),
            (Some("*"), any),
            (Some("same-origin"), same),
            (Some(LISTED), list),
            (Some("none"), nobody),
            (Some("broken"), unreadable),
        ] {
            for (source, expected) in sources.iter().zip(row) {
                assert_eq!(verdict(stored, None, source), expected, "{stored:?} {source:?}");
            }
        }
    }

    #[test]
    fn while_two_policies_stand_both_must_allow() {
        let rows = [None, Some("*"), Some("same-origin"), Some(LISTED), Some("broken")];
        for current in rows {
            for pending in rows.into_iter().flatten() {
                for source in
                    [from(LISTED), from(OWN), from("null"), Source::Elsewhere, Source::Program]
                {
                    let both = verdict(current, Some(pending), &source);
                    let each =
                        [verdict(current, None, &source), verdict(Some(pending), None, &source)];
                    let all = each.iter().all(|v| matches!(v, Verdict::Allowed(_)));
                    assert_eq!(
                        matches!(both, Verdict::Allowed(_)),
                        all,
                        "{current:?} and {pending:?} of {source:?}"
                    );
                    if both == Verdict::Allowed(Ground::Listed) {
                        assert_eq!(each, [both, both], "credentials need a list on both sides");
                    }
                }
            }
        }
    }

    #[test]
    fn a_name_that_anybody_can_choose_is_nobodys_own() {
        let standing = Standing { current: Some(Policy::stored("same-origin")), pending: None };
        let rebound = Page { source: from(OWN), own: None };
        assert_eq!(decide(&standing, &rebound), Verdict::Refused);
    }
}
