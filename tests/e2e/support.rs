//! A gateway, providers and a small raw client for the tests beside this file.
#![allow(dead_code)] // each test file uses its part

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use sluice::config::{DriverChoice, Loader, Plan};
use sluice::gateway::{self, Running};
use sluice::net::driver;
use sluice::rehearsal::{Mock, MockOptions, Program};

/// Runs a test on io_uring and on epoll.
pub fn each_driver(test: impl Fn(DriverChoice)) {
    test(DriverChoice::Epoll);
    match driver::choose(DriverChoice::IoUring) {
        Ok(_) => test(DriverChoice::IoUring),
        Err(why) => println!("skipped on io_uring: {why}"),
    }
}

/// Keys for the configurations of these tests.
pub fn env(name: &str) -> Option<String> {
    Some(match name {
        "OPENAI_KEY_PRIMARY" => "sk-primary".to_owned(),
        "OPENAI_KEY_BACKUP" | "OPENAI_KEY_SECONDARY" => "sk-second".to_owned(),
        "OPENAI_KEY" => "sk-openai".to_owned(),
        "ANTHROPIC_KEY" => "sk-anthropic".to_owned(),
        _ => return None,
    })
}

/// A scripted provider.
pub fn provider(program: &str) -> Mock {
    let program = Program::parse(program).unwrap_or_else(|e| panic!("{e}"));
    Mock::start(MockOptions { program, capture: true, ..MockOptions::default() }).unwrap()
}

/// The text of one of the acceptance configurations.
pub fn config_file(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/configs").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// Compiles a configuration whose providers are pointed at `at`.
pub fn plan(text: &str, at: &[(&str, SocketAddr)], driver: DriverChoice, more: &[&str]) -> Plan {
    let mut set: Vec<String> = vec!["listen=127.0.0.1:0".to_owned(), "workers=1".to_owned()];
    for (name, addr) in at {
        set.push(format!("providers.{name}.network_config.base_url=http://{addr}"));
    }
    set.extend(more.iter().map(|s| (*s).to_owned()));
    let loader = Loader { file: Some("test.yaml".into()), sets: set, ..Loader::default() };
    let mut plan = loader.load_text(text, &env).unwrap_or_else(|e| panic!("{e}"));
    plan.driver = driver;
    plan
}

/// Starts a gateway.
pub fn gateway(plan: Plan) -> Running {
    gateway::start(plan).unwrap_or_else(|e| panic!("{e}"))
}

/// The usual pair: OpenAI first, Anthropic behind it.
pub fn two(openai: &Mock, anthropic: &Mock, driver: DriverChoice, more: &[&str]) -> Running {
    let text = config_file("fallbacks-model-targets.yaml");
    gateway(plan(&text, &[("openai", openai.addr()), ("anthropic", anthropic.addr())], driver, more))
}

/// `openai` alone at `first`, or with the keyless provider `backup` behind it for every model.
pub fn chain(first: SocketAddr, backup: Option<SocketAddr>, driver: DriverChoice, more: &[&str]) -> Running {
    let mut text = format!("providers:\n  openai:\n    keys: [sk-first]\n    base_url: http://{first}\n");
    if let Some(backup) = backup {
        text.push_str(&format!("  backup:\n    base_url: http://{backup}\n"));
        text.push_str("fallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [backup/gpt-4o-mini]\n");
    }
    gateway(plan(&text, &[], driver, more))
}

/// What a client got.
#[derive(Debug, Default)]
pub struct Got {
    /// 0 when the connection ended before a head came.
    pub status: u16,
    /// The head as text.
    pub head: String,
    /// The body without chunk framing.
    pub body: Vec<u8>,
    /// The body ended as its framing says.
    pub whole: bool,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, v) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| v.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {}\n{}", self.head, self.text()))
    }
}

/// A client connection.
pub struct Client {
    pub stream: TcpStream,
    rest: Vec<u8>,
    ended: bool,
    reset: bool,
}

impl Client {
    pub fn to(addr: SocketAddr) -> Client {
        Client::on(TcpStream::connect(addr).unwrap())
    }

    /// Connects to a gateway that may be gone.
    pub fn reach(addr: SocketAddr) -> Option<Client> {
        TcpStream::connect(addr).ok().map(Client::on)
    }

    fn on(stream: TcpStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, rest: Vec::new(), ended: false, reset: false }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends to a gateway that may be gone; whether it was there.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn post(&mut self, path: &str, body: &str) -> Got {
        self.post_with(path, "", body)
    }

