//! `sluice completions`: a script for the user's shell, generated from the arguments.

use std::io;

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::{Exit, Surroundings};

/// Runs the command.
pub(super) fn run(args: &CompletionsArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    // The generator panics when it cannot write, so it writes to memory.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "sluice", &mut script);
    around.out.write_all(&script)?;
    Ok(Exit::Ok)
}
