//! What all cores counted, summed and named: the families of the metrics page that exchanges fill.
//!
//! Runs on a side thread, where it may take memory and time. Series that differ only in what a family does not tell
//! apart are added up here, so a core keeps one set of cells for several families.

use std::collections::HashMap;
use std::sync::Arc;

use super::cells::Cell;
use super::family::{Family, Labels, Sums, Text};
use super::labels::OTHER;
use super::record::Outcome;
use super::series::{
    Asked, AskedCells, CODE, Combination, CoreSeries, MODEL, Meter, NAMED, PROVIDER, ROUTE, TOKEN_TYPES,
    Timed, TimedCells, Tries, TriesCells,
};
use crate::policy::{Reason, What};

/// Every series of every core, as there were when the page was begun. They are listed before the names of their numbers, so
/// that each of their numbers has one.
struct Listed {
    asked: Vec<(Asked, Arc<AskedCells>)>,
    timed: Vec<(Timed, Arc<TimedCells>)>,
    tries: Vec<(Tries, Arc<TriesCells>)>,
    refused: Vec<(u16, Arc<Cell>)>,
    cores: Vec<Arc<CoreSeries>>,
}

impl Listed {
    fn new(meter: &Meter) -> Listed {
        let cores = meter.cores();
        Listed {
            asked: cores.iter().flat_map(|core| core.asked.all()).collect(),
            timed: cores.iter().flat_map(|core| core.timed.all()).collect(),
            tries: cores.iter().flat_map(|core| core.tries.all()).collect(),
            refused: cores.iter().flat_map(|core| core.refused.all()).collect(),
            cores,
        }
    }
}

/// Names of all numbers, copied once a scrape.
struct Names {
    /// By dimension: its name, the name of its label, and its values.
    values: Vec<(Text, Text, Vec<Text>)>,
    /// By number of a combination: the dimensions and values that say who asked.
    who: Vec<Vec<(usize, u16)>>,
    /// By number of a combination: the first that says the same.
    same: Vec<u16>,
}

impl Names {
    fn new(meter: &Meter) -> Names {
        let shared = |text: String| Text::Shared(text.into());
        let named = meter.dimensions().into_iter().map(|(name, table)| {
            // Names of headers have dashes, labels must not.
            let label = shared(name.replace('-', "_"));
            (Text::Shared(name.into()), label, table.values().into_iter().map(shared).collect())
        });
        let values: Vec<(Text, Text, Vec<Text>)> = named.collect();
        let combinations = meter.combinations.values();
        let who = combinations.iter().enumerate().map(|(number, combination)| {
            // Past the bound of combinations every label is `other`.
            if number == usize::from(OTHER) {
                return (NAMED..values.len()).map(|dimension| (dimension, OTHER)).collect();
            }
            let mut pairs: Vec<(usize, u16)> = Combination::pairs(combination).collect();
            pairs.retain(|(dimension, _)| *dimension >= NAMED);
            // A plan that lists them in another order means the same.
            pairs.sort_unstable();
            pairs
        });
        let who: Vec<Vec<(usize, u16)>> = who.collect();
        let mut first = HashMap::new();
        let same = who.iter().enumerate().map(|(number, pairs)| *first.entry(pairs).or_insert(number as u16));
        Names { same: same.collect(), values, who }
    }

    fn value(&self, dimension: usize, number: u16) -> Text {
        let values = self.values.get(dimension).map_or(&[][..], |(_, _, values)| values);
        values.get(usize::from(number)).cloned().unwrap_or(Text::Fixed("other"))
    }

    fn provider(&self, number: u16) -> (Text, Text) {
        ("provider".into(), self.value(PROVIDER, number))
    }

    fn model(&self, number: u16) -> (Text, Text) {
        ("model".into(), self.value(MODEL, number))
    }

    fn route(&self, number: u16) -> (Text, Text) {
        ("route".into(), self.value(ROUTE, number))
    }

    fn target(&self, (model, provider): (u16, u16)) -> Labels {
        vec![self.model(model), self.provider(provider)]
    }

    /// The number of the combination that says the same.
    fn same(&self, who: u16) -> u16 {
        self.same.get(usize::from(who)).copied().unwrap_or(OTHER)
    }

    /// The labels that say who asked.
    fn who(&self, number: u16) -> impl Iterator<Item = (Text, Text)> + '_ {
        let pairs = self.who.get(usize::from(number)).map_or(&[][..], Vec::as_slice);
        pairs.iter().filter_map(|(dimension, value)| {
            let (_, label, _) = self.values.get(*dimension)?;
            Some((label.clone(), self.value(*dimension, *value)))
        })
    }
}

fn stream(on: bool) -> (Text, Text) {
    ("stream".into(), if on { "true" } else { "false" }.into())
}

