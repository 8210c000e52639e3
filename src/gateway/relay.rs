//! Answers of endpoints that the gateway does not read: audio, images, files, lists. Bytes are passed on as they come,
//! with the provider's status and type; there is nothing to hold, since nothing can be judged.
//!
//! One batch is under way at a time, so a client that does not read pauses its provider.

use crate::net::gather::{Gather, Side};
use crate::net::{Buf, buf};
use crate::policy::{Attempt, Outcome, Signal, Success, What, attribute};
use crate::wire::chunked::{CHUNK_END, CHUNK_LINE_MAX, LAST_CHUNK, write_chunk_size};
use crate::wire::framing::Body;

use super::answer::push_reply_fields;
use super::client::After;
use super::exchange::{Ended, Exchange};
use super::framing::Framing;
use super::reply::Reply;
use super::respond;
use super::upstream::{Broken, Call, Received};

/// Forwards a body as it comes.
pub async fn deliver(
    exchange: &mut Exchange<'_>,
    call: &mut Call,
    reply: &Reply,
    mut read: Buf,
    attempt: &Attempt,
) -> Ended {
    let first_token_us = call.received_us.saturating_sub(call.sent_us);
    let inbound = exchange.inbound;
    let length = match reply.body {
        Body::Length(length) => Some(length),
        Body::None => Some(0),
        Body::Chunked | Body::UntilClose => None,
    };
    let chunked = length.is_none() && inbound.minor > 0;
    // Without a length and without chunks only the end of the connection can mark the end of the body.
    let by_close = !chunked && length.is_none();
    let keep = !by_close && respond::keeps(exchange.client, inbound);
    let overhead_us = exchange.answers(attempt.no, reply.status, call.sent_us, call.received_us);
    let mut head = Buf::take(buf::IDLE);
    let out = head.as_vec();
    respond::status_line(out, reply.status);
    exchange.client.notes.id = push_reply_fields(&exchange.client.core, inbound.dialect, out, reply);
    exchange.push_facts(out, attempt, overhead_us);
    match length {
        Some(length) if !matches!(reply.status, 204 | 304) => {
            respond::number_field(out, "content-length", length)
        }
        None if chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        _ => {}
    }
    respond::connection(out, keep, inbound.minor);
    out.extend_from_slice(b"\r\n");
    let mut framing = Framing::of(reply.body);
    let (mut excess, mut begun) = (false, false);
    let bodiless = inbound.is_head || length == Some(0);
    loop {
        let over = match framing.strip(&mut read, 0, &mut excess) {
            Ok((_, over)) => over || bodiless,
            Err(what) if !begun => {
                call.end(exchange.client).await;
                return Ended::Failed(Signal::Transport(what), None);
            }
            Err(what) => return cut(exchange, call, what, by_close).await,
        };
        begun = true;
        head = match forward(exchange, head, &mut read, chunked, over).await {
            Some(head) => head,
            None => return Ended::Delivered(After::Cut, Outcome::Cancelled),
        };
        if over {
            break;
        }
        let by = exchange.by_next_piece(attempt);
        read = match call.more(exchange.client, read, by).await {
            Ok(Received::More(read)) => read,
            Ok(Received::End(_)) if matches!(reply.body, Body::UntilClose) => {
                call.spoil();
                let mut nothing = Buf::default();
                if forward(exchange, head, &mut nothing, chunked, true).await.is_none() {
                    return Ended::Delivered(After::Cut, Outcome::Cancelled);
                }
                break;
            }
            Ok(Received::End(_)) => return cut(exchange, call, What::Truncated, by_close).await,
            Err(Broken::ClientGone) => return Ended::Delivered(After::Cut, Outcome::Cancelled),
            Err(Broken::Stale | Broken::Hedge) => return cut(exchange, call, What::Reset, by_close).await,
            Err(Broken::Failed(what)) => return cut(exchange, call, what, by_close).await,
        };
    }
    call.complete();
    if excess || !reply.keep_alive {
        call.spoil();
    }
    call.end(exchange.client).await;
    let success = Outcome::Success(Success { first_token_us, ..Success::default() });
    Ended::Delivered(if keep { After::Keep } else { After::Close }, success)
}

/// Writes what `head` holds, the payload in `read`, and the end of the body when it is over. Both buffers come back
/// empty.
async fn forward(
    exchange: &mut Exchange<'_>,
    mut head: Buf,
    read: &mut Buf,
    chunked: bool,
    over: bool,
) -> Option<Buf> {
    let mut gather = match exchange.client.gather.take() {
        Some(gather) => gather,
        None => Box::new(Gather::new(Buf::default(), Buf::default())),
    };
    gather.reset();
    let payload = if exchange.inbound.is_head { 0 } else { read.len() };
    let out = head.as_vec();
    if chunked && payload > 0 {
        let mut line = [0; CHUNK_LINE_MAX];
        let n = write_chunk_size(&mut line, payload);
        out.extend_from_slice(&line[..n]);
    }
    let before = out.len();
    if chunked && payload > 0 {
        out.extend_from_slice(CHUNK_END);
    }
    if chunked && over && !exchange.inbound.is_head {
        out.extend_from_slice(LAST_CHUNK);
    }
    let all = out.len();
    gather.own = head;
    gather.body = std::mem::take(read);
    let mut fits = gather.piece(Side::Own, 0..before);
    fits &= gather.piece(Side::Body, 0..payload);
    fits &= gather.piece(Side::Own, before..all);
    let empty = gather.total() == 0;
    exchange.client.gather = Some(gather);
    if !fits || (!empty && exchange.client.write_gather().await.is_err()) {
        return None;
    }
    let gather = exchange.client.gather.as_mut()?;
    *read = std::mem::take(&mut gather.body);
    read.clear();
    let mut head = std::mem::take(&mut gather.own);
    head.clear();
    Some(head)
}

/// The body broke after its head went out: all that is left is to end without a clean end.
async fn cut(exchange: &mut Exchange<'_>, call: &mut Call, what: What, by_close: bool) -> Ended {
    if by_close {
        // A plain close would say that this was all.
        exchange.client.conn.reset();
    }
    call.spoil();
    call.end(exchange.client).await;
    Ended::Delivered(After::Cut, Outcome::Failure(attribute(Signal::Transport(what)).after_commit()))
}
