//! Decart. Source: the vendor's SDKs for Python and JavaScript; they are its only reference for
//! paths.
//!
//! The model is the last segment of what is submitted, `POST /v1/generate/{model}` and
//! `POST /v1/jobs/{model}`; `GET /v1/jobs/{id}` and `/v1/jobs/{id}/content` have a job's id in the
//! same place, which is no model. Realtime media goes over LiveKit, beside the gateway: only its
//! signalling, `GET /v1/stream`, passes here.

use super::path::Path;
use super::socket::{Messages, Naming};
use super::{Api, BodyPlaces, Dialect, ModelPlaces};
use crate::policy::Class;
use crate::slot::place::Place;
use http::{HeaderName, Method};

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

pub(super) static API: Api = Api {
    // The SDK for JavaScript shows `detail` alone, the one for Python the body as it is.
    dialect: Dialect::Detail,
    class: |_, method, path| class(method, path),
    models: |_, method, path| models(method, path),
    place: |_, _, upgrade| {
        if upgrade { Place::Query("api_key".into()) } else { Place::Header(X_API_KEY.clone()) }
    },
    hides_origin: false,
    // A job brings its video along.
    upload: |path| path.is_at_or_below("/v1/files") || path.is_at_or_below(JOBS),
};

/// Where sessions are; the second is of older SDKs.
const STREAMS: [&str; 2] = ["/v1/stream", "/v1/avatar-live/stream"];
/// Signals name no model (`livekit_join`, `prompt`, …); one that does is held against the grant.
static SIGNALS: Messages =
    Messages { main: &[], further: &[&["model"]], named: Naming::Url, joins: &[], instead: None };
const GENERATE: &str = "/v1/generate";
const JOBS: &str = "/v1/jobs";
/// Answers with a LiveKit token for whichever room is named.
const WATCH: &str = "/watch-stream";

fn class(method: &Method, path: &Path<'_>) -> Class {
    if path.is_at_or_below(WATCH) {
        return Class::OutOfBand;
    }
    let submitted = || model(method, path).is_some_and(|model| !model.contains('/'));
    match path.trimmed() {
        stream if method == Method::GET && STREAMS.contains(&stream) => Class::Inference,
        _ if method == Method::POST && submitted() => Class::Inference,
        // Jobs and files of everybody behind the key.
        _ => Class::Stateful,
    }
}

/// The model in the path, which is that of a submission: reading and deleting name a job.
fn model<'a>(method: &Method, path: &Path<'a>) -> Option<&'a str> {
    let by_id = [Method::GET, Method::HEAD, Method::DELETE].contains(method);
    path.raw_below(GENERATE).or_else(|| path.raw_below(JOBS).filter(|_| !by_id))
}

fn models<'a>(method: &Method, path: &'a Path<'a>) -> ModelPlaces<'a> {
    if STREAMS.contains(&path.trimmed()) {
        return ModelPlaces {
            query: Some("model"),
            body: BodyPlaces::Frames(&SIGNALS),
            expected: true,
            ..ModelPlaces::NONE
        };
    }
    model(method, path).map_or(ModelPlaces::NONE, |model| ModelPlaces::in_path(model.into()))
}

#[cfg(test)]
mod tests {
    use super::super::minting;
    use super::*;

    fn of(method: Method, path: &str) -> Class {
        let path = Path::new(path);
        minting::class("", &path, || class(&method, &path))
    }

    fn named(method: Method, path: &str) -> Option<String> {
        models(&method, &Path::new(path)).path.map(Into::into)
    }

    #[test]
    fn paths_are_sorted() {
        for path in ["/v1/generate/lucy-image-2", "/v1/jobs/lucy-2.5", "/v1/jobs/lucy-2.5/"] {
            assert_eq!(of(Method::POST, path), Class::Inference, "{path}");
        }
        for path in ["/v1/stream", "/v1/avatar-live/stream"] {
            assert_eq!(of(Method::GET, path), Class::Inference, "{path}");
            let named = Path::new(path);
            let places = models(&Method::GET, &named);
            assert_eq!((places.query, places.expected), (Some("model"), true), "{path}");
        }
        for path in ["/v1/jobs", "/v1/jobs/job_1", "/v1/jobs/job_1/content", "/v1/files/file_1"] {
            assert_eq!(of(Method::GET, path), Class::Stateful, "{path}");
        }
        for path in ["/v1/files", "/v1/jobs/job_1/cancel", "/v1/stream", "/v1/brand_new"] {
            assert_eq!(of(Method::POST, path), Class::Stateful, "{path}");
        }
        assert_eq!(of(Method::DELETE, "/v1/jobs/job_1"), Class::Stateful);
        assert_eq!(of(Method::POST, "/watch-stream/room"), Class::OutOfBand);
        for path in ["/v1/client/tokens", "/v1/Client/Tokens/", "/v1/client/tokens/x"] {
            assert_eq!(of(Method::POST, path), Class::Minting, "{path}");
        }
    }

    #[test]
    fn a_model_is_told_from_a_jobs_id() {
        assert_eq!(named(Method::POST, "/v1/jobs/lucy-2.5").as_deref(), Some("lucy-2.5"));
        assert_eq!(
            named(Method::POST, "/v1/generate/lucy-image-2/").as_deref(),
            Some("lucy-image-2")
        );
        for method in [Method::GET, Method::HEAD, Method::DELETE] {
            assert_eq!(named(method.clone(), "/v1/jobs/job_1"), None, "{method}");
            assert_eq!(named(method.clone(), "/v1/jobs/job_1/content"), None, "{method}");
        }
        // Not known: it may be a submission as well as anything else.
        assert_eq!(named(Method::POST, "/v1/jobs/a/b").as_deref(), Some("a/b"));
        assert_eq!(named(Method::PUT, "/v1/jobs/a").as_deref(), Some("a"));
    }

    #[test]
    fn the_key_goes_into_the_header_and_for_sockets_into_the_query() {
        let config = crate::provider::generic::tests::provider();
        let place = |path, upgrade| (API.place)(&config, &Path::new(path), upgrade);
        assert_eq!(place("/v1/jobs/lucy-2.5", false), Place::Header(X_API_KEY.clone()));
        assert_eq!(place("/v1/stream", true), Place::Query("api_key".into()));
    }
}
