//! The clients' thread: sends each request when it is due, over connections that it keeps alive.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

use super::super::super::program::unit;
use super::answer::{Answer, Fed};
use super::{Api, Outcome, Plan, Sample, Tally};

/// Before a client asks again, on the unscaled clock: what the official SDKs wait first.
const BACKOFF: Duration = Duration::from_millis(500);
/// How soon a run that is told to end does.
const STOP: Duration = Duration::from_millis(100);
/// Most connections at a time; a request beyond it could not be sent.
const CONNECTIONS: usize = 8_000;

/// Sends the load and waits for its last answer.
pub(in crate::rehearsal::gameday) fn drive(plan: &Plan<'_>, tally: &Tally) -> io::Result<Vec<Sample>> {
    Clients::new(plan, tally)?.run()
}

struct Clients<'a> {
    plan: &'a Plan<'a>,
    tally: &'a Tally,
    poll: Poll,
    slots: Vec<Slot>,
    free: Vec<usize>,
    /// Connections that wait for a request, the last used one last.
    idle: Vec<usize>,
    /// What happens when: a try is due, or a client's patience ends.
    agenda: BinaryHeap<Reverse<(Instant, Act)>>,
    samples: Vec<Sample>,
    next: u64,
    open: usize,
    scratch: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// The next new request.
    Arrive,
    /// One more try of an earlier request.
    Again { number: u64, due: Instant, tries: u32 },
    /// The patience of the request that this connection carried then.
    GiveUp { slot: usize, generation: u64 },
}

#[derive(Default)]
struct Slot {
    stream: Option<TcpStream>,
    generation: u64,
    call: Option<Call>,
}

/// A request on its connection.
struct Call {
    number: u64,
    due: Instant,
    sent: Instant,
    first_token: Option<Instant>,
    tries: u32,
    request: Vec<u8>,
    written: usize,
    answer: Answer,
}

impl<'a> Clients<'a> {
    fn new(plan: &'a Plan<'a>, tally: &'a Tally) -> io::Result<Clients<'a>> {
        Ok(Clients {
            plan,
            tally,
            poll: Poll::new()?,
            slots: Vec::new(),
            free: Vec::new(),
            idle: Vec::new(),
            agenda: BinaryHeap::new(),
            samples: Vec::new(),
            next: 0,
            open: 0,
            scratch: vec![0; 64 * 1024],
        })
    }

    fn run(mut self) -> io::Result<Vec<Sample>> {
        let mut events = Events::with_capacity(1024);
        self.agenda.push(Reverse((self.plan.start, Act::Arrive)));
        while (self.open > 0 || self.has_more()) && !self.plan.stop.load(Relaxed) {
            let now = Instant::now();
            let wait = self.agenda.peek().map(|Reverse((at, _))| at.saturating_duration_since(now));
            let wait = Some(wait.map_or(STOP, |wait| wait.min(STOP)));
            match self.poll.poll(&mut events, wait) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.drive(event.token().0);
            }
            self.act(Instant::now());
            self.tally.open.store(self.open as u64, Relaxed);
        }
        self.samples.sort_by_key(|sample| sample.due);
        Ok(self.samples)
    }

    /// A try is still to come; patience of calls that ended long ago does not count.
    fn has_more(&self) -> bool {
        self.agenda.iter().any(|Reverse((_, act))| !matches!(act, Act::GiveUp { .. }))
    }

    fn act(&mut self, now: Instant) {
        while let Some(Reverse((at, act))) = self.agenda.peek().copied() {
            if at > now {
                return;
            }
            self.agenda.pop();
            match act {
                Act::Arrive => {
                    let number = self.next;
                    self.next += 1;
                    // Gaps vary by half, so that arrivals do not beat in time with anything else.
                    let gap = (0.5 + unit(self.plan.seed, number, 0)) / self.plan.load.rate;
                    let next = at + Duration::from_secs_f64(gap);
                    if next < self.plan.until {
                        self.agenda.push(Reverse((next, Act::Arrive)));
                    }
                    self.tally.sent.fetch_add(1, Relaxed);
                    self.open += 1;
                    self.send(number, at, 1, now);
                }
                Act::Again { number, due, tries } => self.send(number, due, tries, now),
                Act::GiveUp { slot, generation } => {
                    let place = &self.slots[slot];
                    if place.generation == generation && place.call.is_some() {
                        self.finish(slot, Outcome::TimedOut, false);
                    }
                }
            }
        }
    }

    fn send(&mut self, number: u64, due: Instant, tries: u32, now: Instant) {
        let call = Call {
            number,
            due,
            sent: now,
            first_token: None,
            tries,
            request: self.request(number),
            written: 0,
            answer: Answer::default(),
        };
        let slot = match self.idle.pop() {
            Some(slot) => Ok(slot),
            None => self.connect(),
        };
        match slot {
            Ok(slot) => {
                let place = &mut self.slots[slot];
                place.generation += 1;
                place.call = Some(call);
                let give_up = now + self.plan.load.patience.mul_f64(self.plan.scale);
                self.agenda.push(Reverse((give_up, Act::GiveUp { slot, generation: place.generation })));
                self.drive(slot);
            }
            Err(_) => self.settle(&call, Outcome::NotConnected),
        }
    }

