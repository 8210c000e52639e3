//! Streams that end well: nothing is changed on the way, whatever the pieces they come in.

use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::time::Duration;

use crate::raw::*;
use crate::support::*;

/// A stream of chat chunks, with the places that matter in it.
pub struct Chat {
    pub bytes: Vec<u8>,
    /// End of the first event with content.
    pub first_content: usize,
    /// Begin of the event with the finish reason.
    pub finish: usize,
    /// The extra usage chunk.
    pub usage: Range<usize>,
    /// End of `[DONE]`.
    pub end: usize,
}

impl Chat {
    /// Up to `[DONE]`, without the usage chunk.
    pub fn without_usage(&self) -> Vec<u8> {
        [&self.bytes[..self.usage.start], &self.bytes[self.usage.end..self.end]].concat()
    }
}

const WORDS: [&str; 9] =
    ["Hello", " wörld", " \\n\\\"quoted\\\"", " 日本語", " 🦀", " ", " \u{2028}", " [DONE]", " data:"];

/// A random stream: comments, ids, any line ends, spaces or none, characters of one to four bytes.
pub fn random_chat(dice: &mut Dice) -> Chat {
    let mut bytes = if dice.one_in(20) { "\u{feff}".as_bytes().to_vec() } else { Vec::new() };
    let mut event = |dice: &mut Dice, data: &str| {
        let end = ["\n", "\n", "\r\n", "\r"][dice.below(4)];
        let start = bytes.len();
        if dice.one_in(6) {
            bytes.extend_from_slice(format!(": ping{end}").as_bytes());
        }
        if dice.one_in(12) {
            bytes.extend_from_slice(format!("id: {}{end}retry: 10x{end}", dice.below(1000)).as_bytes());
        }
        let space = if dice.one_in(4) { "" } else { " " };
        bytes.extend_from_slice(format!("data:{space}{data}{end}{end}").as_bytes());
        start..bytes.len()
    };
    let chunk = |choices: &str| {
        format!(
            r#"{{"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choices}]}}"#
        )
    };
    if !dice.one_in(5) {
        event(dice, &chunk(r#"{"index":0,"delta":{"role":"assistant","content":""}}"#));
    }
    let mut first_content = 0;
    for _ in 0..1 + dice.below(30) {
        let mut text = String::new();
        let most = if dice.one_in(10) { 500 } else { 4 };
        for _ in 0..=dice.below(most) {
            text.push_str(WORDS[dice.below(WORDS.len())]);
        }
        let delta = format!(r#"{{"index":0,"delta":{{"content":"{text}"}}}}"#);
        let place = event(dice, &chunk(&delta));
        first_content = if first_content == 0 { place.end } else { first_content };
    }
    let finish = event(dice, &chunk(r#"{"index":0,"delta":{},"finish_reason":"stop"}"#)).start;
    let usage = event(
        dice,
        r#"{"id":"c1","object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":5,"total_tokens":8}}"#,
    );
    let end = event(dice, "[DONE]").end;
    if dice.one_in(5) {
        event(dice, r#"{"late":1}"#);
    }
    Chat { bytes, first_content, finish, usage, end }
}

/// What a scripted provider derives its answer from.
pub fn seed_of(asked: &Asked) -> u64 {
    asked.json()["seed"].as_u64().unwrap_or_default()
}

pub fn ask(seed: u64, more: &str) -> String {
    format!(
        r#"{{"model":"openai/gpt-4o-mini","seed":{seed},"stream":true{more},"messages":[{{"role":"user","content":"x"}}]}}"#
    )
}

pub const WITH_USAGE: &str = r#","stream_options":{"include_usage":true}"#;

/// Answers each request with the stream of its seed, in the framing of its seed.
fn random_provider() -> Raw {
    Raw::start(|asked, stream| {
        let seed = seed_of(asked);
        let mut dice = Dice::new(seed);
        let chat = random_chat(&mut dice);
        let framing = FRAMINGS[seed as usize % 3];
        let answer = framed(&chat.bytes, framing, &mut dice);
        let whole = write_in_pieces(stream, &answer, &mut dice);
        if whole && framing != Framing::Close { Then::Keep } else { Then::Close }
    })
}

#[test]
fn a_thousand_random_streams_pass_byte_for_byte() {
    each_driver(|driver| {
        let provider = random_provider();
        let gateway = chain(provider.addr, None, driver, &[]);
        std::thread::scope(|scope| {
            for lane in 0..4u64 {
                let addr = gateway.addr();
                scope.spawn(move || {
                    let mut client = Client::to(addr);
                    for round in 0..250 {
                        let seed = lane * 250 + round + 1;
                        let chat = random_chat(&mut Dice::new(seed));
                        let asks_usage = seed % 2 == 0;
                        let got = client.post(
                            "/v1/chat/completions",
                            &ask(seed, if asks_usage { WITH_USAGE } else { "" }),
                        );
                        let expected =
                            if asks_usage { chat.bytes[..chat.end].to_vec() } else { chat.without_usage() };
                        assert_eq!(got.status, 200, "seed {seed}: {}", got.text());
                        assert!(got.whole, "seed {seed}: the end is missing");
                        assert!(
                            got.body == expected,
                            "seed {seed} on {driver:?}\n got {:?}\nwant {:?}",
                            got.text(),
                            String::from_utf8_lossy(&expected)
                        );
                    }
                });
            }
        });
        assert_eq!(provider.asked().len(), 1000, "nothing was asked twice");
        assert_eq!((gateway.panics(), provider.malformed()), (0, 0));
    });
}

/// A provider that answers every request with this stream.
fn streaming(events: &'static str, framing: Framing) -> Raw {
    Raw::start(move |_, stream| {
        let answer = framed(events.as_bytes(), framing, &mut Dice::new(1));
        let _ = stream.write_all(&answer);
        if framing == Framing::Close { Then::Close } else { Then::Keep }
    })
}

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n";
const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const STOP: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

fn leak(parts: &[&str]) -> &'static str {
    parts.concat().leak()
}

#[test]
fn usage_is_always_asked_for_and_shown_only_to_those_who_asked() {
    each_driver(|driver| {
        let provider = streaming(leak(&[ROLE, HELLO, STOP, USAGE, DONE]), Framing::Chunked);
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for (options, shown) in [
            ("", false),
            (r#","stream_options":null"#, false),
            (r#","stream_options":{}"#, false),
            (r#","stream_options":{"include_usage":false}"#, false),
            (r#","stream_options":{"include_usage":null}"#, false),
            (r#","stream_options":{"include_usage":true}"#, true),
        ] {
            let got = client.post("/v1/chat/completions", &ask(1, options));
            let usage = if shown { USAGE } else { "" };
            assert_eq!(got.text(), [ROLE, HELLO, STOP, usage, DONE].concat(), "{options}");
            assert!(got.whole);
            let asked = provider.asked().pop().unwrap();
            assert_eq!(asked.json()["stream_options"]["include_usage"], true, "{options}");
        }
        assert_eq!(provider.connections(), 1);
    });
}

#[test]
fn nothing_that_follows_the_end_mark_reaches_the_client() {
    each_driver(|driver| {
        for framing in FRAMINGS {
            let late = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"late\"}}]}\n\n";
            let provider = streaming(leak(&[HELLO, STOP, DONE, late]), framing);
            let gateway = chain(provider.addr, None, driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
            assert_eq!((got.text(), got.whole), ([HELLO, STOP, DONE].concat(), true), "{framing:?}");
        }
    });
}

#[test]
fn an_end_mark_without_its_blank_line_is_an_end() {
    each_driver(|driver| {
        for framing in FRAMINGS {
            for tail in ["data: [DONE]", "data: [DONE]\n", "data: [DONE]\r\n"] {
                let provider = streaming(leak(&[HELLO, STOP, tail]), framing);
                let gateway = chain(provider.addr, None, driver, &[]);
                let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
                assert_eq!(
                    (got.text(), got.whole),
                    ([HELLO, STOP, tail].concat(), true),
                    "{framing:?} {tail:?}"
                );
            }
        }
    });
}

#[test]
fn a_finish_reason_and_a_clean_end_need_no_end_mark() {
    each_driver(|driver| {
        for framing in FRAMINGS {
            let provider = streaming(leak(&[ROLE, HELLO, STOP]), framing);
            let gateway = chain(provider.addr, None, driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
            assert_eq!((got.text(), got.whole), ([ROLE, HELLO, STOP].concat(), true), "{framing:?}");
        }
    });
}

#[test]
fn what_is_held_back_before_the_first_content_is_not_lost() {
    each_driver(|driver| {
        // Each event alone in its read: the held ones must be told from the new one.
        let provider = Raw::start(|_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            for event in [ROLE, ": ping\n\n", ROLE, HELLO, STOP, USAGE, DONE] {
                std::thread::sleep(Duration::from_millis(15));
                let _ = stream.write_all(event.as_bytes());
            }
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
        assert_eq!(got.text(), [ROLE, ": ping\n\n", ROLE, HELLO, STOP, DONE].concat());
        assert!(got.whole);
    });
}

#[test]
fn each_event_reaches_the_client_when_it_comes_and_not_later() {
    each_driver(|driver| {
        let provider = Raw::start(|_, stream| {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            for event in [ROLE, HELLO, HELLO, HELLO] {
                let _ = stream.write_all(event.as_bytes());
                std::thread::sleep(Duration::from_millis(40));
            }
            let _ = stream.write_all([STOP, DONE].concat().as_bytes());
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        assert!(client.read_until(b"Hello"));
        let begun = std::time::Instant::now();
        assert!(client.read_until(b"finish_reason"));
        let took = begun.elapsed();
        assert!(took > Duration::from_millis(60), "the first content waited for the rest: {took:?}");
    });
}

#[test]
fn an_old_client_gets_its_stream_until_the_connection_closes() {
    each_driver(|driver| {
        for framing in FRAMINGS {
            let provider = streaming(leak(&[ROLE, HELLO, STOP, USAGE, DONE]), framing);
            let gateway = chain(provider.addr, None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            let head =
                "POST /v1/chat/completions HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n";
            client
                .send(format!("{head}Content-Length: {}\r\n\r\n{CHAT_STREAM}", CHAT_STREAM.len()).as_bytes());
            let got = client.read();
            assert_eq!(got.header("transfer-encoding"), None, "{}", got.head);
            assert_eq!(got.header("connection"), Some("close"));
            assert_eq!(got.text(), [ROLE, HELLO, STOP, DONE].concat(), "{framing:?}");
        }
    });
}

#[test]
fn native_streams_of_every_api_pass_byte_for_byte() {
    const MESSAGES: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"c\",\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\nevent: ping\ndata: {\"type\": \"ping\"}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"日本\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":7}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"r\",\"status\":\"in_progress\"}}\n\nevent: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\nevent: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"status\":\"completed\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\n";
    const COMPLETIONS: &str = "data: {\"object\":\"text_completion\",\"choices\":[{\"index\":0,\"text\":\"Hi\",\"finish_reason\":null}]}\n\ndata: {\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    each_driver(|driver| {
        for (path, body, events) in [
            (
                "/v1/messages",
                r#"{"model":"anthropic/claude-haiku-4-5","max_tokens":9,"stream":true,"messages":[]}"#,
                MESSAGES,
            ),
            ("/v1/responses", r#"{"model":"openai/gpt-4o-mini","stream":true,"input":"x"}"#, RESPONSES),
            ("/v1/completions", r#"{"model":"openai/gpt-4o-mini","stream":true,"prompt":"x"}"#, COMPLETIONS),
        ] {
            for framing in FRAMINGS {
                let provider = Raw::start(move |asked, stream: &mut TcpStream| {
                    let mut dice = Dice::new(asked.body.len() as u64);
                    write_in_pieces(stream, &framed(events.as_bytes(), framing, &mut dice), &mut dice);
                    if framing == Framing::Close { Then::Close } else { Then::Keep }
                });
                let text = config_file("fallbacks-model-targets.yaml");
                let at = [("openai", provider.addr), ("anthropic", provider.addr)];
                let gateway = gateway(plan(&text, &at, driver, &[]));
                let got = Client::to(gateway.addr()).post(path, body);
                assert_eq!(got.status, 200, "{path}: {}", got.text());
                assert_eq!((got.text().as_str(), got.whole), (events, true), "{path} {framing:?}");
                assert!(got.header("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
            }
        }
    });
}
