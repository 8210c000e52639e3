//! Leaving a key alone for as long as its provider asked.
//!
//! Prevents: the retry storm on a limited account. A 429 with `Retry-After: 60` means every call in that
//! minute is refused, and with some providers each one extends the limit. Gateways that sleep on the request
//! hold the client for the minute; gateways that bench the whole deployment lose the keys and models that
//! still had room. So the window belongs to one (key, model) pair, everything else goes on, and nothing is sent
//! into it.
//!
//! - The provider's word is kept exactly: jitter only ever adds time (0 to 10 %), so that cores and gateways do
//!   not come back in one instant. Windows are capped at 10 minutes, because a header is not a contract.
//! - A later, longer window replaces a shorter one, never the other way round.
//! - Without a hint the window is 1 s, doubled for each further strike, up to 30 s; from the second strike on that is
//!   also the least that a hint counts for. Refusals that were in flight together are one strike.
//! - A success does not end a window early; it forgives the strikes once the window is over.
//!
//! Parking is the same cell with longer numbers: 30 s doubled up to 30 min for a refused credential, 60 s for
//! an empty account, so that a key that was revoked by mistake is found again without a reload.
//!
//! INVARIANT: the end of a window never moves backwards while it lasts (`loom_a_window_never_shrinks`).
//!
//! Reference: RFC 9110 section 10.2.3; linkerd's `retry_after` (429 and 503, capped). Leaves out: parsing the
//! header, which `dialect` does.

use super::random::Random;
use super::sync::{AtomicU64, Ordering};
use crate::config::defaults;

const UNTIL_BITS: u32 = 58;
const UNTIL_MASK: u64 = (1 << UNTIL_BITS) - 1;
const STRIKES_MAX: u64 = (1 << (64 - UNTIL_BITS)) - 1;

/// How long a refusal keeps a key out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CooldownSettings {
    /// Window after a refusal without a hint, microseconds; doubled per strike.
    pub initial_us: u64,
    /// The longest window without a hint, microseconds.
    pub max_us: u64,
    /// The longest window a provider can ask for, microseconds.
    pub cap_us: u64,
    /// Added time at most, in percent of the window.
    pub jitter_percent: u64,
}

impl CooldownSettings {
    /// Rate limits, unless the configuration says otherwise; the reasons stand in [`crate::config::defaults`].
    pub const RATE: Self = CooldownSettings {
        initial_us: defaults::COOLDOWN_INITIAL_MS * 1000,
        max_us: defaults::COOLDOWN_MAX_MS * 1000,
        cap_us: defaults::COOLDOWN_CAP_MS * 1000,
        jitter_percent: 10,
    };

    /// A refused credential: 30 s doubled to 30 min, because people rotate keys within minutes.
    pub const KEY: Self = CooldownSettings {
        initial_us: 30_000_000,
        max_us: 1_800_000_000,
        cap_us: 1_800_000_000,
        jitter_percent: 10,
    };

    /// An empty account: 60 s doubled to 30 min; topping up takes a person.
    pub const MONEY: Self = CooldownSettings {
        initial_us: 60_000_000,
        max_us: 1_800_000_000,
        cap_us: 1_800_000_000,
        jitter_percent: 10,
    };
}

/// The window of one key, or of one key with one model. Shared by all cores.
#[derive(Debug)]
pub struct Cooldown(AtomicU64);

impl Cooldown {
    /// A key that may be used.
    pub fn new() -> Self {
        Cooldown(AtomicU64::new(0))
    }

    /// When the key may be used again, on the gateway's clock; `None` when it may be used at `now_us`.
    pub fn until(&self, now_us: u64) -> Option<u64> {
        let until = self.0.load(Ordering::Acquire) & UNTIL_MASK;
        (until > now_us).then_some(until)
    }

