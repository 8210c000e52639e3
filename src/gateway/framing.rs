//! Taking the framing off a body that is passed on while it arrives.

use crate::net::Buf;
use crate::policy::What;
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::framing::Body;

/// How the provider delimits the stream.
pub enum Framing {
    /// In chunks.
    Chunked(Decoder),
    /// This many bytes are still to come.
    Length(u64),
    /// Until the connection ends.
    UntilClose {
        /// It has.
        closed: bool,
    },
}

impl Framing {
    /// The framing that a response head announced.
    pub fn of(body: Body) -> Framing {
        match body {
            Body::Chunked => Framing::Chunked(Decoder::new(ChunkLimits::response())),
            Body::Length(length) => Framing::Length(length),
            Body::None => Framing::Length(0),
            Body::UntilClose => Framing::UntilClose { closed: false },
        }
    }

    /// Takes the framing off the bytes from `from` on; returns the end of the payload and whether the body is over.
    pub fn strip(&mut self, read: &mut Buf, from: usize, excess: &mut bool) -> Result<(usize, bool), What> {
        let arrived = read.len() - from;
        match self {
            Framing::Chunked(decoder) => {
                let progress = decoder.decode(&mut read.filled_mut()[from..]).map_err(|_| What::Truncated)?;
                *excess |= progress.done && progress.consumed < arrived;
                read.truncate(from + progress.payload);
                Ok((from + progress.payload, progress.done))
            }
            Framing::Length(left) => {
                let take = (*left).min(arrived as u64);
                *left -= take;
                *excess |= take < arrived as u64;
                let end = from + take as usize;
                read.truncate(end);
                Ok((end, *left == 0))
            }
            Framing::UntilClose { closed } => Ok((read.len(), *closed)),
        }
    }
}
