//! What a client is told when no target gave an answer: the most useful failure, in its own dialect, with everything
//! that was tried.

use crate::config::Dialect;
use crate::dialect::error::{ErrorKind, GatewayError, UpstreamError};
use crate::dialect::{self, json};
use crate::meter::Source;
use crate::net::gather::Side;
use crate::net::{Buf, buf, clock};
use crate::policy::{self, Cause, GiveUp, Signal, What};

use super::account::{RequestId, Told};
use super::answer;
use super::client::After;
use super::exchange::{Ended, Exchange};
use super::outbound::{Outbound, Unfit};
use super::reply::Reply;
use super::respond;
use super::upstream::{Broken, By, Call, Party};

/// The most useful failure so far, as its provider told it.
pub struct Kept {
    /// The provider's status.
    pub status: u16,
    /// Its fields for the client.
    pub lines: Buf,
    /// The request id in them.
    pub id: RequestId,
    /// Its body.
    pub body: Buf,
    /// It came in the client's own dialect and may be passed on as it is.
    pub native: bool,
    /// What it says.
    pub error: UpstreamError,
}

/// Error bodies are read up to here; what is longer is judged by its status.
const ERROR_BODY_MAX: usize = 256 * 1024;

/// Reads what a provider says of its failure, and ends the call. `asked`: how it was asked, and the client's dialect.
///
/// # Errors
/// The client left.
pub async fn read<P: Party>(
    party: &mut P,
    call: &mut Call,
    reply: &mut Reply,
    read: Buf,
    asked: (&Outbound, Dialect),
    by: By,
) -> Result<(Signal, Box<Kept>), Broken> {
    let (outbound, client_dialect) = asked;
    let body = match call.body(party, reply, read, ERROR_BODY_MAX, by).await {
        Ok(body) => body,
        Err(Broken::ClientGone) => return Err(Broken::ClientGone),
        // The status is there; a body that is cut, late or too long takes nothing from it.
        Err(_) => {
            call.spoil();
            Buf::default()
        }
    };
    call.end(party).await;
    let [retry_after, retry_after_ms, should_retry] = &reply.hints;
    let hints = dialect::error::RetryHints {
        retry_after: retry_after.as_deref(),
        retry_after_ms: retry_after_ms.as_deref(),
        should_retry: should_retry.as_deref(),
        now_unix_s: clock::unix_seconds(),
    };
    let error = dialect::error::read_error(reply.status, &hints, body.filled());
    let retry_after_us = error.retry_after_ms.and_then(|ms| ms.checked_mul(1000));
    let kind = kind_for_policy(error.kind);
    let signal = if reply.status < 300 {
        if dialect::inspect_answer(outbound.api, outbound.dialect, body.filled()).error {
            Signal::ErrorInOk { kind, retry_after_us, stream: false }
        } else {
            Signal::Transport(What::BadContentType)
        }
    } else {
        Signal::Status { status: reply.status, kind, retry_after_us }
    };
    let native =
        outbound.dialect == client_dialect && outbound.back.is_none() && (400..600).contains(&reply.status);
    let mut lines = Buf::take(buf::IDLE);
    let id = answer::push_reply_fields(party.core(), client_dialect, lines.as_vec(), reply);
    Ok((signal, Box::new(Kept { status: reply.status, lines, id, body, native, error })))
}

