//! **The brownout bill.** 800 agents send prompts of 200,000 tokens at 3 dollars a million, one every half minute each. Then
//! 30 % of calls are answered with 429. The SDK tries each request three times and the agent tries again after that, so every
//! refused prompt is sent again, at 60 cents. The figure is the list price of all prompts sent. Providers differ in whether
//! they bill a prompt that they refuse; with those that do not, it is still what was spent of the tokens-per-minute limit.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::super::super::random::Random;
use super::super::super::{
    Ask, Core, ErrorKind, Flight, Outcome, ProviderId, Signal, Step, Success, attribute,
};
use super::{S, two_providers};

/// The bill of one minute, as dollars an hour.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BillPoint {
    /// Minutes since the story began; the brownout begins at [`BROWN_FROM_MIN`].
    pub minute: u64,
    /// List price of the prompts sent, without Sluice.
    pub without: f64,
    /// List price of the prompts sent, with Sluice.
    pub with: f64,
}

/// The brownout bill. All money is in dollars an hour, over the minutes of the brownout.
#[derive(Debug, Clone, PartialEq)]
pub struct BillStory {
    /// By minute.
    pub curve: Vec<BillPoint>,
    /// What the same agents cost when nothing is wrong.
    pub healthy: f64,
    /// Prompts sent, without Sluice.
    pub without: f64,
    /// Prompts sent, with Sluice.
    pub with: f64,
    /// Of those, prompts that were refused, without Sluice.
    pub refused_without: f64,
    /// Of those, prompts that were refused, with Sluice.
    pub refused_with: f64,
    /// Dollars a completed task, without Sluice.
    pub per_task_without: f64,
    /// Dollars a completed task, with Sluice.
    pub per_task_with: f64,
}

/// The brownout begins this long after the story does.
pub const BROWN_FROM_MIN: u64 = 2;
/// And lasts this long.
pub const BROWN_FOR_MIN: u64 = 10;
const AGENTS: u64 = 800;
const PROMPT_TOKENS: u32 = 200_000;
const PRICE_NANO_USD: u32 = 3_000;
const THINK_US: u64 = 10 * S;
const ANSWER_US: u64 = 20 * S;
const REFUSAL_US: u64 = S / 5;

/// Tells the story of the brownout bill.
pub fn bill(seed: u64) -> BillStory {
    let (without, with) = (agents(seed, false), agents(seed, true));
    let hours = BROWN_FOR_MIN as f64 / 60.0;
    let brown = BROWN_FROM_MIN as usize..(BROWN_FROM_MIN + BROWN_FOR_MIN) as usize;
    let dollars =
        |counts: &[u64]| counts[brown.clone()].iter().sum::<u64>() as f64 * dollars_a_prompt() / hours;
    let tasks = |ledger: &Ledger| ledger.done[brown.clone()].iter().sum::<u64>() as f64 / hours;
    let an_hour = |count: u64| count as f64 * dollars_a_prompt() * 60.0;
    let curve = (0..without.sent.len())
        .map(|m| BillPoint {
            minute: m as u64,
            without: an_hour(without.sent[m]),
            with: an_hour(with.sent[m]),
        })
        .collect();
    BillStory {
        curve,
        healthy: an_hour(without.sent[BROWN_FROM_MIN as usize - 1]),
        without: dollars(&without.sent),
        with: dollars(&with.sent),
        refused_without: dollars(&without.refused),
        refused_with: dollars(&with.refused),
        per_task_without: dollars(&without.sent) / tasks(&without),
        per_task_with: dollars(&with.sent) / tasks(&with),
    }
}

fn dollars_a_prompt() -> f64 {
    f64::from(PROMPT_TOKENS) * f64::from(PRICE_NANO_USD) / 1e9
}

/// By minute.
struct Ledger {
    sent: Vec<u64>,
    refused: Vec<u64>,
    done: Vec<u64>,
}

