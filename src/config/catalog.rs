//! From the model name a client sends to the chain of targets that serves it.
//!
//! Order of the rules, first match wins:
//! 1. a name the configuration knows, exactly: aliases, models, heads of chains, with or without provider;
//! 2. `provider/model`, where the provider is configured (the model may hold further slashes);
//! 3. a bare name by its beginning (`gpt-` to openai, `claude-` to anthropic, ...), where exactly one
//!    configured provider makes such models, or else exactly one serves them;
//! 4. the only provider there is, when it is one whose model names cannot be known (a private server);
//!    and the mock provider, which answers to every name.
//!
//! Everything is compiled when the plan is; resolving is one hash lookup for names of rule 1, two for rule
//! 2 and a short scan for rule 3, and allocates nothing unless it fails.
//!
//! Invariant: a [`Chain`] holds indexes only, so an exchange can keep it beside its `Arc<Plan>`; it is valid
//! for the plan and the name it was resolved from.

use std::collections::HashMap;
use std::fmt;

use super::defaults;
use super::plan::{Plan, ProviderId, RouteId, SlotId};

/// How model names find their chains. Part of a [`Plan`].
#[derive(Debug, Default)]
pub struct Catalog {
    /// Rule 1, by exact name.
    pub(super) names: HashMap<Box<str>, Entry>,
    /// Declared bare names that more than one provider has.
    pub(super) unclear: HashMap<Box<str>, Vec<ProviderId>>,
    /// Rule 2, by the name before the slash.
    pub(super) providers: HashMap<Box<str>, ProviderId>,
    /// Rule 3, longest beginning first.
    pub(super) beginnings: Vec<(Box<str>, Claim)>,
    /// Rule 4.
    pub(super) everything: Option<ProviderId>,
    /// The chain of every request that has none of its own.
    pub(super) everyone: Option<RouteId>,
    /// Names to offer to clients, in the order of the file.
    pub(super) offered: Vec<Offered>,
}

/// What an exact name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub slot: SlotId,
    pub route: Option<RouteId>,
}

/// Whose models begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    One(ProviderId),
    /// More than one configured provider serves them; the client has to say which.
    Several(Vec<ProviderId>),
}

/// A name that clients can use, for `/v1/models`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The name.
    pub name: Box<str>,
    /// Who answers first.
    pub provider: ProviderId,
}

/// The targets a model name stands for, in order; the first is the one that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    slot: SlotId,
    /// Bytes of `provider/` before the model in the name that was asked for.
    prefix: u16,
    route: Option<RouteId>,
    /// Position in the route that is left out because it is the asked-for target; past the end when none is.
    skip: u8,
    len: u8,
}

/// One target of a [`Chain`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetRef<'a> {
    /// Who is asked.
    pub provider: ProviderId,
    /// The state of this provider and model.
    pub slot: SlotId,
    /// The model name to write into the request; `None` when the client's own is right as it is.
    pub model: Option<&'a str>,
    /// Targets next to each other with the same number, not 0, are equals; 0: asked in the order written.
    pub group: u8,
    /// Share among equals, in millionths of the group's sum.
    pub weight: u32,
}

impl Chain {
    /// Number of targets, at least 1.
    #[allow(clippy::len_without_is_empty, reason = "a chain is never empty")]
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The target at `index`, from 0. `plan` and `asked` are those the chain was resolved from.
    pub fn get<'a>(&self, plan: &'a Plan, asked: &'a str, index: usize) -> Option<TargetRef<'a>> {
        let first = &plan.slots[usize::from(self.slot.0)];
        let own =
            first.model.as_deref().unwrap_or_else(|| asked.get(usize::from(self.prefix)..).unwrap_or(asked));
        let targets = self.route.map_or(&[][..], |route| &plan.routes[usize::from(route.0)].targets);
        let skip = usize::from(self.skip);
        let (provider, slot, model, place) = if index == 0 {
            (first.provider, self.slot, own, targets.get(skip))
        } else {
            let target = targets.get(if index <= skip { index - 1 } else { index })?;
            (target.provider, target.slot, target.model.as_deref().unwrap_or(own), Some(target))
        };
        // A target that the route does not name comes first and has no equals.
        let (group, weight) = place.map_or((0, 1), |target| (target.group, target.weight));
        Some(TargetRef { provider, slot, model: (model != asked).then_some(model), group, weight })
    }

    /// All targets in order.
    pub fn iter<'a>(&self, plan: &'a Plan, asked: &'a str) -> impl Iterator<Item = TargetRef<'a>> + use<'a> {
        let chain = *self;
        (0..chain.len()).filter_map(move |index| chain.get(plan, asked, index))
    }

    /// The route behind the chain, when the configuration has one for it.
    pub fn route(&self) -> Option<RouteId> {
        self.route
    }
}

/// A model name that leads nowhere. The fault is the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownModel {
    /// The name as asked for, shortened.
    pub asked: String,
    /// Why it leads nowhere.
    pub reason: UnknownReason,
    /// Names that would work, nearest first, at most 12.
    pub suggestions: Vec<String>,
}

/// Why a model name leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// It is empty, or longer than any model name.
    Malformed,
    /// The part before the slash is no configured provider.
    UnknownProvider,
    /// Several configured providers could be meant.
    Ambiguous,
    /// Nothing in the configuration has or serves such a name.
    Unknown,
}

