//! `sluice spend`: what was spent, by pipeline or whatever is asked for.
//!
//! Reads the ledger's file, also while a gateway writes it; what a gateway booked within the last second may not be in it
//! yet.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::args::SpendArgs;
use super::table::{Table, grouped};
use super::{Exit, Surroundings, serve, state};
use crate::config::Loader;
use crate::meter::ledger::spend::{BY, Query, Row, Spend, read};
use crate::meter::ledger::{StoreError, Sums, date_of, day_from, day_of};
use crate::net::clock;

/// Days looked back when nothing is said.
const DAYS: u32 = 7;
/// Characters of a bar for the whole.
const BAR: u64 = 20;

/// Runs the command.
pub(super) fn run(args: &SpendArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let query = match query(args, day_of(clock::unix_seconds())) {
        Ok(query) => query,
        Err(why) => {
            writeln!(around.err, "sluice: error: {why}")?;
            return Ok(Exit::Usage);
        }
    };
    let path = match ledger(args, around) {
        Ok(path) => path,
        Err(why) => {
            writeln!(around.err, "sluice: error: {why}")?;
            return Ok(Exit::Refused);
        }
    };
    let spend = match read(&path, &query) {
        Ok(spend) => spend,
        Err(why) => {
            let help = match why {
                StoreError::Missing => {
                    "; a gateway makes it once it serves a real provider; --ledger names another"
                }
                _ => "",
            };
            writeln!(around.err, "sluice: error: the ledger {}: {why}{help}", path.display())?;
            return Ok(Exit::Refused);
        }
    };
    match (args.json, args.csv) {
        (true, _) => writeln!(around.out, "{:#}", as_json(&spend, &query))?,
        (_, true) => write!(around.out, "{}", as_csv(&spend, &query))?,
        _ => as_table(&spend, &query, around.out)?,
    }
    Ok(Exit::Ok)
}

fn query(args: &SpendArgs, today: u32) -> Result<Query, String> {
    let mut by = Vec::new();
    for name in args.by.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        let Some(known) = BY.iter().find(|known| **known == name) else {
            return Err(format!("spend cannot be shown by `{name}`; use {}", BY.join(", ")));
        };
        if !by.contains(known) {
            by.push(*known);
        }
    }
    let since = match args.since.as_deref() {
        None => today.saturating_sub(DAYS - 1),
        Some(text) => match text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
            Some(days @ 1..) => today.saturating_sub(days - 1),
            _ => day_from(text).ok_or_else(|| {
                format!(
                    "`{text}` is no time to begin; write days back such as 7d, or a date such as 2026-01-31"
                )
            })?,
        },
    };
    let until = match args.until.as_deref() {
        None => today.max(since),
        Some(text) => day_from(text)
            .ok_or_else(|| format!("`{text}` is no time to end; write a date such as 2026-01-31"))?,
    };
    if until < since {
        return Err(format!("the time ends ({}) before it begins ({})", date_of(until), date_of(since)));
    }
    Ok(Query { by, since, until })
}

/// The ledger that is meant: the one named, that of the configuration a gateway would use here, that of the user.
fn ledger(args: &SpendArgs, around: &Surroundings<'_>) -> Result<PathBuf, String> {
    if let Some(path) = &args.ledger {
        return Ok(path.clone());
    }
    let (file, _) = serve::find(args.config.as_deref(), around.env, &around.directory);
    if file.is_some() {
        let loader = Loader { file, ..Loader::default() };
        // Keys are not needed to find a path, and whoever asks may not have them.
        let env = |name: &str| (around.env)(name).or_else(|| Some("unset".to_owned()));
        let plan = loader.load(&env).map_err(|error| {
            format!("the config does not say where the ledger is, because it is refused; --ledger PATH says it\n{error}")
        })?;
        if let Some(path) = plan.ledger.path {
            return Ok(path);
        }
    }
    state::ledger(around.env).ok_or_else(|| {
        "there is no ledger to read: neither HOME nor XDG_STATE_HOME is set; --ledger PATH names one"
            .to_owned()
    })
}

fn as_table(spend: &Spend, query: &Query, out: &mut dyn io::Write) -> io::Result<()> {
    let (since, until) = (date_of(query.since), date_of(query.until));
    let days = if since == until { since } else { format!("{since} to {until}") };
    if spend.rows.is_empty() {
        writeln!(out, "nothing was spent: {days} (UTC)")?;
        return write_notes(spend, out);
    }
    let by = if query.by.is_empty() { String::new() } else { format!(" by {}", query.by.join(", ")) };
    writeln!(out, "spend{by}, {days} (UTC)\n")?;
    let mut names = query.by.clone();
    names.push("");
    let numbers = [
        "share",
        "dollars",
        "requests",
        "failed",
        "tokens in",
        "cached",
        "tokens out",
        "lost dollars",
        "unpriced",
    ];
    let mut table = Table::new(&names, &numbers);
    let places = places(spend.total.spent_nano_usd());
    for row in &spend.rows {
        let share = spend.share(row);
        let mut cells: Vec<String> = row
            .names
            .iter()
            .map(|name| if name.is_empty() { "-".to_owned() } else { name.clone() })
            .collect();
        cells.push(bar(share));
        cells.push(share.map_or_else(String::new, |share| format!("{}.{} %", share / 10, share % 10)));
        cells.extend(figures(&row.sums, places));
        table.push(cells);
    }
    if !query.by.is_empty() {
        let mut cells = vec![String::new(); query.by.len() + 2];
        cells[0] = "total".to_owned();
        cells.extend(figures(&spend.total, places));
        table.push(cells);
    }
    table.write(out)?;
    write_notes(spend, out)
}

