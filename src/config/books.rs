//! What is written down of exchanges: the ledger of what was spent, and the access log.

use std::path::{Path, PathBuf};

use super::defaults;
use super::diagnostics::Report;
use super::reader::{Fields, Item, Word};
use super::tree::Value;

/// `ledger`: what was spent, kept in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerConfig {
    /// Whether there is one; `None`: where the gateway serves real providers.
    pub on: Option<bool>,
    /// The file; `None`: in the state directory of whoever runs the gateway.
    pub path: Option<PathBuf>,
    /// Days that are kept.
    pub keep_days: u32,
}

impl Default for LedgerConfig {
    fn default() -> Self {
        LedgerConfig { on: None, path: None, keep_days: defaults::LEDGER_KEEP_DAYS }
    }
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTo {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file.
    File(PathBuf),
}

/// When the file of the access log is put aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRotate {
    /// Bytes that it may have.
    pub bytes: u64,
    /// Files that are kept beside the current one.
    pub keep: u32,
}

/// `access_log`: a line for each exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct AccessLogConfig {
    /// Where it goes.
    pub to: LogTo,
    /// When a file is put aside; `None`: by someone else.
    pub rotate: Option<LogRotate>,
    /// Share of the exchanges that went well at the first attempt, 0 to 1; others are always logged.
    pub sample: f64,
}

/// `ledger` as written.
#[derive(Default)]
pub(super) struct LedgerFile {
    on: Option<bool>,
    path: Option<Word>,
    keep_days: Option<u32>,
}

/// `access_log` as written, where it is on.
pub(super) struct AccessLogFile {
    to: Word,
    rotate: Option<LogRotate>,
    sample: f64,
}

/// Reads `ledger`.
pub(super) fn ledger(fields: &mut Fields<'_>, report: &mut Report) -> LedgerFile {
    let Some(item) = fields.item("ledger") else { return LedgerFile::default() };
    if let Some(on) = item.switch() {
        return LedgerFile { on: Some(on), ..LedgerFile::default() };
    }
    let mut fields = item.fields(report);
    let path = fields.item("path").and_then(|item| item.word(report));
    let keep_days = fields.item("keep").and_then(|item| days(&item, report));
    fields.finish(report, &[]);
    // Who names a file wants one.
    LedgerFile { on: path.is_some().then_some(true), path, keep_days }
}

fn days(item: &Item<'_>, report: &mut Report) -> Option<u32> {
    let word = item.word(report)?;
    let days = word.text.strip_suffix('d').and_then(|days| days.parse().ok());
    let fine = days.filter(|days| (1..=defaults::LEDGER_KEEP_DAYS_MOST).contains(days));
    if fine.is_none() {
        let help = format!("write days, 1d to {}d", defaults::LEDGER_KEEP_DAYS_MOST);
        report.error(word.at, &word.path, format!("{} is no time to keep a ledger", word.shown()), help);
    }
    fine
}

/// Reads `access_log`; `None` is off.
pub(super) fn access_log(fields: &mut Fields<'_>, report: &mut Report) -> Option<AccessLogFile> {
    const HELP: &str = "write `access_log: stdout`, `stderr`, a path, or {to: access.log, sample: 0.1}";
    let item = fields.item("access_log")?;
    let rotate = LogRotate { bytes: defaults::ACCESS_LOG_BYTES, keep: defaults::ACCESS_LOG_KEEP };
    match item.switch() {
        Some(false) => return None,
        Some(true) => {
            item.error(report, "`access_log` does not say where the log goes", HELP);
            return None;
        }
        None => {}
    }
    if let Value::Text(_) = item.node.value {
        return Some(AccessLogFile { to: item.word(report)?, rotate: Some(rotate), sample: 1.0 });
    }
    let mut fields = item.fields(report);
    let to = fields.item("to");
    let rotate = match fields.item("rotate") {
        Some(item) => self::rotate(&item, rotate, report),
        None => Some(rotate),
    };
    let sample = fields.item("sample").and_then(|item| share(&item, report));
    fields.finish(report, &[]);
    let Some(to) = to else {
        // What is no mapping was reported already.
        if let Value::Map(_) = item.node.value {
            item.error(report, "`access_log` does not say where the log goes", HELP);
        }
        return None;
    };
    if to.switch() == Some(false) {
        return None;
    }
    Some(AccessLogFile { to: to.word(report)?, rotate, sample: sample.unwrap_or(1.0) })
}

