//! Anthropic Messages events. Unknown events and block types are forwarded, never a failure.

use super::alike::Free;
use super::{EventKind, Finish, Seen};
use crate::dialect::json::{Cursor, Raw};
use crate::dialect::usage;

/// Reads one event. `type` stands first in the data everywhere it was seen, but the members' order is not relied on.
pub(super) fn look<'e>(seen: &mut Seen, free: &mut Free<'e>, name: &[u8], data: &'e [u8]) -> EventKind {
    let mut kind = classify(name);
    let mut shows = false;
    let mut cursor = Cursor::new(data);
    cursor.object(|cursor, member| match member {
        b"type" => kind = cursor.skip().content().map_or(kind, classify),
        b"content_block" => shows |= read_block(seen, cursor),
        b"delta" => shows |= read_delta(seen, free, cursor),
        b"usage" => seen.usage = usage::read_anthropic(cursor, seen.usage),
        b"message" => {
            cursor.object(|cursor, name| {
                if name == b"usage" {
                    seen.usage = usage::read_anthropic(cursor, seen.usage);
                }
            });
        }
        // A gateway in front of Anthropic may answer in OpenAI's shape.
        b"error" if !cursor.skip().is_empty() => kind = Kind::Error,
        _ => {}
    });
    match kind {
        Kind::Error => EventKind::Error,
        Kind::Preamble => EventKind::Preamble,
        Kind::BlockStart if shows => EventKind::Content,
        Kind::BlockStart => EventKind::Preamble,
        Kind::BlockDelta if shows => EventKind::Content,
        Kind::Stop => {
            seen.terminal = true;
            EventKind::Terminal
        }
        Kind::BlockDelta | Kind::Other => EventKind::Other,
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Preamble,
    BlockStart,
    BlockDelta,
    Stop,
    Error,
    Other,
}

fn classify(name: &[u8]) -> Kind {
    match name {
        b"message_start" | b"ping" => Kind::Preamble,
        b"content_block_start" => Kind::BlockStart,
        b"content_block_delta" => Kind::BlockDelta,
        b"message_stop" => Kind::Stop,
        b"error" => Kind::Error,
        _ => Kind::Other,
    }
}

/// Whether a block that starts shows anything: text and thinking start empty, all other blocks name what they are.
fn read_block(seen: &mut Seen, cursor: &mut Cursor<'_>) -> bool {
    let (mut opens_empty, mut has_text) = (false, false);
    cursor.object(|cursor, name| match name {
        b"type" => match cursor.skip().content() {
            Some(b"text" | b"thinking") => opens_empty = true,
            Some(b"tool_use") => seen.tool_calls = true,
            _ => {}
        },
        b"text" | b"thinking" => has_text |= !cursor.skip().is_empty(),
        _ => {}
    });
    !opens_empty || has_text
}

/// Reads the delta of a block, or of the message: whether it shows anything, and why the model stopped.
fn read_delta<'e>(seen: &mut Seen, free: &mut Free<'e>, cursor: &mut Cursor<'e>) -> bool {
    let mut shows = false;
    cursor.object(|cursor, name| match name {
        b"text" | b"thinking" | b"partial_json" | b"citation" => {
            let value = cursor.skip();
            free.note(value);
            shows |= !value.is_empty();
        }
        b"stop_reason" => {
            let reason: Raw<'_> = cursor.skip();
            if let Some(reason) = reason.content() {
                seen.finish(Finish::of_anthropic(reason));
            }
        }
        _ => {}
    });
    shows
}
