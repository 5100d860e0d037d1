//! The table of APIs: for each kind its bare paths, path classes, where the model is, where the
//! key goes, and the shape of its errors. Facts from the vendors' documents and SDKs.
//!
//! A provider is one file and one line in [`api`]. Nothing here touches a socket.

pub mod anthropic;
pub mod decart;
pub mod gemini;
pub mod generic;
pub mod key_error;
pub mod minting;
pub mod openai;
pub mod path;
pub mod route;
pub mod socket;
pub mod streams;

use crate::config::{Kind, Provider};
use crate::policy::Class;
use crate::slot::place::Place;
use http::Method;
use path::Path;
use std::borrow::Cow;

/// What is known of one kind of API.
pub struct Api {
    /// The shape of its errors.
    pub dialect: Dialect,
    /// What a path is.
    pub class: fn(&Provider, &Method, &Path<'_>) -> Class,
    /// Where a request names its model.
    pub models: for<'a> fn(&'a Provider, &Method, &'a Path<'a>) -> ModelPlaces<'a>,
    /// Where the key goes; the flag says whether the request is a WebSocket upgrade.
    pub place: fn(&Provider, &Path<'_>, bool) -> Place,
    /// Whether the provider never sees `Origin`, whatever the configuration says.
    pub hides_origin: bool,
    /// Whether the path takes uploads, with a body limit of their own.
    pub upload: fn(&Path<'_>) -> bool,
}

/// The shape in which an SDK expects errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"error":{"message","type","code","param"}}`
    OpenAi,
    /// `{"type":"error","error":{"type","message"},"request_id"}`
    Anthropic,
    /// `{"error":{"code","message","status"}}`
    Gemini,
    /// `{"error":{"code","message"}}`
    Plain,
    /// `{"detail"}`
    Detail,
}

/// Where a request names its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPlaces<'a> {
    /// The path segment, as it is on the wire.
    pub path: Option<Cow<'a, str>>,
    /// The name of the query parameter.
    pub query: Option<&'a str>,
    /// What in the body.
    pub body: BodyPlaces<'a>,
    /// Whether requests of this kind name a model by nature.
    pub expected: bool,
}

/// Which members of a body name a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyPlaces<'a> {
    /// None.
    None,
    /// Top-level members that name the model, and paths (`tools[].model`) of further ones, in JSON
    /// or as the fields of a form.
    Json {
        /// Top-level names, by the API.
        main: &'static [&'static str],
        /// One by the configuration.
        configured: Option<&'a str>,
        /// Further ones; `[]` goes into every element of an array.
        further: &'static [&'static [&'static str]],
    },
    /// Messages of a socket; where the request opens none, there is nothing to look into.
    Frames(&'static socket::Messages),
}

impl ModelPlaces<'_> {
    /// No model by nature.
    pub const NONE: ModelPlaces<'static> =
        ModelPlaces { path: None, query: None, body: BodyPlaces::None, expected: false };

    /// In the path only.
    pub(crate) fn in_path(segment: Cow<'_, str>) -> ModelPlaces<'_> {
        ModelPlaces { path: Some(segment), query: None, body: BodyPlaces::None, expected: true }
    }

    /// The top-level member `model`, and further ones.
    pub(crate) fn in_json(further: &'static [&'static [&'static str]]) -> ModelPlaces<'static> {
        let body = BodyPlaces::Json { main: &["model"], configured: None, further };
        ModelPlaces { path: None, query: None, body, expected: true }
    }
}

/// The table.
pub fn api(kind: Kind) -> &'static Api {
    match kind {
        Kind::OpenAi => &openai::API,
        Kind::Anthropic => &anthropic::API,
        Kind::Gemini => &gemini::API,
        Kind::Decart => &decart::API,
        Kind::DurableStreams => &streams::API,
        Kind::Generic => &generic::API,
    }
}
