//! Settings in words, each with the level it comes from.

use super::super::defaults;
use super::super::mechanisms::{Balance, ModelPrice};
use super::super::origins::{Level, Origins};
use super::super::plan::{Plan, Provider, Route};
use super::super::values::{show_bytes, show_ms};
use super::{Line, ListPrice, Listed};

/// Clauses of one line. Where all come from one level it is named once, at the end.
struct Clauses(Vec<(String, Level)>);

impl Clauses {
    fn text(self) -> String {
        let first = self.0.first().map(|(_, level)| *level);
        let same = self.0.iter().all(|(_, level)| Some(*level) == first);
        let mut text = String::new();
        for (index, (clause, level)) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            text.push_str(comma);
            text.push_str(clause);
            if !same || index + 1 == self.0.len() {
                text.push_str(&format!(" ({})", level.word()));
            }
        }
        text
    }
}

fn line(label: &'static str, text: impl Into<String>) -> Line {
    Line { label, text: text.into() }
}

/// What holds for the exchange as a whole.
pub(super) fn of_exchange(plan: &Plan, route: Option<&Route>) -> Vec<Line> {
    let origins = Origins { plan, provider: None, route };
    let level = |key: &str| origins.of(key).level;
    let total_ms = route.and_then(|route| route.timeouts.total_ms).unwrap_or(plan.timeouts.total_ms);
    let mut lines = vec![line(
        "total",
        format!(
            "the whole exchange takes at most {} ({})",
            show_ms(total_ms),
            level("timeouts.total").word()
        ),
    )];
    if let Some(shares) = route.and_then(shares) {
        lines.push(line("balance", format!("{shares} ({})", level("balance").word())));
    }
    let hedge = route.map_or(plan.route_defaults.hedge, |route| route.hedge);
    lines.push(line(
        "hedge",
        match hedge {
            None => format!("off ({})", level("hedge").word()),
            Some(hedge) => Clauses(vec![
                (
                    "on: a second call to the next target once the first is slower than 95 % of its kind"
                        .to_owned(),
                    level("hedge"),
                ),
                (format!("not before {}", show_ms(hedge.delay_min_ms)), level("hedge.delay_min")),
                (format!("for at most {} % of requests", hedge.percent), level("hedge.percent")),
            ])
            .text(),
        },
    ));
    let checks = route.map_or(&plan.route_defaults.checks, |route| &route.checks);
    lines.push(line(
        "checks",
        match checks.is_empty() {
            true => format!("none ({})", level("checks").word()),
            false => {
                let names: Vec<&str> = checks.iter().map(|check| check.label()).collect();
                format!(
                    "{} ({}): an answer that fails one is a failed attempt; streams are held back",
                    names.join(", "),
                    level("checks").word()
                )
            }
        },
    ));
    let answer =
        route.and_then(|route| route.static_answer).and_then(|id| plan.statics.get(usize::from(id.0)));
    lines.push(line(
        "static",
        match answer {
            None => "none: with no target left the client gets an error (default)".to_owned(),
            Some(answer) => {
                let size = show_bytes(answer.content.len() as u64);
                format!(
                    "`static/{}` answers when no target does: {size} as model `{}` (route)",
                    answer.name, answer.model
                )
            }
        },
    ));
    lines.push(line(
        "money",
        match plan.retry_cost_nano_usd_per_minute {
            None => "what is sent again may cost any amount (default)".to_owned(),
            Some(nano) => format!(
                "what is sent again may cost {} a minute over all providers (top level)",
                dollars(nano as f64 / 1e9)
            ),
        },
    ));
    if let Some(step) = &plan.step_budget {
        let mut bounds = Vec::new();
        bounds.extend(step.failures.map(|count| format!("{count} failures")));
        bounds.extend(step.nano_usd.map(|nano| dollars(nano as f64 / 1e9)));
        bounds.extend(step.time_ms.map(show_ms));
        let answer = step.answer.and_then(|id| plan.statics.get(usize::from(id.0)));
        let then = answer.map_or("an error".to_owned(), |answer| format!("`static/{}`", answer.name));
        lines.push(line(
            "step",
            format!("a step (`x-sluice-step`) gets {then} after {} (top level)", bounds.join(" or ")),
        ));
    }
    lines
}

/// How the equals of a route share, when it has some.
fn shares(route: &Route) -> Option<String> {
    route.targets.iter().any(|target| target.group != 0).then(|| match route.balance {
        Balance::Weighted => "targets that share do so by weight".to_owned(),
        Balance::Latency => {
            "targets that share do so by latency: of two drawn at random the faster, less busy one".to_owned()
        }
    })
}

