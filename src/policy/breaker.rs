//! Leaving a failing target alone, and finding out soon that it is well again.
//!
//! Prevents: paying a timeout, or a 200k-token prompt, on every request of an outage; and the stampede when it
//! ends. Gateways without one dial the dead deployment for every request; gateways that bench for a fixed time
//! send everything back at once.
//!
//! A breaker belongs to one target (provider and model) and is shared by all cores. It opens when, among calls
//! that began since it last closed:
//! - 5 fail in a row (a total outage, seen at once), or
//! - at least half of 20 or more fail within 10 s (a partial one), or
//! - at least a set share of 20 or more are slower than a set time (off by default: latency alone is no fault), or
//! - the tokens of large prompts (10,000 and more) that failed within 10 s pass a set amount, while at least a fifth
//!   of the calls fail and from the second failure on: large prompts make failures dear long before there are
//!   twenty calls to take half of, and busy traffic with a few failures must not look like that.
//!
//! Only the provider's failures count: 429 has its own cooldown, and what the caller or a key did wrong says
//! nothing about the target. Open lasts 1 s to 30 s, doubling, with jitter; then exactly one request, in the whole
//! process, goes through as a probe. When it succeeds the target's share ramps up over 10 s, and half of three calls
//! failing opens it again; when it fails the
//! breaker opens for longer; when it says nothing (429, cancelled) it opens again for as long as before. A
//! breaker that nobody asked for 30 s after its probe was due has old news, and ramps up at once. A probe that never
//! reports loses its lease and another one may go.
//!
//! INVARIANTS: one `AtomicU64` holds the phase and changes by compare-exchange only, so of N cores that see the
//! threshold passed one opens it, and of N that may probe one does (`loom_one_probe_goes_out`,
//! `loom_a_breaker_opens_once`). A healthy call writes nothing that another core writes.
//!
//! Reference: Nygard, Release It!; linkerd's unified breaker (why two signals); Envoy's slow start. Leaves out:
//! active health checks, which would cost tokens.

use super::random::Random;
use super::sync::{AtomicU64, Ordering, Padded};
use super::window::{Entry, Tally, Window, tally_of};

pub use super::breaker_terms::{BreakerSettings, BreakerView, Door, Phase, Trip, Verdict};

/// Calls below which no share is taken while ramping up.
const RAMP_CALLS_MIN: u32 = 3;

/// Failures of smaller prompts weigh nothing by their tokens: the other signals are for them.
const LARGE_PROMPT_TOKENS: u64 = 10_000;

/// Proof that a caller holds the one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeTicket(u64);

const AT_BITS: u32 = 56;
const AT_MASK: u64 = (1 << AT_BITS) - 1;
const TRIPS_MAX: u64 = 63;

/// phase 2 | trips 6 | time 56
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Word(u64);

impl Word {
    fn new(phase: Phase, trips: u64, at_us: u64) -> Self {
        Word((phase as u64) << 62 | trips.min(TRIPS_MAX) << AT_BITS | (at_us & AT_MASK))
    }

    fn phase(self) -> Phase {
        match self.0 >> 62 {
            0 => Phase::Closed,
            1 => Phase::Open,
            2 => Phase::HalfOpen,
            _ => Phase::Ramping,
        }
    }

    fn trips(self) -> u64 {
        self.0 >> AT_BITS & TRIPS_MAX
    }

    fn at_us(self) -> u64 {
        self.0 & AT_MASK
    }
}

/// The breaker of one target. Shared by all cores.
#[derive(Debug)]
pub struct Breaker {
    word: AtomicU64,
    /// Failures in a row, over all cores.
    streak: AtomicU64,
    opened: [AtomicU64; 5],
    windows: Box<[Padded<Window>]>,
}

impl Breaker {
    /// A closed breaker for this many cores.
    pub fn new(cores: usize) -> Self {
        Breaker {
            word: AtomicU64::new(Word::new(Phase::Closed, 0, 0).0),
            streak: AtomicU64::new(0),
            opened: std::array::from_fn(|_| AtomicU64::new(0)),
            windows: (0..cores).map(|_| Padded(Window::new())).collect(),
        }
    }