/// What the sums do not say.
fn write_notes(spend: &Spend, out: &mut dyn io::Write) -> io::Result<()> {
    let total = &spend.total;
    let mut notes = String::new();
    let mut note = |count: u64, text: &str| {
        if count > 0 {
            let _ = writeln!(notes, "{} {text}", grouped(count));
        }
    };
    note(
        total.unpriced,
        "requests have no price and cost nothing above: `sluice prices MODEL`, `models.NAME.price`",
    );
    note(total.unreported, "answers came without a count of tokens; what they cost is not known");
    note(spend.missed, "exchanges were not booked, because more came than could be written");
    if total.lost_estimated_nano_usd > 0 {
        let estimated = usd(total.lost_estimated_nano_usd, places(total.lost_estimated_nano_usd));
        let _ = writeln!(
            notes,
            "attempts that broke off may have cost {estimated} dollars more, by the size of their prompts"
        );
    }
    if notes.is_empty() { Ok(()) } else { write!(out, "\n{notes}") }
}

fn figures(sums: &Sums, places: usize) -> [String; 8] {
    let some = |count: u64| if count > 0 { grouped(count) } else { String::new() };
    let spent = sums.spent_nano_usd();
    let dollars = if spent == 0 && sums.unpriced > 0 { "unpriced".to_owned() } else { usd(spent, places) };
    let prompt = sums.input.saturating_add(sums.cache_read).saturating_add(sums.cache_write);
    let lost = if sums.lost_nano_usd > 0 { usd(sums.lost_nano_usd, places) } else { String::new() };
    [
        dollars,
        grouped(sums.requests),
        some(sums.failures),
        grouped(prompt),
        some(sums.cache_read),
        grouped(sums.output),
        lost,
        some(sums.unpriced),
    ]
}

fn bar(share: Option<u64>) -> String {
    share.map_or_else(String::new, |share| "#".repeat((share * BAR).div_ceil(1000) as usize))
}

/// Decimals that make a sum of this size readable.
fn places(nano_usd: u64) -> usize {
    match nano_usd {
        100_000_000_000.. => 2,
        1_000_000_000.. => 4,
        1_000_000.. => 6,
        _ => 9,
    }
}

/// Nano-dollars as dollars, rounded to so many decimals.
fn usd(nano_usd: u64, places: usize) -> String {
    let unit = 10u64.pow(9 - places as u32);
    let rounded = nano_usd.saturating_add(unit / 2) / unit;
    let whole = 10u64.pow(places as u32);
    format!("{}.{:0places$}", grouped(rounded / whole), rounded % whole)
}

fn sums_json(sums: &Sums) -> Map<String, Value> {
    let mut map: Map<String, Value> =
        Sums::NAMES.iter().zip(sums.all()).map(|(name, sum)| ((*name).to_owned(), sum.into())).collect();
    map.insert("spent_nano_usd".to_owned(), sums.spent_nano_usd().into());
    map
}

fn as_json(spend: &Spend, query: &Query) -> Value {
    let row = |row: &Row| {
        let names = query.by.iter().zip(&row.names).map(|(by, name)| ((*by).to_owned(), name.clone().into()));
        let mut map: Map<String, Value> = names.collect();
        map.insert("share".to_owned(), spend.share(row).map(|share| share as f64 / 1000.0).into());
        map.append(&mut sums_json(&row.sums));
        Value::Object(map)
    };
    json!({
        "since": date_of(query.since),
        "until": date_of(query.until),
        "by": query.by,
        "rows": spend.rows.iter().map(row).collect::<Vec<_>>(),
        "total": sums_json(&spend.total),
        "missed": spend.missed,
    })
}

/// RFC 4180, with a line feed at the end of lines as tools here expect it.
fn as_csv(spend: &Spend, query: &Query) -> String {
    let mut text = String::new();
    let titles = query.by.iter().chain(&Sums::NAMES).chain(&["spent_nano_usd"]);
    text.push_str(&titles.copied().collect::<Vec<_>>().join(","));
    text.push('\n');
    for row in &spend.rows {
        let names = row.names.iter().map(|name| quoted(name));
        let sums = row.sums.all().into_iter().chain([row.sums.spent_nano_usd()]);
        let cells: Vec<String> = names.chain(sums.map(|sum| sum.to_string())).collect();
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

fn quoted(name: &str) -> String {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

#[cfg(test)]
mod tests;
