//! One exchange: a request in, attempts along its chain, an answer out.
//!
//! Policy says what to try and judges what came of it; this module does it. What is known of the best failure so far is
//! kept, so that a client whose every target failed is told the most useful thing in its own dialect, with everything
//! that was tried.

use std::rc::Rc;

use crate::config;
use crate::dialect::Api;
use crate::dialect::error::{ErrorKind, GatewayError, UpstreamError};
use crate::meter::Source;
use crate::net::{Buf, clock};
use crate::policy::{
    self, Ask, Attempt, Flight, GiveUp, Outcome, Signal, Step, TimeoutKind, What, attribute,
};

use super::account::{self, Told};
use super::client::{After, Client};
use super::configured::{self, Entered};
use super::connect;
use super::core::CorePlan;
use super::failure::{self, Kept, unfit_for};
use super::inbound::Inbound;
use super::outbound::{self, Outbound};
use super::reply::{Content, Reply};
use super::respond::{self, field};
use super::route;
use super::upstream::{Broken, By, Call};
use super::wish::{self, Wish};
use super::{answer, local, once, relay, stream};

/// An exchange under way.
pub struct Exchange<'x> {
    /// The client.
    pub client: &'x mut Client,
    /// Its request.
    pub inbound: &'x Inbound,
    /// The rest.
    pub state: State,
}

/// What is known of an exchange, apart from whom it is for.
pub struct State {
    /// What the body asks for.
    pub wish: Wish,
    /// The walk over the chain.
    pub flight: Flight,
    /// The plan that serves it.
    pub plan: Rc<CorePlan>,
    chain: config::Chain,
    extra: Vec<String>,
    sources: [route::Source; policy::settings::CHAIN_MAX],
    /// The most useful failure so far.
    pub kept: Option<Box<Kept>>,
    /// A provider's answer was delivered whole.
    delivered: bool,
    /// The client left before there was one.
    left: bool,
    /// What it cost, nano-dollars.
    cost_nano_usd: u64,
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
            self.state.flight.cancel(&mut policy, clock::now_us());
        }
        if self.state.wish.stream {
            self.client.core.stats.streams.sub(1);
        }
        self.account();
        self.client.spare = std::mem::take(&mut self.state.wish.model);
    }
}

/// What policy wants done, without what is only needed once nothing more can be.
enum Next {
    Attempt(Attempt),
    Wait { until_us: u64, queued: bool },
    Static(config::StaticId),
    End(Box<GiveUp>),
}

impl State {
    /// Finds out what is asked for and where it may go. Not async, so that none of this is part of what a connection
    /// holds while it waits.
    fn begin(client: &mut Client, inbound: &Inbound) -> Result<State, GatewayError> {
        let mut wish = wish::read(client, inbound)?;
        let plan = inbound.plan.clone();
        let config = &plan.live.plan;
        if wish.model.is_empty() {
            // Endpoints that name no model go to the provider that the plan names for them.
            wish.model.push_str(&config.provider(config.default_provider).name);
            wish.model.push_str("/-");
        }
        let chain = config.resolve(&wish.model).map_err(|unknown| {
            let mut error = GatewayError::new(ErrorKind::ModelNotFound, unknown.to_string());
            error.param = Some("model".to_owned());
            error
        })?;
        let extra = route::extra_models(client, inbound, &plan)?;
        let mut sources = [route::Source::Chain(0); policy::settings::CHAIN_MAX];
        let targets = route::targets(inbound, &wish, &plan, &chain, &extra, &mut sources);
        if targets.is_empty() {
            let provider = chain.get(config, &wish.model, 0).map(|t| config.provider(t.provider));
            let name = provider.map_or("the provider", |p| &p.name);
            let message = format!(
                "`{name}`, which serves `{}`, has no such endpoint; ask for another model or add a fallback",
                wish.model
            );
            let mut error = GatewayError::new(ErrorKind::NotFound, message);
            error.code = "endpoint_not_supported".into();
            return Err(error);
        }
        let ask = Ask {
            now_us: inbound.started_us,
            deadline_us: inbound.deadline_us,
            stream: wish.stream,
            body_bytes: inbound.body_len as u64,
            est_input_tokens: plan
                .policy
                .borrow()
                .estimate_tokens(targets.targets()[0].slot, inbound.body_len as u64),
            client_retries: inbound.client_retries,
        };
        let flight = Flight::begin(&mut plan.policy.borrow_mut(), targets, ask);
        client.watch(wish.stream);
        if wish.stream {
            client.core.stats.streams.add(1);
        }
        Ok(State {
            wish,
            flight,
            plan,
            chain,
            extra,
            sources,
            kept: None,
            delivered: false,
            left: false,
            cost_nano_usd: 0,
        })
    }
}