    fn connect(&mut self) -> io::Result<usize> {
        if self.slots.len() - self.free.len() >= CONNECTIONS {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        let socket = Socket::new(Domain::for_address(self.plan.target), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.plan.target.into()) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let stream: TcpStream = socket.into();
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(slot), both)?;
        self.slots[slot].stream = Some(stream);
        Ok(slot)
    }

    fn request(&self, number: u64) -> Vec<u8> {
        let load = self.plan.load;
        let stream = unit(self.plan.seed, number, 1) < load.streams;
        let words = self.plan.load.prompt(number);
        let messages = json!([{"role": "user", "content": words}]);
        let mut body = json!({"model": self.plan.model, "stream": stream, "messages": messages});
        let path = match load.api {
            Api::Chat => "chat/completions",
            Api::Messages => {
                body["max_tokens"] = json!(1_024);
                "messages"
            }
        };
        let body = body.to_string();
        let mut head = format!(
            "POST {}/{path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Authorization: Bearer sk-rehearsal-client\r\nx-sluice-pipeline: gameday\r\n",
            self.plan.path_prefix,
            self.plan.target,
            body.len()
        );
        if load.api == Api::Messages {
            head.push_str("anthropic-version: 2023-06-01\r\n");
        }
        if load.idempotency {
            head.push_str(&format!("Idempotency-Key: rehearsal-{}-{number}\r\n", self.plan.seed));
        }
        if let Some(step) = load.step {
            head.push_str(&format!("x-sluice-step: {step}\r\n"));
        }
        head.push_str("\r\n");
        [head.into_bytes(), body.into_bytes()].concat()
    }

    fn drive(&mut self, slot: usize) {
        let Some(place) = self.slots.get_mut(slot) else { return };
        let Some(stream) = &mut place.stream else { return };
        if let Some(call) = &mut place.call {
            while call.written < call.request.len() {
                match stream.write(&call.request[call.written..]) {
                    Ok(count) => call.written += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    // Not connected yet.
                    Err(error) if error.kind() == ErrorKind::NotConnected => return,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    // An answer may have come before the provider closed: reading tells.
                    Err(_) => break,
                }
            }
        }
        loop {
            let ended = match stream.read(&mut self.scratch) {
                Ok(0) => None,
                Ok(count) => {
                    let Some(call) = &mut place.call else { return self.close(slot) };
                    let fed = call.answer.feed(&self.scratch[..count]);
                    if call.answer.content && call.first_token.is_none() {
                        call.first_token = Some(Instant::now());
                    }
                    match fed {
                        Fed::More => continue,
                        Fed::Ended { outcome, reusable } => Some((outcome, reusable)),
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::NotConnected => return,
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    Some((Outcome::NotConnected, false))
                }
                Err(_) => None,
            };
            let Some(call) = &mut place.call else { return self.close(slot) };
            let (outcome, reusable) = ended.unwrap_or_else(|| (call.answer.end(), false));
            return self.finish(slot, outcome, reusable);
        }
    }

    fn finish(&mut self, slot: usize, outcome: Outcome, reusable: bool) {
        let place = &mut self.slots[slot];
        place.generation += 1;
        let call = place.call.take();
        // A request that was answered before it was sent whole leaves the connection in no state to go on.
        let sent = call.as_ref().is_none_or(|call| call.written == call.request.len());
        if reusable && sent {
            self.idle.push(slot);
        } else {
            self.close(slot);
        }
        let Some(call) = call else { return };
        let wants_again = match outcome {
            Outcome::Answered | Outcome::Broken { .. } => false,
            Outcome::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
            Outcome::NoAnswer | Outcome::TimedOut | Outcome::NotConnected => true,
        };
        if wants_again && call.tries <= self.plan.load.retries {
            let at = Instant::now() + BACKOFF.mul_f64(self.plan.scale);
            let again = Act::Again { number: call.number, due: call.due, tries: call.tries + 1 };
            self.agenda.push(Reverse((at, again)));
        } else {
            self.settle(&call, outcome);
        }
    }

    fn settle(&mut self, call: &Call, outcome: Outcome) {
        self.open -= 1;
        let counter = if outcome == Outcome::Answered { &self.tally.answered } else { &self.tally.failed };
        counter.fetch_add(1, Relaxed);
        self.samples.push(Sample {
            due: call.due.saturating_duration_since(self.plan.start),
            sent: call.sent.saturating_duration_since(call.due),
            first_token: call.first_token.map(|at| at.saturating_duration_since(call.due)),
            ended: call.due.elapsed(),
            outcome,
            tries: call.tries,
        });
    }

    fn close(&mut self, slot: usize) {
        self.idle.retain(|idle| *idle != slot);
        let place = &mut self.slots[slot];
        if let Some(stream) = place.stream.take() {
            // Closing the socket, which follows, would do the same.
            let _ = self.poll.registry().deregister(&mut SourceFd(&stream.as_raw_fd()));
            self.free.push(slot);
        }
    }
}
