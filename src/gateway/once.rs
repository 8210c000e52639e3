//! One payment for one answer: requests that carry an `Idempotency-Key`.
//!
//! The first request with a key makes the call, and goes on with it when its client leaves; its answer is kept. The same
//! request again waits for that answer while the call runs, and is given it once it is there, with
//! `idempotent-replayed: true`. The same key with another body is refused with 422. A call that fails frees its key at
//! once, and the next in line makes a real one.
//!
//! Kept answers live in memory, in this process, up to `idempotency.bytes` in all; the oldest go first. Waiting looks
//! every [`POLL_US`]: waiters may be on other cores, and a call that is worth joining takes seconds.
//!
//! Left out: endpoints that are passed through unread (`/v1/*` of no known API); a key means nothing there.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::dialect::Api;
use crate::dialect::error::{ErrorKind, GatewayError};
use crate::meter::Source;
use crate::net::{Buf, clock};
use crate::policy::idempotency::{CallKey, Claim, EntryId, IdempotencySettings, Table};

use super::account::Told;
use super::client::{After, Client};
use super::inbound::Inbound;
use super::respond;

/// How often a waiter looks for the answer.
const POLL_US: u64 = 10_000;
/// Longest key.
const KEY_MAX: usize = 255;

/// An answer as it was given.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Complete field lines, without those that frame the body.
    pub fields: Vec<u8>,
    /// The body; of a stream, all of its events.
    pub body: Vec<u8>,
}

/// The keys and kept answers of the process. A lock guards them: requests that carry a key are few.
pub struct Keeper {
    settings: IdempotencySettings,
    bytes_max: u64,
    seed: RandomState,
    state: Mutex<State>,
}

struct State {
    table: Table,
    answers: HashMap<EntryId, Arc<Answer>>,
    order: VecDeque<EntryId>,
    bytes: u64,
}

impl State {
    fn drop_answer(&mut self, id: EntryId) {
        if let Some(answer) = self.answers.remove(&id) {
            self.bytes -= size(&answer);
        }
    }

    fn drop_evicted(&mut self) {
        let evicted: Vec<EntryId> = self.table.evicted().collect();
        for id in evicted {
            self.drop_answer(id);
        }
    }
}

fn size(answer: &Answer) -> u64 {
    (answer.fields.len() + answer.body.len()) as u64
}

impl Keeper {
    /// Nothing kept yet.
    pub fn new(settings: IdempotencySettings, bytes_max: u64) -> Keeper {
        let table = Table::new(settings);
        let state = State { table, answers: HashMap::new(), order: VecDeque::new(), bytes: 0 };
        Keeper { settings, bytes_max, seed: RandomState::new(), state: Mutex::new(state) }
    }

    /// Whether it was made with these settings.
    pub fn is_for(&self, settings: IdempotencySettings, bytes_max: u64) -> bool {
        self.settings == settings && self.bytes_max == bytes_max
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn fingerprint(&self, path: &[u8], body: &[u8]) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write(path);
        hasher.write_usize(path.len());
        hasher.write(body);
        hasher.finish()
    }

    fn claim(&self, key: CallKey, fingerprint: u64) -> (Claim, Option<Arc<Answer>>) {
        let mut state = self.state();
        let claim = state.table.claim(key, fingerprint, clock::now_us());
        state.drop_evicted();
        let answer = match claim {
            Claim::Replay(id) => state.answers.get(&id).cloned(),
            _ => None,
        };
        (claim, answer)
    }

    fn finish(&self, id: EntryId, answer: Answer) {
        let mut state = self.state();
        let bytes = size(&answer);
        if bytes > self.bytes_max {
            state.table.fail(id);
            return;
        }
        while state.bytes + bytes > self.bytes_max {
            let Some(oldest) = state.order.pop_front() else { break };
            state.drop_answer(oldest);
            state.table.fail(oldest);
        }
        if state.table.finish(id, clock::now_us()) {
            state.bytes += bytes;
            state.order.push_back(id);
            state.answers.insert(id, Arc::new(answer));
        }
        // Ids of answers that went by their age are still in the order; they must not pile up.
        if state.order.len() > 2 * state.answers.len() + 64 {
            let State { order, answers, .. } = &mut *state;
            order.retain(|id| answers.contains_key(id));
        }
    }

