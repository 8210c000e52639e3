//! A stream, from Anthropic events to OpenAI chunks, one event at a time.
//!
//! Invariants: nothing is written that was not in whole, valid events; one role chunk comes first and one finish chunk
//! last; tool calls are counted on their own, so their indexes have no gaps; `[DONE]` follows only a stream that said
//! why it stopped. Pings become comments. Unknown events and block types are passed over. A repeated `message_start`
//! is ignored, but one of another message after content means that two answers were spliced: the stream is broken.
//!
//! Limits: thinking is kept, up to a bound, until its signature arrives; inputs of custom tools
//! likewise, since they are unwrapped whole.

use super::Back;
use super::answer::{self, finish_reason};
use super::blocks::Block;
use crate::config::Dialect;
use crate::dialect::api::Api;
use crate::dialect::error::{read_stream_error, render_stream_error};
use crate::dialect::json::{self, Cursor, Raw, push_number};
use crate::dialect::usage::{self, Usage};
use crate::dialect::watch::{EventKind, Finish};
use crate::wire::sse;

/// Why a stream cannot go on. The provider is at fault; the client must be told, and never by a clean end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenStream {
    /// An event's data is not JSON.
    NotJson,
    /// A second message began in the middle of the first.
    Spliced,
    /// The stream ended before it said why.
    Cut,
    /// A block is longer than what is kept back.
    TooLong,
}

/// State over the events of one stream.
#[derive(Debug)]
pub struct StreamTranslator {
    pub(super) back: Back,
    created_unix_s: u64,
    /// Everything of a chunk up to its delta's members. Made once a stream, so that a chunk is three copies.
    head: Vec<u8>,
    message_id: Vec<u8>,
    pub(super) blocks: Vec<Block>,
    pub(super) calls: u64,
    pub(super) json_answer: bool,
    pub(super) shown: bool,
    usage: Option<Usage>,
    finish: Option<Finish>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Started,
    /// The finish chunk is out.
    Finished,
    /// `[DONE]` is out.
    Done,
    Failed,
}

impl StreamTranslator {
    /// A translator for the answer to a translated request; `created_unix_s` is the time of the answer.
    pub fn new(back: Back, created_unix_s: u64) -> Self {
        Self {
            back,
            created_unix_s,
            head: Vec::new(),
            message_id: Vec::new(),
            blocks: Vec::new(),
            calls: 0,
            json_answer: false,
            shown: false,
            usage: None,
            finish: None,
            stage: Stage::Waiting,
        }
    }

    /// Tokens as far as the provider has told, whether or not the client asked for them.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the model stopped, once it said so.
    pub fn finish_reason(&self) -> Option<Finish> {
        self.finish
    }

    /// Whether the answer calls the client's tools.
    pub fn tool_calls(&self) -> bool {
        self.calls > 0
    }

    /// Whether the stream came to its good end, or needs only [`finish`](Self::finish) for it.
    pub fn ended(&self) -> bool {
        matches!(self.stage, Stage::Finished | Stage::Done)
    }

    /// Takes in one whole event and appends the events that the client gets for it, which may be none.
    ///
    /// # Errors
    /// When the stream cannot go on; the caller renders the error. Nothing was appended for this event.
    pub fn event(&mut self, event: &[u8], out: &mut Vec<u8>) -> Result<EventKind, BrokenStream> {
        let start = out.len();
        let result = self.translate(event, out);
        if result.is_err() {
            out.truncate(start);
            self.stage = Stage::Failed;
        }
        result
    }

    /// Ends the stream when the upstream's input has ended: appends what is missing of a good end.
    ///
    /// # Errors
    /// [`BrokenStream::Cut`] when the stream never said why it stopped.
    pub fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BrokenStream> {
        match self.stage {
            Stage::Done => Ok(()),
            Stage::Finished => {
                self.push_end(out);
                Ok(())
            }
            Stage::Waiting | Stage::Started | Stage::Failed => {
                self.stage = Stage::Failed;
                Err(BrokenStream::Cut)
            }
        }
    }

