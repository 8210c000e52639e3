//! The page's events: the state of things once a second, as server-sent events.
//!
//! The hub puts one snapshot a second where every core can see it; a stream here looks for a new one and writes it. A
//! reader that does not take one within [`WRITE_US`] is dropped; it comes back by itself. When the gateway drains, the
//! streams end at once and keep nothing from ending.
//!
//! Limits: [`hub::WATCHERS_MAX`](super::hub::WATCHERS_MAX) streams in the process.

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::net::{Buf, buf, clock};

use super::super::account::Told;
use super::super::client::{After, Client};
use super::super::inbound::Inbound;
use super::super::respond::{connection, field, status_line};
use super::{API_FIELDS, refuse};

/// How long a reader may take for one event.
const WRITE_US: u64 = 5_000_000;
/// How often a stream looks for a new snapshot.
const LOOK_US: u64 = 100_000;
/// Until the page comes back after a break, milliseconds.
const RETRY_MS: u32 = 1_000;

/// Serves events until the client leaves.
pub async fn stream(client: &mut Client, inbound: &Inbound) -> After {
    let hub = client.core.hub.borrow().clone();
    let Some(watcher) = hub.as_ref().and_then(|hub| hub.watch()) else {
        let mut error =
            GatewayError::new(ErrorKind::Server, "too many pages are open; close one, or ask again");
        (error.status, error.retry_after_s, error.code) = (503, Some(10), "too_many_pages".into());
        return refuse(client, inbound, error).await;
    };
    client.notes.told = Told::default();
    // It waits for the next event for as long as it lives; nobody should wait for that.
    client.rest();
    client.watch(true);
    let mut head = Buf::take(buf::IDLE);
    let out = head.as_vec();
    status_line(out, 200);
    field(out, "date", &client.core.date());
    field(out, "content-type", b"text/event-stream");
    out.extend_from_slice(API_FIELDS);
    // Its end is that of the connection: the stream has no other.
    connection(out, false, inbound.minor);
    out.extend_from_slice(b"\r\n");
    if inbound.is_head {
        return if client.write(head).await.is_ok() { After::Close } else { After::Cut };
    }
    out.extend_from_slice(format!("retry: {RETRY_MS}\n\n").as_bytes());
    if client.write_within(head, WRITE_US).await.is_err() {
        return After::Cut;
    }
    let mut seen = 0;
    while !client.core.draining() {
        let live = client.core.plan().live.clone();
        if !live.plan.admin.page {
            break;
        }
        if let Some(snapshot) = watcher.newer_than(seen, &live) {
            seen = snapshot.number;
            let mut event = Buf::take(buf::IDLE);
            let out = event.as_vec();
            out.extend_from_slice(format!("id: {seen}\nevent: state\ndata: ").as_bytes());
            out.extend_from_slice(&snapshot.json);
            out.extend_from_slice(b"\n\n");
            if client.write_within(event, WRITE_US).await.is_err() {
                return After::Cut;
            }
        }
        client.deadline.set(clock::now_us() + LOOK_US);
        if client.gone_before_deadline().await {
            return After::Cut;
        }
    }
    After::Close
}