    /// What it lets through now. Reads one word.
    pub fn door(&self, settings: &BreakerSettings, now_us: u64) -> Door {
        let word = Word(self.word.load(Ordering::Acquire));
        match word.phase() {
            Phase::Closed => Door::Open,
            Phase::Open | Phase::HalfOpen if now_us >= word.at_us() => Door::Probe,
            Phase::Open | Phase::HalfOpen => Door::Shut(word.at_us()),
            Phase::Ramping => {
                let elapsed_us = now_us.saturating_sub(word.at_us());
                if elapsed_us >= settings.ramp_us {
                    return Door::Open;
                }
                // A tenth goes through from the start: a share of nothing would learn nothing.
                Door::Ajar(((elapsed_us * 1000 / settings.ramp_us.max(1)) as u32).max(100))
            }
        }
    }

    /// Forgets an outage that nobody asked about for the longest open time after its probe was due: a backup that failed
    /// once and was not needed since. With one probe the first to need it again would get through and everyone else
    /// would be refused by old news; so it ramps up under watch instead. True when it is forgotten.
    pub fn forget_old(&self, settings: &BreakerSettings, now_us: u64) -> bool {
        let seen = Word(self.word.load(Ordering::Acquire));
        let old = seen.phase() == Phase::Open && now_us >= seen.at_us().saturating_add(settings.open_max_us);
        if !old || !self.swap(seen, Word::new(Phase::Ramping, seen.trips(), now_us)) {
            return false;
        }
        self.streak.store(0, Ordering::Relaxed);
        true
    }

