//! `--set PATH=VALUE`: one value of the configuration, changed from the command line.
//!
//! `PATH` is dotted, with numbers for list positions (`providers.openai.keys.0.weight`) and double quotes
//! around names that hold dots themselves (`aliases."gpt-4.1"`). Overrides are applied to the tree before
//! anything is checked, so the schema sees one document and a wrong flag is reported like a wrong line.
//! A list position one past the end appends.
//!
//! Invariant: messages name the path of the flag and never its value, which may be a key.

use super::diagnostics::{At, Report, quoted};
use super::tree::{self, Name, Node, Value};

/// One override.
pub(super) struct Flag {
    /// The flag as messages name it.
    label: String,
    /// `PATH=VALUE`.
    text: String,
}

impl Flag {
    /// A `--set` flag.
    pub(super) fn set(text: &str) -> Self {
        let path = text.split_once('=').map_or("", |(path, _)| path);
        Flag { label: format!("--set {path}").trim_end().to_owned(), text: text.to_owned() }
    }

    /// A flag named like the setting it overrides.
    pub(super) fn own(name: &str, value: &str) -> Self {
        Flag { label: format!("--{name}"), text: format!("{name}={value}") }
    }
}

/// Applies `flags` in order; what cannot be applied is reported.
pub(super) fn apply(root: &mut Node, flags: &[Flag], report: &mut Report) {
    report.name_flags(flags.iter().map(|flag| flag.label.clone()).collect());
    for (index, flag) in flags.iter().enumerate() {
        let at = At::Flag(u16::try_from(index).unwrap_or(u16::MAX));
        let Some((path, value)) = flag.text.split_once('=') else {
            report.error(
                at,
                "",
                "the flag has no `=`",
                "write --set PATH=VALUE, as in --set listen=127.0.0.1:9000",
            );
            continue;
        };
        let outcome = segments(path).and_then(|segments| Ok((segments, read(value, at)?)));
        match outcome {
            Ok((segments, value)) => {
                if let Err(message) = put(root, &segments, value, at, "") {
                    report.error(at, path, message, "check the path against the file, or leave out the flag");
                }
            }
            Err(message) => report.error(at, path, message, "write --set PATH=VALUE, as in --set workers=2"),
        }
    }
}

/// The names of a dotted path.
fn segments(path: &str) -> Result<Vec<String>, String> {
    let mut segments = Vec::new();
    let mut rest = path;
    loop {
        let (segment, after) = if let Some(inside) = rest.strip_prefix('"') {
            inside.split_once('"').ok_or("the path opens a quote and does not close it")?
        } else {
            rest.split_at(rest.find('.').unwrap_or(rest.len()))
        };
        if segment.is_empty() {
            return Err("the path has an empty part".to_owned());
        }
        segments.push(segment.to_owned());
        match after.strip_prefix('.') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(segments),
            None => return Err("the path goes on after a closing quote without a dot".to_owned()),
        }
    }
}

/// A flag's value: numbers, booleans, null and `[...]` or `{...}` as in a file, anything else as it stands.
fn read(value: &str, at: At) -> Result<Value, String> {
    let parsed = tree::parse_quiet(value);
    let structured = value.trim_start().starts_with(['[', '{']);
    match parsed {
        Ok(mut node) if structured => {
            node.place_all(at);
            Ok(node.value)
        }
        Ok(Node { value: scalar @ (Value::Bool(_) | Value::Int(_) | Value::Float(_)), .. }) => Ok(scalar),
        Ok(Node { value: Value::Null, .. }) if !value.is_empty() => Ok(Value::Null),
        Err(_) if structured => Err("the value is not valid YAML or JSON".to_owned()),
        _ => Ok(Value::text(value)),
    }
}

