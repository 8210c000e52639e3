//! The metrics page as text.
//!
//! The text is that of `prometheus-client`, which writes OpenMetrics 1.0. The older Prometheus text format (0.0.4) names
//! a counter with its `_total` in HELP and TYPE too, and knows neither UNIT nor the end mark; that is all the difference
//! there is for what is written here.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::family::{Family, Kind, Value};

/// A text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Prometheus text format 0.0.4, which every reader understands.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

/// Writes families as text; empty ones are left out.
///
/// # Errors
/// Never in practice: a `String` takes everything.
pub fn render(families: Vec<Family>, dialect: Dialect) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Page(families)));
    let mut text = String::with_capacity(64 * 1024);
    encode_registry(&mut text, &registry)?;
    match dialect {
        Dialect::OpenMetrics => encode_eof(&mut text)?,
        Dialect::Prometheus => text = older(&text),
    }
    Ok(text)
}

/// The same page in the Prometheus text format.
fn older(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 1024);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        // HELP stands before the TYPE that tells whether it is a counter's.
        let counter = lines.peek().and_then(|next| next.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        let help = counter.and_then(|name| line.strip_prefix("# HELP ")?.strip_prefix(name));
        match (help, line.strip_prefix("# TYPE ").and_then(|own| own.strip_suffix(" counter"))) {
            (Some(words), _) => {
                out.push_str("# HELP ");
                out.push_str(counter.unwrap_or_default());
                out.push_str("_total");
                out.push_str(words);
            }
            (None, Some(name)) => {
                out.push_str("# TYPE ");
                out.push_str(name);
                out.push_str("_total counter");
            }
            (None, None) => out.push_str(line),
        }
        out.push('\n');
    }
    out
}

#[derive(Debug)]
struct Page(Vec<Family>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in self.0.iter().filter(|family| !family.rows.is_empty()) {
            let (name, kind) = match family.kind {
                Kind::Counter => {
                    (family.name.strip_suffix("_total").unwrap_or(family.name), MetricType::Counter)
                }
                Kind::Gauge => (family.name, MetricType::Gauge),
                Kind::Histogram => (family.name, MetricType::Histogram),
            };
            let mut metric = encoder.encode_descriptor(name, family.help, None, kind)?;
            for (labels, value) in &family.rows {
                match labels.is_empty() {
                    true => row(family.kind, &mut metric, value)?,
                    false => row(family.kind, &mut metric.encode_family(labels)?, value)?,
                }
            }
        }
        Ok(())
    }
}

fn row(kind: Kind, to: &mut MetricEncoder<'_>, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Count(n)) => to.encode_counter::<NoLabelSet, _, u64>(n, None),
        (Kind::Counter, Value::Number(n)) => to.encode_counter::<NoLabelSet, _, u64>(n, None),
        (_, Value::Count(n)) => to.encode_gauge(n),
        (_, Value::Number(n)) => to.encode_gauge(n),
        (_, Value::Spread { bounds, counts, sum, .. }) => {
            let ends = bounds.iter().copied().chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = ends.zip(counts.iter().copied()).collect();
            to.encode_histogram::<NoLabelSet>(*sum, counts.iter().sum(), &buckets, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::native::Native;
    use super::*;

    fn families() -> Vec<Family> {
        let mut count = Family::new("x_things_total", Kind::Counter, "Things.");
        count.push(vec![("kind".into(), "a\"b\\c\nd".into())], Value::Count(3));
        let mut level = Family::new("x_level", Kind::Gauge, "A level.");
        level.push(Vec::new(), Value::Number(0.5));
        let mut spread = Family::new("x_seconds", Kind::Histogram, "Times.");
        let value = Value::Spread {
            bounds: vec![0.005, 1.0],
            counts: vec![1, 0, 2],
            sum: 9.25,
            native: Native::default(),
        };
        spread.push(vec![("of".into(), "x".into())], value);
        vec![count, level, Family::new("x_none", Kind::Gauge, "Nothing."), spread]
    }

    #[test]
    fn the_older_form_names_counters_in_full() {
        let text = render(families(), Dialect::Prometheus).unwrap();
        let expected = "# HELP x_things_total Things.\n# TYPE x_things_total counter\n\
            x_things_total{kind=\"a\\\"b\\\\c\\nd\"} 3\n\
            # HELP x_level A level.\n# TYPE x_level gauge\nx_level 0.5\n\
            # HELP x_seconds Times.\n# TYPE x_seconds histogram\n\
            x_seconds_sum{of=\"x\"} 9.25\nx_seconds_count{of=\"x\"} 3\n\
            x_seconds_bucket{le=\"0.005\",of=\"x\"} 1\nx_seconds_bucket{le=\"1.0\",of=\"x\"} 1\n\
            x_seconds_bucket{le=\"+Inf\",of=\"x\"} 3\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn openmetrics_has_its_end_mark_and_its_names() {
        let text = render(families(), Dialect::OpenMetrics).unwrap();
        assert!(text.contains("# TYPE x_things counter\nx_things_total{"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
