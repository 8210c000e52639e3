//! The part of the ledger that is in memory: sums that are not written yet.

use std::collections::HashMap;

use super::day_of;
use super::store::{Store, StoreError};
use crate::meter::outbox::{Entry, beginning, is_ok};
use crate::meter::record::{Answered, Cost};

/// What stands for all names that there was no room for.
pub const OTHER: &str = "other";

/// Rows of one day. Fifty pipelines of ten steps on four models fit twice; 400 full days are about 300 MB.
pub const ROWS_PER_DAY: usize = 4_096;
/// Rows that a full day has left for providers, models and keys, whose who is then `other`.
const ROWS_BESIDE: usize = 512;
/// Longest name in a row, bytes.
const NAME_MAX: usize = 128;
/// Between the names of a row's id; no name holds it.
const SEPARATOR: char = '\u{1f}';

/// What a row is of. An empty name was not said, or there was none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The UTC day, from 1970-01-01.
    pub day: u32,
    /// Pipeline, step, team, provider, model and key name.
    pub names: [String; Key::NAMES.len()],
}

impl Key {
    /// What the names are, in order; also the columns of the file.
    pub const NAMES: [&'static str; 6] = ["pipeline", "step", "team", "provider", "model", "key"];
}

/// What is added up. All counts only ever grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Exchanges.
    pub requests: u64,
    /// Exchanges whose client did not get a whole good answer, for whatever reason.
    pub failures: u64,
    /// Prompt tokens neither read from nor written to a cache.
    pub input: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache.
    pub cache_write: u64,
    /// Tokens produced, reasoning included.
    pub output: u64,
    /// Part of `output` spent on reasoning.
    pub reasoning: u64,
    /// What the answers cost, nano-dollars.
    pub nano_usd: u64,
    /// Exchanges whose tokens are known and have no price.
    pub unpriced: u64,
    /// Exchanges whose answer should have reported tokens and did not.
    pub unreported: u64,
    /// Attempts that did not become the answer.
    pub lost_attempts: u64,
    /// Tokens that providers reported for them.
    pub lost_tokens: u64,
    /// What these cost, nano-dollars.
    pub lost_nano_usd: u64,
    /// What the prompts of the others cost if they were billed, nano-dollars. An estimate, in no other sum.
    pub lost_estimated_nano_usd: u64,
}

impl Sums {
    /// The names of the sums, in order; also the columns of the file.
    pub const NAMES: [&'static str; 14] = [
        "requests",
        "failures",
        "input",
        "cache_read",
        "cache_write",
        "output",
        "reasoning",
        "nano_usd",
        "unpriced",
        "unreported",
        "lost_attempts",
        "lost_tokens",
        "lost_nano_usd",
        "lost_estimated_nano_usd",
    ];

    /// The sums in the order of their names.
    pub fn all(&self) -> [u64; Sums::NAMES.len()] {
        [
            self.requests,
            self.failures,
            self.input,
            self.cache_read,
            self.cache_write,
            self.output,
            self.reasoning,
            self.nano_usd,
            self.unpriced,
            self.unreported,
            self.lost_attempts,
            self.lost_tokens,
            self.lost_nano_usd,
            self.lost_estimated_nano_usd,
        ]
    }

    /// Sums from values in the order of their names.
    pub fn from_all(all: [u64; Sums::NAMES.len()]) -> Sums {
        let [
            requests,
            failures,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            nano_usd,
            unpriced,
            unreported,
            lost_attempts,
            lost_tokens,
            lost_nano_usd,
            lost_estimated_nano_usd,
        ] = all;
        Sums {
            requests,
            failures,
            input,
            cache_read,
            cache_write,
            output,
            reasoning,
            nano_usd,
            unpriced,
            unreported,
            lost_attempts,
            lost_tokens,
            lost_nano_usd,
            lost_estimated_nano_usd,
        }
    }

    /// Adds `other`.
    pub fn add(&mut self, other: &Sums) {
        let (mut all, other) = (self.all(), other.all());
        all.iter_mut().zip(other).for_each(|(own, more)| *own = own.saturating_add(more));
        *self = Sums::from_all(all);
    }

    /// What was paid for, as providers reported it: answers and lost attempts, nano-dollars.
    pub fn spent_nano_usd(&self) -> u64 {
        self.nano_usd.saturating_add(self.lost_nano_usd)
    }

    fn of_answer(entry: &Entry<'_>) -> Sums {
        let usage = entry.usage.unwrap_or_default();
        Sums {
            requests: 1,
            failures: u64::from(!is_ok(entry.outcome)),
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            output: usage.output,
            reasoning: usage.reasoning,
            nano_usd: if let Cost::Priced(nano_usd) = entry.cost { nano_usd } else { 0 },
            unpriced: u64::from(entry.cost == Cost::Unpriced),
            unreported: u64::from(entry.usage_missing),
            ..Sums::default()
        }
    }
}

/// A row that is known: what of it is not written yet.
struct Row {
    key: Key,
    unwritten: Sums,
}

