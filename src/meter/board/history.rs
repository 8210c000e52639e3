//! How the last hour and the last day went, by provider and by pipeline.
//!
//! Two spans of [`STEPS`] steps: 5 s for an hour, 2 min for a day. A step holds a cell for each name that had something
//! in it and nothing for the others, so quiet times cost nothing. Times are kept as counts in buckets that grow by a
//! factor of 1.35, from 10 ms to 110 s; a percentile read from them is off by at most that, and by 10 % as a rule.
//!
//! Limits: [`NAMES_MAX`] names a side are told apart; more are added up as `other`. A name that had nothing for a day
//! gives its place up. At the limit, with every name in every step, both spans hold 8 MB.
//!
//! What counts: for a pipeline its exchanges and those that got no good answer; for a provider the calls to it and those
//! that failed by anyone's fault. Money is what providers reported, that of failed calls included.

use std::collections::VecDeque;

use serde::Serialize;

use crate::meter::outbox::{Entry, is_ok};
use crate::meter::record::Cost;

/// Steps of each span.
pub const STEPS: u64 = 720;
/// Names that are told apart on each side, with `other`.
pub const NAMES_MAX: usize = 17;

/// What counts as lately, seconds.
const RECENT_S: u64 = 300;
const OTHER: u8 = 0;
const BUCKETS: usize = 32;
/// The upper end of the first bucket, microseconds.
const FIRST_US: f64 = 10_000.0;
const GROWTH: f64 = 1.35;
/// After this long without a word a name's place may be another's, seconds.
const FORGOTTEN_S: u64 = 86_400;

/// How far back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Steps of 5 s.
    Hour,
    /// Steps of 2 min.
    Day,
}

impl Span {
    /// The length of a step, seconds.
    pub fn step_s(self) -> u64 {
        match self {
            Span::Hour => 5,
            Span::Day => 120,
        }
    }
}

/// One name in one step.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    requests: u32,
    errors: u32,
    nano_usd: u64,
    first: [u16; BUCKETS],
    whole: [u16; BUCKETS],
}

/// Which side a name is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Provider,
    Pipeline,
}

#[derive(Debug)]
struct Step {
    number: u64,
    cells: Vec<(Side, u8, Cell)>,
}

impl Step {
    fn cell(&mut self, side: Side, name: u8) -> &mut Cell {
        let at = self.cells.iter().position(|(s, n, _)| (*s, *n) == (side, name));
        let at = at.unwrap_or_else(|| {
            // By a few: doubling would hold twice the limit that is promised.
            if self.cells.len() == self.cells.capacity() {
                self.cells.reserve_exact(4);
            }
            self.cells.push((side, name, Cell::default()));
            self.cells.len() - 1
        });
        &mut self.cells[at].2
    }
}

/// The names of one side; the first is `other`.
#[derive(Debug)]
struct Names(Vec<(Box<str>, u64)>);

impl Default for Names {
    fn default() -> Self {
        Names(vec![("other".into(), u64::MAX)])
    }
}

impl Names {
    fn number(&mut self, name: &str, unix_s: u64) -> u8 {
        if let Some(at) = self.0.iter().position(|(own, _)| **own == *name) {
            if at > 0 {
                self.0[at].1 = unix_s;
            }
            return at as u8;
        }
        if self.0.len() < NAMES_MAX {
            self.0.push((name.into(), unix_s));
            return (self.0.len() - 1) as u8;
        }
        // Its steps are gone with the day that it was silent.
        match self.0.iter().position(|(_, last)| last.saturating_add(FORGOTTEN_S + 240) < unix_s) {
            Some(at) => {
                self.0[at] = (name.into(), unix_s);
                at as u8
            }
            None => OTHER,
        }
    }
}

#[derive(Default)]
pub(super) struct History {
    hour: VecDeque<Step>,
    day: VecDeque<Step>,
    providers: Names,
    pipelines: Names,
}

/// Columns of one name, one number a step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Columns {
    /// The provider or the pipeline; empty for requests that named none.
    pub name: String,
    /// Exchanges, or calls.
    pub requests: Vec<u32>,
    /// Those without a good answer.
    pub errors: Vec<u32>,
    /// Dollars.
    pub cost_usd: Vec<f64>,
    /// Median time to the first content of streams, milliseconds; `null` without streams.
    pub first_token_p50_ms: Vec<Option<f64>>,
    /// Its 95th percentile.
    pub first_token_p95_ms: Vec<Option<f64>>,
    /// Median time to a whole answer of other requests, milliseconds.
    pub answer_p50_ms: Vec<Option<f64>>,
    /// Its 95th percentile.
    pub answer_p95_ms: Vec<Option<f64>>,
}

