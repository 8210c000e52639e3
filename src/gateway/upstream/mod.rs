//! One upstream call: a connection, the request on its way, the response head, the body.
//!
//! A call is made for a [`Party`]: the client's connection, or the second call of a hedged pair. Whatever is awaited here
//! is raced against two things: what the party is interrupted by (a client that leaves ends the call at once), and the
//! deadline of the phase. The request's buffer always comes back to its party, unless the client is gone: the next
//! attempt sends it again.

mod body;

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use crate::net::pool::{OriginId, Pooled};
use crate::net::{Buf, Deadline, Gather, buf, clock};
use crate::policy::{TimeoutKind, What};
use crate::wire::head::Arrival;

use super::core::Core;
use super::reply::{Reply, parse_reply};

/// Largest answer that is held whole before it is delivered; a longer one counts as broken.
pub const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Least room for a read of a stream; a delta of the known providers has 150 to 350 bytes.
const ROOM_MIN: usize = buf::SMALL;

/// Why a call ended before its answer was there.
#[derive(Debug)]
pub enum Broken {
    /// The client left: nothing more is to be done for it.
    ClientGone,
    /// A reused connection died before any byte of an answer: says nothing about the provider.
    Stale,
    /// Nothing broke: the exchange has to look after the other call of a hedged pair. The wait goes on afterwards with
    /// the same call again.
    Hedge,
    /// The provider, or the way to it, failed.
    Failed(What),
}

impl From<What> for Broken {
    fn from(what: What) -> Broken {
        Broken::Failed(what)
    }
}

/// A phase's end in time.
#[derive(Clone, Copy)]
pub struct By {
    /// Gateway clock.
    pub at_us: u64,
    /// What its passing is called.
    pub kind: TimeoutKind,
    /// Whether this is a wait that a second call may end, see [`Broken::Hedge`].
    pub hedged: bool,
}

impl By {
    /// The same, as a wait that a second call may end.
    pub fn hedged(self) -> By {
        By { hedged: true, ..self }
    }
}

/// Whom a call is made for.
pub trait Party {
    /// The core that serves it.
    fn core(&self) -> &Rc<Core>;
    /// Its deadline, moved from phase to phase.
    fn deadline(&self) -> &Deadline;
    /// The request; `None` while a connection writes it.
    fn gather(&mut self) -> &mut Option<Box<Gather>>;
    /// Ready when the wait at hand is to end: the client left, or in a hedged wait the second call has news.
    fn poll_interrupt(&mut self, cx: &mut Context<'_>, hedged: bool) -> Poll<Broken>;
    /// When the second call is due, gateway clock; `u64::MAX` when none is.
    fn hedge_at_us(&self) -> u64;
}

/// An upstream call under way.
pub struct Call {
    pooled: Option<Pooled>,
    origin: OriginId,
    /// The request is not all written yet.
    sending: bool,
    /// An answer is owed and not read to its end: whatever ends the call early leaves this set, so that no later
    /// request can be given what was meant for this one.
    owed: bool,
    /// The connection must not be used again although its answer is complete.
    spoilt: bool,
    /// Room that the next read of a stream gets, bytes: what the last one needed.
    room: usize,
    /// Answer bytes have come.
    pub answered: bool,
    /// When the request was handed over, gateway clock.
    pub sent_us: u64,
    /// When the answer's last awaited bytes came, gateway clock.
    pub received_us: u64,
}

/// What a wait for bytes brought.
pub enum Received {
    /// More bytes, behind those that were there.
    More(Buf),
    /// The end of the connection; the bytes that were there.
    End(Buf),
}

impl Received {
    fn or_truncated(self) -> Result<Buf, Broken> {
        match self {
            Received::More(read) => Ok(read),
            Received::End(_) => Err(What::Truncated.into()),
        }
    }
}

enum Event {
    Read(io::Result<usize>, Buf),
    Sent(io::Result<()>, Box<Gather>),
    Interrupted(Broken),
    Late,
}

impl Call {
    /// A call over this connection, nothing sent yet.
    pub fn new(pooled: Pooled, origin: OriginId) -> Call {
        Call {
            pooled: Some(pooled),
            origin,
            sending: false,
            owed: false,
            spoilt: false,
            room: ROOM_MIN,
            answered: false,
            sent_us: 0,
            received_us: 0,
        }
    }

    /// Hands the request in the client's gather to the connection. A stream's answer begins with a head and little else, and
    /// whoever waits for a first token should not hold the room for a whole answer.
    pub fn send<P: Party>(&mut self, party: &mut P, stream: bool) {
        let (Some(pooled), Some(gather)) = (self.pooled.as_mut(), party.gather().take()) else { return };
        if !pooled.conn.is_armed() {
            pooled.conn.arm(Buf::take(if stream { buf::HEAD } else { buf::STREAM }));
        }
        pooled.conn.start_gather(gather);
        self.sending = true;
        self.owed = true;
        self.sent_us = clock::now_us();
    }

    fn poll_event<P: Party>(&mut self, party: &mut P, cx: &mut Context<'_>, hedged: bool) -> Poll<Event> {
        let Some(pooled) = self.pooled.as_mut() else {
            return Poll::Ready(Event::Interrupted(Broken::ClientGone));
        };
        // The write first: a ring reports the end of the request and the answer to it in one batch, and an answer that
        // seems to come before the request was sent costs the connection.
        if self.sending
            && let Poll::Ready((result, gather)) = pooled.conn.poll_gather(cx)
        {
            return Poll::Ready(Event::Sent(result, gather));
        }
        if let Poll::Ready((result, read)) = pooled.conn.poll_read(cx) {
            return Poll::Ready(Event::Read(result, read));
        }
        if let Poll::Ready(why) = party.poll_interrupt(cx, hedged) {
            return Poll::Ready(Event::Interrupted(why));
        }
        party.deadline().poll_passed(cx).map(|()| Event::Late)
    }

