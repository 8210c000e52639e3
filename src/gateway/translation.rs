//! Which translator stands between this client and that provider, in both directions.

use crate::config::Dialect;
use crate::dialect::anthropic_to_openai as to_openai;
use crate::dialect::error::GatewayError;
use crate::dialect::openai_to_anthropic as to_anthropic;
use crate::dialect::translate::Dropped;
use crate::dialect::{Api, EventKind, Finish, Usage};

/// What the way back needs to know of a translated request.
pub enum Back {
    /// An OpenAI Chat client, an Anthropic answer.
    Chat(to_anthropic::Back),
    /// An Anthropic Messages client, an OpenAI Chat answer.
    Messages,
}

/// Whether a client of `api` can be served by a provider of `dialect` through translation.
pub fn exists(api: Api, dialect: Dialect) -> bool {
    matches!((api, dialect), (Api::ChatCompletions, Dialect::Anthropic) | (Api::Messages, Dialect::OpenAi))
}

/// Says the client's request in the provider's dialect, appended to `out`; with it come the names of what could not be
/// said and was left out.
///
/// # Errors
/// What cannot be said, or is wrong; `None` when there is no such translation.
pub fn request(
    api: Api,
    dialect: Dialect,
    body: &[u8],
    model: &str,
    out: &mut Vec<u8>,
) -> Result<(Back, Dropped), Option<GatewayError>> {
    match (api, dialect) {
        (Api::ChatCompletions, Dialect::Anthropic) => {
            let options = to_anthropic::TranslateOptions { model, default_max_tokens: None };
            let made = to_anthropic::translate_request(body, &options, out).map_err(|e| Some(e.into()))?;
            Ok((Back::Chat(made.back), made.dropped))
        }
        (Api::Messages, Dialect::OpenAi) => {
            let made = to_openai::translate_request(body, &to_openai::TranslateOptions { model }, out);
            Ok((Back::Messages, made.map_err(|e| Some(e.into()))?.dropped))
        }
        _ => Err(None),
    }
}

/// Says a whole answer in the client's dialect, appended to `out`; `None` when it is not what the provider's dialect
/// says it should be.
pub fn answer(back: &Back, body: &[u8], now_unix_s: u64, out: &mut Vec<u8>) -> Option<Usage> {
    match back {
        Back::Chat(back) => to_anthropic::translate_answer(body, back, now_unix_s, out).ok(),
        Back::Messages => to_openai::translate_answer(body, out).ok(),
    }
}

/// Says a stream in the client's dialect, event by event.
pub enum StreamTranslator {
    /// Anthropic events to OpenAI chunks.
    Chat(to_anthropic::StreamTranslator),
    /// OpenAI chunks to Anthropic events.
    Messages(to_openai::StreamTranslator),
}

impl StreamTranslator {
    /// The translator for the answer to a request that was made with `back`.
    pub fn new(back: Back, now_unix_s: u64) -> StreamTranslator {
        match back {
            Back::Chat(back) => StreamTranslator::Chat(to_anthropic::StreamTranslator::new(back, now_unix_s)),
            Back::Messages => StreamTranslator::Messages(to_openai::StreamTranslator::new()),
        }
    }

    /// Takes in one event, appends what the client gets for it; `None` when it cannot be read.
    pub fn event(&mut self, event: &[u8], out: &mut Vec<u8>) -> Option<EventKind> {
        match self {
            StreamTranslator::Chat(t) => t.event(event, out).ok(),
            StreamTranslator::Messages(t) => t.event(event, out).ok(),
        }
    }

    /// Appends what is missing of a good end; false when the stream did not come to one.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> bool {
        match self {
            StreamTranslator::Chat(t) => t.finish(out).is_ok(),
            StreamTranslator::Messages(t) => t.finish(out).is_ok(),
        }
    }

    /// Whether the stream came to a good end, or lacks only its closing words.
    pub fn ended(&self) -> bool {
        match self {
            StreamTranslator::Chat(t) => t.ended(),
            StreamTranslator::Messages(t) => t.ended(),
        }
    }

    /// Why the model stopped, once it said so.
    pub fn finish_reason(&self) -> Option<Finish> {
        match self {
            StreamTranslator::Chat(t) => t.finish_reason(),
            StreamTranslator::Messages(t) => t.finish_reason(),
        }
    }

    /// Tokens as far as the provider has told.
    pub fn usage(&self) -> Option<Usage> {
        match self {
            StreamTranslator::Chat(t) => t.usage(),
            StreamTranslator::Messages(t) => t.usage(),
        }
    }
}
