//! The metrics page against what clients saw and what scripted providers counted.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use sluice::config::DriverChoice;
use sluice::gateway::Running;
use sluice::meter::protobuf::{self, MetricFamily};
use sluice::rehearsal::{Mock, MockOptions, Program};

use crate::binary::Process;
use crate::support::*;

const CHATS: &str = "/v1/chat/completions";

/// One page, as rows.
pub struct Page(pub String);

impl Page {
    pub fn of(addr: SocketAddr) -> Page {
        let got = Client::to(addr).get("/metrics");
        assert_eq!((got.status, got.whole), (200, true), "{}", got.text());
        assert_eq!(got.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Page(got.text())
    }

    /// The sum of all rows called `name` that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let rows = self.0.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (own, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let own = format!(",{own},");
            let fits = |(n, v): &(&str, &str)| own.contains(&format!(",{n}=\"{v}\","));
            labels.iter().all(fits).then(|| value.parse::<f64>().unwrap())
        });
        rows.sum()
    }

    /// The value of the one row with this name and these labels, in whatever order.
    fn exactly(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let mut wanted: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        wanted.sort();
        self.0.lines().find_map(|line| {
            let rest = line.strip_prefix(name)?;
            let (own, value) = match rest.strip_prefix('{') {
                Some(rest) => rest.rsplit_once("} ")?,
                None => ("", rest.strip_prefix(' ')?),
            };
            let mut own: Vec<String> =
                own.split(',').filter(|label| !label.is_empty()).map(as_rust_writes_it).collect();
            own.sort_unstable();
            (own == wanted).then(|| value.parse().unwrap())
        })
    }

    pub fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        self.sum(name, labels) as u64
    }
}

/// A label, with the end of a range in one way to write numbers: `5e-6` is `0.000005`.
fn as_rust_writes_it(label: &str) -> String {
    let end = label.strip_prefix("le=\"").and_then(|rest| rest.strip_suffix('"')?.parse::<f64>().ok());
    end.map_or_else(|| label.to_owned(), |end| format!("le=\"{end:?}\""))
}

