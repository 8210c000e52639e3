//! Reads an answer as a careful client does: head, framing, events; sans IO.
//!
//! Invariant: an answer is good only when its framing ended as promised and its content is whole; whatever a client
//! could mistake for that is told apart as a false end.

use std::time::Duration;

use serde_json::Value;

use super::Outcome;

/// Most fields of a response head.
const FIELDS: usize = 128;

/// What new bytes brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fed {
    More,
    /// The answer ended by its own framing; the connection may be used again or not.
    Ended {
        outcome: Outcome,
        reusable: bool,
    },
}

#[derive(Debug, Default)]
pub(super) struct Answer {
    /// Bytes that were not understood yet.
    input: Vec<u8>,
    head: Option<Head>,
    /// The body, or of a stream the event that is not whole yet.
    body: Vec<u8>,
    /// Content was seen.
    pub(super) content: bool,
    terminal: bool,
    error: bool,
    bad: bool,
}

#[derive(Debug)]
struct Head {
    status: u16,
    framing: Framing,
    stream: bool,
    reusable: bool,
    retry_after: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    /// Bytes left of the current chunk, its line end included.
    Chunk(usize),
    ChunkSize,
    UntilClose,
    Done,
}

impl Answer {
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Fed {
        self.input.extend_from_slice(bytes);
        while self.head.is_none() {
            match self.read_head() {
                Some(true) => {}
                Some(false) => return Fed::More,
                None => return Fed::Ended { outcome: Outcome::Broken { visible: true }, reusable: false },
            }
        }
        self.unframe();
        self.read_events();
        match &self.head {
            _ if self.bad => Fed::Ended { outcome: Outcome::Broken { visible: true }, reusable: false },
            Some(head) if head.framing == Framing::Done => {
                let reusable = head.reusable && self.input.is_empty();
                Fed::Ended { outcome: self.judge(), reusable }
            }
            _ => Fed::More,
        }
    }

    /// The connection ended.
    pub(super) fn end(&mut self) -> Outcome {
        match &self.head {
            None => Outcome::NoAnswer,
            Some(head) if head.framing == Framing::UntilClose => self.judge(),
            Some(_) => Outcome::Broken { visible: true },
        }
    }

