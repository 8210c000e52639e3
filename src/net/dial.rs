//! Opening a connection to a provider: name, address race, TCP, TLS, all within one deadline.
//!
//! Addresses are raced [`STAGGER_US`] apart (RFC 8305), so that one dead address of several costs a quarter of a second
//! and not the whole timeout.

use std::future::{Future, poll_fn};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use monoio::net::TcpStream;
use rustls::ClientConfig;

use super::resolver::{LookupError, Resolver, interleave};
use super::{Conn, Timers, clock, tls};

/// Time between the starts of two attempts (RFC 8305 recommends 250 ms).
pub const STAGGER_US: u64 = 250_000;
/// Addresses tried at most.
pub const MAX_ADDRESSES: usize = 6;

/// Where to dial.
#[derive(Clone)]
pub struct Destination {
    /// Host name or address, without brackets.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// TLS configuration; plain TCP without.
    pub tls: Option<Arc<ClientConfig>>,
}

impl Destination {
    /// Whether a connection to one may serve for the other. One that was made under one trust configuration is never
    /// used under another.
    pub fn same(&self, other: &Destination) -> bool {
        let trust = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(own), Some(theirs)) => Arc::ptr_eq(own, theirs),
            _ => false,
        };
        trust && self.host == other.host && self.port == other.port
    }
}

/// Why no connection came about. All of these are the provider's side: another target may be tried.
#[derive(Debug)]
pub enum DialError {
    /// No address.
    Lookup(LookupError),
    /// Every address refused or failed; the last error.
    Connect(io::Error),
    /// The TLS handshake failed; no byte of the request was sent.
    Tls(io::Error),
    /// The deadline passed.
    TimedOut,
}

impl std::fmt::Display for DialError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DialError::Lookup(e) => write!(f, "{e}"),
            DialError::Connect(e) => write!(f, "connect failed: {e}"),
            DialError::Tls(e) => write!(f, "TLS handshake failed: {e}"),
            DialError::TimedOut => f.write_str("connecting took too long"),
        }
    }
}

impl std::error::Error for DialError {}

/// Opens a connection to `to`, ready to send a request, by `by_us`.
///
/// # Errors
/// See [`DialError`].
pub async fn dial(
    to: &Destination,
    resolver: &Resolver,
    timers: &Timers,
    by_us: u64,
) -> Result<Conn, DialError> {
    let addresses = resolver.resolve(&to.host, timers, by_us).await.map_err(|e| match e {
        LookupError::TimedOut => DialError::TimedOut,
        e => DialError::Lookup(e),
    })?;
    let mut late = pin!(timers.sleep_until(by_us));
    let mut opening = pin!(async {
        let stream = race_addresses(&addresses, to.port, timers).await.map_err(DialError::Connect)?;
        stream.set_nodelay(true).map_err(DialError::Connect)?;
        let conn = Conn::new(stream);
        match &to.tls {
            None => Ok(conn),
            Some(config) => tls::handshake(conn, config, &to.host).await.map_err(DialError::Tls),
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(result) = opening.as_mut().poll(cx) {
            return Poll::Ready(result);
        }
        late.as_mut().poll(cx).map(|()| Err(DialError::TimedOut))
    })
    .await
}

type Attempt = Pin<Box<dyn Future<Output = io::Result<TcpStream>>>>;

async fn race_addresses(addresses: &[IpAddr], port: u16, timers: &Timers) -> io::Result<TcpStream> {
    let mut waiting = interleave(addresses).take(MAX_ADDRESSES).peekable();
    let mut running: Vec<Attempt> = Vec::new();
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no addresses");
    let stagger = timers.deadline();
    let mut start_next = true;
    poll_fn(move |cx| {
        loop {
            if start_next && let Some(ip) = waiting.next() {
                running.push(Box::pin(TcpStream::connect_addr(SocketAddr::new(ip, port))));
                stagger.set(clock::now_us() + STAGGER_US);
            }
            start_next = false;
            let mut i = 0;
            while i < running.len() {
                match running[i].as_mut().poll(cx) {
                    Poll::Ready(Ok(stream)) => return Poll::Ready(Ok(stream)),
                    Poll::Ready(Err(e)) => {
                        last = e;
                        drop(running.swap_remove(i));
                        // A refusal frees the next address at once.
                        start_next = true;
                    }
                    Poll::Pending => i += 1,
                }
            }
            if stagger.poll_passed(cx).is_ready() {
                stagger.clear();
                start_next = true;
            }
            if start_next && waiting.peek().is_some() {
                continue;
            }
            if running.is_empty() {
                return Poll::Ready(Err(std::mem::replace(&mut last, io::ErrorKind::Other.into())));
            }
            return Poll::Pending;
        }
    })
    .await
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

    fn to(port: u16) -> Destination {
        Destination { host: "two.test".into(), port, tls: None }
    }

    fn names(ips: &'static [&'static str]) -> Resolver {
        Resolver::new(Box::new(move |_| Ok(ips.iter().filter_map(|s| s.parse().ok()).collect())))
    }

    #[test]
    fn a_refused_address_costs_nothing_when_another_answers() {
        run(async |timers| {
            // 127.0.0.2 is a loopback address on which nothing listens.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let begin = clock::now_us();
            let dialled =
                dial(&to(port), &names(&["127.0.0.2", "127.0.0.1"]), &timers, begin + 2_000_000).await;
            assert!(dialled.is_ok());
            assert!(clock::now_us() - begin < STAGGER_US, "the refusal freed the next address at once");
        });
    }

    #[test]
    fn nobody_listening_is_told_at_once() {
        run(async |timers| {
            let port = {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                listener.local_addr().unwrap().port()
            };
            let begin = clock::now_us();
            let result = dial(&to(port), &names(&["127.0.0.1"]), &timers, begin + 2_000_000).await;
            assert!(
                matches!(&result, Err(DialError::Connect(e)) if e.kind() == io::ErrorKind::ConnectionRefused)
            );
            assert!(clock::now_us() - begin < 200_000);
        });
    }

    #[test]
    fn a_name_that_does_not_exist_says_so() {
        run(async |timers| {
            let resolver = Resolver::new(Box::new(|_| Err("no such host".to_owned())));
            let result = dial(&to(1), &resolver, &timers, clock::now_us() + 1_000_000).await;
            assert!(matches!(result, Err(DialError::Lookup(LookupError::Failed(_)))));
        });
    }

    #[test]
    fn a_peer_that_accepts_and_hangs_in_the_handshake_costs_the_timeout() {
        run(async |timers| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let mut to = to(listener.local_addr().unwrap().port());
            to.tls = Some(tls::client_config(&[]).unwrap());
            let begin = clock::now_us();
            let result = dial(&to, &names(&["127.0.0.1"]), &timers, begin + 100_000).await;
            assert!(matches!(result, Err(DialError::TimedOut)));
            let took = clock::now_us() - begin;
            assert!((100_000..400_000).contains(&took), "{took} us");
        });
    }
}
