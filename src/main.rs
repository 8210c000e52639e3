//! The `sluice` binary.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
