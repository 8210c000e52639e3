//! One attempt of an exchange: the request said for its target, the call, and what its answer is handed to.

use crate::dialect::Api;
use crate::meter::Source;
use crate::net::{Buf, clock};
use crate::policy::{Attempt, Signal, TimeoutKind, What};

use super::account::Told;
use super::connect;
use super::exchange::{Ended, Exchange};
use super::failure::{self, unfit_for};
use super::outbound::{self, Outbound};
use super::reply::{Content, Reply};
use super::respond::{self, field};
use super::route;
use super::underway::Phase;
use super::upstream::{Broken, By, Call};
use super::{answer, relay, stream};

impl Exchange<'_> {
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

    /// Says the request for the target of an attempt. Apart from the wait for its answer, which would hold what is left here.
    fn prepare(&mut self, attempt: &Attempt) -> Result<Outbound, Ended> {
        let mut gather = self.client.gather.take().ok_or(Ended::Gone)?;
        let (model, live) = (self.model_at(attempt), &self.state.plan.live);
        let made = outbound::prepare(&mut gather, self.inbound, &self.state.wish, live, attempt, model);
        self.client.gather = Some(gather);
        made.map_err(unfit_for)
    }

    /// Makes the attempt, and delivers its answer when it has one.
    pub async fn attempt(&mut self, attempt: &Attempt) -> Ended {
        let mut outbound = match self.prepare(attempt) {
            Ok(outbound) => outbound,
            Err(ended) => return ended,
        };
        let by = self.by(attempt.connect_by_us, TimeoutKind::Connect);
        let origin = self.state.plan.origins[usize::from(attempt.provider.0)];
        let mut call = match connect::connect(self.client, origin, attempt.fresh_connection, by).await {
            Ok(call) => call,
            Err(broken) => return broken.into(),
        };
        call.send(self.client, self.state.wish.stream);
        self.client.core.underway.at(self.state.place, Phase::Waiting, clock::recent_us());
        self.client.hedge_at_us = attempt.hedge_at_us.unwrap_or(u64::MAX);
        let by = self.by_answer(attempt).hedged();
        let (mut reply, read) = loop {
            match call.head(self.client, self.inbound.is_head, by).await {
                Ok(head) => break head,
                Err(Broken::Hedge) if !self.tend_hedge() => {}
                Err(broken) => {
                    call.end(self.client).await;
                    return broken.into();
                }
            }
        };
        self.answered(&mut call, &mut reply, read, &mut outbound, attempt).await
    }

    /// Delivers the answer that `reply` begins, or finds out why it is none. Its parts are lent, not moved: what is moved
    /// into a future is held twice by it.
    pub async fn answered(
        &mut self,
        call: &mut Call,
        reply: &mut Reply,
        read: Buf,
        outbound: &mut Outbound,
        attempt: &Attempt,
    ) -> Ended {
        let by = self.by_answer(attempt);
        // Another attempt may have named one before it failed.
        self.client.notes.model = Default::default();
        match reply.status {
            // The provider gave the idle connection up in the moment in which it was used again: the 408 was not meant
            // for this request (RFC 9110 section 15.5.9).
            408 if call.reused() && !reply.keep_alive => {
                call.end(self.client).await;
                Ended::Stale
            }
            200..=299 if self.inbound.api == Api::Other => {
                relay::deliver(self, call, reply, read, attempt).await
            }
            200..=299 => match (self.state.wish.stream, reply.content) {
                (true, Content::Events) => stream::pump(self, call, reply, outbound, attempt).run(read).await,
                // Some self-hosted servers send JSON without naming it; the body is inspected all the same.
                (false, Content::Json | Content::Other) => {
                    answer::deliver(self, call, reply, read, outbound, attempt, by).await
                }
                (true, Content::Json) => {
                    // A stream that is answered with JSON is an error object more often than not: find out which.
                    self.failed(call, reply, read, outbound, by).await
                }
                _ => {
                    call.spoil();
                    call.end(self.client).await;
                    Ended::Failed(Signal::Transport(What::BadContentType), None)
                }
            },
            _ => self.failed(call, reply, read, outbound, by).await,
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
        self.client.core.underway.at(self.state.place, Phase::Answering, clock::recent_us());
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