    /// Starts or lengthens the window; returns its end. `hint_us` is the provider's own word.
    pub fn refuse(
        &self,
        settings: &CooldownSettings,
        now_us: u64,
        hint_us: Option<u64>,
        random: &mut Random,
    ) -> u64 {
        let mut seen = self.0.load(Ordering::Acquire);
        loop {
            let (strikes, until) = (seen >> UNTIL_BITS, seen & UNTIL_MASK);
            let cooling = until > now_us;
            // Inside a window the strike that opened it is counted already.
            let earlier = strikes.saturating_sub(u64::from(cooling));
            let doubled_us = doubled(settings.initial_us, earlier).min(settings.max_us);
            let window_us = match hint_us {
                Some(hint) if earlier == 0 => hint.min(settings.cap_us),
                // A provider that keeps saying "one second" is left alone for longer each time.
                Some(hint) => hint.min(settings.cap_us).max(doubled_us),
                None => doubled_us,
            };
            let jitter_us = random.between(0, window_us.saturating_mul(settings.jitter_percent) / 100);
            let end = now_us.saturating_add(window_us).saturating_add(jitter_us).min(UNTIL_MASK);
            let strikes = if cooling { strikes } else { (strikes + 1).min(STRIKES_MAX) };
            let next = (strikes << UNTIL_BITS) | end.max(until);
            match self.0.compare_exchange(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return end.max(until),
                Err(now_seen) => seen = now_seen,
            }
        }
    }

    /// Ends the window at a person's word; the strikes are forgotten with it. The one way in which a window shrinks.
    pub fn end(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// Forgives the strikes after a success, once the window is over. Writes only when there is something to
    /// forgive.
    pub fn forgive(&self, now_us: u64) {
        let seen = self.0.load(Ordering::Acquire);
        if seen != 0 && seen & UNTIL_MASK <= now_us {
            // Losing the race means that another core refused the key just now: its word stands.
            let _ = self.0.compare_exchange(seen, 0, Ordering::AcqRel, Ordering::Relaxed);
        }
    }
}

impl Default for Cooldown {
    fn default() -> Self {
        Self::new()
    }
}

fn doubled(initial_us: u64, times: u64) -> u64 {
    initial_us.saturating_mul(1u64 << times.min(40))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000;
    const RATE: CooldownSettings = CooldownSettings::RATE;

    #[test]
    fn a_key_rests_for_as_long_as_it_was_told_and_not_much_longer() {
        let cell = Cooldown::new();
        let until = cell.refuse(&RATE, 10 * S, Some(60 * S), &mut Random::new(1));
        assert!((70 * S..=76 * S).contains(&until));
        assert_eq!(cell.until(70 * S - 1), Some(until));
        assert_eq!(cell.until(until), None);
    }

    #[test]
    fn a_person_can_end_a_window_and_its_strikes() {
        let cell = Cooldown::new();
        for second in 0..5 {
            cell.refuse(&RATE, second * 100 * S, None, &mut Random::new(1));
        }
        cell.end();
        assert_eq!(cell.until(401 * S), None);
        let until = cell.refuse(&RATE, 402 * S, None, &mut Random::new(1));
        assert!(until <= 402 * S + 1_100_000, "the first strike again: {until}");
    }

    #[test]
    fn a_window_is_capped_at_ten_minutes_plus_jitter() {
        for hint in [600 * S, 601 * S, u64::MAX] {
            let until = Cooldown::new().refuse(&RATE, 0, Some(hint), &mut Random::new(2));
            assert!((600 * S..=660 * S).contains(&until), "{hint}: {until}");
        }
    }

    #[test]
    fn a_shorter_hint_does_not_open_a_longer_window_early() {
        let cell = Cooldown::new();
        let long = cell.refuse(&RATE, 0, Some(60 * S), &mut Random::new(1));
        assert_eq!(cell.refuse(&RATE, S, Some(2 * S), &mut Random::new(1)), long);
    }

    #[test]
    fn strikes_double_the_window_and_a_success_forgives_them() {
        let (cell, random) = (Cooldown::new(), &mut Random::new(3));
        let mut now = 0;
        let mut last = 0;
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            let until = cell.refuse(&RATE, now, None, random);
            assert!(until - now >= expected * S && until - now <= expected * S * 11 / 10);
            last = until;
            now = until;
        }
        cell.forgive(last - 1);
        assert!(cell.until(last - 1).is_some(), "a success inside the window does not end it");
        cell.forgive(last);
        let until = cell.refuse(&RATE, last, None, random);
        assert!(until - last <= S * 11 / 10);
    }

