//! The model that an answer names, kept without memory of its own.
//!
//! Providers answer `gpt-4o-mini` as `gpt-4o-mini-2024-07-18`, and routers as whatever they chose; traces want to know.
//!
//! Limits: [`MODEL_NAME_MAX`] bytes of text without escapes; of anything else, nothing is kept.

use super::json::Raw;
use crate::wire::sse;

/// Longest name that is kept, bytes. Those of known models have up to 50.
pub const MODEL_NAME_MAX: usize = 63;

/// A model's name, or nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ModelName {
    bytes: [u8; MODEL_NAME_MAX],
    length: u8,
}

impl Default for ModelName {
    fn default() -> Self {
        ModelName { bytes: [0; MODEL_NAME_MAX], length: 0 }
    }
}

impl ModelName {
    /// The name that stands there in a document, without its quotes; nothing when it cannot be kept.
    pub fn of(text: &[u8]) -> ModelName {
        let mut name = ModelName::default();
        if let Some(place) = name.bytes.get_mut(..text.len())
            && text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
        {
            place.copy_from_slice(text);
            name.length = text.len() as u8;
        }
        name
    }

    /// The name that an event of a stream says: at its top, or in the `response` or `message` that it begins with.
    pub fn in_event(event: &[u8]) -> ModelName {
        let fields = sse::fields(event);
        let Some(data) = fields.data() else { return ModelName::default() };
        let (mut found, whole) = (None, Raw::of(data.as_ref()));
        whole.members(|name, value| match name {
            b"model" => found = value.content(),
            b"response" | b"message" => found = found.or(value.get("model").and_then(Raw::content)),
            _ => {}
        });
        ModelName::of(found.unwrap_or_default())
    }

    /// The name; empty without one.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl std::fmt::Debug for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_kept_whole_or_not_at_all() {
        let of = |text: &str| ModelName::of(text.as_bytes()).text().to_owned();
        assert_eq!(of("gpt-4o-mini-2024-07-18"), "gpt-4o-mini-2024-07-18");
        assert_eq!(of(&"m".repeat(63)).len(), 63);
        for odd in ["a\\nb", "a b", "é", "", &"m".repeat(64)] {
            assert_eq!(of(odd), "", "{odd}");
        }
    }

    #[test]
    fn every_kind_of_stream_names_its_model_at_its_beginning() {
        for (event, name) in [
            (r#"data: {"id":"c","model":"gpt-4o-mini","choices":[]}"#, "gpt-4o-mini"),
            (
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-x\"}}",
                "claude-x",
            ),
            ("event: response.created\ndata: {\"response\":{\"id\":\"r\",\"model\":\"gpt-5\"}}", "gpt-5"),
            (": a comment", ""),
            ("data: [DONE]", ""),
            (r#"data: {"model":7}"#, ""),
        ] {
            assert_eq!(ModelName::in_event(event.as_bytes()).text(), name, "{event}");
        }
    }
}
