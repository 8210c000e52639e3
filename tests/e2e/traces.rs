//! Spans as a collector gets them, against what clients sent, what providers saw and what they counted.

use std::time::{Duration, Instant};

use sluice::config::DriverChoice;
use sluice::gateway::Running;
use sluice::rehearsal::{Mock, MockOptions, Pacing, Program};

use crate::binary::Process;
use crate::collector::{Collector, Mood, Span};
use crate::metrics::Page;
use crate::support::*;

const CHATS: &str = "/v1/chat/completions";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Every way to a collector on every driver.
fn each_way(test: impl Fn(DriverChoice, &Collector, Vec<String>)) {
    each_driver(|driver| {
        for grpc in [false, true] {
            let collector = Collector::start(grpc);
            let sets = sets(&collector, grpc);
            test(driver, &collector, sets);
        }
    });
}

fn sets(collector: &Collector, grpc: bool) -> Vec<String> {
    vec![
        format!("traces.endpoint=http://{}", collector.addr),
        format!("traces.protocol={}", if grpc { "grpc" } else { "http" }),
        "traces.timeout=1s".to_owned(),
    ]
}

fn start(
    first: &Mock,
    backup: Option<&Mock>,
    driver: DriverChoice,
    sets: &[String],
    more: &[&str],
) -> Running {
    let sets: Vec<&str> = sets.iter().map(String::as_str).chain(more.iter().copied()).collect();
    chain(first.addr(), backup.map(Mock::addr), driver, &sets)
}

fn parent(flags: &str) -> String {
    format!("traceparent: 00-{TRACE}-{CALLER}-{flags}\r\ntracestate: congo=t61rcWkgMzE,rojo=00f067\r\n")
}

/// What the provider was sent under this name, by request.
fn seen(mock: &Mock, name: &str) -> Vec<String> {
    let of = |seen: &sluice::rehearsal::Seen| {
        let found: Vec<_> =
            seen.headers.iter().filter(|(own, _)| own == name).map(|(_, v)| v.clone()).collect();
        found.join("; ")
    };
    mock.requests().iter().map(of).collect()
}

fn one(spans: &[Span], fits: impl Fn(&Span) -> bool) -> &Span {
    let found: Vec<&Span> = spans.iter().filter(|span| fits(span)).collect();
    assert_eq!(found.len(), 1, "{spans:#?}");
    found[0]
}

