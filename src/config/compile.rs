//! From a file that reads well to a plan that makes sense.
//!
//! Checks here are about values together: a provider needs an address and a key, names must be unique and
//! must exist, settings must not contradict each other. Everything found is reported; a plan comes out only
//! when nothing was an error.
//!
//! Left out: file access other than asking whether a certificate file exists and reading static answers, and any
//! network access.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::admin;
use super::books;
use super::bounds::{Limits, Timeouts};
use super::capture;
use super::defaults;
use super::diagnostics::{Report, nearest, quoted};
use super::env::Env;
use super::fights;
use super::known::Table;
use super::mechanisms::StepBudget;
use super::names::{self, Names};
use super::places::Places;
use super::plan::{ClientKey, Plan, PlanSource, Provider, ProviderId, Slot};
use super::provider;
use super::reader::Word;
use super::schema::{File, LimitsFile, TimeoutsFile};
use super::secret::Secret;
use super::statics;
use super::traces;

/// What a plan is compiled with besides the file.
pub(super) struct Surroundings<'e> {
    pub table: &'e Table,
    pub env: Env<'e>,
    /// Relative paths in the file start here.
    pub directory: Option<&'e Path>,
    pub source: PlanSource,
    pub places: Places,
}

/// Compiles `file`. `None` when something was reported as an error.
pub(super) fn compile(file: &File, around: Surroundings<'_>, report: &mut Report) -> Option<Plan> {
    let timeouts = timeouts(&file.timeouts, default_timeouts());
    let idle_ms = file.timeouts.upstream_idle.unwrap_or(defaults::UPSTREAM_IDLE_MS);
    let common = provider::Common {
        table: around.table,
        env: around.env,
        timeouts,
        idle_ms,
        extra_ca: certificates(&file.extra_ca_files, around.directory, report),
        directory: around.directory,
    };
    if file.providers.len() > defaults::PROVIDERS_MAX {
        let help = format!("at most {} providers fit", defaults::PROVIDERS_MAX);
        report.error(file.providers[0].name.at, "providers", "too many providers", help);
        return None;
    }
    let providers: Vec<_> =
        file.providers.iter().filter_map(|row| provider::compile(row, &common, report)).collect();
    let listen = listen(file.listen.as_ref(), report);
    let client_keys = client_keys(file, report);
    let admin = admin::compile(&file.admin, &client_keys, report);
    if let (Some(at), true) = (&file.listen, client_keys.is_empty())
        && listen.is_some_and(|listen| !listen.ip().is_loopback())
    {
        let help = "set `auth` to a list of client keys, or listen on 127.0.0.1";
        report.warn(at.at, "listen", "anyone who can reach this address can spend your keys", help);
    }
    // Names point at providers by position: with one of them broken, every later finding would be a ghost.
    if providers.len() != file.providers.len() || (report.failed() && providers.is_empty()) {
        return None;
    }
    let Names { slots, facts, routes, catalog } = names::compile(file, &providers, around.table, report)?;
    let statics = statics::compile(&file.statics, around.directory, report);
    let step_budget = file.step_budget.as_ref().map(|step| StepBudget {
        answer: step.answer.as_ref().and_then(|word| statics::find(word, &file.statics, report)),
        ..step.budget
    });
    let default_provider = default_provider(file.default_provider.as_ref(), &providers, report);
    let mock = providers.iter().position(provider::is_mock).map(id);
    let listen = listen?;
    warn_of_locked_models(&slots, &providers, file, report);
    let plan = Plan {
        listen,
        workers: file.workers.map(|workers| workers as usize),
        driver: file.driver.unwrap_or_default(),
        limits: limits(&file.limits, &file.timeouts),
        timeouts,
        routes,
        slots,
        facts,
        catalog,
        route_defaults: file.route_defaults.clone(),
        statics,
        step_budget,
        idempotency: file.idempotency,
        metrics_path: file.metrics_path.clone(),
        who: file.who.clone(),
        ledger: books::compile_ledger(&file.ledger, around.directory),
        access_log: file.access_log.as_ref().map(|file| books::compile_access_log(file, around.directory)),
        capture: file.capture.as_ref().map(|file| capture::compile(file, around.directory)),
        admin,
        traces: traces::compile(&file.traces, &common.extra_ca, around.env, report),
        retry_cost_nano_usd_per_minute: file.retry_cost_nano_usd_per_minute,
        default_provider: default_provider?,
        mock,
        busy_poll_ms: file.busy_poll_ms.unwrap_or(0),
        drain_timeout_ms: file.drain_timeout_ms.unwrap_or(defaults::DRAIN_TIMEOUT_MS),
        allowed_hosts: allowed_hosts(&file.allowed_hosts, listen),
        allowed_origins: origins(&file.allowed_origins, report),
        client_keys,
        source: around.source,
        places: around.places,
        warnings: Vec::new(),
        providers,
    };
    // In a file with errors they would be ghosts of what was left out.
    if !report.failed() {
        fights::find(&plan).into_iter().for_each(|found| report.add(found));
    }
    Some(plan)
}

