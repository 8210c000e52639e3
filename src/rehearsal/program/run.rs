//! A program on a clock: which faults the next request meets.
//!
//! Why apart from the language: tests ask it with made-up instants, and the server asks it for the next moment at
//! which the port opens or closes.
//!
//! Invariant: the chance of a step is drawn from the seed and the number of the request, never from a shared
//! generator, so that adding a track does not change what the others draw.

use std::time::Instant;

use super::{Fault, Filter, Program, Stage, Step};

/// What a step may ask about a request.
pub(in crate::rehearsal) struct Facts<'a> {
    pub(in crate::rehearsal) key: &'a str,
    pub(in crate::rehearsal) model: &'a str,
    pub(in crate::rehearsal) path: &'a str,
    pub(in crate::rehearsal) stream: bool,
}

/// What the port does with new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rehearsal) enum Gate {
    Open,
    Refuse,
    Blackhole,
}

/// A program that was started.
pub(in crate::rehearsal) struct Running {
    tracks: Vec<Track>,
    seed: u64,
    arrivals: u64,
    heads: u64,
    connections: u64,
}

struct Track {
    steps: Vec<Step>,
    current: usize,
    since: Instant,
    /// Requests that passed the conditions of the current step, before `every` and `p`.
    passed: u64,
    /// Requests that met the current step.
    met: u64,
}

impl Running {
    pub(in crate::rehearsal) fn start(program: Program, seed: u64, now: Instant) -> Running {
        let tracks = program
            .tracks
            .into_iter()
            .map(|steps| Track { steps, current: 0, since: now, passed: 0, met: 0 })
            .collect();
        Running { tracks, seed, arrivals: 0, heads: 0, connections: 0 }
    }

    /// The faults that a request arriving now meets, in the order they were written.
    pub(in crate::rehearsal) fn draw(&mut self, now: Instant, facts: &Facts<'_>) -> Vec<Fault> {
        self.arrivals += 1;
        self.meet(now, facts, self.arrivals, Stage::Request)
    }

    /// The faults that a request meets when only its head is known.
    pub(in crate::rehearsal) fn on_head(&mut self, now: Instant, facts: &Facts<'_>) -> Vec<Fault> {
        self.heads += 1;
        self.meet(now, facts, self.heads, Stage::Head)
    }

    /// The faults that a new connection meets before any request.
    pub(in crate::rehearsal) fn on_connection(&mut self, now: Instant) -> Vec<Fault> {
        self.connections += 1;
        let nobody = Facts { key: "", model: "", path: "", stream: false };
        self.meet(now, &nobody, self.connections, Stage::Connection)
    }

    fn meet(&mut self, now: Instant, facts: &Facts<'_>, draw: u64, stage: Stage) -> Vec<Fault> {
        let mut met = Vec::new();
        for (index, track) in self.tracks.iter_mut().enumerate() {
            if track.active(now).is_some_and(|step| step.fault.stage() == stage) {
                met.extend(track.meet(now, facts, unit(self.seed, draw, index as u64)));
            }
        }
        met
    }

    pub(in crate::rehearsal) fn gate(&mut self, now: Instant) -> Gate {
        for track in &mut self.tracks {
            match track.active(now).map(|step| &step.fault) {
                Some(Fault::Refuse) => return Gate::Refuse,
                Some(Fault::Blackhole) => return Gate::Blackhole,
                _ => {}
            }
        }
        Gate::Open
    }

    /// When a step begins or ends next, if time alone decides it.
    pub(in crate::rehearsal) fn next_change(&self, now: Instant) -> Option<Instant> {
        self.tracks.iter().filter_map(|track| track.next_change(now)).min()
    }
}

impl Track {
    fn advance(&mut self, now: Instant) {
        while let Some(step) = self.steps.get(self.current) {
            let spent = step.times.is_some_and(|times| self.met >= times);
            let ends = step.lasts.map(|lasts| self.since + step.from + lasts);
            if spent {
                self.since = now;
            } else if let Some(ends) = ends.filter(|ends| *ends <= now) {
                self.since = ends;
            } else {
                return;
            }
            self.current += 1;
            self.passed = 0;
            self.met = 0;
        }
    }

    fn active(&mut self, now: Instant) -> Option<&Step> {
        self.advance(now);
        let since = self.since;
        self.steps.get(self.current).filter(|step| now >= since + step.from)
    }

    fn meet(&mut self, now: Instant, facts: &Facts<'_>, chance: f64) -> Option<Fault> {
        self.advance(now);
        let passed = self.passed;
        let step = self.active(now)?;
        if !step.filter.passes(facts) {
            return None;
        }
        let chosen = (passed + 1).is_multiple_of(step.filter.every) && chance < step.filter.p;
        let fault = chosen.then(|| step.fault.clone());
        self.passed += 1;
        self.met += u64::from(chosen);
        fault
    }

