//! Game days inside this process: the gateway that a day wants, and the runs that the live page starts.
//!
//! A run has a gateway, providers and clients of its own on loopback ports that the kernel picks; nothing of the served
//! traffic goes through it. Its threads give way to those that serve (niceness [`NICE`]), and its gateway has one core.
//! One run at a time.
//!
//! Left out: days against another gateway, which the command line has.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::{ConfigError, DriverChoice, Loader, Severity};
use crate::net::{clock, limits};
use crate::rehearsal::gameday::{self, Options, Progress, RunningGateway, Setup, Verdict, Watch};

use super::running::{Running, start};

/// How much a run gives way to what serves; 19 is most.
const NICE: i32 = 10;
/// The clock of a run that does not say: twenty times as fast.
const SCALE: f64 = 0.05;
/// How long a game day's gateway may finish what runs when its clients have left.
const DRAIN: Duration = Duration::from_secs(2);

/// A gateway in this process on a free port, as a day wants it.
///
/// # Errors
/// Why it cannot be, as text.
pub fn gateway_for(
    setup: &Setup,
    driver: DriverChoice,
    workers: Option<usize>,
) -> Result<RunningGateway, String> {
    let load = |clocks: &[String]| {
        let loader = Loader {
            file: Some("gameday.yaml".into()),
            driver: Some(driver),
            workers,
            sets: [&["listen=127.0.0.1:0".to_owned(), "admin=off".to_owned()], clocks].concat(),
            ..Loader::default()
        };
        loader.load_text(&setup.config, &|_| None)
    };
    let (plan, scaled) = match load(&setup.clocks) {
        Ok(plan) => (plan, true),
        // Warnings about keys in the clear are about keys that open nothing.
        Err(_) => (load(&[]).map_err(|error| errors_of(&error))?, false),
    };
    let gateway = start(plan).map_err(|error| error.to_string())?;
    let addr = gateway.addr();
    let gateway = Rc::new(RefCell::new(Some(gateway)));
    let running = gateway.clone();
    let stop = move || {
        let ended = running.borrow_mut().take().map(|gateway| gateway.stop(DRAIN));
        if let Some(Err(error)) = ended {
            tracing::warn!("a game day's gateway did not stop well: {error}");
        }
    };
    let status = move || gateway.borrow().as_ref().map_or_else(String::new, breakers);
    Ok(RunningGateway { addr, stop: Box::new(stop), status: Some(Box::new(status)), scaled })
}

fn errors_of(error: &ConfigError) -> String {
    let errors = error.diagnostics.iter().filter(|one| one.severity == Severity::Error);
    errors.map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The breakers of every target that was asked so far.
fn breakers(gateway: &Running) -> String {
    let all = gateway.breakers();
    let each: Vec<String> = all.iter().map(|(name, view)| format!("{name} {}", view.phase.label())).collect();
    if each.is_empty() { String::new() } else { format!("breakers: {}", each.join(", ")) }
}

/// What a run is asked for.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The days; all when there are none.
    #[serde(default)]
    pub days: Vec<String>,
    /// Every time is multiplied by it; above 0, at most 1.
    #[serde(default = "scale")]
    pub scale: f64,
}

fn scale() -> f64 {
    SCALE
}

/// Where a run stands.
#[derive(Default)]
struct Run {
    /// One more for each run; 0 when there was none.
    number: u64,
    running: bool,
    started_unix_ms: u64,
    days: Vec<String>,
    scale: f64,
    progress: Option<Progress>,
    verdicts: Vec<Verdict>,
    /// It was told to stop.
    interrupted: bool,
    /// Why it could not be run at all.
    problem: Option<String>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The runs of this process.
pub struct Gamedays {
    driver: DriverChoice,
    run: Arc<Mutex<Run>>,
}

fn locked(run: &Mutex<Run>) -> MutexGuard<'_, Run> {
    run.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Looker(Arc<Mutex<Run>>);

impl Watch for Looker {
    fn progress(&mut self, progress: &Progress) {
        locked(&self.0).progress = Some(progress.clone());
    }

    fn verdict(&mut self, verdict: &Verdict) {
        let mut run = locked(&self.0);
        run.progress = None;
        run.verdicts.push(verdict.clone());
    }
}

impl Gamedays {
    /// None yet. Gateways of days use `driver`.
    pub fn new(driver: DriverChoice) -> Gamedays {
        Gamedays { driver, run: Arc::default() }
    }

