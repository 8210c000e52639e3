//! The process: binds, starts one worker per core, reloads on SIGHUP, drains on SIGTERM or SIGINT.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{AccessLogConfig, CaptureConfig, DriverChoice, LedgerConfig, Plan, Scheme, TracesConfig};
use crate::meter::capture::CaptureThread;
use crate::net::driver::{self, Driver};
use crate::net::mailbox::{self, Sender};
use crate::net::resolver::Resolver;
use crate::net::{clock, limits, listener};
use crate::policy::breaker::BreakerView;
use crate::rehearsal::{Mock, MockOptions, Pacing};

use super::books::{self, Books};
use super::captured;
use super::greeting::greeting;
use super::live::{Live, TlsConfigs};
use super::metrics::Scraper;
use super::page::{self, Hub};
use super::stats::Stats;
use super::traces::{self, TraceThread};
use super::worker::{self, Message, Start};
use super::written::Written;

/// How long a reload waits for the cores to take the new plan over; they do between two of their turns, at once.
const ADOPTION: Duration = Duration::from_secs(5);

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

/// Why the gateway does not serve.
#[derive(Debug)]
pub enum ServeError {
    /// The address cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// The demanded driver does not work here.
    Driver(std::io::Error),
    /// The plan needs something that is not there, such as a CA file.
    Plan(String),
    /// A worker could not be started, or died.
    Worker(std::io::Error),
    /// The built-in mock provider could not be started.
    Mock(std::io::Error),
    /// A plan with this number was handed out, and not every worker has taken it over in time.
    Slow(u64),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServeError::Bind(addr, e) if e.kind() == std::io::ErrorKind::AddrInUse => write!(
                f,
                "{addr} is in use by another process; stop it or choose another address with --listen {}:PORT",
                addr.ip()
            ),
            ServeError::Bind(addr, e) => {
                let help = match e.kind() {
                    std::io::ErrorKind::AddrNotAvailable => {
                        "; this machine has no such address: use 127.0.0.1 for this machine alone, or 0.0.0.0 for all"
                    }
                    std::io::ErrorKind::PermissionDenied => {
                        "; use a port from 1024 on, or run with the right to bind it"
                    }
                    _ => "",
                };
                write!(f, "cannot listen on {addr}: {e}{help}")
            }
            ServeError::Driver(e) => write!(f, "{e}; use --driver auto or --driver epoll"),
            ServeError::Plan(why) => f.write_str(why),
            ServeError::Worker(e) => write!(f, "a worker cannot run: {e}"),
            ServeError::Mock(e) => write!(f, "the built-in mock provider cannot start: {e}"),
            ServeError::Slow(plan) => write!(
                f,
                "plan {plan} does not serve on every worker after {} s: the machine is overloaded; each takes it over as \
                 soon as it can",
                ADOPTION.as_secs()
            ),
        }
    }
}

impl std::error::Error for ServeError {}

/// How long the end waits for captures to be written.
const CAPTURES_END: Duration = Duration::from_secs(2);

/// What a plan says and only a start can do.
struct Fixed {
    listen: SocketAddr,
    workers: Option<usize>,
    driver: DriverChoice,
    ledger: LedgerConfig,
    access_log: Option<AccessLogConfig>,
    capture: Option<CaptureConfig>,
    page: bool,
    traces: Option<TracesConfig>,
}

impl Fixed {
    fn of(plan: &Plan) -> Fixed {
        Fixed {
            listen: plan.listen,
            workers: plan.workers,
            driver: plan.driver,
            ledger: plan.ledger.clone(),
            access_log: plan.access_log.clone(),
            capture: plan.capture.clone(),
            page: plan.admin.page,
            traces: plan.traces.clone(),
        }
    }
}

/// A gateway that runs in this process.
pub struct Running {
    addr: SocketAddr,
    driver: Driver,
    fallback: Option<String>,
    senders: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
    stats: Vec<Arc<Stats>>,
    connections: Arc<AtomicU64>,
    live: Mutex<Arc<Live>>,
    fixed: Fixed,
    tls: TlsConfigs,
    mock: Option<Mock>,
    books: Option<Books>,
    captures: Option<CaptureThread>,
    hub: Option<Arc<Hub>>,
    traces: Option<TraceThread>,
}

/// Starts a gateway and returns once every worker serves. It keeps a ledger only where the plan names its file.
///
/// # Errors
/// See [`ServeError`]; nothing is left running.
pub fn start(plan: Plan) -> Result<Running, ServeError> {
    start_with(plan, None)
}

