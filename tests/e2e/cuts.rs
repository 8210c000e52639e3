//! Streams that end badly: a cut is visible every time, and before the first content it is nobody's loss.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::raw::*;
use crate::streams::{WITH_USAGE, ask, random_chat, seed_of};
use crate::support::*;

/// Bytes of the wire that carry the first `k` bytes of `events` and no end of the body; now and then they stop in the
/// middle of a chunk.
fn unfinished(events: &[u8], k: usize, framing: Framing, dice: &mut Dice) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n".to_vec();
    match framing {
        Framing::Length => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", events.len()).as_bytes());
            out.extend_from_slice(&events[..k]);
        }
        Framing::Close => {
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(&events[..k]);
        }
        Framing::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let mut at = 0;
            while at < k {
                let n = (1 + dice.below(300)).min(k - at);
                let announced = if at + n == k { n + dice.below(3) } else { n };
                out.extend_from_slice(format!("{announced:x}\r\n").as_bytes());
                out.extend_from_slice(&events[at..at + n]);
                at += n;
                if announced == n && (at < k || dice.one_in(2)) {
                    out.extend_from_slice(b"\r\n");
                }
            }
            if dice.one_in(4) && k == events.len() {
                out.extend_from_slice(b"0\r\n");
            }
        }
    }
    out
}

/// A model of its own for each stream, so that no breaker opens.
fn ask_apart(seed: u64) -> String {
    ask(seed, WITH_USAGE).replace("gpt-4o-mini", &format!("m{seed}"))
}

/// Where the stream of a seed is cut: anywhere behind the first content and before its end.
fn cut_at(seed: u64, framing: Framing) -> (crate::streams::Chat, usize, Dice) {
    let mut dice = Dice::new(seed);
    let chat = random_chat(&mut dice);
    // A body that ends by closing is whole once it has said why it stops.
    let last = if framing == Framing::Close { chat.finish + 1 } else { chat.end - 1 };
    // One byte more than the first content: after a CR only the next byte tells that an event is over.
    let k = chat.first_content + 1 + dice.below(last - chat.first_content);
    (chat, k, dice)
}

#[test]
fn a_stream_that_is_cut_after_its_first_content_never_looks_whole() {
    const STREAMS: u64 = 300;
    each_driver(|driver| {
        let provider = Raw::start(|asked, stream| {
            let seed = seed_of(asked);
            let framing = FRAMINGS[seed as usize % 3];
            let (chat, k, mut dice) = cut_at(seed, framing);
            let wire = unfinished(&chat.bytes, k, framing, &mut dice);
            write_in_pieces(stream, &wire, &mut dice);
            // A reset may overtake what was sent: the first content is out before it.
            if dice.one_in(4) {
                std::thread::sleep(Duration::from_millis(10));
                return Then::Reset;
            }
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        for seed in 1..=STREAMS {
            let framing = FRAMINGS[seed as usize % 3];
            let (chat, k, _) = cut_at(seed, framing);
            let mut client = Client::to(gateway.addr());
            let got = client.post("/v1/chat/completions", &ask_apart(seed));
            let context = format!("seed {seed} {framing:?} cut at {k}: {}{}", got.head, got.text());
            assert_eq!(got.status, 200, "{context}");
            assert!(!got.whole, "a clean end: {context}");
            assert!(client.is_closed(), "still open: {context}");
            let text = got.text();
            let at = text.rfind("data: {\"error\":").unwrap_or_else(|| panic!("no error event: {context}"));
            assert!(chat.bytes[..chat.end - 1].starts_with(&got.body[..at]), "other words: {context}");
            assert!(at >= chat.first_content, "the first content is missing: {context}");
            let error: serde_json::Value = serde_json::from_str(text[at + 6..].trim_end()).unwrap();
            assert_eq!(error["error"]["code"], "upstream_truncated", "{context}");
            assert!(text.ends_with("}\n\n"), "{context}");
        }
        assert_eq!(gateway.panics(), 0);
    });
}

#[test]
fn a_stream_that_is_cut_before_its_first_content_is_answered_by_the_next() {
    each_driver(|driver| {
        let provider = Raw::start(|asked, stream| {
            let seed = seed_of(asked);
            let framing = FRAMINGS[seed as usize % 3];
            let mut dice = Dice::new(seed);
            let chat = random_chat(&mut dice);
            let k = dice.below(chat.first_content);
            let wire = unfinished(&chat.bytes, k, framing, &mut dice);
            write_in_pieces(stream, &wire, &mut dice);
            if dice.one_in(4) { Then::Reset } else { Then::Close }
        });
        let backup = provider_ok();
        for seed in 1..=45 {
            let gateway = chain(provider.addr, Some(backup.addr()), driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", &ask(seed, ""));
            assert_eq!(got.header("x-sluice-provider"), Some("backup"), "seed {seed}: {}", got.text());
            assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "seed {seed}: {}", got.text());
            assert!(!stream_text(&got.body).is_empty());
        }
    });
}

fn provider_ok() -> sluice::rehearsal::Mock {
    provider("ok")
}

const HELLO: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";

/// Sends these events, then nothing, for as long as the peer stays.
fn stalls_after(events: &'static str) -> Raw {
    Raw::start(move |_, stream| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let _ = stream.write_all(head.as_bytes());
        if !events.is_empty() {
            let _ = stream.write_all(format!("{:x}\r\n{events}\r\n", events.len()).as_bytes());
        }
        Then::Keep
    })
}

#[test]
fn a_stream_that_falls_silent_is_cut_when_the_gap_is_too_long() {
    each_driver(|driver| {
        let provider = stalls_after(HELLO);
        let gateway = chain(provider.addr, None, driver, &["timeouts.token_gap=300ms"]);
        let begun = Instant::now();
        let mut client = Client::to(gateway.addr());
        let got = client.post("/v1/chat/completions", CHAT_STREAM);
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(700), "{took:?}");
        let error = got.text().strip_prefix(HELLO).unwrap_or_else(|| panic!("{}", got.text())).to_owned();
        assert!(error.starts_with("data: {\"error\":") && error.contains("stopped sending"), "{error}");
        assert!(!got.whole && client.is_closed());
    });
}

