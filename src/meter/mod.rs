//! Usage, prices and counters: what is counted.
//!
//! The gateway hands every finished exchange over as one [`Record`], plain data that is borrowed for the call; whatever
//! wants to know of exchanges reads it from there. Here it is added to the counters of its core:
//!
//! ```text
//! Record ── CoreMeter::record (on its core) ── cells of one writer each
//!                                                   │ read by
//! GET /metrics ── Meter::families (side thread) ── sums over cores ── form::Form::write
//! ```
//!
//! Where they are wanted, the ledger, the access log and traces get a copy of it ([`outbox`]), which a side thread writes down:
//!
//! ```text
//! Record ── Outbox::push (on its core) ── ring ── Ledger::book, AccessLog::add (side thread) ── files
//!                                              └─ trace::spans::write (side thread) ── the gateway's exporter
//! ```
//!
//! What is booked goes to the [`board`] of the live page as well.
//!
//! Invariants: recording takes no lock and no memory once its series exist; a label has a bounded number of values and
//! a core a bounded number of series, whatever clients send ([`labels`]); token types are disjoint, so their sums are
//! right; what has no price is counted as such and never as free.
#![forbid(unsafe_code)]

pub mod board;
pub mod capture;
mod cells;
mod core;
mod family;
pub mod form;
pub mod labels;
pub mod ledger;
pub mod log;
pub mod native;
pub mod outbox;
pub mod price;
pub mod process;
pub mod protobuf;
mod record;
mod scrape;
#[cfg(test)]
mod scrape_tests;
mod series;
mod shapes;
pub mod text;
pub mod trace;

pub use self::core::CoreMeter;
pub use cells::{Cell, Histogram};
pub use family::{Family, Kind, Labels, Text, Value};
pub use record::{Answered, Cost, Outcome, Record, Source, Spend, Tried, WHO_MAX, Who};
pub use series::Meter;