impl Exchange<'_> {
    fn next(&mut self) -> Next {
        match self.state.flight.next(&mut self.state.plan.policy.borrow_mut(), clock::now_us()) {
            Step::Attempt(attempt) => Next::Attempt(attempt),
            Step::Wait { until_us, why } => Next::Wait { until_us, queued: why == policy::WaitReason::Queue },
            Step::Static(answer) => Next::Static(config::StaticId(answer.0)),
            Step::GiveUp(end) => Next::End(Box::new(end)),
        }
    }

    async fn walk(&mut self) -> After {
        loop {
            match self.next() {
                Next::Attempt(attempt) => {
                    if let Some(after) = self.one(&attempt).await {
                        return after;
                    }
                    while self.client.rival.is_some() {
                        // Rare, so it is no part of what every connection holds.
                        if let Some(after) = Box::pin(self.await_rival()).await {
                            return after;
                        }
                    }
                }
                Next::Wait { until_us, queued } => {
                    self.client.deadline.set(until_us);
                    let since_us = clock::now_us();
                    if self.client.gone_before_deadline().await {
                        self.state.left = true;
                        self.client.core.stats.cancelled.add(1);
                        return After::Cut;
                    }
                    if queued {
                        self.client.notes.queued_us += clock::now_us() - since_us;
                    }
                }
                Next::Static(answer) => return Box::pin(self.answer_statically(answer)).await,
                Next::End(end) => return self.give_up(&end).await,
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

    /// The model to ask a target for, where it differs from what the body says.
    pub fn model_at(&self, attempt: &Attempt) -> Option<&str> {
        self.model_of(attempt.target)
    }

    /// The same by the target's position in the chain.
    pub fn model_of(&self, target: u8) -> Option<&str> {
        let config = &self.state.plan.live.plan;
        let target = self.state.flight.chain().targets().get(usize::from(target))?;
        match self.state.sources.get(usize::from(target.place))? {
            route::Source::Chain(index) => {
                self.state.chain.get(config, &self.state.wish.model, usize::from(*index))?.model
            }
            route::Source::Extra(index) => {
                let asked = self.state.extra.get(usize::from(*index))?;
                let own = config.resolve(asked).ok()?.get(config, asked, 0)?;
                // `own` borrows the plan or the asked-for name; either lives as long as the exchange.
                Some(own.model.unwrap_or(asked))
            }
        }
    }

    /// The end of a phase: the attempt's own limit, or the caller's deadline when that is sooner.
    pub fn by(&self, at_us: u64, kind: TimeoutKind) -> By {
        match self.inbound.deadline_us {
            Some(deadline) if deadline <= at_us => {
                By { at_us: deadline, kind: TimeoutKind::Deadline, hedged: false }
            }
            _ => By { at_us, kind, hedged: false },
        }
    }

    /// The end of the wait for an answer: its first content when it is a stream, else the whole of it.
    pub fn by_answer(&self, attempt: &Attempt) -> By {
        match self.state.wish.stream {
            true => self.by(attempt.first_token_by_us, TimeoutKind::FirstToken),
            false => self.by(attempt.answer_by_us, TimeoutKind::Total),
        }
    }

    /// The end of the wait for the next piece of an answer that has begun: the gap between pieces, or the end of the
    /// whole when that is sooner. An SDK's own timeout is no such end: it starts anew with each piece.
    pub fn by_next_piece(&self, attempt: &Attempt) -> By {
        let (now_us, inbound) = (clock::now_us(), self.inbound);
        let gap_us = now_us + attempt.token_gap_us;
        let mut total_us = attempt.total_by_us;
        if inbound.waits_per_read && inbound.deadline_us.is_some() {
            let plan = &self.state.plan.live.plan;
            let total_ms = plan.total_ms(self.state.chain.route(), attempt.provider);
            total_us = inbound.started_us + total_ms.saturating_mul(1000);
        }
        match (gap_us < total_us, inbound.waits_per_read) {
            (true, true) => By { at_us: gap_us, kind: TimeoutKind::TokenGap, hedged: false },
            (false, true) => By { at_us: total_us, kind: TimeoutKind::Total, hedged: false },
            (true, false) => self.by(gap_us, TimeoutKind::TokenGap),
            (false, false) => self.by(total_us, TimeoutKind::Total),
        }
    }

    async fn attempt(&mut self, attempt: &Attempt) -> Ended {
        let plan = self.state.plan.clone();
        let prepared = {
            let mut gather = match self.client.gather.take() {
                Some(gather) => gather,
                None => return Ended::Gone,
            };
            let model = self.model_at(attempt);
            let made = outbound::prepare(
                &mut gather,
                self.inbound,
                &self.state.wish,
                &plan.live,
                attempt.provider,
                attempt.key,
                model,
            );
            self.client.gather = Some(gather);
            made
        };
        let outbound = match prepared {
            Ok(outbound) => outbound,
            Err(unfit) => return unfit_for(unfit),
        };
        let by = self.by(attempt.connect_by_us, TimeoutKind::Connect);
        let origin = plan.origins[usize::from(attempt.provider.0)];
        let mut call = match connect::connect(self.client, origin, attempt.fresh_connection, by).await {
            Ok(call) => call,
            Err(broken) => return broken.into(),
        };
        call.send(self.client);
        self.client.hedge_at_us = attempt.hedge_at_us.unwrap_or(u64::MAX);
        let by = self.by_answer(attempt).hedged();
        let (reply, read) = loop {
            match call.head(self.client, self.inbound.is_head, by).await {
                Ok(head) => break head,
                Err(Broken::Hedge) if !self.tend_hedge() => {}
                Err(broken) => {
                    call.end(self.client).await;
                    return broken.into();
                }
            }
        };
        self.answered(&mut call, reply, read, outbound, attempt).await
    }

    /// Delivers the answer that `reply` begins, or finds out why it is none.
    pub async fn answered(
        &mut self,
        call: &mut Call,
        mut reply: Reply,
        read: Buf,
        outbound: Outbound,
        attempt: &Attempt,
    ) -> Ended {
        let by = self.by_answer(attempt);
        match reply.status {
            // The provider gave the idle connection up in the moment in which it was used again: the 408 was not meant
            // for this request (RFC 9110 section 15.5.9).
            408 if call.reused() && !reply.keep_alive => {
                call.end(self.client).await;
                Ended::Stale
            }
            200..=299 if self.inbound.api == Api::Other => {
                relay::deliver(self, call, &reply, read, attempt).await
            }
            200..=299 => match (self.state.wish.stream, reply.content) {
                (true, Content::Events) => {
                    stream::pump(self, call, &reply, outbound, attempt).run(read).await
                }
                // Some self-hosted servers send JSON without naming it; the body is inspected all the same.
                (false, Content::Json | Content::Other) => {
                    answer::deliver(self, call, &reply, read, &outbound, attempt, by).await
                }
                (true, Content::Json) => {
                    // A stream that is answered with JSON is an error object more often than not: find out which.
                    self.failed(call, &mut reply, read, &outbound, by).await
                }
                _ => {
                    call.spoil();
                    call.end(self.client).await;
                    Ended::Failed(Signal::Transport(What::BadContentType), None)
                }
            },
            _ => self.failed(call, &mut reply, read, &outbound, by).await,
        }
    }

    /// Reads a provider's error and keeps it for the case that nothing better comes.
    async fn failed(
        &mut self,
        call: &mut Call,
        reply: &mut Reply,
        read: Buf,
        outbound: &Outbound,
        by: By,
    ) -> Ended {
        let asked = (outbound, self.inbound.dialect);
        match failure::read(self.client, call, reply, read, asked, by).await {
            Ok((signal, kept)) => Ended::Failed(signal, Some(kept)),
            Err(broken) => broken.into(),
        }
    }

    /// The moment of commit: attempt `no` answers with this status. Returns the gateway's own time in it, microseconds.
    pub fn answers(&mut self, no: u8, status: u16, sent_us: u64, received_us: u64) -> u64 {
        let own_us =
            sent_us.saturating_sub(self.inbound.complete_us) + clock::now_us().saturating_sub(received_us);
        self.client.notes.told = Told::answer(status, Source::Provider);
        self.client.notes.answering = Some(no);
        self.client.notes.overhead_us = own_us;
        own_us
    }

    /// Appends the fields that say who answered and what was tried.
    pub fn push_facts(&self, out: &mut Vec<u8>, attempt: &Attempt, overhead_us: u64) {
        let provider = &self.state.plan.live.plan.providers[usize::from(attempt.provider.0)];
        field(out, "x-sluice-provider", provider.name.as_bytes());
        let model = self.model_at(attempt).unwrap_or(&self.state.wish.model);
        if self.inbound.api != Api::Other && model.bytes().all(|b| (b' '..0x7f).contains(&b)) {
            field(out, "x-sluice-model", model.as_bytes());
        }
        self.push_attempts(out, Some(attempt.no));
        respond::number_field(out, "x-sluice-overhead-us", overhead_us);
    }
}

impl State {
    /// The route whose chain is walked.
    pub fn route(&self) -> Option<config::RouteId> {
        self.chain.route()
    }

    /// A provider's answer was delivered whole.
    pub fn delivered(&self) -> bool {
        self.delivered
    }

    /// The client left before there was an answer.
    pub fn left(&self) -> bool {
        self.left
    }
}
