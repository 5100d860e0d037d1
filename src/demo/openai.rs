//! What OpenAI's endpoints share: the key, the errors, the list of models.

use super::{Keys, answer, single};
use axum::Json;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

/// Models that the list names; others work, too.
const MODELS: [&str; 3] = ["gpt-4o-mini", "gpt-4o", "gpt-realtime"];

/// `{"error":{"message","type","param","code"}}`
pub(super) fn error(status: StatusCode, kind: &str, code: Option<&str>, message: &str) -> Response {
    let error = json!({"message": message, "type": kind, "param": null, "code": code});
    (status, Json(json!({ "error": error }))).into_response()
}

/// A 400 that says what is wrong with the request.
pub(super) fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "invalid_request_error", None, message)
}

/// Refuses whoever does not present the demo key as `Authorization: Bearer`.
///
/// The refusal is boxed because a `Response` is much larger than nothing.
pub(super) fn authenticate(keys: &Keys, headers: &HeaderMap) -> Result<(), Box<Response>> {
    let presented = single(headers, "authorization").and_then(|v| v.strip_prefix("Bearer "));
    let message = match presented {
        Some(key) if key == keys.openai => return Ok(()),
        Some(_) => "Incorrect API key provided.",
        None => "You didn't provide an API key in an Authorization header using Bearer auth.",
    };
    let status = StatusCode::UNAUTHORIZED;
    Err(Box::new(error(status, "invalid_request_error", Some("invalid_api_key"), message)))
}

/// Authenticates, then reads a JSON object with a `model`; gives both.
pub(super) fn request(
    keys: &Keys,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Value, String), Box<Response>> {
    authenticate(keys, headers)?;
    let request: Value = serde_json::from_slice(body)
        .map_err(|_| Box::new(invalid("We could not parse the JSON body of your request.")))?;
    match request.get("model").and_then(Value::as_str) {
        Some(model) if !model.is_empty() => {
            let model = model.to_owned();
            Ok((request, model))
        }
        _ => Err(Box::new(invalid("you must provide a model parameter"))),
    }
}

/// `GET /v1/models`
pub(super) fn models(keys: &Keys, headers: &HeaderMap) -> Response {
    if let Err(refusal) = authenticate(keys, headers) {
        return *refusal;
    }
    let data: Vec<Value> = MODELS.iter().map(|name| describe(name)).collect();
    Json(json!({"object": "list", "data": data})).into_response()
}

/// `GET /v1/models/{name}`
pub(super) fn model(keys: &Keys, headers: &HeaderMap, name: &str) -> Response {
    match authenticate(keys, headers) {
        Ok(()) => Json(describe(name)).into_response(),
        Err(refusal) => *refusal,
    }
}

/// Any other path: a client is configured with a wrong one.
pub(super) async fn no_such_path(uri: Uri) -> Response {
    let message = format!("Invalid URL ({})", uri.path());
    error(StatusCode::NOT_FOUND, "invalid_request_error", Some("unknown_url"), &message)
}

fn describe(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": answer::now(), "owned_by": "keygate-demo"})
}
