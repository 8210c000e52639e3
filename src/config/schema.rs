//! The shape of a config file: which keys exist, and what kind of value each has.
//!
//! Reading here checks each value by itself; whether they make sense together is for `compile`. Every string
//! keeps its place, because later checks have to point at it.
//!
//! Invariant: the keys asked for in these functions are all the keys there are. `docs/configuration.md` lists
//! the same ones.

use super::admin::{self, AdminFile};
use super::blocks::{self, ProviderBlocks};
use super::books::{self, AccessLogFile, LedgerFile};
use super::capture::{self, CaptureFile};
use super::defaults;
use super::diagnostics::{At, Report};
use super::dialect::Dialect;
use super::fallbacks::{self, FallbackFile};
use super::mechanisms::{Facts, Idempotency, RouteDefaults};
use super::observe::{self, Who};
use super::origins;
use super::plan::DriverChoice;
use super::reader::{Fields, Item, Word};
use super::statics::{self, StaticFile, StepFile};
use super::traces::{self, TracesFile};
use super::tree::{Node, Value};
use super::values::Unit;

/// A file as written, values checked one by one.
pub(super) struct File {
    pub listen: Option<Word>,
    pub workers: Option<u64>,
    pub driver: Option<DriverChoice>,
    pub busy_poll_ms: Option<u64>,
    pub drain_timeout_ms: Option<u64>,
    pub timeouts: TimeoutsFile,
    pub limits: LimitsFile,
    pub providers: Vec<ProviderFile>,
    pub fallbacks: Vec<FallbackFile>,
    pub aliases: Vec<(Word, Word)>,
    pub default_provider: Option<Word>,
    pub allowed_hosts: Vec<Word>,
    pub allowed_origins: Vec<Word>,
    pub auth: Vec<KeyFile>,
    pub extra_ca_files: Vec<Word>,
    pub route_defaults: RouteDefaults,
    pub statics: Vec<StaticFile>,
    pub step_budget: Option<StepFile>,
    pub idempotency: Option<Idempotency>,
    pub retry_cost_nano_usd_per_minute: Option<u64>,
    pub facts: Vec<(Word, Facts)>,
    pub metrics_path: Option<Box<str>>,
    pub who: Who,
    pub ledger: LedgerFile,
    pub access_log: Option<AccessLogFile>,
    pub capture: Option<CaptureFile>,
    pub admin: AdminFile,
    pub traces: TracesFile,
}

/// `timeouts`, at the top level or of a provider; the last four exist at the top level only.
#[derive(Default)]
pub(super) struct TimeoutsFile {
    pub connect: Option<u64>,
    pub first_token: Option<u64>,
    pub token_gap: Option<u64>,
    pub total: Option<u64>,
    pub attempt: Option<u64>,
    pub request_head: Option<u64>,
    pub client_idle: Option<u64>,
    pub client_write: Option<u64>,
    pub upstream_idle: Option<u64>,
}

/// `limits`.
#[derive(Default)]
pub(super) struct LimitsFile {
    pub body: Option<u64>,
    pub head: Option<u64>,
    pub head_fields: Option<u64>,
    pub request_line: Option<u64>,
    pub upstream_head: Option<u64>,
    pub upstream_head_fields: Option<u64>,
    pub interim_responses: Option<u64>,
    pub event: Option<u64>,
    pub unread: Option<u64>,
    pub connections: Option<u64>,
}

/// One provider.
pub(super) struct ProviderFile {
    pub name: Word,
    pub dialect: Option<Dialect>,
    pub base_url: Option<Word>,
    pub base_path: Option<Word>,
    /// `None` when the file says nothing about keys.
    pub keys: Option<Vec<KeyFile>>,
    pub network: NetworkFile,
    pub timeouts: TimeoutsFile,
    pub models: Vec<Word>,
    pub aliases: Vec<(Word, Word)>,
    pub extra_ca_files: Vec<Word>,
    /// What the provider's own blocks and the top level's make together; `network` goes before its `retry`.
    pub blocks: ProviderBlocks,
}

/// `network_config` of a provider, with Bifrost's names.
#[derive(Default)]
pub(super) struct NetworkFile {
    pub base_url: Option<Word>,
    pub extra_headers: Vec<(Word, Word)>,
    pub request_timeout: Option<u64>,
    pub token_gap: Option<u64>,
    pub idle: Option<u64>,
    pub max_connections: Option<u64>,
    pub max_retries: Option<u64>,
    pub backoff_initial: Option<u64>,
    pub backoff_max: Option<(At, u64)>,
}

