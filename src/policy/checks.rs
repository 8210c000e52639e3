//! Answers that arrived and are no use.
//!
//! Prevents: a 200 that fails the build anyway. A model that is overloaded or has been changed cuts its answer at
//! the token limit, forgets the JSON it was asked for, or answers in two words. To the caller that is a failure that
//! costs a whole step; seen here it is a failed attempt, and the next target is asked.
//!
//! Per route and off by default: every check is a promise of the caller's prompt, which only its author knows. Checks need
//! the whole answer, so a stream on such a route is buffered. An answer that calls tools has no text to be judged and
//! passes the text checks. A failed check does not open a breaker (the target answered), but the fallback it causes is
//! charged to the target like any other.
//!
//! Everything is compiled when the plan is; a check that cannot be compiled is a config error. Patterns run in time linear
//! in the text (the `regex` crate). Schemas are read as given, and references to other documents are not fetched.
//!
//! Leaves out: judging by another model.

use regex::Regex;
use serde_json::Value;

/// Text of an answer longer than this is not parsed as JSON: 8 MiB, the largest event elsewhere.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

/// One check as configured.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckSpec {
    /// The answer ended by itself: not at the token limit, not by a filter.
    Finished,
    /// The text has at least this many characters, white space at its ends not counted.
    MinLength(usize),
    /// The text is one JSON value.
    Json,
    /// The text is JSON that is valid under this schema.
    JsonSchema(Value),
    /// The pattern is found in the text.
    Matches(String),
    /// The text is JSON with a number at this pointer (RFC 6901) that is at least `min`.
    Confidence {
        /// Where the number is.
        pointer: String,
        /// The least that is accepted.
        min: f64,
    },
}

/// Which check refused an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// Cut at the token limit or by a filter.
    Unfinished,
    /// Too short.
    TooShort,
    /// Not JSON.
    NotJson,
    /// JSON of another shape.
    Schema,
    /// The pattern is not there.
    NoMatch,
    /// The number is too low, or not there.
    LowConfidence,
}

impl Refused {
    /// The stable word for errors, logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Unfinished => "finish_reason",
            Refused::TooShort => "min_length",
            Refused::NotJson => "json",
            Refused::Schema => "json_schema",
            Refused::NoMatch => "regex",
            Refused::LowConfidence => "confidence",
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// By itself.
    Stop,
    /// At the token limit.
    Length,
    /// By the provider's filter.
    Filter,
    /// To call tools.
    Tools,
    /// Not said, or a word we do not know.
    Unknown,
}

/// A whole answer, as `dialect` reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeAnswer<'a> {
    /// How it ended.
    pub finish: Finish,
    /// Its text; empty when there is none.
    pub text: &'a str,
}

/// A check that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckError {
    /// The pattern; with what is wrong with it.
    Pattern(String),
    /// The schema; with what is wrong with it.
    Schema(String),
    /// A pointer must be empty or start with a slash.
    Pointer(String),
}

impl std::fmt::Display for CheckError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CheckError::Pattern(why) => write!(f, "the pattern does not compile: {why}"),
            CheckError::Schema(why) => write!(f, "the schema does not compile: {why}"),
            CheckError::Pointer(pointer) => {
                write!(f, "`{pointer}` is no JSON pointer; write it as `/confidence`")
            }
        }
    }
}

impl std::error::Error for CheckError {}

enum Check {
    Finished,
    MinLength(usize),
    Json,
    Schema(Box<jsonschema::Validator>),
    Matches(Box<Regex>),
    Confidence { pointer: Box<str>, min: f64 },
}

/// The checks of one route, compiled.
pub struct Checks {
    list: Box<[Check]>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checks({})", self.list.len())
    }
}

impl Checks {
    /// Compiles the checks of a route.
    pub fn compile(specs: &[CheckSpec]) -> Result<Checks, CheckError> {
        Ok(Checks { list: specs.iter().map(compile).collect::<Result<_, _>>()? })
    }

