//! What all cores counted, summed and named: the families of the metrics page that exchanges fill.
//!
//! Runs on a side thread, where it may take memory and time. Series that differ only in what a family does not tell
//! apart are added up here, so a core keeps one set of cells for several families.

use std::borrow::Cow;

use super::cells::Cell;
use super::family::{Family, Labels, Sums};
use super::labels::OTHER;
use super::record::Outcome;
use super::series::{
    Asked, AskedCells, CODE, Combination, MODEL, Meter, NAMED, PROVIDER, ROUTE, TOKEN_TYPES, TimedCells,
};
use crate::policy::{Reason, What};

/// Names of all numbers, copied once a scrape.
struct Names {
    values: Vec<(Box<str>, Vec<String>)>,
    combinations: Vec<Combination>,
}

impl Names {
    fn value(&self, dimension: usize, number: u16) -> String {
        let values = self.values.get(dimension).map_or(&[][..], |(_, values)| values);
        values.get(usize::from(number)).cloned().unwrap_or_else(|| "other".to_owned())
    }

    fn provider(&self, number: u16) -> (Cow<'static, str>, String) {
        ("provider".into(), self.value(PROVIDER, number))
    }

    fn model(&self, number: u16) -> (Cow<'static, str>, String) {
        ("model".into(), self.value(MODEL, number))
    }

    fn route(&self, number: u16) -> (Cow<'static, str>, String) {
        ("route".into(), self.value(ROUTE, number))
    }

    /// The labels that say who asked.
    fn who(&self, number: u16) -> impl Iterator<Item = (Cow<'static, str>, String)> + '_ {
        let known = self.combinations.get(usize::from(number)).filter(|_| number != OTHER);
        // Past the bound of combinations every label is `other`.
        let all = known.is_none().then(|| (NAMED..self.values.len()).map(|dimension| (dimension, OTHER)));
        let pairs = known.map(Combination::pairs);
        let pairs = pairs.into_iter().flatten().chain(all.into_iter().flatten());
        pairs.filter(|(dimension, _)| *dimension >= NAMED).map(|(dimension, value)| {
            let name = self.values.get(dimension).map_or("", |(name, _)| name);
            // Names of headers have dashes, labels must not.
            (name.replace('-', "_").into(), self.value(dimension, value))
        })
    }
}

fn stream(on: bool) -> (Cow<'static, str>, String) {
    ("stream".into(), on.to_string())
}

impl Meter {
    /// Everything that exchanges have filled, over all cores.
    pub fn families(&self) -> Vec<Family> {
        let dimensions = self.dimensions();
        let names = Names {
            values: dimensions.iter().map(|(name, table)| (name.clone(), table.values())).collect(),
            combinations: self.combinations.values(),
        };
        let mut all = self.of_exchanges(&names).to_vec();
        all.extend(self.of_times(&names));
        all.extend(self.of_attempts(&names));
        all.extend(self.of_the_rest(&names));
        all
    }

    /// Each provider and model that was called so far, by name; nothing of what is past the bounds.
    pub fn targets(&self) -> Vec<(String, String)> {
        let (providers, models) = (self.always(PROVIDER).values(), self.always(MODEL).values());
        let mut found = std::collections::BTreeSet::new();
        for core in self.cores() {
            for (key, _) in core.tries.all() {
                // The first three values are `other`, empty and `invalid`.
                if key.provider > 2 && key.model > 2 {
                    let name = |all: &[String], at: u16| all.get(usize::from(at)).cloned();
                    found.extend(name(&providers, key.provider).zip(name(&models, key.model)));
                }
            }
        }
        found.into_iter().collect()
    }

