//! The thread that writes exchanges down: the ledger of what was spent, the access log, the live page's board, and the
//! spans of traces, which another thread delivers.
//!
//! It empties the rings of all cores some times a second, or when one of them is half full, books and logs what was in
//! them, and commits the ledger about once a second. Cores never wait for it.
//!
//! Invariant: what a core pushed before [`Books::stop`] is booked and logged, unless its ring was full.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use crate::config::{AccessLogConfig, LogTo, Plan};
use crate::meter::Record;
use crate::meter::board::Board;
use crate::meter::ledger::{Ledger, Store, day_of};
use crate::meter::log::{AccessLog, Counts, Output, Rotate};
use crate::meter::outbox::{Inbox, Outbox, Pushed, outbox};
use crate::net::{clock, limits};

use super::traces::{TraceCounts, Tracer};

/// Longest rest between two looks at the rings.
const REST: Duration = Duration::from_millis(250);
/// How often the ledger is written. With the rest before it, a crash loses less than a second.
const COMMIT_US: u64 = 700_000;
/// How long the end waits for a log that nobody reads.
const LOG_END: Duration = Duration::from_secs(2);

/// A core's way to the books and traces.
pub struct Desk {
    outbox: Outbox,
    writer: Thread,
    /// There is a ledger or a log, which want every exchange; traces want some.
    every: bool,
    traces: Arc<TraceCounts>,
}

impl Desk {
    /// Hands over a finished exchange; see [`Outbox::push`].
    pub fn push(&mut self, id: &str, record: &Record<'_>, dims: &[Box<str>]) {
        if !self.every && record.trace.is_none() {
            return;
        }
        match self.outbox.push(id, record, dims) {
            Pushed::Half => self.writer.unpark(),
            Pushed::Dropped if record.trace.is_some() => self.traces.drop_spans(1 + record.tried.len()),
            _ => {}
        }
    }
}

/// What the thread is told.
#[derive(Default)]
struct Orders {
    reopen: AtomicBool,
    stop: AtomicBool,
}

/// The thread.
pub struct Books {
    orders: Arc<Orders>,
    thread: JoinHandle<()>,
    /// The ledger's file, when there is one.
    pub ledger: Option<PathBuf>,
    /// Lines of the access log, when there is one.
    pub log: Option<Arc<Counts>>,
    /// Exchanges that did not fit into a ring, when the ledger or the log should have had them.
    pub missed: Option<Arc<AtomicU64>>,
}

/// Where the ledger of `plan` is. `state` is the file of whoever runs the gateway, for a plan that names none. A gateway
/// that has nothing but the mock provider keeps none unless told to: its money is not real.
pub fn ledger_path(plan: &Plan, state: Option<&Path>) -> Option<PathBuf> {
    let rehearses = plan.mock.is_some() && plan.providers.len() == 1;
    if !plan.ledger.on.unwrap_or(!rehearses) {
        return None;
    }
    plan.ledger.path.clone().or_else(|| state.map(Path::to_owned))
}

/// Starts the books of `plan` for so many cores; `None` when nothing wants any. A ledger that cannot be opened is said and
/// left out: answers are worth more.
///
/// # Errors
/// The access log cannot be opened, or the thread not be started.
pub fn start(
    plan: &Plan,
    ledger: Option<PathBuf>,
    board: Option<Arc<Mutex<Board>>>,
    traces: Option<(Tracer, Arc<TraceCounts>)>,
    cores: usize,
) -> Result<Option<(Books, Vec<Desk>)>, String> {
    let now_s = clock::unix_seconds();
    let opened = ledger.and_then(|path| {
        let opened = Store::open(&path).and_then(|store| Ok((Ledger::resume(&store, day_of(now_s))?, store)));
        match opened {
            Ok((ledger, store)) => Some((path, ledger, store)),
            Err(why) => {
                tracing::warn!(
                    "what is spent is not kept: the ledger {} cannot be opened: {why}; set `ledger.path`, or `ledger: off`",
                    path.display()
                );
                None
            }
        }
    });
    let log = match &plan.access_log {
        Some(config) => Some(open_log(config)?),
        None => None,
    };
    let every = opened.is_some() || log.is_some() || board.is_some();
    if !every && traces.is_none() {
        return Ok(None);
    }
    let (tracer, counts) = traces.unzip();
    let counts = counts.unwrap_or_default();
    let path = opened.as_ref().map(|(path, ..)| path.clone());
    let (outboxes, inboxes): (Vec<Outbox>, Vec<Inbox>) = (0..cores).map(|_| outbox()).unzip();
    let orders = Arc::new(Orders::default());
    let keep_days = plan.ledger.keep_days;
    let (lines, all_missed) = (log.as_ref().map(AccessLog::counts), Arc::new(AtomicU64::new(0)));
    let told_missed = every.then(|| all_missed.clone());
    let writer = Writer {
        orders: orders.clone(),
        missed: vec![0; inboxes.len()],
        all_missed,
        inboxes,
        kept: opened.map(|(_, ledger, store)| Kept {
            ledger,
            store,
            keep_days,
            day: 0,
            tried_us: clock::now_us(),
            failing: false,
        }),
        log,
        board,
        tracer,
    };
    let thread = std::thread::Builder::new()
        .name("sluice-books".to_owned())
        .spawn(move || {
            limits::give_way(0);
            writer.run()
        })
        .map_err(|error| {
            format!("the thread of the ledger, the access log and traces cannot start: {error}")
        })?;
    let desk = |outbox| Desk { outbox, writer: thread.thread().clone(), every, traces: counts.clone() };
    let desks = outboxes.into_iter().map(desk).collect();
    Ok(Some((Books { orders, thread, ledger: path, log: lines, missed: told_missed }, desks)))
}

