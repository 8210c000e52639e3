//! The conversation: OpenAI's flat list of messages becomes Anthropic's strict alternation of turns.
//!
//! Rules that the API enforces and OpenAI does not have: user and assistant alternate and the user begins; the results
//! of all tool calls of a turn stand first in the very next user turn; text is never blank; ids have a small alphabet.
//! So messages are gathered into runs of one side, and each run is written as one turn.

use std::borrow::Cow;
use std::collections::HashMap;

use super::claude::Claude;
use super::{TranslateError, media};
use crate::dialect::json::{self, Cursor, Kind, Raw, push_escaped, push_string};

/// What stands in for a turn that has to be there and has no text.
const EMPTY_TURN: &str = "(empty)";
/// What the user says where the last or first word must be theirs and is not.
const GO_ON: &str = "Continue.";
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
enum Role {
    #[default]
    User,
    Assistant,
    Tool,
}

/// The members of one message that matter, with its place in the list for error messages.
#[derive(Clone, Copy, Default)]
struct Message<'j> {
    role: Role,
    at: usize,
    cache: [Raw<'j>; 2],
    content: Raw<'j>,
    refusal: Raw<'j>,
    tool_calls: Raw<'j>,
    function_call: Raw<'j>,
    call_id: Raw<'j>,
    name: Raw<'j>,
    thinking_blocks: Raw<'j>,
    reasoning_details: Raw<'j>,
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

/// A tool call that waits for its result in the next turn.
struct Call {
    id: String,
    /// Set for calls of the older `functions` kind, which have no id: their results name the function.
    function: Option<String>,
    answered: bool,
}

/// Appends `messages`.
pub(super) fn push<'j>(
    messages: Raw<'j>,
    claude: &Claude,
    out: &mut Vec<u8>,
) -> Result<Said<'j>, TranslateError> {
    let mut said = Said::default();
    let conversation = gather(messages, &mut said)?;
    let mut writer = Writer {
        out,
        caches: std::mem::take(&mut said.caches),
        calls: Vec::new(),
        first: true,
        lacks_thinking: false,
    };
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

