//! Limits and bounds of the configuration: what is at one passes, what is past it does not.

use std::io::Write;
use std::time::{Duration, Instant};

use sluice::config::DriverChoice;
use sluice::gateway::Running;

use crate::framing::exchange;
use crate::raw::*;
use crate::support::*;

const ANSWER: &str = r#"{"object":"chat.completion","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"ok"}}]}"#;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers after `pause`, again and again on one connection.
fn patient(pause: Duration) -> Raw {
    Raw::start(move |_, stream| {
        std::thread::sleep(pause);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{ANSWER}", ANSWER.len());
        Then::Keep
    })
}

/// Waits until `done`, for ten seconds at most; false when it never was.
fn soon(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

#[test]
fn a_head_may_be_as_long_as_the_file_allows_and_no_longer() {
    const START: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    let fields = |n: usize| format!("{START}{}\r\n", "X-A: b\r\n".repeat(n - 2));
    let sized = |n: usize| format!("{START}X: {}\r\n\r\n", "a".repeat(n - START.len() - 7));
    let line = |n: usize| START.replacen("/healthz", &format!("/healthz?{}", "q".repeat(n - 22)), 1) + "\r\n";
    each_driver(|driver| {
        let mock = provider("ok");
        let more = ["limits.head=2KiB", "limits.head_fields=20", "limits.request_line=512"];
        let gateway = chain(mock.addr(), None, driver, &more);
        for (name, bytes, status) in [
            ("20 fields", fields(20), 200),
            ("21 fields", fields(21), 431),
            ("2 KiB", sized(2048), 200),
            ("2 KiB and a byte", sized(2049), 431),
            ("a line of 512 bytes", line(512), 200),
            ("a line of 513 bytes", line(513), 414),
            ("a head without end", format!("{START}X: {}", "a".repeat(100_000)), 431),
        ] {
            let answers = exchange(gateway.addr(), bytes.as_bytes(), PATIENCE);
            assert_eq!((answers.statuses(), answers.closed), (vec![status], true), "{name}");
        }
        let wide = ["limits.head=1MiB", "limits.head_fields=128", "limits.request_line=64KiB"];
        let gateway = chain(mock.addr(), None, driver, &wide);
        for (name, bytes) in [
            ("128 fields", fields(128)),
            ("a whole MiB", sized(1 << 20)),
            ("a line of 64 KiB", line(64 << 10)),
            ("a long name", format!("{START}{}: x\r\n\r\n", "n".repeat(65_535))),
        ] {
            let answers = exchange(gateway.addr(), bytes.as_bytes(), PATIENCE);
            assert_eq!(answers.statuses(), [200], "{name}");
        }
        let name = format!("{START}{}: x\r\n\r\n", "n".repeat(65_536));
        assert_eq!(exchange(gateway.addr(), name.as_bytes(), PATIENCE).statuses(), [400]);
    });
}

#[test]
fn a_providers_head_may_be_as_long_as_the_file_allows_and_no_longer() {
    let answer = |extra: &str| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";
        format!("{head}Content-Length: {}\r\n{extra}\r\n{ANSWER}", ANSWER.len())
    };
    let sized = |n: usize| {
        let rest = answer("X: \r\n").len() - ANSWER.len();
        answer(&format!("X: {}\r\n", "a".repeat(n - rest)))
    };
    let interim = |n: usize| "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(n) + &answer("");
    each_driver(|driver| {
        for (name, bytes, status) in [
            ("10 fields", answer(&"X: y\r\n".repeat(7)), 200),
            ("11 fields", answer(&"X: y\r\n".repeat(8)), 502),
            ("2 KiB", sized(2048), 200),
            ("2 KiB and a byte", sized(2049), 502),
            ("2 interim answers", interim(2), 200),
            ("3 interim answers", interim(3), 502),
        ] {
            let provider = Raw::says(bytes);
            let more =
                ["limits.upstream_head=2KiB", "limits.upstream_head_fields=10", "limits.interim_responses=2"];
            let gateway = chain(provider.addr, None, driver, &more);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
            assert_eq!(got.status, status, "{name}: {}", got.text());
        }
        let provider = Raw::says(sized(1 << 20));
        let gateway = chain(provider.addr, None, driver, &["limits.upstream_head=1MiB"]);
        assert_eq!(Client::to(gateway.addr()).post("/v1/chat/completions", CHAT).status, 200);
    });
}

