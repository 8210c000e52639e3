//! Load, on one thread and epoll, and what it saw, as one JSON object.
//!
//! - `closed`: so many connections, each asks again when its answer is there. Its latencies suffer from coordinated
//!   omission; its rate and the CPU time a request are what it is for.
//! - `open`: so many requests a second at fixed moments, whatever becomes of them; latency counts from the moment a request
//!   was to be sent, so one that had to wait for a connection is late.
//! - `streams`: so many connections, each reads one stream after the other. The provider stamps its events, so how late
//!   each comes is measured, and whether one is missing.
//!
//! With `--cpu-of PID` the CPU time of that process and its descendants is measured over the same window.
//!
//!     load open --to 127.0.0.1:9400 --rate 2000 --connections 16 --seconds 5 --bytes 1024

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use clap::{Parser, ValueEnum};
use perf_tools::epoll::Epoll;
use perf_tools::quantiles::Times;
use perf_tools::{cpu, exact_timers, many_files, now_ns};
use serde_json::json;

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Closed,
    Open,
    Streams,
}

#[derive(Parser)]
struct Args {
    kind: Kind,
    /// Where to.
    #[arg(long)]
    to: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second, of an open loop.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How long is measured.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How long before that.
    #[arg(long, default_value_t = 0.7)]
    warm: f64,
    /// Size of the request's body.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    #[arg(long, default_value = "gpt-4o-mini")]
    model: String,
    /// Microseconds between events, and how many, of streams.
    #[arg(long, default_value_t = 2000)]
    gap: u64,
    #[arg(long, default_value_t = 200)]
    events: u32,
    /// More header lines, `name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// The process whose CPU time counts.
    #[arg(long)]
    cpu_of: Option<u32>,
    /// Connections are opened over so many seconds.
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
}

struct Conn {
    stream: TcpStream,
    input: Vec<u8>,
    /// What is not sent yet of the request.
    unsent: usize,
    /// When the request at hand was to be sent; 0 when there is none.
    due_ns: u64,
    /// Where the next event is looked for, and the number of the last one.
    scanned: usize,
    last: u64,
    answered: bool,
}

#[derive(Default)]
struct Seen {
    done: u64,
    events: u64,
    errors: u64,
    lost: u64,
    statuses: u64,
    latency: Times,
    first: Times,
    delay: Times,
}

struct Load {
    args: Args,
    request: Vec<u8>,
    epoll: Epoll,
    conns: Vec<Option<Conn>>,
    free: Vec<RawFd>,
    late: VecDeque<u64>,
    seen: Seen,
    measuring: bool,
}

