//! How things stand now, as one line of JSON: what runs, each target with why it is where it is, each provider.

use std::collections::BTreeSet;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::Plan;
use crate::meter::Cell;
use crate::net::clock;
use crate::policy::breaker::{BreakerView, Phase, Trip};
use crate::policy::{KeyId, ProviderId, SlotId};

use super::super::live::Live;
use super::super::stats::Stats;
use super::super::underway::Seen;
use super::super::worker::Message;
use super::hub::Facts;

/// Exchanges of one core that are listed, oldest first.
const LISTED_MAX: usize = 50;
/// Finished exchanges in one snapshot; a page that misses some asks for them.
const NEW_MAX: usize = 40;
/// How long the cores may take to say what runs. They answer between two turns, at once.
const LOOK: Duration = Duration::from_millis(200);

/// The state. With `shown`, the exchanges after that number are in it.
pub fn json(facts: &Facts, live: &Live, shown: Option<u64>) -> Vec<u8> {
    let now_us = clock::now_us();
    let sum = |cell: fn(&Stats) -> &Cell| facts.stats.iter().map(|stats| cell(stats).get()).sum::<u64>();
    let (last, missed) = {
        let board = facts.board();
        (board.last(), board.missed())
    };
    let mut state = json!({
        "v": 1,
        "unix_ms": clock::unix_us() / 1_000,
        "gateway": {
            "version": env!("CARGO_PKG_VERSION"),
            "driver": facts.driver,
            "workers": facts.stats.len(),
            "started_unix_s": facts.started_unix_s,
            "plan": live.generation,
            "plan_loaded_unix_s": live.loaded_unix_s,
            "connections": sum(|s| &s.open),
            "mock": live.plan.mock.is_some(),
        },
        "counts": {
            "received": sum(|s| &s.requests),
            "exchanges": last,
            "missed": missed,
            "aborted": sum(|s| &s.cancelled),
            "panics": sum(|s| &s.panics),
        },
        "running": running(facts, &live.plan, sum(|s| &s.streams), now_us),
        "targets": targets(facts, live, now_us),
        "providers": providers(live, now_us),
        "gameday": facts.gamedays.summary(),
    });
    state["exchanges_last"] = last.into();
    let mut out = state.to_string().into_bytes();
    if let Some(shown) = shown {
        out.pop();
        out.extend_from_slice(b",\"exchanges\":");
        facts.board().exchanges(shown, NEW_MAX, &mut out);
        out.push(b'}');
    }
    out
}

fn running(facts: &Facts, plan: &Plan, streams: u64, now_us: u64) -> Value {
    let cores = facts.cores.get().map_or(&[][..], |cores| cores);
    let (to, seen) = mpsc::channel();
    for core in cores {
        core.send(Message::Look { most: LISTED_MAX, to: to.clone() });
    }
    drop(to);
    let by = Instant::now() + LOOK;
    let mut all: Vec<Seen> = Vec::new();
    let mut count = 0;
    for _ in cores {
        let Ok((some, of)) = seen.recv_timeout(by.saturating_duration_since(Instant::now())) else { break };
        all.extend(some);
        count += of;
    }
    all.sort_by_key(|seen| seen.started_us);
    all.truncate(LISTED_MAX);
    let age_ms = |us: u64| now_us.saturating_sub(us) / 1_000;
    let listed = all.iter().map(|seen| {
        let provider = seen.provider.and_then(|at| plan.providers.get(usize::from(at)));
        json!({
            "asked": seen.asked,
            "pipeline": seen.pipeline,
            "provider": provider.map(|provider| &*provider.name),
            "model": seen.model,
            "stream": seen.stream,
            "attempts": seen.attempts,
            "phase": seen.phase.label(),
            "phase_ms": age_ms(seen.phase_us),
            "age_ms": age_ms(seen.started_us),
        })
    });
    json!({ "count": count, "streams": streams, "listed": listed.collect::<Vec<_>>() })
}

