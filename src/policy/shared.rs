//! The cells that all cores share, found by small ids.
//!
//! Prevents: N private breakers that trip N times late and send N probes. What one core learns, every core sees
//! at its next load. There is no lock on any path of a request: providers are fixed when the plan is compiled, and
//! the slot of a (provider, model) pair is claimed once, by compare-exchange, when the pair is first used.
//!
//! Limits: [`SLOTS_MAX`] model slots in all; when they are used up, further models of a provider share that
//! provider's own slot, so that a client that invents model names cannot grow the table or evict others.

use std::sync::OnceLock;

use super::breaker::{Breaker, BreakerView};
use super::budget::{BudgetView, RetryBudget, RetryMoney, Strain};
use super::bulkhead::{Bulkhead, BulkheadView};
use super::cooldown::Cooldown;
use super::hedge::HedgeAllowance;
use super::ids::{KeyId, ProviderId, SlotId};
use super::latency::Quantiles;
use super::settings::Settings;
use super::sync::{AtomicU64, Ordering};

/// (provider, model) pairs that have cells of their own.
pub const SLOTS_MAX: usize = 1024;

/// Places looked at for one pair before it shares its provider's slot.
const PROBES_MAX: usize = 32;

/// A stable 64-bit identity of a name (FNV-1a, finished with a mixer). Never 0.
pub fn identity(name: &[u8]) -> u64 {
    identity_of(0xcbf2_9ce4_8422_2325, name)
}

pub(crate) fn identity_of(seed: u64, name: &[u8]) -> u64 {
    let mut hash = seed;
    for &byte in name {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (hash ^ (hash >> 29)).max(1)
}

/// Cells of one provider.
#[derive(Debug)]
pub(crate) struct ProviderCells {
    /// By key: parked for a refused credential or an empty account.
    pub(crate) parked: Box<[Cooldown]>,
    pub(crate) budget: RetryBudget,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) hedges: HedgeAllowance,
}

/// Cells of one (provider, model) pair.
#[derive(Debug)]
pub(crate) struct SlotCells {
    /// The provider the pair belongs to.
    pub(crate) provider: ProviderId,
    /// By key: cooling for this model.
    pub(crate) cooling: Box<[Cooldown]>,
    pub(crate) breaker: Breaker,
    pub(crate) strain: Strain,
    /// Time to the first token of streams, and to the end of whole answers.
    pub(crate) latency: [Quantiles; 2],
}

/// Everything shared, held by each core as an `Arc`.
#[derive(Debug)]
pub struct Shared {
    providers: Box<[ProviderCells]>,
    /// `providers.len()` overflow slots, then [`SLOTS_MAX`] claimed ones.
    slots: Box<[OnceLock<SlotCells>]>,
    /// Identity of the pair that claimed each slot; 0 when free.
    claims: Box<[AtomicU64]>,
    keys: Box<[usize]>,
    money: RetryMoney,
    /// What all targets together owe.
    pub(crate) strain: Strain,
    cores: usize,
}

impl Shared {
    /// Cells for the providers of `settings`, used by `cores` cores.
    pub fn new(settings: &Settings, cores: usize) -> Self {
        let keys: Box<[usize]> = settings.providers.iter().map(|p| p.keys.len().max(1)).collect();
        let cores = cores.max(1);
        let providers: Box<[ProviderCells]> = keys
            .iter()
            .map(|&count| ProviderCells {
                parked: cells(count),
                budget: RetryBudget::new(cores),
                bulkhead: Bulkhead::new(),
                hedges: HedgeAllowance::new(cores),
            })
            .collect();
        let slots = (0..providers.len() + SLOTS_MAX).map(|_| OnceLock::new()).collect();
        let claims = (0..SLOTS_MAX).map(|_| AtomicU64::new(0)).collect();
        Shared {
            providers,
            slots,
            claims,
            keys,
            money: RetryMoney::new(),
            strain: Strain::of_process(cores),
            cores,
        }
    }

    /// Slots there can ever be.
    pub(crate) fn slots_max(&self) -> usize {
        self.slots.len()
    }

    /// Cores that may write here.
    pub fn cores(&self) -> usize {
        self.cores
    }

    /// The slot of `model` at `provider`: the same number for the same pair, on every core. Does not allocate
    /// after a pair's first use.
    pub fn slot(&self, settings: &Settings, provider: ProviderId, model: &[u8]) -> SlotId {
        let index = usize::from(provider.0);
        let who = identity_of(settings.providers[index].identity, model);
        match claim(&self.claims, who) {
            Some(place) => self.open(self.providers.len() + place, provider),
            None => self.open(index, provider),
        }
    }

    fn open(&self, slot: usize, provider: ProviderId) -> SlotId {
        self.slots[slot].get_or_init(|| SlotCells {
            provider,
            cooling: cells(self.keys[usize::from(provider.0)]),
            breaker: Breaker::new(self.cores),
            strain: Strain::of_target(self.cores),
            latency: [Quantiles::new(), Quantiles::new()],
        });
        SlotId(slot as u16)
    }

    pub(crate) fn provider(&self, id: ProviderId) -> &ProviderCells {
        &self.providers[usize::from(id.0)]
    }