/// What holds for attempts at one target; `last` for the last of its chain.
pub(super) fn of_target(plan: &Plan, provider: &Provider, route: Option<&Route>, last: bool) -> Vec<Line> {
    let origins = Origins { plan, provider: Some(provider), route };
    let mark = |text: String, key: &str| (text, origins.of(key).level);
    let closed = route.is_some_and(|route| route.static_answer.is_some());
    let then = match (last, closed) {
        (false, _) => "then the next target, at once",
        (true, true) => "then the static answer",
        (true, false) => "then the error goes to the client",
    };
    vec![
        line("timeouts", timeouts(provider, route, &mark)),
        line("on 429", on_429(provider, (last, closed), then, &mark)),
        line("on 503", on_503(provider, (last, closed), then, &mark)),
        line("breaker", breaker(provider, &mark)),
        line("slowness", slowness(provider, &mark)),
        line("again", again(provider, &mark)),
        line("at a time", at_a_time(provider, &mark)),
    ]
}

type Mark<'m> = &'m dyn Fn(String, &str) -> (String, Level);

fn timeouts(provider: &Provider, route: Option<&Route>, mark: Mark<'_>) -> String {
    let timeouts = route.map_or(provider.timeouts, |route| route.timeouts.over(&provider.timeouts));
    let mut clauses = vec![
        mark(format!("connect {}", show_ms(timeouts.connect_ms)), "timeouts.connect"),
        mark(format!("first token {}", show_ms(timeouts.first_token_ms)), "timeouts.first_token"),
        mark(format!("between tokens {}", show_ms(timeouts.token_gap_ms)), "timeouts.token_gap"),
    ];
    if let Some(ms) = timeouts.attempt_ms {
        let text = format!("attempt {}: whole answer, or first token when streaming", show_ms(ms));
        clauses.push(mark(text, "timeouts.attempt"));
    }
    Clauses(clauses).text()
}

fn on_429(provider: &Provider, (last, closed): (bool, bool), then: &str, mark: Mark<'_>) -> String {
    let retries = provider.retry.max_retries.unwrap_or(u32::from(last && !closed));
    let waits = match retries {
        0 => String::new(),
        _ => format!("a rest of up to {} is waited for; ", show_ms(provider.retry.backoff_max_ms)),
    };
    let own = &provider.cooldown;
    let clauses = Clauses(vec![
        mark(
            format!("the key rests for this model as long as it is told, at most {}", show_ms(own.cap_ms)),
            "cooldown.cap",
        ),
        mark(format!("without a hint {}", show_ms(own.initial_ms)), "cooldown.initial"),
        mark(format!("doubling to {}", show_ms(own.max_ms)), "cooldown.max"),
    ]);
    let others = if provider.keys.len() > 1 { "the next key is asked at once; " } else { "" };
    format!("{}; {others}{waits}{then}", clauses.text())
}

fn on_503(provider: &Provider, (last, closed): (bool, bool), then: &str, mark: Mark<'_>) -> String {
    let retry = &provider.retry;
    let waits = [
        mark(format!("after {}", show_ms(retry.backoff_initial_ms)), "retry.backoff_initial"),
        mark(format!("doubling to {}", show_ms(retry.backoff_max_ms)), "retry.backoff_max"),
    ];
    let count = match retry.max_retries {
        Some(0) => Clauses(vec![mark("no retry here".to_owned(), "retry.max_retries")]).text(),
        Some(count) => {
            let mut clauses = vec![mark(format!("up to {count} retries here"), "retry.max_retries")];
            clauses.extend(waits);
            Clauses(clauses).text()
        }
        None if last && !closed => {
            let text = format!(
                "up to {} retries here, of calls that cannot have been billed",
                defaults::LAST_TARGET_RETRIES
            );
            let mut clauses = vec![(text, Level::Default)];
            clauses.extend(waits);
            Clauses(clauses).text()
        }
        None => Clauses(vec![("no retry here".to_owned(), Level::Default)]).text(),
    };
    format!("{count}; {then}")
}

fn breaker(provider: &Provider, mark: Mark<'_>) -> String {
    let own = &provider.breaker;
    let mut clauses = vec![
        mark(format!("opens on {} failures in a row", own.failures_in_row), "breaker.failures_in_row"),
        mark(format!("on {} % of calls failing in 10s", own.failure_percent), "breaker.failure_percent"),
        mark(format!("of at least {}", own.calls_min), "breaker.calls_min"),
    ];
    if let Some(tokens) = own.tokens_burnt {
        clauses.push(mark(format!("on {tokens} tokens of large prompts burnt"), "breaker.tokens_burnt"));
        let text = format!("with {} % failing", own.tokens_failure_percent);
        clauses.push(mark(text, "breaker.tokens_failure_percent"));
    }
    clauses.push(mark(format!("for {}", show_ms(own.open_min_ms)), "breaker.open_min"));
    clauses.push(mark(format!("doubling to {}", show_ms(own.open_max_ms)), "breaker.open_max"));
    clauses.push(mark(format!("traffic grows back over {}", show_ms(own.ramp_ms)), "breaker.ramp"));
    Clauses(clauses).text()
}

