//! Captured requests and answers: one line of JSON each, with what is secret made unreadable, in a file of their own.
//!
//! ```text
//! Captured ── Captures::push (a core) ── bounded queue ── capture thread: text of the answer, redaction, file
//! ```
//!
//! Off unless the config names a file; then it costs a copy of each captured body and some memory. A capture that finds
//! the queue full is dropped and counted.
//!
//! Invariant: text is made unreadable before it is cut, so that no secret survives in two halves.
//!
//! Limits: the text of an answer is that of its first choice, without tool calls; bodies that are not text are not kept.

mod redact;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::dialect::date::push_rfc3339;
use crate::dialect::{Api, text};

use super::log::{Counts, Output, Sink};
use super::outbox::api_label;

pub use redact::Redactor;

/// Captures that may wait.
const QUEUE: usize = 64;
/// Bytes taken beyond those that are kept, so that a secret across the border is seen whole.
pub const MARGIN: usize = 4 << 10;
/// Bytes of events for each byte of text that is kept: what streams put around it.
pub const EVENTS_PER_BYTE: usize = 16;

/// A request and its answer, as their beginnings.
#[derive(Debug, Default)]
pub struct Captured {
    /// The request id that the client was given.
    pub id: String,
    /// When the answer ended, Unix time in microseconds.
    pub unix_us: u64,
    /// The endpoint.
    pub api: Option<Api>,
    /// The answer is a stream of events.
    pub stream: bool,
    /// The status that the client was given; 0 when it left before one.
    pub status: u16,
    /// Who answered, as `provider/model`; empty when nobody did.
    pub answered: String,
    /// The beginning of the request, and how long it is.
    pub request: Vec<u8>,
    /// See `request`.
    pub request_bytes: u64,
    /// The beginning of the answer as the client was given it, and how long it is.
    pub answer: Vec<u8>,
    /// See `answer`.
    pub answer_bytes: u64,
}

#[derive(Serialize)]
struct Line<'c> {
    time: String,
    id: &'c str,
    api: Option<&'static str>,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    answered: &'c str,
    request_bytes: u64,
    request: String,
    answer_bytes: u64,
    answer: String,
    /// How much was made unreadable.
    redacted: u64,
}

/// A core's way to the captures.
#[derive(Clone)]
pub struct Captures {
    to: SyncSender<Captured>,
    counts: Arc<Counts>,
}

impl Captures {
    /// Hands over a capture, or counts it as dropped.
    pub fn push(&self, captured: Captured) {
        if self.to.try_send(captured).is_err() {
            self.counts.drop_lines(1);
        }
    }
}

/// The thread that writes captures; it ends when every [`Captures`] is gone.
pub struct CaptureThread {
    /// What became of captures.
    pub counts: Arc<Counts>,
    reopen: Arc<AtomicBool>,
    ended: Mutex<Receiver<()>>,
}

impl CaptureThread {
    /// Opens the file again before the next line: someone moved it away.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }

    /// Waits for what is queued to be written, at most so long.
    pub fn end(self, at_most: Duration) {
        // The sender is dropped when the thread ends, which is the answer that is waited for.
        let ended = self.ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(at_most);
    }
}

/// Starts the thread: at most `bytes` of each text are written to `output`, made unreadable by `redactor`.
///
/// # Errors
/// The file cannot be opened, or the thread not be started.
pub fn start(output: Output, bytes: usize, redactor: Redactor) -> io::Result<(Captures, CaptureThread)> {
    let counts = Arc::new(Counts::default());
    let mut sink = Sink::open_with_mode(output, counts.clone(), 0o600)?;
    let (to, from) = sync_channel::<Captured>(QUEUE);
    let (ending, ended) = channel::<()>();
    let reopen = Arc::new(AtomicBool::new(false));
    let reopened = reopen.clone();
    std::thread::Builder::new().name("sluice-capture".to_owned()).spawn(move || {
        let _ending = ending;
        for captured in from {
            if reopened.swap(false, Ordering::AcqRel) {
                sink.reopen();
            }
            let line = line(&captured, bytes, &redactor);
            sink.write(&line, 1);
        }
    })?;
    let thread = CaptureThread { counts: counts.clone(), reopen, ended: Mutex::new(ended) };
    Ok((Captures { to, counts }, thread))
}

