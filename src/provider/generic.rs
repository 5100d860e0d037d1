//! Any other HTTP API: its slot and the place of its model come from the configuration.

use super::path::Path;
use super::{Api, BodyPlaces, Dialect, ModelPlaces};
use crate::config::{ModelChoice, Provider, SlotChoice};
use crate::policy::Class;
use crate::slot::place::Place;
use http::Method;

pub(super) static API: Api = Api {
    dialect: Dialect::Plain,
    class: |provider, _, path| match &provider.model {
        // Without models there is nothing that a grant with models could be held against.
        ModelChoice::None => Class::Stateful,
        ModelChoice::Path { before, after } if segment(path, before, after).is_none() => {
            Class::Stateful
        }
        _ => Class::Inference,
    },
    models,
    place: |provider, _, _| match &provider.slot {
        SlotChoice::Bearer => Place::Bearer,
        SlotChoice::Header(name) => Place::Header(name.clone()),
        SlotChoice::Query(name) => Place::Query(name.to_string().into()),
    },
    hides_origin: false,
    upload: |_| false,
};

fn models<'a>(provider: &'a Provider, _: &Method, path: &'a Path<'a>) -> ModelPlaces<'a> {
    match &provider.model {
        ModelChoice::None => ModelPlaces::NONE,
        ModelChoice::Json(name) => ModelPlaces {
            body: BodyPlaces::Json { main: &[], configured: Some(name), further: &[] },
            expected: true,
            ..ModelPlaces::NONE
        },
        ModelChoice::Query(name) => {
            ModelPlaces { query: Some(name), expected: true, ..ModelPlaces::NONE }
        }
        ModelChoice::Path { before, after } => match segment(path, before, after) {
            Some(model) => ModelPlaces::in_path(model.into()),
            None => ModelPlaces::NONE,
        },
    }
}

/// The segment that stands for `{model}`. What follows the template is no part of it.
fn segment<'a>(path: &Path<'a>, before: &str, after: &str) -> Option<&'a str> {
    let rest = path.raw().strip_prefix(before)?;
    let end = rest.find('/').unwrap_or(rest.len());
    let (model, tail) = rest.split_at_checked(end)?;
    if after.starts_with('/') || after.is_empty() {
        let fits = tail.strip_prefix(after).is_some_and(|t| t.is_empty() || t.starts_with('/'));
        return (fits && !model.is_empty()).then_some(model);
    }
    // `{model}:verb`: the text behind it belongs to the same segment.
    model.split_once(after).map(|(model, _)| model).filter(|m| !m.is_empty())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::config::{Access, BaseUrl, Kind};

    pub(in crate::provider) fn provider() -> Provider {
        Provider {
            name: "internal".into(),
            kind: Kind::Generic,
            url: BaseUrl {
                tls: false,
                host: "127.0.0.1".into(),
                port: 1,
                authority: "127.0.0.1:1".into(),
                path: "".into(),
            },
            keys: vec![],
            routes: None,
            forward_billing_headers: false,
            forward_origin: false,
            query_slots: None,
            access: Access::Token,
            cookie: None,
            slot: SlotChoice::Bearer,
            model: ModelChoice::Path { before: "/models/".into(), after: "".into() },
        }
    }

    #[test]
    fn the_configured_segment_is_the_model() {
        let of = |path, after| segment(&Path::new(path), "/models/", after).map(str::to_owned);
        assert_eq!(of("/models/org%2Fm", "").as_deref(), Some("org%2Fm"));
        assert_eq!(of("/models/m/predict", "/predict").as_deref(), Some("m"));
        assert_eq!(of("/models/m:predict", ":predict").as_deref(), Some("m"));
        assert_eq!(of("/models/", ""), None);
        assert_eq!(of("/other/m", ""), None);
        assert_eq!(of("/models/m/other", "/predict"), None);
    }

    #[test]
    fn paths_beside_the_template_are_stateful() {
        let provider = provider();
        let class = |path| (API.class)(&provider, &Method::GET, &Path::new(path));
        assert_eq!(class("/models/m"), Class::Inference);
        assert_eq!(class("/admin"), Class::Stateful);
    }
}