/// What a time came to, over all pipelines.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Its length, seconds.
    pub seconds: u64,
    /// Exchanges.
    pub requests: u64,
    /// Those without a good answer.
    pub errors: u64,
    /// Dollars.
    pub cost_usd: f64,
    /// Median time to the first content of streams, milliseconds; `null` without streams.
    pub first_token_p50_ms: Option<f64>,
    /// Its 95th percentile.
    pub first_token_p95_ms: Option<f64>,
    /// Median time to a whole answer of other requests, milliseconds.
    pub answer_p50_ms: Option<f64>,
    /// Its 95th percentile.
    pub answer_p95_ms: Option<f64>,
}

/// A span as columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Histories {
    /// Length of a step, seconds.
    pub step_s: u64,
    /// When the first step began, Unix time.
    pub start_unix_s: u64,
    /// How many there are; the last one is still going on.
    pub steps: u64,
    /// The last five minutes, whatever the span.
    pub recent: Totals,
    /// The whole span.
    pub total: Totals,
    /// By provider.
    pub providers: Vec<Columns>,
    /// By pipeline.
    pub pipelines: Vec<Columns>,
}

impl History {
    pub(super) fn add(&mut self, entry: &Entry<'_>, unix_s: u64) {
        let pipeline = self.pipelines.number(entry.who("pipeline"), unix_s);
        let by = entry.answered.map(|by| by.provider);
        let answer = match entry.cost {
            Cost::Priced(nano_usd) => nano_usd,
            Cost::Unknown | Cost::Unpriced => 0,
        };
        let lost: u64 = entry.attempts.iter().map(|attempt| attempt.spend.reported_nano_usd).sum();
        let failed = !is_ok(entry.outcome) && entry.outcome != "aborted";
        let whole = (is_ok(entry.outcome) && !entry.stream).then_some(entry.duration_us);
        for (span, steps) in [(Span::Hour, &mut self.hour), (Span::Day, &mut self.day)] {
            let Some(step) = step_at(steps, unix_s / span.step_s()) else { continue };
            let cell = step.cell(Side::Pipeline, pipeline);
            cell.requests = cell.requests.saturating_add(1);
            cell.errors = cell.errors.saturating_add(u32::from(failed));
            cell.nano_usd = cell.nano_usd.saturating_add(answer + lost);
            time(&mut cell.first, entry.first_token_us);
            time(&mut cell.whole, whole);
            for attempt in &entry.attempts {
                let provider = self.providers.number(attempt.target.provider, unix_s);
                let cell = step.cell(Side::Provider, provider);
                cell.requests = cell.requests.saturating_add(1);
                cell.errors = cell.errors.saturating_add(u32::from(!attempt.fault.is_empty()));
                cell.nano_usd = cell.nano_usd.saturating_add(attempt.spend.reported_nano_usd);
                if attempt.answers && by == Some(attempt.target.provider) {
                    cell.nano_usd = cell.nano_usd.saturating_add(answer);
                    time(&mut cell.first, entry.first_token_us);
                    time(&mut cell.whole, whole.map(|_| attempt.elapsed_us));
                }
            }
        }
    }

    pub(super) fn view(&self, span: Span, since_unix_s: u64, now_unix_s: u64) -> Histories {
        let steps = match span {
            Span::Hour => &self.hour,
            Span::Day => &self.day,
        };
        let now = now_unix_s / span.step_s();
        let oldest = (now + 1).saturating_sub(STEPS).max(since_unix_s.div_ceil(span.step_s()));
        // Steps before anything happened say nothing.
        let first = steps.iter().map(|step| step.number).find(|number| *number >= oldest);
        let start = first.unwrap_or(now).min(now).max(oldest);
        let count = (now + 1).saturating_sub(start);
        let side = |side: Side, names: &Names| {
            (0..names.0.len() as u8)
                .filter_map(|name| columns(steps, side, name, names, start, count))
                .collect()
        };
        Histories {
            step_s: span.step_s(),
            start_unix_s: start * span.step_s(),
            steps: count,
            recent: totals(&self.hour, (now_unix_s / 5 + 1).saturating_sub(RECENT_S / 5), RECENT_S),
            total: totals(steps, (now + 1).saturating_sub(STEPS), STEPS * span.step_s()),
            providers: side(Side::Provider, &self.providers),
            pipelines: side(Side::Pipeline, &self.pipelines),
        }
    }
}

