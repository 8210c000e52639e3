//! Host names to addresses, off the cores' loops.
//!
//! The system's resolver blocks, so it runs on side threads; answers are cached for all cores. A name that cannot be
//! looked up any more keeps its last known addresses for [`KEEP_US`], so that a resolver outage stops nobody who was
//! served before. A core that needs a name for the first time waits for the answer on a mailbox.
//!
//! Limits: [`THREADS`] lookups at once; at most one lookup a second for a name ([`RETRY_US`]).
//! Left out: the records' own TTL (the system interface hides it); [`FRESH_US`] stands in for it.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::net::{IpAddr, ToSocketAddrs};
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::mailbox::{self, Sender};
use super::race::{First, race};
use super::{Timers, clock};

/// An answer younger than this is used without asking again; providers move addresses within minutes.
pub const FRESH_US: u64 = 30_000_000;
/// A name whose lookup fails keeps its last addresses this long.
pub const KEEP_US: u64 = 3_600_000_000;
/// Least time between two lookups of one name.
pub const RETRY_US: u64 = 1_000_000;
/// Threads that look names up; a resolver that hangs blocks these and nothing else.
pub const THREADS: usize = 4;

/// Why a name has no addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LookupError {
    /// The resolver says so; its own words.
    Failed(String),
    /// No answer came in time.
    TimedOut,
}

impl std::fmt::Display for LookupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LookupError::Failed(why) => write!(f, "name lookup failed: {why}"),
            LookupError::TimedOut => f.write_str("name lookup timed out"),
        }
    }
}

impl std::error::Error for LookupError {}

type Addresses = Arc<[IpAddr]>;
/// The function that asks the system; replaced in tests.
pub type Lookup = dyn Fn(&str) -> Result<Vec<IpAddr>, String> + Send + Sync;

#[derive(Default)]
struct Entry {
    addresses: Option<(Addresses, u64)>,
    failure: Option<(String, u64)>,
    asked_us: Option<u64>,
    pending: bool,
    waiting: Vec<Sender<()>>,
}

#[derive(Default)]
struct State {
    names: HashMap<Box<str>, Entry>,
    jobs: VecDeque<Box<str>>,
    threads: usize,
    idle: usize,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    lookup: Box<Lookup>,
}

/// The resolver of the process. Cheap to clone.
#[derive(Clone)]
pub struct Resolver(Arc<Shared>);

impl Default for Resolver {
    fn default() -> Resolver {
        Resolver::new(Box::new(|host| match (host, 0).to_socket_addrs() {
            Ok(found) => Ok(found.map(|a| a.ip()).collect()),
            Err(e) => Err(e.to_string()),
        }))
    }
}

