//! `sluice prices`: what models cost, and who says so.
//!
//! With a config a model is looked up as a client's request for it would go: the targets of its chain, at the prices that
//! the gateway would book. Without one, every provider of the list that has it.

use std::io;

use serde_json::{Value, json};

use super::args::PricesArgs;
use super::table::{Table, grouped};
use super::{Exit, Surroundings};
use crate::config::{Loader, ModelPrice, Plan};
use crate::meter::price::{Listed, PriceList};
use crate::policy::price::{Extras, Price, Rates};

/// One answer.
struct Found {
    provider: String,
    model: String,
    price: Option<Price>,
    /// Who says so: the config, or the rule of the list.
    source: String,
}

/// Runs the command.
pub(super) fn run(args: &PricesArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let list = PriceList::shipped();
    let plan = match &args.config {
        None => None,
        Some(file) => {
            let loader = Loader { file: Some(file.clone()), ..Loader::default() };
            // Keys are not needed to know a price.
            let env = |name: &str| (around.env)(name).or_else(|| Some("unset".to_owned()));
            match loader.load(&env) {
                Ok(plan) => Some(plan),
                Err(error) => {
                    writeln!(around.err, "{error}")?;
                    return Ok(Exit::Refused);
                }
            }
        }
    };
    let mut found = Vec::new();
    let mut unknown: Vec<(&str, Vec<String>)> = Vec::new();
    for asked in &args.models {
        let own = of_model(asked, plan.as_ref(), &list);
        if own.iter().all(|one| one.price.is_none()) {
            unknown.push((asked, list.nearest(asked)));
        }
        found.extend(own);
    }
    if args.models.is_empty() {
        found = match &plan {
            Some(plan) => of_plan(plan, &list),
            None => list.all().into_iter().map(from_list).collect(),
        };
    }
    if args.json {
        let unpriced = unknown.iter().map(|(asked, near)| json!({"model": asked, "nearest": near}));
        let all = json!({
            "list": list.about(),
            "unit": "dollars a million tokens",
            "prices": found.iter().map(as_json).collect::<Vec<_>>(),
            "unpriced": unpriced.collect::<Vec<_>>(),
        });
        writeln!(around.out, "{all:#}")?;
    } else {
        if !found.is_empty() {
            as_table(&found, around.out)?;
            if !args.models.is_empty() {
                priced_apart(&found, around.out)?;
            }
            writeln!(around.out, "\ndollars a million tokens; {}", list.about())?;
        }
        for (asked, near) in &unknown {
            let near = match near.is_empty() {
                true => String::new(),
                false => format!("; names like it: {}", near.join(", ")),
            };
            writeln!(around.out, "{asked} is unpriced: what it costs is not known, not nothing{near}")?;
        }
        if !unknown.is_empty() {
            writeln!(
                around.out,
                "a config can state it: models: {{NAME: {{price: {{input: 0.15, output: 0.60}}}}}}"
            )?;
        }
    }
    Ok(if unknown.is_empty() { Exit::Ok } else { Exit::Refused })
}

fn of_model(asked: &str, plan: Option<&Plan>, list: &PriceList) -> Vec<Found> {
    if let Some(plan) = plan
        && let Ok(chain) = plan.resolve(asked)
    {
        let bare = |provider: &str| {
            let prefix = asked.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
            prefix.unwrap_or(asked).to_owned()
        };
        let targets = chain.iter(plan, asked).map(|target| {
            let provider = &plan.provider(target.provider).name;
            let model = target.model.map_or_else(|| bare(provider), str::to_owned);
            at_provider(provider, model, plan.facts(target.slot).price, list)
        });
        return targets.collect();
    }
    match asked.split_once('/') {
        Some((provider, model)) if list.knows(provider) => {
            list.listed(provider, model).map(|listed| as_found(provider, model, listed)).into_iter().collect()
        }
        _ => {
            list.anywhere(asked).into_iter().map(|listed| as_found(listed.provider, asked, listed)).collect()
        }
    }
}

/// Every model that a config names.
fn of_plan(plan: &Plan, list: &PriceList) -> Vec<Found> {
    let named = plan.slots.iter().zip(&plan.facts).filter_map(|(slot, facts)| {
        let model = slot.model.as_deref()?;
        Some(at_provider(&plan.provider(slot.provider).name, model.to_owned(), facts.price, list))
    });
    named.collect()
}

fn at_provider(provider: &str, model: String, own: Option<ModelPrice>, list: &PriceList) -> Found {
    if let Some(own) = own {
        // A config states no window with a price; the list's still holds.
        let context_tokens = list.listed(provider, &model).map_or(0, |listed| listed.price.context_tokens);
        let price = Some(Price { context_tokens, ..Price::from(own) });
        return Found { provider: provider.to_owned(), model, price, source: "config".to_owned() };
    }
    match list.listed(provider, &model) {
        Some(listed) => as_found(provider, &model, listed),
        None => Found { provider: provider.to_owned(), model, price: None, source: String::new() },
    }
}

