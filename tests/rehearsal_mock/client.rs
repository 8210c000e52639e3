//! A client that looks at bytes, for the tests of the mock.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice::rehearsal::{Mock, MockOptions, Program};

/// An answer, read to its end.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub head: String,
    /// The body without its chunk framing.
    pub body: Vec<u8>,
    /// The framing ended as it promised.
    pub complete: bool,
    pub reset: bool,
}

impl Got {
    pub fn field(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).next()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The JSON of each event, `[DONE]` as a string.
    pub fn events(&self) -> Vec<Value> {
        let text = self.text();
        let data =
            text.split("\n\n").filter_map(|event| event.lines().find_map(|l| l.strip_prefix("data: ")));
        data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| json!(data))).collect()
    }
}

pub fn start(program: &str) -> Mock {
    let program = Program::parse(program).expect("a program");
    Mock::start(MockOptions { program, capture: true, ..MockOptions::default() }).expect("a mock")
}

pub fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    stream
}

pub fn request(path: &str, body: &str, extra: &str) -> Vec<u8> {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: mock\r\nContent-Type: application/json\r\n{extra}Content-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

/// Reads one answer by its own framing, and says how it ended.
pub fn read_answer(stream: &mut TcpStream) -> Got {
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

pub fn parse(bytes: &[u8], ended: bool) -> Option<Got> {
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

pub fn unchunk(mut rest: &[u8]) -> (Vec<u8>, bool) {
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

pub fn post(mock: &Mock, path: &str, body: &Value) -> Got {
    let mut stream = connect(mock.addr());
    let key = "Authorization: Bearer sk-test-abcd1234\r\n";
    stream.write_all(&request(path, &body.to_string(), key)).expect("write");
    read_answer(&mut stream)
}

pub fn get(mock: &Mock, path: &str, extra: &str) -> Got {
    let mut stream = connect(mock.addr());
    write!(stream, "GET {path} HTTP/1.1\r\nHost: mock\r\n{extra}\r\n").expect("write");
    read_answer(&mut stream)
}

pub fn chat(stream: bool) -> Value {
    json!({"model": "gpt-4o-mini", "stream": stream, "messages": [{"role": "user", "content": "Hello there"}]})
}

pub fn post_chat(mock: &Mock, stream: bool) -> Got {
    post(mock, "/v1/chat/completions", &chat(stream))
}

pub fn messages(stream: bool) -> Value {
    json!({"model": "claude-haiku-4-5", "max_tokens": 100, "stream": stream,
        "messages": [{"role": "user", "content": "Hello there"}]})
}

/// Waits until the mock has settled what a client did.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(2);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
