//! `env.NAME`: any string of the configuration may stand in the environment instead.
//!
//! Variables are read through a closure, so that the room itself has no globals and tests need no process
//! environment. Expansion happens once, on the tree, before the schema looks at it.
//!
//! Invariants: an expanded value remembers its variable, so that messages can name the variable and never
//! the value; a missing variable is reported once, with its name, its place and what to do.

use super::diagnostics::Report;
use super::reader::join;
use super::tree::{Node, Text, Value};

/// Reads a variable; `None` when it is not set or not UTF-8.
pub type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Replaces every `env.NAME` in `node` by the variable's value.
pub(super) fn expand(node: &mut Node, path: &str, env: Env<'_>, report: &mut Report) {
    let at = node.at;
    match &mut node.value {
        Value::Text(text) => {
            let Some(name) = reference(&text.text) else { return };
            let name = name.to_owned();
            match env(&name) {
                Some(value) => *text = Text { text: value, variable: Some(name) },
                None => {
                    let message = format!("environment variable `{name}` is not set; `{path}` needs it");
                    let help =
                        format!("set {name} where the gateway starts, or write another value for `{path}`");
                    report.error(at, path, message, help);
                    node.value = Value::Unset;
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                expand(item, &format!("{path}.{index}"), env, report);
            }
        }
        Value::Map(members) => {
            for (name, member) in members {
                expand(member, &join(path, &name.text), env, report);
            }
        }
        _ => {}
    }
}

/// The variable that `text` refers to, when it is `env.` and a name and nothing else.
pub(super) fn reference(text: &str) -> Option<&str> {
    let name = text.strip_prefix("env.")?;
    let start = name.bytes().next()?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (!start.is_ascii_digit() && name.bytes().all(fine)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_reference_counts() {
        assert_eq!(reference("env.OPENAI_API_KEY"), Some("OPENAI_API_KEY"));
        assert_eq!(reference("env._x1"), Some("_x1"));
        for text in ["env.", "env.1X", "env.A-B", "env.A B", " env.A", "ENV.A", "xenv.A", "env"] {
            assert_eq!(reference(text), None, "{text}");
        }
    }
}
