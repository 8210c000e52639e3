//! Idle upstream connections of one core, by origin.
//!
//! An idle connection keeps a read armed: when it completes, the peer closed the connection or sent bytes that nobody
//! asked for (a queued second answer, a 408 on an idle connection), and the connection is thrown away. So a reused
//! connection costs no extra system call, and the read that is armed is the next answer's read.
//!
//! Last in, first out: the warmest connection is used, the others age out. Limits: the idle time and the number of
//! connections that the plan gives ([`Bounds`]), [`AGE_US`] old (jittered, so that a fleet's connections do not end
//! together and moved DNS records are followed), and [`MAX_IDLE`] per origin and core.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::conn::Idle;
use super::dial::Destination;
use super::seats::{Seat, Seats, Wanted};
use super::{Buf, Conn, Deadline, Timers, buf, clock};

/// Longest age, before jitter of up to a quarter less.
pub const AGE_US: u64 = 600_000_000;
/// How often idle connections are looked at.
const SWEEP_US: u64 = 1_000_000;
/// The same where a provider's connections are scarce: so long may another core have to wait for one that idles here.
const SWEEP_SCARCE_US: u64 = 5_000;
/// Most idle connections per origin and core.
pub const MAX_IDLE: usize = 512;

/// An origin of this core's pool. Stays valid for the life of the core, across reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginId(u32);

/// What the plan allows at one origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Longest idle time; below the idle time-outs that providers' front ends use (60 s and more), we close first.
    pub idle_us: u64,
    /// Most connections of the process; `u32::MAX` is no bound.
    pub open_max: u32,
}

struct Parked {
    pooled: Pooled,
    since_us: u64,
}

struct Origin {
    destination: Destination,
    seats: Arc<Seats>,
    bounds: Bounds,
    idle: VecDeque<Parked>,
}

impl Origin {
    fn is_scarce(&self) -> bool {
        self.seats.open() >= self.bounds.open_max.div_ceil(2)
    }

    fn usable(&self, parked: &mut Parked, now_us: u64) -> bool {
        now_us < parked.pooled.retire_us
            && now_us < parked.since_us + self.bounds.idle_us
            && parked.pooled.conn.check_idle() == Idle::Quiet
    }
}

/// A connection with the time at which it is too old to be reused.
pub struct Pooled {
    /// The connection.
    pub conn: Conn,
    /// Whether it carried a request before: then its death before any byte says nothing about the provider.
    pub reused: bool,
    retire_us: u64,
    /// Dropped after the connection is closed.
    _seat: Seat,
}

impl Pooled {
    /// A connection that was just dialled. `jitter` is any random number.
    pub fn fresh(conn: Conn, seat: Seat, jitter: u64) -> Pooled {
        let retire_us = clock::now_us() + AGE_US - jitter % (AGE_US / 4);
        Pooled { conn, reused: false, retire_us, _seat: seat }
    }
}

/// The pool of one core.
#[derive(Default)]
pub struct Pool {
    origins: Vec<Origin>,
    /// When idle connections are looked at next; missing where nobody looks.
    look: Option<Deadline>,
}

impl Pool {
    /// An empty pool whose idle connections are looked at by these timers.
    pub fn new(timers: &Timers) -> Pool {
        let look = timers.deadline();
        look.set(clock::now_us());
        Pool { origins: Vec::new(), look: Some(look) }
    }

    /// The id of a destination, from now on with these bounds; the same for equal destinations, also across reloads.
    pub fn origin(&mut self, destination: &Destination, seats: &Arc<Seats>, bounds: Bounds) -> OriginId {
        let known = |o: &Origin| o.destination.same(destination) && Arc::ptr_eq(&o.seats, seats);
        let at = self.origins.iter().position(known).unwrap_or_else(|| {
            self.origins.push(Origin {
                destination: destination.clone(),
                seats: seats.clone(),
                bounds,
                idle: VecDeque::new(),
            });
            self.origins.len() - 1
        });
        self.origins[at].bounds = bounds;
        OriginId(at as u32)
    }

    /// Where an origin is.
    pub fn destination(&self, id: OriginId) -> Option<&Destination> {
        self.origins.get(id.0 as usize).map(|o| &o.destination)
    }

    /// The warmest usable idle connection. Dead ones found on the way are closed.
    pub fn take(&mut self, id: OriginId, now_us: u64) -> Option<Pooled> {
        let origin = self.origins.get_mut(id.0 as usize)?;
        while let Some(mut parked) = origin.idle.pop_back() {
            if origin.usable(&mut parked, now_us) {
                return Some(Pooled { reused: true, ..parked.pooled });
            }
        }
        None
    }

