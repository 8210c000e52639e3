//! The body of an answer: whole, in pieces as they come, or what is left of it when its content is delivered.

use std::future::poll_fn;
use std::task::Poll;

use crate::net::{Buf, buf};
use crate::policy::What;
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::framing::Body;

use super::super::client::Client;
use super::super::reply::Reply;
use super::{Broken, By, Call, Event, Party, ROOM_MIN, Received};

impl Call {
    /// Reads the whole body, at most `limit` bytes of it; `read` holds what came with the head.
    pub async fn body<P: Party>(
        &mut self,
        party: &mut P,
        reply: &Reply,
        mut read: Buf,
        limit: usize,
        by: By,
    ) -> Result<Buf, Broken> {
        match reply.body {
            Body::None => self.spoilt |= !read.is_empty(),
            Body::Length(length) => {
                let Ok(length) = usize::try_from(length) else { return Err(What::BadBody.into()) };
                if length > limit {
                    return Err(What::BadBody.into());
                }
                while read.len() < length {
                    read.reserve(length - read.len());
                    self.arm(read);
                    read = self.receive(party, by).await?.or_truncated()?;
                }
                // More than was announced would be taken for the next answer.
                self.spoilt |= read.len() > length;
                read.truncate(length);
            }
            Body::Chunked => {
                let mut decoder = Decoder::new(ChunkLimits::response());
                let mut whole = 0;
                loop {
                    let progress =
                        decoder.decode(&mut read.filled_mut()[whole..]).map_err(|_| What::Truncated)?;
                    let rest = whole + progress.consumed;
                    whole += progress.payload;
                    if progress.done {
                        self.spoilt |= read.len() > rest;
                        read.truncate(whole);
                        break;
                    }
                    read.truncate(whole);
                    if whole > limit {
                        return Err(What::BadBody.into());
                    }
                    read.reserve(whole.clamp(buf::STREAM, buf::LARGE));
                    self.arm(read);
                    read = self.receive(party, by).await?.or_truncated()?;
                }
            }
            Body::UntilClose => {
                self.spoilt = true;
                loop {
                    if read.len() > limit {
                        return Err(What::BadBody.into());
                    }
                    read.reserve(read.len().clamp(buf::STREAM, buf::LARGE));
                    self.arm(read);
                    match self.receive(party, by).await? {
                        Received::More(more) => read = more,
                        Received::End(whole) => {
                            read = whole;
                            break;
                        }
                    }
                }
            }
        }
        if self.sending {
            self.take_back(party).await;
        }
        if !reply.keep_alive {
            self.spoilt = true;
        }
        self.complete();
        Ok(read)
    }

    /// Waits for more of a streamed body, appended to `read`.
    ///
    /// The room follows what the stream brings: at thousands of slow streams this buffer is much of what each of them
    /// holds, and a fast one wants few, large reads.
    pub fn more<P: Party>(
        &mut self,
        party: &mut P,
        mut read: Buf,
        by: By,
    ) -> impl Future<Output = Result<Received, Broken>> {
        if read.is_empty() && read.capacity() != self.room {
            read = Buf::take(self.room);
        } else if read.room() < self.room.min(buf::SMALL) {
            read.reserve(self.room.max(read.len()));
        }
        let held = read.len();
        self.arm(read);
        async move {
            let received = self.receive(party, by).await?;
            if let Received::More(read) = &received {
                let brought = read.len() - held;
                if read.room() == 0 {
                    self.room = buf::larger(self.room, buf::MEDIUM);
                } else if brought < self.room / 8 {
                    self.room = buf::smaller(self.room, ROOM_MIN);
                }
            }
            Ok(received)
        }
    }

    /// Goes on with a wait for more that [`Broken::Hedge`] interrupted.
    pub async fn more_again<P: Party>(&mut self, party: &mut P, by: By) -> Result<Received, Broken> {
        self.receive(party, by).await
    }

    /// Waits for more of a body whose content is delivered already, until `by_us` at most and no longer than until the
    /// client asks for something else; `None` when no more came.
    pub async fn more_unless_asked(&mut self, client: &mut Client, mut read: Buf, by_us: u64) -> Option<Buf> {
        read.reserve(buf::IDLE);
        self.arm(read);
        client.deadline.set(by_us);
        let event = poll_fn(|cx| match self.poll_answer(client, cx, false) {
            Poll::Pending if client.has_early() => Poll::Ready(None),
            event => event.map(Some),
        });
        match event.await? {
            Event::Read(Ok(n), read) if n > 0 => Some(read),
            _ => None,
        }
    }
}