fn page_when(gateway: &Running, done: impl Fn(&Page) -> bool) -> Page {
    let begun = Instant::now();
    loop {
        let page = Page::of(gateway.addr());
        if done(&page) || begun.elapsed() > Duration::from_secs(40) {
            return page;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_request_that_fell_back_is_one_trace_from_its_client_to_both_providers() {
    each_way(|driver, collector, sets| {
        let (openai, backup) = (provider("status:503"), provider("ok"));
        let more = ["traces.headers.x-token=collector-secret", "traces.resource.team=core"];
        let gateway = start(&openai, Some(&backup), driver, &sets, &more);
        let who = "x-sluice-pipeline: nightly\r\nx-sluice-step: triage\r\nx-sluice-team: core\r\n";
        let got = Client::to(gateway.addr()).post_with(CHATS, &format!("{}{who}", parent("01")), CHAT);
        assert_eq!(got.status, 200, "{}", got.text());
        let spans = collector.wait_for(3);
        assert_eq!(spans.len(), 3, "{spans:#?}");
        assert!(spans.iter().all(|span| span.trace == TRACE));

        let own = one(&spans, |span| span.kind == 2);
        assert_eq!((own.parent.as_str(), own.name.as_str()), (CALLER, "chat openai/gpt-4o-mini"));
        for (name, value) in [
            ("gen_ai.operation.name", "chat"),
            ("gen_ai.request.model", "openai/gpt-4o-mini"),
            ("sluice.provider", "backup"),
            ("sluice.route", "openai/gpt-4o-mini"),
            ("sluice.outcome", "ok"),
            ("sluice.attempts", "2"),
            ("sluice.pipeline", "nightly"),
            ("sluice.step", "triage"),
            ("sluice.team", "core"),
            ("http.response.status_code", "200"),
        ] {
            assert_eq!(own.get(name), value, "{name}");
        }
        assert_eq!(own.get("sluice.request_id"), got.header("x-request-id").unwrap());
        assert_eq!(own.status, 0);
        let (service, team) = (own.resource.get("service.name"), own.resource.get("team"));
        assert_eq!((service.map(String::as_str), team.map(String::as_str)), (Some("sluice"), Some("core")));

        let failed = one(&spans, |span| span.get("sluice.attempt.number") == "1");
        let answered = one(&spans, |span| span.get("sluice.attempt.number") == "2");
        for (span, mock) in [(failed, &openai), (answered, &backup)] {
            assert_eq!((span.kind, &span.parent), (3, &own.id));
            // The provider goes on with the attempt's own span.
            assert_eq!(seen(mock, "traceparent"), [format!("00-{TRACE}-{}-01", span.id)]);
            assert_eq!(seen(mock, "tracestate"), ["congo=t61rcWkgMzE,rojo=00f067"]);
            assert_eq!(span.get("server.address"), "127.0.0.1");
            assert_eq!(span.number("server.port"), u64::from(mock.addr().port()));
            assert!(span.from_ns >= own.from_ns && span.to_ns <= own.to_ns && span.from_ns <= span.to_ns);
        }
        assert_ne!(failed.id, answered.id);
        for (name, value) in [
            ("gen_ai.provider.name", "openai"),
            ("sluice.attempt.reason", "first"),
            ("sluice.attempt.fault", "capacity"),
            ("http.response.status_code", "503"),
            ("error.type", "503"),
        ] {
            assert_eq!(failed.get(name), value, "{name}");
        }
        assert_eq!((failed.status, failed.get("gen_ai.usage.input_tokens")), (2, ""));
        assert_eq!((answered.status, answered.get("sluice.attempt.reason")), (0, "fallback"));
        let counts = backup.counts();
        assert_eq!(answered.number("gen_ai.usage.input_tokens"), counts.tokens_in);
        assert_eq!(answered.number("gen_ai.usage.output_tokens"), counts.tokens_out);
        let body = got.json();
        assert_eq!(answered.get("gen_ai.response.model"), body["model"]);
        assert_eq!(answered.get("gen_ai.response.finish_reasons"), body["choices"][0]["finish_reason"]);

        // What goes to the collector is neither said nor secret; what it wants to see is there.
        for (head, message) in collector.raw() {
            assert!(head.contains("x-token: collector-secret"), "{head}");
            let message = String::from_utf8_lossy(&message);
            for word in [
                "Say hello",
                "sk-first",
                "collector-secret",
                body["choices"][0]["message"]["content"].as_str().unwrap(),
            ] {
                assert!(!message.contains(word), "{word}");
            }
        }
        let page = page_when(&gateway, |page| {
            page.count("sluice_trace_spans_total", &[("result", "delivered")]) == 3
        });
        assert_eq!(page.count("sluice_trace_spans_total", &[]), 3, "{}", page.0);
    });
}

#[test]
fn tokens_of_all_spans_are_those_that_providers_counted() {
    each_way(|driver, collector, sets| {
        const REQUESTS: usize = 60;
        let (openai, backup) = (provider("status:503,every=3"), provider("ok"));
        let gateway = start(&openai, Some(&backup), driver, &sets, &["workers=2"]);
        let stream = CHAT_STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        for n in 0..REQUESTS {
            let got = Client::to(gateway.addr()).post(CHATS, if n % 2 == 0 { CHAT } else { &stream });
            assert_eq!((got.status, got.whole), (200, true));
        }
        let calls = (openai.counts().requests + backup.counts().requests) as usize;
        let spans = collector.wait_for(REQUESTS + calls);
        assert_eq!(spans.len(), REQUESTS + calls);
        for (name, mock) in [("openai", &openai), ("backup", &backup)] {
            let of = |kind: &str| {
                let own = spans.iter().filter(|span| span.kind == 3 && span.get("sluice.provider") == name);
                own.map(|span| span.get(kind).parse().unwrap_or(0)).sum::<u64>()
            };
            let counts = mock.counts();
            let tokens = (of("gen_ai.usage.input_tokens"), of("gen_ai.usage.output_tokens"));
            assert_eq!(tokens, (counts.tokens_in, counts.tokens_out), "{name}");
        }
        // New traces, each with ids of its own, which the providers were told.
        let mut traces: Vec<&str> = spans.iter().filter(|s| s.kind == 2).map(|s| s.trace.as_str()).collect();
        traces.sort_unstable();
        traces.dedup();
        assert_eq!(traces.len(), REQUESTS);
        let told = [seen(&openai, "traceparent"), seen(&backup, "traceparent")].concat();
        for span in spans.iter().filter(|span| span.kind == 3) {
            assert!(told.contains(&format!("00-{}-{}-01", span.trace, span.id)), "{span:?}");
        }
        assert!(
            spans.iter().filter(|span| span.kind == 2).all(|span| span.parent.trim_matches('0').is_empty())
        );
    });
}

#[test]
fn a_streams_span_says_when_its_first_token_came() {
    each_driver(|driver| {
        let pacing = Pacing { first_token: Duration::from_millis(60), ..Pacing::instant() };
        let mock = Mock::start(MockOptions { pacing, ..MockOptions::default() }).unwrap();
        let collector = Collector::start(false);
        let gateway = start(&mock, None, driver, &sets(&collector, false), &[]);
        assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT_STREAM).status, 200);
        let spans = collector.wait_for(2);
        let call = one(&spans, |span| span.kind == 3);
        let [(name, at_ns)] = &call.events[..] else { panic!("{call:?}") };
        assert_eq!(name, "first_token");
        let after = Duration::from_nanos(at_ns - call.from_ns);
        assert!(after >= Duration::from_millis(30) && *at_ns <= call.to_ns, "{after:?}");
        let own = one(&spans, |span| span.kind == 2);
        assert_eq!((own.get("sluice.stream"), own.get("gen_ai.response.finish_reasons")), ("true", "stop"));
        assert_eq!(call.get("gen_ai.response.model"), "gpt-4o-mini");
    });
}

#[test]
fn the_flag_that_goes_upstream_is_the_one_that_was_decided_and_only_failures_go_beyond_it() {
    each_driver(|driver| {
        let (openai, backup) = (provider("status:503,every=2"), provider("ok"));
        let collector = Collector::start(false);
        let gateway = start(&openai, Some(&backup), driver, &sets(&collector, false), &["traces.sample=0"]);
        let mut client = Client::to(gateway.addr());
        // Not sampled, whole: nothing is sent. Not sampled, with a failed call: sent. Then the same, by the parent's word.
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        assert_eq!(client.post_with(CHATS, &parent("00"), CHAT).status, 200);
        // Sampled by the parent, whatever the share is.
        assert_eq!(
            client.post_with(CHATS, &parent("01"), &CHAT.replace("openai/gpt-4o-mini", "backup/m")).status,
            200
        );
        let spans = collector.wait_for(5);
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(collector.spans().len(), 5, "{spans:#?}");
        let flags = |mock: &Mock| -> Vec<String> {
            seen(mock, "traceparent").iter().map(|value| value[53..].to_owned()).collect()
        };
        assert_eq!(
            (flags(&openai), flags(&backup)),
            (vec!["00".to_owned(); 3], vec!["00".into(), "01".into()])
        );
        let sampled: Vec<&Span> = spans.iter().filter(|span| span.trace == TRACE).collect();
        assert_eq!(sampled.len(), 2, "{spans:#?}");
    });
}

#[test]
fn a_parent_that_cannot_be_read_begins_a_new_trace_without_its_state() {
    each_driver(|driver| {
        let mock = provider("ok");
        let collector = Collector::start(false);
        let gateway = start(&mock, None, driver, &sets(&collector, false), &[]);
        let mut client = Client::to(gateway.addr());
        let twice = format!("{0}traceparent: 00-{TRACE}-{CALLER}-01\r\n", parent("01"));
        for odd in [parent("1"), parent("01").replace("00-4b", "00-4B"), twice] {
            assert_eq!(client.post_with(CHATS, &odd, CHAT).status, 200);
        }
        let spans = collector.wait_for(6);
        assert_eq!(spans.len(), 6);
        assert!(spans.iter().all(|span| span.trace != TRACE));
        assert!(seen(&mock, "traceparent").iter().all(|value| value.len() == 55 && !value.contains(TRACE)));
        assert_eq!(seen(&mock, "tracestate"), ["", "", ""]);
    });
}

#[test]
fn without_traces_the_clients_own_context_passes_as_it_came_translated_or_not() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut client = Client::to(gateway.addr());
        let to_anthropic = CHAT.replace("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5");
        for body in [CHAT, &to_anthropic] {
            assert_eq!(client.post_with(CHATS, &parent("01"), body).status, 200);
        }
        for mock in [&openai, &anthropic] {
            assert_eq!(seen(mock, "traceparent"), [format!("00-{TRACE}-{CALLER}-01")]);
            assert_eq!(seen(mock, "tracestate"), ["congo=t61rcWkgMzE,rojo=00f067"]);
        }
        assert_eq!(Page::of(gateway.addr()).count("sluice_trace_spans_total", &[]), 0);
        // With traces a translated request has its own span, too.
        let collector = Collector::start(false);
        let traced = sets(&collector, false);
        let traced: Vec<&str> = traced.iter().map(String::as_str).collect();
        let gateway = two(&openai, &anthropic, driver, &traced);
        assert_eq!(Client::to(gateway.addr()).post_with(CHATS, &parent("01"), &to_anthropic).status, 200);
        let spans = collector.wait_for(2);
        let call = one(&spans, |span| span.kind == 3);
        assert_eq!(seen(&anthropic, "traceparent")[1], format!("00-{TRACE}-{}-01", call.id));
        assert_eq!(
            (call.get("gen_ai.provider.name"), call.get("gen_ai.response.finish_reasons")),
            ("anthropic", "stop")
        );
    });
}