fn slowness(provider: &Provider, mark: Mark<'_>) -> String {
    let own = &provider.breaker;
    let clauses = match own.slow_call_ms {
        None => vec![mark("no fault; only the timeouts end a slow call".to_owned(), "breaker.slow_call")],
        Some(ms) => vec![
            mark(format!("a first token after {} is slow", show_ms(ms)), "breaker.slow_call"),
            mark(format!("{} % slow calls open the breaker", own.slow_percent), "breaker.slow_percent"),
        ],
    };
    Clauses(clauses).text()
}

fn again(provider: &Provider, mark: Mark<'_>) -> String {
    let own = &provider.retry_budget;
    Clauses(vec![
        mark(format!("extra calls for {} % of requests", own.percent), "retry_budget.percent"),
        mark(format!("or {} a second if that is more", own.per_second), "retry_budget.per_second"),
        mark(format!("{} saved up", own.burst), "retry_budget.burst"),
    ])
    .text()
}

fn at_a_time(provider: &Provider, mark: Mark<'_>) -> String {
    let own = &provider.bulkhead;
    let Some(concurrent) = own.concurrent.into_iter().chain(provider.max_connections).min() else {
        return Clauses(vec![mark("any number of calls".to_owned(), "bulkhead.concurrent")]).text();
    };
    if own.concurrent != Some(concurrent) {
        return format!("{concurrent} calls: each has a connection of its own (provider)");
    }
    Clauses(vec![
        mark(format!("{concurrent} calls"), "bulkhead.concurrent"),
        mark(format!("{} waiting when no other target can answer", own.queue), "bulkhead.queue"),
        mark(format!("for at most {}", show_ms(own.queue_wait_ms)), "bulkhead.queue_wait"),
    ])
    .text()
}

/// What the tokens of a model cost, from the file or the list.
pub(super) fn price(
    own: Option<ModelPrice>,
    context: Option<u32>,
    provider: &str,
    model: &str,
    listed: Listed<'_>,
) -> Line {
    let list = listed(provider, model);
    let (price, from) = match (own, list) {
        (Some(price), _) => (Some(price), "top level"),
        (None, list) => (list.map(|list| list.price), "price list"),
    };
    let mut text = match price {
        None => {
            let most = f64::from(defaults::UNPRICED_INPUT_NANO_USD) / 1e3;
            format!(
                "unpriced: counted at {} a million input tokens for limits, never as free (default)",
                dollars(most)
            )
        }
        Some(price) => {
            let million = |pico: u32| f64::from(pico) / 1e6;
            let above = list.filter(|_| own.is_none()).and_then(|list: ListPrice| list.dearer_above);
            let above = above.map_or(String::new(), |tokens| format!(", more above {tokens} tokens"));
            format!(
                "{} a million input tokens, {} output{above} ({from}); 10000 tokens sent again cost {}",
                dollars(million(price.input)),
                dollars(million(price.output)),
                dollars(million(price.input) / 100.0)
            )
        }
    };
    let window = context.map(|tokens| (tokens, "top level"));
    let window = window.or(list.and_then(|list| list.context_tokens).map(|tokens| (tokens, "price list")));
    if let Some((tokens, from)) = window {
        text.push_str(&format!("; window {tokens} tokens ({from})"));
    }
    line("price", text)
}

/// An amount of money, with as many decimals as it needs.
fn dollars(usd: f64) -> String {
    let text = format!("{usd:.6}");
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let decimals = decimals.trim_end_matches('0');
    format!("${whole}.{decimals:0<2}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_shows_cents_and_what_is_below_them() {
        for (usd, text) in
            [(15.0, "$15.00"), (0.15, "$0.15"), (0.0015, "$0.0015"), (2.5, "$2.50"), (0.0, "$0.00")]
        {
            assert_eq!(dollars(usd), text);
        }
    }

    #[test]
    fn a_level_is_named_once_where_all_clauses_share_it() {
        let clause = |text: &str, level| (text.to_owned(), level);
        let same = Clauses(vec![clause("a", Level::Top), clause("b", Level::Top)]);
        assert_eq!(same.text(), "a, b (top level)");
        let mixed = Clauses(vec![clause("a", Level::Route), clause("b", Level::Default)]);
        assert_eq!(mixed.text(), "a (route), b (default)");
    }
}
