//! One payment for one answer.
//!
//! Prevents: paying twice when a client times out and asks again. The first call is still being generated, or is done
//! and was never delivered; without this the provider generates, and bills, the same answer once more. Callers that
//! send an `Idempotency-Key` get: the running call, while it runs (join); its answer, once it is there (replay); an
//! error when the key comes with another body (conflict). When the client leaves, the call is finished and its answer
//! kept for the retry.
//!
//! A key belongs to its caller: two callers with the same key do not meet. A failed call frees its key at once, so that
//! the retry is a real one.
//!
//! Sans-IO: the table knows ids. The gateway keeps the bytes and the waiters under the [`EntryId`], and drops the bytes of
//! the ids that [`Table::evicted`] hands back. One table serves a process: requests that carry the header are few, so
//! the owner may keep it behind whatever it likes.
//!
//! Limits: as many entries as given, each for at most as long as given; when full, the oldest finished answer goes, and when
//! none is finished, new keys are let through without protection. It allocates, per request with the header only.
//!
//! Reference: the IETF draft "The Idempotency-Key HTTP Header Field" (409 for running, 422 for another body; joining
//! is better than 409 for a call that takes a minute); Stripe's API.

use std::collections::{HashMap, VecDeque};

use super::settings::SECOND_US;
use super::shared::identity_of;
use crate::config::defaults;

/// A running call is taken for lost so much after the total limit of an exchange.
pub(crate) const RUNNING_MORE_US: u64 = 60 * SECOND_US;

/// How much is kept, for how long. The defaults and their reasons stand in [`crate::config::defaults`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencySettings {
    /// Keys at a time.
    pub entries_max: usize,
    /// A finished answer is kept this long, microseconds.
    pub keep_us: u64,
    /// A call that has not reported for this long is taken for lost. Just above the total limit of an exchange.
    pub running_max_us: u64,
}

impl Default for IdempotencySettings {
    fn default() -> Self {
        IdempotencySettings {
            entries_max: defaults::IDEMPOTENCY_ENTRIES as usize,
            keep_us: defaults::IDEMPOTENCY_KEEP_MS * 1000,
            running_max_us: defaults::TOTAL_MS * 1000 + RUNNING_MORE_US,
        }
    }
}

/// What the gateway keeps bytes and waiters under. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId(pub u64);

/// Who asks for what: the caller and the header's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallKey(u64, u64);

impl CallKey {
    /// The key `value` of `caller` (the credential it presented; empty when there is none).
    pub fn new(caller: &[u8], value: &[u8]) -> Self {
        // Two independent 64-bit hashes: a chance collision would hand one caller's answer to another.
        let split = |seed| identity_of(identity_of(seed, caller), value);
        CallKey(split(0x243F_6A88_85A3_08D3), split(0x1319_8A2E_0370_7344))
    }
}

/// What to do with a request that carries a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Make the call, and report it under this id.
    New(EntryId),
    /// The same call is running: wait for its answer.
    Join(EntryId),
    /// The same call was answered: give that answer.
    Replay(EntryId),
    /// The key was used with another body: 422.
    Conflict,
    /// No room: make the call without protection.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    id: EntryId,
    fingerprint: u64,
    done: bool,
    /// Running: when it is taken for lost. Done: when it is dropped.
    until_us: u64,
}

/// The keys of the process.
#[derive(Debug)]
pub struct Table {
    settings: IdempotencySettings,
    entries: HashMap<CallKey, Entry>,
    keys: HashMap<EntryId, CallKey>,
    /// By time of becoming so; entries that changed since are skipped.
    running: VecDeque<EntryId>,
    finished: VecDeque<EntryId>,
    evicted: Vec<EntryId>,
    next: u64,
}

impl Table {
    /// An empty table.
    pub fn new(settings: IdempotencySettings) -> Self {
        Table {
            settings,
            entries: HashMap::new(),
            keys: HashMap::new(),
            running: VecDeque::new(),
            finished: VecDeque::new(),
            evicted: Vec::new(),
            next: 0,
        }
    }

