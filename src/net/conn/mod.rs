//! One TCP connection that owns its operations: one armed read and one write, plain or TLS.
//!
//! Why owned: a read that is dropped while the kernel completes it loses the bytes. So the operations live in the
//! connection (see [`super::slot`]): the read can be polled beside a write, left alone while the connection idles in a
//! pool, and polled again later. An armed read is also how a peer that goes away is noticed at once.
//!
//! Invariants: at most one read and one write are under way; their buffers belong to the driver until they are done;
//! dropping the connection shuts the socket down, so that whatever is under way ends and the descriptor is freed.

#![allow(unsafe_code)] // Shared access to the stream from its operations, and shutdown(2); see the SAFETY lines.

mod ops;
mod socket;
#[cfg(test)]
mod tests;

use std::cell::UnsafeCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use monoio::net::TcpStream;

use self::ops::{Gathered, Read, Stream, Written, gathers, reads, writes};
use super::slot::Place;
use super::tls::TlsSession;
use super::{Buf, Gather, buf};

/// Plain bytes encrypted before they are sent: bounds the memory of a big body under TLS.
const TLS_STEP: usize = 64 * 1024;

/// Whether a connection that waits in a pool may be used again.
#[derive(Debug, PartialEq, Eq)]
pub enum Idle {
    /// Nothing came: usable.
    Quiet,
    /// The peer closed it, failed, or sent bytes that nobody asked for: never usable.
    Spoilt,
}

/// A connection that this core owns.
pub struct Conn {
    stream: Stream,
    fd: RawFd,
    reads: Place<Buf, Read>,
    /// Made when it is first needed: TLS and a few small answers write this way, every message else is gathered.
    writes: Option<Place<Buf, Written>>,
    gathers: Place<Box<Gather>, Gathered>,
    tls: Option<Box<Secure>>,
}

/// What TLS adds: the session, the buffer that an armed read fills with plain bytes, the gathered write under way.
struct Secure {
    session: TlsSession,
    target: Option<Buf>,
    gather: Option<Box<Gather>>,
}

impl Conn {
    /// Takes over a connected stream.
    pub fn new(stream: TcpStream) -> Conn {
        let fd = stream.as_raw_fd();
        let stream = Rc::new(UnsafeCell::new(stream));
        Conn {
            reads: reads(stream.clone()),
            writes: None,
            gathers: gathers(stream.clone()),
            stream,
            fd,
            tls: None,
        }
    }

    /// Puts TLS on the connection; [`super::tls::handshake`] drives it.
    pub(super) fn secure(&mut self, session: TlsSession) {
        self.tls = Some(Box::new(Secure { session, target: None, gather: None }));
    }

    pub(super) fn session(&mut self) -> Option<&mut TlsSession> {
        self.tls.as_mut().map(|s| &mut s.session)
    }

    /// The descriptor, for socket options.
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// The peer's address.
    ///
    /// # Errors
    /// When the socket is not connected any more.
    pub fn peer_addr(&self) -> io::Result<std::net::SocketAddr> {
        // SAFETY: a shared borrow for the length of this call; nothing else runs on this thread meanwhile.
        unsafe { &*self.stream.get() }.peer_addr()
    }

    /// Whether a read is under way.
    pub fn is_armed(&self) -> bool {
        match &self.tls {
            Some(s) => s.target.is_some(),
            None => self.reads.busy(),
        }
    }

    /// Starts a read into the room of `buf`, which must have some. Does nothing when one is under way already.
    pub fn arm(&mut self, buf: Buf) {
        if self.is_armed() {
            return;
        }
        match &mut self.tls {
            Some(s) => {
                s.target = Some(buf);
                self.arm_cipher(buf::STREAM);
            }
            None => self.reads.as_mut().start(buf),
        }
    }

    pub(super) fn arm_cipher(&mut self, size: usize) {
        if !self.reads.busy() {
            self.reads.as_mut().start(Buf::take(size));
        }
    }

    pub(super) fn poll_cipher(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        self.reads.as_mut().poll_done(cx)
    }