/// The same, with the ledger of whoever runs the gateway for a plan that names none.
fn start_with(mut plan: Plan, state: Option<&Path>) -> Result<Running, ServeError> {
    limits::raise_open_files();
    let chosen = driver::choose(plan.driver).map_err(ServeError::Driver)?;
    let cores =
        plan.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1);
    let listeners = listener::bind(plan.listen, cores).map_err(|e| ServeError::Bind(plan.listen, e))?;
    let addr = listeners.first().map_or(Ok(plan.listen), |l| l.local_addr());
    let addr = addr.map_err(|e| ServeError::Bind(plan.listen, e))?;
    let mock = match plan.mock {
        Some(_) => Some(
            Mock::start(MockOptions { pacing: Pacing::realistic(), ..MockOptions::default() })
                .map_err(ServeError::Mock)?,
        ),
        None => None,
    };
    if let Some(mock) = &mock {
        point_at_mock(&mut plan, mock.addr());
    }
    let tls = TlsConfigs::default();
    let fixed = Fixed::of(&plan);
    let live = Live::build(plan, cores, None, &tls).map_err(|e| ServeError::Plan(e.to_string()))?;
    let live = Arc::new(live);
    let stats: Vec<Arc<Stats>> = (0..listeners.len()).map(|_| Arc::default()).collect();
    let meter = Arc::default();
    let hub = live.plan.admin.page.then(|| {
        let (meter, stats) = (Arc::clone(&meter), stats.clone());
        let choice = live.plan.driver;
        Arc::new(Hub::new(page::Beginning {
            meter,
            stats,
            driver: chosen.driver.name(),
            choice,
            live: live.clone(),
        }))
    });
    let ledger = books::ledger_path(&live.plan, state);
    let board = hub.as_ref().map(|hub| hub.board());
    // What cannot be sent is said and left out: answers are worth more.
    let traces = live.plan.traces.as_ref().and_then(|config| {
        traces::start(config).map_err(|why| tracing::warn!("nothing is traced: {why}")).ok()
    });
    let rules = live.plan.traces.as_ref().filter(|_| traces.is_some()).map(traces::rules);
    let (tracer, traces) = traces.unzip();
    let trace_counts = traces.as_ref().map(|traces| traces.counts.clone());
    let tracer = tracer.zip(trace_counts.clone());
    let (books, desks) =
        books::start(&live.plan, ledger, board, tracer, cores).map_err(ServeError::Plan)?.unzip();
    let mut desks = desks.unwrap_or_default().into_iter();
    let (capture_desks, captures) = captured::start(&live.plan, cores).map_err(ServeError::Plan)?.unzip();
    let mut capture_desks = capture_desks.unwrap_or_default().into_iter();
    let resolver = Resolver::default();
    let written = Written {
        missed: books.as_ref().and_then(|books| books.missed.clone()),
        log: books.as_ref().and_then(|books| books.log.clone()),
        captures: captures.as_ref().map(|captures| captures.counts.clone()),
        traces: trace_counts,
    };
    let scraper = Arc::new(Scraper::new(meter, stats, chosen.driver.name(), written));
    let mut running = Running {
        addr,
        driver: chosen.driver,
        fallback: chosen.fallback,
        senders: Vec::new(),
        threads: Vec::new(),
        stats: scraper.stats.clone(),
        connections: Arc::default(),
        live: Mutex::new(live.clone()),
        fixed,
        tls,
        mock,
        books,
        captures,
        hub: hub.clone(),
        traces,
    };
    let (ready, readiness) = mpsc::channel();
    for (index, listener) in listeners.into_iter().enumerate() {
        let (sender, mailbox) = mailbox::mailbox().map_err(ServeError::Worker)?;
        let ready = ready.clone();
        let start = Start {
            index,
            driver: chosen.driver,
            listener,
            live: live.clone(),
            resolver: resolver.clone(),
            scraper: scraper.clone(),
            desk: desks.next(),
            captures: capture_desks.next(),
            hub: hub.clone(),
            rules,
            connections: running.connections.clone(),
            mailbox,
            ready: Box::new(move || {
                let _ = ready.send(());
            }),
        };
        let thread = std::thread::Builder::new()
            .name(format!("sluice-{index}"))
            .spawn(move || worker::run(start))
            .map_err(ServeError::Worker)?;
        running.senders.push(sender);
        running.threads.push(thread);
    }
    drop(ready);
    if let Some(hub) = &hub {
        hub.cores_are(running.senders.clone());
    }
    for _ in 0..cores {
        // A worker that fails drops its sender; when all have, no readiness comes any more.
        if readiness.recv_timeout(Duration::from_secs(10)).is_err() {
            let why = running.stop(Duration::ZERO).err();
            return Err(ServeError::Worker(
                why.unwrap_or_else(|| std::io::Error::other("a worker did not start")),
            ));
        }
    }
    Ok(running)
}

