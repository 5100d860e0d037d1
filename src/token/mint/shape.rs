//! The three shapes in which client tokens are asked for, and every limit of each.
//!
//! What is not known is refused where it could be a misspelt restriction; a restriction that is
//! null or empty is an error, never "unrestricted".

use super::json;
use crate::config::client::ClientTokens;
use crate::values::grant::{Grant, GrantText, MAX_ORIGINS};
use serde_json::{Map, Value};

/// Entries of a list that a request may bring.
const MOST: usize = MAX_ORIGINS;
/// Bytes of metadata.
const METADATA: usize = 1 << 10;
/// Bytes of a grant, as it is stored.
const LONGEST_GRANT: usize = 4 << 10;
pub(super) const SECOND: u64 = 1_000;

/// Who asks how, and wants its answer so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `POST /v1/client/tokens`
    Client,
    /// `POST /v1/realtime/client_secrets`
    Secret,
    /// `POST /v1/realtime/sessions`, whose body is the session.
    Session,
    /// `POST /v1alpha/auth_tokens`
    Gemini,
}

/// What is asked for.
#[derive(Debug, Default)]
pub struct Wish {
    /// The rights; those left out are the parent's.
    pub grant: Grant,
    /// Until when it opens connections (wall clock, milliseconds).
    pub starts_until: u64,
    /// When it ends.
    pub ends_at: u64,
    /// How many connections it opens.
    pub uses: Option<u32>,
    /// To be noted.
    pub metadata: Option<Value>,
    /// The session's configuration, as it was sent.
    pub session: Option<Map<String, Value>>,
}

/// A field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Names and indices from the body down.
    pub loc: Vec<Value>,
    /// What to do.
    pub msg: String,
    /// What kind of fault: `value_error`, `type_error`, `extra_forbidden`.
    pub kind: &'static str,
}

impl Shape {
    /// The shape that a path (canonical, as the provider would see it) asks in.
    pub fn of(path: &str) -> Option<Self> {
        match path {
            "/v1/client/tokens" => Some(Self::Client),
            "/v1/realtime/client_secrets" | "/v1/realtime/translations/client_secrets" => {
                Some(Self::Secret)
            }
            "/v1/realtime/sessions" | "/v1/realtime/transcription_sessions" => Some(Self::Session),
            "/v1alpha/auth_tokens" | "/v1beta/auth_tokens" => Some(Self::Gemini),
            _ => None,
        }
    }

