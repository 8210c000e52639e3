//! Money that survives a restart: what was spent, by day and by who, kept in one file.
//!
//! ```text
//! Entry ── Ledger::book (memory) ── Ledger::commit, about once a second ── Store (SQLite) ── spend::read, any process
//! ```
//!
//! An exchange is booked where its answer came from; when nobody answered, at the last provider that was tried. An
//! attempt that did not become the answer is booked at its own provider, as a lost attempt with what it used up.
//!
//! Invariants: the sums that a commit wrote are forgotten in memory only when the commit succeeded, and a commit is one
//! transaction, so nothing is counted twice; a crash loses what was booked since the last commit. A day has a bounded
//! number of rows: what comes after [`ROWS_PER_DAY`] is booked on `other`.
//!
//! Days are those of UTC. Leaves out: when to commit, and the clock: the caller's.

mod book;
pub mod spend;
mod store;

pub use book::{Key, Ledger, OTHER, ROWS_PER_DAY, Sums};
pub use store::{Store, StoreError};

/// The day of seconds since 1970, counted from 1970-01-01.
pub fn day_of(unix_s: u64) -> u32 {
    u32::try_from(unix_s / 86_400).unwrap_or(u32::MAX)
}

/// The date of a day, `2026-10-21`.
pub fn date_of(day: u32) -> String {
    let mut text = Vec::with_capacity(20);
    crate::dialect::date::push_rfc3339(&mut text, u64::from(day) * 86_400);
    text.truncate(10);
    String::from_utf8_lossy(&text).into_owned()
}

/// The day of a date, `2026-10-21`.
pub fn day_from(date: &str) -> Option<u32> {
    let midnight = crate::dialect::date::parse_rfc3339(&format!("{date}T00:00:00Z"))?;
    u64::try_from(midnight).ok().map(day_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_dates_and_dates_are_days() {
        assert_eq!((day_of(86_399), day_of(86_400), date_of(0).as_str()), (0, 1, "1970-01-01"));
        for day in [0, 59, 20_781, 40_000] {
            assert_eq!(day_from(&date_of(day)), Some(day));
        }
        for text in ["", "2026", "2026-13-01", "yesterday", "2026-10-21T00:00:00Z"] {
            assert_eq!(day_from(text), None, "{text}");
        }
    }
}
