//! What an answer must be to count as one.
//!
//! A [`Check`] is made only when it can be used: patterns and schemas are compiled here, so that one that does not
//! compile is an error of the file, at its line, and never one of a request. Patterns run in time linear in the text
//! (the `regex` crate). Schemas are read as given; references to other documents are not fetched.
//!
//! Left out: judging, which `policy` does.

use std::sync::Arc;

use jsonschema::Validator;
use regex::Regex;
use serde_json::Value;

/// One check of a route.
#[derive(Clone, Debug)]
pub enum Check {
    /// The answer ended by itself: not at the token limit, not by a filter.
    FinishReason,
    /// The text is one JSON value.
    Json,
    /// The text has at least this many characters, white space at its ends not counted.
    MinLength(u32),
    /// The pattern is found in the text.
    Regex(Regex),
    /// The text is JSON that is valid under this schema.
    JsonSchema(Arc<Validator>),
    /// The text is JSON with a number at this pointer (RFC 6901) that is at least `min`.
    Confidence {
        /// Where the number is.
        pointer: Box<str>,
        /// The least that is accepted.
        min: f64,
    },
}

impl Check {
    /// A check that finds `pattern`. The error says what is wrong with it, in one line.
    pub fn regex(pattern: &str) -> Result<Check, String> {
        // The crate draws the pattern with a caret over several lines; its last line says what is wrong.
        let why = |error: regex::Error| {
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default().trim();
            last.strip_prefix("error: ").unwrap_or(last).to_owned()
        };
        Regex::new(pattern).map(Check::Regex).map_err(why)
    }

    /// A check against `schema`. The error says what is wrong with it, in one line and without its values.
    pub fn json_schema(schema: &Value) -> Result<Check, String> {
        let why = |error: jsonschema::ValidationError<'_>| {
            let place = error.instance_path().to_string();
            let place = if place.is_empty() { place } else { format!(", at {place}") };
            format!("{}{place}", error.masked())
        };
        let validator = jsonschema::validator_for(schema).map_err(why)?;
        Ok(Check::JsonSchema(Arc::new(validator)))
    }

    /// A check of the number at `pointer`. `None` when that is no pointer: it is empty or starts with a slash.
    pub fn confidence(pointer: &str, min: f64) -> Option<Check> {
        let fine = pointer.is_empty() || pointer.starts_with('/');
        fine.then(|| Check::Confidence { pointer: pointer.into(), min })
    }

    /// The word for it in files, errors and metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Check::FinishReason => "finish_reason",
            Check::Json => "json",
            Check::MinLength(_) => "min_length",
            Check::Regex(_) => "regex",
            Check::JsonSchema(_) => "json_schema",
            Check::Confidence { .. } => "confidence",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_does_not_compile_says_why_in_one_line() {
        for why in [
            Check::regex("(").expect_err("an open group"),
            Check::json_schema(&json!({"type": 7})).expect_err("no type"),
            Check::json_schema(&json!({"$ref": "http://192.0.2.1/other.json"})).expect_err("elsewhere"),
        ] {
            assert!(!why.is_empty() && !why.contains('\n'), "{why}");
        }
        assert!(Check::confidence("confidence", 0.5).is_none());
        assert!(Check::confidence("", 0.5).is_some() && Check::confidence("/a/b", 0.5).is_some());
    }
}
