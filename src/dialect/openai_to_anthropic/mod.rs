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

pub use answer::{NotAMessage, translate_answer};
pub use request::{TranslateOptions, translate_request};
pub use stream::{BrokenStream, StreamTranslator};

pub use crate::dialect::translate::{Dropped, TranslateError, TranslateFault};

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

#[cfg(test)]
mod tests;
