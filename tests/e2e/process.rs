//! Reload, drain and the start.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sluice::config::DriverChoice;
use sluice::gateway::{self, ServeError};
use sluice::rehearsal::{Mock, MockOptions, Pacing};

use crate::raw::*;
use crate::support::*;

/// Streams ten events, a tenth of `lasting` apart.
fn slow_stream(lasting: Duration) -> Mock {
    let pacing = Pacing { token_gap: lasting / 10, tokens: 10, ..Pacing::instant() };
    Mock::start(MockOptions { pacing, capture: true, ..MockOptions::default() }).unwrap()
}

fn alone(at: &Mock, key: &str, driver: DriverChoice) -> sluice::config::Plan {
    let text = format!("providers: {{openai: {{keys: [{key}], base_url: \"http://{}\"}}}}", at.addr());
    plan(&text, &[], driver, &[])
}

fn key_of(mock: &Mock) -> String {
    mock.requests().last().map(|seen| seen.key.clone()).unwrap_or_default()
}

#[test]
fn a_reload_serves_the_next_exchange_and_leaves_the_running_one_alone() {
    each_driver(|driver| {
        let (old, new) = (slow_stream(Duration::from_millis(400)), provider("ok"));
        let gateway = gateway(alone(&old, "sk-before", driver));
        let mut streaming = Client::to(gateway.addr());
        let mut idle = Client::to(gateway.addr());
        assert_eq!(idle.get("/readyz").json()["plan"], 1);
        streaming.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        assert!(streaming.read_until(b"content"));
        assert_eq!(gateway.reload(alone(&new, "sk-after", driver)).unwrap(), 2);
        let got = idle.post("/v1/chat/completions", CHAT);
        assert_eq!((got.status, &*key_of(&new)), (200, "sk-after"), "{}", got.text());
        assert_eq!(idle.get("/readyz").json()["plan"], 2);
        // The stream goes on to its end at the provider of the old plan.
        let got = streaming.read();
        assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
        assert_eq!((old.counts().completed, &*key_of(&old)), (1, "k-before"));
        let got = streaming.post("/v1/chat/completions", CHAT);
        assert_eq!((got.status, old.counts().requests), (200, 1), "the same connection, the new plan");
    });
}

#[test]
fn once_a_reload_returns_every_worker_serves_the_new_plan() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = chain(mock.addr(), None, driver, &["workers=3"]);
        let mut clients: Vec<Client> = (0..12).map(|_| Client::to(gateway.addr())).collect();
        for round in 2..12 {
            assert_eq!(gateway.reload(alone(&mock, "sk-next", driver)).unwrap(), round);
            for client in &mut clients {
                assert_eq!(client.get("/readyz").json()["plan"], round);
            }
        }
    });
}

#[test]
fn a_plan_that_cannot_be_served_changes_nothing() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway(alone(&mock, "sk-before", driver));
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = format!(
            "extra_ca_files: [{}]\nproviders: {{openai: {{keys: [sk-after], base_url: \"https://localhost:1\"}}}}",
            file.path().display()
        );
        let broken = plan(&text, &[], driver, &[]);
        let why = gateway.reload(broken).unwrap_err();
        let name = file.path().display().to_string();
        assert!(matches!(&why, ServeError::Plan(text) if text.contains(&name)), "{why}");
        let mut client = Client::to(gateway.addr());
        assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
        assert_eq!(client.get("/readyz").json()["plan"], 1);
        // The next good one is the second, not the third.
        assert_eq!(gateway.reload(alone(&mock, "sk-after", driver)).unwrap(), 2);
    });
}

#[test]
fn a_key_that_a_reload_replaces_is_not_parked_for_what_the_old_one_did() {
    each_driver(|driver| {
        let keys = vec!["sk-good".to_owned()];
        let mock = Mock::start(MockOptions { keys, ..MockOptions::default() }).unwrap();
        let gateway = gateway(alone(&mock, "sk-bad", driver));
        let mut client = Client::to(gateway.addr());
        for _ in 0..3 {
            assert_ne!(client.post("/v1/chat/completions", CHAT).status, 200);
        }
        gateway.reload(alone(&mock, "sk-good", driver)).unwrap();
        let got = client.post("/v1/chat/completions", CHAT);
        assert_eq!(got.status, 200, "{}", got.text());
    });
}

#[test]
fn many_reloads_under_load_lose_nothing() {
    each_driver(|driver| {
        let (one, two) = (provider("ok"), provider("ok"));
        let gateway = gateway(alone(&one, "sk-one", driver));
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..3)
                .map(|_| {
                    let (addr, stop) = (gateway.addr(), &stop);
                    scope.spawn(move || {
                        let mut client = Client::to(addr);
                        let mut served = 0;
                        while !stop.load(std::sync::atomic::Ordering::Acquire) {
                            let body = if served % 2 == 0 { CHAT } else { CHAT_STREAM };
                            assert_eq!(client.post("/v1/chat/completions", body).status, 200);
                            served += 1;
                        }
                        served
                    })
                })
                .collect();
            for round in 0..40u64 {
                let next = if round % 2 == 0 { &two } else { &one };
                assert_eq!(gateway.reload(alone(next, "sk-next", driver)).unwrap(), round + 2);
                std::thread::sleep(Duration::from_millis(5));
            }
            stop.store(true, std::sync::atomic::Ordering::Release);
            let served: u64 = lanes.into_iter().map(|lane| lane.join().unwrap()).sum();
            assert_eq!(one.counts().completed + two.counts().completed, served);
        });
        assert_eq!(gateway.panics(), 0);
    });
}