    /// True when the route has none: answers need not be buffered.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Judges an answer; the first check that refuses it is named.
    pub fn judge(&self, answer: &WholeAnswer<'_>) -> Result<(), Refused> {
        let mut parsed: Option<Option<Value>> = None;
        for check in &self.list {
            match check {
                Check::Finished => match answer.finish {
                    Finish::Length | Finish::Filter => return Err(Refused::Unfinished),
                    Finish::Stop | Finish::Tools | Finish::Unknown => continue,
                },
                _ if answer.finish == Finish::Tools => continue,
                Check::MinLength(min) => ok(answer.text.trim().chars().count() >= *min, Refused::TooShort)?,
                Check::Matches(pattern) => ok(pattern.is_match(answer.text), Refused::NoMatch)?,
                Check::Json | Check::Schema(_) | Check::Confidence { .. } => {
                    let parsed = parsed.get_or_insert_with(|| parse(answer.text));
                    judge_json(check, parsed.as_ref().ok_or(Refused::NotJson)?)?;
                }
            }
        }
        Ok(())
    }
}

fn compile(spec: &CheckSpec) -> Result<Check, CheckError> {
    Ok(match spec {
        CheckSpec::Finished => Check::Finished,
        CheckSpec::MinLength(min) => Check::MinLength(*min),
        CheckSpec::Json => Check::Json,
        CheckSpec::JsonSchema(schema) => {
            let validator =
                jsonschema::validator_for(schema).map_err(|e| CheckError::Schema(e.to_string()))?;
            Check::Schema(Box::new(validator))
        }
        CheckSpec::Matches(pattern) => {
            Check::Matches(Box::new(Regex::new(pattern).map_err(|e| CheckError::Pattern(e.to_string()))?))
        }
        CheckSpec::Confidence { pointer, min } => {
            if !pointer.is_empty() && !pointer.starts_with('/') {
                return Err(CheckError::Pointer(pointer.clone()));
            }
            Check::Confidence { pointer: pointer.as_str().into(), min: *min }
        }
    })
}

fn parse(text: &str) -> Option<Value> {
    (text.len() <= TEXT_BYTES_MAX).then(|| serde_json::from_str(text).ok()).flatten()
}

fn judge_json(check: &Check, value: &Value) -> Result<(), Refused> {
    match check {
        Check::Schema(schema) => ok(schema.is_valid(value), Refused::Schema),
        Check::Confidence { pointer, min } => {
            let number = value.pointer(pointer).and_then(Value::as_f64);
            ok(number.is_some_and(|n| n >= *min), Refused::LowConfidence)
        }
        _ => Ok(()),
    }
}

