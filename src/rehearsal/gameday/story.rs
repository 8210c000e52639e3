//! The two stories of the simulator, as a table, a curve and JSON.
//!
//! Nothing is played over sockets: `policy` runs twelve minutes of an outage on virtual time, once with clients as they
//! come out of the box and once with the engine between, and this file shows both.

use std::fmt;

use serde_json::{Value, json};

use crate::policy::simulate::stories::{
    BROWN_FOR_MIN, BROWN_FROM_MIN, BillStory, QueueStory, SLOW_FOR_S, SLOW_FROM_S, bill, queue,
};

/// Rows and columns of a curve.
const ROWS: usize = 12;
const COLUMNS: usize = 64;

/// A story that was told.
#[derive(Debug, Clone)]
pub enum Story {
    /// The stalled queue.
    Queue(QueueStory),
    /// The brownout bill.
    Bill(BillStory),
}

/// Tells the story called `queue` or `bill`; `None` for another name. Takes under a second.
pub fn story(name: &str, seed: u64) -> Option<Story> {
    match name {
        "queue" => Some(Story::Queue(queue(seed))),
        "bill" => Some(Story::Bill(bill(seed))),
        _ => None,
    }
}

impl Story {
    /// The same as one JSON object.
    pub fn to_json(&self) -> String {
        let value: Value = match self {
            Story::Queue(told) => json!({
                "story": "queue",
                "slow_from_s": SLOW_FROM_S,
                "slow_for_s": SLOW_FOR_S,
                "peak_jobs": {"without": told.peak_without, "with": told.peak_with},
                "failed_jobs": {"without": told.failed_without, "with": told.failed_with},
                "curve": told.curve.iter().map(|point| {
                    json!({"second": point.second, "without": point.without, "with": point.with})
                }).collect::<Vec<_>>(),
            }),
            Story::Bill(told) => json!({
                "story": "bill",
                "brown_from_min": BROWN_FROM_MIN,
                "brown_for_min": BROWN_FOR_MIN,
                "healthy_usd_per_hour": told.healthy,
                "usd_per_hour": {"without": told.without, "with": told.with},
                "refused_usd_per_hour": {"without": told.refused_without, "with": told.refused_with},
                "usd_per_task": {"without": told.per_task_without, "with": told.per_task_with},
                "curve": told.curve.iter().map(|point| {
                    json!({"minute": point.minute, "without": point.without, "with": point.with})
                }).collect::<Vec<_>>(),
            }),
        };
        format!("{value:#}")
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Story::Queue(told) => queue_text(told, f),
            Story::Bill(told) => bill_text(told, f),
        }
    }
}

fn queue_text(told: &QueueStory, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(
        "The stalled queue. A build farm of 8 slots gets 36 jobs a minute, and each waits for one triage call.\n\
         After a minute the call takes 70 s instead of 2, for twelve minutes. Without: a client with a timeout\n\
         of 60 s and three tries. With: the same jobs, an 8 s limit a try and a fallback.\n\n",
    )?;
    writeln!(f, "{:<34} {:>12} {:>12}", "", "without", "with Sluice")?;
    row(f, "most jobs not finished", told.peak_without, told.peak_with)?;
    row(f, "jobs whose triage failed", told.failed_without, told.failed_with)?;
    f.write_str("\njobs not finished\n")?;
    let curve = |pick: fn(&_) -> u64| told.curve.iter().map(|point| pick(point) as f64).collect::<Vec<_>>();
    let minutes = (SLOW_FROM_S + SLOW_FOR_S) / 60;
    plot(f, &curve(|point| point.without), &curve(|point| point.with), minutes)
}

fn bill_text(told: &BillStory, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    f.write_str(
        "The brownout bill. 800 agents send prompts of 200,000 tokens at 3 dollars a million, one every half\n\
         minute each. After two minutes 30 % of calls are answered with 429. Without: an SDK that tries three\n\
         times, and agents that try again after it. With: the same agents, and a fallback. Every prompt that is\n\
         sent counts at list price.\n\n",
    )?;
    writeln!(f, "{:<34} {:>12} {:>12}", "", "without", "with Sluice")?;
    let dollars = |value: f64| format!("${value:.0}");
    row(f, "prompts sent, an hour", dollars(told.without), dollars(told.with))?;
    row(f, "of those refused", dollars(told.refused_without), dollars(told.refused_with))?;
    row(f, "the same when nothing is wrong", dollars(told.healthy), dollars(told.healthy))?;
    let task = |value: f64| format!("${value:.3}");
    row(f, "a completed task", task(told.per_task_without), task(told.per_task_with))?;
    f.write_str("\ndollars an hour\n")?;
    let curve = |pick: fn(&_) -> f64| told.curve.iter().map(pick).collect::<Vec<_>>();
    plot(f, &curve(|point| point.without), &curve(|point| point.with), BROWN_FROM_MIN + BROWN_FOR_MIN)
}

fn row(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    without: impl fmt::Display,
    with: impl fmt::Display,
) -> fmt::Result {
    writeln!(f, "{name:<34} {:>12} {:>12}", without.to_string(), with.to_string())
}

/// Both curves in one field of characters, from 0 up to the highest value; `minutes` is where the time axis ends.
fn plot(f: &mut fmt::Formatter<'_>, without: &[f64], with: &[f64], minutes: u64) -> fmt::Result {
    let top = without.iter().chain(with).copied().fold(1.0, f64::max);
    let last = ROWS - 1;
    let is_at = |values: &[f64], column: usize, row: usize| {
        let value = values.get(column * values.len() / COLUMNS);
        value.is_some_and(|value| (value / top * last as f64).round() as usize == row)
    };
    for row in (0..ROWS).rev() {
        let mark = |column| match (is_at(with, column, row), is_at(without, column, row)) {
            (true, _) => 'o',
            (false, true) => '#',
            (false, false) => ' ',
        };
        let line: String = (0..COLUMNS).map(mark).collect();
        writeln!(f, "{:>8.0} |{}", top * row as f64 / last as f64, line.trim_end())?;
    }
    writeln!(f, "{:>8} +{}", "", "-".repeat(COLUMNS))?;
    let end = format!("{minutes} min");
    writeln!(f, "{:>8}  0{end:>width$}", "", width = COLUMNS - 1)?;
    writeln!(f, "{:>8}  # without   o with Sluice", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_a_table_and_a_curve_that_grows_without_and_not_with() {
        let told = story("queue", 1).expect("it is known");
        let text = told.to_string();
        let last: Vec<&str> = text.lines().filter(|line| line.contains('|')).collect();
        assert_eq!(last.len(), ROWS);
        assert!(last[0].contains('#') && !last[0].contains('o'), "{text}");
        assert!(last[ROWS - 1].contains('o'), "{text}");
        assert!(text.lines().all(|line| line.len() <= 110), "{text}");
        let json: Value = serde_json::from_str(&told.to_json()).expect("JSON");
        assert!(json["peak_jobs"]["without"].as_u64() > json["peak_jobs"]["with"].as_u64());
        assert_eq!(json["curve"].as_array().map(Vec::len), Some(156));
    }

    #[test]
    fn the_bill_is_told_in_dollars() {
        let told = story("bill", 1).expect("it is known");
        let text = told.to_string();
        assert!(text.contains("a completed task") && text.contains("$57600"), "{text}");
        let json: Value = serde_json::from_str(&told.to_json()).expect("JSON");
        assert!(json["usd_per_task"]["without"].as_f64() > json["usd_per_task"]["with"].as_f64());
        assert!(story("nonsense", 1).is_none());
    }
}
