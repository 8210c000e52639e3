//! Turns an answer and its faults into a script: bytes, when each may leave, and how it ends.
//!
//! Why a script: the connection only plays it, so that every fault is a plain transformation that a test can look at
//! without a socket.
//!
//! Invariants: marks are sorted by `end` and by `at`; the last mark's `end` is the length of `bytes`.

use std::time::Duration;

use super::answer::{Answer, Body, Event, Part};
use super::mock::Pacing;
use super::program::{After, Fault, How, unit};
use super::reshape;

/// A writer that is told "one byte a second" writes at most this often.
const TRICKLE_STEP: Duration = Duration::from_millis(1);

/// What a connection plays.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) bytes: Vec<u8>,
    pub(super) marks: Vec<Mark>,
    pub(super) end: End,
    /// What happens to the connection when it stays idle afterwards.
    pub(super) idle: Option<(Duration, IdleAct)>,
    pub(super) status: u16,
    pub(super) tokens_in: u64,
    /// The client can take it for a complete, good answer.
    pub(super) whole: bool,
}

/// Bytes up to `end` may leave from `at` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) end: usize,
    pub(super) at: Duration,
    /// Tokens that the client has when these bytes left.
    pub(super) tokens: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum End {
    #[default]
    KeepAlive,
    Fin,
    Reset,
    Hang,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IdleAct {
    Fin,
    RequestTimeout,
}

/// What a script depends on besides the answer.
pub(super) struct Conditions<'a> {
    pub(super) pacing: &'a Pacing,
    /// For the jitter of the pace.
    pub(super) seed: u64,
    pub(super) keep_alive: bool,
    pub(super) http10: bool,
    pub(super) head_only: bool,
}

/// A run of bytes with its time, before faults cut into it.
struct Frame {
    bytes: Vec<u8>,
    at: Duration,
    tokens: u64,
    content: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
    UntilClose,
}

pub(super) fn compile(mut answer: Answer, faults: &[Fault], conditions: &Conditions<'_>) -> Script {
    let mut script = Script { status: answer.status, whole: answer.status < 300, ..Script::default() };
    if answer.status < 300 {
        script.tokens_in = answer.tokens_in;
    }
    reshape::answer(&mut answer, faults, &mut script);
    let streams = matches!(answer.body, Body::Stream(_));
    let clock = Clock::new(faults, conditions, answer.tokens_out);
    let framing = framing(faults, conditions, streams);
    let closes = framing == Framing::UntilClose || !conditions.keep_alive || has(faults, &Fault::Close);
    script.end = if closes { End::Fin } else { End::KeepAlive };

    let payload = payload(&mut answer, &clock);
    let length: usize = payload.iter().map(|frame| frame.bytes.len()).sum();
    let head = head(&answer, faults, framing, length, closes);
    let mut frames = vec![Frame { bytes: head, at: clock.head(streams), tokens: 0, content: false }];
    if !conditions.head_only {
        frames.extend(payload.into_iter().map(|frame| frame.framed(framing)));
        if framing == Framing::Chunked {
            let at = frames.last().map_or(Duration::ZERO, |frame| frame.at);
            let tokens = frames.last().map_or(0, |frame| frame.tokens);
            frames.push(Frame { bytes: b"0\r\n\r\n".to_vec(), at, tokens, content: false });
        }
    }
    for fault in faults {
        match fault {
            Fault::Break(how, after) => stop(&mut frames, *how, *after, streams, &mut script),
            Fault::Truncate(missing) => truncate(&mut frames, *missing, &mut script),
            Fault::Excess => excess(&mut frames),
            _ => {}
        }
    }
    lay_out(frames, faults, &mut script);
    script
}

/// A script that sends these bytes at once and ends the connection.
pub(super) fn raw(bytes: Vec<u8>, end: End, status: u16) -> Script {
    let marks = vec![Mark { end: bytes.len(), at: Duration::ZERO, tokens: 0 }];
    Script { bytes, marks, end, status, ..Script::default() }
}

fn has(faults: &[Fault], wanted: &Fault) -> bool {
    faults.iter().any(|fault| fault == wanted)
}

fn framing(faults: &[Fault], conditions: &Conditions<'_>, streams: bool) -> Framing {
    if has(faults, &Fault::NoLength) {
        Framing::UntilClose
    } else if !streams || has(faults, &Fault::WithLength) {
        Framing::Length
    } else if conditions.http10 {
        Framing::UntilClose
    } else {
        Framing::Chunked
    }
}

