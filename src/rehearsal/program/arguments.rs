//! The arguments of a step: what was written, taken out by name, and what is wrong with it in words.
//!
//! What a fault takes is gone, and what is left at the end was not understood: so an argument that means nothing is an error
//! that names the nearest one that would have meant something.

use std::fmt;
use std::time::Duration;

/// Why a fault program could not be read, and what would have been right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramError {
    message: String,
    /// The step that was being read.
    near: String,
    example: String,
}

impl ProgramError {
    pub(super) fn new(message: impl Into<String>, example: &str) -> ProgramError {
        ProgramError { message: message.into(), near: String::new(), example: example.to_owned() }
    }

    pub(super) fn near(mut self, text: &str) -> ProgramError {
        if self.near.is_empty() {
            self.near = text.trim().to_owned();
        }
        self
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if !self.near.is_empty() && !self.message.contains(&format!("`{}`", self.near)) {
            write!(f, " in `{}`", self.near)?;
        }
        if !self.example.is_empty() {
            write!(f, "; for example: {}", self.example)?;
        }
        Ok(())
    }
}

impl std::error::Error for ProgramError {}

/// The arguments of one step; what is taken is gone, what is left at the end was not understood.
pub(super) struct Arguments {
    bare: Vec<String>,
    named: Vec<(String, String)>,
    known: Vec<&'static str>,
    example: &'static str,
}

impl Arguments {
    pub(super) fn read(text: &str, example: &'static str) -> Result<Arguments, ProgramError> {
        let mut arguments = Arguments { bare: Vec::new(), named: Vec::new(), known: Vec::new(), example };
        for argument in split(text, ",")? {
            let argument = argument.trim();
            if argument.is_empty() {
                continue;
            }
            match argument.split_once('=') {
                Some((name, value)) if !argument.starts_with('"') && is_word(name.trim()) => {
                    arguments.named.push((name.trim().to_owned(), value.trim().to_owned()));
                }
                _ => arguments.bare.push(argument.to_owned()),
            }
        }
        Ok(arguments)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> ProgramError {
        ProgramError::new(message, self.example)
    }

    fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.named.iter().position(|(named, _)| named == name)?;
        Some(self.named.remove(at).1)
    }

    /// The first value without a name.
    pub(super) fn bare(&mut self) -> Option<String> {
        if self.bare.is_empty() { None } else { Some(unquote(&self.bare.remove(0))) }
    }

    pub(super) fn bare_bytes(&mut self) -> Result<Vec<u8>, ProgramError> {
        if self.bare.is_empty() {
            return Err(self.error("the bytes to send are missing"));
        }
        Ok(unescape(&self.bare.remove(0)))
    }

    pub(super) fn bare_duration(&mut self) -> Result<Option<Duration>, ProgramError> {
        let value = self.bare();
        value.map(|value| self.read_duration(&value)).transpose()
    }

    pub(super) fn bare_number<T: std::str::FromStr>(&mut self) -> Result<Option<T>, ProgramError> {
        let value = self.bare();
        value.map(|value| self.read_number(&value)).transpose()
    }

    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.take(name).map(|value| unquote(&value))
    }

    pub(super) fn duration(&mut self, name: &'static str) -> Result<Option<Duration>, ProgramError> {
        let value = self.take(name);
        value.map(|value| self.read_duration(&value)).transpose()
    }

    pub(super) fn number<T: std::str::FromStr>(
        &mut self,
        name: &'static str,
    ) -> Result<Option<T>, ProgramError> {
        let value = self.take(name);
        value.map(|value| self.read_number(&value)).transpose()
    }

    pub(super) fn chance(&mut self, name: &'static str) -> Result<Option<f64>, ProgramError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let share = match value.strip_suffix('%') {
            Some(percent) => self.read_number::<f64>(percent)? / 100.0,
            None => self.read_number::<f64>(&value)?,
        };
        if (0.0..=1.0).contains(&share) {
            Ok(Some(share))
        } else {
            Err(self.error(format!("`{name}={value}` is not between 0 and 1")))
        }
    }

    pub(super) fn truth(&mut self, name: &'static str) -> Result<Option<bool>, ProgramError> {
        match self.take(name).as_deref() {
            None => Ok(None),
            Some("true" | "yes") => Ok(Some(true)),
            Some("false" | "no") => Ok(Some(false)),
            Some(other) => Err(self.error(format!("`{name}={other}` is neither true nor false"))),
        }
    }

    fn read_number<T: std::str::FromStr>(&self, value: &str) -> Result<T, ProgramError> {
        value.parse().map_err(|_| self.error(format!("`{value}` is not a number that fits here")))
    }

    pub(super) fn read_duration(&self, value: &str) -> Result<Duration, ProgramError> {
        duration(value)
            .ok_or_else(|| self.error(format!("`{value}` is not a time; write it like 15s, 250ms, 8m or 1h")))
    }

    pub(super) fn finish(self) -> Result<(), ProgramError> {
        if let Some(value) = self.bare.first() {
            return Err(self.error(format!("`{value}` means nothing here")));
        }
        let Some((name, _)) = self.named.first() else { return Ok(()) };
        Err(self.error(match nearest(name, self.known.iter().copied()) {
            Some(known) => format!("`{name}=` means nothing here; the nearest is `{known}=`"),
            None => format!("`{name}=` means nothing here"),
        }))
    }
}

/// `15s`, `+15s`, `250ms`, `8m`, `1h`, `1.5` (seconds).
fn duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.trim().parse().ok()?;
    let unit = match &text[digits.len()..] {
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * unit).ok().filter(|d| d.as_secs() <= 366 * 86_400)
}

/// Splits at a separator that is not inside double quotes.
pub(super) fn split<'t>(text: &'t str, separator: &str) -> Result<Vec<&'t str>, ProgramError> {
    let mut parts = Vec::new();
    let (mut start, mut at, mut quoted) = (0, 0, false);
    let bytes = text.as_bytes();
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quoted => at += 1,
            b'"' => quoted = !quoted,
            _ if !quoted && bytes[at..].starts_with(separator.as_bytes()) => {
                parts.push(&text[start..at]);
                at += separator.len();
                start = at;
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    if quoted {
        return Err(ProgramError::new("a double quote is not closed", "").near(text));
    }
    parts.push(&text[start..]);
    Ok(parts)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
}

fn unquote(value: &str) -> String {
    String::from_utf8_lossy(&unescape(value)).into_owned()
}

/// The bytes of a quoted value, or the value as it stands.
fn unescape(value: &str) -> Vec<u8> {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return value.as_bytes().to_vec();
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b't') => out.push(b'\t'),
            Some(b'0') => out.push(0),
            Some(b'x') => {
                let digits = [bytes.next().unwrap_or(b'0'), bytes.next().unwrap_or(b'0')];
                let text = std::str::from_utf8(&digits).unwrap_or("00");
                out.push(u8::from_str_radix(text, 16).unwrap_or(b'?'));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

/// The known word that is most like this one, if any is like it at all.
pub(super) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
