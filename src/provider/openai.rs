//! OpenAI, and servers compatible with it.
//! Source: platform.openai.com/docs/api-reference, and the official SDKs.

use super::path::Path;
use super::socket::{Messages, Naming};
use super::{Api, BodyPlaces, Dialect, ModelPlaces};
use crate::config::Provider;
use crate::policy::Class;
use crate::slot::place::Place;
use http::Method;

pub(super) static API: Api = Api {
    dialect: Dialect::OpenAi,
    class: |_, method, path| class(method, path),
    models: |_, method, path| models(method, path),
    place: |_: &Provider, _, _| Place::Bearer,
    hides_origin: false,
    upload: |path| path.is_at_or_below("/v1/files") || path.is_at_or_below("/v1/uploads"),
};

/// Bodies that name a model, by path: everything a tool of type `image_generation` may hide too.
const POST_INFERENCE: [&str; 11] = [
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/compact",
    "/v1/responses/input_tokens",
    "/v1/embeddings",
    "/v1/moderations",
    "/v1/images/generations",
    "/v1/audio/speech",
    "/v1/engines/embeddings",
    "/v1/score",
];

/// Bodies that are forms, with a field `model`.
const MULTIPART: [&str; 4] = [
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
    "/v1/images/edits",
    "/v1/images/variations",
];

/// Members beside the main model that name one.
pub(super) const FURTHER: &[&[&str]] = &[
    &["tools", "[]", "model"],
    &["tools", "[]", "svg", "model"],
    // Tools that an earlier search for tools has found.
    &["input", "[]", "tools", "[]", "model"],
    &["input", "[]", "tools", "[]", "svg", "model"],
    &["moderation", "model"],
    &["session", "model"],
    &["session", "audio", "input", "transcription", "model"],
    &["session", "delegation", "responses", "model"],
    &["session", "delegation", "responses", "tools", "[]", "model"],
    &["session", "delegation", "decisions", "model"],
    // Of routers that speak this API; `?` stands for a text, where something else may stand too.
    &["models", "[]", "?"],
    &["fallbacks", "[]", "model"],
    &["fallbacks", "[]", "?"],
];

/// Live sessions: the first message starts one, its model with it.
static LIVE: Messages = Messages {
    main: &[&["session", "model"]],
    further: &[
        &["model"],
        &["session", "delegation", "responses", "model"],
        &["session", "delegation", "responses", "tools", "[]", "model"],
        &["session", "delegation", "decisions", "model"],
    ],
    named: Naming::First,
    joins: &[],
    instead: None,
};

/// Realtime sessions, and sockets that nothing is known of: all speak JSON.
static REALTIME: Messages = Messages {
    main: &[&["session", "model"]],
    further: &[
        &["model"],
        &["session", "audio", "input", "transcription", "model"],
        &["session", "input_audio_transcription", "model"],
        &["session", "tools", "[]", "model"],
        &["response", "model"],
        &["response", "audio", "input", "transcription", "model"],
        &["response", "input_audio_transcription", "model"],
        &["response", "tools", "[]", "model"],
        &["tools", "[]", "model"],
    ],
    named: Naming::Url,
    joins: &["call_id"],
    instead: Some(("intent", "transcription", &TRANSCRIPTION)),
};

/// Sessions that transcribe: the URL need not name a model, `session.update` (formerly
/// `transcription_session.update`) does.
static TRANSCRIPTION: Messages = Messages {
    main: &[
        &["session", "audio", "input", "transcription", "model"],
        &["session", "input_audio_transcription", "model"],
    ],
    further: &[&["model"], &["session", "model"], &["response", "model"]],
    named: Naming::First,
    joins: &["call_id"],
    instead: None,
};

/// Responses over a WebSocket: every turn names its model as a POST does, whatever `stream_id` it
/// has.
static RESPONSES: Messages = Messages {
    main: &[&["model"]],
    further: &[
        &["tools", "[]", "model"],
        &["tools", "[]", "svg", "model"],
        &["input", "[]", "tools", "[]", "model"],
        &["input", "[]", "tools", "[]", "svg", "model"],
        &["moderation", "model"],
        &["response", "model"],
        &["response", "tools", "[]", "model"],
        &["session", "model"],
    ],
    named: Naming::Each("response.create"),
    joins: &[],
    instead: None,
};

