//! The official SDKs as clients, on both drivers: tests/sdk/run.py drives them against this build's binary.
//!
//! They need Python and Node packages, so they run only when `SLUICE_SDK_TESTS=1` says that those are installed:
//!
//! ```sh
//! python3 -m venv tests/sdk/.venv && tests/sdk/.venv/bin/pip install -r tests/sdk/requirements.txt
//! (cd tests/sdk/node && npm ci)
//! SLUICE_SDK_TESTS=1 cargo test --test sdk -- --nocapture
//! ```
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a skipped suite says so; what a test unwraps, it asserts

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use sluice::config::{DriverChoice, Loader};
use sluice::gateway::{self, Running};
use sluice::net::driver;
use sluice::rehearsal::{Mock, MockOptions, Program};

/// One driver at a time: some of the tests look at the clock.
static TURN: Mutex<()> = Mutex::new(());

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// Whether the SDKs are there and the driver works; says why when not.
fn ready(choice: DriverChoice, name: &str) -> bool {
    if std::env::var("SLUICE_SDK_TESTS").as_deref() != Ok("1") {
        println!(
            "SKIPPED: the SDK tests on {name}: SLUICE_SDK_TESTS is not 1 (tests/sdk.rs says how to run them)"
        );
        return false;
    }
    if let Err(why) = driver::choose(choice) {
        println!("SKIPPED: the SDK tests on {name}: {why}");
        return false;
    }
    let python = folder().join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing; tests/sdk.rs says how to make it", python.display());
    true
}

fn run(choice: DriverChoice, name: &str) {
    if !ready(choice, name) {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let status = Command::new(folder().join(".venv/bin/python"))
        .arg(folder().join("run.py"))
        .args(["--bin", env!("CARGO_BIN_EXE_sluice"), "--driver", name])
        .status()
        .unwrap_or_else(|e| panic!("Python: {e}"));
    assert!(status.success(), "the SDK tests failed on {name}");
}

#[test]
fn the_official_sdks_work_on_epoll() {
    run(DriverChoice::Epoll, "epoll");
}

#[test]
fn the_official_sdks_work_on_io_uring() {
    run(DriverChoice::IoUring, "io_uring");
}

const CALLS: u64 = 240;
const AT_ONCE: u64 = 24;

fn provider(program: &str) -> Mock {
    let program = Program::parse(program).unwrap();
    Mock::start(MockOptions { program, ..MockOptions::default() }).unwrap()
}

/// `first` alone, or with `backup` behind it.
fn gateway(first: SocketAddr, backup: Option<SocketAddr>, driver: DriverChoice) -> Running {
    let mut text = format!("listen: 127.0.0.1:0\nproviders:\n  first: {{base_url: \"http://{first}\"}}\n");
    if let Some(backup) = backup {
        text.push_str(&format!("  backup: {{base_url: \"http://{backup}\"}}\n"));
        text.push_str("fallbacks: [{model: first/m, targets: [backup/m]}]\n");
    }
    let loader = Loader { file: Some("brownout.yaml".into()), ..Loader::default() };
    let mut plan = loader.load_text(&text, &|_| None).unwrap();
    plan.driver = driver;
    gateway::start(plan).unwrap()
}

/// What an SDK's user saw, by outcome, and under `sent` how many requests the SDK made.
fn calls(sdk: &str, gateway: &Running) -> BTreeMap<String, u64> {
    let mut command = match sdk {
        "node" => {
            let mut node = Command::new("node");
            node.arg(folder().join("node/brownout.mjs"));
            node
        }
        _ => {
            let mut python = Command::new(folder().join(".venv/bin/python"));
            python.arg(folder().join("python/brownout.py"));
            python
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    let output = command
        .args([format!("http://{}", gateway.addr()), "first/m".to_owned()])
        .args([CALLS.to_string(), AT_ONCE.to_string()])
        // Nobody's keys, proxies or base URLs.
        .env_clear()
        .env("PATH", path)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|e| panic!("{sdk}: {e}"));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{sdk}: {}: {text}", output.status);
    let outcomes: BTreeMap<String, u64> =
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let ended: u64 = outcomes.iter().filter(|(name, _)| *name != "sent").map(|(_, n)| n).sum();
    assert_eq!((ended, outcomes.get("wrong")), (CALLS, None), "{sdk}: {outcomes:?}");
    outcomes
}

/// The SDKs as they come: both send a failed request twice more unless they are told not to.
fn brownouts(choice: DriverChoice, name: &str) {
    if !ready(choice, name) {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    for sdk in ["python", "node"] {
        // With a healthy provider behind the bad one nobody notices anything.
        for fault in ["brownout:rate=0.3,retry-after=60", "status:503,p=0.3"] {
            let (bad, good) = (provider(fault), provider("ok"));
            let begun = Instant::now();
            let gateway = gateway(bad.addr(), Some(good.addr()), choice);
            let outcomes = calls(sdk, &gateway);
            let (bad, good) = (bad.counts(), good.counts());
            println!(
                "{sdk} on {name}, {fault}, with a fallback: {outcomes:?}, {} and {} upstream",
                bad.requests, good.requests
            );
            assert_eq!(outcomes.get("ok"), Some(&CALLS), "{sdk}: something was lost: {outcomes:?}");
            assert_eq!(outcomes.get("sent"), Some(&CALLS), "{sdk}: the SDK had to retry: {outcomes:?}");
            assert!(good.requests > 0);
            // What the second provider adds is one call for each failure of the first, and retries within the budget.
            let failed = bad.refused + bad.broken;
            assert!(
                bad.requests + good.requests <= CALLS + failed + budget(begun),
                "{sdk}: {} + {}",
                bad.requests,
                good.requests
            );
            assert!(
                bad.inside_retry_after <= AT_ONCE,
                "{} calls inside a Retry-After",
                bad.inside_retry_after
            );
        }
        // Alone, what fails fails, but the provider is not asked more often for it.
        for fault in
            ["brownout:rate=0.3,retry-after=60", "brownout:rate=0.3,retry-after=1", "status:503,p=0.3"]
        {
            let bad = provider(fault);
            let begun = Instant::now();
            let gateway = gateway(bad.addr(), None, choice);
            let outcomes = calls(sdk, &gateway);
            let counts = bad.counts();
            println!("{sdk} on {name}, {fault}, alone: {outcomes:?}, {} upstream", counts.requests);
            let most = CALLS + budget(begun);
            assert!(
                counts.requests <= most,
                "{sdk}: {} upstream calls for {CALLS}: {outcomes:?}",
                counts.requests
            );
            if fault.starts_with("status") {
                assert!(outcomes.get("ok").is_some_and(|ok| *ok > 0), "{sdk}: {outcomes:?}");
            }
            if fault.ends_with("=60") {
                // The key rests for a minute: nothing but what was in flight already is sent.
                assert!(counts.requests <= 10 * AT_ONCE, "{}", counts.requests);
                assert!(counts.inside_retry_after <= AT_ONCE, "{}", counts.inside_retry_after);
            }
        }
    }
}

/// Extra calls that the retry budget allows since `begun`, at most: in each second a tenth of the requests or three,
/// whichever is more, so over several seconds no more than both together.
fn budget(begun: Instant) -> u64 {
    CALLS / 10 + 3 * begun.elapsed().as_secs() + 3
}

#[test]
fn sdk_retries_stay_within_the_budget_in_a_brownout_on_epoll() {
    brownouts(DriverChoice::Epoll, "epoll");
}

#[test]
fn sdk_retries_stay_within_the_budget_in_a_brownout_on_io_uring() {
    brownouts(DriverChoice::IoUring, "io_uring");
}
