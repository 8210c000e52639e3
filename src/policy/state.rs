//! What one core keeps for its decisions.

use std::cell::OnceCell;
use std::sync::Arc;

use super::attempts::{Reason, SkipReason};
use super::balance::Load;
use super::estimate::{ModelFacts, TokenSize};
use super::ids::{ProviderId, SlotId};
use super::keys::KeyWheel;
use super::latency::Histogram;
use super::random::Random;
use super::settings::Settings;
use super::shared::{Shared, SlotCells};

/// What a core knows of one target.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) load: Load,
    /// Streams, whole answers.
    pub(crate) latency: [Histogram; 2],
    pub(crate) token_size: TokenSize,
}

/// Decisions this core made, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Attempts by reason, in the order first, retry, fallback, hedge.
    pub attempts: [u64; 4],
    /// Targets passed over, in the order of [`SkipReason::ALL`].
    pub skips: [u64; SkipReason::ALL.len()],
    /// Targets that had to wait their turn because a later one was healthier: ramping up, or owing for fallbacks.
    pub held_back: u64,
    /// Hedges that won.
    pub hedges_won: u64,
    /// Half-open probes sent.
    pub probes: u64,
    /// Exchanges that ended without an answer.
    pub give_ups: u64,
}

impl Counters {
    pub(crate) fn attempt(&mut self, reason: Reason) {
        self.attempts[reason as usize] += 1;
    }

    pub(crate) fn skip(&mut self, reason: SkipReason) {
        self.skips[reason as usize] += 1;
    }
}

/// The decision state of one core, for one plan.
///
/// A core makes one when it adopts a plan; an exchange keeps using the one it began with, so that ids never mix.
/// `Shared` may be carried from plan to plan when the providers and keys are the same.
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) random: Random,
    pub(crate) wheels: Box<[KeyWheel]>,
    /// By slot; made when a core first uses it.
    locals: Box<[Option<Box<Local>>]>,
    /// By slot; found when a core first meets it.
    facts: Box<[OnceCell<Box<ModelFacts>>]>,
    pub(crate) counters: Counters,
}

impl Core {
    /// State of core number `index` (below `shared.cores()`); `seed` feeds its jitter.
    pub fn new(settings: Arc<Settings>, shared: Arc<Shared>, index: usize, seed: u64) -> Self {
        assert!(index < shared.cores(), "core {index} of {}", shared.cores());
        let wheels = settings.providers.iter().map(|p| KeyWheel::new(&p.keys)).collect();
        let locals = (0..shared.slots_max()).map(|_| None).collect();
        let facts = (0..shared.slots_max()).map(|_| OnceCell::new()).collect();
        let counters = Counters::default();
        Core { settings, shared, index, random: Random::new(seed), wheels, locals, facts, counters }
    }

    /// The compiled settings.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// The cells shared with the other cores.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Which core this is.
    pub fn index(&self) -> usize {
        self.index
    }

    /// What this core decided so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The slot of `model` at `provider`. See [`Shared::slot`].
    pub fn slot(&self, provider: ProviderId, model: &[u8]) -> SlotId {
        self.shared.slot(&self.settings, provider, model)
    }

    /// What this core knows of a target; made at its first use, which is the only allocation.
    pub(crate) fn local(&mut self, slot: SlotId) -> &mut Local {
        self.locals[usize::from(slot.0)].get_or_insert_with(|| {
            Box::new(Local {
                load: Load::new(),
                latency: [Histogram::new(), Histogram::new()],
                token_size: TokenSize::new(),
            })
        })
    }

    /// What this core knows of a target, if it was used before.
    pub(crate) fn known(&self, slot: SlotId) -> Option<&Local> {
        self.locals.get(usize::from(slot.0))?.as_deref()
    }

    /// Price and window of a target; nothing for one that was never part of a chain, and for models that share their
    /// provider's slot because too many were invented.
    pub fn facts(&self, slot: SlotId) -> ModelFacts {
        self.facts.get(usize::from(slot.0)).and_then(OnceCell::get).map_or_else(ModelFacts::default, |f| **f)
    }

    /// The same, from `find` when the target is new to this core, which is the only allocation.
    pub(crate) fn facts_or(&self, slot: SlotId, find: impl FnOnce() -> ModelFacts) -> ModelFacts {
        if usize::from(slot.0) < self.settings.providers.len() {
            return ModelFacts::default();
        }
        let cell = self.facts.get(usize::from(slot.0));
        cell.map_or_else(ModelFacts::default, |cell| **cell.get_or_init(|| Box::new(find())))
    }

    /// The same, with the cells its figures are published in.
    pub(crate) fn local_and_cells(&mut self, slot: SlotId) -> Option<(&mut Local, &SlotCells)> {
        let cells = self.shared.cells(slot)?;
        let local = self.locals[usize::from(slot.0)].as_mut()?;
        Some((local, cells))
    }

