//! How a stream ends: whole, cut, or as a failed attempt before anything was delivered.

use crate::net::{Buf, clock};
use crate::policy::{Failure, Outcome, Signal, What, attribute};
use crate::wire::chunked::{CHUNK_END, CHUNK_LINE_MAX, write_chunk_size};

use super::super::client::After;
use super::super::exchange::Ended;
use super::super::failure::kind_for_policy;
use super::super::framing::Framing;
use super::super::respond;
use super::Pump;

/// How long the end of a finished stream's framing may take before its connection is given up.
const DRAIN_US: u64 = 50_000;

impl Pump<'_, '_> {
    /// A provider's error event before anything was delivered: a failed attempt.
    pub(super) async fn failed_before_commit(&mut self, read: &Buf) -> Ended {
        let event = read.filled().get(self.batch.error_at..self.batch.end).unwrap_or_default();
        let error = crate::dialect::error::read_stream_error(event);
        let retry_after_us = error.retry_after_ms.and_then(|ms| ms.checked_mul(1000));
        let kind = kind_for_policy(error.kind);
        self.call.spoil();
        self.call.end(self.exchange.client).await;
        Ended::failed_with(Signal::ErrorInOk { kind, retry_after_us, stream: true }, error)
    }

    /// The stream broke. Before commit that is a failed attempt; after it the client is told and cut off.
    pub(super) async fn broken(&mut self, what: What) -> Ended {
        if self.committed {
            return self.cut(what).await;
        }
        self.call.spoil();
        self.call.end(self.exchange.client).await;
        Ended::Failed(Signal::Transport(what), None)
    }

    /// Tells the client that the stream broke, unless the provider did, and ends it without a clean end.
    pub(super) async fn cut(&mut self, what: What) -> Ended {
        self.exchange.client.notes.usage = self.usage();
        self.note_answer();
        self.call.spoil();
        if what != What::StreamError {
            let mut event = Vec::with_capacity(256);
            if self.oversized {
                // Half of an event is out: it ends here, so that the error is an event of its own.
                event.extend_from_slice(b"\n\n");
            }
            let message = match what {
                What::Timeout(_) => "the provider stopped sending in the middle of its answer",
                _ => "the provider's connection broke in the middle of its answer",
            };
            respond::stream_error(
                &mut event,
                self.exchange.inbound.dialect,
                self.exchange.inbound.api,
                message,
            );
            let mut out = Buf::take(event.len() + CHUNK_LINE_MAX + 2);
            if self.exchange.inbound.minor > 0 {
                let mut line = [0; CHUNK_LINE_MAX];
                let n = write_chunk_size(&mut line, event.len());
                out.push(&line[..n]);
                out.push(&event);
                out.push(CHUNK_END);
            } else {
                out.push(&event);
            }
            // A client that is gone as well needs no telling.
            let _ = self.exchange.client.write(out).await;
        }
        self.call.end(self.exchange.client).await;
        let failure: Failure = attribute(Signal::Transport(what)).after_commit();
        Ended::Delivered(After::Cut, Outcome::Failure(failure))
    }

    pub(super) fn client_left(&mut self) -> Ended {
        self.exchange.client.notes.usage = self.usage();
        self.note_answer();
        // The call ends with its attempt; closing its connection is what stops the provider.
        if self.committed { Ended::Delivered(After::Cut, Outcome::Cancelled) } else { Ended::Gone }
    }

    /// The stream is whole and delivered.
    pub(super) async fn finish(&mut self, read: Buf, over: bool) -> Ended {
        self.exchange.client.notes.ended_us = clock::now_us();
        if let Some(keeping) = &mut self.exchange.client.keeping {
            keeping.finish();
        }
        self.call.complete();
        if !over {
            self.drain(read).await;
        }
        self.call.complete();
        if self.excess || !self.reply.keep_alive || matches!(self.framing, Framing::UntilClose { .. }) {
            self.call.spoil();
        }
        self.call.end(self.exchange.client).await;
        let inbound = self.exchange.inbound;
        let keep = inbound.minor > 0 && respond::keeps(self.exchange.client, inbound);
        let usage = self.usage();
        self.note_answer();
        let success = self.exchange.success(self.attempt, self.first_token_us, usage);
        Ended::Delivered(if keep { After::Keep } else { After::Close }, Outcome::Success(success))
    }

    /// Waits a moment for the end of the provider's framing, so that the connection can be used again. The client has
    /// its whole answer already; its next request ends the wait.
    async fn drain(&mut self, mut read: Buf) {
        let by_us = clock::now_us() + DRAIN_US;
        loop {
            read.clear();
            read = match self.call.more_unless_asked(self.exchange.client, read, by_us).await {
                Some(read) => read,
                None => return self.call.spoil(),
            };
            match self.framing.strip(&mut read, 0, &mut self.excess) {
                Ok((_, true)) => return,
                // Anything behind the end mark is late; it is read and dropped.
                Ok((_, false)) => {}
                Err(_) => return self.call.spoil(),
            }
        }
    }
}
