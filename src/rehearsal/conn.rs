//! One connection to a scripted provider: reads requests, plays scripts, notices when the client goes away.
//!
//! Invariants: the socket is always read while an answer is pending (up to the pipelining limit), so a client that
//! leaves is noticed when its FIN or RST arrives; an exchange that began is settled exactly once.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::program::Fault;
use super::provider::{Ending, Exchange, Provider};
use super::request::{Progress, Reader};
use super::script::{End, IdleAct};
use super::tls::Transport;

/// Bytes of later requests that are read while an answer is pending.
const PIPELINED: usize = 256 * 1024;
/// How long the rest of what a client sends is read after the last answer, so that an RST does not eat that answer.
const LINGER: Duration = Duration::from_secs(2);

/// Whether a connection is still wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    Ends,
}

/// What an answer in progress waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    Clock,
    Socket,
    /// Everything was said; the client has to give up first.
    Client,
}

pub(super) struct Conn {
    pub(super) transport: Transport,
    input: Vec<u8>,
    reader: Reader,
    state: State,
    /// The socket may have more to read.
    readable: bool,
    /// The client sent FIN, or the socket failed.
    gone: bool,
    /// What to do when nothing comes.
    idle: Option<(Duration, IdleAct)>,
    idle_since: Instant,
    /// When the first byte of the request at hand was seen.
    began: Option<Instant>,
    /// Bytes that leave before any script: a banner, `100 Continue`.
    ahead: Vec<u8>,
}

enum State {
    Reading,
    Playing {
        exchange: Box<Exchange>,
        since: Instant,
        written: usize,
        waiting: Waiting,
    },
    /// The last answer was written; the client's rest is read and dropped until then.
    Lingering(Instant),
}

impl Conn {
    pub(super) fn new(transport: Transport, faults: &[Fault], now: Instant) -> Conn {
        let mut ahead = Vec::new();
        for fault in faults {
            if let Fault::Banner(bytes) = fault {
                ahead.extend_from_slice(bytes);
            }
        }
        Conn {
            transport,
            input: Vec::new(),
            reader: Reader::default(),
            state: State::Reading,
            readable: true,
            gone: false,
            idle: None,
            idle_since: now,
            began: None,
            ahead,
        }
    }

    pub(super) fn became_readable(&mut self) {
        self.readable = true;
    }

