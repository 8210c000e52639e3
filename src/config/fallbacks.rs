//! The three shapes of `fallbacks` that users of other gateways write.
//!
//! `{model, targets}` and `{primary, backup}` say what follows when one model fails; `{model, weight}` entries
//! together make one chain for every request. The shapes may be mixed in one list.

use super::defaults;
use super::diagnostics::{At, Report};
use super::reader::{Item, Word};
use super::tree::Value;

/// One entry of `fallbacks` in any of its three shapes.
pub(super) struct FallbackFile {
    pub at: At,
    pub path: String,
    pub model: Word,
    pub kind: FallbackKind,
}

/// Which shape an entry of `fallbacks` has.
pub(super) enum FallbackKind {
    /// `{model, targets}` or `{primary, backup}`: what follows when this model fails.
    After(Vec<Word>),
    /// `{model, weight}`: a place in the chain of every request.
    Everyone(f64),
}

/// Reads the list.
pub(super) fn read(item: &Item<'_>, report: &mut Report) -> Vec<FallbackFile> {
    item.list(report).iter().filter_map(|item| fallback(item, report)).collect()
}

fn fallback(item: &Item<'_>, report: &mut Report) -> Option<FallbackFile> {
    const SHAPES: &str = "write {model, targets: [...]}, {primary, backup: [...]} or {model, weight}";
    let mut fields = item.fields(report);
    let model = fields.item("model");
    let primary = fields.item("primary");
    let targets = fields.item("targets");
    let backup = fields.item("backup");
    let weight = fields.item("weight");
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
        (Some(model), None, Some(targets), None, None) => (model, FallbackKind::After(targets.words(report))),
        (None, Some(primary), None, Some(backup), None) => {
            (primary, FallbackKind::After(backup.words(report)))
        }
        (Some(model), None, None, None, Some(weight)) => {
            let weight = weight.weight(report).unwrap_or(defaults::FALLBACK_WEIGHT);
            (model, FallbackKind::Everyone(weight))
        }
        _ => {
            let message = format!("`{}` has none of the three shapes a fallback can have", item.path);
            item.error(report, message, SHAPES);
            return None;
        }
    };
    Some(FallbackFile { at: item.at(), path: item.path.clone(), model: head.word(report)?, kind })
}
