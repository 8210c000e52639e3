//! The parsers of `wire` against corpora that others keep, where they are at hand.
//!
//! The corpora stand beside the project, not in it: without them each test says that it was skipped. What must hold on
//! any machine is tested beside the code, on vectors written there.

// What a test unwraps, it asserts.
#![allow(clippy::unwrap_used)]

use serde_json::Value as Row;
use sluice::wire::chunked::{ChunkLimits, Decoder};
use sluice::wire::fields::Fields;
use sluice::wire::framing::{Body, check_target, frame_request, frame_response};
use sluice::wire::head::{HeadLimits, Parsed, parse_request, parse_response};
use sluice::wire::json;
use sluice::wire::sse::Splitter;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The gateway's default limit on request bodies (DESIGN section 9).
const BODY_MAX: u64 = 32 * 1024 * 1024;

/// The corpus at `name`, or a word that it is not here.
fn corpus(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora").join(name);
    if path.exists() {
        return Some(path);
    }
    // Written past the harness, which keeps what passing tests print to itself.
    let notice = format!("SKIPPED: the corpus {name} is not beside the project\n");
    std::io::stderr().write_all(notice.as_bytes()).unwrap();
    None
}

/// The rows of a corpus of JSON lines, with their bytes.
fn rows(name: &str) -> Vec<(Row, Vec<u8>)> {
    let Some(path) = corpus(name) else { return Vec::new() };
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Row>(line).unwrap())
        .filter_map(|row| row["b64"].as_str().map(decode_base64).map(|bytes| (row, bytes)))
        .collect()
}

fn decode_base64(text: &str) -> Vec<u8> {
    let value = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|&byte| byte != b'=').map(value).collect();
    let mut bytes = Vec::new();
    for group in digits.chunks(4) {
        let bits =
            group.iter().fold(0u32, |bits, &digit| bits << 6 | u32::from(digit)) << (6 * (4 - group.len()));
        bytes.extend_from_slice(&bits.to_be_bytes()[1..group.len()]);
    }
    bytes
}

fn replace(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from.as_bytes()) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(to.as_bytes());
        rest = &rest[at + from.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It is taken; so many bytes follow it.
    Accept(usize),
    /// It is refused with this status.
    Refuse(u16),
    /// More bytes are needed.
    Incomplete,
}

fn body_verdict(body: Body, rest: &[u8], limits: ChunkLimits) -> Verdict {
    match body {
        Body::None => Verdict::Accept(rest.len()),
        Body::Length(length) if length > limits.body => Verdict::Refuse(413),
        Body::Length(length) if length > rest.len() as u64 => Verdict::Incomplete,
        Body::Length(length) => Verdict::Accept(rest.len() - length as usize),
        Body::UntilClose => Verdict::Accept(0),
        Body::Chunked => match Decoder::new(limits).decode(&mut rest.to_vec()) {
            Ok(progress) if progress.done => Verdict::Accept(rest.len() - progress.consumed),
            Ok(_) => Verdict::Incomplete,
            Err(bad) => Verdict::Refuse(bad.status()),
        },
    }
}

fn request_verdict(bytes: &[u8]) -> Verdict {
    let mut fields = Fields::new();
    match parse_request(bytes, &mut fields, &HeadLimits::REQUEST) {
        Err(bad) => Verdict::Refuse(bad.status()),
        Ok(Parsed::Partial) => Verdict::Incomplete,
        // The router checks the path a second time, by the rule for its endpoint.
        Ok(Parsed::Complete(head)) => match frame_request(&head, &fields, bytes)
            .and_then(|framing| check_target(head.target).map(|_| framing))
        {
            Err(bad) => Verdict::Refuse(bad.status()),
            Ok(framing) => body_verdict(framing.body, &bytes[head.len..], ChunkLimits::request(BODY_MAX)),
        },
    }
}

