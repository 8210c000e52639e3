//! Reads typed values out of the tree and says what is wrong with those that do not fit.
//!
//! An [`Item`] is a value with its path. [`Fields`] reads a mapping with a fixed set of names: the names that
//! are asked for are the names that exist, so the schema cannot drift from the list of known keys, and
//! [`Fields::finish`] reports every other name with the nearest known one.
//!
//! Invariant: every reader returns `None` only after reporting why, except for values that are absent
//! (`null` counts as absent) or whose variable is missing, which was reported before.

use super::diagnostics::{At, Report, nearest, quoted};
use super::tree::{Name, Node, Value};
use super::values;

/// A value in the tree with the dotted path that leads to it.
#[derive(Clone)]
pub(super) struct Item<'n> {
    pub node: &'n Node,
    pub path: String,
}

/// A string that knows where it stands and how to name itself in a message.
#[derive(Clone)]
pub(super) struct Word {
    pub text: String,
    pub variable: Option<String>,
    pub at: At,
    pub path: String,
}

impl Word {
    /// The word for a message: as written, so a value from the environment shows as its variable.
    pub(super) fn shown(&self) -> String {
        match &self.variable {
            Some(variable) => format!("`env.{variable}`"),
            None => quoted(&self.text),
        }
    }
}

impl<'n> Item<'n> {
    pub(super) fn at(&self) -> At {
        self.node.at
    }

    /// Reports `message` at this value.
    pub(super) fn error(&self, report: &mut Report, message: impl Into<String>, help: impl Into<String>) {
        report.error(self.node.at, &self.path, message, help);
    }

    fn mismatch(&self, report: &mut Report, expected: &str, help: &str) {
        if !matches!(self.node.value, Value::Unset) {
            let message = format!("`{}` must be {expected}, found {}", self.path, self.node.value.kind());
            self.error(report, message, help);
        }
    }

