//! Game days: providers that misbehave, a gateway between, clients that do not know, and a verdict.
//!
//! What: [`scenarios`] are data: what each provider does wrong, what the clients send, and the bars that the run must
//! meet. [`run`] plays them over real sockets and returns a [`Report`], as a table and as JSON.
//!
//! Why: resilience that was never rehearsed is a hope. Every bar here is a sentence that a user was promised.
//!
//! Invariants:
//! - Load is open loop: requests leave when they are due, whatever became of the ones before, and latency is counted
//!   from the moment a request was due. A gateway that stalls cannot hide it.
//! - What providers were asked is counted by the providers, what clients got by the clients. The gateway is asked
//!   nothing about itself.
//! - A bar that could not be measured is missed.
//!
//! Limits: one machine, loopback, HTTP/1.1 without TLS between the parts.
//!
//! Left out: packet loss (`tc netem`), restarts of the gateway, and scenarios with virtual time, which are `policy`'s.

mod bars;
mod catalog;
mod config;
mod load;
mod measured;
mod run;
mod scenario;
mod stage;
mod story;
mod verdict;
mod watch;

pub use bars::Check;
pub use catalog::scenarios;
pub use load::{Api, Load, Outcome, Sample};
pub use run::{Options, RunningGateway, Setup, Starter, chosen, list, run, setup};
pub use scenario::{Bar, ProviderPlan, Scenario, Wish};
pub use story::{Story, story};
pub use verdict::{Figures, Report, Verdict};
pub use watch::{Progress, Silent, Terminal, Watch};