#[test]
fn a_head_without_a_first_token_is_left_for_the_next_provider() {
    const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n: ping\n\n";
    each_driver(|driver| {
        for events in ["", ROLE] {
            let (provider, backup) = (stalls_after(events), provider_ok());
            let more = ["timeouts.first_token=300ms"];
            let gateway = chain(provider.addr, Some(backup.addr()), driver, &more);
            let begun = Instant::now();
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
            let took = begun.elapsed();
            assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{}", got.text());
            assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(700), "{took:?}");
            let attempts = got.header("x-sluice-attempts").unwrap().to_owned();
            assert!(attempts.starts_with("openai first_token_timeout 3"), "{attempts}");
        }
    });
}

#[test]
fn an_error_event_late_in_a_stream_is_passed_on_without_a_clean_end() {
    const ERROR: &str = "data: {\"error\":{\"message\":\"overloaded\",\"type\":\"server_error\"}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";
    each_driver(|driver| {
        for framing in FRAMINGS {
            let answer = framed([HELLO, ERROR, DONE].concat().as_bytes(), framing, &mut Dice::new(1));
            let provider = Raw::says(answer);
            let gateway = chain(provider.addr, None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            let got = client.post("/v1/chat/completions", CHAT_STREAM);
            assert_eq!((got.text(), got.whole), ([HELLO, ERROR].concat(), false), "{framing:?}");
            assert!(client.is_closed());
        }
    });
}

#[test]
fn a_cut_is_told_in_the_clients_own_dialect() {
    const MESSAGE: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n";
    const RESPONSE: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n";
    each_driver(|driver| {
        for (path, body, events, error) in [
            (
                "/v1/messages",
                r#"{"model":"anthropic/claude-haiku-4-5","max_tokens":9,"stream":true,"messages":[]}"#,
                MESSAGE,
                "event: error\ndata: {\"type\":\"error\",\"error\":{",
            ),
            (
                "/v1/responses",
                r#"{"model":"openai/gpt-4o-mini","stream":true,"input":"x"}"#,
                RESPONSE,
                "event: error\ndata: {\"type\":\"error\",",
            ),
        ] {
            let mut dice = Dice::new(3);
            let provider =
                Raw::says(unfinished(events.as_bytes(), events.len(), Framing::Chunked, &mut dice));
            let text = config_file("fallbacks-model-targets.yaml");
            let at = [("openai", provider.addr), ("anthropic", provider.addr)];
            let gateway = gateway(plan(&text, &at, driver, &[]));
            let mut client = Client::to(gateway.addr());
            let got = client.post(path, body);
            let told = got.text();
            assert!(told.strip_prefix(events).is_some_and(|rest| rest.starts_with(error)), "{told}");
            assert!(!got.whole && client.is_closed());
        }
    });
}

#[test]
fn an_old_client_is_told_of_a_cut_as_well() {
    each_driver(|driver| {
        let mut dice = Dice::new(3);
        let provider = Raw::says(unfinished(HELLO.as_bytes(), HELLO.len(), Framing::Chunked, &mut dice));
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        let request = String::from_utf8(request("/v1/chat/completions", "", CHAT_STREAM)).unwrap();
        client.send(request.replace("HTTP/1.1", "HTTP/1.0").as_bytes());
        let got = client.read();
        let told = got.text();
        assert!(told.strip_prefix(HELLO).is_some_and(|rest| rest.starts_with("data: {\"error\"")), "{told}");
        assert!(!told.contains("[DONE]"));
    });
}

#[test]
fn a_cut_inside_a_giant_event_does_not_run_into_the_error() {
    each_driver(|driver| {
        let provider = Raw::start(|_, stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let _ = stream.write_all(HELLO.as_bytes());
            let _ = stream.write_all(b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"");
            let _ = stream.write_all(&vec![b'x'; 300_000]);
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
        let text = got.text();
        assert!(!got.whole);
        let (_, error) = text.rsplit_once("\n\ndata: ").unwrap();
        assert!(error.starts_with("{\"error\":"), "{}", &text[text.len() - 300..]);
    });
}