/// Every target that was called or that the file names.
fn targets(facts: &Facts, live: &Live, now_us: u64) -> Vec<Value> {
    let plan = &live.plan;
    let called: BTreeSet<(String, String)> = facts.meter.targets().into_iter().collect();
    let named = plan.slots.iter().filter_map(|slot| {
        Some((plan.provider(slot.provider).name.to_string(), slot.model.as_deref()?.to_owned()))
    });
    let all: BTreeSet<(String, String)> = called.iter().cloned().chain(named).collect();
    let board = facts.board();
    let mut found = Vec::with_capacity(all.len());
    for target in &all {
        let (provider, model) = target;
        let Some(index) = plan.providers.iter().position(|own| *own.name == **provider) else { continue };
        if !called.contains(target) {
            found.push(json!({
                "provider": provider, "model": model, "called": false, "state": "unused",
                "words": "Not called yet.",
            }));
            continue;
        }
        let slot = live.shared.slot(&live.settings, ProviderId(index as u16), model.as_bytes());
        let Some(breaker) = live.shared.breaker(slot, now_us) else { continue };
        let keys = keys(live, ProviderId(index as u16), slot, now_us);
        let failures: Vec<_> = board.failures(provider, model).collect();
        let (state, words) = standing(&breaker, &keys, now_us);
        let median = |(p50, p95): (Option<u64>, Option<u64>)| {
            let ms = |us: Option<u64>| us.map(|us| us as f64 / 1e3);
            json!({ "p50": ms(p50), "p95": ms(p95) })
        };
        found.push(json!({
            "provider": provider,
            "model": model,
            "called": true,
            "state": state,
            "words": words,
            "breaker": {
                "phase": breaker.phase.label(),
                "left_ms": match breaker.phase {
                    Phase::Open | Phase::HalfOpen => breaker.at_us.saturating_sub(now_us) / 1_000,
                    Phase::Closed | Phase::Ramping => 0,
                },
                "openings": Trip::ALL.iter().zip(breaker.opened)
                    .map(|(trip, n)| (trip.label().to_owned(), n.into()))
                    .collect::<serde_json::Map<String, Value>>(),
                "calls_10s": breaker.tally.calls,
                "failures_10s": breaker.tally.failures,
            },
            "keys": keys.iter().map(|key| json!({
                "name": key.name, "cooling_ms": key.cooling_ms, "parked": key.parked,
            })).collect::<Vec<_>>(),
            "first_token_ms": median(live.shared.first_token(slot)),
            "answer_ms": median(live.shared.whole_answer(slot)),
            "failures": failures,
        }));
    }
    found
}

/// How a key stands with one model.
struct KeyState<'p> {
    name: &'p str,
    cooling_ms: u64,
    parked: bool,
}

fn keys(live: &Live, provider: ProviderId, slot: SlotId, now_us: u64) -> Vec<KeyState<'_>> {
    let keys = live.plan.providers.get(usize::from(provider.0)).map_or(&[][..], |own| &own.keys);
    let each = (0u16..).zip(keys).map(|(at, key)| {
        let until_us = live.shared.key_until(slot, KeyId(at), now_us).unwrap_or(now_us);
        KeyState {
            name: &key.name,
            cooling_ms: until_us.saturating_sub(now_us).div_ceil(1_000),
            parked: live.shared.parked_until(provider, KeyId(at), now_us).is_some(),
        }
    });
    each.collect()
}

