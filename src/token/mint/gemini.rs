//! How Gemini's auth tokens are asked for. Source: ai.google.dev/api/live, and the official SDKs.

use super::shape::{Reader, SECOND, Wish};
use crate::values::grant::GrantText;
use crate::values::timestamp;
use serde_json::{Map, Value};

/// What a Gemini auth token is asked for with.
const GEMINI: [(&str, &str); 6] = [
    ("uses", "uses"),
    ("expireTime", "expire_time"),
    ("newSessionExpireTime", "new_session_expire_time"),
    ("bidiGenerateContentSetup", "bidi_generate_content_setup"),
    // Which fields of the setup are fixed: of those only the model is kept to here.
    ("fieldMask", "field_mask"),
    ("name", "name"),
];

impl Reader {
    pub(super) fn gemini(&mut self, body: &[u8]) -> Wish {
        let mut map = Map::new();
        for (name, value) in self.object(body) {
            // Both spellings are the API's (protobuf's JSON mapping).
            let known = GEMINI.iter().find(|(camel, snake)| name == *camel || name == *snake);
            match known {
                None => self.wrong(&[&name], "extra_forbidden", "this field is not known"),
                Some((camel, _)) => {
                    if map.insert((*camel).to_owned(), value).is_some() {
                        self.wrong(&[&name], "value_error", "it stands in both its spellings");
                    }
                }
            }
        }
        let uses = match map.get("uses") {
            None | Some(Value::Null) => Some(1),
            Some(value) => match value.as_u64().and_then(|uses| u32::try_from(uses).ok()) {
                Some(uses @ 1..) => Some(uses),
                _ => {
                    self.wrong(&["uses"], "value_error", "write a number from 1");
                    None
                }
            },
        };
        let ends_at = self.instant(&map, "expireTime", 30 * 60 * SECOND);
        let starts_until = self.instant(&map, "newSessionExpireTime", 60 * SECOND).min(ends_at);
        let models = self.models_of_setup(map.get("bidiGenerateContentSetup"));
        let grant = self.grant(&GrantText { models, ..GrantText::default() });
        Wish { grant, starts_until, ends_at, uses, ..Wish::default() }
    }

    /// The model stands in it, or in the message it holds.
    fn models_of_setup(&mut self, setup: Option<&Value>) -> Option<Vec<String>> {
        let setup = setup.filter(|setup| !setup.is_null())?;
        if !setup.is_object() {
            self.wrong(&["bidiGenerateContentSetup"], "type_error", "write an object");
        }
        let places = [setup.get("model"), setup.get("setup").and_then(|s| s.get("model"))];
        let mut models = Vec::new();
        for model in places.into_iter().flatten() {
            match model {
                Value::String(model) if !model.contains('*') => models.push(model.clone()),
                _ => {
                    let place = &["bidiGenerateContentSetup", "model"];
                    self.wrong(place, "type_error", "write a model's name");
                }
            }
        }
        models.dedup();
        (!models.is_empty()).then_some(models)
    }

    fn instant(&mut self, map: &Map<String, Value>, name: &str, default_ms: u64) -> u64 {
        let earliest = self.now_ms;
        let latest = earliest.saturating_add(self.max_ms);
        let at = match map.get(name) {
            None | Some(Value::Null) => {
                return earliest.saturating_add(default_ms.min(self.max_ms));
            }
            Some(value) => value.as_str().and_then(|text| timestamp::parse(text).ok()),
        };
        match at {
            Some(at) if at > earliest && at <= latest => at,
            Some(_) => {
                self.wrong(&[name], "value_error", "it must lie ahead, and within max_ttl");
                0
            }
            None => {
                self.wrong(&[name], "type_error", "write an instant such as 2099-01-01T00:00:00Z");
                0
            }
        }
    }
}