/// When the parts of an answer leave.
struct Clock {
    /// Before the first byte of anything.
    slow: Duration,
    /// Between the head of a stream and its first event.
    late: Duration,
    stall: Option<(Duration, usize)>,
    pace: Pacing,
    seed: u64,
    /// A paced answer costs tokens; an error or a list of models comes at once.
    tokens: u64,
}

impl Clock {
    fn new(faults: &[Fault], conditions: &Conditions<'_>, tokens: u64) -> Clock {
        let mut clock = Clock {
            slow: Duration::ZERO,
            late: Duration::ZERO,
            stall: None,
            pace: conditions.pacing.clone(),
            seed: conditions.seed,
            tokens,
        };
        for fault in faults {
            match fault {
                Fault::Slow(extra) => clock.slow += *extra,
                Fault::Stretch(times) => {
                    clock.pace.first_token = clock.pace.first_token.mul_f64(*times);
                    clock.pace.token_gap = clock.pace.token_gap.mul_f64(*times);
                }
                Fault::FirstEventLate(extra) => clock.late += *extra,
                Fault::Stall(pause, after) => clock.stall = Some((*pause, *after)),
                _ => {}
            }
        }
        clock
    }

    fn jittered(&self, time: Duration, n: u64) -> Duration {
        time.mul_f64(1.0 + self.pace.jitter.clamp(0.0, 1.0) * (2.0 * unit(self.seed, 0x9ACE, n) - 1.0))
    }

    fn first_token(&self) -> Duration {
        if self.tokens == 0 { Duration::ZERO } else { self.jittered(self.pace.first_token, 0) }
    }

    fn head(&self, streams: bool) -> Duration {
        if streams { self.slow + self.first_token() / 2 } else { self.whole() }
    }

    fn lead(&self) -> Duration {
        self.slow + self.late + self.first_token() / 2
    }

    /// Times of the content events, one after the other.
    fn content(&self) -> impl Iterator<Item = Duration> + '_ {
        let mut at = self.slow + self.late + self.first_token();
        (0..).map(move |n: u64| {
            if n > 0 {
                at += self.jittered(self.pace.token_gap, n);
            }
            if let Some((pause, after)) = self.stall
                && n == after as u64
            {
                at += pause;
            }
            at
        })
    }

    fn whole(&self) -> Duration {
        let gaps = self.tokens.saturating_sub(1).min(u64::from(u32::MAX)) as u32;
        self.slow + self.first_token() + self.pace.token_gap * gaps
    }
}

/// The body as frames without their framing.
fn payload(answer: &mut Answer, clock: &Clock) -> Vec<Frame> {
    match std::mem::replace(&mut answer.body, Body::Whole(Vec::new())) {
        Body::Whole(bytes) => {
            vec![Frame { bytes, at: clock.whole(), tokens: answer.tokens_out, content: false }]
        }
        Body::Stream(events) => {
            let mut times = clock.content();
            let (mut at, mut tokens) = (clock.lead(), 0);
            let frame = |event: Event| {
                if event.part == Part::Content {
                    at = times.next().unwrap_or(at);
                    tokens += 1;
                } else if event.part == Part::Terminal {
                    tokens = answer.tokens_out;
                }
                Frame { bytes: event.bytes, at, tokens, content: event.part == Part::Content }
            };
            events.into_iter().map(frame).collect()
        }
    }
}

impl Frame {
    fn framed(mut self, framing: Framing) -> Frame {
        if framing == Framing::Chunked && !self.bytes.is_empty() {
            let mut bytes = format!("{:x}\r\n", self.bytes.len()).into_bytes();
            bytes.append(&mut self.bytes);
            bytes.extend_from_slice(b"\r\n");
            self.bytes = bytes;
        }
        self
    }
}

fn head(answer: &Answer, faults: &[Fault], framing: Framing, length: usize, closes: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(512);
    for fault in faults {
        if let Fault::InterimFlood(count) = fault {
            for _ in 0..*count {
                out.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </rehearsal>\r\n\r\n");
            }
        }
    }
    out.extend_from_slice(format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status)).as_bytes());
    for (name, value) in &answer.fields {
        out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    for fault in faults {
        match fault {
            Fault::HugeHead(size) => {
                out.extend_from_slice(b"x-padding: ");
                out.extend(std::iter::repeat_n(b'x', *size));
                out.extend_from_slice(b"\r\n");
            }
            Fault::ManyFields(count) => (0..*count).for_each(|_| out.extend_from_slice(b"x: y\r\n")),
            _ => {}
        }
    }
    match framing {
        Framing::Length => out.extend_from_slice(format!("content-length: {length}\r\n").as_bytes()),
        Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::UntilClose => {}
    }
    out.extend_from_slice(if closes { b"connection: close\r\n\r\n" } else { b"\r\n" });
    out
}

