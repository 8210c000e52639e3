//! Entries of `fallbacks`, compiled to routes.
//!
//! A chain lists its targets once each. The model it is for comes first, with its equals where it has some; a static
//! answer closes it. Equals share a group number and stand next to each other.

use super::defaults;
use super::diagnostics::Report;
use super::fallbacks::{Entry, Equals, FallbackFile, FallbackKind};
use super::mechanisms::{RouteDefaults, StaticId};
use super::names::{Builder, Head};
use super::plan::{Route, RouteId, Target};
use super::schema::File;
use super::statics::{self, StaticFile};

impl Builder<'_> {
    /// Compiles every entry of `fallbacks`.
    pub(super) fn chains(&mut self, file: &File, report: &mut Report) {
        // Bare names in chains mean models declared above, not targets of an earlier chain.
        let declared = self.slots.len();
        let mut everyone: Vec<(f64, Target)> = Vec::new();
        let mut first_of_everyone = None;
        let mut answer = None;
        for row in &file.fallbacks {
            match &row.kind {
                FallbackKind::After(entries) => self.chain(row, entries, declared, &file.statics, report),
                FallbackKind::Everyone(weight) => {
                    first_of_everyone.get_or_insert(row);
                    if statics::is_static(&row.model) {
                        answer = answer.or(statics::find(&row.model, &file.statics, report));
                    } else if let Some(target) = self.compile_target(&row.model, report)
                        && !everyone.iter().any(|(_, own)| *own == target)
                    {
                        everyone.push((*weight, target));
                    }
                }
            }
        }
        let Some(row) = first_of_everyone else { return };
        // Stable: equal weights keep the order of the file.
        everyone.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let targets: Vec<Target> = everyone.into_iter().map(|(_, target)| target).collect();
        self.catalog.everyone = self.route("*", row, targets, answer, report);
    }

    /// The chain of one model, or of a name that is the user's own.
    fn chain(
        &mut self,
        row: &FallbackFile,
        entries: &[Entry],
        declared: usize,
        statics: &[StaticFile],
        report: &mut Report,
    ) {
        let Some(head) = self.head(&row.model, declared, report) else { return };
        let Walk { mut targets, answer, complete } = self.walk(entries, statics, report);
        if let Head::Model(provider, model) = &head {
            let slot = self.slot(*provider, model);
            let own = Target { provider: *provider, model: Some(model.clone()), slot, group: 0, weight: 1 };
            put_first(&mut targets, own);
        }
        let Some(slot) = targets.first().map(|target| target.slot) else {
            if answer.is_some() {
                let message = format!("the chain of {} has no target", row.model.shown());
                report.error(row.at, &row.path, message, "add one before the static answer");
            }
            return;
        };
        if targets.len() == 1 && answer.is_none() && complete {
            let message = format!("the chain of {} has nothing after its first target", row.model.shown());
            report.warn(row.at, &row.path, message, "add a target of another provider");
        }
        let Some(route) = self.route(&row.model.text, row, targets, answer, report) else { return };
        let before = match head {
            Head::Model(..) => self.heads.insert(slot, (route, row.at)),
            Head::Group => {
                self.offer(&row.model.text, slot);
                self.groups.insert(row.model.text.as_str().into(), route).map(|_| (route, row.at))
            }
        };
        if let Some((_, other)) = before {
            let message = format!("{} has a chain already, at {}", row.model.shown(), report.place(other));
            report.error(row.at, &row.path, message, "merge the two entries");
        }
    }

    /// The targets of a chain in the order written, each once, and the answer that closes it.
    fn walk(&mut self, entries: &[Entry], statics: &[StaticFile], report: &mut Report) -> Walk {
        let mut walk = Walk { targets: Vec::with_capacity(entries.len() + 1), answer: None, complete: true };
        let mut closed = None;
        let mut groups = 0u8;
        for entry in entries {
            if let Some(closed) = &closed {
                let (at, path) = entry.place();
                let message = format!("nothing after {closed} is ever asked: it answers at once");
                report.warn(at, path, message, "move the static answer to the end of the list");
                break;
            }
            match entry {
                Entry::One(word) if statics::is_static(word) => {
                    closed = Some(word.shown());
                    walk.answer = statics::find(word, statics, report);
                    walk.complete &= walk.answer.is_some();
                }
                Entry::One(word) => match self.compile_target(word, report) {
                    Some(target) => add(&mut walk.targets, target),
                    None => walk.complete = false,
                },
                Entry::Equals(equals) => {
                    groups = groups.saturating_add(1);
                    self.equals(equals, groups, &mut walk, report);
                }
            }
        }
        walk
    }

    /// Adds targets that share as group number `group`.
    fn equals(&mut self, equals: &Equals, group: u8, walk: &mut Walk, report: &mut Report) {
        let sum: f64 = equals.members.iter().map(|(_, weight)| weight).sum();
        if sum <= 0.0 && !equals.members.is_empty() {
            let message = "all of these targets have weight 0, so that none is preferred";
            report.warn(equals.at, &equals.path, message, "give at least one a weight above 0");
        }
        let before = walk.targets.len();
        for (word, weight) in &equals.members {
            if statics::is_static(word) {
                let help = "put it at the end of the list, by itself";
                report.error(word.at, &word.path, "a static answer cannot share with targets", help);
                walk.complete = false;
                continue;
            }
            let Some(target) = self.compile_target(word, report) else {
                walk.complete = false;
                continue;
            };
            // In millionths, so that every share a file can state is kept; a weight above 0 stays above it.
            let share = if sum > 0.0 { (weight / sum * 1e6).round() as u32 } else { 0 };
            let weight = share.max(u32::from(*weight > 0.0));
            add(&mut walk.targets, Target { group, weight, ..target });
        }
        if let [alone] = &mut walk.targets[before..] {
            (alone.group, alone.weight) = (0, 1);
        }
    }

    fn route(
        &mut self,
        name: &str,
        row: &FallbackFile,
        targets: Vec<Target>,
        static_answer: Option<StaticId>,
        report: &mut Report,
    ) -> Option<RouteId> {
        if targets.len() > defaults::CHAIN_TARGETS_MAX {
            let message = format!("a chain of {} targets is too long", targets.len());
            let help = format!("at most {} fit", defaults::CHAIN_TARGETS_MAX);
            report.error(row.at, &row.path, message, help);
            return None;
        }
        if targets.is_empty() {
            return None;
        }
        let route = RouteId(u16::try_from(self.routes.len()).ok()?);
        let RouteDefaults { balance, hedge, checks } = row.settings.clone();
        self.routes.push(Route {
            name: name.into(),
            targets,
            balance,
            hedge,
            checks,
            timeouts: row.timeouts,
            static_answer,
            path: row.path.as_str().into(),
        });
        Some(route)
    }
}

/// A chain as its entries give it.
struct Walk {
    targets: Vec<Target>,
    answer: Option<StaticId>,
    /// Nothing was left out because it was wrong.
    complete: bool,
}

/// Whether `target` would ask again for what `own` asks for; a provider alone adds nothing where it is named already.
fn covers(own: &Target, target: &Target) -> bool {
    own.slot == target.slot || (target.model.is_none() && own.provider == target.provider)
}

/// Adds a target that is not there yet.
fn add(targets: &mut Vec<Target>, target: Target) {
    if !targets.iter().any(|own| covers(own, &target)) {
        targets.push(target);
    }
}

/// Puts the asked-for model first: where it is one of several equals, all of them.
fn put_first(targets: &mut Vec<Target>, own: Target) {
    let place =
        targets.iter().find(|target| covers(&own, target)).map(|target| (target.group, target.weight));
    targets.retain(|target| !covers(&own, target));
    let (group, weight) = place.unwrap_or((0, 1));
    targets.insert(0, Target { group, weight, ..own });
    if group != 0 {
        // Stable: the equals keep their order, and so do the others.
        targets.sort_by_key(|target| target.group != group);
    }
}
