//! One vectored write of several owned buffers: a head, and pieces of a body with patches between them.
//!
//! The body goes out of the buffer it came into; only the head and the patched spans are new bytes.
//! Limit: [`MAX_PIECES`] pieces, enough for a head and a body with four patches.

#![allow(unsafe_code)] // The vectored-buffer trait of the I/O library is unsafe to implement; see SAFETY.

use super::Buf;

/// Most pieces of one write: head + body in five parts + four patches, rounded up.
pub const MAX_PIECES: usize = 12;

/// Which of the two owned buffers a piece lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// In [`Gather::own`]: the head and the patches that the gateway wrote itself.
    Own,
    /// In [`Gather::body`]: the message as it was received.
    Body,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    side: Side,
    start: u32,
    end: u32,
}

/// Pieces of two owned buffers, written in order; can be rewound and written again for another attempt.
#[derive(Debug)]
pub struct Gather {
    /// Bytes of the gateway: head and patches. Kept across [`Gather::reset`], emptied by it.
    pub own: Buf,
    /// Bytes as they came. Kept across attempts.
    pub body: Buf,
    pieces: [Piece; MAX_PIECES],
    count: usize,
    iov: [libc::iovec; MAX_PIECES],
    iov_len: usize,
    written: usize,
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

impl Gather {
    /// A write of nothing yet, over the given buffers.
    pub fn new(own: Buf, body: Buf) -> Gather {
        Gather {
            own,
            body,
            pieces: [Piece { side: Side::Own, start: 0, end: 0 }; MAX_PIECES],
            count: 0,
            iov: [EMPTY; MAX_PIECES],
            iov_len: 0,
            written: 0,
        }
    }

    /// Forgets the pieces and the gateway's own bytes; the body stays.
    pub fn reset(&mut self) {
        self.own.clear();
        self.count = 0;
        self.written = 0;
    }

    /// Appends a piece: bytes `range` (relative to the filled bytes) of one side. Returns false when the piece does
    /// not exist or there are too many, which is a fault of the caller.
    #[must_use]
    pub fn piece(&mut self, side: Side, range: std::ops::Range<usize>) -> bool {
        let len = match side {
            Side::Own => self.own.len(),
            Side::Body => self.body.len(),
        };
        if range.start > range.end
            || range.end > len
            || self.count == MAX_PIECES
            || range.end > u32::MAX as usize
        {
            return false;
        }
        if range.start < range.end {
            self.pieces[self.count] = Piece { side, start: range.start as u32, end: range.end as u32 };
            self.count += 1;
        }
        true
    }

    /// Bytes of all pieces.
    pub fn total(&self) -> usize {
        self.pieces[..self.count].iter().map(|p| (p.end - p.start) as usize).sum()
    }

    /// Whether every piece is written.
    pub fn done(&self) -> bool {
        self.written >= self.total()
    }

    /// Bytes written so far.
    pub fn written(&self) -> usize {
        self.written
    }

    pub(super) fn advance(&mut self, n: usize) {
        self.written += n;
    }

    /// Calls `f` with each piece from the first unwritten byte on (TLS writes them one by one).
    pub(super) fn rest(&self, mut f: impl FnMut(&[u8])) {
        let mut skip = self.written;
        for p in &self.pieces[..self.count] {
            let bytes = self.slice(p);
            if skip < bytes.len() {
                f(&bytes[skip..]);
            }
            skip = skip.saturating_sub(bytes.len());
        }
    }

    fn slice(&self, p: &Piece) -> &[u8] {
        let filled = match p.side {
            Side::Own => self.own.filled(),
            Side::Body => self.body.filled(),
        };
        &filled[p.start as usize..p.end as usize]
    }

    /// Points the iovecs at what is still to be written. Called right before the value is given to the runtime.
    pub(super) fn point(&mut self) {
        let mut iov = [EMPTY; MAX_PIECES];
        let mut n = 0;
        self.rest(|bytes| {
            iov[n] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            n += 1;
        });
        self.iov = iov;
        self.iov_len = n;
    }
}

/// A pointed [`Gather`] on its way through the kernel.
pub(super) struct Pointed(pub(super) Box<Gather>);

// SAFETY: the iovecs live in the box, which does not move, and point into the two buffers that the value owns,
// whose allocations do not move either; nobody touches them until the runtime gives the value back.
unsafe impl monoio::buf::IoVecBuf for Pointed {
    fn read_iovec_ptr(&self) -> *const libc::iovec {
        self.0.iov.as_ptr()
    }

    fn read_iovec_len(&self) -> usize {
        self.0.iov_len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(g: &Gather) -> Vec<u8> {
        let mut out = Vec::new();
        g.rest(|b| out.extend_from_slice(b));
        out
    }

    #[test]
    fn a_body_with_a_patch_goes_out_in_order_and_from_any_point() {
        let mut g = Gather::new(Buf::copy_of(b"HEAD\"new\""), Buf::copy_of(b"{\"model\":\"old\",\"x\":1}"));
        assert!(g.piece(Side::Own, 0..4));
        assert!(g.piece(Side::Body, 0..9));
        assert!(g.piece(Side::Own, 4..9));
        assert!(g.piece(Side::Body, 14..21));
        let whole = b"HEAD{\"model\":\"new\",\"x\":1}";
        assert_eq!(bytes(&g), whole);
        for cut in 0..whole.len() {
            g.written = cut;
            assert_eq!(bytes(&g), &whole[cut..], "from byte {cut}");
        }
        g.written = whole.len();
        assert!(g.done());
    }

    #[test]
    fn a_piece_that_is_not_there_is_refused() {
        let mut g = Gather::new(Buf::copy_of(b"abc"), Buf::default());
        assert!(!g.piece(Side::Own, 0..4));
        assert!(!g.piece(Side::Body, 0..1));
        for _ in 0..MAX_PIECES {
            assert!(g.piece(Side::Own, 0..1));
        }
        assert!(!g.piece(Side::Own, 0..1));
    }
}
