//! The answers of the fast provider, made once: bytes that are sent as they stand, but for the stamp of an event.

use memchr::memmem;

use crate::stamp::{STAMP, stamp};

/// Size of a whole answer's body, bytes.
const ANSWER_BYTES: usize = 2048;

/// A stream in one dialect.
pub struct Stream {
    /// The head, and the events before the first with content.
    pub start: Vec<u8>,
    event: Vec<u8>,
    stamp_at: usize,
    /// The events after the last with content, and the last chunk.
    pub end: Vec<u8>,
}

impl Stream {
    fn new(before: &[String], event: &str, after: &[String]) -> Stream {
        let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let chunks = |events: &[String]| events.iter().map(|event| chunk(event)).collect::<String>();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_perf\r\nTransfer-Encoding: chunked\r\n\r\n";
        let event = chunk(event).into_bytes();
        let stamp_at = memmem::find(&event, STAMP).expect("the event has a stamp");
        Stream {
            start: (head.to_owned() + &chunks(before)).into_bytes(),
            event,
            stamp_at,
            end: (chunks(after) + "0\r\n\r\n").into_bytes(),
        }
    }

    /// The event, stamped.
    pub fn stamped(&mut self, now_ns: u64, number: u32) -> &[u8] {
        let at = self.stamp_at;
        self.event[at..at + STAMP.len()].copy_from_slice(stamp(now_ns, number).as_bytes());
        &self.event
    }
}

/// All answers.
pub struct Texts {
    pub chat: Vec<u8>,
    pub message: Vec<u8>,
    pub chat_stream: Stream,
    pub message_stream: Stream,
}

impl Default for Texts {
    fn default() -> Texts {
        Texts {
            chat: whole(&|words| {
                format!(
                    r#"{{"id":"chatcmpl-perf","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":256,"completion_tokens":400,"total_tokens":656,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_perf"}}"#
                )
            }),
            message: whole(&|words| {
                format!(
                    r#"{{"id":"msg_perf","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{{"type":"text","text":"{words}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":256,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":400,"service_tier":"standard"}}}}"#
                )
            }),
            chat_stream: chat_stream(),
            message_stream: message_stream(),
        }
    }
}

fn whole(body: &dyn Fn(&str) -> String) -> Vec<u8> {
    let words = "word ".repeat((ANSWER_BYTES - body("").len()) / 5);
    let body = body(&words);
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_perf\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    (head + &body).into_bytes()
}

fn chat_stream() -> Stream {
    let event = |delta: &str, finish: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-perf\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_perf\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]}}\n\n"
        )
    };
    let stamp = String::from_utf8_lossy(STAMP);
    Stream::new(
        &[event("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null")],
        &event(&format!("{{\"content\":\" {stamp}\"}}"), "null"),
        &[event("{}", "\"stop\""), "data: [DONE]\n\n".to_owned()],
    )
}

fn message_stream() -> Stream {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let stamp = String::from_utf8_lossy(STAMP);
    Stream::new(
        &[
            event(
                "message_start",
                ",\"message\":{\"id\":\"msg_perf\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-haiku-4-5\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":256,\"output_tokens\":1}}",
            ),
            event("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
        ],
        &event(
            "content_block_delta",
            &format!(",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\" {stamp}\"}}"),
        ),
        &[
            event("content_block_stop", ",\"index\":0"),
            event(
                "message_delta",
                ",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":400}",
            ),
            event("message_stop", ""),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::Reader;

    #[test]
    fn answers_are_whole_and_their_json_is_valid() {
        let texts = Texts::default();
        for bytes in [&texts.chat, &texts.message] {
            let mut body = Vec::new();
            assert_eq!(Reader::default().feed(bytes, |piece| body.extend_from_slice(piece)), Ok(true));
            assert!((ANSWER_BYTES - 5..=ANSWER_BYTES).contains(&body.len()), "{}", body.len());
            assert!(serde_json::from_slice::<serde_json::Value>(&body).unwrap()["id"].is_string());
        }
        for mut stream in [texts.chat_stream, texts.message_stream] {
            let mut body = Vec::new();
            let event = stream.stamped(9, 1).to_vec();
            let all = [stream.start, event, stream.end].concat();
            assert_eq!(Reader::default().feed(&all, |piece| body.extend_from_slice(piece)), Ok(true));
            let text = String::from_utf8(body).unwrap();
            assert!(text.contains(&stamp(9, 1)) && text.ends_with("\n\n"));
            for data in text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|d| *d != "[DONE]")
            {
                assert!(serde_json::from_str::<serde_json::Value>(data).is_ok(), "{data}");
            }
        }
    }
}
