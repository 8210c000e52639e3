//! What is wrong with a configuration, where, and what to do about it.
//!
//! A [`Diagnostic`] names the file, line and column (or the command-line flag) it is about, says what is
//! wrong in one sentence and what to do in another. All problems of a file are reported together, because a
//! user who fixes one per run gives up after three.
//!
//! Invariant: a message never contains the value of a key, of a header or of the variable a setting in
//! question came from. Text that stood in the file is quoted only through [`quoted`], which cuts it short and hides what
//! looks like a credential.
//!
//! Left out: source snippets. `file:line:column` is what editors and CI annotate, and a snippet would print
//! the line a literal key stands on.

use std::fmt;

use super::defaults;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used, but probably not as meant.
    Warning,
    /// The configuration is used, and has a consequence that is easily overlooked.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// One finding. Displays as `file:line:column: error: message`, then a `help:` line when there is advice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether the configuration is refused because of it.
    pub severity: Severity,
    /// The file, or the flag as typed up to its `=`, or `(environment)` for an inferred configuration.
    pub source: String,
    /// Line in the file from 1; 0 when the source has no lines.
    pub line: u32,
    /// Column in characters from 1; 0 when the source has no lines.
    pub column: u32,
    /// Dotted path of the setting, as `--set` would take it; empty for the whole file.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}: {}", self.severity, self.message)?;
        if let Some(help) = &self.help {
            write!(f, "\n  help: {help}")?;
        }
        Ok(())
    }
}

/// A configuration that cannot be used, with everything found in it.
///
/// Holds at least one finding of [`Severity::Error`]. The fault is the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Errors and warnings in the order of the file.
    pub diagnostics: Vec<Diagnostic>,
}

impl ConfigError {
    /// Number of findings that are errors.
    pub fn errors(&self) -> usize {
        self.diagnostics.iter().filter(|found| found.severity == Severity::Error).count()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, found) in self.diagnostics.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{found}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Where a value was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// In the file, both counted from 1.
    File { line: u32, column: u32 },
    /// By the flag with this index.
    Flag(u16),
    /// Nowhere: inferred from the environment.
    Nowhere,
}

/// Collects findings while a configuration is read.
pub(super) struct Report {
    file: String,
    flags: Vec<String>,
    found: Vec<Diagnostic>,
    dropped: usize,
}

impl Report {
    pub(super) fn new(file: &str) -> Self {
        Report { file: file.to_owned(), flags: Vec::new(), found: Vec::new(), dropped: 0 }
    }

    /// The file's name and those of the flags, for [`Places`](super::Places).
    pub(super) fn sources(&self) -> (&str, Vec<Box<str>>) {
        (&self.file, self.flags.iter().map(|flag| flag.as_str().into()).collect())
    }

    /// Takes over a finding that was made elsewhere.
    pub(super) fn add(&mut self, found: Diagnostic) {
        if self.found.len() < defaults::DIAGNOSTICS_MAX {
            self.found.push(found);
        }
    }

    /// Names the flags that [`At::Flag`] points to, without their values: one may be a key.
    pub(super) fn name_flags(&mut self, flags: Vec<String>) {
        self.flags = flags;
    }

    pub(super) fn error(&mut self, at: At, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Error, at, path, message.into(), help.into());
    }

    pub(super) fn warn(&mut self, at: At, path: &str, message: impl Into<String>, help: impl Into<String>) {
        self.push(Severity::Warning, at, path, message.into(), help.into());
    }

    fn push(&mut self, severity: Severity, at: At, path: &str, message: String, help: String) {
        if self.found.len() >= defaults::DIAGNOSTICS_MAX {
            self.dropped += usize::from(severity == Severity::Error);
            return;
        }
        let (source, line, column) = match at {
            At::File { line, column } => (self.file.clone(), line, column),
            At::Flag(index) => {
                let flag = self.flags.get(usize::from(index)).map_or("", String::as_str);
                (flag.to_owned(), 0, 0)
            }
            At::Nowhere => (self.file.clone(), 0, 0),
        };
        let help = (!help.is_empty()).then_some(help);
        let path = path.to_owned();
        self.found.push(Diagnostic { severity, source, line, column, path, message, help });
    }

    /// The place of `at` in words, for a second place in one message.
    pub(super) fn place(&self, at: At) -> String {
        match at {
            At::File { line, column } => format!("line {line}, column {column}"),
            At::Flag(index) => {
                format!("`{}`", self.flags.get(usize::from(index)).map_or("", String::as_str))
            }
            At::Nowhere => "the environment".to_owned(),
        }
    }

    pub(super) fn failed(&self) -> bool {
        self.dropped > 0 || self.found.iter().any(|found| found.severity == Severity::Error)
    }

    /// The warnings when nothing failed, else the error with all findings, in the order of the file.
    pub(super) fn close(mut self) -> Result<Vec<Diagnostic>, ConfigError> {
        let failed = self.failed();
        self.found.sort_by_key(|found| (found.line, found.column));
        if self.dropped > 0 {
            self.found.push(Diagnostic {
                severity: Severity::Error,
                source: self.file,
                line: 0,
                column: 0,
                path: String::new(),
                message: format!("{} more errors are not shown", self.dropped),
                help: Some("fix the first ones; the rest often follow from them".to_owned()),
            });
        }
        if failed { Err(ConfigError { diagnostics: self.found }) } else { Ok(self.found) }
    }
}

