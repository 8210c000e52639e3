//! Fault programs: what a scripted provider does wrong, when, and to whom.
//!
//! What: a [`Program`] is a set of tracks that run at the same time; a track is a sequence of steps; a step is one
//! [`Fault`] with its conditions. [`Running`] is a program on a clock.
//!
//! Why: a rehearsal needs "down for eight minutes, then well, while one answer in ten is slow" in one line that can
//! be typed, kept in a file and repeated.
//!
//! Invariants: a program decides by the time since it was started, the order of arrival and the seed alone, so the
//! same arrivals meet the same faults. Every track has one current step at any time, or none.
//!
//! Limits: 32 tracks, 64 steps a track.
//!
//! Left out: faults below TCP (loss, reordering); `tc netem` does those better.

mod arguments;
mod faults;
mod parse;
mod run;

use std::time::Duration;

pub use arguments::ProgramError;
pub use faults::list_faults;

pub(super) use run::{Facts, Gate, Running, mix, unit};

/// What a scripted provider does wrong. The words of the language are in `docs/mock.md`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Fault {
    /// Answers well. Useful as the last step of a sequence.
    Ok,
    /// The port refuses connections and open ones are reset: the process is gone.
    Refuse,
    /// Connections are never completed: packets are dropped on the way.
    Blackhole,
    /// A connection is reset as soon as it was accepted.
    AcceptReset,
    /// These bytes are sent on a new connection before any request arrived.
    Banner(Vec<u8>),
    /// An idle kept-alive connection is closed after this long.
    CloseIdle(Duration),
    /// An idle kept-alive connection gets a 408 after this long, then FIN.
    Idle408(Duration),
    /// An error answer in the dialect of the request.
    Error(ErrorAnswer),
    /// The answer stops: nothing more is sent (`Hang`), RST or FIN.
    Break(How, After),
    /// The first byte comes later, by this much.
    Slow(Duration),
    /// Every pause of the usual pace is this many times longer.
    Stretch(f64),
    /// The head comes at once and the first event this much later than usual.
    FirstEventLate(Duration),
    /// The stream pauses for this long after so many content events.
    Stall(Duration, usize),
    /// Bytes leave at this rate.
    Trickle(f64),
    /// The last so many bytes of the framed body (half of it when none) are missing, then FIN.
    Truncate(Option<usize>),
    /// The right `Content-Length`, half of the JSON.
    CutJson,
    /// Status 200 and an error object.
    ErrorIn200,
    /// Status 200, a stream, and the first event is an error.
    ErrorFirstEvent,
    /// The stream carries an error event after so many content events, then ends.
    ErrorLateEvent(usize),
    /// Status 200 and a page of HTML, as captive portals send.
    Html200,
    /// Status 200 and no body.
    Empty200,
    /// A redirect to this place.
    Redirect(String),
    /// A head that breaks the rules in the named way.
    BadHead(BadHead),
    /// A header field of this many bytes.
    HugeHead(usize),
    /// This many header fields.
    ManyFields(usize),
    /// So many 103 responses before the answer.
    InterimFlood(usize),
    /// The answer, with this status, before the request body was read; then FIN.
    EarlyResponse(u16),
    /// These bytes instead of an answer, then FIN.
    Raw(Vec<u8>),
    /// The body is gzip although nobody asked.
    Gzip,
    /// This field line is added to the head.
    Header(String),
    /// A second answer follows the first, unasked.
    Excess,
    /// `Connection: close`, then FIN.
    Close,
    /// The body has neither a length nor chunks: FIN ends it.
    NoLength,
    /// A stream with a `Content-Length`.
    WithLength,
    /// The terminal event of a stream is missing; the framing ends well.
    NoDone,
    /// More events follow the terminal one.
    AfterDone,
    /// Usage is never reported.
    NoUsage,
    /// The answer is written so many bytes at a time, 1 ms apart.
    Fragment(usize),
    /// Event lines end with `\r\n` or `\r` and not `\n`.
    LineEnds(&'static str),
    /// A comment line goes before each event.
    Comments,
    /// One content event is this many bytes long.
    BigEvent(usize),
}

/// How an answer stops in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// TCP RST.
    Reset,
    /// TCP FIN.
    Cut,
    /// Silence on an open connection.
    Hang,
}

/// Where an answer stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Before its first byte.
    Nothing,
    /// After so many content events of a stream (0: after its head); in the middle of a body that is not a stream.
    Events(usize),
    /// After so many bytes, head included.
    Bytes(usize),
}

/// An error answer, not yet in any dialect.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorAnswer {
    /// What it says; the status follows from it when `status` is none.
    pub kind: ErrorKind,
    /// Sent instead of the usual status of `kind`.
    pub status: Option<u16>,
    /// Told to the client as `Retry-After`; calls of the same key inside this window are counted.
    pub retry_after: Option<Duration>,
    /// How `Retry-After` is written.
    pub form: RetryForm,
}

/// What an error answer says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Follows from the status.
    Status,
    /// Too many requests.
    RateLimit,
    /// The provider is overloaded: 503, and 529 in the Anthropic dialect.
    Overloaded,
    /// The key is not valid (401).
    KeyRevoked,
    /// The account has no money left (429 `insufficient_quota`; 402 in the Anthropic dialect).
    OutOfCredit,
    /// The prompt is longer than the context window (400).
    ContextLength,
    /// No such model (404).
    ModelNotFound,
    /// The answer was refused by a content filter (400).
    ContentFilter,
}