    fn fail(&self, id: EntryId) {
        self.state().table.fail(id);
    }
}

/// The call that is made for a key. Dropped without [`Keeping::finish`] it frees the key.
pub struct Keeping {
    keeper: Arc<Keeper>,
    id: EntryId,
    answer: Answer,
    finished: bool,
}

impl Keeping {
    /// The head of the answer: its status and complete field lines, without those that frame the body.
    pub fn head(&mut self, status: u16, fields: &[u8]) {
        self.answer.status = status;
        self.answer.fields.clear();
        self.answer.fields.extend_from_slice(fields);
    }

    /// The next part of the body. More than may be kept is not.
    pub fn body(&mut self, bytes: &[u8]) {
        if (self.answer.body.len() as u64) <= self.keeper.bytes_max {
            self.answer.body.extend_from_slice(bytes);
        }
    }

    /// The answer is whole.
    pub fn finish(&mut self) {
        self.finished = true;
        self.keeper.finish(self.id, std::mem::take(&mut self.answer));
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        if !self.finished {
            self.keeper.fail(self.id);
        }
    }
}

/// Sees to the request's key. `Some`: the request is answered. `None`: the call is to be made, and is kept under the
/// key when `client.keeping` says so.
pub async fn enter(client: &mut Client, inbound: &Inbound) -> Option<After> {
    let span = inbound.idempotency_key?;
    let keeper = inbound.plan.live.keeper.clone()?;
    if matches!(inbound.api, Api::Other | Api::Models) {
        return None;
    }
    let (key, fingerprint) = {
        let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
        let value = span.of(all);
        if value.is_empty() || value.len() > KEY_MAX {
            let message = format!("`Idempotency-Key` must have 1 to {KEY_MAX} bytes; a UUID does");
            let mut error = GatewayError::new(ErrorKind::InvalidRequest, message);
            error.code = "bad_idempotency_key".into();
            return Some(respond::error(client, inbound, &error, b"").await);
        }
        let caller = inbound.caller.map_or(&[][..], |span| span.of(all));
        let fingerprint =
            keeper.fingerprint(inbound.path.of(all), all.get(inbound.body()).unwrap_or_default());
        (CallKey::new(caller, value), fingerprint)
    };
    loop {
        match keeper.claim(key, fingerprint) {
            (Claim::New(id), _) => {
                let answer = Answer::default();
                client.keeping = Some(Box::new(Keeping { keeper, id, answer, finished: false }));
                return None;
            }
            (Claim::Full, _) | (Claim::Replay(_), None) => return None,
            (Claim::Replay(_), Some(answer)) => return Some(replay(client, inbound, &answer).await),
            (Claim::Conflict, _) => {
                let message =
                    "this `Idempotency-Key` was used for another request; use a new key for a new request";
                let mut error = GatewayError::new(ErrorKind::InvalidRequest, message);
                error.status = 422;
                error.code = "idempotency_key_reused".into();
                return Some(respond::error(client, inbound, &error, b"").await);
            }
            (Claim::Join(_), _) => {
                if let Some(after) = wait(client, inbound).await {
                    return Some(after);
                }
            }
        }
    }
}

