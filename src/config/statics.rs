//! Static answers, and the settings that stand at the top level only: step budgets, idempotency, facts of models.

use std::io::Read;
use std::path::Path;

use super::blocks::nano_usd;
use super::defaults;
use super::diagnostics::{Report, nearest};
use super::mechanisms::{Facts, Idempotency, ModelPrice, PriceExtras, StaticAnswer, StaticId, StepBudget};
use super::reader::{Item, Word};
use super::tree::Value;

/// The word before the slash in the name of a static answer.
pub(super) const STATIC: &str = "static";

/// One entry of `static`.
pub(super) struct StaticFile {
    pub name: Word,
    content: Option<Content>,
    model: Option<Word>,
}

enum Content {
    Text(String),
    File(Word),
}

/// `step_budget`.
pub(super) struct StepFile {
    pub budget: StepBudget,
    pub answer: Option<Word>,
}

/// Reads `static`.
pub(super) fn read(item: &Item<'_>, report: &mut Report) -> Vec<StaticFile> {
    let members = item.members(report);
    let mut rows = Vec::with_capacity(members.len());
    for (name, item) in members {
        let name = Word { text: name.text.clone(), variable: None, at: name.at, path: item.path.clone() };
        rows.push(row(name, &item, report));
    }
    rows
}

fn row(name: Word, item: &Item<'_>, report: &mut Report) -> StaticFile {
    const HELP: &str = "write {content: TEXT}, {content: {...}} for JSON, or {file: PATH}";
    let mut fields = item.fields(report);
    let content = fields.item("content");
    let file = fields.item("file");
    let model = fields.item("model").and_then(|item| item.word(report));
    fields.finish(report, &[]);
    let content = match (content, file) {
        (Some(content), None) => match &content.node.value {
            Value::Map(_) | Value::List(_) => Some(Content::Text(content.node.to_json().to_string())),
            _ => content.word(report).map(|word| Content::Text(word.text)),
        },
        (None, Some(file)) => file.word(report).map(Content::File),
        (Some(_), Some(file)) => {
            file.error(
                report,
                format!("`{}` has both `content` and `file`", item.path),
                "keep one of the two",
            );
            None
        }
        (None, None) => {
            if matches!(item.node.value, Value::Map(_) | Value::Null) {
                item.error(report, format!("`{}` has no content", item.path), HELP);
            }
            None
        }
    };
    StaticFile { name, content, model }
}

/// Compiles the answers; a file is read from `directory`. Their ids are their positions, also when one is broken.
pub(super) fn compile(
    rows: &[StaticFile],
    directory: Option<&Path>,
    report: &mut Report,
) -> Vec<StaticAnswer> {
    let mut answers = Vec::with_capacity(rows.len());
    for row in rows {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=64).contains(&row.name.text.len()) || !row.name.text.bytes().all(fine) {
            let help = "use letters, digits, `-`, `_` and `.`, at most 64; it is asked for as static/NAME";
            let message = format!("{} cannot be a static answer's name", row.name.shown());
            report.error(row.name.at, &row.name.path, message, help);
        }
        let content = match &row.content {
            Some(Content::Text(text)) => text.clone(),
            Some(Content::File(word)) => content_of(word, directory, report),
            None => String::new(),
        };
        let model = row.model.as_ref().map_or(&row.name.text, |word| &word.text);
        answers.push(StaticAnswer {
            name: row.name.text.as_str().into(),
            content: content.into(),
            model: model.as_str().into(),
        });
    }
    answers
}

fn content_of(word: &Word, directory: Option<&Path>, report: &mut Report) -> String {
    let path = directory.unwrap_or(Path::new("")).join(&word.text);
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file past the limit is seen and not cut.
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(defaults::STATIC_BYTES_MAX + 1).read_to_end(&mut bytes));
    let most = super::values::show_bytes(defaults::STATIC_BYTES_MAX);
    let (why, help) = match (read, String::from_utf8(bytes)) {
        (Err(_), _) => ("cannot be read", "paths are relative to the config file".to_owned()),
        (Ok(_), Ok(text)) if text.len() as u64 <= defaults::STATIC_BYTES_MAX => return text,
        (Ok(size), _) if size as u64 > defaults::STATIC_BYTES_MAX => {
            ("is too large", format!("at most {most} fit"))
        }
        (Ok(_), _) => ("is not UTF-8", "an answer is text".to_owned()),
    };
    report.error(word.at, &word.path, format!("the file {} {why}", word.shown()), help);
    String::new()
}