    fn of_exchanges(&self, names: &Names) -> [Family; 6] {
        let [mut requests, mut tokens, mut cost, mut unpriced, mut missing, mut retries] =
            std::array::from_fn(|_| Sums::default());
        for core in self.cores() {
            for (key, cells) in core.asked.all() {
                requests.count(request_labels(names, &key), cells.exchanges.get());
                retries.count(vec![names.route(key.route)], cells.client_retries.get());
                let target = || vec![names.model(key.model), names.provider(key.provider)];
                count_tokens(&mut tokens, &cells, || [target(), names.who(key.who).collect()].concat());
                if answered(&cells) {
                    cost.count([target(), names.who(key.who).collect()].concat(), cells.nano_usd.get());
                    unpriced.count(target(), cells.unpriced.get());
                    missing.count(target(), cells.usage_missing.get());
                }
            }
        }
        [
            requests.counter("sluice_requests_total", "Finished requests by what became of them"),
            tokens.counter(
                "sluice_tokens_total",
                "Tokens of answers as providers counted them, by disjoint type",
            ),
            cost.dollars(
                "sluice_cost_usd_total",
                "Cost of answers in dollars, from the providers' own counts",
            ),
            unpriced.counter(
                "sluice_unpriced_requests_total",
                "Answers whose tokens are known and whose price is not",
            ),
            missing.counter("sluice_usage_missing_total", "Answers whose provider reported no tokens"),
            retries
                .counter("sluice_client_retries_total", "Requests that the client's SDK says it sends again"),
        ]
    }

    fn of_times(&self, names: &Names) -> [Family; 6] {
        let [mut duration, mut overhead, mut first, mut per_token, mut tokens, mut truncated] =
            std::array::from_fn(|_| Sums::default());
        for core in self.cores() {
            for (key, cells) in core.timed.all() {
                let TimedCells { tokens_in, tokens_out, .. } = &*cells;
                let target = || vec![names.model(key.model), names.provider(key.provider)];
                let route = names.route(key.route);
                let asked = names.model(key.asked);
                let labels = vec![asked, names.provider(key.provider), route.clone(), stream(key.stream)];
                duration.spread(labels, &cells.duration);
                overhead.spread(vec![route, stream(key.stream)], &cells.overhead);
                first.spread(target(), &cells.first_token);
                per_token.spread(target(), &cells.per_token);
                for (of, histogram) in [("input", tokens_in), ("output", tokens_out)] {
                    let labels = [target(), vec![("type".into(), of.to_owned())]].concat();
                    tokens.spread(labels, histogram);
                }
                if cells.truncated.get() > 0 {
                    truncated.count(vec![names.provider(key.provider)], cells.truncated.get());
                }
            }
        }
        [
            duration.histogram(
                "sluice_request_duration_seconds",
                "From the first byte of a request to the end of its answer",
            ),
            overhead.histogram(
                "sluice_overhead_seconds",
                "The gateway's own time in requests whose first attempt answered",
            ),
            first.histogram(
                "sluice_time_to_first_token_seconds",
                "From sending a request to a provider to the first content of its stream",
            ),
            per_token.histogram(
                "sluice_time_per_output_token_seconds",
                "Time between tokens, mean of each whole stream",
            ),
            tokens.histogram(
                "sluice_request_tokens",
                "Tokens of a request: its whole prompt, its whole output",
            ),
            truncated
                .counter("sluice_stream_truncated_total", "Answers that broke off after the client had some"),
        ]
    }

