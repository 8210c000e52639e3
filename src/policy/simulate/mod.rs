//! The whole engine under a simulated clock: scripted providers, clients and cores, and a seed.
//!
//! Prevents: a policy that is right in every unit test and wrong in an outage. Each seed makes providers with latencies and
//! a program of faults, clients with deadlines, patience and retries of their own, and one to four cores that share the real
//! cells; then some minutes pass in milliseconds. On every seed the bars hold:
//!
//! - no request is lost while a target that had been well for 45 s could have answered it;
//! - calls a request stay within 1.10 when something fails and 1.02 when nothing does. Not counted are calls that were
//!   already out when the first failure of a fault came back, which no policy can prevent, and hedges where a seed turns
//!   them on; where a seed turns on the floor of 3 retries a second, quiet traffic is held to that instead;
//! - no call goes to a key inside the Retry-After window it was given;
//! - at most one probe is out per target, and no other call passes an open breaker;
//! - no retry budget is overdrawn, in calls or in money, and every retry is paid for;
//! - by provider, the engine's calls, answers and cost equal what the provider wrote down;
//! - every exchange ends, every place and probe comes back, nothing starts after a deadline or after the answer began.
//!
//! A failing seed is run again with a trace. To replay one: `SLUICE_SEED=17 cargo test --lib replay_a_seed -- --nocapture`.
//!
//! Manner: quinn's `Pair`, TigerBeetle's simulator. Leaves out: sockets and bytes, which the game days cover.

mod scenario;
mod script;
pub mod stories;
mod world;

pub use scenario::Scenario;
pub use script::{Fault, Script, Trouble};
pub use world::Report;

/// Runs the scenario of a seed.
pub fn run(seed: u64) -> Report {
    world::World::new(Scenario::of(seed), false).run()
}

/// Runs it with a line for every event.
pub fn trace(seed: u64) -> Report {
    world::World::new(Scenario::of(seed), true).run()
}

/// Runs seeds on this many threads; the first failing seed's report, or the number of requests simulated.
pub fn sweep(seeds: std::ops::Range<u64>, threads: usize) -> Result<u64, Box<Report>> {
    use std::sync::atomic::{AtomicU64, Ordering};
    let next = AtomicU64::new(seeds.start);
    let work = || {
        let mut requests = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(requests);
            }
            let report = run(seed);
            if !report.violations.is_empty() {
                next.store(seeds.end, Ordering::Relaxed);
                return Err(Box::new(report));
            }
            requests += report.requests;
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        let mut total = 0;
        for thread in threads {
            total += thread.join().unwrap_or_else(|_| {
                let violations = vec!["a simulation thread panicked".to_owned()];
                Err(Box::new(Report { violations, ..Report::default() }))
            })?;
        }
        Ok(total)
    })
}

/// The failing run as a text: what was missed, then the events of the exchanges it names and the seed to replay it.
pub fn explain(report: &Report) -> String {
    use std::fmt::Write as _;
    let traced = trace(report.seed);
    let mut text = format!("seed {} missed its bars:\n", report.seed);
    for violation in traced.violations.iter().take(10) {
        let _ = writeln!(text, "  {violation}");
        let Some(exchange) = violation.split("exchange ").nth(1).and_then(|rest| rest.split(':').next())
        else {
            continue;
        };
        let wanted = format!("exchange {exchange}:");
        for line in traced.trace.iter().filter(|line| line.contains(&wanted)) {
            let _ = writeln!(text, "    {line}");
        }
    }
    let scenario = Scenario::of(report.seed);
    let _ = writeln!(text, "providers:");
    for script in &scenario.scripts {
        let _ = writeln!(text, "  {script:?}");
    }
    let _ = writeln!(
        text,
        "replay with SLUICE_SEED={} cargo test --lib replay_a_seed -- --nocapture",
        report.seed
    );
    text
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    /// Seeds of an ordinary test run; `SLUICE_SEEDS` raises it. CI runs 10,000 in half a minute, optimised (`.ci/run simulate`).
    const SEEDS: u64 = 200;

    #[test]
    fn every_seed_holds_every_bar() {
        let seeds = std::env::var("SLUICE_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
        let first = std::env::var("SLUICE_FIRST").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
        let started = std::time::Instant::now();
        match sweep(first..first + seeds, 2) {
            Ok(requests) => println!("{seeds} seeds, {requests} requests, {:?}", started.elapsed()),
            Err(report) => panic!("{}", explain(&report)),
        }
    }

    #[test]
    fn replay_a_seed() {
        if let Some(seed) = std::env::var("SLUICE_SEED").ok().and_then(|n| n.parse().ok()) {
            let report = trace(seed);
            report.trace.iter().for_each(|line| println!("{line}"));
            println!("{:#?}", Scenario::of(seed));
            println!("{:#?}", Report { trace: Vec::new(), ..report });
        }
    }

    #[test]
    fn the_same_seed_runs_the_same_way_twice() {
        for seed in 0..5 {
            assert_eq!(trace(seed).trace, trace(seed).trace);
        }
    }
}
