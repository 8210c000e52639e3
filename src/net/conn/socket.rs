//! What a connection asks of its socket beside bytes: a bound on what waits unsent, and the ways to end it.

use std::pin::pin;

use super::Conn;
use crate::net::race::{First, race};
use crate::net::{Buf, Timers, buf};

impl Conn {
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
