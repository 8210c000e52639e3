//! A stream of events: held until the first content, then forwarded at once, event by event.
//!
//! Before commit nothing has gone to the client, so an error event, a stall or a cut is still a failed attempt. Commit
//! is the first content-bearing event; it and what was held go out in one write. After it whole events are
//! forwarded as they come, one write per batch, unchanged. A stream that breaks ends with one error event in the
//! client's dialect and without a clean end: no `[DONE]`, no last chunk.
//!
//! Limits: [`HOLD_MAX`] bytes are held before commit; an event larger than that is passed on in pieces, uninspected,
//! where it passes unchanged, and held up to `limits.event` where it has to be translated.
//! One batch is under way at a time, so a client that does not read pauses its provider.

use crate::dialect::translate::Dropped;
use crate::dialect::{EventKind, StreamWatch};
use crate::net::gather::{Gather, MAX_PIECES, Side};
use crate::net::{Buf, buf, clock};
use crate::policy::{Attempt, Failure, Outcome, Signal, Success, TimeoutKind, What, attribute};
use crate::wire::chunked::{CHUNK_END, CHUNK_LINE_MAX, LAST_CHUNK, write_chunk_size};
use crate::wire::sse::Splitter;

use super::answer::push_reply_fields;
use super::client::After;
use super::exchange::{Ended, Exchange, overhead_us};
use super::failure::kind_for_policy;
use super::framing::Framing;
use super::outbound::Outbound;
use super::respond;
use super::translation::StreamTranslator;
use super::upstream::{Broken, Call, Received, Reply};

/// Bytes of preamble held back while no content has come.
const HOLD_MAX: usize = 64 * 1024;
/// How long the end of a finished stream's framing may take before its connection is given up.
const DRAIN_US: u64 = 50_000;
/// Ranges that one batch may leave out: usage chunks that nobody asked for. A stream has one; more than this is the
/// provider's own way, and they pass.
const HIDDEN_MAX: usize = 4;

// A batch is a head, a size line, the pieces between hidden ranges, and an end.
const _: () = assert!(HIDDEN_MAX + 4 <= MAX_PIECES);

/// What is made of each event.
enum Reader {
    /// Forwarded as it is.
    Watch(StreamWatch),
    /// Said anew in the client's dialect.
    Translate(Box<StreamTranslator>),
}

/// What the events that were looked at and not yet forwarded come to. Before commit that is everything so far.
#[derive(Clone, Copy, Default)]
struct Batch {
    /// Bytes of whole events, from the start of the buffer.
    end: usize,
    /// Ranges of them that the client must not see.
    hidden: [(usize, usize); HIDDEN_MAX],
    hidden_count: usize,
    /// The stream is over: nothing after this is forwarded.
    terminal: bool,
    /// The provider said that it failed.
    error: bool,
    /// Where the failing event begins.
    error_at: usize,
}

/// A stream on its way from a provider to a client.
pub struct Pump<'e, 'x> {
    exchange: &'e mut Exchange<'x>,
    call: &'e mut Call,
    reply: &'e Reply,
    attempt: &'e Attempt,
    framing: Framing,
    reader: Reader,
    splitter: Splitter,
    hide_usage: bool,
    dropped: Dropped,
    committed: bool,
    /// The head is out.
    begun: bool,
    first_token_us: u64,
    /// An event larger than the hold is going through in pieces.
    oversized: bool,
    /// An event could not be translated: the provider did not tell the client, so we do.
    garbled: bool,
    /// Bytes behind the stream's end: the connection cannot be reused.
    excess: bool,
    /// Payload at the front of the buffer that the splitter has seen.
    scanned: usize,
    /// The whole events within it.
    batch: Batch,
    translated: Vec<u8>,
}

/// Makes ready to forward the stream that `reply` begins.
pub fn pump<'e, 'x>(
    exchange: &'e mut Exchange<'x>,
    call: &'e mut Call,
    reply: &'e Reply,
    outbound: Outbound,
    attempt: &'e Attempt,
) -> Pump<'e, 'x> {
    let reader = match outbound.back {
        None => Reader::Watch(StreamWatch::new(outbound.api, outbound.dialect)),
        Some(back) => Reader::Translate(Box::new(StreamTranslator::new(back, clock::unix_seconds()))),
    };
    let framing = Framing::of(reply.body);
    Pump {
        exchange,
        call,
        reply,
        attempt,
        framing,
        reader,
        splitter: Splitter::new(),
        hide_usage: outbound.hide_usage,
        dropped: outbound.dropped,
        committed: false,
        begun: false,
        first_token_us: 0,
        oversized: false,
        garbled: false,
        excess: false,
        scanned: 0,
        batch: Batch::default(),
        translated: Vec::new(),
    }
}