    fn translate(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<EventKind, BrokenStream> {
        let event = sse::fields(bytes);
        let Some(data) = event.data() else {
            out.extend_from_slice(b": ping\n\n");
            return Ok(EventKind::Preamble);
        };
        let data = data.as_ref();
        if matches!(self.stage, Stage::Done | Stage::Failed) {
            return Ok(EventKind::Other);
        }
        let is_error = event.event == b"error";
        if !is_error && !json::valid(data) {
            return Err(BrokenStream::NotJson);
        }
        let [kind, message, index, block, delta, counts, error] = Raw::of_valid(data).pick([
            "type",
            "message",
            "index",
            "content_block",
            "delta",
            "usage",
            "error",
        ]);
        let index = index.count().unwrap_or(0);
        match kind.content().unwrap_or(event.event) {
            _ if is_error || kind.is("error") || !error.is_empty() => {
                let error = read_stream_error(bytes).for_client(Dialect::OpenAi);
                render_stream_error(Dialect::OpenAi, Api::ChatCompletions, &error, out);
                self.stage = Stage::Failed;
                Ok(EventKind::Error)
            }
            b"message_start" => self.start(message, out),
            b"content_block_start" => self.start_block(index, block, out),
            b"content_block_delta" => self.continue_block(index, delta, out),
            b"content_block_stop" => {
                if let Some(at) = self.blocks.iter().rposition(|block| block.index == index) {
                    let block = self.blocks.remove(at);
                    self.stop_block(block, out);
                }
                Ok(EventKind::Other)
            }
            b"message_delta" => {
                self.usage = usage::read_anthropic(&mut Cursor::new(counts.bytes()), self.usage);
                if let Some(reason) = delta.get("stop_reason").and_then(Raw::content) {
                    self.push_finish(reason, delta, out);
                }
                Ok(EventKind::Other)
            }
            b"message_stop" => {
                self.push_finish(
                    if self.calls > 0 || self.json_answer { b"tool_use" } else { b"end_turn" },
                    delta,
                    out,
                );
                self.push_end(out);
                Ok(EventKind::Terminal)
            }
            b"ping" => {
                out.extend_from_slice(b": ping\n\n");
                Ok(EventKind::Preamble)
            }
            _ => Ok(EventKind::Other),
        }
    }

    fn start(&mut self, message: Raw<'_>, out: &mut Vec<u8>) -> Result<EventKind, BrokenStream> {
        let [id, model, counts] = message.pick(["id", "model", "usage"]);
        if self.stage != Stage::Waiting {
            let same = id.content().unwrap_or(b"") == self.message_id;
            if !same && self.shown {
                return Err(BrokenStream::Spliced);
            }
            self.blocks.clear();
            return Ok(EventKind::Preamble);
        }
        self.stage = Stage::Started;
        self.usage = usage::read_anthropic(&mut Cursor::new(counts.bytes()), None);
        self.message_id.extend_from_slice(id.content().unwrap_or(b""));
        let head = &mut self.head;
        head.extend_from_slice(b"data: {\"id\":\"");
        answer::push_completion_id(id, head);
        head.extend_from_slice(b"\",\"object\":\"chat.completion.chunk\",\"created\":");
        push_number(head, self.created_unix_s);
        head.extend_from_slice(b",\"model\":");
        answer::push_model(model, head);
        head.extend_from_slice(b",\"choices\":[{\"index\":0,\"delta\":{");
        self.open_chunk(out);
        out.extend_from_slice(b"\"role\":\"assistant\",\"content\":\"\",\"refusal\":null");
        self.close_chunk(None, out);
        Ok(EventKind::Preamble)
    }

    /// A stream that skipped its `message_start` gets a role chunk all the same.
    pub(super) fn ensure_started(&mut self, out: &mut Vec<u8>) {
        if self.stage == Stage::Waiting {
            // It can only fail on a second start.
            let _ = self.start(Raw::default(), out);
        }
    }

    pub(super) fn open_chunk(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
    }

    pub(super) fn close_chunk(&self, finish_reason: Option<&str>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"},\"logprobs\":null,\"finish_reason\":");
        match finish_reason {
            None => out.extend_from_slice(b"null"),
            Some(reason) => {
                out.push(b'"');
                out.extend_from_slice(reason.as_bytes());
                out.push(b'"');
            }
        }
        out.extend_from_slice(if self.back.include_usage {
            b"}],\"usage\":null}\n\n".as_slice()
        } else {
            b"}]}\n\n"
        });
    }

    /// A chunk whose delta has the one string member `name`, with `escaped` between its quotes.
    pub(super) fn push_delta(&mut self, name: &str, escaped: &[u8], out: &mut Vec<u8>) -> EventKind {
        if escaped.is_empty() {
            return EventKind::Preamble;
        }
        self.shown = true;
        self.open_chunk(out);
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\":\"");
        out.extend_from_slice(escaped);
        out.push(b'"');
        self.close_chunk(None, out);
        EventKind::Content
    }

    /// The finish chunk, once; blocks that were never stopped are stopped first.
    fn push_finish(&mut self, stop_reason: &[u8], delta: Raw<'_>, out: &mut Vec<u8>) {
        self.ensure_started(out);
        if self.stage != Stage::Started {
            return;
        }
        for block in std::mem::take(&mut self.blocks) {
            self.stop_block(block, out);
        }
        if stop_reason == b"refusal" {
            let why = delta.get("stop_details").and_then(|details| details.get("explanation"));
            self.push_delta("refusal", why.and_then(Raw::content).unwrap_or(b""), out);
        }
        let reason = finish_reason(stop_reason, self.json_answer && self.calls == 0);
        self.finish = Some(Finish::of_openai(reason.as_bytes()));
        self.open_chunk(out);
        self.close_chunk(Some(reason), out);
        self.stage = Stage::Finished;
    }

    /// The usage chunk, if it was asked for, and the end mark.
    fn push_end(&mut self, out: &mut Vec<u8>) {
        if self.back.include_usage {
            // The head ends with the choices, which this chunk has none of.
            const CHOICES: &[u8] = b"[{\"index\":0,\"delta\":{";
            out.extend_from_slice(self.head.strip_suffix(CHOICES).unwrap_or(&self.head));
            out.extend_from_slice(b"[],\"usage\":");
            answer::push_usage(&self.usage.unwrap_or_default(), out);
            out.extend_from_slice(b"}\n\n");
        }
        out.extend_from_slice(b"data: [DONE]\n\n");
        self.stage = Stage::Done;
    }
}