/// The page once `done`: an exchange is booked when it is over, a moment after its client has the answer.
fn page_when(gateway: &Running, done: impl Fn(&Page) -> bool) -> Page {
    let begun = Instant::now();
    loop {
        let page = Page::of(gateway.addr());
        if done(&page) || begun.elapsed() > Duration::from_secs(10) {
            return page;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn page_of(gateway: &Running, requests: u64) -> Page {
    let page = page_when(gateway, |page| page.count("sluice_requests_total", &[]) >= requests);
    assert_eq!(page.count("sluice_requests_total", &[]), requests, "{}", page.0);
    page
}

fn program(text: &str) -> Program {
    Program::parse(text).unwrap()
}

/// Prompt and output tokens that an answer reports.
fn usage(got: &Got) -> (u64, u64) {
    let text = got.text();
    let last = text.lines().rev().find(|line| line.contains("\"usage\":{")).unwrap_or(&text);
    let json: serde_json::Value = serde_json::from_str(last.trim_start_matches("data: ")).unwrap();
    let of = |name: &str| json["usage"][name].as_u64().unwrap_or(0);
    (of("prompt_tokens"), of("completion_tokens"))
}

fn tokens(page: &Page, provider: &str) -> (u64, u64) {
    let of = |kind| page.count("sluice_tokens_total", &[("provider", provider), ("type", kind)]);
    (of("input_uncached") + of("cache_read") + of("cache_write"), of("output_text") + of("reasoning"))
}

#[test]
fn after_traffic_with_faults_the_numbers_are_those_of_clients_and_providers() {
    each_driver(|driver| {
        let (openai, backup) = (provider("status:503,every=3"), provider("status:429,every=7"));
        let gateway = chain(openai.addr(), Some(backup.addr()), driver, &["workers=2"]);
        let stream = CHAT_STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        let (mut answered, mut failed, mut tokens_seen, mut cost) = (0u64, 0u64, (0, 0), 0.0);
        for n in 0..90 {
            // A connection each, so that both workers have some.
            let body = if n % 2 == 0 { CHAT } else { &stream };
            let got = Client::to(gateway.addr()).post(CHATS, body);
            if got.status == 200 {
                assert!(got.whole);
                let (input, output) = usage(&got);
                tokens_seen = (tokens_seen.0 + input, tokens_seen.1 + output);
                cost += got.header("x-sluice-cost-usd").map_or(0.0, |usd| usd.parse::<f64>().unwrap());
                answered += 1;
            } else {
                failed += 1;
            }
        }
        let page = page_of(&gateway, 90);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "ok"), ("status", "200")]), answered);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "upstream_error")]), failed);
        assert_eq!(page.count("sluice_requests_total", &[("stream", "true")]), 45);
        let of = |mock: &Mock| (mock.counts().tokens_in, mock.counts().tokens_out);
        for (name, mock) in [("openai", &openai), ("backup", &backup)] {
            assert_eq!(tokens(&page, name), of(mock), "{name}");
            let attempts = page.count("sluice_upstream_attempts_total", &[("provider", name)]);
            assert_eq!(attempts, mock.counts().requests, "{name}\n{}", page.0);
            for (status, n) in mock.counts().statuses {
                let result = if status == 200 { "ok".to_owned() } else { status.to_string() };
                let labels = [("provider", name), ("result", result.as_str())];
                assert_eq!(page.count("sluice_upstream_attempts_total", &labels), n, "{name} {status}");
            }
        }
        let (a, b) = (of(&openai), of(&backup));
        assert_eq!((a.0 + b.0, a.1 + b.1), tokens_seen);
        // Whole answers carry their cost; the page has that of streams too, at the same price.
        let paid = page.sum("sluice_cost_usd_total", &[("provider", "openai"), ("model", "gpt-4o-mini")]);
        let (input, output) = a;
        let expected = input as f64 * 0.15e-6 + output as f64 * 0.6e-6;
        assert!((paid - expected).abs() < 1e-9, "{paid} {expected}");
        assert!(cost > 0.0 && cost < paid);
        // Nobody has a price for `backup`, which is not free.
        let unpriced = page.count("sluice_unpriced_requests_total", &[("provider", "backup")]);
        assert_eq!(unpriced, backup.counts().completed);
        assert_eq!(page.sum("sluice_cost_usd_total", &[("provider", "backup")]), 0.0);
        assert_eq!(page.count("sluice_request_tokens_count", &[("type", "output")]), answered);
        assert_eq!(page.count("sluice_request_tokens_sum", &[("type", "input")]), tokens_seen.0);
        assert_eq!(page.count("sluice_request_duration_seconds_count", &[]), 90);
        assert!(page.count("sluice_overhead_seconds_count", &[]) > 0);
        for core in ["0", "1"] {
            assert!(page.0.contains(&format!("sluice_requests_received_total{{core=\"{core}\"}}")));
        }
    });
}

#[test]
fn streams_are_measured_from_their_first_token_to_their_last() {
    each_driver(|driver| {
        let openai = provider("first-event-late:120ms; slow:+0ms");
        let gateway = chain(openai.addr(), None, driver, &[]);
        for _ in 0..3 {
            assert!(Client::to(gateway.addr()).post(CHATS, CHAT_STREAM).whole);
        }
        assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT).status, 200);
        let page = page_of(&gateway, 4);
        let target = [("model", "gpt-4o-mini"), ("provider", "openai")];
        assert_eq!(page.count("sluice_time_to_first_token_seconds_count", &target), 3);
        let first = page.sum("sluice_time_to_first_token_seconds_sum", &target);
        assert!((0.36..30.0).contains(&first), "{first}");
        assert_eq!(page.count("sluice_time_per_output_token_seconds_count", &target), 3);
        assert_eq!(tokens(&page, "openai"), (openai.counts().tokens_in, openai.counts().tokens_out));
    });
}

