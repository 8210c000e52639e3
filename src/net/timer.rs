//! Deadlines: one coarse wheel per core, and the only helper for timeouts in the house.
//!
//! A connection owns one [`Deadline`] and moves it from phase to phase (head, body, first token, gap, idle), instead
//! of wrapping each await in a timer of its own. Moving a deadline later costs two stores: the wheel finds the entry
//! at its old tick and puts it back. Moving it earlier adds an entry.
//!
//! Resolution is [`TICK_US`], about 4 ms; a deadline never fires early. Deadlines are in microseconds of
//! [`super::clock::now_us`].

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::clock;

/// One tick of the wheel, in microseconds (2^12).
pub const TICK_US: u64 = 1 << TICK_SHIFT;
const TICK_SHIFT: u32 = 12;
/// Ticks in one turn of the wheel, about 4.2 s; later deadlines are looked at once a turn.
const SLOTS: usize = 1024;
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy)]
struct Queued {
    entry: u32,
    tick: u64,
}

struct Entry {
    at_us: u64,
    /// The earliest tick at which the wheel holds this entry, `NEVER` when it holds none.
    queued: u64,
    waker: Option<Waker>,
}

struct Wheel {
    entries: Vec<Entry>,
    free: Vec<u32>,
    slots: Vec<Vec<Queued>>,
    /// The last tick that was processed.
    tick: u64,
    /// Queued records, stale ones included.
    load: usize,
}

/// The wheel of one core. Cheap to clone.
#[derive(Clone)]
pub struct Timers(Rc<Shared>);

struct Shared {
    wheel: RefCell<Wheel>,
    /// The tick at which the driver task wakes next, `NEVER` when it sleeps until it is called.
    wakes_at: Cell<u64>,
    driver: RefCell<Option<Waker>>,
}

fn tick_of(at_us: u64) -> u64 {
    // Rounded up, so that a deadline never fires early.
    (at_us >> TICK_SHIFT) + 1
}

impl Default for Timers {
    fn default() -> Timers {
        Timers(Rc::new(Shared {
            wheel: RefCell::new(Wheel {
                entries: Vec::new(),
                free: Vec::new(),
                slots: (0..SLOTS).map(|_| Vec::new()).collect(),
                tick: clock::now_us() >> TICK_SHIFT,
                load: 0,
            }),
            wakes_at: Cell::new(NEVER),
            driver: RefCell::new(None),
        }))
    }
}

impl Timers {
    /// A new deadline, not yet set.
    pub fn deadline(&self) -> Deadline {
        let mut wheel = self.0.wheel.borrow_mut();
        let entry = match wheel.free.pop() {
            Some(i) => i,
            None => {
                wheel.entries.push(Entry { at_us: NEVER, queued: NEVER, waker: None });
                (wheel.entries.len() - 1) as u32
            }
        };
        Deadline { timers: self.clone(), entry }
    }

    /// Waits until `at_us`, for the few places that only sleep.
    pub async fn sleep_until(&self, at_us: u64) {
        let deadline = self.deadline();
        deadline.set(at_us);
        poll_fn(|cx| deadline.poll_passed(cx)).await;
    }

    /// Waits for `us` microseconds.
    pub async fn sleep(&self, us: u64) {
        self.sleep_until(clock::now_us() + us).await;
    }

    fn queue(&self, wheel: &mut Wheel, entry: u32) {
        let e = &mut wheel.entries[entry as usize];
        let tick = tick_of(e.at_us).max(wheel.tick + 1);
        if tick >= e.queued {
            return;
        }
        e.queued = tick;
        wheel.slots[tick as usize % SLOTS].push(Queued { entry, tick });
        wheel.load += 1;
        if tick < self.0.wakes_at.get() {
            self.0.wakes_at.set(tick);
            if let Some(waker) = self.0.driver.borrow_mut().take() {
                waker.wake();
            }
        }
    }