fn point_at_mock(plan: &mut Plan, addr: SocketAddr) {
    if let Some(provider) = plan.mock.and_then(|id| plan.providers.get_mut(usize::from(id.0))) {
        provider.origin.scheme = Scheme::Http;
        provider.origin.host = addr.ip().to_string().into();
        provider.origin.port = addr.port();
    }
}

impl Running {
    fn live(&self) -> Arc<Live> {
        self.live.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// The address that is served; with port 0 in the plan, the port that the kernel picked.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The driver in use.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// Serves `plan` from each core's next exchange on, and returns its number once every core does. Listener, workers
    /// and driver stay as they are.
    ///
    /// # Errors
    /// The plan cannot be served, and the old one goes on; or, [`ServeError::Slow`], a core has not taken it over yet.
    pub fn reload(&self, mut plan: Plan) -> Result<u64, ServeError> {
        if let Some(mock) = &self.mock {
            point_at_mock(&mut plan, mock.addr());
        } else if plan.mock.is_some() {
            return Err(ServeError::Plan(
                "the mock provider cannot be added by a reload; restart instead".to_owned(),
            ));
        }
        // Held to the end, so that of two reloads the later one is the last that every core takes over.
        let mut current = self.live.lock().unwrap_or_else(|e| e.into_inner());
        let live = Live::build(plan, self.senders.len(), Some(&current), &self.tls);
        let live = Arc::new(live.map_err(|e| ServeError::Plan(e.to_string()))?);
        let generation = live.generation;
        *current = live.clone();
        let (adopted, adoptions) = mpsc::channel();
        for sender in &self.senders {
            sender.send(Message::Adopt(live.clone(), adopted.clone()));
        }
        drop(adopted);
        let by = Instant::now() + ADOPTION;
        for _ in &self.senders {
            let left = by.saturating_duration_since(Instant::now());
            adoptions.recv_timeout(left).map_err(|_| ServeError::Slow(generation))?;
        }
        Ok(generation)
    }

    /// Client connections that are open.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Acquire)
    }

    /// Requests received since the start.
    pub fn requests(&self) -> u64 {
        self.stats.iter().map(|s| s.requests.get()).sum()
    }

    /// Tasks that panicked since the start.
    pub fn panics(&self) -> u64 {
        self.stats.iter().map(|s| s.panics.get()).sum()
    }

    /// Exchanges that ended because their client left.
    pub fn cancelled(&self) -> u64 {
        self.stats.iter().map(|s| s.cancelled.get()).sum()
    }

    /// The breaker of every target that was asked so far, with its provider's name. Reads only, takes no core's time.
    pub fn breakers(&self) -> Vec<(String, BreakerView)> {
        let live = self.live.lock().unwrap_or_else(|e| e.into_inner()).clone();
        let now_us = clock::now_us();
        let view = |slot| {
            let provider = live.plan.providers.get(usize::from(live.shared.slot_provider(slot)?.0))?;
            Some((provider.name.to_string(), live.shared.breaker(slot, now_us)?))
        };
        live.shared.slots().filter_map(view).collect()
    }

    /// Stops accepting, lets what runs finish within `limit`, and ends the workers.
    ///
    /// # Errors
    /// A worker failed; what it said.
    pub fn stop(mut self, limit: Duration) -> std::io::Result<()> {
        if let Some(hub) = &self.hub {
            hub.stop();
        }
        let until_us = clock::now_us() + limit.as_micros() as u64;
        for sender in &self.senders {
            sender.send(Message::Drain { until_us });
        }
        let mut result = Ok(());
        for thread in std::mem::take(&mut self.threads) {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(e)) => result = Err(e),
                Err(_) => result = Err(std::io::Error::other("a worker panicked")),
            }
        }
        if let Some(mock) = self.mock.take() {
            mock.stop();
        }
        if let Some(books) = self.books.take() {
            books.stop();
        }
        // After the books, which make the last spans.
        if let Some(traces) = self.traces.take() {
            traces.end();
        }
        if let Some(captures) = self.captures.take() {
            captures.end(CAPTURES_END);
        }
        result
    }
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
    let (now, started) = (Fixed::of(&live.plan), &running.fixed);
    let mut said = String::new();
    for (name, changed) in [
        ("listen", now.listen != started.listen),
        ("workers", now.workers != started.workers),
        ("driver", now.driver != started.driver),
        ("ledger", now.ledger != started.ledger),
        ("access_log", now.access_log != started.access_log),
        ("capture", now.capture != started.capture),
        ("admin.page", now.page && !started.page),
        ("traces", now.traces != started.traces),
    ] {
        if changed {
            said.push_str(&format!("\nsluice: `{name}` is another than at the start; restart to use it"));
        }
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
    say(greeting(&live.plan, running.addr).trim_end());
    say(&format!("sluice: {workers} worker{plural} on {}", running.driver.name()));
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