    /// Reads a request's body.
    ///
    /// # Errors
    /// Every field that is wrong.
    pub fn read(self, body: &[u8], config: &ClientTokens, now_ms: u64) -> Result<Wish, Vec<Field>> {
        let mut reader = Reader { problems: Vec::new(), now_ms, max_ms: millis(config.max_ttl) };
        let wish = match self {
            Self::Client => reader.client(body, millis(config.default_ttl)),
            Self::Secret | Self::Session => reader.secret(body, self),
            Self::Gemini => reader.gemini(body),
        };
        if reader.problems.is_empty() { Ok(wish) } else { Err(reader.problems) }
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

pub(super) struct Reader {
    problems: Vec<Field>,
    pub(super) now_ms: u64,
    pub(super) max_ms: u64,
}

impl Reader {
    fn client(&mut self, body: &[u8], default_ms: u64) -> Wish {
        let mut map = self.object(body);
        let ttl = match taken(&mut map, "expiresIn") {
            None => default_ms,
            Some(value) => self.seconds(&["expiresIn"], &value, 1..=3_600),
        };
        let session = taken(&mut map, "constraints").and_then(|value| self.constraints(value));
        let text = GrantText {
            models: self.list(&mut map, "allowedModels"),
            origins: self.list(&mut map, "allowedOrigins"),
            providers: self.list(&mut map, "providers"),
            paths: self.list(&mut map, "paths"),
            methods: self.list(&mut map, "methods"),
            max_session: session.map(|seconds| format!("{seconds}s")),
            ..GrantText::default()
        };
        let single = match taken(&mut map, "singleUse") {
            None | Some(Value::Bool(false)) => None,
            Some(Value::Bool(true)) => Some(1),
            Some(_) => {
                self.wrong(&["singleUse"], "type_error", "write true or false");
                None
            }
        };
        let metadata = taken(&mut map, "metadata");
        if metadata.as_ref().is_some_and(|m| !m.is_object()) {
            self.wrong(&["metadata"], "type_error", "write an object");
        } else if metadata.as_ref().is_some_and(|m| m.to_string().len() > METADATA) {
            self.wrong(&["metadata"], "value_error", "at most 1 KiB of JSON");
        }
        for name in map.keys() {
            self.wrong(&[name], "extra_forbidden", "this field is not known");
        }
        let ends_at = self.now_ms.saturating_add(ttl);
        Wish {
            grant: self.grant(&text),
            starts_until: ends_at,
            ends_at,
            uses: single,
            metadata,
            session: None,
        }
    }

    fn secret(&mut self, body: &[u8], shape: Shape) -> Wish {
        let mut map = self.object(body);
        let expiry = match taken(&mut map, "expires_after").or_else(|| {
            // What the older endpoints of the same name call it.
            map.get("client_secret").and_then(|s| s.get("expires_after")).cloned()
        }) {
            None => (600 * SECOND).min(self.max_ms),
            Some(value) => self.expires_after(&value),
        };
        let session = if shape == Shape::Session {
            map.remove("client_secret");
            Some(map)
        } else {
            let session = match taken(&mut map, "session") {
                None => Map::new(),
                Some(Value::Object(session)) => session,
                Some(_) => {
                    self.wrong(&["session"], "type_error", "write an object");
                    Map::new()
                }
            };
            for name in map.keys() {
                self.wrong(&[name], "extra_forbidden", "this field is not known");
            }
            Some(session)
        };
        let models = session.as_ref().and_then(|session| self.models_of(session));
        let text = GrantText { models, ..GrantText::default() };
        let ends_at = self.now_ms.saturating_add(expiry);
        let grant = self.grant(&text);
        Wish { grant, starts_until: ends_at, ends_at, session, ..Wish::default() }
    }

    /// Every model that a session names: its own, and the one that transcribes for it.
    fn models_of(&mut self, session: &Map<String, Value>) -> Option<Vec<String>> {
        let found = |path: &[&str]| {
            let (first, rest) = path.split_first()?;
            let within = session.get(*first)?;
            rest.iter().try_fold(within, |value, name| value.get(name))
        };
        let named = [
            &["model"][..],
            &["audio", "input", "transcription", "model"],
            // The older endpoints'.
            &["input_audio_transcription", "model"],
        ];
        let mut models = Vec::new();
        for path in named {
            match found(path) {
                None => {}
                Some(Value::String(model)) if !model.contains('*') => models.push(model.clone()),
                Some(_) => {
                    let place: Vec<&str> =
                        std::iter::once("session").chain(path.to_vec()).collect();
                    self.wrong(&place, "type_error", "write a model's name");
                }
            }
        }
        models.dedup();
        (!models.is_empty()).then_some(models)
    }

    fn expires_after(&mut self, value: &Value) -> u64 {
        let anchor = value.get("anchor");
        if anchor.is_some_and(|anchor| anchor != "created_at") || !value.is_object() {
            self.wrong(&["expires_after", "anchor"], "value_error", "write created_at");
        }
        match value.get("seconds") {
            Some(seconds) => self.seconds(&["expires_after", "seconds"], seconds, 10..=7_200),
            None => {
                self.wrong(&["expires_after", "seconds"], "value_error", "write 10 to 7200");
                0
            }
        }
    }

    /// No body, `null` and `{}` are the same.
    pub(super) fn object(&mut self, body: &[u8]) -> Map<String, Value> {
        if body.trim_ascii().is_empty() {
            return Map::new();
        }
        match json::read(body) {
            Ok(Value::Object(map)) => map,
            Ok(Value::Null) => Map::new(),
            Ok(_) => {
                self.wrong(&[], "type_error", "write an object");
                Map::new()
            }
            Err(_) => {
                let why = "this is no JSON, or a member of it stands twice";
                self.wrong(&[], "json_invalid", why);
                Map::new()
            }
        }
    }

    /// Milliseconds of a number of seconds within `range` and the longest life.
    fn seconds(
        &mut self,
        place: &[&str],
        value: &Value,
        range: std::ops::RangeInclusive<u64>,
    ) -> u64 {
        let longest = (*range.end()).min(self.max_ms / SECOND);
        match value.as_u64() {
            Some(seconds) if (*range.start()..=longest).contains(&seconds) => seconds * SECOND,
            Some(_) => {
                let why = format!("write {} to {longest}", range.start());
                self.wrong(place, "value_error", &why);
                0
            }
            None => {
                self.wrong(place, "type_error", "write a whole number of seconds");
                0
            }
        }
    }

    fn list(&mut self, map: &mut Map<String, Value>, name: &str) -> Option<Vec<String>> {
        let value = map.remove(name)?;
        let texts: Option<Vec<String>> = value
            .as_array()
            .and_then(|list| list.iter().map(|entry| entry.as_str().map(str::to_owned)).collect());
        match texts {
            Some(texts) if texts.len() <= MOST => return Some(texts),
            Some(_) => self.wrong(&[name], "value_error", &format!("{MOST} entries at most")),
            None => self.wrong(&[name], "type_error", "write a list of texts, or leave it out"),
        }
        None
    }

    /// Seconds that a session may last.
    fn constraints(&mut self, value: Value) -> Option<u64> {
        let mut place = vec!["constraints"];
        let Value::Object(mut map) = value else {
            self.wrong(&place, "type_error", "write an object");
            return None;
        };
        let realtime = taken(&mut map, "realtime");
        for name in map.keys() {
            self.wrong(&["constraints", name], "extra_forbidden", "this field is not known");
        }
        place.push("realtime");
        let Value::Object(mut map) = realtime? else {
            self.wrong(&place, "type_error", "write an object");
            return None;
        };
        let seconds = taken(&mut map, "maxSessionDuration");
        for name in map.keys() {
            let place = ["constraints", "realtime", name];
            self.wrong(&place, "extra_forbidden", "this field is not known");
        }
        place.push("maxSessionDuration");
        let seconds = seconds?;
        let read = seconds.as_u64().filter(|seconds| (10..=31_536_000).contains(seconds));
        if read.is_none() {
            self.wrong(&place, "value_error", "write a number of seconds, at least 10");
        }
        read
    }

    pub(super) fn grant(&mut self, text: &GrantText) -> Grant {
        if serde_json::to_string(text).is_ok_and(|text| text.len() > LONGEST_GRANT) {
            self.wrong(&[], "value_error", "what it asks for is longer than 4 KiB: ask for less");
            return Grant::default();
        }
        match text.read() {
            Ok(grant) => grant,
            Err(found) => {
                for (place, why) in found {
                    let (name, index) = place.split_once('[').unwrap_or((&place, ""));
                    let name = match name {
                        "models" => "allowedModels",
                        "origins" => "allowedOrigins",
                        other => other,
                    };
                    let mut loc: Vec<Value> = vec!["body".into(), name.into()];
                    loc.extend(index.trim_end_matches(']').parse::<u64>().ok().map(Value::from));
                    let msg = why.to_string();
                    self.problems.push(Field { loc, msg, kind: "value_error" });
                }
                Grant::default()
            }
        }
    }

    pub(super) fn wrong(&mut self, place: &[&str], kind: &'static str, msg: &str) {
        let names = place.iter().map(|name| Value::from(*name));
        let loc = std::iter::once("body".into()).chain(names).collect();
        self.problems.push(Field { loc, msg: msg.to_owned(), kind });
    }
}

/// Takes a member out; null is none.
fn taken(map: &mut Map<String, Value>, name: &str) -> Option<Value> {
    map.remove(name).filter(|value| !value.is_null())
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