    pub fn post_with(&mut self, path: &str, headers: &str, body: &str) -> Got {
        self.send(&request(path, headers, body));
        self.read()
    }

    pub fn get(&mut self, path: &str) -> Got {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
        self.read()
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 65536];
        match self.stream.read(&mut chunk) {
            Ok(n) if n > 0 => {
                self.rest.extend_from_slice(&chunk[..n]);
                true
            }
            // A signal to this thread (io_uring's task work is one) is no end.
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => self.fill(),
            e => {
                self.reset = matches!(&e, Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset);
                self.ended = !matches!(&e, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock);
                println!("the connection ended: {e:?}");
                false
            }
        }
    }

    /// Reads until `needle` has come.
    pub fn read_until(&mut self, needle: &[u8]) -> bool {
        while !self.rest.windows(needle.len()).any(|w| w == needle) {
            if !self.fill() {
                return false;
            }
        }
        true
    }

    /// Reads until so many bytes have come.
    pub fn has_come(&mut self, bytes: usize) -> bool {
        while self.rest.len() < bytes {
            if !self.fill() {
                return false;
            }
        }
        true
    }

    /// Reads one answer, by an independent parser.
    pub fn read(&mut self) -> Got {
        let mut got = Got::default();
        let (status, head_len, length, chunked) = loop {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&self.rest).unwrap() {
                httparse::Status::Complete(head_len) => {
                    let find = |name: &str| {
                        let field = response.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name))?;
                        Some(String::from_utf8_lossy(field.value).into_owned())
                    };
                    let length = find("content-length").map(|v| v.parse::<usize>().unwrap());
                    let chunked = find("transfer-encoding").is_some();
                    break (response.code.unwrap(), head_len, length, chunked);
                }
                httparse::Status::Partial => {
                    if !self.fill() {
                        return got;
                    }
                }
            }
        };
        got.status = status;
        got.head = String::from_utf8_lossy(&self.rest[..head_len]).into_owned();
        self.rest.drain(..head_len);
        if status == 100 {
            return got;
        }
        match (length, chunked) {
            (Some(length), _) => {
                while self.rest.len() < length {
                    if !self.fill() {
                        got.body = std::mem::take(&mut self.rest);
                        return got;
                    }
                }
                got.body = self.rest.drain(..length).collect();
                got.whole = true;
            }
            (None, true) => loop {
                let Ok(httparse::Status::Complete((at, size))) = httparse::parse_chunk_size(&self.rest)
                else {
                    if !self.fill() {
                        return got;
                    }
                    continue;
                };
                let size = size as usize;
                while self.rest.len() < at + size + 2 {
                    if !self.fill() {
                        got.body.extend_from_slice(&self.rest[at..]);
                        return got;
                    }
                }
                got.body.extend_from_slice(&self.rest[at..at + size]);
                assert_eq!(&self.rest[at + size..at + size + 2], b"\r\n");
                self.rest.drain(..at + size + 2);
                if size == 0 {
                    got.whole = true;
                    return got;
                }
            },
            (None, false) => {
                while self.fill() {}
                got.body = std::mem::take(&mut self.rest);
                got.whole = true;
            }
        }
        got
    }

    /// Reads one head, and no body, as after a HEAD request.
    pub fn read_head(&mut self) -> String {
        assert!(self.read_until(b"\r\n\r\n"));
        let end = self.rest.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        String::from_utf8_lossy(&self.rest.drain(..end).collect::<Vec<_>>()).into_owned()
    }

    /// Whether the last read ended with a reset.
    pub fn was_reset(&self) -> bool {
        self.reset
    }

    /// Whether the other side had closed when the last read ended.
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Whether the other side has closed.
    pub fn is_closed(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        loop {
            match self.stream.read(&mut [0; 1]) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                read => return matches!(read, Ok(0)),
            }
        }
    }
}

/// A POST as bytes.
pub fn request(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

pub const CHAT: &str = r#"{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"Say hello"}]}"#;
pub const CHAT_STREAM: &str =
    r#"{"model":"openai/gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"Say hello"}]}"#;

/// The text of a streamed chat answer.
pub fn stream_text(body: &[u8]) -> String {
    let mut text = String::new();
    for line in String::from_utf8_lossy(body).lines() {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            continue;
        }
        let chunk: serde_json::Value = serde_json::from_str(data).unwrap();
        if let Some(piece) = chunk["choices"][0]["delta"]["content"].as_str() {
            text.push_str(piece);
        }
    }
    text
}
