//! The small integers that policy works on.
//!
//! Names are resolved once, when a plan is compiled; nothing on the path of a request compares strings.

/// Index of a provider in the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ProviderId(pub u16);

/// Index of a key within its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct KeyId(pub u16);

/// One (provider, model) pair: what breakers, cooldowns and latency estimates are kept for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SlotId(pub u16);

/// Index of a route's policy in [`super::Settings::routes`]; 0 is the default policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct RouteId(pub u16);

/// Index of a configured static answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct StaticId(pub u16);
