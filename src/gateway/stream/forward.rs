//! One batch of events on its way to the client, in one write.

use crate::net::gather::{Gather, Side};
use crate::net::{Buf, buf};
use crate::wire::chunked::{CHUNK_END, CHUNK_LINE_MAX, LAST_CHUNK, write_chunk_size};

use super::super::answer::push_reply_fields;
use super::super::respond;
use super::{Batch, Pump, Reader};

/// What is known of a batch while it is written.
struct Put {
    /// Bytes of the read buffer that it takes.
    end: usize,
    /// It has the head in front.
    first: bool,
    /// There is nothing to write.
    empty: bool,
}

impl Pump<'_, '_> {
    /// Writes the batch to the client; `None` when the client is gone. The buffer comes back without what was written.
    ///
    /// Not an `async fn`: what lives across the wait is part of what every stream holds.
    pub(super) fn forward(&mut self, read: Buf, last: bool) -> impl Future<Output = Option<Buf>> {
        let put = self.put(read, last);
        async move {
            let Put { end, first, empty } = put?;
            if !empty && self.exchange.client.write_gather().await.is_err() {
                return None;
            }
            let gather = self.exchange.client.gather.as_mut()?;
            if first {
                // From here on a size line and an end are all that is written around a batch.
                gather.own = Buf::default();
            }
            let mut read = std::mem::take(&mut gather.body);
            read.consume(end);
            self.scanned -= end;
            Some(read)
        }
    }

    /// Puts the batch into the client's gather; `None` when it has more pieces than fit.
    fn put(&mut self, read: Buf, last: bool) -> Option<Put> {
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
            head = Buf::take(if first { buf::HEAD } else { buf::TINY });
        }
        let out = head.as_vec();
        if first {
            self.push_head(out, chunked);
        }
        self.keep(&read, &batch);
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
        let put = Put { end: batch.end, first, empty: gather.total() == 0 };
        self.exchange.client.gather = Some(gather);
        fits.then_some(put)
    }

    fn push_head(&mut self, out: &mut Vec<u8>, chunked: bool) {
        respond::status_line(out, 200);
        let fields_at = out.len();
        let (no, sent_us, received_us) = (self.attempt.no, self.call.sent_us, self.call.received_us);
        let overhead = self.exchange.answers(no, 200, sent_us, received_us);
        let exchange = &self.exchange;
        let id = push_reply_fields(&exchange.client.core, exchange.inbound.dialect, out, self.reply);
        self.exchange.client.notes.id = id;
        // They are said now, and a stream can last for minutes.
        self.reply.lines = Buf::default();
        self.exchange.push_facts(out, self.attempt, overhead);
        respond::dropped(out, self.dropped);
        out.extend_from_slice(b"cache-control: no-cache\r\n");
        if let Some(keeping) = &mut self.exchange.client.keeping {
            keeping.head(200, &out[fields_at..]);
        }
        if chunked {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
        let keep = chunked && respond::keeps(self.exchange.client, self.exchange.inbound);
        respond::connection(out, keep, self.exchange.inbound.minor);
        out.extend_from_slice(b"\r\n");
    }

    /// Adds what the batch says to the answer that is kept for its key, and to the one that is captured, where one is.
    fn keep(&mut self, read: &Buf, batch: &Batch) {
        let client = &mut *self.exchange.client;
        let (keeping, capturing) = (&mut client.keeping, &mut client.notes.capturing);
        if keeping.is_none() && capturing.is_none() {
            return;
        }
        let mut add = |bytes: &[u8]| {
            if let Some(keeping) = keeping {
                keeping.body(bytes);
            }
            if let Some(capturing) = capturing {
                capturing.events();
                capturing.body(bytes);
            }
        };
        if matches!(self.reader, Reader::Translate(_)) {
            return add(&self.translated);
        }
        let mut at = 0;
        for (from, to) in &batch.hidden[..batch.hidden_count] {
            add(&read.filled()[at..*from]);
            at = *to;
        }
        add(&read.filled()[at..batch.end]);
    }
}