    fn of_attempts(&self, names: &Names) -> [Family; 4] {
        let [mut attempts, mut stalls, mut cost, mut tokens] = std::array::from_fn(|_| Sums::default());
        for core in self.cores() {
            for (key, cells) in core.tries.all() {
                let (reason, what) = match key.how {
                    Some((reason, what)) => (reason.label(), result(what)),
                    None => ("other", "other".to_owned()),
                };
                let target = vec![names.model(key.model), names.provider(key.provider)];
                let how = vec![("reason".into(), reason.to_owned()), ("result".into(), what)];
                attempts.count([target.clone(), how].concat(), cells.attempts.get());
                if matches!(key.how, Some((_, What::Timeout(crate::policy::TimeoutKind::TokenGap)))) {
                    stalls.count(vec![names.provider(key.provider)], cells.attempts.get());
                }
                let why = match key.how {
                    Some((_, What::Cancelled)) | Some((Reason::Hedge, _)) => "hedge",
                    _ => "failed",
                };
                for (basis, kind, cell) in [
                    ("reported", why, &cells.reported_nano_usd),
                    ("estimated", why, &cells.estimated_nano_usd),
                    ("estimated", "aborted", &cells.aborted_nano_usd),
                ] {
                    let labels = [("basis", basis), ("kind", kind)].map(|(n, v)| (n.into(), v.to_owned()));
                    if cell.get() > 0 {
                        cost.count([&target[..], &labels[..]].concat(), cell.get());
                    }
                }
                if cells.wasted_tokens.get() > 0 {
                    let labels = [&target[..], &[("kind".into(), why.to_owned())]].concat();
                    tokens.count(labels, cells.wasted_tokens.get());
                }
            }
        }
        [
            attempts.counter(
                "sluice_upstream_attempts_total",
                "Calls to providers by why they were made and what came of them",
            ),
            stalls.counter(
                "sluice_stream_stalls_total",
                "Calls that ended because the provider fell silent in the middle",
            ),
            cost.dollars(
                "sluice_wasted_cost_usd_total",
                "Cost of attempts that did not become the answer, in dollars",
            ),
            tokens.counter(
                "sluice_wasted_tokens_total",
                "Tokens reported for attempts that did not become the answer",
            ),
        ]
    }

    fn of_the_rest(&self, names: &Names) -> [Family; 3] {
        let [mut refused, mut overflow, mut queue] = std::array::from_fn(|_| Sums::default());
        for core in self.cores() {
            for (code, cell) in core.refused.all() {
                refused.count(vec![("reason".into(), names.value(CODE, code))], cell.get());
            }
            for (dimension, cell) in names.values.iter().zip(&core.once.overflow) {
                overflow.count(vec![("dimension".into(), dimension.0.to_string())], Cell::get(cell));
            }
            queue.spread(Vec::new(), &core.once.queue_wait);
        }
        [
            refused.counter("sluice_rejected_total", "Requests turned away without asking a provider"),
            overflow.counter("sluice_label_overflow_total", "Label values that were counted as `other`"),
            queue.histogram("sluice_queue_wait_seconds", "Waiting for a place at a provider that is full"),
        ]
    }
}

/// The word for what came of an attempt: the status that failed it, else one of [`What`]'s.
fn result(what: What) -> String {
    match what {
        What::Status(status) => status.to_string(),
        what => what.label().to_owned(),
    }
}

fn answered(cells: &AskedCells) -> bool {
    cells.tokens.iter().any(|cell| cell.get() > 0)
        || [&cells.nano_usd, &cells.unpriced, &cells.usage_missing].iter().any(|cell| cell.get() > 0)
}

fn count_tokens(tokens: &mut Sums, cells: &AskedCells, labels: impl Fn() -> Labels) {
    for (of, cell) in TOKEN_TYPES.iter().zip(&cells.tokens) {
        if cell.get() > 0 {
            tokens.count([labels(), vec![("type".into(), (*of).to_owned())]].concat(), cell.get());
        }
    }
}

fn request_labels(names: &Names, key: &Asked) -> Labels {
    const OUTCOMES: [Outcome; 5] =
        [Outcome::Ok, Outcome::ClientError, Outcome::UpstreamError, Outcome::Rejected, Outcome::Aborted];
    let outcome = OUTCOMES.into_iter().find(|outcome| *outcome as u8 == key.outcome);
    let own = vec![
        names.model(key.asked),
        ("outcome".into(), outcome.map_or("other", Outcome::label).to_owned()),
        names.provider(key.provider),
        names.route(key.route),
        ("status".into(), key.status.to_string()),
        stream(key.stream),
    ];
    [own, names.who(key.who).collect()].concat()
}
