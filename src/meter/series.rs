//! The counters of each core, found by small keys, and what the cores share of them.
//!
//! A series is a set of cells that go together, made when its key is first met and then kept: the core finds it in a map
//! of its own, the reader in a list that is locked only to add one or to read them. So an exchange writes plain cells
//! and nothing else.
//!
//! Which cells go together follows from what has to be told apart: money and tokens by who asked ([`Asked`]), times by
//! target ([`Timed`]), attempts by their result ([`Tries`]). Times by who asked would be a thousand cells for each of them.
//!
//! Limits: [`SERIES_MAX`] series of a kind on a core, [`TIMED_MAX`] of times; what is past it is added to one series that is `other` in every
//! label, and counted. Combinations of who asked have [`COMBINATIONS_MAX`] numbers in the process.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::fast::RandomState;

use super::cells::{Cell, Histogram};
use super::labels::{Near, Recent, Table, VALUES_MAX};
use super::shapes::{DURATION, FIRST_TOKEN, OVERHEAD, PER_TOKEN, QUEUE, TOKENS};
use crate::config::defaults;
use crate::policy::{Reason, What};

/// Series of one kind on one core. 200 pipelines with 20 models each fit four times over.
pub const SERIES_MAX: usize = 16_384;
/// Series of times on one core. Each takes up to 10 KiB for its histograms, so that there are fewer of them: 40 MiB when
/// somebody asks for 200 models through 20 routes.
pub const TIMED_MAX: usize = 4_096;
/// Combinations of label values that say who asked.
pub const COMBINATIONS_MAX: usize = 4_096;
/// Labels that say who asked, at most.
pub const WHO_LABELS_MAX: usize = super::WHO_MAX;
/// Tables of label values; what a reload adds past this is `other`.
pub const DIMENSIONS_MAX: usize = 32;

/// The route.
pub const ROUTE: usize = 0;
/// Models, as asked for and as named by providers.
pub const MODEL: usize = 1;
/// Providers.
pub const PROVIDER: usize = 2;
/// Codes of the gateway's own errors.
pub const CODE: usize = 3;
/// Combinations of who asked.
pub const COMBINATION: usize = 4;
/// Series.
pub const SERIES: usize = 5;
/// The first of those that the plan names.
pub const NAMED: usize = 6;

/// Names of the dimensions that there always are, for the count of what did not fit.
pub const ALWAYS: [&str; NAMED] = ["route", "model", "provider", "reason", "combination", "series"];

/// Token types, disjoint, in the order of [`AskedCells::tokens`].
pub const TOKEN_TYPES: [&str; 5] =
    ["input_uncached", "cache_read", "cache_write", "output_text", "reasoning"];

/// What tells exchanges apart where money is counted. Numbers of label values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The route.
    pub route: u16,
    /// The model that the client named.
    pub asked: u16,
    /// Who answered.
    pub provider: u16,
    /// With which model.
    pub model: u16,
    /// What the client was given.
    pub status: u16,
    /// Combination of who asked.
    pub who: u16,
    /// [`super::Outcome`] as a number.
    pub outcome: u8,
    /// A stream was asked for.
    pub stream: bool,
}

impl Near for Asked {
    #[inline]
    fn near(&self) -> u64 {
        let words = [self.route, self.model, self.who, self.status ^ u16::from(self.outcome) << 12];
        words.into_iter().fold(0, |all, word| all << 16 | u64::from(word)) ^ u64::from(self.asked) << 24
    }
}

/// Counters of exchanges that are alike.
#[derive(Debug, Default)]
pub struct AskedCells {
    pub exchanges: Cell,
    pub tokens: [Cell; TOKEN_TYPES.len()],
    pub nano_usd: Cell,
    pub unpriced: Cell,
    pub usage_missing: Cell,
    pub client_retries: Cell,
}

/// What tells exchanges apart where time is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timed {
    pub route: u16,
    pub asked: u16,
    pub provider: u16,
    pub model: u16,
    pub stream: bool,
}

impl Near for Timed {
    #[inline]
    fn near(&self) -> u64 {
        let words = [self.route, self.asked, self.provider, self.model];
        words.into_iter().fold(u64::from(self.stream), |all, word| all << 16 | u64::from(word))
    }
}