fn request(args: &Args) -> Vec<u8> {
    let stream = args.kind == Kind::Streams;
    let mut start = String::from("{");
    if stream {
        start += &format!("\"stream\":true,\"user\":\"g{}n{}\",", args.gap, args.events);
    }
    start += &format!(
        "\"model\":\"{}\",\"max_tokens\":400,\"temperature\":0.2,\"messages\":[{{\"role\":\"user\",\"content\":\"",
        args.model
    );
    let end = "\"}]}";
    let text = "Lorem ipsum dolor sit amet, consectetur adipiscing elit. ";
    let fill = args.bytes.saturating_sub(start.len() + end.len());
    let body = start + &text.repeat(fill / text.len() + 1)[..fill] + end;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAuthorization: Bearer sk-client\r\nUser-Agent: OpenAI/Python 2.0.0\r\nAccept: application/json\r\n",
        args.path, args.to
    );
    for line in &args.header {
        head += &format!("{line}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    (head + &body).into_bytes()
}

impl Load {
    fn connect(&mut self) {
        let Ok(stream) = TcpStream::connect(&self.args.to) else {
            self.seen.errors += 1;
            return;
        };
        stream.set_nonblocking(true).expect("a socket can be non-blocking");
        stream.set_nodelay(true).expect("TCP has this option");
        let fd = stream.as_raw_fd();
        self.epoll.add(fd, false);
        if self.conns.len() <= fd as usize {
            self.conns.resize_with(fd as usize + 1, || None);
        }
        let input = Vec::with_capacity(8192);
        let conn = Conn { stream, input, unsent: 0, due_ns: 0, scanned: 0, last: 0, answered: false };
        self.conns[fd as usize] = Some(conn);
        self.free.push(fd);
    }

    fn begin(&mut self, fd: RawFd, due_ns: u64) {
        let Some(conn) = self.conns[fd as usize].as_mut() else { return };
        conn.due_ns = due_ns.max(1);
        (conn.scanned, conn.last, conn.answered) = (0, 0, false);
        conn.input.clear();
        conn.unsent = self.request.len();
        self.send(fd);
    }

    fn send(&mut self, fd: RawFd) {
        let Some(conn) = self.conns[fd as usize].as_mut() else { return };
        let before = conn.unsent;
        while conn.unsent > 0 {
            match conn.stream.write(&self.request[self.request.len() - conn.unsent..]) {
                Ok(n) => conn.unsent -= n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return self.broken(fd),
            }
        }
        if conn.unsent > 0 {
            self.epoll.change(fd, true);
        } else if before < self.request.len() {
            self.epoll.change(fd, false);
        }
    }

    fn broken(&mut self, fd: RawFd) {
        let busy = self.conns[fd as usize].take().is_some_and(|conn| conn.due_ns > 0);
        self.free.retain(|other| *other != fd);
        self.seen.errors += u64::from(busy && self.measuring);
        self.connect();
    }

    fn ready(&mut self, fd: RawFd, chunk: &mut [u8]) {
        if self.conns[fd as usize].as_ref().is_some_and(|conn| conn.unsent > 0) {
            self.send(fd);
        }
        loop {
            let Some(conn) = self.conns[fd as usize].as_mut() else { return };
            match conn.stream.read(chunk) {
                Ok(n) if n > 0 => {
                    conn.input.extend_from_slice(&chunk[..n]);
                    if n < chunk.len() {
                        break;
                    }
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                _ => return self.broken(fd),
            }
        }
        self.look(fd);
    }

    /// Takes in what came of an answer.
    fn look(&mut self, fd: RawFd) {
        let now = now_ns();
        let Some(conn) = self.conns[fd as usize].as_mut() else { return };
        if conn.due_ns == 0 || conn.input.is_empty() {
            return;
        }
        let seen = &mut self.seen;
        if self.args.kind == Kind::Streams {
            while let Some(at) = find(&conn.input[conn.scanned..], b"t=") {
                let Some(stamp) = conn.input.get(conn.scanned + at..conn.scanned + at + 31) else { break };
                let digits = |part: &[u8]| std::str::from_utf8(part).ok()?.parse::<u64>().ok();
                let (sent, number) = (digits(&stamp[2..22]), digits(&stamp[25..31]));
                conn.scanned += at + 2;
                let (Some(sent), Some(number)) = (sent, number) else { continue };
                if self.measuring {
                    seen.events += 1;
                    seen.delay.add(now.saturating_sub(sent));
                    seen.lost += number.saturating_sub(conn.last + 1);
                    if number == 1 {
                        seen.first.add(now.saturating_sub(conn.due_ns));
                    }
                }
                conn.last = number;
            }
            // Of what was looked at only the end is of use.
            if conn.scanned > 65536 && conn.answered {
                let keep = conn.input.len().saturating_sub(64).max(conn.scanned).min(conn.input.len());
                conn.input.drain(..keep);
                conn.scanned = 0;
            }
        }
        conn.answered = true;
        if !is_whole(&conn.input) {
            return;
        }
        let good = self.args.kind == Kind::Streams || conn.input.get(9..12) == Some(b"200");
        if self.measuring {
            seen.done += 1;
            seen.statuses += u64::from(!good);
            seen.latency.add(now.saturating_sub(conn.due_ns));
            if self.args.kind == Kind::Streams {
                seen.lost += u64::from(self.args.events).saturating_sub(conn.last);
            }
        }
        conn.due_ns = 0;
        self.free.push(fd);
    }
}

fn find(within: &[u8], what: &[u8]) -> Option<usize> {
    within.windows(what.len()).position(|window| window == what)
}

/// Whether `input` ends an answer. Chunked ones end with their last chunk.
fn is_whole(input: &[u8]) -> bool {
    if input.ends_with(b"\r\n0\r\n\r\n") {
        return true;
    }
    let Some(head) = find(&input[..input.len().min(4096)], b"\r\n\r\n") else { return false };
    let lower = input[..head].to_ascii_lowercase();
    let Some(at) = find(&lower, b"content-length:") else { return false };
    let digits = lower[at + 15..].iter().skip_while(|b| **b == b' ').take_while(|b| b.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    input.len() >= head + 4 + length
}

fn main() {
    let args = Args::parse();
    many_files();
    exact_timers();
    let (connections, ramp) = (args.connections, args.ramp);
    let request = request(&args);
    let mut load = Load {
        args,
        request,
        epoll: Epoll::default(),
        conns: Vec::new(),
        free: Vec::new(),
        late: VecDeque::new(),
        seen: Seen::default(),
        measuring: false,
    };
    let started = now_ns();
    let ns = |seconds: f64| (seconds * 1e9) as u64;
    let begin = started + ns(load.args.warm + ramp);
    let end = begin + ns(load.args.seconds);
    let gap = 1e9 / load.args.rate;
    let (mut opened, mut scheduled) = (0usize, 0u64);
    let (mut cpu_0, mut began) = (0, begin);
    let (mut ready, mut chunk) = (Vec::new(), vec![0; 65536]);
    loop {
        let now = now_ns();
        if now >= end {
            break;
        }
        if !load.measuring && now >= begin {
            load.measuring = true;
            began = now;
            cpu_0 = load.args.cpu_of.map_or(0, cpu::run_ns);
        }
        let due = if ramp == 0.0 {
            connections
        } else {
            ((now - started) as f64 / 1e9 / ramp * connections as f64) as usize
        };
        while opened < due.min(connections) {
            load.connect();
            opened += 1;
        }
        let mut wake = if load.measuring { end } else { begin };
        if opened < connections {
            wake = wake.min(now + 1_000_000);
        }
        if load.args.kind == Kind::Open {
            let at = |n: u64| started + (n as f64 * gap) as u64;
            while at(scheduled) <= now {
                load.late.push_back(at(scheduled));
                scheduled += 1;
            }
            while let (Some(&due), false) = (load.late.front(), load.free.is_empty()) {
                load.late.pop_front();
                if let Some(fd) = load.free.pop() {
                    load.begin(fd, due);
                }
            }
            wake = wake.min(at(scheduled));
        } else {
            while let Some(fd) = load.free.pop() {
                load.begin(fd, now_ns());
            }
        }
        load.epoll.wait(Some(Duration::from_nanos(wake.saturating_sub(now_ns()))), &mut ready);
        for &fd in &ready {
            load.ready(fd, &mut chunk);
        }
    }
    let seconds = (now_ns() - began) as f64 / 1e9;
    let cpu_ns = load.args.cpu_of.map_or(0, |pid| cpu::run_ns(pid) - cpu_0);
    let rss = load.args.cpu_of.map(cpu::rss_kib);
    let waiting = load.conns.iter().flatten().filter(|conn| conn.due_ns > 0).count();
    let seen = &mut load.seen;
    let per = |count: u64| (count > 0).then(|| cpu_ns as f64 / 1e3 / count as f64);
    let report = json!({
        "seconds": seconds, "done": seen.done, "per_s": seen.done as f64 / seconds, "errors": seen.errors,
        "not_200": seen.statuses, "running_at_end": waiting, "events": seen.events, "lost": seen.lost,
        "late_1ms": seen.delay.above(1_000_000), "latency_us": seen.latency.report(), "first_us": seen.first.report(),
        "delay_us": seen.delay.report(), "cpu_busy": cpu_ns as f64 / 1e9 / seconds, "cpu_us_per_request": per(seen.done),
        "cpu_us_per_event": per(seen.events), "rss_kib": rss,
    });
    println!("{report}");
}
