//! The small integers that policy works on.
//!
//! Names are resolved once, when a plan is compiled; nothing on the path of a request compares strings.

pub use crate::config::{KeyId, ProviderId, StaticId};

/// One (provider, model) pair: what breakers, cooldowns and latency estimates are kept for.
///
/// Given out by [`super::Core::slot`] while serving, for configured models and for names only clients know; not the
/// plan's own slot number, which a reload renumbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SlotId(pub u16);

/// Index of a route's policy in [`super::Settings::policies`]; 0 is the default policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PolicyId(pub u16);
