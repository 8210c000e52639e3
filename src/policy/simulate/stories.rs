//! Two stories that users tell, with and without Sluice side by side.
//!
//! **The stalled queue.** A farm of 8 build slots gets 36 jobs a minute, and each job blocks on one triage call. The call
//! goes from 2 s to 70 s. The client has a timeout of 60 s and makes three attempts, so every job holds its slot for three
//! minutes and then fails: the queue grows by 33 jobs a minute. With an 8 s limit per attempt and a fallback, the first few
//! calls take 10 s, then the breaker opens and the rest take the fallback's 2 s.
//!
//! **The brownout bill.** 800 agents send prompts of 200,000 tokens at 3 dollars a million, one every half minute each. Then
//! 30 % of calls are answered with 429. The SDK tries each request three times and the agent tries again after that, so every
//! refused prompt is sent again, at 60 cents. The figure is the list price of all prompts sent. Providers differ in whether
//! they bill a prompt that they refuse; with those that do not, it is still what was spent of the tokens-per-minute limit.
//!
//! Without Sluice is a client as it comes out of the box; with Sluice is the same client, and the engine between.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::super::random::Random;
use super::super::settings::{ProviderSettings, SECOND_US, Settings};
use super::super::{
    Ask, Attempt, Chain, Core, ErrorKind, Flight, Outcome, PolicyId, ProviderId, Shared, Signal, Step,
    Success, TargetRef, TimeoutKind, What, attribute,
};

const S: u64 = SECOND_US;

/// The queue at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuePoint {
    /// Seconds since the story began; the slowdown begins at [`SLOW_FROM_S`].
    pub second: u64,
    /// Jobs not finished, without Sluice.
    pub without: u64,
    /// Jobs not finished, with Sluice.
    pub with: u64,
}

/// The stalled queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStory {
    /// Every 5 seconds.
    pub curve: Vec<QueuePoint>,
    /// Most jobs at a time, without Sluice.
    pub peak_without: u64,
    /// Most jobs at a time, with Sluice.
    pub peak_with: u64,
    /// Jobs whose triage failed, without Sluice.
    pub failed_without: u64,
    /// Jobs whose triage failed, with Sluice.
    pub failed_with: u64,
}

/// The triage call turns slow this long after the story begins.
pub const SLOW_FROM_S: u64 = 60;
/// And stays slow for twelve minutes.
pub const SLOW_FOR_S: u64 = 720;
const SLOTS: usize = 8;
const JOBS_PER_MINUTE: u64 = 36;

/// Tells the story of the stalled queue.
pub fn queue(seed: u64) -> QueueStory {
    let (without, failed_without) = farm(seed, &mut Plain);
    let (with, failed_with) = farm(seed, &mut Engine::new(seed));
    let curve: Vec<QueuePoint> = without
        .iter()
        .zip(&with)
        .enumerate()
        .map(|(n, (&without, &with))| QueuePoint { second: n as u64, without, with })
        .collect();
    let peak = |jobs: &[u64]| jobs.iter().copied().max().unwrap_or(0);
    QueueStory {
        peak_without: peak(&without),
        peak_with: peak(&with),
        failed_without,
        failed_with,
        curve: curve.into_iter().step_by(5).collect(),
    }
}

/// How one triage call ends: when, and whether with an answer.
trait Caller {
    /// A call begins. `true` and the time when it is decided at once; else it is asked again at that time.
    fn call(&mut self, job: usize, now_us: u64) -> Progress;
}

enum Progress {
    Again(u64),
    Done { at_us: u64, answered: bool },
}

fn is_slow(now_us: u64) -> bool {
    (SLOW_FROM_S * S..(SLOW_FROM_S + SLOW_FOR_S) * S).contains(&now_us)
}

/// An SDK with a timeout of 60 s and three attempts.
struct Plain;

impl Caller for Plain {
    fn call(&mut self, _job: usize, now_us: u64) -> Progress {
        let mut at_us = now_us;
        for _ in 0..3 {
            if !is_slow(at_us) {
                return Progress::Done { at_us: at_us + 2 * S, answered: true };
            }
            at_us += 60 * S;
        }
        Progress::Done { at_us, answered: false }
    }
}

/// The engine with an 8 s limit and a fallback.
struct Engine {
    core: Core,
    chain: Chain,
    flights: Vec<Option<(Flight, Attempt)>>,
}

impl Engine {
    fn new(seed: u64) -> Self {
        let (core, chain) = two_providers(seed, Some(8 * S), None);
        Engine { core, chain, flights: Vec::new() }
    }
}

