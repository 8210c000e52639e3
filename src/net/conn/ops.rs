//! The operations of a connection: one read, one write and one gathered write, each owned by the connection while the
//! driver carries it out.

use std::cell::UnsafeCell;
use std::io;
use std::rc::Rc;

use monoio::io::{AsyncReadRent, AsyncWriteRent, OwnedReadHalf};
use monoio::net::TcpStream;

use crate::net::buf::Room;
use crate::net::gather::Pointed;
use crate::net::slot::{Place, place};
use crate::net::{Buf, Gather};

/// What a read brings: bytes read, and its buffer.
pub(super) type Read = (io::Result<usize>, Buf);
/// What a write brings back: its buffer, without what was written.
pub(super) type Written = (io::Result<()>, Buf);
/// What a gathered write brings back.
pub(super) type Gathered = (io::Result<()>, Box<Gather>);
/// The stream, shared by its operations and the connection.
pub(super) type Stream = Rc<UnsafeCell<TcpStream>>;

pub(super) fn reads(stream: Stream) -> Place<Buf, Read> {
    place(move |buf: Buf| {
        let mut half = OwnedReadHalf(stream.clone());
        async move {
            let (result, Room(buf)) = half.read(Room(buf)).await;
            (result, buf)
        }
    })
}

pub(super) fn writes(stream: Stream) -> Place<Buf, Written> {
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

pub(super) fn gathers(stream: Stream) -> Place<Box<Gather>, Gathered> {
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
