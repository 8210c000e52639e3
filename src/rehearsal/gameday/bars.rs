//! Measures each bar against what clients got and providers counted.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::super::counts::Counts;
use super::load::{Outcome, Sample};
use super::measured::{Measured, percentile, times};
use super::scenario::Bar;

/// The share of the steady rate that counts as all of it: arrivals of one second vary.
const FULL: f64 = 0.8;
/// The longest that a refusal may tell a client to wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// One bar after a run.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was asked, in words.
    pub bar: String,
    /// What was measured.
    pub got: String,
    /// Whether it holds.
    pub passed: bool,
}

pub(super) fn check(bar: &Bar, run: &Measured<'_>) -> Check {
    match *bar {
        Bar::Lost { at_most } => {
            let lost = run.count(|outcome| outcome != Outcome::Answered);
            let got = format!("{lost}{}", why_lost(run));
            Check { bar: format!("lost requests at most {at_most}"), got, passed: lost <= at_most }
        }
        Bar::Answered { at_least } => {
            let share = run.share(|sample| sample.outcome == Outcome::Answered);
            at_least_share("answered", share, at_least)
        }
        Bar::FalseEnds => {
            let count = run.count(|outcome| outcome == Outcome::Broken { visible: false });
            none("streams that only look whole", count)
        }
        Bar::Amplification { at_most } => {
            at_most_ratio("calls for each request", run.amplification(), at_most)
        }
        Bar::InsideRetryAfter => {
            let inside = |counts: &Counts| counts.inside_retry_after - counts.inside_retry_after_in_flight;
            none("calls inside a Retry-After window", run.counts.iter().map(inside).sum())
        }
        Bar::Spend { at_most } => {
            at_most_ratio("spend over healthy spend", run.spend_usd() / run.healthy_usd().max(1e-12), at_most)
        }
        Bar::SlowestAnswer { at_most } => {
            let slowest = times(run.samples, |sample| Some(sample.ended)).into_iter().max();
            within("slowest answer", slowest, run.limit(at_most))
        }
        Bar::SlowAnswers { at_most, after } => {
            let late: Vec<Sample> = run.due_after(after).copied().collect();
            let p99 = percentile(times(&late, |sample| Some(sample.ended)), 0.99);
            let name = format!("99 % of answers after {}", show(after));
            within(&name, p99, run.limit(at_most))
        }
        Bar::RefusedWithin { at_most, after } => {
            let refusals = run.due_after(after).filter(|s| matches!(s.outcome, Outcome::Refused { .. }));
            let took = refusals.map(|sample| sample.ended.saturating_sub(sample.sent)).collect();
            let name = format!("99 % of refusals after {}", show(after));
            within(&name, percentile(took, 0.99), at_most + run.machine())
        }
        Bar::RetryAfterTold { after } => retry_after_told(run, after),
        Bar::ProbesWhileDown { at_most, after } => probes(run, at_most, after),
        Bar::RecoveredWithin { at_most } => recovered(run, run.own_limit(at_most)),
        Bar::FullShareWithin { at_most } => full_share(run, run.own_limit(at_most)),
        Bar::NoRush { at_most } => no_rush(run, at_most),
        Bar::CallsWithKey { key, at_most } => {
            let first = run.counts.first();
            let with = first.map(|counts| counts.keys.iter().filter(|(name, _)| name.ends_with(key)));
            let calls = with.map_or(0, |keys| keys.map(|(_, counts)| counts.requests).sum());
            at_most_count(&format!("calls with the key ..{key}"), calls, at_most)
        }
        Bar::UpstreamCalls { at_most } => at_most_count("upstream calls", run.calls(), at_most),
        Bar::NothingLeftOpen => {
            none("exchanges left open", run.counts.iter().map(|counts| counts.in_progress).sum())
        }
    }
}

fn retry_after_told(run: &Measured<'_>, after: Duration) -> Check {
    let (mut told, mut all) = (0, 0);
    for sample in run.due_after(after) {
        if let Outcome::Refused { retry_after, .. } = sample.outcome {
            all += 1;
            told += u64::from(retry_after.is_some_and(|wait| !wait.is_zero() && wait <= LONGEST_WAIT));
        }
    }
    Check {
        bar: "every refusal tells a Retry-After of up to 60 s".to_owned(),
        got: format!("{told} of {all}"),
        passed: told == all && all > 0,
    }
}

