//! The blocks of a streamed answer, from their start over their deltas to their stop.

use super::JSON_TOOL;
use super::answer;
use super::stream::{BrokenStream, StreamTranslator};
use crate::dialect::json::{self, Kind, Raw, push_escaped, push_number};
use crate::dialect::watch::EventKind;

/// Most bytes of one block that are kept back. The longest thinking a model can write is a tenth of it.
const MAX_KEPT: usize = 8 << 20;

/// A content block between its start and its stop.
#[derive(Debug)]
pub(super) struct Block {
    pub index: u64,
    kind: BlockKind,
}

#[derive(Debug)]
enum BlockKind {
    Text,
    /// Escaped text and signature, as they were written.
    Thinking {
        text: Vec<u8>,
        signature: Vec<u8>,
    },
    Call {
        index: u64,
        has_arguments: bool,
        input: Vec<u8>,
    },
    /// The call of a custom tool; its input is kept until it can be unwrapped.
    Custom {
        index: u64,
        escaped: Vec<u8>,
    },
    /// The synthetic tool that stands for the answer's format: its input is the text.
    Json {
        has_text: bool,
    },
    Skipped,
}

impl StreamTranslator {
    pub(super) fn start_block(
        &mut self,
        index: u64,
        block: Raw<'_>,
        out: &mut Vec<u8>,
    ) -> Result<EventKind, BrokenStream> {
        self.ensure_started(out);
        let [kind, text, thinking, name, id, input] =
            block.pick(["type", "text", "thinking", "name", "id", "input"]);
        let (kind, meaning) = match kind.content() {
            Some(b"text") => {
                (BlockKind::Text, self.push_delta("content", text.content().unwrap_or(b""), out))
            }
            Some(b"thinking") => {
                let text = thinking.content().unwrap_or(b"");
                let meaning = self.push_delta("reasoning_content", text, out);
                (BlockKind::Thinking { text: text.to_vec(), signature: Vec::new() }, meaning)
            }
            Some(b"redacted_thinking") => {
                self.open_chunk(out);
                out.extend_from_slice(b"\"thinking_blocks\":[");
                out.extend_from_slice(block.bytes());
                out.push(b']');
                self.close_chunk(None, out);
                (BlockKind::Skipped, EventKind::Content)
            }
            Some(b"tool_use") if self.back.json_tool && name.is(JSON_TOOL) => {
                self.json_answer = true;
                (BlockKind::Json { has_text: false }, EventKind::Preamble)
            }
            Some(b"tool_use") if name.kind() == Some(Kind::String) => {
                let call = self.calls;
                self.calls += 1;
                self.shown = true;
                let kind = if answer::is_custom(name, &self.back) {
                    BlockKind::Custom { index: call, escaped: Vec::new() }
                } else {
                    // Some proxies give the whole input here and no delta.
                    let input = if input.is_empty() { Vec::new() } else { input.bytes().to_vec() };
                    BlockKind::Call { index: call, has_arguments: false, input }
                };
                self.push_call_start(call, id, name, &kind, out);
                (kind, EventKind::Content)
            }
            _ => (BlockKind::Skipped, EventKind::Other),
        };
        self.blocks.push(Block { index, kind });
        Ok(meaning)
    }

    fn push_call_start(&self, call: u64, id: Raw<'_>, name: Raw<'_>, kind: &BlockKind, out: &mut Vec<u8>) {
        self.open_chunk(out);
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
        push_number(out, call);
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(if id.kind() == Some(Kind::String) { id.bytes() } else { b"\"\"" });
        if matches!(kind, BlockKind::Custom { .. }) {
            out.extend_from_slice(b",\"type\":\"custom\",\"custom\":{\"name\":");
            out.extend_from_slice(name.bytes());
            out.extend_from_slice(b",\"input\":\"\"}}]");
        } else {
            out.extend_from_slice(b",\"type\":\"function\",\"function\":{\"name\":");
            out.extend_from_slice(name.bytes());
            out.extend_from_slice(b",\"arguments\":\"\"}}]");
        }
        self.close_chunk(None, out);
    }

