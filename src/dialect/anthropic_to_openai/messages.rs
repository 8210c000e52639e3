//! The conversation: Anthropic's turns of blocks become OpenAI's flat list of messages.
//!
//! A user turn may hold tool results and words; each result becomes a message of its own, and all of them come before
//! the words, since OpenAI wants them right behind the calls. Tool messages hold text only, so images among the results
//! are shown in the user message that follows.

use super::media::{push_document, push_image};
use crate::dialect::json::{Cursor, Kind, Raw, push_escaped, push_string};
use crate::dialect::translate::{Dropped, TranslateError};

/// Longest id of a tool call that OpenAI takes.
const MAX_ID: usize = 40;

/// One message as it was read.
#[derive(Clone, Default)]
pub(super) struct Read<'j> {
    role: Raw<'j>,
    content: Content<'j>,
}

/// What a message holds.
#[derive(Clone, Default)]
struct Content<'j> {
    /// The whole of it, where it is a string.
    text: Raw<'j>,
    blocks: Vec<Block<'j>>,
}

/// Reads the list of messages in the walk over the request; `None` when it is no list.
pub(super) fn read<'j>(cursor: &mut Cursor<'j>) -> Option<Vec<Read<'j>>> {
    let mut list = Vec::new();
    let is_list = cursor.array(|cursor| {
        let mut read = Read::default();
        cursor.object(|cursor, name| match name {
            b"role" => read.role = cursor.skip(),
            b"content" if cursor.peek() == Some(b'[') => read.content.blocks = read_blocks(cursor),
            b"content" => read.content.text = cursor.skip(),
            _ => {}
        });
        list.push(read);
    });
    is_list.then_some(list)
}

/// Appends `messages`, the system prompt first.
pub(super) fn push(
    system: Raw<'_>,
    messages: &[Read<'_>],
    dropped: &mut Dropped,
    out: &mut Vec<u8>,
) -> Result<(), TranslateError> {
    let mut writer = Writer { out, dropped, first: true };
    writer.out.extend_from_slice(b",\"messages\":[");
    writer.push_system(system);
    for (at, Read { role, content }) in messages.iter().enumerate() {
        match role.content() {
            Some(b"user") => writer.push_user(content, at)?,
            Some(b"assistant") => writer.push_assistant(content, at)?,
            Some(b"system") => writer.push_system_texts(content.text, &content.blocks),
            _ => {
                return Err(TranslateError::client(
                    format!("messages[{at}].role"),
                    "The role must be user, assistant or system.",
                ));
            }
        }
    }
    writer.out.push(b']');
    Ok(())
}

/// The members of one content block that any kind of block has use for.
#[derive(Clone, Copy, Default)]
struct Block<'j> {
    kind: Raw<'j>,
    text: Raw<'j>,
    source: Raw<'j>,
    title: Raw<'j>,
    content: Raw<'j>,
    id: Raw<'j>,
    name: Raw<'j>,
    input: Raw<'j>,
    tool_use_id: Raw<'j>,
    is_error: Raw<'j>,
}

/// Reads the blocks of a content list in one walk; none when it is no list.
fn read_blocks<'j>(cursor: &mut Cursor<'j>) -> Vec<Block<'j>> {
    let mut blocks = Vec::new();
    cursor.array(|cursor| {
        let mut block = Block::default();
        cursor.object(|cursor, name| {
            let slot = match name {
                b"type" => &mut block.kind,
                b"text" => &mut block.text,
                b"source" => &mut block.source,
                b"title" => &mut block.title,
                b"content" => &mut block.content,
                b"id" => &mut block.id,
                b"name" => &mut block.name,
                b"input" => &mut block.input,
                b"tool_use_id" => &mut block.tool_use_id,
                b"is_error" => &mut block.is_error,
                _ => return,
            };
            *slot = cursor.skip();
        });
        blocks.push(block);
    });
    blocks
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    dropped: &'o mut Dropped,
    first: bool,
}

/// The blocks of a user turn that are not tool results, as parts; with what was taken out of the results.
#[derive(Default)]
pub(super) struct Parts {
    json: Vec<u8>,
    count: usize,
    /// The only part is this text, which is then sent as a plain string: all servers take that.
    only_text: Vec<u8>,
}