impl Pump<'_, '_> {
    /// Forwards the stream to its end; `read` holds what came with the head.
    pub async fn run(&mut self, mut read: Buf) -> Ended {
        loop {
            let (end, over) = match self.framing.strip(&mut read, self.scanned, &mut self.excess) {
                Ok(stripped) => stripped,
                Err(what) => return self.broken(what).await,
            };
            self.look(&read, end);
            if over {
                self.close_tail(&read, end);
            }
            if self.batch.error && !self.committed {
                return self.failed_before_commit(&read).await;
            }
            let (held, pending) = (read.len(), read.len() - self.batch.end);
            match &self.reader {
                Reader::Watch(_) => {
                    if !self.committed && held > HOLD_MAX {
                        self.commit();
                    }
                    if pending > HOLD_MAX && !self.batch.terminal {
                        // One huge event: it goes through in pieces, uninspected, so that it costs no memory.
                        self.oversized = true;
                        self.batch.end = held;
                    }
                }
                Reader::Translate(_) => {
                    if !self.committed && self.batch.end > HOLD_MAX {
                        self.commit();
                    }
                    // An event can only be said anew once it is whole.
                    let limit = self.exchange.inbound.plan.live.plan.limits.event_bytes;
                    if pending > limit as usize {
                        return self.broken(What::BadBody).await;
                    }
                }
            }
            let batch = self.batch;
            let clean = batch.terminal || (over && self.complete());
            if clean && !self.committed {
                // A whole stream without content: an empty answer is an answer.
                self.commit();
            }
            if self.committed && (batch.end > 0 || clean || !self.translated.is_empty()) {
                match self.forward(read, clean && !batch.error).await {
                    Some(back) => read = back,
                    None => return self.client_left(),
                }
            }
            if batch.error {
                let what = if self.garbled { What::BadBody } else { What::StreamError };
                return self.cut(what).await;
            }
            if clean {
                return self.finish(read, over).await;
            }
            if over {
                return self.broken(What::Truncated).await;
            }
            let by = if self.committed {
                self.exchange.by_next_piece(self.attempt)
            } else {
                self.exchange.by(self.attempt.first_token_by_us, TimeoutKind::FirstToken)
            };
            read = match self.call.more(self.exchange.client, read, by).await {
                Ok(Received::More(read)) => read,
                Ok(Received::End(read)) => match &mut self.framing {
                    // The end of the connection is the end of the body only where nothing else marks it.
                    Framing::UntilClose { closed } => {
                        *closed = true;
                        read
                    }
                    _ => return self.broken(What::Truncated).await,
                },
                Err(Broken::ClientGone) => return self.client_left(),
                Err(Broken::Stale) => return self.broken(What::Reset).await,
                Err(Broken::Failed(what)) => return self.broken(what).await,
            };
        }
    }

    /// Takes in the payload that has not been looked at: up to `end`.
    fn look(&mut self, read: &Buf, end: usize) {
        let from = self.scanned;
        self.scanned = end;
        let bytes = read.filled();
        let mut splitter = std::mem::take(&mut self.splitter);
        let mut start = self.batch.end;
        for at in splitter.feed(bytes.get(from..end).unwrap_or_default()) {
            let event_end = from + at;
            if self.batch.terminal || self.batch.error {
                // Nothing after the end is forwarded; the iterator still has to run out.
                continue;
            }
            let event = bytes.get(start..event_end).unwrap_or_default();
            let oversized = std::mem::take(&mut self.oversized);
            let kind = if oversized { EventKind::Other } else { self.take_event(event) };
            self.weigh(kind, (start, event_end));
            start = event_end;
        }
        self.splitter = splitter;
    }

    fn take_event(&mut self, event: &[u8]) -> EventKind {
        match &mut self.reader {
            Reader::Watch(watch) => watch.event(event),
            Reader::Translate(translator) => match translator.event(event, &mut self.translated) {
                Some(kind) => kind,
                None => {
                    self.garbled = true;
                    EventKind::Error
                }
            },
        }
    }

    fn weigh(&mut self, kind: EventKind, (start, end): (usize, usize)) {
        let batch = &mut self.batch;
        batch.end = end;
        match kind {
            EventKind::Content if !self.committed => self.commit(),
            EventKind::UsageOnly if self.hide_usage && batch.hidden_count < HIDDEN_MAX => {
                batch.hidden[batch.hidden_count] = (start, end);
                batch.hidden_count += 1;
            }
            EventKind::Terminal => batch.terminal = true,
            EventKind::Error => {
                batch.error = true;
                batch.error_at = start;
            }
            _ => {}
        }
    }

    /// The body is over: what is left may be a last event whose blank line was not sent.
    fn close_tail(&mut self, read: &Buf, end: usize) {
        let start = self.batch.end;
        let tail = read.filled().get(start..end).unwrap_or_default();
        if tail.is_empty() || self.batch.terminal || self.batch.error || self.oversized {
            return;
        }
        let whole = self.splitter.finish();
        let kind = self.take_event(tail);
        // Without its blank line an event is cut, and readers drop it; only the end mark counts as it stands.
        if whole || kind == EventKind::Terminal {
            self.weigh(kind, (start, end));
        }
    }

    /// Whether a stream that is over without its end mark is whole all the same; a translated one gets its end then.
    fn complete(&mut self) -> bool {
        match &mut self.reader {
            Reader::Watch(watch) => watch.ended(),
            Reader::Translate(translator) => translator.ended() && translator.finish(&mut self.translated),
        }
    }

