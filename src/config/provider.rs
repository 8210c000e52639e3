//! One provider, from its row in the file to its place in the plan.
//!
//! A known name brings its address, dialect and variables; any other name is a custom provider and brings
//! `base_url`. Keys of known providers are required, because a call without one only tells the provider who
//! forgot it; a custom provider may have none.
//!
//! Invariant: no message holds a key, an `extra_headers` value or a URL that came from a variable.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::bounds::{Retry, Timeouts};
use super::compile::{certificates, secret, timeouts};
use super::defaults;
use super::diagnostics::{At, Report, looks_secret, nearest, quoted};
use super::dialect::Dialect;
use super::env::Env;
use super::known::{Known, MOCK, Table};
use super::plan::{Key, Origin, Provider, Scheme};
use super::reader::{Word, join};
use super::schema::{KeyFile, ProviderFile};
use super::secret::Secret;
use super::values;

/// What all providers share.
pub(super) struct Common<'e> {
    pub table: &'e Table,
    pub env: Env<'e>,
    pub timeouts: Timeouts,
    pub idle_ms: u64,
    pub extra_ca: Vec<PathBuf>,
    pub directory: Option<&'e Path>,
}

/// Whether `provider` is the built-in mock, whose origin is filled in when it starts.
pub(super) fn is_mock(provider: &Provider) -> bool {
    *provider.name == *MOCK && provider.origin.port == 0
}

/// Compiles `file`; `None` when it cannot be one, with the reason reported.
pub(super) fn compile(file: &ProviderFile, common: &Common<'_>, report: &mut Report) -> Option<Provider> {
    let name = &file.name;
    if !well_named(&name.text) {
        let message = format!("{} cannot be a provider's name", name.shown());
        let help = "use letters, digits, `-`, `_` and `.`, at most 64; the name stands before the `/` in model names";
        report.error(name.at, &name.path, message, help);
        return None;
    }
    let known = common.table.row(&name.text);
    let dialect = file.dialect.unwrap_or_else(|| known.map_or(Dialect::OpenAi, row_dialect));
    let address = address(file, known, common, report);
    let keys = match (&file.keys, known) {
        (Some(rows), _) if !rows.is_empty() => keys(rows, &name.path, report),
        (_, Some(known)) => inferred_keys(file, known, common, report),
        (_, None) => Vec::new(),
    };
    check_weights(file, &keys, report);
    let effective = effective_timeouts(file, common);
    let mut extra_ca = common.extra_ca.clone();
    extra_ca.extend(certificates(&file.extra_ca_files, common.directory, report));
    let extra_headers = headers(&file.network.extra_headers, report);
    let (origin, base_path) = address?;
    if origin.scheme == Scheme::Http && !keys.is_empty() && !is_near(&origin.host) {
        let message = format!("keys of {} travel unencrypted over http", name.shown());
        let at = file.base_url.as_ref().or(file.network.base_url.as_ref()).map_or(name.at, |url| url.at);
        report.warn(at, &name.path, message, "use https, or keep the traffic inside a trusted network");
    }
    let count = |value: Option<u64>| value.and_then(|value| u32::try_from(value).ok());
    Some(Provider {
        name: name.text.as_str().into(),
        dialect,
        origin,
        base_path,
        keys,
        timeouts: effective,
        retry: retry(file, report),
        extra_headers,
        models: file.models.iter().map(|word| word.text.as_str().into()).collect(),
        breaker: file.blocks.breaker,
        cooldown: file.blocks.cooldown,
        retry_budget: file.blocks.retry_budget,
        bulkhead: file.blocks.bulkhead,
        max_connections: count(file.network.max_connections),
        idle_ms: file.network.idle.unwrap_or(common.idle_ms),
        extra_ca,
    })
}

/// Names stand in model names, headers and metric labels.
fn well_named(name: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    (1..=64).contains(&name.len())
        && name.bytes().all(fine)
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        // The end of a chain, not a provider.
        && name != "static"
}

fn row_dialect(known: &Known) -> Dialect {
    let wanted = known.dialect.as_deref().unwrap_or("openai");
    Dialect::NAMES.iter().find(|(name, _)| *name == wanted).map_or(Dialect::OpenAi, |(_, dialect)| *dialect)
}