/// `text` in backquotes, cut to 60 characters, without control characters, hidden when it looks like a key.
pub(super) fn quoted(text: &str) -> String {
    if looks_secret(text) {
        return "`***`".to_owned();
    }
    let mut out = String::from("`");
    for (index, character) in text.chars().enumerate() {
        if index == 60 {
            out.push('…');
            break;
        }
        out.push(if character.is_control() { '\u{fffd}' } else { character });
    }
    out.push('`');
    out
}

/// Whether `text` has the shape of a provider's key: one of their prefixes, or a long run without the
/// punctuation that paths, model names and addresses have.
pub(super) fn looks_secret(text: &str) -> bool {
    const PREFIXES: [&str; 9] = ["sk-", "sk_", "gsk_", "xai-", "AIza", "hf_", "Bearer ", "pplx-", "nvapi-"];
    PREFIXES.iter().any(|prefix| text.contains(prefix))
        || (text.len() >= 32
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && text.bytes().any(|byte| byte.is_ascii_digit()))
}

/// The name in `known` that `name` most likely meant, if any is close.
pub(super) fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // 0.8 takes one slip in a five-letter word and two in a long one, and refuses unrelated words.
    const CLOSE: f64 = 0.8;
    let name: String = name.chars().take(64).flat_map(char::to_lowercase).collect();
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let score = strsim::jaro_winkler(&name, candidate);
        if score >= CLOSE && best.is_none_or(|(top, _)| score > top) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let mut report = Report::new("sluice.yaml");
        report.error(At::File { line: 3, column: 5 }, "providers", "what", "do this");
        let error = report.close().unwrap_err();
        assert_eq!(error.to_string(), "sluice.yaml:3:5: error: what\n  help: do this");
    }

    #[test]
    fn warnings_alone_do_not_refuse_the_file() {
        let mut report = Report::new("f");
        report.warn(At::Nowhere, "", "careful", "");
        assert_eq!(report.close().unwrap()[0].to_string(), "f: warning: careful");
    }

    #[test]
    fn findings_come_in_the_order_of_the_file_and_are_bounded() {
        let mut report = Report::new("f");
        for line in (1..=defaults::DIAGNOSTICS_MAX as u32 + 2).rev() {
            report.error(At::File { line, column: 1 }, "", "x", "");
        }
        let error = report.close().unwrap_err();
        assert_eq!(error.diagnostics.len(), defaults::DIAGNOSTICS_MAX + 1);
        assert!(error.diagnostics[0].line < error.diagnostics[1].line);
        assert!(error.diagnostics.last().unwrap().message.starts_with("2 more errors"));
    }

    #[test]
    fn what_looks_like_a_key_is_hidden() {
        assert_eq!(quoted("sk-proj-abc"), "`***`");
        assert_eq!(quoted("0123456789abcdef0123456789abcdef"), "`***`");
        assert_eq!(quoted("anthropic/claude-haiku-4-5"), "`anthropic/claude-haiku-4-5`");
        assert_eq!(quoted("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quoted(&"é ".repeat(100)).chars().count(), 63);
    }

    #[test]
    fn a_slip_finds_the_name_and_an_unrelated_word_does_not() {
        assert_eq!(nearest("fallback", ["providers", "fallbacks"]), Some("fallbacks"));
        assert_eq!(nearest("wieght", ["value", "weight", "name"]), Some("weight"));
        assert_eq!(nearest("zzz", ["value", "weight", "name"]), None);
    }
}