/// Times and sizes of exchanges that are alike.
#[derive(Debug)]
pub struct TimedCells {
    pub duration: Histogram,
    pub overhead: Histogram,
    pub first_token: Histogram,
    pub per_token: Histogram,
    pub tokens_in: Histogram,
    pub tokens_out: Histogram,
    pub truncated: Cell,
}

impl Default for TimedCells {
    fn default() -> Self {
        TimedCells {
            duration: Histogram::new(&DURATION),
            overhead: Histogram::new(&OVERHEAD),
            first_token: Histogram::new(&FIRST_TOKEN),
            per_token: Histogram::new(&PER_TOKEN),
            tokens_in: Histogram::new(&TOKENS),
            tokens_out: Histogram::new(&TOKENS),
            truncated: Cell::default(),
        }
    }
}

/// What tells attempts apart. `None` is what is past the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tries {
    pub provider: u16,
    pub model: u16,
    pub how: Option<(Reason, What)>,
}

impl Near for Tries {
    #[inline]
    fn near(&self) -> u64 {
        // Of the results, whether it is an answer tells most; the rest is told by comparing.
        let answered = matches!(self.how, Some((_, What::Answered)));
        u64::from(self.provider) << 16 | u64::from(self.model) | u64::from(answered) << 32
    }
}

impl Near for u16 {
    #[inline]
    fn near(&self) -> u64 {
        u64::from(*self)
    }
}

/// Counters of attempts that are alike.
#[derive(Debug, Default)]
pub struct TriesCells {
    pub attempts: Cell,
    pub wasted_tokens: Cell,
    pub reported_nano_usd: Cell,
    pub estimated_nano_usd: Cell,
    /// The same for calls whose client left.
    pub aborted_nano_usd: Cell,
}

/// What is counted once a core.
#[derive(Debug)]
pub struct Once {
    pub queue_wait: Histogram,
    /// By dimension: exchanges whose value got no label.
    pub overflow: [Cell; DIMENSIONS_MAX],
}

impl Default for Once {
    fn default() -> Self {
        Once { queue_wait: Histogram::new(&QUEUE), overflow: std::array::from_fn(|_| Cell::default()) }
    }
}

/// Series of one kind as a reader finds them.
#[derive(Debug)]
pub struct Shelf<K, S>(Mutex<Vec<(K, Arc<S>)>>);

impl<K, S> Default for Shelf<K, S> {
    fn default() -> Self {
        Shelf(Mutex::default())
    }
}

impl<K: Copy, S> Shelf<K, S> {
    fn rows(&self) -> MutexGuard<'_, Vec<(K, Arc<S>)>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Every series there is now.
    pub fn all(&self) -> Vec<(K, Arc<S>)> {
        self.rows().clone()
    }
}

/// Series of one kind as their core finds them.
#[derive(Debug)]
pub struct Finder<K, S> {
    places: HashMap<K, u16, RandomState>,
    series: Vec<(K, Arc<S>)>,
    max: usize,
    recent: Recent,
}

impl<K, S> Finder<K, S> {
    /// One without series, for at most `max`; they are numbered with 16 bits.
    pub fn new(max: usize) -> Self {
        let max = max.min(usize::from(u16::MAX));
        Finder { places: HashMap::default(), series: Vec::new(), max, recent: Recent::default() }
    }
}

impl<K: Copy + Eq + Hash + Default + Near, S: Default> Finder<K, S> {
    /// The series of `key`; past the bound the one that is `other` in every label, and `true`.
    #[inline]
    pub fn of(&mut self, key: K, shelf: &Shelf<K, S>) -> (&S, bool) {
        let place = Recent::place(&key);
        let guess = self.recent.guess(place);
        if self.series.get(guess).is_some_and(|(own, _)| *own == key) {
            return (&self.series[guess].1, false);
        }
        if let Some(found) = self.places.get(&key) {
            self.recent.set(place, *found);
            return (&self.series[usize::from(*found)].1, false);
        }
        self.make(key, shelf)
    }

