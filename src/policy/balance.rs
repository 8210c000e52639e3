//! Which of several equal targets goes first.
//!
//! Prevents: a slow replica getting the same share as a fast one; and its opposite, the black hole: a target that
//! refuses in 2 ms looks like the fastest of all and draws every request to itself.
//!
//! Two ways, by route:
//! - weighted: a random order in which each target comes first in proportion to its weight;
//! - peak-EWMA: two targets are drawn at random and the one with the lower cost goes first, where cost is its
//!   first-token latency times the calls it is already busy with. The average follows a rise at once and a fall over
//!   10 s, because trusting a target too late costs less than too early. A failure or a 429 counts as at least five
//!   seconds of latency, however fast it came.
//!
//! The rest of the group follows as fallbacks. State is a core's own: with random choices, cores need not agree.
//!
//! Reference: Mitzenmacher, The Power of Two Choices (2001); Finagle's peak EWMA; linkerd's warning about fast
//! failures. Leaves out: total answer time, which depends on what was asked for, not on who answers.

use super::chain::TargetRef;
use super::random::Random;

/// How equal targets share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Balance {
    /// By their weights.
    #[default]
    Weighted,
    /// By peak-EWMA of first-token time, with two random choices.
    PeakEwma,
}

/// The average forgets over this time, microseconds.
const DECAY_US: f64 = 10_000_000.0;
/// What an unknown target is taken to need: fast enough to be tried, not so fast that it is flooded.
const UNKNOWN_US: f64 = 1_000_000.0;
/// What a failure counts as, at least.
const PENALTY_US: f64 = 5_000_000.0;

/// What one core knows of one target's latency.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    average_us: f64,
    stamped_us: u64,
    running: u32,
}

impl Load {
    pub(crate) fn new() -> Self {
        Load { average_us: UNKNOWN_US, stamped_us: 0, running: 0 }
    }

    pub(crate) fn start(&mut self) {
        self.running += 1;
    }