/// A word for how a target stands, and a sentence that says what the gateway does about it.
fn standing(breaker: &BreakerView, keys: &[KeyState<'_>], now_us: u64) -> (&'static str, String) {
    let left = |until_us: u64| seconds(until_us.saturating_sub(now_us) / 1_000);
    let free = keys.iter().filter(|key| key.cooling_ms == 0).count();
    match breaker.phase {
        Phase::Open if breaker.at_us <= now_us => {
            ("probing", "Its breaker is open; the next request goes through as a probe.".to_owned())
        }
        Phase::Open => (
            "open",
            format!(
                "Gets no calls: its breaker is open for {} more, then one request goes through as a probe.",
                left(breaker.at_us)
            ),
        ),
        Phase::HalfOpen => {
            ("probing", "One request is out as a probe; the others go elsewhere until it is back.".to_owned())
        }
        Phase::Ramping => {
            ("ramping", "The probe came back well; it gets a growing share of calls for 10 s.".to_owned())
        }
        Phase::Closed if !keys.is_empty() && free == 0 => {
            let soonest = keys.iter().map(|key| key.cooling_ms).min().unwrap_or_default();
            ("resting", format!("Gets no calls: every key rests, the first for {} more.", seconds(soonest)))
        }
        Phase::Closed if free < keys.len() => {
            let rest: Vec<String> = keys
                .iter()
                .filter(|key| key.cooling_ms > 0)
                .map(|key| {
                    let why = if key.parked { "is parked" } else { "rests" };
                    format!("{} {why} for {} more", key.name, seconds(key.cooling_ms))
                })
                .collect();
            ("limited", format!("Gets calls with {free} of {} keys: {}.", keys.len(), rest.join(", ")))
        }
        Phase::Closed => {
            let tally = breaker.tally;
            let words = match (tally.calls, tally.failures) {
                (0, _) => "Gets calls; there was none in the last 10 s.".to_owned(),
                (calls, 0) => format!("Gets calls; all {calls} of the last 10 s were good."),
                (calls, failed) => format!("Gets calls; {failed} of {calls} in the last 10 s failed."),
            };
            ("well", words)
        }
    }
}

fn seconds(ms: u64) -> String {
    match ms {
        0..10_000 => format!("{}.{} s", ms / 1_000, ms / 100 % 10),
        10_000..120_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms.div_ceil(60_000)),
    }
}

fn providers(live: &Live, now_us: u64) -> Vec<Value> {
    let each = live.plan.providers.iter().enumerate().map(|(index, provider)| {
        let id = ProviderId(index as u16);
        let budget = live.shared.budget(&live.settings, id, now_us);
        let places = live.shared.bulkhead(id);
        json!({
            "name": provider.name,
            "calls": places.taken,
            "waiting": places.waiting,
            "calls_max": provider.bulkhead.concurrent,
            "connections": live.upstreams.get(index).map(|upstream| upstream.seats.open()),
            "retry_budget": {
                "left": budget.left_milli as f64 / 1e3,
                "granted": budget.granted,
                "refused": budget.refused,
            },
        })
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::breaker::Breaker;

    const NOW: u64 = 100_000_000;

    fn view(phase: Phase, at_us: u64) -> BreakerView {
        BreakerView { phase, at_us, ..Breaker::new(1).view(NOW) }
    }

    fn key(cooling_ms: u64, parked: bool) -> KeyState<'static> {
        KeyState { name: "main", cooling_ms, parked }
    }

    #[test]
    fn a_target_says_in_plain_words_how_it_stands() {
        for (breaker, keys, state, words) in [
            (view(Phase::Closed, 0), vec![], "well", "there was none"),
            (view(Phase::Open, NOW + 12_300_000), vec![], "open", "open for 12 s more"),
            (view(Phase::Open, NOW), vec![], "probing", "next request"),
            (view(Phase::HalfOpen, NOW + 1), vec![], "probing", "One request is out"),
            (view(Phase::Ramping, NOW), vec![], "ramping", "growing share"),
            (view(Phase::Closed, 0), vec![key(4_250, false)], "resting", "the first for 4.2 s"),
            (
                view(Phase::Closed, 0),
                vec![key(0, false), key(600_000, true)],
                "limited",
                "main is parked for 10 min",
            ),
            (view(Phase::Closed, 0), vec![key(0, false)], "well", "Gets calls"),
        ] {
            let (own, said) = standing(&breaker, &keys, NOW);
            assert!(own == state && said.contains(words), "{own}: {said}");
        }
    }
}
