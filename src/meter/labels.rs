//! Label values as small integers, and a bound on how many there are.
//!
//! Prevents: a metrics page that grows with every build, until the gateway or the Prometheus behind it runs out of
//! memory. Values come from headers and from the models that clients name, so anyone can invent them. The first
//! [`VALUES_MAX`] of a label are told apart, for the life of the process; later ones are `other`, and counted. What
//! cannot be a value (too long, or with characters that no name has) is `invalid`.
//!
//! All cores use the same numbers. A [`Table`] is shared and locked only when a core meets a value for the first time;
//! each core has a [`Lookup`] of what it has met. Once a table is full and a core has seen all of it, an unknown value
//! costs that core one failed look-up: no lock, no memory.
//!
//! Left out: forgetting values that are not used any more. A counter that goes away and comes back loses its sum.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use foldhash::fast::RandomState;

/// Values of one label, with `other`, `invalid` and the empty one.
pub const VALUES_MAX: usize = 200;
/// Longest value of a label, bytes.
pub const VALUE_BYTES_MAX: usize = 64;
/// Longest model name as a label, bytes: some carry their maker's name, a date and a size.
pub const MODEL_BYTES_MAX: usize = 128;

/// The value for everything that is past the bound.
pub const OTHER: u16 = 0;
/// The empty value: nothing was said.
pub const EMPTY: u16 = 1;

/// Numbered values, shared by all cores. Numbers are never reused.
#[derive(Debug)]
pub struct Table<K> {
    known: Mutex<Vec<K>>,
    len: AtomicUsize,
    cap: usize,
}

impl Table<String> {
    /// The values of one label, at most `cap`.
    pub fn of_label(cap: usize) -> Self {
        Table::new(vec!["other".to_owned(), String::new(), INVALID.to_owned()], cap)
    }
}

impl<K: Clone> Table<K> {
    /// A table that begins with these values and takes `cap` in all.
    pub fn new(known: Vec<K>, cap: usize) -> Self {
        let len = AtomicUsize::new(known.len());
        Table { known: Mutex::new(known), len, cap }
    }

    fn known(&self) -> MutexGuard<'_, Vec<K>> {
        // Nothing that can panic runs while it is held.
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// All values, by number.
    pub fn values(&self) -> Vec<K> {
        self.known().clone()
    }
}

/// What is looked up often: told apart at a glance before it is hashed.
pub trait Near {
    /// A number that differs for most values that differ; cheap, and no more than a hint.
    fn near(&self) -> u64;
}

impl Near for str {
    #[inline]
    fn near(&self) -> u64 {
        // Names of a kind begin alike and end differently.
        let bytes = self.as_bytes();
        let end = match bytes.last_chunk::<8>() {
            Some(end) => u64::from_ne_bytes(*end),
            None => bytes.iter().fold(0, |all, byte| all << 8 | u64::from(*byte)),
        };
        end ^ (bytes.len() as u64) << 56
    }
}

/// Places of [`Recent`].
const PLACES: usize = 64;

/// Where what was looked up lately stands: one guess for each value, which the caller has to check. Comparing with what
/// is guessed is cheaper than hashing (`benches/meter.rs`).
#[derive(Debug)]
pub struct Recent([u16; PLACES]);

impl Default for Recent {
    fn default() -> Self {
        Recent([0; PLACES])
    }
}

impl Recent {
    /// The place in which a value's number would stand.
    #[inline]
    pub fn place<Q: Near + ?Sized>(value: &Q) -> usize {
        // The upper bits of a product depend on every bit below them. The constant is the golden ratio's.
        (value.near().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - PLACES.ilog2())) as usize
    }

    /// The number at a place.
    #[inline]
    pub fn guess(&self, place: usize) -> usize {
        usize::from(self.0[place % PLACES])
    }

    /// Puts a number at a place.
    #[inline]
    pub fn set(&mut self, place: usize, number: u16) {
        self.0[place % PLACES] = number;
    }
}

/// What one core has met of a [`Table`].
#[derive(Debug)]
pub struct Lookup<K> {
    numbers: HashMap<K, u16, RandomState>,
    /// What this core has met, by number.
    seen: Vec<K>,
    recent: Recent,
}

impl<K> Default for Lookup<K> {
    fn default() -> Self {
        Lookup { numbers: HashMap::default(), seen: Vec::new(), recent: Recent::default() }
    }
}

impl<K: Hash + Eq + Clone> Lookup<K> {
    /// The number of `value` if this core has met it.
    #[inline]
    pub fn met<Q>(&mut self, value: &Q) -> Option<u16>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + Near + ?Sized,
    {
        let place = Recent::place(value);
        let guess = self.recent.guess(place);
        if let Some(seen) = self.seen.get(guess)
            && seen.borrow() == value
        {
            return Some(guess as u16);
        }
        let number = *self.numbers.get(value)?;
        self.recent.set(place, number);
        Some(number)
    }

