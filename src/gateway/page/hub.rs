//! The thread that puts together what the page shows, and what it knows.
//!
//! It sleeps until it is asked. While a page is open it makes a snapshot a second and puts it where every core can read
//! it without waiting; every open page gets the same bytes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use signal_hook::consts::SIGHUP;

use crate::config::DriverChoice;
use crate::meter::Meter;
use crate::meter::board::Board;
use crate::net::mailbox::Sender;
use crate::net::{clock, limits};
use crate::policy::ProviderId;

use super::super::gamedays::Gamedays;
use super::super::live::Live;
use super::super::stats::Stats;
use super::super::worker::Message;
use super::answers::{self, Ask, TargetName};
use super::{config, state};

/// Pages that may be open at once.
pub const WATCHERS_MAX: u32 = 16;
/// Between two snapshots.
const TICK: Duration = Duration::from_secs(1);
/// How long a reload may take.
const RELOAD: Duration = Duration::from_secs(10);

/// What the hub answers.
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// JSON.
    pub body: Vec<u8>,
}

impl Reply {
    /// A good answer.
    pub fn ok(body: Vec<u8>) -> Reply {
        Reply { status: 200, body }
    }

    /// Done, or why not: `{"v":1,"ok":…,"said":…}`.
    fn done(result: Result<String, (u16, String)>) -> Reply {
        let (status, ok, said) = match result {
            Ok(said) => (200, true, said),
            Err((status, said)) => (status, false, said),
        };
        let body = serde_json::json!({"v": 1, "ok": ok, "said": said});
        Reply { status, body: body.to_string().into_bytes() }
    }
}

/// How things stood at one moment.
pub struct Snapshot {
    /// One more for each.
    pub number: u64,
    /// One line of JSON.
    pub json: Vec<u8>,
}

enum Job {
    Ask(Arc<Live>, Ask, Sender<Reply>),
    /// Somebody looks: begin to make snapshots.
    Wake,
}

/// Where the outcome of a reload goes: what was said, or why it was refused.
type Reloaded = mpsc::Sender<Result<String, String>>;

/// What the hub reads, shared with its thread.
pub struct Facts {
    /// What is known of finished exchanges.
    pub board: Arc<Mutex<Board>>,
    /// The counters of exchanges.
    pub meter: Arc<Meter>,
    /// The counters of each core.
    pub stats: Vec<Arc<Stats>>,
    /// The driver in use.
    pub driver: &'static str,
    /// When the process began to serve, Unix time.
    pub started_unix_s: u64,
    /// The cores.
    pub cores: OnceLock<Vec<Sender<Message>>>,
    /// The rehearsals.
    pub gamedays: Gamedays,
    /// The plan that the last look was for.
    live: ArcSwap<Live>,
    snapshot: ArcSwapOption<Snapshot>,
    watchers: AtomicU32,
    /// Who waits for a reload; `None` when the gateway cannot load its configuration again.
    reloads: Mutex<Option<Vec<Reloaded>>>,
}

impl Facts {
    /// The board; the lock is held for moments, by side threads alone.
    pub fn board(&self) -> std::sync::MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to the thread. One for the life of the process.
pub struct Hub {
    facts: Arc<Facts>,
    jobs: OnceLock<mpsc::Sender<Job>>,
}

/// What a hub is made from.
pub struct Beginning {
    /// The counters of exchanges.
    pub meter: Arc<Meter>,
    /// The counters of each core.
    pub stats: Vec<Arc<Stats>>,
    /// The driver in use.
    pub driver: &'static str,
    /// The driver that was asked for; game days use it.
    pub choice: DriverChoice,
    /// The first plan.
    pub live: Arc<Live>,
}

impl Hub {
    /// For a process that begins to serve now.
    pub fn new(from: Beginning) -> Hub {
        let facts = Facts {
            board: Arc::default(),
            meter: from.meter,
            stats: from.stats,
            driver: from.driver,
            started_unix_s: clock::unix_seconds(),
            cores: OnceLock::new(),
            gamedays: Gamedays::new(from.choice),
            live: ArcSwap::new(from.live),
            snapshot: ArcSwapOption::empty(),
            watchers: AtomicU32::new(0),
            reloads: Mutex::new(None),
        };
        Hub { facts: Arc::new(facts), jobs: OnceLock::new() }
    }

    /// Where finished exchanges go.
    pub fn board(&self) -> Arc<Mutex<Board>> {
        self.facts.board.clone()
    }

    /// The cores that may be asked what runs on them.
    pub fn cores_are(&self, cores: Vec<Sender<Message>>) {
        // They are told once, at the start.
        let _ = self.facts.cores.set(cores);
    }

    /// The configuration can be loaded again: SIGHUP does it, and [`Hub::reloaded`] is told what came of it.
    pub fn can_reload(&self) {
        *self.facts.reloads.lock().unwrap_or_else(PoisonError::into_inner) = Some(Vec::new());
    }

    /// A reload is over.
    pub fn reloaded(&self, result: &Result<String, String>) {
        let mut reloads = self.facts.reloads.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in reloads.iter_mut().flat_map(std::mem::take) {
            // Whoever asked may have given up.
            let _ = waiting.send(result.clone());
        }
    }

    /// Ends what runs on the page's behalf.
    pub fn stop(&self) {
        self.facts.gamedays.stop_and_wait();
    }

