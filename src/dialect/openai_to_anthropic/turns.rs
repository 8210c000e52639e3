//! Turns: the user's with its tool results first, the assistant's with its thinking, text and calls.

use std::borrow::Cow;
use std::collections::HashMap;

use super::TranslateError;
use super::messages::{Caches, Message, Role, Text, push_cache, push_text_block};
use crate::dialect::json::{self, Kind, Raw, push_escaped, push_string};

/// What stands in for a turn that has to be there and has no text.
pub(super) const EMPTY_TURN: &str = "(empty)";
/// What the user says where the last or first word must be theirs and is not.
pub(super) const GO_ON: &str = "Continue.";
/// A tool call that waits for its result in the next turn.
pub(super) struct Call {
    id: String,
    /// Set for calls of the older `functions` kind, which have no id: their results name the function.
    function: Option<String>,
    answered: bool,
}

/// Writes turns one after the other.
pub(super) struct Writer<'o> {
    pub out: &'o mut Vec<u8>,
    pub caches: Caches,
    /// The calls of the turn before, until their results are written.
    pub calls: Vec<Call>,
    /// No turn has been written yet.
    first: bool,
    /// The last assistant's turn calls tools and does not begin with signed thinking.
    pub lacks_thinking: bool,
}

/// Commas between the blocks of one turn.
pub(super) struct Blocks {
    pub first: bool,
}

impl Blocks {
    pub fn next(&mut self, out: &mut Vec<u8>) {
        if !self.first {
            out.push(b',');
        }
        self.first = false;
    }
}

impl<'o> Writer<'o> {
    /// A writer at the start of the list.
    pub fn new(out: &'o mut Vec<u8>, caches: Caches) -> Self {
        Self { out, caches, calls: Vec::new(), first: true, lacks_thinking: false }
    }

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

    pub fn push_user_words(&mut self, words: &str) {
        let mut blocks = self.open_turn("user");
        self.push_words(words, &mut blocks);
        self.close_turn();
    }

    /// A user's turn: first the results of the calls before it, then everything else.
    pub fn push_user(&mut self, run: &[Message<'_>]) -> Result<(), TranslateError> {
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

    pub fn expect_no_open_call(&self) -> Result<(), TranslateError> {
        match self.calls.iter().find(|call| !call.answered) {
            None => Ok(()),
            Some(call) => Err(TranslateError::client(
                "messages",
                format!("Tool call {} is not followed by a tool message with its result.", call.id),
            )),
        }
    }

    /// An assistant's turn: thinking, then text, then calls, message by message.
    pub fn push_assistant(&mut self, run: &[Message<'_>], is_prefill: bool) -> Result<(), TranslateError> {
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
