//! Usage, prices and counters: what is counted.

pub mod price;