    /// The right to open one more connection. Where all are taken, an idle connection of this core makes room; `None`
    /// when there is none.
    pub fn seat(&mut self, id: OriginId) -> Option<Seat> {
        let origin = self.origins.get_mut(id.0 as usize)?;
        loop {
            if let Some(seat) = origin.seats.take(origin.bounds.open_max) {
                return Some(seat);
            }
            origin.idle.pop_front()?;
        }
    }

    /// Asks other cores for one of their idle connections, for as long as the result lives.
    pub fn want(&self, id: OriginId) -> Option<Wanted> {
        self.origins.get(id.0 as usize).map(|o| o.seats.want())
    }

    /// Parks a connection whose last answer was complete and after which nothing came.
    pub fn put(&mut self, id: OriginId, mut pooled: Pooled, now_us: u64) {
        let Some(origin) = self.origins.get_mut(id.0 as usize) else { return };
        // Another core that waits for a connection gets this one's seat.
        if now_us >= pooled.retire_us || origin.seats.wanted() > 0 {
            return;
        }
        pooled.conn.arm(Buf::take(buf::STREAM));
        if origin.idle.len() == MAX_IDLE {
            origin.idle.pop_front();
        }
        origin.idle.push_back(Parked { pooled, since_us: now_us });
        if origin.is_scarce() {
            let soon_us = now_us + SWEEP_SCARCE_US;
            if let Some(look) = self.look.as_ref().filter(|look| look.at_us().is_none_or(|at| at > soon_us)) {
                look.set(soon_us);
            }
        }
    }

    /// Closes what is dead, idle for too long or too old, and what other cores wait for.
    pub fn sweep(&mut self, now_us: u64) {
        for origin in &mut self.origins {
            let mut idle = std::mem::take(&mut origin.idle);
            idle.retain_mut(|parked| origin.usable(parked, now_us));
            idle.drain(..origin.seats.wanted().min(idle.len()));
            origin.idle = idle;
        }
        if let Some(look) = &self.look {
            look.set(now_us + if self.is_scarce() { SWEEP_SCARCE_US } else { SWEEP_US });
        }
    }

    /// Ready when [`Pool::sweep`] is due.
    pub fn poll_sweep(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.look.as_ref().map_or(Poll::Pending, |look| look.poll_passed(cx))
    }

    /// Whether connections are idle here that another core may soon need: half of those that may be open are.
    fn is_scarce(&self) -> bool {
        self.origins.iter().any(|o| !o.idle.is_empty() && o.is_scarce())
    }

    /// Idle connections of all origins.
    pub fn idle(&self) -> usize {
        self.origins.iter().map(|o| o.idle.len()).sum()
    }

