//! Providers that follow a script.
//!
//! A provider answers with a latency drawn from its distribution, except while a fault of its program is on. It keeps its own
//! books, apart from the gateway's: what it was sent, when it said to stay away, what it completed. The bars compare the two.

use super::super::random::Random;
use super::super::settings::SECOND_US;

/// What is wrong while a fault is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// This share of calls, percent, is refused with 429 and this Retry-After.
    Brownout {
        /// Percent.
        share: u64,
        /// Microseconds; 0: no Retry-After.
        retry_after_us: u64,
    },
    /// This share of calls, percent, is answered with this status at once.
    Errors {
        /// Percent.
        share: u64,
        /// The status.
        status: u16,
    },
    /// Every answer takes this much longer, microseconds.
    Slow(u64),
    /// Calls are taken and never answered.
    Hang,
    /// Connections are refused.
    Refused,
    /// This share of answers, percent, breaks off after its first token.
    Cut(u64),
    /// This share of calls, percent, gets an error inside a 200.
    ErrorInOk(u64),
    /// The first key is refused with 401.
    Revoked,
    /// The first key has no credit left.
    Broke,
}

/// A fault and when it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// From, inclusive.
    pub from_us: u64,
    /// To, exclusive.
    pub to_us: u64,
    /// What is wrong.
    pub trouble: Trouble,
}

/// A provider's script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Credentials.
    pub keys: u16,
    /// Median time to the first token, microseconds.
    pub first_token_us: u64,
    /// Median time from the first token to the end, microseconds.
    pub rest_us: u64,
    /// Calls of a thousand whose pooled connection turns out dead.
    pub stale_per_mille: u64,
    /// Faults, in order, not overlapping.
    pub faults: Vec<Fault>,
}

/// What the provider does with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Content after `first_us`, the end after `end_us`.
    Answer {
        /// Microseconds from the start.
        first_us: u64,
        /// Microseconds from the start.
        end_us: u64,
    },
    /// The same, but it breaks off at the end.
    Cut {
        /// Microseconds from the start.
        first_us: u64,
        /// Microseconds from the start.
        end_us: u64,
    },
    /// A status.
    Status {
        /// Microseconds from the start.
        after_us: u64,
        /// The status.
        status: u16,
        /// Microseconds.
        retry_after_us: Option<u64>,
        /// True for an empty account.
        broke: bool,
    },
    /// An error inside a 200.
    ErrorInOk {
        /// Microseconds from the start.
        after_us: u64,
    },
    /// Nothing, ever.
    Hang,
    /// The connection is refused.
    Refused,
    /// The pooled connection was dead.
    Stale,
}

/// What a provider wrote down.
#[derive(Debug, Clone, Default)]
pub struct Books {
    /// Calls that arrived.
    pub calls: u64,
    /// Answers completed and delivered whole.
    pub completed: u64,
    /// Tokens of those.
    pub tokens: u64,
    /// By key: no calls before this time; set when the refusal has reached the gateway.
    pub quiet_until_us: Vec<u64>,
    /// By key: the same with the jitter that the gateway may add.
    pub rests_until_us: Vec<u64>,
    /// When the first failure of each fault reached the gateway.
    pub noticed_us: Vec<Option<u64>>,
    /// Calls that were sent while a fault was on and unnoticed: no policy could have known.
    pub blind: u64,
}

impl Books {
    /// Empty books for a script.
    pub fn new(script: &Script) -> Self {
        Books {
            quiet_until_us: vec![0; usize::from(script.keys)],
            rests_until_us: vec![0; usize::from(script.keys)],
            noticed_us: vec![None; script.faults.len()],
            ..Books::default()
        }
    }
}

impl Books {
    /// Calls, answers, and what those cost, nano-dollars.
    pub fn entry(&self) -> (u64, u64, u64) {
        (self.calls, self.completed, self.tokens * u64::from(super::world::PRICE_NANO_USD))
    }
}

impl Script {
    /// The fault that is on, with its number.
    pub fn fault(&self, now_us: u64) -> Option<(usize, Fault)> {
        self.faults.iter().copied().enumerate().find(|(_, f)| f.from_us <= now_us && now_us < f.to_us)
    }

    /// True when no fault touches the time between, widened by `margin_us` before it.
    pub fn well_between(&self, from_us: u64, to_us: u64, margin_us: u64) -> bool {
        self.faults.iter().all(|f| f.to_us.saturating_add(margin_us) <= from_us || f.from_us > to_us)
    }

    /// What happens to a call.
    pub fn reply(&self, now_us: u64, key: u16, fresh: bool, random: &mut Random) -> Reply {
        if !fresh && random.below(1000) < self.stale_per_mille {
            return Reply::Stale;
        }
        let spread = |median_us: u64, random: &mut Random| {
            // Half to one and a half of the median, and twice that for one in fifty.
            let us = random.between(median_us / 2, median_us * 3 / 2);
            if random.below(50) == 0 { us * 2 } else { us }
        };
        let mut first_us = spread(self.first_token_us, random);
        let end_us = first_us + spread(self.rest_us, random);
        let quick_us = random.between(2_000, 60_000);
        let answer = Reply::Answer { first_us, end_us };
        let Some((_, fault)) = self.fault(now_us) else { return answer };
        let status = |status, retry_after_us, broke| Reply::Status {
            after_us: quick_us,
            status,
            retry_after_us,
            broke,
        };
        let hit = |share: u64, random: &mut Random| random.below(100) < share;
        match fault.trouble {
            Trouble::Brownout { share, retry_after_us } if hit(share, random) => {
                status(429, (retry_after_us > 0).then_some(retry_after_us), false)
            }
            Trouble::Errors { share, status: code } if hit(share, random) => status(code, None, false),
            Trouble::Slow(more_us) => {
                first_us += more_us;
                Reply::Answer { first_us, end_us: end_us + more_us }
            }
            Trouble::Hang => Reply::Hang,
            Trouble::Refused => Reply::Refused,
            Trouble::Cut(share) if hit(share, random) => Reply::Cut { first_us, end_us },
            Trouble::ErrorInOk(share) if hit(share, random) => Reply::ErrorInOk { after_us: quick_us },
            Trouble::Revoked if key == 0 => status(401, None, false),
            Trouble::Broke if key == 0 => status(429, None, true),
            _ => answer,
        }
    }
}

/// A second, for scripts.
pub const S: u64 = SECOND_US;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_well_outside_its_faults_and_their_margin() {
        let fault = Fault { from_us: 10 * S, to_us: 20 * S, trouble: Trouble::Hang };
        let script =
            Script { keys: 1, first_token_us: S, rest_us: S, stale_per_mille: 0, faults: vec![fault] };
        assert!(script.well_between(0, 9 * S, 5 * S));
        assert!(!script.well_between(0, 10 * S, 5 * S));
        assert!(!script.well_between(24 * S, 30 * S, 5 * S));
        assert!(script.well_between(25 * S, 30 * S, 5 * S));
        assert_eq!(script.reply(10 * S, 0, true, &mut Random::new(1)), Reply::Hang);
        assert!(matches!(script.reply(20 * S, 0, true, &mut Random::new(1)), Reply::Answer { .. }));
    }
}