    /// The cells of a slot that [`Shared::slot`] gave out.
    pub(crate) fn cells(&self, id: SlotId) -> Option<&SlotCells> {
        self.slots.get(usize::from(id.0)).and_then(OnceLock::get)
    }

    /// When `key` may next be used for the pair in `slot`; `None` when it may be used now.
    pub fn key_until(&self, slot: SlotId, key: KeyId, now_us: u64) -> Option<u64> {
        let cells = self.cells(slot)?;
        let index = usize::from(key.0);
        let cooling = cells.cooling.get(index).and_then(|c| c.until(now_us));
        let parked = self.provider(cells.provider).parked.get(index).and_then(|c| c.until(now_us));
        cooling.max(parked)
    }
}

/// What metrics and the live page show. Reads only; a scraper may call it from any thread.
impl Shared {
    /// Every slot in use.
    pub fn slots(&self) -> impl Iterator<Item = SlotId> + '_ {
        (0..self.slots.len()).filter(|&slot| self.slots[slot].get().is_some()).map(|slot| SlotId(slot as u16))
    }

    /// The provider of a slot.
    pub fn slot_provider(&self, slot: SlotId) -> Option<ProviderId> {
        self.cells(slot).map(|cells| cells.provider)
    }

    /// The breaker of a target.
    pub fn breaker(&self, slot: SlotId, now_us: u64) -> Option<BreakerView> {
        self.cells(slot).map(|cells| cells.breaker.view(now_us))
    }

    /// Median and 95th percentile of a target's time to the first token (streams), microseconds.
    pub fn first_token(&self, slot: SlotId) -> (Option<u64>, Option<u64>) {
        self.quantiles(slot, 0)
    }

    /// Median and 95th percentile of a target's time to a whole answer, microseconds.
    pub fn whole_answer(&self, slot: SlotId) -> (Option<u64>, Option<u64>) {
        self.quantiles(slot, 1)
    }

    fn quantiles(&self, slot: SlotId, kind: usize) -> (Option<u64>, Option<u64>) {
        self.cells(slot).map_or((None, None), |c| (c.latency[kind].median_us(), c.latency[kind].p95_us()))
    }

    /// Closes the breaker of a target and lets all of its keys be used again, those that are parked too. For a person who
    /// knows that the trouble is over.
    pub fn reset(&self, slot: SlotId, now_us: u64) {
        let Some(cells) = self.cells(slot) else { return };
        cells.breaker.reset(now_us);
        cells.cooling.iter().chain(&self.provider(cells.provider).parked).for_each(Cooldown::end);
    }

    /// When a key that was refused, or whose account is empty, may be tried again; `None` when it may now.
    pub fn parked_until(&self, provider: ProviderId, key: KeyId, now_us: u64) -> Option<u64> {
        self.provider(provider).parked.get(usize::from(key.0)).and_then(|parked| parked.until(now_us))
    }

    /// The retry budget of a provider.
    pub fn budget(&self, settings: &Settings, provider: ProviderId, now_us: u64) -> BudgetView {
        self.provider(provider).budget.view(&settings.providers[usize::from(provider.0)].budget, now_us)
    }

    /// The places at a provider.
    pub fn bulkhead(&self, provider: ProviderId) -> BulkheadView {
        self.provider(provider).bulkhead.view()
    }

    /// Money spent on prompts sent again.
    pub fn money(&self) -> &RetryMoney {
        &self.money
    }
}

/// The place that belongs to `who` from now on, or since earlier; `None` when those near its own belong to others.
fn claim(claims: &[AtomicU64], who: u64) -> Option<usize> {
    let start = (who % claims.len() as u64) as usize;
    (0..PROBES_MAX.min(claims.len())).map(|step| (start + step) % claims.len()).find(|&place| {
        let mut owner = claims[place].load(Ordering::Acquire);
        if owner == 0 {
            owner = match claims[place].compare_exchange(0, who, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => who,
                Err(other) => other,
            };
        }
        owner == who
    })
}

fn cells(count: usize) -> Box<[Cooldown]> {
    (0..count).map(|_| Cooldown::new()).collect()
}

#[cfg(test)]
#[cfg(not(loom))]
#[path = "shared_tests.rs"]
mod tests;

#[cfg(test)]
#[cfg(loom)]
mod loom_tests {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn loom_cores_that_meet_models_at_once_agree_on_their_places() {
        loom::model(|| {
            let claims: Arc<[AtomicU64; 2]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
            // 2 and 4 both want the first place.
            let threads: Vec<_> = [[2, 4], [4, 2]]
                .into_iter()
                .map(|models| {
                    let claims = Arc::clone(&claims);
                    loom::thread::spawn(move || {
                        let mut found = models.map(|who| (who, claim(&claims[..], who)));
                        found.sort_unstable();
                        found
                    })
                })
                .collect();
            let found: Vec<_> = threads.into_iter().map(|t| t.join().expect("no panic")).collect();
            assert_eq!(found[0], found[1], "one place a model, on every core");
            let [two, four] = [found[0][0].1, found[0][1].1];
            assert!(two.is_some() && four.is_some() && two != four, "and one model a place");
            assert_eq!(claim(&claims[..], 6), None, "a third one finds none");
        });
    }
}
