//! The `sluice` binary: connects the command line to the rooms that it starts.

use std::process::ExitCode;
use std::time::Duration;

use sluice::cli::{self, Rooms, StartError, mock::MockArgs, serve::Start};
use sluice::config::Plan;
use sluice::gateway::{self, ServeOptions};
use sluice::rehearsal::{self, Dialects, MockOptions, Pacing, Program};

/// Answers and buffers of a size are allocated and freed on one core's thread; DEPENDENCIES.md has the measurement.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    cli::run(&Rooms { serve: &serve, mock: &mock, list_faults: &rehearsal::list_faults })
}

fn serve(plan: Plan, start: Start) -> Result<(), StartError> {
    let reload = (start.loader.file.is_some()).then(|| {
        let load = move || start.loader.load(&|name| std::env::var(name).ok()).map_err(|e| e.to_string());
        Box::new(load) as Box<gateway::Reload>
    });
    Ok(gateway::serve(plan, &ServeOptions { reload })?)
}

fn mock(args: MockArgs) -> Result<(), StartError> {
    let mut pacing = if args.instant { Pacing::instant() } else { Pacing::realistic() };
    if let Some(ms) = args.first_token {
        pacing.first_token = Duration::from_millis(ms);
    }
    if let Some(ms) = args.token_gap {
        pacing.token_gap = Duration::from_millis(ms);
    }
    if let Some(tokens) = args.tokens {
        pacing.tokens = tokens as usize;
    }
    let program = Program::parse(&args.faults.join("; "))?.scaled(args.scale);
    let dialects = match args.dialect.as_str() {
        "openai" => Dialects::OpenAi,
        "anthropic" => Dialects::Anthropic,
        _ => Dialects::All,
    };
    let options = MockOptions {
        listen: args.listen,
        dialects,
        program,
        pacing,
        keys: args.keys,
        seed: args.seed,
        ..MockOptions::default()
    };
    Ok(rehearsal::serve(options)?)
}
