//! The live page: its files, its API, its events. What it shows is computed on a thread of its own.
//!
//! ```text
//! GET /            the page (ui)          GET  /admin/api/v1/access      what this caller may do
//! GET /ui/…        its files              GET  /admin/api/v1/state       how things stand now
//! GET /favicon.ico its icon               GET  /admin/api/v1/events      the same, once a second (SSE)
//!                                         GET  /admin/api/v1/exchanges   the last ones, with their attempts
//!                                         GET  /admin/api/v1/history     the last hour or day as columns
//!                                         GET  /admin/api/v1/config      the effective configuration, without secrets
//!                                         GET  /admin/api/v1/gamedays    the days, and the run there is
//! with the token:                         POST /admin/api/v1/gamedays, /gamedays/stop, /targets/reset, /reload
//! ```
//!
//! ```text
//! core ── Job ── hub's thread ── reply (mailbox) ── core          a request of the API
//! hub's thread ── snapshot (one a second while somebody looks) ── cores ── SSE
//! hub's thread ── Message::Look ── cores                          what runs, asked for the snapshot
//! ```
//!
//! Invariants: with nobody looking the thread sleeps and no core does anything for the page but write its exchanges'
//! names down (`underway`); no answer holds a prompt, an answer's text or a secret; what changes something wants the
//! token ([`access`]); nothing here ever gives a CORS permission.

mod access;
mod answers;
mod config;
mod events;
mod hub;
mod state;

pub use access::{is_own_origin, is_shell};
pub use hub::{Beginning, Hub};

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::net::{clock, mailbox, race::race};
use crate::ui;
use crate::wire::Span;

use super::account::Told;
use super::client::{After, Client};
use super::inbound::{Inbound, Media};
use super::respond;
use access::Right;
use answers::Ask;
use hub::Reply;

/// Where the API is; what follows is part of a name's version.
pub const API: &str = "/admin/api/v1/";

/// Longest wait for an answer of the hub; a reload takes up to ten seconds.
const WAIT_US: u64 = 15_000_000;

/// What every answer of the API carries: nothing may keep it, frame it or guess at its type.
const API_FIELDS: &[u8] = b"cache-control: no-store\r\nx-content-type-options: nosniff\r\n\
    content-security-policy: default-src 'none'; frame-ancestors 'none'\r\n\
    cross-origin-resource-policy: same-origin\r\nreferrer-policy: no-referrer\r\n";

/// What every file of the page carries. No inline script and no inline style; nothing from anywhere else.
const FILE_FIELDS: &str = "x-content-type-options: nosniff\r\n\
    content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n\
    cross-origin-resource-policy: same-origin\r\ncross-origin-opener-policy: same-origin\r\n\
    permissions-policy: camera=(), geolocation=(), microphone=()\r\n\
    referrer-policy: no-referrer\r\nvary: accept-encoding\r\n";

/// Whether `path` belongs to the page.
pub fn is_ours(path: &[u8]) -> bool {
    is_shell(path) || path.starts_with(API.as_bytes())
}