impl Meter {
    /// Everything that exchanges have filled, over all cores.
    pub fn families(&self) -> Vec<Family> {
        let listed = Listed::new(self);
        let names = Names::new(self);
        let mut all = listed.of_exchanges(&names).to_vec();
        all.extend(listed.of_times(&names));
        all.extend(listed.of_attempts(&names));
        all.extend(listed.of_the_rest(&names));
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
}

impl Listed {
    fn of_exchanges(&self, names: &Names) -> [Family; 6] {
        let (mut requests, mut retries) = (Sums::default(), Sums::default());
        let (mut tokens, mut cost) = (Sums::default(), Sums::default());
        let (mut unpriced, mut missing) = (Sums::default(), Sums::default());
        for (key, cells) in &self.asked {
            let who = names.same(key.who);
            let request = (key.asked, key.outcome, key.provider, key.route, key.status, key.stream, who);
            requests.count(request, cells.exchanges.get());
            retries.count(key.route, cells.client_retries.get());
            let target = (key.model, key.provider);
            for (of, cell) in cells.tokens.iter().enumerate().filter(|(_, cell)| cell.get() > 0) {
                tokens.count((target, who, of), cell.get());
            }
            if answered(cells) {
                cost.count((target, who), cells.nano_usd.get());
                unpriced.count(target, cells.unpriced.get());
                missing.count(target, cells.usage_missing.get());
            }
        }
        let target = |target: &(u16, u16)| names.target(*target);
        let spent = |(target, who): &((u16, u16), u16)| {
            names.target(*target).into_iter().chain(names.who(*who)).collect()
        };
        [
            requests.counter(
                ("sluice_requests_total", "Finished requests by what became of them"),
                |(asked, outcome, provider, route, status, on, who)| {
                    let key =
                        Asked { asked: *asked, outcome: *outcome, provider: *provider, ..Asked::default() };
                    let key = Asked { route: *route, status: *status, stream: *on, who: *who, ..key };
                    request_labels(names, &key)
                },
            ),
            tokens.counter(
                ("sluice_tokens_total", "Tokens of answers as providers counted them, by disjoint type"),
                |(target, who, of)| {
                    let labels = names.target(*target).into_iter().chain(names.who(*who));
                    labels.chain([("type".into(), TOKEN_TYPES[*of].into())]).collect()
                },
            ),
            cost.dollars(
                ("sluice_cost_usd_total", "Cost of answers in dollars, from the providers' own counts"),
                spent,
            ),
            unpriced.counter(
                ("sluice_unpriced_requests_total", "Answers whose tokens are known and whose price is not"),
                target,
            ),
            missing
                .counter(("sluice_usage_missing_total", "Answers whose provider reported no tokens"), target),
            retries.counter(
                ("sluice_client_retries_total", "Requests that the client's SDK says it sends again"),
                |route| vec![names.route(*route)],
            ),
        ]
    }

    fn of_times(&self, names: &Names) -> [Family; 6] {
        let (mut duration, mut overhead) = (Sums::default(), Sums::default());
        let (mut first, mut per_token) = (Sums::default(), Sums::default());
        let (mut tokens, mut truncated) = (Sums::default(), Sums::default());
        for (key, cells) in &self.timed {
            let Timed { route, asked, provider, model, stream } = *key;
            let TimedCells { tokens_in, tokens_out, .. } = &**cells;
            duration.spread((asked, provider, route, stream), &cells.duration);
            overhead.spread((route, stream), &cells.overhead);
            first.spread((model, provider), &cells.first_token);
            per_token.spread((model, provider), &cells.per_token);
            for (of, histogram) in [("input", tokens_in), ("output", tokens_out)] {
                tokens.spread((model, provider, of), histogram);
            }
            if cells.truncated.get() > 0 {
                truncated.count(provider, cells.truncated.get());
            }
        }
        let target = |target: &(u16, u16)| names.target(*target);
        [
            duration.histogram(
                (
                    "sluice_request_duration_seconds",
                    "From the first byte of a request to the end of its answer",
                ),
                |(asked, provider, route, on)| {
                    vec![names.model(*asked), names.provider(*provider), names.route(*route), stream(*on)]
                },
            ),
            overhead.histogram(
                (
                    "sluice_overhead_seconds",
                    "The gateway's own time in requests whose first attempt answered",
                ),
                |(route, on)| vec![names.route(*route), stream(*on)],
            ),
            first.histogram(
                (
                    "sluice_time_to_first_token_seconds",
                    "From sending a request to a provider to the first content of its stream",
                ),
                target,
            ),
            per_token.histogram(
                ("sluice_time_per_output_token_seconds", "Time between tokens, mean of each whole stream"),
                target,
            ),
            tokens.histogram(
                ("sluice_request_tokens", "Tokens of a request: its whole prompt, its whole output"),
                |(model, provider, of)| {
                    vec![names.model(*model), names.provider(*provider), ("type".into(), (*of).into())]
                },
            ),
            truncated.counter(
                ("sluice_stream_truncated_total", "Answers that broke off after the client had some"),
                |provider| vec![names.provider(*provider)],
            ),
        ]
    }