/// What a path is. Unknown ones count as stateful.
pub(super) fn class(method: &Method, path: &Path<'_>) -> Class {
    if path.is_at_or_below("/v1/realtime/calls") {
        return Class::OutOfBand;
    }
    let trimmed = path.trimmed();
    match trimmed {
        "/v1/models" => Class::ModelList,
        // Realtime, and responses over WebSocket.
        "/v1/realtime" | "/v1/responses" if method == Method::GET => Class::Inference,
        _ if method == Method::POST
            && (POST_INFERENCE.contains(&trimmed) || MULTIPART.contains(&trimmed)) =>
        {
            Class::Inference
        }
        _ if path.is_at_or_below("/v1/models")
            && (method == Method::GET || method == Method::HEAD) =>
        {
            Class::Inference
        }
        _ => Class::Stateful,
    }
}

/// Where the model is.
pub(super) fn models<'a>(method: &Method, path: &'a Path<'a>) -> ModelPlaces<'a> {
    let trimmed = path.trimmed();
    if let Some(model) = path.raw_below("/v1/models") {
        return ModelPlaces::in_path(model.into());
    }
    match trimmed {
        "/v1/models" => ModelPlaces::NONE,
        "/v1/realtime" => ModelPlaces {
            query: Some("model"),
            body: BodyPlaces::Frames(&REALTIME),
            expected: true,
            ..ModelPlaces::NONE
        },
        "/v1/responses" if method == Method::GET => ModelPlaces {
            body: BodyPlaces::Frames(&RESPONSES),
            expected: true,
            ..ModelPlaces::NONE
        },
        _ if POST_INFERENCE.contains(&trimmed)
            || MULTIPART.contains(&trimmed)
            || trimmed == "/v1/videos" =>
        {
            ModelPlaces::in_json(FURTHER)
        }
        // Fine-tuning jobs, accepted calls and whatever comes: a model that is named is checked.
        _ if method == Method::POST => {
            ModelPlaces { expected: false, ..ModelPlaces::in_json(FURTHER) }
        }
        _ if method == Method::GET && path.is_at_or_below("/v1/live") => {
            ModelPlaces { body: BodyPlaces::Frames(&LIVE), expected: true, ..ModelPlaces::NONE }
        }
        _ if method == Method::GET => {
            ModelPlaces { body: BodyPlaces::Frames(&REALTIME), ..ModelPlaces::NONE }
        }
        _ => ModelPlaces::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::minting;
    use super::*;

    fn classified(method: Method, path: &str) -> Class {
        let path = Path::new(path);
        minting::class("", &path, || class(&method, &path))
    }

    #[test]
    fn paths_are_sorted() {
        for path in
            ["/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/audio/transcriptions"]
        {
            assert_eq!(classified(Method::POST, path), Class::Inference, "{path}");
        }
        assert_eq!(classified(Method::GET, "/v1/models"), Class::ModelList);
        assert_eq!(classified(Method::GET, "/v1/models/gpt-4o"), Class::Inference);
        assert_eq!(classified(Method::DELETE, "/v1/models/ft:x"), Class::Stateful);
        for path in [
            "/v1/files",
            "/v1/responses/resp_1",
            "/v1/batches",
            "/v1/vector_stores/x",
            "/v1/brand_new",
        ] {
            assert_eq!(classified(Method::GET, path), Class::Stateful, "{path}");
        }
        assert_eq!(classified(Method::POST, "/v1/realtime/calls/rtc_1/accept"), Class::OutOfBand);
    }

    #[test]
    fn minting_is_seen_however_it_is_spelt() {
        for path in [
            "/v1/realtime/client_secrets",
            "/v1/realtime/client_secrets/",
            "/v1/realtime/%63lient_secrets",
            "/v1/Realtime/Client_Secrets",
            "/v1/realtime/sessions",
            "/v1/client/tokens",
            "/v1/realtime/transcription_sessions",
            "/v1/realtime/translations/client_secrets",
            "/v1/organization/projects/p/service_accounts",
            "/v1/chatkit/sessions",
        ] {
            assert_eq!(classified(Method::POST, path), Class::Minting, "{path}");
        }
    }

    #[test]
    fn every_inference_path_knows_where_its_model_is() {
        for path in POST_INFERENCE.iter().chain(&MULTIPART) {
            let path = Path::new(path);
            let places = models(&Method::POST, &path);
            assert!(
                places.expected && places.body != BodyPlaces::None,
                "{path:?} names its model in the body"
            );
        }
    }
}
