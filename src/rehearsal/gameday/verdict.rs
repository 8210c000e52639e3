//! What came out: a table for people, JSON for machines.

use std::fmt;

use serde::Serialize;

use super::bars::Check;
use super::load::Outcome;
use super::measured::{Measured, percentile, times};

/// Every scenario that was run.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The clock that it was run on; 1 is the real one.
    pub scale: f64,
    /// What decided words, arrivals and chance.
    pub seed: u64,
    /// It was told to end before the last scenario did; the one that ran then has no verdict.
    pub interrupted: bool,
    /// One a scenario, in the order they were run.
    pub verdicts: Vec<Verdict>,
}

/// How one scenario went.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// The scenario's name.
    pub id: String,
    /// Its title.
    pub title: String,
    /// Every bar holds.
    pub passed: bool,
    /// Why it could not be run.
    pub problem: Option<String>,
    /// One a bar.
    pub checks: Vec<Check>,
    /// What was measured besides.
    pub figures: Figures,
}

/// The figures of a run. Times in milliseconds, from when a request was due.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs, reason = "each is what its name says")]
pub struct Figures {
    pub requests: u64,
    pub answered: u64,
    pub refused: u64,
    pub broken: u64,
    pub timed_out: u64,
    pub unconnected: u64,
    pub upstream_calls: u64,
    pub amplification: f64,
    pub first_token_p50_ms: Option<f64>,
    pub answer_p50_ms: Option<f64>,
    pub answer_p99_ms: Option<f64>,
    pub answer_max_ms: Option<f64>,
    pub spend_usd: f64,
    pub healthy_spend_usd: f64,
    /// Calls to each provider, in the order of the chain.
    pub calls_by_provider: Vec<u64>,
}

impl Figures {
    pub(super) fn of(run: &Measured<'_>) -> Figures {
        let milliseconds = |share: f64, first: bool| {
            let values =
                times(run.samples, |sample| if first { sample.first_token } else { Some(sample.ended) });
            percentile(values, share).map(|time| time.as_secs_f64() * 1e3)
        };
        Figures {
            requests: run.samples.len() as u64,
            answered: run.count(|outcome| outcome == Outcome::Answered),
            refused: run.count(|outcome| matches!(outcome, Outcome::Refused { .. })),
            broken: run.count(|outcome| matches!(outcome, Outcome::Broken { .. } | Outcome::NoAnswer)),
            timed_out: run.count(|outcome| outcome == Outcome::TimedOut),
            unconnected: run.count(|outcome| outcome == Outcome::NotConnected),
            upstream_calls: run.calls(),
            amplification: run.amplification(),
            first_token_p50_ms: milliseconds(0.5, true),
            answer_p50_ms: milliseconds(0.5, false),
            answer_p99_ms: milliseconds(0.99, false),
            answer_max_ms: milliseconds(1.0, false),
            spend_usd: run.spend_usd(),
            healthy_spend_usd: run.healthy_usd(),
            calls_by_provider: run.counts.iter().map(|counts| counts.requests).collect(),
        }
    }
}

impl Report {
    /// Every bar of every scenario holds, and there was one.
    pub fn passed(&self) -> bool {
        !self.verdicts.is_empty() && self.verdicts.iter().all(|verdict| verdict.passed)
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> String {
        // A report is made of strings, numbers and lists: nothing in it can fail to be written.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<4} {:<18} {:>8} {:>8} {:>6} {:>9} {:>9} {:>9}",
            "", "scenario", "requests", "answered", "calls", "p50", "p99", "spend"
        )?;
        for verdict in &self.verdicts {
            verdict.fmt(f)?;
        }
        let met = self.verdicts.iter().filter(|verdict| verdict.passed).count();
        let played = self.verdicts.len();
        write!(f, "{met} of {played} scenarios meet their bars (clock x{}, seed {})", self.scale, self.seed)?;
        writeln!(f, "{}", if self.interrupted { "; interrupted, the others were not played" } else { "" })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let figures = &self.figures;
        let time = |ms: Option<f64>| ms.map_or("-".to_owned(), |ms| format!("{ms:.0} ms"));
        writeln!(
            f,
            "{:<4} {:<18} {:>8} {:>8} {:>6} {:>9} {:>9} {:>9}",
            if self.passed { "ok" } else { "MISS" },
            self.id,
            figures.requests,
            figures.answered,
            figures.upstream_calls,
            time(figures.answer_p50_ms),
            time(figures.answer_p99_ms),
            format!("${:.2}", figures.spend_usd),
        )?;
        if let Some(problem) = &self.problem {
            writeln!(f, "       could not be run: {problem}")?;
        }
        for check in self.checks.iter().filter(|check| !check.passed) {
            writeln!(f, "       {}: {}", check.bar, check.got)?;
        }
        Ok(())
    }
}
