//! The configuration of someone who wrote none.
//!
//! Every known provider whose key stands in one of its usual variables is there, in the order of the table.
//! With none of them the built-in mock provider answers, so that the first request always works. The result
//! is a tree like one from a file, so flags and the schema treat both alike.
//!
//! Left out on purpose: `OPENAI_BASE_URL` and its like. They are how clients find *this* gateway, and a
//! gateway that obeyed them would call itself.

use super::diagnostics::At;
use super::env::Env;
use super::known::{MOCK, Table};
use super::tree::{Name, Node, Value};

/// The `providers` mapping for the variables that are set, and their names.
pub(super) fn providers(table: &Table, env: Env<'_>) -> (Node, Vec<Box<str>>) {
    let mut variables = Vec::new();
    let mut members = Vec::new();
    for known in table.0.iter().filter(|known| known.url.is_some()) {
        let set = known.env.iter().find(|name| env(name).is_some_and(|value| !value.trim().is_empty()));
        if let Some(variable) = set {
            variables.push(variable.as_str().into());
            let key = node(Value::text(format!("env.{variable}")));
            members.push((name(&known.id), map("keys", node(Value::List(vec![key])))));
        }
    }
    (node(Value::Map(members)), variables)
}

/// Adds the mock provider to `providers` when nothing else is there.
pub(super) fn mock_when_empty(root: &mut Node) {
    let Value::Map(members) = &mut root.value else { return };
    let Some((_, providers)) = members.iter_mut().find(|(name, _)| name.text == "providers") else { return };
    match &mut providers.value {
        Value::Map(rows) if rows.is_empty() => rows.push((name(MOCK), node(Value::Map(Vec::new())))),
        _ => {}
    }
}

/// Puts `providers` into the document `root`.
pub(super) fn insert(root: &mut Node, providers: Node) {
    if matches!(root.value, Value::Null) {
        root.value = Value::Map(Vec::new());
    }
    if let Value::Map(members) = &mut root.value {
        members.retain(|(name, _)| name.text != "providers");
        members.push((name("providers"), providers));
    }
}

/// Whether `root` leaves the choice of providers to the environment.
pub(super) fn wanted(root: &Node) -> bool {
    match root.member("providers").map(|node| &node.value) {
        None | Some(Value::Null) => matches!(root.value, Value::Map(_) | Value::Null),
        Some(Value::Map(members)) => members.is_empty(),
        Some(_) => false,
    }
}

fn node(value: Value) -> Node {
    Node::new(At::Nowhere, value)
}

fn name(text: &str) -> Name {
    Name { at: At::Nowhere, text: text.to_owned() }
}

fn map(member: &str, value: Node) -> Node {
    node(Value::Map(vec![(name(member), value)]))
}
