//! **The stalled queue.** A farm of 8 build slots gets 36 jobs a minute, and each job blocks on one triage call. The call
//! goes from 2 s to 70 s. The client has a timeout of 60 s and makes three attempts, so every job holds its slot for three
//! minutes and then fails: the queue grows by 33 jobs a minute. With an 8 s limit per attempt and a fallback, the first few
//! calls take 10 s, then the breaker opens and the rest take the fallback's 2 s.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::super::random::Random;
use super::super::super::{
    Ask, Attempt, Chain, Core, Flight, Outcome, ProviderId, Signal, Step, Success, TimeoutKind, What,
    attribute,
};
use super::{S, two_providers};

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
}
