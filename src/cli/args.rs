//! The arguments, and the help that is generated from them.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand, ValueHint};

use super::gameday::GamedayArgs;
use super::mock::MockArgs;
use crate::config::{DriverChoice, parse_listen};

const AFTER_HELP: &str = "\
Without a subcommand, sluice serves. Without a config file it uses the providers whose keys
are in the environment; without any, a built-in mock provider answers.

Examples:
  sluice                                        serve on 127.0.0.1:8080
  OPENAI_BASE_URL=http://localhost:8080/v1 ...  point a client at it
  sluice check sluice.yaml                      all problems of a config, with their places
  sluice explain sluice.yaml gpt-4o-mini        where a model name would go, and why
  sluice spend --by pipeline,step --since 7d    what was spent, and by whom
  sluice prices gpt-4o-mini                     what a model costs, and who says so
  sluice mock --fault brownout                  a provider that misbehaves, to rehearse against
  sluice gameday --scale 0.05                   bad days, rehearsed here, with a verdict for each

Environment:
  SLUICE_CONFIG  the config file, when --config is not given
  OPENAI_API_KEY, ANTHROPIC_API_KEY, GEMINI_API_KEY, ...
                 keys of providers, when the file names none (docs/configuration.md lists all)
  any variable   wherever the file says env.NAME

Exit codes:
  0  fine, or stopped as told
  1  the config was refused, the model is unknown, or there is no ledger
  2  wrong arguments
  3  could not start: address taken, driver missing
  4  a game day missed a bar";

/// Self-hosted LLM gateway: one local endpoint in front of every model provider.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, about, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve the gateway (also what happens without a subcommand)
    Serve(ServeArgs),
    /// Check a config file and print every problem
    Check(CheckArgs),
    /// Show the chain a model name takes, with key shares and timeouts
    Explain(ExplainArgs),
    /// Show what was spent, by pipeline, step, team, provider, model, key or day
    Spend(SpendArgs),
    /// Show what models cost, and who says so
    Prices(PricesArgs),
    /// Serve a mock provider that can be told to misbehave
    Mock(MockArgs),
    /// Rehearse bad days on this machine and judge how the gateway does
    Gameday(GamedayArgs),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
}

/// Arguments of `sluice serve`.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct ServeArgs {
    /// Config file, YAML or JSON [default: $SLUICE_CONFIG, else sluice.yaml, sluice.yml or sluice.json here]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Address to listen on, instead of the config's [default: 127.0.0.1:8080]
    #[arg(short, long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    pub listen: Option<SocketAddr>,
    /// Number of workers, instead of the config's [default: one per core]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub workers: Option<u16>,
    /// I/O driver, instead of the config's [default: auto]
    #[arg(short, long, value_name = "DRIVER", value_parser = PossibleValuesParser::new(["auto", "io_uring", "epoll"]))]
    pub driver: Option<String>,
    /// Override one value of the config, for example providers.openai.keys.0.weight=0.5; may be repeated
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
    /// Check the config with all these flags and exit, like `sluice check`
    #[arg(long)]
    pub check: bool,
}

impl ServeArgs {
    /// The chosen driver.
    pub(super) fn driver(&self) -> Option<DriverChoice> {
        let wanted = self.driver.as_deref()?;
        DriverChoice::NAMES.iter().find(|(name, _)| *name == wanted).map(|(_, choice)| *choice)
    }
}

/// Arguments of `sluice check`.
#[derive(Args, Clone, Debug)]
pub(super) struct CheckArgs {
    /// Config file, YAML or JSON
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// How findings are printed
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = PossibleValuesParser::new(["text", "json"]))]
    pub format: String,
    /// Override one value first, as `sluice serve --set` does; may be repeated
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// Arguments of `sluice explain`.
#[derive(Args, Clone, Debug)]
pub(super) struct ExplainArgs {
    /// Config file, YAML or JSON
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Model name as a client would send it
    #[arg(value_name = "MODEL")]
    pub model: String,
    /// Override one value first, as `sluice serve --set` does; may be repeated
    #[arg(short, long = "set", value_name = "PATH=VALUE")]
    pub sets: Vec<String>,
}

/// Arguments of `sluice spend`.
#[derive(Args, Clone, Debug)]
pub(super) struct SpendArgs {
    /// What to group by, with commas between: pipeline, step, team, provider, model, key, day
    #[arg(long, value_name = "NAMES", default_value = "pipeline")]
    pub by: String,
    /// First day (UTC): days back, today included, such as 7d, or a date such as 2026-01-31 [default: 7d]
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Last day (UTC), a date [default: today]
    #[arg(long, value_name = "DATE")]
    pub until: Option<String>,
    /// Print JSON, money in whole nano-dollars
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV, money in whole nano-dollars
    #[arg(long)]
    pub csv: bool,
    /// The ledger's file [default: the config's, else ~/.local/state/sluice/ledger.db]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub ledger: Option<PathBuf>,
    /// Config file that says where the ledger is [default: as `sluice serve`]
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
}

/// Arguments of `sluice prices`.
#[derive(Args, Clone, Debug)]
pub(super) struct PricesArgs {
    /// Models, or provider/model [default: all that the config names, else all of the list]
    #[arg(value_name = "MODEL")]
    pub models: Vec<String>,
    /// Config file, for its own prices and for where its model names lead
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `sluice completions`.
#[derive(Args, Clone, Debug)]
pub(super) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_name = "SHELL", value_enum)]
    pub shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        super::Cli::command().debug_assert();
    }
}