/// The step with this number, made when it is new; `None` when it is older than all that are kept.
fn step_at(steps: &mut VecDeque<Step>, number: u64) -> Option<&mut Step> {
    let newest = steps.back().map_or(0, |step| step.number);
    if steps.is_empty() || number > newest {
        while steps.front().is_some_and(|step| step.number + STEPS <= number) {
            steps.pop_front();
        }
        steps.push_back(Step { number, cells: Vec::with_capacity(4) });
        return steps.back_mut();
    }
    // Cores hand over in turns, so an exchange may be a little older than the newest one.
    if number + STEPS <= newest {
        return None;
    }
    let at = steps.iter().rposition(|step| step.number <= number);
    if at.is_none_or(|at| steps[at].number < number) {
        steps.insert(at.map_or(0, |at| at + 1), Step { number, cells: Vec::with_capacity(4) });
    }
    steps.iter_mut().rev().find(|step| step.number == number)
}

fn time(buckets: &mut [u16; BUCKETS], us: Option<u64>) {
    let Some(us) = us else { return };
    let at = ((us as f64 / FIRST_US).ln() / GROWTH.ln()).ceil().clamp(0.0, (BUCKETS - 1) as f64) as usize;
    buckets[at] = buckets[at].saturating_add(1);
}

/// The time below which `share` of the counted ones are, milliseconds.
fn percentile<N: Copy + Into<u64>>(buckets: &[N; BUCKETS], share: f64) -> Option<f64> {
    let buckets = buckets.map(|count| count.into() as f64);
    let all: f64 = buckets.iter().sum();
    let mut below = 0.0;
    for (at, count) in buckets.into_iter().enumerate().filter(|(_, count)| *count > 0.0) {
        if below + count >= all * share {
            let inside = (all * share - below) / count;
            let ms = FIRST_US / 1e3 * GROWTH.powf(at as f64 - 1.0 + inside);
            return Some((ms * 10.0).round() / 10.0);
        }
        below += count;
    }
    None
}

/// What the steps from number `from` on came to.
fn totals(steps: &VecDeque<Step>, from: u64, seconds: u64) -> Totals {
    let mut all = Totals { seconds, ..Totals::default() };
    let (mut first, mut whole) = ([0u64; BUCKETS], [0u64; BUCKETS]);
    let mut nano_usd = 0u64;
    let cells = steps.iter().filter(|step| step.number >= from).flat_map(|step| &step.cells);
    for (_, _, cell) in cells.filter(|(side, ..)| *side == Side::Pipeline) {
        all.requests += u64::from(cell.requests);
        all.errors += u64::from(cell.errors);
        nano_usd = nano_usd.saturating_add(cell.nano_usd);
        first.iter_mut().zip(cell.first).for_each(|(sum, count)| *sum += u64::from(count));
        whole.iter_mut().zip(cell.whole).for_each(|(sum, count)| *sum += u64::from(count));
    }
    all.cost_usd = nano_usd as f64 / 1e9;
    [all.first_token_p50_ms, all.first_token_p95_ms] = [0.5, 0.95].map(|share| percentile(&first, share));
    [all.answer_p50_ms, all.answer_p95_ms] = [0.5, 0.95].map(|share| percentile(&whole, share));
    all
}

fn columns(
    steps: &VecDeque<Step>,
    side: Side,
    name: u8,
    names: &Names,
    start: u64,
    count: u64,
) -> Option<Columns> {
    let length = count as usize;
    let mut all = Columns {
        name: names.0.get(usize::from(name))?.0.to_string(),
        requests: vec![0; length],
        errors: vec![0; length],
        cost_usd: vec![0.0; length],
        first_token_p50_ms: vec![None; length],
        first_token_p95_ms: vec![None; length],
        answer_p50_ms: vec![None; length],
        answer_p95_ms: vec![None; length],
    };
    let mut any = false;
    for step in steps.iter().filter(|step| step.number >= start && step.number < start + count) {
        let Some((.., cell)) = step.cells.iter().find(|(s, n, _)| (*s, *n) == (side, name)) else { continue };
        let at = (step.number - start) as usize;
        any = true;
        all.requests[at] = cell.requests;
        all.errors[at] = cell.errors;
        all.cost_usd[at] = cell.nano_usd as f64 / 1e9;
        all.first_token_p50_ms[at] = percentile(&cell.first, 0.5);
        all.first_token_p95_ms[at] = percentile(&cell.first, 0.95);
        all.answer_p50_ms[at] = percentile(&cell.whole, 0.5);
        all.answer_p95_ms[at] = percentile(&cell.whole, 0.95);
    }
    any.then_some(all)
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
