//! Connections that come and go at random for a while: nothing leaks, nothing is mixed up, nothing panics.
//!
//! A binary of its own, because it counts the descriptors and the memory of its process. `SLUICE_SOAK_SECONDS` sets how
//! long each driver runs (4 without it).

// What a test unwraps, it asserts; what it prints are figures.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "e2e/raw.rs"]
#[allow(dead_code)] // its other half is for the end-to-end tests
mod raw;
#[path = "e2e/support.rs"]
mod support;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use raw::{Dice, Raw, Then};
use support::{Client, chain, each_driver, request};

const LANES: u64 = 64;

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What each open descriptor is, for a failure's message.
fn descriptors() -> Vec<String> {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    entries
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .map(|to| to.display().to_string())
        .collect()
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn chunk(seed: u64) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"<{seed}>\"}}}}]}}\n\n")
}

/// Answers with the seed of the request, again and again; now and then late, cut or reset.
fn answer(asked: &raw::Asked, stream: &mut TcpStream) -> Then {
    let json = asked.json();
    let seed = json["seed"].as_u64().unwrap();
    let mut dice = Dice::new(seed);
    if dice.one_in(3) {
        std::thread::sleep(Duration::from_micros(dice.next() % 20_000));
    }
    if dice.one_in(40) {
        return if dice.one_in(2) { Then::Reset } else { Then::Close };
    }
    if json["stream"] != true {
        let body = format!(
            "{{\"choices\":[{{\"index\":0,\"finish_reason\":\"stop\",\"message\":{{\"content\":\"<{seed}>\"}}}}]}}"
        );
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        let whole = write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).is_ok();
        return if whole { Then::Keep } else { Then::Close };
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    if stream.write_all(head.as_bytes()).is_err() {
        return Then::Close;
    }
    let mut send = |text: &str| write!(stream, "{:x}\r\n{text}\r\n", text.len()).is_ok();
    let events = 1 + dice.below(20);
    for no in 0..events {
        if !send(&chunk(seed)) {
            return Then::Close;
        }
        if no == 3 && dice.one_in(30) {
            return if dice.one_in(2) { Then::Reset } else { Then::Close };
        }
        if dice.one_in(3) {
            std::thread::sleep(Duration::from_micros(dice.next() % 3000));
        }
    }
    if send("data: [DONE]\n\n") && stream.write_all(b"0\r\n\r\n").is_ok() { Then::Keep } else { Then::Close }
}

/// What the lanes did.
#[derive(Default)]
struct Tally {
    whole: AtomicU64,
    left: AtomicU64,
    refused: AtomicU64,
}

/// One client after the other, until `stop`.
fn lane(no: u64, addr: SocketAddr, stop: &AtomicBool, tally: &Tally) {
    let mut dice = Dice::new(no + 1);
    let mut client = Client::to(addr);
    while !stop.load(Ordering::Acquire) {
        let seed = no << 32 | dice.next() & 0xffff_ffff;
        let stream = dice.one_in(2);
        // A model of its own for each lane, so that the breakers of the others let it through.
        let body = format!(
            "{{\"model\":\"openai/m{no}\",\"seed\":{seed},\"stream\":{stream},\"messages\":[],\"pad\":\"{}\"}}",
            "x".repeat(dice.below(9000))
        );
        let bytes = request("/v1/chat/completions", "", &body);
        match dice.below(8) {
            // Leaves in the middle of its request, while it waits, or in the middle of its answer; politely or not.
            0 | 1 => {
                let part = if dice.one_in(3) { dice.below(bytes.len()) } else { bytes.len() };
                let _ = client.stream.write_all(&bytes[..part]);
                if dice.one_in(2) {
                    std::thread::sleep(Duration::from_micros(dice.next() % 15_000));
                }
                if part == bytes.len() && stream && dice.one_in(2) {
                    client.read_until(b"content");
                }
                if dice.one_in(3) {
                    let _ = socket2::SockRef::from(&client.stream).set_linger(Some(Duration::ZERO));
                }
                client = Client::to(addr);
                tally.left.fetch_add(1, Ordering::AcqRel);
            }
            // Two at once.
            2 => {
                client.send(&[bytes.clone(), bytes].concat());
                let first = check(&mut client, seed, tally);
                if !first || !check(&mut client, seed, tally) {
                    client = Client::to(addr);
                }
            }
            _ => {
                client.send(&bytes);
                if !check(&mut client, seed, tally) {
                    client = Client::to(addr);
                }
            }
        }
    }
}

/// Reads an answer, which is this client's own or an error; false when the connection is of no more use.
fn check(client: &mut Client, seed: u64, tally: &Tally) -> bool {
    let got = client.read();
    let text = got.text();
    if got.status != 200 {
        tally.refused.fetch_add(1, Ordering::AcqRel);
        return got.whole && got.header("connection").is_none();
    }
    let own = format!("<{seed}>");
    assert_eq!(text.matches('<').count(), text.matches(&own).count(), "another client's words: {text}");
    assert!(text.contains(&own), "{text}");
    if got.whole {
        tally.whole.fetch_add(1, Ordering::AcqRel);
    } else {
        assert!(text.contains("upstream_truncated"), "cut without a word: {text}");
    }
    got.whole && got.header("connection").is_none()
}

#[test]
fn clients_that_come_and_go_leave_nothing_behind() {
    let seconds = std::env::var("SLUICE_SOAK_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(4);
    each_driver(|driver| {
        let before = open_descriptors();
        let provider = Raw::start(answer);
        let gateway = chain(provider.addr, None, driver, &["workers=2"]);
        let (stop, tally) = (AtomicBool::new(false), Tally::default());
        let mut samples = Vec::new();
        let warm = Duration::from_millis(1500);
        std::thread::scope(|scope| {
            for no in 0..LANES {
                let (addr, stop, tally) = (gateway.addr(), &stop, &tally);
                scope.spawn(move || lane(no, addr, stop, tally));
            }
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_secs(seconds) {
                std::thread::sleep(Duration::from_millis(250));
                if begun.elapsed() > warm {
                    samples.push((resident_kib(), open_descriptors()));
                }
            }
            stop.store(true, Ordering::Release);
        });
        let begun = Instant::now();
        while gateway.connections() > 0 && begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!((gateway.connections(), gateway.panics()), (0, 0));
        let (requests, cancelled) = (gateway.requests(), gateway.cancelled());
        let malformed = provider.malformed();
        gateway.stop(Duration::from_secs(2)).unwrap();
        drop(provider);
        let begun = Instant::now();
        while open_descriptors() > before && begun.elapsed() < Duration::from_secs(3) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let half = samples.len() / 2;
        let most = |part: &[(u64, usize)]| part.iter().map(|s| s.0).max().unwrap();
        let (early, late) = (most(&samples[..half]), most(&samples[half..]));
        println!(
            "{driver:?}: {requests} requests, {cancelled} cancelled, {} whole, {} left, {} errors; at most {} descriptors; {early} KiB resident in the first half, {late} KiB in the second",
            tally.whole.load(Ordering::Acquire),
            tally.left.load(Ordering::Acquire),
            tally.refused.load(Ordering::Acquire),
            samples.iter().map(|s| s.1).max().unwrap(),
        );
        assert_eq!(malformed, 0);
        assert!(open_descriptors() <= before, "{before} descriptors before, now {:?}", descriptors());
        assert!(late < early + 16 * 1024, "memory grows: {samples:?}");
        assert!(tally.whole.load(Ordering::Acquire) > 100);
    });
}