#[test]
fn a_stream_without_usage_is_missing_and_not_free() {
    each_driver(|driver| {
        let openai = provider("no-usage");
        let gateway = chain(openai.addr(), None, driver, &[]);
        assert!(Client::to(gateway.addr()).post(CHATS, CHAT_STREAM).whole);
        let page = page_of(&gateway, 1);
        assert_eq!(page.count("sluice_usage_missing_total", &[("provider", "openai")]), 1);
        assert_eq!(page.count("sluice_unpriced_requests_total", &[]), 0);
        assert_eq!(tokens(&page, "openai"), (0, 0));
    });
}

#[test]
fn streams_that_break_or_fall_silent_are_told_apart() {
    each_driver(|driver| {
        let openai = provider("cut:after=3");
        let gateway = chain(openai.addr(), None, driver, &["timeouts.token_gap=150ms"]);
        assert!(!Client::to(gateway.addr()).post(CHATS, CHAT_STREAM).whole);
        let page = page_of(&gateway, 1);
        let by = [("provider", "openai")];
        assert_eq!(page.count("sluice_stream_truncated_total", &by), 1);
        assert_eq!(page.count("sluice_stream_stalls_total", &by), 0);
        assert_eq!(
            page.count("sluice_requests_total", &[("outcome", "upstream_error"), ("status", "200")]),
            1
        );
        openai.program(program("stall:20s,after=3"));
        assert!(!Client::to(gateway.addr()).post(CHATS, CHAT_STREAM).whole);
        let page = page_of(&gateway, 2);
        assert_eq!(page.count("sluice_stream_stalls_total", &by), 1);
        assert_eq!(page.count("sluice_stream_truncated_total", &by), 2);
        let stalled = [("result", "token_gap_timeout"), ("reason", "first")];
        assert_eq!(page.count("sluice_upstream_attempts_total", &stalled), 1);
    });
}

#[test]
fn a_client_that_leaves_is_aborted_and_what_its_call_may_cost_is_estimated() {
    each_driver(|driver| {
        let openai = provider("stall:20s,after=3");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        client.send(&request(CHATS, "", CHAT_STREAM));
        assert!(client.read_until(b"\"content\""));
        let running = Page::of(gateway.addr());
        assert_eq!(running.count("sluice_streams", &[]), 1);
        assert_eq!(running.count("sluice_requests_total", &[]), 0);
        drop(client);
        openai.program(program("hang"));
        let mut impatient = Client::to(gateway.addr());
        impatient.send(&request(CHATS, "", CHAT));
        std::thread::sleep(Duration::from_millis(200));
        drop(impatient);
        let page = page_of(&gateway, 2);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "aborted"), ("status", "200")]), 1);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "aborted"), ("status", "0")]), 1);
        assert_eq!(page.count("sluice_upstream_attempts_total", &[("result", "cancelled")]), 2);
        assert_eq!(page.count("sluice_client_aborts_total", &[]), 2);
        assert_eq!(page.count("sluice_usage_missing_total", &[]), 1, "some of one answer was delivered");
        let wasted = [("kind", "aborted"), ("basis", "estimated"), ("provider", "openai")];
        assert!(page.sum("sluice_wasted_cost_usd_total", &wasted) > 0.0, "{}", page.0);
        assert_eq!(page.count("sluice_streams", &[]), 0);
        assert_eq!(openai.counts().requests, page.count("sluice_upstream_attempts_total", &[]));
    });
}

