//! When a reply reaches the gateway, within the limits of the attempt that waits for it.

use super::super::super::{Attempt, ErrorKind, Outcome, Signal, Success, TimeoutKind, What, attribute};
use super::super::script::Reply;

/// When a call's first token and its end reach the gateway, within the attempt's limits.
pub(super) struct Plan {
    pub(super) first_us: Option<u64>,
    pub(super) end_us: u64,
    pub(super) outcome: Outcome,
}

impl Plan {
    pub(super) fn of(
        reply: Reply,
        attempt: &Attempt,
        now_us: u64,
        stream: bool,
        deadline_us: Option<u64>,
        tokens: u32,
    ) -> Plan {
        let failed = |signal| Outcome::Failure(attribute(signal));
        let (first_us, end_us, outcome) = match reply {
            Reply::Answer { first_us, end_us } => {
                let success = Success { input_tokens: tokens, ..Success::default() };
                (Some(first_us), end_us, Outcome::Success(success))
            }
            Reply::Cut { first_us, end_us } => {
                (Some(first_us), end_us, failed(Signal::Transport(What::Truncated)))
            }
            Reply::Status { after_us, status, retry_after_us, broke } => {
                let kind = if broke { ErrorKind::Quota } else { ErrorKind::Unknown };
                (None, after_us, failed(Signal::Status { status, kind, retry_after_us }))
            }
            Reply::ErrorInOk { after_us } => {
                let kind = ErrorKind::Overloaded;
                (None, after_us, failed(Signal::ErrorInOk { kind, retry_after_us: None, stream }))
            }
            Reply::Hang => (None, u64::MAX / 4, failed(Signal::Transport(What::Reset))),
            Reply::Refused => (None, 1_000, failed(Signal::Transport(What::Connect))),
            Reply::Stale => (None, 200, Outcome::StaleConnection),
        };
        let timeout = |at_us: u64, kind| {
            let kind = if deadline_us.is_some_and(|d| at_us >= d) { TimeoutKind::Deadline } else { kind };
            (at_us, failed(Signal::Transport(What::Timeout(kind))))
        };
        let first_us = first_us.filter(|_| stream).map(|us| now_us + us);
        let end_us = now_us + end_us;
        let first_limit_us = attempt.first_token_by_us;
        let content_by_us = first_us.unwrap_or(end_us);
        let (end_us, outcome) = if content_by_us > first_limit_us {
            timeout(first_limit_us, TimeoutKind::FirstToken)
        } else if end_us > attempt.answer_by_us {
            timeout(attempt.answer_by_us, TimeoutKind::Total)
        } else {
            (end_us, outcome)
        };
        Plan { first_us: first_us.filter(|&at| at <= first_limit_us && at <= end_us), end_us, outcome }
    }
}
