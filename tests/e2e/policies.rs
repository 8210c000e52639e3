//! What a route and a step may ask of the gateway: second calls, answer checks, configured answers, budgets of steps.

use std::time::{Duration, Instant};

use sluice::config::DriverChoice;
use sluice::gateway::Running;
use sluice::rehearsal::{Mock, Program};

use crate::support::*;

/// Two keyless providers and one route with these settings; `tail` is the rest of the file.
fn route(first: &Mock, second: &Mock, driver: DriverChoice, settings: &str, tail: &str) -> Running {
    let text = format!(
        "providers:\n  first:\n    base_url: http://{}\n  second:\n    base_url: http://{}\n\
         fallbacks:\n  - model: first/gpt-4o-mini\n    targets: [first/gpt-4o-mini, second/gpt-4o-mini{}]\n{settings}{tail}",
        first.addr(),
        second.addr(),
        if tail.contains("heuristic:") { ", static/heuristic" } else { "" },
    );
    gateway(plan(&text, &[], driver, &[]))
}

fn ask(stream: bool) -> String {
    format!(
        r#"{{"model":"first/gpt-4o-mini","stream":{stream},"messages":[{{"role":"user","content":"hello"}}]}}"#
    )
}

fn chat(gateway: &Running, stream: bool) -> Got {
    Client::to(gateway.addr()).post("/v1/chat/completions", &ask(stream))
}

fn program(text: &str) -> Program {
    Program::parse(text).unwrap()
}

const STATIC: &str = "static:\n  heuristic: {content: 'retry: \"no\"'}\n";

#[test]
fn a_call_that_stays_silent_is_overtaken_by_a_second_one() {
    each_driver(|driver| {
        for stream in [false, true] {
            let (first, second) = (provider("ok"), provider("ok"));
            let hedge = "    hedge: {percent: 50, delay_min: 100ms}\n";
            let gateway = route(&first, &second, driver, hedge, "");
            // How long a call usually takes has to be known before one can be called slow.
            for _ in 0..60 {
                assert_eq!(chat(&gateway, stream).header("x-sluice-provider"), Some("first"));
            }
            first.program(program("hang"));
            let begun = Instant::now();
            let got = chat(&gateway, stream);
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.header("x-sluice-provider"), Some("second"));
            let attempts = got.header("x-sluice-attempts").unwrap();
            assert!(
                attempts.starts_with("first cancelled ") && attempts.contains("second 200"),
                "{attempts}"
            );
            assert!(begun.elapsed() >= Duration::from_millis(100), "{:?}", begun.elapsed());
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            assert!(got.whole);
            assert_eq!(second.counts().requests, 1);
            // The loser is cancelled, not left to run up its bill.
            let until = Instant::now() + Duration::from_secs(5);
            while first.counts().in_progress > 0 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(first.counts().in_progress, 0, "the first call still runs");
        }
    });
}

#[test]
fn a_first_call_that_answers_in_the_end_beats_a_second_one_that_fails() {
    each_driver(|driver| {
        for stream in [false, true] {
            let (first, second) = (provider("ok"), provider("down:503"));
            let hedge = "    hedge: {percent: 50, delay_min: 100ms}\n";
            let gateway = route(&first, &second, driver, hedge, "");
            for _ in 0..60 {
                assert_eq!(chat(&gateway, stream).status, 200);
            }
            first.program(program("slow:+700ms"));
            let got = chat(&gateway, stream);
            assert_eq!((got.status, got.header("x-sluice-provider")), (200, Some("first")), "{}", got.text());
            let attempts = got.header("x-sluice-attempts").unwrap();
            assert!(attempts.starts_with("first 200 ") && attempts.contains("second 503"), "{attempts}");
        }
    });
}

#[test]
fn when_the_first_call_fails_the_second_is_waited_for_and_nobody_is_asked_twice() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("slow:+800ms"));
        let hedge = "    hedge: {percent: 50, delay_min: 100ms}\n";
        let gateway = route(&first, &second, driver, hedge, "");
        for _ in 0..60 {
            assert_eq!(chat(&gateway, false).status, 200);
        }
        // Silent for a while, then gone.
        first.program(program("slow:+400ms; down:503"));
        let got = chat(&gateway, false);
        assert_eq!((got.status, got.header("x-sluice-provider")), (200, Some("second")), "{}", got.text());
        assert_eq!(second.counts().requests, 1);
    });
}

