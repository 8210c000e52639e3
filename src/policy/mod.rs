//! Every decision, as pure functions of their inputs and a clock that is passed in.
//!
//! The gateway asks, policy answers: which target and key, how long to wait for it, whether to try again, when to
//! stop. No socket, no clock, no environment, no heap on the path of a request. Time is microseconds on the
//! gateway's monotonic clock; randomness comes from a seeded generator; so a simulator can run hours of outages in
//! milliseconds and repeat any of them.
//!
//! One exchange:
//! ```text
//! Flight::begin(core, chain, ask)
//!   -> next()  Attempt  -> make the call ............... settle(no, outcome) -> next() ...
//!              Wait     -> sleep until then, watch the client -> next()
//!              Static   -> give the configured answer
//!              GiveUp   -> answer with the most useful failure
//! ```
//!
//! State lives in three places: [`Flight`] is one exchange's (plain data), [`Core`] is one core's (generator, key
//! wheels), [`Shared`] is the process's (atomic cells; no locks).
#![forbid(unsafe_code)]

mod admit;
mod attempts;
pub mod balance;
pub mod breaker;
mod breaker_terms;
pub mod budget;
pub mod bulkhead;
mod call;
mod chain;
pub mod checks;
mod compile;
pub mod cooldown;
pub mod deadline;
pub mod downstream;
pub mod estimate;
mod fault;
mod flight;
mod give_up;
pub mod hedge;
pub mod idempotency;
mod ids;
mod keys;
pub mod latency;
mod money;
pub mod price;
mod queue;
mod random;
pub mod settings;
mod settle;
pub mod shared;
pub mod simulate;
mod state;
pub mod step;
mod strain;
pub(crate) mod sync;
mod times;
mod window;

pub use attempts::{AttemptRecord, Attempts, Cause, GiveUp, Reason, Skip, SkipReason, Skips};
pub use call::{Ask, Attempt, Step, WaitReason};
pub use chain::{Chain, TargetRef, Walked};
pub use compile::{
    chain_of, empty_chain, idempotency_settings, keys_for, policy_of, step_settings, target_of, unpriced,
};
pub use fault::{ErrorKind, Failure, Fault, Outcome, Signal, Success, TimeoutKind, What, attribute};
pub use flight::Flight;
pub use ids::{KeyId, PolicyId, ProviderId, SlotId, StaticId};
pub use random::Random;
pub use settings::{
    KeySettings, ProviderSettings, RetrySettings, RoutePolicy, RouteTimeouts, Settings, Timeouts,
};
pub use settle::Settled;
pub use shared::Shared;
pub use state::{Core, Counters};

#[cfg(test)]
#[cfg(not(loom))]
mod flight_tests;
