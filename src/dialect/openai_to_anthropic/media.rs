//! Images and files of a user's message, from OpenAI's data URLs to Anthropic's sources.

use super::TranslateError;
use crate::dialect::json::{Raw, push_string};

/// Appends an image block for an `image_url` part. A PDF that comes this way becomes a document.
pub(super) fn push_image(part: Raw<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), TranslateError> {
    let image = part.get("image_url").unwrap_or_default();
    // Some clients put the bare URL where the object belongs.
    let url = image.get("url").unwrap_or(image);
    let Some(text) = url.text() else {
        return Err(TranslateError::client(format!("{path}.image_url.url"), "An image needs a URL."));
    };
    if starts_with_ignoring_case(&text, "http://") || starts_with_ignoring_case(&text, "https://") {
        out.extend_from_slice(b"{\"type\":\"image\",\"source\":{\"type\":\"url\",\"url\":");
        out.extend_from_slice(url.bytes());
        out.extend_from_slice(b"}");
        return Ok(());
    }
    let Some(data) = DataUrl::read(&text) else {
        return Err(TranslateError::target(
            format!("{path}.image_url.url"),
            "Anthropic models take images by http(s) URL or as a base64 data URL.",
        ));
    };
    if data.media_type == "application/pdf" {
        push_base64(b"document", "application/pdf", data.payload, out);
        return Ok(());
    }
    // What the bytes are wins over what the URL says: the API refuses a mismatch.
    let media_type = sniff(data.payload).or_else(|| known_image(data.media_type));
    let Some(media_type) = media_type else {
        return Err(TranslateError::target(
            format!("{path}.image_url.url"),
            "Anthropic models take JPEG, PNG, GIF and WebP images.",
        ));
    };
    push_base64(b"image", media_type, data.payload, out);
    Ok(())
}

/// Appends a document block for a `file` part.
pub(super) fn push_file(part: Raw<'_>, path: &str, out: &mut Vec<u8>) -> Result<(), TranslateError> {
    let [data, name] = part.get("file").unwrap_or_default().pick(["file_data", "filename"]);
    let Some(text) = data.text().filter(|text| !text.is_empty()) else {
        return Err(TranslateError::target(
            format!("{path}.file"),
            "A file must come with its data: file ids of one provider mean nothing to another.",
        ));
    };
    let data = DataUrl::read(&text).unwrap_or(DataUrl { media_type: "", payload: &text });
    // "%PDF-" in base64.
    if data.media_type == "application/pdf" || data.payload.starts_with("JVBERi0") {
        push_base64(b"document", "application/pdf", data.payload, out);
    } else if data.media_type.starts_with("text/") || data.media_type == "application/json" {
        let Some(plain) = decode_base64(data.payload).and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return Err(TranslateError::client(
                format!("{path}.file.file_data"),
                "The file's text is not base64 of UTF-8.",
            ));
        };
        out.extend_from_slice(
            b"{\"type\":\"document\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":",
        );
        push_string(out, &plain);
        out.push(b'}');
    } else {
        return Err(TranslateError::target(
            format!("{path}.file.file_data"),
            "Anthropic models take PDF and text files.",
        ));
    }
    if !name.is_blank() && name.content().is_some() {
        out.extend_from_slice(b",\"title\":");
        out.extend_from_slice(name.bytes());
    }
    Ok(())
}

/// Appends a block up to its source, without the closing brace, so that the caller can add members.
fn push_base64(block: &[u8], media_type: &str, payload: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(block);
    out.extend_from_slice(b"\",\"source\":{\"type\":\"base64\",\"media_type\":\"");
    out.extend_from_slice(media_type.as_bytes());
    out.extend_from_slice(b"\",\"data\":");
    push_string(out, payload);
    out.push(b'}');
}

/// A `data:` URL with a base64 payload.
struct DataUrl<'t> {
    /// In lower case where it is one of ours.
    media_type: &'t str,
    payload: &'t str,
}

impl<'t> DataUrl<'t> {
    fn read(text: &'t str) -> Option<Self> {
        let rest = text.get(..5).filter(|scheme| scheme.eq_ignore_ascii_case("data:")).map(|_| &text[5..])?;
        let (head, payload) = rest.split_once(',')?;
        let mut params = head.split(';');
        let media_type = params.next().unwrap_or("").trim();
        params
            .any(|param| param.trim().eq_ignore_ascii_case("base64"))
            .then_some(Self { media_type, payload })
    }
}