impl Caller for Engine {
    fn call(&mut self, job: usize, now_us: u64) -> Progress {
        if self.flights.len() <= job {
            self.flights.resize_with(job + 1, || None);
        }
        let mut flight = match self.flights[job].take() {
            None => Flight::begin(&mut self.core, self.chain, Ask { now_us, ..Ask::default() }),
            Some((mut flight, attempt)) => {
                let hung = attribute(Signal::Transport(What::Timeout(TimeoutKind::FirstToken)));
                flight.settle(&mut self.core, now_us, attempt.no, Outcome::Failure(hung));
                flight
            }
        };
        match flight.next(&mut self.core, now_us) {
            Step::Attempt(attempt) => {
                let takes_us =
                    if attempt.provider == ProviderId(0) && is_slow(now_us) { 70 * S } else { 2 * S };
                let at_us = now_us + takes_us;
                if at_us > attempt.answer_by_us {
                    self.flights[job] = Some((flight, attempt));
                    return Progress::Again(attempt.answer_by_us);
                }
                flight.settle(&mut self.core, at_us, attempt.no, Outcome::Success(Success::default()));
                Progress::Done { at_us, answered: true }
            }
            Step::Wait { until_us, .. } => Progress::Again(until_us),
            Step::Static(_) | Step::GiveUp(_) => Progress::Done { at_us: now_us, answered: false },
        }
    }
}

/// Jobs not finished, by second, and those that failed.
fn farm(seed: u64, caller: &mut dyn Caller) -> (Vec<u64>, u64) {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Kind {
        Finish(bool),
        Call,
        Arrive,
    }
    let mut random = Random::new(seed);
    let end_us = (SLOW_FROM_S + SLOW_FOR_S) * S;
    let spacing_us = 60 * S / JOBS_PER_MINUTE;
    let mut events = BinaryHeap::new();
    for job in 0..(end_us / spacing_us) as usize {
        let jitter_us = random.below(spacing_us);
        events.push(Reverse((job as u64 * spacing_us + jitter_us, Kind::Arrive, job)));
    }
    let (mut waiting, mut busy, mut failed) = (VecDeque::new(), 0, 0);
    let mut by_second = Vec::new();
    while let Some(Reverse((now_us, kind, job))) = events.pop() {
        let second = now_us.min(end_us) / S;
        while (by_second.len() as u64) < second {
            by_second.push((waiting.len() + busy) as u64);
        }
        if now_us >= end_us {
            break;
        }
        match kind {
            Kind::Arrive => waiting.push_back(job),
            Kind::Finish(answered) => {
                busy -= 1;
                failed += u64::from(!answered);
            }
            Kind::Call => match caller.call(job, now_us) {
                Progress::Again(at_us) => events.push(Reverse((at_us, Kind::Call, job))),
                Progress::Done { at_us, answered } => {
                    events.push(Reverse((at_us, Kind::Finish(answered), job)))
                }
            },
        }
        while busy < SLOTS {
            let Some(next) = waiting.pop_front() else { break };
            busy += 1;
            events.push(Reverse((now_us, Kind::Call, next)));
        }
    }
    (by_second, failed)
}

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

fn two_providers(seed: u64, attempt_us: Option<u64>, price: Option<u32>) -> (Core, Chain) {
    let mut providers = ["primary", "fallback"].map(|name| ProviderSettings::new(name).with_keys(&[1.0]));
    providers.iter_mut().for_each(|p| p.timeouts.attempt_us = attempt_us);
    let settings = Arc::new(Settings::new(providers.to_vec()));
    let shared = Arc::new(Shared::new(&settings, 1));
    let core = Core::new(settings, shared, 0, seed);
    let mut chain = Chain::new(PolicyId(0));
    for provider in [ProviderId(0), ProviderId(1)] {
        let target = TargetRef::new(provider, core.slot(provider, b"model"));
        chain.push(TargetRef { input_nano_usd: price, ..target });
    }
    (core, chain)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_queue_reaches_four_hundred_without_and_eleven_with() {
        for seed in 0..20 {
            let story = queue(seed);
            assert!((380..=420).contains(&story.peak_without), "{}", story.peak_without);
            assert!(story.peak_with <= 11, "seed {seed}: {}", story.peak_with);
            assert_eq!(story.failed_with, 0);
            assert!(story.failed_without >= 20, "{}", story.failed_without);
            assert_eq!(story.curve.len(), 156);
        }
        let story = queue(1);
        println!(
            "queue: {} without, {} with; failed {} and {}",
            story.peak_without, story.peak_with, story.failed_without, story.failed_with
        );
    }

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