fn address(
    file: &ProviderFile,
    known: Option<&Known>,
    common: &Common<'_>,
    report: &mut Report,
) -> Option<(Origin, Box<str>)> {
    let name = &file.name;
    if let (Some(first), Some(second)) = (&file.base_url, &file.network.base_url) {
        let message = format!("{} has two base URLs, the other at {}", name.shown(), report.place(first.at));
        report.error(second.at, &second.path, message, "keep one of the two");
        return None;
    }
    let parsed = if let Some(url) = file.base_url.as_ref().or(file.network.base_url.as_ref()) {
        match values::base_url(&url.text, false) {
            Ok(parsed) => Some(parsed),
            Err(why) => {
                let message = format!("`{}` {why}", url.path);
                let help = "write for example https://llm.example.com/v1 or http://127.0.0.1:9101";
                report.error(url.at, &url.path, message, help);
                None
            }
        }
    } else if let Some(url) = known.and_then(|known| known.url.as_deref()) {
        values::base_url(url, true).ok()
    } else if name.text == MOCK {
        Some((Origin { scheme: Scheme::Http, host: "127.0.0.1".into(), port: 0 }, "/v1".into()))
    } else {
        report.error(
            name.at,
            &name.path,
            format!("{} needs a base URL", name.shown()),
            no_url_help(name, known, common),
        );
        None
    };
    let path = match &file.base_path {
        None => None,
        Some(word) => match values::base_path(&word.text) {
            Ok(path) => Some(path.into()),
            Err(why) => {
                report.error(word.at, &word.path, format!("`{}` {why}", word.path), "write for example /v1");
                None
            }
        },
    };
    let (origin, own) = parsed?;
    Some((origin, path.unwrap_or(own)))
}

fn no_url_help(name: &Word, known: Option<&Known>, common: &Common<'_>) -> String {
    if let Some(example) = known.and_then(|known| known.example.as_deref()) {
        return format!("add `base_url`, for example {example}");
    }
    let ids = common.table.0.iter().map(|known| known.id.as_str());
    let nearest = nearest(&name.text, ids);
    let add = "for a provider of your own add `base_url`";
    nearest.map_or_else(|| add.to_owned(), |near| format!("did you mean `{near}`? {add}"))
}

/// Keys of a known provider whose row in the file has none.
fn inferred_keys(file: &ProviderFile, known: &Known, common: &Common<'_>, report: &mut Report) -> Vec<Key> {
    for variable in &known.env {
        if let Some(Ok(secret)) = (common.env)(variable).map(|value| secret(&value)) {
            let name = variable.as_str().into();
            return vec![Key { name, secret, weight: defaults::KEY_WEIGHT, models: None }];
        }
    }
    if !known.keyless {
        let message = format!("{} has no keys", file.name.shown());
        let path = join(&file.name.path, "keys");
        let help = format!("set {}, or add `{path}` with `value: env.NAME` entries", known.variables());
        report.error(file.name.at, &file.name.path, message, help);
    }
    Vec::new()
}

/// Credentials with unique names. `owner` is the path above the list.
pub(super) fn keys(rows: &[KeyFile], owner: &str, report: &mut Report) -> Vec<Key> {
    let mut keys = Vec::with_capacity(rows.len());
    let mut taken: HashSet<String> = HashSet::new();
    for (index, row) in rows.iter().enumerate() {
        if index >= defaults::PROVIDERS_MAX {
            report.error(row.at, &row.path, "too many keys", format!("at most {}", defaults::PROVIDERS_MAX));
            break;
        }
        let Some(value) = &row.value else { continue };
        let secret = match secret(&value.text) {
            Ok(secret) => secret,
            Err(why) => {
                let subject = match &value.variable {
                    Some(variable) => format!("environment variable `{variable}`"),
                    None => format!("`{}`", value.path),
                };
                let help = "a key is one line of visible characters; set it again without quotes or breaks";
                report.error(value.at, &value.path, format!("{subject} {why}"), help);
                continue;
            }
        };
        if value.variable.is_none() {
            let message = format!("the key at `{}` stands in the clear", value.path);
            report.warn(
                value.at,
                &value.path,
                message,
                "write `env.NAME` and keep the key in the environment",
            );
        }
        let name = key_name(row, value, index);
        if looks_secret(&name) {
            let help = "names are printed in logs and metrics; use a short word";
            report.error(
                row.at,
                &row.path,
                format!("the name of the key at `{}` looks like a key", row.path),
                help,
            );
            continue;
        }
        if !taken.insert(name.clone()) {
            let message = format!(
                "two keys of `{owner}` are called {}",
                row.name.as_ref().map_or_else(|| quoted(&name), Word::shown)
            );
            report.error(row.at, &row.path, message, "give each a `name` of its own, or remove one");
        }
        let models: Vec<Box<str>> = row.models.iter().map(|word| word.text.as_str().into()).collect();
        // Bifrost writes "all models" as a star.
        let all = models.is_empty() || models.iter().any(|model| **model == *"*");
        keys.push(Key {
            name: name.into(),
            secret,
            weight: row.weight.map_or(defaults::KEY_WEIGHT, |(_, weight)| weight),
            models: (!all).then_some(models),
        });
    }
    keys
}

