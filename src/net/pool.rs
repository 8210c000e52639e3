//! Idle upstream connections of one core, by origin.
//!
//! An idle connection keeps a read armed: when it completes, the peer closed the connection or sent bytes that nobody
//! asked for (a queued second answer, a 408 on an idle connection), and the connection is thrown away. So a reused
//! connection costs no extra system call, and the read that is armed is the next answer's read.
//!
//! Last in, first out: the warmest connection is used, the others age out. Limits: [`IDLE_US`] idle, [`AGE_US`] old
//! (jittered, so that a fleet's connections do not end together and moved DNS records are followed), and
//! [`MAX_IDLE`] per origin and core.

use std::collections::VecDeque;

use super::conn::Idle;
use super::dial::Destination;
use super::{Buf, Conn, buf, clock};

/// Longest idle time; below the idle time-outs that providers' front ends use (60 s and more), so that we close first.
pub const IDLE_US: u64 = 30_000_000;
/// Longest age, before jitter of up to a quarter less.
pub const AGE_US: u64 = 600_000_000;
/// Most idle connections per origin and core.
pub const MAX_IDLE: usize = 512;

/// An origin of this core's pool. Stays valid for the life of the core, across reloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OriginId(u32);

struct Parked {
    conn: Conn,
    retire_us: u64,
    since_us: u64,
}

struct Origin {
    destination: Destination,
    idle: VecDeque<Parked>,
}

/// A connection with the time at which it is too old to be reused.
pub struct Pooled {
    /// The connection.
    pub conn: Conn,
    /// Whether it carried a request before: then its death before any byte says nothing about the provider.
    pub reused: bool,
    retire_us: u64,
}

impl Pooled {
    /// A connection that was just dialled. `jitter` is any random number.
    pub fn fresh(conn: Conn, jitter: u64) -> Pooled {
        Pooled { conn, reused: false, retire_us: clock::now_us() + AGE_US - jitter % (AGE_US / 4) }
    }
}

/// The pool of one core.
#[derive(Default)]
pub struct Pool {
    origins: Vec<Origin>,
}

impl Pool {
    /// The id of a destination; the same for equal destinations, also across reloads.
    pub fn origin(&mut self, destination: &Destination) -> OriginId {
        let same = |d: &Destination| {
            d.host == destination.host
                && d.port == destination.port
                && match (&d.tls, &destination.tls) {
                    (None, None) => true,
                    // A connection made under one trust configuration is never used under another.
                    (Some(a), Some(b)) => std::sync::Arc::ptr_eq(a, b),
                    _ => false,
                }
        };
        let at = self.origins.iter().position(|o| same(&o.destination)).unwrap_or_else(|| {
            self.origins.push(Origin { destination: destination.clone(), idle: VecDeque::new() });
            self.origins.len() - 1
        });
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
            let young = now_us < parked.retire_us && now_us < parked.since_us + IDLE_US;
            if young && parked.conn.check_idle() == Idle::Quiet {
                return Some(Pooled { conn: parked.conn, reused: true, retire_us: parked.retire_us });
            }
        }
        None
    }

    /// Parks a connection whose last answer was complete and after which nothing came.
    pub fn put(&mut self, id: OriginId, mut pooled: Pooled, now_us: u64) {
        let Some(origin) = self.origins.get_mut(id.0 as usize) else { return };
        if now_us >= pooled.retire_us {
            return;
        }
        pooled.conn.arm(Buf::take(buf::STREAM));
        if origin.idle.len() == MAX_IDLE {
            origin.idle.pop_front();
        }
        origin.idle.push_back(Parked { conn: pooled.conn, retire_us: pooled.retire_us, since_us: now_us });
    }

    /// Closes what is dead, idle for too long or too old. Called about once a second.
    pub fn sweep(&mut self, now_us: u64) {
        for origin in &mut self.origins {
            origin.idle.retain_mut(|p| {
                now_us < p.retire_us && now_us < p.since_us + IDLE_US && p.conn.check_idle() == Idle::Quiet
            });
        }
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

    async fn parked() -> (Pool, OriginId, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let mut pool = Pool::default();
        let id = pool.origin(&Destination { host: "127.0.0.1".into(), port: addr.port(), tls: None });
        let conn = Conn::new(TcpStream::connect_addr(addr).await.unwrap());
        pool.put(id, Pooled::fresh(conn, 0), clock::now_us());
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
            pool.sweep(now + IDLE_US - 1_000_000);
            assert_eq!(pool.idle(), 1);
            pool.sweep(now + IDLE_US + 1_000_000);
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
        assert_eq!(pool.origin(&plain), pool.origin(&plain.clone()));
        assert_ne!(pool.origin(&plain), pool.origin(&tls));
        assert_ne!(pool.origin(&tls), pool.origin(&other));
    }
}