/// Answers a request whose path [`is_ours`].
pub async fn serve(client: &mut Client, inbound: &Inbound) -> After {
    // A copy: the page is asked a few times a second at most, and what is borrowed of the client cannot be answered to.
    let all = client.gather.as_ref().map_or(Vec::new(), |g| g.body.filled().to_vec());
    let text = |span: Span| String::from_utf8_lossy(span.of(&all));
    let (method, path) = (text(inbound.method), text(inbound.path));
    let is_get = matches!(&*method, "GET" | "HEAD");
    let query = text(inbound.query);
    if is_shell(path.as_bytes()) {
        return match is_get {
            true => file(client, inbound, &path, all.get(..inbound.head_len).unwrap_or_default()).await,
            false => refuse(client, inbound, not_allowed("GET")).await,
        };
    }
    let name = path.strip_prefix(API).unwrap_or_default();
    let head = all.get(..inbound.head_len).unwrap_or_default();
    let body = all.get(inbound.body()).unwrap_or_default();
    let right = if is_get { Right::Read } else { Right::Change };
    let plan = &inbound.plan.live.plan;
    let allowed = access::check(plan, head, right);
    let allowed = match (is_get, inbound.media) {
        (false, media) if media != Media::Json && allowed.is_ok() => Err(needs_json()),
        _ => allowed,
    };
    if is_get && name == "access" {
        // Whoever is this page's own may ask what else it may do.
        if let Err(error) = access::is_foreign(plan, head) {
            return refuse(client, inbound, error).await;
        }
        let body = access::describe(plan, head);
        return answer(client, inbound, Reply::ok(body)).await;
    }
    if let Err(error) = allowed {
        return refuse(client, inbound, error).await;
    }
    if is_get && name == "events" {
        return events::stream(client, inbound).await;
    }
    let ask = match Ask::read(is_get, name, &query, body) {
        Ok(ask) => ask,
        Err(error) => return refuse(client, inbound, error).await,
    };
    match ask_hub(client, inbound, ask).await {
        Some(reply) => answer(client, inbound, reply).await,
        None => {
            let mut error = GatewayError::new(ErrorKind::Server, "the page's data could not be put together");
            error.status = 503;
            refuse(client, inbound, error).await
        }
    }
}

/// Hands the question to the hub's thread and waits for its reply, while the core serves others.
async fn ask_hub(client: &Client, inbound: &Inbound, ask: Ask) -> Option<Reply> {
    let hub = client.core.hub.borrow().clone()?;
    let (to, replies) = mailbox::mailbox().ok()?;
    hub.ask(inbound.plan.live.clone(), ask, to);
    let mut reply = None;
    {
        let mut replied = pin!(replies.run(|one| {
            reply = Some(one);
            ControlFlow::Break(())
        }));
        let late = pin!(client.core.timers.sleep_until(clock::now_us() + WAIT_US));
        race(|cx| replied.as_mut().poll(cx).map(|_| ()), late).await;
    }
    reply
}

async fn answer(client: &mut Client, inbound: &Inbound, reply: Reply) -> After {
    let kind = "application/json";
    let after = respond::page_with(client, inbound, reply.status, kind, API_FIELDS, &reply.body).await;
    // What is asked of the page is no exchange.
    client.notes.told = Told::default();
    after
}

async fn refuse(client: &mut Client, inbound: &Inbound, error: GatewayError) -> After {
    let after = respond::error(client, inbound, &error, API_FIELDS).await;
    client.notes.told = Told::default();
    after
}

/// A file of the page: kept for ever under its name with a hash, asked for again without one.
async fn file(client: &mut Client, inbound: &Inbound, path: &str, head: &[u8]) -> After {
    let Some(asset) = ui::asset(path) else {
        return refuse(client, inbound, not_found("the page has no such file; reload it")).await;
    };
    let known = access::header(head, "if-none-match").is_some_and(|tags| ui::names(tags, asset.etag));
    let zipped = access::header(head, "accept-encoding").is_some_and(ui::takes_gzip);
    let mut fields = format!("{FILE_FIELDS}etag: \"{}\"\r\n", asset.etag);
    fields.push_str(match asset.fixed {
        true => "cache-control: public, max-age=31536000, immutable\r\n",
        false => "cache-control: no-cache\r\n",
    });
    let (status, body) = match (known, zipped) {
        (true, _) => (304, &[][..]),
        (false, true) => {
            fields.push_str("content-encoding: gzip\r\n");
            (200, asset.gzip)
        }
        (false, false) => (200, asset.plain),
    };
    let after = respond::page_with(client, inbound, status, asset.kind, fields.as_bytes(), body).await;
    client.notes.told = Told::default();
    after
}

fn not_found(message: &str) -> GatewayError {
    GatewayError::new(ErrorKind::NotFound, message)
}

fn not_allowed(allow: &str) -> GatewayError {
    let mut error = GatewayError::new(ErrorKind::InvalidRequest, format!("this path answers {allow} only"));
    (error.status, error.code) = (405, "method_not_allowed".into());
    error
}

fn needs_json() -> GatewayError {
    let mut error = GatewayError::new(ErrorKind::InvalidRequest, "send Content-Type: application/json");
    (error.status, error.code) = (415, "content_type".into());
    error
}
