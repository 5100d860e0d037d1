//! Anthropic. Source: docs.anthropic.com/en/api, and the official SDKs.

use super::path::Path;
use super::{Api, Dialect, ModelPlaces};
use crate::policy::Class;
use crate::slot::place::Place;
use http::{HeaderName, Method};

static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

pub(super) static API: Api = Api {
    dialect: Dialect::Anthropic,
    class: |_, method, path| class(method, path),
    models: |_, method, path| models(method, path),
    place: |_, _, _| Place::Header(X_API_KEY.clone()),
    // The API refuses browser origins without a special header.
    hides_origin: true,
    upload: |path| path.is_at_or_below("/v1/files"),
};

const POST_INFERENCE: [&str; 3] = ["/v1/messages", "/v1/messages/count_tokens", "/v1/complete"];
/// `?` stands for a text, where something else may stand too: who is told to choose a fallback
/// chooses a model.
const FURTHER: &[&[&str]] = &[
    &["tools", "[]", "model"],
    &["fallbacks", "[]", "model"],
    &["fallbacks", "[]", "?"],
    &["fallbacks", "?"],
    &["requests", "[]", "params", "model"],
    &["requests", "[]", "params", "tools", "[]", "model"],
    &["requests", "[]", "params", "fallbacks", "[]", "model"],
    &["requests", "[]", "params", "fallbacks", "?"],
];

fn class(method: &Method, path: &Path<'_>) -> Class {
    let trimmed = path.trimmed();
    match trimmed {
        "/v1/models" => Class::ModelList,
        _ if method == Method::POST && POST_INFERENCE.contains(&trimmed) => Class::Inference,
        _ if path.is_at_or_below("/v1/models")
            && (method == Method::GET || method == Method::HEAD) =>
        {
            Class::Inference
        }
        _ => Class::Stateful,
    }
}

fn models<'a>(method: &Method, path: &'a Path<'a>) -> ModelPlaces<'a> {
    if let Some(model) = path.raw_below("/v1/models") {
        return ModelPlaces::in_path(model.into());
    }
    let trimmed = path.trimmed();
    if POST_INFERENCE.contains(&trimmed) {
        ModelPlaces::in_json(FURTHER)
    } else if method == Method::POST {
        ModelPlaces { expected: false, ..ModelPlaces::in_json(FURTHER) }
    } else {
        ModelPlaces::NONE
    }
}

#[cfg(test)]
mod tests {
    use super::super::minting;
    use super::*;

    #[test]
    fn paths_are_sorted() {
        let of = |method, path| {
            let path = Path::new(path);
            minting::class("", &path, || class(&method, &path))
        };
        assert_eq!(of(Method::POST, "/v1/messages"), Class::Inference);
        assert_eq!(of(Method::POST, "/v1/messages/count_tokens"), Class::Inference);
        assert_eq!(of(Method::POST, "/v1/messages/batches"), Class::Stateful);
        assert_eq!(of(Method::GET, "/v1/models"), Class::ModelList);
        assert_eq!(of(Method::GET, "/v1/files"), Class::Stateful);
        assert_eq!(of(Method::POST, "/v1/client/tokens"), Class::Minting);
    }
}