    #[cold]
    fn make(&mut self, key: K, shelf: &Shelf<K, S>) -> (&S, bool) {
        let full = self.series.len() >= self.max;
        let key = if full { K::default() } else { key };
        let place = match self.places.get(&key) {
            Some(place) => usize::from(*place),
            None => {
                let series = Arc::new(S::default());
                shelf.rows().push((key, series.clone()));
                self.places.insert(key, self.series.len() as u16);
                self.series.push((key, series));
                self.series.len() - 1
            }
        };
        (&self.series[place].1, full)
    }
}

/// The series of one core, as a reader finds them.
#[derive(Debug, Default)]
pub struct CoreSeries {
    pub asked: Shelf<Asked, AskedCells>,
    pub timed: Shelf<Timed, TimedCells>,
    pub tries: Shelf<Tries, TriesCells>,
    pub refused: Shelf<u16, Cell>,
    pub once: Once,
}

/// Which label has which value, for each label that says who asked. Whole words, which hash as one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Combination(pub [u32; WHO_LABELS_MAX]);

impl Near for Combination {
    #[inline]
    fn near(&self) -> u64 {
        // Three labels are the usual number; more are told apart by comparing.
        self.0[..4].iter().fold(0, |all, pair| all.rotate_left(21) ^ u64::from(*pair))
    }
}

impl Combination {
    /// A value of a dimension, by their numbers; never 0, since no dimension of who asked is.
    pub fn pair(dimension: usize, value: u16) -> u32 {
        (dimension as u32) << 16 | u32::from(value)
    }

    /// The dimensions with their values.
    pub fn pairs(&self) -> impl Iterator<Item = (usize, u16)> + '_ {
        self.0.iter().map(|pair| ((pair >> 16) as usize, *pair as u16))
    }
}

/// The name of a label and its values.
pub type Dimension = (Box<str>, Arc<Table<String>>);

/// What all cores of a process count. One for the life of the process, across reloads.
#[derive(Debug)]
pub struct Meter {
    /// By dimension: its name and values. [`ROUTE`] to [`SERIES`] come first.
    dimensions: Mutex<Vec<Dimension>>,
    pub(super) combinations: Table<Combination>,
    cores: Mutex<Vec<Arc<CoreSeries>>>,
}

impl Default for Meter {
    fn default() -> Self {
        let cap = |name: &str| if name == "provider" { defaults::PROVIDERS_MAX + 3 } else { VALUES_MAX };
        let dimensions = ALWAYS.map(|name| (name.into(), Arc::new(Table::of_label(cap(name)))));
        Meter {
            dimensions: Mutex::new(dimensions.into()),
            // Past the bound, and without any label.
            combinations: Table::new(vec![Combination::default(); 2], COMBINATIONS_MAX),
            cores: Mutex::default(),
        }
    }
}

impl Meter {
    fn lock(&self) -> MutexGuard<'_, Vec<Dimension>> {
        // Nothing that can panic runs while it is held.
        self.dimensions.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Every dimension with its values.
    pub(super) fn dimensions(&self) -> Vec<Dimension> {
        self.lock().clone()
    }

    /// The dimension that is called `name`, made when it is new; `None` when there are too many.
    pub(super) fn dimension(&self, name: &str) -> Option<(usize, Arc<Table<String>>)> {
        let mut all = self.lock();
        if let Some(at) = all.iter().skip(NAMED).position(|(own, _)| **own == *name) {
            return Some((at + NAMED, all[at + NAMED].1.clone()));
        }
        if all.len() >= DIMENSIONS_MAX {
            return None;
        }
        let table = Arc::new(Table::of_label(VALUES_MAX));
        all.push((name.into(), table.clone()));
        Some((all.len() - 1, table))
    }

    /// The table of a dimension that there always is.
    pub(super) fn always(&self, at: usize) -> Arc<Table<String>> {
        self.lock()[at].1.clone()
    }

    /// Adds a core.
    pub(super) fn enrol(&self) -> Arc<CoreSeries> {
        let series = Arc::new(CoreSeries::default());
        self.cores.lock().unwrap_or_else(|e| e.into_inner()).push(series.clone());
        series
    }

    /// The series of every core.
    pub(super) fn cores(&self) -> Vec<Arc<CoreSeries>> {
        self.cores.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }
}
