//! OpenAI Responses events: named, typed, without `[DONE]`; usage stands only in the last one.

use super::alike::Free;
use super::{EventKind, Finish, Seen};
use crate::dialect::json::{Cursor, Raw};
use crate::dialect::usage::{self, ServiceTier};

/// Reads one event. The type stands first in the data everywhere it was seen; where it does not, the SSE name is
/// used, and where there is none the data is walked a second time.
pub(super) fn look<'e>(seen: &mut Seen, free: &mut Free<'e>, name: &[u8], data: &'e [u8]) -> EventKind {
    let mut kind = classify(name);
    let mut known = !name.is_empty();
    let mut delta_is_empty = false;
    let mut item = EventKind::Preamble;
    let mut cursor = Cursor::new(data);
    let mut error = false;
    cursor.object(|cursor, member| match member {
        b"type" => {
            if let Some(kind_name) = cursor.skip().content() {
                kind = classify(kind_name);
                known = true;
            }
        }
        b"delta" => {
            let delta = cursor.skip();
            free.note(delta);
            delta_is_empty = delta.is_empty();
        }
        b"sequence_number" | b"obfuscation" => free.note(cursor.skip()),
        b"item" => item = read_item(seen, cursor),
        b"error" => error |= !cursor.skip().is_empty(),
        b"response" => {
            if !known {
                kind = Raw::of(data).get("type").and_then(Raw::content).map_or(Kind::Content, classify);
                known = true;
            }
            if matches!(kind, Kind::Terminal | Kind::Failed) {
                read_response(seen, cursor);
            }
        }
        _ => {}
    });
    match kind {
        _ if error => EventKind::Error,
        Kind::Preamble => EventKind::Preamble,
        Kind::Item => item,
        Kind::Content if delta_is_empty => EventKind::Preamble,
        Kind::Content => EventKind::Content,
        Kind::Terminal => {
            seen.terminal = true;
            EventKind::Terminal
        }
        Kind::Failed => EventKind::Error,
        // No type at all: not an event of this API.
        Kind::Untyped => EventKind::Other,
    }
}

/// Event types by what they mean here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Preamble,
    Item,
    Content,
    Terminal,
    Failed,
    Untyped,
}

/// Hosted tools at work (`response.web_search_call.searching` and the like) count as content: the user sees them and
/// pays for them.
fn classify(name: &[u8]) -> Kind {
    match name {
        b"" => Kind::Untyped,
        b"error" | b"response.failed" => Kind::Failed,
        b"response.completed" | b"response.incomplete" | b"response.cancelled" => Kind::Terminal,
        b"response.created"
        | b"response.queued"
        | b"response.in_progress"
        | b"response.content_part.added"
        | b"response.reasoning_summary_part.added"
        | b"keepalive"
        | b"ping" => Kind::Preamble,
        b"response.output_item.added" => Kind::Item,
        _ => Kind::Content,
    }
}

/// An item that starts: an empty message or a reasoning item shows nothing yet, a tool call has its name.
fn read_item(seen: &mut Seen, cursor: &mut Cursor<'_>) -> EventKind {
    let mut kind = EventKind::Content;
    cursor.object(|cursor, name| {
        if name == b"type" {
            match cursor.skip().content() {
                Some(b"message" | b"reasoning") => kind = EventKind::Preamble,
                Some(b"function_call" | b"custom_tool_call") => seen.tool_calls = true,
                _ => {}
            }
        }
    });
    kind
}

/// The whole response that a terminal event carries: status and usage; output and instructions are skipped.
fn read_response(seen: &mut Seen, cursor: &mut Cursor<'_>) {
    let (mut finish, mut why) = (None, None);
    cursor.object(|cursor, name| match name {
        b"usage" => seen.usage = usage::read_openai(cursor).or(seen.usage),
        b"service_tier" => seen.tier = ServiceTier::read(cursor).or(seen.tier),
        b"status" => finish = cursor.skip().content().map(|status| of_status(status, seen.tool_calls)),
        b"incomplete_details" => {
            cursor.object(|cursor, name| {
                if name == b"reason" {
                    why = cursor.skip().content().map(of_incomplete);
                }
            });
        }
        _ => {}
    });
    if let Some(finish) = why.or(finish) {
        seen.finish(finish);
    }
}

/// Reads `status` of a response.
pub(in crate::dialect) fn of_status(status: &[u8], tool_calls: bool) -> Finish {
    match status {
        b"completed" if tool_calls => Finish::ToolCalls,
        b"completed" => Finish::Stop,
        b"failed" => Finish::Error,
        b"incomplete" => Finish::Length,
        _ => Finish::Other,
    }
}

/// Reads `incomplete_details.reason` of a response.
pub(in crate::dialect) fn of_incomplete(reason: &[u8]) -> Finish {
    match reason {
        b"max_output_tokens" | b"max_tokens" => Finish::Length,
        b"content_filter" => Finish::ContentFilter,
        _ => Finish::Other,
    }
}
