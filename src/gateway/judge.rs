//! What a whole answer is worth: the checks of its route, and what it cost.

use crate::dialect::error::{ErrorKind, UpstreamError};
use crate::dialect::text::AnswerText;
use crate::dialect::{self, Usage, can_configure};
use crate::policy::checks::{Checks, Finish, Refused, WholeAnswer};
use crate::policy::{Attempt, Signal, Success, What};

use super::account;
use super::exchange::{Ended, Exchange};

impl Exchange<'_> {
    /// The checks that this answer has to pass; `None` when there are none, or the API's answers have no text.
    pub fn checks(&self) -> Option<&Checks> {
        let policy = usize::from(self.state.flight.chain().policy.0);
        let checks = self.state.plan.live.checks.get(policy).filter(|checks| !checks.is_empty());
        checks.filter(|_| can_configure(self.inbound.api))
    }

    /// Judges what the client would be given: a whole answer, or all events of a stream.
    ///
    /// # Errors
    /// Which check refused it.
    pub fn judge(&self, bytes: &[u8], stream: bool) -> Result<(), Refused> {
        let Some(checks) = self.checks() else { return Ok(()) };
        let api = self.inbound.api;
        let text =
            if stream { dialect::text::of_stream(api, bytes) } else { dialect::text::of_answer(api, bytes) };
        // Bytes that are no answer of this API have no text.
        let AnswerText { finish, text, tool_calls } = text.unwrap_or_default();
        let finish = match finish {
            _ if tool_calls => Finish::Tools,
            Some(dialect::Finish::Stop) => Finish::Stop,
            Some(dialect::Finish::ToolCalls) => Finish::Tools,
            Some(dialect::Finish::Length) => Finish::Length,
            Some(dialect::Finish::ContentFilter) => Finish::Filter,
            _ => Finish::Unknown,
        };
        checks.judge(&WholeAnswer { finish, text: &text })
    }

    /// What a successful attempt tells policy.
    pub fn success(&mut self, attempt: &Attempt, first_token_us: u64, usage: Option<Usage>) -> Success {
        self.client.notes.usage = usage;
        let usage = usage.unwrap_or_default();
        let facts = self.state.plan.policy.borrow().facts(attempt.slot);
        Success {
            first_token_us,
            input_tokens: u32::try_from(usage.prompt()).unwrap_or(u32::MAX),
            output_tokens: u32::try_from(usage.output).unwrap_or(u32::MAX),
            cost_nano_usd: facts.price.and_then(|price| price.cost(&account::tokens(&usage))).unwrap_or(0),
        }
    }
}

/// The failure of an answer that a check refused.
pub fn refused(check: Refused) -> Ended {
    let message = format!("the answer did not pass the check `{}` of its route", check.label());
    let error = UpstreamError {
        status: 502,
        kind: ErrorKind::Server,
        error_type: None,
        code: Some("answer_check_failed".to_owned()),
        param: None,
        message,
        retry_after_ms: None,
        should_retry: None,
    };
    Ended::failed_with(Signal::Transport(What::Check), error)
}
