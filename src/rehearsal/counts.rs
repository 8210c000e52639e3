//! What a scripted provider saw and did: the other side of every claim the gateway makes about itself.
//!
//! Invariant: a request is counted once, when it is whole; its outcome is counted once, when it ends. The ledger of the
//! gateway must equal these figures exactly.
//!
//! Limits: the last 10,000 cancellations and the last 36,000 buckets are kept; the totals never forget.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

const CANCELLATIONS: usize = 10_000;
const BUCKETS: usize = 36_000;
/// A call that begins to arrive this soon after a `Retry-After` was sent may have left before it was read.
const IN_FLIGHT: Duration = Duration::from_millis(50);

/// A copy of the figures at one moment.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Requests that arrived whole, whatever became of them.
    pub requests: u64,
    /// Good answers that were written to their end.
    pub completed: u64,
    /// Answers with a status of 400 and more that were written to their end.
    pub refused: u64,
    /// Answers that a fault broke, bent or swallowed.
    pub broken: u64,
    /// Answers that the client did not wait for.
    pub cancelled: u64,
    /// Bytes on a connection that were not HTTP.
    pub malformed: u64,
    /// Prompt tokens of requests whose answer was begun with 200.
    pub tokens_in: u64,
    /// Tokens that were sent.
    pub tokens_out: u64,
    /// Bytes read and written, heads included, before TLS.
    pub bytes_in: u64,
    /// See `bytes_in`.
    pub bytes_out: u64,
    /// Connections that are open now.
    pub open_connections: u64,
    /// Connections that were accepted so far.
    pub connections: u64,
    /// Most requests in progress at one moment.
    pub most_in_progress: u64,
    /// Requests in progress now.
    pub in_progress: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Figures by the last eight characters of the API key; an empty name is no key.
    pub keys: BTreeMap<String, KeyCounts>,
    /// Calls that arrived inside a `Retry-After` window given to the same key and model.
    pub inside_retry_after: u64,
    /// Those of them that began to arrive within 50 ms of the window's start and so may have been in flight.
    pub inside_retry_after_in_flight: u64,
    /// Figures over time, oldest first; an empty bucket is left out.
    pub buckets: Vec<Bucket>,
    /// When each client that went away was noticed.
    pub cancellations: Vec<Cancelled>,
    /// The first and the last request.
    pub first_seen: Option<Instant>,
    /// See `first_seen`.
    pub last_seen: Option<Instant>,
}

/// Figures of one API key.
#[derive(Debug, Clone, Default)]
pub struct KeyCounts {
    /// Requests that arrived whole.
    pub requests: u64,
    /// Good answers that were written to their end.
    pub completed: u64,
    /// Prompt tokens of requests whose answer was begun with 200.
    pub tokens_in: u64,
    /// Tokens that were sent.
    pub tokens_out: u64,
    /// Calls inside a `Retry-After` window, the ones in flight excepted.
    pub inside_retry_after: u64,
}

/// Figures of a stretch of time, as long as `MockOptions::bucket`.
#[derive(Debug, Clone)]
pub struct Bucket {
    /// When it began.
    pub start: Instant,
    /// Requests that arrived in it.
    pub requests: u64,
    /// Good answers that ended in it.
    pub completed: u64,
    /// The first and the last request in it.
    pub first_seen: Instant,
    /// See `first_seen`.
    pub last_seen: Instant,
}

/// A client that went away before its answer ended.
#[derive(Debug, Clone)]
pub struct Cancelled {
    /// When it was noticed.
    pub at: Instant,
    /// The path of the request.
    pub path: String,
    /// Tokens it had been sent.
    pub tokens_out: u64,
}

/// One captured request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// When its last byte arrived.
    pub at: Instant,
    /// As written.
    pub method: String,
    /// Path and query as written.
    pub path: String,
    /// Names in lower case, in the order they came.
    pub headers: Vec<(String, String)>,
    /// At most `MockOptions::capture_body` bytes of the body.
    pub body: Vec<u8>,
    /// Bytes of the whole body.
    pub body_len: usize,
    /// The last eight characters of the API key.
    pub key: String,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Refused,
    Broken,
    Cancelled,
}

/// The figures and what it takes to keep them.
#[derive(Debug)]
pub(super) struct Ledger {
    counts: Counts,
    buckets: VecDeque<Bucket>,
    cancellations: VecDeque<Cancelled>,
    bucket: Duration,
    started: Instant,
    /// Key and model to the start and the end of the window.
    windows: HashMap<(String, String), (Instant, Instant)>,
}

impl Ledger {
    pub(super) fn new(bucket: Duration, now: Instant) -> Ledger {
        Ledger {
            counts: Counts::default(),
            buckets: VecDeque::new(),
            cancellations: VecDeque::new(),
            bucket: bucket.max(Duration::from_millis(1)),
            started: now,
            windows: HashMap::new(),
        }
    }

    pub(super) fn snapshot(&self) -> Counts {
        let mut counts = self.counts.clone();
        counts.buckets = self.buckets.iter().cloned().collect();
        counts.cancellations = self.cancellations.iter().cloned().collect();
        counts
    }

