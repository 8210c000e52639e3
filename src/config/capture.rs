//! `capture`: requests and answers kept in a file of their own, for people who debug prompts. Off unless stated.

use std::path::{Path, PathBuf};

use regex::Regex;

use super::books::{self, LogRotate};
use super::defaults;
use super::diagnostics::Report;
use super::reader::{Fields, Item, Word};

/// What is kept of requests and answers.
#[derive(Clone, Debug, PartialEq)]
pub struct CaptureConfig {
    /// The file.
    pub to: PathBuf,
    /// When it is put aside; `None`: by someone else.
    pub rotate: Option<LogRotate>,
    /// Share of the exchanges that is kept, 0 to 1.
    pub sample: f64,
    /// Bytes kept of each request and of each answer.
    pub bytes: u64,
    /// Patterns that are made unreadable besides the built-in ones. Each compiles.
    pub redact: Vec<Box<str>>,
}

/// `capture` as written, where it is on.
pub(super) struct CaptureFile {
    to: Word,
    rotate: Option<LogRotate>,
    sample: f64,
    bytes: u64,
    redact: Vec<Box<str>>,
}

/// Reads `capture`; `None` is off.
pub(super) fn read(fields: &mut Fields<'_>, report: &mut Report) -> Option<CaptureFile> {
    const HELP: &str = "write `capture: {to: captures.log}`";
    let item = fields.item("capture")?;
    match item.switch() {
        Some(false) => return None,
        Some(true) => {
            item.error(report, "`capture` does not say where requests and answers go", HELP);
            return None;
        }
        None => {}
    }
    let mut fields = item.fields(report);
    let to = fields.item("to");
    let rotate = LogRotate { bytes: defaults::ACCESS_LOG_BYTES, keep: defaults::ACCESS_LOG_KEEP };
    let rotate = match fields.item("rotate") {
        Some(item) => books::rotate(&item, rotate, report),
        None => Some(rotate),
    };
    let sample = fields.item("sample").and_then(|item| books::share(&item, report)).unwrap_or(1.0);
    let bytes = fields.item("bytes").and_then(|item| item.bytes(report, 1 << 10, 1 << 20));
    let redact = fields.item("redact").map(|item| patterns(&item, report)).unwrap_or_default();
    fields.finish(report, &[]);
    let Some(to) = to else {
        item.error(report, "`capture` does not say where requests and answers go", HELP);
        return None;
    };
    let bytes = bytes.unwrap_or(defaults::CAPTURE_BYTES);
    Some(CaptureFile { to: to.word(report)?, rotate, sample, bytes, redact })
}

fn patterns(item: &Item<'_>, report: &mut Report) -> Vec<Box<str>> {
    let mut patterns = Vec::new();
    for word in item.words(report) {
        match Regex::new(&word.text) {
            Ok(_) => patterns.push(word.text.as_str().into()),
            Err(error) => {
                let text = error.to_string();
                let why = text.lines().last().unwrap_or_default().trim();
                let why = why.strip_prefix("error: ").unwrap_or(why).to_owned();
                report.error(word.at, &word.path, format!("`{}` is no pattern: {why}", word.path), "");
            }
        }
    }
    patterns
}

/// With its path; a relative one starts at the config file.
pub(super) fn compile(file: &CaptureFile, directory: Option<&Path>) -> CaptureConfig {
    CaptureConfig {
        to: directory.unwrap_or(Path::new("")).join(&file.to.text),
        rotate: file.rotate,
        sample: file.sample,
        bytes: file.bytes,
        redact: file.redact.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    fn load(text: &str) -> Result<Option<CaptureConfig>, String> {
        let loader = Loader { file: Some("/etc/sluice/t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {text}}}");
        loader.load_text(&text, &|_| None).map(|plan| plan.capture).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_captured_until_it_is_said_where_to() {
        for text in ["", "capture: off"] {
            assert_eq!(load(text).unwrap(), None, "{text}");
        }
        let plain = load("capture: {to: c.log}").unwrap().unwrap();
        assert_eq!(
            (plain.to.to_str(), plain.sample, plain.bytes),
            (Some("/etc/sluice/c.log"), 1.0, 16 << 10)
        );
        assert_eq!((plain.rotate.map(|rotate| rotate.keep), plain.redact.len()), (Some(5), 0));
        let text = r"capture: {to: /c, rotate: off, sample: 0.01, bytes: 1MiB, redact: ['ACME-\d+', 'x']}";
        let all = load(text).unwrap().unwrap();
        assert_eq!((all.rotate, all.sample, all.bytes), (None, 0.01, 1 << 20));
        assert_eq!(*all.redact[0], *r"ACME-\d+");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (text, words) in [
            ("capture: on", "does not say where"),
            ("capture: {sample: 1}", "does not say where"),
            ("capture: {to: c, sample: 2}", "from 0 to 1"),
            ("capture: {to: c, bytes: 2MiB}", "bytes"),
            ("capture: {to: c, redact: ['(']}", "is no pattern: unclosed group"),
            ("capture: {to: c, redacted: []}", "redact"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
