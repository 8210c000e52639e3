//! Runs scenarios: providers up, gateway up, load on, everything down, verdict.

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::super::counts::Counts;
use super::super::mock::{Dialects, Mock, MockOptions, Pacing};
use super::super::program::Program;
use super::bars::{Measured, check};
use super::catalog::scenarios;
use super::config::{asked_model, config};
use super::load::{Plan, Sample, Tally, drive};
use super::scenario::Scenario;
use super::verdict::{Figures, Report, Verdict};
use super::watch::{Progress, Watch};

/// The pace of every provider, on the unscaled clock.
const FIRST_TOKEN: Duration = Duration::from_millis(100);
const TOKEN_GAP: Duration = Duration::from_millis(5);
const TOKENS: usize = 20;
/// How finely providers count over time, on the unscaled clock, and at the finest.
const BUCKET: Duration = Duration::from_millis(250);
const BUCKET_LEAST: Duration = Duration::from_millis(20);
/// What a gateway may need to close what its last client left.
const CLEAN_UP: Duration = Duration::from_secs(1);
const REDRAW: Duration = Duration::from_millis(250);
const START: Duration = Duration::from_secs(10);

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
}

/// Starts a gateway with this configuration, in YAML, and returns when it serves; or says why it cannot.
pub type Starter<'a> = dyn FnMut(String) -> Result<RunningGateway, String> + 'a;

/// The text of `sluice gameday --list`.
pub fn list() -> String {
    let mut out = String::new();
    for scenario in scenarios() {
        let _ = writeln!(out, "{:<18} {}", scenario.id, scenario.title);
    }
    out
}

