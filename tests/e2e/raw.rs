//! A provider made of bytes, for what a well-built mock cannot say: it reads requests strictly and answers them with
//! whatever a test writes to the socket. One thread per connection.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Requests that are kept for [`Raw::asked`].
const KEPT_MAX: usize = 2000;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Number of the request on its connection, from 0.
    pub no: usize,
    /// Request line and fields as text.
    pub head: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn line(&self) -> &str {
        self.head.lines().next().unwrap_or_default()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v).collect()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Whether the connection goes on after an answer.
pub enum Then {
    Keep,
    Close,
    Reset,
}

type Script = dyn Fn(&Asked, &mut TcpStream) -> Then + Send + Sync;

#[derive(Default)]
struct Seen {
    asked: Mutex<Vec<Asked>>,
    /// A second handle of each socket, by the number of its connection.
    open: Mutex<HashMap<usize, TcpStream>>,
    connections: AtomicUsize,
    /// Most connections that were open at one moment.
    most_open: AtomicUsize,
    malformed: AtomicUsize,
    stop: AtomicBool,
}

/// A running raw provider; dropping it ends it.
pub struct Raw {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
}

impl Raw {
    /// Answers each request by calling `script` with the socket.
    pub fn start(script: impl Fn(&Asked, &mut TcpStream) -> Then + Send + Sync + 'static) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let script: Arc<Script> = Arc::new(script);
        let shared = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stop.load(Ordering::Acquire) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                let no = shared.connections.fetch_add(1, Ordering::AcqRel);
                stream.set_nodelay(true).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                let mut open = shared.open.lock().unwrap();
                open.insert(no, stream.try_clone().unwrap());
                shared.most_open.fetch_max(open.values().filter(|s| !ended(s)).count(), Ordering::AcqRel);
                drop(open);
                let (seen, script) = (shared.clone(), script.clone());
                std::thread::spawn(move || {
                    let then = serve(&mut stream, &seen, &*script);
                    seen.open.lock().unwrap().remove(&no);
                    if let Then::Reset = then {
                        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    }
                });
            }
        });
        Raw { addr, seen }
    }

    /// Writes `bytes` as the answer to every request and closes.
    pub fn says(bytes: impl Into<Vec<u8>>) -> Raw {
        let bytes = bytes.into();
        Raw::start(move |_, stream| {
            let _ = stream.write_all(&bytes);
            Then::Close
        })
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.seen.asked.lock().unwrap().clone()
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// Most connections that were open at one moment.
    pub fn most_open(&self) -> usize {
        self.seen.most_open.load(Ordering::Acquire)
    }

    /// Connections on which something came that is no request.
    pub fn malformed(&self) -> usize {
        self.seen.malformed.load(Ordering::Acquire)
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        self.seen.stop.store(true, Ordering::Release);
        for (_, stream) in self.seen.open.lock().unwrap().drain() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        let _ = TcpStream::connect(self.addr);
    }
}

/// Whether the other side has closed, although our thread may not have seen it yet.
fn ended(stream: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    match socket2::SockRef::from(stream).recv_with_flags(&mut byte, flags) {
        Ok(n) => n == 0,
        Err(e) => e.kind() != std::io::ErrorKind::WouldBlock,
    }
}

fn serve(stream: &mut TcpStream, seen: &Seen, script: &Script) -> Then {
    let mut buf = Vec::new();
    for no in 0.. {
        let asked = match read_request(no, stream, &mut buf) {
            Ok(Some(asked)) => asked,
            Ok(None) => return Then::Close,
            Err(why) => {
                println!("raw provider: {why}");
                seen.malformed.fetch_add(1, Ordering::AcqRel);
                return Then::Close;
            }
        };
        let mut kept = seen.asked.lock().unwrap();
        if kept.len() < KEPT_MAX {
            kept.push(asked.clone());
        }
        drop(kept);
        match script(&asked, stream) {
            Then::Keep => {}
            Then::Close => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                // Closing with unread bytes would be a reset; the peer ends the connection.
                let _ = read_some(stream, &mut buf);
                return Then::Close;
            }
            Then::Reset => return Then::Reset,
        }
    }
    Then::Close
}

