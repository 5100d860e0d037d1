//! Durable streams: append-only streams behind URLs, read by catching up, long-poll and SSE. Source:
//! the protocol's document, and its reference server and client.
//!
//! Every path is a stream, and whoever may use it reaches what others put there: no path is an
//! inference path, so that a client token, or one with a list of models, needs `paths` that name its
//! streams. Which origins may read one is `stream`'s.

use super::{Api, Dialect, ModelPlaces};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::generic::tests::provider;
    use crate::provider::path::Path;
    use http::Method;

    #[test]
    fn no_stream_is_open_to_tokens_that_name_no_paths() {
        let path = Path::new("/v1/stream/user-42/chat");
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::POST, Method::DELETE] {
            assert_eq!((API.class)(&provider(), &method, &path), Class::Stateful, "{method}");
        }
        assert_eq!((API.models)(&provider(), &Method::POST, &path), ModelPlaces::NONE);
    }
}