    /// Hands a question over; the reply comes to `to`.
    pub fn ask(&self, live: Arc<Live>, ask: Ask, to: Sender<Reply>) {
        if let Err(mpsc::SendError(Job::Ask(.., to))) = self.jobs().send(Job::Ask(live, ask, to)) {
            to.send(Reply::done(Err((503, "the page's thread has ended; restart the gateway".to_owned()))));
        }
    }

    fn jobs(&self) -> &mpsc::Sender<Job> {
        self.jobs.get_or_init(|| {
            let (jobs, todo) = mpsc::channel();
            let facts = self.facts.clone();
            // Ends with the hub, which holds the other end. Without a thread every answer is an error.
            let _ = std::thread::Builder::new().name("sluice-page".to_owned()).spawn(move || {
                limits::give_way(0);
                Maker { facts, number: 0, shown: 0 }.work(&todo);
            });
            jobs
        })
    }

    /// A place among those who look; `None` when there is none left.
    pub fn watch(self: &Arc<Hub>) -> Option<Watcher> {
        let watchers = &self.facts.watchers;
        if watchers.fetch_add(1, Ordering::AcqRel) >= WATCHERS_MAX {
            watchers.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let watcher = Watcher(self.clone());
        let _ = self.jobs().send(Job::Wake);
        Some(watcher)
    }
}

/// Somebody who looks, for as long as it lives.
pub struct Watcher(Arc<Hub>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.facts.watchers.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Watcher {
    /// The snapshot there is, when it is newer than number `seen`. `live` is the plan that serves.
    pub fn newer_than(&self, seen: u64, live: &Arc<Live>) -> Option<Arc<Snapshot>> {
        let facts = &self.0.facts;
        if facts.live.load().generation != live.generation {
            facts.live.store(live.clone());
        }
        facts.snapshot.load_full().filter(|snapshot| snapshot.number > seen)
    }
}

/// The thread's own.
struct Maker {
    facts: Arc<Facts>,
    /// Of the last snapshot.
    number: u64,
    /// The newest exchange that a snapshot had.
    shown: u64,
}

impl Maker {
    fn work(mut self, todo: &mpsc::Receiver<Job>) {
        let mut next = Instant::now();
        loop {
            let watched = self.facts.watchers.load(Ordering::Acquire) > 0;
            let job = match watched {
                true => todo.recv_timeout(next.saturating_duration_since(Instant::now())),
                false => todo.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(Job::Ask(live, ask, to)) => self.answer(&live, ask, to),
                Ok(Job::Wake) if !watched || Instant::now() + TICK < next => next = Instant::now(),
                Ok(Job::Wake) => {}
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    self.snapshot();
                    next = Instant::now() + TICK;
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn snapshot(&mut self) {
        let live = self.facts.live.load_full();
        let json = state::json(&self.facts, &live, Some(self.shown));
        self.shown = self.facts.board().last();
        // Numbers go on from the time, so that a page that stayed open over a restart takes the first one.
        self.number = (self.number + 1).max(clock::unix_us() / 1_000);
        self.facts.snapshot.store(Some(Arc::new(Snapshot { number: self.number, json })));
    }

    fn answer(&self, live: &Arc<Live>, ask: Ask, to: Sender<Reply>) {
        let facts = &self.facts;
        to.send(match ask {
            Ask::State => Reply::ok(state::json(facts, live, None)),
            Ask::Exchanges { after, most } => Reply::ok(answers::exchanges(&facts.board(), after, most)),
            Ask::History { span, since } => Reply::ok(answers::history(&facts.board(), span, since)),
            Ask::Config => Reply::ok(config::json(live)),
            Ask::Gamedays => Reply::ok(facts.gamedays.json()),
            Ask::Play(wanted) => Reply::done(facts.gamedays.play(wanted)),
            Ask::StopPlaying => Reply::done(facts.gamedays.stop()),
            Ask::Reset(target) => Reply::done(reset(live, &target)),
            Ask::Reload => return reload(facts.clone(), to),
        });
    }
}

fn reset(live: &Live, target: &TargetName) -> Result<String, (u16, String)> {
    let TargetName { provider, model } = target;
    let index = live.plan.providers.iter().position(|own| *own.name == **provider);
    let Some(index) = index else {
        return Err((404, format!("no provider `{provider}` is configured")));
    };
    let slot = live.shared.slot(&live.settings, ProviderId(index as u16), model.as_bytes());
    live.shared.reset(slot, clock::now_us());
    tracing::info!("{provider}/{model}: breaker closed and cooldowns ended, as the admin API was told");
    Ok(format!("{provider}/{model} gets calls again: its breaker is closed and its keys are free"))
}

/// Has the configuration loaded again. On a thread of its own, because it takes its time.
fn reload(facts: Arc<Facts>, to: Sender<Reply>) {
    let (result, waiting) = mpsc::channel();
    let mut reloads = facts.reloads.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(all) = reloads.as_mut() else {
        return to.send(Reply::done(Err((409, "there is no configuration file to load again".to_owned()))));
    };
    all.push(result);
    drop(reloads);
    let wait = move || {
        // The thread that serves signals does it, so that there is one way to reload.
        let raised = signal_hook::low_level::raise(SIGHUP).map_err(|error| (500, error.to_string()));
        let result = raised.and_then(|()| match waiting.recv_timeout(RELOAD) {
            Ok(result) => result.map_err(|why| (409, why)),
            Err(_) => Err((504, "the reload goes on; the log says how it ends".to_owned())),
        });
        to.send(Reply::done(result));
    };
    // Out of threads: the mailbox closes, and the core says that nothing could be put together.
    let _ = std::thread::Builder::new().name("sluice-reload".to_owned()).spawn(wait);
}