    pub(super) fn connected(&mut self) {
        self.counts.connections += 1;
        self.counts.open_connections += 1;
    }

    pub(super) fn disconnected(&mut self) {
        self.counts.open_connections = self.counts.open_connections.saturating_sub(1);
    }

    pub(super) fn malformed(&mut self) {
        self.counts.malformed += 1;
    }

    pub(super) fn moved(&mut self, bytes_in: usize, bytes_out: usize) {
        self.counts.bytes_in += bytes_in as u64;
        self.counts.bytes_out += bytes_out as u64;
    }

    /// A whole request arrived, which `began` earlier when it is long; `tokens_in` is 0 when its answer costs nothing.
    pub(super) fn begin(
        &mut self,
        began: Instant,
        now: Instant,
        key: &str,
        model: &str,
        status: u16,
        tokens_in: u64,
    ) {
        let counts = &mut self.counts;
        counts.requests += 1;
        counts.in_progress += 1;
        counts.most_in_progress = counts.most_in_progress.max(counts.in_progress);
        counts.tokens_in += tokens_in;
        *counts.statuses.entry(status).or_default() += 1;
        counts.first_seen.get_or_insert(now);
        counts.last_seen = Some(now);
        let window = self.windows.get(&(key.to_owned(), model.to_owned()));
        let inside = window.filter(|(start, end)| (*start..*end).contains(&now));
        let of_key = counts.keys.entry(key.to_owned()).or_default();
        of_key.requests += 1;
        of_key.tokens_in += tokens_in;
        if let Some((start, _)) = inside {
            counts.inside_retry_after += 1;
            if began.saturating_duration_since(*start) < IN_FLIGHT {
                counts.inside_retry_after_in_flight += 1;
            } else {
                of_key.inside_retry_after += 1;
            }
        }
        let bucket = self.bucket_at(now);
        bucket.requests += 1;
        bucket.last_seen = now;
    }

    /// `Retry-After` is told to this key and model.
    pub(super) fn told_to_wait(&mut self, from: Instant, wait: Duration, key: &str, model: &str) {
        let window = self.windows.entry((key.to_owned(), model.to_owned())).or_insert((from, from));
        // A refusal inside a window makes it longer; its start stays.
        if from >= window.1 {
            window.0 = from;
        }
        window.1 = window.1.max(from + wait);
    }

    pub(super) fn end(&mut self, now: Instant, key: &str, path: &str, outcome: Outcome, tokens_out: u64) {
        let counts = &mut self.counts;
        counts.in_progress = counts.in_progress.saturating_sub(1);
        counts.tokens_out += tokens_out;
        let of_key = counts.keys.entry(key.to_owned()).or_default();
        of_key.tokens_out += tokens_out;
        match outcome {
            Outcome::Completed => {
                counts.completed += 1;
                of_key.completed += 1;
                self.bucket_at(now).completed += 1;
            }
            Outcome::Refused => counts.refused += 1,
            Outcome::Broken => counts.broken += 1,
            Outcome::Cancelled => {
                counts.cancelled += 1;
                if self.cancellations.len() == CANCELLATIONS {
                    self.cancellations.pop_front();
                }
                self.cancellations.push_back(Cancelled { at: now, path: path.to_owned(), tokens_out });
            }
        }
    }

    fn bucket_at(&mut self, now: Instant) -> &mut Bucket {
        let since = now.saturating_duration_since(self.started);
        let index = (since.as_nanos() / self.bucket.as_nanos()) as u32;
        let start = self.started + self.bucket.saturating_mul(index);
        // An end may be booked with an instant taken just before the bucket of a later arrival began.
        if self.buckets.back().is_none_or(|last| last.start < start) {
            if self.buckets.len() == BUCKETS {
                self.buckets.pop_front();
            }
            self.buckets.push_back(Bucket {
                start,
                requests: 0,
                completed: 0,
                first_seen: now,
                last_seen: now,
            });
        }
        let last = self.buckets.len() - 1;
        &mut self.buckets[last]
    }
}

/// How a key is named in figures: its last eight characters.
pub(super) fn key_suffix(key: &str) -> String {
    let skip = key.chars().count().saturating_sub(8);
    key.chars().skip(skip).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_request_that_began_before_a_window_was_in_flight() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut ledger = Ledger::new(Duration::from_secs(1), start);
        ledger.told_to_wait(at(100), Duration::from_secs(60), "key", "model");
        for (began, whole, inside, in_flight) in
            [(0, 99, 0, 0), (90, 500, 1, 1), (149, 500, 2, 2), (150, 500, 3, 2), (60_101, 60_101, 3, 2)]
        {
            ledger.begin(at(began), at(whole), "key", "model", 200, 0);
            let counts = ledger.snapshot();
            let seen = (counts.inside_retry_after, counts.inside_retry_after_in_flight);
            assert_eq!(seen, (inside, in_flight), "{began}");
        }
    }
}