#[test]
fn a_hedged_pair_is_two_spans_of_one_trace_and_the_loser_says_so() {
    each_driver(|driver| {
        let (slow, fast) = (provider("ok"), provider("ok"));
        let collector = Collector::start(false);
        let text = format!(
            "providers:\n  openai: {{keys: [sk-1], base_url: \"http://{}\"}}\n  backup: {{base_url: \"http://{}\"}}\n\
             fallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [backup/gpt-4o-mini]\n    \
             hedge: {{percent: 50, delay_min: 100ms}}\n",
            slow.addr(),
            fast.addr()
        );
        let traced = sets(&collector, false);
        let traced: Vec<&str> = traced.iter().map(String::as_str).collect();
        let gateway = gateway(plan(&text, &[], driver, &traced));
        // How long a call usually takes has to be known before one can be called slow.
        for _ in 0..60 {
            assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT).status, 200);
        }
        assert_eq!(collector.wait_for(120).len(), 120);
        slow.program(Program::parse("hang").unwrap());
        assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT).status, 200);
        let spans = collector.wait_for(123).split_off(120);
        let hedge = one(&spans, |span| span.get("sluice.attempt.reason") == "hedge");
        let loser = one(&spans, |span| span.get("sluice.attempt.reason") == "first");
        assert_eq!(
            (hedge.get("sluice.attempt.result"), loser.get("sluice.attempt.result")),
            ("ok", "cancelled")
        );
        assert_eq!(hedge.parent, loser.parent);
        assert_eq!(loser.status, 0, "losing is no error");
        assert_eq!(seen(&fast, "traceparent"), [format!("00-{}-{}-01", hedge.trace, hedge.id)]);
    });
}

