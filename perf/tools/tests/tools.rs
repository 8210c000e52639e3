//! The tools measured against servers whose behaviour is known: what they report must be what was done to them.

// What a test unwraps, it asserts.
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use perf_tools::request::{Shape, request, understand};
use perf_tools::stamp::stamp;
use perf_tools::{answer, now_ns};
use serde_json::Value;

/// A tool that listens; it ends with this value.
struct Tool(Child, SocketAddr);

impl Tool {
    fn start(program: &str, words: &[&str]) -> Tool {
        let mut child = Command::new(program).args(words).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let addr = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Tool(child, addr)
    }

    fn upstream() -> Tool {
        Tool::start(env!("CARGO_BIN_EXE_upstream"), &["127.0.0.1:0"])
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn load(to: SocketAddr, words: &str) -> Value {
    let words = format!("{words} --to {to} --warm 0.1");
    let done = Command::new(env!("CARGO_BIN_EXE_load")).args(words.split(' ')).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server of one thread a connection; `answer` is given the connection and the number of its request.
fn server(answer: impl Fn(&mut TcpStream, u64) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let answer = Arc::new(answer);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, answer) = (stream.unwrap(), answer.clone());
            thread::spawn(move || {
                let (mut input, mut chunk, mut number) = (Vec::new(), [0; 65536], 0);
                while let Ok(n @ 1..) = stream.read(&mut chunk) {
                    input.extend_from_slice(&chunk[..n]);
                    while let Some((length, _)) = understand(&input) {
                        input.drain(..length);
                        number += 1;
                        answer(&mut stream, number);
                    }
                }
            });
        }
    });
    addr
}

fn us(report: &Value, which: &str, quantile: &str) -> f64 {
    report[which][quantile].as_f64().unwrap_or_else(|| panic!("{which}.{quantile} in {report}"))
}

/// A server that answers at once, but stands still for 400 ms of each run.
fn stalling() -> SocketAddr {
    let begun = Instant::now();
    server(move |stream, _| {
        let at = begun.elapsed();
        let (from, to) = (Duration::from_millis(500), Duration::from_millis(900));
        if (from..to).contains(&at) {
            thread::sleep(to - at);
        }
        let _ = stream.write_all(OK);
    })
}

#[test]
fn an_open_loop_reports_all_that_had_to_wait_for_a_stalled_server() {
    let report = load(stalling(), "open --rate 500 --connections 2 --seconds 1.4");
    // 200 of 700 requests were due while it stood still, evenly; so the slowest tenth waited for more than 200 ms.
    assert!(us(&report, "latency_us", "p90") > 150_000.0, "{report}");
    assert!(us(&report, "latency_us", "max") > 350_000.0, "{report}");
    // Those that were due before and after did not wait.
    assert!(us(&report, "latency_us", "p50") < 50_000.0, "{report}");
    assert_eq!(report["unfinished"], 0, "{report}");
    assert!(us(&report, "latency_us", "n") > 650.0, "none was left out: {report}");
    // The closed loop asks less while it waits, and so does not see it: what the open one is for.
    let closed = load(stalling(), "closed --connections 2 --seconds 1.4");
    assert!(us(&closed, "latency_us", "p90") < 100_000.0, "{closed}");
}

#[test]
fn an_open_loop_counts_what_was_never_answered() {
    let report = load(
        server(|_, _| thread::sleep(Duration::from_secs(60))),
        "open --rate 100 --connections 4 --seconds 0.6",
    );
    assert_eq!((report["done"].as_u64(), report["errors"].as_u64()), (Some(0), Some(0)), "{report}");
    assert!((55..=61).contains(&report["unfinished"].as_u64().unwrap()), "{report}");
    assert!(us(&report, "latency_us", "p50") > 250_000.0, "it has waited so long already: {report}");
}

#[test]
fn a_ladder_ends_where_the_server_cannot_keep_up() {
    // One millisecond an answer on each of two connections: 2,000 a second at the very most.
    let slow = server(|stream, _| {
        thread::sleep(Duration::from_millis(1));
        let _ = stream.write_all(OK);
    });
    let report = load(slow, "ladder --connections 2 --rate 200 --step 1.6 --seconds 0.3 --p99-ms 30");
    let steps = report["steps"].as_array().unwrap();
    assert_eq!(steps[0]["good"], true, "{report}");
    assert_eq!(steps.last().unwrap()["good"], false, "{report}");
    assert!(steps.last().unwrap()["rate"].as_f64().unwrap() < 4_000.0, "{report}");
}

