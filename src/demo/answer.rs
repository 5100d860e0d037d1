//! What the mock says, whatever the dialect: the user's last words, cut into pieces to stream.
//!
//! Words stand in for tokens in the counts.

use crate::values::clock::Clock;
use crate::values::ids::RequestId;
use serde_json::Value;

/// A stream has at most about so many pieces, however long the text: a demo must not take minutes.
const PIECES: usize = 32;

/// An answer, and its counts.
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) input_tokens: usize,
    pub(super) output_tokens: usize,
}

impl Answer {
    /// Answers `turns`: a text, or a list of messages, items or contents of any vendor's shape.
    pub(super) fn to(turns: &Value) -> Self {
        let said = match turns {
            Value::Array(items) => {
                items.iter().rev().find(|item| is_users(item)).map(text_of).unwrap_or_default()
            }
            other => text_of(other),
        };
        let text = format!("You said: {said}");
        let output_tokens = count(&text);
        Self { text, input_tokens: count(&text_of(turns)), output_tokens }
    }

    /// Input and output together.
    pub(super) fn total_tokens(&self) -> usize {
        self.input_tokens + self.output_tokens
    }

    /// The text in pieces of whole words, in order; joined they are the text.
    pub(super) fn pieces(&self) -> Vec<String> {
        let words: Vec<&str> = self.text.split_inclusive(' ').collect();
        words.chunks(words.len().div_ceil(PIECES).max(1)).map(<[&str]>::concat).collect()
    }
}

/// A new id with the vendor's prefix.
pub(super) fn id(prefix: &str) -> String {
    let id = RequestId::new();
    format!("{prefix}{}", id.as_str().trim_start_matches("req_"))
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    Clock::system().wall_ms() / 1000
}

/// Gemini's contents may leave the role out; then they are the user's.
fn is_users(item: &Value) -> bool {
    item.get("role").is_none_or(|role| role == "user")
}

/// All text below `value`: strings, `text`, `content`, `parts`; nothing of images and the like.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let texts: Vec<String> =
                items.iter().map(text_of).filter(|text| !text.is_empty()).collect();
            texts.join(" ")
        }
        Value::Object(fields) => ["text", "content", "parts"]
            .iter()
            .find_map(|name| fields.get(*name))
            .map(text_of)
            .unwrap_or_default(),
        _ => String::new(),
    }
}

fn count(text: &str) -> usize {
    text.split_whitespace().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_user_text_is_found_in_every_vendors_shape() {
        for turns in [
            json!("hello there"),
            json!([{"role": "user", "content": "old"}, {"role": "assistant", "content": "x"},
                   {"role": "user", "content": "hello there"}]),
            json!([{"role": "user", "content": [{"type": "text", "text": "hello there"}]},
                   {"role": "assistant", "content": "prefill"}]),
            json!([{"role": "user", "content": [{"type": "input_text", "text": "hello"},
                   {"type": "input_image", "image_url": "x"},
                   {"type": "input_text", "text": "there"}]}]),
            json!([{"parts": [{"text": "hello there"}]}]),
        ] {
            assert_eq!(Answer::to(&turns).text, "You said: hello there", "{turns}");
        }
    }

    #[test]
    fn pieces_join_to_the_text_and_are_few() {
        for words in [0, 1, 3, 40, 10_000] {
            let answer = Answer::to(&json!(vec!["wörd"; words].join(" ")));
            let pieces = answer.pieces();
            assert_eq!(pieces.concat(), answer.text, "nothing may be lost of {words} words");
            assert!(pieces.len() <= PIECES, "{} pieces are too many", pieces.len());
        }
        assert!(Answer::to(&json!("one two three")).pieces().len() > 3, "short texts stream, too");
    }
}
