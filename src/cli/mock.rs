//! `sluice mock`: arguments of a provider that misbehaves as told.
//!
//! The faults themselves are a language of the `rehearsal` room; here they are text that is passed on.

use std::io;
use std::net::SocketAddr;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::{Exit, Rooms, Surroundings, finished};
use crate::config::{parse_duration_ms, parse_listen};

const AFTER_HELP: &str = "\
Examples:
  sluice mock                                   a healthy provider on 127.0.0.1:9101
  sluice mock --fault brownout                  30 % of requests get 429 with Retry-After
  sluice mock --fault slow:+15s                 every answer 15 s late; --list-faults has the language
  sluice serve --set providers.openai.network_config.base_url=http://127.0.0.1:9101";

/// Arguments of `sluice mock`.
#[derive(Args, Clone, Debug, PartialEq)]
#[command(after_help = AFTER_HELP)]
pub(super) struct MockArgs {
    /// Address to listen on; port 0 takes a free one
    #[arg(short, long, value_name = "ADDR:PORT", default_value = "127.0.0.1:9101", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// Fault program; several run side by side
    #[arg(short, long = "fault", value_name = "PROGRAM")]
    pub faults: Vec<String>,
    /// List the faults and the language, and exit
    #[arg(long)]
    pub list_faults: bool,
    /// Run the clock of the faults faster: 0.05 makes 8 minutes 24 seconds
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    pub scale: f64,
    /// APIs to speak
    #[arg(long, value_name = "DIALECT", default_value = "all", value_parser = PossibleValuesParser::new(["all", "openai", "anthropic"]))]
    pub dialect: String,
    /// Answer without pacing
    #[arg(long)]
    pub instant: bool,
    /// Time to the first token, for example 300ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub first_token: Option<u64>,
    /// Time between tokens, for example 20ms
    #[arg(long, value_name = "TIME", value_parser = parse_duration_ms)]
    pub token_gap: Option<u64>,
    /// Tokens of an answer that the request does not limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub tokens: Option<u32>,
    /// API key to accept; every key when none is given; may be repeated
    #[arg(long = "key", value_name = "KEY")]
    pub keys: Vec<String>,
    /// Decides words, identifiers, jitter and chance
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

/// Runs the command until the mock stops.
pub(super) fn run(args: MockArgs, rooms: &Rooms<'_>, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    if args.list_faults {
        writeln!(around.out, "{}", (rooms.list_faults)().trim_end())?;
        return Ok(Exit::Ok);
    }
    finished((rooms.mock)(&args), around)
}

fn factor(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(factor) if factor > 0.0 && factor <= 1_000.0 => Ok(factor),
        _ => Err("use a number above 0, for example 0.05".to_owned()),
    }
}