/// One credential, of a provider or of a client.
pub(super) struct KeyFile {
    pub at: At,
    pub path: String,
    pub name: Option<Word>,
    pub value: Option<Word>,
    pub weight: Option<(At, f64)>,
    pub models: Vec<Word>,
}

const EMPTY_AUTH: &str = "`auth` is empty: it would let everyone in or lock everyone out";
const AUTH_HELP: &str = "add keys, for example `auth: [env.SLUICE_CLIENT_KEY]`, or remove `auth`";

/// What other gateways call things, for people who bring their file along.
const FOREIGN: [(&str, &str); 9] = [
    ("model_list", "that is LiteLLM's; list `providers` with their `keys`, and `aliases` for model names"),
    ("litellm_settings", "that is LiteLLM's; see `fallbacks` and `timeouts`"),
    ("router_settings", "that is LiteLLM's; see `fallbacks` and `timeouts`"),
    ("general_settings", "that is LiteLLM's; client keys go to `auth`"),
    ("client", "that is Bifrost's; see `limits`, `allowed_origins` and `auth`"),
    ("governance", "that is Bifrost's; client keys go to `auth`"),
    ("config_store", "leave it out; this file is the only store"),
    ("custom_provider_config", "leave it out; give the provider a `base_url` and a `dialect`"),
    ("proxy_config", "leave it out; outbound proxies are not supported"),
];

/// Reads a whole document.
pub(super) fn read(root: &Node, report: &mut Report) -> File {
    let item = Item { node: root, path: String::new() };
    if !matches!(root.value, Value::Map(_) | Value::Null) {
        let message = format!("the file must hold a mapping at its top level, found {}", root.value.kind());
        report.error(root.at, "", message, "start with `providers:`; see sluice.example.yaml");
    }
    let members: Node;
    let item = match &root.value {
        Value::Map(_) => item,
        _ => {
            members = Node::new(root.at, Value::Null);
            Item { node: &members, path: String::new() }
        }
    };
    let mut fields = item.fields(report);
    // Editors put it there to find a schema; it configures nothing.
    fields.item("$schema");
    if let Some(Node { at, value: Value::Null }) = root.member("auth") {
        // Someone who writes `auth:` means to keep others out; with its entries commented out it would not.
        report.error(*at, "auth", EMPTY_AUTH, AUTH_HELP);
    }
    let mut base = ProviderBlocks::read(&mut fields, &ProviderBlocks::default(), report);
    let mut retry_cost = None;
    if let Some(item) = fields.item("retry_budget") {
        (base.retry_budget, retry_cost) = blocks::retry_budget(&item, base.retry_budget, true, report);
    }
    let route_defaults = blocks::route(&mut fields, &RouteDefaults::default(), report);
    let file = File {
        listen: fields.item("listen").and_then(|item| listen(&item, report)),
        workers: fields.item("workers").and_then(|item| item.whole(report, 1, 1024)),
        driver: fields.item("driver").and_then(|item| item.choice(report, &DriverChoice::NAMES)),
        busy_poll_ms: fields.or_off("busy_poll", None, report, |item, report| item.positive_ms(report)),
        drain_timeout_ms: fields.item("drain_timeout").and_then(|item| item.duration_ms(report, None)),
        timeouts: fields.item("timeouts").map(|item| timeouts(&item, true, report)).unwrap_or_default(),
        limits: fields.item("limits").map(|item| limits(&item, report)).unwrap_or_default(),
        providers: fields.item("providers").map(|item| providers(&item, &base, report)).unwrap_or_default(),
        fallbacks: fields
            .item("fallbacks")
            .map(|item| fallbacks::read(&item, &route_defaults, report))
            .unwrap_or_default(),
        aliases: fields.item("aliases").map(|item| pairs(&item, report)).unwrap_or_default(),
        default_provider: fields.item("default_provider").and_then(|item| item.word(report)),
        allowed_hosts: words(&mut fields, "allowed_hosts", report),
        allowed_origins: words(&mut fields, "allowed_origins", report),
        auth: fields.item("auth").map(|item| client_keys(&item, report)).unwrap_or_default(),
        extra_ca_files: words(&mut fields, "extra_ca_files", report),
        statics: fields.item("static").map(|item| statics::read(&item, report)).unwrap_or_default(),
        step_budget: fields.item("step_budget").map(|item| statics::step_budget(&item, report)),
        idempotency: match fields.item("idempotency") {
            Some(item) => statics::idempotency(&item, report),
            None => Some(Idempotency::default()),
        },
        retry_cost_nano_usd_per_minute: retry_cost,
        ledger: books::ledger(&mut fields, report),
        access_log: books::access_log(&mut fields, report),
        capture: capture::read(&mut fields, report),
        admin: admin::read(&mut fields, report),
        traces: traces::read(&mut fields, report),
        facts: fields.item("models").map(|item| statics::models(&item, report)).unwrap_or_default(),
        metrics_path: observe::metrics(&mut fields, report),
        who: fields.item("who").map(|item| observe::who(&item, report)).unwrap_or_default(),
        route_defaults,
    };
    fields.finish(report, &FOREIGN);
    file
}