/// Reads more; false at the end.
fn read_some(stream: &mut TcpStream, buf: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) => {
                buf.extend_from_slice(&chunk[..n]);
                return true;
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

/// The next request; strict about what a gateway may send: one length, no chunks.
fn read_request(no: usize, stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<Option<Asked>, String> {
    let (head_len, length) = loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(buf).map_err(|e| format!("{e}: {:?}", String::from_utf8_lossy(buf)))? {
            httparse::Status::Complete(head_len) => {
                let all = |name: &str| {
                    let found = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
                    found.map(|h| String::from_utf8_lossy(h.value).into_owned()).collect::<Vec<_>>()
                };
                if !all("transfer-encoding").is_empty() || all("host").len() != 1 {
                    return Err(format!("framing: {:?}", String::from_utf8_lossy(&buf[..head_len])));
                }
                let length = match all("content-length").as_slice() {
                    [] => 0,
                    [one] => one.parse::<usize>().map_err(|e| e.to_string())?,
                    many => return Err(format!("{} lengths", many.len())),
                };
                break (head_len, length);
            }
            httparse::Status::Partial => {
                if !read_some(stream, buf) {
                    return Ok(None);
                }
            }
        }
    };
    while buf.len() < head_len + length {
        if !read_some(stream, buf) {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&buf[..head_len]).into_owned();
    let body = buf[head_len..head_len + length].to_vec();
    buf.drain(..head_len + length);
    Ok(Some(Asked { no, head, body }))
}

/// A small generator of numbers, so that a failure can be repeated from its seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// How a provider marks the end of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Chunked,
    Length,
    Close,
}

pub const FRAMINGS: [Framing; 3] = [Framing::Chunked, Framing::Length, Framing::Close];

/// A 200 of events with this framing, complete. Chunks are cut anywhere, also within a character.
pub fn framed(events: &[u8], framing: Framing, dice: &mut Dice) -> Vec<u8> {
    let mut out = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n".to_vec();
    match framing {
        Framing::Length => {
            out.extend_from_slice(format!("Content-Length: {}\r\n\r\n", events.len()).as_bytes());
            out.extend_from_slice(events);
        }
        Framing::Close => {
            out.extend_from_slice(b"Connection: close\r\n\r\n");
            out.extend_from_slice(events);
        }
        Framing::Chunked => {
            out.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            let mut at = 0;
            while at < events.len() {
                let most = if dice.one_in(3) { 2000 } else { 40 };
                let n = (1 + dice.below(most)).min(events.len() - at);
                let extension = if dice.one_in(8) { ";a=\"b\"" } else { "" };
                out.extend_from_slice(format!("{n:x}{extension}\r\n").as_bytes());
                out.extend_from_slice(&events[at..at + n]);
                out.extend_from_slice(b"\r\n");
                at += n;
            }
            out.extend_from_slice(if dice.one_in(4) { b"0\r\nX-T: 1\r\n\r\n" } else { b"0\r\n\r\n" });
        }
    }
    out
}

/// Writes in pieces of random sizes with pauses between some or all of them, so that reads end anywhere.
pub fn write_in_pieces(stream: &mut TcpStream, bytes: &[u8], dice: &mut Dice) -> bool {
    let mut at = 0;
    let each = if dice.one_in(4) { 1 } else { 6 };
    while at < bytes.len() {
        let most = if dice.one_in(3) { 4000 } else { 120 };
        let n = (1 + dice.below(most)).min(bytes.len() - at);
        if stream.write_all(&bytes[at..at + n]).is_err() {
            return false;
        }
        at += n;
        if dice.one_in(each) {
            std::thread::sleep(Duration::from_micros(30 + dice.next() % 200));
        }
    }
    true
}