    /// A string. A number is refused with advice to quote it: its spelling is lost once it is a number.
    pub(super) fn word(&self, report: &mut Report) -> Option<Word> {
        match &self.node.value {
            Value::Text(text) => Some(Word {
                text: text.text.clone(),
                variable: text.variable.clone(),
                at: self.node.at,
                path: self.path.clone(),
            }),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) => {
                self.mismatch(report, "a string", "put the value in quotes");
                None
            }
            _ => {
                self.mismatch(report, "a string", "");
                None
            }
        }
    }

    /// One of `choices` by name.
    pub(super) fn choice<T: Copy>(&self, report: &mut Report, choices: &[(&'static str, T)]) -> Option<T> {
        let word = self.word(report)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word.text) {
            return Some(*choice);
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let mut help = format!("use one of: {}", names.join(", "));
        if let Some(near) = word.variable.is_none().then(|| nearest(&word.text, names)).flatten() {
            help = format!("did you mean `{near}`? {help}");
        }
        self.error(report, format!("`{}` does not know {}", self.path, word.shown()), help);
        None
    }

    /// A number; text from a variable or a flag counts when it spells one.
    pub(super) fn number(&self, report: &mut Report) -> Option<f64> {
        match &self.node.value {
            Value::Int(value) => Some(*value as f64),
            Value::Float(value) => Some(*value),
            Value::Text(text) if text.variable.is_some() => {
                let parsed = text.text.trim().parse().ok();
                if parsed.is_none() {
                    self.mismatch(report, "a number", "check the value of that variable");
                }
                parsed
            }
            _ => {
                self.mismatch(report, "a number", "write digits without quotes, for example 0.7");
                None
            }
        }
    }

    /// A whole number between `least` and `most`.
    pub(super) fn whole(&self, report: &mut Report, least: u64, most: u64) -> Option<u64> {
        let number = self.number(report)?;
        if number.fract() == 0.0 && number >= least as f64 && number <= most as f64 {
            return Some(number as u64);
        }
        let help = format!("use a whole number from {least} to {most}");
        self.error(report, format!("`{}` is out of range", self.path), help);
        None
    }

    /// A weight: a finite number that is not negative.
    pub(super) fn weight(&self, report: &mut Report) -> Option<f64> {
        let number = self.number(report)?;
        if number.is_finite() && number >= 0.0 {
            return Some(number);
        }
        let help = "weights are shares of their sum, for example 0.7 and 0.3, or 7 and 3";
        self.error(report, format!("`{}` must not be negative", self.path), help);
        None
    }

    /// A length of time in milliseconds. A bare number is in `unit`; without one it is refused.
    pub(super) fn duration_ms(&self, report: &mut Report, unit: Option<values::Unit>) -> Option<u64> {
        let outcome = match &self.node.value {
            Value::Int(value) => values::duration_of_number(*value as f64, unit),
            Value::Float(value) => values::duration_of_number(*value, unit),
            Value::Text(text) => values::duration_of_text(&text.text, unit),
            _ => {
                self.mismatch(report, "a duration", "write for example 8s, 250ms or 2m");
                return None;
            }
        };
        outcome.map_err(|help| self.error(report, format!("`{}` is not a duration", self.path), help)).ok()
    }

    /// [`Item::duration_ms`] of more than nothing.
    pub(super) fn positive_ms(&self, report: &mut Report) -> Option<u64> {
        let ms = self.duration_ms(report, None)?;
        if ms == 0 {
            let message = format!("`{}` must be more than nothing", self.path);
            self.error(report, message, "leave it out for the default");
            return None;
        }
        Some(ms)
    }

    /// Whether the value is `on` or `off`; `true` and `false` mean the same. `None` for anything else, unreported.
    pub(super) fn switch(&self) -> Option<bool> {
        match &self.node.value {
            Value::Bool(on) => Some(*on),
            Value::Text(text) if text.text == "on" => Some(true),
            Value::Text(text) if text.text == "off" => Some(false),
            _ => None,
        }
    }

    /// A number of dollars from `least` to `most`.
    pub(super) fn usd(&self, report: &mut Report, least: f64, most: f64) -> Option<f64> {
        let number = self.number(report)?;
        if number >= least && number <= most {
            return Some(number);
        }
        let help = format!("use a number of dollars from {least} to {most}, for example 2.50");
        self.error(report, format!("`{}` is out of range", self.path), help);
        None
    }

    /// How many times as much something is.
    pub(super) fn factor(&self, report: &mut Report, most: f64) -> Option<f64> {
        let number = self.number(report)?;
        if (0.0..=most).contains(&number) {
            return Some(number);
        }
        let help = format!("use a factor from 0 to {most}: 0.5 is half the standard price");
        self.error(report, format!("`{}` is out of range", self.path), help);
        None
    }

    /// A number of bytes: `64KiB`, `32MiB`, or a bare number.
    pub(super) fn bytes(&self, report: &mut Report, least: u64, most: u64) -> Option<u64> {
        let bytes = match &self.node.value {
            Value::Int(value) => u64::try_from(*value).ok(),
            Value::Text(text) => values::bytes_of_text(&text.text),
            _ => {
                self.mismatch(report, "a size", "write for example 64KiB, 32MiB or a number of bytes");
                return None;
            }
        };
        match bytes {
            Some(bytes) if (least..=most).contains(&bytes) => Some(bytes),
            _ => {
                let help = format!(
                    "write a size from {} to {}, for example 64KiB or 32MiB",
                    values::show_bytes(least),
                    values::show_bytes(most)
                );
                self.error(report, format!("`{}` is not a size, or out of range", self.path), help);
                None
            }
        }
    }

    /// The items of a list; nothing for `null`.
    pub(super) fn list(&self, report: &mut Report) -> Vec<Item<'n>> {
        match &self.node.value {
            Value::List(items) => items
                .iter()
                .enumerate()
                .map(|(index, node)| Item { node, path: format!("{}.{index}", self.path) })
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.mismatch(report, "a list", "start each entry with `- `, or write [a, b]");
                Vec::new()
            }
        }
    }

    /// A list of strings, where a single string counts as a list of one.
    pub(super) fn words(&self, report: &mut Report) -> Vec<Word> {
        if matches!(self.node.value, Value::Text(_)) {
            return self.word(report).into_iter().collect();
        }
        self.list(report).iter().filter_map(|item| item.word(report)).collect()
    }

    /// The members of a mapping whose names are the user's own; nothing for `null`.
    pub(super) fn members(&self, report: &mut Report) -> Vec<(&'n Name, Item<'n>)> {
        match &self.node.value {
            Value::Map(members) => members
                .iter()
                .map(|(name, node)| (name, Item { node, path: join(&self.path, &name.text) }))
                .collect(),
            Value::Null => Vec::new(),
            _ => {
                self.mismatch(report, "a mapping", "write `name: value` pairs below it");
                Vec::new()
            }
        }
    }

    /// The members of a mapping whose names are ours; `null` reads as an empty mapping.
    pub(super) fn fields(&self, report: &mut Report) -> Fields<'n> {
        let members: &'n [(Name, Node)] = match &self.node.value {
            Value::Map(members) => members,
            Value::Null => &[],
            _ => {
                self.mismatch(report, "a mapping", "write `name: value` pairs below it");
                &[]
            }
        };
        Fields { members, path: self.path.clone(), asked: Vec::new() }
    }
}

