//! Step 6: which provider a path leads to, and what of the path it sees.
//!
//! By path and `anthropic-version`, never by which slot carries the token: current Anthropic SDKs
//! send `Authorization: Bearer`. Order: `/<name>/`, configured routes (longest first), then bare
//! paths: gemini, anthropic, openai.

use crate::config::{Config, Kind};
use http::Method;

/// The routes of one configuration.
#[derive(Debug)]
pub struct Table {
    names: Vec<(Box<str>, usize)>,
    routes: Vec<(Box<str>, usize)>,
    gemini: Option<usize>,
    anthropic: Option<usize>,
    openai: Option<usize>,
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index into the configuration's providers.
    pub provider: usize,
    /// How many bytes of the path are not the provider's.
    pub skip: usize,
}

impl Table {
    /// Reads the routes out of a configuration.
    pub fn new(config: &Config) -> Self {
        let bare =
            |kind| config.providers.iter().position(|p| p.kind == kind && p.routes.is_none());
        let mut routes: Vec<(Box<str>, usize)> = config
            .providers
            .iter()
            .enumerate()
            .flat_map(|(index, p)| p.routes.iter().flatten().map(move |r| (r.clone(), index)))
            .collect();
        routes.sort_by_key(|(route, _)| std::cmp::Reverse(route.len()));
        Self {
            names: config
                .providers
                .iter()
                .enumerate()
                .map(|(index, p)| (format!("/{}/", p.name).into(), index))
                .collect(),
            routes,
            gemini: bare(Kind::Gemini),
            anthropic: bare(Kind::Anthropic),
            openai: bare(Kind::OpenAi),
        }
    }

    /// The route of a canonical path.
    pub fn find(&self, method: &Method, path: &str, anthropic_version: bool) -> Option<Route> {
        for (prefix, provider) in &self.names {
            if path.starts_with(&**prefix) {
                // The slash stays: `/openai/v1/x` is `/v1/x` to the provider.
                return Some(Route { provider: *provider, skip: prefix.len() - 1 });
            }
        }
        let whole = |provider| Route { provider, skip: 0 };
        for (prefix, provider) in &self.routes {
            if path.starts_with(&**prefix) || path == prefix.trim_end_matches('/') {
                return Some(whole(*provider));
            }
        }
        let gemini = self.gemini.filter(|_| is_gemini(method, path));
        let anthropic = self.anthropic.filter(|_| is_anthropic(path, anthropic_version));
        let openai = self.openai.filter(|_| path.starts_with(OPENAI));
        gemini.or(anthropic).or(openai).map(whole)
    }
}

/// The bare paths: what each kind answers to without its name in front. Whatever is added here
/// needs its row in `tests/matrix.rs`.
pub const BARE: [(Kind, &str); 9] = [
    (Kind::Gemini, "/v1beta/"),
    (Kind::Gemini, "/v1alpha/"),
    (Kind::Gemini, "/upload/"),
    (Kind::Gemini, "/download/"),
    (Kind::Gemini, "/ws/google.ai.generativelanguage"),
    (Kind::Gemini, GEMINI_MODELS),
    (Kind::Anthropic, ANTHROPIC_MESSAGES),
    (Kind::Anthropic, ANTHROPIC_COMPLETE),
    (Kind::OpenAi, OPENAI),
];

/// Gemini's only with a verb behind the model.
const GEMINI_MODELS: &str = "/v1/models/";
/// This, and what lies below it.
const ANTHROPIC_MESSAGES: &str = "/v1/messages";
/// This alone.
const ANTHROPIC_COMPLETE: &str = "/v1/complete";
/// The rest.
const OPENAI: &str = "/v1/";

fn is_gemini(method: &Method, path: &str) -> bool {
    let mut whole = BARE.iter().filter(|(kind, p)| *kind == Kind::Gemini && *p != GEMINI_MODELS);
    if whole.any(|(_, prefix)| path.starts_with(prefix)) {
        return true;
    }
    // `POST /v1/models/{m}:{verb}` where nothing but letters follows the last colon.
    let named = path.strip_prefix(GEMINI_MODELS).and_then(|rest| rest.rsplit_once(':'));
    *method == Method::POST
        && named.is_some_and(|(model, verb)| {
            !model.is_empty() && !verb.is_empty() && verb.bytes().all(|b| b.is_ascii_alphabetic())
        })
}

fn is_anthropic(path: &str, anthropic_version: bool) -> bool {
    path == ANTHROPIC_COMPLETE
        || path
            .strip_prefix(ANTHROPIC_MESSAGES)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        || (anthropic_version && path.starts_with(OPENAI))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        Table {
            names: vec![("/openai/".into(), 0), ("/internal/".into(), 3)],
            routes: vec![("/tools/deep/".into(), 4), ("/tools/".into(), 3)],
            gemini: Some(2),
            anthropic: Some(1),
            openai: Some(0),
        }
    }

    fn to(method: Method, path: &str, version: bool) -> Option<(usize, usize)> {
        table().find(&method, path, version).map(|r| (r.provider, r.skip))
    }

    #[test]
    fn each_path_leads_to_its_provider() {
        for (method, path, version, expected) in [
            (Method::POST, "/openai/v1/chat/completions", false, Some((0, 7))),
            (Method::POST, "/tools/x", false, Some((3, 0))),
            (Method::POST, "/tools/deep/x", false, Some((4, 0))),
            (Method::POST, "/v1/messages", false, Some((1, 0))),
            (Method::POST, "/v1/messages/batches", false, Some((1, 0))),
            (Method::POST, "/v1/messagesx", false, Some((0, 0))),
            (Method::GET, "/v1/models", true, Some((1, 0))),
            (Method::GET, "/v1/models", false, Some((0, 0))),
            (Method::POST, "/v1beta/models/g:generateContent", false, Some((2, 0))),
            (Method::POST, "/v1/models/g:generateContent", false, Some((2, 0))),
            (Method::POST, "/v1/models/ft:gpt-4o:org::id9", false, Some((0, 0))),
            (Method::GET, "/v1/models/g:generateContent", false, Some((0, 0))),
            (Method::GET, "/ws/google.ai.generativelanguage.v1beta.X", false, Some((2, 0))),
            (Method::POST, "/upload/v1beta/files", false, Some((2, 0))),
            (Method::GET, "/", false, None),
            (Method::GET, "/v2/x", false, None),
            (Method::GET, "/openai", false, None),
        ] {
            assert_eq!(to(method.clone(), path, version), expected, "{method} {path} {version}");
        }
    }
}