/// The id of the provider at `index`; at most [`defaults::PROVIDERS_MAX`] exist, so it fits.
pub(super) fn id(index: usize) -> ProviderId {
    ProviderId(index as u16)
}

fn default_timeouts() -> Timeouts {
    Timeouts {
        connect_ms: defaults::CONNECT_MS,
        first_token_ms: defaults::FIRST_TOKEN_MS,
        token_gap_ms: defaults::TOKEN_GAP_MS,
        total_ms: defaults::TOTAL_MS,
        attempt_ms: None,
    }
}

/// `file` over `base`.
pub(super) fn timeouts(file: &TimeoutsFile, base: Timeouts) -> Timeouts {
    Timeouts {
        connect_ms: file.connect.unwrap_or(base.connect_ms),
        first_token_ms: file.first_token.unwrap_or(base.first_token_ms),
        token_gap_ms: file.token_gap.unwrap_or(base.token_gap_ms),
        total_ms: file.total.unwrap_or(base.total_ms),
        attempt_ms: file.attempt.or(base.attempt_ms),
    }
}

/// Warns of models that are named but that no key of their provider may be used for.
fn warn_of_locked_models(slots: &[Slot], providers: &[Provider], file: &File, report: &mut Report) {
    for slot in slots {
        let provider = &providers[usize::from(slot.provider.0)];
        let Some(model) = &slot.model else { continue };
        if !provider.keys.is_empty() && !provider.keys.iter().any(|key| key.allows(model)) {
            let name = &file.providers[usize::from(slot.provider.0)].name;
            let message = format!("no key of {} may be used for {}", name.shown(), quoted(model));
            report.warn(
                name.at,
                &name.path,
                message,
                "add the model to the `models` of a key, or leave that list out",
            );
        }
    }
}

fn limits(file: &LimitsFile, timeouts: &TimeoutsFile) -> Limits {
    // The schema bounds each value well below its type.
    let small = |value: Option<u64>, default: u64| value.unwrap_or(default) as u32;
    let count = |value: Option<u64>, default: u64| value.unwrap_or(default) as u16;
    Limits {
        body_bytes: file.body.unwrap_or(defaults::BODY_BYTES),
        head_bytes: small(file.head, defaults::HEAD_BYTES),
        head_fields: count(file.head_fields, defaults::HEAD_FIELDS),
        request_line_bytes: small(file.request_line, defaults::REQUEST_LINE_BYTES),
        upstream_head_bytes: small(file.upstream_head, defaults::UPSTREAM_HEAD_BYTES),
        upstream_head_fields: count(file.upstream_head_fields, defaults::UPSTREAM_HEAD_FIELDS),
        interim_responses: count(file.interim_responses, defaults::INTERIM_RESPONSES),
        event_bytes: small(file.event, defaults::EVENT_BYTES),
        unread_bytes: small(file.unread, defaults::UNREAD_BYTES),
        connections: small(file.connections, defaults::CONNECTIONS),
        request_head_ms: timeouts.request_head.unwrap_or(defaults::REQUEST_HEAD_MS),
        client_idle_ms: timeouts.client_idle.unwrap_or(defaults::CLIENT_IDLE_MS),
        client_write_ms: timeouts.client_write.unwrap_or(defaults::CLIENT_WRITE_MS),
    }
}

