//! One client connection: requests in, answers out, one at a time.
//!
//! While an exchange runs, one read stays armed on the connection. It is the next request's read, and it is how a
//! client that leaves is noticed at once: its end of stream cancels the exchange. A client that shuts its sending
//! direction down while it waits counts as gone, since no SDK does that.
//!
//! Limits: bytes that arrive during an exchange (pipelining) are kept up to [`EARLY_MAX`]; then nothing more is read
//! until the answer is out.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::net::{Buf, Conn, Deadline, Gather, buf, clock};

use super::account::{self, Notes};
use super::core::Core;
use super::exchange;
use super::hedge::Rival;
use super::inbound::Arrived;
use super::once::Keeping;
use super::respond;
use super::upstream::{Broken, Party};

/// Bytes kept of requests that a client pipelines behind the one at hand.
const EARLY_MAX: usize = 64 * 1024;
/// What is read and thrown away before a connection with an unread body is closed, and for how long.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_US: u64 = 1_000_000;
/// A client that reads slower than this for a whole answer is stuck; added to the write timeout.
const SLOWEST_READER_BYTES_PER_S: u64 = 16 * 1024;

/// What becomes of the connection after an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// The next request may come.
    Keep,
    /// The answer is out; close so that it arrives.
    Close,
    /// The answer is cut or the client is gone: close at once.
    Cut,
}

/// Why no more bytes come from the client.
#[derive(Debug)]
pub enum End {
    /// It closed the connection, or the connection failed.
    Closed,
    /// It took too long.
    Late,
}

/// A client connection and what belongs to it.
pub struct Client {
    /// The core that serves it.
    pub core: Rc<Core>,
    /// The socket.
    pub conn: Conn,
    /// The one deadline of this connection, moved from phase to phase.
    pub deadline: Deadline,
    /// The request at hand in `body`, and what is written from it; `None` while an upstream connection writes it.
    pub gather: Option<Box<Gather>>,
    /// Memory for the name of the next request's model.
    pub spare: String,
    /// The second call of a hedged pair, while there is one.
    pub rival: Option<Box<Rival>>,
    /// The answer at hand is kept for its idempotency key: its call goes on when the client leaves.
    pub keeping: Option<Box<Keeping>>,
    /// When a second call is due, gateway clock; `u64::MAX` when none is.
    pub hedge_at_us: u64,
    /// What is noted of the exchange at hand. In a box, so that it is no part of the task, which moves its parts about.
    pub notes: Box<Notes>,
    early: Buf,
    gone: bool,
    last_len: usize,
    busy: Option<Busy>,
}

/// Counts a connection as busy for as long as it lives, however it ends.
struct Busy(Rc<Core>);

impl Busy {
    fn new(core: Rc<Core>) -> Busy {
        core.stats.exchanges.add(1);
        Busy(core)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.stats.exchanges.sub(1);
    }
}

/// Serves a connection until it ends.
///
/// Not an `async fn`: what is handed to one and moved on by it is held twice for as long as it lasts.
pub fn serve(core: Rc<Core>, conn: Conn) -> impl Future<Output = ()> {
    clock::now_us();
    let deadline = core.timers.deadline();
    let gather = Some(Box::new(Gather::new(Buf::default(), Buf::default())));
    let mut client = Client {
        core,
        conn,
        deadline,
        gather,
        spare: String::new(),
        rival: None,
        keeping: None,
        hedge_at_us: u64::MAX,
        notes: Box::default(),
        early: Buf::default(),
        gone: false,
        last_len: 0,
        busy: None,
    };
    async move {
        let after = loop {
            // Looked at where it is: a request that is moved out of it would be held twice for as long as it is served.
            let arrived = client.next_request().await;
            match &arrived {
                Arrived::Request(inbound) => {
                    client.core.stats.requests.add(1);
                    client.notes.clear();
                    let after = exchange::run(&mut client, inbound).await;
                    client.message_done();
                    if after != After::Keep {
                        break after;
                    }
                    client.busy = None;
                }
                Arrived::Refused(refusal) => {
                    client.core.stats.requests.add(1);
                    let after = respond::refuse(&mut client, refusal).await;
                    account::refused(&client);
                    break after;
                }
                Arrived::Nothing => break After::Cut,
            }
        };
        if after == After::Close {
            let Client { core, conn, busy: _busy, .. } = client;
            conn.linger(&core.timers, clock::now_us() + LINGER_US, LINGER_BYTES).await;
        }
    }
}

