//! `sluice explain`: what a model name would do.

use std::io;

use super::args::ExplainArgs;
use super::{Exit, Surroundings};
use crate::config::{ListPrice, Loader, ModelPrice, explain};
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
    match explain(&plan, &args.model, &|provider, model| listed(&list, provider, model)) {
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

/// What the list says of a model, for an explanation.
fn listed(list: &PriceList, provider: &str, model: &str) -> Option<ListPrice> {
    let found = list.price(provider, model)?;
    let rates = found.rates;
    Some(ListPrice {
        price: ModelPrice {
            input: rates.input,
            cache_read: rates.cache_read,
            cache_write: rates.cache_write,
            output: rates.output,
            extras: found.extras,
        },
        context_tokens: (found.context_tokens > 0).then_some(found.context_tokens),
        dearer_above: found.large.map(|(tokens, _)| tokens),
    })
}