/// Reads `ADDR:PORT`, `:PORT`, `localhost:PORT` or `PORT`; the latter three mean this machine only.
///
/// The error says what to write instead.
pub fn parse_listen(text: &str) -> Result<SocketAddr, &'static str> {
    const HELP: &str = "write ADDRESS:PORT, for example 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:8080";
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let port = text.strip_prefix("localhost:").or_else(|| text.strip_prefix(':')).unwrap_or(text);
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HELP);
    }
    let port = port.parse::<u16>().map_err(|_| HELP)?;
    Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

fn listen(word: Option<&Word>, report: &mut Report) -> Option<SocketAddr> {
    let text = word.map_or(defaults::LISTEN, |word| &word.text);
    let parsed = parse_listen(text);
    if let (Err(help), Some(word)) = (&parsed, word) {
        report.error(word.at, &word.path, format!("{} is not an address to listen on", word.shown()), *help);
    }
    parsed.ok()
}

fn client_keys(file: &File, report: &mut Report) -> Vec<ClientKey> {
    let named = provider::keys(&file.auth, "auth", report);
    named.into_iter().map(|key| ClientKey { name: key.name, secret: key.secret }).collect()
}

fn default_provider(word: Option<&Word>, providers: &[Provider], report: &mut Report) -> Option<ProviderId> {
    let Some(word) = word else { return (!providers.is_empty()).then_some(ProviderId(0)) };
    if let Some(index) = providers.iter().position(|provider| *provider.name == *word.text) {
        return Some(id(index));
    }
    let names = providers.iter().map(|provider| &*provider.name);
    let help = match nearest(&word.text, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("configured providers: {}", names.collect::<Vec<_>>().join(", ")),
    };
    report.error(word.at, &word.path, format!("no provider {} is configured", word.shown()), help);
    None
}

/// Certificate files as paths that exist.
pub(super) fn certificates(words: &[Word], directory: Option<&Path>, report: &mut Report) -> Vec<PathBuf> {
    let mut paths = Vec::with_capacity(words.len());
    for word in words {
        let path = directory.unwrap_or(Path::new("")).join(&word.text);
        if path.is_file() {
            paths.push(path);
        } else {
            let message = format!("the certificate file {} does not exist", word.shown());
            let help = "paths are relative to the config file; the file holds PEM certificates";
            report.error(word.at, &word.path, message, help);
        }
    }
    paths
}

/// The names that a `Host` may carry. On a loopback address the machine's own names always count, because a
/// web page can make a browser send any other name there (DNS rebinding); elsewhere nothing is restricted
/// unless the file does it.
fn allowed_hosts(words: &[Word], listen: SocketAddr) -> Vec<Box<str>> {
    if words.iter().any(|word| word.text == "*") || (words.is_empty() && !listen.ip().is_loopback()) {
        return Vec::new();
    }
    let mut hosts: Vec<Box<str>> = ["localhost", "127.0.0.1", "[::1]"].map(Box::from).to_vec();
    let own = match listen.ip() {
        IpAddr::V4(own) => own.to_string(),
        IpAddr::V6(own) => format!("[{own}]"),
    };
    let mut seen: HashSet<String> = hosts.iter().map(|host| host.to_string()).collect();
    for host in std::iter::once(own).chain(words.iter().map(|word| word.text.to_ascii_lowercase())) {
        if seen.insert(host.clone()) {
            hosts.push(host.into());
        }
    }
    hosts
}

fn origins(words: &[Word], report: &mut Report) -> Vec<Box<str>> {
    for word in words {
        if !(word.text.starts_with("http://") || word.text.starts_with("https://"))
            || word.text.ends_with('/')
        {
            let help = "write it as a browser sends it: https://app.example.com, without a path or slash";
            report.error(word.at, &word.path, format!("{} is not an origin", word.shown()), help);
        }
    }
    words.iter().map(|word| word.text.to_ascii_lowercase().into()).collect()
}

/// `text` as a credential, or what is wrong with it. Blanks around it are an accident of `$(cat file)`.
pub(super) fn secret(text: &str) -> Result<Secret, &'static str> {
    let text = text.trim();
    if text.is_empty() {
        return Err("is empty");
    }
    if !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err("holds characters that cannot stand in a header, a line break for example");
    }
    Ok(Secret::new(text))
}