    /// Judges a request with this key and this fingerprint of its body.
    pub fn claim(&mut self, key: CallKey, fingerprint: u64, now_us: u64) -> Claim {
        self.expire(now_us);
        if let Some(entry) = self.entries.get(&key) {
            return match (entry.fingerprint == fingerprint, entry.done) {
                (false, _) => Claim::Conflict,
                (true, false) => Claim::Join(entry.id),
                (true, true) => Claim::Replay(entry.id),
            };
        }
        if self.entries.len() >= self.settings.entries_max && !self.drop_oldest_answer() {
            return Claim::Full;
        }
        let id = EntryId(self.next);
        self.next += 1;
        let until_us = now_us.saturating_add(self.settings.running_max_us);
        self.entries.insert(key, Entry { id, fingerprint, done: false, until_us });
        self.keys.insert(id, key);
        self.running.push_back(id);
        Claim::New(id)
    }

    /// The call was answered, and the answer is kept under this id. False when the entry is gone: keep nothing.
    pub fn finish(&mut self, id: EntryId, now_us: u64) -> bool {
        let until_us = now_us.saturating_add(self.settings.keep_us);
        let Some(entry) = self.keys.get(&id).and_then(|key| self.entries.get_mut(key)) else { return false };
        if !entry.done {
            (entry.done, entry.until_us) = (true, until_us);
            self.finished.push_back(id);
        }
        true
    }

    /// The call failed: the key is free again. Those who joined get the failure from the gateway.
    pub fn fail(&mut self, id: EntryId) {
        self.remove(id);
    }

