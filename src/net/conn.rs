//! One TCP connection that owns its operations: one armed read and one write, plain or TLS.
//!
//! Why owned: a read that is dropped while the kernel completes it loses the bytes. So the operations live in the
//! connection (see [`super::slot`]): the read can be polled beside a write, left alone while the connection idles in a
//! pool, and polled again later. An armed read is also how a peer that goes away is noticed at once.
//!
//! Invariants: at most one read and one write are under way; their buffers belong to the driver until they are done;
//! dropping the connection shuts the socket down, so that whatever is under way ends and the descriptor is freed.

#![allow(unsafe_code)] // Shared access to the stream from its operations, and shutdown(2); see the SAFETY lines.

use std::cell::UnsafeCell;
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf};
use monoio::net::TcpStream;

use super::buf::{self, Room};
use super::gather::Pointed;
use super::race::{First, race};
use super::slot::{Place, place};
use super::tls::TlsSession;
use super::{Buf, Gather, Timers};

type Read = (io::Result<usize>, Buf);
type Written = (io::Result<()>, Buf);
type Gathered = (io::Result<()>, Box<Gather>);
type Stream = Rc<UnsafeCell<TcpStream>>;

/// Plain bytes encrypted before they are sent: bounds the memory of a big body under TLS.
const TLS_STEP: usize = 64 * 1024;

fn reads(stream: Stream) -> Place<Buf, Read> {
    place(move |buf: Buf| {
        let mut half = OwnedReadHalf(stream.clone());
        async move {
            let (result, Room(buf)) = half.read(Room(buf)).await;
            (result, buf)
        }
    })
}

fn writes(stream: Stream) -> Place<Buf, Written> {
    place(move |mut buf: Buf| {
        let stream = stream.clone();
        async move {
            while !buf.is_empty() {
                // SAFETY: the stream's write borrows it only to clone the descriptor; reads and writes of one socket
                // are independent operations, and this thread is the only one that has it. (The library's own write
                // half is not used because dropping it shuts the direction down.)
                let write = unsafe { &mut *stream.get() }.write(buf);
                let (result, back) = write.await;
                buf = back;
                match result {
                    Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), buf),
                    Ok(n) => buf.consume(n),
                    Err(e) => return (Err(e), buf),
                }
            }
            (Ok(()), buf)
        }
    })
}

