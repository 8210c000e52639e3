//! What one core keeps for its decisions.

use std::sync::Arc;

use super::ids::{ProviderId, SlotId};
use super::keys::KeyWheel;
use super::random::Random;
use super::settings::Settings;
use super::shared::Shared;

/// The decision state of one core, for one plan.
///
/// A core makes one when it adopts a plan; an exchange keeps using the one it began with, so that ids never mix.
/// `Shared` may be carried from plan to plan when the providers and keys are the same.
#[derive(Debug)]
pub struct Core {
    pub(crate) settings: Arc<Settings>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) rng: Random,
    pub(crate) wheels: Box<[KeyWheel]>,
}

impl Core {
    /// State of core number `index` (below `shared.cores()`); `seed` feeds its jitter.
    pub fn new(settings: Arc<Settings>, shared: Arc<Shared>, index: usize, seed: u64) -> Self {
        assert!(index < shared.cores(), "core {index} of {}", shared.cores());
        let wheels = settings.providers.iter().map(|p| KeyWheel::new(&p.keys)).collect();
        Core { settings, shared, index, rng: Random::new(seed), wheels }
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

    /// The slot of `model` at `provider`. See [`Shared::slot`].
    pub fn slot(&self, provider: ProviderId, model: &[u8]) -> SlotId {
        self.shared.slot(&self.settings, provider, model)
    }
}
