//! `sluice gameday`: bad days, rehearsed on one machine without a key.
//!
//! The days, their bars and how they are measured are the `rehearsal` room's; what is started for them is in `rooms`.
//! Here: arguments, where the verdicts go, and the exit code.

use std::io;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Exit, Rooms, StartError, Surroundings, finished};
use crate::config::DriverChoice;
use crate::rehearsal::gameday::{Report, Scenario, chosen, list, setup, story};

const AFTER_HELP: &str = "\
Each day starts scripted providers that misbehave, a gateway between, and clients that know
nothing of it, all on 127.0.0.1. Clients say what they got, providers what they were asked and
what they bill; the bars are judged from those. docs/gamedays.md has every day and its bars.

Examples:
  sluice gameday --list                    the days and how long each takes
  sluice gameday --scale 0.05              all of them, on a clock that is twenty times as fast
  sluice gameday brownout down             two of them, on the real clock
  sluice gameday --json --scale 0.05       verdicts and figures for a machine
  sluice gameday --story queue             a stalled build queue with and without Sluice, simulated
  sluice gameday hang --print-config       what a gateway of your own must be configured with,
  sluice gameday hang --against http://127.0.0.1:8080/v1
                                           and the same day against it

Exit codes:
  0  every bar is met; or stopped with Ctrl-C before one was missed
  2  wrong arguments, or no such day
  3  a day could not be played: a port is taken, the driver is missing
  4  a bar was missed";

/// The port of the first provider for a gateway that was configured before the run.
const PROVIDER_PORT: u16 = 9101;
/// Providers of one scenario, at most.
const PROVIDERS: u16 = 2;

/// Arguments of `sluice gameday`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(after_help = AFTER_HELP)]
pub(super) struct GamedayArgs {
    /// Days to play; all when none is named
    #[arg(value_name = "DAY")]
    pub days: Vec<String>,
    /// List the days and exit
    #[arg(long)]
    pub list: bool,
    /// Print one JSON object to standard output instead of a table
    #[arg(long)]
    pub json: bool,
    /// Multiply every time: 0.05 makes eight minutes 24 seconds
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    pub scale: f64,
    /// Multiply the rate of requests
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = load)]
    pub load: f64,
    /// Decides words, arrivals and chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Number of workers of the gateway [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// I/O driver of the gateway
    #[arg(short, long, value_name = "DRIVER", default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "io_uring", "epoll"]))]
    pub driver: String,
    /// Play against the gateway at this URL, which must point at the providers' ports
    #[arg(long, value_name = "URL", conflicts_with_all = ["workers", "driver", "print_config"])]
    pub against: Option<String>,
    /// With --against and --print-config: the first provider's port; the second takes the next
    #[arg(long, value_name = "PORT", default_value_t = PROVIDER_PORT, value_parser = clap::value_parser!(u16).range(1..=65_534))]
    pub provider_port: u16,
    /// Print the configuration that a gateway needs for one day, and exit
    #[arg(long, conflicts_with_all = ["list", "json"])]
    pub print_config: bool,
    /// Tell a simulated story and exit
    #[arg(long, value_name = "STORY", conflicts_with_all = ["days", "list", "against", "print_config"], value_parser = PossibleValuesParser::new(["queue", "bill"]))]
    pub story: Option<String>,
}

impl GamedayArgs {
    /// The chosen driver.
    pub(super) fn driver(&self) -> DriverChoice {
        let named = DriverChoice::NAMES.iter().find(|(name, _)| *name == self.driver);
        named.map_or(DriverChoice::Auto, |(_, choice)| *choice)
    }

    /// The ports of the providers: fixed for a gateway that runs already, else whatever is free.
    pub(super) fn ports(&self) -> Vec<u16> {
        if self.against.is_none() && !self.print_config {
            return Vec::new();
        }
        (0..PROVIDERS).map(|n| self.provider_port + n).collect()
    }
}

/// Runs the command until the last day is over, or Ctrl-C.
pub(super) fn run(args: GamedayArgs, rooms: &Rooms<'_>, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    if args.list {
        write!(around.out, "{}", list())?;
        return Ok(Exit::Ok);
    }
    if let Some(told) = args.story.as_deref().and_then(|name| story(name, args.seed)) {
        if args.json {
            writeln!(around.out, "{}", told.to_json())?
        } else {
            write!(around.out, "{told}")?
        }
        return Ok(Exit::Ok);
    }
    if args.print_config {
        return print_config(&args, around);
    }
    match announce(&args, around).and_then(|()| (rooms.gameday)(&args)) {
        Ok(report) => {
            if args.json {
                writeln!(around.out, "{}", report.to_json())?;
            } else {
                write!(around.out, "{report}")?;
            }
            Ok(exit(&report))
        }
        Err(error) => finished(Err(error), around),
    }
}

/// Says how long it will take, because days on the real clock take minutes each.
fn announce(args: &GamedayArgs, around: &mut Surroundings<'_>) -> Result<(), StartError> {
    let days = chosen(&args.days).map_err(StartError::Arguments)?;
    let own_scale = |day: &Scenario| if args.against.is_some() { 1.0 } else { day.own_scale(args.scale) };
    let total: Duration = days.iter().map(|day| day.lasts(args.scale, own_scale(day))).sum();
    let (count, plural) = (days.len(), if days.len() == 1 { "" } else { "s" });
    let hint = if args.scale >= 1.0 && total > Duration::from_secs(120) {
        "; --scale 0.05 is twenty times as fast"
    } else {
        ""
    };
    let line = format!(
        "sluice gameday: {count} day{plural}, about {}{hint}; Ctrl-C ends it with the verdicts so far",
        lasting(total)
    );
    writeln!(around.err, "{line}").map_err(|error| StartError::Start(error.to_string()))
}

fn lasting(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 120 { format!("{} s", seconds.max(1)) } else { format!("{} min", seconds.div_ceil(60)) }
}

fn exit(report: &Report) -> Exit {
    let missed = || report.verdicts.iter().filter(|verdict| !verdict.passed);
    if missed().any(|verdict| verdict.problem.is_none()) {
        Exit::BarMissed
    } else if missed().next().is_some() {
        Exit::NotStarted
    } else {
        Exit::Ok
    }
}

fn print_config(args: &GamedayArgs, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let wanted = match &args.days[..] {
        [day] => setup(day, &args.ports(), args.scale),
        _ => Err("name one day: its gateway is configured for it alone".to_owned()),
    };
    match wanted {
        Ok(setup) => {
            for change in &setup.clocks {
                writeln!(around.out, "# to run its own clocks at this scale: --set {change}")?;
            }
            write!(around.out, "{}", setup.config)?;
            Ok(Exit::Ok)
        }
        Err(error) => finished(Err(StartError::Arguments(error)), around),
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 10.0 => Ok(factor),
        _ => Err("use a number above 0 and at most 10, for example 0.05".to_owned()),
    }
}

fn load(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 1_000.0 => Ok(factor),
        _ => Err("use a number above 0 and at most 1000, for example 0.5".to_owned()),
    }
}