    /// Waits for the armed read: bytes read (0 at the clean end of the stream) and the buffer.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Read> {
        if self.tls.is_none() {
            return self.reads.as_mut().poll_done(cx);
        }
        loop {
            let Some(secure) = self.tls.as_deref_mut() else { return Poll::Pending };
            let Some(target) = secure.target.as_mut() else { return Poll::Pending };
            let plain = match secure.session.take_plain(target) {
                Ok(0) if !secure.session.peer_closed() => None,
                other => Some(other),
            };
            if let Some(result) = plain {
                return Poll::Ready((result, secure.target.take().unwrap_or_default()));
            }
            self.arm_cipher(buf::MEDIUM);
            let (result, cipher) = ready!(self.poll_cipher(cx));
            let Some(secure) = self.tls.as_deref_mut() else { return Poll::Pending };
            let fed = match result {
                // The transport ended without close_notify: somebody may have cut the stream.
                Ok(0) => {
                    Err(io::Error::new(io::ErrorKind::UnexpectedEof, "TLS stream cut without close_notify"))
                }
                Ok(_) => secure.session.feed(cipher.filled()),
                Err(e) => Err(e),
            };
            if let Err(e) = fed {
                return Poll::Ready((Err(e), secure.target.take().unwrap_or_default()));
            }
        }
    }

    /// Waits for the armed read.
    pub async fn read(&mut self) -> Read {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    /// Looks at an idle connection without waiting. The armed read stays armed when nothing came.
    pub fn check_idle(&mut self) -> Idle {
        let mut cx = Context::from_waker(Waker::noop());
        match self.poll_read(&mut cx) {
            Poll::Pending => Idle::Quiet,
            Poll::Ready(_) => Idle::Spoilt,
        }
    }

    /// Starts to write the filled bytes of `buf`. No other write may be under way.
    pub fn start_write(&mut self, mut buf: Buf) {
        if let Some(secure) = self.tls.as_deref_mut() {
            // What cannot be encrypted surfaces when the (then empty) write is waited for and the session is asked.
            let _ = secure.session.encrypt(buf.filled());
            buf = secure.session.take_cipher();
        }
        self.begin_write(buf);
    }

    fn begin_write(&mut self, buf: Buf) {
        let stream = &self.stream;
        self.writes.get_or_insert_with(|| writes(stream.clone())).as_mut().start(buf);
    }

    /// Waits until the write that was started is done; gives the buffer back, emptied on success.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        self.writes.as_mut().map_or(Poll::Pending, |place| place.as_mut().poll_done(cx))
    }

    /// Writes the filled bytes of `buf`, all of them; gives a buffer back, emptied on success.
    pub async fn write(&mut self, buf: Buf) -> Written {
        self.start_write(buf);
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Starts to write every piece of `gather` from where it stands. No other write may be under way.
    pub fn start_gather(&mut self, gather: Box<Gather>) {
        match self.tls.as_deref_mut() {
            Some(secure) => secure.gather = Some(gather),
            None => self.gathers.as_mut().start(gather),
        }
    }

    /// Waits until the gathered write that was started is done.
    pub fn poll_gather(&mut self, cx: &mut Context<'_>) -> Poll<Gathered> {
        if self.tls.is_none() {
            return self.gathers.as_mut().poll_done(cx);
        }
        loop {
            if self.writes.as_ref().is_some_and(|place| place.busy()) {
                let (result, _buf) = ready!(self.poll_write(cx));
                if result.is_err() {
                    let gather = self.tls.as_mut().and_then(|s| s.gather.take());
                    return gather.map_or(Poll::Pending, |g| Poll::Ready((result, g)));
                }
            }
            let Some(secure) = self.tls.as_deref_mut() else { return Poll::Pending };
            let Some(mut gather) = secure.gather.take() else { return Poll::Pending };
            if gather.done() {
                return Poll::Ready((Ok(()), gather));
            }
            let mut taken = 0;
            let mut result = Ok(());
            gather.rest(|bytes| {
                let n = bytes.len().min(TLS_STEP - taken);
                if n > 0 && result.is_ok() {
                    result = secure.session.encrypt(&bytes[..n]);
                    taken += n;
                }
            });
            if result.is_err() {
                return Poll::Ready((result, gather));
            }
            gather.advance(taken);
            let cipher = secure.session.take_cipher();
            secure.gather = Some(gather);
            self.begin_write(cipher);
        }
    }

    /// Writes every piece of `gather`.
    pub async fn write_gather(&mut self, gather: Box<Gather>) -> Gathered {
        self.start_gather(gather);
        poll_fn(|cx| self.poll_gather(cx)).await
    }

    /// Sends whatever TLS itself has to say: handshake messages, alerts.
    pub(super) async fn flush_tls(&mut self) -> io::Result<()> {
        let Some(secure) = self.tls.as_deref_mut() else { return Ok(()) };
        let cipher = secure.session.take_cipher();
        if cipher.is_empty() {
            return Ok(());
        }
        self.begin_write(cipher);
        poll_fn(|cx| self.poll_write(cx)).await.0
    }
}