#[test]
fn an_idle_connection_to_a_provider_is_closed_when_the_file_says_so() {
    each_driver(|driver| {
        // The provider's own word counts more than the file's at the top.
        for more in [
            &["timeouts.upstream_idle=300ms"][..],
            &[
                "timeouts.upstream_idle=1h",
                "providers.openai.network_config.keep_alive_timeout_in_seconds=300ms",
            ],
        ] {
            let mock = provider("ok");
            let gateway = chain(mock.addr(), None, driver, more);
            let mut client = Client::to(gateway.addr());
            for _ in 0..2 {
                assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
            }
            assert_eq!(mock.counts().connections, 1, "kept between two calls");
            assert!(soon(|| mock.counts().open_connections == 0), "still open");
            assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
            assert_eq!(mock.counts().connections, 2);
        }
        let mock = provider("ok");
        let gateway = chain(mock.addr(), None, driver, &[]);
        assert_eq!(Client::to(gateway.addr()).post("/v1/chat/completions", CHAT).status, 200);
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(mock.counts().open_connections, 1, "the default is longer");
    });
}

const BOUND: &str = "providers.openai.network_config.max_conns_per_host=";

fn bounded(provider: &Raw, most: usize, driver: DriverChoice) -> Running {
    // However slow the machine is, a place comes free within that.
    chain(provider.addr, None, driver, &["workers=2", "bulkhead.queue_wait=15s", &format!("{BOUND}{most}")])
}

#[test]
fn a_provider_never_has_more_connections_than_the_file_allows() {
    each_driver(|driver| {
        let provider = patient(Duration::from_millis(5));
        let gateway = bounded(&provider, 2, driver);
        let served = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..6)
                .map(|_| {
                    scope.spawn(|| {
                        let mut served = 0;
                        for _ in 0..10 {
                            // A connection anew each time, so that both cores have clients.
                            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
                            assert_eq!(got.status, 200, "{}", got.text());
                            served += 1;
                        }
                        served
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<usize>()
        });
        assert_eq!(served, 60);
        assert!(provider.most_open() <= 2, "{} connections at a time", provider.most_open());
    });
}

#[test]
fn one_connection_serves_every_core_in_turn() {
    each_driver(|driver| {
        let provider = patient(Duration::ZERO);
        let gateway = bounded(&provider, 1, driver);
        for _ in 0..20 {
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
            assert_eq!(got.status, 200, "{}", got.text());
        }
        assert_eq!(provider.most_open(), 1);
        assert!(provider.connections() > 1, "both cores had requests");
    });
}

#[test]
fn the_process_has_no_more_client_connections_than_the_file_allows_however_many_cores() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = chain(mock.addr(), None, driver, &["workers=2", "limits.connections=4"]);
        let mut clients: Vec<Client> = (0..4)
            .map(|_| {
                let mut client = Client::to(gateway.addr());
                assert_eq!(client.get("/healthz").status, 200);
                client
            })
            .collect();
        for _ in 0..8 {
            assert!(Client::to(gateway.addr()).is_closed(), "a fifth was taken");
        }
        assert_eq!(gateway.connections(), 4);
        for client in &mut clients {
            assert_eq!(client.get("/healthz").status, 200, "those that are in stay");
        }
        clients.pop();
        assert!(soon(|| gateway.connections() == 3));
        assert_eq!(Client::to(gateway.addr()).get("/healthz").status, 200);
    });
}