fn key_name(row: &KeyFile, value: &Word, index: usize) -> String {
    match (&row.name, &value.variable) {
        (Some(name), _) => name.text.clone(),
        (None, Some(variable)) => variable.clone(),
        (None, None) => format!("key-{}", index + 1),
    }
}

fn check_weights(file: &ProviderFile, keys: &[Key], report: &mut Report) {
    let Some(rows) = &file.keys else { return };
    let written: Vec<At> = rows.iter().filter_map(|row| row.weight.map(|(at, _)| at)).collect();
    let Some(first) = written.first() else { return };
    let path = join(&file.name.path, "keys");
    if keys.len() == rows.len() && keys.iter().map(|key| key.weight).sum::<f64>() <= 0.0 {
        let help = "give at least one key a weight above 0, or leave all weights out";
        report.error(*first, &path, format!("all keys of {} have weight 0", file.name.shown()), help);
    } else if written.len() < rows.len() {
        let message = format!("some keys of {} have a weight and some do not", file.name.shown());
        let help = format!("a missing weight counts as {}; write one for each key", defaults::KEY_WEIGHT);
        report.warn(*first, &path, message, help);
    }
}

fn effective_timeouts(file: &ProviderFile, common: &Common<'_>) -> Timeouts {
    let own = timeouts(&file.timeouts, common.timeouts);
    Timeouts {
        attempt_ms: file.network.request_timeout.or(own.attempt_ms),
        token_gap_ms: file.network.token_gap.unwrap_or(own.token_gap_ms),
        ..own
    }
}

fn retry(file: &ProviderFile, report: &mut Report) -> Retry {
    let base = file.blocks.retry;
    let most = file.network.backoff_max.map(|(_, ms)| ms);
    let backoff_initial_ms = file.network.backoff_initial.unwrap_or(base.backoff_initial_ms);
    let backoff_max_ms = most.unwrap_or(base.backoff_max_ms.max(backoff_initial_ms));
    if let Some((at, _)) = file.network.backoff_max
        && backoff_initial_ms > backoff_max_ms
    {
        let message = format!("the first backoff of {} is longer than its longest", file.name.shown());
        report.error(
            at,
            &file.name.path,
            message,
            "raise `retry_backoff_max` or lower `retry_backoff_initial`",
        );
    }
    let max_retries = file.network.max_retries.and_then(|count| u32::try_from(count).ok());
    Retry { max_retries: max_retries.or(base.max_retries), backoff_initial_ms, backoff_max_ms }
}

/// Header fields with their values, names in lower case.
pub(super) fn headers(pairs: &[(Word, Word)], report: &mut Report) -> Vec<(Box<str>, Secret)> {
    /// Fields the gateway writes itself; a second one would change how the request is read.
    const OWN: [&str; 10] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "proxy-connection",
    ];
    let mut headers: Vec<(Box<str>, Secret)> = Vec::with_capacity(pairs.len());
    for (name, value) in pairs {
        let lower = name.text.to_ascii_lowercase();
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if lower.is_empty() || !lower.bytes().all(token) {
            let help = "use letters, digits and dashes";
            report.error(name.at, &name.path, format!("{} is not a header's name", name.shown()), help);
        } else if OWN.contains(&lower.as_str()) {
            let message = format!("the header {} belongs to the gateway", name.shown());
            report.error(name.at, &name.path, message, "remove it");
        } else if headers.iter().any(|(own, _)| **own == *lower) {
            let message = format!("the header {} stands twice", name.shown());
            report.error(name.at, &name.path, message, "header names ignore case; keep one");
        } else {
            match secret(&value.text) {
                Ok(secret) => headers.push((lower.into(), secret)),
                Err(why) => report.error(value.at, &value.path, format!("`{}` {why}", value.path), ""),
            }
        }
    }
    headers
}

/// Whether `host` is on this machine or on a private network, where plain HTTP is the owner's business.
pub(super) fn is_near(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(own)) => own.is_loopback() || own.is_private() || own.is_link_local(),
        Ok(IpAddr::V6(own)) => own.is_loopback() || own.is_unique_local() || own.is_unicast_link_local(),
        // A name without a dot is one of a container network or of this machine.
        Err(_) => {
            !host.contains('.')
                || [".localhost", ".local", ".internal", ".svc"].iter().any(|end| host.ends_with(end))
        }
    }
}
