//! What commands start in a real process.
//!
//! The only file here that reads the process environment again (a reload sees what it holds then) and that
//! waits for signals.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::StartError;
use super::gameday::GamedayArgs;
use super::mock::MockArgs;
use super::state;
use crate::config::{Loader, Plan};
use crate::gateway::{self, ServeOptions};
use crate::net::driver;
use crate::rehearsal::gameday::{self, Report, Setup, Terminal};
use crate::rehearsal::{Dialects, Mock, MockOptions, Pacing, Program};

/// Serves `plan` until the process is told to stop; SIGHUP loads the next plan with `loader`.
pub(super) fn serve(plan: Plan, loader: Loader) -> Result<(), StartError> {
    let ledger = state::ledger(&|name| std::env::var(name).ok());
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let reload = move || loader.load(&|name| std::env::var(name).ok()).map_err(|error| error.to_string());
    let options = ServeOptions { reload: Some(Box::new(reload)), ledger };
    gateway::serve(plan, &options).map_err(|error| StartError::Start(error.to_string()))
}

/// The exit code of a process that a second Ctrl-C ends, as a shell would report it.
const INTERRUPTED: i32 = 130;
/// Signals this close together are one.
const SAME_SIGNAL: Duration = Duration::from_millis(500);

/// Plays game days against gateways in this process, or against one that runs already. The first SIGINT or SIGTERM ends
/// the run with the verdicts so far, the second ends the process.
pub(super) fn gameday(args: &GamedayArgs) -> Result<Report, StartError> {
    let failed = |error: std::io::Error| StartError::Start(error.to_string());
    if args.against.is_none() {
        driver::choose(args.driver()).map_err(failed)?;
    }
    let stop = Arc::new(AtomicBool::new(false));
    end_on_signals(stop.clone()).map_err(failed)?;
    let options = gameday::Options {
        only: args.days.clone(),
        scale: args.scale,
        load: args.load,
        seed: args.seed,
        against: args.against.clone(),
        provider_ports: args.ports(),
        stop,
    };
    let screen = std::io::stderr();
    let in_place = screen.is_terminal();
    let workers = args.workers.map(usize::from);
    let mut start = |setup: &Setup| gateway::gateway_for(setup, args.driver(), workers);
    gameday::run(&options, &mut start, &mut Terminal::new(screen, in_place)).map_err(StartError::Arguments)
}

/// Sets `stop` on the first signal and ends the process on a later one.
fn end_on_signals(stop: Arc<AtomicBool>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            stop.store(true, Ordering::Release);
            // One Ctrl-C can come twice: from the terminal, and from a parent that passes on its own.
            if first.get_or_insert_with(Instant::now).elapsed() > SAME_SIGNAL {
                std::process::exit(INTERRUPTED);
            }
        }
    })?;
    Ok(())
}

/// Serves as a mock provider until SIGTERM or SIGINT.
pub(super) fn mock(args: &MockArgs) -> Result<(), StartError> {
    let options = mock_options(args)?;
    let faults = options.program.text().to_owned();
    let failed = |error: std::io::Error| StartError::Start(error.to_string());
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(failed)?;
    let mock = Mock::start(options)
        .map_err(|error| StartError::Start(format!("the mock cannot listen on {}: {error}", args.listen)))?;
    let manner =
        if faults.is_empty() { "without faults".to_owned() } else { format!("with faults: {faults}") };
    say(&format!("sluice mock answers as a provider on {}, {manner}", mock.base_url()));
    say(&format!(
        "to put a gateway in front: sluice serve --set providers.mock.base_url={}",
        mock.base_url()
    ));
    signals.forever().next();
    let counts = mock.counts();
    mock.stop();
    say(&format!(
        "sluice mock: {} requests, {} answered, {} refused, {} broken by faults, {} left by their client",
        counts.requests, counts.completed, counts.refused, counts.broken, counts.cancelled
    ));
    Ok(())
}

fn mock_options(args: &MockArgs) -> Result<MockOptions, StartError> {
    let program =
        Program::parse(&args.faults.join("; ")).map_err(|error| StartError::Arguments(error.to_string()))?;
    let mut pacing = if args.instant { Pacing::instant() } else { Pacing::realistic() };
    let duration = std::time::Duration::from_millis;
    pacing.first_token = args.first_token.map_or(pacing.first_token, duration);
    pacing.token_gap = args.token_gap.map_or(pacing.token_gap, duration);
    pacing.tokens = args.tokens.map_or(pacing.tokens, |tokens| tokens as usize);
    let dialects = match args.dialect.as_str() {
        "openai" => Dialects::OpenAi,
        "anthropic" => Dialects::Anthropic,
        _ => Dialects::All,
    };
    Ok(MockOptions {
        listen: args.listen,
        dialects,
        program: program.scaled(args.scale),
        pacing,
        keys: args.keys.clone(),
        seed: args.seed,
        ..MockOptions::default()
    })
}

fn say(line: &str) {
    use std::io::Write;
    // A message that cannot be written must not stop the mock.
    let _ = writeln!(std::io::stderr(), "{line}");
}