    /// True: one head was read, false: more bytes are needed, none: it is no head.
    fn read_head(&mut self) -> Option<bool> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut parsed = httparse::Response::new(&mut fields);
        let length = match parsed.parse(&self.input) {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Some(false),
            Err(_) => return None,
        };
        let status = parsed.code.unwrap_or(0);
        let field = |name: &str| {
            let found = parsed.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok()).map(str::trim)
        };
        let framing = if field("transfer-encoding").is_some() {
            Framing::ChunkSize
        } else if let Some(length) = field("content-length") {
            Framing::Length(length.parse().ok()?)
        } else {
            Framing::UntilClose
        };
        let milliseconds = field("retry-after-ms").and_then(|ms| ms.parse().ok()).map(Duration::from_millis);
        let seconds = field("retry-after").and_then(|s| s.parse().ok()).map(Duration::from_secs);
        let closes = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let head = Head {
            status,
            framing: if framing == Framing::Length(0) { Framing::Done } else { framing },
            stream: field("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
            reusable: !closes && framing != Framing::UntilClose,
            retry_after: milliseconds.or(seconds),
        };
        self.input.drain(..length);
        // Interim responses come before the one that counts.
        if status >= 200 {
            self.head = Some(head);
        }
        Some(true)
    }

    fn unframe(&mut self) {
        let Some(head) = &mut self.head else { return };
        loop {
            match head.framing {
                Framing::Done => return,
                Framing::UntilClose => {
                    self.body.append(&mut self.input);
                    return;
                }
                Framing::Length(left) => {
                    let taken = left.min(self.input.len());
                    self.body.extend(self.input.drain(..taken));
                    let left = left - taken;
                    head.framing = if left == 0 { Framing::Done } else { Framing::Length(left) };
                    return;
                }
                Framing::Chunk(left) => {
                    let taken = left.min(self.input.len());
                    // The last two bytes of a chunk are its line end.
                    let payload = left.saturating_sub(2).min(taken);
                    self.body.extend(self.input.drain(..taken).take(payload));
                    if taken < left {
                        head.framing = Framing::Chunk(left - taken);
                        return;
                    }
                    head.framing = Framing::ChunkSize;
                }
                Framing::ChunkSize => {
                    let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") else { return };
                    let size = std::str::from_utf8(&self.input[..end])
                        .ok()
                        .and_then(|text| text.split(';').next())
                        .and_then(|digits| usize::from_str_radix(digits.trim(), 16).ok());
                    match size {
                        None => {
                            self.bad = true;
                            return;
                        }
                        Some(0) => {
                            if self.input.len() < end + 4 {
                                return;
                            }
                            self.input.drain(..end + 4);
                            head.framing = Framing::Done;
                        }
                        Some(size) => {
                            self.input.drain(..end + 2);
                            head.framing = Framing::Chunk(size + 2);
                        }
                    }
                }
            }
        }
    }

    fn read_events(&mut self) {
        let streams = self.head.as_ref().is_some_and(|head| head.stream && head.status < 300);
        if !streams {
            self.content |= !self.body.is_empty();
            return;
        }
        let mut start = 0;
        while let Some(end) = self.body[start..].windows(2).position(|pair| pair == b"\n\n") {
            let event = String::from_utf8_lossy(&self.body[start..start + end]).into_owned();
            start += end + 2;
            for data in event.lines().filter_map(|line| line.strip_prefix("data:")) {
                self.read_event(data.trim());
            }
        }
        self.body.drain(..start);
    }

    fn read_event(&mut self, data: &str) {
        if data == "[DONE]" {
            self.terminal = true;
            return;
        }
        let Ok(event) = serde_json::from_str::<Value>(data) else {
            self.error = true;
            return;
        };
        let delta = &event["choices"][0]["delta"];
        let words = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
        self.content |= words(&delta["content"])
            || delta["tool_calls"].is_array()
            || event["type"] == "content_block_delta";
        self.terminal |= event["type"] == "message_stop";
        self.error |= event.get("error").is_some();
    }

    /// The framing ended as it promised; is the content whole?
    fn judge(&self) -> Outcome {
        let Some(head) = &self.head else { return Outcome::NoAnswer };
        if head.status != 200 {
            return Outcome::Refused { status: head.status, retry_after: head.retry_after };
        }
        if head.stream {
            return match (self.error, self.terminal) {
                (true, _) => Outcome::Broken { visible: true },
                (false, true) => Outcome::Answered,
                (false, false) => Outcome::Broken { visible: false },
            };
        }
        let whole = serde_json::from_slice::<Value>(&self.body).is_ok_and(|answer| {
            answer.get("error").is_none() && (answer["choices"].is_array() || answer["content"].is_array())
        });
        if whole { Outcome::Answered } else { Outcome::Broken { visible: true } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes cut at every place; the outcome must not depend on it.
    fn outcome(bytes: &[u8], closed: bool) -> Outcome {
        let read = |cut: usize| {
            let mut answer = Answer::default();
            for part in [&bytes[..cut], &bytes[cut..]] {
                if let Fed::Ended { outcome, .. } = answer.feed(part) {
                    return outcome;
                }
            }
            assert!(closed, "the answer did not end by itself");
            answer.end()
        };
        let whole = read(0);
        for cut in 0..bytes.len() {
            assert_eq!(read(cut), whole, "cut at {cut}");
        }
        whole
    }

    fn chunked(events: &str, last: bool) -> Vec<u8> {
        let end = if last { "0\r\n\r\n" } else { "" };
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{events}\r\n{end}",
            events.len()
        )
        .into_bytes()
    }

    #[test]
    fn a_stream_is_good_with_its_terminal_event_and_its_last_chunk() {
        let word = "data: {\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
        let done = format!("{word}data: [DONE]\n\n");
        assert_eq!(outcome(&chunked(&done, true), false), Outcome::Answered);
        assert_eq!(outcome(&chunked(&done, false), true), Outcome::Broken { visible: true });
        assert_eq!(outcome(&chunked(word, true), false), Outcome::Broken { visible: false });
        let error = format!("{word}data: {{\"error\":{{\"message\":\"x\"}}}}\n\n");
        assert_eq!(outcome(&chunked(&error, true), false), Outcome::Broken { visible: true });
        assert_eq!(outcome(&chunked(&error, false), true), Outcome::Broken { visible: true });
    }

    #[test]
    fn a_whole_answer_is_good_when_it_is_json_and_no_error() {
        let answer = |body: &str, length: usize| {
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes()
        };
        let good = r#"{"choices":[]}"#;
        assert_eq!(outcome(&answer(good, good.len()), false), Outcome::Answered);
        assert_eq!(outcome(&answer(good, 100), true), Outcome::Broken { visible: true });
        assert_eq!(outcome(&answer("{\"cho", 5), false), Outcome::Broken { visible: true });
        assert_eq!(outcome(&answer("{\"error\":1}", 11), false), Outcome::Broken { visible: true });
    }

    #[test]
    fn refusals_say_when_to_come_back_and_interim_responses_do_not_count() {
        let bytes =
            b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 429 X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n";
        let retry_after = Some(Duration::from_secs(7));
        assert_eq!(outcome(bytes, false), Outcome::Refused { status: 429, retry_after });
        assert_eq!(outcome(b"", true), Outcome::NoAnswer);
    }
}
