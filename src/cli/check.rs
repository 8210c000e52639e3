//! `sluice check`: every problem of a config file, for people, editors and CI.
//!
//! Text is `file:line:column: error: message` with a `help:` line, which editors and CI annotate. JSON is one
//! object with the same fields. Warnings and notes alone leave the exit code 0. Limits in money are
//! held against the price list that ships with the binary.

use std::io;

use super::args::CheckArgs;
use super::{Exit, Surroundings};
use crate::config::{Diagnostic, Loader, Plan, Severity};
use crate::meter::price::PriceList;
use crate::policy::price::PriceSource;
use crate::policy::{self, Settings};

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Text,
    Json,
}

/// Runs the command.
pub(super) fn run(args: &CheckArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let loader = Loader { file: Some(args.file.clone()), sets: args.sets.clone(), ..Loader::default() };
    let format = if args.format == "json" { Format::Json } else { Format::Text };
    report(&loader, format, around)
}

/// Loads with `loader` and prints what was found.
pub(super) fn report(loader: &Loader, format: Format, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let name = loader.file.as_ref().map_or("(environment)".to_owned(), |file| file.display().to_string());
    let (plan, found) = match loader.load(around.env) {
        Ok(plan) => {
            let mut found = plan.warnings.clone();
            found.extend(of_prices(&plan));
            // Stable: findings of one place keep their order.
            found.sort_by_key(|one| (one.line, one.column));
            (Some(plan), found)
        }
        Err(error) => (None, error.diagnostics),
    };
    let count = |severity| found.iter().filter(|one| one.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    match format {
        Format::Text => {
            for one in &found {
                writeln!(around.out, "{one}")?;
            }
            let summary =
                plan.as_ref().map_or_else(|| "refused".to_owned(), |plan| format!("fine: {}", size(plan)));
            writeln!(around.out, "{name}: {summary}{}", counts(errors, warnings))?;
        }
        Format::Json => {
            let diagnostics: Vec<serde_json::Value> = found.iter().map(json).collect();
            let whole = serde_json::json!({
                "file": name, "ok": plan.is_some(), "errors": errors, "warnings": warnings,
                "diagnostics": diagnostics,
            });
            writeln!(around.out, "{whole:#}")?;
        }
    }
    Ok(if plan.is_some() { Exit::Ok } else { Exit::Refused })
}

/// Limits in money over models that nobody knows the price of.
fn of_prices(plan: &Plan) -> Vec<Diagnostic> {
    let limits = [
        ("retry_budget.max_cost_usd_per_minute", plan.retry_cost_nano_usd_per_minute.is_some()),
        ("step_budget.usd", plan.step_budget.is_some_and(|step| step.nano_usd.is_some())),
    ];
    if !limits.iter().any(|(_, set)| *set) {
        return Vec::new();
    }
    let settings = Settings::from_plan(plan, PriceSource::new(PriceList::shipped()));
    let names = policy::unpriced(plan, &settings);
    if names.is_empty() {
        return Vec::new();
    }
    let dollars = f64::from(settings.unpriced_input_nano_usd) / 1_000.0;
    let message = format!(
        "no price is known of {}: under this limit a million tokens count {dollars} dollars",
        names.join(", ")
    );
    let help = "state them in `models`, for example {price: {input: 0.15, output: 0.60}}".to_owned();
    let finding = |path| plan.places.finding(Severity::Warning, path, message.clone(), help.clone());
    limits.into_iter().filter(|(_, set)| *set).map(|(path, _)| finding(path)).collect()
}

fn size(plan: &Plan) -> String {
    let count = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    format!("{}, {}", count(plan.providers.len(), "provider"), count(plan.routes.len(), "chain"))
}

fn counts(errors: usize, warnings: usize) -> String {
    let mut text = String::new();
    for (count, one) in [(errors, "error"), (warnings, "warning")] {
        if count > 0 {
            text.push_str(&format!(", {count} {one}{}", if count == 1 { "" } else { "s" }));
        }
    }
    text
}

fn json(found: &Diagnostic) -> serde_json::Value {
    serde_json::json!({
        "severity": found.severity.to_string(), "file": found.source, "line": found.line, "column": found.column,
        "path": found.path, "message": found.message, "help": found.help,
    })
}
