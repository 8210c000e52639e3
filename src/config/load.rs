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
        let Some(path) = &self.file else { return self.compile(None, "", env) };
        let mut report = Report::new(&path.display().to_string());
        match read(path, &mut report) {
            Some(text) => self.compile(Some(path), &text, env),
            None => {
                Err(ConfigError { diagnostics: report.close().err().map_or(Vec::new(), |e| e.diagnostics) })
            }
        }
    }

    /// Compiles `text` as if it were the content of `self.file`.
    pub fn load_text(&self, text: &str, env: Env<'_>) -> Result<Plan, ConfigError> {
        self.compile(self.file.as_deref(), text, env)
    }

    fn compile(&self, path: Option<&Path>, text: &str, env: Env<'_>) -> Result<Plan, ConfigError> {
        let name = path.map_or("(environment)".to_owned(), |path| path.display().to_string());
        let mut report = Report::new(&name);
        let plan = self.steps(path, text, env, &mut report);
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

    fn steps(&self, path: Option<&Path>, text: &str, env: Env<'_>, report: &mut Report) -> Option<Plan> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
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
        overrides::apply(&mut root, &self.sets, report);
        if inferred {
            infer::mock_when_empty(&mut root);
        }
        env::expand(&mut root, "", env, report);
        let mut file = schema::read(&root, report);
        if let Some(listen) = self.listen {
            file.listen = file.listen.map(|word| super::reader::Word { text: listen.to_string(), ..word });
        }
        let source = match path {
            Some(path) => PlanSource::File(path.to_owned()),
            None => PlanSource::Environment(variables),
        };
        let directory = path.and_then(Path::parent);
        let around = Surroundings { table: &table, env, directory, source };
        let mut plan = compile::compile(&file, around, report)?;
        plan.listen = self.listen.unwrap_or(plan.listen);
        plan.workers = self.workers.or(plan.workers);
        plan.driver = self.driver.unwrap_or(plan.driver);
        Some(plan)
    }
}

/// The text of the file at `path`.
fn read(path: &Path, report: &mut Report) -> Option<String> {
    use std::io::Read;
    let mut fail = |message: String, help: &str| {
        report.error(At::Nowhere, "", message, help);
        None
    };
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return fail("the config file does not exist".to_owned(), "check the path given with --config");
        }
        Err(error) => {
            return fail(format!("the config file cannot be opened: {error}"), "check its permissions");
        }
    };
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return fail("this is a directory, not a config file".to_owned(), "name the file inside it");
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file at the limit passes and one past it is seen.
    if let Err(error) = file.take(defaults::CONFIG_BYTES_MAX as u64 + 1).read_to_end(&mut bytes) {
        return fail(format!("the config file cannot be read: {error}"), "");
    }
    if bytes.len() > defaults::CONFIG_BYTES_MAX {
        let most = values::show_bytes(defaults::CONFIG_BYTES_MAX as u64);
        return fail(format!("the file is larger than {most}"), "this is probably not a config file");
    }
    match String::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => {
            let (line, column) = position(error.as_bytes(), error.utf8_error().valid_up_to());
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