impl Resolver {
    /// A resolver that asks `lookup`.
    pub fn new(lookup: Box<Lookup>) -> Resolver {
        Resolver(Arc::new(Shared { state: Mutex::default(), work: Condvar::new(), lookup }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change of the state is one step, so a panic elsewhere leaves it whole.
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// The addresses of `host`, waiting until `by_us` at most for a name that is asked for the first time.
    ///
    /// # Errors
    /// The lookup failed or took too long, and no earlier answer is known.
    pub async fn resolve(&self, host: &str, timers: &Timers, by_us: u64) -> Result<Addresses, LookupError> {
        if let Ok(ip) = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return Ok(Arc::from([ip]));
        }
        loop {
            let now = clock::now_us();
            let bell = {
                let mut state = self.state();
                let entry = state.names.entry(host.into()).or_default();
                let known = entry.addresses.as_ref().filter(|(_, at)| now < at + KEEP_US);
                if let Some((addresses, at)) = known {
                    let addresses = addresses.clone();
                    if now >= at + FRESH_US {
                        self.ask(&mut state, host, now);
                    }
                    return Ok(addresses);
                }
                if let Some((why, at)) = &entry.failure
                    && now < at + RETRY_US
                {
                    return Err(LookupError::Failed(why.clone()));
                }
                let (sender, receiver) =
                    mailbox::mailbox().map_err(|e| LookupError::Failed(e.to_string()))?;
                entry.waiting.push(sender);
                self.ask(&mut state, host, now);
                receiver
            };
            let mut answered = pin!(bell.run(|()| ControlFlow::Break(())));
            let mut late = pin!(timers.sleep_until(by_us));
            match race(|cx| answered.as_mut().poll(cx).map(|_| ()), late.as_mut()).await {
                First::Left(()) => {}
                First::Right(()) => return Err(LookupError::TimedOut),
            }
        }
    }

    fn ask(&self, state: &mut State, host: &str, now: u64) {
        let Some(entry) = state.names.get_mut(host) else { return };
        if entry.pending || entry.asked_us.is_some_and(|at| now < at + RETRY_US && entry.waiting.is_empty()) {
            return;
        }
        entry.pending = true;
        entry.asked_us = Some(now);
        state.jobs.push_back(host.into());
        if state.idle == 0 && state.threads < THREADS {
            state.threads += 1;
            let resolver = self.clone();
            let spawned =
                std::thread::Builder::new().name("sluice-dns".to_owned()).spawn(move || resolver.work());
            if spawned.is_err() {
                state.threads -= 1;
            }
        }
        self.0.work.notify_one();
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            let Some(host) = state.jobs.pop_front() else {
                state.idle += 1;
                let (back, waited) = match self.0.work.wait_timeout(state, std::time::Duration::from_secs(60))
                {
                    Ok((back, waited)) => (back, waited.timed_out()),
                    Err(e) => (e.into_inner().0, true),
                };
                state = back;
                state.idle -= 1;
                if waited && state.jobs.is_empty() {
                    state.threads -= 1;
                    return;
                }
                continue;
            };
            drop(state);
            let answer = (self.0.lookup)(&host);
            let now = clock::now_us();
            state = self.state();
            if let Some(entry) = state.names.get_mut(&host) {
                entry.pending = false;
                match answer {
                    Ok(addresses) if !addresses.is_empty() => {
                        entry.addresses = Some((Arc::from(addresses), now));
                        entry.failure = None;
                    }
                    Ok(_) => entry.failure = Some(("the name has no addresses".to_owned(), now)),
                    Err(why) => entry.failure = Some((why, now)),
                }
                for waiting in entry.waiting.drain(..) {
                    waiting.send(());
                }
            }
        }
    }
}

/// Orders addresses for racing: families alternate, beginning with that of the first (RFC 8305 section 4).
pub fn interleave(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> + '_ {
    let first_is_v6 = addresses.first().is_some_and(|a| a.is_ipv6());
    let mut left = addresses.iter().copied().filter(move |a| a.is_ipv6() == first_is_v6);
    let mut right = addresses.iter().copied().filter(move |a| a.is_ipv6() != first_is_v6);
    let mut turn = false;
    std::iter::from_fn(move || {
        turn = !turn;
        if turn { left.next().or_else(|| right.next()) } else { right.next().or_else(|| left.next()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn run<T>(f: impl AsyncFnOnce(Timers) -> T) -> T {
        driver::block_on_any(async {
            let timers = Timers::default();
            monoio::spawn(timers.clone().drive());
            f(timers).await
        })
    }

    fn soon() -> u64 {
        clock::now_us() + 2_000_000
    }

    #[test]
    fn an_address_needs_no_lookup() {
        run(async |timers| {
            let resolver = Resolver::new(Box::new(|_| Err("asked".to_owned())));
            for (text, ip) in [("127.0.0.1", "127.0.0.1"), ("[::1]", "::1"), ("::1", "::1")] {
                let found = resolver.resolve(text, &timers, soon()).await.unwrap();
                assert_eq!(found[0], ip.parse::<IpAddr>().unwrap());
            }
        });
    }

    #[test]
    fn a_name_is_looked_up_once_for_many_callers() {
        run(async |timers| {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let resolver = Resolver::new(Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(std::time::Duration::from_millis(20));
                Ok(vec!["127.0.0.2".parse().unwrap()])
            }));
            let (a, b) = (resolver.clone(), timers.clone());
            let other = monoio::spawn(async move { a.resolve("api.test", &b, soon()).await });
            let mine = resolver.resolve("api.test", &timers, soon()).await.unwrap();
            assert_eq!(mine, other.await.unwrap());
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn a_resolver_that_hangs_costs_its_caller_the_timeout_and_nobody_else_anything() {
        run(async |timers| {
            let resolver = Resolver::new(Box::new(|host| {
                if host == "hangs.test" {
                    std::thread::sleep(std::time::Duration::from_millis(400));
                }
                Ok(vec!["127.0.0.1".parse().unwrap()])
            }));
            let begin = clock::now_us();
            let late = resolver.resolve("hangs.test", &timers, begin + 30_000).await;
            assert_eq!(late, Err(LookupError::TimedOut));
            assert!(clock::now_us() - begin < 300_000);
            assert!(resolver.resolve("works.test", &timers, soon()).await.is_ok());
        });
    }

    #[test]
    fn a_failed_name_is_not_asked_again_within_a_second() {
        run(async |timers| {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let resolver = Resolver::new(Box::new(move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Err("no such host".to_owned())
            }));
            for _ in 0..5 {
                let error = resolver.resolve("gone.test", &timers, soon()).await.unwrap_err();
                assert!(error.to_string().contains("no such host"));
            }
            assert_eq!(asked.load(Ordering::Relaxed), 1);
        });
    }

    #[test]
    fn families_alternate() {
        let ips: Vec<IpAddr> = ["::1", "::2", "::3", "10.0.0.1"].iter().map(|s| s.parse().unwrap()).collect();
        let order: Vec<String> = interleave(&ips).map(|i| i.to_string()).collect();
        assert_eq!(order, ["::1", "10.0.0.1", "::2", "::3"]);
    }
}
