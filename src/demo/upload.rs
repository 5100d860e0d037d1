//! Gemini's files: a resumable upload, and the file that it becomes.
//!
//! The first leg answers with the URL of the second. Nothing is kept but the length: it is all in
//! the offset of the last part.

use super::answer;
use super::gemini::{authenticate, error};
use super::{Mock, single};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use std::collections::HashMap;

const COMMAND: &str = "x-goog-upload-command";
const STATUS: &str = "x-goog-upload-status";
const URL: &str = "x-goog-upload-url";

/// Either leg: the second is told by its `upload_id`.
pub(super) async fn upload(
    keys: Mock,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = authenticate(&keys, &headers) {
        return *refusal;
    }
    let command = single(&headers, COMMAND).unwrap_or_default();
    match query.get("upload_id") {
        None if command == "start" => begin(&headers),
        Some(id) if command.contains("upload") => go_on(id, &headers, command, body.len()),
        _ => invalid("the upload's command fits neither leg"),
    }
}

/// `GET /v1beta/files/{name}`
pub(super) async fn file(keys: Mock, Path(name): Path<String>, headers: HeaderMap) -> Response {
    match authenticate(&keys, &headers) {
        Ok(()) => Json(describe(&name, None)).into_response(),
        Err(refusal) => *refusal,
    }
}

fn begin(headers: &HeaderMap) -> Response {
    let host = single(headers, "host").unwrap_or_default();
    let id = answer::id("upload-");
    let url = format!("http://{host}/upload/v1beta/files?upload_id={id}&upload_protocol=resumable");
    let Ok(url) = HeaderValue::try_from(url) else { return invalid("the host is unreadable") };
    let mut answer = Json(json!({})).into_response();
    answer.headers_mut().insert(URL, url);
    answer.headers_mut().insert(STATUS, HeaderValue::from_static("active"));
    answer
}

fn go_on(id: &str, headers: &HeaderMap, command: &str, length: usize) -> Response {
    let offset = single(headers, "x-goog-upload-offset").and_then(|v| v.parse::<usize>().ok());
    let Some(offset) = offset else { return invalid("the offset is missing") };
    let last = command.contains("finalize");
    let body = if last {
        let name = id.trim_start_matches("upload-");
        json!({"file": describe(name, Some(offset + length))})
    } else {
        json!({})
    };
    let mut answer = Json(body).into_response();
    let status = HeaderValue::from_static(if last { "final" } else { "active" });
    answer.headers_mut().insert(STATUS, status);
    answer
}

fn describe(name: &str, length: Option<usize>) -> serde_json::Value {
    json!({
        "name": format!("files/{name}"), "mimeType": "text/plain", "state": "ACTIVE",
        "uri": format!("https://generativelanguage.googleapis.com/v1beta/files/{name}"),
        "sizeBytes": length.unwrap_or_default().to_string(),
    })
}

fn invalid(message: &str) -> Response {
    error(StatusCode::BAD_REQUEST, "INVALID_ARGUMENT", message)
}
