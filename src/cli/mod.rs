//! The command line: arguments and exit codes only.
//!
//! Each subcommand has a file: it turns arguments into a call of another room and the outcome into an exit
//! code. Output goes through writers that are passed in, and variables through a closure, so that tests run
//! commands without a process.
//!
//! Invariant: what a command is asked for goes to standard output, everything else to standard error, and no
//! secret goes to either.
//!
//! Left out: any decision about serving. `serve` and `mock` only start what other rooms built.

#![forbid(unsafe_code)]

mod args;
mod check;
mod completions;
mod exit;
mod explain;
mod gameday;
mod mock;
mod prices;
mod rooms;
mod serve;
mod spend;
mod state;
mod table;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::config::{Env, Loader, Plan};
use crate::rehearsal::gameday::Report;
use args::{Cli, Command};
pub use exit::Exit;
use gameday::GamedayArgs;
use mock::MockArgs;

/// Why something that a command started did not run, in words for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StartError {
    /// The arguments were wrong in a way only the started room knows.
    Arguments(String),
    /// It could not start, or died.
    Start(String),
}

/// The rooms that commands start. `serve` and `mock` run until told to stop.
struct Rooms<'r> {
    /// Serves a plan; the loader gives the next one.
    serve: &'r dyn Fn(Plan, Loader) -> Result<(), StartError>,
    /// Serves as a provider that misbehaves as told.
    mock: &'r dyn Fn(&MockArgs) -> Result<(), StartError>,
    /// Plays game days and comes back with their verdicts.
    gameday: &'r dyn Fn(&GamedayArgs) -> Result<Report, StartError>,
    /// The text of `mock --list-faults`.
    list_faults: &'r dyn Fn() -> String,
}

/// What a command sees of the process it runs in.
struct Surroundings<'s> {
    /// Looks up an environment variable.
    env: Env<'s>,
    /// Where `sluice.yaml` is looked for.
    directory: PathBuf,
    /// Standard output.
    out: &'s mut dyn Write,
    /// Standard error.
    err: &'s mut dyn Write,
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let env = |name: &str| std::env::var(name).ok();
    let mut around = Surroundings {
        env: &env,
        directory: PathBuf::new(),
        // Not locked: serving takes the life of the process, and other rooms print too.
        out: &mut std::io::stdout(),
        err: &mut std::io::stderr(),
    };
    let rooms = Rooms {
        serve: &rooms::serve,
        mock: &rooms::mock,
        gameday: &rooms::gameday,
        list_faults: &crate::rehearsal::list_faults,
    };
    run_with(std::env::args_os(), &rooms, &mut around).into()
}

/// Runs the command in `arguments`, the first of which is the program's name.
fn run_with(
    arguments: impl IntoIterator<Item = OsString>,
    rooms: &Rooms<'_>,
    around: &mut Surroundings<'_>,
) -> Exit {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage(&error, around),
    };
    let outcome = match cli.command {
        None => serve::run(cli.serve, rooms, around),
        Some(Command::Serve(own)) => serve::run(own, rooms, around),
        Some(Command::Check(own)) => check::run(&own, around),
        Some(Command::Explain(own)) => explain::run(&own, around),
        Some(Command::Spend(own)) => spend::run(&own, around),
        Some(Command::Prices(own)) => prices::run(&own, around),
        Some(Command::Mock(own)) => mock::run(own, rooms, around),
        Some(Command::Gameday(own)) => gameday::run(own, rooms, around),
        Some(Command::Completions(own)) => completions::run(&own, around),
    };
    // Only writing fails here, a closed pipe mostly. Nobody heard the answer, so it was not a good one.
    outcome.unwrap_or(Exit::Refused)
}

/// The exit code for what a room that ran came back with.
fn finished(outcome: Result<(), StartError>, around: &mut Surroundings<'_>) -> std::io::Result<Exit> {
    let (error, exit) = match outcome {
        Ok(()) => return Ok(Exit::Ok),
        Err(StartError::Arguments(error)) => (error, Exit::Usage),
        Err(StartError::Start(error)) => (error, Exit::NotStarted),
    };
    writeln!(around.err, "sluice: error: {error}")?;
    Ok(exit)
}

/// Help and version are answers; anything else is a mistake in the arguments.
fn usage(error: &clap::Error, around: &mut Surroundings<'_>) -> Exit {
    let text = error.render().to_string();
    let text = text.trim_end();
    if error.use_stderr() {
        let _ = writeln!(around.err, "{text}");
        if let (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) =
            (error.kind(), error.get(ContextKind::InvalidSubcommand))
            && around.directory.join(word).is_file()
        {
            let _ = writeln!(around.err, "\n  tip: to serve this file: sluice --config {word}");
        }
        Exit::Usage
    } else {
        let _ = writeln!(around.out, "{text}");
        Exit::Ok
    }
}

#[cfg(test)]
mod tests;
