//! Durable streams: append-only streams behind URLs, read by catching up, long-poll and SSE. Source:
//! the protocol's document, and its reference server and client.
//!
//! Every path is a stream, and whoever may use it reaches what others put there: no path is an
//! inference path, so that a client token, or one with a list of models, needs `paths` that name its
//! streams. Which origins may read one is `stream`'s.

use super::path::Path;
use super::{Api, Dialect, ModelPlaces};
use crate::config::{Provider, STREAMS};
use crate::policy::Class;
use crate::slot::place::Place;

pub(super) static API: Api = Api {
    dialect: Dialect::Plain,
    class: |_, _, _| Class::Stateful,
    models: |_, _, _| ModelPlaces::NONE,
    place: |_, _, _| Place::Bearer,
    hides_origin: false,
    upload: |_| false,
};

/// Names the stream that a new one begins as a copy of: its path at the server.
pub const FORKED_FROM: &str = "stream-forked-from";

/// The segment below which the server is controlled (subscriptions, webhooks): no stream.
const CONTROL: &str = "__ds";

/// Whether `path` is a stream by the provider's routes, and not something else that its server has.
/// With no routes of its own the kind's counts, below the provider's name.
pub fn is_stream(provider: &Provider, path: &Path<'_>) -> bool {
    let below = |route: &str| path.raw().strip_prefix(route).is_some_and(|rest| !rest.is_empty());
    let routes = provider.routes.as_deref().unwrap_or_default();
    let routed = routes.iter().any(|route| below(route)) || (routes.is_empty() && below(STREAMS));
    routed && path.decoded().split('/').all(|segment| segment != CONTROL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::generic::tests::provider;
    use http::Method;

    #[test]
    fn no_stream_is_open_to_tokens_that_name_no_paths() {
        let path = Path::new("/v1/stream/user-42/chat");
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
            assert_eq!((API.class)(&provider(), &method, &path), Class::Stateful, "{method}");
        }
        assert_eq!((API.models)(&provider(), &Method::POST, &path), ModelPlaces::NONE);
    }

    #[test]
    fn what_else_the_server_has_is_no_stream() {
        let of = |routes: &[&str], path| {
            let routes = Some(routes.iter().map(|route| (*route).into()).collect());
            is_stream(&Provider { routes, ..provider() }, &Path::new(path))
        };
        for (routes, path, expected) in [
            (&["/v1/stream/"][..], "/v1/stream/a/b", true),
            (&["/v1/stream/"], "/v1/stream/", false),
            (&["/v1/stream/"], "/v1/stream", false),
            (&["/v1/stream/"], "/metrics", false),
            (&["/v1/stream/"], "/v1/stream/__ds/subscriptions/x", false),
            (&["/v1/stream/"], "/v1/stream/%5F_ds/jwks.json", false),
            (&["/a/", "/b/"], "/b/x", true),
            (&["/a/", "/b/"], "/v1/stream/x", false),
            (&[], "/v1/stream/x", true),
            (&[], "/x", false),
        ] {
            assert_eq!(of(routes, path), expected, "{routes:?} {path}");
        }
    }
}
