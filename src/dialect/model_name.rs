//! The model that an answer names, kept without memory of its own.
//!
//! Providers answer `gpt-4o-mini` as `gpt-4o-mini-2024-07-18`, and routers as whatever they chose; traces want to know.
//!
//! Limits: [`MODEL_NAME_MAX`] bytes of text without escapes; of anything else, nothing is kept.

use super::json::Raw;

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
    /// The name that the value says; nothing when it cannot be kept.
    pub(super) fn of(value: Raw<'_>) -> ModelName {
        let mut name = ModelName::default();
        let text = value.content().unwrap_or_default();
        if let Some(place) = name.bytes.get_mut(..text.len())
            && text.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'\\')
        {
            place.copy_from_slice(text);
            name.length = text.len() as u8;
        }
        name
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
        let of = |json: &str| ModelName::of(Raw::of(json.as_bytes())).text().to_owned();
        assert_eq!(of("\"gpt-4o-mini-2024-07-18\""), "gpt-4o-mini-2024-07-18");
        assert_eq!(of(&format!("\"{}\"", "m".repeat(63))).len(), 63);
        assert_eq!(of(&format!("\"{}\"", "m".repeat(64))), "");
        for odd in ["null", "7", "\"a\\nb\"", "\"a b\"", "\"é\"", "\"\""] {
            assert_eq!(of(odd), "", "{odd}");
        }
    }
}