    /// Ids that were dropped since this was last asked: drop their bytes.
    pub fn evicted(&mut self) -> std::vec::Drain<'_, EntryId> {
        self.evicted.drain(..)
    }

    /// Keys in the table.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without any.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Drops what is over its time. Cheap; also done by every claim.
    pub fn expire(&mut self, now_us: u64) {
        for done in [false, true] {
            while let Some(&id) = self.queue(done).front() {
                match self.entry(id) {
                    Some(entry) if entry.done == done && entry.until_us > now_us => break,
                    Some(entry) if entry.done == done => {
                        self.remove(id);
                        self.evicted.push(id);
                    }
                    _ => {}
                }
                self.queue(done).pop_front();
            }
        }
    }

    fn drop_oldest_answer(&mut self) -> bool {
        while let Some(id) = self.finished.pop_front() {
            if self.remove(id) {
                self.evicted.push(id);
                return true;
            }
        }
        false
    }

    fn entry(&self, id: EntryId) -> Option<&Entry> {
        self.entries.get(self.keys.get(&id)?)
    }

    fn queue(&mut self, done: bool) -> &mut VecDeque<EntryId> {
        if done { &mut self.finished } else { &mut self.running }
    }

    fn remove(&mut self, id: EntryId) -> bool {
        self.keys.remove(&id).is_some_and(|key| self.entries.remove(&key).is_some())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SET: IdempotencySettings =
        IdempotencySettings { entries_max: 3, keep_us: 100, running_max_us: 1000 };

    fn key(name: u8) -> CallKey {
        CallKey::new(b"caller", &[name])
    }

    #[test]
    fn a_retry_joins_the_running_call_and_then_gets_its_answer() {
        let mut t = Table::new(SET);
        let Claim::New(id) = t.claim(key(1), 7, 0) else { panic!() };
        assert_eq!(t.claim(key(1), 7, 1), Claim::Join(id));
        assert!(t.finish(id, 2));
        assert_eq!(t.claim(key(1), 7, 3), Claim::Replay(id));
        assert_eq!(t.claim(key(1), 7, 101), Claim::Replay(id));
        assert!(matches!(t.claim(key(1), 7, 102), Claim::New(new) if new != id));
        assert_eq!(t.evicted().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn the_same_key_with_another_body_is_a_conflict_and_another_caller_is_not() {
        let mut t = Table::new(SET);
        assert!(matches!(t.claim(key(1), 7, 0), Claim::New(_)));
        assert_eq!(t.claim(key(1), 8, 0), Claim::Conflict);
        assert!(matches!(t.claim(CallKey::new(b"other", &[1]), 8, 0), Claim::New(_)));
        assert_ne!(CallKey::new(b"ab", b"c"), CallKey::new(b"a", b"bc"));
    }

    #[test]
    fn a_failed_call_frees_its_key() {
        let mut t = Table::new(SET);
        assert!(t.is_empty());
        let Claim::New(id) = t.claim(key(1), 7, 0) else { panic!() };
        assert!(!t.is_empty());
        t.fail(id);
        assert!(t.is_empty());
        assert!(!t.finish(id, 1));
        assert!(matches!(t.claim(key(1), 8, 1), Claim::New(_)));
    }

    #[test]
    fn a_full_table_drops_the_oldest_answer_and_never_a_running_call() {
        let mut t = Table::new(SET);
        let ids: Vec<EntryId> = (1..=3)
            .map(|n| match t.claim(key(n), 0, 0) {
                Claim::New(id) => id,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(t.claim(key(4), 0, 1), Claim::Full);
        t.finish(ids[2], 1);
        t.finish(ids[0], 2);
        assert!(matches!(t.claim(key(4), 0, 3), Claim::New(_)));
        assert_eq!(t.evicted().collect::<Vec<_>>(), [ids[2]]);
        assert_eq!(t.claim(key(1), 0, 3), Claim::Replay(ids[0]));
        assert_eq!(t.claim(key(2), 0, 3), Claim::Join(ids[1]));
    }

    #[test]
    fn a_call_that_never_reports_is_taken_for_lost() {
        let mut t = Table::new(SET);
        let Claim::New(id) = t.claim(key(1), 7, 0) else { panic!() };
        assert_eq!(t.claim(key(1), 7, 999), Claim::Join(id));
        assert!(matches!(t.claim(key(1), 7, 1000), Claim::New(_)));
        assert!(!t.finish(id, 1001));
    }

    proptest! {
        #[test]
        fn it_stays_bounded_and_agrees_with_a_plain_list(
            steps in prop::collection::vec((0u8..4, 0u8..6, 0u64..2, 0u64..150), 1..300),
        ) {
            let mut t = Table::new(SET);
            // key, fingerprint, id, done, until
            let mut list: Vec<(u8, u64, EntryId, bool, u64)> = Vec::new();
            let mut now = 0;
            for (action, name, print, gap) in steps {
                now += gap;
                list.retain(|e| e.4 > now);
                let at = list.iter().position(|e| e.0 == name);
                match (action, at) {
                    (0 | 1, Some(i)) => {
                        let (_, own, id, done, _) = list[i];
                        let expected = if own != print { Claim::Conflict } else if done { Claim::Replay(id) } else { Claim::Join(id) };
                        prop_assert_eq!(t.claim(key(name), print, now), expected);
                    }
                    (0 | 1, None) => match t.claim(key(name), print, now) {
                        Claim::New(id) => {
                            if list.len() == SET.entries_max {
                                let oldest = list.iter().enumerate().filter(|(_, e)| e.3).min_by_key(|(_, e)| e.4).map(|(i, _)| i);
                                prop_assert!(oldest.is_some());
                                let gone: Vec<EntryId> = t.evicted().collect();
                                list.retain(|e| !gone.contains(&e.2));
                            }
                            list.push((name, print, id, false, now + SET.running_max_us));
                        }
                        Claim::Full => prop_assert!(list.len() == SET.entries_max && list.iter().all(|e| !e.3)),
                        other => prop_assert!(false, "{other:?}"),
                    },
                    (2, Some(i)) => {
                        t.expire(now);
                        prop_assert!(t.finish(list[i].2, now));
                        if !list[i].3 { list[i].3 = true; list[i].4 = now + SET.keep_us; }
                    }
                    (_, Some(i)) => { t.fail(list[i].2); list.remove(i); }
                    _ => {}
                }
                t.expire(now);
                t.evicted();
                prop_assert_eq!(t.len(), list.len());
                prop_assert!(t.len() <= SET.entries_max);
            }
        }
    }
}
