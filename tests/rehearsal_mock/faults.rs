//! Each fault does what it says, byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::rehearsal::Program;

use crate::client::*;

#[test]
fn a_status_fault_answers_in_the_dialect_with_retry_after() {
    let mock = start("status:429,retry-after=60");
    let got = post_chat(&mock, false);
    assert_eq!((got.status, got.field("retry-after")), (429, Some("60")));
    assert_eq!(got.json()["error"]["code"], "rate_limit_exceeded");
    let got = post(&mock, "/v1/messages", &messages(false));
    assert_eq!(got.json()["error"]["type"], "rate_limit_error");
    mock.program(Program::parse("overloaded").expect("a program"));
    assert_eq!(post(&mock, "/v1/messages", &messages(true)).status, 529);
    assert_eq!(post_chat(&mock, true).status, 503);
}

#[test]
fn calls_inside_a_retry_after_window_are_counted_by_key() {
    let mock = start("brownout:rate=1,retry-after=60,times=1");
    assert_eq!(post_chat(&mock, false).status, 429);
    assert_eq!(mock.counts().inside_retry_after, 0);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(post_chat(&mock, false).status, 200);
    let counts = mock.counts();
    assert_eq!((counts.inside_retry_after, counts.inside_retry_after_in_flight), (1, 0));
    assert_eq!(counts.keys["abcd1234"].inside_retry_after, 1);
}

#[test]
fn a_reset_after_three_events_sends_three_events_and_rst() {
    let mock = start("reset:after=3");
    let got = post_chat(&mock, true);
    assert!(got.reset && !got.complete);
    // The role comes first and is no content.
    assert_eq!(got.events().len(), 4);
    mock.program(Program::parse("reset").expect("a program"));
    let got = post_chat(&mock, true);
    assert!(got.reset && got.body.is_empty() && got.status == 0);
    eventually("both broken", || mock.counts().broken == 2);
}

#[test]
fn a_cut_after_three_events_ends_without_a_last_chunk() {
    let mock = start("cut:after=3");
    let got = post_chat(&mock, true);
    assert!(!got.reset && !got.complete);
    assert_eq!(got.events().len(), 4);
    for framing in ["no-length", "with-length"] {
        mock.program(Program::parse(&format!("{framing}; cut:after=3")).expect("a program"));
        let got = post_chat(&mock, true);
        assert_eq!(got.events().len(), 4, "{framing}");
        assert_eq!(got.complete, framing == "no-length", "only FIN ends such a body");
    }
    mock.program(Program::parse("cut").expect("a program"));
    let got = post_chat(&mock, false);
    assert!(!got.reset && got.body.is_empty() && got.status == 0);
}

#[test]
fn a_truncated_answer_is_shorter_than_it_says() {
    let mock = start("truncate:100");
    let got = post_chat(&mock, false);
    let promised: usize = got.field("content-length").expect("a length").parse().expect("a number");
    assert_eq!(got.body.len() + 100, promised);
    mock.program(Program::parse("cut-json").expect("a program"));
    let got = post_chat(&mock, false);
    assert!(got.complete && serde_json::from_slice::<Value>(&got.body).is_err());
}

#[test]
fn errors_hide_in_answers_that_say_200() {
    let mock = start("error-first-event");
    let events = post_chat(&mock, true).events();
    assert_eq!(events.len(), 1);
    assert!(events[0]["error"]["message"].is_string());
    let events = post(&mock, "/v1/messages", &messages(true)).events();
    assert_eq!(events[0]["error"]["type"], "overloaded_error");

    mock.program(Program::parse("error-late-event:after=5").expect("a program"));
    let events = post_chat(&mock, true).events();
    assert_eq!(events.len(), 7, "role, five words, error");
    assert!(events[6]["error"].is_object());

    mock.program(Program::parse("error-in-200").expect("a program"));
    let got = post_chat(&mock, false);
    assert!(got.status == 200 && got.json()["error"].is_object());
    mock.program(Program::parse("html-200").expect("a program"));
    assert!(post_chat(&mock, true).text().contains("<html>"));
    mock.program(Program::parse("empty-200").expect("a program"));
    assert!(post_chat(&mock, false).body.is_empty());
    assert_eq!(mock.counts().completed, 0);
}

