//! Google's Gemini API. Source: ai.google.dev/api, and the official SDKs.

use super::path::{Path, below};
use super::socket::{Messages, Naming};
use super::{Api, BodyPlaces, Dialect, ModelPlaces, openai};
use crate::policy::Class;
use crate::slot::place::Place;
use http::{HeaderName, Method};

static X_GOOG_API_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");

pub(super) static API: Api = Api {
    dialect: Dialect::Gemini,
    class: |_, method, path| class(method, path),
    models: |_, method, path| models(method, path),
    place: |_, path, upgrade| {
        if upgrade {
            Place::Query("key".into())
        } else if openai_path(path).is_some() {
            Place::Bearer
        } else {
            Place::Header(X_GOOG_API_KEY.clone())
        }
    },
    hides_origin: false,
    upload: |path| path.is_at_or_below("/upload"),
};

const VERSIONS: [&str; 3] = ["/v1beta", "/v1alpha", "/v1"];

/// Verbs of a model that answer at once and leave nothing behind.
const VERBS: [&str; 8] = [
    "generateContent",
    "streamGenerateContent",
    "countTokens",
    "embedContent",
    "batchEmbedContents",
    "predict",
    "generateAnswer",
    "countTextTokens",
];

const LIVE: &str = "/ws/google.ai.generativelanguage.";
const FURTHER: &[&[&str]] = &[
    &["requests", "[]", "model"],
    &["generateContentRequest", "model"],
    &["setup", "model"],
    &["agentConfig", "model"],
    &["agent_config", "model"],
    &["batch", "model"],
    &["batch", "inputConfig", "requests", "requests", "[]", "request", "model"],
    &["batch", "input_config", "requests", "requests", "[]", "request", "model"],
];

/// Live: the first message sets the session up, its model with it.
static SESSION: Messages = Messages {
    main: &[&["setup", "model"]],
    further: &[&["model"]],
    named: Naming::First,
    joins: &[],
    instead: None,
};

/// The path below the version.
fn versioned(path: &str) -> Option<&str> {
    VERSIONS.iter().find_map(|version| below(path, version)).filter(|rest| !rest.is_empty())
}

/// `/v1beta/openai/x` speaks OpenAI's dialect as `/v1/x`.
fn openai_path(path: &Path<'_>) -> Option<String> {
    let rest = below(path.trimmed(), "/v1beta/openai")?;
    Some(format!("/v1{rest}"))
}

fn class(method: &Method, path: &Path<'_>) -> Class {
    // Google's batch endpoint answers whole requests that stand in its body, to any of its paths.
    if path.is_at_or_below_any_case("/batch") {
        return Class::Minting;
    }
    if let Some(path) = openai_path(path) {
        return openai::class(method, &Path::new(&path));
    }
    let trimmed = path.trimmed();
    if trimmed.starts_with(LIVE) {
        return Class::Inference;
    }
    let Some(rest) = versioned(trimmed) else { return Class::Stateful };
    let reads = method == Method::GET || method == Method::HEAD;
    match rest.strip_prefix("/models/") {
        Some(model) => match model.rsplit_once(':') {
            Some((_, verb)) if method == Method::POST && VERBS.contains(&verb) => Class::Inference,
            None if reads && !model.contains('/') => Class::Inference,
            _ => Class::Stateful,
        },
        None if rest == "/models" => Class::ModelList,
        None if rest == "/interactions" && method == Method::POST => Class::Inference,
        None => Class::Stateful,
    }
}

/// The path that goes on: SDKs with an auth token ask for a method of its own, and the real key
/// wants the ordinary one.
pub fn ordinary(path: &str) -> &str {
    let method = path.strip_suffix("Constrained").filter(|method| method.starts_with(LIVE));
    method.filter(|method| method.ends_with(".BidiGenerateContent")).unwrap_or(path)
}

