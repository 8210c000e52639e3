//! A stream, from OpenAI chunks to Anthropic events, one chunk at a time.
//!
//! Invariants: nothing is written that was not in whole, valid chunks; `message_start` comes first; one block is open at
//! a time and blocks are numbered in their order; `message_delta` and `message_stop` come once, and only after the
//! stream said why it stopped or sent its end mark.
//!
//! OpenAI may interleave the fragments of parallel calls, Anthropic's blocks cannot. A call is streamed while it is the
//! open block; another one that begins is kept back until the first one's input is whole.
//!
//! Limits: inputs are kept, up to [`MAX_KEPT`] bytes in all, to know when they are whole. Only the first choice is read.

use super::answer::{push_message_id, push_object, push_usage, stop_reason};
use crate::config::Dialect;
use crate::dialect::api::Api;
use crate::dialect::error::{read_stream_error, render_stream_error};
use crate::dialect::json::{self, Cursor, Kind, Raw, push_escaped, push_number, push_string};
use crate::dialect::usage::{self, Usage};
use crate::dialect::watch::{EventKind, Finish};
use crate::wire::sse;

/// Most bytes of tool inputs that are kept.
const MAX_KEPT: usize = 8 << 20;

/// Why a stream cannot go on. The provider is at fault; the client must be told, and never by a clean end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenStream {
    /// A chunk's data is not JSON.
    NotJson,
    /// The stream ended before it said why.
    Cut,
    /// Tool inputs are longer than what is kept.
    TooLong,
}

/// State over the chunks of one stream.
#[derive(Debug, Default)]
pub struct StreamTranslator {
    open: Open,
    /// Number of the open block, or of the next one when none is open.
    block: u64,
    calls: Vec<Call>,
    /// Text that came while a call could not be closed; escaped.
    late_text: Vec<u8>,
    kept: usize,
    usage: Option<Usage>,
    finish: Option<Finish>,
    stop: Option<&'static str>,
    refused: bool,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    #[default]
    Nothing,
    Text,
    /// A call, by its place in `calls`.
    Call(usize),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Waiting,
    Started,
    /// The reason to stop is known; usage and the end mark may still come.
    Finished,
    Done,
    Failed,
}

/// A tool call as far as it has come.
#[derive(Debug)]
struct Call {
    index: u64,
    id: Vec<u8>,
    name: Vec<u8>,
    custom: bool,
    /// Its input's text, escaped.
    input: Vec<u8>,
    /// Length at which the input was last found not to be whole.
    looked_at: usize,
    written: bool,
}

impl Call {
    fn text(&self) -> String {
        let token = [b"\"".as_slice(), &self.input, b"\""].concat();
        Raw::of(&token).text().unwrap_or_default().into_owned()
    }

    /// Whether the input is a whole object; looked at again only when it has grown.
    fn is_whole(&mut self) -> bool {
        if self.custom || self.looked_at == self.input.len() {
            return false;
        }
        let text = self.text();
        let whole = text.starts_with('{') && json::valid(text.as_bytes());
        if !whole {
            self.looked_at = self.input.len();
        }
        whole
    }
}

impl StreamTranslator {
    /// A translator at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens as far as the provider has told.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Why the model stopped, once it said so.
    pub fn finish_reason(&self) -> Option<Finish> {
        self.finish
    }

