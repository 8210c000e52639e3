//! Traces: the ids of an exchange and of its attempts, what is sampled, and the spans that tell of it.
//!
//! An exchange is one span; each upstream call is a child of it. The ids are made on the core when the head is read,
//! because the provider is told the attempt's own; the spans are made of the exchange's [`Entry`](super::outbox::Entry),
//! long after, on the writer's thread ([`spans`]).
//!
//! ```text
//! traceparent of the client ── Rules::begin (on its core) ── Context ── traceparent of each attempt
//!                                                              │ with the Record, through the ring
//!                                                         spans::write (writer's thread)
//! ```
//!
//! Sampling follows the parent, and where there is none a share of the trace ids. At the end an exchange that failed or was
//! slow may be kept all the same. The flag that goes upstream was decided at the beginning: what only the end decided to keep
//! has no spans of the provider's below it, and none of an unsampled client's above it.
//!
//! Invariants: a context takes no memory and no lock; ids are never zero; a `traceparent` that breaks a rule of W3C Trace
//! Context (level 1, section 3.2.2) begins a new trace, and its `tracestate` is dropped with it.
//!
//! Leaves out: `baggage`, which is not passed on, since it may say anything of anybody.

pub mod spans;

use super::record::{Outcome, Record};

/// The flag that says that whoever called records the trace.
pub const SAMPLED: u8 = 1;
/// The flag that says that the trace id is random (level 2); passed on as it came.
const RANDOM: u8 = 2;
/// Trace ids are told apart by their last 56 bits.
const RANDOMNESS: u32 = 56;

/// A valid `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: [u8; 16],
    /// The span of whoever called.
    pub span: u64,
    /// Its flags, as far as they mean something here.
    pub flags: u8,
}

impl Parent {
    /// Reads the value of a `traceparent` field. `None` when it breaks a rule.
    pub fn read(value: &[u8]) -> Option<Parent> {
        // version "-" trace-id "-" parent-id "-" trace-flags, in lower-case hexadecimal digits.
        let (head, rest) = value.split_at_checked(55)?;
        if head[2] != b'-' || head[35] != b'-' || head[52] != b'-' {
            return None;
        }
        let [version] = hex::<1>(&head[..2])?;
        // A later version may say more behind a dash; this one may not.
        let fits = match version {
            0 => rest.is_empty(),
            255 => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let trace = hex::<16>(&head[3..35])?;
        let span = u64::from_be_bytes(hex::<8>(&head[36..52])?);
        let [flags] = hex::<1>(&head[53..])?;
        let known = if version == 0 { SAMPLED | RANDOM } else { SAMPLED };
        (fits && trace != [0; 16] && span != 0).then_some(Parent { trace, span, flags: flags & known })
    }
}

fn hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

fn push_hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
}

/// The place of one exchange in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span of the exchange.
    pub span: u64,
    /// The span of whoever called; 0 when the trace begins here.
    pub parent: u64,
    /// What goes upstream: [`SAMPLED`], and a client's flag of a random id.
    pub flags: u8,
}

