//! Puts load on a server and prints what was seen, as one JSON object. What the kinds are is told in `engine`.
//!
//! With `--cpu-of PID` the CPU time of that process and its descendants is measured over the same window. `ladder` plays open
//! loops at rising rates, until the 99th percentile is beyond `--p99-ms` or the rate is not kept, and prints each step.
//!
//!     load closed --to 127.0.0.1:9400 --connections 64 --bytes 1024
//!     load open --to 127.0.0.1:9400 --rate 2000 --connections 16
//!     load streams --to 127.0.0.1:9400 --gap 2000 --events 200
//!     load ladder --to 127.0.0.1:9400 --rate 10000 --step 1.08 --seconds 0.4

use clap::{Parser, ValueEnum};
use perf_tools::engine::{Engine, Phase, Seen};
use perf_tools::request::{Shape, request};
use perf_tools::{cpu, exact_timers, many_files};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Kind {
    Closed,
    Open,
    Streams,
    Ladder,
}

#[derive(Parser)]
struct Args {
    kind: Kind,
    /// Where to.
    #[arg(long)]
    to: String,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests a second of an open loop, and of a ladder's first step.
    #[arg(long, default_value_t = 1000.0)]
    rate: f64,
    /// How long is measured, each step of a ladder.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// How long before that.
    #[arg(long, default_value_t = 0.5)]
    warm: f64,
    /// Ends after so many answers, whatever the time.
    #[arg(long, default_value_t = 0)]
    requests: u64,
    /// Size of the request's body.
    #[arg(long, default_value_t = 1024)]
    bytes: usize,
    #[arg(long, default_value = "/v1/chat/completions")]
    path: String,
    #[arg(long, default_value = "gpt-4o-mini")]
    model: String,
    /// Microseconds between events, and how many, of streams.
    #[arg(long, default_value_t = 2000)]
    gap: u64,
    #[arg(long, default_value_t = 200)]
    events: u32,
    /// More header lines, `name: value`.
    #[arg(long)]
    header: Vec<String>,
    /// The process whose CPU time counts.
    #[arg(long)]
    cpu_of: Option<u32>,
    /// Connections are opened over so many seconds.
    #[arg(long, default_value_t = 0.0)]
    ramp: f64,
    /// Each step of a ladder is so much faster than the one before.
    #[arg(long, default_value_t = 1.08)]
    step: f64,
    /// Where a ladder ends.
    #[arg(long, default_value_t = 10.0)]
    p99_ms: f64,
}

fn report(seen: &mut Seen) -> Value {
    let per = |count: u64| (count > 0).then(|| seen.cpu_ns as f64 / 1e3 / count as f64);
    json!({
        "seconds": seen.seconds, "done": seen.done, "per_s": seen.done as f64 / seen.seconds, "errors": seen.errors,
        "not_200": seen.not_200, "unfinished": seen.unfinished, "events": seen.events,
        "events_per_s": seen.events as f64 / seen.seconds, "lost": seen.lost,
        "late_1ms": seen.delay.above(1_000_000), "late_10ms": seen.delay.above(10_000_000), "late_100ms": seen.delay.above(100_000_000),
        "cpu_busy": seen.cpu_ns as f64 / 1e9 / seen.seconds, "cpu_us_per_request": per(seen.done),
        "cpu_us_per_event": per(seen.events), "latency_us": seen.latency.report(), "first_us": seen.first.report(),
        "delay_us": seen.delay.report(), "gap_us": seen.gap.report(),
    })
}

/// Open loops at rising rates. A step that is too slow is played twice: what disturbs the machine for a moment is no limit.
fn ladder(engine: &mut Engine, args: &Args, first: Phase) -> Value {
    let mut steps = Vec::new();
    let (mut rate, mut failed) = (args.rate, 0);
    while failed < 2 && steps.len() < 60 {
        let warm_s = if steps.is_empty() { first.warm_s } else { 0.05 };
        let mut seen = engine.play(Phase { rate: Some(rate), warm_s, ..first });
        let mut step = report(&mut seen);
        step["rate"] = rate.into();
        let p99_us = step["latency_us"]["p99"].as_f64().unwrap_or(f64::INFINITY);
        let good = p99_us <= args.p99_ms * 1e3 && seen.unfinished + seen.not_200 + seen.errors == 0;
        step["good"] = good.into();
        steps.push(step);
        if good {
            (failed, rate) = (0, rate * args.step);
        } else {
            failed += 1;
        }
    }
    json!({"steps": steps})
}

fn main() {
    let args = Args::parse();
    many_files();
    exact_timers();
    let streams = args.kind == Kind::Streams;
    let bytes = request(&Shape {
        to: &args.to,
        path: &args.path,
        model: &args.model,
        bytes: args.bytes,
        pace: streams.then_some((args.gap, args.events)),
        headers: &args.header,
    });
    let phase = Phase {
        rate: (args.kind == Kind::Open).then_some(args.rate),
        events: streams.then_some(args.events),
        warm_s: args.warm,
        seconds: args.seconds,
        ramp_s: args.ramp,
        requests: args.requests,
        cpu_of: args.cpu_of,
    };
    let mut engine = Engine::new(&args.to, args.connections, bytes);
    let mut report = match args.kind {
        Kind::Ladder => ladder(&mut engine, &args, phase),
        _ => report(&mut engine.play(phase)),
    };
    report["rss_kib"] = args.cpu_of.map(cpu::rss_kib).into();
    println!("{report}");
}
