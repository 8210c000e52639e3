//! Runs scenarios: providers up, gateway up, load on, everything down, verdict.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed};
use std::time::{Duration, Instant};

use super::super::counts::Counts;
use super::super::mock::Mock;
use super::super::program::Program;
use super::bars::check;
use super::catalog::scenarios;
use super::config::{asked_model, config};
use super::load::{Plan, Sample, Tally, drive};
use super::measured::{Measured, billed};
use super::scenario::Scenario;
use super::stage::{TOKENS, providers, reach, settled, wait_until_it_listens};
use super::verdict::{Figures, Report, Verdict};
use super::watch::{Progress, Watch};

const REDRAW: Duration = Duration::from_millis(250);
/// How soon the end of a load is noticed.
const LOOK: Duration = Duration::from_millis(20);

/// How to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Names of the scenarios; all when empty.
    pub only: Vec<String>,
    /// Every time of a scenario is multiplied by it: 0.05 is twenty times as fast.
    pub scale: f64,
    /// Every rate of a load is multiplied by it.
    pub load: f64,
    /// Decides words, arrivals and chance.
    pub seed: u64,
    /// Drives the gateway at this URL instead of starting one; it must point at the providers' ports.
    pub against: Option<String>,
    /// Where the providers listen, in the order of the chain, for a gateway that was configured before the run. A
    /// provider beyond them, and every one when it is empty, takes a free port that the kernel picks.
    pub provider_ports: Vec<u16>,
    /// Set by anyone: ends the run soon, with the verdicts so far.
    pub stop: Arc<AtomicBool>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            only: Vec::new(),
            scale: 1.0,
            load: 1.0,
            seed: 1,
            against: None,
            provider_ports: Vec::new(),
            stop: Arc::default(),
        }
    }
}

/// A gateway under test.
pub struct RunningGateway {
    /// Where clients reach it.
    pub addr: SocketAddr,
    /// Ends it and waits until it has ended.
    pub stop: Box<dyn FnOnce()>,
    /// A line about its breakers, for the screen.
    pub status: Option<Box<dyn Fn() -> String>>,
    /// Its breakers and cooldowns run on the scenario's clock: it took the `clocks` of its [`Setup`].
    pub scaled: bool,
}

/// What a gateway is to be started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Its configuration, in YAML.
    pub config: String,
    /// `PATH=VALUE` changes of it that put the gateway's own clocks on that of a fast run; none on the real clock. A
    /// gateway that does not know one of them serves without.
    pub clocks: Vec<String>,
}

/// Starts a gateway and returns when it serves; or says why it cannot.
pub type Starter<'a> = dyn FnMut(&Setup) -> Result<RunningGateway, String> + 'a;

/// The text of `sluice gameday --list`.
pub fn list() -> String {
    scenarios().iter().map(|scenario| format!("{:<18} {}\n", scenario.id, scenario.title)).collect()
}

/// The configuration that a gateway needs for this scenario when its providers listen on these ports.
///
/// # Errors
/// The name is unknown; the text lists the known ones.
pub fn setup(name: &str, ports: &[u16], scale: f64) -> Result<Setup, String> {
    let scenario = scenarios().into_iter().find(|scenario| scenario.id == name);
    let scenario = scenario.ok_or_else(|| unknown(name))?;
    let addrs: Vec<_> = ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).collect();
    Ok(config(&scenario, &addrs, scale))
}

/// The chosen scenarios, in the order of the list.
///
/// # Errors
/// A name is unknown; the text lists the known ones.
pub fn chosen(only: &[String]) -> Result<Vec<Scenario>, String> {
    let all = scenarios();
    if let Some(name) = only.iter().find(|name| all.iter().all(|scenario| scenario.id != **name)) {
        return Err(unknown(name));
    }
    Ok(all.into_iter().filter(|scenario| only.is_empty() || only.iter().any(|n| n == scenario.id)).collect())
}

fn unknown(name: &str) -> String {
    format!("no scenario is called `{name}`; these are:\n{}", list())
}

/// Runs the chosen scenarios one after the other.
///
/// # Errors
/// What was asked for makes no sense: an unknown name, a scale of nothing, a URL that is none. Nothing was run.
pub fn run(options: &Options, start: &mut Starter<'_>, watch: &mut dyn Watch) -> Result<Report, String> {
    let chosen = chosen(&options.only)?;
    if !(options.scale > 0.0 && options.scale <= 10.0 && options.load > 0.0 && options.load.is_finite()) {
        return Err("the scale must be above 0 and at most 10, the load above 0".to_owned());
    }
    let against = options.against.as_deref().map(reach).transpose()?;
    let mut report =
        Report { scale: options.scale, seed: options.seed, interrupted: false, verdicts: Vec::new() };
    for (n, scenario) in chosen.iter().enumerate() {
        let place = (n + 1, chosen.len());
        let outcome = run_one(scenario, place, options, against.as_ref(), start, watch);
        if options.stop.load(Acquire) {
            report.interrupted = true;
            break;
        }
        let verdict = outcome.unwrap_or_else(|problem| Verdict {
            id: scenario.id.to_owned(),
            title: scenario.title.to_owned(),
            passed: false,
            problem: Some(problem),
            checks: Vec::new(),
            figures: Figures::default(),
        });
        watch.verdict(&verdict);
        report.verdicts.push(verdict);
    }
    watch.end();
    Ok(report)
}

