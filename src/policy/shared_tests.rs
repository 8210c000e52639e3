//! The shared cells: who gets which slot, and what the live page reads from them.

use std::sync::Arc;

use super::super::breaker::{Door, Verdict};
use super::super::cooldown::CooldownSettings;
use super::super::random::Random;
use super::super::settings::ProviderSettings;
use super::super::{Ask, Chain, Core, Flight, Outcome, PolicyId, Step, Success, TargetRef};
use super::*;
use proptest::prelude::*;

fn settings() -> Settings {
    Settings::new(vec![ProviderSettings::new("a"), ProviderSettings::new("b")])
}

#[test]
fn a_pair_keeps_its_slot_and_two_pairs_do_not_share() {
    let (s, shared) = (settings(), Shared::new(&settings(), 2));
    let one = shared.slot(&s, ProviderId(0), b"gpt");
    assert_eq!(shared.slot(&s, ProviderId(0), b"gpt"), one);
    assert_ne!(shared.slot(&s, ProviderId(1), b"gpt"), one);
    assert_ne!(shared.slot(&s, ProviderId(0), b"gpt-mini"), one);
}

#[test]
fn a_name_keeps_its_identity_and_so_its_state_over_a_reload() {
    // FNV-1a and the mixer, computed elsewhere.
    assert_eq!(identity(b"openai"), 0x98f4_f1a0_0a11_2edb);
    assert_eq!(identity(b"claude-haiku-4-5"), 0x047c_9e1a_cdc8_93ea);
    assert_eq!(identity(b""), 0x8570_e250_fe4c_2473);
}

#[test]
fn invented_model_names_end_up_in_their_providers_own_slot() {
    let (s, shared) = (settings(), Shared::new(&settings(), 1));
    let kept = shared.slot(&s, ProviderId(1), b"claude");
    let mut overflow = 0;
    for n in 0..5000u32 {
        let slot = shared.slot(&s, ProviderId(0), format!("m{n}").as_bytes());
        assert_eq!(shared.cells(slot).unwrap().provider, ProviderId(0));
        overflow += u32::from(slot == SlotId(0));
    }
    assert!(overflow >= 5000 - SLOTS_MAX as u32);
    assert_eq!(shared.slot(&s, ProviderId(1), b"claude"), kept);
    assert_eq!(shared.slot(&s, ProviderId(1), b"another"), SlotId(1));
}

#[test]
fn a_pair_takes_the_place_of_its_identity_or_the_next_free_one() {
    let claims: [AtomicU64; 8] = std::array::from_fn(|_| AtomicU64::new(0));
    let places = [13, 21, u64::MAX, 23, 21].map(|who| claim(&claims, who));
    assert_eq!(places, [Some(5), Some(6), Some(7), Some(0), Some(6)], "after the last comes the first");
}

#[test]
fn a_person_who_says_that_it_is_over_frees_a_target_and_its_keys() {
    let (s, shared, random) = (settings(), Shared::new(&settings(), 1), &mut Random::new(1));
    let (provider, key) = (ProviderId(0), KeyId(0));
    let slot = shared.slot(&s, provider, b"m");
    let cells = shared.cells(slot).unwrap();
    let settings = &s.providers[0].breaker;
    for _ in 0..settings.failures_in_row {
        cells.breaker.record(settings, 0, 0, 0, None, Verdict::Fails { tokens: 1 }, random);
    }
    let cooling = cells.cooling[0].refuse(&CooldownSettings::RATE, 0, None, random);
    let parked = shared.provider(provider).parked[0].refuse(&CooldownSettings::MONEY, 0, None, random);
    assert!(matches!(cells.breaker.door(settings, 1), Door::Shut(_)));
    assert!(cooling < parked);
    assert_eq!(shared.parked_until(provider, key, 1), Some(parked));
    assert_eq!(shared.key_until(slot, key, cooling), Some(parked));
    assert_eq!(shared.parked_until(ProviderId(1), key, 1), None, "another provider's key");
    assert_eq!(shared.parked_until(provider, KeyId(1), 1), None, "a key that it does not have");
    shared.reset(SlotId(1), 1);
    assert_eq!(shared.parked_until(provider, key, 1), Some(parked), "a slot that nobody has frees nothing");
    shared.reset(slot, 1);
    assert_eq!(cells.breaker.door(settings, 1), Door::Open);
    assert_eq!((shared.parked_until(provider, key, 1), shared.key_until(slot, key, 1)), (None, None));
}

