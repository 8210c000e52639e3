//! The official SDKs as clients, on both drivers: tests/sdk/run.py drives them against this build's binary.
//!
//! They need Python and Node packages, so they run only when `SLUICE_SDK_TESTS=1` says that those are installed:
//!
//! ```sh
//! python3 -m venv tests/sdk/.venv && tests/sdk/.venv/bin/pip install -r tests/sdk/requirements.txt
//! (cd tests/sdk/node && npm ci)
//! SLUICE_SDK_TESTS=1 cargo test --test sdk -- --nocapture
//! ```
#![allow(clippy::print_stdout)] // a skipped suite says so

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;

use sluice::config::DriverChoice;
use sluice::net::driver;

/// One driver at a time: some of the tests look at the clock.
static TURN: Mutex<()> = Mutex::new(());

fn run(choice: DriverChoice, name: &str) {
    if std::env::var("SLUICE_SDK_TESTS").as_deref() != Ok("1") {
        println!(
            "SKIPPED: the SDK tests on {name}: SLUICE_SDK_TESTS is not 1 (tests/sdk.rs says how to run them)"
        );
        return;
    }
    if let Err(why) = driver::choose(choice) {
        println!("SKIPPED: the SDK tests on {name}: {why}");
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(|e| e.into_inner());
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk");
    let python = folder.join(".venv/bin/python");
    assert!(python.is_file(), "{} is missing; tests/sdk.rs says how to make it", python.display());
    let status = Command::new(&python)
        .arg(folder.join("run.py"))
        .args(["--bin", env!("CARGO_BIN_EXE_sluice"), "--driver", name])
        .status()
        .unwrap_or_else(|e| panic!("{}: {e}", python.display()));
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