fn words(fields: &mut Fields<'_>, name: &'static str, report: &mut Report) -> Vec<Word> {
    fields.item(name).map(|item| item.words(report)).unwrap_or_default()
}

/// An address; a bare port number is allowed and means this machine only.
fn listen(item: &Item<'_>, report: &mut Report) -> Option<Word> {
    if let Value::Int(port) = item.node.value {
        return Some(Word { text: port.to_string(), variable: None, at: item.at(), path: item.path.clone() });
    }
    item.word(report)
}

fn timeouts(item: &Item<'_>, top: bool, report: &mut Report) -> TimeoutsFile {
    let mut fields = item.fields(report);
    let mut read =
        |name: &'static str, report: &mut Report| fields.item(name).and_then(|item| item.positive_ms(report));
    let mut file = TimeoutsFile {
        connect: read("connect", report),
        first_token: read("first_token", report),
        token_gap: read("token_gap", report),
        total: read("total", report),
        attempt: read("attempt", report),
        ..TimeoutsFile::default()
    };
    if top {
        file.request_head = read("request_head", report);
        file.client_idle = read("client_idle", report);
        file.client_write = read("client_write", report);
        file.upstream_idle = read("upstream_idle", report);
    }
    fields.finish(report, &[]);
    file
}

fn limits(item: &Item<'_>, report: &mut Report) -> LimitsFile {
    let mut fields = item.fields(report);
    let mut bytes = |name: &'static str, least: u64, most: u64, report: &mut Report| {
        fields.item(name).and_then(|item| item.bytes(report, least, most))
    };
    const KIB: u64 = 1 << 10;
    const MIB: u64 = 1 << 20;
    let mut file = LimitsFile {
        body: bytes("body", KIB, 1024 * MIB, report),
        head: bytes("head", KIB, MIB, report),
        request_line: bytes("request_line", 256, 64 * KIB, report),
        upstream_head: bytes("upstream_head", KIB, MIB, report),
        event: bytes("event", 4 * KIB, 64 * MIB, report),
        unread: bytes("unread", 4 * KIB, 16 * MIB, report),
        ..LimitsFile::default()
    };
    let mut count = |name: &'static str, most: u64, report: &mut Report| {
        fields.item(name).and_then(|item| item.whole(report, 1, most))
    };
    file.head_fields = count("head_fields", defaults::UPSTREAM_HEAD_FIELDS, report);
    file.upstream_head_fields = count("upstream_head_fields", defaults::UPSTREAM_HEAD_FIELDS, report);
    file.interim_responses = count("interim_responses", 1_000, report);
    file.connections = count("connections", 1_000_000, report);
    fields.finish(report, &[]);
    file
}

fn providers(item: &Item<'_>, base: &ProviderBlocks, report: &mut Report) -> Vec<ProviderFile> {
    let members = item.members(report);
    let mut providers = Vec::with_capacity(members.len());
    for (name, item) in members {
        let path = item.path.clone();
        let name = Word { text: name.text.clone(), variable: None, at: name.at, path };
        providers.push(provider(name, &item, base, report));
    }
    providers
}

fn provider(name: Word, item: &Item<'_>, base: &ProviderBlocks, report: &mut Report) -> ProviderFile {
    let mut fields = item.fields(report);
    let mut file = ProviderFile {
        name,
        dialect: fields.item("dialect").and_then(|item| item.choice(report, &Dialect::NAMES)),
        base_url: fields.item("base_url").and_then(|item| item.word(report)),
        base_path: fields.item("base_path").and_then(|item| item.word(report)),
        keys: fields.item("keys").map(|item| keys(&item, true, report)),
        network: fields.item("network_config").map(|item| network(&item, report)).unwrap_or_default(),
        timeouts: fields.item("timeouts").map(|item| timeouts(&item, false, report)).unwrap_or_default(),
        models: words(&mut fields, "models", report),
        aliases: fields.item("aliases").map(|item| pairs(&item, report)).unwrap_or_default(),
        extra_ca_files: words(&mut fields, "extra_ca_files", report),
        blocks: ProviderBlocks::read(&mut fields, base, report),
    };
    if let Some(item) = fields.item("retry_budget") {
        file.blocks.retry_budget = blocks::retry_budget(&item, base.retry_budget, false, report).0;
    }
    if let Some(item) = fields.item("concurrency_and_buffer_size") {
        let bulkhead = &mut file.blocks.bulkhead;
        let mut inner = item.fields(report);
        let concurrency = inner.item("concurrency").and_then(|item| item.whole(report, 1, 1_000_000));
        bulkhead.concurrent = concurrency.map(|count| count as u32).or(bulkhead.concurrent);
        bulkhead.queue = inner.count("buffer_size", 0..=1_000_000, bulkhead.queue, report);
        inner.finish(report, &[]);
    }
    fields.finish(report, &FOREIGN);
    origins::refuse_both_names(item, report);
    file
}

