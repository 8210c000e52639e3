//! Answers that the configuration gives in place of a provider: the static target at the end of a chain, and the end of
//! a step that has used up its budget.

use crate::config::{StaticId, StepBudget};
use crate::dialect::error::{ErrorKind, GatewayError};
use crate::dialect::{Configured, can_configure, render_configured};
use crate::meter::Source;
use crate::net::{Buf, clock};
use crate::policy::step::{StepBound, StepHandle, StepSettings, Steps};

use super::account::{RequestId, Told};
use super::client::{After, Client};
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::respond;
use super::wish;

/// How a configured answer is asked for.
struct Form {
    stream: bool,
    include_usage: bool,
}

impl Exchange<'_> {
    /// Gives the static answer of the chain.
    pub async fn answer_statically(&mut self, answer: StaticId) -> After {
        let peek = &self.state.wish.peek;
        let form = Form { stream: self.state.wish.stream, include_usage: peek.include_usage == Some(true) };
        let mut extra = Vec::new();
        self.push_attempts(&mut extra, None);
        give(self.client, self.inbound, answer, &form, &extra).await
    }
}

async fn give(client: &mut Client, inbound: &Inbound, answer: StaticId, form: &Form, extra: &[u8]) -> After {
    let plan = &inbound.plan.live.plan;
    let Some(configured) = plan.statics.get(usize::from(answer.0)) else { return After::Cut };
    let id = client.core.next_id();
    let request_id = respond::request_id(id);
    client.notes.id = RequestId::of(&request_id);
    let mut body = Vec::with_capacity(configured.content.len() + 1024);
    let shown = Configured {
        content: &configured.content,
        model: &configured.model,
        id: &format!("{id:016x}"),
        now_unix_s: clock::unix_seconds(),
        stream: form.stream,
        include_usage: form.include_usage,
    };
    render_configured(inbound.api, &shown, &mut body);
    let keep = respond::keeps(client, inbound);
    let mut head = Buf::take(body.len() + 512);
    let out = head.as_vec();
    respond::status_line(out, 200);
    let kind: &[u8] = if form.stream { b"text/event-stream" } else { b"application/json" };
    respond::field(out, "content-type", kind);
    respond::field(out, "date", &client.core.date());
    respond::request_id_fields(out, inbound.dialect, respond::text(&request_id));
    respond::field(out, "x-sluice-provider", b"static");
    respond::field(out, "x-sluice-model", configured.name.as_bytes());
    out.extend_from_slice(extra);
    respond::number_field(out, "content-length", body.len() as u64);
    respond::connection(out, keep, inbound.minor);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&body);
    client.core.stats.static_answers.add(1);
    client.notes.told = Told::answer(200, Source::Static);
    respond::after(client.write(head).await.is_ok(), keep)
}

/// The bounds of steps, and what the steps of the process have lost so far.
pub struct StepGate {
    /// The bounds.
    pub settings: StepSettings,
    /// What an exhausted step gets.
    pub budget: StepBudget,
    /// The steps; they outlive a reload.
    pub steps: std::sync::Arc<Steps>,
}

/// What a request's step means for it.
pub enum Entered {
    /// It names none, or steps are not bounded.
    Free,
    /// Its exchange is booked on this step.
    On(StepHandle),
    /// The step has used up its budget; the request is answered.
    Answered(After),
}

/// Finds the step of a request and turns it away when that has lost enough.
pub async fn enter_step(client: &mut Client, inbound: &Inbound) -> Entered {
    let live = inbound.plan.live.clone();
    let (Some(gate), Some(step)) = (&live.steps, inbound.step) else { return Entered::Free };
    let now_us = clock::now_us();
    let (handle, name) = {
        let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
        let name = step.of(all);
        if name.is_empty() {
            return Entered::Free;
        }
        let pipeline = inbound.pipeline.map_or(&[][..], |span| span.of(all));
        (gate.steps.enter(pipeline, name, now_us), String::from_utf8_lossy(name).into_owned())
    };
    let Some(handle) = handle else { return Entered::Free };
    let Some(bound) = gate.steps.exhausted(&gate.settings, handle, now_us) else {
        return Entered::On(handle);
    };
    client.core.stats.steps_refused.add(1);
    Entered::Answered(turn_away(client, inbound, gate, bound, &name).await)
}

async fn turn_away(
    client: &mut Client,
    inbound: &Inbound,
    gate: &StepGate,
    bound: StepBound,
    name: &str,
) -> After {
    if let Some(answer) = gate.budget.answer
        && can_configure(inbound.api)
        && let Ok(wish) = wish::read(client, inbound)
    {
        let form = Form { stream: wish.stream, include_usage: wish.peek.include_usage == Some(true) };
        return give(client, inbound, answer, &form, b"").await;
    }
    let lost = match bound {
        StepBound::Failures => "failures",
        StepBound::Money => "money",
        StepBound::Time => "time",
    };
    let message = format!(
        "the step `{name}` has used up its budget of {lost} (step_budget.{}); end it, or use a new x-sluice-step for a new run",
        match bound {
            StepBound::Failures => "failures",
            StepBound::Money => "usd",
            StepBound::Time => "time",
        }
    );
    let advice = crate::policy::downstream::step_exhausted();
    let mut error = GatewayError::new(ErrorKind::Server, message);
    error.status = advice.status;
    error.code = advice.code.into();
    error.should_retry = advice.should_retry;
    respond::error(client, inbound, &error, b"").await
}