impl Context {
    /// Whether it was sampled at the beginning.
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The span of attempt `no`, from 0.
    pub fn attempt(&self, no: u8) -> u64 {
        // Mixed (splitmix64), so that it looks like any other id; a function of the exchange's, so that nobody keeps it.
        let mut z = self.span.wrapping_add((u64::from(no) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).max(1)
    }

    /// Appends the field line that attempt `no` is sent with.
    pub fn push_line(&self, no: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(b"traceparent: 00-");
        push_hex(&self.trace, out);
        out.push(b'-');
        push_hex(&self.attempt(no).to_be_bytes(), out);
        out.push(b'-');
        push_hex(&[self.flags], out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Which exchanges are traced. Copied to each core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Trace ids whose last 56 bits are at least this are sampled; past the largest of them, none is.
    threshold: u64,
    failed: bool,
    slower_than_us: Option<u64>,
}

impl Rules {
    /// Samples a share of the traces that begin here, from 0 to 1, and keeps what failed or took so long in any case.
    pub fn new(share: f64, failed: bool, slower_than_us: Option<u64>) -> Rules {
        let all = 1u64 << RANDOMNESS;
        let threshold = ((1.0 - share.clamp(0.0, 1.0)) * all as f64) as u64;
        Rules { threshold, failed, slower_than_us }
    }

    /// The context of an exchange that begins. `random` gives numbers that nobody else was given.
    pub fn begin(&self, parent: Option<Parent>, mut random: impl FnMut() -> u64) -> Context {
        let span = random().max(1);
        if let Some(parent) = parent {
            return Context { trace: parent.trace, span, parent: parent.span, flags: parent.flags };
        }
        let (high, low) = (random().max(1), random());
        let mut trace = [0; 16];
        trace[..8].copy_from_slice(&high.to_be_bytes());
        trace[8..].copy_from_slice(&low.to_be_bytes());
        let sampled = low & ((1 << RANDOMNESS) - 1) >= self.threshold;
        Context { trace, span, parent: 0, flags: u8::from(sampled) * SAMPLED }
    }

    /// Whether the finished exchange is sent.
    pub fn wants(&self, context: &Context, record: &Record<'_>) -> bool {
        context.is_sampled()
            || (self.failed && failed(record))
            || self.slower_than_us.is_some_and(|limit_us| record.duration_us >= limit_us)
    }
}

/// Whether anything of it failed. What the gateway turned away for the caller's own fault did not: anybody who knocks would
/// fill the collector.
fn failed(record: &Record<'_>) -> bool {
    match record.outcome {
        Outcome::Rejected => record.status >= 500,
        Outcome::Ok => record.tried.iter().any(|tried| tried.fault.is_some()),
        Outcome::ClientError | Outcome::UpstreamError | Outcome::Aborted => true,
    }
}

/// What a record says for its trace, where that is sent.
#[derive(Clone, Copy, Debug)]
pub struct Traced<'r> {
    /// Its place in the trace.
    pub context: Context,
    /// When the first content came, microseconds after the exchange began; streams only.
    pub first_content_us: Option<u64>,
    /// Why the model stopped; empty when it did not say.
    pub finish: &'static str,
    /// The model that the answer names; empty when it names none.
    pub model: &'r str,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::outbox::samples::{FAILED, PLAIN, TRIED};

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn numbers() -> impl FnMut() -> u64 {
        let mut n = 0u64;
        move || {
            n += 1;
            n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        }
    }

    #[test]
    fn a_clients_trace_goes_on_with_a_span_of_the_attempts_own() {
        let parent = Parent::read(GOOD.as_bytes()).unwrap();
        let context = Rules::new(0.0, false, None).begin(Some(parent), numbers());
        assert_eq!((context.parent, context.is_sampled()), (0x00f0_67aa_0ba9_02b7, true));
        let mut lines = [Vec::new(), Vec::new()];
        for (no, line) in lines.iter_mut().enumerate() {
            context.push_line(no as u8, line);
            let text = std::str::from_utf8(line).unwrap();
            let value = text.strip_prefix("traceparent: ").and_then(|v| v.strip_suffix("\r\n")).unwrap();
            let sent = Parent::read(value.as_bytes()).unwrap();
            assert_eq!((sent.trace, sent.span, sent.flags), (parent.trace, context.attempt(no as u8), 1));
        }
        assert_ne!(lines[0], lines[1]);
        assert_ne!(context.attempt(0), context.span);
    }

    #[test]
    fn what_breaks_a_rule_of_the_standard_is_no_parent() {
        let with = |at: usize, byte: u8| {
            let mut value = GOOD.as_bytes().to_vec();
            value[at] = byte;
            value
        };
        assert!((0..GOOD.len()).all(|end| Parent::read(&GOOD.as_bytes()[..end]).is_none()));
        for at in 0..GOOD.len() {
            assert!(Parent::read(&with(at, b'G')).is_none(), "{at}");
            assert!(Parent::read(&with(at, b'A')).is_none(), "{at}");
        }
        for value in [
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 ",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.more",
        ] {
            assert_eq!(Parent::read(value.as_bytes()), None, "{value}");
        }
        let later = Parent::read(format!("cc{}-what comes then", &GOOD[2..]).as_bytes()).unwrap();
        assert_eq!(later.flags, SAMPLED);
        assert_eq!(Parent::read(&with(54, b'e')).unwrap().flags, RANDOM);
    }

    #[test]
    fn a_share_of_new_traces_is_sampled_and_ids_are_never_zero() {
        for (share, least, most) in [(0.0, 0, 0), (0.25, 2_300, 2_700), (1.0, 10_000, 10_000)] {
            let (rules, mut random) = (Rules::new(share, false, None), numbers());
            let sampled = (0..10_000).filter(|_| rules.begin(None, &mut random).is_sampled()).count();
            assert!((least..=most).contains(&sampled), "{share}: {sampled}");
        }
        let context = Rules::new(1.0, false, None).begin(None, || 0);
        assert!(context.trace != [0; 16] && context.span != 0 && context.attempt(0) != 0);
        assert!(Parent::read(GOOD.replace("-01", "-00").as_bytes()).is_some_and(|parent| {
            !Rules::new(1.0, true, None).begin(Some(parent), numbers()).is_sampled()
        }));
    }

    #[test]
    fn what_failed_or_was_slow_is_kept_though_nobody_sampled_it() {
        let unsampled = Context { trace: [1; 16], span: 1, parent: 0, flags: 0 };
        let wants = |failed, slower_ms: Option<u64>, record: &Record<'_>| {
            Rules::new(0.0, failed, slower_ms.map(|ms| ms * 1000)).wants(&unsampled, record)
        };
        let whole = PLAIN;
        let fell_back = Record { tried: &[FAILED, TRIED], ..PLAIN };
        let turned_away = Record { outcome: Outcome::Rejected, status: 401, tried: &[], ..PLAIN };
        for (record, kept) in [
            (whole, false),
            (fell_back, true),
            (turned_away, false),
            (Record { status: 503, ..turned_away }, true),
            (Record { outcome: Outcome::Aborted, ..PLAIN }, true),
            (Record { outcome: Outcome::UpstreamError, ..PLAIN }, true),
        ] {
            assert_eq!(wants(true, None, &record), kept, "{record:?}");
            assert!(!wants(false, None, &record));
        }
        // It took 250 ms.
        assert_eq!((wants(false, Some(250), &whole), wants(false, Some(251), &whole)), (true, false));
        let sampled = Context { flags: SAMPLED, ..unsampled };
        assert!(Rules::new(0.0, false, None).wants(&sampled, &whole));
    }
}
