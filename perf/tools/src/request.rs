//! What `load` sends and `upstream` understands: a chat request of a given size, which says how its stream is to be paced.
//!
//! The pace stands in the prompt (`pace g500n100`: 100 events, 500 microseconds apart), because gateways drop or refuse
//! members that they do not know, and translate the rest; the prompt is what all of them keep.

use memchr::memmem;

/// Events of a stream that does not say.
const EVENTS: u32 = 200;
/// Microseconds between them.
const GAP_US: u64 = 2_000;
/// How much of a body is looked at: its members may be in any order, but a large one is text at its end.
const LOOK: usize = 2048;

/// A request to make.
pub struct Shape<'a> {
    /// Host and port.
    pub to: &'a str,
    pub path: &'a str,
    pub model: &'a str,
    /// Size of the body, bytes; at least what its members take.
    pub bytes: usize,
    /// Microseconds between events, and how many, when it streams.
    pub pace: Option<(u64, u32)>,
    /// More header lines, `name: value`.
    pub headers: &'a [String],
}

/// The bytes of a request.
pub fn request(shape: &Shape<'_>) -> Vec<u8> {
    let (stream, pace) = match shape.pace {
        Some((gap, events)) => ("\"stream\":true,", format!("pace g{gap}n{events} ")),
        None => ("", String::new()),
    };
    let start = format!(
        "{{\"model\":\"{}\",{stream}\"max_tokens\":400,\"temperature\":0.2,\"messages\":[{{\"role\":\"user\",\"content\":\"{pace}",
        shape.model
    );
    let end = "\"}]}";
    let text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. ";
    let fill = shape.bytes.saturating_sub(start.len() + end.len());
    let body = start + &text.repeat(fill / text.len() + 1)[..fill] + end;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-client\r\nUser-Agent: OpenAI/Python 2.0.0\r\nAccept: application/json\r\n",
        shape.path, shape.to
    );
    for line in shape.headers {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes()
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Asked {
    /// How much was served so far.
    Stats,
    /// A whole chat completion, or an Anthropic message.
    Whole { anthropic: bool },
    /// A stream of events.
    Stream { anthropic: bool, events: u32, gap_ns: u64 },
}

/// Length and kind of the first whole request in `input`. Heads are searched, not parsed.
pub fn understand(input: &[u8]) -> Option<(usize, Asked)> {
    let head = memmem::find(input, b"\r\n\r\n")? + 4;
    if input.starts_with(b"GET") {
        return Some((head, Asked::Stats));
    }
    let lower = input[..head].to_ascii_lowercase();
    let length = b"content-length:";
    let at = memmem::find(&lower, length)? + length.len();
    let length = number(lower[at..].trim_ascii_start()) as usize;
    let body = input.get(head..head + length)?;
    let start = &body[..body.len().min(LOOK)];
    let path_end = memmem::find(input, b" HTTP/").unwrap_or(0);
    let anthropic = input[..path_end].ends_with(b"/messages");
    let streams =
        memmem::find(start, b"\"stream\":true").or_else(|| memmem::find(start, b"\"stream\": true"));
    let asked = if streams.is_some() {
        let (mut events, mut gap_us) = (EVENTS, GAP_US);
        if let Some(at) = memmem::find(start, b"pace g") {
            let pace = &start[at + 6..];
            gap_us = number(pace);
            events = memchr::memchr(b'n', pace).map_or(EVENTS, |at| number(&pace[at + 1..]) as u32);
        }
        Asked::Stream { anthropic, events, gap_ns: gap_us * 1_000 }
    } else {
        Asked::Whole { anthropic }
    };
    Some((head + length, asked))
}

/// The number that `text` begins with.
fn number(text: &[u8]) -> u64 {
    text.iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_provider_understands_what_load_asks() {
        let mut shape = Shape {
            to: "localhost:1",
            path: "/v1/chat/completions",
            model: "gpt-4o-mini",
            bytes: 1024,
            pace: None,
            headers: &["x-more: 1".to_owned()],
        };
        let whole = request(&shape);
        assert_eq!(understand(&whole), Some((whole.len(), Asked::Whole { anthropic: false })));
        assert_eq!(understand(&whole[..whole.len() - 1]), None, "a body that is not whole");
        let body = whole.len() - memmem::find(&whole, b"\r\n\r\n").unwrap() - 4;
        assert_eq!(body, 1024);
        (shape.pace, shape.path) = (Some((500, 100)), "/v1/messages");
        let stream = request(&shape);
        let paced = Asked::Stream { anthropic: true, events: 100, gap_ns: 500_000 };
        assert_eq!(understand(&stream), Some((stream.len(), paced)));
        let spaced = String::from_utf8(stream).unwrap().replace("\"stream\":true,", "\"stream\": true");
        assert!(matches!(understand(spaced.as_bytes()), Some((_, Asked::Stream { events: 100, .. }))));
    }
}
