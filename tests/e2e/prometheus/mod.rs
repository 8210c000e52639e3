//! A real Prometheus reads the gateway, and everything that is delivered for it is asked there: the recipes of the docs, the
//! queries of the dashboard, the alerts. Their answers are compared with what scripted providers and clients counted.
//!
//! Needs `prometheus` and `promtool` (Debian's package `prometheus`), so it runs when `SLUICE_METRICS_TESTS=1` says that
//! they are there.

mod load;
mod ready;
mod server;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::books::lines;
use crate::metrics::Page;
use load::World;
use server::Prometheus;

/// A native range is 9.05 % wide.
const RANGE: f64 = 1.0906;

/// Whether Prometheus is there; says why not.
fn ready() -> bool {
    let on = std::env::var("SLUICE_METRICS_TESTS").as_deref() == Ok("1");
    if !on {
        println!(
            "SKIPPED: the tests with a real Prometheus: SLUICE_METRICS_TESTS is not 1 (`apt-get install prometheus`)"
        );
    }
    on
}

fn promtool(arguments: &[&str]) {
    let out = Command::new("promtool").args(arguments).current_dir(ready::folder()).output().unwrap();
    let said = String::from_utf8([out.stdout, out.stderr].concat()).unwrap();
    println!("{said}");
    assert!(out.status.success(), "{said}");
}

#[test]
fn every_alert_fires_when_it_should_and_is_silent_when_it_should_be() {
    let alerts = std::fs::read_to_string(ready::folder().join("alerts.yaml")).unwrap();
    let tests = std::fs::read_to_string(ready::folder().join("alerts_test.yaml")).unwrap();
    for name in alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let of: Vec<&str> = tests.split(&format!("alertname: {name}")).skip(1).collect();
        let fires = |rest: &&&str| rest.trim_start().starts_with("exp_alerts");
        let (loud, all) = (of.iter().filter(fires).count(), of.len());
        assert!(loud > 0 && loud < all, "{name} has {loud} tests that it fires, of {all}");
    }
    if ready() {
        promtool(&["check", "rules", "alerts.yaml"]);
        promtool(&["test", "rules", "alerts_test.yaml"]);
    }
}

#[test]
fn the_dashboard_and_the_alerts_ask_for_metrics_that_the_docs_explain() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observability.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let alerts = std::fs::read_to_string(ready::folder().join("alerts.yaml")).unwrap();
    let queries: Vec<String> =
        ready::dashboard().into_iter().map(|(_, query)| query).chain([alerts]).collect();
    let mut found = 0;
    for query in &queries {
        let words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for name in words.filter(|word| word.starts_with("sluice_")) {
            let name = name.strip_suffix("_bucket").unwrap_or(name);
            assert!(docs.contains(&format!("`{name}`")), "{name} is not in docs/observability.md");
            found += 1;
        }
    }
    assert!(found > 80, "{found}");
}

#[test]
fn a_real_prometheus_answers_the_recipes_and_the_dashboard_with_what_was_counted() {
    if !ready() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("access.log");
    let world = World::start(&log);
    let addr = world.gateway.addr();
    // Before anybody looks: what the first scrape finds is no increase, whatever came when.
    world.begin();
    let classic = Prometheus::start(&directory.path().join("classic"), addr, false);
    let native = Prometheus::start(&directory.path().join("native"), addr, true);
    let both = [&classic, &native];
    let caught_up = || {
        for prometheus in both {
            // An exchange whose client left may be counted a little later.
            let all = || Page::of(addr).sum("sluice_requests_total", &[]);
            let so = |p: &Prometheus| p.number("sum(sluice_requests_total)") == all();
            prometheus.wait("Prometheus has seen all requests", so);
        }
    };
    caught_up();
    // One more scrape, so that what follows is an increase.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let before = (world.spent(), lines(&log).len());
    world.run(12);
    caught_up();
    std::thread::sleep(std::time::Duration::from_millis(1500));
    for prometheus in both {
        let all = Page::of(addr).sum("sluice_requests_total", &[]);
        prometheus.stay_when("a scrape has all requests", |p| p.number("sum(sluice_requests_total)") == all);
    }

    for prometheus in both {
        the_step_that_spends_most(prometheus, &world, &before.0);
        us_or_the_provider(prometheus, &world);
        every_panel_has_data(prometheus);
        alerts_are_evaluated(prometheus);
    }
    native_histograms_say_the_truth(&native, &log, before.1);
    // By itself it asks for OpenMetrics, with native histograms for protobuf, which has them in place of the classic ones.
    assert!(classic.knows("sluice_requests") && !classic.knows("sluice_requests_total"));
    assert!(native.knows("sluice_requests_total") && !native.knows("sluice_requests"));
    assert!(!classic.rows("sluice_overhead_seconds_bucket").is_empty());
    assert!(native.rows("sluice_overhead_seconds_bucket").is_empty());
    let samples = native.number("scrape_samples_scraped{job=\"sluice\"}");
    println!("series: {} native, {}", samples, classic.number("scrape_samples_scraped{job=\"sluice\"}"));
}

