//! The load: connections on one thread and epoll that ask, and what they see.
//!
//! - *closed*: each connection asks again when its answer is there. Its latencies suffer from coordinated omission; its rate
//!   and the CPU time a request are what it is for.
//! - *open*: requests are due at fixed moments, whatever becomes of them, and latency counts from that moment, so that one
//!   which had to wait for a free connection is late. One that is not answered when the measurement ends counts with the
//!   time it has waited so far, so that a server that stands still cannot hide it.
//! - *streams*: each connection reads one stream after the other; the stamps of the events tell how late each comes and
//!   whether one is missing.
//!
//! Invariants: an open request is measured when it is *due* within the window, all others when their answer is; every
//! answer is read to its end.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use crate::answer::Reader;
use crate::epoll::Epoll;
use crate::quantiles::Times;
use crate::stamp::Finder;
use crate::{cpu, now_ns};

/// How long answers that are due are waited for after an open measurement.
const GRACE_NS: u64 = 200_000_000;

/// What is measured.
#[derive(Clone, Copy)]
pub struct Phase {
    /// Requests a second at fixed moments; none for a closed loop.
    pub rate: Option<f64>,
    /// How many events each stream has; none when whole answers are asked for.
    pub events: Option<u32>,
    pub warm_s: f64,
    pub seconds: f64,
    /// Connections are opened over so many seconds, before the rest.
    pub ramp_s: f64,
    /// Ends after so many answers; 0 for no such end.
    pub requests: u64,
    /// The process whose CPU time counts, with its descendants.
    pub cpu_of: Option<u32>,
}

struct Conn {
    stream: TcpStream,
    reader: Reader,
    finder: Finder,
    /// What is not sent yet of the request.
    unsent: usize,
    /// When the request at hand was to be sent; 0 when there is none.
    due_ns: u64,
    /// The number of the last event, and when it came.
    last: u64,
    last_ns: u64,
}

/// What was seen in the window of a phase.
#[derive(Default)]
pub struct Seen {
    pub seconds: f64,
    /// Answers.
    pub done: u64,
    /// Answers with another status than 200.
    pub not_200: u64,
    /// Connections that broke while they were asked, and bytes that are no answer.
    pub errors: u64,
    /// Requests of an open loop that had no answer at the end.
    pub unfinished: u64,
    pub events: u64,
    /// Events that never came.
    pub lost: u64,
    pub cpu_ns: u64,
    pub latency: Times,
    /// From the request to the first event.
    pub first: Times,
    /// From an event's stamp to its arrival.
    pub delay: Times,
    /// Between two events of a stream.
    pub gap: Times,
}

/// Connections to one server, over several phases.
pub struct Engine {
    to: String,
    request: Vec<u8>,
    wanted: usize,
    epoll: Epoll,
    conns: Vec<Option<Conn>>,
    free: Vec<RawFd>,
    late: VecDeque<u64>,
    chunk: Vec<u8>,
    phase: Phase,
    window: (u64, u64),
    measuring: bool,
    seen: Seen,
}

impl Engine {
    /// Connections are opened when a phase begins.
    pub fn new(to: &str, connections: usize, request: Vec<u8>) -> Engine {
        let phase = Phase {
            rate: None,
            events: None,
            warm_s: 0.0,
            seconds: 0.0,
            ramp_s: 0.0,
            requests: 0,
            cpu_of: None,
        };
        Engine {
            to: to.to_owned(),
            request,
            wanted: connections,
            epoll: Epoll::default(),
            conns: Vec::new(),
            free: Vec::new(),
            late: VecDeque::new(),
            chunk: vec![0; 65536],
            phase,
            window: (0, 0),
            measuring: false,
            seen: Seen::default(),
        }
    }

    /// Plays one phase.
    pub fn play(&mut self, phase: Phase) -> Seen {
        let ns = |seconds: f64| (seconds * 1e9) as u64;
        let started = now_ns();
        let begin = started + ns(phase.warm_s + phase.ramp_s);
        let mut end = begin + ns(phase.seconds);
        (self.phase, self.window, self.measuring, self.seen) = (phase, (begin, end), false, Seen::default());
        self.late.clear();
        let have = self.conns.iter().flatten().count();
        let (mut opened, mut scheduled) = (have, 0u64);
        let mut cpu_0 = 0;
        let mut ready = Vec::new();
        loop {
            let now = now_ns();
            if now >= end || (phase.requests > 0 && self.seen.done >= phase.requests) {
                end = now;
                break;
            }
            if !self.measuring && now >= begin {
                self.measuring = true;
                self.window.0 = now;
                cpu_0 = phase.cpu_of.map_or(0, cpu::run_ns);
            }
            while opened < opened_by(self.wanted, now - started, phase.ramp_s) {
                self.connect();
                opened += 1;
            }
            let mut wake = if self.measuring { end } else { begin };
            if opened < self.wanted {
                wake = wake.min(now + 1_000_000);
            }
            if let Some(rate) = phase.rate {
                let at = |n: u64| started + (n as f64 * 1e9 / rate) as u64;
                while at(scheduled) <= now {
                    self.late.push_back(at(scheduled));
                    scheduled += 1;
                }
                self.begin_late();
                wake = wake.min(at(scheduled));
            } else {
                while let Some(fd) = self.free.pop() {
                    self.begin(fd, now_ns());
                }
            }
            self.turn(wake, &mut ready);
        }
        self.seen.seconds = (end - self.window.0) as f64 / 1e9;
        self.seen.cpu_ns = phase.cpu_of.map_or(0, |pid| cpu::run_ns(pid).saturating_sub(cpu_0));
        if phase.rate.is_some() {
            self.finish_open(&mut ready, end + GRACE_NS);
        }
        self.measuring = false;
        std::mem::take(&mut self.seen)
    }

