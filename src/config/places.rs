//! Where each setting of a configuration was written.
//!
//! A plan holds effective values; where a value came from (a default, the top level, a provider, a route) is what an
//! explanation and a warning need besides. Paths are dotted, as `--set` takes them.
//!
//! Invariant: paths and places only, never a value.

use std::collections::HashMap;

use super::diagnostics::{At, Diagnostic, Report, Severity};
use super::reader::join;
use super::tree::{Node, Value};

/// Every path that has a value, and its place. Part of a [`Plan`](super::Plan).
#[derive(Debug, Default)]
pub struct Places {
    written: HashMap<Box<str>, At>,
    file: Box<str>,
    flags: Vec<Box<str>>,
}

impl Places {
    /// The places of everything below `root`.
    pub(super) fn of(root: &Node, report: &Report) -> Places {
        let (file, flags) = report.sources();
        let mut places = Places { written: HashMap::new(), file: file.into(), flags };
        places.walk(root, String::new());
        places
    }

    fn walk(&mut self, node: &Node, path: String) {
        match &node.value {
            // An absent value; what it would replace stays.
            Value::Null => return,
            Value::Map(members) => {
                members.iter().for_each(|(name, member)| self.walk(member, join(&path, &name.text)));
            }
            Value::List(items) => {
                items.iter().enumerate().for_each(|(index, item)| self.walk(item, format!("{path}.{index}")));
            }
            _ => {}
        }
        self.written.insert(path.into(), node.at);
    }

    /// Whether the configuration says something at `path`.
    pub fn is_written(&self, path: &str) -> bool {
        self.written.contains_key(path)
    }

    /// The place of `path`, else of what holds it.
    pub(super) fn at(&self, path: &str) -> At {
        let mut path = path;
        loop {
            if let Some(at) = self.written.get(path) {
                return *at;
            }
            match path.rfind('.') {
                Some(dot) => path = &path[..dot],
                None => return At::Nowhere,
            }
        }
    }

    /// A finding about `path`, at its place or that of what holds it.
    pub fn finding(&self, severity: Severity, path: &str, message: String, help: String) -> Diagnostic {
        let flag = |index: u16| self.flags.get(usize::from(index)).map_or("", |flag| flag);
        let (source, line, column) = match self.at(path) {
            At::File { line, column } => (&*self.file, line, column),
            At::Flag(index) => (flag(index), 0, 0),
            At::Nowhere => (&*self.file, 0, 0),
        };
        let (source, path) = (source.to_owned(), path.to_owned());
        Diagnostic { severity, source, line, column, path, message, help: (!help.is_empty()).then_some(help) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    #[test]
    fn a_finding_points_at_the_setting_or_at_what_holds_it() {
        let text = "providers:\n  x.y: {base_url: 'http://h', timeouts: {connect: 1s, total: }}\n";
        let loader = Loader {
            file: Some("f.yaml".into()),
            sets: vec!["timeouts.attempt=8s".to_owned()],
            ..Loader::default()
        };
        let places = loader.load_text(text, &|_| None).unwrap().places;
        let shown =
            |path: &str| places.finding(Severity::Warning, path, "m".to_owned(), String::new()).to_string();
        assert_eq!(shown("providers.\"x.y\".timeouts.connect"), "f.yaml:2:51: warning: m");
        assert_eq!(shown("providers.\"x.y\".timeouts.total"), "f.yaml:2:41: warning: m");
        assert_eq!(shown("timeouts.attempt"), "--set timeouts.attempt: warning: m");
        assert_eq!(shown("breaker.slow_call"), "f.yaml: warning: m");
        assert!(places.is_written("timeouts.attempt") && !places.is_written("timeouts.total"));
        assert!(!places.is_written("providers.\"x.y\".timeouts.total"), "null is nothing");
    }
}
