//! The `sluice` binary.

use std::process::ExitCode;

/// DEPENDENCIES.md has the measurement behind it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice::cli::run()
}
