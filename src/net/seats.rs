//! How many connections the whole process has open to one origin.
//!
//! Pools belong to cores, a bound on connections belongs to the process, so cores count in one cell. A core that needs
//! a connection while all seats are taken says so ([`Seats::want`]); the others then give up idle ones when they sweep.
//!
//! INVARIANT: `open` is the number of [`Seat`]s that live; a seat lives as long as its connection or the attempt to make
//! one. Opening a connection is rare, so the locked instructions here are off the path of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The connections to one origin, over all cores.
#[derive(Debug, Default)]
pub struct Seats {
    open: AtomicU32,
    wanted: AtomicU32,
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub struct Seat(Arc<Seats>);

/// Says for as long as it lives that somebody waits for a seat.
#[derive(Debug)]
pub struct Wanted(Arc<Seats>);

impl Seats {
    /// A seat, unless `limit` of them are taken.
    pub fn take(self: &Arc<Self>, limit: u32) -> Option<Seat> {
        let more = |open: u32| (open < limit).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        Some(Seat(self.clone()))
    }

    /// Asks the other cores for one of their idle connections.
    pub fn want(self: &Arc<Self>) -> Wanted {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Wanted(self.clone())
    }

    /// How many wait for a seat.
    pub fn wanted(&self) -> usize {
        self.wanted.load(Ordering::Acquire) as usize
    }

    /// How many are taken.
    pub fn open(&self) -> u32 {
        self.open.load(Ordering::Acquire)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_seats_as_the_limit_says_whoever_takes_them() {
        let seats = Arc::new(Seats::default());
        let most = std::thread::scope(|scope| {
            let cores: Vec<_> = (0..4)
                .map(|_| {
                    let seats = &seats;
                    scope.spawn(move || {
                        let mut most = 0;
                        for _ in 0..10_000 {
                            if let Some(_seat) = seats.take(3) {
                                most = most.max(seats.open());
                            }
                        }
                        most
                    })
                })
                .collect();
            cores.into_iter().map(|core| core.join().unwrap()).max()
        });
        assert!(most.is_some_and(|most| (1..=3).contains(&most)), "{most:?}");
        assert_eq!(seats.open(), 0, "each was given back");
        let taken: Vec<Seat> = std::iter::from_fn(|| seats.take(3)).collect();
        assert_eq!(taken.len(), 3);
        assert!(seats.take(2).is_none() && seats.take(4).is_some(), "a reload may move the limit");
    }

    #[test]
    fn who_waits_is_counted_until_the_wait_ends() {
        let seats = Arc::new(Seats::default());
        let waits = [seats.want(), seats.want()];
        assert_eq!(seats.wanted(), 2);
        drop(waits);
        assert_eq!(seats.wanted(), 0);
    }
}