pub(super) fn rotate(item: &Item<'_>, base: LogRotate, report: &mut Report) -> Option<LogRotate> {
    if item.switch() == Some(false) {
        return None;
    }
    let mut fields = item.fields(report);
    let bytes = fields.item("bytes").and_then(|item| item.bytes(report, 64 << 10, 1 << 40));
    let keep = fields.count("keep", 0..=1_000, base.keep, report);
    fields.finish(report, &[]);
    Some(LogRotate { bytes: bytes.unwrap_or(base.bytes), keep })
}

pub(super) fn share(item: &Item<'_>, report: &mut Report) -> Option<f64> {
    let share = item.number(report)?;
    if !(0.0..=1.0).contains(&share) {
        item.error(report, format!("`{}` must be from 0 to 1", item.path), "1 logs everything, 0.1 a tenth");
        return None;
    }
    Some(share)
}

/// The ledger with its path; a relative one starts at the config file.
pub(super) fn compile_ledger(file: &LedgerFile, directory: Option<&Path>) -> LedgerConfig {
    LedgerConfig {
        on: file.on,
        path: file.path.as_ref().map(|word| directory.unwrap_or(Path::new("")).join(&word.text)),
        keep_days: file.keep_days.unwrap_or(defaults::LEDGER_KEEP_DAYS),
    }
}

/// The access log with its path; a relative one starts at the config file.
pub(super) fn compile_access_log(file: &AccessLogFile, directory: Option<&Path>) -> AccessLogConfig {
    let to = match file.to.text.as_str() {
        "stdout" => LogTo::Stdout,
        "stderr" => LogTo::Stderr,
        path => LogTo::File(directory.unwrap_or(Path::new("")).join(path)),
    };
    AccessLogConfig { to, rotate: file.rotate, sample: file.sample }
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::super::plan::Plan;
    use super::*;

    fn load(text: &str) -> Result<Plan, String> {
        let loader = Loader { file: Some("/etc/sluice/t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {text}}}");
        loader.load_text(&text, &|_| None).map_err(|e| e.to_string())
    }

    #[test]
    fn a_ledger_is_where_it_is_wanted_and_paths_start_at_the_file() {
        assert_eq!(load("").unwrap().ledger, LedgerConfig::default());
        for (text, on, path, keep_days) in [
            ("ledger: off", Some(false), None, 400),
            ("ledger: on", Some(true), None, 400),
            ("ledger: {keep: 30d}", None, None, 30),
            ("ledger: {path: l.db}", Some(true), Some("/etc/sluice/l.db"), 400),
            ("ledger: {path: /var/l.db, keep: 1d}", Some(true), Some("/var/l.db"), 1),
        ] {
            let expected = LedgerConfig { on, path: path.map(PathBuf::from), keep_days };
            assert_eq!(load(text).unwrap().ledger, expected, "{text}");
        }
    }

    #[test]
    fn an_access_log_is_off_until_it_is_said_where_it_goes() {
        let rotate = Some(LogRotate { bytes: 64 << 20, keep: 5 });
        for text in ["", "access_log: off", "access_log: {to: off}"] {
            assert_eq!(load(text).unwrap().access_log, None, "{text}");
        }
        for (text, to, rotate, sample) in [
            ("access_log: stdout", LogTo::Stdout, rotate, 1.0),
            ("access_log: a.log", LogTo::File("/etc/sluice/a.log".into()), rotate, 1.0),
            ("access_log: {to: stderr, sample: 0.1}", LogTo::Stderr, rotate, 0.1),
            (
                "access_log: {to: /a, rotate: {bytes: 1MiB}}",
                LogTo::File("/a".into()),
                Some(LogRotate { bytes: 1 << 20, keep: 5 }),
                1.0,
            ),
            ("access_log: {to: /a, rotate: off}", LogTo::File("/a".into()), None, 1.0),
        ] {
            assert_eq!(
                load(text).unwrap().access_log,
                Some(AccessLogConfig { to, rotate, sample }),
                "{text}"
            );
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (text, words) in [
            ("access_log: on", "does not say where"),
            ("access_log: {sample: 1}", "does not say where"),
            ("access_log: {to: stdout, sample: 2}", "from 0 to 1"),
            ("access_log: {to: stdout, format: json}", "format"),
            ("access_log: {to: a, rotate: {bytes: 1}}", "bytes"),
            ("ledger: {keep: 400}", "string"),
            ("ledger: {keep: 0d}", "1d to 3650d"),
            ("ledger: {keep: 2w}", "1d to 3650d"),
            ("ledger: {file: x}", "file"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
    }
}
