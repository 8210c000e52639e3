//! One exchange: a request in, attempts along its chain, an answer out.
//!
//! Policy says what to try and judges what came of it; this module does it. What is known of the best failure so far is
//! kept, so that a client whose every target failed is told the most useful thing in its own dialect, with everything
//! that was tried.

use crate::config;
use crate::dialect::error::UpstreamError;
use crate::net::{Buf, clock};
use crate::policy::{Attempt, GiveUp, Outcome, Signal, Step, WaitReason, attribute};

use super::account;
use super::captured;
use super::client::{After, Client};
use super::configured::{self, Entered};
use super::failure::Kept;
use super::inbound::Inbound;
use super::state::State;
use super::underway::Phase;
use super::upstream::Broken;
use super::{local, once, respond};

/// An exchange under way.
pub struct Exchange<'x> {
    /// The client.
    pub client: &'x mut Client,
    /// Its request.
    pub inbound: &'x Inbound,
    /// The rest.
    pub state: State,
}

/// How an attempt ended.
pub enum Ended {
    /// The answer, or as much of it as there was, is with the client.
    Delivered(After, Outcome),
    /// Nothing was delivered.
    Failed(Signal, Option<Box<Kept>>),
    /// A reused connection died before it answered.
    Stale,
    /// The second call of a hedged pair has an answer, and this one none.
    Overtaken,
    /// The client left.
    Gone,
}

impl Ended {
    /// A failure that the provider put into words, though not as an error answer of its own.
    pub fn failed_with(signal: Signal, error: UpstreamError) -> Ended {
        let kept = Kept {
            status: error.status,
            lines: Buf::default(),
            id: Default::default(),
            body: Buf::default(),
            native: false,
            error,
        };
        Ended::Failed(signal, Some(Box::new(kept)))
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Ended {
        match broken {
            Broken::ClientGone => Ended::Gone,
            Broken::Stale => Ended::Stale,
            // Waits that can end so go on; what is left is that nobody waits any more.
            Broken::Hedge => Ended::Overtaken,
            Broken::Failed(what) => Ended::Failed(Signal::Transport(what), None),
        }
    }
}

/// Serves one request.
pub async fn run(client: &mut Client, inbound: &Inbound) -> After {
    if let Some(after) = local::serve(client, inbound).await {
        account::local(client, inbound);
        return after;
    }
    captured::begin(client, inbound);
    let mut step = None;
    let live = &inbound.plan.live;
    let bounded = inbound.step.is_some() && live.steps.is_some();
    let keyed = inbound.idempotency_key.is_some() && live.keeper.is_some();
    if bounded || keyed {
        // Boxed: few requests carry these, and the future would bloat every connection.
        match Box::pin(named(client, inbound)).await {
            Entered::On(handle) => step = Some(handle),
            Entered::Free => {}
            Entered::Answered(after) => {
                account::early(client, inbound);
                return after;
            }
        }
    }
    let state = match State::begin(client, inbound) {
        Ok(state) => state,
        Err(error) => {
            client.keeping = None;
            let after = respond::error(client, inbound, &error, b"").await;
            account::early(client, inbound);
            return after;
        }
    };
    let mut exchange = Exchange { client, inbound, state };
    let after = exchange.walk().await;
    if let (Some(step), Some(gate)) = (step, &exchange.state.plan.live.steps) {
        let state = &exchange.state;
        gate.steps.book(step, !state.delivered && !state.left, state.cost_nano_usd);
    }
    after
}

/// What the step and the idempotency key that a request names mean for it.
async fn named(client: &mut Client, inbound: &Inbound) -> Entered {
    let entered = configured::enter_step(client, inbound).await;
    if matches!(entered, Entered::Answered(_)) {
        return entered;
    }
    match once::enter(client, inbound).await {
        Some(after) => Entered::Answered(after),
        None => entered,
    }
}

impl Drop for Exchange<'_> {
    /// Gives back what the walk still holds: the client left while it waited, or its task panicked. Then the exchange is
    /// over, however it ended, and is booked.
    fn drop(&mut self) {
        self.client.rival = None;
        self.client.hedge_at_us = u64::MAX;
        self.client.keeping = None;
        if let Ok(mut policy) = self.state.plan.policy.try_borrow_mut() {
            self.state.flight.cancel(&mut policy, clock::recent_us());
        }
        if self.state.wish.stream {
            self.client.core.stats.streams.sub(1);
        }
        self.client.core.underway.leave(self.state.place);
        self.account();
        self.client.spare = std::mem::take(&mut self.state.wish.model);
    }
}