#[test]
fn a_hedge_that_wins_shows_as_one_and_its_loser_has_a_price() {
    each_driver(|driver| {
        let (first, second) = (provider("ok"), provider("ok"));
        let text = format!(
            "providers:\n  first:\n    base_url: http://{}\n  second:\n    base_url: http://{}\n\
             models:\n  first/gpt-4o-mini: {{price: {{input: 1.0, output: 2.0}}}}\n\
             fallbacks:\n  - model: first/gpt-4o-mini\n    targets: [second/gpt-4o-mini]\n    \
             hedge: {{percent: 50, delay_min: 100ms}}\n",
            first.addr(),
            second.addr(),
        );
        let gateway = gateway(plan(&text, &[], driver, &[]));
        let body = CHAT.replace("openai/", "first/");
        for _ in 0..60 {
            assert_eq!(Client::to(gateway.addr()).post(CHATS, &body).status, 200);
        }
        first.program(program("hang"));
        let got = Client::to(gateway.addr()).post(CHATS, &body);
        assert_eq!(got.header("x-sluice-provider"), Some("second"));
        let page = page_of(&gateway, 61);
        let hedge = [("reason", "hedge"), ("result", "ok"), ("provider", "second")];
        assert_eq!(page.count("sluice_upstream_attempts_total", &hedge), 1);
        let lost = [("reason", "first"), ("result", "cancelled"), ("provider", "first")];
        assert_eq!(page.count("sluice_upstream_attempts_total", &lost), 1);
        assert_eq!(page.count("sluice_hedges_won_total", &[]), 1);
        let wasted = [("kind", "hedge"), ("basis", "estimated"), ("provider", "first")];
        assert!(page.sum("sluice_wasted_cost_usd_total", &wasted) > 0.0, "{}", page.0);
        let labels = [("provider", "second"), ("route", "first/gpt-4o-mini"), ("outcome", "ok")];
        assert_eq!(page.count("sluice_requests_total", &labels), 1, "{}", page.0);
    });
}

#[test]
fn an_answer_that_fails_its_check_is_paid_for_and_shows_what_for() {
    each_driver(|driver| {
        let openai = provider("ok");
        let text = format!(
            "providers:\n  openai:\n    keys: [sk-first]\n    base_url: http://{}\n\
             fallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [static/heuristic]\n    checks: [json]\n\
             static:\n  heuristic: {{content: '{{}}'}}\n",
            openai.addr()
        );
        let gateway = gateway(plan(&text, &[], driver, &[]));
        for body in [CHAT, CHAT_STREAM] {
            assert_eq!(Client::to(gateway.addr()).post(CHATS, body).status, 200);
        }
        let page = page_of(&gateway, 2);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "ok"), ("provider", "")]), 2);
        assert_eq!(page.count("sluice_static_answers_total", &[]), 2);
        let failed = [("result", "check_failed")];
        assert_eq!(page.count("sluice_upstream_attempts_total", &failed), 2);
        let counts = openai.counts();
        let wasted = page.count("sluice_wasted_tokens_total", &[("kind", "failed"), ("provider", "openai")]);
        assert_eq!(wasted, counts.tokens_in + counts.tokens_out);
        let cost = page.sum("sluice_wasted_cost_usd_total", &[("basis", "reported"), ("kind", "failed")]);
        let expected = counts.tokens_in as f64 * 0.15e-6 + counts.tokens_out as f64 * 0.6e-6;
        assert!((cost - expected).abs() < 3e-9, "{cost} {expected}");
        assert_eq!(tokens(&page, "openai"), (0, 0));
    });
}

#[test]
fn what_the_gateway_turns_away_is_counted_by_its_reason_and_no_provider_is_asked() {
    each_driver(|driver| {
        let openai = provider("ok");
        let gateway = chain(openai.addr(), None, driver, &["auth.0.value=sk-client", "limits.body=1KiB"]);
        let auth = "Authorization: Bearer sk-client\r\n";
        let post = |headers: &str, body: &str| Client::to(gateway.addr()).post_with(CHATS, headers, body);
        assert_eq!(
            Client::to(gateway.addr()).get("/metrics").status,
            401,
            "the page is guarded as the rest is"
        );
        assert_eq!(post("", CHAT).status, 401);
        assert_eq!(post(auth, "{").status, 400);
        assert_eq!(post(auth, &CHAT.replace("openai/gpt-4o-mini", "nobody/x")).status, 404);
        assert_eq!(post(auth, &"x".repeat(1025)).status, 413);
        let mut client = Client::to(gateway.addr());
        let mut get = |path: &str| {
            client.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n").as_bytes());
            client.read()
        };
        assert_eq!(get("/nothing").status, 404);
        let page = Page(get("/metrics").text());
        for (reason, n) in [
            ("invalid_api_key", 2),
            ("invalid_json", 1),
            ("model_not_found", 1),
            ("request_too_large", 1),
            ("not_found", 1),
        ] {
            assert_eq!(page.count("sluice_rejected_total", &[("reason", reason)]), n, "{reason}\n{}", page.0);
        }
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "rejected")]), 6);
        assert_eq!(page.count("sluice_requests_total", &[]), 6);
        assert!(!page.0.contains("nobody"), "a name that nobody has takes no label");
        assert_eq!(openai.counts().requests, 0);
    });
}

