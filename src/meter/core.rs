//! What one core does with a finished exchange: finds its series and adds to them.

use std::sync::Arc;

use super::cells::Cell;
use super::labels::{EMPTY, Lookup, MODEL_BYTES_MAX, OTHER, Table, VALUE_BYTES_MAX, fit};
use super::record::{Answered, Cost, Outcome, Record, Tried};
use super::series::{
    self, Asked, AskedCells, COMBINATION, Combination, CoreSeries, Finder, MODEL, Meter, NAMED, PROVIDER,
    ROUTE, SERIES, SERIES_MAX, TIMED_MAX, Timed, TimedCells, Tries, TriesCells,
};
use crate::config::WhoLabel;

/// One label of the core: the shared numbers and what the core has met of them.
struct Dimension {
    at: usize,
    table: Arc<Table<String>>,
    met: Lookup<String>,
}

impl Dimension {
    fn new(at: usize, table: Arc<Table<String>>) -> Dimension {
        Dimension { at, table, met: Lookup::default() }
    }

    fn always(meter: &Meter, at: usize) -> Dimension {
        Dimension::new(at, meter.always(at))
    }

    #[inline]
    fn number(&mut self, value: &str, longest: usize, overflow: &[Cell]) -> u16 {
        if value.is_empty() {
            return EMPTY;
        }
        // What was met is fit, so only what was not has to be looked at byte by byte.
        if let Some(number) = self.met.met(value) {
            return number;
        }
        let fitting = fit(value, longest);
        let number = match std::ptr::eq(fitting, value) {
            true => self.met.unmet(&self.table, fitting),
            false => self.met.number(&self.table, fitting),
        };
        number.unwrap_or_else(|| {
            overflow[self.at].add(1);
            OTHER
        })
    }
}

/// The counters of one core. Only its core writes them.
pub struct CoreMeter {
    meter: Arc<Meter>,
    series: Arc<CoreSeries>,
    route: Dimension,
    model: Dimension,
    provider: Dimension,
    code: Dimension,
    /// The labels that plans name, by name; `None` in place of one that there is no room for.
    named: Vec<(Box<str>, Option<Dimension>)>,
    combinations: Lookup<Combination>,
    asked: Finder<Asked, AskedCells>,
    timed: Finder<Timed, TimedCells>,
    tries: Finder<Tries, TriesCells>,
    refused: Finder<u16, Cell>,
}

impl CoreMeter {
    /// The counters of one more core.
    pub fn new(meter: Arc<Meter>) -> CoreMeter {
        let always = |at| Dimension::always(&meter, at);
        CoreMeter {
            series: meter.enrol(),
            route: always(ROUTE),
            model: always(MODEL),
            provider: always(PROVIDER),
            code: always(series::CODE),
            named: Vec::new(),
            combinations: Lookup::default(),
            asked: Finder::new(SERIES_MAX),
            timed: Finder::new(TIMED_MAX),
            tries: Finder::new(SERIES_MAX),
            refused: Finder::new(SERIES_MAX),
            meter,
        }
    }

    /// Gives these models their places before clients can take them with names of their own.
    pub fn reserve_models<'a>(&mut self, models: impl Iterator<Item = &'a str>) {
        for model in models {
            self.model.number(model, MODEL_BYTES_MAX, &self.series.once.overflow);
        }
    }

    /// Counts one finished exchange. Takes no memory and no lock once everything it names has been met.
    pub fn record(&mut self, r: &Record<'_>) {
        let series = &*self.series;
        let (once, overflow) = (&series.once, &series.once.overflow);
        let who = who_of(&mut self.named, &mut self.combinations, &self.meter, r, overflow);
        let route = self.route.number(r.route, MODEL_BYTES_MAX, overflow);
        let asked = model_of(&mut self.model, r.asked, r.outcome, overflow);
        let mut target = |by: Answered<'_>| {
            let provider = self.provider.number(by.provider, MODEL_BYTES_MAX, overflow);
            (provider, model_of(&mut self.model, by.model, r.outcome, overflow))
        };
        let answered = r.answered.map(|by| (by, target(by)));
        let (provider, model) = answered.map_or((EMPTY, EMPTY), |(_, numbers)| numbers);
        let (stream, outcome) = (r.stream, r.outcome as u8);
        let key = Asked { route, asked, provider, model, status: r.status, who, outcome, stream };
        let (cells, full) = self.asked.of(key, &series.asked);
        once.overflow[SERIES].add(u64::from(full));
        count(cells, r);
        if r.queued_us > 0 {
            once.queue_wait.observe(r.queued_us);
        }
        // How long a refusal takes says nothing about answers.
        if r.outcome == Outcome::Rejected {
            let code = self.code.number(r.code, VALUE_BYTES_MAX, overflow);
            self.refused.of(code, &series.refused).0.add(1);
            return;
        }
        let (cells, full) = self.timed.of(Timed { route, asked, provider, model, stream }, &series.timed);
        once.overflow[SERIES].add(u64::from(full));
        measure(cells, r);
        for tried in r.tried {
            let (by, of) = (tried.target, answered.filter(|(by, _)| same(by, &tried.target)));
            let (provider, model) = of.map_or_else(|| target(by), |(_, numbers)| numbers);
            let key = Tries { provider, model, how: Some((tried.reason, tried.what)) };
            let (cells, full) = self.tries.of(key, &series.tries);
            once.overflow[SERIES].add(u64::from(full));
            attempt(cells, tried);
        }
    }
}

