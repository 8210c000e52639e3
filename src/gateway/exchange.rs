//! One exchange: a request in, attempts along its chain, an answer out.
//!
//! Policy says what to try and judges what came of it; this module does it. What is known of the best failure so far is
//! kept, so that a client whose every target failed is told the most useful thing in its own dialect, with everything
//! that was tried.

use std::rc::Rc;

use crate::config;
use crate::dialect::Api;
use crate::dialect::error::{ErrorKind, GatewayError, UpstreamError};
use crate::net::{Buf, clock};
use crate::policy::{
    self, Ask, Attempt, Flight, GiveUp, Outcome, Signal, Step, TimeoutKind, What, attribute,
};

use super::client::{After, Client};
use super::core::CorePlan;
use super::failure::{Kept, kind_for_policy, unfit_for};
use super::inbound::Inbound;
use super::outbound::{self, Outbound};
use super::respond::{self, field};
use super::route::{self, Source};
use super::upstream::{self, Broken, By, Call, Content, Reply};
use super::wish::{self, Wish};
use super::{answer, local, relay, stream};

/// Error bodies are read up to here; what is longer is judged by its status.
const ERROR_BODY_MAX: usize = 256 * 1024;

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
    sources: [Source; policy::settings::CHAIN_MAX],
    /// The most useful failure so far.
    pub kept: Option<Box<Kept>>,
}

/// How an attempt ended.
pub enum Ended {
    /// The answer, or as much of it as there was, is with the client.
    Delivered(After, Outcome),
    /// Nothing was delivered.
    Failed(Signal, Option<Box<Kept>>),
    /// A reused connection died before it answered.
    Stale,
    /// The client left.
    Gone,
}

impl Ended {
    /// A failure that the provider put into words, though not as an error answer of its own.
    pub fn failed_with(signal: Signal, error: UpstreamError) -> Ended {
        let kept =
            Kept { status: error.status, lines: Buf::default(), body: Buf::default(), native: false, error };
        Ended::Failed(signal, Some(Box::new(kept)))
    }
}

impl From<Broken> for Ended {
    fn from(broken: Broken) -> Ended {
        match broken {
            Broken::ClientGone => Ended::Gone,
            Broken::Stale => Ended::Stale,
            Broken::Failed(what) => Ended::Failed(Signal::Transport(what), None),
        }
    }
}

/// Serves one request.
pub async fn run(client: &mut Client, inbound: &Inbound) -> After {
    if let Some(after) = local::serve(client, inbound).await {
        return after;
    }
    let state = match State::begin(client, inbound) {
        Ok(state) => state,
        Err(error) => return respond::error(client, inbound, &error, b"").await,
    };
    let mut exchange = Exchange { client, inbound, state };
    let after = exchange.walk().await;
    exchange.client.spare = std::mem::take(&mut exchange.state.wish.model);
    after
}

impl Drop for Exchange<'_> {
    /// Gives back what the walk still holds: the client left while it waited, or its task panicked.
    fn drop(&mut self) {
        if let Ok(mut policy) = self.state.plan.policy.try_borrow_mut() {
            self.state.flight.cancel(&mut policy, clock::now_us());
        }
    }
}

/// What policy wants done, without what is only needed once nothing more can be.
enum Next {
    Attempt(Attempt),
    Wait { until_us: u64 },
    End(Option<Box<GiveUp>>),
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
        let mut sources = [Source::Chain(0); policy::settings::CHAIN_MAX];
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
        Ok(State { wish, flight, plan, chain, extra, sources, kept: None })
    }
}

