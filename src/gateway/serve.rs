//! The process: serves a plan, reloads on SIGHUP, drains on SIGTERM or SIGINT, and says on standard error what happened.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::Plan;

use super::greeting::greeting;
use super::running::{Running, start_with};
use super::serve_error::ServeError;

/// Loads the configuration anew; the error is text for the log.
pub type Reload = dyn Fn() -> Result<Plan, String> + Send;

/// How to serve a plan.
#[derive(Default)]
pub struct ServeOptions {
    /// Loads the plan again on SIGHUP; without it SIGHUP is answered with a warning.
    pub reload: Option<Box<Reload>>,
    /// The ledger of whoever runs the gateway, for a plan that names none; without it such a plan has no ledger.
    pub ledger: Option<PathBuf>,
}

/// Serves a plan until SIGTERM or SIGINT, then drains. A second signal ends the process at once.
///
/// # Errors
/// See [`ServeError`].
pub fn serve(plan: Plan, options: &ServeOptions) -> Result<(), ServeError> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(ServeError::Worker)?;
    let running = start_with(plan, options.ledger.as_deref())?;
    if let (Some(hub), true) = (&running.hub, options.reload.is_some()) {
        hub.can_reload();
    }
    greet(&running);
    let mut drain = Duration::ZERO;
    for signal in signals.forever() {
        if signal == SIGHUP {
            if let Some(books) = &running.books {
                books.reopen();
            }
            if let Some(captures) = &running.captures {
                captures.reopen();
            }
            reload(&running, options);
            continue;
        }
        drain = Duration::from_millis(running.live().plan.drain_timeout_ms);
        say(&format!(
            "sluice: stopping: finishing what runs, for at most {} s; again to stop at once",
            drain.as_secs()
        ));
        std::thread::spawn(move || {
            for signal in signals.forever() {
                if signal != SIGHUP {
                    std::process::exit(130);
                }
            }
        });
        break;
    }
    running.stop(drain).map_err(ServeError::Worker)
}

fn reload(running: &Running, options: &ServeOptions) {
    let kept = "not reloaded, the old configuration goes on";
    let result = match options.reload.as_ref().map(|load| load()) {
        None => Err(format!("{kept}: there is no configuration file to load again")),
        Some(Err(why)) => Err(format!("{kept}:\n{}", why.trim_end())),
        Some(Ok(plan)) => match running.reload(plan) {
            Ok(generation) => Ok(format!("reloaded: plan {generation} serves{}", after_reload(running))),
            Err(slow @ ServeError::Slow(_)) => Err(slow.to_string()),
            Err(why) => Err(format!("{kept}: {why}")),
        },
    };
    let (Ok(said) | Err(said)) = &result;
    say(&format!("sluice: {said}"));
    if let Some(hub) = &running.hub {
        hub.reloaded(&result);
    }
}

/// What a user should know of a plan that took over: what of it needs a restart, and what is odd about it.
fn after_reload(running: &Running) -> String {
    let live = running.live();
    let mut said = String::new();
    for name in running.fixed.changed(&live.plan) {
        said.push_str(&format!("\nsluice: `{name}` is another than at the start; restart to use it"));
    }
    for warning in &live.plan.warnings {
        said.push_str(&format!("\n{warning}"));
    }
    said
}

/// The start-up message: what serves, and a command that works.
fn greet(running: &Running) {
    let live = running.live();
    let workers = running.senders.len();
    let plural = if workers == 1 { "" } else { "s" };
    say(greeting(&live.plan, running.addr()).trim_end());
    say(&format!("sluice: {workers} worker{plural} on {}", running.driver().name()));
    if let Some(why) = &running.fallback {
        say(&format!("sluice: {why}"));
    }
    if let Some(ledger) = running.books.as_ref().and_then(|books| books.ledger.as_ref()) {
        say(&format!("sluice: what is spent is kept in {}; `sluice spend` shows it", ledger.display()));
    }
    for warning in &live.plan.warnings {
        say(&warning.to_string());
    }
}

fn say(line: &str) {
    // A log that cannot be written must not stop the gateway.
    let _ = writeln!(std::io::stderr(), "{line}");
}