impl Party for Client {
    fn core(&self) -> &Rc<Core> {
        &self.core
    }

    fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    fn gather(&mut self) -> &mut Option<Box<Gather>> {
        &mut self.gather
    }

    fn poll_interrupt(&mut self, cx: &mut Context<'_>, hedged: bool) -> Poll<Broken> {
        if self.poll_gone(cx).is_ready() {
            return Poll::Ready(Broken::ClientGone);
        }
        match &mut self.rival {
            Some(rival) if hedged => rival.poll(cx).map(|()| Broken::Hedge),
            _ => Poll::Pending,
        }
    }

    fn hedge_at_us(&self) -> u64 {
        self.hedge_at_us
    }
}

impl Client {
    /// From its first byte until its answer is out a request keeps its core from ending.
    pub fn begin(&mut self) {
        if self.busy.is_none() {
            self.busy = Some(Busy::new(self.core.clone()));
        }
    }

    /// What is served from here on keeps its core from nothing: a stream of events has no end of its own.
    pub fn rest(&mut self) {
        self.busy = None;
    }

    /// How many bytes to make room for before the next message: what the last one took, within the classes.
    pub fn read_size(&self) -> usize {
        if self.last_len > buf::IDLE { buf::MEDIUM } else { buf::IDLE }
    }

    /// Remembers the size of a message, as the best guess for the next one.
    pub fn saw_message(&mut self, len: usize) {
        self.last_len = len;
    }

    /// Bytes that came behind the last message.
    pub fn take_early(&mut self) -> Buf {
        std::mem::take(&mut self.early)
    }