    fn next_change(&self, now: Instant) -> Option<Instant> {
        let step = self.steps.get(self.current)?;
        let begins = self.since + step.from;
        if begins > now { Some(begins) } else { step.lasts.map(|lasts| (begins + lasts).max(now)) }
    }
}

impl Filter {
    fn passes(&self, facts: &Facts<'_>) -> bool {
        self.key.as_ref().is_none_or(|key| facts.key.ends_with(key.as_str()))
            && self.model.as_ref().is_none_or(|model| facts.model.contains(model.as_str()))
            && self.path.as_ref().is_none_or(|path| facts.path.contains(path.as_str()))
            && self.stream.is_none_or(|stream| facts.stream == stream)
    }
}

/// A number in 0..1 from three.
pub(in crate::rehearsal) fn unit(seed: u64, a: u64, b: u64) -> f64 {
    (mix(seed, a, b) >> 11) as f64 / (1u64 << 53) as f64
}

/// SplitMix64's finaliser over three words: well spread, cheap, the same everywhere.
pub(in crate::rehearsal) fn mix(seed: u64, a: u64, b: u64) -> u64 {
    let mut z = seed
        ^ a.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        ^ b.wrapping_add(1).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ANY: Facts<'_> =
        Facts { key: "sk-test-AAAA1111", model: "gpt-4o-mini", path: "/v1/chat/completions", stream: false };

    fn running(text: &str) -> (Running, Instant) {
        let now = Instant::now();
        (Running::start(Program::parse(text).expect("a program"), 7, now), now)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_sequence_moves_on_when_its_time_is_up() {
        let (mut running, t0) = running("down:for=8m then ok");
        assert_eq!(running.draw(t0, &ANY).len(), 1);
        assert_eq!(running.draw(t0 + seconds(479), &ANY).len(), 1);
        assert_eq!(running.draw(t0 + seconds(480), &ANY), vec![Fault::Ok]);
    }

    #[test]
    fn a_fault_can_begin_late_and_end() {
        let (mut running, t0) = running("hang:from=10s,for=5s");
        assert!(running.draw(t0 + seconds(9), &ANY).is_empty());
        assert_eq!(running.draw(t0 + seconds(10), &ANY).len(), 1);
        assert!(running.draw(t0 + seconds(15), &ANY).is_empty());
    }

    #[test]
    fn times_counts_only_requests_that_met_the_fault() {
        let (mut running, t0) = running("status:503,times=2,key=1111 then status:401");
        let other = Facts { key: "sk-other", ..ANY };
        assert!(running.draw(t0, &other).is_empty());
        let seen: Vec<usize> = (0..3).map(|_| running.draw(t0, &ANY).len()).collect();
        assert_eq!(seen, [1, 1, 1]);
        assert_eq!(running.draw(t0, &other).len(), 1, "the second step has no key condition");
    }

    #[test]
    fn every_third_request_fails() {
        let (mut running, t0) = running("status:500,every=3");
        let met: Vec<bool> = (0..6).map(|_| !running.draw(t0, &ANY).is_empty()).collect();
        assert_eq!(met, [false, false, true, false, false, true]);
    }

    #[test]
    fn a_rate_is_kept_over_many_requests_and_repeats_with_the_seed() {
        let (mut one, t0) = running("brownout:rate=0.3");
        let (mut two, t1) = running("brownout:rate=0.3");
        let first: Vec<bool> = (0..10_000).map(|_| !one.draw(t0, &ANY).is_empty()).collect();
        let second: Vec<bool> = (0..10_000).map(|_| !two.draw(t1, &ANY).is_empty()).collect();
        let share = first.iter().filter(|met| **met).count() as f64 / 10_000.0;
        assert!((0.28..0.32).contains(&share), "{share}");
        assert_eq!(first, second);
    }

    #[test]
    fn tracks_run_at_the_same_time() {
        let (mut running, t0) = running("slow:+1s; down:for=1m");
        assert_eq!(running.draw(t0, &ANY).len(), 2);
        assert_eq!(running.draw(t0 + seconds(60), &ANY).len(), 1);
    }

    #[test]
    fn the_port_opens_again_when_the_refusal_ends() {
        let (mut running, t0) = running("refuse:for=2s then ok");
        assert_eq!(running.gate(t0), Gate::Refuse);
        assert_eq!(running.next_change(t0), Some(t0 + seconds(2)));
        assert_eq!(running.gate(t0 + seconds(2)), Gate::Open);
        assert_eq!(running.next_change(t0 + seconds(3)), None);
    }
}