#[test]
fn other_statuses_and_broken_connections_are_counted() {
    let busy = load(
        server(|stream, _| stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").unwrap()),
        "closed --seconds 0.2 --connections 2",
    );
    assert!(busy["done"].as_u64() > Some(10) && busy["not_200"] == busy["done"], "{busy}");
    let broken = load(
        server(|stream, _| stream.shutdown(std::net::Shutdown::Both).unwrap()),
        "closed --seconds 0.2 --connections 2",
    );
    assert!(broken["errors"].as_u64() > Some(10) && broken["done"] == 0, "{broken}");
}

/// A stream of three events, of which the second is missing or late.
fn stream_of(stream: &mut TcpStream, second: Option<Duration>) {
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut text = head.to_owned() + &chunk(&stamp(now_ns(), 1));
    if let Some(late) = second {
        text += &chunk(&stamp(now_ns() - late.as_nanos() as u64, 2));
    }
    text += &chunk(&stamp(now_ns(), 3));
    let _ = stream.write_all((text + "0\r\n\r\n").as_bytes());
}

#[test]
fn events_that_are_lost_or_late_are_told() {
    let lossy =
        load(server(|stream, _| stream_of(stream, None)), "streams --events 3 --connections 1 --seconds 0.2");
    assert!(lossy["lost"].as_u64() > Some(10), "{lossy}");
    assert!(
        (0..=1).contains(&(lossy["lost"].as_i64().unwrap() - lossy["done"].as_i64().unwrap())),
        "one of each stream: {lossy}"
    );
    let late = load(
        server(|stream, _| stream_of(stream, Some(Duration::from_millis(30)))),
        "streams --events 3 --connections 1 --seconds 0.2",
    );
    assert_eq!(late["lost"], 0, "{late}");
    let (events, slow) = (late["events"].as_u64().unwrap(), late["late_10ms"].as_u64().unwrap());
    assert!(events > 30 && slow.abs_diff(events / 3) <= 2, "{late}");
}

#[test]
fn paced_streams_come_as_they_were_asked_for() {
    let upstream = Tool::upstream();
    for path in ["/v1/chat/completions", "/v1/messages"] {
        let report = load(
            upstream.1,
            &format!("streams --connections 8 --gap 1000 --events 50 --seconds 1 --path {path}"),
        );
        assert_eq!(
            (&report["lost"], &report["errors"], &report["not_200"]),
            (&0.into(), &0.into(), &0.into()),
            "{report}"
        );
        // 8 streams of an event a millisecond at most: a busy machine sends fewer, and several of them at once.
        assert!((100..=8_200).contains(&report["events"].as_u64().unwrap()), "{report}");
        assert!(us(&report, "gap_us", "p99") > 700.0, "{report}");
    }
    let burst = load(upstream.1, "streams --connections 2 --gap 0 --events 5000 --seconds 0.5");
    assert!(
        burst["lost"] == 0 && burst["errors"] == 0 && burst["done"].as_u64() > Some(2),
        "a slow reader loses nothing: {burst}"
    );
}

#[test]
fn a_count_of_requests_ends_the_load() {
    let upstream = Tool::upstream();
    let report = load(upstream.1, "closed --connections 1 --requests 250 --seconds 30");
    assert_eq!(report["done"], 250, "{report}");
    assert!(report["seconds"].as_f64() < Some(20.0), "{report}");
}

#[test]
fn the_relay_passes_on_large_messages_and_costs_what_is_reported() {
    let upstream = Tool::upstream();
    let relay = Tool::start(env!("CARGO_BIN_EXE_relay"), &["127.0.0.1:0", &upstream.1.to_string()]);
    let pid = relay.0.id();
    let report =
        load(relay.1, &format!("closed --connections 4 --bytes 819200 --seconds 0.5 --cpu-of {pid}"));
    assert!(
        report["done"].as_u64() > Some(10) && report["errors"] == 0 && report["not_200"] == 0,
        "{report}"
    );
    assert!(
        report["cpu_us_per_request"].as_f64() > Some(20.0),
        "800 KiB are not moved for nothing: {report}"
    );
    assert!(report["rss_kib"].as_u64() > Some(500), "{report}");
}

#[test]
fn the_provider_answers_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let words = ["127.0.0.1:0", certificate.to_str().unwrap(), key.to_str().unwrap()];
    let upstream = Tool::start(env!("CARGO_BIN_EXE_upstream"), &words);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let session = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(upstream.1).unwrap());
    for (bytes, pace) in [(1024, None), (200_000, None), (1024, Some((100, 400)))] {
        let shape =
            Shape { to: "localhost", path: "/v1/chat/completions", model: "m", bytes, pace, headers: &[] };
        stream.write_all(&request(&shape)).unwrap();
        let (mut reader, mut body, mut chunk) = (answer::Reader::default(), 0, [0; 16384]);
        loop {
            let n = stream.read(&mut chunk).unwrap();
            if reader.feed(&chunk[..n], |piece| body += piece.len()).unwrap() {
                break;
            }
        }
        assert!(reader.status() == 200 && body > if pace.is_some() { 80_000 } else { 2_000 }, "{body} bytes");
    }
}
