//! A real Prometheus as a process: it scrapes one gateway every second, evaluates the alerts of `dashboards/`, and answers
//! queries.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::*;

/// How long it may take to start, or to see what has happened.
const PATIENCE: Duration = Duration::from_secs(60);

pub type Labels = BTreeMap<String, String>;

/// A running Prometheus; killed at the end.
pub struct Prometheus {
    child: Child,
    addr: SocketAddr,
    /// Unix seconds of the moment that queries are about; `None`: now.
    at: Cell<Option<f64>>,
}

impl Prometheus {
    /// Starts one in `directory`, which nobody else uses.
    pub fn start(directory: &Path, gateway: SocketAddr, native: bool) -> Prometheus {
        std::fs::create_dir_all(directory).unwrap();
        let alerts = super::ready::folder().join("alerts.yaml");
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\n\
             rule_files: ['{}']\n\
             scrape_configs: [{{job_name: sluice, static_configs: [{{targets: ['{gateway}']}}]}}]\n",
            alerts.display()
        );
        let file = directory.join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let log = directory.join("log");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", directory.join("data").display()));
        command.arg("--web.listen-address=127.0.0.1:0");
        if native {
            command.arg("--enable-feature=native-histograms");
        }
        let out = File::create(&log).unwrap();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(out).spawn().unwrap();
        let mut prometheus = Prometheus { child, addr: gateway, at: Cell::new(None) };
        let begun = Instant::now();
        prometheus.addr = loop {
            let said = std::fs::read_to_string(&log).unwrap();
            let listening = said.lines().find(|line| line.contains("\"Listening on\""));
            if let Some((_, address)) = listening.and_then(|line| line.split_once("address=")) {
                break address.trim().parse().unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "Prometheus does not start:\n{said}");
            std::thread::sleep(Duration::from_millis(50));
        };
        prometheus.wait("it has started", |p| Client::to(p.addr).get("/-/ready").status == 200);
        prometheus.wait("the gateway is scraped", |p| p.number("up{job=\"sluice\"}") == 1.0);
        prometheus
    }

    fn get(&self, path: &str) -> Value {
        let got = Client::to(self.addr).get(path);
        serde_json::from_slice(&got.body).unwrap_or_else(|e| panic!("{e}: {path}\n{}", got.text()))
    }

    /// What a query answers: a row for each series.
    ///
    /// # Errors
    /// What Prometheus has against it.
    pub fn query(&self, query: &str) -> Result<Vec<(Labels, f64)>, String> {
        let mut path = String::from("/api/v1/query?query=");
        for byte in query.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => path.push(char::from(byte)),
                _ => path.push_str(&format!("%{byte:02X}")),
            }
        }
        if let Some(at) = self.at.get() {
            path.push_str(&format!("&time={at:.3}"));
        }
        let said = self.get(&path);
        if said["status"] != "success" {
            return Err(said["error"].as_str().unwrap_or("no answer").to_owned());
        }
        let number = |value: &Value| value[1].as_str().and_then(|text| text.parse::<f64>().ok());
        let data = &said["data"];
        if data["resultType"] == "scalar" {
            return Ok(vec![(Labels::new(), number(&data["result"]).unwrap())]);
        }
        let rows = data["result"].as_array().unwrap().iter().map(|row| {
            let labels = serde_json::from_value(row["metric"].clone()).unwrap();
            (labels, number(&row["value"]).unwrap_or(f64::NAN))
        });
        Ok(rows.collect())
    }

    /// The rows of a query that must be answered.
    pub fn rows(&self, query: &str) -> Vec<(Labels, f64)> {
        self.query(query).unwrap_or_else(|e| panic!("{e}: {query}"))
    }

    /// The value of a query with one row; NaN without one.
    pub fn number(&self, query: &str) -> f64 {
        let rows = self.rows(query);
        assert!(rows.len() <= 1, "{query}: {rows:?}");
        rows.first().map_or(f64::NAN, |row| row.1)
    }

    /// The rows of a query by the values of some labels.
    pub fn by<const N: usize>(&self, query: &str, labels: [&str; N]) -> BTreeMap<[String; N], f64> {
        let rows = self.rows(query).into_iter();
        rows.map(|(own, value)| (labels.map(|label| own.get(label).cloned().unwrap_or_default()), value))
            .collect()
    }

    /// Waits until it is so.
    pub fn wait(&self, what: &str, so: impl Fn(&Prometheus) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "not in time: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Waits until it is so and has queries be about that moment from then on: a scrape that fails on a busy machine makes
    /// all series stale, and what was seen before is what counts.
    pub fn stay_when(&self, what: &str, so: impl Fn(&Prometheus) -> bool) {
        self.wait(what, |p| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            p.at.set(Some(now.as_secs_f64()));
            so(p)
        });
    }

    /// Under which name Prometheus knows a counter: OpenMetrics names its family without `_total`, the others with it.
    pub fn knows(&self, name: &str) -> bool {
        let said = self.get(&format!("/api/v1/targets/metadata?metric={name}"));
        said["data"].as_array().is_some_and(|data| data.iter().any(|row| row["type"] == "counter"))
    }

    /// The alerts by name, as they stand.
    pub fn alerts(&self) -> Vec<Value> {
        let rules = self.get("/api/v1/rules?type=alert");
        let groups = rules["data"]["groups"].as_array().unwrap();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