/// The verdict on a response, past interim ones, and whether its connection may serve again.
fn response_verdict(mut bytes: &[u8]) -> (Verdict, bool) {
    let mut fields = Fields::new();
    for _ in 0..=16 {
        match parse_response(bytes, &mut fields, &HeadLimits::RESPONSE) {
            Err(_) => return (Verdict::Refuse(502), false),
            Ok(Parsed::Partial) => return (Verdict::Incomplete, false),
            Ok(Parsed::Complete(head)) => match frame_response(&head, &fields, bytes, false) {
                Err(_) => return (Verdict::Refuse(502), false),
                Ok(_) if head.status < 200 => bytes = &bytes[head.len..],
                Ok(framing) => {
                    let verdict = body_verdict(framing.body, &bytes[head.len..], ChunkLimits::response());
                    return (verdict, framing.keep_alive && verdict == Verdict::Accept(0));
                }
            },
        }
    }
    (Verdict::Refuse(502), false)
}

#[test]
fn every_client_head_is_read_and_its_body_found() {
    let Some(folder) = corpus("client-heads") else { return };
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for record in text.split("### conn=").skip(1) {
            let message = record.split_once('\n').unwrap().1.split("\n### end").next().unwrap();
            let elided = message.contains("elided)");
            // Chunked bodies were written down decoded.
            let decoded = message.contains("chunked\r\n");
            let verdict = request_verdict(message.as_bytes());
            let expected = match (elided, decoded) {
                (true, _) => Verdict::Incomplete,
                (_, true) => Verdict::Refuse(400),
                _ => Verdict::Accept(0),
            };
            assert_eq!(verdict, expected, "{}: {message}", path.display());
            let body = &message[message.find("\r\n\r\n").unwrap() + 4..];
            if body.starts_with('{') && !elided {
                let peek = json::peek(body.as_bytes()).unwrap();
                assert!(peek.model_str(body.as_bytes()).is_some(), "{body}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "{count} heads");
}

/// The verdicts that a row of the framing table allows. What the router or the authoriser decides only has to parse.
fn allowed(id: &str, expect: &str) -> Vec<Verdict> {
    let accept = Verdict::Accept(0);
    match id {
        // The first request is answered, and what follows is refused or answered on its own.
        "R70" => vec![Verdict::Accept("GARBAGE\r\n\r\n".len())],
        "R113" | "R118" => vec![Verdict::Accept("GET /admin HTTP/1.1\r\nHost: localhost:8080\r\n\r\n".len())],
        "R119" => vec![Verdict::Accept("GET /v1/models HTTP/1.1\r\nHost: localhost:8080\r\n\r\n".len())],
        "R64" | "R117" => vec![Verdict::Incomplete],
        // Decided after parsing: Expect, Upgrade, unknown path, forwarding fields, credentials, coding, origin, host.
        "R110" | "R114" | "R115" | "R116" | "R126" | "R128" | "R129" | "R130" | "R131" | "R132" => {
            vec![accept]
        }
        _ if expect.starts_with("accept") && expect.contains("or 400") => vec![accept, Verdict::Refuse(400)],
        _ if expect.starts_with("accept") => vec![accept],
        _ => {
            let codes = expect.split(|c: char| !c.is_ascii_digit()).filter(|digits| digits.len() == 3);
            codes.map(|digits| Verdict::Refuse(digits.parse().unwrap())).collect()
        }
    }
}

#[test]
fn the_framing_table_is_kept_for_requests() {
    for (row, bytes) in rows("http/own-framing/cases.jsonl") {
        if row["area"] != "request" {
            continue;
        }
        let (id, expect) = (row["id"].as_str().unwrap(), row["expect"].as_str().unwrap());
        let verdict = request_verdict(&replace(&bytes, "__HOST__", "localhost:8080"));
        assert!(
            allowed(id, expect).contains(&verdict),
            "{id}: {verdict:?}, not {expect}: {}",
            row["escaped"]
        );
    }
}

#[test]
fn the_framing_table_is_kept_for_responses() {
    for (row, bytes) in rows("http/own-framing/cases.jsonl") {
        let (id, expect) = (row["id"].as_str().unwrap(), row["expect"].as_str().unwrap());
        // U37 to U41 are behaviours of a connection.
        if row["area"] != "response" || matches!(id, "U37" | "U38" | "U39" | "U40" | "U41") {
            continue;
        }
        let (verdict, reusable) = response_verdict(&bytes);
        let fits = match id {
            "U12" => verdict == Verdict::Accept(0) && !reusable,
            "U15" | "U16" => matches!(verdict, Verdict::Accept(1..)) && !reusable,
            "U20" => matches!(verdict, Verdict::Accept(_)) && !reusable,
            _ if expect.starts_with("abort") => matches!(verdict, Verdict::Refuse(_) | Verdict::Incomplete),
            _ if expect.starts_with("502") && id != "U34" => verdict == Verdict::Refuse(502),
            _ => verdict == Verdict::Accept(0),
        };
        assert!(fits, "{id}: {verdict:?}, reusable: {reusable}, not {expect}: {}", row["escaped"]);
    }
}

#[test]
fn the_event_table_is_split_alike_however_it_is_cut() {
    for (row, bytes) in rows("http/own-framing/cases.jsonl") {
        if row["area"] != "sse" || bytes.len() > 4096 {
            continue;
        }
        let ends = |cut: usize| {
            let mut splitter = Splitter::new();
            let mut ends: Vec<usize> = splitter.feed(&bytes[..cut]).collect();
            ends.extend(splitter.feed(&bytes[cut..]).map(|end| cut + end));
            (ends, splitter.pending_len(), splitter.finish())
        };
        for cut in 0..bytes.len() {
            assert_eq!(ends(cut), ends(bytes.len()), "{}", row["escaped"]);
        }
    }
}

/// Refusals of llhttp that are no faults of framing here. Each says why.
fn llhttp_refusal_is_not_ours(row: &Row) -> bool {
    match row["error"].as_str().unwrap_or_default() {
        // A switch of protocols is never made here: Upgrade is ignored, CONNECT is refused by framing.
        "Pause on CONNECT/Upgrade" | "Pause on PRI/Upgrade" => true,
        // The second message is not read: the first one closes.
        "Data after `Connection: close`" => true,
        // Which methods exist is the router's business (405).
        "Invalid method for HTTP/x.x request" => true,
        // "MKCOLA" is a token.
        "Expected space after method" => true,
        _ => false,
    }
}

#[test]
fn what_llhttp_refuses_is_refused() {
    let mut refused = 0;
    for (row, bytes) in rows("http/llhttp/cases.jsonl") {
        let kind = row["meta"]["type"].as_str().unwrap_or_default();
        // Some messages are written to be taken only when llhttp is told to be lenient, in one respect or another.
        let lenient = kind.starts_with("request-lenient");
        let refused_there = (kind == "request" && row["accept"] == false) || lenient;
        if !refused_there || llhttp_refusal_is_not_ours(&row) {
            continue;
        }
        // Most cases have no Host, which would be refused for that; many stop before the empty line.
        let has_host = bytes.windows(5).any(|window| window.eq_ignore_ascii_case(b"host:"));
        let line_end = bytes.windows(2).position(|window| window == b"\r\n").map_or(bytes.len(), |at| at + 2);
        let host = if has_host { &b""[..] } else { b"Host: h\r\n" };
        let whole = [&bytes[..line_end], host, &bytes[line_end..], b"\r\n\r\n"].concat();
        // A shorter message may be complete before the fault; what follows it must then be refused.
        let mut rest = whole.as_slice();
        while let Verdict::Accept(left @ 1..) = request_verdict(rest) {
            rest = &rest[rest.len() - left..];
        }
        assert!(
            matches!(request_verdict(rest), Verdict::Refuse(_)),
            "{}: {:?}: {}",
            row["name"],
            request_verdict(&whole),
            row["escaped"]
        );
        refused += 1;
    }
    assert!(refused == 0 || refused > 40, "{refused}");
}

fn same_request_as_httparse(bytes: &[u8]) -> bool {
    let mut fields = Fields::new();
    let Ok(Parsed::Complete(head)) = parse_request(bytes, &mut fields, &HeadLimits::REQUEST) else {
        return false;
    };
    let shown = bytes.escape_ascii();
    let mut storage = [httparse::EMPTY_HEADER; 128];
    let mut oracle = httparse::Request::new(&mut storage);
    assert_eq!(oracle.parse(bytes), Ok(httparse::Status::Complete(head.len)), "{shown}");
    assert_eq!(oracle.method.map(str::as_bytes), Some(head.method), "{shown}");
    assert_eq!(oracle.path.map(str::as_bytes), Some(head.target), "{shown}");
    assert_eq!(oracle.version, Some(head.minor), "{shown}");
    let ours: Vec<_> = fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect();
    let theirs: Vec<_> = oracle.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(ours, theirs, "{shown}");
    true
}

fn same_response_as_httparse(bytes: &[u8]) -> bool {
    let mut fields = Fields::new();
    let Ok(Parsed::Complete(head)) = parse_response(bytes, &mut fields, &HeadLimits::RESPONSE) else {
        return false;
    };
    let shown = bytes.escape_ascii();
    let mut storage = [httparse::EMPTY_HEADER; 128];
    let mut oracle = httparse::Response::new(&mut storage);
    assert_eq!(oracle.parse(bytes), Ok(httparse::Status::Complete(head.len)), "{shown}");
    assert_eq!((oracle.code, oracle.version), (Some(head.status), Some(head.minor)), "{shown}");
    // httparse leaves a reason with obs-text out.
    if head.reason.is_ascii() {
        assert_eq!(oracle.reason.map(str::as_bytes), Some(head.reason), "{shown}");
    }
    let ours: Vec<_> = fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes))).collect();
    let theirs: Vec<_> = oracle.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(ours, theirs, "{shown}");
    true
}