    /// Closes it at a person's word, whatever it knows: what it learnt is forgotten, and a probe that is out settles nothing.
    pub fn reset(&self, now_us: u64) {
        let closed = Word::new(Phase::Closed, 0, now_us).0;
        let close = |seen| (Word(seen).phase() != Phase::Closed).then_some(closed);
        // Refused only when it is closed already.
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, close);
        self.streak.store(0, Ordering::Relaxed);
    }

    /// Takes the one probe; `None` when another request was faster. The lease ends at `lease_until_us`.
    pub fn claim_probe(&self, now_us: u64, lease_until_us: u64) -> Option<ProbeTicket> {
        let seen = Word(self.word.load(Ordering::Acquire));
        let due = matches!(seen.phase(), Phase::Open | Phase::HalfOpen) && now_us >= seen.at_us();
        if !due {
            return None;
        }
        // Later than now, and so later than the word it replaces: an expired probe must not settle its successor's.
        let lease_us = lease_until_us.max(now_us + 1);
        let next = Word::new(Phase::HalfOpen, seen.trips(), lease_us);
        self.swap(seen, next).then_some(ProbeTicket(next.0))
    }

    /// Books the verdict of one call that began at `started_us`; returns the reason when it opened the breaker.
    /// `core` is the calling core; `ticket` is given back when the call was the probe.
    #[allow(clippy::too_many_arguments)] // each is one fact about the call, and there is one caller
    pub fn record(
        &self,
        settings: &BreakerSettings,
        core: usize,
        now_us: u64,
        started_us: u64,
        ticket: Option<ProbeTicket>,
        verdict: Verdict,
        random: &mut Random,
    ) -> Option<Trip> {
        let slow = match (verdict, settings.slow_call_us) {
            (Verdict::Works { first_token_us }, Some(limit_us)) => first_token_us > limit_us,
            _ => false,
        };
        if let Some(ProbeTicket(word)) = ticket {
            return self.settle_probe(settings, now_us, Word(word), verdict, slow, random);
        }
        let seen = Word(self.word.load(Ordering::Acquire));
        // A call counts in the phase in which it began: stragglers of an outage neither reopen nor close.
        let flowing = matches!(seen.phase(), Phase::Closed | Phase::Ramping);
        if !flowing || started_us < seen.at_us() {
            return None;
        }
        let own = &self.windows[core];
        match verdict {
            Verdict::Unknown => None,
            Verdict::Works { .. } => {
                own.record(now_us, Entry { slow, ..Entry::default() });
                if self.streak.load(Ordering::Relaxed) != 0 {
                    self.streak.store(0, Ordering::Relaxed);
                }
                let ramped =
                    seen.phase() == Phase::Ramping && now_us >= seen.at_us().saturating_add(settings.ramp_us);
                if ramped {
                    self.swap(seen, Word::new(Phase::Closed, 0, seen.at_us()));
                }
                if slow { self.judge(settings, now_us, seen, 0, random) } else { None }
            }
            Verdict::Fails { tokens } => {
                let weight = if tokens >= LARGE_PROMPT_TOKENS { tokens } else { 0 };
                own.record(now_us, Entry { failed: true, tokens: weight, ..Entry::default() });
                let streak = self.streak.fetch_add(1, Ordering::AcqRel) + 1;
                self.judge(settings, now_us, seen, streak, random)
            }
        }
    }

    fn settle_probe(
        &self,
        settings: &BreakerSettings,
        now_us: u64,
        held: Word,
        verdict: Verdict,
        slow: bool,
        random: &mut Random,
    ) -> Option<Trip> {
        match verdict {
            Verdict::Works { .. } if !slow => {
                self.streak.store(0, Ordering::Relaxed);
                self.swap(held, Word::new(Phase::Ramping, held.trips(), now_us));
                None
            }
            Verdict::Unknown => {
                let until_us = open_until(settings, now_us, held.trips().saturating_sub(1), random);
                self.swap(held, Word::new(Phase::Open, held.trips(), until_us));
                None
            }
            _ => self.open(settings, now_us, held, Trip::Probe, random),
        }
    }

    /// Opens the breaker when the window says so.
    fn judge(
        &self,
        settings: &BreakerSettings,
        now_us: u64,
        seen: Word,
        streak: u64,
        random: &mut Random,
    ) -> Option<Trip> {
        if streak >= u64::from(settings.failures_in_row) {
            return self.open(settings, now_us, seen, Trip::InRow, random);
        }
        let tally = self.tally(now_us, seen.at_us());
        // A relapse shows in a few calls: waiting for twenty of a small share would be a second outage.
        let calls_min = if seen.phase() == Phase::Ramping { RAMP_CALLS_MIN } else { settings.calls_min };
        let enough = tally.calls >= u64::from(calls_min);
        if enough && tally.failures * 100 >= tally.calls * u64::from(settings.failure_percent) {
            return self.open(settings, now_us, seen, Trip::Share, random);
        }
        if enough && tally.slow > 0 && tally.slow * 100 >= tally.calls * u64::from(settings.slow_percent) {
            return self.open(settings, now_us, seen, Trip::Slow, random);
        }
        let dear = settings.tokens_burnt_max.is_some_and(|max| tally.tokens_burnt > max);
        let often = tally.failures * 100 >= tally.calls * u64::from(settings.tokens_failure_percent);
        // One failure, however large, is not a pattern.
        if dear && often && tally.failures >= 2 {
            return self.open(settings, now_us, seen, Trip::Tokens, random);
        }
        None
    }

    fn open(
        &self,
        settings: &BreakerSettings,
        now_us: u64,
        seen: Word,
        why: Trip,
        random: &mut Random,
    ) -> Option<Trip> {
        let until_us = open_until(settings, now_us, seen.trips(), random);
        if !self.swap(seen, Word::new(Phase::Open, seen.trips() + 1, until_us)) {
            return None;
        }
        self.opened[why as usize].fetch_add(1, Ordering::Relaxed);
        Some(why)
    }

    fn swap(&self, seen: Word, next: Word) -> bool {
        self.word.compare_exchange(seen.0, next.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn tally(&self, now_us: u64, since_us: u64) -> Tally {
        tally_of(self.windows.iter().map(|w| &w.0), now_us, since_us)
    }

    /// The state, for metrics and the live page.
    pub fn view(&self, now_us: u64) -> BreakerView {
        let word = Word(self.word.load(Ordering::Acquire));
        BreakerView {
            phase: word.phase(),
            at_us: word.at_us(),
            trips: word.trips() as u32,
            opened: std::array::from_fn(|i| self.opened[i].load(Ordering::Relaxed)),
            tally: self.tally(now_us, 0),
        }
    }
}

/// The end of the open time after `trips` earlier ones: 1 to 1.25 times the doubled minimum, and never longer than
/// the maximum.
fn open_until(settings: &BreakerSettings, now_us: u64, trips: u64, random: &mut Random) -> u64 {
    let doubled_us = settings.open_min_us.saturating_mul(1 << trips.min(40));
    let high_us = (doubled_us.saturating_mul(5) / 4).min(settings.open_max_us);
    now_us.saturating_add(random.between(high_us / 5 * 4, high_us))
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "breaker_tests.rs"]
mod tests;

#[cfg(test)]
#[cfg(not(loom))]
#[path = "breaker_probe_tests.rs"]
mod probe_tests;

#[cfg(test)]
#[cfg(loom)]
#[path = "breaker_loom.rs"]
mod loom_tests;
