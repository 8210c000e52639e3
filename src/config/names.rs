//! Model names, aliases and chains of the file, compiled to slots, routes and the catalog.
//!
//! Every pair of provider and model that the file names gets a slot. A chain belongs to the pair at its
//! head, so the bare name, the full name and an alias of one model share it.
//!
//! Invariants are those of [`plan`](super::plan); a name that is not clear here is reported, never guessed.

use std::collections::HashMap;

use super::beginnings;
use super::catalog::{Catalog, Claim, Entry, Offered};
use super::compile::id;
use super::defaults;
use super::diagnostics::{At, Report, nearest};
use super::known::Table;
use super::mechanisms::Facts;
use super::plan::{Provider, ProviderId, Route, RouteId, Slot, SlotId, Target};
use super::reader::Word;
use super::schema::File;

/// The parts of a plan that come from names.
pub(super) struct Names {
    pub slots: Vec<Slot>,
    /// One row for each slot.
    pub facts: Vec<Facts>,
    pub routes: Vec<Route>,
    pub catalog: Catalog,
}

/// Compiles all names of `file`. `None` when the file names too many.
pub(super) fn compile(
    file: &File,
    providers: &[Provider],
    table: &Table,
    report: &mut Report,
) -> Option<Names> {
    let slots = (0..providers.len()).map(|index| Slot { provider: id(index), model: None }).collect();
    let mut builder = Builder {
        providers,
        slots,
        by_model: HashMap::new(),
        routes: Vec::new(),
        catalog: beginnings::catalog(providers, table),
        heads: HashMap::new(),
        groups: HashMap::new(),
        facts: HashMap::new(),
    };
    builder.models(file, report);
    builder.aliases(file, report);
    builder.facts(&file.facts, report);
    builder.chains(file, report);
    builder.finish();
    if builder.slots.len() > defaults::SLOTS_MAX {
        let help = format!("at most {} pairs of provider and model fit", defaults::SLOTS_MAX);
        report.error(At::Nowhere, "providers", "the file names too many models", help);
        return None;
    }
    let facts = (0..builder.slots.len()).map(|slot| builder.facts.get(&SlotId(slot as u16)).copied());
    let facts = facts.map(Option::unwrap_or_default).collect();
    Some(Names { slots: builder.slots, facts, routes: builder.routes, catalog: builder.catalog })
}

/// Names while they are compiled.
pub(super) struct Builder<'p> {
    providers: &'p [Provider],
    pub(super) slots: Vec<Slot>,
    /// Slots by the provider's name for the model.
    by_model: HashMap<Box<str>, Vec<SlotId>>,
    pub(super) routes: Vec<Route>,
    pub(super) catalog: Catalog,
    /// The chain of a model, and where it was written, to point at from a second one.
    pub(super) heads: HashMap<SlotId, (RouteId, At)>,
    /// Chains of names that are no model of any provider.
    pub(super) groups: HashMap<Box<str>, RouteId>,
    facts: HashMap<SlotId, Facts>,
}

