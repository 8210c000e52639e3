//! The three configurations that people already have, in bad hours: who answers, how soon, and what the client sees.

use std::time::{Duration, Instant};

use sluice::config::DriverChoice;

use crate::support::*;

#[test]
fn openai_answers_while_it_can() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.status, 200, "{}", got.text());
        assert_eq!(got.header("x-sluice-provider"), Some("openai"));
        assert_eq!(got.header("x-sluice-model"), Some("gpt-4o-mini"));
        assert!(got.header("x-request-id").is_some_and(|id| !id.is_empty()));
        assert!(
            got.header("x-sluice-attempts").is_some_and(|a| a.starts_with("openai 200 ")),
            "{}",
            got.head
        );
        assert!(got.header("x-sluice-overhead-us").is_some_and(|us| us.parse::<u64>().is_ok()));
        assert_eq!(got.json()["object"], "chat.completion");
        assert_eq!((openai.counts().requests, anthropic.counts().requests), (1, 0));
        // The prefix is the gateway's; the provider sees its own name.
        let body: serde_json::Value = serde_json::from_slice(&openai.requests()[0].body).unwrap();
        assert_eq!(body["model"], "gpt-4o-mini");
    });
}

/// Everything that makes the first target fail, and how long the client may wait for the second.
const FAILURES: [(&str, Duration); 10] = [
    ("down:503", Duration::from_secs(1)),
    ("status:500", Duration::from_secs(1)),
    ("reset", Duration::from_secs(1)),
    ("truncate", Duration::from_secs(1)),
    ("cut-json", Duration::from_secs(1)),
    ("empty-200", Duration::from_secs(1)),
    ("html-200", Duration::from_secs(1)),
    ("error-in-200", Duration::from_secs(1)),
    ("out-of-credit", Duration::from_secs(1)),
    ("key-revoked", Duration::from_secs(1)),
];

#[test]
fn anthropic_answers_when_openai_fails_in_any_way() {
    each_driver(|driver| {
        for (fault, limit) in FAILURES {
            for stream in [false, true] {
                if stream && matches!(fault, "truncate" | "cut-json") {
                    // A stream that is cut after its first content is committed: see `streams`.
                    continue;
                }
                let (openai, anthropic) = (provider(fault), provider("ok"));
                let gateway = two(&openai, &anthropic, driver, &[]);
                let begun = Instant::now();
                let body = if stream { CHAT_STREAM } else { CHAT };
                let got = Client::to(gateway.addr()).post("/v1/chat/completions", body);
                assert_eq!(got.status, 200, "{fault} stream={stream}: {}", got.text());
                assert!(got.whole, "{fault} stream={stream}");
                assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{fault} stream={stream}");
                assert!(begun.elapsed() < limit, "{fault} stream={stream}: {:?}", begun.elapsed());
                if stream {
                    assert!(!stream_text(&got.body).is_empty(), "{fault}: {}", got.text());
                    assert!(got.text().ends_with("data: [DONE]\n\n"), "{fault}: {}", got.text());
                } else {
                    let json = got.json();
                    assert_eq!(json["object"], "chat.completion", "{fault}");
                    assert!(json["choices"][0]["message"]["content"].is_string(), "{fault}: {json}");
                }
            }
        }
    });
}

#[test]
fn an_error_as_the_first_event_of_a_stream_is_no_answer() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("error-first-event"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
        assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
        assert!(!stream_text(&got.body).is_empty());
        let attempts = got.header("x-sluice-attempts").unwrap().to_owned();
        assert!(attempts.starts_with("openai stream_error "), "{attempts}");
    });
}