    /// Waits for the answers that are due; those that do not come count with what they waited.
    fn finish_open(&mut self, ready: &mut Vec<RawFd>, until: u64) {
        let due = |load: &Engine| load.conns.iter().flatten().any(|conn| load.is_measured(conn.due_ns));
        while now_ns() < until && (!self.late.is_empty() || due(self)) {
            self.begin_late();
            self.turn(until, ready);
        }
        let now = now_ns();
        let running = self.conns.iter().flatten().map(|conn| conn.due_ns);
        let waiting: Vec<u64> =
            running.chain(self.late.iter().copied()).filter(|due| self.is_measured(*due)).collect();
        for due in waiting {
            self.seen.unfinished += 1;
            self.seen.latency.add(now - due);
        }
        self.late.clear();
    }

    fn is_measured(&self, due_ns: u64) -> bool {
        (self.window.0..self.window.1).contains(&due_ns)
    }

    fn turn(&mut self, wake: u64, ready: &mut Vec<RawFd>) {
        self.epoll.wait(Some(Duration::from_nanos(wake.saturating_sub(now_ns()))), ready);
        for &fd in ready.iter() {
            self.ready(fd);
        }
    }

    fn begin_late(&mut self) {
        while !self.late.is_empty() {
            let Some(fd) = self.free.pop() else { return };
            let due = self.late.pop_front().unwrap_or_default();
            self.begin(fd, due);
        }
    }

    fn connect(&mut self) {
        let Ok(stream) = TcpStream::connect(&self.to) else {
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
        let (reader, finder) = (Reader::default(), Finder::default());
        self.conns[fd as usize] =
            Some(Conn { stream, reader, finder, unsent: 0, due_ns: 0, last: 0, last_ns: 0 });
        self.free.push(fd);
    }

    fn begin(&mut self, fd: RawFd, due_ns: u64) {
        let Some(conn) = self.conns[fd as usize].as_mut() else { return };
        conn.due_ns = due_ns.max(1);
        (conn.last, conn.last_ns) = (0, 0);
        conn.reader.restart();
        conn.finder.restart();
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

    fn ready(&mut self, fd: RawFd) {
        if self.conns.get(fd as usize).and_then(Option::as_ref).is_some_and(|conn| conn.unsent > 0) {
            self.send(fd);
        }
        loop {
            let Some(conn) = self.conns[fd as usize].as_mut() else { return };
            let n = match conn.stream.read(&mut self.chunk) {
                Ok(n) if n > 0 => n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => return,
                _ => return self.broken(fd),
            };
            if !self.take_in(fd, n) {
                return self.broken(fd);
            }
            if n < self.chunk.len() {
                return;
            }
        }
    }

    /// Takes in `n` bytes of an answer; false when they are none.
    fn take_in(&mut self, fd: RawFd, n: usize) -> bool {
        let now = now_ns();
        let Some(conn) = self.conns[fd as usize].as_mut() else { return true };
        let (seen, measuring, events) = (&mut self.seen, self.measuring, self.phase.events);
        let (finder, due) = (&mut conn.finder, conn.due_ns);
        let (last, last_ns) = (&mut conn.last, &mut conn.last_ns);
        let whole = conn.reader.feed(&self.chunk[..n], |piece| {
            if events.is_none() {
                return;
            }
            finder.feed(piece, |sent, number| {
                if measuring {
                    seen.events += 1;
                    seen.delay.add(now.saturating_sub(sent));
                    seen.lost += number.saturating_sub(*last + 1);
                    if number == 1 {
                        seen.first.add(now.saturating_sub(due));
                    } else if *last_ns > 0 {
                        seen.gap.add(now - *last_ns);
                    }
                }
                (*last, *last_ns) = (number, now);
            });
        });
        match whole {
            Err(_) => return false,
            Ok(_) if due == 0 => return false,
            Ok(false) => return true,
            Ok(true) => {}
        }
        if measuring {
            let (from, to) = self.window;
            if now < to {
                seen.done += 1;
                seen.not_200 += u64::from(conn.reader.status() != 200);
            }
            if self.phase.rate.is_none() || (from..to).contains(&due) {
                seen.latency.add(now.saturating_sub(due));
            }
            seen.lost += events.map_or(0, |events| u64::from(events).saturating_sub(*last));
        }
        conn.due_ns = 0;
        self.free.push(fd);
        true
    }
}

/// How many connections are to be open after so long.
fn opened_by(wanted: usize, after_ns: u64, ramp_s: f64) -> usize {
    if ramp_s == 0.0 {
        return wanted;
    }
    wanted.min((after_ns as f64 / 1e9 / ramp_s * wanted as f64) as usize)
}

#[cfg(test)]
mod tests {
    use super::opened_by;

    #[test]
    fn connections_open_over_the_ramp() {
        assert_eq!(opened_by(64, 0, 0.0), 64);
        assert_eq!(
            [0, 500_000_000, 1_000_000_000, 9_000_000_000].map(|ns| opened_by(64, ns, 1.0)),
            [0, 32, 64, 64]
        );
    }
}