    /// The same, with the end of the request's way out taken in.
    fn poll_answer<P: Party>(&mut self, party: &mut P, cx: &mut Context<'_>, hedged: bool) -> Poll<Event> {
        loop {
            match ready!(self.poll_event(party, cx, hedged)) {
                Event::Sent(result, gather) => {
                    self.sending = false;
                    party.gather().get_or_insert(gather);
                    // A provider may answer and close before it read the whole request; the read tells.
                    self.spoilt |= result.is_err();
                }
                event => return Poll::Ready(event),
            }
        }
    }

    /// Waits for the next bytes of the answer, appended to what the armed read was given.
    ///
    /// Not an `async fn`, like others that every stream waits in: what is handed to one is held twice.
    fn receive<P: Party>(&mut self, party: &mut P, by: By) -> impl Future<Output = Result<Received, Broken>> {
        let hedge_at_us = if by.hedged { party.hedge_at_us() } else { u64::MAX };
        party.deadline().set(by.at_us.min(hedge_at_us));
        let hedge_is_due = hedge_at_us < by.at_us;
        async move {
            let ended = match poll_fn(|cx| self.poll_answer(party, cx, by.hedged)).await {
                Event::Interrupted(why) => return Err(why),
                Event::Late if hedge_is_due => return Err(Broken::Hedge),
                Event::Read(Ok(n), read) if n > 0 => {
                    self.answered = true;
                    self.received_us = clock::now_us();
                    return Ok(Received::More(read));
                }
                Event::Read(Ok(_), read) if self.answered => Ok(Received::End(read)),
                Event::Read(Err(_), _) if self.answered => Err(What::Truncated.into()),
                Event::Read(..) if self.reused() => Err(Broken::Stale),
                Event::Read(..) => Err(What::Reset.into()),
                Event::Late | Event::Sent(..) => Err(What::Timeout(by.kind).into()),
            };
            self.take_back(party).await;
            ended
        }
    }

    /// Gets the request's buffer back from a write that will not be finished.
    async fn take_back<P: Party>(&mut self, party: &mut P) {
        self.spoilt = true;
        if !self.sending {
            return;
        }
        if let Some(pooled) = self.pooled.as_mut() {
            // The write fails at once on a socket that is shut down, and the driver gives its buffer back.
            pooled.conn.abort();
            let (_, gather) = poll_fn(|cx| pooled.conn.poll_gather(cx)).await;
            party.gather().get_or_insert(gather);
        }
        self.sending = false;
    }

    /// Arms the next read into the room of `read`.
    fn arm(&mut self, read: Buf) {
        if let Some(pooled) = self.pooled.as_mut() {
            pooled.conn.arm(read);
        }
    }

    /// Waits for the response head. The buffer that comes with it holds what followed the head. After [`Broken::Hedge`]
    /// it may be called again: what came so far is with the armed read.
    pub async fn head<P: Party>(
        &mut self,
        party: &mut P,
        is_head: bool,
        by: By,
    ) -> Result<(Reply, Buf), Broken> {
        let mut read = self.receive(party, by).await?.or_truncated()?;
        let plan = party.core().plan();
        let (limits, interim_max) = (plan.live.response_head, plan.live.plan.limits.interim_responses);
        drop(plan);
        let mut arrival = Arrival::within(limits.bytes);
        let mut interim = 0;
        loop {
            let parsed = if arrival.due(read.filled()) {
                parse_reply(party.core(), &mut read, is_head, &limits)
            } else {
                Ok(None)
            };
            match parsed {
                Ok(Some(reply)) if reply.status >= 200 => {
                    // An answer before the request was read is delivered, but what is still being sent would be
                    // read as the next request.
                    self.spoilt |= self.sending;
                    return Ok((reply, read));
                }
                Ok(Some(_)) => {
                    interim += 1;
                    if interim > interim_max {
                        self.take_back(party).await;
                        return Err(What::BadHead.into());
                    }
                    arrival = Arrival::within(limits.bytes);
                    continue;
                }
                Ok(None) => {}
                Err(what) => {
                    self.take_back(party).await;
                    return Err(what.into());
                }
            }
            read.reserve(buf::STREAM.max(read.len()));
            self.arm(read);
            read = self.receive(party, by).await?.or_truncated()?;
        }
    }

    /// Says that the answer was read to its end.
    pub fn complete(&mut self) {
        self.owed = false;
    }

    /// Marks the connection as unfit for another request.
    pub fn spoil(&mut self) {
        self.spoilt = true;
    }

    /// Whether the connection was used before.
    pub fn reused(&self) -> bool {
        self.pooled.as_ref().is_some_and(|p| p.reused)
    }

    /// Ends the call: the connection goes back to the pool when it may, else it is closed. The request's buffer is back
    /// with the client afterwards.
    pub async fn end<P: Party>(&mut self, party: &mut P) {
        if self.sending {
            self.take_back(party).await;
        }
        if let Some(pooled) = self.pooled.take()
            && !self.owed
            && !self.spoilt
        {
            party.core().pool.borrow_mut().put(self.origin, pooled, clock::recent_us());
        }
    }
}