/// Reads the list: system texts go to `said`, messages without anything in them are left out.
fn gather<'j>(messages: Raw<'j>, said: &mut Said<'j>) -> Result<Vec<Message<'j>>, TranslateError> {
    if messages.kind() != Some(Kind::Array) {
        return Err(TranslateError::client("messages", "A list of messages is needed here."));
    }
    let mut read = Vec::new();
    Cursor::new(messages.bytes()).array(|cursor| {
        let mut message = Message { at: read.len(), ..Message::default() };
        let (mut role, mut has_audio) = (Raw::default(), false);
        cursor.object(|cursor, name| match name {
            b"role" => role = cursor.skip(),
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
            b"audio" => has_audio = !cursor.skip().is_empty(),
            _ => {}
        });
        read.push((message, role, has_audio));
    });
    let mut conversation = Vec::with_capacity(read.len());
    for (mut message, role, has_audio) in read {
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

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    caches: Caches,
    calls: Vec<Call>,
    /// No turn has been written yet.
    first: bool,
    lacks_thinking: bool,
}

/// Commas between the blocks of one turn.
struct Blocks {
    first: bool,
}

impl Blocks {
    fn next(&mut self, out: &mut Vec<u8>) {
        if !self.first {
            out.push(b',');
        }
        self.first = false;
    }
}

impl Writer<'_> {
    fn open_turn(&mut self, role: &str) -> Blocks {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.extend_from_slice(b"{\"role\":\"");
        self.out.extend_from_slice(role.as_bytes());
        self.out.extend_from_slice(b"\",\"content\":[");
        Blocks { first: true }
    }

    fn close_turn(&mut self) {
        self.out.extend_from_slice(b"]}");
    }

    fn push_words(&mut self, words: &str, blocks: &mut Blocks) {
        blocks.next(self.out);
        self.out.extend_from_slice(b"{\"type\":\"text\",\"text\":");
        push_string(self.out, words);
        self.out.push(b'}');
    }

    fn push_user_words(&mut self, words: &str) {
        let mut blocks = self.open_turn("user");
        self.push_words(words, &mut blocks);
        self.close_turn();
    }

    /// A user's turn: first the results of the calls before it, then everything else.
    fn push_user(&mut self, run: &[Message<'_>]) -> Result<(), TranslateError> {
        let mut blocks = self.open_turn("user");
        // Of two results for one call the later one counts; and a call is looked up by id once, not once per message.
        let mut last = HashMap::new();
        let results = run.iter().filter(|message| message.role == Role::Tool);
        let ids: Vec<Cow<'_, str>> = results.clone().map(|message| self.call_of(message)).collect();
        for (at, id) in ids.iter().enumerate() {
            last.insert(id.as_ref(), at);
        }
        let open: HashMap<String, usize> =
            self.calls.iter().enumerate().map(|(at, call)| (call.id.clone(), at)).collect();
        let mut orphans = Vec::new();
        for (at, (message, id)) in results.zip(&ids).enumerate() {
            if last.get(id.as_ref()) != Some(&at) {
                continue;
            }
            let Some(&call) = open.get(id.as_ref()) else {
                orphans.push((message, id));
                continue;
            };
            self.calls[call].answered = true;
            blocks.next(self.out);
            self.out.extend_from_slice(b"{\"type\":\"tool_result\",\"tool_use_id\":\"");
            push_id(id, self.out);
            self.out.push(b'"');
            self.push_result_content(message)?;
            let cache = self.caches.take(message.cache);
            push_cache(cache, self.out);
            self.out.push(b'}');
        }
        self.expect_no_open_call()?;
        self.calls.clear();
        for (message, id) in orphans {
            self.push_words(
                &format!("Result of tool call {id}, which is no longer in the conversation:"),
                &mut blocks,
            );
            self.push_content(message, &mut blocks)?;
        }
        for message in run.iter().filter(|message| message.role == Role::User) {
            self.push_content(message, &mut blocks)?;
        }
        if blocks.first {
            self.push_words(EMPTY_TURN, &mut blocks);
        }
        self.close_turn();
        Ok(())
    }

    /// The id of the call that a tool message answers.
    fn call_of<'j>(&self, message: &Message<'j>) -> Cow<'j, str> {
        if let Some(id) = message.call_id.text() {
            return id;
        }
        let name = message.name.text().unwrap_or_default();
        match self.calls.iter().find(|call| call.function.as_deref() == Some(&name)) {
            Some(call) => Cow::Owned(call.id.clone()),
            None => name,
        }
    }

    fn expect_no_open_call(&self) -> Result<(), TranslateError> {
        match self.calls.iter().find(|call| !call.answered) {
            None => Ok(()),
            Some(call) => Err(TranslateError::client(
                "messages",
                format!("Tool call {} is not followed by a tool message with its result.", call.id),
            )),
        }
    }

    /// The content of a tool result; left out when there is none.
    fn push_result_content(&mut self, message: &Message<'_>) -> Result<(), TranslateError> {
        if message.content.kind() == Some(Kind::String) {
            if !message.content.is_blank() {
                self.out.extend_from_slice(b",\"content\":");
                self.out.extend_from_slice(message.content.bytes());
            }
            return Ok(());
        }
        let start = self.out.len();
        self.out.extend_from_slice(b",\"content\":[");
        let mut blocks = Blocks { first: true };
        self.push_content(message, &mut blocks)?;
        if blocks.first {
            self.out.truncate(start);
        } else {
            self.out.push(b']');
        }
        Ok(())
    }

    /// The content of a user's or a tool's message as blocks.
    fn push_content(&mut self, message: &Message<'_>, blocks: &mut Blocks) -> Result<(), TranslateError> {
        match message.content.kind() {
            None | Some(Kind::Null) => {}
            Some(Kind::String) => {
                if !message.content.is_blank() {
                    let cache_control = self.caches.take(message.cache);
                    blocks.next(self.out);
                    push_text_block(&Text { text: message.content, cache_control }, self.out);
                }
            }
            Some(Kind::Array) => {
                for (at, part) in message.content.items().enumerate() {
                    self.push_part(part, blocks, || format!("messages[{}].content[{at}]", message.at))?;
                }
            }
            Some(_) => {
                return Err(TranslateError::client(
                    format!("messages[{}].content", message.at),
                    "Content must be a string or a list of parts.",
                ));
            }
        }
        Ok(())
    }

    fn push_part(
        &mut self,
        part: Raw<'_>,
        blocks: &mut Blocks,
        path: impl Fn() -> String,
    ) -> Result<(), TranslateError> {
        let [kind, text, refusal] = part.pick(["type", "text", "refusal"]);
        match kind.content() {
            Some(b"text" | b"refusal" | b"input_text" | b"output_text") => {
                let text = if kind.is("refusal") { refusal } else { text };
                if text.kind() != Some(Kind::String) {
                    return Err(TranslateError::client(path(), "A text part needs its text."));
                }
                if !text.is_blank() {
                    let cache_control = self.caches.take_of(part);
                    blocks.next(self.out);
                    push_text_block(&Text { text, cache_control }, self.out);
                }
                return Ok(());
            }
            Some(b"image_url") => {
                blocks.next(self.out);
                media::push_image(part, &path(), self.out)?;
            }
            Some(b"file") => {
                blocks.next(self.out);
                media::push_file(part, &path(), self.out)?;
            }
            // Parts in Anthropic's own words, which clients of other gateways send.
            Some(b"image" | b"document" | b"search_result") if part.get("source").is_some() => {
                blocks.next(self.out);
                self.out.extend_from_slice(part.bytes());
                return Ok(());
            }
            Some(b"input_audio") => {
                return Err(TranslateError::target(
                    path(),
                    "Anthropic models do not hear; send text, images or files.",
                ));
            }
            Some(_) => {
                return Err(TranslateError::target(
                    path(),
                    "Parts of this type cannot be given to Anthropic models.",
                ));
            }
            None => return Err(TranslateError::client(path(), "A part needs a type.")),
        }
        let cache = self.caches.take_of(part);
        push_cache(cache, self.out);
        self.out.push(b'}');
        Ok(())
    }

    /// An assistant's turn: thinking, then text, then calls, message by message.
    fn push_assistant(&mut self, run: &[Message<'_>], is_prefill: bool) -> Result<(), TranslateError> {
        let mut blocks = self.open_turn("assistant");
        let mut has_thinking = false;
        for (at, message) in run.iter().enumerate() {
            // Signed thinking counts only at the start of the turn.
            if at == 0 {
                has_thinking = self.push_thinking(message, &mut blocks);
            }
            let trim = is_prefill && at + 1 == run.len();
            self.push_assistant_text(message, trim, &mut blocks)?;
            self.push_calls(message, &mut blocks)?;
        }
        if blocks.first {
            self.push_words(EMPTY_TURN, &mut blocks);
        }
        self.close_turn();
        self.lacks_thinking = !self.calls.is_empty() && !has_thinking;
        Ok(())
    }

    /// Thinking that the client kept from an earlier answer; only what is signed is accepted back.
    fn push_thinking(&mut self, message: &Message<'_>, blocks: &mut Blocks) -> bool {
        let before = self.out.len();
        for block in message.thinking_blocks.items() {
            let [kind, signature, data] = block.pick(["type", "signature", "data"]);
            if (kind.is("thinking") && !signature.is_empty())
                || (kind.is("redacted_thinking") && !data.is_empty())
            {
                blocks.next(self.out);
                self.out.extend_from_slice(block.bytes());
            }
        }
        if self.out.len() == before {
            for detail in message.reasoning_details.items() {
                let [kind, text, signature, data] = detail.pick(["type", "text", "signature", "data"]);
                if kind.is("reasoning.text") && text.kind() == Some(Kind::String) && !signature.is_empty() {
                    blocks.next(self.out);
                    self.out.extend_from_slice(b"{\"type\":\"thinking\",\"thinking\":");
                    self.out.extend_from_slice(text.bytes());
                    self.out.extend_from_slice(b",\"signature\":");
                    self.out.extend_from_slice(signature.bytes());
                    self.out.push(b'}');
                } else if kind.is("reasoning.encrypted") && data.kind() == Some(Kind::String) {
                    blocks.next(self.out);
                    self.out.extend_from_slice(b"{\"type\":\"redacted_thinking\",\"data\":");
                    self.out.extend_from_slice(data.bytes());
                    self.out.push(b'}');
                }
            }
        }
        self.out.len() > before
    }

    fn push_assistant_text(
        &mut self,
        message: &Message<'_>,
        trim: bool,
        blocks: &mut Blocks,
    ) -> Result<(), TranslateError> {
        if trim && let Some(text) = message.content.text() {
            // A prefill that ends in white space is refused.
            let trimmed = text.trim_end();
            if trimmed.len() < text.len() {
                if !trimmed.is_empty() {
                    self.push_words(trimmed, blocks);
                }
                return Ok(());
            }
        }
        self.push_content(message, blocks)?;
        if message.refusal.kind() == Some(Kind::String) && !message.refusal.is_blank() {
            blocks.next(self.out);
            push_text_block(&Text { text: message.refusal, cache_control: None }, self.out);
        }
        Ok(())
    }

    fn push_calls(&mut self, message: &Message<'_>, blocks: &mut Blocks) -> Result<(), TranslateError> {
        for (at, call) in message.tool_calls.items().enumerate() {
            let path = || format!("messages[{}].tool_calls[{at}]", message.at);
            let [id, function, custom] = call.pick(["id", "function", "custom"]);
            let Some(id) = id.text() else {
                return Err(TranslateError::client(path(), "A tool call needs an id."));
            };
            let input = if custom.is_null() { Input::Arguments(function) } else { Input::Text(custom) };
            self.push_call(id.into_owned(), input, None, blocks, path)?;
        }
        if !message.function_call.is_empty() {
            let path = || format!("messages[{}].function_call", message.at);
            let name = message.function_call.get("name").and_then(Raw::text).map(Cow::into_owned);
            let id = format!("function_{}", message.at);
            self.push_call(id, Input::Arguments(message.function_call), name, blocks, path)?;
        }
        Ok(())
    }

    fn push_call(
        &mut self,
        id: String,
        input: Input<'_>,
        function: Option<String>,
        blocks: &mut Blocks,
        path: impl Fn() -> String,
    ) -> Result<(), TranslateError> {
        let (Input::Arguments(body) | Input::Text(body)) = input;
        let [name, arguments, text] = body.pick(["name", "arguments", "input"]);
        if name.kind() != Some(Kind::String) {
            return Err(TranslateError::client(path(), "A tool call needs the name of its function."));
        }
        blocks.next(self.out);
        self.out.extend_from_slice(b"{\"type\":\"tool_use\",\"id\":\"");
        push_id(&id, self.out);
        self.out.extend_from_slice(b"\",\"name\":");
        self.out.extend_from_slice(name.bytes());
        self.out.extend_from_slice(b",\"input\":");
        match input {
            Input::Arguments(_) => push_arguments(arguments, self.out, &path)?,
            Input::Text(_) => {
                self.out.extend_from_slice(b"{\"input\":");
                self.out.extend_from_slice(if text.kind() == Some(Kind::String) {
                    text.bytes()
                } else {
                    b"\"\""
                });
                self.out.push(b'}');
            }
        }
        self.out.push(b'}');
        self.calls.push(Call { id, function, answered: false });
        Ok(())
    }
}

