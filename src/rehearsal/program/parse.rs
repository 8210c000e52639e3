//! Reads the fault language.
//!
//! Grammar: `program = track *(";" track)`, `track = step *("then" step)`, `step = name [":" argument *("," argument)]`,
//! `argument = value / key "=" value`. A value may stand in double quotes, where `\r \n \t \0 \\ \" \xHH` are escapes
//! and `;` `,` mean themselves. Times are `15s`, `250ms`, `8m`, `1h`, a bare number is seconds.
//!
//! Invariant: nothing is guessed. An unknown word is an error that names the nearest known one.

use std::fmt;
use std::time::Duration;

use super::faults::{FAULTS, build};
use super::{Filter, Stage, Step};

/// Most tracks of a program, and most steps of a track.
const TRACKS: usize = 32;
const STEPS: usize = 64;

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

    fn near(mut self, text: &str) -> ProgramError {
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

pub(super) fn tracks(text: &str) -> Result<Vec<Vec<Step>>, ProgramError> {
    let mut tracks = Vec::new();
    for track in split(text, ";")? {
        if track.trim().is_empty() {
            continue;
        }
        let mut steps = Vec::new();
        for step in split(track, " then ")? {
            steps.push(read_step(step.trim()).map_err(|error| error.near(step))?);
        }
        if steps.len() > STEPS {
            return Err(ProgramError::new(format!("more than {STEPS} steps in one sequence"), ""));
        }
        let endless = |step: &Step| step.lasts.is_none() && step.times.is_none();
        if steps.iter().rev().skip(1).any(endless) {
            return Err(ProgramError::new(
                "a step before `then` must end: give it `for=` or `times=`",
                "down:for=8m then ok",
            )
            .near(track));
        }
        tracks.push(steps);
    }
    if tracks.len() > TRACKS {
        return Err(ProgramError::new(format!("more than {TRACKS} faults at the same time"), ""));
    }
    Ok(tracks)
}

fn read_step(text: &str) -> Result<Step, ProgramError> {
    let (name, rest) = match text.split_once(':') {
        Some((name, rest)) => (name.trim(), rest),
        None => (text, ""),
    };
    let Some(spec) = FAULTS.iter().find(|spec| spec.name == name || spec.also.contains(&name)) else {
        let names = FAULTS.iter().flat_map(|spec| std::iter::once(&spec.name).chain(spec.also));
        return Err(match nearest(name, names.copied()) {
            Some(known) => {
                let example = FAULTS.iter().find(|s| s.name == known || s.also.contains(&known));
                ProgramError::new(
                    format!("no fault is called `{name}`; the nearest is `{known}`"),
                    example.map_or("", |spec| spec.example),
                )
            }
            None => ProgramError::new(
                format!("no fault is called `{name}` (`sluice mock --list-faults` has them all)"),
                "brownout:rate=0.3,retry-after=60",
            ),
        });
    };
    let mut arguments = Arguments::read(rest, spec.example)?;
    let from = arguments.duration("from")?.unwrap_or_default();
    let lasts = arguments.duration("for")?;
    let times = arguments.number::<u64>("times")?;
    let filter = Filter {
        p: arguments.chance("p")?.unwrap_or(1.0),
        every: arguments.number::<u64>("every")?.unwrap_or(1).max(1),
        key: arguments.text("key"),
        model: arguments.text("model"),
        path: arguments.text("path"),
        stream: arguments.truth("stream")?,
    };
    let mut step = Step { fault: super::Fault::Ok, from, lasts, times, filter };
    step.fault = build(spec.name, name, &mut arguments, &mut step.filter)?;
    check_conditions(name, &step, &arguments)?;
    arguments.finish()?;
    Ok(step)
}

/// A fault that acts early cannot ask for what is known later.
fn check_conditions(name: &str, step: &Step, arguments: &Arguments) -> Result<(), ProgramError> {
    let filter = &step.filter;
    let body = filter.model.is_some() || filter.stream.is_some();
    let head = filter.key.is_some() || filter.path.is_some();
    let counted = step.times.is_some() || filter.p < 1.0 || filter.every > 1;
    let takes = match step.fault.stage() {
        Stage::Port if body || head || counted => "from= and for=",
        Stage::Connection if body || head => "from=, for=, times=, every= and p=",
        Stage::Head if body => "every condition but model= and stream=",
        _ => return Ok(()),
    };
    Err(arguments.error(format!("`{name}` acts before that is known; it takes {takes}")))
}

impl Arguments {
    fn read(text: &str, example: &'static str) -> Result<Arguments, ProgramError> {
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

    fn truth(&mut self, name: &'static str) -> Result<Option<bool>, ProgramError> {
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

    fn finish(self) -> Result<(), ProgramError> {
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
pub(super) fn duration(text: &str) -> Option<Duration> {
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
fn split<'t>(text: &'t str, separator: &str) -> Result<Vec<&'t str>, ProgramError> {
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
fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    known
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::super::{After, ErrorKind, Fault, How, Program};
    use super::*;

    fn fault(text: &str) -> Fault {
        tracks(text).expect(text)[0][0].fault.clone()
    }

    fn complaint(text: &str) -> String {
        Program::parse(text).expect_err(text).to_string()
    }

    #[test]
    fn every_example_of_the_table_is_a_program() {
        for spec in FAULTS {
            Program::parse(spec.example).unwrap_or_else(|error| panic!("{}: {error}", spec.example));
        }
    }

    #[test]
    fn faults_read_as_they_are_written() {
        assert_eq!(fault("slow:+15s"), Fault::Slow(Duration::from_secs(15)));
        assert_eq!(fault("slow:x10"), Fault::Stretch(10.0));
        assert_eq!(fault("reset:after=5"), Fault::Break(How::Reset, After::Events(5)));
        assert_eq!(fault("cut"), Fault::Break(How::Cut, After::Nothing));
        assert_eq!(fault("hang:bytes=100"), Fault::Break(How::Hang, After::Bytes(100)));
        assert_eq!(fault("trickle:1Bps"), Fault::Trickle(1.0));
        assert_eq!(
            fault(r#"raw:"HTTP/1.1 200 OK\r\n\x00;,""#),
            Fault::Raw(b"HTTP/1.1 200 OK\r\n\0;,".to_vec())
        );
        let Fault::Error(error) = fault("brownout:rate=30%,retry-after=60") else {
            panic!("an error answer")
        };
        assert_eq!(error.kind, ErrorKind::RateLimit);
        assert_eq!(error.retry_after, Some(Duration::from_secs(60)));
    }

    #[test]
    fn an_unknown_fault_gets_the_nearest_name_and_an_example() {
        let text = complaint("brwnout:rate=0.3");
        assert!(text.contains("`brownout`") && text.contains("for example"), "{text}");
        let text = complaint("brownout:rat=0.3");
        assert!(text.contains("`rate=`"), "{text}");
        assert!(complaint("slow:fast").contains("15s"));
        assert!(complaint("brownout:rate=3").contains("between 0 and 1"));
        assert!(complaint("down then ok").contains("for="));
        assert!(complaint("raw:\"abc").contains("quote"));
        assert!(complaint("status:99999").contains("status"));
        assert!(complaint("qqqq").contains("--list-faults"));
        assert!(complaint("refuse:p=0.5").contains("from= and for="));
        assert!(complaint("early-response:413,stream=true").contains("but model="));
    }

    #[test]
    fn a_list_in_a_file_is_a_set_of_tracks() {
        let one: Program = serde_json::from_str(r#""down:for=1m; slow:1s""#).expect("a string");
        let two: Program = serde_json::from_str(r#"["down:for=1m", "slow:1s"]"#).expect("a list");
        assert_eq!(one.tracks, two.tracks);
        assert_eq!(Program::parse("").expect("empty").tracks.len(), 0);
    }

    #[test]
    fn a_scaled_program_runs_on_a_faster_clock() {
        let program =
            Program::parse("brownout:rate=0.3,retry-after=60,for=8m").expect("a program").scaled(0.1);
        let step = &program.tracks[0][0];
        assert_eq!(step.lasts, Some(Duration::from_secs(48)));
        let Fault::Error(error) = &step.fault else { panic!("an error answer") };
        assert_eq!(error.retry_after, Some(Duration::from_secs(6)));
    }

    #[test]
    fn limits_hold_at_the_limit_and_one_past_it() {
        let many = |n: usize, separator: &str| vec!["hang:times=1"; n].join(separator);
        assert!(Program::parse(&many(TRACKS, ";")).is_ok());
        assert!(Program::parse(&many(TRACKS + 1, ";")).is_err());
        assert!(Program::parse(&many(STEPS, " then ")).is_ok());
        assert!(Program::parse(&many(STEPS + 1, " then ")).is_err());
        assert!(Program::parse("interim-flood:100000").is_ok());
        assert!(complaint("interim-flood:100001").contains("more than"));
        assert!(Program::parse("slow:x10000").is_ok());
        assert!(complaint("slow:x10001").contains("factor"));
        assert!(Program::parse("slow:8784h").is_ok());
        assert!(complaint("slow:8785h").contains("not a time"));
    }
}
