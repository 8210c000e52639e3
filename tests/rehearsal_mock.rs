//! The mock provider as a client sees it: real sockets, bytes looked at one by one.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::rehearsal::{Mock, MockOptions, Pacing, Program};

/// An answer, read to its end.
#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    /// The body without its chunk framing.
    body: Vec<u8>,
    /// The framing ended as it promised.
    complete: bool,
    reset: bool,
}

impl Got {
    fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of each event, `[DONE]` as a string.
    fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data =
            text.split("\n\n").filter_map(|event| event.lines().find_map(|l| l.strip_prefix("data: ")));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
    }
}

fn start(program: &str) -> Mock {
    let program = Program::parse(program).expect("a program");
    Mock::start(MockOptions { program, capture: true, ..MockOptions::default() }).expect("a mock")
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream
}

fn request(path: &str, body: &str, extra: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: mock\r\nContent-Type: application/json\r\n{extra}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Reads one answer by its own framing, and says how it ended.
fn read_answer(stream: &mut TcpStream) -> Got {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let mut reset = false;
    loop {
        let got = parse(&bytes, false);
        if let Some(got) = got.filter(|got| got.complete) {
            return got;
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                reset = true;
                break;
            }
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    let none = Got { status: 0, head: String::new(), body: bytes.clone(), complete: false, reset };
    Got { reset, ..parse(&bytes, true).unwrap_or(none) }
}

fn parse(bytes: &[u8], ended: bool) -> Option<Got> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let mut got = Got { status, head, body: Vec::new(), complete: false, reset: false };
    let rest = &bytes[end..];
    if let Some(length) = got.field("content-length").map(|v| v.parse::<usize>().expect("a length")) {
        got.complete = rest.len() >= length;
        got.body = rest[..rest.len().min(length)].to_vec();
    } else if got.field("transfer-encoding").is_some() {
        (got.body, got.complete) = unchunk(rest);
    } else {
        got.body = rest.to_vec();
        got.complete = ended;
    }
    Some(got)
}

fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size =
            usize::from_str_radix(std::str::from_utf8(&rest[..line]).expect("text"), 16).expect("a size");
        rest = &rest[line + 2..];
        if size == 0 {
            return (body, rest.starts_with(b"\r\n"));
        }
        if rest.len() < size + 2 {
            body.extend_from_slice(&rest[..rest.len().min(size)]);
            break;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    (body, false)
}

fn post(mock: &Mock, path: &str, body: &Value) -> Got {
    let mut stream = connect(mock.addr());
    let key = "Authorization: Bearer sk-test-abcd1234\r\n";
    stream.write_all(&request(path, &body.to_string(), key)).expect("write");
    read_answer(&mut stream)
}

fn get(mock: &Mock, path: &str, extra: &str) -> Got {
    let mut stream = connect(mock.addr());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: mock\r\n{extra}\r\n").expect("write");
    read_answer(&mut stream)
}

fn chat(stream: bool) -> Value {
    json!({"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": "Hello there"}]})
}

fn post_chat(mock: &Mock, stream: bool) -> Got {
    post(mock, "/v1/chat/completions", &chat(stream))
}

fn messages(stream: bool) -> Value {
    json!({"model": "claude-haiku-4-5", "max_tokens": 100, "stream": stream,
        "messages": [{"role": "user", "content": "Hello there"}]})
}

/// Waits until the mock has settled what a client did.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(2);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_chat_answer_has_the_shape_of_the_provider() {
    let mock = start("ok");
    let got = post_chat(&mock, false);
    assert_eq!(got.status, 200);
    assert!(got.field("x-request-id").is_some_and(|id| id.starts_with("req_")));
    assert_eq!(got.field("content-type"), Some("application/json"));
    let answer = got.json();
    assert_eq!(answer["object"], "chat.completion");
    assert_eq!(answer["model"], "gpt-4o-mini");
    let choice = &answer["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["message"]["role"]), (&json!("stop"), &json!("assistant")));
    let text = choice["message"]["content"].as_str().expect("content");
    assert!(text.contains("Hello there"), "{text}");
    assert_eq!(answer["usage"]["completion_tokens"], 40);
    let (prompt, total) = (&answer["usage"]["prompt_tokens"], &answer["usage"]["total_tokens"]);
    assert_eq!(total.as_u64(), prompt.as_u64().map(|prompt| prompt + 40));
}

