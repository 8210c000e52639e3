//! Open-loop clients: what they send, and what became of each request.
//!
//! One thread drives every client connection, like the mock's own; the sans-IO reader of answers stands beside it.

mod answer;
mod client;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

pub(super) use client::drive;

/// What the clients of a scenario send. Times are those of the unscaled clock.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Requests a second, on the real clock.
    pub rate: f64,
    /// How long new requests are sent.
    pub duration: Duration,
    /// Requests are sent for at least this long on the real clock, so that a scaled run has enough to measure and the
    /// gateway's own clocks, which are not scaled, have time.
    pub least: Duration,
    /// After the providers are well again, requests are sent for at least this long.
    pub tail: Duration,
    /// Share of requests that ask for a stream, 0 to 1.
    pub streams: f64,
    /// Bytes of a prompt.
    pub prompt_bytes: usize,
    /// How long a client waits for the end of an answer.
    pub patience: Duration,
    /// How often a client asks again after silence, 408, 429 or 5xx.
    pub retries: u32,
    /// All tries of a request carry the same `Idempotency-Key`.
    pub idempotency: bool,
    /// Sent as `x-sluice-step`.
    pub step: Option<&'static str>,
    /// Which API is asked.
    pub api: Api,
}

/// The API that clients use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// OpenAI Chat Completions.
    Chat,
    /// Anthropic Messages.
    Messages,
}

/// What a client got in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A whole good answer.
    Answered,
    /// An error answer.
    Refused {
        /// Its status.
        status: u16,
        /// What it said about coming back.
        retry_after: Option<Duration>,
    },
    /// A 200 that was no whole good answer.
    Broken {
        /// The client can tell: an error event, an error object, or framing that ended too early.
        visible: bool,
    },
    /// The connection ended before a response head.
    NoAnswer,
    /// The client's patience ended.
    TimedOut,
    /// No connection could be made.
    NotConnected,
}

/// One request of a client, retries included.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it was due, since the start of the load.
    pub due: Duration,
    /// When its last try was sent, since `due`.
    pub sent: Duration,
    /// The first content, since `due`.
    pub first_token: Option<Duration>,
    /// The end, since `due`.
    pub ended: Duration,
    /// What the last try got.
    pub outcome: Outcome,
    /// Calls that were made for it.
    pub tries: u32,
}

impl Load {
    /// 70 % streams, short prompts, clients that wait 30 s and ask once.
    pub const fn steady(rate: f64, duration: Duration) -> Load {
        Load {
            rate,
            duration,
            least: Duration::from_secs(3),
            tail: Duration::ZERO,
            streams: 0.7,
            prompt_bytes: 400,
            patience: Duration::from_secs(30),
            retries: 0,
            idempotency: false,
            step: None,
            api: Api::Chat,
        }
    }

    /// The same, kept up for at least this long on the real clock.
    pub const fn at_least(mut self, least: Duration) -> Load {
        self.least = least;
        self
    }

    /// The same, kept up for this long after the providers are well again.
    pub const fn ending_after(mut self, tail: Duration) -> Load {
        self.tail = tail;
        self
    }

    /// What the user says in a request; every number gives the same length.
    fn prompt(&self, number: u64) -> String {
        const MORE: &str = "steady river signal. ";
        let mut words = format!("Rehearsal request {number:08}. ");
        words.push_str(&MORE.repeat(self.prompt_bytes.saturating_sub(words.len()) / MORE.len()));
        words
    }

    /// What the providers bill for a prompt: text and role, four bytes a token.
    pub(super) fn prompt_tokens(&self) -> u64 {
        ("user".len() + self.prompt(0).len()).div_ceil(4) as u64
    }
}

/// A load on the real clock.
pub(super) struct Plan<'a> {
    pub(super) load: &'a Load,
    pub(super) scale: f64,
    pub(super) target: SocketAddr,
    pub(super) path_prefix: &'a str,
    pub(super) model: &'a str,
    pub(super) seed: u64,
    pub(super) start: Instant,
    /// New requests are due until then.
    pub(super) until: Instant,
    /// Ends the load at once when it is set.
    pub(super) stop: &'a AtomicBool,
}

/// What can be seen while a load runs.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) sent: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) open: AtomicU64,
}