#[test]
fn a_refused_connection_costs_milliseconds() {
    each_driver(|driver| {
        let anthropic = provider("ok");
        let gone = provider("ok");
        let gateway = two(&gone, &anthropic, driver, &[]);
        gone.stop();
        let begun = Instant::now();
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_provider_that_hangs_past_eight_seconds_is_left_within_half_a_second() {
    // The real 8 s of the third configuration, on both drivers at once so that the suite does not wait twice.
    std::thread::scope(|scope| {
        for choice in [DriverChoice::Epoll, DriverChoice::IoUring] {
            scope.spawn(move || {
                let Ok(_) = sluice::net::driver::choose(choice) else {
                    println!("skipped on io_uring");
                    return;
                };
                let (openai, anthropic) = (provider("ok"), provider("hang"));
                let text = config_file("fallbacks-weighted.json");
                let at = [("openai", openai.addr()), ("anthropic", anthropic.addr())];
                let gateway = gateway(plan(&text, &at, choice, &[]));
                let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
                assert_eq!(got.header("x-sluice-provider"), Some("openai"), "asked-for target first");
                openai.program(sluice::rehearsal::Program::parse("hang").unwrap());
                anthropic.program(sluice::rehearsal::Program::parse("ok").unwrap());
                let begun = Instant::now();
                let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
                let took = begun.elapsed();
                assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
                assert!(took >= Duration::from_secs(8) && took < Duration::from_millis(8500), "{took:?}");
                let attempts = got.header("x-sluice-attempts").unwrap().to_owned();
                assert!(attempts.contains("openai total_timeout 8"), "{attempts}");
            });
        }
    });
}

#[test]
fn two_keys_share_the_calls_as_their_weights_say() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for _ in 0..2000 {
            assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
        }
        let keys = openai.counts().keys;
        let primary = keys.get("-primary").map_or(0, |k| k.requests);
        assert!((1340..=1460).contains(&primary), "{primary} of 2000; {keys:?}");
    });
}

#[test]
fn when_everybody_fails_the_client_is_told_everything_in_its_own_words() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("down:503"), provider("status:529"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert!(got.status >= 500, "{}", got.head);
        let attempts = got.header("x-sluice-attempts").unwrap().to_owned();
        assert!(attempts.contains("openai 503 ") && attempts.contains("anthropic 529 "), "{attempts}");
        let json = got.json();
        let message = json["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("openai 503") && message.contains("anthropic 529"), "{message}");
        assert!(json["error"]["type"].is_string());
        // Nothing of it may make an SDK believe that the request was wrong.
        assert_ne!(got.status, 400);
    });
}

#[test]
fn the_callers_own_mistake_is_passed_on_as_it_is_and_never_retried() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("status:422"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.status, 422, "{}", got.text());
        assert_eq!((openai.counts().requests, anthropic.counts().requests), (1, 0));
    });
}

#[test]
fn an_unknown_model_is_a_404_that_lists_what_would_work() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let body = CHAT.replace("openai/gpt-4o-mini", "opnai/gpt-4o-mini");
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", &body);
        assert_eq!(got.status, 404);
        let json = got.json();
        assert_eq!(json["error"]["code"], "model_not_found");
        assert!(json["error"]["message"].as_str().unwrap().contains("openai/gpt-4o-mini"), "{json}");
        let body = r#"{"model":"nobody/x","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#;
        let got = Client::to(gateway.addr()).post("/v1/messages", body);
        assert_eq!((got.status, got.json()["type"].clone()), (404, "error".into()));
    });
}

#[test]
fn a_request_may_name_its_own_fallbacks_and_deadline() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("status:500"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let body = CHAT.replace("gpt-4o-mini", "gpt-4o");
        let headers = "x-sluice-fallbacks: anthropic/claude-haiku-4-5\r\n";
        let got = Client::to(gateway.addr()).post_with("/v1/chat/completions", headers, &body);
        assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
        openai.program(sluice::rehearsal::Program::parse("hang").unwrap());
        anthropic.program(sluice::rehearsal::Program::parse("hang").unwrap());
        let begun = Instant::now();
        let got = Client::to(gateway.addr()).post_with(
            "/v1/chat/completions",
            "x-sluice-deadline-ms: 300\r\n",
            CHAT,
        );
        assert_eq!(got.status, 504, "{}", got.text());
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(800), "{took:?}");
    });
}
