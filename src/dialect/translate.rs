//! What both translators share: why a request cannot be said to a target, and what was left out of it.

use std::fmt;

use super::error::{ErrorKind, GatewayError};

/// Why a request was not translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TranslateError {
    /// Whose fault it is.
    pub fault: TranslateFault,
    /// Path of the member to blame.
    pub param: String,
    /// A sentence that says what is wrong.
    pub message: String,
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TranslateFault {
    /// The request is wrong for any provider.
    Client,
    /// The request is fine, but this target cannot be asked for it; another one may.
    Target,
}

impl TranslateError {
    pub(in crate::dialect) fn client(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fault: TranslateFault::Client, param: param.into(), message: message.into() }
    }

    pub(in crate::dialect) fn target(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fault: TranslateFault::Target, param: param.into(), message: message.into() }
    }
}

impl fmt::Display for TranslateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.param)
    }
}

impl std::error::Error for TranslateError {}

impl From<TranslateError> for GatewayError {
    fn from(error: TranslateError) -> Self {
        let mut answer = Self::new(ErrorKind::InvalidRequest, error.message);
        answer.code = match error.fault {
            TranslateFault::Client => "invalid_request",
            TranslateFault::Target => "unsupported_by_target",
        }
        .into();
        answer.param = (!error.param.is_empty()).then_some(error.param);
        answer
    }
}

/// Request parameters that a translation left out; a small set of known names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped(u32);

impl Dropped {
    const NAMES: [&'static str; 23] = [
        "frequency_penalty",
        "logit_bias",
        "logprobs",
        "modalities",
        "moderation",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "reasoning_effort",
        "seed",
        "service_tier",
        "stop",
        "store",
        "strict",
        "temperature",
        "tool_choice",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
        "other",
    ];

    /// Adds `name`; one that is not in the list counts as `other`.
    pub(in crate::dialect) fn add(&mut self, name: &str) {
        let at = Self::NAMES.iter().position(|known| *known == name).unwrap_or(Self::NAMES.len() - 1);
        self.0 |= 1 << at;
    }

    /// Whether nothing was left out.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, in alphabetical order, `other` last.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().enumerate().filter(move |(at, _)| self.0 & 1 << at != 0).map(|(_, name)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_is_listed_by_name() {
        let mut dropped = Dropped::default();
        assert!(dropped.is_empty());
        for name in ["seed", "brand_new", "logprobs", "seed"] {
            dropped.add(name);
        }
        assert_eq!(dropped.names().collect::<Vec<_>>(), ["logprobs", "seed", "other"]);
        assert!(Dropped::NAMES.len() <= 32);
    }
}
