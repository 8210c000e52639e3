//! The shapes of `fallbacks`: the three that users of other gateways write, and equals among targets.
//!
//! `{model, targets}` and `{primary, backup}` say what follows when one model fails; `{model, weight}` entries
//! together make one chain for every request. The shapes may be mixed in one list. An inner list of targets holds
//! equals, which share the calls.

use super::blocks;
use super::defaults;
use super::diagnostics::{At, Report};
use super::mechanisms::{RouteDefaults, RouteTimeouts};
use super::reader::{Item, Word};
use super::tree::Value;

/// One entry of `fallbacks` in any of its three shapes.
pub(super) struct FallbackFile {
    pub at: At,
    pub path: String,
    pub model: Word,
    pub kind: FallbackKind,
    /// What the entry sets, over the top level's.
    pub settings: RouteDefaults,
    pub timeouts: RouteTimeouts,
}

/// Which shape an entry of `fallbacks` has.
pub(super) enum FallbackKind {
    /// `{model, targets}` or `{primary, backup}`: what follows when this model fails.
    After(Vec<Entry>),
    /// `{model, weight}`: a place in the chain of every request.
    Everyone(f64),
}

/// One place of a chain.
pub(super) enum Entry {
    /// A target, or a static answer.
    One(Word),
    /// Targets that share.
    Equals(Equals),
}

impl Entry {
    /// Where it stands.
    pub(super) fn place(&self) -> (At, &str) {
        match self {
            Entry::One(word) => (word.at, &word.path),
            Entry::Equals(equals) => (equals.at, &equals.path),
        }
    }
}

/// Targets that share by weight or latency.
pub(super) struct Equals {
    pub at: At,
    pub path: String,
    pub members: Vec<(Word, f64)>,
}

const SHAPES: &str = "write {model, targets: [...]}, {primary, backup: [...]} or {model, weight}";
const GROUPS: &str = "targets that share stand in an inner list: [[{target: a/x, weight: 0.7}, {target: b/x, weight: 0.3}], c/y]";

/// Reads the list; `base` is what the top level sets for every route.
pub(super) fn read(item: &Item<'_>, base: &RouteDefaults, report: &mut Report) -> Vec<FallbackFile> {
    item.list(report).iter().filter_map(|item| fallback(item, base, report)).collect()
}

fn fallback(item: &Item<'_>, base: &RouteDefaults, report: &mut Report) -> Option<FallbackFile> {
    let mut fields = item.fields(report);
    let model = fields.item("model");
    let primary = fields.item("primary");
    let targets = fields.item("targets");
    let backup = fields.item("backup");
    let weight = fields.item("weight");
    let settings = blocks::route(&mut fields, base, report);
    let timeouts =
        fields.item("timeouts").map(|item| blocks::route_timeouts(&item, report)).unwrap_or_default();
    fields.finish(report, &[]);
    if !matches!(item.node.value, Value::Map(_)) {
        return None;
    }
    for list in [&targets, &backup].into_iter().flatten() {
        if matches!(&list.node.value, Value::List(items) if items.is_empty()) {
            list.error(report, format!("`{}` names nothing to fall back to", list.path), SHAPES);
        }
    }
    let (head, kind) = match (model, primary, targets, backup, weight) {
        (Some(model), None, Some(targets), None, None) => {
            (model, FallbackKind::After(entries(&targets, report)))
        }
        (None, Some(primary), None, Some(backup), None) => {
            (primary, FallbackKind::After(entries(&backup, report)))
        }
        (Some(model), None, None, None, Some(weight)) => {
            refuse_settings(item, report);
            let weight = weight.weight(report).unwrap_or(defaults::FALLBACK_WEIGHT);
            (model, FallbackKind::Everyone(weight))
        }
        _ => {
            let message = format!("`{}` has none of the three shapes a fallback can have", item.path);
            item.error(report, message, SHAPES);
            return None;
        }
    };
    let (at, path) = (item.at(), item.path.clone());
    Some(FallbackFile { at, path, model: head.word(report)?, kind, settings, timeouts })
}

/// The weighted entries make one chain together, so that none of them can have settings of its own.
fn refuse_settings(item: &Item<'_>, report: &mut Report) {
    for name in ["balance", "hedge", "checks", "timeouts"] {
        if let Some(node) = item.node.member(name)
            && !matches!(node.value, Value::Null)
        {
            let message = format!("`{name}` stands in one of the entries that make one chain together");
            let help = format!("write `{name}` at the top level, or give the model a chain with `targets`");
            report.error(node.at, &format!("{}.{name}", item.path), message, help);
        }
    }
}

/// The places of a chain; a single string counts as a list of one.
fn entries(item: &Item<'_>, report: &mut Report) -> Vec<Entry> {
    if matches!(item.node.value, Value::Text(_)) {
        return item.word(report).map(Entry::One).into_iter().collect();
    }
    item.list(report).iter().filter_map(|item| entry(item, report)).collect()
}

fn entry(item: &Item<'_>, report: &mut Report) -> Option<Entry> {
    match &item.node.value {
        Value::List(items) if items.is_empty() => {
            item.error(report, format!("`{}` names no target", item.path), GROUPS);
            None
        }
        Value::List(_) => {
            let items = item.list(report);
            let members = items.iter().filter_map(|item| equal(item, report)).collect();
            Some(Entry::Equals(Equals { at: item.at(), path: item.path.clone(), members }))
        }
        Value::Map(_) => {
            item.error(report, format!("`{}` has a mapping where a target is named", item.path), GROUPS);
            None
        }
        _ => item.word(report).map(Entry::One),
    }
}

/// One of several equals: a target, alone or with its weight.
fn equal(item: &Item<'_>, report: &mut Report) -> Option<(Word, f64)> {
    if !matches!(item.node.value, Value::Map(_)) {
        return item.word(report).map(|word| (word, defaults::FALLBACK_WEIGHT));
    }
    let mut fields = item.fields(report);
    let target = fields.item("target");
    let weight = fields.item("weight").and_then(|item| item.weight(report));
    fields.finish(report, &[("model", "call it `target`")]);
    if target.is_none() {
        item.error(report, format!("`{}` names no target", item.path), GROUPS);
    }
    Some((target?.word(report)?, weight.unwrap_or(defaults::FALLBACK_WEIGHT)))
}