/// How a `Retry-After` time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryForm {
    /// Whole seconds, rounded up, and `retry-after-ms` beside it when that loses something.
    Seconds,
    /// `retry-after-ms` alone.
    Milliseconds,
    /// An HTTP date.
    Date,
}

/// A way to break the rules of a response head (RFC 9112).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "each names the bytes it sends; docs/mock.md has them in a table")]
pub enum BadHead {
    LengthAndChunked,
    TwoLengths,
    LengthNotANumber,
    LengthList,
    UnknownCoding,
    ChunkedTwice,
    ChunkedInHttp10,
    SwitchingProtocols,
    Status999,
    TwoDigitStatus,
    Http2Line,
    LineFeedOnly,
    CarriageReturnInValue,
    NulInValue,
    FoldedLine,
    BodyOn204,
    BadChunkSize,
    LineFeedInChunk,
    Garbage,
}

/// A fault program. `Program::parse("down:for=8m then ok; slow:+1s,p=0.1")`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Program {
    pub(super) tracks: Vec<Vec<Step>>,
    text: String,
}

/// One fault with its conditions.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    pub(super) fault: Fault,
    /// Waits this long after the step before it ended.
    pub(super) from: Duration,
    /// Ends this long after it began.
    pub(super) lasts: Option<Duration>,
    /// Ends after it met so many requests.
    pub(super) times: Option<u64>,
    pub(super) filter: Filter,
}

/// Which requests a step meets; all conditions must hold.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Filter {
    /// Chance, 0 to 1.
    pub(super) p: f64,
    /// Every n-th of the requests that the other conditions let through.
    pub(super) every: u64,
    /// The key ends with this.
    pub(super) key: Option<String>,
    /// The model name contains this.
    pub(super) model: Option<String>,
    /// The path contains this.
    pub(super) path: Option<String>,
    pub(super) stream: Option<bool>,
}

impl Default for Filter {
    fn default() -> Filter {
        Filter { p: 1.0, every: 1, key: None, model: None, path: None, stream: None }
    }
}

impl Fault {
    /// What is known when the fault acts.
    pub(super) fn stage(&self) -> Stage {
        match self {
            Fault::Refuse | Fault::Blackhole => Stage::Port,
            Fault::AcceptReset | Fault::Banner(_) => Stage::Connection,
            Fault::EarlyResponse(_) => Stage::Head,
            _ => Stage::Request,
        }
    }

    /// Replaces the answer; the first such fault of a request wins.
    pub(super) fn replaces_answer(&self) -> bool {
        matches!(
            self,
            Fault::Error(_)
                | Fault::ErrorIn200
                | Fault::ErrorFirstEvent
                | Fault::Html200
                | Fault::Empty200
                | Fault::Redirect(_)
                | Fault::BadHead(_)
                | Fault::Raw(_)
        )
    }
}

/// What is known when a fault acts: a later stage knows more and can ask for more conditions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Port,
    Connection,
    Head,
    Request,
}

impl Program {
    /// A program without faults.
    pub fn ok() -> Program {
        Program::default()
    }

    /// Reads the language of `docs/mock.md`. An error names the nearest fault and shows an example.
    pub fn parse(text: &str) -> Result<Program, ProgramError> {
        let tracks = parse::tracks(text)?;
        Ok(Program { tracks, text: text.trim().to_owned() })
    }

    /// One fault, for every request, for ever.
    pub fn always(fault: Fault) -> Program {
        let step = Step { fault, from: Duration::ZERO, lasts: None, times: None, filter: Filter::default() };
        Program { tracks: vec![vec![step]], text: String::new() }
    }

    /// One fault for the first `times` requests, then none.
    pub fn first(times: u64, fault: Fault) -> Program {
        let mut program = Program::always(fault);
        for step in program.tracks.iter_mut().flatten() {
            step.times = Some(times);
        }
        program
    }

    /// The same program on a clock that runs `1 / scale` times faster: every time in it, `Retry-After` too, is
    /// multiplied by `scale`.
    pub fn scaled(mut self, scale: f64) -> Program {
        for step in self.tracks.iter_mut().flatten() {
            step.from = step.from.mul_f64(scale);
            step.lasts = step.lasts.map(|d| d.mul_f64(scale));
            match &mut step.fault {
                Fault::Slow(d)
                | Fault::FirstEventLate(d)
                | Fault::Stall(d, _)
                | Fault::CloseIdle(d)
                | Fault::Idle408(d) => *d = d.mul_f64(scale),
                Fault::Trickle(rate) => *rate /= scale,
                Fault::Error(error) => error.retry_after = error.retry_after.map(|d| d.mul_f64(scale)),
                _ => {}
            }
        }
        self
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.text.is_empty() && self.tracks.is_empty() { "ok" } else { &self.text })
    }
}

impl std::str::FromStr for Program {
    type Err = ProgramError;

    fn from_str(text: &str) -> Result<Program, ProgramError> {
        Program::parse(text)
    }
}

/// From a string, or a list of strings that run at the same time.
impl<'de> serde::Deserialize<'de> for Program {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Program, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged)]
        enum OneOrMany {
            One(String),
            Many(Vec<String>),
        }
        let text = match OneOrMany::deserialize(deserializer)? {
            OneOrMany::One(text) => text,
            OneOrMany::Many(texts) => texts.join("; "),
        };
        Program::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for Program {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