impl Exchange<'_> {
    /// Appends `x-sluice-attempts`: provider, status or failure, milliseconds, for each attempt. `answered` is the one
    /// whose answer is being delivered and not settled yet.
    pub fn push_attempts(&self, out: &mut Vec<u8>, answered: Option<u8>) {
        out.extend_from_slice(b"x-sluice-attempts: ");
        let now_us = clock::now_us();
        for (no, record) in self.state.flight.attempts().iter().enumerate() {
            if no > 0 {
                out.extend_from_slice(b", ");
            }
            let provider = &self.state.plan.live.plan.providers[usize::from(record.provider.0)];
            out.extend_from_slice(provider.name.as_bytes());
            out.push(b' ');
            let elapsed_us = match record.what {
                Some(What::Status(status)) => {
                    json::push_number(out, u64::from(status));
                    record.elapsed_us
                }
                Some(what) => {
                    out.extend_from_slice(what.label().as_bytes());
                    record.elapsed_us
                }
                None => {
                    let running: &[u8] = if answered == Some(no as u8) { b"200" } else { b"running" };
                    out.extend_from_slice(running);
                    now_us.saturating_sub(record.started_us)
                }
            };
            out.push(b' ');
            json::push_number(out, elapsed_us / 1000);
            out.extend_from_slice(b"ms");
        }
        out.extend_from_slice(b"\r\n");
    }

    /// One sentence with every attempt.
    fn tried(&self) -> String {
        let mut line = Vec::new();
        self.push_attempts(&mut line, None);
        let text = String::from_utf8_lossy(&line);
        let list = text.trim_start_matches("x-sluice-attempts: ").trim_end();
        if list.is_empty() { "no target could be tried".to_owned() } else { format!("tried {list}") }
    }

    pub async fn give_up(&mut self, end: &GiveUp) -> After {
        self.client.notes.gave_up(end);
        let mut extra = Vec::new();
        if !self.state.flight.attempts().is_empty() {
            self.push_attempts(&mut extra, None);
        }
        if end.cause == Cause::Caller
            && let Some(kept) = self.state.kept.take_if(|k| k.native)
        {
            return self.pass_on(*kept, &extra).await;
        }
        let mut error = match (&self.state.kept, end.cause) {
            (_, Cause::Deadline) => {
                let mut error = GatewayError::new(
                    ErrorKind::Timeout,
                    "the caller's deadline passed before an answer came",
                );
                error.status = 504;
                error.code = "deadline_exceeded".into();
                error
            }
            (Some(kept), _) => kept.error.for_client(self.inbound.dialect),
            (None, Cause::Unavailable) => unavailable(end),
            (None, _) => nothing_heard(end.best().and_then(|b| b.what)),
        };
        if end.cause != Cause::Caller {
            error.message = format!("{} ({})", error.message.trim_end_matches('.'), self.tried());
            error.should_retry = end.should_retry.or(error.should_retry);
            if let Some(us) = end.retry_after_us {
                // SDKs ignore or distrust more than a minute, and retry at once on less than a second.
                error.retry_after_s = Some(us.div_ceil(1_000_000).clamp(1, 60) as u32);
            }
        }
        respond::error(self.client, self.inbound, &error, &extra).await
    }

    /// Passes a provider's error on, byte for byte.
    async fn pass_on(&mut self, kept: Kept, extra: &[u8]) -> After {
        self.client.notes.told = Told::answer(kept.status, Source::Provider);
        self.client.notes.id = kept.id;
        let keep = respond::keeps(self.client, self.inbound);
        let Some(gather) = self.client.gather.as_mut() else { return After::Cut };
        gather.reset();
        gather.own = Buf::take(buf::HEAD);
        let out = gather.own.as_vec();
        respond::status_line(out, kept.status);
        out.extend_from_slice(kept.lines.filled());
        out.extend_from_slice(extra);
        respond::number_field(out, "content-length", kept.body.len() as u64);
        respond::connection(out, keep, self.inbound.minor);
        out.extend_from_slice(b"\r\n");
        let (head_len, body_len) = (out.len(), kept.body.len());
        gather.body = kept.body;
        let mut fits = gather.piece(Side::Own, 0..head_len);
        if !self.inbound.is_head {
            fits &= gather.piece(Side::Body, 0..body_len);
        }
        if !fits || self.client.write_gather().await.is_err() {
            return After::Cut;
        }
        if keep { After::Keep } else { After::Close }
    }
}

