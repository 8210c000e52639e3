//! Sockets: the only room besides `gateway` that awaits.
//!
//! Everything here runs on one core's runtime and is `!Send`, except [`resolver`], whose work happens on side
//! threads, and the sending half of [`mailbox`]. The I/O library (monoio) is named in this room alone:
//! the rest of the house sees [`Conn`], [`Buf`] and [`Gather`], so that another library can take its place.
//!
//! Invariants:
//! * A read that is under way is never dropped on a connection that is kept: completion-based I/O would lose the
//!   bytes that it brought. A connection therefore owns one *armed* read, which survives every await around it.
//! * Every socket has TCP_NODELAY, and each batch of bytes is one write.
//! * Dropping a [`Conn`] closes its socket, whatever is under way on it.

pub mod buf;
pub mod clock;
pub mod conn;
pub mod dial;
pub mod driver;
pub mod gather;
pub mod limits;
pub mod listener;
pub mod mailbox;
pub mod pool;
pub mod race;
pub mod resolver;
pub mod seats;
mod slot;
pub mod timer;
pub mod tls;

pub use buf::Buf;
pub use conn::Conn;
pub use gather::Gather;
pub use timer::{Deadline, Timers};