fn line(captured: &Captured, bytes: usize, redactor: &Redactor) -> Vec<u8> {
    let answer = match captured.api.filter(|_| captured.stream) {
        Some(api) => said(api, &captured.answer),
        None => String::from_utf8_lossy(&captured.answer).into_owned(),
    };
    let (request, in_request) = redactor.redact(&String::from_utf8_lossy(&captured.request));
    let (answer, in_answer) = redactor.redact(&answer);
    let mut time = Vec::new();
    push_rfc3339(&mut time, captured.unix_us / 1_000_000);
    let line = Line {
        time: String::from_utf8_lossy(&time).into_owned(),
        id: &captured.id,
        api: captured.api.map(api_label),
        status: captured.status,
        answered: &captured.answered,
        request_bytes: captured.request_bytes,
        request: cut(request, bytes),
        answer_bytes: captured.answer_bytes,
        answer: cut(answer, bytes),
        redacted: in_request + in_answer,
    };
    // Writing to memory does not fail, and every key is text.
    let mut out = serde_json::to_vec(&line).unwrap_or_default();
    out.push(b'\n');
    out
}

/// What a stream says; of one that breaks off, what it said until then.
fn said(api: Api, events: &[u8]) -> String {
    let whole = events.windows(2).rposition(|two| two == b"\n\n").map_or(0, |at| at + 2);
    let text = text::of_stream(api, events.get(..whole).unwrap_or_default());
    text.map_or_else(|| String::from_utf8_lossy(events).into_owned(), |found| found.text)
}

/// At most `bytes` of `text`, whole characters.
fn cut(mut text: String, bytes: usize) -> String {
    if text.len() > bytes {
        let end = (0..=bytes).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(captured: &Captured, bytes: usize) -> serde_json::Value {
        let line = line(captured, bytes, &Redactor::new(&[]).unwrap());
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        serde_json::from_slice(&line).unwrap()
    }

    #[test]
    fn a_secret_across_the_border_is_not_written_in_part() {
        let request = b"0123456789 sk-proj-abcdEFGH1234567890 end".to_vec();
        let captured = Captured { request_bytes: 41, request, ..Captured::default() };
        for bytes in 0..41 {
            let said = json(&captured, bytes);
            let text = said["request"].as_str().unwrap();
            assert!(!text.contains("sk-") && text.len() <= bytes, "{text}");
            assert_eq!((&said["redacted"], &said["request_bytes"]), (&1.into(), &41.into()));
        }
    }

    #[test]
    fn a_secret_in_pieces_of_a_stream_is_seen_whole() {
        let piece =
            |text: &str| format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        let answer = ["it is sk-ab", "cdEFGH12", "34567890 ok"].map(piece).concat() + "data: {\"cho";
        let captured = Captured {
            api: Some(Api::ChatCompletions),
            stream: true,
            answer: answer.into_bytes(),
            ..Captured::default()
        };
        assert_eq!(json(&captured, 1000)["answer"], "it is [redacted key] ok");
    }

    #[test]
    fn a_queue_that_is_full_drops_and_counts() {
        let (to, _from) = sync_channel(1);
        let counts = Arc::new(Counts::default());
        let captures = Captures { to, counts: counts.clone() };
        (0..3).for_each(|_| captures.push(Captured::default()));
        assert_eq!(counts.dropped(), 2);
    }

    #[test]
    fn what_was_queued_is_written_before_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("c.log");
        let output = Output::File(path.clone(), None);
        let (captures, thread) = start(output, 100, Redactor::new(&[]).unwrap()).unwrap();
        (0..5).for_each(|n| captures.push(Captured { status: 200 + n, ..Captured::default() }));
        let counts = captures.counts.clone();
        drop(captures);
        thread.end(Duration::from_secs(20));
        assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 5);
        assert_eq!((counts.written(), counts.dropped()), (5, 0));
    }
}