impl Parts {
    pub fn next(&mut self) -> &mut Vec<u8> {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        self.only_text.clear();
        &mut self.json
    }

    /// Adds a text; `escaped` is what stands between its quotes.
    pub fn push_text(&mut self, escaped: &[u8]) {
        if escaped.is_empty() {
            return;
        }
        let json = self.next();
        json.extend_from_slice(b"{\"type\":\"text\",\"text\":\"");
        json.extend_from_slice(escaped);
        json.extend_from_slice(b"\"}");
        if self.count == 1 {
            self.only_text.extend_from_slice(escaped);
        }
    }
}

impl Writer<'_> {
    fn open(&mut self, role: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        self.out.extend_from_slice(b"{\"role\":\"");
        self.out.extend_from_slice(role.as_bytes());
        self.out.push(b'"');
    }

    fn push_system(&mut self, system: Raw<'_>) {
        self.push_system_texts(system, &read_blocks(&mut Cursor::new(system.bytes())));
    }

    /// The system prompt as one string, which all servers take; blocks are set apart by a blank line.
    fn push_system_texts(&mut self, system: Raw<'_>, blocks: &[Block<'_>]) {
        let mut text = system.content().unwrap_or(b"").to_vec();
        push_block_texts(blocks, b"\\n\\n", &mut text);
        if !text.is_empty() {
            self.open("system");
            self.push_content(&text);
            self.out.push(b'}');
        }
    }

    fn push_content(&mut self, escaped: &[u8]) {
        self.out.extend_from_slice(b",\"content\":\"");
        self.out.extend_from_slice(escaped);
        self.out.push(b'"');
    }

    fn push_user(&mut self, content: &Content<'_>, at: usize) -> Result<(), TranslateError> {
        let mut parts = Parts::default();
        if let Some(text) = content.text.content() {
            parts.push_text(text);
        }
        let blocks = &content.blocks;
        for block in blocks.iter().filter(|block| block.kind.is("tool_result")) {
            self.push_result(block, &mut parts, at)?;
        }
        for (place, block) in blocks.iter().enumerate() {
            if !block.kind.is("tool_result") {
                self.push_block(block, &mut parts, || format!("messages[{at}].content[{place}]"))?;
            }
        }
        if parts.count == 0 {
            // A turn of tool results alone; or one of nothing, which is the provider's to judge.
            if content.text.content().is_none() {
                return Ok(());
            }
            parts.json.clear();
        }
        self.open("user");
        if parts.count <= 1 && (parts.count == 0 || !parts.only_text.is_empty()) {
            self.push_content(&parts.only_text);
        } else {
            self.out.extend_from_slice(b",\"content\":[");
            self.out.extend_from_slice(&parts.json);
            self.out.push(b']');
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A tool result as a tool message; what is no text goes to `parts`, for the user message that follows.
    fn push_result(&mut self, block: &Block<'_>, parts: &mut Parts, at: usize) -> Result<(), TranslateError> {
        let Some(id) = block.tool_use_id.text() else {
            return Err(TranslateError::client(
                format!("messages[{at}].content"),
                "A tool result needs its tool_use_id.",
            ));
        };
        let mut text = Vec::new();
        if let Some(content) = block.content.content() {
            text.extend_from_slice(content);
        }
        let items = read_blocks(&mut Cursor::new(block.content.bytes()));
        push_block_texts(&items, b"\\n", &mut text);
        for item in &items {
            if item.kind.is("image") || item.kind.is("document") || item.kind.is("search_result") {
                self.push_block(item, parts, || format!("messages[{at}].content"))?;
            }
        }
        self.open("tool");
        self.out.extend_from_slice(b",\"tool_call_id\":\"");
        push_id(&id, self.out);
        self.out.push(b'"');
        if block.is_error.bool() == Some(true) {
            text.splice(0..0, if text.is_empty() { b"Error".iter() } else { b"Error: ".iter() }.copied());
        }
        self.push_content(&text);
        self.out.push(b'}');
        Ok(())
    }

    fn push_block(
        &mut self,
        block: &Block<'_>,
        parts: &mut Parts,
        path: impl Fn() -> String,
    ) -> Result<(), TranslateError> {
        let &Block { kind, text, source, title, content, .. } = block;
        match kind.content() {
            Some(b"text") => parts.push_text(text.content().unwrap_or(b"")),
            Some(b"image") => push_image(source, parts, &path)?,
            Some(b"document") => push_document(source, title, parts, &path)?,
            Some(b"search_result") => {
                let mut words = Vec::new();
                for part in [title, source] {
                    words.extend_from_slice(part.content().unwrap_or(b""));
                    words.extend_from_slice(b"\\n");
                }
                push_texts(content, b"\\n", &mut words);
                parts.push_text(&words);
            }
            Some(b"container_upload") => {
                return Err(TranslateError::target(path(), "Files of one provider mean nothing to another."));
            }
            Some(_) => self.dropped.add("other"),
            None => return Err(TranslateError::client(path(), "A content block needs a type.")),
        }
        Ok(())
    }

    fn push_assistant(&mut self, content: &Content<'_>, at: usize) -> Result<(), TranslateError> {
        let mut text = Vec::new();
        text.extend_from_slice(content.text.content().unwrap_or(b""));
        let blocks = &content.blocks;
        push_block_texts(blocks, b"", &mut text);
        let mut calls = Vec::new();
        for (place, &Block { kind, id, name, input, .. }) in blocks.iter().enumerate() {
            match kind.content() {
                Some(b"tool_use") => {
                    let Some(id) = id.text().filter(|_| name.kind() == Some(Kind::String)) else {
                        return Err(TranslateError::client(
                            format!("messages[{at}].content[{place}]"),
                            "A tool_use block needs an id and a name.",
                        ));
                    };
                    calls.extend_from_slice(if calls.is_empty() { b"{\"id\":\"" } else { b",{\"id\":\"" });
                    push_id(&id, &mut calls);
                    calls.extend_from_slice(b"\",\"type\":\"function\",\"function\":{\"name\":");
                    calls.extend_from_slice(name.bytes());
                    calls.extend_from_slice(b",\"arguments\":");
                    let input = if input.kind() == Some(Kind::Object) { input.bytes() } else { b"{}" };
                    push_string(&mut calls, std::str::from_utf8(input).unwrap_or("{}"));
                    calls.extend_from_slice(b"}}");
                }
                Some(b"text" | b"thinking" | b"redacted_thinking") => {}
                // Traces of tools that Anthropic ran.
                _ => self.dropped.add("other"),
            }
        }
        self.open("assistant");
        if text.is_empty() && !calls.is_empty() {
            self.out.extend_from_slice(b",\"content\":null");
        } else {
            self.push_content(&text);
        }
        if !calls.is_empty() {
            self.out.extend_from_slice(b",\"tool_calls\":[");
            self.out.extend_from_slice(&calls);
            self.out.push(b']');
        }
        self.out.push(b'}');
        Ok(())
    }
}

/// Appends the text of a string or of all text blocks, still escaped, with `between` among them.
pub(super) fn push_texts(content: Raw<'_>, between: &[u8], out: &mut Vec<u8>) {
    match content.content() {
        Some(text) => out.extend_from_slice(text),
        None => push_block_texts(&read_blocks(&mut Cursor::new(content.bytes())), between, out),
    }
}

fn push_block_texts(blocks: &[Block<'_>], between: &[u8], out: &mut Vec<u8>) {
    let mut first = true;
    for block in blocks.iter().filter(|block| block.kind.is("text")) {
        if let Some(text) = block.text.content().filter(|text| !text.is_empty()) {
            if !first {
                out.extend_from_slice(between);
            }
            out.extend_from_slice(text);
            first = false;
        }
    }
}

/// Appends a tool call's id; one that is too long is cut and marked with a hash of the whole, so that a call and its
/// result still agree.
fn push_id(id: &str, out: &mut Vec<u8>) {
    if id.len() <= MAX_ID {
        push_escaped(out, id);
        return;
    }
    let head: String = id.chars().filter(char::is_ascii_alphanumeric).take(20).collect();
    // FNV-1a, 64 bits: short and stable.
    let hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    out.extend_from_slice(format!("{head}_{hash:016x}").as_bytes());
}
