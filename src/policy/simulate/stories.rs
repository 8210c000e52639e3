//! Two stories that users tell, with and without Sluice side by side: a queue that stalls, and a bill that grows.
//!
//! Without Sluice is a client as it comes out of the box; with Sluice is the same client, and the engine between.

mod brownout_bill;
mod stalled_queue;

use std::sync::Arc;

use super::super::settings::{ProviderSettings, SECOND_US, Settings};
use super::super::{Chain, Core, PolicyId, ProviderId, Shared, TargetRef};

pub use brownout_bill::{BROWN_FOR_MIN, BROWN_FROM_MIN, BillPoint, BillStory, bill};
pub use stalled_queue::{QueuePoint, QueueStory, SLOW_FOR_S, SLOW_FROM_S, queue};

const S: u64 = SECOND_US;

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
