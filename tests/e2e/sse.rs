//! The grammar of server-sent events through the whole gateway, one row each: line ends, marks, comments, what is cut.
//! Every row is sent in one piece and byte by byte, in chunks and until the connection closes.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::raw::*;
use crate::support::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n";
/// A chunk with content, its finish, and the end mark.
const SAY: &str = r#"{"choices":[{"index":0,"delta":{"content":"a"}}]}"#;
const FINISH: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
const DONE: &str = "data: [DONE]\n\n";
const USAGE: &str =
    "data: {\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3,\"total_tokens\":5},\"choices\":[]}\n\n";

/// What the client must get of a row.
enum Gets {
    /// Every byte, and the clean end.
    All,
    /// So much of it, and the clean end.
    Only(String),
    /// So much of it, then an error event of our own, and no clean end.
    CutAfter(String),
    /// So much of it and no clean end; the provider's own error event is in it.
    ErrorAfter(String),
    /// The second provider's answer.
    Fallback,
}

struct Row {
    name: &'static str,
    stream: String,
    gets: Gets,
}

fn rows() -> Vec<Row> {
    let row = |name, stream: String, gets| Row { name, stream, gets };
    let said = format!("data: {SAY}\n\n");
    let finish = format!("data: {FINISH}\n\n");
    let all = |name, first: String| row(name, format!("{first}{DONE}"), Gets::All);
    vec![
        all("lines end in CRLF", format!("data: {SAY}\r\n\r\n")),
        row("lines end in CR", format!("data: {SAY}\r\rdata: [DONE]\r\r"), Gets::All),
        all("lines end as they like", format!("data: {SAY}\n\r\n")),
        all("one CRLF is one line end", format!("data: {SAY}\r\nid: 1\r\n\r\n")),
        all("a byte order mark at the start", format!("\u{feff}{said}")),
        all("a byte order mark in the data", said.replace("\"a\"", "\"\u{feff}x\"")),
        all("a character of two bytes", said.replace("\"a\"", "\"splиt\"")),
        all("a line separator is no line end", said.replace("\"a\"", "\"\u{2028}\u{85}\"")),
        all(
            "data on several lines",
            said.replace("\"index\":0,", "\ndata: \"index\":\ndata: 0,\ndata:\ndata:"),
        ),
        all("comments between events", format!(": ping\n\n{said}: ping\n\n")),
        row("a comment is no content", ": ping\n\n".repeat(3), Gets::Fallback),
        row(
            "an error before the first content",
            "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\"}}\n\n".to_owned(),
            Gets::Fallback,
        ),
        row(
            "an error after content",
            format!("{said}data: {{\"error\":{{\"message\":\"x\",\"type\":\"server_error\"}}}}\n\n"),
            Gets::ErrorAfter(format!("{said}data: {{\"error\":")),
        ),
        all("no space after the colon", format!("data:{SAY}\n\n")),
        all("a field without a colon", format!("{said}data\n\n")),
        row("an event without its end", format!("{said}data: x"), Gets::CutAfter(said.clone())),
        row("no end mark, but a finish", format!("{said}{finish}"), Gets::All),
        row("no end mark and no finish", said.clone(), Gets::CutAfter(said.clone())),
        row(
            "data after the end mark",
            format!("{said}{DONE}data: {{\"late\":1}}\n\n"),
            Gets::Only(format!("{said}{DONE}")),
        ),
        row("an end mark without its blank line", format!("{said}data: [DONE]"), Gets::All),
        all("an id with a NUL", format!("id: a\0b\n{said}")),
        all("a retry that is no number", format!("retry: 10x\n{said}")),
        row(
            "usage that nobody asked for",
            format!("{said}{finish}{USAGE}{DONE}"),
            Gets::Only(format!("{said}{finish}{DONE}")),
        ),
    ]
}

