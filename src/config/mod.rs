//! The config file, read, checked and compiled to a plan.
//!
//! One YAML or JSON file, kept in git. It goes through `load` (bytes to a located tree), `infer` and
//! `overrides` (what the environment and `--set` add), `env` (`env.NAME` to values), `schema` (tree to typed
//! rows) and `compile`, `provider`, `names` (rows to the immutable [`Plan`]). Every step reports into the
//! same list of findings, so one run shows them all.
//!
//! Invariants: a plan is complete and consistent, so nothing that serves requests has to check it again; no
//! secret is in any finding, `Debug` output or explanation; loading never panics.
//!
//! Left out: watching the file. `gateway` decides when to load again.

#![forbid(unsafe_code)]

mod admin;
mod beginnings;
mod blocks;
mod books;
mod bounds;
mod capture;
mod catalog;
mod chains;
mod checks;
mod compile;
pub mod defaults;
mod diagnostics;
mod dialect;
mod env;
mod explain;
mod fallbacks;
mod fights;
mod infer;
mod known;
mod load;
mod mechanisms;
mod names;
mod observe;
mod origins;
mod overrides;
mod places;
mod plan;
mod provider;
mod reader;
mod schema;
mod secret;
mod statics;
mod traces;
mod tree;
mod values;

pub use admin::{AdminConfig, TOKEN_MIN};
pub use books::{AccessLogConfig, LedgerConfig, LogRotate, LogTo};
pub use bounds::{Limits, Retry, Timeouts};
pub use capture::CaptureConfig;
pub use catalog::{Catalog, Chain, Offered, TargetRef, UnknownModel, UnknownReason};
pub use checks::Check;
pub use compile::parse_listen;
pub use diagnostics::{ConfigError, Diagnostic, Severity};
pub use dialect::Dialect;
pub use env::Env;
pub use explain::{Explanation, Line, ListPrice, Listed, TargetWords, explain};
pub use known::MOCK;
pub use load::Loader;
pub use mechanisms::{
    Balance, Breaker, Bulkhead, Cooldown, Facts, Hedge, Idempotency, ModelPrice, PriceExtras, RetryBudget,
    RouteDefaults, RouteTimeouts, StaticAnswer, StaticId, StepBudget,
};
pub use observe::{DIMS_MAX, METRICS_PATH, Who, WhoHeader, WhoLabel};
pub use places::Places;
pub use plan::{
    ClientKey, DriverChoice, Key, KeyId, Origin, Plan, PlanSource, Provider, ProviderId, Route, RouteId,
    Scheme, Slot, SlotId, Target,
};
pub use secret::Secret;
pub use traces::{TracesConfig, TracesProtocol};
pub use values::{parse_duration_ms, show_bytes, show_ms};