/// The answer that `word` names as `static/NAME`. `None` with the reason reported.
pub(super) fn find(word: &Word, rows: &[StaticFile], report: &mut Report) -> Option<StaticId> {
    let own = word.text.strip_prefix(STATIC).and_then(|rest| rest.strip_prefix('/'));
    if let Some(index) = own.and_then(|own| rows.iter().position(|row| row.name.text == own)) {
        return u16::try_from(index).ok().map(StaticId);
    }
    let names: Vec<String> = rows.iter().map(|row| format!("{STATIC}/{}", row.name.text)).collect();
    let help = match nearest(&word.text, names.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if names.is_empty() => {
            "add it to `static` at the top level, for example {heuristic: {content: TEXT}}".to_owned()
        }
        None => format!("configured are: {}", names.join(", ")),
    };
    report.error(word.at, &word.path, format!("{} is no configured static answer", word.shown()), help);
    None
}

/// Whether `word` names a static answer and not a target.
pub(super) fn is_static(word: &Word) -> bool {
    word.text.split_once('/').is_some_and(|(first, _)| first == STATIC)
}

/// Reads `step_budget`.
pub(super) fn step_budget(item: &Item<'_>, report: &mut Report) -> StepFile {
    let mut fields = item.fields(report);
    let failures = fields.item("failures").and_then(|item| item.whole(report, 1, 1_000_000));
    let budget = StepBudget {
        failures: failures.map(|count| count as u32),
        nano_usd: fields.item("usd").and_then(|item| nano_usd(&item, report)),
        time_ms: fields.item("time").and_then(|item| item.positive_ms(report)),
        answer: None,
    };
    let answer = fields.item("answer").and_then(|item| item.word(report));
    fields.finish(report, &[]);
    StepFile { budget, answer }
}

/// Reads `idempotency`; `None` is off.
pub(super) fn idempotency(item: &Item<'_>, report: &mut Report) -> Option<Idempotency> {
    let base = Idempotency::default();
    match item.switch() {
        Some(true) => return Some(base),
        Some(false) => return None,
        None => {}
    }
    let mut fields = item.fields(report);
    let bytes = fields.item("bytes").and_then(|item| item.bytes(report, 1 << 20, 64 << 30));
    let idempotency = Idempotency {
        keep_ms: fields.ms("keep", base.keep_ms, report),
        entries: fields.count("entries", 1..=1_000_000, base.entries, report),
        bytes: bytes.unwrap_or(base.bytes),
    };
    fields.finish(report, &[]);
    Some(idempotency)
}

/// Reads `models`: facts by name.
pub(super) fn models(item: &Item<'_>, report: &mut Report) -> Vec<(Word, Facts)> {
    let members = item.members(report);
    let mut rows = Vec::with_capacity(members.len());
    for (name, item) in members {
        let name = Word { text: name.text.clone(), variable: None, at: name.at, path: item.path.clone() };
        let mut fields = item.fields(report);
        let context = fields.item("context").and_then(|item| item.whole(report, 1, 1_000_000_000));
        let price = fields.item("price").and_then(|item| price(&item, report));
        fields.finish(report, &[]);
        rows.push((name, Facts { context_tokens: context.map(|tokens| tokens as u32), price }));
    }
    rows
}

fn price(item: &Item<'_>, report: &mut Report) -> Option<ModelPrice> {
    let mut fields = item.fields(report);
    let mut rate = |name: &'static str| {
        let usd = fields.item(name)?.usd(report, 0.0, defaults::PRICE_USD_MOST)?;
        // A dollar a million tokens is a million pico-dollars a token.
        Some((usd * 1e6).round() as u32)
    };
    let (input, output) = (rate("input"), rate("output"));
    let (cache_read, cache_write) = (rate("cache_read"), rate("cache_write"));
    let mut extras = PriceExtras {
        cache_write_long: rate("cache_write_long"),
        audio_input: rate("audio_input"),
        audio_output: rate("audio_output"),
        reasoning: rate("reasoning"),
        ..PriceExtras::default()
    };
    let mut times = |name: &'static str| {
        let factor = fields.item(name)?.factor(report, defaults::TIER_FACTOR_MOST)?;
        Some((factor * 1e3).round() as u16)
    };
    (extras.flex, extras.priority, extras.batch) = (times("flex"), times("priority"), times("batch"));
    fields.finish(report, &[]);
    let (Some(input), Some(output)) = (input, output) else {
        let written = |name: &str| item.node.member(name).is_some();
        if matches!(item.node.value, Value::Map(_)) && !(written("input") && written("output")) {
            let help = "write {input: 0.15, output: 0.60}: dollars a million tokens";
            item.error(report, format!("`{}` needs `input` and `output`", item.path), help);
        }
        return None;
    };
    Some(ModelPrice {
        input,
        output,
        cache_read: cache_read.unwrap_or(input),
        cache_write: cache_write.unwrap_or(input),
        extras,
    })
}
