//! A mock provider as a program of its own, until it is told to stop.

use std::io::{self, Write};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Mock, MockOptions};

/// Runs a mock provider until SIGINT or SIGTERM. Says where it listens, what it does wrong, and at the end what it was
/// asked.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(options: MockOptions) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let program = options.program.text().to_owned();
    let mock = Mock::start(options)?;
    let mut err = io::stderr();
    let addr = mock.addr();
    writeln!(err, "sluice mock: answers as OpenAI and Anthropic on http://{addr}/v1; faults: {program}")?;
    writeln!(
        err,
        "sluice mock: point a gateway at it with --set providers.openai.network_config.base_url=http://{addr}"
    )?;
    signals.forever().next();
    let counts = mock.counts();
    mock.stop();
    writeln!(
        err,
        "sluice mock: {} requests, {} answered, {} refused, {} broken by faults, {} left by their client",
        counts.requests, counts.completed, counts.refused, counts.broken, counts.cancelled
    )
}