    /// The number of `value`, which gets one when there is room. `None` when there is none left.
    #[inline]
    pub fn number<Q>(&mut self, table: &Table<K>, value: &Q) -> Option<u16>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + Near + ToOwned<Owned = K> + ?Sized,
    {
        self.met(value).or_else(|| self.unmet(table, value))
    }

    /// The number of a value that this core has not met, as [`number`](Self::number) gives it.
    #[inline]
    pub fn unmet<Q>(&mut self, table: &Table<K>, value: &Q) -> Option<u16>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + Near + ToOwned<Owned = K> + ?Sized,
    {
        if self.seen.len() >= table.cap { None } else { self.meet(table, value, true) }
    }

    /// The number of `value` if it has one.
    #[inline]
    pub fn known<Q>(&mut self, table: &Table<K>, value: &Q) -> Option<u16>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + Near + ToOwned<Owned = K> + ?Sized,
    {
        match self.met(value) {
            Some(number) => Some(number),
            None if self.seen.len() >= table.len.load(Ordering::Acquire) => None,
            None => self.meet(table, value, false),
        }
    }

    #[cold]
    fn meet<Q>(&mut self, table: &Table<K>, value: &Q, add: bool) -> Option<u16>
    where
        K: Borrow<Q>,
        Q: Hash + Eq + ToOwned<Owned = K> + ?Sized,
    {
        let mut known = table.known();
        for number in self.seen.len()..known.len() {
            self.came(known[number].clone());
        }
        if let Some(number) = self.numbers.get(value) {
            return Some(*number);
        }
        if !add || known.len() >= table.cap {
            return None;
        }
        known.push(value.to_owned());
        table.len.store(known.len(), Ordering::Release);
        Some(self.came(value.to_owned()))
    }

    /// Takes in the value that has the next number.
    fn came(&mut self, value: K) -> u16 {
        // Tables are bounded far below.
        let number = self.seen.len() as u16;
        // The first of several that are alike in every byte has the number: the first two combinations are.
        self.numbers.entry(value.clone()).or_insert(number);
        self.seen.push(value);
        number
    }
}

/// The value for what cannot be one.
pub const INVALID: &str = "invalid";

/// Bytes that names have.
static FINE: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric()
            || matches!(byte as u8, b'_' | b'.' | b':' | b'/' | b'-' | b'+' | b'@' | b' ');
        byte += 1;
    }
    table
};

/// `value` as it may stand in a label: itself, or `invalid`.
pub fn fit(value: &str, longest: usize) -> &str {
    let fine = |byte: u8| FINE[usize::from(byte)];
    if value.len() <= longest && value.bytes().all(fine) { value } else { INVALID }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_that_fits_is_told_apart_and_the_next_is_not() {
        let table = Table::of_label(VALUES_MAX);
        let mut core = Lookup::default();
        for n in 3..VALUES_MAX {
            assert_eq!(core.number(&table, format!("p{n}").as_str()), Some(n as u16));
        }
        assert_eq!(core.number(&table, "one more"), None);
        assert_eq!(core.number(&table, "p7"), Some(7));
        assert_eq!(table.values().len(), VALUES_MAX);
    }

    #[test]
    fn two_cores_use_the_same_numbers_also_when_one_is_late() {
        let table = Table::of_label(6);
        let (mut one, mut two) = (Lookup::default(), Lookup::default());
        assert_eq!(one.number(&table, "a"), Some(3));
        assert_eq!(two.number(&table, "b"), Some(4));
        assert_eq!(one.number(&table, "b"), Some(4));
        assert_eq!(two.known(&table, "c"), None, "a look alone takes no place");
        assert_eq!(two.number(&table, "c"), Some(5));
        assert_eq!(one.number(&table, "d"), None);
        assert_eq!(one.number(&table, "c"), Some(5), "met although the table was full already");
        assert_eq!((one.number(&table, ""), one.number(&table, "other")), (Some(EMPTY), Some(OTHER)));
    }

    #[test]
    fn what_no_name_looks_like_is_invalid() {
        for (value, expected) in [
            ("nightly-eval", "nightly-eval"),
            ("team/a_b.c:1", "team/a_b.c:1"),
            ("", ""),
            ("a\"b", "invalid"),
            ("a\nb", "invalid"),
            ("ä", "invalid"),
        ] {
            assert_eq!(fit(value, VALUE_BYTES_MAX), expected, "{value:?}");
        }
        assert_eq!(fit(&"x".repeat(64), 64).len(), 64);
        assert_eq!(fit(&"x".repeat(65), 64), "invalid");
    }
}
