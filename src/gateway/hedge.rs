//! The second call of a hedged pair, while the first one is silent.
//!
//! When policy says that the first call has been silent for unusually long, the same request goes to the next target as
//! well. The first of the two that has content answers the client; the other is cancelled by closing its connection.
//! A second call that fails is settled and forgotten, and the first goes on; when the first one fails, the second is
//! waited for before anything else is tried.
//!
//! The second call is a future of its own, polled by the client's task while that waits for the first one's head or
//! first content, and only then. It reads until there is content worth taking over for (a stream) or a whole and valid
//! answer, and hands over the raw bytes; they are then delivered as those of any attempt are.
//!
//! Limits: none while the request is still being sent, because its buffer is in use then and the provider cannot be said
//! to be slow. Hedges are few (policy allows 2 in a hundred), so this copies the request and allocates.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::config::Dialect;
use crate::dialect::{self, EventKind, StreamWatch};
use crate::net::pool::OriginId;
use crate::net::{Buf, Deadline, Gather, clock};
use crate::policy::{Attempt, Outcome, Signal, TimeoutKind, What};
use crate::wire::sse::Splitter;

use super::client::After;
use super::connect::connect;
use super::core::Core;
use super::exchange::{Ended, Exchange};
use super::failure::{self, Kept};
use super::framing::Framing;
use super::outbound::{self, Outbound};
use super::reply::{Content, Reply};
use super::upstream::{ANSWER_MAX, Broken, By, Call, Party, Received};

/// Bytes of a stream without content after which it is taken for an answer all the same, as a first call's is.
const HOLD_MAX: usize = 64 * 1024;

/// The second call.
pub struct Rival {
    /// What policy knows it as.
    pub attempt: Attempt,
    future: Pin<Box<dyn Future<Output = Arrival>>>,
    arrived: Option<Arrival>,
}

/// What came of it.
enum Arrival {
    /// Content.
    Answer(Box<Answering>),
    /// Nothing that could be delivered.
    Failed(Signal, Option<Box<Kept>>),
}

/// An answer that has begun, with every byte of its body so far.
struct Answering {
    call: Call,
    reply: Reply,
    read: Buf,
    outbound: Outbound,
}

impl Rival {
    /// Ready once something has come of it.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.arrived.is_none() {
            match self.future.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(arrival) => self.arrived = Some(arrival),
            }
        }
        Poll::Ready(())
    }
}

/// Whom the second call is made for: nobody waits for it by itself.
struct Second {
    core: Rc<Core>,
    deadline: Deadline,
    gather: Option<Box<Gather>>,
}

impl Party for Second {
    fn core(&self) -> &Rc<Core> {
        &self.core
    }

    fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    fn gather(&mut self) -> &mut Option<Box<Gather>> {
        &mut self.gather
    }

    fn poll_interrupt(&mut self, _: &mut Context<'_>, _: bool) -> Poll<Broken> {
        Poll::Pending
    }

    fn hedge_at_us(&self) -> u64 {
        u64::MAX
    }
}

/// What the second call needs to know.
struct Asking {
    origin: OriginId,
    fresh: bool,
    stream: bool,
    client_dialect: Dialect,
    connect: By,
    answer: By,
    outbound: Outbound,
}

impl Exchange<'_> {
    /// Attempt `no` is the one that answers: the other of a pair is cancelled.
    pub fn committed(&mut self, no: u8) {
        let now_us = clock::now_us();
        let mut policy = self.state.plan.policy.borrow_mut();
        let flight = &mut self.state.flight;
        if let Some(other) = flight.first_token(&mut policy, now_us, no) {
            flight.settle(&mut policy, now_us, other, Outcome::Cancelled);
        }
        self.client.rival = None;
        self.client.hedge_at_us = u64::MAX;
        self.inbound.let_lines_go();
    }

    /// Starts the second call when it is due, or hears what came of it. True when it has an answer and takes over.
    pub fn tend_hedge(&mut self) -> bool {
        self.client.hedge_at_us = u64::MAX;
        let Some(mut rival) = self.client.rival.take() else {
            self.client.rival = self.second_call();
            return false;
        };
        match rival.arrived.take() {
            Some(Arrival::Failed(signal, kept)) => {
                self.settle_failure(&rival.attempt, signal, kept);
                false
            }
            arrived => {
                let answers = arrived.is_some();
                rival.arrived = arrived;
                self.client.rival = Some(rival);
                answers
            }
        }
    }

    fn second_call(&mut self) -> Option<Box<Rival>> {
        let body = Buf::copy_of(self.client.gather.as_ref()?.body.filled());
        let plan = self.state.plan.clone();
        let attempt = self.state.flight.hedge(&mut plan.policy.borrow_mut(), clock::now_us())?;
        let mut gather = Box::new(Gather::new(Buf::default(), body));
        let model = self.model_at(&attempt);
        let made =
            outbound::prepare(&mut gather, self.inbound, &self.state.wish, &plan.live, &attempt, model);
        let outbound = match made {
            Ok(outbound) => outbound,
            Err(unfit) => {
                if let Ended::Failed(signal, kept) = failure::unfit_for(unfit) {
                    self.settle_failure(&attempt, signal, kept);
                }
                return None;
            }
        };
        let asking = Asking {
            origin: plan.origins[usize::from(attempt.provider.0)],
            fresh: attempt.fresh_connection,
            stream: self.state.wish.stream,
            client_dialect: self.inbound.dialect,
            connect: self.by(attempt.connect_by_us, TimeoutKind::Connect),
            answer: self.by_answer(&attempt),
            outbound,
        };
        let core = self.client.core.clone();
        let party = Second { deadline: core.timers.deadline(), core, gather: Some(gather) };
        let future = Box::pin(ask(party, asking));
        Some(Box::new(Rival { attempt, future, arrived: None }))
    }

    /// Waits for the second call, now that the first has failed. `Some` when the exchange is over.
    pub async fn await_rival(&mut self) -> Option<After> {
        let client = &mut *self.client;
        let gone = std::future::poll_fn(|cx| {
            if client.poll_gone(cx).is_ready() {
                return Poll::Ready(true);
            }
            match &mut client.rival {
                Some(rival) => rival.poll(cx).map(|()| false),
                None => Poll::Ready(false),
            }
        })
        .await;
        if gone {
            client.core.stats.cancelled.add(1);
            return Some(After::Cut);
        }
        if self.tend_hedge() { self.take_over().await } else { None }
    }

    /// Delivers the second call's answer in place of the first one's. `Some` when the exchange is over.
    pub async fn take_over(&mut self) -> Option<After> {
        let rival = *self.client.rival.take()?;
        let Some(Arrival::Answer(answering)) = rival.arrived else { return None };
        self.committed(rival.attempt.no);
        self.show(&rival.attempt);
        let Answering { mut call, mut reply, read, mut outbound } = *answering;
        let ended = self.answered(&mut call, &mut reply, read, &mut outbound, &rival.attempt).await;
        self.settle(&rival.attempt, ended)
    }
}

