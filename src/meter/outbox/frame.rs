//! A record as bytes, and back as plain borrowed data.
//!
//! ```text
//! flags | NUMBERS of 8 bytes | texts of the exchange | who: bits, then name and value of each bit |
//! attempts: count, then each: flags, status, ATTEMPT_NUMBERS of 8 bytes, texts |
//! trace: 0, or 1 and: id, flags, numbers, texts, host and port of each attempt
//! ```
//!
//! A text is its length in one byte and its bytes; longer ones are cut at a character. Both sides are one build of one
//! program, so the form may change freely; still nothing here trusts it further than a failed read.
//!
//! Leaves out: prompts, answers, secrets. A [`Record`](crate::meter::record::Record) has none.

mod decode;
mod encode;
#[cfg(test)]
pub mod samples;

use crate::dialect::Usage;
use crate::meter::record::{Answered, Cost, Outcome, Spend};
use crate::meter::trace::Context;

pub use decode::decode;
pub use encode::{api_label, encode};

/// Longest text that is kept, bytes.
const TEXT_MAX: usize = 255;
const NUMBERS: usize = 16;
const ATTEMPT_NUMBERS: usize = 5;
/// What stands for a number that is not known; no duration is as long.
const ABSENT: u64 = u64::MAX;

const STREAM: u8 = 1;
const USAGE: u8 = 2;
const USAGE_MISSING: u8 = 4;
const PRICED: u8 = 8;
const UNPRICED: u8 = 16;
const TRUNCATED: u8 = 32;
const ANSWERED: u8 = 64;
const KEYED: u8 = 128;

/// One finished exchange as the writer sees it: what a [`Record`](crate::meter::record::Record)
/// says, with words for the words of the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    /// The request id that the client was given; empty without one.
    pub id: &'b str,
    /// The endpoint.
    pub api: &'b str,
    /// The client asked for a stream.
    pub stream: bool,
    /// The status that the client was given; 0 when it left before one.
    pub status: u16,
    /// What became of it.
    pub outcome: &'b str,
    /// Where the answer came from.
    pub source: &'b str,
    /// The code of the gateway's own error; empty without one.
    pub code: &'b str,
    /// The route.
    pub route: &'b str,
    /// The model that the client named.
    pub asked: &'b str,
    /// Who answered.
    pub answered: Option<Answered<'b>>,
    /// Tokens of the answer.
    pub usage: Option<Usage>,
    /// The answer should have reported tokens and did not.
    pub usage_missing: bool,
    /// What the answer cost.
    pub cost: Cost,
    /// When the request's first byte came, gateway clock.
    pub started_us: u64,
    /// From there to the end, microseconds.
    pub duration_us: u64,
    /// Microseconds to the first content.
    pub first_token_us: Option<u64>,
    /// Microseconds from there to the end.
    pub generating_us: Option<u64>,
    /// The gateway's own time, microseconds.
    pub overhead_us: Option<u64>,
    /// Time spent waiting for a place, microseconds.
    pub queued_us: u64,
    /// The answer broke off.
    pub truncated: bool,
    /// How often the SDK had sent it before.
    pub client_retries: u8,
    /// Every upstream call.
    pub attempts: Vec<Attempt<'b>>,
    /// Who asked: names and values, pipeline, step and team first; what was not said is left out.
    pub who: Vec<(&'b str, &'b str)>,
    /// Its trace, when that is sent.
    pub trace: Option<Trace<'b>>,
}

/// What an exchange says for its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace<'b> {
    /// Its place in the trace.
    pub context: Context,
    /// When the first content came, microseconds after the exchange began.
    pub first_content_us: Option<u64>,
    /// Why the model stopped; empty when it did not say.
    pub finish: &'b str,
    /// The model that the answer names; empty when it names none.
    pub model: &'b str,
    /// Host and port of each attempt.
    pub servers: Vec<(&'b str, u16)>,
}

/// One upstream call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt<'b> {
    /// Who was called.
    pub target: Answered<'b>,
    /// Why.
    pub reason: &'b str,
    /// What came of it.
    pub result: &'b str,
    /// The HTTP status, when that is what failed it.
    pub status: Option<u16>,
    /// Whose fault; empty when nobody's.
    pub fault: &'b str,
    /// From the exchange's start, microseconds.
    pub after_us: u64,
    /// How long it took, microseconds.
    pub elapsed_us: u64,
    /// It is the one that answers.
    pub answers: bool,
    /// What it used up for nothing.
    pub spend: Spend,
}

impl Entry<'_> {
    /// The value of who asked called `name`; empty when it was not said.
    pub fn who(&self, name: &str) -> &str {
        self.who.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value)
    }
}

/// Whether an outcome's word is that of an answer.
pub fn is_ok(outcome: &str) -> bool {
    outcome == Outcome::Ok.label()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::samples::{FAILED, PLAIN, TRACED, TRIED};
    use super::*;
    use crate::meter::record::Record;

    #[test]
    fn a_record_comes_back_as_it_was() {
        let mut bytes = Vec::new();
        let mut r = PLAIN;
        r.who[4] = "x1";
        let tried = [FAILED, TRIED];
        r.tried = &tried;
        encode("req_7", &r, &["branch".into(), "host".into()], &mut bytes);
        let entry = decode(&bytes).unwrap();
        assert_eq!(
            (entry.id, entry.api, entry.status, entry.outcome),
            ("req_7", "chat_completions", 200, "ok")
        );
        assert_eq!((entry.answered, entry.usage, entry.cost), (r.answered, r.usage, r.cost));
        assert_eq!((entry.started_us, entry.duration_us, entry.overhead_us), (1_000_000, 250_000, Some(45)));
        assert_eq!((entry.first_token_us, entry.source, entry.asked), (None, "provider", "gpt-4o-mini"));
        assert_eq!(
            entry.who,
            [("pipeline", "nightly"), ("step", "triage"), ("team", "core"), ("host", "x1")]
        );
        let first = entry.attempts[0];
        assert_eq!((first.reason, first.result, first.status), ("first", "status", Some(503)));
        assert_eq!((first.fault, first.spend, first.target.key), ("capacity", FAILED.spend, None));
        assert!(entry.attempts[1].answers && entry.attempts[1].target.key == Some("main"));
        assert_eq!(entry.trace, None);
        assert!(bytes.len() < 500, "{}", bytes.len());
        r.trace = Some(TRACED);
        encode("req_7", &r, &["branch".into(), "host".into()], &mut bytes);
        let trace = decode(&bytes).unwrap().trace.unwrap();
        assert_eq!((trace.context, trace.first_content_us), (TRACED.context, None));
        assert_eq!((trace.finish, trace.model), ("stop", "gpt-4o-mini-2024-07-18"));
        assert_eq!(trace.servers, [("azure.example", 8443), ("api.openai.com", 443)]);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let long = "é".repeat(200);
        let mut r = PLAIN;
        r.asked = &long;
        let mut bytes = Vec::new();
        encode("", &r, &[], &mut bytes);
        assert_eq!(decode(&bytes).unwrap().asked, "é".repeat(127));
    }

    #[test]
    fn a_frame_that_is_cut_anywhere_is_no_entry() {
        let mut bytes = Vec::new();
        let tried = [FAILED, TRIED];
        encode("", &Record { tried: &tried, trace: Some(TRACED), ..PLAIN }, &[], &mut bytes);
        assert!((0..bytes.len()).all(|end| decode(&bytes[..end]).is_none()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let entry = decode(&bytes);
            prop_assert!(entry.is_none_or(|entry| entry.attempts.len() < 256));
        }
    }
}