/// The four image types by the first bytes of their base64.
fn sniff(payload: &str) -> Option<&'static str> {
    const STARTS: [(&str, &str); 4] = [
        ("iVBORw0KGgo", "image/png"),
        ("/9j/", "image/jpeg"),
        ("R0lGOD", "image/gif"),
        ("UklGR", "image/webp"),
    ];
    STARTS.iter().find(|(start, _)| payload.starts_with(start)).map(|&(_, media_type)| media_type)
}

fn known_image(media_type: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str); 5] = [
        ("image/png", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/jpg", "image/jpeg"),
        ("image/gif", "image/gif"),
        ("image/webp", "image/webp"),
    ];
    NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(media_type)).map(|&(_, media_type)| media_type)
}

fn starts_with_ignoring_case(text: &str, prefix: &str) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Standard base64 (RFC 4648, 4), padding optional; white space is skipped.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut buffer, mut bits) = (0u32, 0u32);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            b' ' | b'\n' | b'\r' | b'\t' => continue,
            _ => return None,
        };
        buffer = (buffer << 6 | u32::from(value)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((buffer >> bits) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(url: &str) -> Result<String, TranslateError> {
        let part = serde_json::json!({"type": "image_url", "image_url": {"url": url}}).to_string();
        let mut out = Vec::new();
        push_image(Raw::of(part.as_bytes()), "p", &mut out)?;
        Ok(String::from_utf8(out).unwrap() + "}")
    }

    #[test]
    fn an_image_is_sent_as_what_it_is() {
        for (url, expected) in [
            (
                "https://e.com/a.png",
                r#"{"type":"image","source":{"type":"url","url":"https://e.com/a.png"}}"#,
            ),
            (
                "data:image/png;base64,iVBORw0KGgo=",
                r#"{"type":"image","source":{"type":"base64","media_type":"image/png","data":"iVBORw0KGgo="}}"#,
            ),
            (
                "data:image/png;base64,/9j/4AAQ",
                r#"{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"/9j/4AAQ"}}"#,
            ),
            (
                "DATA:image/jpg;charset=x;base64,AAAA",
                r#"{"type":"image","source":{"type":"base64","media_type":"image/jpeg","data":"AAAA"}}"#,
            ),
            (
                "data:application/pdf;base64,JVBERi0x",
                r#"{"type":"document","source":{"type":"base64","media_type":"application/pdf","data":"JVBERi0x"}}"#,
            ),
        ] {
            assert_eq!(image(url).unwrap(), expected, "{url}");
        }
        for url in ["", "file-abc", "data:image/png,raw", "data:image/svg+xml;base64,AAAA", "ftp://x"] {
            assert!(image(url).is_err(), "{url}");
        }
    }

    #[test]
    fn an_escaped_slash_in_a_data_url_is_no_obstacle() {
        let part = br#"{"image_url":{"url":"data:image\/png;base64,iVBORw0KGgo\/"}}"#;
        let mut out = Vec::new();
        push_image(Raw::of(part), "p", &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().contains(r#""data":"iVBORw0KGgo/""#));
    }

    #[test]
    fn files_become_documents() {
        let file = |data: &str| {
            let part =
                serde_json::json!({"file": {"file_data": data, "filename": "a \"b\".pdf"}}).to_string();
            let mut out = Vec::new();
            push_file(Raw::of(part.as_bytes()), "p", &mut out).map(|()| String::from_utf8(out).unwrap() + "}")
        };
        let pdf = file("data:application/pdf;base64,JVBERi0x").unwrap();
        assert!(pdf.ends_with(r#","title":"a \"b\".pdf"}"#), "{pdf}");
        assert!(file("JVBERi0xLjQ=").unwrap().contains("application/pdf"));
        assert!(file("data:text/csv;base64,YSxiCjEsMg==").unwrap().contains(r#""data":"a,b\n1,2""#));
        for data in
            ["", "data:text/plain;base64,/////w", "data:text/plain;base64,!!", "data:video/mp4;base64,AAAA"]
        {
            assert!(file(data).is_err(), "{data}");
        }
    }
}
