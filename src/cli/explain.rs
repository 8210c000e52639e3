//! `sluice explain`: what a model name would do.

use std::io;

use super::args::ExplainArgs;
use super::{Exit, Surroundings};
use crate::config::{Loader, explain};

/// Runs the command.
pub(super) fn run(args: &ExplainArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let loader = Loader { file: Some(args.file.clone()), sets: args.sets.clone(), ..Loader::default() };
    let plan = match loader.load(around.env) {
        Ok(plan) => plan,
        Err(error) => {
            writeln!(around.err, "{error}")?;
            return Ok(Exit::Refused);
        }
    };
    match explain(&plan, &args.model) {
        Ok(explanation) => {
            write!(around.out, "{explanation}")?;
            Ok(Exit::Ok)
        }
        Err(error) => {
            writeln!(around.err, "sluice: error: {error}")?;
            Ok(Exit::Refused)
        }
    }
}
