//! The conversation: OpenAI's flat list of messages becomes Anthropic's strict alternation of turns.
//!
//! Rules that the API enforces and OpenAI does not have: user and assistant alternate and the user begins; the results
//! of all tool calls of a turn stand first in the very next user turn; text is never blank; ids have a small alphabet.
//! So messages are gathered into runs of one side, and each run is written as one turn.

use super::TranslateError;
use super::claude::Claude;
use super::turns::{EMPTY_TURN, GO_ON, Writer};
use crate::dialect::json::{Cursor, Kind, Raw};

/// Most cache breakpoints that the API takes.
const MAX_CACHE_BREAKPOINTS: u8 = 4;

/// What the conversation left for the members that follow it.
#[derive(Default)]
pub(super) struct Said<'j> {
    /// Texts of all system and developer messages.
    pub system: Vec<Text<'j>>,
    /// Cache breakpoints set so far.
    pub caches: Caches,
    /// The conversation goes on after tool results, and the calling turn has no signed thinking.
    pub lacks_thinking: bool,
}

/// One text as written, with its cache breakpoint.
#[derive(Clone, Copy)]
pub(super) struct Text<'j> {
    pub text: Raw<'j>,
    pub cache_control: Option<Cache<'j>>,
}

/// A cache breakpoint in Anthropic's words (kept) or in OpenAI's (said anew).
#[derive(Clone, Copy)]
pub(super) enum Cache<'j> {
    Own(Raw<'j>),
    OneHour,
    FiveMinutes,
}

/// Counts breakpoints up to the API's limit; later ones are left out, which costs money but no answer.
#[derive(Default)]
pub(super) struct Caches(u8);

impl Caches {
    /// The breakpoint on a part or a tool, if it has one and there is room.
    pub fn take_of<'j>(&mut self, holder: Raw<'j>) -> Option<Cache<'j>> {
        self.take(holder.pick(["cache_control", "prompt_cache_breakpoint"]))
    }

    /// The breakpoint in `cache_control` or `prompt_cache_breakpoint`, if there is room.
    pub fn take<'j>(&mut self, [own, breakpoint]: [Raw<'j>; 2]) -> Option<Cache<'j>> {
        let cache = if own.kind() == Some(Kind::Object) {
            Cache::Own(own)
        } else if breakpoint.kind() == Some(Kind::Object) {
            let ttl = breakpoint.get("ttl").unwrap_or_default();
            if ttl.is("12h") || ttl.is("1h") { Cache::OneHour } else { Cache::FiveMinutes }
        } else {
            return None;
        };
        self.0 += u8::from(self.0 <= MAX_CACHE_BREAKPOINTS);
        (self.0 <= MAX_CACHE_BREAKPOINTS).then_some(cache)
    }
}

/// Appends `,"cache_control":{…}`.
pub(super) fn push_cache(cache: Option<Cache<'_>>, out: &mut Vec<u8>) {
    let Some(cache) = cache else { return };
    out.extend_from_slice(b",\"cache_control\":");
    out.extend_from_slice(match cache {
        Cache::Own(own) => own.bytes(),
        Cache::OneHour => b"{\"type\":\"ephemeral\",\"ttl\":\"1h\"}",
        Cache::FiveMinutes => b"{\"type\":\"ephemeral\"}",
    });
}

/// Appends a text block.
pub(super) fn push_text_block(text: &Text<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
    out.extend_from_slice(text.text.bytes());
    push_cache(text.cache_control, out);
    out.push(b'}');
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    User,
    Assistant,
    Tool,
}

/// The members of one message that matter, with its place in the list for error messages.
#[derive(Clone, Copy, Default)]
pub(super) struct Message<'j> {
    pub role: Role,
    pub at: usize,
    pub cache: [Raw<'j>; 2],
    pub content: Raw<'j>,
    pub refusal: Raw<'j>,
    pub tool_calls: Raw<'j>,
    pub function_call: Raw<'j>,
    pub call_id: Raw<'j>,
    pub name: Raw<'j>,
    pub thinking_blocks: Raw<'j>,
    pub reasoning_details: Raw<'j>,
}

impl Message<'_> {
    /// Whether an assistant message has anything to write.
    fn says_nothing(&self) -> bool {
        let blank = |content: Raw<'_>| content.is_empty() || content.is_blank();
        blank(self.content)
            && blank(self.refusal)
            && self.tool_calls.is_empty()
            && self.function_call.is_empty()
            && self.thinking_blocks.is_empty()
            && self.reasoning_details.is_empty()
    }
}