impl Builder<'_> {
    /// Models that providers declare. With or without the provider's own name in front means the same.
    fn models(&mut self, file: &File, report: &mut Report) {
        for (index, row) in file.providers.iter().enumerate() {
            for word in row.models.iter().filter(|word| well_named(word, report)) {
                let own = word.text.strip_prefix(&*row.name.text).and_then(|rest| rest.strip_prefix('/'));
                self.slot(id(index), own.unwrap_or(&word.text));
            }
        }
    }

    fn aliases(&mut self, file: &File, report: &mut Report) {
        for (index, row) in file.providers.iter().enumerate() {
            for (name, model) in &row.aliases {
                if well_named(name, report) && well_named(model, report) {
                    let slot = self.slot(id(index), &model.text);
                    self.alias(name, slot, report);
                }
            }
        }
        for (name, word) in &file.aliases {
            if !well_named(name, report) {
                continue;
            }
            match self.target(word, report) {
                Some((provider, Some(model))) => {
                    let slot = self.slot(provider, model);
                    self.alias(name, slot, report);
                }
                Some((_, None)) => {
                    let message = format!("{} is a provider; an alias needs one of its models", word.shown());
                    report.error(
                        word.at,
                        &word.path,
                        message,
                        "write provider/model, for example openai/gpt-4o-mini",
                    );
                }
                None => {}
            }
        }
    }

    fn alias(&mut self, name: &Word, slot: SlotId, report: &mut Report) {
        if self.catalog.names.get(&*name.text).is_some_and(|entry| entry.slot != slot) {
            let message = format!("the alias {} already stands for another model", name.shown());
            report.error(name.at, &name.path, message, "choose another name, or remove one of the two");
        } else {
            self.offer(&name.text, slot);
        }
    }

    /// Facts that the file states of models.
    fn facts(&mut self, rows: &[(Word, Facts)], report: &mut Report) {
        for (word, facts) in rows {
            let known = self.catalog.names.get(&*word.text).map(|entry| entry.slot);
            let Some(slot) = known.or_else(|| self.slot_of(word, report)) else { continue };
            if self.facts.insert(slot, *facts).is_some() {
                let message = format!("{} stands twice, under two names", word.shown());
                report.error(word.at, &word.path, message, "merge the two entries");
            }
        }
    }

    /// The slot of the model that `word` names. `None` with the reason reported.
    fn slot_of(&mut self, word: &Word, report: &mut Report) -> Option<SlotId> {
        let (provider, model) = self.target(word, report)?;
        let Some(model) = model else {
            let message = format!("{} is a provider; facts are of one of its models", word.shown());
            report.error(
                word.at,
                &word.path,
                message,
                "write provider/model, for example openai/gpt-4o-mini",
            );
            return None;
        };
        Some(self.slot(provider, model))
    }

    /// Gives every declared model its bare name where that is clear, and every name its chain.
    fn finish(&mut self) {
        let models: Vec<Box<str>> = self.by_model.keys().cloned().collect();
        for model in models {
            let provider_first =
                model.split_once('/').is_some_and(|(first, _)| self.catalog.providers.contains_key(first));
            if provider_first || self.catalog.names.contains_key(&model) {
                continue;
            }
            match self.bare(&model, self.slots.len()) {
                Ok(Some(slot)) => {
                    self.catalog.names.insert(model, Entry { slot, route: None });
                }
                Ok(None) => {}
                Err(owners) => {
                    self.catalog.unclear.insert(model, owners);
                }
            }
        }
        for (name, entry) in &mut self.catalog.names {
            let own = self.heads.get(&entry.slot).map(|(route, _)| *route);
            entry.route = self.groups.get(name).copied().or(own);
        }
    }

    /// The slot below `declared` that a bare model name means: the head of the only chain, else the only one,
    /// else its maker's. `Err` names the providers it could be of.
    fn bare(&self, model: &str, declared: usize) -> Result<Option<SlotId>, Vec<ProviderId>> {
        let Some(slots) = self.by_model.get(model) else { return Ok(None) };
        let slots: Vec<SlotId> =
            slots.iter().copied().filter(|slot| usize::from(slot.0) < declared).collect();
        let heads: Vec<SlotId> = slots.iter().copied().filter(|slot| self.heads.contains_key(slot)).collect();
        let owner = |slot: &SlotId| self.slots[usize::from(slot.0)].provider;
        match (&heads[..], &slots[..]) {
            ([one], _) | (_, [one]) => Ok(Some(*one)),
            (_, []) => Ok(None),
            _ => match self.beginning(model) {
                Some(Claim::One(maker)) if slots.iter().any(|slot| owner(slot) == *maker) => {
                    Ok(slots.into_iter().find(|slot| owner(slot) == *maker))
                }
                _ => Err(slots.iter().map(owner).collect()),
            },
        }
    }

    fn beginning(&self, model: &str) -> Option<&Claim> {
        if model.contains('/') {
            return None;
        }
        self.catalog.beginnings.iter().find(|(start, _)| model.starts_with(&**start)).map(|(_, claim)| claim)
    }

    /// What the head of a chain is: a model of a provider, or a name of the user's own.
    pub(super) fn head(&self, word: &Word, declared: usize, report: &mut Report) -> Option<Head> {
        if !well_named(word, report) {
            return None;
        }
        if let Some(entry) = self.catalog.names.get(&*word.text) {
            // A group named before also stands here; its first target is not what the name means.
            if self.groups.contains_key(&*word.text) {
                return Some(Head::Group);
            }
            let slot = &self.slots[usize::from(entry.slot.0)];
            if let Some(model) = &slot.model {
                return Some(Head::Model(slot.provider, model.clone()));
            }
        }
        let slashed = word.text.split_once('/');
        if let Some((first, model)) = slashed
            && let Some(provider) = self.catalog.providers.get(first)
        {
            if model.is_empty() {
                self.no_model(word, report);
                return None;
            }
            return Some(Head::Model(*provider, model.into()));
        }
        if let Ok(Some(slot)) = self.bare(&word.text, declared) {
            let provider = self.slots[usize::from(slot.0)].provider;
            return Some(Head::Model(provider, word.text.as_str().into()));
        }
        match (self.beginning(&word.text), slashed) {
            (Some(Claim::One(provider)), _) => Some(Head::Model(*provider, word.text.as_str().into())),
            (_, Some((first, _))) => {
                self.no_provider(word, first, report);
                None
            }
            (_, None) => Some(Head::Group),
        }
    }

    /// The target that `word` names. `None` with the reason reported.
    pub(super) fn compile_target(&mut self, word: &Word, report: &mut Report) -> Option<Target> {
        if !well_named(word, report) {
            return None;
        }
        let (provider, model) = self.target(word, report)?;
        let slot = match model {
            Some(model) => self.slot(provider, model),
            None => SlotId(provider.0),
        };
        Some(Target { provider, model: model.map(Box::from), slot, group: 0, weight: 1 })
    }

    /// The provider and model that `word` names; a provider alone keeps the client's model.
    fn target<'w>(&self, word: &'w Word, report: &mut Report) -> Option<(ProviderId, Option<&'w str>)> {
        let slashed = word.text.split_once('/');
        if let Some((first, model)) = slashed
            && let Some(provider) = self.catalog.providers.get(first)
        {
            if model.is_empty() {
                self.no_model(word, report);
                return None;
            }
            return Some((*provider, Some(model)));
        }
        if let Some(provider) = self.catalog.providers.get(&*word.text) {
            return Some((*provider, None));
        }
        if let Ok(Some(slot)) = self.bare(&word.text, self.slots.len()) {
            return Some((self.slots[usize::from(slot.0)].provider, Some(&word.text)));
        }
        match (self.beginning(&word.text), slashed) {
            (Some(Claim::One(provider)), _) => Some((*provider, Some(&word.text))),
            (_, Some((first, _))) => {
                self.no_provider(word, first, report);
                None
            }
            (claim, None) => {
                let why = if claim.is_some() { "could be of several providers" } else { "names no provider" };
                let help = "write provider/model, for example openai/gpt-4o-mini";
                report.error(word.at, &word.path, format!("{} {why}", word.shown()), help);
                None
            }
        }
    }

    fn no_model(&self, word: &Word, report: &mut Report) {
        let help = "write provider/model, or the provider alone to keep the client's model";
        report.error(word.at, &word.path, format!("{} has no model after the slash", word.shown()), help);
    }

    fn no_provider(&self, word: &Word, first: &str, report: &mut Report) {
        let names = self.providers.iter().map(|provider| &*provider.name);
        let help = match nearest(first, names.clone()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!(
                "add `{first}` to `providers`; configured are: {}",
                names.collect::<Vec<_>>().join(", ")
            ),
        };
        let subject = if word.variable.is_some() { word.shown() } else { super::diagnostics::quoted(first) };
        let message = format!("no provider {subject} is configured, needed by {}", word.shown());
        report.error(word.at, &word.path, message, help);
    }

    /// The slot of a pair, made on first use; its full name becomes one that clients can use.
    pub(super) fn slot(&mut self, provider: ProviderId, model: &str) -> SlotId {
        let slots = self.by_model.entry(model.into()).or_default();
        if let Some(slot) = slots.iter().find(|slot| self.slots[usize::from(slot.0)].provider == provider) {
            return *slot;
        }
        // Past the limit the plan is refused; until then the number must not wrap.
        if self.slots.len() > defaults::SLOTS_MAX {
            return SlotId(provider.0);
        }
        let slot = SlotId(self.slots.len() as u16);
        slots.push(slot);
        self.slots.push(Slot { provider, model: Some(model.into()) });
        let full = format!("{}/{model}", self.providers[usize::from(provider.0)].name);
        self.offer(&full, slot);
        slot
    }

    /// Makes `name` an exact name for `slot` and shows it to clients.
    pub(super) fn offer(&mut self, name: &str, slot: SlotId) {
        let provider = self.slots[usize::from(slot.0)].provider;
        if self.catalog.names.insert(name.into(), Entry { slot, route: None }).is_none() {
            self.catalog.offered.push(Offered { name: name.into(), provider });
        }
    }
}

/// What a chain is for.
pub(super) enum Head {
    /// A model of a provider: the chain is what follows when it fails.
    Model(ProviderId, Box<str>),
    /// A name of the user's own for a chain.
    Group,
}

fn well_named(word: &Word, report: &mut Report) -> bool {
    let fine = !word.text.is_empty()
        && word.text.len() <= defaults::MODEL_NAME_BYTES_MAX
        && !word.text.chars().any(|c| c.is_control() || c == ' ');
    if !fine {
        let most = defaults::MODEL_NAME_BYTES_MAX;
        let help = format!("use 1 to {most} bytes without blanks or control characters");
        report.error(word.at, &word.path, format!("{} cannot be a model name", word.shown()), help);
    }
    fine
}