    /// Keeps bytes that came behind the message at hand.
    pub fn keep_early(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            if self.early.capacity() == 0 {
                self.early = Buf::take(bytes.len());
            }
            self.early.push(bytes);
        }
    }

    /// Appends more bytes from the client to `buf`; makes room for `room` when a read has to be started.
    pub async fn more(&mut self, mut buf: Buf, room: usize) -> Result<Buf, End> {
        let apart = self.conn.is_armed();
        let kept = if apart {
            // A read that was armed during the last exchange brings its own buffer.
            buf
        } else {
            buf.reserve(room);
            self.conn.arm(buf);
            Buf::default()
        };
        let (conn, deadline) = (&mut self.conn, &self.deadline);
        let read = poll_fn(|cx| {
            if let Poll::Ready(read) = conn.poll_read(cx) {
                return Poll::Ready(Some(read));
            }
            deadline.poll_passed(cx).map(|()| None)
        })
        .await;
        match read {
            None => Err(End::Late),
            Some((Ok(n), read)) if n > 0 => {
                if !apart || kept.is_empty() {
                    return Ok(read);
                }
                let mut all = kept;
                all.push(read.filled());
                Ok(all)
            }
            Some(_) => Err(End::Closed),
        }
    }

    /// Arms the read that watches the client while its request is served. Small on purpose: at thousands of streams
    /// this buffer is most of what a connection holds.
    pub fn watch(&mut self, streaming: bool) {
        if !self.conn.is_armed() && !self.gone && self.early.len() < EARLY_MAX {
            let size = if streaming { buf::TINY } else { self.read_size() };
            self.conn.arm(Buf::take(size));
        }
    }

    /// Ready when the client is gone and nobody else wants its answer. Bytes of a next request are kept.
    pub fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.gone && self.conn.is_armed() {
            match self.conn.poll_read(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready((Ok(n), read)) if n > 0 => {
                    self.keep_early(read.filled());
                    self.watch(true);
                }
                Poll::Ready(_) => self.gone = true,
            }
        }
        if self.gone && self.keeping.is_none() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Waits for the deadline; true when the client is gone before it passes.
    pub async fn gone_before_deadline(&mut self) -> bool {
        poll_fn(|cx| {
            if self.poll_gone(cx).is_ready() {
                return Poll::Ready(true);
            }
            self.deadline.poll_passed(cx).map(|()| false)
        })
        .await
    }

    /// Whether what is written goes nowhere: the client left, and its call goes on for the answer to be kept.
    fn writes_to_nobody(&self) -> bool {
        self.gone && self.keeping.is_some()
    }

    /// Whether bytes of a next request have come already.
    pub fn has_early(&self) -> bool {
        !self.early.is_empty()
    }

    fn message_done(&mut self) {
        match self.gather.as_mut() {
            Some(gather) => {
                gather.reset();
                gather.body = Buf::default();
                gather.own = Buf::default();
            }
            None => self.gather = Some(Box::new(Gather::new(Buf::default(), Buf::default()))),
        }
    }

    /// Starts the clock for a write of `len` bytes.
    fn write_by(&self, len: usize) {
        let limit_ms = self.core.plan().live.plan.limits.client_write_ms;
        let slow_ms = len as u64 * 1000 / SLOWEST_READER_BYTES_PER_S;
        self.deadline.set(clock::recent_us() + (limit_ms + slow_ms) * 1000);
    }

    /// Writes the pieces of `self.gather` to the client.
    ///
    /// # Errors
    /// The client is gone or does not read. The connection is of no use then.
    pub async fn write_gather(&mut self) -> io::Result<()> {
        if self.writes_to_nobody() {
            return Ok(());
        }
        let Some(gather) = self.gather.take() else { return Err(io::Error::other("nothing to write")) };
        self.write_by(gather.total());
        self.conn.start_gather(gather);
        let (conn, deadline) = (&mut self.conn, &self.deadline);
        let mut late = false;
        let (mut result, gather) = poll_fn(|cx| {
            if let Poll::Ready(done) = conn.poll_gather(cx) {
                return Poll::Ready(done);
            }
            if !late && deadline.poll_passed(cx).is_ready() {
                // The write fails at once on a socket that is shut down, and gives its buffers back.
                late = true;
                conn.abort();
                return conn.poll_gather(cx);
            }
            Poll::Pending
        })
        .await;
        self.gather = Some(gather);
        if late {
            result = Err(io::ErrorKind::TimedOut.into());
        }
        self.gone |= result.is_err();
        if self.writes_to_nobody() { Ok(()) } else { result }
    }

    /// Writes `bytes` to the client.
    ///
    /// # Errors
    /// As [`Client::write_gather`].
    pub async fn write(&mut self, bytes: Buf) -> io::Result<()> {
        if self.writes_to_nobody() {
            return Ok(());
        }
        self.write_by(bytes.len());
        self.write_before_deadline(bytes).await
    }

    /// Writes `bytes` to a client that has this long to take them, microseconds.
    ///
    /// # Errors
    /// As [`Client::write_gather`].
    pub async fn write_within(&mut self, bytes: Buf, limit_us: u64) -> io::Result<()> {
        self.deadline.set(clock::now_us() + limit_us);
        self.write_before_deadline(bytes).await
    }

    async fn write_before_deadline(&mut self, bytes: Buf) -> io::Result<()> {
        self.conn.start_write(bytes);
        let (conn, deadline) = (&mut self.conn, &self.deadline);
        let done = poll_fn(|cx| {
            if let Poll::Ready((result, _)) = conn.poll_write(cx) {
                return Poll::Ready(Some(result));
            }
            deadline.poll_passed(cx).map(|()| None)
        })
        .await;
        let result = done.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()));
        self.gone |= result.is_err();
        if self.writes_to_nobody() { Ok(()) } else { result }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;

    fn size_of_future<F: Future>(_: impl Fn(Rc<Core>, Conn) -> F) -> usize {
        size_of::<F>()
    }

    /// What every connection holds whether it idles or streams. It grows with what is kept across an await, so the bound
    /// is here to make that a decision.
    #[test]
    fn a_connections_task_stays_small() {
        let size = size_of_future(serve);
        println!("a connection's future: {size} bytes");
        assert!(size <= 5 * 1024, "{size} bytes");
    }
}
