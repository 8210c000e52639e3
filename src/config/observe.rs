//! What is shown to whom watches: where the metrics page is, and which headers say who asked.
//!
//! Header names are compared without case. Own names (`x-sluice-pipeline`, `x-sluice-step`, `x-sluice-team`,
//! `x-sluice-dim-NAME`) always count, and before any alias; aliases count in the order written.

use super::diagnostics::{Report, nearest};
use super::reader::{Fields, Item, Word};

/// Dimensions that a file may declare beside pipeline, step and team.
pub const DIMS_MAX: usize = 8;

/// Where the metrics page is when the file does not say.
pub const METRICS_PATH: &str = "/metrics";

/// The values that every request may carry, in order; declared dimensions follow.
const OWN: [&str; 3] = ["pipeline", "step", "team"];

/// What becomes a label when the file does not say.
const LABELS: [&str; 2] = ["pipeline", "team"];

/// Labels that metrics have anyway.
const TAKEN: [&str; 20] = [
    "basis",
    "core",
    "dimension",
    "instance",
    "job",
    "key",
    "kind",
    "le",
    "model",
    "other",
    "outcome",
    "provider",
    "quantile",
    "reason",
    "result",
    "route",
    "status",
    "stream",
    "target",
    "type",
];

/// Longest name of a dimension, bytes.
const NAME_MAX: usize = 32;

/// A value of who asked that metrics have as a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoLabel {
    /// The label.
    pub name: Box<str>,
    /// Its position among the values: pipeline, step, team, then the declared dimensions.
    pub at: u8,
}

/// A header that says who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhoHeader {
    /// Its name in lower case.
    pub name: Box<str>,
    /// The position of what it says.
    pub at: u8,
    /// Of two headers for one position the lower rank counts; 0 is the gateway's own name.
    pub rank: u8,
}

/// How a request says who asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The declared dimensions.
    pub dims: Vec<Box<str>>,
    /// What becomes a label.
    pub labels: Vec<WhoLabel>,
    /// Every header that is read.
    pub headers: Vec<WhoHeader>,
    /// One bit for each length that a header's name has: most fields are none of them.
    pub lengths: u64,
}

impl Default for Who {
    fn default() -> Self {
        let labels = LABELS.iter().filter_map(|name| {
            let at = OWN.iter().position(|own| own == name)?;
            Some(WhoLabel { name: (*name).into(), at: at as u8 })
        });
        Who::new(Vec::new(), labels.collect(), Vec::new())
    }
}

impl Who {
    fn new(dims: Vec<Box<str>>, labels: Vec<WhoLabel>, aliases: Vec<WhoHeader>) -> Who {
        let own = OWN.iter().map(|name| format!("x-sluice-{name}"));
        let declared = dims.iter().map(|name| format!("x-sluice-dim-{name}"));
        let mut headers: Vec<WhoHeader> = own
            .chain(declared)
            .enumerate()
            .map(|(at, name)| WhoHeader { name: name.into(), at: at as u8, rank: 0 })
            .collect();
        headers.extend(aliases);
        let lengths = headers.iter().fold(0, |bits, header| bits | length_bit(header.name.len()));
        Who { dims, labels, headers, lengths }
    }