    #[test]
    fn a_provider_that_keeps_saying_one_second_is_left_alone_for_longer() {
        let (cell, random, mut now) = (Cooldown::new(), &mut Random::new(3), 0);
        for expected in [1, 2, 4, 8, 16, 30] {
            let until = cell.refuse(&RATE, now, Some(S), random);
            assert!((expected * S..=expected * S * 11 / 10).contains(&(until - now)), "{expected}");
            now = until;
        }
    }

    #[test]
    fn the_first_word_of_a_provider_is_taken_however_short() {
        let until = Cooldown::new().refuse(&RATE, 0, Some(S / 5), &mut Random::new(3));
        assert!((S / 5..=S / 5 * 11 / 10).contains(&until), "{until}");
    }

    #[test]
    fn gateways_that_are_refused_at_one_moment_come_back_apart() {
        let end = |seed| Cooldown::new().refuse(&RATE, 0, Some(60 * S), &mut Random::new(seed));
        let ends: Vec<u64> = (0..50).map(end).collect();
        let (first, last) = (ends.iter().min(), ends.iter().max());
        assert!(first.zip(last).is_some_and(|(first, last)| last - first > 4 * S), "{ends:?}");
    }

    #[test]
    fn a_key_that_is_refused_for_a_day_keeps_its_longest_window() {
        let (cell, random, mut now) = (Cooldown::new(), &mut Random::new(3), 0);
        for refusal in 0..3_000 {
            let until = cell.refuse(&RATE, now, None, random);
            assert!(refusal < 5 || until - now >= RATE.max_us, "refusal {refusal}: {} us", until - now);
            now = until;
        }
    }

    #[test]
    fn refusals_in_flight_together_are_one_strike() {
        let (cell, random) = (Cooldown::new(), &mut Random::new(3));
        for at in 0..50 {
            cell.refuse(&RATE, at, None, random);
        }
        let until = cell.until(50).expect("cooling");
        assert!(until <= S * 11 / 10 + 50);
    }

    proptest! {
        #[test]
        fn windows_only_grow_while_they_last(
            steps in prop::collection::vec((0u64..20 * S, prop::option::of(0u64..700 * S)), 1..40), seed: u64,
        ) {
            let (cell, random) = (Cooldown::new(), &mut Random::new(seed));
            let mut now = 0;
            for (gap, hint) in steps {
                now += gap;
                let before = cell.until(now);
                let after = cell.refuse(&RATE, now, hint, random);
                prop_assert!(before.is_none_or(|b| after >= b));
                prop_assert!(hint.is_none_or(|h| after >= now + h.min(RATE.cap_us)));
                prop_assert!(after <= before.unwrap_or(0).max(now + RATE.cap_us * 11 / 10));
                cell.forgive(now);
                prop_assert_eq!(cell.until(now), (after > now).then_some(after));
            }
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_a_window_never_shrinks() {
        loom::model(|| {
            let cell = Arc::new(Cooldown::new());
            let threads: Vec<_> = [60u64, 2]
                .into_iter()
                .map(|seconds| {
                    let cell = Arc::clone(&cell);
                    loom::thread::spawn(move || {
                        cell.refuse(
                            &CooldownSettings::RATE,
                            100,
                            Some(seconds * 1_000_000),
                            &mut Random::new(seconds),
                        );
                        cell.forgive(101);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().expect("no panic");
            }
            assert!(cell.until(60_000_000).is_some(), "the longer window stands");
        });
    }
}