pub(super) fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        204 => "No Content",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        529 => "Overloaded",
        _ => "Status",
    }
}

/// Ends the frames early. `frames[0]` is the head.
fn stop(frames: &mut Vec<Frame>, how: How, after: After, streams: bool, script: &mut Script) {
    script.whole = false;
    script.end = match how {
        How::Reset => End::Reset,
        How::Cut => End::Fin,
        How::Hang => End::Hang,
    };
    match after {
        After::Nothing => keep_bytes(frames, 0),
        After::Bytes(count) => keep_bytes(frames, count),
        After::Events(0) => frames.truncate(1),
        After::Events(count) if streams => {
            let last = frames.iter().enumerate().filter(|(_, frame)| frame.content).nth(count - 1);
            if let Some((last, _)) = last {
                frames.truncate(last + 1);
            }
        }
        After::Events(_) => {
            let body: usize = frames.iter().skip(1).map(|frame| frame.bytes.len()).sum();
            let head = frames.first().map_or(0, |frame| frame.bytes.len());
            keep_bytes(frames, head + body / 2);
        }
    }
}

fn keep_bytes(frames: &mut Vec<Frame>, count: usize) {
    let mut left = count;
    for frame in frames.iter_mut() {
        // The moment at which the silence begins is kept: `slow:+5s; reset` resets after 5 s.
        let kept = frame.bytes.len().min(left);
        frame.bytes.truncate(kept);
        left -= kept;
    }
    let used = frames.iter().rposition(|frame| !frame.bytes.is_empty()).map_or(1, |last| last + 1);
    frames.truncate(used);
    if count == 0 {
        frames.iter_mut().for_each(|frame| frame.tokens = 0);
    }
}

fn truncate(frames: &mut Vec<Frame>, missing: Option<usize>, script: &mut Script) {
    script.whole = false;
    script.end = End::Fin;
    let total: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    let head = frames.first().map_or(0, |frame| frame.bytes.len());
    let missing = missing.unwrap_or((total - head) / 2);
    keep_bytes(frames, total.saturating_sub(missing).max(head));
}

fn excess(frames: &mut Vec<Frame>) {
    if let Some(last) = frames.last() {
        let bytes =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}".to_vec();
        let more = Frame { bytes, at: last.at, tokens: last.tokens, content: false };
        frames.push(more);
    }
}

/// Puts the frames one after the other and times their bytes.
fn lay_out(frames: Vec<Frame>, faults: &[Fault], script: &mut Script) {
    let step = faults.iter().find_map(|fault| match fault {
        Fault::Trickle(rate) => Some(Steps::at_rate(*rate)),
        Fault::Fragment(size) => Some(Steps { size: *size, gap: Duration::from_millis(1) }),
        _ => None,
    });
    let fragments_head = faults.iter().any(|fault| matches!(fault, Fault::Fragment(_)));
    let mut clock = Duration::ZERO;
    for (n, frame) in frames.into_iter().enumerate() {
        clock = clock.max(frame.at);
        let start = script.bytes.len();
        script.bytes.extend_from_slice(&frame.bytes);
        if let Some(step) = step.as_ref().filter(|_| n > 0 || fragments_head) {
            let mut end = start;
            while end + step.size < script.bytes.len() {
                end += step.size;
                script.marks.push(Mark { end, at: clock, tokens: frame.tokens.saturating_sub(1) });
                clock += step.gap;
            }
        }
        let end = script.bytes.len();
        script.marks.push(Mark { end, at: clock, tokens: frame.tokens });
        if let Some(step) = step.as_ref().filter(|_| n > 0) {
            clock += step.gap;
        }
    }
}

struct Steps {
    size: usize,
    gap: Duration,
}

impl Steps {
    fn at_rate(rate: f64) -> Steps {
        let size = (rate * TRICKLE_STEP.as_secs_f64()).ceil().max(1.0);
        Steps { size: size as usize, gap: Duration::from_secs_f64((size / rate).min(1e6)) }
    }
}