fn open_log(config: &AccessLogConfig) -> Result<AccessLog, String> {
    let rotate = config.rotate.map(|rotate| Rotate { bytes: rotate.bytes, keep: rotate.keep });
    let (output, name) = match &config.to {
        LogTo::Stdout => (Output::Stdout, "stdout".to_owned()),
        LogTo::Stderr => (Output::Stderr, "stderr".to_owned()),
        LogTo::File(path) => (Output::File(path.clone(), rotate), path.display().to_string()),
    };
    AccessLog::start(output, config.sample)
        .map_err(|error| format!("the access log {name} cannot be opened: {error}; see `access_log.to`"))
}

impl Books {
    /// Opens the file of the access log again, which someone moved away.
    pub fn reopen(&self) {
        self.orders.reopen.store(true, Ordering::Release);
        self.thread.thread().unpark();
    }

    /// Writes down what the cores handed over and ends. The cores have ended.
    pub fn stop(self) {
        self.orders.stop.store(true, Ordering::Release);
        self.thread.thread().unpark();
        // A panic there was said by the panic itself; there is nothing to add.
        let _ = self.thread.join();
    }
}

/// The ledger and its file.
struct Kept {
    ledger: Ledger,
    store: Store,
    keep_days: u32,
    /// The day that old days were last forgotten on.
    day: u32,
    /// When it was last written, or tried to; gateway clock.
    tried_us: u64,
    /// The last try failed, which was said.
    failing: bool,
}

struct Writer {
    orders: Arc<Orders>,
    inboxes: Vec<Inbox>,
    /// Exchanges that each ring had dropped when it was last looked at.
    missed: Vec<u64>,
    /// The same of all rings, for the metrics page.
    all_missed: Arc<AtomicU64>,
    kept: Option<Kept>,
    log: Option<AccessLog>,
    /// What the live page shows.
    board: Option<Arc<Mutex<Board>>>,
    tracer: Option<Tracer>,
}

impl Writer {
    fn run(mut self) {
        loop {
            // Looked at before the rings are, so that the last look comes after the last push.
            let stopping = self.orders.stop.load(Ordering::Acquire);
            self.turn();
            if let Some(kept) = &mut self.kept {
                kept.write(stopping);
            }
            if stopping {
                break;
            }
            std::thread::park_timeout(REST);
        }
        if let Some(log) = self.log {
            log.end(LOG_END);
        }
    }

    fn turn(&mut self) {
        let (unix_us, now_us) = (clock::unix_us(), clock::now_us());
        let Writer { inboxes, missed, all_missed, kept, log, board, tracer, .. } = self;
        // Held for a turn; the page's thread takes it for moments, and no core ever does.
        let mut board = board.as_ref().map(|board| board.lock().unwrap_or_else(PoisonError::into_inner));
        for (inbox, missed) in inboxes.iter_mut().zip(missed) {
            inbox.each(|entry, frame| {
                let ended_us = entry.started_us.saturating_add(entry.duration_us);
                let ended_unix_us = unix_us.saturating_sub(now_us.saturating_sub(ended_us));
                if let Some(kept) = kept {
                    kept.ledger.book(entry, ended_unix_us / 1_000_000);
                }
                if let Some(log) = log {
                    log.add(entry, ended_unix_us);
                }
                if let Some(board) = &mut board {
                    board.add(entry, frame, ended_unix_us);
                }
                if let Some(tracer) = tracer {
                    tracer.add(entry, ended_unix_us);
                }
            });
            let dropped = inbox.dropped();
            if let Some(kept) = kept {
                kept.ledger.miss(dropped - *missed, unix_us / 1_000_000);
            }
            if let Some(board) = &mut board {
                board.miss(dropped - *missed);
            }
            all_missed.fetch_add(dropped - *missed, Ordering::Relaxed);
            *missed = dropped;
        }
        if let Some(tracer) = tracer {
            tracer.flush();
        }
        if let Some(log) = log {
            log.flush();
            if self.orders.reopen.swap(false, Ordering::AcqRel) {
                log.reopen();
            }
        }
    }
}

impl Kept {
    /// Writes what is booked when it is time, or when it is the last time.
    fn write(&mut self, last: bool) {
        let now_us = clock::now_us();
        if now_us < self.tried_us.saturating_add(COMMIT_US) && !last {
            return;
        }
        self.tried_us = now_us;
        let day = day_of(clock::unix_seconds());
        let mut written = Ok(());
        if day != self.day {
            written = self.store.forget_before((day + 1).saturating_sub(self.keep_days));
            if written.is_ok() {
                self.day = day;
            }
        }
        if written.is_ok() && self.ledger.is_dirty() {
            written = self.ledger.commit(&mut self.store);
        }
        match written {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the ledger is written again; nothing was lost");
                }
            }
            Err(why) => {
                if last {
                    tracing::warn!(
                        "the ledger could not be written at the end: {why}; the last exchanges are lost"
                    );
                } else if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        "the ledger cannot be written: {why}; it is kept in memory and tried again"
                    );
                }
            }
        }
    }
}