fn the_step_that_spends_most(prometheus: &Prometheus, world: &World, before: &BTreeMap<[String; 2], u64>) {
    let [exact, window, share, wasted] = &ready::recipes("Which step spends most")[..] else {
        panic!("the recipes are others than this test knows");
    };
    let truth = world.spent();
    let labels = ["pipeline", "step"];
    let said = prometheus.by(exact, labels);
    for (step, nano_usd) in &truth {
        assert!((said[step] - *nano_usd as f64 / 1e9).abs() < 1e-12, "{step:?}: {} {nano_usd}", said[step]);
    }
    assert_eq!(truth.values().sum::<u64>(), world.counted_nano_usd(), "clients and providers");

    let delta: BTreeMap<_, f64> =
        truth.iter().map(|(step, nano)| (step.clone(), (*nano - before[step]) as f64 / 1e9)).collect();
    let dearest = delta.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    let said = prometheus.by(window, labels);
    let most = said.iter().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
    assert_eq!((most, most[1].as_str()), (dearest, "judge"), "{said:?}");
    // `increase` extends what it saw to the ends of its window, by less than two scrapes; that is a factor, the same for
    // all, and gone in their shares.
    let all: f64 = delta.values().sum();
    let shares = prometheus.by(share, labels);
    for (step, usd) in &delta {
        assert!((1.0 - 1e-9..1.4).contains(&(said[step] / usd)), "{step:?}: {} {usd}", said[step]);
        assert!((shares[step] - usd / all).abs() < 0.03, "{step:?}: {} {}", shares[step], usd / all);
    }
    println!(
        "judge spends {:.1} %, Prometheus says {:.1} %",
        delta[dearest] / all * 100.0,
        shares[dearest] * 100.0
    );
    let wasted = prometheus.by(wasted, ["provider", "kind"]);
    assert!(wasted[&["checked".to_owned(), "failed".to_owned()]] > 0.0, "{wasted:?}");
}

fn us_or_the_provider(prometheus: &Prometheus, world: &World) {
    let [calls, failing, refused, overhead, overhead_native, open] =
        &ready::recipes("Was it us or the provider")[..]
    else {
        panic!("the recipes are others than this test knows");
    };
    let said = prometheus.by(calls, ["provider", "result"]);
    for (name, mock) in [("alpha", &world.alpha), ("bravo", &world.bravo), ("down", &world.down)] {
        let mut counted = BTreeMap::new();
        for (status, n) in mock.counts().statuses {
            let result = if status == 200 { "ok".to_owned() } else { status.to_string() };
            counted.insert([name.to_owned(), result], n as f64);
        }
        let of: BTreeMap<_, _> =
            said.iter().filter(|(key, _)| key[0] == name).map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(of, counted, "{name}");
    }
    let said = prometheus.by(failing, ["provider", "result"]);
    assert!(said[&["alpha".to_owned(), "503".to_owned()]] > 0.0, "{said:?}");
    assert!(!said.keys().any(|[provider, _]| provider == "bravo"), "{said:?}");
    let nonsense = world.nonsense.load(Ordering::Relaxed) as f64;
    assert_eq!(prometheus.by(refused, ["reason"])[&["invalid_json".to_owned()]], nonsense);
    let us: Vec<f64> = [overhead, overhead_native]
        .iter()
        .flat_map(|query| prometheus.rows(query))
        .map(|row| row.1)
        .collect();
    // Either form of a histogram is there, never both. It was not us: an answer takes 30 ms at least.
    assert!(us.len() == 1 && us[0] > 0.0, "{us:?}");
    println!("99 % of overhead is below {:.0} us", us[0] * 1e6);
    let said = prometheus.by(open, ["provider"]);
    assert!(said.contains_key(&["dead".to_owned()]), "{said:?}");
    assert!(!said.keys().any(|[provider]| ["alpha", "bravo"].contains(&provider.as_str())), "{said:?}");
}

