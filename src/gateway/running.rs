//! A gateway that runs in this process: started with one worker per core, given another plan, drained and stopped.
//!
//! Starting binds the listener and brings up whatever runs beside the workers: the mock provider, the books, captures, traces
//! and the live page. Invariants: a start that fails leaves nothing running; a reload that fails leaves the old plan serving;
//! of two reloads the later one is the last that every core takes over.
//!
//! Leaves out: signals and messages, which are the process's.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::{Plan, Scheme};
use crate::meter::capture::CaptureThread;
use crate::net::driver::{self, Driver};
use crate::net::mailbox::{self, Sender};
use crate::net::resolver::Resolver;
use crate::net::{clock, limits, listener};
use crate::policy::breaker::BreakerView;
use crate::rehearsal::{Mock, MockOptions, Pacing};

use super::books::{self, Books};
use super::captured;
use super::fixed::Fixed;
use super::live::{Live, TlsConfigs};
use super::metrics::Scraper;
use super::page::{self, Hub};
use super::serve_error::{ADOPTION, ServeError};
use super::stats::Stats;
use super::traces::{self, TraceThread};
use super::worker::{self, Message, Start};
use super::written::Written;

/// How long the end waits for captures to be written.
const CAPTURES_END: Duration = Duration::from_secs(2);

/// A gateway that runs in this process.
pub struct Running {
    addr: SocketAddr,
    driver: Driver,
    pub(super) fallback: Option<String>,
    pub(super) senders: Vec<Sender<Message>>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
    stats: Vec<Arc<Stats>>,
    connections: Arc<AtomicU64>,
    live: Mutex<Arc<Live>>,
    pub(super) fixed: Fixed,
    tls: TlsConfigs,
    mock: Option<Mock>,
    pub(super) books: Option<Books>,
    pub(super) captures: Option<CaptureThread>,
    pub(super) hub: Option<Arc<Hub>>,
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
pub(super) fn start_with(mut plan: Plan, state: Option<&Path>) -> Result<Running, ServeError> {
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
            busy_poll_us: live.plan.busy_poll_ms.saturating_mul(1000),
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
    /// What is served now.
    pub(super) fn live(&self) -> Arc<Live> {
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
