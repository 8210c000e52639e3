//! Images and documents of a user's turn, from Anthropic's sources to OpenAI's data URLs.

use super::messages::{Parts, push_texts};
use crate::dialect::json::Raw;
use crate::dialect::translate::TranslateError;

/// Adds an image part.
pub(super) fn push_image(
    source: Raw<'_>,
    parts: &mut Parts,
    path: &impl Fn() -> String,
) -> Result<(), TranslateError> {
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

/// Adds a document: a PDF as a file part, text as text.
pub(super) fn push_document(
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