fn probes(run: &Measured<'_>, at_most: u64, after: Duration) -> Check {
    let name = "calls to the provider while it is down";
    let (Some(first), Some(healthy)) = (run.counts.first(), run.healthy_at) else { return missing(name) };
    let from = run.start + run.learnt(after);
    let inside = first.buckets.iter().filter(|bucket| bucket.start >= from && bucket.last_seen < healthy);
    at_most_count(name, inside.map(|bucket| bucket.requests).sum(), at_most)
}

fn recovered(run: &Measured<'_>, at_most: Duration) -> Check {
    let name = "first success after the provider is well";
    let (Some(first), Some(healthy)) = (run.counts.first(), run.healthy_at) else { return missing(name) };
    let success = first.buckets.iter().find(|bucket| bucket.completed > 0 && bucket.start >= healthy);
    within(name, success.map(|bucket| bucket.start.saturating_duration_since(healthy)), at_most)
}

fn no_rush(run: &Measured<'_>, at_most: f64) -> Check {
    let name = "most calls in a second after it is well, over the steady rate";
    let (Some(first), Some(healthy)) = (run.counts.first(), run.healthy_at) else { return missing(name) };
    let most = seconds_from(first, healthy).into_iter().map(|(_, calls)| calls).max().unwrap_or(0);
    at_most_ratio(name, most as f64 / run.load.rate, at_most)
}

fn full_share(run: &Measured<'_>, at_most: Duration) -> Check {
    let name = "its whole share after it is well";
    let (Some(first), Some(healthy)) = (run.counts.first(), run.healthy_at) else { return missing(name) };
    let full = (run.load.rate * FULL) as u64;
    let begun = seconds_from(first, healthy).into_iter().find(|(_, calls)| *calls >= full).map(|(at, _)| at);
    within(name, begun.map(|at| at.saturating_duration_since(healthy)), at_most)
}

/// The calls of the second that each bucket from then on begins.
fn seconds_from(counts: &Counts, from: Instant) -> Vec<(Instant, u64)> {
    let after: Vec<_> = counts.buckets.iter().filter(|bucket| bucket.start >= from).collect();
    let second = |n: usize| {
        let end = after[n].start + Duration::from_secs(1);
        let inside = after[n..].iter().take_while(|bucket| bucket.start < end);
        (after[n].start, inside.map(|bucket| bucket.requests).sum())
    };
    (0..after.len()).map(second).collect()
}

/// The three most frequent ways in which requests were lost.
fn why_lost(run: &Measured<'_>) -> String {
    let mut ways: Vec<(String, u64)> = Vec::new();
    for sample in run.samples {
        let way = match sample.outcome {
            Outcome::Answered => continue,
            Outcome::Refused { status, .. } => format!("status {status}"),
            Outcome::Broken { visible: true } => "broken".to_owned(),
            Outcome::Broken { visible: false } => "false end".to_owned(),
            Outcome::NoAnswer => "no answer".to_owned(),
            Outcome::TimedOut => "timed out".to_owned(),
            Outcome::NotConnected => "not connected".to_owned(),
        };
        match ways.iter_mut().find(|(known, _)| *known == way) {
            Some((_, count)) => *count += 1,
            None => ways.push((way, 1)),
        }
    }
    ways.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut out = String::new();
    for (n, (way, count)) in ways.iter().take(3).enumerate() {
        let _ = write!(out, "{}{count} {way}", if n == 0 { " (" } else { ", " });
    }
    if !out.is_empty() {
        out.push(')');
    }
    out
}

fn none(name: &str, count: u64) -> Check {
    Check { bar: format!("no {name}"), got: count.to_string(), passed: count == 0 }
}

fn at_most_count(name: &str, count: u64, at_most: u64) -> Check {
    Check { bar: format!("{name} at most {at_most}"), got: count.to_string(), passed: count <= at_most }
}

fn at_most_ratio(name: &str, ratio: f64, at_most: f64) -> Check {
    // Half of the last digit that is shown: 1.00 means 1.
    let passed = ratio <= at_most + 0.000_5;
    Check { bar: format!("{name} at most {at_most:.2}"), got: format!("{ratio:.3}"), passed }
}

fn at_least_share(name: &str, share: f64, at_least: f64) -> Check {
    let passed = share >= at_least;
    Check {
        bar: format!("{name} at least {:.0} %", at_least * 100.0),
        got: format!("{:.1} %", share * 100.0),
        passed,
    }
}