/// Waits a moment for the running call; `Some` when nobody waits any more.
async fn wait(client: &mut Client, inbound: &Inbound) -> Option<After> {
    client.watch(true);
    let now_us = clock::now_us();
    if inbound.deadline_us.is_some_and(|deadline| deadline <= now_us) {
        let message = "the caller's deadline passed while the same request was still being answered";
        let mut error = GatewayError::new(ErrorKind::Timeout, message);
        error.status = 504;
        error.code = "deadline_exceeded".into();
        return Some(respond::error(client, inbound, &error, b"").await);
    }
    client.deadline.set((now_us + POLL_US).min(inbound.deadline_us.unwrap_or(u64::MAX)));
    if client.gone_before_deadline().await {
        client.core.stats.cancelled.add(1);
        return Some(After::Cut);
    }
    None
}

async fn replay(client: &mut Client, inbound: &Inbound, answer: &Answer) -> After {
    let keep = respond::keeps(client, inbound);
    let mut out = Buf::take(answer.fields.len() + answer.body.len() + 256);
    let head = out.as_vec();
    respond::status_line(head, answer.status);
    head.extend_from_slice(&answer.fields);
    respond::field(head, "idempotent-replayed", b"true");
    respond::number_field(head, "content-length", answer.body.len() as u64);
    respond::connection(head, keep, inbound.minor);
    head.extend_from_slice(b"\r\n");
    head.extend_from_slice(&answer.body);
    client.core.stats.replayed.add(1);
    client.notes.told = Told::answer(answer.status, Source::Replay);
    respond::after(client.write(out).await.is_ok(), keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keeper(bytes_max: u64) -> Arc<Keeper> {
        Arc::new(Keeper::new(IdempotencySettings::default(), bytes_max))
    }

    fn begin(keeper: &Arc<Keeper>, name: &[u8]) -> Keeping {
        let (Claim::New(id), _) = keeper.claim(CallKey::new(b"", name), 1) else { panic!("not new") };
        Keeping { keeper: keeper.clone(), id, answer: Answer::default(), finished: false }
    }

    fn keep(keeper: &Arc<Keeper>, name: &[u8], bytes: usize) {
        let mut call = begin(keeper, name);
        call.head(200, b"");
        call.body(&vec![b'x'; bytes]);
        call.finish();
    }

    fn kept(keeper: &Arc<Keeper>, name: &[u8]) -> bool {
        matches!(keeper.claim(CallKey::new(b"", name), 1), (Claim::Replay(_), Some(_)))
    }

    #[test]
    fn an_answer_is_kept_and_a_call_that_fails_frees_its_key() {
        let keeper = keeper(1000);
        keep(&keeper, b"a", 10);
        assert!(kept(&keeper, b"a"));
        let running = begin(&keeper, b"b");
        assert!(matches!(keeper.claim(CallKey::new(b"", b"b"), 1), (Claim::Join(_), None)));
        drop(running);
        assert!(matches!(keeper.claim(CallKey::new(b"", b"b"), 1), (Claim::New(_), None)));
    }

    #[test]
    fn kept_answers_never_hold_more_than_they_may() {
        let keeper = keeper(100);
        for name in 0..50u8 {
            keep(&keeper, &[name], 40);
            let state = keeper.state();
            assert!(
                state.bytes <= 100 && state.bytes == state.answers.values().map(|a| size(a)).sum::<u64>()
            );
        }
        assert!(kept(&keeper, &[49]) && kept(&keeper, &[48]) && !kept(&keeper, &[47]));
        keep(&keeper, b"large", 101);
        assert!(!kept(&keeper, b"large"), "more than all that may be kept");
        assert!(kept(&keeper, &[49]), "and nothing was thrown away for it");
    }

    #[test]
    fn another_body_is_another_request() {
        let keeper = keeper(100);
        assert_ne!(keeper.fingerprint(b"/v1/x", b"a"), keeper.fingerprint(b"/v1/x", b"b"));
        assert_ne!(keeper.fingerprint(b"/v1/x", b"a"), keeper.fingerprint(b"/v1/xa", b""));
        assert_eq!(keeper.fingerprint(b"/v1/x", b"a"), keeper.fingerprint(b"/v1/x", b"a"));
    }
}
