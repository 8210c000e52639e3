//! The blocks that set a mechanism: `breaker`, `cooldown`, `retry`, `retry_budget`, `bulkhead`, `hedge`, `checks` and
//! `timeouts` of a route.
//!
//! Each is read over a base, key by key: the built-in defaults at the top level, the top level's values in a provider or
//! an entry of `fallbacks`.
//!
//! Invariant: what comes out fits together; a first time longer than its longest one is an error here.

use super::bounds::Retry;
use super::checks::Check;
use super::defaults;
use super::diagnostics::Report;
use super::mechanisms::{
    Balance, Breaker, Bulkhead, Cooldown, Hedge, RetryBudget, RouteDefaults, RouteTimeouts,
};
use super::reader::{Fields, Item};
use super::tree::Value;

/// What providers start from.
#[derive(Clone, Copy, Default)]
pub(super) struct ProviderBlocks {
    pub retry: Retry,
    pub breaker: Breaker,
    pub cooldown: Cooldown,
    pub retry_budget: RetryBudget,
    pub bulkhead: Bulkhead,
}

impl ProviderBlocks {
    /// Reads the blocks that stand in `fields`, over `base`.
    pub(super) fn read(
        fields: &mut Fields<'_>,
        base: &ProviderBlocks,
        report: &mut Report,
    ) -> ProviderBlocks {
        ProviderBlocks {
            retry: fields.item("retry").map_or(base.retry, |item| retry(&item, base.retry, report)),
            breaker: fields.item("breaker").map_or(base.breaker, |item| breaker(&item, base.breaker, report)),
            cooldown: fields
                .item("cooldown")
                .map_or(base.cooldown, |item| cooldown(&item, base.cooldown, report)),
            bulkhead: fields
                .item("bulkhead")
                .map_or(base.bulkhead, |item| bulkhead(&item, base.bulkhead, report)),
            // Has a key more at the top level, so its reader is called there.
            retry_budget: base.retry_budget,
        }
    }
}

fn retry(item: &Item<'_>, base: Retry, report: &mut Report) -> Retry {
    let mut fields = item.fields(report);
    let max_retries =
        fields.item("max_retries").and_then(|item| item.whole(report, 0, defaults::MAX_RETRIES_MOST));
    let (backoff_initial_ms, backoff_max_ms) = first_and_longest(
        &mut fields,
        ("backoff_initial", base.backoff_initial_ms),
        ("backoff_max", base.backoff_max_ms),
        report,
    );
    fields.finish(report, &[]);
    let max_retries = max_retries.map(|count| count as u32).or(base.max_retries);
    Retry { max_retries, backoff_initial_ms, backoff_max_ms }
}

fn breaker(item: &Item<'_>, base: Breaker, report: &mut Report) -> Breaker {
    let mut fields = item.fields(report);
    let whole = |most: u64| move |item: &Item<'_>, report: &mut Report| item.whole(report, 10_000, most);
    let (open_min_ms, open_max_ms) = first_and_longest(
        &mut fields,
        ("open_min", base.open_min_ms),
        ("open_max", base.open_max_ms),
        report,
    );
    let breaker = Breaker {
        failures_in_row: fields.count("failures_in_row", 1..=1_000, base.failures_in_row, report),
        failure_percent: fields.count("failure_percent", 1..=100, base.failure_percent, report),
        calls_min: fields.count("calls_min", 2..=10_000, base.calls_min, report),
        slow_call_ms: fields
            .or_off("slow_call", base.slow_call_ms, report, |item, report| item.positive_ms(report)),
        slow_percent: fields.count("slow_percent", 1..=100, base.slow_percent, report),
        tokens_burnt: fields.or_off("tokens_burnt", base.tokens_burnt, report, whole(1_000_000_000)),
        tokens_failure_percent: fields.count(
            "tokens_failure_percent",
            1..=100,
            base.tokens_failure_percent,
            report,
        ),
        open_min_ms,
        open_max_ms,
        ramp_ms: fields.ms("ramp", base.ramp_ms, report),
    };
    fields.finish(report, &[]);
    breaker
}