/// A mapping being read name by name.
pub(super) struct Fields<'n> {
    members: &'n [(Name, Node)],
    path: String,
    asked: Vec<&'static str>,
}

impl<'n> Fields<'n> {
    /// The value called `name`, unless absent or `null`. Asking makes the name a known one.
    pub(super) fn item(&mut self, name: &'static str) -> Option<Item<'n>> {
        self.asked.push(name);
        let (_, node) = self.members.iter().find(|(own, _)| own.text == name)?;
        if matches!(node.value, Value::Null) {
            return None;
        }
        Some(Item { node, path: join(&self.path, name) })
    }

    /// The whole number called `name`, or `base` when the file does not say.
    pub(super) fn count(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<u32>,
        base: u32,
        report: &mut Report,
    ) -> u32 {
        let (least, most) = (u64::from(*range.start()), u64::from(*range.end()));
        let read = self.item(name).and_then(|item| item.whole(report, least, most));
        read.map_or(base, |count| count as u32)
    }

    /// The length of time called `name`, more than nothing, or `base` when the file does not say.
    pub(super) fn ms(&mut self, name: &'static str, base: u64, report: &mut Report) -> u64 {
        self.item(name).and_then(|item| item.positive_ms(report)).unwrap_or(base)
    }

    /// What `read` makes of the value called `name`; `off` is `None`, and without a value it is `base`.
    pub(super) fn or_off<T>(
        &mut self,
        name: &'static str,
        base: Option<T>,
        report: &mut Report,
        read: impl FnOnce(&Item<'n>, &mut Report) -> Option<T>,
    ) -> Option<T> {
        let Some(item) = self.item(name) else { return base };
        if item.switch() == Some(false) { None } else { read(&item, report).or(base) }
    }

    /// Reports every name that was never asked for. `advice` has words for names other gateways use.
    pub(super) fn finish(self, report: &mut Report, advice: &[(&str, &str)]) {
        for (name, _) in self.members {
            if self.asked.contains(&name.text.as_str()) {
                continue;
            }
            let place = if self.path.is_empty() {
                "at the top level".to_owned()
            } else {
                format!("in {}", quoted(&self.path))
            };
            let help = if let Some((_, words)) = advice.iter().find(|(other, _)| *other == name.text) {
                (*words).to_owned()
            } else if let Some(near) = nearest(&name.text, self.asked.iter().copied()) {
                format!("did you mean `{near}`?")
            } else {
                let mut known = self.asked.clone();
                known.sort_unstable();
                format!("known keys here: {}", known.join(", "))
            };
            let message = format!("unknown key {} {place}", quoted(&name.text));
            report.error(name.at, &join(&self.path, &name.text), message, help);
        }
    }
}

/// `path` and `name` as one dotted path, with quotes around a name that has dots itself.
pub(super) fn join(path: &str, name: &str) -> String {
    let name = if name.contains('.') { format!("\"{name}\"") } else { name.to_owned() };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}