fn network(item: &Item<'_>, report: &mut Report) -> NetworkFile {
    let mut fields = item.fields(report);
    let base_url = fields.item("base_url").and_then(|item| item.word(report));
    let extra_headers = fields.item("extra_headers").map(|item| pairs(&item, report)).unwrap_or_default();
    let mut ms = |name: &'static str, unit: Unit, report: &mut Report| {
        let item = fields.item(name)?;
        // Bifrost reads 0 as "the default".
        item.duration_ms(report, Some(unit)).filter(|ms| *ms > 0).map(|ms| (item.at(), ms))
    };
    let mut file = NetworkFile {
        base_url,
        extra_headers,
        request_timeout: ms("default_request_timeout_in_seconds", Unit::Seconds, report).map(|(_, ms)| ms),
        token_gap: ms("stream_idle_timeout_in_seconds", Unit::Seconds, report).map(|(_, ms)| ms),
        idle: ms("keep_alive_timeout_in_seconds", Unit::Seconds, report).map(|(_, ms)| ms),
        backoff_initial: ms("retry_backoff_initial", Unit::Milliseconds, report).map(|(_, ms)| ms),
        backoff_max: ms("retry_backoff_max", Unit::Milliseconds, report),
        ..NetworkFile::default()
    };
    file.max_retries =
        fields.item("max_retries").and_then(|item| item.whole(report, 0, defaults::MAX_RETRIES_MOST));
    file.max_connections =
        fields.item("max_conns_per_host").and_then(|item| item.whole(report, 1, 1_000_000));
    fields.finish(report, &FOREIGN);
    file
}

fn client_keys(item: &Item<'_>, report: &mut Report) -> Vec<KeyFile> {
    if matches!(&item.node.value, Value::List(items) if items.is_empty()) {
        item.error(report, EMPTY_AUTH, AUTH_HELP);
    }
    keys(item, false, report)
}

/// A list of keys; an entry may be the value alone.
fn keys(item: &Item<'_>, weighted: bool, report: &mut Report) -> Vec<KeyFile> {
    let items = match item.node.value {
        Value::Text(_) | Value::Unset => vec![item.clone()],
        _ => item.list(report),
    };
    items.iter().filter_map(|item| key(item, weighted, report)).collect()
}

fn key(item: &Item<'_>, weighted: bool, report: &mut Report) -> Option<KeyFile> {
    let mut file = KeyFile {
        at: item.at(),
        path: item.path.clone(),
        name: None,
        value: None,
        weight: None,
        models: Vec::new(),
    };
    match item.node.value {
        Value::Text(_) => file.value = item.word(report),
        // Reported when the variable was looked up; the row stays, so that nobody says that there are no keys.
        Value::Unset => {}
        _ => {
            let mut fields = item.fields(report);
            file.name = fields.item("name").and_then(|item| item.word(report));
            let value = fields.item("value");
            if value.is_none() && matches!(item.node.value, Value::Map(_)) {
                let message = format!("`{}` has no value", item.path);
                item.error(report, message, "add `value: env.NAME` with the variable that holds the key");
            }
            file.value = value.and_then(|item| item.word(report));
            if weighted {
                file.weight = fields
                    .item("weight")
                    .and_then(|item| item.weight(report).map(|weight| (item.at(), weight)));
                file.models = words(&mut fields, "models", report);
            }
            fields.finish(report, &[]);
        }
    }
    Some(file)
}

/// A mapping of the user's own names to strings.
pub(super) fn pairs(item: &Item<'_>, report: &mut Report) -> Vec<(Word, Word)> {
    let members = item.members(report);
    let mut pairs = Vec::with_capacity(members.len());
    for (name, item) in members {
        if let Some(value) = item.word(report) {
            let path = item.path.clone();
            pairs.push((Word { text: name.text.clone(), variable: None, at: name.at, path }, value));
        }
    }
    pairs
}
