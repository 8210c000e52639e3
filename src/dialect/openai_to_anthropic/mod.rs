//! An OpenAI Chat client served by an Anthropic Messages provider.
//!
//! Three translations: the request ([`translate_request`]), a whole answer ([`translate_answer`]), a stream of events
//! ([`StreamTranslator`]). They walk raw tokens and copy strings, schemas and inputs as they were written; the only
//! texts that are rewritten are tool arguments (JSON inside a string there, JSON here) and schemas.
//!
//! What comes back must be read with what was asked in mind (a synthetic tool that stands for `response_format`, tools
//! with free-form input, usage wished for or not): [`Translated::back`] carries that from the request to the answer.
//!
//! Deliberate choices, where the two APIs cannot agree:
//! - Nothing a user would miss is dropped in silence. What cannot be said is refused with a sentence; what changes
//!   little (`seed`, penalties, `logprobs`) is left out and named in [`Dropped`], for a response header.
//! - `max_tokens` of the client is never exceeded: a thinking budget shrinks to fit under it.
//! - System messages in the middle of a conversation are moved to the top: only the newest models take them in place.
//! - `json_object` becomes an instruction: the API has no such mode, and a tool with an open schema would change what
//!   the model writes.

mod answer;
mod claude;
mod media;
mod messages;
mod params;
mod request;
mod schema;
mod stream;
mod tools;

use std::fmt;

pub use answer::{NotAMessage, translate_answer};
pub use request::{TranslateOptions, translate_request};
pub use stream::{BrokenStream, StreamTranslator};

use crate::dialect::error::{ErrorKind, GatewayError};

/// What the translation of one request leaves for the way back and for the response head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Translated {
    /// Parameters that were left out.
    pub dropped: Dropped,
    /// The client asked for a stream.
    pub stream: bool,
    /// What the answer must be read with.
    pub back: Back,
}

/// What the translators of answers need to know of the request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Back {
    /// The client asked for the usage chunk of a stream.
    pub include_usage: bool,
    /// The answer comes as the input of the synthetic tool [`JSON_TOOL`] and must be unwrapped.
    pub json_tool: bool,
    /// Names of tools whose input is free text, wrapped into an object on the way out.
    pub custom_tools: Vec<String>,
}

/// Name of the synthetic tool that stands for `response_format` on models without native structured output.
pub const JSON_TOOL: &str = "json_tool_call";

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
    fn client(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { fault: TranslateFault::Client, param: param.into(), message: message.into() }
    }

    fn target(param: impl Into<String>, message: impl Into<String>) -> Self {
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
mod tests;
