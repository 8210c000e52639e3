//! A provider that costs almost nothing: the same answer to every chat request, as fast as one thread and epoll can.
//!
//! Why: the mock of the gateway plays faults and paces tokens; beside a fast proxy it would be what is measured.
//!
//! - `{"stream":true` at the start of the body: 200 events of about 300 bytes, one write each, every 2 ms.
//! - any other POST: a chat completion of 2 KiB.
//! - `GET /stats`: `requests events`, counted since the start, so that a measurement can begin and end at any moment.
//!
//! It trusts its clients: heads are searched, not parsed. Bodies need a `Content-Length`.
//!
//!     upstream 127.0.0.1:9300

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

const EVENTS: u32 = 200;
const EVENT_GAP: Duration = Duration::from_millis(2);
const ANSWER_BYTES: usize = 2048;

struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    /// Events still to be sent.
    left: u32,
}

struct Texts {
    answer: Vec<u8>,
    stream_head: Vec<u8>,
    event: Vec<u8>,
    end: Vec<u8>,
}

impl Texts {
    fn new() -> Texts {
        let body = |words: &str| {
            format!(
                r#"{{"id":"chatcmpl-perf","object":"chat.completion","created":1760000000,"model":"gpt-4o-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":"{words}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":256,"completion_tokens":400,"total_tokens":656,"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}},"service_tier":"default","system_fingerprint":"fp_perf"}}"#
            )
        };
        let body = body(&"word ".repeat((ANSWER_BYTES - body("").len()) / 5));
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nx-request-id: req_perf\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let chunk = |data: &str| format!("{:x}\r\n{data}\r\n", data.len());
        let event = |delta: &str, finish: &str| {
            format!(
                "data: {{\"id\":\"chatcmpl-perf\",\"object\":\"chat.completion.chunk\",\"created\":1760000000,\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_perf\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}],\"obfuscation\":\"abcdefghijklmnopqrstuvwxyz012345\"}}\n\n"
            )
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nx-request-id: req_perf\r\nTransfer-Encoding: chunked\r\n\r\n";
        let end = chunk(&event("{}", "\"stop\"")) + &chunk("data: [DONE]\n\n") + "0\r\n\r\n";
        Texts {
            answer: answer.into_bytes(),
            stream_head: head.into(),
            event: chunk(&event("{\"content\":\" word\"}", "null")).into_bytes(),
            end: end.into_bytes(),
        }
    }
}

struct Epoll(RawFd);

impl Epoll {
    fn new() -> Epoll {
        // SAFETY: no pointer is involved.
        Epoll(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
    }

    fn add(&self, fd: RawFd) {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: fd as u64 };
        // SAFETY: `event` lives for the call.
        unsafe { libc::epoll_ctl(self.0, libc::EPOLL_CTL_ADD, fd, &mut event) };
    }

    fn wait(&self, events: &mut [libc::epoll_event], timeout: Option<Duration>) -> usize {
        let spec = timeout.map(|t| libc::timespec { tv_sec: 0, tv_nsec: t.subsec_nanos() as _ });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the pointers are valid for the call, and the length is that of the slice.
        let n = unsafe {
            libc::epoll_pwait2(self.0, events.as_mut_ptr(), events.len() as i32, spec, std::ptr::null())
        };
        usize::try_from(n).unwrap_or(0)
    }
}

fn main() {
    let addr = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9300".to_owned());
    let listener = TcpListener::bind(&addr).expect("the address is free");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let texts = Texts::new();
    let epoll = Epoll::new();
    let mut conns: Vec<Option<Conn>> = Vec::new();
    // Streams by when their next event is due; the gap is the same for all, so the queue stays sorted.
    let mut due: VecDeque<(Instant, RawFd)> = VecDeque::new();
    let (mut requests, mut sent_events) = (0u64, 0u64);
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
    epoll.add(listener.as_raw_fd());
    println!("upstream on {addr}");
    loop {
        let timeout = due.front().map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let n = epoll.wait(&mut events, timeout);
        for event in &events[..n] {
            let fd = event.u64 as RawFd;
            if fd == listener.as_raw_fd() {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(true).expect("a socket can be non-blocking");
                    stream.set_nodelay(true).expect("TCP has this option");
                    let fd = stream.as_raw_fd();
                    epoll.add(fd);
                    if conns.len() <= fd as usize {
                        conns.resize_with(fd as usize + 1, || None);
                    }
                    conns[fd as usize] = Some(Conn { stream, input: Vec::with_capacity(32768), left: 0 });
                }
                continue;
            }
            let Some(conn) = conns[fd as usize].as_mut() else { continue };
            let mut chunk = [0; 32768];
            match conn.stream.read(&mut chunk) {
                Ok(n) if n > 0 => conn.input.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => continue,
                _ => {
                    conns[fd as usize] = None;
                    due.retain(|(_, other)| *other != fd);
                    continue;
                }
            }
            while let Some((len, kind)) = request(&conn.input) {
                conn.input.drain(..len);
                let ok = match kind {
                    Kind::Stats => {
                        let body = format!("{requests} {sent_events}\n");
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                        conn.stream.write_all((head + &body).as_bytes())
                    }
                    Kind::Whole => {
                        requests += 1;
                        conn.stream.write_all(&texts.answer)
                    }
                    Kind::Stream => {
                        requests += 1;
                        conn.left = EVENTS;
                        due.push_back((Instant::now() + EVENT_GAP, fd));
                        conn.stream.write_all(&texts.stream_head)
                    }
                };
                if ok.is_err() {
                    break;
                }
            }
        }
        let now = Instant::now();
        while let Some(&(at, fd)) = due.front() {
            if at > now {
                break;
            }
            due.pop_front();
            let Some(conn) = conns[fd as usize].as_mut() else { continue };
            if conn.left > 0 {
                conn.left -= 1;
                // A reader that is so far behind that the socket is full loses an event, which ends its run.
                if conn.stream.write_all(&texts.event).is_ok() {
                    sent_events += 1;
                    due.push_back((at.max(now - EVENT_GAP) + EVENT_GAP, fd));
                }
            } else {
                let _ = conn.stream.write_all(&texts.end);
            }
        }
    }
}

enum Kind {
    Stats,
    Whole,
    Stream,
}

/// Length and kind of the first whole request in `input`.
fn request(input: &[u8]) -> Option<(usize, Kind)> {
    let head = input.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    if input.starts_with(b"GET") {
        return Some((head, Kind::Stats));
    }
    let lower = input[..head].to_ascii_lowercase();
    let name = b"content-length:";
    let at = lower.windows(name.len()).position(|w| w == name)? + name.len();
    let digits = lower[at..].iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    let body = input.get(head..head + length)?;
    let kind = if body.starts_with(b"{\"stream\":true") { Kind::Stream } else { Kind::Whole };
    Some((head + length, kind))
}