#[test]
fn a_refused_port_refuses_and_comes_back() {
    let mock = start("refuse:for=300ms then ok");
    let refused = TcpStream::connect(mock.addr()).expect_err("refused");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    std::thread::sleep(Duration::from_millis(350));
    assert_eq!(post_chat(&mock, false).status, 200);
    let mut open = connect(mock.addr());
    open.write_all(&request("/v1/chat/completions", &chat(false).to_string(), "")).expect("write");
    assert_eq!(read_answer(&mut open).status, 200);
    mock.program(Program::parse("refuse").expect("a program"));
    assert!(TcpStream::connect(mock.addr()).is_err(), "the program holds when `program` returns");
    assert!(read_answer(&mut open).reset, "open connections are gone as well");
}

#[test]
fn a_hang_lasts_until_the_client_leaves_and_is_noticed_at_once() {
    let mock = start("hang");
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", &chat(true).to_string(), "")).expect("write");
    eventually("the request arrived", || mock.counts().in_progress == 1);
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    let error = stream.read(&mut [0; 10]).expect_err("nothing comes");
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    let left = Instant::now();
    drop(stream);
    eventually("noticed", || mock.counts().cancelled == 1);
    let counts = mock.counts();
    let noticed = counts.cancellations[0].at.duration_since(left);
    assert!(noticed < Duration::from_millis(50), "{noticed:?}");
    assert_eq!(counts.in_progress, 0);
}

#[test]
fn slow_answers_come_later_by_what_the_program_says() {
    let mock = start("slow:+200ms");
    for stream in [false, true] {
        let asked = Instant::now();
        assert_eq!(post_chat(&mock, stream).status, 200);
        let took = asked.elapsed();
        assert!((200..1_000).contains(&took.as_millis()), "{took:?}");
    }
}

#[test]
fn an_outage_ends_on_time() {
    let mock = start("down:503,for=300ms then ok");
    let started = Instant::now();
    assert_eq!(post_chat(&mock, false).status, 503);
    while post_chat(&mock, false).status == 503 {
        std::thread::sleep(Duration::from_millis(2));
    }
    let lasted = started.elapsed();
    assert!((280..1_500).contains(&lasted.as_millis()), "{lasted:?}");
}

