//! Which level an effective setting comes from: a route, a provider, the top level, or nobody, which is the default.
//!
//! Keys are named as the file's own blocks have them (`timeouts.attempt`, `breaker.slow_call`); a provider may have
//! written one under Bifrost's name.

use super::diagnostics::Report;
use super::plan::{Plan, Provider, Route};
use super::reader::{Item, join};
use super::tree::Value;

/// Settings of a provider that Bifrost has under another name.
const SAME: [([&str; 2], [&str; 2]); 7] = [
    (["timeouts", "attempt"], ["network_config", "default_request_timeout_in_seconds"]),
    (["timeouts", "token_gap"], ["network_config", "stream_idle_timeout_in_seconds"]),
    (["retry", "max_retries"], ["network_config", "max_retries"]),
    (["retry", "backoff_initial"], ["network_config", "retry_backoff_initial"]),
    (["retry", "backoff_max"], ["network_config", "retry_backoff_max"]),
    (["bulkhead", "concurrent"], ["concurrency_and_buffer_size", "concurrency"]),
    (["bulkhead", "queue"], ["concurrency_and_buffer_size", "buffer_size"]),
];

/// Who wrote a setting; a later one goes before an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Default,
    Top,
    Provider,
    Route,
}

impl Level {
    /// The word for it in an explanation.
    pub(super) fn word(self) -> &'static str {
        match self {
            Level::Default => "default",
            Level::Top => "top level",
            Level::Provider => "provider",
            Level::Route => "route",
        }
    }
}

/// Who wrote a setting, and its dotted path; empty when nobody did.
pub(super) struct Source {
    pub level: Level,
    pub path: String,
}

/// Where the settings of one pair of route and provider are looked for.
#[derive(Clone, Copy)]
pub(super) struct Origins<'p> {
    pub plan: &'p Plan,
    pub provider: Option<&'p Provider>,
    pub route: Option<&'p Route>,
}

impl Origins<'_> {
    /// Who wrote `key`.
    pub(super) fn of(&self, key: &str) -> Source {
        let written = |level, path: String| {
            let known = self.plan.places.is_written(&path);
            known.then_some(Source { level, path })
        };
        let of_route = self.route.and_then(|route| written(Level::Route, format!("{}.{key}", route.path)));
        let of_provider = || {
            let base = join("providers", &self.provider?.name);
            let other = key.split_once('.').and_then(|(block, name)| {
                SAME.iter()
                    .find(|(own, _)| *own == [block, name])
                    .map(|(_, [block, name])| format!("{base}.{block}.{name}"))
            });
            let own = written(Level::Provider, format!("{base}.{key}"));
            own.or_else(|| written(Level::Provider, other?))
        };
        of_route
            .or_else(of_provider)
            .or_else(|| written(Level::Top, key.to_owned()))
            .unwrap_or(Source { level: Level::Default, path: String::new() })
    }
}

/// Refuses settings of the provider `item` that are written under both their names.
pub(super) fn refuse_both_names(item: &Item<'_>, report: &mut Report) {
    let find = |[block, name]: [&str; 2]| {
        let node = item.node.member(block)?.member(name)?;
        (!matches!(node.value, Value::Null)).then_some(node)
    };
    for (own, other) in SAME {
        if let (Some(_), Some(second)) = (find(own), find(other)) {
            let message = format!("`{}.{}` and `{}.{}` say the same", own[0], own[1], other[0], other[1]);
            let path = join(&join(&item.path, other[0]), other[1]);
            report.error(second.at, &path, message, "keep one of the two");
        }
    }
}
