//! What became of what leaves the cores for files and collectors, as the metrics page tells it.
//!
//! Losses there cost no answer, so nothing else would say that they happen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::meter::log::Counts;
use crate::meter::{Family, Kind, Value};

use super::gauges::labels;
use super::traces::TraceCounts;

/// The counters of whoever writes; one that is not there is not on the page.
#[derive(Clone, Default)]
pub struct Written {
    /// Exchanges that did not fit into a core's ring; with a ledger or an access log.
    pub missed: Option<Arc<AtomicU64>>,
    /// Lines of the access log.
    pub log: Option<Arc<Counts>>,
    /// Lines of the captures.
    pub captures: Option<Arc<Counts>>,
    /// Spans.
    pub traces: Option<Arc<TraceCounts>>,
}

impl Written {
    /// The families of the metrics page.
    pub fn families(&self) -> Vec<Family> {
        let mut missed = Family::new(
            "sluice_records_dropped_total",
            Kind::Counter,
            "Exchanges that the ledger and the access log do not have, because too many came at once",
        );
        if let Some(own) = &self.missed {
            missed.push(labels([]), Value::Count(own.load(Ordering::Relaxed)));
        }
        let mut lines =
            Family::new("sluice_log_lines_total", Kind::Counter, "Lines of logs by what became of them");
        for (log, counts) in [("access", &self.log), ("capture", &self.captures)] {
            let Some(counts) = counts else { continue };
            for (result, n) in [("written", counts.written()), ("dropped", counts.dropped())] {
                lines.push(labels([("log", log), ("result", result)]), Value::Count(n));
            }
        }
        let mut spans =
            Family::new("sluice_trace_spans_total", Kind::Counter, "Spans of traces by what became of them");
        if let Some(counts) = &self.traces {
            for (result, n) in [
                ("delivered", counts.delivered()),
                ("failed", counts.failed()),
                ("dropped", counts.dropped()),
            ] {
                spans.push(labels([("result", result)]), Value::Count(n));
            }
        }
        vec![missed, lines, spans]
    }
}
