//! Starting, stopping, counting, and holding many streams.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sluice::rehearsal::{Mock, MockOptions, Pacing, Program};

use crate::client::*;

#[test]
fn a_client_that_leaves_a_stream_is_noticed_at_once() {
    let pacing = Pacing { token_gap: Duration::from_secs(5), ..Pacing::instant() };
    let mock = Mock::start(MockOptions { pacing, ..MockOptions::default() }).expect("a mock");
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", &chat(true).to_string(), "")).expect("write");
    let mut first = [0; 200];
    stream.read_exact(&mut first).expect("the head");
    let left = Instant::now();
    drop(stream);
    eventually("noticed", || mock.counts().cancelled == 1);
    let noticed = mock.counts().cancellations[0].at.duration_since(left);
    assert!(noticed < Duration::from_millis(50), "{noticed:?}");
    assert!(mock.counts().tokens_out < 40);
}

#[test]
fn stop_frees_the_port_and_dropping_does_too() {
    let mock = start("hang");
    let addr = mock.addr();
    let mut open = connect(addr);
    open.write_all(&request("/v1/chat/completions", &chat(false).to_string(), "")).expect("write");
    mock.stop();
    assert!(TcpStream::connect(addr).is_err());
    let again =
        Mock::start(MockOptions { listen: addr, ..MockOptions::default() }).expect("the port is free");
    assert!(
        Mock::start(MockOptions { listen: addr, ..MockOptions::default() }).is_err(),
        "and now it is not"
    );
    assert_eq!(post_chat(&again, false).status, 200);
    drop(again);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn the_ledger_adds_up() {
    let mock = start("ok");
    for _ in 0..3 {
        post_chat(&mock, false);
    }
    let usage = post_chat(&mock, false).json()["usage"].clone();
    post_chat(&mock, true);
    let counts = mock.counts();
    assert_eq!((counts.requests, counts.in_progress, counts.cancelled, counts.broken), (5, 0, 0, 0));
    assert_eq!(counts.tokens_out, 200);
    assert_eq!(Some(counts.tokens_in), usage["prompt_tokens"].as_u64().map(|tokens| tokens * 5));
    assert_eq!(counts.keys["abcd1234"].tokens_out, 200);
    assert_eq!(counts.statuses[&200], 5);
    assert_eq!(counts.buckets.iter().map(|bucket| bucket.requests).sum::<u64>(), 5);
    assert!(counts.first_seen <= counts.last_seen);
    eventually("closed", || mock.counts().open_connections == 0);
}

#[test]
fn captured_requests_show_what_was_sent() {
    let mock = start("ok");
    post_chat(&mock, true);
    let seen = mock.requests();
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].method.as_str(), seen[0].path.as_str()), ("POST", "/v1/chat/completions"));
    assert_eq!(seen[0].key, "abcd1234");
    assert_eq!(seen[0].body, chat(true).to_string().into_bytes());
    assert!(
        seen[0].headers.iter().any(|(name, value)| name == "authorization" && value.ends_with("abcd1234"))
    );
}

#[test]
fn five_hundred_paced_streams_on_one_thread_keep_their_pace() {
    const STREAMS: usize = 500;
    let gap = Duration::from_millis(20);
    let pacing = Pacing { first_token: Duration::from_millis(300), token_gap: gap, jitter: 0.0, tokens: 40 };
    let mock = Mock::start(MockOptions { pacing, ..MockOptions::default() }).expect("a mock");
    let ask = request("/v1/chat/completions", &chat(true).to_string(), "");
    let mut streams: Vec<(TcpStream, Instant)> = (0..STREAMS)
        .map(|_| {
            let mut stream = connect(mock.addr());
            let asked = Instant::now();
            stream.write_all(&ask).expect("write");
            (stream, asked)
        })
        .collect();
    eventually("all in progress", || mock.counts().most_in_progress == STREAMS as u64);
    let mut late = Duration::ZERO;
    for (stream, asked) in &mut streams {
        // 300 ms and 39 gaps of 20 ms.
        assert!(read_answer(stream).complete);
        assert!(asked.elapsed() >= Duration::from_millis(1_080));
        late = late.max(asked.elapsed());
    }
    let all = mock.counts();
    let (first, last) = (all.first_seen.expect("first"), all.buckets.last().expect("a bucket"));
    assert_eq!(all.completed, STREAMS as u64);
    assert!(last.last_seen >= first);
    assert!(late < Duration::from_millis(2_500), "the slowest took {late:?} instead of 1.08 s");
}