#[test]
fn what_we_accept_httparse_reads_the_same() {
    let mut accepted = 0;
    let names = ["own-framing", "llhttp", "httparse", "http11probe"];
    let all: Vec<_> = names.iter().flat_map(|name| rows(&format!("http/{name}/cases.jsonl"))).collect();
    for (_, bytes) in &all {
        let bytes = replace(bytes, "__HOST__", "localhost:8080");
        accepted +=
            usize::from(same_request_as_httparse(&bytes)) + usize::from(same_response_as_httparse(&bytes));
    }
    assert!(all.is_empty() || accepted > 100);
}

#[test]
fn what_httparse_refuses_is_refused() {
    for (row, bytes) in rows("http/httparse/cases.jsonl") {
        let (kind, expect) = (row["kind"].as_str().unwrap(), row["expect"].as_str().unwrap());
        let refused = match kind {
            "req" => parse_request(&bytes, &mut Fields::new(), &HeadLimits::REQUEST).is_err(),
            "res" => parse_response(&bytes, &mut Fields::new(), &HeadLimits::RESPONSE).is_err(),
            _ => Decoder::new(ChunkLimits::response()).decode(&mut bytes.clone()).is_err(),
        };
        if expect.starts_with("Err") {
            assert!(refused, "{}: {}", row["test"], row["escaped"]);
        }
    }
}

#[test]
fn the_json_test_suite_is_kept() {
    let Some(folder) = corpus("http/JSONTestSuite/test_parsing") else { return };
    let mut count = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let doc = std::fs::read(&path).unwrap();
        let verdict = json::validate(&doc, json::DEPTH_MAX);
        match name.as_bytes()[0] {
            b'y' => assert!(verdict.is_ok(), "{name}: {verdict:?}"),
            b'n' => assert!(verdict.is_err(), "{name}"),
            _ => {}
        }
        let peeked = json::peek(&doc);
        if verdict.is_ok() && peeked.is_err() {
            let root = json::Value::parse(&doc).unwrap();
            assert_ne!(root.kind(), json::Kind::Object, "{name}: {peeked:?}");
        }
        if let Some(object) = json::Value::parse(&doc).ok().and_then(|value| value.as_object()) {
            let _ = object.count();
        }
        count += 1;
    }
    assert!(count > 300, "{count} documents");
}