#[test]
fn a_streamed_chat_says_the_same_words_and_the_same_usage() {
    let mock = start("ok");
    let whole = post_chat(&mock, false).json();
    let got = post_chat(&mock, true);
    assert!(got.complete && got.field("content-type").is_some_and(|t| t.starts_with("text/event-stream")));
    let events = got.events();
    assert_eq!(events.last(), Some(&json!("[DONE]")));
    let text: String = events.iter().filter_map(|e| e["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(json!(text), whole["choices"][0]["message"]["content"]);
    assert!(events.iter().all(|event| event.get("usage").is_none()), "usage was not asked for");
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "stop");

    let mut ask = chat(true);
    ask["stream_options"] = json!({"include_usage": true});
    let events = post(&mock, "/v1/chat/completions", &ask).events();
    let last = &events[events.len() - 2];
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(events[..events.len() - 2].iter().all(|event| event.get("usage") == Some(&Value::Null)));
}

#[test]
fn max_tokens_ends_an_answer_with_length() {
    let mock = start("ok");
    for (name, stream) in [("max_tokens", false), ("max_completion_tokens", false), ("max_tokens", true)] {
        let mut ask = chat(stream);
        ask[name] = json!(7);
        let got = post(&mock, "/v1/chat/completions", &ask);
        if stream {
            let events = got.events();
            let content = events
                .iter()
                .filter(|e| e["choices"][0]["delta"]["content"].as_str().is_some_and(|t| !t.is_empty()));
            assert_eq!(content.count(), 7);
            assert_eq!(events[events.len() - 2]["choices"][0]["finish_reason"], "length");
        } else {
            assert_eq!(got.json()["choices"][0]["finish_reason"], "length");
            assert_eq!(got.json()["usage"]["completion_tokens"], 7);
        }
    }
}

#[test]
fn a_tool_is_called_with_arguments_that_fit_its_schema() {
    let mock = start("ok");
    let tool = json!({"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city", "days"]}}});
    let mut ask = chat(false);
    ask["tools"] = json!([tool]);
    ask["tool_choice"] = json!("required");
    let answer = post(&mock, "/v1/chat/completions", &ask).json();
    let call = &answer["choices"][0]["message"]["tool_calls"][0];
    assert_eq!(answer["choices"][0]["finish_reason"], "tool_calls");
    assert_eq!(call["function"]["name"], "get_weather");
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().expect("text")).expect("JSON");
    assert_eq!(arguments, json!({"city": "example", "days": 1}));

    ask["stream"] = json!(true);
    let events = post(&mock, "/v1/chat/completions", &ask).events();
    let fragments = events
        .iter()
        .filter_map(|e| e["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str());
    assert_eq!(json!(fragments.collect::<String>()), call["function"]["arguments"]);
}

#[test]
fn an_anthropic_answer_and_its_stream_agree() {
    let mock = start("ok");
    let got = post(&mock, "/v1/messages", &messages(false));
    assert!(got.field("request-id").is_some());
    let whole = got.json();
    assert_eq!((&whole["type"], &whole["stop_reason"]), (&json!("message"), &json!("end_turn")));
    let events = post(&mock, "/v1/messages", &messages(true)).events();
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds[..3], ["message_start", "content_block_start", "ping"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(json!(text), whole["content"][0]["text"]);
    let delta = &events[events.len() - 2];
    assert_eq!(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
    assert_eq!(events[0]["message"]["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
}

#[test]
fn models_are_listed_in_both_dialects() {
    let mock = start("ok");
    let openai = get(&mock, "/v1/models", "").json();
    assert!(openai["data"].as_array().is_some_and(|all| all.iter().any(|m| m["id"] == "gpt-4o-mini")));
    let anthropic = get(&mock, "/v1/models", "anthropic-version: 2023-06-01\r\n").json();
    assert_eq!(anthropic["data"][0]["type"], "model");
    assert_eq!(get(&mock, "/v1/models/gpt-4o", "").json()["id"], "gpt-4o");
    assert_eq!(get(&mock, "/v1/models/none", "").status, 404);
}

#[test]
fn callers_mistakes_are_told_in_their_dialect() {
    let mock = start("ok");
    let got = post(&mock, "/v1/chat/completions", &json!({"messages": []}));
    assert_eq!((got.status, &got.json()["error"]["param"]), (400, &json!("model")));
    let mut stream = connect(mock.addr());
    stream.write_all(&request("/v1/chat/completions", "{oops", "")).expect("write");
    assert_eq!(read_answer(&mut stream).status, 400);
    let got = post(&mock, "/v1/messages", &json!({"model": "m", "messages": []}));
    assert_eq!((got.status, &got.json()["type"]), (400, &json!("error")));
    assert_eq!(got.json()["request_id"], json!(got.field("request-id")));
    assert_eq!(post(&mock, "/v1/nothing", &json!({})).json()["error"]["code"], "unknown_url");
}

#[test]
fn a_connection_serves_pipelined_chunked_and_expecting_requests() {
    let mock = start("ok");
    let mut stream = connect(mock.addr());
    let body = chat(false).to_string();
    let one = request("/v1/chat/completions", &body, "");
    stream.write_all(&[one.clone(), one].concat()).expect("write");
    let mut bytes = Vec::new();
    while String::from_utf8_lossy(&bytes).matches("fp_rehearsal").count() < 2 {
        let mut buffer = [0; 4096];
        let count = stream.read(&mut buffer).expect("read");
        assert!(count > 0);
        bytes.extend_from_slice(&buffer[..count]);
    }
    let (a, b) = body.split_at(20);
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    )
    .expect("write");
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).expect("read");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    write!(stream, "{:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n", a.len(), b.len()).expect("write");
    assert_eq!(read_answer(&mut stream).status, 200);
    eventually("three requests", || mock.counts().completed == 3);
    assert_eq!(mock.counts().connections, 1);
}

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
fn slow_answers_come_later_by_what_the_program_says() {
    let mock = start("slow:+200ms");
    for stream in [false, true] {
        let asked = Instant::now();
        assert_eq!(post_chat(&mock, stream).status, 200);
        let took = asked.elapsed();
        assert!((200..300).contains(&took.as_millis()), "{took:?}");
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
    assert!((280..400).contains(&lasted.as_millis()), "{lasted:?}");
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