/// How many descriptors this process may have; both ends of a connection are in it.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("limits");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1024)
}

#[test]
fn two_thousand_slow_streams_wait_without_work() {
    let streams = 2_000.min(open_files() / 2 - 100);
    let mock = start("slow:+60s");
    let ask = request("/v1/chat/completions", &chat(true).to_string(), "");
    let open: Vec<TcpStream> = (0..streams)
        .map(|_| {
            let mut stream = connect(mock.addr());
            stream.write_all(&ask).expect("write");
            stream
        })
        .collect();
    eventually("all in progress", || mock.counts().in_progress == streams as u64);
    drop(open);
    eventually("all noticed", || {
        mock.counts().cancelled == streams as u64 && mock.counts().open_connections == 0
    });
}

#[test]
fn a_mock_speaks_tls_when_it_has_a_certificate() {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .expect("a configuration");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(signed.cert.der().clone()).expect("a root");
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = std::sync::Arc::new(client);
    let options = MockOptions { tls: Some(server.into()), ..MockOptions::default() };
    let mock = Mock::start(options).expect("a mock");
    let open = || {
        let name = rustls::pki_types::ServerName::try_from("localhost").expect("a name");
        let session = rustls::ClientConnection::new(client.clone(), name).expect("a session");
        rustls::StreamOwned::new(session, connect(mock.addr()))
    };
    let mut stream = open();
    let close = "Connection: close\r\n";
    stream.write_all(&request("/v1/chat/completions", &chat(true).to_string(), close)).expect("write");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer and a polite end");
    assert!(parse(&bytes, true).is_some_and(|got| got.complete && got.text().ends_with("data: [DONE]\n\n")));
    mock.program(Program::parse("cut:after=3").expect("a program"));
    let mut stream = open();
    stream.write_all(&request("/v1/chat/completions", &chat(true).to_string(), close)).expect("write");
    assert_eq!(stream.read_to_end(&mut bytes).expect_err("no close_notify").kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn odd_bodies_get_answers_and_never_stop_the_mock() {
    let mock = start("ok");
    let odd = [
        r#"null"#,
        r#"[]"#,
        r#""text""#,
        r#"{"model":5,"messages":7}"#,
        r#"{"model":"m","messages":[null,1,"x",[],{}],"tools":[null,{"function":null},{"function":{"name":1}}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text"},{"text":5},null]}],"n":-1,"stop":[1,null]}"#,
        r#"{"model":"m","messages":[{"role":"tool"}],"tool_choice":{"function":{}},"max_tokens":-5,"stream":"yes"}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":0,"n":99999999}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":99999999999999999999}"#,
        r#"{"model":"m","prompt":[[1,2],[3]],"input":[[1,2],[3]],"max_tokens":1}"#,
        r#"{"model":"m","prompt":{"a":1},"input":{"a":1},"dimensions":0,"encoding_format":7}"#,
        r#"{"model":"m","input":[{"type":"function_call_output"}],"tools":[{"type":"function"}],"text":{"format":{"type":"json_schema"}}}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_schema"},"stream_options":[]}"#,
    ];
    let paths = [
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/files",
        "/v1/moderations",
        "/v1/rerank",
        "//",
        "*",
    ];
    for path in paths {
        for body in odd {
            let mut stream = connect(mock.addr());
            stream.write_all(&request(path, body, "")).expect("write");
            let got = read_answer(&mut stream);
            assert!(got.complete && matches!(got.status, 200 | 400 | 404), "{path} {body} {}", got.head);
        }
    }
    let deep = "[".repeat(100_000);
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", &deep, "")).expect("write");
    assert_eq!(read_answer(&mut stream).status, 400);
    assert_eq!(post_chat(&mock, false).status, 200);
}