    fn push_arguments(&self, call: u64, escaped: &[u8], out: &mut Vec<u8>) {
        self.open_chunk(out);
        out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
        push_number(out, call);
        out.extend_from_slice(b",\"function\":{\"arguments\":\"");
        out.extend_from_slice(escaped);
        out.extend_from_slice(b"\"}}]");
        self.close_chunk(None, out);
    }

    pub(super) fn continue_block(
        &mut self,
        index: u64,
        delta: Raw<'_>,
        out: &mut Vec<u8>,
    ) -> Result<EventKind, BrokenStream> {
        self.ensure_started(out);
        let [text, thinking, signature, partial] =
            delta.pick(["text", "thinking", "signature", "partial_json"]);
        let at = self.blocks.iter().rposition(|block| block.index == index);
        let Some(block) = at.map(|at| &mut self.blocks[at]) else {
            // A delta without a start: only text needs no more than itself.
            return Ok(self.push_delta("content", text.content().unwrap_or(b""), out));
        };
        let keep = |kept: &mut Vec<u8>, more: &[u8]| {
            if kept.len() + more.len() > MAX_KEPT {
                return Err(BrokenStream::TooLong);
            }
            kept.extend_from_slice(more);
            Ok(())
        };
        match &mut block.kind {
            BlockKind::Text => Ok(self.push_delta("content", text.content().unwrap_or(b""), out)),
            BlockKind::Thinking { text: kept, signature: signed } => {
                keep(signed, signature.content().unwrap_or(b""))?;
                let more = thinking.content().unwrap_or(b"");
                keep(kept, more)?;
                let kind = self.push_delta("reasoning_content", more, out);
                Ok(if signature.is_null() { kind } else { EventKind::Other })
            }
            BlockKind::Call { index, has_arguments, .. } => {
                let fragment = partial.content().unwrap_or(b"");
                if fragment.is_empty() {
                    return Ok(EventKind::Other);
                }
                *has_arguments = true;
                let call = *index;
                self.push_arguments(call, fragment, out);
                Ok(EventKind::Content)
            }
            BlockKind::Custom { escaped, .. } => {
                keep(escaped, partial.content().unwrap_or(b""))?;
                Ok(EventKind::Content)
            }
            BlockKind::Json { has_text } => {
                let fragment = partial.content().unwrap_or(b"");
                *has_text |= !fragment.is_empty();
                Ok(self.push_delta("content", fragment, out))
            }
            BlockKind::Skipped => Ok(EventKind::Other),
        }
    }

    pub(super) fn stop_block(&mut self, block: Block, out: &mut Vec<u8>) {
        match block.kind {
            BlockKind::Thinking { text, signature } if !signature.is_empty() => {
                self.open_chunk(out);
                out.extend_from_slice(b"\"thinking_blocks\":[{\"type\":\"thinking\",\"thinking\":\"");
                out.extend_from_slice(&text);
                out.extend_from_slice(b"\",\"signature\":\"");
                out.extend_from_slice(&signature);
                out.extend_from_slice(b"\"}]");
                self.close_chunk(None, out);
            }
            BlockKind::Call { index, has_arguments: false, input } => {
                let mut escaped = Vec::new();
                push_escaped(
                    &mut escaped,
                    std::str::from_utf8(&input).ok().filter(|it| !it.is_empty()).unwrap_or("{}"),
                );
                self.push_arguments(index, &escaped, out);
            }
            BlockKind::Custom { index, escaped } => {
                let quoted = [b"\"".as_slice(), &escaped, b"\""].concat();
                let input = Raw::of(&quoted).text().unwrap_or_default();
                let mut token = Vec::new();
                // What the fragments add up to was never looked at as JSON.
                if json::valid(input.as_bytes()) {
                    answer::push_custom_input(Raw::of(input.as_bytes()), &mut token);
                } else {
                    json::push_string(&mut token, &input);
                }
                self.open_chunk(out);
                out.extend_from_slice(b"\"tool_calls\":[{\"index\":");
                push_number(out, index);
                out.extend_from_slice(b",\"custom\":{\"input\":");
                out.extend_from_slice(&token);
                out.extend_from_slice(b"}}]");
                self.close_chunk(None, out);
            }
            BlockKind::Json { has_text: false } => {
                self.push_delta("content", b"{}", out);
            }
            _ => {}
        }
    }
}