    /// When the connection wants to be driven although nothing happened on its socket.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match &self.state {
            State::Reading if self.reader.is_idle(&self.input) => {
                self.idle.map(|(after, _)| self.idle_since + after)
            }
            State::Reading => None,
            State::Playing { exchange, since, waiting: Waiting::Clock, written } => {
                let marks = &exchange.script.marks;
                let next = marks.partition_point(|mark| mark.end <= *written);
                marks.get(next).or(marks.last()).map(|mark| *since + mark.at)
            }
            State::Playing { .. } => None,
            State::Lingering(until) => Some(*until),
        }
    }

    /// Does all that can be done now.
    pub(super) fn drive(&mut self, provider: &mut Provider, scratch: &mut [u8], now: Instant) -> Fate {
        loop {
            self.read(provider, scratch);
            if !self.write_ahead(provider) {
                return self.abandon(provider, now);
            }
            let fate = match self.state {
                State::Reading => self.take_request(provider, now),
                State::Playing { .. } => self.play(provider, now),
                State::Lingering(until) => {
                    self.input.clear();
                    if self.gone || now >= until { Some(Fate::Ends) } else { Some(Fate::Stays) }
                }
            };
            if let Some(fate) = fate {
                return fate;
            }
        }
    }

    /// The server ends this connection by itself.
    pub(super) fn abandon(&mut self, provider: &mut Provider, now: Instant) -> Fate {
        if let State::Playing { exchange, written, .. } = &self.state {
            let ending = if self.gone { Ending::ClientLeft } else { Ending::ServerLeft };
            provider.settle(exchange, now, *written, ending);
        }
        self.state = State::Lingering(now);
        Fate::Ends
    }

    fn read(&mut self, provider: &mut Provider, scratch: &mut [u8]) {
        let mut bytes = 0;
        while self.readable && !self.gone {
            if matches!(self.state, State::Playing { .. }) && self.input.len() > PIPELINED {
                break;
            }
            match self.transport.read(scratch) {
                Ok(0) => self.gone = true,
                Ok(count) => {
                    bytes += count;
                    self.input.extend_from_slice(&scratch[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
        if bytes > 0 {
            provider.shared.lock().ledger.moved(bytes, 0);
        }
    }

    /// False when the client is gone.
    fn write_ahead(&mut self, provider: &mut Provider) -> bool {
        while !self.ahead.is_empty() {
            match self.transport.write(&self.ahead) {
                Ok(count) => {
                    self.ahead.drain(..count);
                    provider.shared.lock().ledger.moved(0, count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(_) => {
                    self.gone = true;
                    return false;
                }
            }
        }
        true
    }

    /// None when the state changed and there is more to do.
    fn take_request(&mut self, provider: &mut Provider, now: Instant) -> Option<Fate> {
        if !self.reader.is_idle(&self.input) {
            self.began.get_or_insert(now);
        }
        match self.reader.advance(&mut self.input) {
            Progress::More if self.gone => Some(Fate::Ends),
            Progress::More => self.rest(now),
            Progress::Head => {
                let head = self.reader.head()?;
                if head.expect_continue && head.has_body() && self.input.is_empty() {
                    self.ahead.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                }
                if head.has_body()
                    && let Some(exchange) = provider.on_head(head, now)
                {
                    self.play_from(exchange, now);
                }
                None
            }
            Progress::Request(request) => {
                let began = self.began.take().unwrap_or(now);
                let exchange = provider.respond(&request, began, now);
                self.play_from(exchange, now);
                None
            }
            Progress::Bad(status, why) => {
                let script = provider.reject(status, why);
                self.ahead.extend_from_slice(&script.bytes);
                self.write_ahead(provider);
                self.transport.finish(true);
                self.state = State::Lingering(now + LINGER);
                None
            }
        }
    }

    fn play_from(&mut self, exchange: Exchange, now: Instant) {
        self.idle = exchange.script.idle;
        self.state =
            State::Playing { exchange: Box::new(exchange), since: now, written: 0, waiting: Waiting::Clock };
    }

    /// Nothing to do; unless the connection was idle for too long.
    fn rest(&mut self, now: Instant) -> Option<Fate> {
        let (after, act) = match self.idle {
            Some(idle) if self.reader.is_idle(&self.input) => idle,
            _ => return Some(Fate::Stays),
        };
        if now < self.idle_since + after {
            return Some(Fate::Stays);
        }
        self.idle = None;
        if act == IdleAct::RequestTimeout {
            let answer = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
            let _ = self.transport.write(answer);
        }
        self.transport.finish(true);
        self.state = State::Lingering(now + LINGER);
        None
    }

    /// None when the state changed and there is more to do.
    fn play(&mut self, provider: &mut Provider, now: Instant) -> Option<Fate> {
        let State::Playing { exchange, since, written, waiting } = &mut self.state else { return None };
        if self.gone {
            provider.settle(exchange, now, *written, Ending::ClientLeft);
            return Some(Fate::Ends);
        }
        let script = &exchange.script;
        let elapsed = now.saturating_duration_since(*since);
        let passed = script.marks.partition_point(|mark| mark.at <= elapsed);
        let due = passed.checked_sub(1).map_or(0, |last| script.marks[last].end);
        let mut sent = 0;
        *waiting = Waiting::Clock;
        while *written < due {
            match self.transport.write(&script.bytes[*written..due]) {
                Ok(count) => {
                    *written += count;
                    sent += count;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    *waiting = Waiting::Socket;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => {
                    provider.settle(exchange, now, *written, Ending::ClientLeft);
                    return Some(Fate::Ends);
                }
            }
        }
        if sent > 0 {
            provider.shared.lock().ledger.moved(0, sent);
        }
        if *waiting == Waiting::Socket || passed < script.marks.len() {
            return Some(Fate::Stays);
        }
        if !self.transport.flushed() {
            *waiting = Waiting::Socket;
            return Some(Fate::Stays);
        }
        if script.end == End::Hang {
            *waiting = Waiting::Client;
            return Some(Fate::Stays);
        }
        provider.settle(exchange, now, *written, Ending::Played);
        match script.end {
            End::Reset => {
                self.transport.arm_reset();
                self.state = State::Lingering(now);
                Some(Fate::Ends)
            }
            End::Fin => {
                self.transport.finish(script.whole || script.status >= 300);
                self.state = State::Lingering(now + LINGER);
                None
            }
            End::KeepAlive | End::Hang => {
                self.state = State::Reading;
                self.idle_since = now;
                None
            }
        }
    }
}
