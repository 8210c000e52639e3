//! Reads the fault language.
//!
//! Grammar: `program = track *(";" track)`, `track = step *("then" step)`, `step = name [":" argument *("," argument)]`,
//! `argument = value / key "=" value`. A value may stand in double quotes, where `\r \n \t \0 \\ \" \xHH` are escapes
//! and `;` `,` mean themselves. Times are `15s`, `250ms`, `8m`, `1h`, a bare number is seconds.
//!
//! Invariant: nothing is guessed. An unknown word is an error that names the nearest known one.

use super::arguments::{Arguments, ProgramError, nearest, split};
use super::faults::{FAULTS, build};
use super::{Filter, Stage, Step};

/// Most tracks of a program, and most steps of a track.
const TRACKS: usize = 32;
const STEPS: usize = 64;

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
