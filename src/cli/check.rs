//! `sluice check`: every problem of a config file, for people, editors and CI.
//!
//! Text is `file:line:column: error: message` with a `help:` line, which editors and CI annotate. JSON is one
//! object with the same fields. Warnings alone leave the exit code 0.

use std::io;

use super::args::CheckArgs;
use super::{Exit, Surroundings};
use crate::config::{Diagnostic, Loader, Plan, Severity};

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
            let warnings = plan.warnings.clone();
            (Some(plan), warnings)
        }
        Err(error) => (None, error.diagnostics),
    };
    let errors = found.iter().filter(|one| one.severity == Severity::Error).count();
    let warnings = found.len() - errors;
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
