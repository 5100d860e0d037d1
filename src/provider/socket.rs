//! How the messages of a socket name models. They are JSON objects, all of them.

use percent_encoding::percent_decode_str;

/// Paths of members; `[]` goes into every element of an array.
pub type Paths = &'static [&'static [&'static str]];

/// What is known of one kind of socket.
#[derive(Debug, PartialEq, Eq)]
pub struct Messages {
    /// Where a message names the model that is its own.
    pub main: Paths,
    /// Where it may name others.
    pub further: Paths,
    /// Which messages have to.
    pub named: Naming,
    /// Query parameters with which the socket joins what has a model already: which, nobody here
    /// knows.
    pub joins: &'static [&'static str],
    /// What holds instead where the query has this name with this value.
    pub instead: Option<(&'static str, &'static str, &'static Messages)>,
}

/// Where a socket's model is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// In the URL; messages may name more.
    Url,
    /// In the first message.
    First,
    /// In every message of this `type`.
    Each(&'static str),
}

impl Messages {
    /// What holds under this query.
    pub fn under(&'static self, query: Option<&str>) -> &'static Self {
        match self.instead {
            Some((name, value, messages)) if values(query, name).any(|v| v == value) => messages,
            _ => self,
        }
    }

    /// Whether the socket joins something whose model is not known.
    pub fn joins(&self, query: Option<&str>) -> bool {
        self.joins.iter().any(|name| values(query, name).next().is_some())
    }
}

/// The values of a query parameter, in whatever case its name is written.
fn values<'a>(
    query: Option<&'a str>,
    wanted: &'a str,
) -> impl Iterator<Item = std::borrow::Cow<'a, str>> {
    let pairs = query.unwrap_or_default().split('&');
    pairs.filter_map(move |pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = percent_decode_str(name).decode_utf8_lossy();
        name.eq_ignore_ascii_case(wanted).then(|| percent_decode_str(value).decode_utf8_lossy())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    static OTHER: Messages =
        Messages { main: &[], further: &[], named: Naming::First, joins: &[], instead: None };
    static ONE: Messages = Messages {
        main: &[],
        further: &[],
        named: Naming::Url,
        joins: &["call_id"],
        instead: Some(("intent", "other", &OTHER)),
    };

    #[test]
    fn the_query_says_which_kind_of_socket_it_is() {
        for (query, named) in [
            (None, Naming::Url),
            (Some("model=m&intent=another"), Naming::Url),
            (Some("model=m&intent=other"), Naming::First),
            (Some("%69ntent=oth%65r"), Naming::First),
        ] {
            assert_eq!(ONE.under(query).named, named, "{query:?}");
        }
        assert!(ONE.joins(Some("model=m&Call_id=c")) && ONE.joins(Some("call%5Fid")));
        assert!(!ONE.joins(None) && !ONE.joins(Some("call=call_id")));
    }
}
