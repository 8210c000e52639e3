//! What one core owns: its view of the plan, its upstream connections, its timers, its part of policy's state.

use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::config::Who;
use crate::dialect::date::{HTTP_DATE_LEN, http_date};
use crate::meter::trace::Rules;
use crate::meter::{CoreMeter, Record};
use crate::net::pool::{OriginId, Pool};
use crate::net::resolver::Resolver;
use crate::net::{Timers, clock};
use crate::policy;
use crate::wire::fields::Fields;

use super::books::Desk;
use super::captured::CaptureDesk;
use super::live::Live;
use super::metrics::Scraper;
use super::models::ModelList;
use super::page::Hub;
use super::spin::Spin;
use super::stats::Stats;
use super::task::Roll;
use super::underway::Underway;

/// The plan as this core serves it. An exchange holds one for as long as it lasts, so that a reload changes
/// nothing under it.
pub struct CorePlan {
    /// The plan and what was compiled from it, shared by all cores.
    pub live: Arc<Live>,
    /// The pool's origin of each provider.
    pub origins: Vec<OriginId>,
    /// Decisions of this plan on this core.
    pub policy: RefCell<policy::Core>,
    /// The models that providers list, once asked.
    pub models: ModelList,
    /// What policy had counted when the core's counters last took it over.
    pub published: Cell<policy::Counters>,
}

/// How far the core is on its way from start to end. Only ever moves on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Serving.
    Serving,
    /// Finishing what runs: every answer says `Connection: close`. What waits to be accepted still is.
    Draining,
    /// Nobody new gets in.
    Closed,
    /// Client connections that are left are cut.
    Cut,
    /// Nothing runs any more.
    Ended,
}

/// One core.
pub struct Core {
    /// Its number, from 0.
    pub index: usize,
    plan: RefCell<Rc<CorePlan>>,
    /// Idle upstream connections.
    pub pool: RefCell<Pool>,
    /// Deadlines.
    pub timers: Timers,
    /// Name lookups, shared by all cores.
    pub resolver: Resolver,
    /// Counters of itself.
    pub stats: Arc<Stats>,
    /// Counters of exchanges.
    pub meter: RefCell<CoreMeter>,
    /// The way to the ledger, the access log and traces; `None` when there is none of them.
    pub desk: RefCell<Option<Desk>>,
    /// The way to the captures; `None` when there are none.
    pub captures: RefCell<Option<CaptureDesk>>,
    /// Which exchanges are traced; `None`: none is.
    pub traces: Cell<Option<Rules>>,
    /// Who writes the metrics page.
    pub scraper: Arc<Scraper>,
    /// What runs on this core now, for the live page.
    pub underway: Underway,
    /// Who serves the live page; `None` when there is none.
    pub hub: RefCell<Option<Arc<Hub>>>,
    /// Client connections of the whole process that are open.
    pub connections: Arc<AtomicU64>,
    /// Serving or on the way to the end; changed by [`Core::enter`].
    pub phase: Cell<Phase>,
    /// The tasks that end with a phase.
    pub roll: Roll,
    /// When it may sleep.
    pub spin: Spin,
    /// The field table of whoever parses a head right now; never held across an await.
    pub fields: RefCell<Box<Fields>>,
    sequence: Cell<u64>,
    seed: u64,
    /// Until when `date` holds, gateway clock, and it.
    date: Cell<(u64, [u8; HTTP_DATE_LEN])>,
}

impl Core {
    /// A core that serves `live`.
    pub fn new(
        index: usize,
        live: Arc<Live>,
        resolver: Resolver,
        scraper: Arc<Scraper>,
        connections: Arc<AtomicU64>,
    ) -> Core {
        let timers = Timers::default();
        let mut pool = Pool::new(&timers);
        // Two processes, two cores, two starts: different ids. In containers every process has the same number and a
        // fleet starts within one second, so the seed is one that the standard library takes from the kernel.
        let seed = RandomState::new().hash_one(index);
        let stats = scraper.stats.get(index).cloned().unwrap_or_default();
        let mut meter = CoreMeter::new(scraper.meter.clone());
        meter.reserve_models(live.plan.model_names());
        let plan = adopt(index, live, &mut pool, seed);
        Core {
            index,
            plan: RefCell::new(plan),
            pool: RefCell::new(pool),
            timers,
            resolver,
            stats,
            meter: RefCell::new(meter),
            desk: RefCell::default(),
            captures: RefCell::default(),
            traces: Cell::default(),
            scraper,
            underway: Underway::default(),
            spin: Spin::default(),
            hub: RefCell::default(),
            connections,
            phase: Cell::new(Phase::Serving),
            roll: Roll::default(),
            fields: RefCell::new(Box::new(Fields::new())),
            sequence: Cell::new(0),
            seed,
            date: Cell::new((0, http_date(0))),
        }
    }