/// The whole bytes that a fault sends for one chat, up to FIN or RST.
fn wire(program: &str, stream: bool) -> Vec<u8> {
    let mock = start(program);
    let mut socket = connect(mock.addr());
    let close = "Connection: close\r\n";
    socket.write_all(&request("/v1/chat/completions", &chat(stream).to_string(), close)).expect("write");
    let mut bytes = Vec::new();
    let _ = socket.read_to_end(&mut bytes);
    bytes
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_bad_head_is_sent_as_named() {
    let named = [
        ("length-and-chunked", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("two-lengths", "Content-Length: 5\r\nContent-Length: 6"),
        ("length-not-a-number", "Content-Length: abc"),
        ("length-list", "Content-Length: 5, 5"),
        ("unknown-coding", "Transfer-Encoding: gzip"),
        ("chunked-twice", "Transfer-Encoding: chunked, chunked"),
        ("chunked-in-http10", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"),
        ("switching-protocols", "HTTP/1.1 101 "),
        ("status-999", "HTTP/1.1 999 "),
        ("two-digit-status", "HTTP/1.1 20 OK"),
        ("http2-line", "HTTP/2 200"),
        ("lf-only", "HTTP/1.1 200 OK\n"),
        ("cr-in-value", "X: a\rSet-Cookie"),
        ("nul-in-value", "X: a\0b"),
        ("folded-line", "X: a\r\n b\r\n"),
        ("body-on-204", "204 No Content\r\nContent-Length: 5"),
        ("bad-chunk-size", "\r\n\r\nZZ\r\n"),
        ("lf-in-chunk", "5\nhello"),
        ("garbage", "not HTTP"),
    ];
    for (name, expected) in named {
        let got = text(&wire(&format!("bad-head:{name}"), false));
        assert!(got.contains(expected), "{name}: {got:?}");
    }
}

#[test]
fn heads_can_be_huge_many_and_flooded() {
    assert!(wire("huge-head:600000", false).len() > 600_000);
    assert_eq!(text(&wire("many-fields:5000", false)).matches("x: y\r\n").count(), 5_000);
    let flood = text(&wire("interim-flood:30", false));
    assert_eq!(flood.matches("HTTP/1.1 103 ").count(), 30);
    assert_eq!(flood.matches("HTTP/1.1 200 OK").count(), 1);
}

#[test]
fn raw_bytes_and_banners_are_sent_as_they_are() {
    assert_eq!(wire(r#"raw:"HTTP/1.1 200 OK\r\n\x00;,""#, false), b"HTTP/1.1 200 OK\r\n\0;,");
    let mock = start(r#"banner:"hello\r\n""#);
    let mut greeted = [0; 7];
    connect(mock.addr()).read_exact(&mut greeted).expect("a banner before any request");
    assert_eq!(&greeted, b"hello\r\n");
}

#[test]
fn an_early_response_comes_before_the_body_was_sent() {
    let mock = start("early-response:413");
    let mut stream = connect(mock.addr());
    write!(stream, "POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n{{").expect("write");
    let got = read_answer(&mut stream);
    assert_eq!((got.status, got.field("connection")), (413, Some("close")));
    assert_eq!(stream.read(&mut [0; 8]).expect("FIN"), 0);
}

#[test]
fn framing_faults_change_the_framing_and_nothing_else() {
    let usual = text(&post_chat(&start("ok"), true).body);
    let open = parse(&wire("no-length", true), true).expect("an answer");
    assert_eq!((text(&open.body), open.field("transfer-encoding")), (usual.clone(), None));
    let sized = parse(&wire("with-length", true), true).expect("an answer");
    assert_eq!(text(&sized.body), usual);
    assert!(sized.field("content-length").is_some());
    let pieces = parse(&wire("fragment:50", true), true).expect("an answer");
    assert!(pieces.complete);
    assert_eq!(text(&pieces.body), usual);
    let crlf = parse(&wire("line-ends:crlf", true), true).expect("an answer");
    assert_eq!(text(&crlf.body).replace("\r\n", "\n"), usual);
    let commented = parse(&wire("comments", true), true).expect("an answer");
    assert_eq!(text(&commented.body).replace(": rehearsal\n\n", ""), usual);
}

#[test]
fn a_gzip_body_is_marked_and_whole() {
    let got = parse(&wire("gzip", false), true).expect("an answer");
    assert_eq!(got.field("content-encoding"), Some("gzip"));
    assert!(got.complete && got.body.starts_with(&[0x1f, 0x8b, 8]));
}

#[test]
fn terminal_events_can_be_missing_or_followed() {
    let mock = start("no-done");
    let got = post_chat(&mock, true);
    assert!(
        got.complete && !got.text().contains("[DONE]") && got.text().contains("\"finish_reason\":\"stop\"")
    );
    mock.program(Program::parse("after-done").expect("a program"));
    let events = post_chat(&mock, true).events();
    assert_eq!(events[events.len() - 2], json!("[DONE]"));
    mock.program(Program::parse("no-usage").expect("a program"));
    assert!(post_chat(&mock, false).json().get("usage").is_none());
    let mut ask = chat(true);
    ask["stream_options"] = json!({"include_usage": true});
    assert!(!post(&mock, "/v1/chat/completions", &ask).text().contains("prompt_tokens"));
    mock.program(Program::parse("big-event:100000").expect("a program"));
    let got = post_chat(&mock, true);
    assert!(got.text().split("\n\n").any(|event| event.len() == 99_998), "two bytes are the empty line");
    assert!(got.events().iter().all(|event| event.is_object() || event == "[DONE]"));
}

#[test]
fn idle_connections_can_be_closed_or_told_408() {
    for (program, expected) in [("close-idle:50ms", ""), ("idle-408:50ms", "HTTP/1.1 408 ")] {
        let mock = start(program);
        let mut stream = connect(mock.addr());
        stream.write_all(&request("/v1/chat/completions", &chat(false).to_string(), "")).expect("write");
        assert_eq!(read_answer(&mut stream).status, 200);
        let done = Instant::now();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).expect("FIN");
        assert!(text(&rest).starts_with(expected) && rest.is_empty() == expected.is_empty());
        assert!((45..1_000).contains(&done.elapsed().as_millis()), "{:?}", done.elapsed());
    }
}

#[test]
fn a_second_answer_follows_unasked() {
    let got = text(&wire("excess", false));
    assert_eq!(got.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(got.ends_with("content-length: 2\r\n\r\n{}"));
}

#[test]
fn added_fields_redirects_and_close_are_in_the_head() {
    assert!(text(&wire(r#"header:"Set-Cookie: a=b""#, false)).contains("Set-Cookie: a=b\r\n"));
    let got = parse(&wire("redirect:http://127.0.0.1:1/", false), true).expect("an answer");
    assert_eq!((got.status, got.field("location")), (302, Some("http://127.0.0.1:1/")));
    let mock = start("close");
    assert_eq!(post_chat(&mock, false).field("connection"), Some("close"));
}

#[test]
fn money_key_and_context_errors_say_what_providers_say() {
    let cases = [
        ("key-revoked", 401, "invalid_api_key", 401, "authentication_error"),
        ("out-of-credit", 429, "insufficient_quota", 402, "billing_error"),
        ("context-length", 400, "context_length_exceeded", 400, "invalid_request_error"),
        ("model-not-found", 404, "model_not_found", 404, "not_found_error"),
    ];
    for (program, status, code, anthropic_status, kind) in cases {
        let mock = start(program);
        let got = post_chat(&mock, true);
        assert_eq!((got.status, &got.json()["error"]["code"]), (status, &json!(code)), "{program}");
        let got = post(&mock, "/v1/messages", &messages(false));
        assert_eq!((got.status, &got.json()["error"]["type"]), (anthropic_status, &json!(kind)), "{program}");
    }
}

#[test]
fn only_the_revoked_key_is_refused() {
    let mock = start("key-revoked:key=1234");
    assert_eq!(post_chat(&mock, false).status, 401);
    assert_eq!(get(&mock, "/v1/models", "Authorization: Bearer sk-other\r\n").status, 200);
    let counts = mock.counts();
    assert_eq!(
        (counts.refused, counts.keys["abcd1234"].requests, counts.keys["sk-other"].completed),
        (1, 1, 1)
    );
}

#[test]
fn late_first_events_stalls_and_trickles_keep_their_times() {
    let mock = start("first-event-late:200ms");
    let mut stream = connect(mock.addr());
    let ask = request("/v1/chat/completions", &chat(true).to_string(), "");
    let asked = Instant::now();
    stream.write_all(&ask).expect("write");
    let mut first = [0; 15];
    stream.read_exact(&mut first).expect("the head");
    assert!(asked.elapsed() < Duration::from_millis(190), "the head is not late");
    assert!(read_answer_after(&mut stream, &first).complete);
    assert!((200..1_000).contains(&asked.elapsed().as_millis()));

    mock.program(Program::parse("stall:200ms,after=3").expect("a program"));
    let asked = Instant::now();
    assert!(post_chat(&mock, true).complete);
    assert!((200..1_000).contains(&asked.elapsed().as_millis()));

    mock.program(Program::parse("trickle:2kBps").expect("a program"));
    let asked = Instant::now();
    let got = post_chat(&mock, false);
    let expected = got.body.len() as f64 / 2_000.0;
    let took = asked.elapsed().as_secs_f64();
    assert!((0.7..2.0).contains(&(took / expected)), "{took} s for {expected} s");
}

fn read_answer_after(stream: &mut TcpStream, first: &[u8]) -> Got {
    let mut bytes = first.to_vec();
    let mut buffer = [0; 4096];
    loop {
        if let Some(got) = parse(&bytes, false).filter(|got| got.complete) {
            return got;
        }
        let count = stream.read(&mut buffer).expect("read");
        assert!(count > 0);
        bytes.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn connections_can_be_reset_at_once_or_never_completed() {
    let mock = start("accept-reset:times=1 then ok");
    let mut stream = connect(mock.addr());
    let mut byte = [0];
    let error = stream.read(&mut byte).expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(post_chat(&mock, false).status, 200);
    mock.program(Program::parse("blackhole").expect("a program"));
    let error = TcpStream::connect_timeout(&mock.addr(), Duration::from_millis(200)).expect_err("silence");
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    mock.program(Program::ok());
    assert_eq!(post_chat(&mock, false).status, 200);
}

#[test]
fn retry_after_can_be_a_date_or_milliseconds() {
    let mock = start("status:429,retry-after=1500ms");
    let got = post_chat(&mock, false);
    assert_eq!((got.field("retry-after"), got.field("retry-after-ms")), (Some("2"), Some("1500")));
    mock.program(Program::parse("status:503,retry-after=60,form=date").expect("a program"));
    assert!(post_chat(&mock, false).field("retry-after").is_some_and(|date| date.ends_with(" GMT")));
    mock.program(Program::parse("status:429,retry-after=60,form=ms").expect("a program"));
    let got = post_chat(&mock, false);
    assert_eq!((got.field("retry-after"), got.field("retry-after-ms")), (None, Some("60000")));
}
