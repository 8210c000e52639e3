//! Counting an exchange takes nothing from the heap once its series exist, and a million pipelines take no more than the
//! first two hundred.
//!
//! A test of its own because it counts every allocation of the process.
#![allow(unsafe_code)] // a global allocator is an unsafe trait
#![allow(clippy::unwrap_used, clippy::print_stdout)] // what a test unwraps, it asserts; what it prints are figures

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use sluice::config::WhoLabel;
use sluice::dialect::{Api, Usage};
use sluice::meter::text::{Dialect, render};
use sluice::meter::{Answered, CoreMeter, Cost, Meter, Outcome, Record, Source, Spend, Tried, WHO_MAX};
use sluice::policy::{Reason, What};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; the counters are plain cells of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        HELD.with(|held| held.set(held.get() + layout.size() as i64));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.with(|held| held.set(held.get() - layout.size() as i64));
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> (u64, i64) {
    let before = (COUNT.with(Cell::get), HELD.with(Cell::get));
    work();
    (COUNT.with(Cell::get) - before.0, HELD.with(Cell::get) - before.1)
}

const BY: Answered<'static> = Answered { provider: "openai", model: "gpt-4o-mini", key: Some("main") };
const TRIED: [Tried<'static>; 1] = [Tried {
    target: BY,
    reason: Reason::First,
    what: What::Answered,
    fault: None,
    after_us: 10,
    elapsed_us: 500_000,
    answers: true,
    spend: Spend { tokens: 0, reported_nano_usd: 0, estimated_nano_usd: 0, aborted: false },
    server: ("api.openai.com", 443),
}];

fn labels() -> [WhoLabel; 3] {
    [("pipeline", 0), ("team", 2), ("branch", 3)].map(|(name, at)| WhoLabel { name: name.into(), at })
}

fn record<'r>(labels: &'r [WhoLabel], pipeline: &'r str, branch: &'r str) -> Record<'r> {
    let mut who = [""; WHO_MAX];
    (who[0], who[3]) = (pipeline, branch);
    Record {
        api: Api::ChatCompletions,
        stream: false,
        status: 200,
        outcome: Outcome::Ok,
        source: Source::Provider,
        code: "",
        route: "none",
        asked: "openai/gpt-4o-mini",
        answered: Some(BY),
        usage: Some(Usage { input: 10, output: 40, ..Usage::default() }),
        usage_missing: false,
        cost: Cost::Priced(25_500),
        started_us: 0,
        duration_us: 500_000,
        first_token_us: None,
        generating_us: None,
        overhead_us: Some(20),
        queued_us: 0,
        truncated: false,
        client_retries: 0,
        tried: &TRIED,
        who,
        labels,
        trace: None,
    }
}

/// The sum of all rows of one name whose labels contain `part`.
fn sum(page: &str, name: &str, part: &str) -> f64 {
    let rows = page.lines().filter(|line| line.starts_with(name) && line.contains(part));
    rows.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn counting_allocates_nothing_once_the_series_exist() {
    let labels = labels();
    let mut core = CoreMeter::new(Arc::new(Meter::default()));
    for pipeline in ["build", "nightly", ""] {
        core.record(&record(&labels, pipeline, "main"));
    }
    let (count, _) = allocations(|| {
        for _ in 0..1_000 {
            for pipeline in ["build", "nightly", ""] {
                core.record(&record(&labels, pipeline, "main"));
            }
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn a_million_pipelines_are_two_hundred_labels_and_no_more_memory() {
    const PIPELINES: usize = 1_000_000;
    let labels = labels();
    let meter = Arc::new(Meter::default());
    let mut cores = [CoreMeter::new(meter.clone()), CoreMeter::new(meter.clone())];
    let mut attack = |range: std::ops::Range<usize>| {
        let mut name = String::with_capacity(32);
        for n in range {
            name.clear();
            std::fmt::Write::write_fmt(&mut name, format_args!("pipeline-{n}")).unwrap();
            cores[n % 2].record(&record(&labels, &name, "main"));
        }
    };
    attack(0..1_000);
    let (_, held) = allocations(|| attack(1_000..PIPELINES));
    println!("held after {PIPELINES} pipelines: {held} bytes more than after 1000");
    assert_eq!(held, 0);
    let page = render(meter.families(), Dialect::Prometheus).unwrap();
    let mut values: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("sluice_requests_total"))
        .filter_map(|line| line.split("pipeline=\"").nth(1)?.split('"').next())
        .collect();
    values.sort_unstable();
    values.dedup();
    assert!(values.len() <= 200 && values.contains(&"other"), "{}", values.len());
    // Nothing is lost, it is only not told apart, and what is not told apart is counted.
    assert_eq!(sum(&page, "sluice_requests_total", ""), PIPELINES as f64);
    assert_eq!(sum(&page, "sluice_tokens_total", "output_text"), 40.0 * PIPELINES as f64);
    let cost = sum(&page, "sluice_cost_usd_total", "");
    assert!((cost - 25.5).abs() < 1e-9, "{cost}");
    let told_apart = values.len() - 1;
    let overflow = sum(&page, "sluice_label_overflow_total", "dimension=\"pipeline\"");
    assert_eq!(overflow, (PIPELINES - told_apart) as f64);
}

#[test]
fn many_of_everything_is_bounded_too() {
    let labels = labels();
    let meter = Arc::new(Meter::default());
    let mut core = CoreMeter::new(meter.clone());
    let names: Vec<String> = (0..180).map(|n| format!("n{n}")).collect();
    let attack = |core: &mut CoreMeter| {
        for pipeline in &names {
            for branch in &names {
                core.record(&record(&labels, pipeline, branch));
            }
        }
    };
    attack(&mut core);
    let (count, _) = allocations(|| attack(&mut core));
    assert_eq!(count, 0, "180 pipelines with 180 branches");
    let page = render(meter.families(), Dialect::Prometheus).unwrap();
    assert_eq!(sum(&page, "sluice_requests_total", ""), 2.0 * 180.0 * 180.0);
    let rows = page.lines().filter(|line| line.starts_with("sluice_requests_total")).count();
    assert!(rows <= 4096, "{rows}");
    assert!(sum(&page, "sluice_label_overflow_total", "combination") > 0.0);
    assert!(page.contains("branch=\"other\",pipeline=\"other\"") || page.contains("pipeline=\"other\""));
}
