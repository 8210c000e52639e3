//! What a plan says and only a start can do. A reload leaves it as it was, and says so.

use std::net::SocketAddr;

use crate::config::{AccessLogConfig, CaptureConfig, DriverChoice, LedgerConfig, Plan, TracesConfig};

/// Those settings of the plan that the gateway was started with.
pub(super) struct Fixed {
    listen: SocketAddr,
    workers: Option<usize>,
    driver: DriverChoice,
    busy_poll_ms: u64,
    ledger: LedgerConfig,
    access_log: Option<AccessLogConfig>,
    capture: Option<CaptureConfig>,
    page: bool,
    traces: Option<TracesConfig>,
}

impl Fixed {
    pub(super) fn of(plan: &Plan) -> Fixed {
        Fixed {
            listen: plan.listen,
            workers: plan.workers,
            driver: plan.driver,
            busy_poll_ms: plan.busy_poll_ms,
            ledger: plan.ledger.clone(),
            access_log: plan.access_log.clone(),
            capture: plan.capture.clone(),
            page: plan.admin.page,
            traces: plan.traces.clone(),
        }
    }

    /// The names of the settings that `plan` has otherwise, as the file calls them.
    pub(super) fn changed(&self, plan: &Plan) -> impl Iterator<Item = &'static str> {
        let now = Fixed::of(plan);
        [
            ("listen", now.listen != self.listen),
            ("workers", now.workers != self.workers),
            ("driver", now.driver != self.driver),
            ("busy_poll", now.busy_poll_ms != self.busy_poll_ms),
            ("ledger", now.ledger != self.ledger),
            ("access_log", now.access_log != self.access_log),
            ("capture", now.capture != self.capture),
            ("admin.page", now.page && !self.page),
            ("traces", now.traces != self.traces),
        ]
        .into_iter()
        .filter_map(|(name, changed)| changed.then_some(name))
    }
}