impl fmt::Display for UnknownModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason {
            UnknownReason::Malformed => {
                write!(
                    f,
                    "the model name is empty or too long; at most {} bytes",
                    defaults::MODEL_NAME_BYTES_MAX
                )?;
            }
            UnknownReason::UnknownProvider => {
                let provider = self.asked.split('/').next().unwrap_or_default();
                write!(f, "the model `{}` is unknown: no provider `{provider}` is configured", self.asked)?;
            }
            UnknownReason::Ambiguous => {
                write!(f, "the model `{}` is ambiguous: more than one provider could serve it", self.asked)?;
            }
            UnknownReason::Unknown => write!(f, "the model `{}` is unknown", self.asked)?,
        }
        if !self.suggestions.is_empty() {
            write!(f, "; these would work: {}", self.suggestions.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownModel {}

impl Plan {
    /// The chain that serves `model`, by the rules of this module.
    pub fn resolve(&self, model: &str) -> Result<Chain, UnknownModel> {
        let catalog = &self.catalog;
        if model.is_empty() || model.len() > defaults::MODEL_NAME_BYTES_MAX {
            return Err(self.unknown(model, UnknownReason::Malformed, &[]));
        }
        if let Some(entry) = catalog.names.get(model) {
            return Ok(self.chain(entry.slot, 0, entry.route));
        }
        if let Some((provider, rest)) = model.split_once('/')
            && let Some(id) = catalog.providers.get(provider)
        {
            if rest.is_empty() {
                return Err(self.unknown(model, UnknownReason::Unknown, &[]));
            }
            // Catch-all slots come first and in the order of providers. The length was checked above.
            return Ok(self.chain(SlotId(id.0), (provider.len() + 1) as u16, None));
        }
        if let Some(ids) = catalog.unclear.get(model) {
            return Err(self.unknown(model, UnknownReason::Ambiguous, ids));
        }
        if !model.contains('/')
            && let Some((_, claim)) = catalog.beginnings.iter().find(|(start, _)| model.starts_with(&**start))
        {
            return match claim {
                Claim::One(id) => Ok(self.chain(SlotId(id.0), 0, None)),
                Claim::Several(ids) => Err(self.unknown(model, UnknownReason::Ambiguous, ids)),
            };
        }
        match catalog.everything {
            Some(id) => Ok(self.chain(SlotId(id.0), 0, None)),
            None if model.contains('/') => Err(self.unknown(model, UnknownReason::UnknownProvider, &[])),
            None => Err(self.unknown(model, UnknownReason::Unknown, &[])),
        }
    }

    /// Names that clients can use because the configuration spells them out, in the order of the file.
    pub fn offered_models(&self) -> &[Offered] {
        &self.catalog.offered
    }

    /// The provider called `name`.
    pub fn provider_named(&self, name: &str) -> Option<ProviderId> {
        self.catalog.providers.get(name).copied()
    }

    fn chain(&self, slot: SlotId, prefix: u16, own: Option<RouteId>) -> Chain {
        let route = own.or(self.catalog.everyone);
        let Some(id) = route else {
            return Chain { slot, prefix, route, skip: 0, len: 1 };
        };
        let targets = &self.routes[usize::from(id.0)].targets;
        let asked = self.slots[usize::from(slot.0)].provider;
        let same = |target: &super::plan::Target| {
            target.slot == slot || (target.model.is_none() && target.provider == asked)
        };
        // At most CHAIN_TARGETS_MAX targets, so that the numbers fit.
        match targets.iter().position(same) {
            Some(skip) => Chain { slot, prefix, route, skip: skip as u8, len: targets.len() as u8 },
            None => Chain { slot, prefix, route, skip: u8::MAX, len: targets.len() as u8 + 1 },
        }
    }

    #[cold]
    fn unknown(&self, asked: &str, reason: UnknownReason, among: &[ProviderId]) -> UnknownModel {
        let asked: String = asked.chars().filter(|c| !c.is_control()).take(120).collect();
        let bare = asked.split_once('/').map_or(asked.as_str(), |(_, bare)| bare);
        let mut ranked: Vec<(f64, String)> = Vec::new();
        if reason == UnknownReason::Ambiguous {
            ranked.extend(among.iter().map(|id| (2.0, format!("{}/{asked}", self.provider(*id).name))));
        }
        for offered in &self.catalog.offered {
            let own = offered.name.split_once('/').map_or(&*offered.name, |(_, own)| own);
            let score = strsim::jaro_winkler(&asked, &offered.name).max(strsim::jaro_winkler(bare, own));
            ranked.push((score, offered.name.to_string()));
        }
        if reason != UnknownReason::Ambiguous {
            // Weaker than any declared name: the provider may not know the model.
            let named = asked.split_once('/').map_or("", |(provider, _)| provider);
            let bare = if bare.is_empty() { "MODEL" } else { bare };
            ranked.extend(self.providers.iter().map(|provider| {
                (strsim::jaro_winkler(named, &provider.name) - 1.0, format!("{}/{bare}", provider.name))
            }));
        }
        ranked.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
        let mut suggestions: Vec<String> = Vec::new();
        for (_, name) in ranked {
            if suggestions.len() < defaults::SUGGESTIONS_MAX && !suggestions.contains(&name) {
                suggestions.push(name);
            }
        }
        UnknownModel { asked, reason, suggestions }
    }
}

#[cfg(test)]
mod tests;
