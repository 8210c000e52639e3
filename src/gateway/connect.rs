//! How a call gets its connection: a warm one, or a new one when the provider may have one more.

use std::future::{Future, poll_fn};
use std::task::Poll;

use crate::net::clock;
use crate::net::dial::{DialError, dial};
use crate::net::pool::{OriginId, Pooled};
use crate::net::seats::Seat;
use crate::policy::What;

use super::upstream::{Broken, By, Call, Party};

/// How often a call that waits for a connection to come free looks again.
const SEAT_POLL_US: u64 = 5_000;

/// Gets a connection to `origin`: a warm one, else a new one by `by`.
pub async fn connect<P: Party>(party: &mut P, origin: OriginId, fresh: bool, by: By) -> Result<Call, Broken> {
    let call = |pooled| Call::new(pooled, origin);
    let seat = match way(party, origin, fresh, by).await? {
        Way::Warm(pooled) => return Ok(call(pooled)),
        Way::Open(seat) => seat,
    };
    let core = party.core().clone();
    let destination = core.pool.borrow().destination(origin).cloned();
    let Some(destination) = destination else { return Err(What::Connect.into()) };
    // Dialling allocates: a new connection is rare, and the future would bloat every exchange otherwise.
    let mut dialling = Box::pin(dial(&destination, &core.resolver, &core.timers, by.at_us));
    let dialled = poll_fn(|cx| {
        if let Poll::Ready(result) = dialling.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        party.poll_interrupt(cx, false).map(|_| None)
    })
    .await;
    match dialled {
        None => Err(Broken::ClientGone),
        Some(Ok(conn)) => Ok(call(Pooled::fresh(conn, seat, party.core().next_id()))),
        Some(Err(DialError::Lookup(_))) => Err(What::Dns.into()),
        Some(Err(DialError::Connect(_))) => Err(What::Connect.into()),
        Some(Err(DialError::Tls(_))) => Err(What::Tls.into()),
        Some(Err(DialError::TimedOut)) => Err(What::Timeout(by.kind).into()),
    }
}

/// How a call gets its connection.
enum Way {
    /// One that was used before.
    Warm(Pooled),
    /// By opening another one.
    Open(Seat),
}

/// Finds an idle connection, or the right to open one. Calls are bounded before they get here, so where all connections
/// are taken some of them idle on other cores; those give one up within moments.
async fn way<P: Party>(party: &mut P, origin: OriginId, fresh: bool, by: By) -> Result<Way, Broken> {
    let mut wanted = None;
    // Policy has just been asked for this attempt.
    let mut now_us = clock::recent_us();
    loop {
        {
            let mut pool = party.core().pool.borrow_mut();
            if !fresh && let Some(pooled) = pool.take(origin, now_us) {
                return Ok(Way::Warm(pooled));
            }
            if let Some(seat) = pool.seat(origin) {
                return Ok(Way::Open(seat));
            }
            if now_us >= by.at_us {
                return Err(What::Timeout(by.kind).into());
            }
            wanted = wanted.or_else(|| pool.want(origin));
        }
        party.deadline().set(by.at_us.min(now_us + SEAT_POLL_US));
        let gone = poll_fn(|cx| {
            if party.poll_interrupt(cx, false).is_ready() {
                return Poll::Ready(true);
            }
            party.deadline().poll_passed(cx).map(|()| false)
        });
        if gone.await {
            return Err(Broken::ClientGone);
        }
        now_us = clock::now_us();
    }
}
