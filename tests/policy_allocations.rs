//! Deciding about a request takes nothing from the heap, whether it succeeds at once or walks the whole chain.
//!
//! A test of its own because it counts every allocation of the process.
#![allow(unsafe_code)] // a global allocator is an unsafe trait

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use sluice::config::Loader;
use sluice::policy::price::PriceSource;
use sluice::policy::{
    Ask, Chain, Core, ErrorKind, Flight, Outcome, PolicyId, ProviderId, ProviderSettings, Settings, Shared,
    Signal, Step, Success, TargetRef, What, attribute, chain_of, downstream,
};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system allocator unchanged; the counter is a plain cell of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

/// One exchange in which the first `failing` targets refuse.
fn exchange(core: &mut Core, chain: Chain, now_us: u64, failing: u16) {
    let ask = Ask { now_us, stream: true, est_input_tokens: 2_000, ..Ask::default() };
    let mut flight = Flight::begin(core, chain, ask);
    loop {
        match flight.next(core, now_us) {
            Step::Attempt(attempt) if attempt.provider.0 < failing => {
                let limited = Signal::Status {
                    status: 429,
                    kind: ErrorKind::RateLimit,
                    retry_after_us: Some(2_000_000),
                };
                let signal =
                    if attempt.no.is_multiple_of(2) { limited } else { Signal::Transport(What::Connect) };
                flight.settle(core, now_us, attempt.no, Outcome::Failure(attribute(signal)));
            }
            Step::Attempt(attempt) => {
                flight.first_token(core, now_us + 1, attempt.no);
                flight.settle(core, now_us + 2, attempt.no, Outcome::Success(Success::default()));
                return;
            }
            Step::GiveUp(end) => {
                assert!(downstream::advise(&end).status >= 400);
                return;
            }
            _ => {
                flight.cancel(core, now_us);
                return;
            }
        }
    }
}

/// The chain of a resolved model, from the plan: keys, shares, price, window, policy and static answer.
#[test]
fn a_chain_from_the_plan_allocates_nothing_once_its_targets_are_known() {
    let text = "
providers: {a: {base_url: 'http://a'}, b: {base_url: 'http://b'}}
static: {s: {content: x}}
models: {a/x: {context: 8000, price: {input: 0.2, output: 0.8}}}
fallbacks: [{model: fast, targets: [[{target: a/x, weight: 0.7}, b/x], a/y, static/s], timeouts: {total: 60s}}]
";
    let loader = Loader { file: Some("f.yaml".into()), ..Loader::default() };
    let plan = loader.load_text(text, &|_| None).expect("loads");
    let settings = Arc::new(Settings::from_plan(&plan, PriceSource::default()));
    let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 2)), 0, 7);
    let mut walk = |n: u64| {
        for asked in ["fast", "a/x", "a/only-the-client-knows"] {
            let resolved = plan.resolve(asked).expect("known");
            let chain = chain_of(&core, &plan, asked, &resolved, 40_000);
            assert_eq!(chain.static_answer.is_some(), asked == "fast");
            exchange(&mut core, chain, 1_000_000 * n, 0);
        }
    };
    // Each of the equals has come first once by then, and is known.
    (1..50).for_each(&mut walk);
    assert_eq!(allocations(|| (50..1_000).for_each(walk)), 0);
}

#[test]
fn an_exchange_allocates_nothing_after_the_first_and_little_in_trouble() {
    let names = ["a", "b", "c"];
    let settings =
        Arc::new(Settings::new(names.map(|n| ProviderSettings::new(n).with_keys(&[0.7, 0.3])).to_vec()));
    let mut core = Core::new(Arc::clone(&settings), Arc::new(Shared::new(&settings, 2)), 0, 7);
    let mut chain = Chain::new(PolicyId(0));
    for provider in (0..3).map(ProviderId) {
        chain.push(TargetRef::new(provider, core.slot(provider, b"model")));
    }
    // The first use of a target makes what the core knows of it.
    exchange(&mut core, chain, 0, 2);
    exchange(&mut core, chain, 10_000_000, 3);
    let mut thousand = |from_us: u64, failures: u16| {
        allocations(|| {
            for n in 0..1_000u64 {
                exchange(&mut core, chain, from_us + n * 3_000_000, (n % u64::from(failures + 1)) as u16);
                core.slot(ProviderId(0), b"model");
                core.estimate_tokens(chain.targets()[0].slot, 4_000);
            }
        })
    };
    // While nothing is wrong. Two calls and one target passed over are kept without memory of their own; an exchange that
    // meets more trouble takes it once for each of the two lists.
    let (well, troubled) = (thousand(100_000_000, 0), thousand(4_000_000_000, 3));
    assert_eq!(well, 0);
    assert!((1..=2_000).contains(&troubled), "{troubled}");
}