/// Streams `events`, each byte by itself or all at once.
fn streaming(events: &str, chunked: bool, byte_by_byte: bool) -> Raw {
    let events = events.as_bytes().to_vec();
    Raw::start(move |_, stream| {
        let head = if chunked { "Transfer-Encoding: chunked\r\n\r\n" } else { "Connection: close\r\n\r\n" };
        let mut write = |bytes: &[u8]| {
            let _ = stream.write_all(bytes);
            // The pause lets the gateway see each piece by itself most of the time.
            std::thread::sleep(Duration::from_micros(if byte_by_byte { 20 } else { 0 }));
        };
        write(format!("{HEAD}{head}").as_bytes());
        for piece in events.chunks(if byte_by_byte { 1 } else { events.len() }) {
            match chunked {
                true => write(&[format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()),
                false => write(piece),
            }
        }
        if chunked {
            write(b"0\r\n\r\n");
        }
        Then::Close
    })
}

#[test]
fn every_row_of_the_grammar_reaches_the_client_as_it_must() {
    each_driver(|driver| {
        let backup = provider("ok");
        for row in rows() {
            for (chunked, byte_by_byte) in [(true, false), (false, false), (true, true), (false, true)] {
                let provider = streaming(&row.stream, chunked, byte_by_byte);
                let gateway = chain(provider.addr, Some(backup.addr()), driver, &[]);
                let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
                let text = got.text();
                let shown = format!("{}, chunked {chunked}, byte by byte {byte_by_byte}: {text}", row.name);
                let from = got.header("x-sluice-provider");
                match &row.gets {
                    Gets::All => assert_eq!((&text, got.whole), (&row.stream, true), "{shown}"),
                    Gets::Only(only) => assert_eq!((&text, got.whole), (only, true), "{shown}"),
                    Gets::CutAfter(before) => {
                        let own = text.strip_prefix(before.as_str()).unwrap_or_else(|| panic!("{shown}"));
                        assert!(own.starts_with("data: {\"error\":") && own.ends_with("\n\n"), "{shown}");
                        assert!(!got.whole && !text.contains("[DONE]"), "{shown}");
                    }
                    Gets::ErrorAfter(before) => {
                        assert!(text.starts_with(before.as_str()) && !got.whole, "{shown}");
                        assert_eq!(text.matches("\"error\"").count(), 1, "{shown}");
                    }
                    Gets::Fallback => assert!(from == Some("backup") && got.whole, "{shown}"),
                }
                assert_eq!(from == Some("backup"), matches!(row.gets, Gets::Fallback), "{shown}");
            }
        }
    });
}

#[test]
fn usage_that_was_asked_for_is_shown_once() {
    let stream = format!("data: {SAY}\n\ndata: {FINISH}\n\n{USAGE}{DONE}");
    each_driver(|driver| {
        for byte_by_byte in [false, true] {
            let provider = streaming(&stream, true, byte_by_byte);
            let gateway = chain(provider.addr, None, driver, &[]);
            let body =
                CHAT_STREAM.replace("\"stream\"", "\"stream_options\":{\"include_usage\":true},\"stream\"");
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", &body);
            assert_eq!((got.text(), got.whole), (stream.clone(), true));
        }
    });
}

#[test]
fn data_after_the_end_mark_costs_the_connection_to_the_provider() {
    each_driver(|driver| {
        let provider = Raw::start(|_, stream| {
            let events = format!("data: {SAY}\n\n{DONE}data: {{\"late\":1}}\n\n");
            let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
            // The chunks never end: what follows the end mark would be read as the next answer's.
            let _ = write!(stream, "{head}{:x}\r\n{events}\r\n", events.len());
            Then::Keep
        });
        let gateway = chain(provider.addr, None, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for calls in 1..4 {
            let got = client.post("/v1/chat/completions", CHAT_STREAM);
            assert!(got.whole && got.text().ends_with(DONE), "{}", got.text());
            assert_eq!(provider.connections(), calls);
        }
    });
}

#[test]
fn comments_keep_a_stream_alive_whose_next_token_takes_long() {
    each_driver(|driver| {
        let provider = Raw::start(|_, stream| {
            let _ = write!(stream, "{HEAD}Connection: close\r\n\r\ndata: {SAY}\n\n");
            for _ in 0..12 {
                std::thread::sleep(Duration::from_millis(100));
                let _ = stream.write_all(b": ping\n\n");
            }
            let _ = write!(stream, "data: {SAY}\n\n{DONE}");
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &["timeouts.token_gap=800ms"]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT_STREAM);
        assert!(got.whole && got.text().matches(": ping").count() == 12, "{}", got.text());
    });
}

#[test]
fn an_event_that_is_larger_than_any_buffer_flows_through_before_it_ends() {
    const HALF: usize = 8 << 20;
    each_driver(|driver| {
        let go_on = Arc::new(AtomicBool::new(false));
        let told = go_on.clone();
        let provider = Raw::start(move |_, stream| {
            let _ = write!(stream, "{HEAD}Connection: close\r\n\r\ndata: {SAY}\n\ndata: ");
            let half = vec![b'x'; HALF];
            let _ = stream.write_all(&half);
            while !told.load(Ordering::Acquire) {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = stream.write_all(&half);
            let _ = write!(stream, "\n\n{DONE}");
            Then::Close
        });
        let gateway = chain(provider.addr, None, driver, &["limits.event=64KiB"]);
        let mut client = Client::to(gateway.addr());
        client.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        // The first half is with the client although the event has not ended, so nobody holds it.
        assert!(client.read_until(&[b'x'; 1000]), "held back");
        assert!(client.has_come(HALF - (256 << 10)), "held back");
        go_on.store(true, Ordering::Release);
        let got = client.read();
        let expected = format!("data: {SAY}\n\ndata: {}\n\n{DONE}", "x".repeat(2 * HALF));
        assert!(got.whole && got.body == expected.as_bytes(), "{} bytes", got.body.len());
    });
}