fn every_panel_has_data(prometheus: &Prometheus) {
    let queries = ready::dashboard();
    let mut bad = Vec::new();
    for (title, query) in &queries {
        match prometheus.query(query) {
            Ok(rows) if rows.iter().any(|row| row.1.is_finite()) => {}
            Ok(rows) => bad.push(format!("{title}: {} rows and no number: {query}", rows.len())),
            Err(e) => bad.push(format!("{title}: {e}: {query}")),
        }
    }
    println!("{} queries of the dashboard", queries.len());
    assert!(bad.is_empty(), "{}", bad.join("\n"));
}

fn alerts_are_evaluated(prometheus: &Prometheus) {
    let alerts = prometheus.alerts();
    assert!(alerts.len() >= 12);
    for alert in &alerts {
        assert_eq!(alert["health"], "ok", "{alert}");
    }
    let state = |name: &str| alerts.iter().find(|alert| alert["name"] == name).unwrap()["state"].clone();
    assert_eq!(state("SluiceDown"), "inactive");
    assert_eq!(state("SluicePanic"), "inactive");
    // It has been so for seconds, and has to be so for minutes.
    assert_eq!(state("SluiceProviderDown"), "pending");
}

/// The value of which this share is below, of sorted ones.
fn at(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() as f64 * share) as usize).min(sorted.len() - 1)]
}

fn native_histograms_say_the_truth(native: &Prometheus, log: &Path, before: usize) {
    let all = lines(log);
    let of = |lines: &[serde_json::Value], value: &dyn Fn(&serde_json::Value) -> Option<f64>| {
        let mut values: Vec<f64> =
            lines.iter().filter(|line| line["provider"] == "alpha").filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let seconds = |name: &'static str| move |line: &serde_json::Value| line[name].as_f64().map(|ms| ms / 1e3);
    let (first, whole) = (seconds("first_token_ms"), seconds("duration_ms"));
    let tokens = |line: &serde_json::Value| line["tokens"]["input"].as_f64();
    for (query, value) in [
        (
            "sluice_time_to_first_token_seconds{provider=\"alpha\"}",
            &first as &dyn Fn(&serde_json::Value) -> Option<f64>,
        ),
        ("sluice_request_duration_seconds{provider=\"alpha\"}", &whole),
        ("sluice_request_tokens{provider=\"alpha\", type=\"input\"}", &tokens),
    ] {
        let name = query.split('{').next().unwrap();
        let truths = [
            (of(&all, value), format!("sum({query})"), 0.03),
            // What a scrape and a line of the log saw first may differ at the beginning.
            (of(&all[before..], value), format!("sum(rate({query}[5m]))"), 0.1),
        ];
        for (truth, inner, ranks) in truths {
            assert!(truth.len() > 20, "{name}: {}", truth.len());
            for quantile in [0.25, 0.5, 0.9] {
                let said = native.number(&format!("histogram_quantile({quantile}, {inner})"));
                // Some ranks to either side, since those between two values may go to either.
                let (low, high) = (at(&truth, quantile - ranks), at(&truth, quantile + ranks));
                println!("{name} {quantile}: {said:.5}, truth {:.5}", at(&truth, quantile));
                assert!(
                    said > low / RANGE && said < high * RANGE,
                    "{name} {quantile} of {inner}: {said}, truth {low} to {high}"
                );
            }
        }
        let count = native.number(&format!("histogram_count(sum({query}))"));
        assert_eq!(count, of(&all, value).len() as f64, "{name}");
    }
}