    pub(crate) fn stop(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    pub(crate) fn sample(&mut self, now_us: u64, latency_us: u64) {
        self.fold(now_us, latency_us as f64);
    }

    pub(crate) fn penalty(&mut self, now_us: u64, elapsed_us: u64) {
        self.fold(now_us, (elapsed_us as f64).max(PENALTY_US));
    }

    fn fold(&mut self, now_us: u64, sample_us: f64) {
        let keep = if self.stamped_us == 0 { 0.0 } else { decay(now_us.saturating_sub(self.stamped_us)) };
        let blended = self.average_us * keep + sample_us * (1.0 - keep);
        self.average_us = if sample_us > self.average_us { sample_us } else { blended };
        self.stamped_us = now_us.max(1);
    }

    /// What one more call would cost: an average that nothing confirmed for a while drifts back to unknown.
    pub(crate) fn cost(&self, now_us: u64) -> f64 {
        let keep = decay(now_us.saturating_sub(self.stamped_us) / 6);
        let average_us = self.average_us * keep + UNKNOWN_US * (1.0 - keep);
        average_us * f64::from(self.running + 1)
    }
}

fn decay(elapsed_us: u64) -> f64 {
    (-(elapsed_us as f64) / DECAY_US).exp()
}

/// Puts `group`, targets that are equals, in the order in which they are tried.
pub(crate) fn order(
    balance: Balance,
    group: &mut [TargetRef],
    random: &mut Random,
    cost: impl Fn(&TargetRef) -> f64,
) {
    if balance == Balance::Weighted || group.len() < 2 {
        return weighted(group, random);
    }
    shuffle(group, random);
    // Two random choices decide who goes first; the rest go by cost, since they are only tried after a failure.
    if cost(&group[1]) < cost(&group[0]) {
        group.swap(0, 1);
    }
    for i in 2..group.len() {
        let mut at = i;
        while at > 1 && cost(&group[at]) < cost(&group[at - 1]) {
            group.swap(at, at - 1);
            at -= 1;
        }
    }
}

fn shuffle(group: &mut [TargetRef], random: &mut Random) {
    for i in (1..group.len()).rev() {
        group.swap(i, random.below(i as u64 + 1) as usize);
    }
}

/// Draws without putting back, by weight; targets of weight 0 come last.
fn weighted(group: &mut [TargetRef], random: &mut Random) {
    for start in 0..group.len() {
        let rest = &mut group[start..];
        let total: u64 = rest.iter().map(|t| u64::from(t.weight)).sum();
        if total == 0 {
            return;
        }
        let mut ticket = random.below(total);
        let drawn = rest.iter().position(|t| {
            let hit = ticket < u64::from(t.weight);
            ticket = ticket.saturating_sub(u64::from(t.weight));
            hit
        });
        // Rotating keeps the written order among those not drawn yet.
        rest[..=drawn.unwrap_or(0)].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::{ProviderId, SlotId};
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000;

    fn targets(weights: &[u32]) -> Vec<TargetRef> {
        weights
            .iter()
            .enumerate()
            .map(|(i, &weight)| TargetRef {
                weight,
                ..TargetRef::new(ProviderId(i as u16), SlotId(i as u16))
            })
            .collect()
    }

    fn firsts(balance: Balance, weights: &[u32], loads: &[Load], turns: usize) -> Vec<usize> {
        let mut random = Random::new(5);
        let mut counts = vec![0; weights.len()];
        for _ in 0..turns {
            let mut group = targets(weights);
            order(balance, &mut group, &mut random, |t| {
                loads.get(usize::from(t.provider.0)).map_or(0.0, |l| l.cost(100 * S))
            });
            counts[usize::from(group[0].provider.0)] += 1;
        }
        counts
    }

    #[test]
    fn weighted_targets_come_first_in_proportion() {
        let counts = firsts(Balance::Weighted, &[70, 30, 0], &[], 20_000);
        assert!((13_600..14_400).contains(&counts[0]) && counts[2] == 0, "{counts:?}");
    }

    #[test]
    fn the_faster_of_two_gets_the_work_until_it_is_busy() {
        let mut loads = [Load::new(), Load::new()];
        loads[0].sample(100 * S, 300_000);
        loads[1].sample(100 * S, 900_000);
        assert_eq!(firsts(Balance::PeakEwma, &[1, 1], &loads, 100), [100, 0]);
        (0..3).for_each(|_| loads[0].start());
        assert_eq!(firsts(Balance::PeakEwma, &[1, 1], &loads, 100), [0, 100]);
        loads[0].stop();
        loads[0].stop();
        assert_eq!(firsts(Balance::PeakEwma, &[1, 1], &loads, 100), [100, 0]);
    }

    #[test]
    fn equals_that_are_equally_fast_share_equally() {
        let counts = firsts(Balance::PeakEwma, &[1, 1, 1], &[], 9_000);
        assert!(counts.iter().all(|count| (2_850..3_150).contains(count)), "{counts:?}");
        let counts = firsts(Balance::PeakEwma, &[1, 1], &[], 4_000);
        assert!(counts.iter().all(|count| (1_900..2_100).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_fastest_of_three_is_not_asked_for_everything() {
        let mut loads = [Load::new(), Load::new(), Load::new()];
        (0..3).for_each(|n| loads[n].sample(100 * S, (n as u64 + 1) * 100_000));
        let counts = firsts(Balance::PeakEwma, &[1, 1, 1], &loads, 9_000);
        assert!(
            (5_800..6_200).contains(&counts[0]),
            "it is one of two drawn, two times of three: {counts:?}"
        );
        assert_eq!(counts[2], 0, "the slowest never is the faster of two");
    }

    #[test]
    fn fast_refusals_do_not_attract_load() {
        let mut loads = [Load::new(), Load::new()];
        loads[0].sample(99 * S, 500_000);
        loads[1].sample(99 * S, 800_000);
        loads[0].penalty(100 * S, 2_000);
        assert_eq!(firsts(Balance::PeakEwma, &[1, 1], &loads, 100), [0, 100]);
    }

    #[test]
    fn a_penalty_fades_when_nothing_confirms_it() {
        let mut load = Load::new();
        load.penalty(S, 0);
        assert!(load.cost(2 * S) > 4.0 * S as f64);
        assert!((0.9..1.1).contains(&(load.cost(600 * S) / UNKNOWN_US)), "and is unknown again");
    }

    #[test]
    fn a_rise_shows_at_once_and_a_fall_over_ten_seconds() {
        let mut load = Load::new();
        load.sample(S, 100_000);
        load.sample(2 * S, 4_000_000);
        assert!(load.cost(2 * S) > 3_900_000.0);
        load.sample(3 * S, 100_000);
        assert!(load.cost(3 * S) > 3_000_000.0);
        (4..60).for_each(|t| load.sample(t * S, 100_000));
        assert!(load.cost(59 * S) < 200_000.0);
    }

    proptest! {
        #[test]
        fn ordering_never_loses_or_invents_a_target(
            weights in prop::collection::vec(0u32..5, 0..16), costs in prop::collection::vec(0u32..9, 16), seed: u64, peak: bool,
        ) {
            let mut group = targets(&weights);
            let how = if peak { Balance::PeakEwma } else { Balance::Weighted };
            order(how, &mut group, &mut Random::new(seed), |t| f64::from(costs[usize::from(t.provider.0)]));
            let mut seen: Vec<u16> = group.iter().map(|t| t.provider.0).collect();
            if peak && group.len() > 2 {
                let cost = |i: usize| costs[usize::from(group[i].provider.0)];
                prop_assert!(group.len() < 3 || (2..group.len()).all(|i| cost(i - 1) <= cost(i)));
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..weights.len() as u16).collect::<Vec<_>>());
        }
    }
}