    /// Whether the answer calls tools.
    pub fn tool_calls(&self) -> bool {
        !self.calls.is_empty()
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
            self.push_ping(out);
            return Ok(EventKind::Preamble);
        };
        let data = data.as_ref();
        if matches!(self.stage, Stage::Done | Stage::Failed) {
            return Ok(EventKind::Other);
        }
        if data.trim_ascii() == b"[DONE]" {
            // Some servers never give a reason; the mark is an end all the same.
            self.start(Raw::default(), Raw::default(), out);
            self.close_all(out);
            self.push_end(out);
            return Ok(EventKind::Terminal);
        }
        let is_error = event.event == b"error";
        if !is_error && !json::valid(data) {
            return Err(BrokenStream::NotJson);
        }
        let [id, model, choices, counts, groq, error, object] =
            Raw::of(data).pick(["id", "model", "choices", "usage", "x_groq", "error", "object"]);
        if is_error || !error.is_empty() || object.is("error") {
            return Ok(self.fail(bytes, out));
        }
        for counts in [groq.get("usage").unwrap_or_default(), counts] {
            self.usage = usage::read_openai(&mut Cursor::new(counts.bytes())).or(self.usage);
        }
        let choice =
            choices.items().find(|choice| choice.get("index").and_then(Raw::count).unwrap_or(0) == 0);
        let Some(choice) = choice else { return Ok(EventKind::Preamble) };
        let [delta, finish] = choice.pick(["delta", "finish_reason"]);
        if finish.is("error") {
            return Ok(self.fail(bytes, out));
        }
        self.start(id, model, out);
        if self.stage != Stage::Started {
            return Ok(EventKind::Other);
        }
        let mut kind = self.continue_answer(delta, out)?;
        if let Some(reason) = finish.content().filter(|reason| !reason.is_empty()) {
            self.finish = Some(Finish::of_openai(reason));
            self.stop = Some(stop_reason(reason, !self.calls.is_empty(), self.refused));
            self.close_all(out);
            self.stage = Stage::Finished;
            if kind == EventKind::Preamble {
                kind = EventKind::Other;
            }
        }
        Ok(kind)
    }

    /// A ping where the grammar has one; before `message_start`, a comment.
    fn push_ping(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(match self.stage {
            Stage::Started | Stage::Finished => b"event: ping\ndata: {\"type\":\"ping\"}\n\n".as_slice(),
            _ => b": ping\n\n",
        });
    }

    fn fail(&mut self, event: &[u8], out: &mut Vec<u8>) -> EventKind {
        let error = read_stream_error(event).for_client(Dialect::Anthropic);
        render_stream_error(Dialect::Anthropic, Api::Messages, &error, out);
        self.stage = Stage::Failed;
        EventKind::Error
    }

    /// Input tokens are not known yet: they stand as 0 here and right in `message_delta`, which SDKs take over.
    fn start(&mut self, id: Raw<'_>, model: Raw<'_>, out: &mut Vec<u8>) {
        if self.stage != Stage::Waiting {
            return;
        }
        self.stage = Stage::Started;
        out.extend_from_slice(
            b"event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"",
        );
        push_message_id(id, out);
        out.extend_from_slice(b"\",\"type\":\"message\",\"role\":\"assistant\",\"model\":");
        out.extend_from_slice(if model.kind() == Some(Kind::String) { model.bytes() } else { b"\"\"" });
        out.extend_from_slice(b",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
        push_usage(&self.usage.unwrap_or_default(), out);
        out.extend_from_slice(b"}}\n\n");
    }

    fn continue_answer(&mut self, delta: Raw<'_>, out: &mut Vec<u8>) -> Result<EventKind, BrokenStream> {
        let [content, refusal, calls, function_call, reasoning, reasoning_alt] = delta.pick([
            "content",
            "refusal",
            "tool_calls",
            "function_call",
            "reasoning_content",
            "reasoning",
        ]);
        let mut kind = EventKind::Preamble;
        self.refused |= !refusal.is_empty();
        for text in [content, refusal].into_iter().chain(content.items().filter_map(|part| part.get("text")))
        {
            if let Some(text) = text.content().filter(|text| !text.is_empty()) {
                self.push_text(text, out)?;
                kind = EventKind::Content;
            }
        }
        for call in calls.items() {
            let [index, id, function, custom] = call.pick(["index", "id", "function", "custom"]);
            let is_custom = !custom.is_null();
            let body = if is_custom { custom } else { function };
            self.push_fragment(index.count().unwrap_or(0), id, body, is_custom, out)?;
            kind = EventKind::Content;
        }
        if !function_call.is_empty() {
            self.push_fragment(0, Raw::default(), function_call, false, out)?;
            kind = EventKind::Content;
        }
        // Not shown, but paid for: the provider is at work.
        if !reasoning.is_empty() || !reasoning_alt.is_empty() {
            self.push_ping(out);
            kind = EventKind::Content;
        }
        Ok(kind)
    }

    fn keep(&mut self, bytes: usize) -> Result<(), BrokenStream> {
        self.kept += bytes;
        if self.kept > MAX_KEPT { Err(BrokenStream::TooLong) } else { Ok(()) }
    }

    fn push_text(&mut self, escaped: &[u8], out: &mut Vec<u8>) -> Result<(), BrokenStream> {
        if let Open::Call(at) = self.open
            && !self.calls[at].is_whole()
        {
            self.keep(escaped.len())?;
            self.late_text.extend_from_slice(escaped);
            return Ok(());
        }
        let late = std::mem::take(&mut self.late_text);
        if !late.is_empty() {
            self.write_text(&late, out);
        }
        self.write_text(escaped, out);
        Ok(())
    }

    fn write_text(&mut self, escaped: &[u8], out: &mut Vec<u8>) {
        if self.open != Open::Text {
            self.close_block(out);
            self.open_block(b"{\"type\":\"text\",\"text\":\"\"}", out);
            self.open = Open::Text;
        }
        self.push_delta(b"{\"type\":\"text_delta\",\"text\":\"", escaped, out);
    }

    /// One piece of a call. Servers that number all their calls 0 are told apart by a new id.
    fn push_fragment(
        &mut self,
        index: u64,
        id: Raw<'_>,
        body: Raw<'_>,
        custom: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), BrokenStream> {
        let [name, arguments, input] = body.pick(["name", "arguments", "input"]);
        let id = id.content().unwrap_or(b"");
        let known =
            self.calls.iter().rposition(|call| call.index == index && (id.is_empty() || call.id == id));
        let at = match known {
            Some(at) => at,
            None => {
                self.calls.push(Call {
                    index,
                    id: if id.is_empty() {
                        format!("call_{}", self.calls.len()).into_bytes()
                    } else {
                        id.to_vec()
                    },
                    name: name.content().unwrap_or(b"").to_vec(),
                    custom,
                    input: Vec::new(),
                    looked_at: 0,
                    written: false,
                });
                self.calls.len() - 1
            }
        };
        let free = match self.open {
            Open::Nothing | Open::Text => true,
            Open::Call(open) => open != at && self.calls[open].is_whole(),
        };
        let whole_arguments;
        let fragment = match (arguments.kind(), custom) {
            (_, true) => input.content().unwrap_or(b""),
            // Sent unquoted by careless servers.
            (Some(Kind::Object), false) => {
                let mut escaped = Vec::new();
                push_escaped(&mut escaped, std::str::from_utf8(arguments.bytes()).unwrap_or("{}"));
                whole_arguments = escaped;
                &whole_arguments
            }
            _ => arguments.content().unwrap_or(b""),
        };
        self.keep(fragment.len())?;
        self.calls[at].input.extend_from_slice(fragment);
        // What is free text has to be wrapped whole.
        if free && !self.calls[at].written && !custom {
            self.close_block(out);
            self.open_call(at, out);
        }
        if self.open == Open::Call(at) && !fragment.is_empty() {
            self.push_delta(b"{\"type\":\"input_json_delta\",\"partial_json\":\"", fragment, out);
        }
        Ok(())
    }

    fn open_call(&mut self, at: usize, out: &mut Vec<u8>) {
        let mut block = b"{\"type\":\"tool_use\",\"id\":\"".to_vec();
        let call = &mut self.calls[at];
        call.written = true;
        block.extend_from_slice(&call.id);
        block.extend_from_slice(b"\",\"name\":\"");
        block.extend_from_slice(&call.name);
        block.extend_from_slice(b"\",\"input\":{}}");
        self.open_block(&block, out);
        self.open = Open::Call(at);
    }

    fn open_block(&mut self, block: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":",
        );
        push_number(out, self.block);
        out.extend_from_slice(b",\"content_block\":");
        out.extend_from_slice(block);
        out.extend_from_slice(b"}\n\n");
    }

    fn push_delta(&self, head: &[u8], escaped: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(
            b"event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":",
        );
        push_number(out, self.block);
        out.extend_from_slice(b",\"delta\":");
        out.extend_from_slice(head);
        out.extend_from_slice(escaped);
        out.extend_from_slice(b"\"}}\n\n");
    }

    fn close_block(&mut self, out: &mut Vec<u8>) {
        if self.open != Open::Nothing {
            out.extend_from_slice(
                b"event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":",
            );
            push_number(out, self.block);
            out.extend_from_slice(b"}\n\n");
            self.block += 1;
            self.open = Open::Nothing;
        }
    }

    /// Closes the open block and writes what was kept back.
    fn close_all(&mut self, out: &mut Vec<u8>) {
        self.close_block(out);
        for at in 0..self.calls.len() {
            if self.calls[at].written {
                continue;
            }
            let call = &self.calls[at];
            // An answer that hit its limit may have been cut inside a call, which must then not be run.
            let cut = self.stop == Some("max_tokens");
            let mut input = Vec::new();
            if call.custom {
                input.extend_from_slice(b"{\"input\":");
                push_string(&mut input, &call.text());
                input.push(b'}');
            } else if !push_object(&call.text(), cut, &mut input) {
                continue;
            }
            let mut escaped = Vec::new();
            push_escaped(&mut escaped, std::str::from_utf8(&input).unwrap_or("{}"));
            self.open_call(at, out);
            self.push_delta(b"{\"type\":\"input_json_delta\",\"partial_json\":\"", &escaped, out);
            self.close_block(out);
        }
        let late = std::mem::take(&mut self.late_text);
        if !late.is_empty() {
            self.write_text(&late, out);
            self.close_block(out);
        }
    }

    fn push_end(&mut self, out: &mut Vec<u8>) {
        let stop = self.stop.unwrap_or(stop_reason(b"", !self.calls.is_empty(), self.refused));
        out.extend_from_slice(
            b"event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"",
        );
        out.extend_from_slice(stop.as_bytes());
        out.extend_from_slice(b"\",\"stop_sequence\":null},\"usage\":");
        push_usage(&self.usage.unwrap_or_default(), out);
        out.extend_from_slice(b"}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        self.stage = Stage::Done;
    }
}