fn waiting(queued: bool) -> Phase {
    if queued { Phase::Queued } else { Phase::Backoff }
}

/// What policy wants done, without what is only needed once nothing more can be.
enum Next {
    Attempt(Attempt),
    Wait { until_us: u64, queued: bool },
    Static(config::StaticId),
    End(Box<GiveUp>),
}

impl Exchange<'_> {
    fn next(&mut self) -> Next {
        // Whoever comes here has just asked: the request was complete, an attempt was settled, a wait is over.
        match self.state.flight.next(&mut self.state.plan.policy.borrow_mut(), clock::recent_us()) {
            Step::Attempt(attempt) => Next::Attempt(attempt),
            Step::Wait { until_us, why } => Next::Wait { until_us, queued: why == WaitReason::Queue },
            Step::Static(answer) => Next::Static(config::StaticId(answer.0)),
            Step::GiveUp(end) => Next::End(Box::new(end)),
        }
    }

    /// Lets the live page see an attempt that begins.
    pub fn show(&self, attempt: &Attempt) {
        let (underway, place) = (&self.client.core.underway, self.state.place);
        let model = self.model_at(attempt).unwrap_or(&self.state.wish.model);
        underway.calls(place, attempt.no + 1, attempt.provider.0, model);
        underway.at(place, Phase::Connecting, clock::recent_us());
    }

    async fn walk(&mut self) -> After {
        loop {
            // Looked at where it is: what is moved out of it would be held twice for as long as it lasts.
            let next = self.next();
            match &next {
                Next::Attempt(attempt) => {
                    self.show(attempt);
                    if let Some(after) = self.one(attempt).await {
                        return after;
                    }
                    while self.client.rival.is_some() {
                        // Rare, so it is no part of what every connection holds.
                        if let Some(after) = Box::pin(self.await_rival()).await {
                            return after;
                        }
                    }
                }
                &Next::Wait { until_us, queued } => {
                    self.client.deadline.set(until_us);
                    let since_us = clock::now_us();
                    self.client.core.underway.at(self.state.place, waiting(queued), since_us);
                    if self.client.gone_before_deadline().await {
                        self.state.left = true;
                        self.client.core.stats.cancelled.add(1);
                        return After::Cut;
                    }
                    let waited_us = clock::now_us() - since_us;
                    if queued {
                        self.client.notes.queued_us += waited_us;
                    }
                }
                Next::Static(answer) => return Box::pin(self.answer_statically(*answer)).await,
                Next::End(end) => return self.give_up(end).await,
            }
        }
    }

    /// Makes one attempt and settles it; `Some` when the exchange is over.
    async fn one(&mut self, attempt: &Attempt) -> Option<After> {
        match self.attempt(attempt).await {
            Ended::Overtaken => Box::pin(self.take_over()).await,
            ended => self.settle(attempt, ended),
        }
    }

    /// Tells policy how an attempt ended; `Some` when the exchange is over.
    pub fn settle(&mut self, attempt: &Attempt, ended: Ended) -> Option<After> {
        let (after, outcome) = match ended {
            Ended::Delivered(after, outcome) => (Some(after), outcome),
            Ended::Failed(signal, kept) => {
                self.settle_failure(attempt, signal, kept);
                return None;
            }
            Ended::Stale => (None, Outcome::StaleConnection),
            Ended::Gone | Ended::Overtaken => (Some(After::Cut), Outcome::Cancelled),
        };
        let mut policy = self.state.plan.policy.borrow_mut();
        self.state.flight.settle(&mut policy, clock::now_us(), attempt.no, outcome);
        match outcome {
            Outcome::Success(success) => {
                self.state.delivered = true;
                self.client.notes.unread = after == Some(After::Cut);
                self.state.cost_nano_usd = success.cost_nano_usd;
            }
            Outcome::Cancelled => {
                self.state.left = true;
                self.client.core.stats.cancelled.add(1);
            }
            Outcome::Failure(failure) => self.client.notes.truncated = failure.committed,
            Outcome::StaleConnection => {}
        }
        after
    }

    /// The same for a failure, which is kept when it is the most useful so far.
    pub fn settle_failure(&mut self, attempt: &Attempt, signal: Signal, kept: Option<Box<Kept>>) {
        let mut policy = self.state.plan.policy.borrow_mut();
        let outcome = Outcome::Failure(attribute(signal));
        if self.state.flight.settle(&mut policy, clock::now_us(), attempt.no, outcome).keep {
            self.state.kept = kept;
        }
    }
}
