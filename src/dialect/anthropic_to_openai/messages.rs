//! The conversation: Anthropic's turns of blocks become OpenAI's flat list of messages.
//!
//! A user turn may hold tool results and words; each result becomes a message of its own, and all of them come before
//! the words, since OpenAI wants them right behind the calls. Tool messages hold text only, so images among the results
//! are shown in the user message that follows.

use crate::dialect::json::{Kind, Raw, push_escaped, push_string};
use crate::dialect::translate::{Dropped, TranslateError};

/// Longest id of a tool call that OpenAI takes.
const MAX_ID: usize = 40;

/// Appends `messages`, the system prompt first.
pub(super) fn push(
    system: Raw<'_>,
    messages: Raw<'_>,
    dropped: &mut Dropped,
    out: &mut Vec<u8>,
) -> Result<(), TranslateError> {
    if messages.kind() != Some(Kind::Array) {
        return Err(TranslateError::client("messages", "A list of messages is needed here."));
    }
    let mut writer = Writer { out, dropped, first: true };
    writer.out.extend_from_slice(b",\"messages\":[");
    writer.push_system(system);
    for (at, message) in messages.items().enumerate() {
        let [role, content] = message.pick(["role", "content"]);
        match role.content() {
            Some(b"user") => writer.push_user(content, at)?,
            Some(b"assistant") => writer.push_assistant(content, at)?,
            Some(b"system") => writer.push_system(content),
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

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    dropped: &'o mut Dropped,
    first: bool,
}

/// The blocks of a user turn that are not tool results, as parts; with what was taken out of the results.
#[derive(Default)]
struct Parts {
    json: Vec<u8>,
    count: usize,
    /// The only part is this text, which is then sent as a plain string: all servers take that.
    only_text: Vec<u8>,
}

impl Parts {
    fn next(&mut self) -> &mut Vec<u8> {
        if self.count > 0 {
            self.json.push(b',');
        }
        self.count += 1;
        self.only_text.clear();
        &mut self.json
    }

    /// Adds a text; `escaped` is what stands between its quotes.
    fn push_text(&mut self, escaped: &[u8]) {
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

    /// The system prompt as one string, which all servers take; blocks are set apart by a blank line.
    fn push_system(&mut self, system: Raw<'_>) {
        let mut text = Vec::new();
        push_texts(system, b"\\n\\n", &mut text);
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

    fn push_user(&mut self, content: Raw<'_>, at: usize) -> Result<(), TranslateError> {
        let mut parts = Parts::default();
        if let Some(text) = content.content() {
            parts.push_text(text);
        }
        for block in content.items().filter(|block| block.get("type").unwrap_or_default().is("tool_result")) {
            self.push_result(block, &mut parts, at)?;
        }
        for (place, block) in content.items().enumerate() {
            if !block.get("type").unwrap_or_default().is("tool_result") {
                self.push_block(block, &mut parts, || format!("messages[{at}].content[{place}]"))?;
            }
        }
        if parts.count == 0 {
            // A turn of tool results alone; or one of nothing, which is the provider's to judge.
            if content.content().is_none() {
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
    fn push_result(&mut self, block: Raw<'_>, parts: &mut Parts, at: usize) -> Result<(), TranslateError> {
        let [id, content, is_error] = block.pick(["tool_use_id", "content", "is_error"]);
        let Some(id) = id.text() else {
            return Err(TranslateError::client(
                format!("messages[{at}].content"),
                "A tool result needs its tool_use_id.",
            ));
        };
        let mut text = Vec::new();
        push_texts(content, b"\\n", &mut text);
        for item in content.items() {
            let kind = item.get("type").unwrap_or_default();
            if kind.is("image") || kind.is("document") || kind.is("search_result") {
                self.push_block(item, parts, || format!("messages[{at}].content"))?;
            }
        }
        self.open("tool");
        self.out.extend_from_slice(b",\"tool_call_id\":\"");
        push_id(&id, self.out);
        self.out.push(b'"');
        if is_error.bool() == Some(true) {
            text.splice(0..0, if text.is_empty() { b"Error".iter() } else { b"Error: ".iter() }.copied());
        }
        self.push_content(&text);
        self.out.push(b'}');
        Ok(())
    }

    fn push_block(
        &mut self,
        block: Raw<'_>,
        parts: &mut Parts,
        path: impl Fn() -> String,
    ) -> Result<(), TranslateError> {
        let [kind, text, source, title, content] = block.pick(["type", "text", "source", "title", "content"]);
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

    fn push_assistant(&mut self, content: Raw<'_>, at: usize) -> Result<(), TranslateError> {
        let mut text = Vec::new();
        push_texts(content, b"", &mut text);
        let mut calls = Vec::new();
        for (place, block) in content.items().enumerate() {
            let [kind, id, name, input] = block.pick(["type", "id", "name", "input"]);
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
fn push_texts(content: Raw<'_>, between: &[u8], out: &mut Vec<u8>) {
    if let Some(text) = content.content() {
        out.extend_from_slice(text);
        return;
    }
    let start = out.len();
    for block in content.items() {
        let [kind, text] = block.pick(["type", "text"]);
        if let Some(text) = text.content().filter(|text| kind.is("text") && !text.is_empty()) {
            if out.len() > start {
                out.extend_from_slice(between);
            }
            out.extend_from_slice(text);
        }
    }
}

fn push_image(source: Raw<'_>, parts: &mut Parts, path: &impl Fn() -> String) -> Result<(), TranslateError> {
    let [kind, media_type, data, url] = source.pick(["type", "media_type", "data", "url"]);
    let inside: [&[u8]; 4] = match (kind.content(), media_type.content(), data.content(), url.content()) {
        (Some(b"base64"), Some(media_type), Some(data), _) => [b"data:", media_type, b";base64,", data],
        (Some(b"url"), _, _, Some(url)) => [url, b"", b"", b""],
        _ => return Err(TranslateError::target(path(), "Images must come as base64 or by URL.")),
    };
    let json = parts.next();
    json.extend_from_slice(b"{\"type\":\"image_url\",\"image_url\":{\"url\":\"");
    inside.iter().for_each(|piece| json.extend_from_slice(piece));
    json.extend_from_slice(b"\"}}");
    Ok(())
}

fn push_document(
    source: Raw<'_>,
    title: Raw<'_>,
    parts: &mut Parts,
    path: &impl Fn() -> String,
) -> Result<(), TranslateError> {
    let [kind, media_type, data, content] = source.pick(["type", "media_type", "data", "content"]);
    match kind.content() {
        Some(b"base64") if media_type.is("application/pdf") && data.content().is_some() => {
            let json = parts.next();
            json.extend_from_slice(b"{\"type\":\"file\",\"file\":{\"filename\":");
            json.extend_from_slice(if title.content().is_some_and(|title| !title.is_empty()) {
                title.bytes()
            } else {
                b"\"document.pdf\""
            });
            json.extend_from_slice(b",\"file_data\":\"data:application/pdf;base64,");
            json.extend_from_slice(data.content().unwrap_or(b""));
            json.extend_from_slice(b"\"}}");
        }
        Some(b"text") => {
            let mut words = Vec::new();
            if let Some(title) = title.content() {
                words.extend_from_slice(title);
                words.extend_from_slice(b"\\n");
            }
            words.extend_from_slice(data.content().unwrap_or(b""));
            parts.push_text(&words);
        }
        Some(b"content") => {
            let mut words = Vec::new();
            push_texts(content, b"\\n", &mut words);
            parts.push_text(&words);
        }
        _ => {
            return Err(TranslateError::target(path(), "Documents must come as text or as a base64 PDF."));
        }
    }
    Ok(())
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