#[test]
fn a_caller_s_mistake_is_the_caller_s_and_a_limited_key_shows_as_resting() {
    each_driver(|driver| {
        let openai = provider("context-length:times=1 then brownout:rate=1,retry-after=60");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let post = || Client::to(gateway.addr()).post(CHATS, CHAT).status;
        assert_eq!((post(), post()), (400, 429));
        let page = page_of(&gateway, 2);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "client_error"), ("status", "400")]), 1);
        assert_eq!(
            page.count("sluice_requests_total", &[("outcome", "upstream_error"), ("status", "429")]),
            1
        );
        let key = [("provider", "openai"), ("key", "key-1")];
        let left = page.sum("sluice_key_cooldown_seconds", &key);
        assert!((50.0..67.0).contains(&left), "{left}\n{}", page.0);
        // With its only key resting, the next request is not even tried.
        assert_eq!(post(), 429);
        let page = page_of(&gateway, 3);
        assert_eq!(page.count("sluice_rejected_total", &[("reason", "keys_cooling")]), 1, "{}", page.0);
        assert!(page.count("sluice_targets_skipped_total", &[("reason", "keys_cooling")]) >= 1);
        assert_eq!(openai.counts().requests, page.count("sluice_upstream_attempts_total", &[]));
    });
}

#[test]
fn an_outage_shows_at_the_breaker() {
    each_driver(|driver| {
        let openai = provider("down:503");
        let gateway = chain(openai.addr(), None, driver, &["breaker.open_min=30s"]);
        for _ in 0..6 {
            assert!(Client::to(gateway.addr()).post(CHATS, CHAT).status >= 500);
        }
        let page = page_of(&gateway, 6);
        let target = [("provider", "openai"), ("model", "gpt-4o-mini")];
        assert_eq!(page.count("sluice_breaker_state", &target), 2, "{}", page.0);
        assert_eq!(page.count("sluice_breaker_transitions_total", &target), 1);
        assert_eq!(
            page.count("sluice_upstream_attempts_total", &[("result", "503")]),
            openai.counts().requests
        );
    });
}

const OF_OTHERS: &str = "who: {labels: [pipeline, team, branch], dims: [branch], \
    aliases: {pipeline: [x-bf-dim-pipeline], team: [x-litellm-tags], branch: [x-buildkite-branch]}}\n";

#[test]
fn who_asked_is_told_by_own_and_by_foreign_headers_and_providers_see_none_of_them() {
    each_driver(|driver| {
        let openai = provider("ok");
        let text = format!(
            "providers:\n  openai:\n    keys: [sk-first]\n    base_url: http://{}\n{OF_OTHERS}",
            openai.addr()
        );
        let gateway = gateway(plan(&text, &[], driver, &[]));
        let post = |headers: &str| {
            let got = Client::to(gateway.addr()).post_with(CHATS, headers, CHAT_STREAM);
            assert!(got.whole, "{}", got.text());
        };
        post(
            "x-sluice-pipeline: nightly\r\nX-Sluice-Team: infra\r\nx-sluice-dim-branch: main\r\nx-sluice-step: s\r\n",
        );
        post("x-bf-dim-pipeline: nightly\r\nx-litellm-tags: infra,other-tag\r\nx-buildkite-branch: main\r\n");
        post("x-sluice-pipeline: nightly\r\nx-bf-dim-pipeline: ignored\r\n");
        post("x-sluice-pipeline: bad\"value\r\n");
        post("");
        let page = page_of(&gateway, 5);
        let all = [("pipeline", "nightly"), ("team", "infra"), ("branch", "main")];
        for name in ["sluice_requests_total", "sluice_cost_usd_total"] {
            assert!(page.sum(name, &all) > 0.0, "{name}\n{}", page.0);
        }
        assert_eq!(page.count("sluice_requests_total", &all), 2);
        assert_eq!(page.count("sluice_requests_total", &[("pipeline", "nightly"), ("team", "")]), 1);
        assert_eq!(page.count("sluice_requests_total", &[("pipeline", "invalid")]), 1);
        assert_eq!(page.count("sluice_requests_total", &[("pipeline", "")]), 1);
        for seen in openai.requests() {
            for (name, value) in &seen.headers {
                let of_who = ["x-sluice", "x-bf", "x-litellm", "x-buildkite"];
                assert!(of_who.iter().all(|start| !name.starts_with(start)), "{name}: {value}");
                assert!(!value.contains("nightly") && !value.contains("infra"), "{name}: {value}");
            }
        }
    });
}