    /// Closes every idle connection.
    pub fn close(&mut self) {
        for origin in &mut self.origins {
            origin.idle.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DriverChoice;
    use crate::net::driver::{self, Driver};
    use monoio::net::TcpStream;
    use std::io::Write;

    fn on_both(f: impl AsyncFn()) {
        driver::block_on(Driver::Epoll, f()).unwrap();
        if let Ok(chosen) = driver::choose(DriverChoice::IoUring) {
            driver::block_on(chosen.driver, f()).unwrap();
        }
    }

    const BOUNDS: Bounds = Bounds { idle_us: 30_000_000, open_max: u32::MAX };

    fn fresh(conn: Conn, seats: &Arc<Seats>) -> Pooled {
        Pooled::fresh(conn, seats.take(u32::MAX).unwrap(), 0)
    }

    async fn parked() -> (Pool, OriginId, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (mut pool, seats) = (Pool::default(), Arc::default());
        let to = Destination { host: "127.0.0.1".into(), port: addr.port(), tls: None };
        let id = pool.origin(&to, &seats, BOUNDS);
        let conn = Conn::new(TcpStream::connect_addr(addr).await.unwrap());
        pool.put(id, fresh(conn, &seats), clock::now_us());
        (pool, id, listener.accept().unwrap().0)
    }

    async fn a_moment() {
        monoio::time::sleep(std::time::Duration::from_millis(5)).await;
    }

    #[test]
    fn a_quiet_connection_is_reused() {
        on_both(async || {
            let (mut pool, id, _peer) = parked().await;
            a_moment().await;
            assert!(pool.take(id, clock::now_us()).is_some_and(|p| p.reused));
            assert_eq!(pool.idle(), 0);
        });
    }

    #[test]
    fn a_connection_that_the_provider_closed_is_not_reused() {
        on_both(async || {
            let (mut pool, id, peer) = parked().await;
            drop(peer);
            a_moment().await;
            assert!(pool.take(id, clock::now_us()).is_none());
        });
    }

    #[test]
    fn bytes_that_nobody_asked_for_never_become_the_next_answer() {
        on_both(async || {
            let (mut pool, id, mut peer) = parked().await;
            peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad").unwrap();
            a_moment().await;
            assert!(pool.take(id, clock::now_us()).is_none());
        });
    }

    #[test]
    fn idle_and_old_connections_are_closed() {
        on_both(async || {
            let (mut pool, id, _peer) = parked().await;
            let now = clock::now_us();
            pool.sweep(now + BOUNDS.idle_us - 1_000_000);
            assert_eq!(pool.idle(), 1);
            pool.sweep(now + BOUNDS.idle_us + 1_000_000);
            assert_eq!(pool.idle(), 0);
            let (mut pool, id2, _peer) = parked().await;
            let taken = pool.take(id2, clock::now_us()).unwrap();
            pool.put(id, taken, clock::now_us() + AGE_US);
            assert_eq!(pool.idle(), 0, "too old to be parked again");
        });
    }

    #[test]
    fn equal_destinations_share_an_origin_and_trust_is_part_of_it() {
        let mut pool = Pool::default();
        let plain = Destination { host: "a".into(), port: 1, tls: None };
        let tls = Destination { tls: Some(super::super::tls::client_config(&[]).unwrap()), ..plain.clone() };
        let other =
            Destination { tls: Some(super::super::tls::client_config(&[]).unwrap()), ..plain.clone() };
        let seats = Arc::default();
        let mut of = |to: &Destination| pool.origin(to, &seats, BOUNDS);
        assert_eq!(of(&plain), of(&plain.clone()));
        assert_ne!(of(&plain), of(&tls));
        assert_ne!(of(&tls), of(&other));
    }

    #[test]
    fn a_plan_that_shortens_the_idle_time_closes_what_idles_already() {
        on_both(async || {
            let (mut pool, id, _peer) = parked().await;
            let (to, seats) = (pool.origins[0].destination.clone(), pool.origins[0].seats.clone());
            let shorter = Bounds { idle_us: 2_000_000, ..BOUNDS };
            assert_eq!(pool.origin(&to, &seats, shorter), id);
            let now = clock::now_us();
            pool.sweep(now + 1_000_000);
            assert_eq!(pool.idle(), 1);
            assert!(pool.take(id, now + 2_500_000).is_none(), "never used past it either");
        });
    }

    #[test]
    fn a_connection_that_another_core_may_need_is_looked_at_at_once() {
        on_both(async || {
            let timers = Timers::default();
            monoio::spawn(timers.clone().drive());
            let (mut other, id, _peer) = parked().await;
            let taken = other.take(id, clock::now_us()).unwrap();
            let (to, seats) = (&other.origins[0].destination, &other.origins[0].seats);
            let mut pool = Pool::new(&timers);
            let id = pool.origin(to, seats, Bounds { open_max: 2, ..BOUNDS });
            pool.sweep(clock::now_us());
            let begun = clock::now_us();
            pool.put(id, taken, begun);
            std::future::poll_fn(|cx| pool.poll_sweep(cx)).await;
            assert!(clock::now_us() - begun < SWEEP_US / 2, "looked at {} us later", clock::now_us() - begun);
        });
    }

    #[test]
    fn a_full_origin_makes_room_out_of_its_own_idle_connections_first_and_gives_them_to_others() {
        on_both(async || {
            let (mut pool, id, _peer) = parked().await;
            let (to, seats) = (pool.origins[0].destination.clone(), pool.origins[0].seats.clone());
            assert!(!pool.is_scarce(), "without a bound nothing is");
            pool.origin(&to, &seats, Bounds { open_max: 1, ..BOUNDS });
            assert!(pool.is_scarce());
            // Another core is at the limit because of the connection that idles here.
            assert!(seats.take(1).is_none());
            let wanted = seats.want();
            pool.sweep(clock::now_us());
            assert_eq!((pool.idle(), seats.open()), (0, 0), "given up");
            drop(wanted);
            let (mut pool, id2, _peer) = parked().await;
            assert_eq!(id, id2);
            let (to, seats) = (pool.origins[0].destination.clone(), pool.origins[0].seats.clone());
            pool.origin(&to, &seats, Bounds { open_max: 1, ..BOUNDS });
            let seat = pool.seat(id2);
            assert!(seat.is_some() && pool.idle() == 0, "its own idle one made room");
            assert!(pool.seat(id2).is_none());
        });
    }
}