fn within(name: &str, time: Option<Duration>, at_most: Duration) -> Check {
    let Some(time) = time else { return missing(name) };
    Check { bar: format!("{name} within {}", show(at_most)), got: show(time), passed: time <= at_most }
}

/// What was never seen was not met.
fn missing(name: &str) -> Check {
    Check { bar: name.to_owned(), got: "nothing to measure".to_owned(), passed: false }
}

fn show(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    if milliseconds < 10.0 {
        format!("{milliseconds:.1} ms")
    } else if milliseconds < 1_000.0 {
        format!("{milliseconds:.0} ms")
    } else {
        format!("{:.1} s", milliseconds / 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Load;
    use super::*;

    fn sample(due_ms: u64, outcome: Outcome) -> Sample {
        let (due, ended) = (Duration::from_millis(due_ms), Duration::from_millis(20));
        Sample { due, sent: Duration::ZERO, first_token: None, ended, outcome, tries: 1 }
    }

    fn judge(bar: Bar, samples: &[Sample], counts: &[Counts]) -> Check {
        let load = Load::steady(10.0, Duration::from_secs(1));
        let run = Measured {
            load: &load,
            samples,
            counts,
            scale: 1.0,
            own_scale: 1.0,
            answer_tokens: 20,
            start: Instant::now(),
            healthy_at: None,
        };
        check(&bar, &run)
    }

    #[test]
    fn one_lost_request_misses_the_bar_and_says_how_it_was_lost() {
        let good = sample(0, Outcome::Answered);
        let bad = sample(1, Outcome::Refused { status: 503, retry_after: None });
        assert!(judge(Bar::Lost { at_most: 0 }, &[good, good], &[]).passed);
        let check = judge(Bar::Lost { at_most: 0 }, &[good, bad], &[]);
        assert!(!check.passed);
        assert_eq!(check.got, "1 (1 status 503)");
        assert!(judge(Bar::Lost { at_most: 1 }, &[good, bad], &[]).passed);
    }

    #[test]
    fn a_fast_run_forgives_a_refusal_what_the_machine_kept_the_clients_waiting_and_no_more() {
        let refused = Sample {
            sent: Duration::from_millis(4),
            ended: Duration::from_millis(4 + 12),
            ..sample(0, Outcome::Refused { status: 503, retry_after: None })
        };
        let bar = Bar::RefusedWithin { at_most: Duration::from_millis(5), after: Duration::ZERO };
        let load = Load::steady(10.0, Duration::from_secs(1));
        let passed = |scale, refused| {
            let (samples, counts, start) = (&[refused; 3][..], &[][..], Instant::now());
            let run = Measured {
                load: &load,
                samples,
                counts,
                scale,
                own_scale: 1.0,
                answer_tokens: 20,
                start,
                healthy_at: None,
            };
            check(&bar, &run).passed
        };
        assert!(passed(0.5, refused), "12 ms are 5 and twice 4");
        assert!(!passed(0.5, Sample { ended: Duration::from_millis(4 + 14), ..refused }));
        assert!(!passed(1.0, refused), "the real clock forgives nothing");
    }

    #[test]
    fn amplification_and_spend_hold_at_the_figure_and_not_above() {
        let samples = vec![sample(0, Outcome::Answered); 100];
        let counts = |requests, tokens_in| Counts { requests, tokens_in, ..Counts::default() };
        let bar = Bar::Amplification { at_most: 1.05 };
        assert!(judge(bar, &samples, &[counts(70, 0), counts(35, 0)]).passed);
        assert!(!judge(bar, &samples, &[counts(70, 0), counts(36, 0)]).passed);
        assert!(judge(Bar::Spend { at_most: 0.0 }, &samples, &[counts(100, 0)]).passed);
        assert!(!judge(Bar::Spend { at_most: 0.0 }, &samples, &[counts(100, 1_000)]).passed);
    }

    #[test]
    fn a_bar_without_a_measurement_is_missed() {
        for bar in [
            Bar::SlowestAnswer { at_most: Duration::from_secs(1) },
            Bar::RecoveredWithin { at_most: Duration::from_secs(30) },
            Bar::RetryAfterTold { after: Duration::ZERO },
        ] {
            assert!(!judge(bar, &[], &[]).passed, "{bar:?}");
        }
    }
}
