//! The tool calls of a streamed answer, which may come in pieces and all at once.

use super::stream::{BrokenStream, Open, StreamTranslator};
use crate::dialect::json::{self, Kind, Raw, push_escaped};

/// A tool call as far as it has come.
#[derive(Debug)]
pub(super) struct Call {
    index: u64,
    id: Vec<u8>,
    name: Vec<u8>,
    pub custom: bool,
    /// Its input's text, escaped.
    input: Vec<u8>,
    /// Length at which the input was last found not to be whole.
    looked_at: usize,
    pub written: bool,
}

impl Call {
    pub fn text(&self) -> String {
        let token = [b"\"".as_slice(), &self.input, b"\""].concat();
        Raw::of(&token).text().unwrap_or_default().into_owned()
    }

    /// Whether the input is a whole object; looked at again only when it has grown.
    pub fn is_whole(&mut self) -> bool {
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
    /// One piece of a call. Servers that number all their calls 0 are told apart by a new id.
    pub(super) fn push_fragment(
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

    pub(super) fn open_call(&mut self, at: usize, out: &mut Vec<u8>) {
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
}
