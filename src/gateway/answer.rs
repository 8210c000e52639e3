//! A whole answer: read, inspected, then delivered. Nothing goes to the client before all of it is there, so that a
//! truncated, empty or false answer is still a failed attempt that another target can make good.

use crate::config::Dialect;
use crate::dialect::{self, ModelName};
use crate::net::gather::Side;
use crate::net::{Buf, buf, clock};
use crate::policy::{Attempt, Outcome, Signal, What};

use super::account::RequestId;
use super::client::After;
use super::core::Core;
use super::exchange::{Ended, Exchange};
use super::failure::kind_for_policy;
use super::judge;
use super::outbound::Outbound;
use super::reply::{Content, Reply};
use super::respond;
use super::translation;
use super::upstream::{ANSWER_MAX, Broken, By, Call};

/// Reads and delivers a whole answer.
pub async fn deliver(
    exchange: &mut Exchange<'_>,
    call: &mut Call,
    reply: &Reply,
    read: Buf,
    outbound: &Outbound,
    attempt: &Attempt,
    by: By,
) -> Ended {
    let body = match call.body(exchange.client, reply, read, ANSWER_MAX, by).await {
        Ok(body) => body,
        Err(broken) => {
            if !matches!(broken, Broken::ClientGone) {
                call.spoil();
                call.end(exchange.client).await;
            }
            return broken.into();
        }
    };
    let first_token_us = call.received_us.saturating_sub(call.sent_us);
    let (sent_us, received_us) = (call.sent_us, call.received_us);
    call.end(exchange.client).await;
    if body.is_empty() {
        return Ended::Failed(Signal::Transport(What::EmptyBody), None);
    }
    let seen = dialect::inspect_answer(outbound.api, outbound.dialect, body.filled());
    if seen.error {
        let error = dialect::error::read_error(reply.status, &Default::default(), body.filled());
        let retry_after_us = error.retry_after_ms.and_then(|ms| ms.checked_mul(1000));
        let signal = Signal::ErrorInOk { kind: kind_for_policy(error.kind), retry_after_us, stream: false };
        return Ended::failed_with(signal, error);
    }
    if !seen.complete {
        // Text that is not JSON at all never came from this API; JSON that stops early was cut.
        let what = if reply.content == Content::Json { What::Truncated } else { What::BadContentType };
        return Ended::Failed(Signal::Transport(what), None);
    }
    if exchange.inbound.trace.is_some() {
        exchange.client.notes.model = ModelName::of(seen.model.of(body.filled()));
    }
    let body = match &outbound.back {
        None => body,
        Some(back) => {
            let mut said = Buf::take(body.len() + 256);
            match translation::answer(back, body.filled(), clock::unix_seconds(), said.as_vec()) {
                Some(_) => said,
                None => return Ended::Failed(Signal::Transport(What::BadBody), None),
            }
        }
    };
    if let Err(check) = exchange.judge(body.filled(), false) {
        exchange.client.notes.waste(attempt.no, seen.usage);
        return judge::refused(check);
    }
    if exchange.client.rival.is_some() {
        exchange.committed(attempt.no);
    }
    exchange.client.notes.finish = seen.finish;
    let success = exchange.success(attempt, first_token_us, seen.usage);
    let overhead_us = exchange.answers(attempt.no, reply.status, sent_us, received_us);
    let keep = respond::keeps(exchange.client, exchange.inbound);
    let Some(mut gather) = exchange.client.gather.take() else { return Ended::Gone };
    gather.reset();
    if gather.own.capacity() == 0 {
        gather.own = Buf::take(buf::HEAD);
    }
    let out = gather.own.as_vec();
    respond::status_line(out, reply.status);
    let fields_at = out.len();
    exchange.client.notes.id = push_reply_fields(&exchange.client.core, exchange.inbound.dialect, out, reply);
    exchange.push_facts(out, attempt, overhead_us);
    respond::dollar_field(out, "x-sluice-cost-usd", success.cost_nano_usd);
    respond::dropped(out, outbound.dropped);
    if let Some(capturing) = &mut exchange.client.notes.capturing {
        capturing.body(body.filled());
    }
    if let Some(keeping) = &mut exchange.client.keeping {
        keeping.head(reply.status, &out[fields_at..]);
        keeping.body(body.filled());
        keeping.finish();
    }
    respond::number_field(out, "content-length", body.len() as u64);
    respond::connection(out, keep, exchange.inbound.minor);
    out.extend_from_slice(b"\r\n");
    let (head_len, body_len) = (out.len(), body.len());
    gather.body = body;
    let mut fits = gather.piece(Side::Own, 0..head_len);
    if !exchange.inbound.is_head {
        fits &= gather.piece(Side::Body, 0..body_len);
    }
    exchange.client.gather = Some(gather);
    let written = fits && exchange.client.write_gather().await.is_ok();
    let after = match (written, keep) {
        (false, _) => After::Cut,
        (true, true) => After::Keep,
        (true, false) => After::Close,
    };
    Ended::Delivered(after, Outcome::Success(success))
}

/// Appends the provider's fields that the client may see, and a request id in any case, under the name that the
/// client's SDK reads: Anthropic's looks for `request-id`, all others for `x-request-id`. Returns the id.
pub fn push_reply_fields(
    core: &Core,
    client_dialect: Dialect,
    out: &mut Vec<u8>,
    reply: &Reply,
) -> RequestId {
    let lines = reply.lines.filled();
    out.extend_from_slice(lines);
    let [openai, anthropic] = reply.request_ids.clone().map(|at| lines.get(at).filter(|id| !id.is_empty()));
    let made = respond::request_id(core.next_id());
    let id = openai.or(anthropic).unwrap_or(&made);
    if openai.is_none() {
        respond::field(out, "x-request-id", id);
    }
    if anthropic.is_none() && client_dialect == Dialect::Anthropic {
        respond::field(out, "request-id", id);
    }
    RequestId::of(id)
}