/// Sums on their way to a file.
#[derive(Default)]
pub struct Ledger {
    /// By [`Ledger::id`]. Rows of the last day booked on stay when they are written, so that their number is known.
    rows: HashMap<String, Row, foldhash::fast::RandomState>,
    /// Rows known of the days in `rows`.
    counts: HashMap<u32, usize>,
    /// Exchanges that never came here, by day.
    missed: HashMap<u32, u64>,
    /// The id that is looked up; kept for its memory.
    id: String,
}

impl Ledger {
    /// A ledger that goes on where `store` stopped today.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn resume(store: &Store, today: u32) -> Result<Ledger, StoreError> {
        let mut ledger = Ledger::default();
        for key in store.keys(today)? {
            let names = key.names.each_ref().map(String::as_str);
            write_id(&mut ledger.id, today, &names);
            ledger.insert(key);
        }
        Ok(ledger)
    }

    /// Books one exchange that ended at `unix_s`.
    pub fn book(&mut self, entry: &Entry<'_>, unix_s: u64) {
        let day = day_of(unix_s);
        let by = entry.answered.or_else(|| entry.attempts.last().map(|last| last.target));
        self.add(day, entry, by, &Sums::of_answer(entry));
        for attempt in &entry.attempts {
            let lost = Sums {
                lost_attempts: u64::from(!attempt.answers),
                lost_tokens: attempt.spend.tokens,
                lost_nano_usd: attempt.spend.reported_nano_usd,
                lost_estimated_nano_usd: attempt.spend.estimated_nano_usd,
                ..Sums::default()
            };
            if lost != Sums::default() {
                self.add(day, entry, Some(attempt.target), &lost);
            }
        }
    }

    /// Notes exchanges that were dropped on the way here.
    pub fn miss(&mut self, exchanges: u64, unix_s: u64) {
        if exchanges > 0 {
            *self.missed.entry(day_of(unix_s)).or_default() += exchanges;
        }
    }

    /// Whether something is not written yet.
    pub fn is_dirty(&self) -> bool {
        !self.missed.is_empty() || self.rows.values().any(|row| row.unwritten != Sums::default())
    }

    /// Writes what is not written yet, all or nothing.
    ///
    /// # Errors
    /// The file could not be written; nothing is lost, and the next commit tries again.
    pub fn commit(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let rows = self.rows.values().filter(|row| row.unwritten != Sums::default());
        store.add(rows.map(|row| (&row.key, &row.unwritten)), self.missed.iter().map(|(d, n)| (*d, *n)))?;
        self.missed.clear();
        let last = self.counts.keys().copied().max().unwrap_or_default();
        self.counts.retain(|day, _| *day == last);
        self.rows.retain(|_, row| {
            row.unwritten = Sums::default();
            row.key.day == last
        });
        Ok(())
    }

    fn add(&mut self, day: u32, entry: &Entry<'_>, by: Option<Answered<'_>>, sums: &Sums) {
        let (provider, model, key) =
            by.map_or(("", "", ""), |by| (by.provider, by.model, by.key.unwrap_or_default()));
        let (pipeline, step, team) = (entry.who("pipeline"), entry.who("step"), entry.who("team"));
        for (names, limit) in [
            ([pipeline, step, team, provider, model, key], ROWS_PER_DAY),
            ([OTHER, OTHER, OTHER, provider, model, key], ROWS_PER_DAY + ROWS_BESIDE),
            ([OTHER; Key::NAMES.len()], usize::MAX),
        ] {
            write_id(&mut self.id, day, &names);
            if let Some(row) = self.rows.get_mut(&self.id) {
                row.unwritten.add(sums);
                return;
            }
            if self.counts.get(&day).copied().unwrap_or_default() < limit {
                let key = Key { day, names: names.map(|name| cut(name).collect()) };
                self.insert(key).unwritten.add(sums);
                return;
            }
        }
    }

    /// A new row under the id that was looked up last.
    fn insert(&mut self, key: Key) -> &mut Row {
        *self.counts.entry(key.day).or_default() += 1;
        self.rows.entry(self.id.clone()).or_insert(Row { key, unwritten: Sums::default() })
    }
}

/// Characters of a name as they are kept: bounded, and nothing that moves a cursor.
fn cut(name: &str) -> impl Iterator<Item = char> {
    beginning(name, NAME_MAX).chars().map(|c| if c.is_control() { '?' } else { c })
}

fn write_id(id: &mut String, day: u32, names: &[&str]) {
    id.clear();
    // The day as one character would do; digits are read more easily in a debugger.
    let mut digits = day;
    while digits > 0 {
        id.push(char::from(b'0' + (digits % 10) as u8));
        digits /= 10;
    }
    for name in names {
        id.push(SEPARATOR);
        // Nearly every name is kept as it is: copied whole rather than character by character.
        if name.len() <= NAME_MAX && name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            id.push_str(name);
        } else {
            id.extend(cut(name));
        }
    }
}

#[cfg(test)]
mod tests;