fn same(one: &Answered<'_>, other: &Answered<'_>) -> bool {
    one.provider == other.provider && one.model == other.model
}

/// The number of a model. A name that no provider knows takes no place from one that some provider does.
#[inline]
fn model_of(models: &mut Dimension, name: &str, outcome: Outcome, overflow: &[Cell]) -> u16 {
    match outcome {
        Outcome::Rejected | Outcome::ClientError => {
            models.met.known(&models.table, fit(name, MODEL_BYTES_MAX)).unwrap_or(EMPTY)
        }
        _ => models.number(name, MODEL_BYTES_MAX, overflow),
    }
}

/// The number of the combination of labels that says who asked.
#[inline]
fn who_of(
    named: &mut Vec<(Box<str>, Option<Dimension>)>,
    combinations: &mut Lookup<Combination>,
    meter: &Meter,
    r: &Record<'_>,
    overflow: &[Cell],
) -> u16 {
    let mut combination = Combination::default();
    for (label, slot) in r.labels.iter().zip(&mut combination.0) {
        let value = r.who.get(usize::from(label.at)).copied().unwrap_or_default();
        let Some(dimension) = dimension(named, meter, label) else { continue };
        *slot = Combination::pair(dimension.at, dimension.number(value, VALUE_BYTES_MAX, overflow));
    }
    if combination.0[0] == 0 {
        return EMPTY;
    }
    combinations.number(&meter.combinations, &combination).unwrap_or_else(|| {
        overflow[COMBINATION].add(1);
        OTHER
    })
}

/// The dimension of a label, made when the core first meets it.
fn dimension<'d>(
    named: &'d mut Vec<(Box<str>, Option<Dimension>)>,
    meter: &Meter,
    label: &WhoLabel,
) -> Option<&'d mut Dimension> {
    let at = match named.iter().position(|(name, _)| *name == label.name) {
        Some(at) => at,
        None => {
            let found = meter.dimension(&label.name);
            let made = found.map(|(at, table)| Dimension::new(at, table));
            named.push((label.name.clone(), made));
            named.len() - 1
        }
    };
    let found = named[at].1.as_mut();
    debug_assert!(found.as_ref().is_none_or(|dimension| dimension.at >= NAMED));
    found
}

fn count(cells: &AskedCells, r: &Record<'_>) {
    cells.exchanges.add(1);
    if let Some(usage) = r.usage {
        let text = usage.output.saturating_sub(usage.reasoning);
        let parts =
            [usage.input, usage.cache_read, usage.cache_write, text, usage.reasoning.min(usage.output)];
        for (cell, tokens) in cells.tokens.iter().zip(parts) {
            cell.add(tokens);
        }
    }
    match r.cost {
        Cost::Priced(nano_usd) => cells.nano_usd.add(nano_usd),
        Cost::Unpriced => cells.unpriced.add(1),
        Cost::Unknown => {}
    }
    cells.usage_missing.add(u64::from(r.usage_missing));
    cells.client_retries.add(u64::from(r.client_retries > 0));
}

fn measure(cells: &TimedCells, r: &Record<'_>) {
    cells.duration.observe(r.duration_us);
    if let Some(us) = r.overhead_us {
        cells.overhead.observe(us);
    }
    if let Some(us) = r.first_token_us {
        cells.first_token.observe(us);
    }
    if let Some(usage) = r.usage {
        cells.tokens_in.observe(usage.prompt());
        cells.tokens_out.observe(usage.output);
        // The first token is there when generating is first measured; the time is that of those that follow.
        if let Some(us) = r.generating_us
            && usage.output > 1
        {
            cells.per_token.observe(us / (usage.output - 1));
        }
    }
    cells.truncated.add(u64::from(r.truncated));
}

fn attempt(cells: &TriesCells, tried: &Tried<'_>) {
    cells.attempts.add(1);
    let spend = &tried.spend;
    cells.wasted_tokens.add(spend.tokens);
    cells.reported_nano_usd.add(spend.reported_nano_usd);
    let estimated = if spend.aborted { &cells.aborted_nano_usd } else { &cells.estimated_nano_usd };
    estimated.add(spend.estimated_nano_usd);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_name_looks_like_is_told_apart_also_when_there_is_no_room_left() {
        let meter = Arc::new(Meter::default());
        let (mut label, overflow) = (Dimension::always(&meter, ROUTE), [(); 8].map(|()| Cell::default()));
        let first: Vec<u16> = (0..300).map(|n| label.number(&format!("route {n}"), 64, &overflow)).collect();
        assert_eq!((first[0], first[196], first[197], first[299]), (3, 199, OTHER, OTHER));
        assert_eq!(overflow[ROUTE].get(), 103);
        // The first is as long as the word that stands for both.
        for value in ["a\nroute", "a\nroute b", &"x".repeat(65)] {
            assert_eq!(label.number(value, 64, &overflow), 2, "{value:?}");
        }
        assert_eq!((label.number("route 5", 64, &overflow), label.number("", 64, &overflow)), (8, EMPTY));
        assert_eq!(overflow[ROUTE].get(), 103);
    }
}
