//! An Anthropic Messages client served by an OpenAI Chat provider.
//!
//! The mirror of `openai_to_anthropic`, by the same rules: raw tokens are copied, what cannot be said is refused, what
//! changes little is named in `Dropped`.
//!
//! Deliberate choices, where the two APIs cannot agree:
//! - Thinking goes neither way. Blocks of earlier turns are signed for Anthropic's eyes and are left out; reasoning of
//!   the provider is not made into thinking blocks, because unsigned ones make the next call fail when the
//!   conversation returns to Anthropic.
//! - A trailing assistant message is history here, not the start of the answer: no OpenAI API continues it.
//! - Server tools and typed client tools (`bash_…`, `text_editor_…`) have no schema that could be sent: refused.
//! - A tool result that failed begins with the word `Error`, since OpenAI's has no flag for it.

mod answer;
mod messages;
mod model;
mod request;
mod stream;

pub use answer::{NotACompletion, translate_answer};
pub use request::{TranslateOptions, Translated, translate_request};
pub use stream::{BrokenStream, StreamTranslator};

#[cfg(test)]
mod tests;