    /// Begins a run.
    ///
    /// # Errors
    /// A status and what to do: one runs already, or what is asked for makes no sense.
    pub fn play(&self, wanted: Wanted) -> Result<String, (u16, String)> {
        let chosen = gameday::chosen(&wanted.days).map_err(|why| (400, why))?;
        if !(wanted.scale > 0.0 && wanted.scale <= 1.0) {
            return Err((400, "`scale` must be above 0 and at most 1".to_owned()));
        }
        let mut run = locked(&self.run);
        if run.running {
            return Err((409, "game days are being played already; stop them or wait".to_owned()));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let options = Options {
            only: wanted.days.clone(),
            scale: wanted.scale,
            stop: stop.clone(),
            ..Options::default()
        };
        let (shared, driver) = (self.run.clone(), self.driver);
        let play = move || {
            limits::give_way(NICE);
            let mut gateway = |setup: &Setup| gateway_for(setup, driver, Some(1));
            let played = gameday::run(&options, &mut gateway, &mut Looker(shared.clone()));
            let mut run = locked(&shared);
            (run.running, run.progress) = (false, None);
            match played {
                Ok(report) => run.interrupted = report.interrupted,
                Err(why) => run.problem = Some(why),
            }
        };
        *run = Run {
            number: run.number + 1,
            running: true,
            started_unix_ms: clock::unix_us() / 1_000,
            days: chosen.iter().map(|day| day.id.to_owned()).collect(),
            scale: wanted.scale,
            stop,
            ..Run::default()
        };
        match std::thread::Builder::new().name("sluice-gameday".to_owned()).spawn(play) {
            Ok(thread) => run.thread = Some(thread),
            Err(error) => {
                run.running = false;
                return Err((503, format!("no thread can be started: {error}")));
            }
        }
        let (count, plural) = (chosen.len(), if chosen.len() == 1 { "" } else { "s" });
        Ok(format!("{count} game day{plural} began"))
    }

    /// Ends the run soon, with the verdicts so far.
    ///
    /// # Errors
    /// There is none.
    pub fn stop(&self) -> Result<String, (u16, String)> {
        let run = locked(&self.run);
        if !run.running {
            return Err((409, "no game day is being played".to_owned()));
        }
        run.stop.store(true, Ordering::Release);
        Ok("it stops within a moment, with the verdicts so far".to_owned())
    }

    /// The same, and waits until it has ended.
    pub fn stop_and_wait(&self) {
        let thread = {
            let mut run = locked(&self.run);
            run.stop.store(true, Ordering::Release);
            run.thread.take()
        };
        if let Some(thread) = thread {
            // A panic there was said by the panic itself.
            let _ = thread.join();
        }
    }

    /// Where it stands, for every snapshot.
    pub fn summary(&self) -> Value {
        let run = locked(&self.run);
        let passed = run.verdicts.iter().filter(|verdict| verdict.passed).count();
        json!({
            "run": run.number,
            "running": run.running,
            "days": run.days.len(),
            "passed": passed,
            "missed": run.verdicts.len() - passed,
            "progress": run.progress.as_ref().map(progress_json),
        })
    }

    /// Every day there is, and the last run with its verdicts.
    pub fn json(&self) -> Vec<u8> {
        let days = gameday::chosen(&[]).unwrap_or_default();
        let days = days.iter().map(|day| {
            let bars = day.bars.len();
            let lasts = |scale: f64| day.lasts(scale, day.own_scale(scale)).as_secs_f64();
            json!({
                "id": day.id, "title": day.title, "bars": bars,
                "seconds": lasts(1.0), "seconds_fast": lasts(SCALE),
            })
        });
        let run = locked(&self.run);
        json!({
            "v": 1,
            "scale_fast": SCALE,
            "days": days.collect::<Vec<_>>(),
            "run": (run.number > 0).then(|| json!({
                "number": run.number,
                "running": run.running,
                "started_unix_ms": run.started_unix_ms,
                "days": run.days,
                "scale": run.scale,
                "interrupted": run.interrupted,
                "problem": run.problem,
                "progress": run.progress.as_ref().map(progress_json),
                "verdicts": run.verdicts,
            })),
        })
        .to_string()
        .into_bytes()
    }
}

fn progress_json(progress: &Progress) -> Value {
    let providers = progress
        .providers
        .iter()
        .map(|(name, calls, open)| json!({"name": name, "calls": calls, "open": open}));
    json!({
        "day": progress.scenario,
        "place": progress.place.0,
        "of": progress.place.1,
        "elapsed_s": progress.elapsed.as_secs_f64(),
        "total_s": progress.total.as_secs_f64(),
        "sent": progress.sent,
        "answered": progress.answered,
        "failed": progress.failed,
        "open": progress.open,
        "spend_usd": progress.spend_usd,
        "gateway": progress.gateway,
        "providers": providers.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(days: &[&str], scale: f64) -> Wanted {
        Wanted { days: days.iter().map(|day| (*day).to_owned()).collect(), scale }
    }

    #[test]
    fn what_cannot_be_played_is_refused_with_what_can() {
        let all = Gamedays::new(DriverChoice::Epoll);
        let (status, why) = all.play(wanted(&["nonsense"], 0.05)).unwrap_err();
        assert!(status == 400 && why.contains("brownout"), "{why}");
        for scale in [0.0, -1.0, 1.01, f64::NAN] {
            assert_eq!(all.play(wanted(&["down"], scale)).unwrap_err().0, 400, "{scale}");
        }
        assert_eq!(all.stop().unwrap_err().0, 409);
        let list: Value = serde_json::from_slice(&all.json()).unwrap();
        assert!(list["days"].as_array().unwrap().len() > 10 && list["run"].is_null());
    }
}
