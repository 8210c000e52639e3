//! `traces`: where spans of exchanges are sent, and of which.
//!
//! A file that says nothing of traces leaves it to the variables that every OpenTelemetry program reads: the endpoint and
//! the protocol here, headers, service name and resource attributes in the exporter's own library. What the file states
//! goes before a variable.
//!
//! Limits: traces alone; metrics have their page, and logs their file.

use std::path::PathBuf;

use super::books;
use super::defaults;
use super::diagnostics::{At, Report};
use super::env::Env;
use super::plan::{Origin, Scheme};
use super::provider::{self, is_near};
use super::reader::{Fields, Item, Word};
use super::schema::pairs;
use super::secret::Secret;
use super::tree::Value;
use super::values;

/// Resource attributes that a file may state.
const RESOURCE_MAX: usize = 32;

/// How spans travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracesProtocol {
    /// Protobuf over HTTP, usually on port 4318.
    Http,
    /// gRPC, usually on port 4317.
    Grpc,
}

impl TracesProtocol {
    const NAMES: [(&'static str, TracesProtocol); 2] =
        [("http", TracesProtocol::Http), ("grpc", TracesProtocol::Grpc)];

    /// Reads the variables' words for it.
    fn of_variable(word: &str) -> Option<TracesProtocol> {
        match word.trim() {
            "http/protobuf" => Some(TracesProtocol::Http),
            "grpc" => Some(TracesProtocol::Grpc),
            _ => None,
        }
    }
}

/// Where spans go, and which.
#[derive(Clone, Debug, PartialEq)]
pub struct TracesConfig {
    /// The collector.
    pub origin: Origin,
    /// The path of the collector's endpoint; empty for gRPC.
    pub path: Box<str>,
    /// How they travel.
    pub protocol: TracesProtocol,
    /// Sent along, in lower case.
    pub headers: Vec<(Box<str>, Secret)>,
    /// Share of the traces that begin here and are sampled, 0 to 1. A trace that began elsewhere was decided there.
    pub sample: f64,
    /// Exchanges that failed are sent whatever was decided.
    pub failed: bool,
    /// So are those that took at least so long, milliseconds.
    pub slower_than_ms: Option<u64>,
    /// `service.name`; `None` leaves it to the variables, and else it is `sluice`.
    pub service_name: Option<Box<str>>,
    /// More attributes of the resource.
    pub resource: Vec<(Box<str>, Box<str>)>,
    /// How long one delivery may take, its repetitions included.
    pub timeout_ms: u64,
    /// CA files to trust beside the built-in roots.
    pub extra_ca: Vec<PathBuf>,
}

/// `traces` as written.
#[derive(Default)]
pub(super) struct TracesFile {
    /// The file says something, and where.
    stated: Option<At>,
    off: bool,
    endpoint: Option<Word>,
    protocol: Option<TracesProtocol>,
    headers: Vec<(Word, Word)>,
    sample: Option<f64>,
    failed: Option<bool>,
    slower_than_ms: Option<u64>,
    service_name: Option<Word>,
    resource: Vec<(Word, Word)>,
    timeout_ms: Option<u64>,
}

impl TracesFile {
    /// Reports what cannot be. Of a file that says nothing of traces nothing is refused: the variables may be meant for
    /// others, and answers are worth more.
    fn refuse(&self, at: At, path: &str, message: String, help: &str, report: &mut Report) {
        match self.stated {
            Some(_) => report.error(at, path, message, help),
            None => report.warn(at, path, format!("{message}, so nothing is traced"), help),
        }
    }
}

/// Reads `traces`.
pub(super) fn read(fields: &mut Fields<'_>, report: &mut Report) -> TracesFile {
    let Some(item) = fields.item("traces") else { return TracesFile::default() };
    let mut file = TracesFile { stated: Some(item.at()), ..TracesFile::default() };
    if let Some(on) = item.switch() {
        return TracesFile { off: !on, ..file };
    }
    if let Value::Text(_) = item.node.value {
        return TracesFile { endpoint: item.word(report), ..file };
    }
    let mut fields = item.fields(report);
    file.endpoint = fields.item("endpoint").and_then(|item| item.word(report));
    file.protocol = fields.item("protocol").and_then(|item| item.choice(report, &TracesProtocol::NAMES));
    file.headers = fields.item("headers").map(|item| pairs(&item, report)).unwrap_or_default();
    file.sample = fields.item("sample").and_then(|item| books::share(&item, report));
    if let Some(item) = fields.item("always") {
        let mut fields = item.fields(report);
        file.failed = fields.item("failed").and_then(|item| switch(&item, report));
        file.slower_than_ms =
            fields.or_off("slower_than", None, report, |item, report| item.positive_ms(report));
        fields.finish(report, &[]);
    }
    file.service_name = fields.item("service_name").and_then(|item| item.word(report));
    file.resource = fields.item("resource").map(|item| pairs(&item, report)).unwrap_or_default();
    file.timeout_ms = fields.item("timeout").and_then(|item| item.positive_ms(report));
    fields.finish(report, &[]);
    file
}

fn switch(item: &Item<'_>, report: &mut Report) -> Option<bool> {
    let on = item.switch();
    if on.is_none() {
        item.error(report, format!("`{}` is neither on nor off", item.path), "write on or off");
    }
    on
}

/// What of it is in force; `None`: no traces.
pub(super) fn compile(
    file: &TracesFile,
    extra_ca: &[PathBuf],
    env: Env<'_>,
    report: &mut Report,
) -> Option<TracesConfig> {
    const HELP: &str = "write for example `traces: http://localhost:4318`";
    let said = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let silenced = said("OTEL_SDK_DISABLED").is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
        || said("OTEL_TRACES_EXPORTER").is_some_and(|value| value.trim() == "none");
    if file.off || (file.stated.is_none() && silenced) {
        return None;
    }
    let at = file.endpoint.as_ref().map(|word| word.at).or(file.stated).unwrap_or(At::Nowhere);
    const COMMON: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    // The signal's own variable names the whole path, the other one the beginning of it.
    const OWN: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    let of_variable = || [OWN, COMMON].iter().find_map(|name| said(name).map(|url| (*name, url)));
    let (subject, url, whole) = match &file.endpoint {
        Some(word) => (format!("`{}`", word.path), word.text.clone(), false),
        None => match of_variable() {
            Some((name, url)) => (format!("environment variable `{name}`"), url, name == OWN),
            None if file.stated.is_some() => {
                report.error(at, "traces", "`traces` does not say where they go", HELP);
                return None;
            }
            None => return None,
        },
    };
    let protocol = protocol(file, &said, report)?;
    let (origin, path) = match values::base_url(url.trim(), true) {
        Ok(parsed) => parsed,
        Err(why) => {
            file.refuse(at, "traces.endpoint", format!("{subject} {why}"), HELP, report);
            return None;
        }
    };
    let path = match protocol {
        TracesProtocol::Grpc if !path.is_empty() => {
            let help = "gRPC has no paths; write for example http://localhost:4317, or `protocol: http`";
            file.refuse(at, "traces.endpoint", format!("{subject} has a path"), help, report);
            return None;
        }
        TracesProtocol::Http if !whole && !path.ends_with("/v1/traces") => format!("{path}/v1/traces").into(),
        _ => path,
    };
    let headers = provider::headers(&file.headers, report);
    if !headers.is_empty() && origin.scheme == Scheme::Http && !is_near(&origin.host) {
        let help = "use https, or a collector on this machine or in this network";
        report.warn(at, "traces.headers", "headers of traces cross the network in the clear", help);
    }
    if file.sample == Some(0.0) && file.failed == Some(false) && file.slower_than_ms.is_none() {
        let help = "raise `traces.sample`, set `traces.always.failed`, or write `traces: off`";
        report.warn(
            at,
            "traces.sample",
            "only traces that begin elsewhere and are sampled there are sent",
            help,
        );
    }
    Some(TracesConfig {
        origin,
        path,
        protocol,
        headers,
        sample: file.sample.unwrap_or(1.0),
        failed: file.failed.unwrap_or(true),
        slower_than_ms: file.slower_than_ms,
        service_name: file.service_name.as_ref().map(|word| word.text.as_str().into()),
        resource: resource(&file.resource, report),
        timeout_ms: file.timeout_ms.unwrap_or(defaults::TRACES_TIMEOUT_MS),
        extra_ca: extra_ca.to_vec(),
    })
}

/// The protocol; `None` when that was refused.
fn protocol(
    file: &TracesFile,
    said: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<TracesProtocol> {
    if let Some(protocol) = file.protocol {
        return Some(protocol);
    }
    for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
        // A file that names the endpoint is not surprised by a variable that was meant for another one.
        let Some(word) = said(name).filter(|_| file.endpoint.is_none()) else { continue };
        let known = TracesProtocol::of_variable(&word);
        if known.is_none() {
            let message = format!("environment variable `{name}` names a protocol that is not spoken here");
            file.refuse(At::Nowhere, "traces.protocol", message, "set it to http/protobuf or grpc", report);
        }
        return known;
    }
    Some(TracesProtocol::Http)
}

fn resource(pairs: &[(Word, Word)], report: &mut Report) -> Vec<(Box<str>, Box<str>)> {
    if let Some((name, _)) = pairs.get(RESOURCE_MAX) {
        let help = format!("at most {RESOURCE_MAX} fit");
        report.error(name.at, &name.path, "`traces.resource` has too many entries", help);
    }
    pairs.iter().map(|(name, value)| (name.text.as_str().into(), value.text.as_str().into())).collect()
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    fn load_with(text: &str, env: &[(&str, &str)]) -> Result<(Option<TracesConfig>, Vec<String>), String> {
        let loader = Loader { file: Some("/etc/sluice/t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {text}}}");
        let env = |name: &str| env.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
        let plan = loader.load_text(&text, &env).map_err(|error| error.to_string())?;
        Ok((plan.traces, plan.warnings.iter().map(ToString::to_string).collect()))
    }

    fn load(text: &str) -> Result<Option<TracesConfig>, String> {
        load_with(text, &[]).map(|(traces, _)| traces)
    }

    fn url(traces: &TracesConfig) -> String {
        format!("{}{}", traces.origin.authority(), traces.path)
    }

    #[test]
    fn nothing_is_traced_until_it_is_said_where_to() {
        for text in ["", "traces: off"] {
            assert_eq!(load(text).unwrap(), None, "{text}");
        }
        let plain = load("traces: http://localhost:4318").unwrap().unwrap();
        assert_eq!(
            (url(&plain).as_str(), plain.protocol),
            ("localhost:4318/v1/traces", TracesProtocol::Http)
        );
        assert_eq!((plain.sample, plain.failed, plain.slower_than_ms), (1.0, true, None));
        assert_eq!((plain.service_name, plain.timeout_ms), (None, 10_000));
        let text = "traces: {endpoint: 'https://c.example.com:4317', protocol: grpc, headers: {X-Token: secret-1}, \
                    sample: 0.1, always: {failed: off, slower_than: 30s}, service_name: llm, \
                    resource: {deployment.environment.name: prod}, timeout: 5s}";
        let all = load(text).unwrap().unwrap();
        assert_eq!((url(&all).as_str(), all.protocol), ("c.example.com:4317", TracesProtocol::Grpc));
        assert_eq!((&*all.headers[0].0, all.headers[0].1.expose()), ("x-token", "secret-1"));
        assert_eq!((all.sample, all.failed, all.slower_than_ms), (0.1, false, Some(30_000)));
        assert_eq!(all.resource, [("deployment.environment.name".into(), "prod".into())]);
        assert!(!format!("{all:?}").contains("secret-1"));
    }

    #[test]
    fn the_usual_variables_count_where_the_file_says_nothing() {
        const COMMON: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel:4318/");
        let of =
            |text: &str, env: &[(&str, &str)]| load_with(text, env).unwrap().0.map(|t| (url(&t), t.protocol));
        let http = |url: &str| Some((url.to_owned(), TracesProtocol::Http));
        assert_eq!(of("", &[COMMON]), http("otel:4318/v1/traces"));
        assert_eq!(of("traces: {sample: 0.5}", &[COMMON]), http("otel:4318/v1/traces"));
        assert_eq!(of("traces: http://file:1", &[COMMON]), http("file:1/v1/traces"));
        assert_eq!(of("traces: off", &[COMMON]), None);
        assert_eq!(of("", &[COMMON, ("OTEL_SDK_DISABLED", "true")]), None);
        assert_eq!(of("", &[COMMON, ("OTEL_TRACES_EXPORTER", "none")]), None);
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own:9/spans");
        assert_eq!(of("", &[COMMON, own]), http("own:9/spans"));
        let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
        assert_eq!(of("", &[COMMON, grpc]), Some(("otel:4318".to_owned(), TracesProtocol::Grpc)));
        assert_eq!(of("traces: http://file:1", &[grpc]), http("file:1/v1/traces"));
        for (variables, words) in [
            (
                vec![COMMON, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")],
                "`OTEL_EXPORTER_OTLP_PROTOCOL` names",
            ),
            (
                vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "user:pw@x")],
                "`OTEL_EXPORTER_OTLP_ENDPOINT` must start with http",
            ),
        ] {
            let (traces, warnings) = load_with("", &variables).unwrap();
            assert_eq!((traces, warnings.len()), (None, 1), "{words}");
            assert!(warnings[0].contains(words) && !warnings[0].contains("pw"), "{}", warnings[0]);
            let refused = load_with("traces: {sample: 0.5}", &variables).unwrap_err();
            assert!(refused.contains(words), "{refused}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        for (text, words) in [
            ("traces: on", "does not say where"),
            ("traces: {sample: 1}", "does not say where"),
            ("traces: {endpoint: 'localhost:4318'}", "must start with http"),
            ("traces: {endpoint: 'http://u:p@h'}", "user name"),
            ("traces: {endpoint: 'http://h', sample: 2}", "from 0 to 1"),
            ("traces: {endpoint: 'http://h', protocol: gprc}", "did you mean `grpc`"),
            ("traces: {endpoint: 'http://h/x', protocol: grpc}", "has a path"),
            ("traces: {endpont: 'http://h'}", "did you mean `endpoint`"),
            ("traces: {endpoint: 'http://h', always: {failed: maybe}}", "neither on nor off"),
            ("traces: {endpoint: 'http://h', always: {slower: 1s}}", "did you mean `slower_than`"),
            ("traces: {endpoint: 'http://h', headers: {'a b': c}}", "is not a header's name"),
            ("traces: {endpoint: 'http://h', resource: {a: 1}}", "quotes"),
            ("traces: {endpoint: 'http://h', timeout: 0s}", "more than nothing"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
        }
        let many: Vec<String> = (0..33).map(|n| format!("a{n}: x")).collect();
        let text =
            |n: usize| format!("traces: {{endpoint: 'http://h', resource: {{{}}}}}", many[..n].join(", "));
        assert!(load(&text(32)).is_ok());
        assert!(load(&text(33)).unwrap_err().contains("at most 32"));
    }

    #[test]
    fn settings_that_do_nothing_or_tell_too_much_are_said() {
        for (text, warnings) in [
            ("{endpoint: 'http://127.0.0.1:1', headers: {a: b}}", 0),
            ("{endpoint: 'http://c.example.com', headers: {a: b}}", 1),
            ("{endpoint: 'https://c.example.com', headers: {a: b}}", 0),
            ("{endpoint: 'http://h', sample: 0}", 0),
            ("{endpoint: 'http://h', sample: 0, always: {failed: off}}", 1),
        ] {
            let (_, said) = load_with(&format!("traces: {text}"), &[]).unwrap();
            assert_eq!(said.len(), warnings, "{text}: {said:?}");
        }
    }
}
