//! What an exchange comes to: its [`Record`], made at its end however it ends, and handed to whoever counts.
//!
//! Nothing here takes memory: names are borrowed from the plan and the exchange, the attempts are copied to the stack.

use std::borrow::Cow;

use crate::config::Plan;
use crate::dialect::error::GatewayError;
use crate::dialect::{Api, Finish, ModelName, Usage};
use crate::meter::trace::Traced;
use crate::meter::{Answered, Cost, Outcome, Record, Source, Spend, Tried};
use crate::net::clock;
use crate::policy::price::{Price, Tokens};
use crate::policy::settings::ATTEMPTS_MAX;
use crate::policy::{AttemptRecord, Cause, Fault, GiveUp, What};

use super::captured::{self, Capturing};
use super::client::Client;
use super::core::CorePlan;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::stats::Stats;

/// Longest request id that is kept, bytes; those of the known providers have up to 36.
const ID_MAX: usize = 47;

/// The request id that a client was given, kept without memory of its own.
#[derive(Clone, Copy)]
pub struct RequestId {
    bytes: [u8; ID_MAX],
    length: u8,
}

impl Default for RequestId {
    fn default() -> Self {
        RequestId { bytes: [0; ID_MAX], length: 0 }
    }
}

impl RequestId {
    /// A copy of `id`; of one that is too long or no text, nothing.
    pub fn of(id: &[u8]) -> RequestId {
        let mut kept = RequestId::default();
        if let Some(place) = kept.bytes.get_mut(..id.len())
            && std::str::from_utf8(id).is_ok()
        {
            place.copy_from_slice(id);
            kept.length = id.len() as u8;
        }
        kept
    }

    /// The id; empty when there is none.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.length)]).unwrap_or_default()
    }
}

/// What the client was told, set where its answer is written.
#[derive(Clone, Copy, Default)]
pub struct Told {
    /// The status; 0 while there is none.
    pub status: u16,
    /// The gateway's own code for its error.
    pub code: &'static str,
    /// Where the answer came from.
    pub source: Source,
}

impl Told {
    /// An answer that is no error of the gateway's.
    pub fn answer(status: u16, source: Source) -> Told {
        Told { status, code: "", source }
    }

    /// An error of the gateway's.
    pub fn error(error: &GatewayError) -> Told {
        let code = match &error.code {
            Cow::Borrowed(code) => code,
            // A provider's own word, passed on.
            Cow::Owned(_) => "",
        };
        Told { status: error.status, code, source: Source::Gateway }
    }
}

/// What is noted of an exchange while it runs, for its record.
#[derive(Default)]
pub struct Notes {
    /// What the client was told.
    pub told: Told,
    /// The request id in its answer.
    pub id: RequestId,
    /// The attempt whose answer the client was given, or some of it.
    pub answering: Option<u8>,
    /// The gateway's own time until then, microseconds.
    pub overhead_us: u64,
    /// When the first content came, gateway clock, and how long after the request was sent; streams only.
    pub first_content: Option<(u64, u64)>,
    /// When the answer was with the client, gateway clock; 0 when that is now.
    pub ended_us: u64,
    /// What the provider reported for the answer.
    pub usage: Option<Usage>,
    /// Why the model stopped.
    pub finish: Option<Finish>,
    /// The model that the answer names.
    pub model: ModelName,
    /// The answer broke off after some of it was delivered.
    pub truncated: bool,
    /// It is whole, but the client did not take all of it.
    pub unread: bool,
    /// The request is at fault, as providers said.
    pub blamed: bool,
    /// Spent waiting for a place, microseconds.
    pub queued_us: u64,
    /// What providers reported for attempts that failed all the same. Rare, so it may take memory.
    pub wasted: Vec<(u8, Usage)>,
    /// What is captured of the exchange, where that is wanted.
    pub capturing: Option<Box<Capturing>>,
}

impl Notes {
    /// Nothing noted; memory is kept.
    pub fn clear(&mut self) {
        let mut wasted = std::mem::take(&mut self.wasted);
        wasted.clear();
        *self = Notes { wasted, ..Notes::default() };
    }

    /// An answer that is not delivered used this up.
    pub fn waste(&mut self, no: u8, usage: Option<Usage>) {
        self.wasted.extend(usage.map(|usage| (no, usage)));
    }

    /// No target could answer.
    pub fn gave_up(&mut self, end: &GiveUp) {
        let fault = end.best().and_then(|best| best.fault);
        self.blamed = end.cause == Cause::Caller
            || matches!(fault, Some(Fault::Caller | Fault::ContextLength | Fault::Model));
    }
}

/// The tokens that are paid for.
pub fn tokens(usage: &Usage) -> Tokens {
    Tokens {
        input: usage.input,
        cache_read: usage.cache_read,
        cache_write: usage.cache_write,
        output: usage.output,
        cache_write_long: usage.cache_write_long,
        audio_input: usage.audio_in,
        audio_output: usage.audio_out,
        reasoning: usage.reasoning,
        tier: usage.tier,
    }
}