#[test]
fn a_second_call_may_speak_another_dialect() {
    each_driver(|driver| {
        for stream in [false, true] {
            let (openai, anthropic) = (provider("ok"), provider("ok"));
            let text = format!(
                "providers:\n  openai:\n    base_url: http://{}\n    keys: [sk-a]\n  anthropic:\n    base_url: http://{}\n    keys: [sk-b]\n\
                 hedge: {{percent: 50, delay_min: 100ms}}\n\
                 fallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [openai/gpt-4o-mini, anthropic/claude-haiku-4-5]\n",
                openai.addr(),
                anthropic.addr()
            );
            let gateway = gateway(plan(&text, &[], driver, &[]));
            let body = if stream { CHAT_STREAM } else { CHAT };
            let chat = || Client::to(gateway.addr()).post("/v1/chat/completions", body);
            for _ in 0..60 {
                assert_eq!(chat().header("x-sluice-provider"), Some("openai"));
            }
            openai.program(program("hang"));
            let got = chat();
            assert_eq!(
                (got.status, got.header("x-sluice-provider")),
                (200, Some("anthropic")),
                "{}",
                got.text()
            );
            if stream {
                assert!(got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
            } else {
                assert_eq!(got.json()["object"], "chat.completion");
            }
        }
    });
}

#[test]
fn a_client_that_leaves_cancels_both_calls_of_a_pair() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("hang"));
        let gateway = route(&first, &second, driver, "    hedge: {percent: 50, delay_min: 100ms}\n", "");
        for _ in 0..60 {
            assert_eq!(chat(&gateway, true).status, 200);
        }
        first.program(program("hang"));
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", &ask(true)));
        let soon = |done: &dyn Fn() -> bool| {
            let until = Instant::now() + Duration::from_secs(10);
            while !done() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            done()
        };
        assert!(soon(&|| first.counts().in_progress == 1 && second.counts().in_progress == 1), "no pair");
        drop(client);
        assert!(
            soon(&|| first.counts().in_progress == 0 && second.counts().in_progress == 0),
            "still running"
        );
    });
}

#[test]
fn without_hedging_a_silent_call_is_waited_for() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("ok"));
        let gateway = route(&first, &second, driver, "", "");
        for _ in 0..60 {
            chat(&gateway, false);
        }
        first.program(program("slow:+600ms"));
        assert_eq!(chat(&gateway, false).header("x-sluice-provider"), Some("first"));
        assert_eq!(second.counts().requests, 0);
    });
}

#[test]
fn an_answer_that_fails_its_check_is_a_failed_attempt_and_the_next_target_is_asked() {
    each_driver(|driver| {
        for stream in [false, true] {
            let (first, second) = (provider("ok"), provider("ok"));
            // The scripted providers say words, which are no JSON; the second target's answer fails as well, so the
            // configured one is given.
            let gateway = route(&first, &second, driver, "    checks: [json]\n", STATIC);
            let got = chat(&gateway, stream);
            assert_eq!(got.status, 200, "{}", got.text());
            assert_eq!(got.header("x-sluice-provider"), Some("static"));
            assert_eq!(got.header("x-sluice-model"), Some("heuristic"));
            let attempts = got.header("x-sluice-attempts").unwrap();
            assert_eq!(attempts.matches("check_failed").count(), 2, "{attempts}");
            let text = if stream {
                assert!(got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
                got.text()
            } else {
                got.json()["choices"][0]["message"]["content"].to_string()
            };
            assert!(text.contains(r#"retry: \"no\""#), "{text}");
            assert_eq!((first.counts().requests, second.counts().requests), (1, 1));
        }
    });
}

#[test]
fn a_stream_that_passes_its_checks_arrives_whole() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("ok"));
        let checks = "    checks: [finish_reason, {min_length: 5}]\n";
        let checked = route(&first, &second, driver, checks, "");
        let got = chat(&checked, true);
        assert_eq!((got.status, got.header("x-sluice-provider")), (200, Some("first")));
        assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
        assert!(got.text().matches("\"content\"").count() > 2);
        assert_eq!(second.counts().requests, 0);
    });
}

#[test]
fn when_no_answer_passes_the_client_is_told_which_check_failed() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("ok"));
        let gateway = route(&first, &second, driver, "    checks: [{regex: '^never$'}]\n", "");
        let got = chat(&gateway, false);
        assert_eq!(got.status, 502, "{}", got.text());
        assert_eq!(got.json()["error"]["code"], "answer_check_failed");
        assert!(got.text().contains("`regex`"), "{}", got.text());
    });
}