    fn commit(&mut self) {
        self.committed = true;
        self.first_token_us = clock::now_us().saturating_sub(self.call.sent_us);
    }

    /// Writes the batch to the client; `None` when the client is gone. The buffer comes back without what was written.
    async fn forward(&mut self, read: Buf, last: bool) -> Option<Buf> {
        let batch = std::mem::take(&mut self.batch);
        let first = !std::mem::replace(&mut self.begun, true);
        let chunked = self.exchange.inbound.minor > 0;
        // The request is not needed any more once an answer is committed; its buffer is let go here.
        let mut gather = match self.exchange.client.gather.take() {
            Some(gather) => gather,
            None => Box::new(Gather::new(Buf::default(), Buf::default())),
        };
        gather.reset();
        let translating = matches!(self.reader, Reader::Translate(_));
        let mut head = std::mem::take(&mut gather.own);
        if head.capacity() == 0 {
            head = Buf::take(buf::IDLE);
        }
        let out = head.as_vec();
        if first {
            self.push_head(out, chunked);
        }
        let hidden = &batch.hidden[..batch.hidden_count];
        let payload = if translating {
            self.translated.len()
        } else {
            batch.end - hidden.iter().map(|(from, to)| to - from).sum::<usize>()
        };
        if chunked && payload > 0 {
            let mut line = [0; CHUNK_LINE_MAX];
            let n = write_chunk_size(&mut line, payload);
            out.extend_from_slice(&line[..n]);
        }
        let before = out.len();
        if translating {
            out.append(&mut self.translated);
        }
        let after_payload = out.len();
        if chunked && payload > 0 {
            out.extend_from_slice(CHUNK_END);
        }
        if chunked && last {
            out.extend_from_slice(LAST_CHUNK);
        }
        let all = out.len();
        gather.own = head;
        gather.body = read;
        let mut fits = gather.piece(Side::Own, 0..if translating { after_payload } else { before });
        if !translating {
            let mut at = 0;
            for (from, to) in hidden {
                fits &= gather.piece(Side::Body, at..*from);
                at = *to;
            }
            fits &= gather.piece(Side::Body, at..batch.end);
        }
        fits &= gather.piece(Side::Own, after_payload..all);
        let empty = gather.total() == 0;
        self.exchange.client.gather = Some(gather);
        if !fits || (!empty && self.exchange.client.write_gather().await.is_err()) {
            return None;
        }
        let gather = self.exchange.client.gather.as_mut()?;
        let mut read = std::mem::take(&mut gather.body);
        read.consume(batch.end);
        self.scanned -= batch.end;
        Some(read)
    }

    fn push_head(&mut self, out: &mut Vec<u8>, chunked: bool) {
        respond::status_line(out, 200);
        push_reply_fields(self.exchange, out, self.reply);
        let overhead = overhead_us(self.exchange.inbound, self.call.sent_us, self.call.received_us);
        self.exchange.push_facts(out, self.attempt, overhead);
        respond::dropped(out, self.dropped);
        out.extend_from_slice(b"cache-control: no-cache\r\n");
        if chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let keep = chunked && respond::keeps(self.exchange.client, self.exchange.inbound);
        respond::connection(out, keep, self.exchange.inbound.minor);
        out.extend_from_slice(b"\r\n");
    }

    /// A provider's error event before anything was delivered: a failed attempt.
    async fn failed_before_commit(&mut self, read: &Buf) -> Ended {
        let event = read.filled().get(self.batch.error_at..self.batch.end).unwrap_or_default();
        let error = crate::dialect::error::read_stream_error(event);
        let retry_after_us = error.retry_after_ms.and_then(|ms| ms.checked_mul(1000));
        let kind = kind_for_policy(error.kind);
        self.call.spoil();
        self.call.end(self.exchange.client).await;
        Ended::failed_with(Signal::ErrorInOk { kind, retry_after_us, stream: true }, error)
    }

    /// The stream broke. Before commit that is a failed attempt; after it the client is told and cut off.
    async fn broken(&mut self, what: What) -> Ended {
        if self.committed {
            return self.cut(what).await;
        }
        self.call.spoil();
        self.call.end(self.exchange.client).await;
        Ended::Failed(Signal::Transport(what), None)
    }

    /// Tells the client that the stream broke, unless the provider did, and ends it without a clean end.
    async fn cut(&mut self, what: What) -> Ended {
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

    fn client_left(&self) -> Ended {
        // The call ends with its attempt; closing its connection is what stops the provider.
        if self.committed { Ended::Delivered(After::Cut, Outcome::Cancelled) } else { Ended::Gone }
    }

    /// The stream is whole and delivered.
    async fn finish(&mut self, read: Buf, over: bool) -> Ended {
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
        let usage = match &self.reader {
            Reader::Watch(watch) => watch.usage(),
            Reader::Translate(translator) => translator.usage(),
        }
        .unwrap_or_default();
        let success = Success {
            first_token_us: self.first_token_us,
            input_tokens: u32::try_from(usage.prompt()).unwrap_or(u32::MAX),
            output_tokens: u32::try_from(usage.output).unwrap_or(u32::MAX),
            cost_nano_usd: 0,
        };
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
