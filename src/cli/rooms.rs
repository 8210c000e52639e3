//! What commands start in a real process.
//!
//! The only file here that reads the process environment again (a reload sees what it holds then) and that
//! waits for signals.

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::StartError;
use super::mock::MockArgs;
use crate::config::{Loader, Plan};
use crate::gateway::{self, ServeOptions};
use crate::rehearsal::{Dialects, Mock, MockOptions, Pacing, Program};

/// Serves `plan` until the process is told to stop; SIGHUP loads the next plan with `loader`.
pub(super) fn serve(plan: Plan, loader: Loader) -> Result<(), StartError> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SLUICE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let reload = move || loader.load(&|name| std::env::var(name).ok()).map_err(|error| error.to_string());
    let options = ServeOptions { reload: Some(Box::new(reload)) };
    gateway::serve(plan, &options).map_err(|error| StartError::Start(error.to_string()))
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