fn cooldown(item: &Item<'_>, base: Cooldown, report: &mut Report) -> Cooldown {
    let mut fields = item.fields(report);
    let (initial_ms, max_ms) =
        first_and_longest(&mut fields, ("initial", base.initial_ms), ("max", base.max_ms), report);
    let cap_ms = fields.ms("cap", base.cap_ms, report);
    fields.finish(report, &[]);
    Cooldown { initial_ms, max_ms, cap_ms }
}

/// A first time and the longest it doubles to. Where only the first is written, the longest is at least as long; where
/// the longest is written and shorter, that is an error.
fn first_and_longest(
    fields: &mut Fields<'_>,
    first: (&'static str, u64),
    longest: (&'static str, u64),
    report: &mut Report,
) -> (u64, u64) {
    let first_ms = fields.ms(first.0, first.1, report);
    let item = fields.item(longest.0);
    let written_ms = item.as_ref().and_then(|item| item.positive_ms(report));
    if let (Some(item), Some(ms)) = (item, written_ms)
        && ms < first_ms
    {
        let (ms, first_ms) = (super::values::show_ms(ms), super::values::show_ms(first_ms));
        let message = format!("`{}` of {ms} is shorter than `{}` of {first_ms}", item.path, first.0);
        item.error(report, message, format!("raise it, or lower `{}`", first.0));
    }
    (first_ms, written_ms.unwrap_or(longest.1.max(first_ms)))
}

/// Reads `retry_budget`; with `top`, the money limit too, nano-dollars a minute.
pub(super) fn retry_budget(
    item: &Item<'_>,
    base: RetryBudget,
    top: bool,
    report: &mut Report,
) -> (RetryBudget, Option<u64>) {
    let mut fields = item.fields(report);
    let budget = RetryBudget {
        percent: fields.count("percent", 0..=100, base.percent, report),
        per_second: fields.count("per_second", 0..=10_000, base.per_second, report),
        burst: fields.count("burst", 1..=100_000, base.burst, report),
    };
    let money = match top {
        true => fields.or_off("max_cost_usd_per_minute", None, report, nano_usd),
        false => None,
    };
    const ONE: (&str, &str) = (
        "max_cost_usd_per_minute",
        "it is one limit for all providers; write it in `retry_budget` at the top level",
    );
    fields.finish(report, &[ONE]);
    (budget, money)
}

/// An amount of money as nano-dollars.
pub(super) fn nano_usd(item: &Item<'_>, report: &mut Report) -> Option<u64> {
    item.usd(report, 0.0, defaults::USD_MOST).map(|usd| (usd * 1e9).round() as u64)
}

fn bulkhead(item: &Item<'_>, base: Bulkhead, report: &mut Report) -> Bulkhead {
    let mut fields = item.fields(report);
    let concurrent = fields.or_off("concurrent", base.concurrent.map(u64::from), report, |item, report| {
        item.whole(report, 1, 1_000_000)
    });
    let bulkhead = Bulkhead {
        concurrent: concurrent.map(|count| count as u32),
        queue: fields.count("queue", 0..=1_000_000, base.queue, report),
        queue_wait_ms: fields.ms("queue_wait", base.queue_wait_ms, report),
    };
    fields.finish(report, &[]);
    bulkhead
}

/// Reads `balance`, `hedge` and `checks` where they stand in `fields`, over `base`.
pub(super) fn route(fields: &mut Fields<'_>, base: &RouteDefaults, report: &mut Report) -> RouteDefaults {
    let balance = fields.item("balance").and_then(|item| item.choice(report, &Balance::NAMES));
    let hedge = fields.item("hedge").map(|item| hedge(&item, base.hedge, report));
    let checks = fields.item("checks").map(|item| checks(&item, report));
    RouteDefaults {
        balance: balance.unwrap_or(base.balance),
        hedge: hedge.unwrap_or(base.hedge),
        checks: checks.unwrap_or_else(|| base.checks.clone()),
    }
}

/// `on`, `off` or a mapping, whose presence is `on`.
fn hedge(item: &Item<'_>, base: Option<Hedge>, report: &mut Report) -> Option<Hedge> {
    let on = base.unwrap_or_default();
    if !matches!(item.node.value, Value::Map(_)) {
        match item.switch() {
            Some(true) => return Some(on),
            Some(false) => return None,
            None => {
                let message = format!("`{}` is neither `on` nor `off`", item.path);
                item.error(report, message, "write `on`, `off` or {percent: 2, delay_min: 200ms}");
                return None;
            }
        }
    }
    let mut fields = item.fields(report);
    let hedge = Hedge {
        percent: fields.count("percent", 1..=100, on.percent, report),
        delay_min_ms: fields.ms("delay_min", on.delay_min_ms, report),
    };
    fields.finish(report, &[]);
    Some(hedge)
}

const CHECKS_HELP: &str = "a check is `finish_reason`, `json`, {min_length: 20}, {regex: TEXT}, {json_schema: {...}} or {confidence: {pointer: /confidence, min: 0.7}}";

fn checks(item: &Item<'_>, report: &mut Report) -> Vec<Check> {
    let items = item.list(report);
    if items.len() > defaults::CHECKS_MAX {
        let help = format!("at most {} fit", defaults::CHECKS_MAX);
        item.error(report, format!("`{}` has too many checks", item.path), help);
        return Vec::new();
    }
    items.iter().filter_map(|item| check(item, report)).collect()
}

fn check(item: &Item<'_>, report: &mut Report) -> Option<Check> {
    if let Value::Text(_) = item.node.value {
        return item.choice(report, &[("finish_reason", 0), ("json", 1)]).map(|which| match which {
            0 => Check::FinishReason,
            _ => Check::Json,
        });
    }
    if !matches!(item.node.value, Value::Map(_)) {
        if !matches!(item.node.value, Value::Unset) {
            item.error(report, format!("`{}` is no check", item.path), CHECKS_HELP);
        }
        return None;
    }
    let mut fields = item.fields(report);
    let min_length = fields.item("min_length");
    let regex = fields.item("regex");
    let json_schema = fields.item("json_schema");
    let confidence = fields.item("confidence");
    fields.finish(report, &[]);
    match (min_length, regex, json_schema, confidence) {
        (Some(item), None, None, None) => {
            item.whole(report, 1, 10_000_000).map(|count| Check::MinLength(count as u32))
        }
        (None, Some(item), None, None) => {
            let word = item.word(report)?;
            compiled(&item, Check::regex(&word.text), "pattern", report)
        }
        (None, None, Some(item), None) => {
            let schema = item.node.to_json();
            if !schema.is_object() {
                item.error(
                    report,
                    format!("`{}` is no schema", item.path),
                    "write a JSON schema as a mapping",
                );
                return None;
            }
            compiled(&item, Check::json_schema(&schema), "schema", report)
        }
        (None, None, None, Some(item)) => check_confidence(&item, report),
        _ => {
            item.error(report, format!("`{}` is not one check", item.path), CHECKS_HELP);
            None
        }
    }
}

fn compiled(item: &Item<'_>, made: Result<Check, String>, what: &str, report: &mut Report) -> Option<Check> {
    made.map_err(|why| {
        let message = format!("the {what} at `{}` does not compile: {why}", item.path);
        item.error(report, message, format!("correct the {what}, or leave the check out"));
    })
    .ok()
}

fn check_confidence(item: &Item<'_>, report: &mut Report) -> Option<Check> {
    let mut fields = item.fields(report);
    let pointer = fields.item("pointer");
    let min = fields.item("min");
    fields.finish(report, &[]);
    let (Some(pointer), Some(min)) = (pointer, min) else {
        let help = "write {confidence: {pointer: /confidence, min: 0.7}}";
        item.error(report, format!("`{}` needs a `pointer` and a `min`", item.path), help);
        return None;
    };
    let (word, min) = (pointer.word(report)?, min.number(report)?);
    let check = Check::confidence(&word.text, min);
    if check.is_none() {
        let help = "a pointer is empty or starts with a slash (RFC 6901), for example /confidence";
        pointer.error(report, format!("{} is no JSON pointer", word.shown()), help);
    }
    check
}

/// `timeouts` of an entry of `fallbacks`.
pub(super) fn route_timeouts(item: &Item<'_>, report: &mut Report) -> RouteTimeouts {
    let mut fields = item.fields(report);
    let mut read = |name: &'static str| fields.item(name).and_then(|item| item.positive_ms(report));
    let timeouts = RouteTimeouts {
        connect_ms: read("connect"),
        first_token_ms: read("first_token"),
        token_gap_ms: read("token_gap"),
        total_ms: read("total"),
        attempt_ms: read("attempt"),
    };
    fields.finish(report, &[]);
    timeouts
}