/// Where the input of a call stands.
#[derive(Clone, Copy)]
enum Input<'j> {
    /// JSON inside the string `arguments`.
    Arguments(Raw<'j>),
    /// Free text in `input`.
    Text(Raw<'j>),
}

/// Appends the arguments, a JSON object inside a string, as the object itself.
fn push_arguments(
    arguments: Raw<'_>,
    out: &mut Vec<u8>,
    path: &impl Fn() -> String,
) -> Result<(), TranslateError> {
    let text = match arguments.kind() {
        None | Some(Kind::Null) => Cow::Borrowed("{}"),
        // Sent unquoted by careless clients; it means the same.
        Some(Kind::Object) => {
            out.extend_from_slice(arguments.bytes());
            return Ok(());
        }
        // What is no text at all is no object either.
        _ => arguments.text().unwrap_or(Cow::Borrowed("?")),
    };
    let text = if text.trim().is_empty() { "{}" } else { text.trim() };
    if !text.starts_with('{') || !json::valid(text.as_bytes()) {
        return Err(TranslateError::client(
            format!("{}.function.arguments", path()),
            "The arguments of a tool call must be a JSON object, as a string.",
        ));
    }
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends an id in the API's alphabet. One that does not fit is respelled and marked with a hash of what it was, so that
/// a call and its result still agree and different ids stay different.
fn push_id(id: &str, out: &mut Vec<u8>) {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !id.is_empty() && id.bytes().all(fits) {
        push_escaped(out, id);
        return;
    }
    out.extend(id.bytes().map(|byte| if fits(byte) { byte } else { b'_' }).take(40));
    // FNV-1a, 64 bits: short, stable, and nobody gains by a collision inside their own conversation.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    out.extend_from_slice(format!("_{hash:016x}").as_bytes());
}
