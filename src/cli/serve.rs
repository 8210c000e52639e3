//! `sluice serve`: find the config, compile it, hand it to the gateway.
//!
//! The file is `--config`, else `SLUICE_CONFIG`, else the first of `sluice.yaml`, `sluice.yml` and
//! `sluice.json` in the working directory, else none. Which one it was is said, because a file picked up by
//! accident explains hours of confusion.

use std::io;
use std::path::{Path, PathBuf};

use super::args::ServeArgs;
use super::{Exit, Rooms, Surroundings, check, finished};
use crate::config::{Env, Loader};

/// Names looked for in the working directory, in this order.
const FILE_NAMES: [&str; 3] = ["sluice.yaml", "sluice.yml", "sluice.json"];

/// Runs the command until the gateway stops.
pub(super) fn run(args: ServeArgs, rooms: &Rooms<'_>, around: &mut Surroundings<'_>) -> io::Result<Exit> {
    let (file, found) = find(args.config.as_deref(), around.env, &around.directory);
    let loader = Loader {
        driver: args.driver(),
        file,
        sets: args.sets,
        listen: args.listen,
        workers: args.workers.map(usize::from),
    };
    if args.check {
        return check::report(&loader, check::Format::Text, around);
    }
    if !found.is_empty() {
        writeln!(around.err, "sluice: {found}")?;
    }
    let plan = match loader.load(around.env) {
        Ok(plan) => plan,
        Err(error) => {
            writeln!(around.err, "{error}")?;
            writeln!(around.err, "sluice: not started, because of the config")?;
            return Ok(Exit::Refused);
        }
    };
    // The gateway says the plan's warnings with its start message.
    finished((rooms.serve)(plan, loader), around)
}

/// The config file and how it was found.
pub(super) fn find(flag: Option<&Path>, env: Env<'_>, directory: &Path) -> (Option<PathBuf>, String) {
    if let Some(file) = flag {
        return (Some(file.to_owned()), String::new());
    }
    if let Some(file) = env("SLUICE_CONFIG").filter(|file| !file.is_empty()) {
        let found = format!("using the config {file}, named by SLUICE_CONFIG");
        return (Some(file.into()), found);
    }
    let present: Vec<&str> = FILE_NAMES.into_iter().filter(|name| directory.join(name).is_file()).collect();
    match present[..] {
        [] => (None, String::new()),
        [only] => {
            (Some(directory.join(only)), format!("using the config {only}, found in the working directory"))
        }
        [first, ..] => {
            let found = format!(
                "using the config {first}; {} is here too and is not read",
                present[1..].join(" and ")
            );
            (Some(directory.join(first)), found)
        }
    }
}