    /// Fires what is due at `now_us`. Returns the tick to wake at next.
    fn advance(&self, now_us: u64) -> u64 {
        let mut guard = self.0.wheel.borrow_mut();
        let wheel = &mut *guard;
        let now_tick = now_us >> TICK_SHIFT;
        // After a long sleep every slot is looked at once, not once for each turn that was slept through.
        let first = (wheel.tick + 1).max(now_tick.saturating_sub(SLOTS as u64 - 1));
        for tick in first..=now_tick {
            let slot = tick as usize % SLOTS;
            if wheel.slots[slot].is_empty() {
                continue;
            }
            wheel.tick = tick;
            let mut records = std::mem::take(&mut wheel.slots[slot]);
            let mut i = 0;
            while i < records.len() {
                if records[i].tick > now_tick {
                    i += 1;
                    continue;
                }
                let record = records.swap_remove(i);
                wheel.load -= 1;
                let e = &mut wheel.entries[record.entry as usize];
                if e.queued != record.tick {
                    continue;
                }
                e.queued = NEVER;
                if e.at_us == NEVER {
                    continue;
                }
                if e.at_us <= now_us {
                    if let Some(waker) = e.waker.take() {
                        waker.wake();
                    }
                } else {
                    let tick = tick_of(e.at_us).max(now_tick + 1);
                    e.queued = tick;
                    wheel.load += 1;
                    let again = Queued { entry: record.entry, tick };
                    if tick as usize % SLOTS == slot {
                        records.push(again);
                    } else {
                        wheel.slots[tick as usize % SLOTS].push(again);
                    }
                }
            }
            wheel.slots[slot] = records;
        }
        wheel.tick = now_tick;
        if wheel.load == 0 {
            return NEVER;
        }
        // The next slot that holds anything; records of a later turn only cost one look a turn.
        (1..=SLOTS as u64)
            .map(|d| now_tick + d)
            .find(|t| !wheel.slots[*t as usize % SLOTS].is_empty())
            .unwrap_or(NEVER)
    }

    /// Fires what is due, on a core that does not sleep and so is not woken for it.
    pub fn turn(&self, now_us: u64) {
        if self.0.wakes_at.get() <= now_us >> TICK_SHIFT {
            self.0.wakes_at.set(self.advance(now_us));
        }
    }