async fn ask(mut party: Second, asking: Asking) -> Arrival {
    let mut fresh = asking.fresh;
    loop {
        match try_once(&mut party, &asking, fresh).await {
            Ok(Ok((call, reply, read))) => {
                let outbound = asking.outbound;
                return Arrival::Answer(Box::new(Answering { call, reply, read, outbound }));
            }
            Ok(Err((signal, kept))) => return Arrival::Failed(signal, Some(kept)),
            // The idle connection was dead, which says nothing about the provider: once more on a new one.
            Err(Broken::Stale) if !fresh => fresh = true,
            Err(Broken::Failed(what)) => return Arrival::Failed(Signal::Transport(what), None),
            Err(_) => return Arrival::Failed(Signal::Transport(What::Reset), None),
        }
    }
}

type Begun = (Call, Reply, Buf);
type Refused = (Signal, Box<Kept>);

async fn try_once(
    party: &mut Second,
    asking: &Asking,
    fresh: bool,
) -> Result<Result<Begun, Refused>, Broken> {
    let by = asking.answer;
    let mut call = connect(party, asking.origin, fresh, asking.connect).await?;
    call.send(party, asking.stream);
    let (mut reply, mut read) = call.head(party, false, by).await?;
    match (reply.status, asking.stream, reply.content) {
        (200..=299, true, Content::Events) | (200..=299, false, Content::Json | Content::Other) => {}
        (200..=299, stream, content) if !(stream && content == Content::Json) => {
            return Err(What::BadContentType.into());
        }
        _ => {
            let asked = (&asking.outbound, asking.client_dialect);
            return Ok(Err(failure::read(party, &mut call, &mut reply, read, asked, by).await?));
        }
    }
    while !worth_it(asking, &reply, &read)? {
        read = match call.more(party, read, by).await? {
            Received::More(read) => read,
            Received::End(_) => return Err(What::Truncated.into()),
        };
    }
    Ok(Ok((call, reply, read)))
}

/// Whether what has come is worth taking over for. Looks at a copy: the bytes stay as they came.
fn worth_it(asking: &Asking, reply: &Reply, read: &Buf) -> Result<bool, Broken> {
    let mut copy = Buf::copy_of(read.filled());
    let mut excess = false;
    let (end, over) = Framing::of(reply.body).strip(&mut copy, 0, &mut excess)?;
    let payload = copy.filled().get(..end).unwrap_or_default();
    let (api, dialect) = (asking.outbound.api, asking.outbound.dialect);
    if !asking.stream {
        if !over {
            return if end > ANSWER_MAX { Err(What::BadBody.into()) } else { Ok(false) };
        }
        let seen = dialect::inspect_answer(api, dialect, payload);
        return if seen.complete && !seen.error { Ok(true) } else { Err(What::BadBody.into()) };
    }
    let mut watch = StreamWatch::new(api, dialect);
    let mut splitter = Splitter::new();
    let mut start = 0;
    for at in splitter.feed(payload) {
        match watch.event(payload.get(start..at).unwrap_or_default()) {
            EventKind::Content | EventKind::Terminal => return Ok(true),
            EventKind::Error => return Err(What::StreamError.into()),
            _ => {}
        }
        start = at;
    }
    match over {
        true => Err(What::Truncated.into()),
        false => Ok(end > HOLD_MAX),
    }
}
