//! A YAML or JSON document as a tree in which every name and value knows its line and column.
//!
//! Why a tree and not `derive(Deserialize)` on the schema: a derived reader stops at the first error, cannot
//! be changed by `--set` before it is checked, and loses places inside untagged enums, which the three
//! shapes of `fallbacks` would need.
//!
//! Invariants: mappings have no duplicate names and keep the order of the file; depth is at most
//! [`defaults::CONFIG_DEPTH_MAX`]. JSON is read by the same parser, as YAML 1.2 contains it.
//!
//! Left out: `Debug`. A tree holds literal keys.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use super::defaults;
use super::diagnostics::{At, Report};

/// A value and its place.
#[derive(Clone)]
pub(super) struct Node {
    pub at: At,
    pub value: Value,
}

/// The name of a mapping's member and its place.
#[derive(Clone)]
pub(super) struct Name {
    pub at: At,
    pub text: String,
}

/// What a document can hold.
#[derive(Clone)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<(Name, Node)>),
    /// `env.NAME` whose variable is missing; already reported, so later readers stay silent.
    Unset,
}

/// A string, and the variable it came from when it was written as `env.NAME`.
#[derive(Clone)]
pub(super) struct Text {
    pub text: String,
    pub variable: Option<String>,
}

impl Value {
    /// A string as if written in the file.
    pub(super) fn text(text: impl Into<String>) -> Self {
        Value::Text(Text { text: text.into(), variable: None })
    }

    /// The kind in words, for "expected a list, found a string".
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Unset => "an unset variable",
        }
    }
}

impl Node {
    pub(super) fn new(at: At, value: Value) -> Self {
        Node { at, value }
    }

    /// The member `name` of a mapping.
    pub(super) fn member(&self, name: &str) -> Option<&Node> {
        match &self.value {
            Value::Map(members) => members.iter().find(|(own, _)| own.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// The value as JSON. What is no JSON number becomes `null`; the reader has refused those before.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Unset => Json::Null,
            Value::Bool(on) => Json::Bool(*on),
            Value::Int(number) => match (i64::try_from(*number), u64::try_from(*number)) {
                (Ok(small), _) => small.into(),
                (_, Ok(large)) => large.into(),
                _ => (*number as f64).into(),
            },
            Value::Float(number) => (*number).into(),
            Value::Text(text) => Json::String(text.text.clone()),
            Value::List(items) => Json::Array(items.iter().map(Node::to_json).collect()),
            Value::Map(members) => {
                Json::Object(members.iter().map(|(name, node)| (name.text.clone(), node.to_json())).collect())
            }
        }
    }

    /// Gives every name and value of the tree the place `at`.
    pub(super) fn place_all(&mut self, at: At) {
        self.at = at;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.place_all(at)),
            Value::Map(members) => members.iter_mut().for_each(|(name, node)| {
                name.at = at;
                node.place_all(at);
            }),
            _ => {}
        }
    }
}

/// Parses `text`; a syntax error goes to `report` and gives `None`. An empty document gives `Null`.
pub(super) fn parse(text: &str, report: &mut Report) -> Option<Node> {
    match parse_quiet(text) {
        Ok(node) => Some(node),
        Err(error) => {
            let (message, help) = explain(&error);
            report.error(error.location().map_or(At::Nowhere, at), "", message, help);
            None
        }
    }
}

/// Parses `text` without a report, for values of flags.
pub(super) fn parse_quiet(text: &str) -> Result<Node, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: defaults::CONFIG_DEPTH_MAX,
            max_nodes: defaults::CONFIG_NODES_MAX,
            // One is allowed; the second gives a better message than the budget does.
            max_documents: 2,
        },
        with_snippet: false,
        // `no` and `on` stay strings: a model called `no` must not turn into `false`.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The parser's finding in our words. Its own text is used only for variants that cannot quote a value.
fn explain(error: &serde_saphyr::Error) -> (String, &'static str) {
    use serde_saphyr::Error as E;
    match error.without_snippet() {
        E::DuplicateMappingKey { key: Some(key), .. } => (
            format!("{} stands twice in the same mapping", super::diagnostics::quoted(key)),
            "merge the two or remove one; the last one does not win silently",
        ),
        E::DuplicateMappingKey { .. } => {
            ("a name stands twice in the same mapping".to_owned(), "merge the two or remove one")
        }
        E::UnknownAnchor { .. } => (
            "`*` starts a YAML alias, and no anchor of that name exists".to_owned(),
            "put the value in quotes if the `*` is part of it",
        ),
        E::MultipleDocuments { .. } => (
            "the file holds more than one YAML document".to_owned(),
            "remove the second `---` and what follows",
        ),
        E::Budget { .. } => (
            "the file nests too deep or holds too many values".to_owned(),
            "a config has a handful of levels; check for a paste accident or runaway aliases",
        ),
        E::NullIntoString { .. } => {
            ("a name in a mapping is empty or null".to_owned(), "give it a name, in quotes if needed")
        }
        E::NonFiniteFloat { .. } => {
            ("`.nan` and `.inf` are not usable numbers".to_owned(), "write an ordinary number")
        }
        E::Message { .. } | E::ExternalMessage { .. } | E::Eof { .. } => {
            let text = error.without_snippet().to_string();
            let text = text.split(" at line ").next().unwrap_or_default();
            if text.contains("tab") {
                (format!("not valid YAML: {text}"), "indent with spaces; YAML does not take tabs there")
            } else {
                (
                    format!("not valid YAML or JSON: {text}"),
                    "check quotes, brackets and indentation near here",
                )
            }
        }
        _ => (
            "not valid YAML or JSON here".to_owned(),
            "names must be plain strings; check tags, aliases, quotes and indentation near here",
        ),
    }
}

fn at(location: Location) -> At {
    let small = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    match (small(location.line()), small(location.column())) {
        (0, _) => At::Nowhere,
        (line, column) => At::File { line, column },
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Node { at: at(spanned.referenced), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Int(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(Value::Int(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(Value::Float(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::text(value))
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(Value::text(String::from_utf8_lossy(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members: Vec<(Name, Node)> = Vec::new();
        while let Some(name) = access.next_key::<Spanned<String>>()? {
            let name = Name { at: at(name.referenced), text: name.value };
            members.push((name, access.next_value()?));
        }
        Ok(Value::Map(members))
    }
}
