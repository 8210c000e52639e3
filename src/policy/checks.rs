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
//! Checks come compiled from the plan ([`crate::config::Check`]): one that cannot be is an error of the file.
//!
//! Leaves out: judging by another model.

use serde_json::Value;

use crate::config::{Check, Plan};

/// Text of an answer longer than this is not parsed as JSON: 8 MiB, the largest event elsewhere.
pub const TEXT_BYTES_MAX: usize = 8 << 20;

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

/// The checks of one route.
pub struct Checks {
    list: Box<[Check]>,
}

impl std::fmt::Debug for Checks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Checks({})", self.list.len())
    }
}

impl Checks {
    /// These checks.
    pub fn new(checks: &[Check]) -> Checks {
        Checks { list: checks.into() }
    }

    /// The checks of every route of a plan, by [`super::PolicyId`]; the first are those of chains without a route.
    pub fn of_plan(plan: &Plan) -> Box<[Checks]> {
        let routes = plan.routes.iter().map(|route| Checks::new(&route.checks));
        std::iter::once(Checks::new(&plan.route_defaults.checks)).chain(routes).collect()
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
                Check::FinishReason => match answer.finish {
                    Finish::Length | Finish::Filter => return Err(Refused::Unfinished),
                    Finish::Stop | Finish::Tools | Finish::Unknown => continue,
                },
                _ if answer.finish == Finish::Tools => continue,
                Check::MinLength(min) => {
                    ok(answer.text.trim().chars().count() >= *min as usize, Refused::TooShort)?;
                }
                Check::Regex(pattern) => ok(pattern.is_match(answer.text), Refused::NoMatch)?,
                Check::Json | Check::JsonSchema(_) | Check::Confidence { .. } => {
                    let parsed = parsed.get_or_insert_with(|| parse(answer.text));
                    judge_json(check, parsed.as_ref().ok_or(Refused::NotJson)?)?;
                }
            }
        }
        Ok(())
    }
}

fn parse(text: &str) -> Option<Value> {
    (text.len() <= TEXT_BYTES_MAX).then(|| serde_json::from_str(text).ok()).flatten()
}

fn judge_json(check: &Check, value: &Value) -> Result<(), Refused> {
    match check {
        Check::JsonSchema(schema) => ok(schema.is_valid(value), Refused::Schema),
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

    fn judge(spec: Check, finish: Finish, text: &str) -> Result<(), Refused> {
        Checks::new(&[spec]).judge(&WholeAnswer { finish, text })
    }

    fn text(spec: Check, text: &str) -> Result<(), Refused> {
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
            assert_eq!(judge(Check::FinishReason, finish, ""), expected);
        }
    }

    #[test]
    fn length_is_counted_in_characters_without_the_white_space_around() {
        assert_eq!(text(Check::MinLength(3), " äöü\n"), Ok(()));
        assert_eq!(text(Check::MinLength(4), " äöü\n"), Err(Refused::TooShort));
    }

    #[test]
    fn json_means_one_value_and_nothing_around_it() {
        assert_eq!(text(Check::Json, " {\"a\": 1}\n"), Ok(()));
        for bad in ["", "{\"a\": 1", "{} {}", "```json\n{}\n```", "Sure! {}"] {
            assert_eq!(text(Check::Json, bad), Err(Refused::NotJson), "{bad}");
        }
        let large = format!("\"{}\"", "a".repeat(TEXT_BYTES_MAX - 1));
        assert_eq!(text(Check::Json, &large[1..]), Err(Refused::NotJson));
        assert_eq!(text(Check::Json, &large), Err(Refused::NotJson), "one past the largest");
        assert_eq!(text(Check::Json, &format!("\"{}\"", "a".repeat(TEXT_BYTES_MAX - 2))), Ok(()));
    }

    #[test]
    fn a_schema_refuses_another_shape() {
        let schema = Check::json_schema(&json!({
            "type": "object", "required": ["verdict"], "properties": {"verdict": {"enum": ["keep", "drop"]}}
        }))
        .unwrap();
        assert_eq!(text(schema.clone(), r#"{"verdict": "keep"}"#), Ok(()));
        assert_eq!(text(schema.clone(), r#"{"verdict": "maybe"}"#), Err(Refused::Schema));
        assert_eq!(text(schema, "keep"), Err(Refused::NotJson));
    }

    #[test]
    fn confidence_is_a_number_at_its_place() {
        let sure = Check::confidence("/meta/confidence", 0.8).unwrap();
        assert_eq!(text(sure.clone(), r#"{"meta": {"confidence": 0.8}}"#), Ok(()));
        for bad in [r#"{"meta": {"confidence": 0.79}}"#, r#"{"meta": {"confidence": "0.9"}}"#, "{}"] {
            assert_eq!(text(sure.clone(), bad), Err(Refused::LowConfidence), "{bad}");
        }
    }

    #[test]
    fn a_pattern_is_searched_anywhere() {
        assert_eq!(text(Check::regex(r"(?m)^PASS|FAIL$").unwrap(), "so\nPASS: 3"), Ok(()));
        assert_eq!(text(Check::regex("PASS").unwrap(), "FAIL"), Err(Refused::NoMatch));
    }

    #[test]
    fn refusals_have_stable_words() {
        use Refused::{LowConfidence, NoMatch, NotJson, Schema, TooShort, Unfinished};
        let words = [Unfinished, TooShort, NotJson, Schema, NoMatch, LowConfidence].map(Refused::label);
        assert_eq!(words, ["finish_reason", "min_length", "json", "json_schema", "regex", "confidence"]);
    }

    #[test]
    fn only_a_route_with_checks_buffers_its_streams() {
        let file = "
providers: {openai: {keys: [env.A]}}
fallbacks:
  - {model: strict, targets: [openai/a, openai/b], checks: [json]}
  - {model: plain, targets: [openai/a, openai/b]}
";
        let loader = crate::config::Loader { file: Some("t.yaml".into()), ..Default::default() };
        let plan = loader.load_text(file, &|_| Some("key".to_owned())).unwrap();
        let empty: Vec<bool> = Checks::of_plan(&plan).iter().map(Checks::is_empty).collect();
        assert_eq!(empty, [true, false, true], "chains without a route, then the routes in order");
    }

    #[test]
    fn an_answer_that_calls_tools_has_no_text_to_judge() {
        for spec in [Check::Json, Check::MinLength(10), Check::regex("x").unwrap()] {
            assert_eq!(judge(spec, Finish::Tools, ""), Ok(()));
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_a_check_panic(body in ".{0,200}", min in 0u32..50) {
            let checks = Checks::new(&[
                Check::FinishReason,
                Check::MinLength(min),
                Check::confidence("/c", 0.5).unwrap(),
            ]);
            let judged = checks.judge(&WholeAnswer { finish: Finish::Unknown, text: &body });
            prop_assert!(judged.is_err() || serde_json::from_str::<Value>(&body).is_ok());
        }
    }
}
