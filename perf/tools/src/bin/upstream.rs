//! A provider that costs almost nothing: fixed answers, as fast as one thread and epoll can.
//!
//! Why: the mock of the gateway plays faults and paces tokens; beside a fast proxy it would be what is measured.
//!
//! - a POST whose path ends with `/messages`: an Anthropic message of 2 KiB, or its events;
//! - any other POST: a chat completion of 2 KiB, or, with `"stream":true`, its events: 200, one write each, every 2 ms.
//!   `"user":"g500n100"` makes that 100, every 500 microseconds; a gap of 0 sends them back to back. Each event carries its
//!   number and the moment it was written, so that a reader can tell how late it is;
//! - `GET /stats`: `requests events`, counted since the start.
//!
//! It trusts its clients: heads are searched, not parsed. Bodies need a `Content-Length`.
//!
//!     upstream 127.0.0.1:9300 [CERTIFICATE.pem KEY.pem]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use perf_tools::epoll::Epoll;
use perf_tools::{exact_timers, many_files, now_ns};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const EVENTS: u32 = 200;
const GAP_US: u64 = 2_000;
const ANSWER_BYTES: usize = 2048;
/// How an event's stamp stands in it; the digits are overwritten.
const STAMP: &[u8] = b"t=00000000000000000000 n=000000";

enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Socket {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Plain(stream) => stream.read(into),
            Socket::Tls(stream) => stream.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Socket::Plain(stream) => stream.write_all(bytes),
            Socket::Tls(stream) => stream.write_all(bytes),
        }
    }
}

struct Conn {
    socket: Socket,
    input: Vec<u8>,
    /// Events still to be sent, and how far apart.
    left: u32,
    gap_ns: u64,
    sent: u32,
}

struct Texts {
    answer: Vec<u8>,
    message: Vec<u8>,
    stream_head: Vec<u8>,
    event: Vec<u8>,
    stamp_at: usize,
    end: Vec<u8>,
}

impl Texts {
    fn new() -> Texts {
        let chat = |words: &str| {
            format!(
                r#"{{"id":"chatcmpl-perf","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":256,"completion_tokens":400,"total_tokens":656,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_perf"}}"#
            )
        };
        let message = |words: &str| {
            format!(
                r#"{{"id":"msg_perf","type":"message","role":"assistant","model":"claude-haiku-4-5","content":[{{"type":"text","text":"{words}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":256,"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"output_tokens":400,"service_tier":"standard"}}}}"#
            )
        };
        let whole = |body: String| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_perf\r\nContent-Length: {length}\r\n\r\n{body}"
            )
        };
        let words = |empty: usize| "word ".repeat((ANSWER_BYTES - empty) / 5);
        let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let event = |delta: &str, finish: &str, stamp: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-perf\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_perf\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\"obfuscation\":\"{stamp}\"}}\n\n"
            )
        };
        let stamp = String::from_utf8_lossy(STAMP);
        let event_bytes = chunk(&event("{\"content\":\" word\"}", "null", &stamp)).into_bytes();
        let stamp_at = event_bytes.windows(STAMP.len()).position(|w| w == STAMP).unwrap_or_default();
        let end = chunk(&event("{}", "\"stop\"", "")) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_perf\r\nTransfer-Encoding: chunked\r\n\r\n";
        Texts {
            answer: whole(chat(&words(chat("").len()))).into_bytes(),
            message: whole(message(&words(message("").len()))).into_bytes(),
            stream_head: head.into(),
            event: event_bytes,
            stamp_at,
            end: end.into_bytes(),
        }
    }

    /// The event, stamped.
    fn stamped(&mut self, number: u32) -> &[u8] {
        let stamp = format!("t={:020} n={number:06}", now_ns());
        self.event[self.stamp_at..self.stamp_at + STAMP.len()].copy_from_slice(stamp.as_bytes());
        &self.event
    }
}

struct Provider {
    texts: Texts,
    epoll: Epoll,
    tls: Option<Arc<ServerConfig>>,
    conns: Vec<Option<Conn>>,
    /// Streams by when their next event is due, nanoseconds.
    due: BTreeSet<(u64, RawFd)>,
    requests: u64,
    events: u64,
}