#[test]
fn kept_answers_and_retries_of_sdks_are_seen() {
    each_driver(|driver| {
        let openai = provider("ok");
        let gateway = chain(openai.addr(), None, driver, &[]);
        let post = |headers: &str| Client::to(gateway.addr()).post_with(CHATS, headers, CHAT).status;
        for headers in ["Idempotency-Key: a\r\n", "Idempotency-Key: a\r\n", "X-Stainless-Retry-Count: 2\r\n"]
        {
            assert_eq!(post(headers), 200);
        }
        let page = page_of(&gateway, 3);
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "ok")]), 3);
        assert_eq!(page.count("sluice_idempotent_replays_total", &[]), 1);
        assert_eq!(page.count("sluice_client_retries_total", &[]), 1);
        assert_eq!(page.count("sluice_upstream_attempts_total", &[]), openai.counts().requests);
    });
}

#[test]
fn the_page_may_be_elsewhere_or_off_and_comes_in_two_forms() {
    each_driver(|driver| {
        let openai = provider("ok");
        let off = chain(openai.addr(), None, driver, &["metrics=off"]);
        assert_eq!(Client::to(off.addr()).get("/metrics").status, 404);
        let elsewhere = chain(openai.addr(), None, driver, &["metrics.path=/internal/metrics"]);
        assert_eq!(Client::to(elsewhere.addr()).get("/metrics").status, 404);
        assert_eq!(Client::to(elsewhere.addr()).get("/internal/metrics").status, 200);
        let mut client = Client::to(elsewhere.addr());
        client.send(
            b"GET /internal/metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/openmetrics-text;version=1.0.0,*/*;q=0.1\r\n\r\n",
        );
        let got = client.read();
        assert!(got.header("content-type").unwrap().starts_with("application/openmetrics-text"));
        assert!(got.text().ends_with("# EOF\n"));
        client.send(b"HEAD /internal/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(client.read_head().contains("content-length: "));
        assert_eq!(client.get("/healthz").status, 200, "the connection goes on");
    });
}

/// The page as protobuf, as a Prometheus with native histograms asks for it.
fn protobuf_page(addr: SocketAddr) -> Vec<MetricFamily> {
    let mut client = Client::to(addr);
    client.send(
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.google.protobuf;\
          proto=io.prometheus.client.MetricFamily;encoding=delimited,application/openmetrics-text;version=1.0.0,\
          text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n\r\n",
    );
    let got = client.read();
    let kind = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";
    assert_eq!((got.status, got.header("content-type")), (200, Some(kind)));
    let (mut rest, mut all) = (&got.body[..], Vec::new());
    while !rest.is_empty() {
        all.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
    }
    all
}

/// How many values a native histogram has, by adding up its ranges.
fn native_total(histogram: &protobuf::Histogram) -> i64 {
    let ranges: u32 = histogram.positive_span.iter().map(|span| span.length()).sum();
    assert_eq!(ranges as usize, histogram.positive_delta.len());
    let mut count = 0;
    let counts = histogram.positive_delta.iter().map(|delta| {
        count += delta;
        assert!(count > 0, "a range without values");
        count
    });
    counts.sum::<i64>() + histogram.zero_count() as i64
}

#[test]
fn the_protobuf_page_says_what_the_text_says_and_has_native_histograms() {
    each_driver(|driver| {
        let (openai, backup) = (provider("status:503,every=4"), provider("ok"));
        let gateway = chain(openai.addr(), Some(backup.addr()), driver, &["workers=2"]);
        for n in 0..24 {
            let body = if n % 2 == 0 { CHAT } else { CHAT_STREAM };
            let who = format!("x-sluice-pipeline: p{}\r\n", n % 3);
            assert!(Client::to(gateway.addr()).post_with(CHATS, &who, body).whole);
        }
        let text = page_of(&gateway, 24);
        let families = protobuf_page(gateway.addr());
        let (mut rows, mut histograms) = (0, 0);
        for family in &families {
            assert!(
                text.0.contains(&format!("# HELP {} {}\n", family.name(), family.help())),
                "{}",
                family.name()
            );
            for metric in &family.metric {
                let labels: Vec<(&str, &str)> = metric.label.iter().map(|l| (l.name(), l.value())).collect();
                let said = |suffix: &str| text.exactly(&format!("{}{suffix}", family.name()), &labels);
                if let Some(histogram) = &metric.histogram {
                    assert_eq!(
                        said("_count"),
                        Some(histogram.sample_count() as f64),
                        "{} {labels:?}",
                        family.name()
                    );
                    let sum = said("_sum").unwrap();
                    assert!((histogram.sample_sum() - sum).abs() <= sum * 1e-12, "{}", family.name());
                    for bucket in &histogram.bucket {
                        let end = format!("{:?}", bucket.upper_bound());
                        let labels = [&[("le", end.as_str())], &labels[..]].concat();
                        let count = text.exactly(&format!("{}_bucket", family.name()), &labels);
                        assert_eq!(
                            count,
                            Some(bucket.cumulative_count() as f64),
                            "{} {labels:?}",
                            family.name()
                        );
                    }
                    assert_eq!(native_total(histogram), histogram.sample_count() as i64);
                    histograms += 1;
                    continue;
                }
                let value = metric.counter.or(metric.gauge).and_then(|number| number.value).unwrap();
                // What the pages themselves, the clock and the machine move is not compared.
                let moves = ["process_", "sluice_connections", "sluice_inflight", "sluice_requests_received"];
                if moves.iter().all(|start| !family.name().starts_with(start)) {
                    assert_eq!(said(""), Some(value), "{} {labels:?}", family.name());
                    rows += 1;
                }
            }
        }
        assert!(rows > 50 && histograms >= 10, "{rows} {histograms}");
        assert_eq!(families.len(), text.0.matches("# TYPE ").count());
    });
}

#[test]
fn thousands_of_pipelines_over_real_sockets_are_two_hundred_labels_and_no_more_memory() {
    let (few, many) = match std::env::var_os("SLUICE_METRICS_TESTS") {
        Some(_) => (2_000, 20_000),
        None => (500, 2_000),
    };
    let mock = Mock::start(MockOptions::default()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let set = format!("providers.openai.network_config.base_url=http://{}", mock.addr());
    let args = ["--listen", "127.0.0.1:0", "--workers", "2", "--set", &set, "--set", "ledger=off"];
    let process = Process::serve(directory.path(), &args, &[("OPENAI_API_KEY", "sk-1")]);
    let attack = |range: std::ops::Range<u64>| {
        std::thread::scope(|scope| {
            for client in 0..2 {
                let range = range.clone();
                scope.spawn(move || {
                    let mut connection = Client::to(process.addr);
                    for n in range.filter(|n| n % 2 == client) {
                        let who = format!("x-sluice-pipeline: attack-{n}\r\nx-sluice-team: t{n}\r\n");
                        assert_eq!(connection.post_with(CHATS, &who, CHAT).status, 200);
                    }
                });
            }
        });
        Page::of(process.addr)
    };
    let first = attack(0..few);
    let last = attack(few..many);
    let begun = Instant::now();
    let mut page = last;
    while page.count("sluice_requests_total", &[]) < many && begun.elapsed() < Duration::from_secs(10) {
        page = Page::of(process.addr);
    }
    assert_eq!(page.count("sluice_requests_total", &[]), many, "nothing is lost, it is only not told apart");
    assert_eq!(page.count("sluice_tokens_total", &[]), mock.counts().tokens_in + mock.counts().tokens_out);
    for label in ["pipeline", "team"] {
        let mut values: Vec<&str> = page
            .0
            .lines()
            .filter_map(|line| line.split(&format!("{label}=\"")).nth(1)?.split('"').next())
            .collect();
        values.sort_unstable();
        values.dedup();
        assert!(values.len() <= 200 && values.contains(&"other"), "{label}: {}", values.len());
        let told = values.len() as u64 - 1;
        assert_eq!(page.count("sluice_label_overflow_total", &[("dimension", label)]), many - told);
    }
    assert_eq!(
        first.0.matches("sluice_cost_usd_total{").count(),
        page.0.matches("sluice_cost_usd_total{").count()
    );
    let resident = |page: &Page| page.sum("process_resident_memory_bytes", &[]) / 1e6;
    println!(
        "{many} pipelines: {:.1} MB resident, {:.1} MB after {few}; the page has {} kB",
        resident(&page),
        resident(&first),
        page.0.len() / 1000
    );
    assert!(resident(&page) < resident(&first) + 4.0, "{} {}", resident(&first), resident(&page));
}

#[test]
fn a_reload_forgets_no_count() {
    each_driver(|driver: DriverChoice| {
        let openai = provider("ok");
        let text =
            format!("providers:\n  openai:\n    keys: [sk-1]\n    base_url: http://{}\n", openai.addr());
        let gateway = gateway(plan(&text, &[], driver, &[]));
        let post = || {
            let who = "x-sluice-pipeline: p\r\nx-sluice-dim-branch: b\r\n";
            assert_eq!(Client::to(gateway.addr()).post_with(CHATS, who, CHAT).status, 200);
        };
        post();
        assert_eq!(page_of(&gateway, 1).count("sluice_config_generation", &[]), 1);
        let more = format!("{text}who: {{dims: [branch], labels: [pipeline, branch]}}\n");
        gateway.reload(plan(&more, &[], driver, &[])).unwrap();
        post();
        let page = page_of(&gateway, 2);
        assert_eq!(page.count("sluice_config_generation", &[]), 2);
        assert_eq!(page.count("sluice_requests_total", &[("pipeline", "p")]), 2);
        assert_eq!(page.count("sluice_requests_total", &[("branch", "b")]), 1);
    });
}

#[test]
fn promtool_finds_nothing_wrong_with_the_page() {
    let (openai, backup) = (provider("status:503,every=3"), provider("ok"));
    let more = ["bulkhead.concurrent=50", "who.labels=[pipeline, team, step]"];
    let gateway = chain(openai.addr(), Some(backup.addr()), DriverChoice::Epoll, &more);
    for body in [CHAT, CHAT_STREAM, CHAT, "{", CHAT_STREAM, CHAT] {
        Client::to(gateway.addr()).post_with(CHATS, "x-sluice-pipeline: p q\r\n", body);
    }
    openai.program(program("cut:after=2"));
    Client::to(gateway.addr()).post(CHATS, CHAT_STREAM);
    let page = page_of(&gateway, 7).0;
    // Every family has rows here, but for those whose cause is too rare for a test as short as this.
    println!("{} families", page.matches("# TYPE ").count());
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(_) if std::env::var_os("SLUICE_METRICS_TESTS").is_none() => {
            println!("SKIPPED: promtool is not installed; `apt-get install prometheus` has it");
            return;
        }
        Err(e) => panic!("promtool: {e}"),
    };
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let out = promtool.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].concat();
    assert!(out.status.success() && said.is_empty(), "{}\n{page}", String::from_utf8_lossy(&said));
}
