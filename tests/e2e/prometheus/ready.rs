//! What is delivered ready-made, as it stands in the files: the queries of the dashboard, the recipes of the docs.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Where the dashboard and the alerts are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards")
}

/// Every query of every panel with the panel's title, variables filled in as Grafana does.
pub fn dashboard() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("sluice.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let mut query = target["expr"].as_str().unwrap().to_owned();
            for (variable, value) in
                [("$__rate_interval", "5m"), ("$__range", "1h"), ("$provider", ".*"), ("$job", "sluice")]
            {
                query = query.replace(variable, value);
            }
            assert!(!query.contains('$'), "a variable that nobody fills in: {query}");
            all.push((panel["title"].as_str().unwrap().to_owned(), query));
        }
    }
    all
}

/// The queries of one section of docs/observability.md, one a line.
pub fn recipes(section: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/observability.md");
    let text = std::fs::read_to_string(path).unwrap();
    let heading = format!("\n## {section}\n");
    let rest = text.split_once(&heading).unwrap_or_else(|| panic!("no section `{section}`")).1;
    let section = rest.split("\n## ").next().unwrap();
    let blocks = section.split("```promql\n").skip(1).map(|block| block.split("```").next().unwrap());
    let lines = blocks.flat_map(str::lines).map(|line| line.split('#').next().unwrap().trim());
    lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()
}