/// Stops a gateway whatever happens.
struct Stopped(Option<RunningGateway>);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some(gateway) = self.0.take() {
            (gateway.stop)();
        }
    }
}

fn run_one(
    scenario: &Scenario,
    place: (usize, usize),
    options: &Options,
    against: Option<&(SocketAddr, String)>,
    start: &mut Starter<'_>,
    watch: &mut dyn Watch,
) -> Result<Verdict, String> {
    let mocks = providers(scenario, options)?;
    let addrs: Vec<SocketAddr> = mocks.iter().map(Mock::addr).collect();
    let (target, path_prefix, gateway) = match against {
        Some((target, prefix)) => (*target, prefix.clone(), Stopped(None)),
        None => {
            let gateway = start(&config(scenario, &addrs, options.scale))?;
            (gateway.addr, "/v1".to_owned(), Stopped(Some(gateway)))
        }
    };
    wait_until_it_listens(target)?;

    let mut load = scenario.load.clone();
    load.rate *= options.load;
    let begin = Instant::now();
    for (mock, plan) in mocks.iter().zip(&scenario.providers) {
        let program = Program::parse(plan.program).map_err(|error| error.to_string())?;
        mock.program(program.scaled(options.scale));
    }
    let scaled = gateway.0.as_ref().is_some_and(|gateway| gateway.scaled);
    let own_scale = if scaled { scenario.own_scale(options.scale) } else { 1.0 };
    let plan = Plan {
        load: &load,
        scale: options.scale,
        target,
        path_prefix: &path_prefix,
        model: &asked_model(scenario),
        seed: options.seed,
        start: begin,
        until: begin + scenario.lasts(options.scale, own_scale),
        stop: &options.stop,
    };
    let samples = play(&plan, scenario, place, &mocks, &gateway, watch)?;
    let counts = settled(&mocks);
    drop(gateway);
    let measured = Measured {
        load: &load,
        samples: &samples,
        counts: &counts,
        scale: options.scale,
        own_scale,
        answer_tokens: TOKENS as u64,
        start: begin,
        healthy_at: scenario.healthy_from.map(|from| begin + from.mul_f64(options.scale)),
    };
    let checks: Vec<_> = scenario.bars.iter().map(|bar| check(bar, &measured)).collect();
    Ok(Verdict {
        id: scenario.id.to_owned(),
        title: scenario.title.to_owned(),
        passed: !samples.is_empty() && checks.iter().all(|check| check.passed),
        problem: None,
        checks,
        figures: Figures::of(&measured),
    })
}

/// Runs the load on a thread of its own and shows how it goes.
fn play(
    plan: &Plan<'_>,
    scenario: &Scenario,
    place: (usize, usize),
    mocks: &[Mock],
    gateway: &Stopped,
    watch: &mut dyn Watch,
) -> Result<Vec<Sample>, String> {
    let tally = Tally::default();
    let show = |watch: &mut dyn Watch| {
        let counts: Vec<Counts> = mocks.iter().map(Mock::counts).collect();
        let names = scenario.providers.iter().map(|provider| provider.name.to_owned());
        watch.progress(&Progress {
            scenario: scenario.id.to_owned(),
            title: scenario.title.to_owned(),
            place,
            elapsed: plan.start.elapsed(),
            total: plan.until.duration_since(plan.start),
            sent: tally.sent.load(Relaxed),
            answered: tally.answered.load(Relaxed),
            failed: tally.failed.load(Relaxed),
            open: tally.open.load(Relaxed),
            spend_usd: counts.iter().map(billed).sum(),
            providers: names.zip(&counts).map(|(name, c)| (name, c.requests, c.in_progress)).collect(),
            gateway: gateway.0.as_ref().and_then(|g| g.status.as_ref()).map_or_else(String::new, |s| s()),
        });
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(plan, &tally));
        let mut shown = Instant::now();
        show(watch);
        while !load.is_finished() {
            std::thread::sleep(LOOK);
            if shown.elapsed() >= REDRAW {
                shown = Instant::now();
                show(watch);
            }
        }
        match load.join() {
            Ok(samples) => samples.map_err(|error| format!("the clients stopped: {error}")),
            Err(_) => Err("the clients' thread panicked".to_owned()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_scenario() {
        assert_eq!(list().lines().count(), scenarios().len());
    }

    #[test]
    fn a_gateway_of_ones_own_is_told_what_to_be_configured_with() {
        let setup = setup("slowdown", &[9101, 9102], 1.0).expect("it is known");
        assert!(setup.config.contains("http://127.0.0.1:9102/v1") && setup.clocks.is_empty());
        assert!(super::setup("nonsense", &[], 1.0).is_err_and(|error| error.contains("brownout")));
    }
}