/// A target that cannot be asked for this: another one may take the request as it is.
pub fn unfit_for(unfit: Unfit) -> Ended {
    let message = match unfit {
        Unfit::NoEndpoint => "this provider has no such endpoint".to_owned(),
        Unfit::Translation(why) => why.message,
        Unfit::Pieces => "the request has more edits than fit".to_owned(),
    };
    let error = UpstreamError {
        status: 400,
        kind: ErrorKind::InvalidRequest,
        error_type: None,
        code: Some("not_translatable".to_owned()),
        param: None,
        message,
        retry_after_ms: None,
        should_retry: Some(false),
    };
    // Another target may take the request as it is: the model is what does not fit, not the caller.
    let signal = Signal::Status { status: 404, kind: policy::ErrorKind::ModelNotFound, retry_after_us: None };
    Ended::failed_with(signal, error)
}

/// No target could even be tried. Which status that is tells an SDK what its user should catch.
fn unavailable(end: &GiveUp) -> GatewayError {
    let advice = policy::downstream::advise(end);
    let (kind, message) = match advice.code {
        "keys_cooling" => (
            ErrorKind::RateLimit,
            "every key for this model is resting after a rate limit or a refusal; retry later",
        ),
        "provider_full" => (ErrorKind::Server, "the provider has as many calls as it may; retry later"),
        "retry_budget_spent" => {
            (ErrorKind::Server, "the providers fail and the budget for retries is spent; retry later")
        }
        "no_key_for_model" => {
            (ErrorKind::Server, "no key of the provider may be used for this model; see `keys` in the config")
        }
        _ => (ErrorKind::Server, "every target is resting after failures; retry later"),
    };
    let mut error = GatewayError::new(kind, message);
    error.status = advice.status;
    error.code = advice.code.into();
    error
}

fn nothing_heard(what: Option<What>) -> GatewayError {
    let (status, code, message) = match what {
        Some(What::Timeout(_)) => (504, "upstream_timeout", "no provider answered in time"),
        Some(What::Dns) => (
            502,
            "upstream_unreachable",
            "the provider's host name could not be looked up; check its base_url, or the network",
        ),
        Some(What::Connect) => (
            502,
            "upstream_unreachable",
            "the provider takes no connection; check that it runs, and its base_url",
        ),
        Some(What::Tls) => (
            502,
            "upstream_unreachable",
            "no TLS connection to the provider; check that its base_url is really https, and extra_ca_files",
        ),
        Some(What::Reset) => {
            (502, "upstream_unreachable", "the provider dropped the connection without an answer")
        }
        Some(What::BadContentType) => (
            502,
            "upstream_failed",
            "what answered is no model API; check the provider's base_url and its path",
        ),
        Some(What::Truncated | What::EmptyBody | What::BadBody) => {
            (502, "upstream_truncated", "the provider's answer was cut short")
        }
        _ => (502, "upstream_failed", "no provider gave a usable answer"),
    };
    let mut error = GatewayError::new(ErrorKind::Server, message);
    error.status = status;
    error.code = code.into();
    error
}

/// What policy calls a kind of error.
pub fn kind_for_policy(kind: ErrorKind) -> policy::ErrorKind {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::TooLarge | ErrorKind::Conflict => {
            policy::ErrorKind::InvalidRequest
        }
        ErrorKind::Authentication | ErrorKind::Permission => policy::ErrorKind::Auth,
        ErrorKind::ModelNotFound => policy::ErrorKind::ModelNotFound,
        ErrorKind::ContextLength => policy::ErrorKind::ContextLength,
        ErrorKind::ContentFilter => policy::ErrorKind::ContentPolicy,
        ErrorKind::RateLimit => policy::ErrorKind::RateLimit,
        ErrorKind::Money => policy::ErrorKind::Quota,
        ErrorKind::Overloaded => policy::ErrorKind::Overloaded,
        ErrorKind::NotFound | ErrorKind::Server | ErrorKind::Timeout => policy::ErrorKind::Unknown,
    }
}