/// Books a request that was refused before it was whole, or before any of it could be read.
pub fn refused(client: &Client) {
    let (core, notes) = (&client.core, &client.notes);
    let plan = core.plan();
    let who = &plan.live.plan.who;
    let record = Record { labels: &who.labels, ..blank(notes.told, clock::now_us(), clock::recent_us()) };
    core.count(notes.id.text(), &record, who);
}

/// Books a request that was answered, or left, before its chain was looked for.
pub fn early(client: &Client, inbound: &Inbound) {
    let who = &inbound.plan.live.plan.who;
    let mut record = Record {
        api: inbound.api,
        client_retries: inbound.client_retries,
        who: inbound.who(),
        labels: &who.labels,
        ..blank(client.notes.told, inbound.started_us, clock::now_us())
    };
    record.trace = traced(client, inbound, &record);
    client.core.count(client.notes.id.text(), &record, who);
}

/// Books a request that the gateway answers itself, when that answer is that there is nothing.
pub fn local(client: &Client, inbound: &Inbound) {
    if client.notes.told.status >= 400 && inbound.api == Api::Other && !client.notes.told.code.is_empty() {
        early(client, inbound);
    }
}

/// A record of a request that no provider was asked for.
fn blank<'r>(told: Told, started_us: u64, now_us: u64) -> Record<'r> {
    let outcome = match (told.status, told.source) {
        (0, _) => Outcome::Aborted,
        (_, Source::Gateway) => Outcome::Rejected,
        (400.., _) => Outcome::ClientError,
        _ => Outcome::Ok,
    };
    Record {
        api: Api::Other,
        stream: false,
        status: told.status,
        outcome,
        source: told.source,
        code: told.code,
        route: "none",
        asked: "",
        answered: None,
        usage: None,
        usage_missing: false,
        cost: Cost::Unknown,
        started_us,
        duration_us: now_us.saturating_sub(started_us),
        first_token_us: None,
        generating_us: None,
        overhead_us: None,
        queued_us: 0,
        truncated: false,
        client_retries: 0,
        tried: &[],
        who: Default::default(),
        labels: &[],
        trace: None,
    }
}

/// What the exchange's trace says, when it is to be sent.
fn traced<'r>(client: &'r Client, inbound: &Inbound, record: &Record<'_>) -> Option<Traced<'r>> {
    let (context, rules) = (inbound.trace?, client.core.traces.get()?);
    if !rules.wants(&context, record) {
        return None;
    }
    let notes = &client.notes;
    Some(Traced {
        context,
        first_content_us: notes.first_content.map(|(at_us, _)| at_us.saturating_sub(inbound.started_us)),
        finish: notes.finish.map_or("", Finish::label),
        model: notes.model.text(),
    })
}