#[test]
fn a_stop_lets_running_streams_end_and_takes_nobody_new() {
    each_driver(|driver| {
        let mock = slow_stream(Duration::from_millis(500));
        let gateway = gateway(alone(&mock, "sk-first", driver));
        let addr = gateway.addr();
        let mut idle = Client::to(addr);
        assert_eq!(idle.get("/healthz").status, 200);
        let mut streaming = Client::to(addr);
        streaming.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        assert!(streaming.read_until(b"content"));
        let begun = Instant::now();
        let stopping = std::thread::spawn(move || gateway.stop(Duration::from_secs(10)));
        // Connections that idle may be closed; one that asks once more is served and told to close.
        std::thread::sleep(Duration::from_millis(200));
        assert!(TcpStream::connect(addr).is_err(), "still listening");
        let got = streaming.read();
        assert!(got.whole && got.text().ends_with("data: [DONE]\n\n"), "{}", got.text());
        assert!(streaming.is_closed());
        stopping.join().unwrap().unwrap();
        let took = begun.elapsed();
        assert!(took < Duration::from_millis(2500), "{took:?}");
        assert!(idle.is_closed());
        assert_eq!(mock.counts().open_connections, 0);
    });
}

#[test]
fn a_stop_waits_for_a_request_that_is_still_coming_in() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway(alone(&mock, "sk-first", driver));
        let addr = gateway.addr();
        let bytes = request("/v1/chat/completions", "", CHAT);
        let (first, second) = bytes.split_at(bytes.len() - 20);
        let mut client = Client::to(addr);
        client.send(first);
        std::thread::sleep(Duration::from_millis(30));
        let stopping = std::thread::spawn(move || gateway.stop(Duration::from_secs(10)));
        std::thread::sleep(Duration::from_millis(150));
        client.send(second);
        let got = client.read();
        assert_eq!((got.status, got.header("connection")), (200, Some("close")), "{}", got.head);
        stopping.join().unwrap().unwrap();
    });
}

#[test]
fn a_stop_with_nothing_to_do_takes_no_time_and_one_with_too_much_keeps_its_limit() {
    each_driver(|driver| {
        let mock = provider("hang");
        let first = gateway(alone(&mock, "sk-first", driver));
        let mut idle = Client::to(first.addr());
        assert_eq!(idle.get("/healthz").status, 200);
        let begun = Instant::now();
        first.stop(Duration::from_secs(10)).unwrap();
        assert!(begun.elapsed() < Duration::from_millis(500), "{:?}", begun.elapsed());
        let second = gateway(alone(&mock, "sk-first", driver));
        let mut waiting = Client::to(second.addr());
        waiting.send(&request("/v1/chat/completions", "", CHAT));
        while mock.counts().in_progress == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        second.stop(Duration::from_millis(300)).unwrap();
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
        assert_eq!(waiting.read().status, 0);
        let gone = Instant::now();
        while mock.counts().cancelled == 0 {
            assert!(gone.elapsed() < Duration::from_secs(1), "the provider still works for nobody");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn readiness_ends_before_service_does() {
    each_driver(|driver| {
        let mock = slow_stream(Duration::from_millis(600));
        let gateway = gateway(alone(&mock, "sk-first", driver));
        let addr = gateway.addr();
        let mut probe = Client::to(addr);
        assert_eq!(probe.get("/readyz").status, 200);
        let mut streaming = Client::to(addr);
        streaming.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        assert!(streaming.read_until(b"content"));
        let stopping = std::thread::spawn(move || gateway.stop(Duration::from_secs(10)));
        std::thread::sleep(Duration::from_millis(100));
        let got = probe.get("/readyz");
        assert_eq!((got.status, &got.json()["status"]), (503, &"draining".into()));
        assert!(streaming.read().whole);
        stopping.join().unwrap().unwrap();
    });
}

#[test]
fn a_second_gateway_on_the_same_port_is_refused_with_what_to_do() {
    each_driver(|driver| {
        let mock = provider("ok");
        let first = gateway(alone(&mock, "sk-first", driver));
        let mut plan = alone(&mock, "sk-first", driver);
        plan.listen = first.addr();
        plan.workers = Some(2);
        let Err(why) = gateway::start(plan) else { panic!("two gateways on {}", first.addr()) };
        assert!(matches!(why, ServeError::Bind(..)));
        let text = why.to_string();
        assert!(text.contains(&first.addr().to_string()) && text.contains("--listen"), "{text}");
        // The port is free again once the first has stopped, at once.
        let addr = first.addr();
        first.stop(Duration::from_secs(1)).unwrap();
        let mut again = alone(&mock, "sk-first", driver);
        again.listen = addr;
        let again = gateway(again);
        assert_eq!(Client::to(again.addr()).post("/v1/chat/completions", CHAT).status, 200);
    });
}

#[test]
fn two_workers_share_a_port_and_both_serve() {
    each_driver(|driver| {
        let provider = Raw::start(|_, stream| {
            let body = "{\"choices\":[]}";
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            Then::Keep
        });
        let gateway = chain(provider.addr, None, driver, &["workers=2"]);
        let mut clients: Vec<Client> = (0..40).map(|_| Client::to(gateway.addr())).collect();
        for client in &mut clients {
            assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
        }
        // One connection of a core serves them one after the other; two cores have two.
        assert_eq!(provider.connections(), 2);
        drop(clients);
        gateway.stop(Duration::from_secs(1)).unwrap();
    });
}
