//! What a run left behind, and the figures that bars are held against.
//!
//! Counts and money come from the providers, times from the clients. On a fast clock a time bar is scaled like the run, and
//! allows besides for what a machine does not do faster.

use std::time::{Duration, Instant};

use super::super::counts::Counts;
use super::load::{Load, Outcome, Sample};

/// Dollars a million tokens, for the spend bars: a middling hosted model.
const INPUT_USD: f64 = 3.0;
const OUTPUT_USD: f64 = 15.0;
/// What a time bar of a run on a fast clock allows besides: the machine's own jitter is not scaled.
const JITTER: Duration = Duration::from_millis(150);
/// Bars about what the gateway has learnt do not begin earlier: learning takes a number of calls, and calls are not more
/// frequent on a fast clock.
const LEARNT: Duration = Duration::from_secs(2);

/// What a run left behind.
pub(super) struct Measured<'a> {
    pub(super) load: &'a Load,
    pub(super) samples: &'a [Sample],
    /// By provider, in the order of the chain.
    pub(super) counts: &'a [Counts],
    pub(super) scale: f64,
    /// The clock of the gateway's own breakers and cooldowns.
    pub(super) own_scale: f64,
    /// Tokens of a whole answer.
    pub(super) answer_tokens: u64,
    pub(super) start: Instant,
    /// When the first provider was well again.
    pub(super) healthy_at: Option<Instant>,
}

impl Measured<'_> {
    pub(super) fn calls(&self) -> u64 {
        self.counts.iter().map(|counts| counts.requests).sum()
    }

    pub(super) fn amplification(&self) -> f64 {
        self.calls() as f64 / (self.samples.len() as f64).max(1.0)
    }

    pub(super) fn spend_usd(&self) -> f64 {
        self.counts.iter().map(billed).sum()
    }

    /// What the same requests cost when every one is answered once.
    pub(super) fn healthy_usd(&self) -> f64 {
        usd(self.load.prompt_tokens(), self.answer_tokens) * self.samples.len() as f64
    }

    fn scaled(&self, time: Duration) -> Duration {
        time.mul_f64(self.scale)
    }

    /// A time bar on this run's clock.
    pub(super) fn limit(&self, at_most: Duration) -> Duration {
        on_clock(at_most, self.scale)
    }

    /// A time bar on the clock of the gateway's own breakers.
    pub(super) fn own_limit(&self, at_most: Duration) -> Duration {
        on_clock(at_most, self.own_scale)
    }

    /// When the gateway can be asked to have learnt what it can know `after` the start.
    pub(super) fn learnt(&self, after: Duration) -> Duration {
        self.scaled(after).max(LEARNT.min(after))
    }

    /// What a fast run allows the machine where a bar is too short for [`JITTER`]: how late the clients' own thread was, at
    /// the 99th percentile, once for the gateway's thread and once for the clients'. None on the real clock.
    pub(super) fn machine(&self) -> Duration {
        if self.scale >= 1.0 {
            return Duration::ZERO;
        }
        let first_tries = self.samples.iter().filter(|sample| sample.tries == 1);
        let late = percentile(first_tries.map(|sample| sample.sent).collect(), 0.99);
        late.map_or(Duration::ZERO, |late| late * 2).min(JITTER)
    }

    pub(super) fn due_after(&self, after: Duration) -> impl Iterator<Item = &Sample> {
        let after = self.learnt(after);
        self.samples.iter().filter(move |sample| sample.due >= after)
    }

    pub(super) fn share(&self, wanted: impl Fn(&Sample) -> bool) -> f64 {
        let count = self.samples.iter().filter(|sample| wanted(sample)).count();
        count as f64 / (self.samples.len() as f64).max(1.0)
    }

    pub(super) fn count(&self, wanted: impl Fn(Outcome) -> bool) -> u64 {
        self.samples.iter().filter(|sample| wanted(sample.outcome)).count() as u64
    }
}

fn on_clock(time: Duration, scale: f64) -> Duration {
    time.mul_f64(scale) + JITTER.mul_f64((1.0 - scale).max(0.0))
}

/// Dollars for what a provider counted.
pub(super) fn billed(counts: &Counts) -> f64 {
    usd(counts.tokens_in, counts.tokens_out)
}

fn usd(tokens_in: u64, tokens_out: u64) -> f64 {
    (tokens_in as f64 * INPUT_USD + tokens_out as f64 * OUTPUT_USD) / 1e6
}

/// The value below which this share of the values lies; none of none.
pub(super) fn percentile(mut values: Vec<Duration>, share: f64) -> Option<Duration> {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied()
}

pub(super) fn times(samples: &[Sample], time: impl Fn(&Sample) -> Option<Duration>) -> Vec<Duration> {
    samples.iter().filter(|sample| sample.outcome == Outcome::Answered).filter_map(time).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_values_themselves() {
        let values = |n: u64| (1..=n).map(Duration::from_millis).collect::<Vec<_>>();
        assert_eq!(percentile(values(100), 0.99), Some(Duration::from_millis(99)));
        assert_eq!(percentile(values(1), 0.99), Some(Duration::from_millis(1)));
        assert_eq!(percentile(values(0), 0.99), None);
    }
}
