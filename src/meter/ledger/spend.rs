//! What the ledger says was spent, by whatever is asked for.

use std::path::Path;

use super::book::{Key, Sums};
use super::date_of;
use super::store::{StoreError, open_to_read};

/// What spend can be grouped by.
pub const BY: [&str; 7] = ["pipeline", "step", "team", "provider", "model", "key", "day"];

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// Names of [`BY`], each at most once; other names are an error.
    pub by: Vec<&'static str>,
    /// The first day.
    pub since: u32,
    /// The last day.
    pub until: u32,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its names, in the order of the query; empty where nothing was said.
    pub names: Vec<String>,
    /// Its sums.
    pub sums: Sums,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The groups; the dearest first, and the most requests of equals.
    pub rows: Vec<Row>,
    /// All groups together.
    pub total: Sums,
    /// Exchanges of these days that were never booked, because more came than could be written.
    pub missed: u64,
}

impl Spend {
    /// The share of a row, in thousandths of all that was spent; `None` when nothing was.
    pub fn share(&self, row: &Row) -> Option<u64> {
        let all = u128::from(self.total.spent_nano_usd());
        let own = u128::from(row.sums.spent_nano_usd()) * 1000;
        // Half is rounded up. A share is at most 1000, so it fits.
        (own + all / 2).checked_div(all).map(|share| share as u64)
    }
}

/// Reads the ledger at `path`, which a gateway may be writing.
///
/// # Errors
/// See [`StoreError`].
pub fn read(path: &Path, query: &Query) -> Result<Spend, StoreError> {
    let connection = open_to_read(path)?;
    let known = |name: &&str| *name == "day" || Key::NAMES.contains(name);
    let by: Vec<&str> = query.by.iter().copied().filter(known).collect();
    let sums = Sums::NAMES.map(|name| format!("sum({name})")).join(", ");
    let names = if by.is_empty() { String::new() } else { format!("{}, ", by.join(", ")) };
    let group = if by.is_empty() { String::new() } else { format!(" GROUP BY {}", by.join(", ")) };
    let sql = format!("SELECT {names}{sums} FROM spend WHERE day BETWEEN ?1 AND ?2{group}");
    let mut statement = connection.prepare(&sql)?;
    let rows = statement.query_map([query.since, query.until], |row| {
        let mut names = Vec::with_capacity(by.len());
        for (at, name) in by.iter().enumerate() {
            names.push(if *name == "day" { date_of(row.get(at)?) } else { row.get(at)? });
        }
        let mut all = [0; Sums::NAMES.len()];
        for (at, sum) in all.iter_mut().enumerate() {
            let found: Option<i64> = row.get(by.len() + at)?;
            *sum = found.map_or(0, i64::unsigned_abs);
        }
        Ok(Row { names, sums: Sums::from_all(all) })
    })?;
    let mut rows: Vec<Row> = rows.collect::<Result<_, _>>()?;
    rows.retain(|row| row.sums != Sums::default());
    let dearness = |row: &Row| (row.sums.spent_nano_usd(), row.sums.requests);
    rows.sort_by(|a, b| dearness(b).cmp(&dearness(a)).then_with(|| a.names.cmp(&b.names)));
    let mut total = Sums::default();
    rows.iter().for_each(|row| total.add(&row.sums));
    let missed: Option<i64> = connection.query_row(
        "SELECT sum(exchanges) FROM missed WHERE day BETWEEN ?1 AND ?2",
        [query.since, query.until],
        |row| row.get(0),
    )?;
    Ok(Spend { rows, total, missed: missed.map_or(0, i64::unsigned_abs) })
}