fn gathers(stream: Stream) -> Place<Box<Gather>, Gathered> {
    place(move |mut gather: Box<Gather>| {
        let stream = stream.clone();
        async move {
            while !gather.done() {
                gather.point();
                // SAFETY: as in `writes`.
                let write = unsafe { &mut *stream.get() }.writev(Pointed(gather));
                let (result, Pointed(back)) = write.await;
                gather = back;
                match result {
                    Ok(0) => return (Err(io::ErrorKind::WriteZero.into()), gather),
                    Ok(n) => gather.advance(n),
                    Err(e) => return (Err(e), gather),
                }
            }
            (Ok(()), gather)
        }
    })
}

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
    writes: Place<Buf, Written>,
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
            writes: writes(stream.clone()),
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

    /// Bounds what waits in the kernel to be sent to the peer: past `bytes`, give or take a segment, a write waits. What
    /// is on its way and not yet acknowledged does not count, so a distant peer is no slower for it.
    pub fn bound_unsent(&self, bytes: u32) {
        let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the descriptor is open as long as `self.stream` is, and the value is a local of the length given. A
        // kernel that refuses leaves its own, larger bound.
        unsafe {
            libc::setsockopt(
                self.fd,
                libc::IPPROTO_TCP,
                libc::TCP_NOTSENT_LOWAT,
                (&raw const bytes).cast(),
                len,
            )
        };
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
        self.writes.as_mut().start(buf);
    }

    /// Waits until the write that was started is done; gives the buffer back, emptied on success.
    pub fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Written> {
        self.writes.as_mut().poll_done(cx)
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
            if self.writes.busy() {
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
            self.writes.as_mut().start(cipher);
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
        self.writes.as_mut().start(cipher);
        poll_fn(|cx| self.poll_write(cx)).await.0
    }

    /// Ends our direction of the stream; the peer sees a clean end of it.
    pub fn finish(&self) {
        self.shutdown(libc::SHUT_WR);
    }

    /// Ends both directions, so that operations under way complete and give their buffers back.
    pub fn abort(&self) {
        self.shutdown(libc::SHUT_RDWR);
    }

    /// Ends the connection with a reset, so that the peer cannot take what it got for all there was. What was written
    /// and is not yet sent is lost.
    pub fn reset(&self) {
        let nobody = libc::sockaddr { sa_family: libc::AF_UNSPEC as libc::sa_family_t, sa_data: [0; 14] };
        let len = size_of::<libc::sockaddr>() as libc::socklen_t;
        // SAFETY: the descriptor is open as long as `self.stream` is, and the address is a local of the length given.
        // Connecting to no address is how connect(2) dissolves a connection.
        unsafe { libc::connect(self.fd, &raw const nobody, len) };
    }

    fn shutdown(&self, how: libc::c_int) {
        // SAFETY: the descriptor is open as long as `self.stream` is; shutdown(2) touches no memory of ours.
        unsafe { libc::shutdown(self.fd, how) };
    }

    /// Closes so that the peer gets our last bytes: ends our direction, then reads and discards what it still sends,
    /// until it ends too, `bytes` have come or `by_us` has passed. Without this, closing with unread bytes makes the
    /// kernel send a reset that can destroy an answer on its way.
    pub async fn linger(mut self, timers: &Timers, by_us: u64, mut bytes: usize) {
        self.finish();
        let mut expired = pin!(timers.sleep_until(by_us));
        let mut spare = Buf::default();
        while bytes > 0 {
            spare.clear();
            spare.reserve(buf::IDLE);
            self.arm(spare);
            match race(|cx| self.poll_read(cx), expired.as_mut()).await {
                First::Left((Ok(n), back)) if n > 0 => {
                    bytes = bytes.saturating_sub(n);
                    spare = back;
                }
                _ => return,
            }
        }
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        // Operations under way hold the descriptor; shutting the socket down ends them.
        self.shutdown(libc::SHUT_RDWR);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DriverChoice;
    use crate::net::driver::{self, Driver};
    use crate::net::{Timers, clock};
    use std::io::{Read, Write};

    fn on_both(f: impl AsyncFn(Driver)) {
        let mut drivers = vec![Driver::Epoll];
        drivers.extend(driver::choose(DriverChoice::IoUring).ok().map(|c| c.driver));
        for d in drivers {
            driver::block_on(d, f(d)).unwrap();
        }
    }

    async fn pair() -> (Conn, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let conn = Conn::new(TcpStream::connect_addr(addr).await.unwrap());
        (conn, listener.accept().unwrap().0)
    }

    #[test]
    fn bytes_that_come_while_nobody_waits_are_not_lost() {
        on_both(async |d| {
            let (mut conn, mut peer) = pair().await;
            for round in 0..50u8 {
                conn.arm(Buf::take(64));
                // Polled once without a result, then left alone, as a pool or a write would do.
                assert_eq!(conn.check_idle(), Idle::Quiet, "{d:?}");
                peer.write_all(&[round; 10]).unwrap();
                monoio::time::sleep(std::time::Duration::from_micros(200)).await;
                let (n, buf) = conn.read().await;
                assert_eq!((n.unwrap(), buf.filled()), (10, &[round; 10][..]), "{d:?}");
            }
        });
    }

    #[test]
    fn an_idle_connection_that_the_peer_closed_is_noticed() {
        on_both(async |d| {
            let (mut conn, peer) = pair().await;
            conn.arm(Buf::take(64));
            assert_eq!(conn.check_idle(), Idle::Quiet);
            drop(peer);
            monoio::time::sleep(std::time::Duration::from_millis(5)).await;
            assert_eq!(conn.check_idle(), Idle::Spoilt, "{d:?}");
        });
    }

    #[test]
    fn a_dropped_connection_is_closed_although_a_read_is_armed() {
        on_both(async |d| {
            let (mut conn, mut peer) = pair().await;
            conn.arm(Buf::take(64));
            assert_eq!(conn.check_idle(), Idle::Quiet);
            drop(conn);
            monoio::time::sleep(std::time::Duration::from_millis(5)).await;
            peer.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0, "{d:?}");
        });
    }

    #[test]
    fn a_reset_is_no_clean_end_although_a_read_is_armed() {
        on_both(async |d| {
            let (mut conn, mut peer) = pair().await;
            conn.arm(Buf::take(64));
            assert_eq!(conn.check_idle(), Idle::Quiet);
            conn.reset();
            drop(conn);
            monoio::time::sleep(std::time::Duration::from_millis(5)).await;
            peer.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
            let end = peer.read(&mut [0; 8]).unwrap_err();
            assert_eq!(end.kind(), io::ErrorKind::ConnectionReset, "{d:?}");
        });
    }

    #[test]
    fn a_big_gathered_write_arrives_whole_and_in_order() {
        on_both(async |d| {
            let (mut conn, mut peer) = pair().await;
            let body: Vec<u8> = (0..3_000_000u32).map(|i| i as u8).collect();
            let mut expected = b"head".to_vec();
            expected.extend_from_slice(&body);
            let reader = std::thread::spawn(move || {
                let mut got = Vec::new();
                peer.read_to_end(&mut got).unwrap();
                got
            });
            let mut g = Box::new(Gather::new(Buf::copy_of(b"head"), Buf::copy_of(&body)));
            assert!(g.piece(super::super::gather::Side::Own, 0..4));
            assert!(g.piece(super::super::gather::Side::Body, 0..body.len()));
            let (result, _g) = conn.write_gather(g).await;
            result.unwrap();
            drop(conn);
            assert!(reader.join().unwrap() == expected, "{d:?}");
        });
    }

    #[test]
    fn a_peer_that_does_not_read_keeps_little_waiting_in_the_kernel() {
        on_both(async |d| {
            let mut waiting = [0, 0];
            for (bound, waiting) in [Some(16 * 1024), None].into_iter().zip(&mut waiting) {
                let (mut conn, _peer) = pair().await;
                if let Some(bound) = bound {
                    conn.bound_unsent(bound);
                }
                conn.start_write(Buf::copy_of(&vec![7; 8 << 20]));
                for _ in 0..20 {
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(conn.poll_write(&mut cx).is_pending(), "{d:?}");
                    monoio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                let mut unsent: libc::c_int = 0;
                // SAFETY: SIOCOUTQNSD writes one int, and the descriptor is open.
                let told = unsafe { libc::ioctl(conn.fd(), 0x894b, &raw mut unsent) };
                assert_eq!(told, 0);
                *waiting = unsent;
            }
            let [bounded, free] = waiting;
            assert!(bounded <= 16 * 1024 + 64 * 1024, "{d:?}: {bounded} bytes wait");
            assert!(free > 4 * bounded, "{d:?}: {free} bytes wait without a bound, {bounded} with one");
        });
    }

    #[test]
    fn lingering_delivers_the_answer_although_the_peer_still_sends() {
        on_both(async |d| {
            let (mut conn, mut peer) = pair().await;
            let timers = Timers::default();
            monoio::spawn(timers.clone().drive());
            peer.write_all(&vec![7; 100_000]).unwrap();
            conn.write(Buf::copy_of(b"answer")).await.0.unwrap();
            conn.linger(&timers, clock::now_us() + 200_000, 64 * 1024 * 1024).await;
            let mut got = [0; 6];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"answer", "{d:?}");
        });
    }
}