fn models<'a>(method: &Method, path: &'a Path<'a>) -> ModelPlaces<'a> {
    if openai_path(path).is_some() {
        // The places are OpenAI's; only `models/{m}` names one in the path.
        return match path.raw_below("/v1beta/openai/models") {
            Some(model) => ModelPlaces::in_path(model.into()),
            None if method == Method::POST => ModelPlaces::in_json(openai::FURTHER),
            None => ModelPlaces::NONE,
        };
    }
    if path.trimmed().starts_with(LIVE) {
        let body = BodyPlaces::Frames(&SESSION);
        return ModelPlaces { body, expected: true, ..ModelPlaces::NONE };
    }
    // The class sees the verb behind an encoded colon, so the model must end there too.
    let raw = path.raw().replace("%3A", ":").replace("%3a", ":");
    let rest = versioned(raw.trim_end_matches('/')).unwrap_or_default();
    let body = BodyPlaces::Json { main: &["model", "agent"], configured: None, further: FURTHER };
    if let Some(model) = rest.strip_prefix("/models/") {
        let model = model.rsplit_once(':').map_or(model, |(model, _)| model);
        // The body may repeat the model, or hold others: all have to agree.
        let body = if method == Method::POST { body } else { BodyPlaces::None };
        return ModelPlaces { body, ..ModelPlaces::in_path(model.to_owned().into()) };
    }
    if rest.starts_with("/tunedModels/") {
        let model = rest.trim_start_matches('/');
        let model = model.rsplit_once(':').map_or(model, |(model, _)| model);
        return ModelPlaces::in_path(model.to_owned().into());
    }
    match rest {
        "/interactions" | "/cachedContents" if method == Method::POST => {
            ModelPlaces { body, expected: true, ..ModelPlaces::NONE }
        }
        _ if method == Method::POST && !path.is_at_or_below("/upload") => {
            ModelPlaces { body, ..ModelPlaces::NONE }
        }
        _ => ModelPlaces::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::super::minting;
    use super::*;

    fn of(method: Method, path: &str) -> Class {
        let path = Path::new(path);
        minting::class("", &path, || class(&method, &path))
    }

    #[test]
    fn paths_are_sorted() {
        assert_eq!(
            of(Method::POST, "/v1beta/models/gemini-2.5-flash:generateContent"),
            Class::Inference
        );
        assert_eq!(of(Method::POST, "/v1/models/g:streamGenerateContent"), Class::Inference);
        assert_eq!(of(Method::POST, "/v1beta/models/g:batchGenerateContent"), Class::Stateful);
        assert_eq!(of(Method::POST, "/v1beta/openai/chat/completions"), Class::Inference);
        assert_eq!(of(Method::GET, "/v1beta/models"), Class::ModelList);
        for path in [
            "/v1beta/files/x",
            "/v1beta/cachedContents",
            "/upload/v1beta/files",
            "/v1beta/tunedModels/x",
        ] {
            assert_eq!(of(Method::POST, path), Class::Stateful, "{path}");
        }
        for path in ["/v1alpha/auth_tokens", "/v1beta/auth_tokens/", "/v1beta/%61uth_tokens"] {
            assert_eq!(of(Method::POST, path), Class::Minting, "{path}");
        }
    }

    #[test]
    fn the_model_is_in_the_path() {
        let path = Path::new("/v1beta/models/gemini-2.5-flash:generateContent");
        assert_eq!(models(&Method::POST, &path).path.as_deref(), Some("gemini-2.5-flash"));
        let hidden = Path::new("/v1beta/models/a:b%3AgenerateContent");
        assert_eq!(models(&Method::POST, &hidden).path.as_deref(), Some("a:b"), "the last colon");
        let tuned = Path::new("/v1beta/tunedModels/mine:generateContent");
        assert_eq!(models(&Method::POST, &tuned).path.as_deref(), Some("tunedModels/mine"));
    }

    #[test]
    fn keys_go_where_the_api_reads_them() {
        let config = crate::provider::generic::tests::provider();
        let place = |path, upgrade| (API.place)(&config, &Path::new(path), upgrade);
        assert_eq!(
            place("/v1beta/models/g:generateContent", false),
            Place::Header(X_GOOG_API_KEY.clone())
        );
        assert_eq!(place("/v1beta/openai/chat/completions", false), Place::Bearer);
        assert_eq!(
            place("/ws/google.ai.generativelanguage.v1beta.X", true),
            Place::Query("key".into())
        );
    }
}