/// Puts `value` at `path` below `node`, growing mappings and lists on the way.
fn put(node: &mut Node, path: &[String], value: Value, at: At, walked: &str) -> Result<(), String> {
    let Some((head, rest)) = path.split_first() else {
        *node = Node::new(at, value);
        return Ok(());
    };
    if matches!(node.value, Value::Null) {
        let list = head == "0";
        *node = Node::new(at, if list { Value::List(Vec::new()) } else { Value::Map(Vec::new()) });
    }
    let here = if walked.is_empty() { "the top level".to_owned() } else { quoted(walked) };
    let next = if walked.is_empty() { head.clone() } else { format!("{walked}.{head}") };
    match &mut node.value {
        Value::Map(members) => {
            if let Some(index) = members.iter().position(|(name, _)| name.text == *head) {
                return put(&mut members[index].1, rest, value, at, &next);
            }
            let mut fresh = Node::new(at, Value::Null);
            put(&mut fresh, rest, value, at, &next)?;
            members.push((Name { at, text: head.clone() }, fresh));
            Ok(())
        }
        Value::List(items) => {
            let count = items.len();
            let index: usize = head
                .parse()
                .map_err(|_| format!("{here} is a list; {} is not a position in it", quoted(head)))?;
            if index > count {
                return Err(format!("{here} has {count} entries; position {index} is past the end"));
            }
            if index == count {
                let mut fresh = Node::new(at, Value::Null);
                put(&mut fresh, rest, value, at, &next)?;
                items.push(fresh);
                return Ok(());
            }
            put(&mut items[index], rest, value, at, &next)
        }
        other => Err(format!("{here} is {}; nothing can be set inside it", other.kind())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(text: &str, flags: &[&str]) -> Result<Node, String> {
        let mut report = Report::new("f");
        let mut root = tree::parse(text, &mut report).unwrap();
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::set(flag)).collect();
        apply(&mut root, &flags, &mut report);
        report.close().map(|_| root).map_err(|error| error.to_string())
    }

    fn text_at(root: &Node, path: &[&str]) -> String {
        let mut node = root;
        for part in path {
            node = match &node.value {
                Value::List(items) => &items[part.parse::<usize>().unwrap()],
                _ => node.member(part).unwrap(),
            };
        }
        match &node.value {
            Value::Text(text) => text.text.clone(),
            Value::Int(value) => value.to_string(),
            Value::Float(value) => value.to_string(),
            Value::Bool(_) => "bool".to_owned(),
            other => other.kind().to_owned(),
        }
    }

    #[test]
    fn a_flag_replaces_adds_and_appends() {
        let root = applied(
            "a:\n  b: 1\nkeys:\n  - {w: 1}\n",
            &["a.b=2", "a.c.d=x=y", "keys.0.w=0.5", "keys.1.w=true", "new.0=first", "q.\"x.y\"=z", "e="],
        )
        .unwrap();
        assert_eq!(text_at(&root, &["a", "b"]), "2");
        assert_eq!(text_at(&root, &["a", "c", "d"]), "x=y");
        assert_eq!(text_at(&root, &["keys", "0", "w"]), "0.5");
        assert_eq!(text_at(&root, &["keys", "1", "w"]), "bool");
        assert_eq!(text_at(&root, &["new", "0"]), "first");
        assert_eq!(text_at(&root, &["q", "x.y"]), "z");
        assert_eq!(text_at(&root, &["e"]), "");
    }

    #[test]
    fn values_that_are_not_yaml_are_strings() {
        let root = applied("{}", &["a=*x", "b=http://h:1/v1", "c=[1, 2]", "d=@x: y", "e=~"]).unwrap();
        assert_eq!(text_at(&root, &["a"]), "*x");
        assert_eq!(text_at(&root, &["b"]), "http://h:1/v1");
        assert_eq!(text_at(&root, &["c", "1"]), "2");
        assert_eq!(text_at(&root, &["d"]), "@x: y");
        assert_eq!(text_at(&root, &["e"]), "nothing");
    }

    #[test]
    fn errors_name_the_flag_and_hide_its_value() {
        for flag in
            ["a.b.c=canary", "k.x=canary", "k.3=canary", "=canary", "a..b=canary", "\"a=canary", "k=[canary"]
        {
            let error = applied("a: {b: 1}\nk: [1]\n", &[flag]).err().unwrap();
            assert!(error.contains("--set "), "{error}");
            assert!(!error.contains("canary"), "{error}");
        }
        let error = applied("a: 1", &["canary"]).err().unwrap();
        assert!(error.contains("no `=`") && !error.contains("canary"), "{error}");
    }
}