fn ok(holds: bool, refused: Refused) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(refused) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn judge(spec: CheckSpec, finish: Finish, text: &str) -> Result<(), Refused> {
        Checks::compile(&[spec]).expect("compiles").judge(&WholeAnswer { finish, text })
    }

    fn text(spec: CheckSpec, text: &str) -> Result<(), Refused> {
        judge(spec, Finish::Stop, text)
    }

    #[test]
    fn a_cut_answer_is_refused_and_an_unknown_end_is_not() {
        for (finish, expected) in [
            (Finish::Stop, Ok(())),
            (Finish::Tools, Ok(())),
            (Finish::Unknown, Ok(())),
            (Finish::Length, Err(Refused::Unfinished)),
            (Finish::Filter, Err(Refused::Unfinished)),
        ] {
            assert_eq!(judge(CheckSpec::Finished, finish, ""), expected);
        }
    }

    #[test]
    fn length_is_counted_in_characters_without_the_white_space_around() {
        assert_eq!(text(CheckSpec::MinLength(3), " äöü\n"), Ok(()));
        assert_eq!(text(CheckSpec::MinLength(4), " äöü\n"), Err(Refused::TooShort));
    }

    #[test]
    fn json_means_one_value_and_nothing_around_it() {
        assert_eq!(text(CheckSpec::Json, " {\"a\": 1}\n"), Ok(()));
        for bad in ["", "{\"a\": 1", "{} {}", "```json\n{}\n```", "Sure! {}"] {
            assert_eq!(text(CheckSpec::Json, bad), Err(Refused::NotJson), "{bad}");
        }
        let large = format!("\"{}\"", "a".repeat(TEXT_BYTES_MAX - 1));
        assert_eq!(text(CheckSpec::Json, &large[1..]), Err(Refused::NotJson));
        assert_eq!(text(CheckSpec::Json, &large), Err(Refused::NotJson), "one past the largest");
        assert_eq!(text(CheckSpec::Json, &format!("\"{}\"", "a".repeat(TEXT_BYTES_MAX - 2))), Ok(()));
    }

    #[test]
    fn a_schema_refuses_another_shape() {
        let schema = CheckSpec::JsonSchema(json!({
            "type": "object", "required": ["verdict"], "properties": {"verdict": {"enum": ["keep", "drop"]}}
        }));
        assert_eq!(text(schema.clone(), r#"{"verdict": "keep"}"#), Ok(()));
        assert_eq!(text(schema.clone(), r#"{"verdict": "maybe"}"#), Err(Refused::Schema));
        assert_eq!(text(schema, "keep"), Err(Refused::NotJson));
    }

    #[test]
    fn confidence_is_a_number_at_its_place() {
        let sure = CheckSpec::Confidence { pointer: "/meta/confidence".into(), min: 0.8 };
        assert_eq!(text(sure.clone(), r#"{"meta": {"confidence": 0.8}}"#), Ok(()));
        for bad in [r#"{"meta": {"confidence": 0.79}}"#, r#"{"meta": {"confidence": "0.9"}}"#, "{}"] {
            assert_eq!(text(sure.clone(), bad), Err(Refused::LowConfidence), "{bad}");
        }
    }

    #[test]
    fn a_pattern_is_searched_anywhere() {
        assert_eq!(text(CheckSpec::Matches(r"(?m)^PASS|FAIL$".into()), "so\nPASS: 3"), Ok(()));
        assert_eq!(text(CheckSpec::Matches("PASS".into()), "FAIL"), Err(Refused::NoMatch));
    }

    #[test]
    fn an_answer_that_calls_tools_has_no_text_to_judge() {
        for spec in [CheckSpec::Json, CheckSpec::MinLength(10), CheckSpec::Matches("x".into())] {
            assert_eq!(judge(spec, Finish::Tools, ""), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_compiled_is_a_config_error() {
        let compile = |spec| Checks::compile(&[spec]).expect_err("must not compile");
        assert!(matches!(compile(CheckSpec::Matches("(".into())), CheckError::Pattern(_)));
        assert!(matches!(compile(CheckSpec::JsonSchema(json!({"type": 7}))), CheckError::Schema(_)));
        let elsewhere = json!({"$ref": "http://192.0.2.1/other.json"});
        assert!(matches!(compile(CheckSpec::JsonSchema(elsewhere)), CheckError::Schema(_)));
        let pointer = CheckSpec::Confidence { pointer: "confidence".into(), min: 0.5 };
        assert!(compile(pointer).to_string().contains("/confidence"));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_check_panic(body in ".{0,200}", min in 0usize..50) {
            let checks = Checks::compile(&[
                CheckSpec::Finished,
                CheckSpec::MinLength(min),
                CheckSpec::Confidence { pointer: "/c".into(), min: 0.5 },
            ]).expect("compiles");
            let judged = checks.judge(&WholeAnswer { finish: Finish::Unknown, text: &body });
            prop_assert!(judged.is_err() || serde_json::from_str::<Value>(&body).is_ok());
        }
    }
}
