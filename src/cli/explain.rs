//! `sluice explain`: what a model name would do.

use std::io;

use super::args::ExplainArgs;
use super::{Exit, Surroundings};
use crate::config::{Loader, explain};
use crate::meter::price::PriceList;
use crate::policy::price::Prices;

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
    let list = PriceList::shipped();
    match explain(&plan, &args.model, &|provider, model| list.price(provider, model).map(Into::into)) {
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