impl Exchange<'_> {
    fn next(&mut self) -> Next {
        match self.state.flight.next(&mut self.state.plan.policy.borrow_mut(), clock::now_us()) {
            Step::Attempt(attempt) => Next::Attempt(attempt),
            Step::Wait { until_us, .. } => Next::Wait { until_us },
            Step::Static(_) => Next::End(None),
            Step::GiveUp(end) => Next::End(Some(Box::new(end))),
        }
    }

    async fn walk(&mut self) -> After {
        loop {
            match self.next() {
                Next::Attempt(attempt) => {
                    if let Some(after) = self.one(&attempt).await {
                        return after;
                    }
                }
                Next::Wait { until_us } => {
                    self.client.deadline.set(until_us);
                    let client = &mut *self.client;
                    let gone = std::future::poll_fn(|cx| {
                        if client.poll_gone(cx).is_ready() {
                            return std::task::Poll::Ready(true);
                        }
                        client.deadline.poll_passed(cx).map(|()| false)
                    })
                    .await;
                    if gone {
                        self.client.core.stats.cancelled.add(1);
                        return After::Cut;
                    }
                }
                Next::End(None) => return After::Cut,
                Next::End(Some(end)) => return self.give_up(&end).await,
            }
        }
    }

    /// Makes one attempt and settles it; `Some` when the exchange is over.
    async fn one(&mut self, attempt: &Attempt) -> Option<After> {
        let ended = self.attempt(attempt).await;
        let now_us = clock::now_us();
        let mut policy = self.state.plan.policy.borrow_mut();
        match ended {
            Ended::Delivered(after, outcome) => {
                self.state.flight.settle(&mut policy, now_us, attempt.no, outcome);
                if outcome == Outcome::Cancelled {
                    self.client.core.stats.cancelled.add(1);
                }
                Some(after)
            }
            Ended::Failed(signal, kept) => {
                let settled = self.state.flight.settle(
                    &mut policy,
                    now_us,
                    attempt.no,
                    Outcome::Failure(attribute(signal)),
                );
                if settled.keep {
                    self.state.kept = kept;
                }
                None
            }
            Ended::Stale => {
                self.state.flight.settle(&mut policy, now_us, attempt.no, Outcome::StaleConnection);
                None
            }
            Ended::Gone => {
                self.state.flight.settle(&mut policy, now_us, attempt.no, Outcome::Cancelled);
                self.client.core.stats.cancelled.add(1);
                Some(After::Cut)
            }
        }
    }

    /// The model to ask a target for, where it differs from what the body says.
    pub fn model_at(&self, attempt: &Attempt) -> Option<&str> {
        let config = &self.state.plan.live.plan;
        let target = self.state.flight.chain().targets().get(usize::from(attempt.target))?;
        match self.state.sources.get(usize::from(target.place))? {
            Source::Chain(index) => {
                self.state.chain.get(config, &self.state.wish.model, usize::from(*index))?.model
            }
            Source::Extra(index) => {
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
            Some(deadline) if deadline <= at_us => By { at_us: deadline, kind: TimeoutKind::Deadline },
            _ => By { at_us, kind },
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
            (true, true) => By { at_us: gap_us, kind: TimeoutKind::TokenGap },
            (false, true) => By { at_us: total_us, kind: TimeoutKind::Total },
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
        let mut call = match upstream::connect(self.client, origin, attempt.fresh_connection, by).await {
            Ok(call) => call,
            Err(broken) => return broken.into(),
        };
        call.send(self.client);
        let by = if self.state.wish.stream {
            self.by(attempt.first_token_by_us, TimeoutKind::FirstToken)
        } else {
            self.by(attempt.answer_by_us, TimeoutKind::Total)
        };
        let (mut reply, read) = match call.head(self.client, self.inbound.is_head, by).await {
            Ok(head) => head,
            Err(broken) => {
                call.end(self.client).await;
                return broken.into();
            }
        };
        match reply.status {
            // The provider gave the idle connection up in the moment in which it was used again: the 408 was not meant
            // for this request (RFC 9110 section 15.5.9).
            408 if call.reused() && !reply.keep_alive => {
                call.end(self.client).await;
                Ended::Stale
            }
            200..=299 if self.inbound.api == Api::Other => {
                relay::deliver(self, &mut call, &reply, read, attempt).await
            }
            200..=299 => match (self.state.wish.stream, reply.content) {
                (true, Content::Events) => {
                    stream::pump(self, &mut call, &reply, outbound, attempt).run(read).await
                }
                // Some self-hosted servers send JSON without naming it; the body is inspected all the same.
                (false, Content::Json | Content::Other) => {
                    answer::deliver(self, &mut call, &reply, read, &outbound, attempt, by).await
                }
                (true, Content::Json) => {
                    // A stream that is answered with JSON is an error object more often than not: find out which.
                    self.failed(&mut call, &mut reply, read, &outbound, by).await
                }
                _ => {
                    call.spoil();
                    call.end(self.client).await;
                    Ended::Failed(Signal::Transport(What::BadContentType), None)
                }
            },
            _ => self.failed(&mut call, &mut reply, read, &outbound, by).await,
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
        let body = match call.body(self.client, reply, read, ERROR_BODY_MAX, by).await {
            Ok(body) => body,
            Err(Broken::ClientGone) => return Ended::Gone,
            // The status is there; a body that is cut, late or too long takes nothing from it.
            Err(_) => {
                call.spoil();
                Buf::default()
            }
        };
        call.end(self.client).await;
        let [retry_after, retry_after_ms, should_retry] = &reply.hints;
        let hints = crate::dialect::error::RetryHints {
            retry_after: retry_after.as_deref(),
            retry_after_ms: retry_after_ms.as_deref(),
            should_retry: should_retry.as_deref(),
            now_unix_s: clock::unix_seconds(),
        };
        let error = crate::dialect::error::read_error(reply.status, &hints, body.filled());
        let retry_after_us = error.retry_after_ms.and_then(|ms| ms.checked_mul(1000));
        let kind = kind_for_policy(error.kind);
        let signal = if reply.status < 300 {
            if crate::dialect::inspect_answer(outbound.api, outbound.dialect, body.filled()).error {
                Signal::ErrorInOk { kind, retry_after_us, stream: false }
            } else {
                Signal::Transport(What::BadContentType)
            }
        } else {
            Signal::Status { status: reply.status, kind, retry_after_us }
        };
        let native = outbound.dialect == self.inbound.dialect
            && outbound.back.is_none()
            && (400..600).contains(&reply.status);
        let mut lines = Buf::take(crate::net::buf::IDLE);
        answer::push_reply_fields(self, lines.as_vec(), reply);
        Ended::Failed(signal, Some(Box::new(Kept { status: reply.status, lines, body, native, error })))
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

/// The moment of commit for a whole answer or a stream: the gateway's own time in it, microseconds.
pub fn overhead_us(inbound: &Inbound, sent_us: u64, received_us: u64) -> u64 {
    sent_us.saturating_sub(inbound.complete_us) + clock::now_us().saturating_sub(received_us)
}