#[test]
fn a_refused_request_is_a_span_without_calls() {
    each_driver(|driver| {
        let mock = provider("ok");
        let collector = Collector::start(false);
        let gateway = start(&mock, None, driver, &sets(&collector, false), &[]);
        let mut client = Client::to(gateway.addr());
        let got = client.post_with(CHATS, &parent("01"), &CHAT.replace("openai/gpt-4o-mini", "nobody/x"));
        assert_eq!(got.status, 404);
        let spans = collector.wait_for(1);
        let own = one(&spans, |_| true);
        assert_eq!((own.get("error.type"), own.get("sluice.outcome")), ("model_not_found", "rejected"));
        assert_eq!((own.status, own.get("sluice.attempts")), (0, "0"));
    });
}

#[test]
fn a_collector_that_dies_hangs_or_refuses_costs_spans_and_no_answers() {
    each_way(|driver, collector, sets| {
        let mock = provider("ok");
        let gateway = start(&mock, None, driver, &sets, &[]);
        let mut client = Client::to(gateway.addr());
        let mut slowest = Duration::ZERO;
        let mut sent = 0;
        for mood in [Mood::Takes, Mood::Refuses, Mood::Hangs, Mood::Takes] {
            collector.mood(mood);
            for _ in 0..50 {
                let begun = Instant::now();
                assert_eq!(client.post(CHATS, CHAT).status, 200);
                slowest = slowest.max(begun.elapsed());
                sent += 2;
            }
            // Long enough for a delivery of this mood to begin.
            let delivered = |page: &Page| page.count("sluice_trace_spans_total", &[]) >= sent;
            let page = page_when(&gateway, delivered);
            assert_eq!(page.count("sluice_trace_spans_total", &[]), sent, "{}", page.0);
        }
        let page = Page::of(gateway.addr());
        let of = |result| page.count("sluice_trace_spans_total", &[("result", result)]);
        println!(
            "{driver:?}: slowest answer {slowest:?}; {} delivered, {} failed",
            of("delivered"),
            of("failed")
        );
        assert_eq!((of("delivered"), of("failed"), of("dropped")), (200, 200, 0));
        assert_eq!(collector.spans().len(), 200);
        // The machine is shared with other tests; a delivery that cost an answer would cost it a second.
        assert!(slowest < Duration::from_millis(700), "{slowest:?}");
        collector.mood(Mood::Hangs);
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        drop(client);
        let begun = Instant::now();
        gateway.stop(Duration::from_secs(1)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    });
}

#[test]
fn the_log_says_once_that_a_collector_is_gone_and_once_that_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let mock = provider("ok");
    let mut collector = Collector::start(false);
    let text = format!(
        "providers: {{openai: {{keys: [sk-1], base_url: \"http://{}\"}}}}\nlisten: 127.0.0.1:0\nledger: off\n\
         traces: {{endpoint: \"http://{}\", timeout: 1s}}\n",
        mock.addr(),
        collector.addr
    );
    std::fs::write(directory.path().join("sluice.yaml"), text).unwrap();
    let mut process = Process::serve(directory.path(), &[], &[]);
    let mut client = Client::to(process.addr);
    assert_eq!(client.post(CHATS, CHAT).status, 200);
    assert_eq!(collector.wait_for(2).len(), 2);
    collector.kill();
    assert_eq!(client.post(CHATS, CHAT).status, 200);
    process.hear("does not take traces");
    // More losses are no news.
    for _ in 0..3 {
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        std::thread::sleep(Duration::from_millis(1_300));
    }
    let collector = Collector::at(collector.addr, false);
    let begun = Instant::now();
    while collector.spans().is_empty() && begun.elapsed() < Duration::from_secs(10) {
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        std::thread::sleep(Duration::from_millis(100));
    }
    process.hear("takes traces again");
    assert_eq!(process.said.matches("does not take traces").count(), 1, "{}", process.said);
}

#[test]
fn the_variables_that_every_opentelemetry_program_reads_are_enough() {
    let directory = tempfile::tempdir().unwrap();
    let mock = provider("ok");
    let collector = Collector::start(true);
    let text = format!(
        "providers: {{openai: {{keys: [sk-1], base_url: \"http://{}\"}}}}\nlisten: 127.0.0.1:0\nledger: off\n",
        mock.addr()
    );
    std::fs::write(directory.path().join("sluice.yaml"), text).unwrap();
    let endpoint = format!("http://{}", collector.addr);
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-token=of-the-variable"),
        ("OTEL_SERVICE_NAME", "llm-front"),
        ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=prod"),
    ];
    let process = Process::serve(directory.path(), &[], &variables);
    assert_eq!(Client::to(process.addr).post(CHATS, CHAT).status, 200);
    let spans = collector.wait_for(2);
    assert_eq!(spans.len(), 2);
    let resource = &spans[0].resource;
    assert_eq!(resource.get("service.name").map(String::as_str), Some("llm-front"));
    assert_eq!(resource.get("deployment.environment.name").map(String::as_str), Some("prod"));
    assert!(collector.raw()[0].0.contains("x-token: of-the-variable"), "{}", collector.raw()[0].0);
}