    pub(crate) fn cost(&self, slot: SlotId, now_us: u64) -> f64 {
        self.known(slot).map_or_else(Load::new, |local| local.load).cost(now_us)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::settings::ProviderSettings;
    use super::super::{
        Ask, Chain, Flight, Outcome, PolicyId, Signal, Step, Success, TargetRef, What, attribute,
    };
    use super::*;
    use proptest::prelude::*;

    fn core() -> Core {
        let settings = Arc::new(Settings::new(["a", "b"].map(ProviderSettings::new).to_vec()));
        Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 2)), 1, 7)
    }

    fn window(context_tokens: u32) -> ModelFacts {
        ModelFacts { context_tokens, ..ModelFacts::default() }
    }

    #[test]
    fn a_core_has_its_own_number_and_the_cells_of_all() {
        let core = core();
        assert_eq!((core.index(), core.shared().cores()), (1, 2));
        assert_eq!(core.counters(), &Counters::default());
        let first = Core::new(Arc::clone(core.settings()), Arc::clone(core.shared()), 0, 7);
        assert_eq!(first.index(), 0);
    }

    #[test]
    #[should_panic(expected = "core 2 of 2")]
    fn there_is_no_third_of_two_cores() {
        let core = core();
        let _ = Core::new(Arc::clone(core.settings()), Arc::clone(core.shared()), 2, 7);
    }

    #[test]
    fn invented_models_that_share_a_slot_share_no_price() {
        let core = core();
        for provider in 0..2 {
            assert_eq!(core.facts_or(SlotId(provider), || window(8_000)), ModelFacts::default());
            assert_eq!(core.facts(SlotId(provider)), ModelFacts::default());
        }
        assert_eq!(core.facts_or(SlotId(2), || window(8_000)), window(8_000), "the first slot of a model");
        assert_eq!(core.facts_or(SlotId(u16::MAX), || window(8_000)), ModelFacts::default());
    }

    #[test]
    fn a_target_that_nobody_used_is_balanced_as_an_unknown_one() {
        let mut core = core();
        let slot = core.slot(ProviderId(0), b"m");
        assert!(core.known(slot).is_none() && core.local_and_cells(slot).is_none());
        assert_eq!(core.cost(slot, 1), Load::new().cost(1));
        core.local(slot).load.start();
        assert_eq!(core.cost(slot, 1), 2.0 * Load::new().cost(1));
        assert!(core.local_and_cells(slot).is_some());
    }

    #[test]
    fn what_the_metrics_count_is_what_was_done() {
        const S: u64 = 1_000_000;
        let mut core = core();
        let targets = [0, 1].map(|p| TargetRef::new(ProviderId(p), core.slot(ProviderId(p), b"m")));
        let chain = Chain::of(PolicyId(0), &targets);
        let down = Outcome::Failure(attribute(Signal::Transport(What::Truncated)));
        let ask = |core: &mut Core, now_us, outcomes: [Outcome; 2]| {
            let mut flight = Flight::begin(core, chain, Ask { now_us, ..Ask::default() });
            while let Step::Attempt(attempt) = flight.next(core, now_us) {
                flight.settle(core, now_us, attempt.no, outcomes[usize::from(attempt.provider.0)]);
                if flight.winner().is_some() {
                    break;
                }
            }
        };
        let well = Outcome::Success(Success::default());
        (0..5).for_each(|_| ask(&mut core, S, [down, well]));
        ask(&mut core, S, [down, well]);
        let skips = |core: &Core, reason: SkipReason| core.counters().skips[reason as usize];
        assert_eq!(core.counters().attempts, [6, 0, 5, 0], "the sixth goes to the second at first");
        assert_eq!(skips(&core, SkipReason::BreakerOpen), 1);
        assert_eq!((core.counters().probes, core.counters().held_back), (0, 0));
        ask(&mut core, 3 * S, [well, well]);
        assert_eq!(core.counters().probes, 1);
        (0..50).for_each(|_| ask(&mut core, 4 * S, [well, well]));
        assert!((30..50).contains(&core.counters().held_back), "a tenth goes through: {:?}", core.counters());
        assert_eq!(core.counters().give_ups, 0);
        let before = core.counters().attempts;
        ask(&mut core, 60 * S, [down, down]);
        assert_eq!(core.counters().give_ups, 1);
        assert_eq!(core.counters().attempts, [before[0] + 1, 0, before[2] + 1, 0]);
        assert_eq!(core.counters().hedges_won, 0);
    }

    proptest! {
        #[test]
        fn a_model_is_looked_up_once_on_a_core(met in prop::collection::vec((any::<u8>(), 1u32..9), 1..60)) {
            let core = core();
            let mut first = std::collections::HashMap::new();
            for (model, tokens) in met {
                let slot = core.slot(ProviderId(0), &[model]);
                let mut looked_up = false;
                let facts = core.facts_or(slot, || {
                    looked_up = true;
                    window(tokens)
                });
                prop_assert_eq!(looked_up, !first.contains_key(&slot));
                prop_assert_eq!(facts, *first.entry(slot).or_insert(window(tokens)));
                prop_assert_eq!(core.facts(slot), facts);
            }
        }
    }
}