impl Provider {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a socket can be non-blocking");
            stream.set_nodelay(true).expect("TCP has this option");
            let fd = stream.as_raw_fd();
            self.epoll.add(fd, false);
            if self.conns.len() <= fd as usize {
                self.conns.resize_with(fd as usize + 1, || None);
            }
            let socket = match &self.tls {
                None => Socket::Plain(stream),
                Some(config) => {
                    let session = ServerConnection::new(config.clone()).expect("the config is whole");
                    Socket::Tls(Box::new(StreamOwned::new(session, stream)))
                }
            };
            self.conns[fd as usize] =
                Some(Conn { socket, input: Vec::with_capacity(4096), left: 0, gap_ns: 0, sent: 0 });
        }
    }

    fn gone(&mut self, fd: RawFd) {
        self.conns[fd as usize] = None;
        self.due.retain(|(_, other)| *other != fd);
    }

    fn readable(&mut self, fd: RawFd, chunk: &mut [u8]) {
        let Some(conn) = self.conns[fd as usize].as_mut() else { return };
        loop {
            match conn.socket.read(chunk) {
                Ok(n) if n > 0 => {
                    conn.input.extend_from_slice(&chunk[..n]);
                    // A short read emptied the socket; TLS may have decrypted more than it gave.
                    if n < chunk.len() && matches!(conn.socket, Socket::Plain(_)) {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                _ => return self.gone(fd),
            }
        }
        while let Some((length, kind)) = request(&conn.input) {
            conn.input.drain(..length);
            let sent = match kind {
                Kind::Stats => {
                    let body = format!("{} {}\n", self.requests, self.events);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    conn.socket.write_all((head + &body).as_bytes())
                }
                Kind::Chat => {
                    self.requests += 1;
                    conn.socket.write_all(&self.texts.answer)
                }
                Kind::Message => {
                    self.requests += 1;
                    conn.socket.write_all(&self.texts.message)
                }
                Kind::Stream { events, gap_ns } => {
                    self.requests += 1;
                    (conn.left, conn.gap_ns, conn.sent) = (events, gap_ns, 0);
                    self.due.insert((now_ns() + gap_ns, fd));
                    conn.socket.write_all(&self.texts.stream_head)
                }
            };
            if sent.is_err() {
                return self.gone(fd);
            }
        }
    }

    fn send_due(&mut self) {
        loop {
            let now = now_ns();
            let Some(&(at, fd)) = self.due.first().filter(|(at, _)| *at <= now) else { return };
            self.due.pop_first();
            let Some(conn) = self.conns[fd as usize].as_mut() else { continue };
            if conn.left == 0 {
                let _ = conn.socket.write_all(&self.texts.end);
                continue;
            }
            conn.left -= 1;
            conn.sent += 1;
            // A reader that is so far behind that the socket is full loses an event, which its reader counts.
            if conn.socket.write_all(self.texts.stamped(conn.sent)).is_ok() {
                self.events += 1;
                // A provider that fell behind does not catch up in a burst.
                let next = (at + conn.gap_ns).max(now.saturating_sub(conn.gap_ns));
                self.due.insert((next, fd));
            }
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let addr = words.first().map_or("127.0.0.1:9300", String::as_str);
    let tls = match &words[..] {
        [_, certificate, key] => {
            let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            let config =
                ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
            Some(Arc::new(config.expect("the key belongs to the certificate")))
        }
        _ => None,
    };
    many_files();
    exact_timers();
    let listener = TcpListener::bind(addr).expect("the address is free");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut provider = Provider {
        texts: Texts::new(),
        epoll: Epoll::default(),
        tls,
        conns: Vec::new(),
        due: BTreeSet::new(),
        requests: 0,
        events: 0,
    };
    provider.epoll.add(listener.as_raw_fd(), false);
    println!("upstream on {addr}");
    let (mut ready, mut chunk) = (Vec::new(), vec![0; 65536]);
    loop {
        let timeout = provider.due.first().map(|(at, _)| Duration::from_nanos(at.saturating_sub(now_ns())));
        provider.epoll.wait(timeout, &mut ready);
        for &fd in &ready {
            if fd == listener.as_raw_fd() {
                provider.accept(&listener);
            } else {
                provider.readable(fd, &mut chunk);
            }
        }
        provider.send_due();
    }
}

enum Kind {
    Stats,
    Chat,
    Message,
    Stream { events: u32, gap_ns: u64 },
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

fn number_after(text: &[u8], letter: u8) -> Option<u64> {
    let at = text.iter().position(|byte| *byte == letter)? + 1;
    let digits = text[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

/// Length and kind of the first whole request in `input`.
fn request(input: &[u8]) -> Option<(usize, Kind)> {
    let head = find(input, b"\r\n\r\n")? + 4;
    if input.starts_with(b"GET") {
        return Some((head, Kind::Stats));
    }
    let lower = input[..head].to_ascii_lowercase();
    let length = b"content-length:";
    let at = find(&lower, length)? + length.len();
    let digits = lower[at..].iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let body = input.get(head..head + length)?;
    // Who builds a body again may put its members elsewhere, but a large one is text in the middle.
    let start = &body[..body.len().min(2048)];
    let streams = find(start, b"\"stream\":true").or_else(|| find(start, b"\"stream\": true")).is_some();
    let path_end = find(input, b" HTTP/").unwrap_or(0);
    let kind = if streams {
        let user = find(start, b"\"g").map_or(&[][..], |at| &start[at + 1..]);
        let pace = |letter| number_after(user, letter);
        let paced = number_after(user, b'g').is_some() && pace(b'n').is_some();
        Kind::Stream {
            events: pace(b'n').filter(|_| paced).map_or(EVENTS, |n| n as u32),
            gap_ns: pace(b'g').filter(|_| paced).unwrap_or(GAP_US) * 1_000,
        }
    } else if input[..path_end].ends_with(b"/messages") {
        Kind::Message
    } else {
        Kind::Chat
    };
    Some((head + length, kind))
}