/// Runs the chosen scenarios one after the other. An unknown name is an error that lists the known ones.
pub fn run(options: &Options, start: &mut Starter<'_>, watch: &mut dyn Watch) -> Result<Report, String> {
    let all = scenarios();
    for name in &options.only {
        if all.iter().all(|scenario| scenario.id != name) {
            return Err(format!("no scenario is called `{name}`; these are:\n{}", list()));
        }
    }
    if !(options.scale > 0.0 && options.scale <= 10.0 && options.load > 0.0 && options.load.is_finite()) {
        return Err("the scale must be above 0 and at most 10, the load above 0".to_owned());
    }
    let chosen =
        |scenario: &Scenario| options.only.is_empty() || options.only.iter().any(|name| name == scenario.id);
    let chosen: Vec<Scenario> = all.into_iter().filter(chosen).collect();
    let mut verdicts = Vec::new();
    for (n, scenario) in chosen.iter().enumerate() {
        let place = (n + 1, chosen.len());
        let verdict = match run_one(scenario, place, options, start, watch) {
            Ok(verdict) => verdict,
            Err(problem) => Verdict {
                id: scenario.id.to_owned(),
                title: scenario.title.to_owned(),
                passed: false,
                problem: Some(problem),
                checks: Vec::new(),
                figures: Figures::default(),
            },
        };
        watch.verdict(&verdict);
        verdicts.push(verdict);
    }
    Ok(Report { scale: options.scale, verdicts })
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
    start: &mut Starter<'_>,
    watch: &mut dyn Watch,
) -> Result<Verdict, String> {
    let mocks = providers(scenario, options)?;
    let addrs: Vec<SocketAddr> = mocks.iter().map(Mock::addr).collect();
    let (target, path_prefix, gateway) = match &options.against {
        Some(url) => {
            let (target, prefix) = reach(url)?;
            (target, prefix, Stopped(None))
        }
        None => {
            let gateway = start(config(scenario, &addrs, options.scale))?;
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
    let healthy_at = scenario.healthy_from.map(|from| begin + from.mul_f64(options.scale));
    let tail = healthy_at.map_or(begin, |healthy| healthy + load.tail);
    let plan = Plan {
        load: &load,
        scale: options.scale,
        target,
        path_prefix: &path_prefix,
        model: &asked_model(scenario),
        seed: options.seed,
        start: begin,
        until: (begin + load.duration.mul_f64(options.scale).max(load.least)).max(tail),
    };
    let samples = play(&plan, scenario, place, &mocks, &gateway, watch)?;
    let counts = settled(&mocks);
    drop(gateway);
    let measured = Measured {
        load: &load,
        samples: &samples,
        counts: &counts,
        scale: options.scale,
        answer_tokens: TOKENS as u64,
        start: begin,
        healthy_at,
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

/// The figures once nothing is in progress any more, or when that took too long.
fn settled(mocks: &[Mock]) -> Vec<Counts> {
    let until = Instant::now() + CLEAN_UP;
    loop {
        let counts: Vec<Counts> = mocks.iter().map(Mock::counts).collect();
        if counts.iter().all(|counts| counts.in_progress == 0) || Instant::now() > until {
            return counts;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn providers(scenario: &Scenario, options: &Options) -> Result<Vec<Mock>, String> {
    let start = |n: usize| {
        let port = options.provider_ports.get(n).copied().unwrap_or(0);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pacing = Pacing {
            first_token: FIRST_TOKEN.mul_f64(options.scale),
            token_gap: TOKEN_GAP.mul_f64(options.scale),
            jitter: 0.25,
            tokens: TOKENS,
        };
        let bucket = BUCKET.mul_f64(options.scale).max(BUCKET_LEAST);
        let seed = options.seed ^ (n as u64) << 32;
        let dialects = if scenario.providers[n].anthropic { Dialects::Anthropic } else { Dialects::OpenAi };
        Mock::start(MockOptions { listen, pacing, bucket, seed, dialects, ..MockOptions::default() })
            .map_err(|error| unlistenable(listen, &error))
    };
    (0..scenario.providers.len()).map(start).collect()
}

fn unlistenable(listen: SocketAddr, error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        format!(
            "a provider must listen on {listen}, which another process has: stop that one, or choose other ports"
        )
    } else {
        format!("a provider cannot listen on {listen}: {error}")
    }
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
    std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(plan, &tally));
        while !load.is_finished() {
            std::thread::sleep(REDRAW);
            let counts: Vec<Counts> = mocks.iter().map(Mock::counts).collect();
            let names = scenario.providers.iter().map(|provider| provider.name.to_owned());
            let run = Measured {
                load: plan.load,
                samples: &[],
                counts: &counts,
                scale: plan.scale,
                answer_tokens: 0,
                start: plan.start,
                healthy_at: None,
            };
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
                providers: names.zip(&counts).map(|(name, c)| (name, c.requests, c.in_progress)).collect(),
                spend_usd: run.spend_usd(),
                gateway: gateway.0.as_ref().and_then(|g| g.status.as_ref()).map_or_else(String::new, |s| s()),
            });
        }
        match load.join() {
            Ok(samples) => samples.map_err(|error| format!("the clients stopped: {error}")),
            Err(_) => Err("the clients' thread panicked".to_owned()),
        }
    })
}

/// `http://127.0.0.1:8080/v1` to its address and path.
fn reach(url: &str) -> Result<(SocketAddr, String), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| format!("`{url}` must begin with http://"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addr = host.to_socket_addrs().ok().and_then(|mut all| all.next());
    let addr = addr.ok_or_else(|| format!("`{host}` does not resolve"))?;
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { "/v1".to_owned() } else { format!("/{path}") };
    Ok((addr, path))
}

fn wait_until_it_listens(addr: SocketAddr) -> Result<(), String> {
    let until = Instant::now() + START;
    loop {
        match TcpStream::connect_timeout(&addr, Duration::from_millis(500)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => {
                return Err(format!("nothing listens on {addr}: {error}"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_a_path() {
        let expected = (SocketAddr::from(([127, 0, 0, 1], 8080)), "/v1".to_owned());
        assert_eq!(reach("http://127.0.0.1:8080"), Ok(expected.clone()));
        assert_eq!(reach("http://127.0.0.1:8080/v1/"), Ok(expected));
        assert!(reach("https://127.0.0.1").is_err());
    }

    #[test]
    fn the_list_names_every_scenario() {
        assert_eq!(list().lines().count(), scenarios().len());
    }
}
