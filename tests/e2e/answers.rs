//! Hostile and broken answers: what a provider gets wrong never reaches a client as a right answer.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::raw::*;
use crate::support::*;

const ANSWER: &str = r#"{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"ok"}}]}"#;

fn whole(extra: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Faults of a mock that make an answer unusable before any of it is delivered.
const UNUSABLE: [&str; 27] = [
    "bad-head:length-and-chunked",
    "bad-head:two-lengths",
    "bad-head:length-not-a-number",
    "bad-head:length-list",
    "bad-head:unknown-coding",
    "bad-head:chunked-twice",
    "bad-head:chunked-in-http10",
    "bad-head:switching-protocols",
    "bad-head:status-999",
    "bad-head:two-digit-status",
    "bad-head:http2-line",
    "bad-head:lf-only",
    "bad-head:cr-in-value",
    "bad-head:nul-in-value",
    "bad-head:folded-line",
    "bad-head:bad-chunk-size",
    "bad-head:lf-in-chunk",
    "bad-head:garbage",
    "huge-head:600000",
    "many-fields:5000",
    "interim-flood:17",
    "redirect:http://127.0.0.1:1/",
    "html-200",
    "empty-200",
    "gzip",
    "cut",
    "accept-reset",
];

#[test]
fn an_unusable_answer_is_a_502_or_another_providers_answer() {
    each_driver(|driver| {
        for fault in UNUSABLE {
            for body in [CHAT, CHAT_STREAM] {
                let (mock, backup) = (provider(fault), provider("ok"));
                let alone = chain(mock.addr(), None, driver, &[]);
                let got = Client::to(alone.addr()).post("/v1/chat/completions", body);
                assert_eq!(got.status, 502, "{fault}: {}{}", got.head, got.text());
                assert!(
                    got.json()["error"]["message"].as_str().unwrap().contains("openai "),
                    "{}",
                    got.text()
                );
                let pair = chain(mock.addr(), Some(backup.addr()), driver, &[]);
                let got = Client::to(pair.addr()).post("/v1/chat/completions", body);
                assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{fault}: {}", got.text());
                assert!(got.whole, "{fault}");
                for name in ["set-cookie", "location"] {
                    assert_eq!(got.header(name), None, "{fault}");
                }
                assert_eq!(alone.panics() + pair.panics(), 0);
            }
        }
    });
}

#[test]
fn sixteen_interim_answers_are_skipped() {
    each_driver(|driver| {
        let mock = provider("interim-flood:16");
        let gateway = chain(mock.addr(), None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for body in [CHAT, CHAT_STREAM] {
            let got = client.post("/v1/chat/completions", body);
            assert_eq!((got.status, got.whole), (200, true), "{}", got.text());
        }
        assert_eq!(mock.counts().connections, 1);
    });
}

#[test]
fn bytes_behind_an_answer_never_become_the_next_one() {
    each_driver(|driver| {
        let bad = whole("", &ANSWER.replace("\"ok\"", "\"bad\""));
        // In one packet with the answer, and a moment behind it.
        for late in [false, true] {
            let bad = bad.clone();
            let provider = Raw::start(move |_, stream| {
                let good = whole("", ANSWER);
                if late {
                    let _ = stream.write_all(good.as_bytes());
                    std::thread::sleep(Duration::from_millis(5));
                    let _ = stream.write_all(bad.as_bytes());
                } else {
                    let _ = stream.write_all([good, bad.clone()].concat().as_bytes());
                }
                Then::Keep
            });
            let gateway = chain(provider.addr, None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            for round in 1..5 {
                let got = client.post("/v1/chat/completions", CHAT);
                assert_eq!(got.json()["choices"][0]["message"]["content"], "ok", "{round}");
                std::thread::sleep(Duration::from_millis(if late { 15 } else { 0 }));
                assert_eq!(provider.connections(), round, "a connection with bytes on it was used again");
            }
        }
    });
}

#[test]
fn a_kept_connection_that_the_provider_ended_costs_the_client_nothing() {
    each_driver(|driver| {
        for fault in ["close-idle:30ms", "idle-408:30ms", "close", "excess"] {
            let mock = provider(fault);
            let gateway = chain(mock.addr(), None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            for pause_ms in [0, 20, 29, 30, 31, 60] {
                let got = client.post("/v1/chat/completions", CHAT);
                assert_eq!(got.status, 200, "{fault} after {pause_ms}: {}", got.text());
                let attempts = got.header("x-sluice-attempts").unwrap();
                // A race that was lost is told as such; it is not an answer of the provider's.
                let last = attempts.rsplit(", ").next().unwrap();
                assert!(last.starts_with("openai 200 ") && !attempts.contains("408"), "{fault}: {attempts}");
                std::thread::sleep(Duration::from_millis(pause_ms));
            }
        }
    });
}

#[test]
fn a_kept_connection_that_dies_under_a_request_is_replaced_once() {
    each_driver(|driver| {
        // The second request of a connection is met with a reset or an end, whatever was read of it.
        for end in [false, true] {
            let provider = Raw::start(move |asked, stream| {
                if asked.no > 0 {
                    return if end { Then::Close } else { Then::Reset };
                }
                let _ = stream.write_all(whole("", ANSWER).as_bytes());
                Then::Keep
            });
            let gateway = chain(provider.addr, None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            for _ in 0..4 {
                let got = client.post("/v1/chat/completions", CHAT);
                assert_eq!(got.status, 200, "{}", got.text());
            }
            assert_eq!((provider.connections(), provider.asked().len()), (4, 7));
        }
        // Nor is a 408 for the connection's idle time an answer to the request that met it.
        let provider = Raw::start(|asked, stream| {
            if asked.no > 0 {
                let _ = stream.write_all(b"HTTP/1.1 408 X\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
                return Then::Close;
            }
            let _ = stream.write_all(whole("", ANSWER).as_bytes());
            Then::Keep
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for _ in 0..3 {
            let got = client.post("/v1/chat/completions", CHAT);
            let attempts = got.header("x-sluice-attempts").unwrap_or_default();
            assert!(got.status == 200 && !attempts.contains("408"), "{attempts}");
        }
        // A fresh one that dies is the provider's failure.
        let asked = std::sync::Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        let provider = Raw::start(move |_, _| {
            count.fetch_add(1, Ordering::AcqRel);
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.status, 502, "{}", got.text());
        assert!(asked.load(Ordering::Acquire) <= 2, "asked {} times", asked.load(Ordering::Acquire));
    });
}

#[test]
fn an_answer_that_comes_before_the_request_was_read_is_delivered() {
    each_driver(|driver| {
        let mock = provider("early-response:413");
        let gateway = chain(mock.addr(), None, driver, &[]);
        let body = CHAT.replace("Say hello", &"x".repeat(8 << 20));
        let mut client = Client::to(gateway.addr());
        let begun = Instant::now();
        for _ in 0..2 {
            let got = client.post("/v1/chat/completions", &body);
            assert_eq!(got.status, 413, "{}", got.text());
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(mock.counts().connections, 2, "what was left of the request would be read as the next");
    });
}

#[test]
fn answers_bring_only_the_fields_that_are_meant_for_the_client() {
    const FIELDS: &str = "Set-Cookie: a=b\r\nServer: x\r\nAlt-Svc: h3=\":443\"\r\nStrict-Transport-Security: max-age=1\r\nAccess-Control-Allow-Origin: *\r\nConnection: x-secret, content-type\r\nX-Secret: 1\r\nVia: 1.1 x\r\nx-sluice-provider: liar\r\nx-ratelimit-remaining-requests: 7\r\nopenai-processing-ms: 5\r\nx-request-id: req_provider\r\n";
    each_driver(|driver| {
        let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n";
        let stream = whole(FIELDS, events).replace("application/json", "text/event-stream");
        let other = whole(FIELDS, "\u{1}\u{2}binary").replace("application/json", "audio/mpeg");
        for (path, body, answer) in [
            ("/v1/chat/completions", CHAT, whole(FIELDS, ANSWER)),
            ("/v1/chat/completions", CHAT_STREAM, stream),
            ("/v1/audio/speech", CHAT, other),
            ("/v1/chat/completions", CHAT, whole(FIELDS, "{}").replace("200 OK", "422 X")),
        ] {
            let provider = Raw::says(answer);
            let gateway = chain(provider.addr, None, driver, &[]);
            let got = Client::to(gateway.addr()).post(path, body);
            let names = got.head.lines().skip(1).filter_map(|line| line.split_once(':'));
            for (name, _) in names {
                let name = name.to_ascii_lowercase();
                let known = [
                    "content-type",
                    "content-length",
                    "date",
                    "transfer-encoding",
                    "cache-control",
                    "x-request-id",
                    "x-ratelimit-remaining-requests",
                    "openai-processing-ms",
                    "x-sluice-provider",
                    "x-sluice-model",
                    "x-sluice-attempts",
                    "x-sluice-overhead-us",
                ];
                assert!(known.contains(&name.as_str()), "{name} in {}", got.head);
            }
            assert_eq!(got.header("x-request-id"), Some("req_provider"), "{}", got.head);
            assert_eq!(got.header("x-ratelimit-remaining-requests"), Some("7"));
            assert_eq!(got.head.matches("x-sluice-provider").count(), usize::from(got.status == 200));
        }
    });
}

#[test]
fn a_cut_answer_of_an_unknown_endpoint_is_visibly_cut() {
    each_driver(|driver| {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nContent-Length: 100\r\n\r\nshort",
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
            "HTTP/1.1 200 OK\r\nContent-Type: audio/mpeg\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\nzz\r\n",
        ] {
            let provider = Raw::says(answer);
            let gateway = chain(provider.addr, None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            let got = client.post("/v1/audio/speech", r#"{"model":"openai/tts-1"}"#);
            // What is broken before any of it went out is no answer at all.
            let early = answer.contains("zz");
            assert_eq!((got.status, got.whole), if early { (502, true) } else { (200, false) }, "{answer}");
            assert!(early || client.is_closed());
            // A client that is told the end by the close alone must not take this one for it.
            let mut client = Client::to(gateway.addr());
            let body = r#"{"model":"openai/tts-1"}"#;
            let request = String::from_utf8(request("/v1/audio/speech", "", body)).unwrap();
            client.send(request.replace("HTTP/1.1", "HTTP/1.0").as_bytes());
            let got = client.read();
            assert!(early || !got.whole || client.was_reset(), "{answer}: {}", got.head);
        }
    });
}

#[test]
fn every_answer_says_when_it_was_made_once() {
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let now = |got: &Got| {
        let date = got.header("date").unwrap_or_else(|| panic!("no date in {}", got.head));
        assert_eq!(got.head.to_ascii_lowercase().matches("\r\ndate:").count(), 1, "{}", got.head);
        assert!(date.len() == DATE.len() && date.ends_with(" GMT") && !date.contains(" 1994 "), "{date}");
    };
    each_driver(|driver| {
        let events = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\ndata: [DONE]\n\n";
        for (body, answer) in [
            (CHAT, whole("Date: x\r\n", ANSWER)),
            (CHAT_STREAM, whole("Date: x\r\n", events).replace("application/json", "text/event-stream")),
            (CHAT, whole("Date: x\r\n", "{}").replace("200 OK", "422 X")),
        ] {
            // The provider's own date passes; where it has none, ours is there.
            let dated = Raw::says(answer.replace("Date: x", &format!("Date: {DATE}")));
            let gateway = chain(dated.addr, None, driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", body);
            assert_eq!(got.header("date"), Some(DATE), "{}", got.head);
            let undated = Raw::says(answer.replace("Date: x\r\n", ""));
            let gateway = chain(undated.addr, None, driver, &[]);
            now(&Client::to(gateway.addr()).post("/v1/chat/completions", body));
        }
        // What the gateway says itself: an answer, an error, a refusal.
        let gateway = chain("127.0.0.1:1".parse().unwrap(), None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        now(&client.get("/healthz"));
        now(&client.post("/v1/chat/completions", "{}"));
        now(&client.post("/v1/chat/completions", CHAT));
        client.send(b"GET / HTTP/3.0\r\n\r\n");
        now(&client.read());
    });
}