impl Exchange<'_> {
    /// Books the exchange. Its attempts are settled.
    pub fn account(&mut self) {
        let capturing = self.client.notes.capturing.take();
        let (state, inbound, core) = (&self.state, self.inbound, &self.client.core);
        publish(&core.stats, &state.plan);
        let attempts = state.flight.attempts();
        let notes = &self.client.notes;
        let plan = &state.plan.live.plan;
        // Settling has just asked, or the exchange ended where nothing was settled and the time is a few moments old.
        let now_us = if notes.ended_us > 0 { notes.ended_us } else { clock::recent_us() };
        let told = self.client.notes.told;
        let outcome = self.outcome();
        let answering = notes.answering.and_then(|no| attempts.record(no));
        let price = answering.and_then(|record| self.price(record));
        let cost = match (notes.usage, price) {
            (None, _) => Cost::Unknown,
            (Some(_), None) => Cost::Unpriced,
            (Some(usage), Some(price)) => price.cost(&tokens(&usage)).map_or(Cost::Unpriced, Cost::Priced),
        };
        let first = attempts.record(0).map(|record| self.tried_as(0, record, outcome));
        let mut all = first.map(|first| [first; 1]);
        let mut many = None;
        if let (Some(first), 2..) = (first, attempts.len()) {
            let mut list = [first; ATTEMPTS_MAX];
            for (no, (place, record)) in list.iter_mut().zip(attempts.iter()).enumerate() {
                *place = self.tried_as(no as u8, record, outcome);
            }
            many = Some(list);
        }
        let tried = match (&many, &mut all) {
            (Some(list), _) => &list[..attempts.len()],
            (None, Some(one)) => &one[..],
            (None, None) => &[],
        };
        let whole = outcome == Outcome::Ok && state.wish.stream;
        let route = state.route().and_then(|id| plan.routes.get(usize::from(id.0)));
        let mut record = Record {
            api: inbound.api,
            stream: state.wish.stream,
            outcome,
            code: if outcome == Outcome::Rejected { told.code } else { "" },
            route: route.map_or("none", |route| &route.name),
            asked: if state.wish.peek.model.is_some() { &state.wish.model } else { "" },
            answered: answering.map(|record| self.named(record)),
            usage: notes.usage,
            usage_missing: answering.is_some() && notes.usage.is_none() && reports_usage(inbound.api),
            cost,
            duration_us: now_us.saturating_sub(inbound.started_us),
            first_token_us: notes.first_content.map(|(_, after_us)| after_us),
            generating_us: notes.first_content.filter(|_| whole).map(|(at, _)| now_us.saturating_sub(at)),
            overhead_us: (notes.answering == Some(0) && attempts.len() == 1 && notes.queued_us == 0)
                .then_some(notes.overhead_us),
            queued_us: notes.queued_us,
            truncated: notes.truncated,
            client_retries: inbound.client_retries,
            tried,
            who: inbound.who(),
            labels: &plan.who.labels,
            ..blank(told, inbound.started_us, now_us)
        };
        record.trace = traced(self.client, inbound, &record);
        core.count(notes.id.text(), &record, &plan.who);
        captured::end(self.client, capturing, &record);
    }

    fn outcome(&self) -> Outcome {
        let (state, notes) = (&self.state, &self.client.notes);
        let told = self.client.notes.told;
        if state.left() || notes.unread || told.status == 0 {
            Outcome::Aborted
        } else if notes.truncated {
            Outcome::UpstreamError
        } else if state.delivered() || told.source == Source::Static {
            Outcome::Ok
        } else if state.flight.attempts().is_empty() {
            Outcome::Rejected
        } else if notes.blamed && told.status < 500 {
            Outcome::ClientError
        } else {
            Outcome::UpstreamError
        }
    }

    fn named(&self, record: &AttemptRecord) -> Answered<'_> {
        let state = &self.state;
        let plan: &Plan = &state.plan.live.plan;
        let provider = plan.providers.get(usize::from(record.provider.0));
        let key = record.key.and_then(|key| provider?.keys.get(usize::from(key.0)));
        let model = self.model_of(record.target).unwrap_or(&state.wish.model);
        Answered {
            provider: provider.map_or("", |provider| &provider.name),
            model: if state.wish.peek.model.is_some() { model } else { "" },
            key: key.map(|key| &*key.name),
        }
    }

    fn server(&self, record: &AttemptRecord) -> (&str, u16) {
        let provider = self.state.plan.live.plan.providers.get(usize::from(record.provider.0));
        provider.map_or(("", 0), |provider| (&provider.origin.host, provider.origin.port))
    }

    fn price(&self, record: &AttemptRecord) -> Option<Price> {
        let target = self.state.flight.chain().targets().get(usize::from(record.target))?;
        self.state.plan.policy.try_borrow().ok()?.facts(target.slot).price
    }

    fn tried_as(&self, no: u8, record: &AttemptRecord, outcome: Outcome) -> Tried<'_> {
        let answers = self.client.notes.answering == Some(no);
        Tried {
            target: self.named(record),
            reason: record.reason,
            what: record.what.unwrap_or(What::Cancelled),
            fault: record.fault,
            after_us: record.started_us.saturating_sub(self.inbound.started_us),
            elapsed_us: record.elapsed_us,
            answers,
            spend: self.spend(no, record, outcome),
            server: self.server(record),
        }
    }

    /// What an attempt used up for nothing.
    fn spend(&self, no: u8, record: &AttemptRecord, outcome: Outcome) -> Spend {
        let notes = &self.client.notes;
        let reported = notes.wasted.iter().find(|(own, _)| *own == no);
        if let Some((_, usage)) = reported {
            let nano_usd = self.price(record).and_then(|price| price.cost(&tokens(usage))).unwrap_or(0);
            return Spend { tokens: usage.total(), reported_nano_usd: nano_usd, ..Spend::default() };
        }
        let what = record.what.unwrap_or(What::Cancelled);
        let answers = notes.answering == Some(no);
        let left = what == What::Cancelled && outcome == Outcome::Aborted;
        let lost = what == What::Cancelled && notes.answering.is_some();
        let billed = reports_usage(self.inbound.api)
            && match answers {
                true => left && notes.usage.is_none(),
                false => left || lost || (record.fault.is_some() && what.may_be_billed()),
            };
        if !billed {
            return Spend::default();
        }
        let flight = &self.state.flight;
        let target = flight.chain().targets().get(usize::from(record.target));
        let rate = target.and_then(|target| target.input_nano_usd).unwrap_or(0);
        let nano_usd = u64::from(rate) * u64::from(flight.ask().est_input_tokens);
        Spend { estimated_nano_usd: nano_usd, aborted: left, ..Spend::default() }
    }
}

/// Whether answers of this endpoint say how many tokens they took.
fn reports_usage(api: Api) -> bool {
    matches!(api, Api::ChatCompletions | Api::Completions | Api::Embeddings | Api::Responses | Api::Messages)
}

/// Adds what policy decided since the last time to the counters of the core. Policy counts anew with each plan, and
/// exchanges of two plans may run at once.
fn publish(stats: &Stats, plan: &CorePlan) {
    let Ok(policy) = plan.policy.try_borrow() else { return };
    let now = *policy.counters();
    let before = plan.published.replace(now);
    for (cell, (now, before)) in stats.skips.iter().zip(now.skips.iter().zip(before.skips)) {
        cell.add(now - before);
    }
    stats.hedges_won.add(now.hedges_won - before.hedges_won);
    stats.probes.add(now.probes - before.probes);
}