    /// The header called `name`, in any case. Nearly every field is turned away by its length.
    #[inline]
    pub fn header(&self, name: &[u8]) -> Option<&WhoHeader> {
        if self.lengths & length_bit(name.len()) == 0 {
            return None;
        }
        self.headers.iter().find(|header| header.name.as_bytes().eq_ignore_ascii_case(name))
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

/// Reads `metrics`: a path, `off`, or a mapping with one. `None` is off.
pub(super) fn metrics(fields: &mut Fields<'_>, report: &mut Report) -> Option<Box<str>> {
    let Some(item) = fields.item("metrics") else { return Some(METRICS_PATH.into()) };
    match item.switch() {
        Some(true) => return Some(METRICS_PATH.into()),
        Some(false) => return None,
        None => {}
    }
    let mut fields = item.fields(report);
    let path = fields.item("path").map(|item| match item.switch() {
        Some(false) => None,
        _ => path(&item, report),
    });
    fields.finish(report, &[]);
    path.unwrap_or_else(|| Some(METRICS_PATH.into()))
}

fn path(item: &Item<'_>, report: &mut Report) -> Option<Box<str>> {
    let word = item.word(report)?;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    let other = ["/healthz", "/readyz", "/favicon.ico"].contains(&word.text.as_str())
        || ["/v1", "/admin", "/ui"].iter().any(|own| word.text.starts_with(own));
    if !word.text.starts_with('/') || word.text.len() < 2 || !word.text.bytes().all(fine) || other {
        let help = "write a path of its own that begins with a slash, such as /metrics, or `off`";
        report.error(
            word.at,
            &word.path,
            format!("{} cannot be the path of the metrics", word.shown()),
            help,
        );
    }
    Some(word.text.into())
}

/// Reads `who`.
pub(super) fn who(item: &Item<'_>, report: &mut Report) -> Who {
    let mut fields = item.fields(report);
    let dims = fields.item("dims").map(|item| dims(&item, report)).unwrap_or_default();
    let names: Vec<&str> = OWN.into_iter().chain(dims.iter().map(|name| &**name)).collect();
    let labels = match fields.item("labels") {
        Some(item) => labels(&item, &names, report),
        None => Who::default().labels,
    };
    let aliases = fields.item("aliases").map(|item| aliases(&item, &names, report)).unwrap_or_default();
    fields.finish(report, &[]);
    Who::new(dims, labels, aliases)
}

fn dims(item: &Item<'_>, report: &mut Report) -> Vec<Box<str>> {
    let words = item.words(report);
    if words.len() > DIMS_MAX {
        item.error(
            report,
            format!("`{}` has too many entries", item.path),
            format!("at most {DIMS_MAX} fit"),
        );
    }
    let mut dims: Vec<Box<str>> = Vec::new();
    for word in words.iter().take(DIMS_MAX) {
        let name = &word.text;
        let starts = name.starts_with(|first: char| first.is_ascii_lowercase());
        let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        let same = |other: &str| other.replace('-', "_") == name.replace('-', "_");
        if !starts || name.len() > NAME_MAX || !name.bytes().all(fine) {
            let help =
                format!("use lower-case letters, digits, `-` and `_`, a letter first, at most {NAME_MAX}");
            report.error(word.at, &word.path, format!("{} cannot be a dimension", word.shown()), help);
        } else if OWN.iter().chain(&TAKEN).any(|own| same(own)) || dims.iter().any(|own| same(own)) {
            let help = "choose another name; metrics have this label already";
            report.error(word.at, &word.path, format!("{} is taken", word.shown()), help);
        } else {
            dims.push(name.as_str().into());
        }
    }
    dims
}

/// The position of the value that `word` names.
fn position(word: &Word, names: &[&str], report: &mut Report) -> Option<u8> {
    if let Some(at) = names.iter().position(|name| *name == word.text) {
        return Some(at as u8);
    }
    // Declared names may come from variables, so only our own are said.
    let help = match nearest(&word.text, OWN) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {} and what `who.dims` declares", OWN.join(", ")),
    };
    report.error(word.at, &word.path, format!("{} is nothing that requests say", word.shown()), help);
    None
}

fn labels(item: &Item<'_>, names: &[&str], report: &mut Report) -> Vec<WhoLabel> {
    let mut labels: Vec<WhoLabel> = Vec::new();
    for word in item.words(report) {
        let Some(at) = position(&word, names, report) else { continue };
        if labels.iter().all(|label| label.at != at) {
            labels.push(WhoLabel { name: word.text.as_str().into(), at });
        }
    }
    labels
}

fn aliases(item: &Item<'_>, names: &[&str], report: &mut Report) -> Vec<WhoHeader> {
    let mut headers: Vec<WhoHeader> = Vec::new();
    for (name, item) in item.members(report) {
        let of = Word { text: name.text.clone(), variable: None, at: name.at, path: item.path.clone() };
        let position = position(&of, names, report);
        for (rank, word) in (1u8..).zip(item.words(report)) {
            let header = word.text.to_ascii_lowercase();
            let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if header.is_empty() || header.len() > 64 || !header.bytes().all(fine) {
                let help = "write the name of a request header, such as x-bf-dim-pipeline";
                report.error(word.at, &word.path, format!("{} is no header name", word.shown()), help);
            } else if ["authorization", "x-api-key", "api-key", "cookie"].contains(&header.as_str()) {
                let help = "values of who asked go to metrics and logs; name a header without a secret";
                report.error(word.at, &word.path, format!("{} carries a credential", word.shown()), help);
            } else if headers.iter().any(|other| *other.name == *header) || header.starts_with("x-sluice-") {
                let help = "each header says one thing; the gateway's own names need no alias";
                report.error(word.at, &word.path, format!("{} means something already", word.shown()), help);
            } else if let Some(at) = position {
                headers.push(WhoHeader { name: header.into(), at, rank });
            }
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::super::plan::Plan;
    use super::*;

    fn load(text: &str) -> Result<Plan, String> {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {text}}}");
        loader.load_text(&text, &|_| None).map_err(|e| e.to_string())
    }

    fn read(who: &Who, name: &str) -> Option<(u8, u8)> {
        who.header(name.as_bytes()).map(|header| (header.at, header.rank))
    }

    #[test]
    fn without_a_word_pipeline_and_team_are_labels_and_the_page_is_there() {
        let plan = load("").unwrap();
        assert_eq!(plan.metrics_path.as_deref(), Some("/metrics"));
        let labels: Vec<_> = plan.who.labels.iter().map(|label| (&*label.name, label.at)).collect();
        assert_eq!(labels, [("pipeline", 0), ("team", 2)]);
        assert_eq!(read(&plan.who, "X-Sluice-Team"), Some((2, 0)));
        assert_eq!(read(&plan.who, "x-litellm-tags"), None);
    }

    #[test]
    fn headers_of_other_gateways_say_it_too_where_the_file_lets_them() {
        let plan = load(
            "who: {dims: [branch, job-kind], labels: [pipeline, branch], \
             aliases: {pipeline: [x-bf-dim-pipeline, X-LiteLLM-Tags], branch: [x-bf-prom-branch]}}",
        )
        .unwrap();
        let who = &plan.who;
        assert_eq!(read(who, "x-bf-dim-pipeline"), Some((0, 1)));
        assert_eq!(read(who, "x-litellm-tags"), Some((0, 2)));
        assert_eq!(read(who, "x-bf-prom-branch"), Some((3, 1)));
        assert_eq!(read(who, "x-sluice-dim-job-kind"), Some((4, 0)));
        assert_eq!(who.labels.iter().map(|l| l.at).collect::<Vec<_>>(), [0, 3]);
    }

    #[test]
    fn the_page_can_be_elsewhere_or_nowhere() {
        for (text, path) in [
            ("metrics: off", None),
            ("metrics: {path: off}", None),
            ("metrics: on", Some("/metrics")),
            ("metrics: {path: /internal/metrics}", Some("/internal/metrics")),
        ] {
            assert_eq!(load(text).unwrap().metrics_path.as_deref(), path, "{text}");
        }
        for text in ["metrics: {path: metrics}", "metrics: {path: /v1/metrics}", "metrics: {path: /healthz}"]
        {
            assert!(load(text).unwrap_err().contains("cannot be the path"), "{text}");
        }
    }

    #[test]
    fn names_that_cannot_be_are_refused_with_what_to_do() {
        for (text, words) in [
            ("who: {dims: [a, b, c, d, e, f, g, h, i]}", "at most 8"),
            ("who: {dims: [Branch]}", "lower-case"),
            ("who: {dims: [model]}", "is taken"),
            ("who: {dims: [a-b, a_b]}", "is taken"),
            ("who: {labels: [pipelin]}", "did you mean `pipeline`"),
            ("who: {aliases: {pipeline: ['x y']}}", "no header name"),
            ("who: {aliases: {pipeline: [Authorization]}}", "credential"),
            ("who: {aliases: {pipeline: [a-x], team: [a-x]}}", "means something already"),
            ("who: {aliases: {pipeline: [x-sluice-team]}}", "means something already"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
        assert!(load("who: {dims: [a, b, c, d, e, f, g, h]}").is_ok());
    }
}