fn as_found(provider: &str, model: &str, listed: Listed<'_>) -> Found {
    let source = format!("list: {}", rule(&listed));
    Found { provider: provider.to_owned(), model: model.to_owned(), price: Some(listed.price), source }
}

fn from_list(listed: Listed<'_>) -> Found {
    let model = rule(&listed);
    let provider = listed.provider.to_owned();
    Found { provider, model, price: Some(listed.price), source: "list".to_owned() }
}

/// The rule as a person would write it.
fn rule(listed: &Listed<'_>) -> String {
    match listed.kind {
        '^' => format!("{}*", listed.rule),
        '~' => format!("*{}*", listed.rule),
        _ => listed.rule.to_owned(),
    }
}

/// Pico-dollars a token as dollars a million tokens, with at least two decimals and all that are needed.
fn usd(rate: u32) -> String {
    let text = format!("{}.{:06}", rate / 1_000_000, rate % 1_000_000);
    let least = text.len() - 4;
    text[..text.trim_end_matches('0').len().max(least)].to_owned()
}

fn as_table(found: &[Found], out: &mut dyn io::Write) -> io::Result<()> {
    let numbers = ["input", "cache read", "cache write", "output", "prompts above", "window"];
    let mut table = Table::new(&["provider", "model", "source"], &numbers);
    let cells = |rates: &Rates| [rates.input, rates.cache_read, rates.cache_write, rates.output].map(usd);
    for one in found {
        let mut row = vec![one.provider.clone(), one.model.clone(), one.source.clone()];
        let Some(price) = one.price else {
            row.push("unpriced".to_owned());
            table.push(row);
            continue;
        };
        let window = match price.context_tokens {
            0 => String::new(),
            tokens => grouped(u64::from(tokens)),
        };
        row.extend(cells(&price.rates));
        row.extend([String::new(), window]);
        table.push(row);
        if let Some((from, rates)) = &price.large {
            let mut row = vec![String::new(); 3];
            row.extend(cells(rates));
            row.push(grouped(u64::from(*from)));
            table.push(row);
        }
    }
    table.write(out)
}

/// A line for each price that has more than the table shows.
fn priced_apart(found: &[Found], out: &mut dyn io::Write) -> io::Result<()> {
    for one in found {
        let Some(extras) = one.price.map(|price| price.extras) else { continue };
        let rates = [
            ("caches kept an hour", extras.cache_write_long),
            ("audio input", extras.audio_input),
            ("audio output", extras.audio_output),
            ("reasoning", extras.reasoning),
        ];
        let tiers = [("flex", extras.flex), ("priority", extras.priority), ("batch", extras.batch)];
        let rates = rates.into_iter().filter_map(|(name, rate)| Some(format!("{name} {}", usd(rate?))));
        let tiers = tiers
            .into_iter()
            .filter_map(|(name, share)| Some(format!("{name} {} times the price", f64::from(share?) / 1e3)));
        let words: Vec<String> = rates.chain(tiers).collect();
        if !words.is_empty() {
            writeln!(out, "{}/{}: {}", one.provider, one.model, words.join(", "))?;
        }
    }
    Ok(())
}

fn rates_json(rates: &Rates) -> Value {
    let usd = |rate: u32| f64::from(rate) / 1e6;
    json!({
        "input": usd(rates.input),
        "cache_read": usd(rates.cache_read),
        "cache_write": usd(rates.cache_write),
        "output": usd(rates.output),
    })
}

/// What is priced apart: dollars a million tokens, and what service tiers cost as multiples of the standard price.
fn extras_json(extras: &Extras) -> serde_json::Map<String, Value> {
    let usd = [
        ("cache_write_long", extras.cache_write_long),
        ("audio_input", extras.audio_input),
        ("audio_output", extras.audio_output),
        ("reasoning", extras.reasoning),
    ];
    let times = [("flex", extras.flex), ("priority", extras.priority), ("batch", extras.batch)];
    let usd = usd.into_iter().filter_map(|(name, rate)| Some((name, f64::from(rate?) / 1e6)));
    let times = times.into_iter().filter_map(|(name, share)| Some((name, f64::from(share?) / 1e3)));
    usd.chain(times).map(|(name, number)| (name.to_owned(), number.into())).collect()
}

fn as_json(found: &Found) -> Value {
    let mut all = json!({"provider": found.provider, "model": found.model, "price": null});
    if let Some(price) = &found.price {
        all["price"] = rates_json(&price.rates);
        all["source"] = found.source.clone().into();
        if price.context_tokens > 0 {
            all["context_tokens"] = price.context_tokens.into();
        }
        let extras = extras_json(&price.extras);
        if !extras.is_empty() {
            all["extras"] = extras.into();
        }
        if let Some((from, rates)) = &price.large {
            all["large"] = json!({"prompt_tokens_above": from, "price": rates_json(rates)});
        }
    }
    all
}

#[cfg(test)]
mod tests;