#[test]
fn a_chain_that_ends_in_a_static_target_never_fails_its_build() {
    each_driver(|driver| {
        let (first, second) = (provider("down:503"), provider("refuse"));
        let gateway = route(&first, &second, driver, "", STATIC);
        for (path, stream, place) in [
            ("/v1/chat/completions", false, "/choices/0/message/content"),
            ("/v1/chat/completions", true, ""),
            ("/v1/completions", false, "/choices/0/text"),
            ("/v1/responses", false, "/output/0/content/0/text"),
            ("/v1/messages", false, "/content/0/text"),
        ] {
            let body = format!(
                r#"{{"model":"first/gpt-4o-mini","stream":{stream},"max_tokens":9,"prompt":"x","input":"x","messages":[{{"role":"user","content":"hello"}}]}}"#
            );
            let got = Client::to(gateway.addr()).post(path, &body);
            assert_eq!(
                (got.status, got.header("x-sluice-provider")),
                (200, Some("static")),
                "{path}: {}",
                got.text()
            );
            if !place.is_empty() {
                assert_eq!(got.json().pointer(place).unwrap(), "retry: \"no\"", "{path}");
            }
        }
        // There is no configured vector.
        let embedding = r#"{"model":"first/gpt-4o-mini","input":"x"}"#;
        let got = Client::to(gateway.addr()).post("/v1/embeddings", embedding);
        assert!(got.status >= 500, "{}", got.text());
    });
}

#[test]
fn a_step_that_failed_often_enough_is_turned_away_at_once() {
    each_driver(|driver| {
        let (first, second) = (provider("down:503"), provider("down:503"));
        let gateway = route(&first, &second, driver, "", "step_budget: {failures: 2}\n");
        let step = |name: &str| {
            let headers = format!("x-sluice-pipeline: build\r\nx-sluice-step: {name}\r\n");
            Client::to(gateway.addr()).post_with("/v1/chat/completions", &headers, &ask(false))
        };
        for _ in 0..2 {
            assert_ne!(step("triage").json()["error"]["code"], "step_budget_exhausted");
        }
        let calls = first.counts().requests + second.counts().requests;
        let got = step("triage");
        assert_eq!(got.status, 503);
        assert_eq!(got.json()["error"]["code"], "step_budget_exhausted");
        assert_eq!(got.header("x-should-retry"), Some("false"));
        assert!(
            got.text().contains("`triage`") && got.text().contains("step_budget.failures"),
            "{}",
            got.text()
        );
        assert_eq!(first.counts().requests + second.counts().requests, calls, "nobody was called for it");
        // Another step, and requests without one, are not held back by it.
        assert_ne!(step("other").json()["error"]["code"], "step_budget_exhausted");
        assert_ne!(chat(&gateway, false).json()["error"]["code"], "step_budget_exhausted");
    });
}

#[test]
fn a_step_that_is_turned_away_can_get_the_configured_answer() {
    each_driver(|driver| {
        let (first, second) = (provider("down:503"), provider("down:503"));
        let text = format!(
            "providers:\n  first:\n    base_url: http://{}\n{STATIC}step_budget: {{failures: 1, answer: static/heuristic}}\n",
            first.addr()
        );
        let gateway = gateway(plan(&text, &[], driver, &[]));
        let step = || {
            Client::to(gateway.addr()).post_with(
                "/v1/chat/completions",
                "x-sluice-step: triage\r\n",
                &ask(false),
            )
        };
        assert!(step().status >= 500);
        let got = step();
        assert_eq!((got.status, got.header("x-sluice-provider")), (200, Some("static")), "{}", got.text());
        drop(second);
    });
}

#[test]
fn clients_that_leave_a_stream_say_nothing_about_its_provider() {
    each_driver(|driver| {
        let first = provider("stall:30s,after=3");
        let gateway = chain(first.addr(), None, driver, &[]);
        for _ in 0..12 {
            let mut client = Client::to(gateway.addr());
            let body =
                r#"{"model":"openai/gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
            client.send(&request("/v1/chat/completions", "", body));
            assert!(client.read_until(b"\"content\""));
        }
        first.program(program("ok"));
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.status, 200, "{}", got.text());
    });
}

#[test]
fn what_an_answer_cost_is_told_where_the_price_is_known() {
    each_driver(|driver| {
        let openai = provider("ok");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        let usd: f64 = got.header("x-sluice-cost-usd").unwrap().parse().unwrap();
        assert!(usd > 0.0 && usd < 0.01, "{usd}");
        let unpriced = r#"{"model":"openai/nobody-priced-this","messages":[{"role":"user","content":"x"}]}"#;
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", unpriced);
        assert_eq!((got.status, got.header("x-sluice-cost-usd")), (200, None), "unknown is not free");
    });
}