fn agents(seed: u64, with: bool) -> Ledger {
    let minutes = (BROWN_FROM_MIN + BROWN_FOR_MIN) as usize;
    let mut ledger = Ledger { sent: vec![0; minutes], refused: vec![0; minutes], done: vec![0; minutes] };
    let mut random = Random::new(seed);
    let (mut core, chain) = two_providers(seed, None, Some(PRICE_NANO_USD));
    // (time, agent, attempts of the SDK so far)
    let mut events: BinaryHeap<Reverse<(u64, u64, u8)>> =
        (0..AGENTS).map(|agent| Reverse((random.below(THINK_US + ANSWER_US), agent, 0))).collect();
    while let Some(Reverse((now_us, agent, tries))) = events.pop() {
        let minute = (now_us / (60 * S)) as usize;
        if minute >= minutes {
            break;
        }
        let refuses = |random: &mut Random| now_us >= BROWN_FROM_MIN * 60 * S && random.below(100) < 30;
        let next = if with {
            let ask =
                Ask { now_us, est_input_tokens: PROMPT_TOKENS, client_retries: tries, ..Ask::default() };
            let mut flight = Flight::begin(&mut core, chain, ask);
            let answered_us = walk(&mut flight, &mut core, now_us, minute, &mut ledger, |provider| {
                provider == ProviderId(0) && refuses(&mut random)
            });
            // An agent that is refused tries again after a backoff, as without.
            answered_us.map_or((now_us + backoff_us(tries, &mut random), tries.saturating_add(1)), |at_us| {
                ledger.done[minute] += 1;
                (at_us + THINK_US, 0)
            })
        } else {
            ledger.sent[minute] += 1;
            if refuses(&mut random) {
                ledger.refused[minute] += 1;
                (now_us + REFUSAL_US + backoff_us(tries, &mut random), (tries + 1) % 3)
            } else {
                ledger.done[minute] += 1;
                (now_us + ANSWER_US + THINK_US, 0)
            }
        };
        events.push(Reverse((next.0, agent, next.1)));
    }
    ledger
}

/// Walks a flight to its end; the time of its answer, if any. Refusals are quick, so their time is not modelled.
fn walk(
    flight: &mut Flight,
    core: &mut Core,
    now_us: u64,
    minute: usize,
    ledger: &mut Ledger,
    mut refuses: impl FnMut(ProviderId) -> bool,
) -> Option<u64> {
    let mut at_us = now_us;
    loop {
        match flight.next(core, at_us) {
            Step::Attempt(attempt) => {
                ledger.sent[minute] += 1;
                if refuses(attempt.provider) {
                    ledger.refused[minute] += 1;
                    let limited =
                        Signal::Status { status: 429, kind: ErrorKind::RateLimit, retry_after_us: None };
                    flight.settle(core, at_us, attempt.no, Outcome::Failure(attribute(limited)));
                } else {
                    flight.settle(core, at_us, attempt.no, Outcome::Success(Success::default()));
                    return Some(at_us + ANSWER_US);
                }
            }
            Step::Wait { until_us, .. } if until_us < now_us + 10 * S => at_us = until_us,
            _ => return None,
        }
    }
}

/// openai-python's: half a second doubled up to eight, less up to a quarter.
fn backoff_us(tries: u8, random: &mut Random) -> u64 {
    let full_us = ((S / 2) << tries.min(4)).min(8 * S);
    random.between(full_us / 4 * 3, full_us)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_bill_stays_within_a_twentieth_of_the_healthy_one() {
        for seed in 0..3 {
            let story = bill(seed);
            assert!(story.with <= story.healthy * 1.05, "{story:?}");
            assert!(story.without >= story.healthy * 1.25, "{story:?}");
            assert!(story.per_task_without >= 1.39 * 0.60 && story.per_task_with <= 1.05 * 0.60, "{story:?}");
            assert!(story.refused_with * 8.0 < story.refused_without, "{story:?}");
        }
        let s = bill(1);
        println!(
            "bill an hour: healthy {:.0}, without {:.0} (refused {:.0}), with {:.0} (refused {:.0}); a task {:.3} and {:.3}",
            s.healthy,
            s.without,
            s.refused_without,
            s.with,
            s.refused_with,
            s.per_task_without,
            s.per_task_with
        );
    }
}