    /// Drives the wheel; runs for the life of the core.
    pub async fn drive(self) {
        loop {
            let next = self.advance(clock::now_us());
            self.0.wakes_at.set(next);
            let mut sleep = pin!(async {
                if next == NEVER {
                    std::future::pending::<()>().await;
                } else {
                    monoio::time::sleep_until(clock::instant_of(next << TICK_SHIFT).into()).await;
                }
            });
            poll_fn(|cx| {
                if self.0.wakes_at.get() < next {
                    return Poll::Ready(());
                }
                if sleep.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(());
                }
                *self.0.driver.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}

/// One movable deadline. Dropping it disarms it.
pub struct Deadline {
    timers: Timers,
    entry: u32,
}

impl Deadline {
    /// Sets or moves the deadline to `at_us`.
    pub fn set(&self, at_us: u64) {
        let mut wheel = self.timers.0.wheel.borrow_mut();
        wheel.entries[self.entry as usize].at_us = at_us.min(NEVER - 1);
        self.timers.queue(&mut wheel, self.entry);
    }

    /// Takes the deadline away.
    pub fn clear(&self) {
        self.timers.0.wheel.borrow_mut().entries[self.entry as usize].at_us = NEVER;
    }

    /// When it is due, in microseconds; `None` when it is not set.
    pub fn at_us(&self) -> Option<u64> {
        let at = self.timers.0.wheel.borrow().entries[self.entry as usize].at_us;
        (at != NEVER).then_some(at)
    }

    /// Ready once the deadline has passed; stays so until it is moved.
    pub fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut wheel = self.timers.0.wheel.borrow_mut();
        let e = &mut wheel.entries[self.entry as usize];
        // The clock is asked only when the wheel has fired or the deadline was never queued.
        if e.at_us != NEVER && e.queued == NEVER {
            if e.at_us <= clock::now_us() {
                return Poll::Ready(());
            }
            self.timers.queue(&mut wheel, self.entry);
        }
        let e = &mut wheel.entries[self.entry as usize];
        if !e.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            e.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let mut wheel = self.timers.0.wheel.borrow_mut();
        let e = &mut wheel.entries[self.entry as usize];
        e.at_us = NEVER;
        e.waker = None;
        // A record that is still queued names this entry; `queued` stays, so that it is recognised as the one record.
        wheel.free.push(self.entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver;

    fn run<T>(f: impl AsyncFnOnce(Timers) -> T) -> T {
        driver::block_on_any(async {
            let timers = Timers::default();
            monoio::spawn(timers.clone().drive());
            f(timers).await
        })
    }

    #[test]
    fn a_deadline_fires_at_its_time_and_never_before() {
        run(async |timers| {
            for us in [1_000, 9_000, 40_000] {
                let at = clock::now_us() + us;
                timers.sleep_until(at).await;
                let late = clock::now_us() as i64 - at as i64;
                assert!((0..60_000).contains(&late), "{us} us: {late} us late");
            }
        });
    }

    #[test]
    fn a_moved_deadline_fires_at_the_new_time_only() {
        run(async |timers| {
            let d = timers.deadline();
            let begin = clock::now_us();
            d.set(begin + 5_000);
            d.set(begin + 60_000);
            poll_fn(|cx| d.poll_passed(cx)).await;
            assert!(clock::now_us() - begin >= 60_000);
            d.set(clock::now_us() + 500_000);
            let begin = clock::now_us();
            d.set(begin + 5_000);
            poll_fn(|cx| d.poll_passed(cx)).await;
            assert!(clock::now_us() - begin < 400_000);
        });
    }

    #[test]
    fn a_deadline_that_was_dropped_or_cleared_wakes_nobody() {
        run(async |timers| {
            let d = timers.deadline();
            d.set(clock::now_us() + 5_000);
            drop(d);
            let reused = timers.deadline();
            reused.set(clock::now_us() + 40_000);
            let begin = clock::now_us();
            poll_fn(|cx| reused.poll_passed(cx)).await;
            assert!(clock::now_us() - begin >= 39_000);
            let d = timers.deadline();
            d.set(clock::now_us() + 1_000);
            d.clear();
            assert_eq!(d.at_us(), None);
            timers.sleep(20_000).await;
            let ready = poll_fn(|cx| Poll::Ready(d.poll_passed(cx).is_ready())).await;
            assert!(!ready);
        });
    }

    #[test]
    fn a_deadline_many_turns_away_survives_the_turns_before_it() {
        let timers = Timers::default();
        let base = clock::now_us();
        let d = timers.deadline();
        d.set(base + 600_000_000);
        let near = timers.deadline();
        near.set(base + 10_000);
        let mut fired_at = None;
        let mut now = base;
        let flag = std::sync::Arc::new(Flag(std::sync::atomic::AtomicBool::new(false)));
        let waker: Waker = flag.clone().into();
        timers.0.wheel.borrow_mut().entries[d.entry as usize].waker = Some(waker);
        while fired_at.is_none() && now < base + 700_000_000 {
            now += 37_000;
            timers.advance(now);
            if flag.0.load(std::sync::atomic::Ordering::Relaxed) {
                fired_at = Some(now);
            }
        }
        let late = fired_at.map(|at| at - (base + 600_000_000));
        assert!(late.is_some_and(|l| l < 50_000), "{late:?}");
    }

    struct Flag(std::sync::atomic::AtomicBool);
    impl std::task::Wake for Flag {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
