//! Why a target failed lately: its last failed calls, in words that need no manual.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;

use crate::meter::outbox::{Attempt, Entry};

/// Targets that are remembered; the one that has been well for longest is forgotten for a new one.
pub const TARGETS_MAX: usize = 128;
/// Failures kept of each.
pub const FAILURES_MAX: usize = 5;

/// A failed call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// When its exchange ended, Unix time in milliseconds.
    pub unix_ms: u64,
    /// The id of its exchange; empty when the client was given none.
    pub id: String,
    /// The word of the access log for what happened.
    pub result: String,
    /// The HTTP status, when that is what failed it.
    pub status: Option<u16>,
    /// Whose fault it was, as in the access log.
    pub fault: String,
    /// What happened and what that means for the target, as a sentence.
    pub words: String,
}

#[derive(Default)]
pub(super) struct Failures {
    targets: BTreeMap<(String, String), VecDeque<Failure>>,
}

impl Failures {
    pub(super) fn add(&mut self, entry: &Entry<'_>, unix_us: u64) {
        for attempt in entry.attempts.iter().filter(|attempt| !attempt.fault.is_empty()) {
            let target = (attempt.target.provider.to_owned(), attempt.target.model.to_owned());
            if !self.targets.contains_key(&target) && self.targets.len() >= TARGETS_MAX {
                let newest = |failures: &VecDeque<Failure>| failures.front().map_or(0, |one| one.unix_ms);
                let oldest = self.targets.iter().min_by_key(|(_, failures)| newest(failures));
                if let Some(oldest) = oldest.map(|(target, _)| target.clone()) {
                    self.targets.remove(&oldest);
                }
            }
            let failures = self.targets.entry(target).or_default();
            failures.truncate(FAILURES_MAX - 1);
            failures.push_front(Failure {
                unix_ms: unix_us / 1_000,
                id: entry.id.to_owned(),
                result: attempt.result.to_owned(),
                status: attempt.status,
                fault: attempt.fault.to_owned(),
                words: words(attempt),
            });
        }
    }

    pub(super) fn of(&self, provider: &str, model: &str) -> impl Iterator<Item = &Failure> {
        // A key of two owned strings cannot be looked up by two borrowed ones; there are few.
        let found = self.targets.iter().find(|((p, m), _)| p == provider && m == model);
        found.map(|(_, failures)| failures.iter()).into_iter().flatten()
    }
}

fn words(attempt: &Attempt<'_>) -> String {
    let ms = attempt.elapsed_us / 1_000;
    let what = match attempt.result {
        "status" => format!("answered with status {}", attempt.status.unwrap_or_default()),
        "connect" => "refused the connection, or could not be reached".to_owned(),
        "tls" => "could not agree on TLS; its certificate may be the reason".to_owned(),
        "dns" => "has a name that did not resolve".to_owned(),
        "connect_timeout" => format!("gave no connection within {ms} ms"),
        "first_token_timeout" => format!("sent no content within {ms} ms"),
        "token_gap_timeout" => "fell silent in the middle of its answer".to_owned(),
        "total_timeout" => format!("did not finish within {ms} ms"),
        "deadline" => "did not answer before the client's deadline".to_owned(),
        "reset" => "closed the connection before it answered".to_owned(),
        "truncated" => "broke its answer off".to_owned(),
        "empty_body" => "answered with nothing".to_owned(),
        "bad_content_type" => "answered with something that no model sends".to_owned(),
        "error_in_ok" => "said 200 and sent an error".to_owned(),
        "stream_error" => "sent an error in the middle of its stream".to_owned(),
        "bad_head" => "broke HTTP in its answer's head".to_owned(),
        "bad_body" => "sent a body that cannot be read".to_owned(),
        "check_failed" => "answered, and the answer failed a configured check".to_owned(),
        other => format!("ended with `{other}`"),
    };
    let so = match attempt.fault {
        "caller" => "the request is to blame, so nothing counts against the target",
        "key" => "the key is refused, so it is parked",
        "money" => "the account is empty, so the key is parked",
        "rate" => "the rate limit is reached, so the key rests",
        "capacity" => "counts against its breaker",
        "context_length" => "the prompt is too long for the model",
        "model" => "the model is not there",
        "answer" => "the answer is to blame",
        "deadline" => "the time was too short, so nothing counts against the target",
        other => other,
    };
    format!("{what}; {so}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::outbox::samples::{FAILED, PLAIN};
    use crate::meter::outbox::{decode, encode};
    use crate::meter::{Answered, Record, Tried};

    fn fail(failures: &mut Failures, model: &str, unix_us: u64) {
        let tried = [Tried { target: Answered { model, ..FAILED.target }, ..FAILED }];
        let mut frame = Vec::new();
        encode("req_1", &Record { tried: &tried, ..PLAIN }, &[], &mut frame);
        failures.add(&decode(&frame).unwrap(), unix_us);
    }

    #[test]
    fn a_target_says_why_it_failed_last() {
        let mut failures = Failures::default();
        for n in 1..=FAILURES_MAX as u64 + 1 {
            fail(&mut failures, "m", n * 1_000);
        }
        let all: Vec<_> = failures.of(FAILED.target.provider, "m").collect();
        assert_eq!(all.len(), FAILURES_MAX);
        assert_eq!((all[0].unix_ms, all[0].status), (FAILURES_MAX as u64 + 1, Some(503)));
        assert_eq!(all[0].words, "answered with status 503; counts against its breaker");
        assert_eq!(failures.of(FAILED.target.provider, "other").count(), 0);
    }

    #[test]
    fn invented_models_push_out_the_oldest_and_no_more_than_fit_are_kept() {
        let mut failures = Failures::default();
        for n in 0..TARGETS_MAX as u64 + 1 {
            fail(&mut failures, &format!("m{n}"), n * 1_000);
        }
        assert_eq!(failures.targets.len(), TARGETS_MAX);
        assert_eq!(failures.of(FAILED.target.provider, "m0").count(), 0);
        assert_eq!(failures.of(FAILED.target.provider, "m1").count(), 1);
    }
}
