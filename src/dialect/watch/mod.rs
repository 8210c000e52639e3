//! Watching an upstream stream go by: what each event is, what it cost, whether it came to its end.
//!
//! The gateway holds a stream back until its first content, so that an error or a stall before it is still a failed
//! attempt; it hides the usage chunk it asked for itself; and it must tell a finished stream from a cut one, which
//! SDKs do not. All three come from here, from one forward walk over each event, without a tree and without heap.
//!
//! Invariants: an event is never changed and never needed twice; what cannot be understood is [`EventKind::Other`]
//! and is forwarded; a watch never says `ended` for a stream that showed neither a terminal event nor a finish.

mod alike;
mod anthropic;
mod chat;
mod responses;

pub(in crate::dialect) use responses::{of_incomplete, of_status};

use alike::{Free, Pattern};

use super::api::Api;
use super::usage::{ServiceTier, Usage};
use crate::config::Dialect;
use crate::wire::sse;

/// What one event of a stream means to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// Nothing a user would see yet: role-only deltas, pings, comments, `message_start`, `response.created`.
    Preamble,
    /// Text, reasoning, a tool call, a refusal, audio: from here on another model must not take over.
    Content,
    /// The extra chunk that `stream_options.include_usage` adds: no choices, only usage.
    UsageOnly,
    /// The last event: `[DONE]`, `message_stop`, `response.completed`, `response.incomplete`.
    Terminal,
    /// The provider says that it failed, inside a 200.
    Error,
    /// Anything else, to be forwarded in its place: finish chunks, block ends, unknown events.
    Other,
}

/// Why the model stopped, in the words of neither dialect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done, or met a stop sequence.
    Stop,
    /// The token limit or the context window cut it.
    Length,
    /// It wants tools to be called.
    ToolCalls,
    /// A filter stopped it, or it refused.
    ContentFilter,
    /// The provider failed on the way and says so as a reason.
    Error,
    /// A reason we do not know.
    Other,
}

impl Finish {
    /// The stable word for traces; OpenAI's, where it has one.
    pub fn label(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
            Self::ContentFilter => "content_filter",
            Self::Error => "error",
            Self::Other => "other",
        }
    }

    /// Reads OpenAI's `finish_reason`.
    pub(crate) fn of_openai(reason: &[u8]) -> Self {
        match reason {
            b"stop" | b"eos" | b"stop_sequence" | b"end_turn" => Self::Stop,
            b"length" | b"max_tokens" | b"model_length" => Self::Length,
            b"tool_calls" | b"function_call" => Self::ToolCalls,
            b"content_filter" => Self::ContentFilter,
            b"error" | b"network_error" => Self::Error,
            _ => Self::Other,
        }
    }

    /// Reads Anthropic's `stop_reason`.
    pub(crate) fn of_anthropic(reason: &[u8]) -> Self {
        match reason {
            b"end_turn" | b"stop_sequence" | b"pause_turn" => Self::Stop,
            b"max_tokens" | b"model_context_window_exceeded" => Self::Length,
            b"tool_use" => Self::ToolCalls,
            b"refusal" => Self::ContentFilter,
            _ => Self::Other,
        }
    }
}

/// State over the events of one upstream stream. Lives in the exchange; holds no heap.
#[derive(Debug)]
pub struct StreamWatch {
    shape: Shape,
    seen: Seen,
    /// The last event, when the next one may be like it.
    last: Pattern,
}

/// The event grammar a stream follows.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// OpenAI Chat and Completions chunks.
    Chat,
    /// OpenAI Responses events.
    Responses,
    /// Anthropic Messages events.
    Anthropic,
    /// A stream of an endpoint we do not know, such as image generation: passed on unseen.
    Unknown,
}

/// What the events so far have told.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Seen {
    usage: Option<Usage>,
    /// What OpenAI says beside the usage, in this event or an earlier one.
    tier: Option<ServiceTier>,
    finish: Option<Finish>,
    tool_calls: bool,
    terminal: bool,
    failed: bool,
    /// Bit n: choice n has appeared, or has finished. Choices past the 63rd share the last bit.
    choices: u64,
    finished: u64,
}

impl Seen {
    fn finish(&mut self, finish: Finish) {
        self.finish = Some(finish);
        self.tool_calls |= finish == Finish::ToolCalls;
    }
}

impl StreamWatch {
    /// A watch for what a provider of `dialect` streams in answer to `api`, the endpoint called there.
    pub fn new(api: Api, dialect: Dialect) -> Self {
        let shape = match (api, dialect) {
            (Api::ChatCompletions | Api::Messages, Dialect::OpenAi) | (Api::Completions, _) => Shape::Chat,
            (Api::ChatCompletions | Api::Messages, Dialect::Anthropic) => Shape::Anthropic,
            (Api::Responses, _) => Shape::Responses,
            (Api::Embeddings | Api::CountTokens | Api::Models | Api::Other, _) => Shape::Unknown,
        };
        Self { shape, seen: Seen::default(), last: Pattern::default() }
    }

    /// Takes in one whole event (its lines, with or without the blank line) and says what it is.
    pub fn event(&mut self, event: &[u8]) -> EventKind {
        if self.last.fits(event) {
            return EventKind::Content;
        }
        self.last.forget();
        let fields = sse::fields(event);
        let Some(data) = fields.data() else { return EventKind::Preamble };
        let (name, data) = (fields.event, data.as_ref());
        if data.trim_ascii() == b"[DONE]" {
            self.seen.terminal = true;
            return EventKind::Terminal;
        }
        let mut free = Free::default();
        let kind = match self.shape {
            Shape::Chat => chat::look(&mut self.seen, &mut free, data),
            Shape::Responses => responses::look(&mut self.seen, &mut free, name, data),
            Shape::Anthropic => anthropic::look(&mut self.seen, &mut free, name, data),
            Shape::Unknown => EventKind::Content,
        };
        let kind = if name == b"error" { EventKind::Error } else { kind };
        self.seen.failed |= kind == EventKind::Error;
        if kind == EventKind::Content {
            self.last.learn(event, &free);
        }
        kind
    }

    /// Tokens as far as the provider has told; the last word wins.
    pub fn usage(&self) -> Option<Usage> {
        let usage = self.seen.usage?;
        Some(Usage { tier: self.seen.tier.unwrap_or(usage.tier), ..usage })
    }

    /// Why the model stopped, once it said so.
    pub fn finish(&self) -> Option<Finish> {
        self.seen.finish
    }

    /// Whether the answer calls tools.
    pub fn tool_calls(&self) -> bool {
        self.seen.tool_calls
    }

    /// Whether the stream came to a good end: a terminal event, or a finish reason for every choice that appeared,
    /// and no error. When this and [`failed`](Self::failed) are false at end of input, the stream was cut. Streams of
    /// unknown endpoints have no mark to miss: always true.
    pub fn ended(&self) -> bool {
        let seen = &self.seen;
        !seen.failed
            && (seen.terminal
                || matches!(self.shape, Shape::Unknown)
                || (seen.finish.is_some() && seen.finished == seen.choices))
    }

    /// Whether the provider sent an error event; it has then told the client itself.
    pub fn failed(&self) -> bool {
        self.seen.failed
    }
}

#[cfg(test)]
mod alike_tests;
#[cfg(test)]
mod tests;
