//! The one table of faults: names, arguments, words for `--list-faults`, and how each is built.
//!
//! Invariant: every row of the table has an arm in [`build`], and its example is a valid program (a test holds it).

use std::fmt::Write;
use std::time::Duration;

use super::arguments::{Arguments, ProgramError};
use super::{After, BadHead, ErrorAnswer, ErrorKind, Fault, Filter, How, RetryForm};

pub(super) struct Spec {
    pub(super) name: &'static str,
    /// Other names for the same.
    pub(super) also: &'static [&'static str],
    pub(super) does: &'static str,
    pub(super) example: &'static str,
}

const fn spec(
    name: &'static str,
    also: &'static [&'static str],
    does: &'static str,
    example: &'static str,
) -> Spec {
    Spec { name, also, does, example }
}

pub(super) const FAULTS: &[Spec] = &[
    spec("ok", &[], "answers well", "down:for=8m then ok"),
    // The port and the connection.
    spec("refuse", &[], "connection refused, open connections reset", "refuse:for=30s then ok"),
    spec("blackhole", &[], "connections never complete", "blackhole:for=30s"),
    spec("accept-reset", &[], "RST right after a connection was accepted", "accept-reset:for=10s"),
    spec("banner", &[], "bytes before any request", r#"banner:"HTTP/1.1 200 OK\r\n\r\n""#),
    spec("close-idle", &[], "closes a kept-alive connection that is idle this long", "close-idle:1s"),
    spec("idle-408", &[], "a 408 and FIN on a kept-alive connection idle this long", "idle-408:1s"),
    // Error answers.
    spec("status", &[], "an error answer with this status", "status:500,p=0.1"),
    spec("down", &[], "503, or the given status", "down:503,for=8m then ok"),
    spec("brownout", &[], "429 for a share of requests", "brownout:rate=0.3,retry-after=60"),
    spec("overloaded", &[], "503, and 529 in the Anthropic dialect", "overloaded:rate=0.5"),
    spec("key-revoked", &[], "401 invalid key", "key-revoked:key=1234"),
    spec("out-of-credit", &[], "429 insufficient_quota, Anthropic 402", "out-of-credit:key=1234"),
    spec("context-length", &[], "400 context_length_exceeded", "context-length:model=mini"),
    spec("model-not-found", &[], "404 model_not_found", "model-not-found:model=gpt-9"),
    spec("content-filter", &[], "400 content_filter", "content-filter:p=0.1"),
    spec("redirect", &[], "302 to this place", "redirect:http://127.0.0.1:1/"),
    // Answers that look well and are not.
    spec("error-in-200", &[], "200 and an error object", "error-in-200:p=0.2"),
    spec("error-first-event", &[], "200, a stream, and the first event is an error", "error-first-event"),
    spec("error-late-event", &[], "an error event after so many content events", "error-late-event:after=5"),
    spec("html-200", &[], "200 and a page of HTML", "html-200"),
    spec("empty-200", &[], "200 and no body", "empty-200"),
    spec("cut-json", &[], "right Content-Length, half of the JSON", "cut-json"),
    spec("truncate", &[], "the last so many bytes (half) of the body never come, then FIN", "truncate:100"),
    spec("no-done", &[], "a stream without its terminal event, well framed", "no-done"),
    spec("after-done", &[], "events after the terminal one", "after-done"),
    spec("no-usage", &[], "usage is never reported", "no-usage"),
    spec("gzip", &[], "a gzip body nobody asked for", "gzip"),
    // Time.
    spec("slow", &[], "the first byte this much later, or every pause so many times longer", "slow:+15s"),
    spec("first-event-late", &[], "head at once, first event this much later", "first-event-late:5s"),
    spec("stall", &[], "a pause in the middle of a stream", "stall:30s,after=3"),
    spec("trickle", &[], "bytes leave at this rate", "trickle:1Bps"),
    spec("hang", &[], "silence: at once, or after events or bytes", "hang:after=5"),
    // Breaks.
    spec("reset", &[], "RST: at once, or after events or bytes", "reset:after=5,p=0.5"),
    spec("cut", &[], "FIN: at once, or after events or bytes", "cut:after=5"),
    spec(
        "early-response",
        &[],
        "this status before the request body is read, then FIN",
        "early-response:413",
    ),
    // Bytes.
    spec("bad-head", &[], "a head that breaks RFC 9112 in the named way", "bad-head:length-and-chunked"),
    spec("huge-head", &[], "a header field of so many bytes", "huge-head:600000"),
    spec("many-fields", &[], "so many header fields", "many-fields:5000"),
    spec("interim-flood", &[], "so many 103 responses first", "interim-flood:30"),
    spec("header", &[], "adds a header field", r#"header:"Set-Cookie: a=b""#),
    spec("excess", &["unsolicited"], "a second answer that nobody asked for", "excess"),
    spec("close", &[], "Connection: close, then FIN", "close:p=0.1"),
    spec("no-length", &[], "neither length nor chunks, FIN ends the body", "no-length"),
    spec("with-length", &[], "a stream with a Content-Length", "with-length"),
    spec("fragment", &[], "so many bytes a write, 1 ms apart", "fragment:7"),
    spec("line-ends", &[], "event lines end with crlf or cr", "line-ends:crlf"),
    spec("comments", &[], "a comment line before each event", "comments"),
    spec("big-event", &[], "one content event of so many bytes", "big-event:100000"),
    spec("raw", &[], "these bytes instead of an answer, then FIN", r#"raw:"HTTP/1.1 999 X\r\n\r\n""#),
];

const BAD_HEADS: &[(&str, BadHead)] = &[
    ("length-and-chunked", BadHead::LengthAndChunked),
    ("two-lengths", BadHead::TwoLengths),
    ("length-not-a-number", BadHead::LengthNotANumber),
    ("length-list", BadHead::LengthList),
    ("unknown-coding", BadHead::UnknownCoding),
    ("chunked-twice", BadHead::ChunkedTwice),
    ("chunked-in-http10", BadHead::ChunkedInHttp10),
    ("switching-protocols", BadHead::SwitchingProtocols),
    ("status-999", BadHead::Status999),
    ("two-digit-status", BadHead::TwoDigitStatus),
    ("http2-line", BadHead::Http2Line),
    ("lf-only", BadHead::LineFeedOnly),
    ("cr-in-value", BadHead::CarriageReturnInValue),
    ("nul-in-value", BadHead::NulInValue),
    ("folded-line", BadHead::FoldedLine),
    ("body-on-204", BadHead::BodyOn204),
    ("bad-chunk-size", BadHead::BadChunkSize),
    ("lf-in-chunk", BadHead::LineFeedInChunk),
    ("garbage", BadHead::Garbage),
];

/// The text of `sluice mock --list-faults`.
pub fn list_faults() -> String {
    let mut out = String::from("Faults (name, what it does, an example):\n");
    for spec in FAULTS {
        let _ = writeln!(out, "  {:<18} {:<62} {}", spec.name, spec.does, spec.example);
    }
    let heads: Vec<&str> = BAD_HEADS.iter().map(|(name, _)| *name).collect();
    let _ = write!(
        out,
        "\nbad-head takes one of: {}\n\
         \nConditions, for every fault:\n\
         \x20 p=0.1          for this share of requests (brownout and overloaded also say rate=)\n\
         \x20 every=3        for every third request\n\
         \x20 key=1234       when the API key ends with this\n\
         \x20 model=mini     when the model name contains this\n\
         \x20 path=/messages when the path contains this\n\
         \x20 stream=true    when the client asked for a stream (or did not: false)\n\
         \x20 from=30s       begins this long after the start, or after the step before\n\
         \x20 for=8m         ends after this time\n\
         \x20 times=2        ends after it met so many requests\n\
         Several faults at the same time: a; b.  One after the other: a:for=8m then b.\n\
         Error answers also take retry-after=60 and form=seconds, ms or date.\n",
        heads.join(", ")
    );
    out
}

/// Builds the fault of a table row from its arguments.
pub(super) fn build(
    name: &str,
    written: &str,
    arguments: &mut Arguments,
    filter: &mut Filter,
) -> Result<Fault, ProgramError> {
    Ok(match name {
        "ok" => Fault::Ok,
        "refuse" => Fault::Refuse,
        "blackhole" => Fault::Blackhole,
        "accept-reset" => Fault::AcceptReset,
        "banner" => Fault::Banner(arguments.bare_bytes()?),
        "close-idle" => Fault::CloseIdle(arguments.bare_duration()?.unwrap_or(Duration::from_secs(1))),
        "idle-408" => Fault::Idle408(arguments.bare_duration()?.unwrap_or(Duration::from_secs(1))),
        "status" => {
            let status = status(arguments)?.ok_or_else(|| arguments.error("the status is missing"))?;
            error(arguments, filter, ErrorKind::Status, Some(status))?
        }
        "down" => {
            let status = status(arguments)?.unwrap_or(503);
            error(arguments, filter, ErrorKind::Status, Some(status))?
        }
        "brownout" => error(arguments, filter, ErrorKind::RateLimit, None)?,
        "overloaded" => error(arguments, filter, ErrorKind::Overloaded, None)?,
        "key-revoked" => error(arguments, filter, ErrorKind::KeyRevoked, None)?,
        "out-of-credit" => error(arguments, filter, ErrorKind::OutOfCredit, None)?,
        "context-length" => error(arguments, filter, ErrorKind::ContextLength, None)?,
        "model-not-found" => error(arguments, filter, ErrorKind::ModelNotFound, None)?,
        "content-filter" => error(arguments, filter, ErrorKind::ContentFilter, None)?,
        "redirect" => {
            Fault::Redirect(arguments.bare().unwrap_or_else(|| "http://169.254.169.254/".to_owned()))
        }
        "error-in-200" => Fault::ErrorIn200,
        "error-first-event" => Fault::ErrorFirstEvent,
        "error-late-event" => Fault::ErrorLateEvent(arguments.number("after")?.unwrap_or(1)),
        "html-200" => Fault::Html200,
        "empty-200" => Fault::Empty200,
        "cut-json" => Fault::CutJson,
        "truncate" => Fault::Truncate(arguments.bare_number()?),
        "no-done" => Fault::NoDone,
        "after-done" => Fault::AfterDone,
        "no-usage" => Fault::NoUsage,
        "gzip" => Fault::Gzip,
        "slow" => slow(arguments)?,
        "first-event-late" => Fault::FirstEventLate(time(arguments)?),
        "stall" => Fault::Stall(time(arguments)?, arguments.number("after")?.unwrap_or(1)),
        "trickle" => trickle(arguments)?,
        "hang" => Fault::Break(How::Hang, after(arguments)?),
        "reset" => Fault::Break(How::Reset, after(arguments)?),
        "cut" => Fault::Break(How::Cut, after(arguments)?),
        "early-response" => Fault::EarlyResponse(status(arguments)?.unwrap_or(413)),
        "bad-head" => bad_head(arguments)?,
        "huge-head" => Fault::HugeHead(count(arguments, 600_000, BYTES)?),
        "many-fields" => Fault::ManyFields(count(arguments, 5_000, TIMES)?),
        "interim-flood" => Fault::InterimFlood(count(arguments, 30, TIMES)?),
        "header" => Fault::Header(String::from_utf8_lossy(&arguments.bare_bytes()?).into_owned()),
        "excess" => Fault::Excess,
        "close" => Fault::Close,
        "no-length" => Fault::NoLength,
        "with-length" => Fault::WithLength,
        "fragment" => Fault::Fragment(arguments.bare_number()?.unwrap_or(1).max(1)),
        "line-ends" => match arguments.bare().as_deref() {
            None | Some("crlf") => Fault::LineEnds("\r\n"),
            Some("cr") => Fault::LineEnds("\r"),
            Some(other) => return Err(arguments.error(format!("`{other}` is neither crlf nor cr"))),
        },
        "comments" => Fault::Comments,
        "big-event" => Fault::BigEvent(count(arguments, 100_000, BYTES)?),
        "raw" => Fault::Raw(arguments.bare_bytes()?),
        _ => return Err(arguments.error(format!("no fault is called `{written}`"))),
    })
}

/// Most bytes of anything that is made up, and most repetitions.
const BYTES: usize = 64 * 1024 * 1024;
const TIMES: usize = 100_000;

/// A number that must not ask for more than there is.
fn count(arguments: &mut Arguments, usual: usize, most: usize) -> Result<usize, ProgramError> {
    match arguments.bare_number()? {
        None => Ok(usual),
        Some(count) if count <= most => Ok(count),
        Some(count) => Err(arguments.error(format!("{count} is more than {most}"))),
    }
}

fn status(arguments: &mut Arguments) -> Result<Option<u16>, ProgramError> {
    let Some(text) = arguments.bare() else { return Ok(None) };
    match text.parse() {
        Ok(status @ 200..=599) => Ok(Some(status)),
        _ => Err(arguments.error(format!("`{text}` is not a status from 200 to 599"))),
    }
}

fn time(arguments: &mut Arguments) -> Result<Duration, ProgramError> {
    arguments.bare_duration()?.ok_or_else(|| arguments.error("the time is missing"))
}

fn error(
    arguments: &mut Arguments,
    filter: &mut Filter,
    kind: ErrorKind,
    status: Option<u16>,
) -> Result<Fault, ProgramError> {
    if matches!(kind, ErrorKind::RateLimit | ErrorKind::Overloaded) {
        filter.p = arguments.chance("rate")?.unwrap_or(filter.p);
    }
    let retry_after = arguments.duration("retry-after")?;
    let form = match arguments.text("form").as_deref() {
        None | Some("seconds") => RetryForm::Seconds,
        Some("ms") => RetryForm::Milliseconds,
        Some("date") => RetryForm::Date,
        Some(other) => return Err(arguments.error(format!("`form={other}` is none of seconds, ms, date"))),
    };
    Ok(Fault::Error(ErrorAnswer { kind, status, retry_after, form }))
}

fn slow(arguments: &mut Arguments) -> Result<Fault, ProgramError> {
    let text = arguments.bare().ok_or_else(|| arguments.error("the time is missing"))?;
    match text.strip_prefix('x').map(str::parse::<f64>) {
        Some(Ok(times)) if (0.0..=10_000.0).contains(&times) => Ok(Fault::Stretch(times)),
        Some(_) => Err(arguments.error(format!("`{text}` is not a factor from x0 to x10000"))),
        None => Ok(Fault::Slow(arguments.read_duration(&text)?)),
    }
}

fn trickle(arguments: &mut Arguments) -> Result<Fault, ProgramError> {
    let text = arguments.bare().unwrap_or_else(|| "1Bps".to_owned());
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "Bps" => 1.0,
        "kBps" | "KBps" => 1_000.0,
        _ => return Err(arguments.error(format!("`{text}` is not a rate like 1Bps or 10kBps"))),
    };
    match digits.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Fault::Trickle(rate * unit)),
        _ => Err(arguments.error(format!("`{text}` is not a rate like 1Bps or 10kBps"))),
    }
}

fn after(arguments: &mut Arguments) -> Result<After, ProgramError> {
    let events = arguments.number("after")?;
    let bytes = arguments.number("bytes")?;
    Ok(match (events, bytes) {
        (Some(events), _) => After::Events(events),
        (None, Some(bytes)) => After::Bytes(bytes),
        (None, None) => After::Nothing,
    })
}

fn bad_head(arguments: &mut Arguments) -> Result<Fault, ProgramError> {
    let name = arguments.bare().unwrap_or_else(|| "garbage".to_owned());
    match BAD_HEADS.iter().find(|(known, _)| *known == name) {
        Some((_, kind)) => Ok(Fault::BadHead(*kind)),
        None => {
            let names: Vec<&str> = BAD_HEADS.iter().map(|(name, _)| *name).collect();
            Err(arguments.error(format!("`{name}` is none of {}", names.join(", "))))
        }
    }
}