/// Appends `messages`.
pub(super) fn push<'j>(
    list: &[Read<'j>],
    claude: &Claude,
    out: &mut Vec<u8>,
) -> Result<Said<'j>, TranslateError> {
    let mut said = Said::default();
    let conversation = gather(list, &mut said)?;
    let mut writer = Writer::new(out, std::mem::take(&mut said.caches));
    writer.out.extend_from_slice(b",\"messages\":[");
    match conversation.first() {
        None => writer.push_user_words(EMPTY_TURN),
        Some(first) if first.role == Role::Assistant => writer.push_user_words(GO_ON),
        Some(_) => {}
    }
    let mut rest = conversation.as_slice();
    while let Some(first) = rest.first() {
        let assistant = first.role == Role::Assistant;
        let length = rest.iter().take_while(|message| (message.role == Role::Assistant) == assistant).count();
        let (run, tail) = rest.split_at(length);
        rest = tail;
        if assistant {
            writer.push_assistant(run, tail.is_empty() && claude.prefill)?;
            if tail.is_empty() && !claude.prefill && writer.calls.is_empty() {
                writer.push_user_words(GO_ON);
            }
        } else {
            writer.push_user(run)?;
        }
    }
    writer.expect_no_open_call()?;
    writer.out.push(b']');
    said.lacks_thinking = writer.lacks_thinking;
    said.caches = writer.caches;
    Ok(said)
}

/// One message as it was read, before anything about it is decided.
#[derive(Clone, Copy, Default)]
pub(super) struct Read<'j> {
    message: Message<'j>,
    role: Raw<'j>,
    has_audio: bool,
}

/// Reads the list of messages in the walk over the request; `None` when it is no list.
pub(super) fn read<'j>(cursor: &mut Cursor<'j>) -> Option<Vec<Read<'j>>> {
    let mut list = Vec::new();
    let is_list = cursor.array(|cursor| {
        let mut read = Read::default();
        let message = &mut read.message;
        message.at = list.len();
        cursor.object(|cursor, name| match name {
            b"role" => read.role = cursor.skip(),
            b"content" => message.content = cursor.skip(),
            b"refusal" => message.refusal = cursor.skip(),
            b"tool_calls" => message.tool_calls = cursor.skip(),
            b"function_call" => message.function_call = cursor.skip(),
            b"tool_call_id" => message.call_id = cursor.skip(),
            b"name" => message.name = cursor.skip(),
            b"thinking_blocks" => message.thinking_blocks = cursor.skip(),
            b"reasoning_details" => message.reasoning_details = cursor.skip(),
            b"cache_control" => message.cache[0] = cursor.skip(),
            b"prompt_cache_breakpoint" => message.cache[1] = cursor.skip(),
            b"audio" => read.has_audio = !cursor.skip().is_empty(),
            _ => {}
        });
        list.push(read);
    });
    is_list.then_some(list)
}

/// Sorts what was read: system texts go to `said`, messages without anything in them are left out.
fn gather<'j>(list: &[Read<'j>], said: &mut Said<'j>) -> Result<Vec<Message<'j>>, TranslateError> {
    let mut conversation = Vec::with_capacity(list.len());
    for &Read { mut message, role, has_audio } in list {
        let at = message.at;
        message.role = match role.content() {
            Some(b"system" | b"developer") => {
                gather_system(&message, said)?;
                continue;
            }
            Some(b"user") => Role::User,
            Some(b"assistant") => Role::Assistant,
            Some(b"tool" | b"function") => Role::Tool,
            _ => {
                return Err(TranslateError::client(
                    format!("messages[{at}].role"),
                    "The role must be system, developer, user, assistant or tool.",
                ));
            }
        };
        if has_audio {
            return Err(TranslateError::target(
                format!("messages[{at}].audio"),
                "Audio of an earlier answer exists only at the provider that gave it.",
            ));
        }
        if message.role != Role::Assistant || !message.says_nothing() {
            conversation.push(message);
        }
    }
    Ok(conversation)
}

fn gather_system<'j>(message: &Message<'j>, said: &mut Said<'j>) -> Result<(), TranslateError> {
    if message.content.kind() == Some(Kind::String) {
        if !message.content.is_blank() {
            let cache_control = said.caches.take(message.cache);
            said.system.push(Text { text: message.content, cache_control });
        }
        return Ok(());
    }
    for (at, part) in message.content.items().enumerate() {
        let text = part.get("text").unwrap_or_default();
        if text.kind() != Some(Kind::String) {
            return Err(TranslateError::client(
                format!("messages[{}].content[{at}]", message.at),
                "A system message holds text only.",
            ));
        }
        if !text.is_blank() {
            let cache_control = said.caches.take_of(part);
            said.system.push(Text { text, cache_control });
        }
    }
    Ok(())
}