#[test]
fn two_cores_that_meet_a_model_at_once_agree_on_its_slot() {
    let (s, shared) = (settings(), Shared::new(&settings(), 4));
    let found: Vec<Vec<SlotId>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    (0..200).map(|n| shared.slot(&s, ProviderId(0), format!("m{n}").as_bytes())).collect()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(found.windows(2).all(|w| w[0] == w[1]));
}

#[test]
fn the_page_shows_what_a_provider_did() {
    let mut s = settings();
    s.providers[0].bulkhead.concurrent_max = Some(4);
    let s = Arc::new(s);
    let mut core = Core::new(Arc::clone(&s), Arc::new(Shared::new(&s, 1)), 0, 1);
    let slot = core.slot(ProviderId(0), b"m");
    let chain = Chain::of(PolicyId(0), &[TargetRef::new(ProviderId(0), slot)]);
    let call = |core: &mut Core, stream, takes_us, outcome| {
        let mut flight = Flight::begin(core, chain, Ask { stream, ..Ask::default() });
        let Step::Attempt(attempt) = flight.next(core, 0) else { panic!("it is well") };
        assert_eq!(core.shared().bulkhead(ProviderId(0)).taken, 1);
        flight.settle(core, takes_us, attempt.no, outcome);
    };
    for _ in 0..32 {
        call(
            &mut core,
            true,
            300_000,
            Outcome::Success(Success { first_token_us: 300_000, ..Success::default() }),
        );
        call(&mut core, false, 2_000_000, Outcome::Success(Success::default()));
    }
    let shared = Arc::clone(core.shared());
    let about = |seen: Option<u64>, us: u64| seen.is_some_and(|seen| seen.abs_diff(us) < us / 10);
    let (first, whole) = (shared.first_token(slot), shared.whole_answer(slot));
    assert!(about(first.0, 300_000) && about(first.1, 300_000), "{first:?}");
    assert!(about(whole.0, 2_000_000) && about(whole.1, 2_000_000), "{whole:?}");
    assert_eq!(shared.first_token(SlotId(0)), (None, None), "a slot that nobody has");
    assert_eq!(shared.bulkhead(ProviderId(0)).taken, 0);
    let budget = shared.budget(&s, ProviderId(0), 0);
    assert_eq!((budget.left_milli, budget.granted), (6_400, 0), "a tenth of 64 requests");
    assert_eq!(shared.breaker(slot, 2_000_000).map(|b| b.tally.calls), Some(64));
    assert!(shared.breaker(SlotId(0), 0).is_none() && shared.slot_provider(SlotId(0)).is_none());
    assert_eq!(shared.money().spent(0), 0);
}

proptest! {
    #[test]
    fn every_pair_that_is_met_has_one_slot_of_its_own(
        met in prop::collection::vec((0u16..2, 0u8..40), 1..120),
    ) {
        let (s, shared) = (settings(), Shared::new(&settings(), 1));
        let mut known = std::collections::BTreeMap::new();
        for (provider, model) in met {
            let slot = shared.slot(&s, ProviderId(provider), &[model]);
            prop_assert_eq!(*known.entry((provider, model)).or_insert(slot), slot);
            prop_assert_eq!(shared.slot_provider(slot), Some(ProviderId(provider)));
        }
        let mut slots: Vec<SlotId> = known.values().copied().collect();
        slots.sort_unstable();
        prop_assert_eq!(shared.slots().collect::<Vec<_>>(), slots.clone(), "the page shows those and no other");
        slots.dedup();
        prop_assert_eq!(slots.len(), known.len());
    }
}