    fn of_attempts(&self, names: &Names) -> [Family; 4] {
        let (mut attempts, mut stalls) = (Sums::default(), Sums::default());
        let (mut cost, mut tokens) = (Sums::default(), Sums::default());
        for (key, cells) in &self.tries {
            let (reason, what) = match key.how {
                Some((reason, what)) => (reason.label(), result(what)),
                None => ("other", Came::As("other")),
            };
            let target = (key.model, key.provider);
            attempts.count((target, reason, what), cells.attempts.get());
            if matches!(key.how, Some((_, What::Timeout(crate::policy::TimeoutKind::TokenGap)))) {
                stalls.count(key.provider, cells.attempts.get());
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
                if cell.get() > 0 {
                    cost.count((target, basis, kind), cell.get());
                }
            }
            if cells.wasted_tokens.get() > 0 {
                tokens.count((target, why), cells.wasted_tokens.get());
            }
        }
        let with = |target: (u16, u16), more: &[(&'static str, Text)]| {
            let more = more.iter().map(|(name, value)| (Text::Fixed(name), value.clone()));
            names.target(target).into_iter().chain(more).collect()
        };
        [
            attempts.counter(
                (
                    "sluice_upstream_attempts_total",
                    "Calls to providers by why they were made and what came of them",
                ),
                |(target, reason, what)| {
                    let what = match what {
                        Came::Status(status) => status.to_string().into(),
                        Came::As(word) => (*word).into(),
                    };
                    with(*target, &[("reason", (*reason).into()), ("result", what)])
                },
            ),
            stalls.counter(
                (
                    "sluice_stream_stalls_total",
                    "Calls that ended because the provider fell silent in the middle",
                ),
                |provider| vec![names.provider(*provider)],
            ),
            cost.dollars(
                (
                    "sluice_wasted_cost_usd_total",
                    "Cost of attempts that did not become the answer, in dollars",
                ),
                |(target, basis, kind)| {
                    with(*target, &[("basis", (*basis).into()), ("kind", (*kind).into())])
                },
            ),
            tokens.counter(
                ("sluice_wasted_tokens_total", "Tokens reported for attempts that did not become the answer"),
                |(target, kind)| with(*target, &[("kind", (*kind).into())]),
            ),
        ]
    }

    fn of_the_rest(&self, names: &Names) -> [Family; 3] {
        let (mut refused, mut overflow, mut queue) = (Sums::default(), Sums::default(), Sums::default());
        for (code, cell) in &self.refused {
            refused.count(*code, cell.get());
        }
        for core in &self.cores {
            for (dimension, cell) in core.once.overflow.iter().enumerate().take(names.values.len()) {
                overflow.count(dimension, Cell::get(cell));
            }
            queue.spread((), &core.once.queue_wait);
        }
        [
            refused.counter(
                ("sluice_rejected_total", "Requests turned away without asking a provider"),
                |code| vec![("reason".into(), names.value(CODE, *code))],
            ),
            overflow.counter(
                ("sluice_label_overflow_total", "Label values that were counted as `other`"),
                |dimension| vec![("dimension".into(), names.values[*dimension].0.clone())],
            ),
            queue.histogram(
                ("sluice_queue_wait_seconds", "Waiting for a place at a provider that is full"),
                |()| Vec::new(),
            ),
        ]
    }
}

/// What came of an attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// The status that failed it.
    Status(u16),
    /// Anything else, as one of [`What`]'s words.
    As(&'static str),
}

fn result(what: What) -> Came {
    match what {
        What::Status(status) => Came::Status(status),
        what => Came::As(what.label()),
    }
}

fn answered(cells: &AskedCells) -> bool {
    cells.tokens.iter().any(|cell| cell.get() > 0)
        || [&cells.nano_usd, &cells.unpriced, &cells.usage_missing].iter().any(|cell| cell.get() > 0)
}

fn request_labels(names: &Names, key: &Asked) -> Labels {
    const OUTCOMES: [Outcome; 5] =
        [Outcome::Ok, Outcome::ClientError, Outcome::UpstreamError, Outcome::Rejected, Outcome::Aborted];
    let outcome = OUTCOMES.into_iter().find(|outcome| *outcome as u8 == key.outcome);
    let own = [
        names.model(key.asked),
        ("outcome".into(), outcome.map_or("other", Outcome::label).into()),
        names.provider(key.provider),
        names.route(key.route),
        ("status".into(), key.status.to_string().into()),
        stream(key.stream),
    ];
    own.into_iter().chain(names.who(key.who)).collect()
}