    /// The plan to use for a new exchange.
    pub fn plan(&self) -> Rc<CorePlan> {
        self.plan.borrow().clone()
    }

    /// Serves `live` from the next exchange on; connections stay.
    pub fn adopt(&self, live: Arc<Live>) {
        self.meter.borrow_mut().reserve_models(live.plan.model_names());
        let plan = adopt(self.index, live, &mut self.pool.borrow_mut(), self.seed ^ self.sequence.get());
        *self.plan.borrow_mut() = plan;
    }

    /// Counts a finished exchange, and has it booked, logged and traced. `id` is the request id that its client was given.
    pub fn count(&self, id: &str, record: &Record<'_>, who: &Who) {
        // Nothing is awaited while these are borrowed, so they are free.
        if let Ok(mut meter) = self.meter.try_borrow_mut() {
            meter.record(record);
        }
        if let Ok(mut desk) = self.desk.try_borrow_mut()
            && let Some(desk) = &mut *desk
        {
            desk.push(id, record, &who.dims);
        }
    }

    /// A number that is not handed out twice by this process: the id of an exchange.
    pub fn next_id(&self) -> u64 {
        let n = self.sequence.get() + 1;
        self.sequence.set(n);
        // Mixed (splitmix64), so that ids of two cores and two starts do not look alike.
        let mut z = self.seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The time of day as the `Date` field writes it; made once a second, when a wall clock that was moved is noticed too.
    pub fn date(&self) -> [u8; HTTP_DATE_LEN] {
        let now_us = clock::recent_us();
        let (until_us, date) = self.date.get();
        if now_us < until_us {
            return date;
        }
        let unix_us = clock::unix_us();
        let date = http_date(unix_us / 1_000_000);
        self.date.set((clock::now_us() + 1_000_000 - unix_us % 1_000_000, date));
        date
    }

    /// Whether connections are to be closed after the answer at hand.
    pub fn draining(&self) -> bool {
        self.phase.get() >= Phase::Draining
    }

    /// Moves on to `phase` and lets every task know.
    pub fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.roll.wake_all();
    }
}

fn adopt(index: usize, live: Arc<Live>, pool: &mut Pool, seed: u64) -> Rc<CorePlan> {
    let origins = live.upstreams.iter().map(|u| pool.origin(&u.destination, &u.seats, u.bounds)).collect();
    let policy = RefCell::new(policy::Core::new(live.settings.clone(), live.shared.clone(), index, seed));
    Rc::new(CorePlan { live, origins, policy, models: ModelList::default(), published: Cell::default() })
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::config::Loader;
    use crate::gateway::live::TlsConfigs;

    /// A core that serves a plan of one provider.
    pub fn core() -> Core {
        let text = "providers: {mine: {base_url: \"http://127.0.0.1:1\"}}";
        let loader = Loader { file: Some("test.yaml".into()), ..Loader::default() };
        let plan = loader.load_text(text, &|_| None).unwrap();
        let live = Live::build(plan, 1, None, &TlsConfigs::default()).ok().unwrap();
        let scraper =
            Arc::new(Scraper::new(Arc::default(), vec![Arc::default()], "epoll", Default::default()));
        Core::new(0, Arc::new(live), Resolver::default(), scraper, Arc::default())
    }

    #[test]
    fn the_date_is_of_this_second() {
        let core = core();
        for _ in 0..2 {
            let before = clock::unix_seconds();
            let date = core.date();
            let after = clock::unix_seconds();
            assert!((before..=after).any(|s| http_date(s) == date), "{}", date.escape_ascii());
        }
    }

    #[test]
    fn two_cores_never_hand_out_the_same_ids() {
        // Two starts of the same core of two processes look alike in all but the seed.
        let mut ids: Vec<u64> =
            [core(), core()].iter().flat_map(|core| [core.next_id(), core.next_id()]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4);
    }
}
