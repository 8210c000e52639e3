//! A stream of events: held until the first content, then forwarded at once, event by event.
//!
//! Before commit nothing has gone to the client, so an error event, a stall or a cut is still a failed attempt. Commit
//! is the first content-bearing event; it and what was held go out in one write. After it whole events are
//! forwarded as they come, one write per batch, unchanged. A stream that breaks ends with one error event in the
//! client's dialect and without a clean end: no `[DONE]`, no last chunk.
//!
//! On a route with answer checks the whole stream is held instead, judged at its end, and only then delivered.
//!
//! Limits: [`HOLD_MAX`] bytes are held before commit; an event larger than that is passed on in pieces, uninspected,
//! where it passes unchanged, and held up to `limits.event` where it has to be translated. A stream that is judged may have
//! [`ANSWER_MAX`] bytes.
//! One batch is under way at a time, so a client that does not read pauses its provider.

mod end;
mod forward;

use crate::dialect::translate::Dropped;
use crate::dialect::{EventKind, ModelName, StreamWatch, Usage};
use crate::net::gather::MAX_PIECES;
use crate::net::{Buf, clock};
use crate::policy::{Attempt, TimeoutKind, What};
use crate::wire::sse::Splitter;

use super::exchange::{Ended, Exchange};
use super::framing::Framing;
use super::judge;
use super::outbound::Outbound;
use super::reply::Reply;
use super::translation::StreamTranslator;
use super::upstream::{ANSWER_MAX, Broken, Call, Received};

/// Bytes of preamble held back while no content has come.
const HOLD_MAX: usize = 64 * 1024;
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
    reply: &'e mut Reply,
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
    /// The whole stream is held and judged at its end.
    checked: bool,
    /// Content has come, delivered or not.
    heard: bool,
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
    reply: &'e mut Reply,
    outbound: &mut Outbound,
    attempt: &'e Attempt,
) -> Pump<'e, 'x> {
    let reader = match outbound.back.take() {
        None => Reader::Watch(StreamWatch::new(outbound.api, outbound.dialect)),
        Some(back) => Reader::Translate(Box::new(StreamTranslator::new(back, clock::unix_seconds()))),
    };
    let framing = Framing::of(reply.body);
    let checked = exchange.checks().is_some();
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
        checked,
        heard: false,
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
                _ if self.checked => {
                    if held.max(self.translated.len()) > ANSWER_MAX {
                        return self.broken(What::BadBody).await;
                    }
                }
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
            let failed = batch.error;
            let clean = batch.terminal || (over && self.complete());
            if clean && self.checked && !batch.error {
                let translated = matches!(self.reader, Reader::Translate(_));
                let said = if translated { &self.translated } else { &read.filled()[..batch.end] };
                if let Err(check) = self.exchange.judge(said, true) {
                    self.exchange.client.notes.waste(self.attempt.no, self.usage());
                    self.call.spoil();
                    self.call.end(self.exchange.client).await;
                    return judge::refused(check);
                }
            }
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
            if failed {
                let what = if self.garbled { What::BadBody } else { What::StreamError };
                return self.cut(what).await;
            }
            if clean {
                return self.finish(read, over).await;
            }
            if over {
                return self.broken(What::Truncated).await;
            }
            let by = if self.committed || self.heard {
                self.exchange.by_next_piece(self.attempt)
            } else {
                self.exchange.by(self.attempt.first_token_by_us, TimeoutKind::FirstToken).hedged()
            };
            let mut received = self.call.more(self.exchange.client, read, by).await;
            while matches!(received, Err(Broken::Hedge)) && !self.exchange.tend_hedge() {
                received = self.call.more_again(self.exchange.client, by).await;
            }
            read = match received {
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
                Err(Broken::Hedge) => {
                    self.call.end(self.exchange.client).await;
                    return Ended::Overtaken;
                }
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
        // A trace wants to know; streams say it before their first content, or with it.
        if !self.committed && self.exchange.inbound.trace.is_some() {
            let model = &mut self.exchange.client.notes.model;
            if model.is_empty() {
                *model = ModelName::in_event(event);
            }
        }
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
            EventKind::Content if self.checked => self.heard = true,
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

    /// What the provider has reported so far.
    fn usage(&self) -> Option<Usage> {
        match &self.reader {
            Reader::Watch(watch) => watch.usage(),
            Reader::Translate(translator) => translator.usage(),
        }
    }

    /// Notes why the model stopped, as far as it said so.
    fn note_answer(&mut self) {
        self.exchange.client.notes.finish = match &self.reader {
            Reader::Watch(watch) => watch.finish(),
            Reader::Translate(translator) => translator.finish_reason(),
        };
    }

    fn commit(&mut self) {
        self.committed = true;
        let now_us = clock::now_us();
        self.first_token_us = now_us.saturating_sub(self.call.sent_us);
        self.exchange.client.notes.first_content = Some((now_us, self.first_token_us));
        // Policy learns of it now: the stream may go on for minutes, and its client may leave it at any time.
        self.exchange.committed(self.attempt.no);
    }
}
