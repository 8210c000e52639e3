//! OpenAI Chat and Completions chunks, as OpenAI and the many who copied it send them.

use super::alike::Free;
use super::{EventKind, Finish, Seen};
use crate::dialect::json::Cursor;
use crate::dialect::usage::{self, ServiceTier};

/// Reads one chunk. Providers put usage on an extra chunk, on the finish chunk, on every chunk, or in `x_groq`;
/// whichever has it is taken.
pub(super) fn look<'e>(seen: &mut Seen, free: &mut Free<'e>, data: &'e [u8]) -> EventKind {
    let mut cursor = Cursor::new(data);
    let mut has_choices = None;
    let (mut content, mut other, mut error, mut has_usage) = (false, false, false, false);
    cursor.object(|cursor, name| match name {
        b"choices" => {
            let mut any = false;
            cursor.array(|cursor| {
                any = true;
                let choice = read_choice(seen, free, cursor);
                content |= choice.content;
                other |= choice.finish.is_some();
                error |= choice.finish == Some(Finish::Error);
            });
            has_choices = Some(any);
        }
        b"usage" => {
            if let Some(usage) = usage::read_openai(cursor) {
                seen.usage = Some(usage);
                has_usage = true;
            }
        }
        b"x_groq" => {
            cursor.object(|cursor, name| match name {
                b"usage" => seen.usage = usage::read_openai(cursor).or(seen.usage),
                b"error" => error |= !cursor.skip().is_null(),
                _ => {}
            });
        }
        b"service_tier" => seen.tier = ServiceTier::read(cursor).or(seen.tier),
        b"error" => error |= !cursor.skip().is_empty(),
        // vLLM and its kin send a bare error object as a chunk.
        b"object" | b"type" => error |= cursor.skip().is("error"),
        // OpenAI's padding.
        b"obfuscation" => free.note(cursor.skip()),
        _ => {}
    });
    match has_choices {
        _ if error => EventKind::Error,
        Some(true) if content => EventKind::Content,
        Some(true) if other => EventKind::Other,
        Some(false) if has_usage => EventKind::UsageOnly,
        Some(_) => EventKind::Preamble,
        None => EventKind::Other,
    }
}

/// What one choice of a chunk holds.
#[derive(Default)]
struct Choice {
    content: bool,
    finish: Option<Finish>,
}

fn read_choice<'e>(seen: &mut Seen, free: &mut Free<'e>, cursor: &mut Cursor<'e>) -> Choice {
    let mut choice = Choice::default();
    let mut index = 0;
    cursor.object(|cursor, name| match name {
        b"index" => index = cursor.skip().count().unwrap_or(0),
        b"delta" | b"message" => {
            cursor.object(|cursor, name| match name {
                b"role" | b"name" => {}
                // Anything else that is not empty is something a user or a program acts on: content, refusal,
                // reasoning under its three names, tool calls, audio, images, annotations.
                b"tool_calls" | b"function_call" => {
                    let calls = !cursor.skip().is_empty();
                    seen.tool_calls |= calls;
                    choice.content |= calls;
                }
                _ => choice.content |= shows(free, cursor),
            });
        }
        b"text" => choice.content |= shows(free, cursor),
        b"finish_reason" => {
            choice.finish =
                cursor.skip().content().filter(|reason| !reason.is_empty()).map(Finish::of_openai);
        }
        _ => {}
    });
    let bit = 1 << index.min(63);
    seen.choices |= bit;
    if let Some(finish) = choice.finish {
        seen.finished |= bit;
        seen.finish(finish);
    }
    choice
}

/// Whether a value says something; what it says is free.
fn shows<'e>(free: &mut Free<'e>, cursor: &mut Cursor<'e>) -> bool {
    let value = cursor.skip();
    free.note(value);
    !value.is_empty()
}
