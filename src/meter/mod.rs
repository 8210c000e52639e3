//! Usage, prices and counters: what is counted.
