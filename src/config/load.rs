//! From a path, some flags and an environment to a plan.
//!
//! A [`Loader`] is kept for the life of the process, so that a reload reads the same file under the same
//! flags. Loading touches the file system and takes milliseconds: it belongs on a side thread, never on a
//! core's loop.
//!
//! The loader never panics on what a file holds, and a file that is refused changes nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::compile::{self, Surroundings};
use super::defaults;
use super::diagnostics::{At, ConfigError, Report};
use super::env::{self, Env};
use super::known::Table;
use super::places::Places;
use super::plan::{DriverChoice, Plan, PlanSource};
use super::tree::{self, Node, Value};
use super::{infer, overrides, schema, values};

/// Everything a configuration is made of, besides the environment.
#[derive(Clone, Debug, Default)]
pub struct Loader {
    /// The file; `None` infers the configuration from the environment.
    pub file: Option<PathBuf>,
    /// `--set` flags as typed, `PATH=VALUE`, applied in order.
    pub sets: Vec<String>,
    /// Replaces the file's `listen`.
    pub listen: Option<SocketAddr>,
    /// Replaces the file's `workers`.
    pub workers: Option<usize>,
    /// Replaces the file's `driver`.
    pub driver: Option<DriverChoice>,
}

impl Loader {
    /// Reads and compiles the configuration. `env` looks up variables.
    pub fn load(&self, env: Env<'_>) -> Result<Plan, ConfigError> {
        let Some(path) = &self.file else { return self.load_bytes(b"", env) };
        let name = path.display().to_string();
        match read(path) {
            Ok(bytes) => self.load_bytes(&bytes, env),
            Err((message, help)) => {
                let mut report = Report::new(&name);
                report.error(At::Nowhere, "", message, help);
                Err(ConfigError {
                    diagnostics: report.close().err().map_or_else(Vec::new, |error| error.diagnostics),
                })
            }
        }
    }

    /// Compiles `bytes` as if they were the content of `self.file`; without a file they are ignored.
    pub fn load_bytes(&self, bytes: &[u8], env: Env<'_>) -> Result<Plan, ConfigError> {
        let path = self.file.as_deref();
        let name = path.map_or("(environment)".to_owned(), |path| path.display().to_string());
        let mut report = Report::new(&name);
        let plan = decode(bytes, &mut report).and_then(|text| self.steps(path, text, env, &mut report));
        let warnings = report.close()?;
        match plan {
            Some(mut plan) => {
                plan.warnings = warnings;
                Ok(plan)
            }
            // A step that gives no plan has reported why; this keeps a slip there from becoming a panic.
            None => Err(ConfigError { diagnostics: warnings }),
        }
    }

    /// [`Loader::load_bytes`] for text.
    pub fn load_text(&self, text: &str, env: Env<'_>) -> Result<Plan, ConfigError> {
        self.load_bytes(text.as_bytes(), env)
    }

    fn steps(&self, path: Option<&Path>, text: &str, env: Env<'_>, report: &mut Report) -> Option<Plan> {
        let mut root = match path {
            None => Node::new(At::Nowhere, Value::Map(Vec::new())),
            Some(_) => tree::parse(text, report)?,
        };
        if path.is_some() && matches!(root.value, Value::Null) && self.sets.is_empty() {
            let help = "start with `providers:`; see sluice.example.yaml, or start without a file";
            report.error(At::File { line: 1, column: 1 }, "", "the file is empty", help);
            return None;
        }
        let table = Table::load();
        let mut variables = Vec::new();
        let inferred = infer::wanted(&root);
        if inferred {
            let (providers, found) = infer::providers(&table, env);
            variables = found;
            infer::insert(&mut root, providers);
        }
        overrides::apply(&mut root, &self.flags(), report);
        if inferred {
            infer::mock_when_empty(&mut root);
        }
        env::expand(&mut root, "", env, report);
        let file = schema::read(&root, report);
        let source = match path {
            Some(path) => PlanSource::File(path.to_owned()),
            None => PlanSource::Environment(variables),
        };
        let directory = path.and_then(Path::parent);
        let places = Places::of(&root, report);
        let around = Surroundings { table: &table, env, directory, source, places };
        compile::compile(&file, around, report)
    }

    /// All flags as overrides; those with a name of their own come last, because they are more exact.
    fn flags(&self) -> Vec<overrides::Flag> {
        let mut flags: Vec<overrides::Flag> =
            self.sets.iter().map(|text| overrides::Flag::set(text)).collect();
        let mut own = |name: &str, value: Option<String>| {
            flags.extend(value.map(|value| overrides::Flag::own(name, &value)));
        };
        own("listen", self.listen.map(|listen| listen.to_string()));
        own("workers", self.workers.map(|workers| workers.to_string()));
        own("driver", self.driver.map(|driver| driver.name().to_owned()));
        flags
    }
}

/// The bytes of the file at `path`, or what is wrong and what to do.
fn read(path: &Path) -> Result<Vec<u8>, (String, &'static str)> {
    use std::io::{ErrorKind, Read};
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => ("the config file does not exist".to_owned(), "check the path"),
        _ => (format!("the config file cannot be opened: {error}"), "check its permissions"),
    })?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(("this is a directory, not a config file".to_owned(), "name the file inside it"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file past the limit is seen and not cut.
    file.take(defaults::CONFIG_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| (format!("the config file cannot be read: {error}"), "check the file system"))?;
    Ok(bytes)
}

/// `bytes` as text, without a byte order mark.
fn decode<'b>(bytes: &'b [u8], report: &mut Report) -> Option<&'b str> {
    if bytes.len() > defaults::CONFIG_BYTES_MAX {
        let most = values::show_bytes(defaults::CONFIG_BYTES_MAX as u64);
        let message = format!("the file is larger than {most}");
        report.error(At::Nowhere, "", message, "this is probably not a config file");
        return None;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let (line, column) = position(bytes, error.valid_up_to());
            let help = "save the file as UTF-8";
            report.error(At::File { line, column }, "", "the file is not UTF-8 from here on", help);
            None
        }
    }
}

/// Line and column of the byte at `offset`, both from 1.
fn position(bytes: &[u8], offset: usize) -> (u32, u32) {
    let before = &bytes[..offset];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let column = String::from_utf8_lossy(&before[start..]).chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}
