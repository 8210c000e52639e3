//! Every other path: a sensible small answer where one is known, an echo for uploads, 404 otherwise.

use serde_json::{Value, json};

use super::super::request::Request;
use super::{Answer, Ask, Setting, Wire, compose, errors, identifier};

/// A PNG of one grey pixel.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0,
    0, 1, 8, 0, 0, 0, 0, 0x3a, 0x7e, 0x9b, 0x55, 0, 0, 0, 0x0a, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63,
    0x68, 0, 0, 0, 0x82, 0, 0x81, 0x77, 0xcd, 0x72, 0xb6, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42,
    0x60, 0x82,
];
/// Samples a second of the silence that stands for speech, 16 bit, one channel.
const SAMPLE_RATE: u32 = 8_000;
/// Longest silence, in samples.
const SAMPLES: usize = 80_000;

pub(super) fn answer(request: &Request, ask: &Ask, setting: &Setting<'_>) -> Answer {
    let method = request.head.method.as_str();
    let text = |name: &str| ask.json.as_ref().and_then(|json| json[name].as_str()).unwrap_or("");
    if ask.wire == Wire::Anthropic {
        return errors::not_found(ask, method);
    }
    match (method, ask.path.as_str()) {
        ("POST", "audio/speech") => speech(text("input"), text("response_format")),
        ("POST", "audio/transcriptions" | "audio/translations") => {
            let text = format!("A rehearsal of {} bytes.", request.body.len());
            Answer::json(200, &json!({"text": text, "usage": {"type": "duration", "seconds": 1}}))
        }
        ("POST", "images/generations" | "images/edits" | "images/variations") => {
            Answer::json(200, &json!({"created": setting.unix_s, "data": [{"b64_json": base64(PIXEL)}]}))
        }
        ("POST", "moderations") => moderation(ask, setting),
        ("POST", "files") => file(request, setting),
        ("GET", "files") => Answer::json(200, &json!({"object": "list", "data": [], "has_more": false})),
        ("POST", "rerank") => rerank(ask),
        _ => errors::not_found(ask, method),
    }
}

fn speech(input: &str, format: &str) -> Answer {
    let samples = (input.len() * 400).clamp(400, SAMPLES);
    let size = (samples * 2) as u32;
    if format == "pcm" {
        return Answer::bytes("audio/pcm", vec![0; size as usize]);
    }
    // A WAV file whatever was asked: the bytes are what a gateway must not touch.
    let mut bytes = b"RIFF".to_vec();
    bytes.extend_from_slice(&(36 + size).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
    bytes.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    bytes.extend_from_slice(&(SAMPLE_RATE * 2).to_le_bytes());
    bytes.extend_from_slice(b"\x02\0\x10\0data");
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.resize(bytes.len() + size as usize, 0);
    Answer::bytes(if format == "wav" { "audio/wav" } else { "audio/mpeg" }, bytes)
}

fn moderation(ask: &Ask, setting: &Setting<'_>) -> Answer {
    let names = ["harassment", "hate", "illicit", "self-harm", "sexual", "violence"];
    let each = |value: Value| -> Value {
        names.iter().map(|name| ((*name).to_owned(), value.clone())).collect::<serde_json::Map<_, _>>().into()
    };
    let id = identifier("modr-", setting.seed, compose::hash(&json!({"p": ask.path}), &["p"]), 0);
    let result =
        json!({"flagged": false, "categories": each(json!(false)), "category_scores": each(json!(0.0001))});
    Answer::json(200, &json!({"id": id, "model": ask.model, "results": [result]}))
}

/// Echoes the size and the name of an uploaded file.
fn file(request: &Request, setting: &Setting<'_>) -> Answer {
    let head = String::from_utf8_lossy(&request.body[..request.body.len().min(64 * 1024)]).into_owned();
    let named = head.split("filename=\"").nth(1).and_then(|rest| rest.split('"').next());
    let purpose = head
        .split("name=\"purpose\"")
        .nth(1)
        .and_then(|rest| rest.split("\r\n\r\n").nth(1))
        .and_then(|rest| rest.split("\r\n").next());
    let id = identifier("file-", setting.seed, request.body.len() as u64, 0);
    Answer::json(
        200,
        &json!({"id": id, "object": "file", "bytes": request.body.len(), "created_at": setting.unix_s,
            "filename": named.unwrap_or("upload"), "purpose": purpose.unwrap_or("user_data"), "status": "processed"}),
    )
}

/// Documents in the order they came, with falling scores.
fn rerank(ask: &Ask) -> Answer {
    let documents = ask.json.as_ref().and_then(|json| json["documents"].as_array()).map_or(0, Vec::len);
    let result = |n: usize| json!({"index": n, "relevance_score": 1.0 / (n as f64 + 1.0)});
    let results: Vec<Value> = (0..documents.min(1_000)).map(result).collect();
    Answer::json(200, &json!({"id": "rerank-rehearsal", "model": ask.model, "results": results}))
}

/// RFC 4648 section 4, with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().enumerate().fold(0u32, |word, (n, byte)| word | u32::from(*byte) << (16 - 8 * n));
        for n in 0..4 {
            let letter = LETTERS[(word >> (18 - 6 * n) & 63) as usize] as char;
            out.push(if n <= group.len() { letter } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_pads_as_the_standard_says() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, packed) in pairs {
            assert_eq!(base64(plain.as_bytes()), packed);
        }
    }
}
