//! The content of one message: a string, or parts of text, images and files.

use super::messages::{Message, Text, push_cache, push_text_block};
use super::turns::{Blocks, Writer};
use super::{TranslateError, media};
use crate::dialect::json::{Kind, Raw};

impl Writer<'_> {
    /// The content of a tool result; left out when there is none.
    pub fn push_result_content(&mut self, message: &Message<'_>) -> Result<(), TranslateError> {
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
    pub fn push_content(&mut self, message: &Message<'_>, blocks: &mut Blocks) -> Result<(), TranslateError> {
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
}
