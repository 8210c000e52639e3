//! Clients that leave, and clients that do not read.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sluice::gateway::Running;
use sluice::rehearsal::Mock;

use crate::raw::*;
use crate::support::*;

/// A provider has to know by then that nobody waits any more.
const SOON: Duration = Duration::from_millis(100);

/// Waits until `done`, for a second at most; false when it never was.
fn within_a_second(mut done: impl FnMut() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() > Duration::from_secs(1) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// The time from `left` until the provider noticed.
fn noticed_after(provider: &Mock, left: Instant) -> Duration {
    assert!(within_a_second(|| provider.counts().cancelled > 0), "never noticed");
    provider.counts().cancellations[0].at.saturating_duration_since(left)
}

fn nothing_is_left(gateway: &Running) {
    assert!(within_a_second(|| gateway.connections() == 0), "{} connections", gateway.connections());
    assert_eq!(gateway.panics(), 0);
}

#[test]
fn a_client_that_leaves_before_the_first_token_stops_the_provider() {
    each_driver(|driver| {
        for (fault, body) in
            [("hang", CHAT), ("hang", CHAT_STREAM), ("hang:after=0", CHAT_STREAM), ("hang:bytes=300", CHAT)]
        {
            let mock = provider(fault);
            let gateway = chain(mock.addr(), None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            client.send(&request("/v1/chat/completions", "", body));
            assert!(within_a_second(|| mock.counts().in_progress == 1));
            std::thread::sleep(Duration::from_millis(20));
            let left = Instant::now();
            drop(client);
            let took = noticed_after(&mock, left);
            assert!(took < SOON, "{fault} on {driver:?}: {took:?}");
            nothing_is_left(&gateway);
            assert_eq!(gateway.cancelled(), 1);
            assert!(within_a_second(|| mock.counts().open_connections == 0), "{fault}: kept");
        }
    });
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_stream_stops_the_provider() {
    each_driver(|driver| {
        for how in [Shutdown::Both, Shutdown::Write] {
            let mock = provider("stall:20s,after=3");
            let gateway = chain(mock.addr(), None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            client.send(&request("/v1/chat/completions", "", CHAT_STREAM));
            assert!(client.read_until(b"content"));
            let left = Instant::now();
            client.stream.shutdown(how).unwrap();
            let took = noticed_after(&mock, left);
            assert!(took < SOON, "{how:?} on {driver:?}: {took:?}");
            drop(client);
            nothing_is_left(&gateway);
        }
    });
}

#[test]
fn the_next_request_never_gets_the_answer_that_nobody_waited_for() {
    each_driver(|driver| {
        let provider = Raw::start(|asked, stream| {
            let seed = crate::streams::seed_of(asked);
            if seed == 1 {
                std::thread::sleep(Duration::from_millis(150));
            }
            let body = format!(
                r#"{{"object":"chat.completion","choices":[{{"index":0,"finish_reason":"stop","message":{{"role":"assistant","content":"{seed}"}}}}]}}"#
            );
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len());
            Then::Keep
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let ask = |seed: u32| CHAT.replacen('{', &format!("{{\"seed\":{seed},"), 1);
        let mut hasty = Client::to(gateway.addr());
        hasty.send(&request("/v1/chat/completions", "", &ask(1)));
        assert!(within_a_second(|| !provider.asked().is_empty()));
        drop(hasty);
        nothing_is_left(&gateway);
        let mut patient = Client::to(gateway.addr());
        for seed in 2..6 {
            let got = patient.post("/v1/chat/completions", &ask(seed));
            assert_eq!(got.json()["choices"][0]["message"]["content"], seed.to_string());
            std::thread::sleep(Duration::from_millis(40));
        }
        assert_eq!(provider.connections(), 2, "the abandoned connection is closed, the next one is kept");
    });
}

#[test]
fn a_client_that_leaves_during_its_upload_costs_no_call() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = chain(mock.addr(), None, driver, &[]);
        let whole = request("/v1/chat/completions", "", CHAT);
        for part in [10, whole.len() - CHAT.len(), whole.len() - 5] {
            let mut client = Client::to(gateway.addr());
            client.send(&whole[..part]);
            std::thread::sleep(Duration::from_millis(10));
            drop(client);
            nothing_is_left(&gateway);
        }
        assert_eq!(mock.counts().connections, 0);
    });
}

#[test]
fn a_client_that_leaves_while_its_request_is_sent_on_ends_the_sending() {
    each_driver(|driver| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gateway = chain(listener.local_addr().unwrap(), None, driver, &[]);
        let text = "x".repeat(24 << 20);
        let body = CHAT.replace("Say hello", &text);
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", &body));
        // The provider accepts and reads nothing: the request does not fit between the two.
        let (mut upstream, _) = listener.accept().unwrap();
        upstream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let left = Instant::now();
        drop(client);
        nothing_is_left(&gateway);
        let mut got = 0;
        let mut chunk = vec![0; 1 << 20];
        loop {
            match upstream.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => got += n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        assert!(got < body.len(), "all of it was sent");
        assert!(left.elapsed() < Duration::from_millis(300), "{:?}", left.elapsed());
    });
}

#[test]
fn a_client_that_leaves_while_its_provider_is_dialled_is_forgotten() {
    each_driver(|driver| {
        let mock = provider("blackhole");
        let gateway = chain(mock.addr(), None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", CHAT));
        assert!(within_a_second(|| gateway.requests() == 1));
        std::thread::sleep(Duration::from_millis(20));
        drop(client);
        nothing_is_left(&gateway);
    });
}

#[test]
fn a_client_that_does_not_read_pauses_its_provider() {
    const PIECE: usize = 64 * 1024;
    const PIECES: usize = 1024;
    each_driver(|driver| {
        let written = Arc::new(AtomicUsize::new(0));
        let count = written.clone();
        let provider = Raw::start(move |_, stream| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            let _ = stream.write_all(head.as_bytes());
            let frame = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"\"}}]}\n\n";
            let text = "z".repeat(PIECE - frame.len());
            let event = frame.replace("\"\"", &format!("\"{text}\""));
            for _ in 0..PIECES {
                if stream.write_all(event.as_bytes()).is_err() {
                    return Then::Close;
                }
                count.fetch_add(PIECE, Ordering::AcqRel);
            }
            let _ = stream.write_all(b"data: [DONE]\n\n");
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        // Until nothing moves any more: all that is under way lies in the kernel's buffers of three sockets.
        let mut before = 1;
        assert!(within_a_second(|| {
            std::thread::sleep(Duration::from_millis(60));
            let now = written.load(Ordering::Acquire);
            now > 0 && std::mem::replace(&mut before, now) == now
        }));
        let paused = written.load(Ordering::Acquire);
        println!("{driver:?}: the provider was paused after {} KiB", paused / 1024);
        assert!(paused < 24 << 20, "{paused} bytes were taken from the provider for nobody");
        let got = client.read();
        assert!(got.whole, "{} bytes", got.body.len());
        assert_eq!(got.body.len(), PIECE * PIECES + "data: [DONE]\n\n".len());
    });
}

#[test]
fn a_client_that_leaves_during_a_retrys_backoff_costs_no_further_call_and_no_place() {
    each_driver(|driver| {
        for body in [CHAT, CHAT_STREAM] {
            let mock = provider("status:503,times=1 then ok");
            let more = [
                "providers.openai.network_config.max_retries=1",
                "providers.openai.network_config.retry_backoff_initial=1500ms",
                "providers.openai.concurrency_and_buffer_size.concurrency=1",
                "providers.openai.concurrency_and_buffer_size.buffer_size=0",
            ];
            let gateway = chain(mock.addr(), None, driver, &more);
            let mut client = Client::to(gateway.addr());
            client.send(&request("/v1/chat/completions", "", body));
            assert!(within_a_second(|| mock.counts().refused == 1));
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!((gateway.connections(), gateway.cancelled()), (1, 0), "it waits");
            drop(client);
            nothing_is_left(&gateway);
            assert_eq!(gateway.cancelled(), 1);
            // The only place is free at once, and nobody calls when the wait would have been over.
            let mut next = Client::to(gateway.addr());
            assert_eq!(next.post("/v1/chat/completions", body).status, 200);
            std::thread::sleep(Duration::from_millis(1800));
            assert_eq!(mock.counts().requests, 2);
            // One who stays gets the answer of the retry.
            mock.program(sluice::rehearsal::Program::parse("status:503,times=1 then ok").unwrap());
            let begun = Instant::now();
            assert_eq!(next.post("/v1/chat/completions", body).status, 200);
            assert!(begun.elapsed() > Duration::from_millis(500), "there was no wait");
            assert_eq!(mock.counts().requests, 4);
        }
    });
}

#[test]
fn a_client_that_pipelines_more_than_is_kept_gets_every_answer_in_order() {
    const BEHIND: usize = 120;
    each_driver(|driver| {
        for first in [CHAT, CHAT_STREAM] {
            let mock = provider("slow:+400ms,times=1 then ok");
            let gateway = chain(mock.addr(), None, driver, &[]);
            let mut client = Client::to(gateway.addr());
            let mut writer = client.stream.try_clone().unwrap();
            let mut all = request("/v1/chat/completions", "", first);
            for n in 0..BEHIND {
                let text = format!("Say number {n}. {}", "x".repeat(4000));
                all.extend(request("/v1/chat/completions", "", &CHAT.replace("Say hello", &text)));
            }
            assert!(all.len() > 6 * 64 * 1024);
            // By a thread of its own: the gateway stops reading while the first request is served.
            let sending = std::thread::spawn(move || writer.write_all(&all).unwrap());
            assert_eq!(client.read().status, 200);
            for n in 0..BEHIND {
                let got = client.read();
                let text = got.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
                assert!(text.contains(&format!("number {n}.")), "answer {n}: {text}");
            }
            sending.join().unwrap();
            assert_eq!(mock.counts().completed as usize, BEHIND + 1);
            assert_eq!(gateway.panics(), 0);
        }
    });
}
