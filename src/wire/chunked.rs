//! The chunked transfer coding (RFC 9112 section 7.1): a strict decoder that can stop at any byte, and a writer.
//!
//! Chunk lines are where parsers disagree most: a bare LF, a blank before a semicolon or a sign before a size has each
//! been a smuggling hole somewhere. Nothing but the grammar is accepted here, extensions and trailers are bounded and
//! dropped, and a body that is more framing than payload is refused.
//!
//! Invariants: bytes after the last chunk are never consumed; the same bytes give the same result however they are cut.
//! Limits: those of [`ChunkLimits`], [`EXTENSION_MAX`], [`EXTENSIONS_MAX`], [`TRAILERS_MAX`].
//! It leaves out: the values of extensions and trailers; a client cannot place anything there.

mod error;

pub use error::ChunkError;

use super::fields::{Known, set_of};
use super::simd::{is_tchar, is_value_byte};
use std::ops::Range;

/// Longest extension of one chunk: none is used in this field, signing schemes elsewhere need about 100 bytes.
pub const EXTENSION_MAX: u32 = 4 * 1024;
/// All extensions of one body together: as much as other servers read before they suspect an attack.
pub const EXTENSIONS_MAX: u32 = 16 * 1024;
/// All trailer lines of one body together, with their line ends: they are read only to be dropped.
pub const TRAILERS_MAX: u32 = 8 * 1024;
/// Framing bytes that are free, before they must be in proportion to the payload.
pub const OVERHEAD_FREE: u64 = 16 * 1024;
/// Digits of a chunk size: 64 bits, also when they start with zeros.
const SIZE_DIGITS_MAX: u8 = 16;
/// The longest line that [`write_chunk_size`] writes: 16 digits and CRLF.
pub const CHUNK_LINE_MAX: usize = 18;
/// What ends each chunk's data.
pub const CHUNK_END: &[u8] = b"\r\n";
/// What ends a chunked body.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Names that must not come in a trailer (RFC 9110 section 6.5.1): framing, routing, access, and how to read content.
const FORBIDDEN_TRAILERS: u64 = set_of(&[
    Known::UnderscoreAlias,
    Known::Host,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Connection,
    Known::ContentType,
    Known::ContentEncoding,
    Known::ContentRange,
    Known::Authorization,
    Known::ProxyAuthorization,
    Known::ProxyConnection,
    Known::XApiKey,
    Known::ApiKey,
    Known::XGoogApiKey,
    Known::Cookie,
    Known::SetCookie,
    Known::Expect,
    Known::Upgrade,
    Known::Te,
    Known::Trailer,
    Known::KeepAlive,
    Known::Location,
    Known::RetryAfter,
    Known::CacheControl,
    Known::WwwAuthenticate,
    Known::IdempotencyKey,
    Known::SluicePipeline,
    Known::SluiceStep,
    Known::SluiceDeadlineMs,
    Known::SluiceFallbacks,
    Known::SluiceCache,
]);

/// No known name is longer.
const TRAILER_NAME_MAX: usize = 32;

/// What one body may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLimits {
    /// Most payload bytes of the whole body.
    pub body: u64,
    /// Framing bytes allowed for each payload byte, beyond [`OVERHEAD_FREE`].
    pub overhead_factor: u64,
}

impl ChunkLimits {
    /// For a request body of at most `body` bytes. A factor of 4 refuses bodies in chunks of one byte.
    pub const fn request(body: u64) -> Self {
        Self { body, overhead_factor: 4 }
    }

    /// For a response body of any length. Servers that flush each byte exist, so the factor only stops extension floods.
    pub const fn response() -> Self {
        Self { body: u64::MAX, overhead_factor: 16 }
    }
}

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Payload bytes, now at the front of the buffer.
    pub payload: usize,
    /// Bytes of the buffer that were read; all of them unless the body is done.
    pub consumed: usize,
    /// Whether the body is complete, trailers included.
    pub done: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Size,
    ExtensionNameStart,
    ExtensionName,
    ExtensionValueStart,
    ExtensionToken,
    ExtensionQuoted,
    ExtensionEscape,
    ExtensionQuoteEnd,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
    Done,
}

/// A decoder for one body.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: ChunkLimits,
    state: State,
    /// In `Size`: the number so far. In `Data`: bytes still to come.
    size: u64,
    digits: u8,
    /// Payload announced so far; at most `limits.body`.
    announced: u64,
    overhead: u64,
    extension: u32,
    extensions: u32,
    trailers: u32,
    name: [u8; TRAILER_NAME_MAX],
    name_len: usize,
}

impl Decoder {
    /// A decoder at the start of a body.
    pub const fn new(limits: ChunkLimits) -> Self {
        Self {
            limits,
            state: State::Size,
            size: 0,
            digits: 0,
            announced: 0,
            overhead: 0,
            extension: 0,
            extensions: 0,
            trailers: 0,
            name: [0; TRAILER_NAME_MAX],
            name_len: 0,
        }
    }

    /// Whether the body is complete. A connection that closes before this cut the body off.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Payload bytes announced so far; once the body is done, its length.
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// Decodes bytes that follow those of the last call, moving their payload to the front of `buf`.
    ///
    /// Afterwards `buf[..payload]` is payload and `buf[consumed..]` is untouched.
    ///
    /// # Errors
    /// The first thing that is wrong; the decoder must not be used again.
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Progress, ChunkError> {
        let mut at = 0;
        let mut payload = 0;
        while let Some(piece) = self.next_piece(buf, &mut at)? {
            let length = piece.len();
            if piece.start != payload {
                buf.copy_within(piece, payload);
            }
            payload += length;
        }
        Ok(Progress { payload, consumed: at, done: self.is_done() })
    }

    /// The next run of payload in `bytes` from `*at` on, left where it is; `*at` moves past what was read. `None` when
    /// `bytes` is used up or the body is done.
    ///
    /// # Errors
    /// The first thing that is wrong; the decoder must not be used again.
    pub fn next_piece(&mut self, bytes: &[u8], at: &mut usize) -> Result<Option<Range<usize>>, ChunkError> {
        loop {
            let rest = bytes.get(*at..).unwrap_or_default();
            match (self.state, rest) {
                (State::Done, _) | (_, []) => return Ok(None),
                (State::Data, _) => {
                    let length = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest.len());
                    let piece = *at..*at + length;
                    self.size -= length as u64;
                    if self.size == 0 {
                        self.state = State::DataCr;
                    }
                    *at = piece.end;
                    return Ok(Some(piece));
                }
                (_, [byte, ..]) => {
                    *at += 1;
                    self.overhead += 1;
                    self.state = self.step(*byte)?;
                }
            }
        }
    }

    /// Reads one byte that is not payload.
    // chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF ; last-chunk = 1*("0") [ chunk-ext ] CRLF
    // chunk-ext = *( ";" chunk-ext-name [ "=" chunk-ext-val ] ) ; chunk-ext-val = token / quoted-string
    // The blanks that the grammar calls bad (BWS) are refused.
    fn step(&mut self, byte: u8) -> Result<State, ChunkError> {
        let state = match (self.state, byte) {
            (State::Size, _) => return self.size_byte(byte),
            (State::SizeLf, b'\n') => return self.chunk_start(),
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.size = 0;
                self.digits = 0;
                State::Size
            }
            (State::EndLf, b'\n') => State::Done,
            (State::SizeLf | State::DataCr | State::DataLf | State::EndLf, _) => {
                return Err(ChunkError::LineEnd);
            }
            (State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf, _) => {
                return self.trailer_byte(byte);
            }
            (State::Data | State::Done, _) => self.state,
            _ => return self.extension_byte(byte),
        };
        Ok(state)
    }

    fn size_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if let Some(digit) = (byte as char).to_digit(16) {
            if self.digits == SIZE_DIGITS_MAX {
                return Err(ChunkError::Size);
            }
            self.digits += 1;
            // At most 16 digits, so no bit is shifted out.
            self.size = self.size << 4 | u64::from(digit);
            return Ok(State::Size);
        }
        if self.digits == 0 {
            return Err(ChunkError::Size);
        }
        match byte {
            b'\r' | b';' if self.size > self.limits.body - self.announced => Err(ChunkError::BodyTooLarge),
            b'\r' => Ok(State::SizeLf),
            b';' => {
                self.extension = 1;
                self.extensions += 1;
                Ok(State::ExtensionNameStart)
            }
            b'\n' => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Size),
        }
    }

    fn chunk_start(&mut self) -> Result<State, ChunkError> {
        // `size_byte` saw that the sum stays within the limit.
        self.announced += self.size;
        let paid = self.announced.saturating_mul(self.limits.overhead_factor);
        if self.overhead > paid.saturating_add(OVERHEAD_FREE) {
            return Err(ChunkError::Overhead);
        }
        Ok(if self.size == 0 { State::TrailerStart } else { State::Data })
    }

    fn extension_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if byte == b'\n' {
            return Err(ChunkError::LineEnd);
        }
        let state = match (self.state, byte) {
            (State::ExtensionNameStart | State::ExtensionName, _) if is_tchar(byte) => State::ExtensionName,
            (State::ExtensionName, b'=') => State::ExtensionValueStart,
            (State::ExtensionValueStart, b'"') => State::ExtensionQuoted,
            (State::ExtensionValueStart | State::ExtensionToken, _) if is_tchar(byte) => {
                State::ExtensionToken
            }
            (State::ExtensionQuoted, b'"') => State::ExtensionQuoteEnd,
            (State::ExtensionQuoted, b'\\') => State::ExtensionEscape,
            (State::ExtensionQuoted | State::ExtensionEscape, _) if is_value_byte(byte) => {
                State::ExtensionQuoted
            }
            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuoteEnd, b';') => {
                self.extension = 0;
                State::ExtensionNameStart
            }
            (State::ExtensionName | State::ExtensionToken | State::ExtensionQuoteEnd, b'\r') => {
                return Ok(State::SizeLf);
            }
            _ => return Err(ChunkError::Extension),
        };
        self.extension += 1;
        self.extensions += 1;
        if self.extension > EXTENSION_MAX || self.extensions > EXTENSIONS_MAX {
            return Err(ChunkError::ExtensionTooLong);
        }
        Ok(state)
    }

    fn trailer_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if self.state == State::TrailerStart && byte == b'\r' {
            return Ok(State::EndLf);
        }
        self.trailers += 1;
        if self.trailers > TRAILERS_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        match (self.state, byte) {
            (State::TrailerStart, _) if is_tchar(byte) => {
                self.name_len = 0;
                self.name_byte(byte)
            }
            (State::TrailerName, b':') => {
                let name = self.name.get(..self.name_len).unwrap_or_default();
                let forbidden = Known::of(name).bit() & FORBIDDEN_TRAILERS != 0;
                if forbidden { Err(ChunkError::ForbiddenTrailer) } else { Ok(State::TrailerValue) }
            }
            (State::TrailerName, _) if is_tchar(byte) => self.name_byte(byte),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_value_byte(byte) => Ok(State::TrailerValue),
            (State::TrailerLf, b'\n') => Ok(State::TrailerStart),
            (State::TrailerLf, _) | (_, b'\n') => Err(ChunkError::LineEnd),
            _ => Err(ChunkError::Trailer),
        }
    }

    /// Keeps the name for its classification; one that does not fit is longer than any known name.
    fn name_byte(&mut self, byte: u8) -> Result<State, ChunkError> {
        if let Some(place) = self.name.get_mut(self.name_len) {
            *place = byte;
        }
        self.name_len = self.name_len.saturating_add(1);
        Ok(State::TrailerName)
    }
}

/// Writes the line that opens a chunk of `n` bytes (hexadecimal and CRLF) to the start of `out` and gives its length.
/// After the data comes [`CHUNK_END`]. A chunk of 0 bytes would end the body: write [`LAST_CHUNK`] for that.
pub fn write_chunk_size(out: &mut [u8; CHUNK_LINE_MAX], n: usize) -> usize {
    let digits = (usize::BITS - n.leading_zeros()).div_ceil(4).max(1) as usize;
    for (place, byte) in out.iter_mut().take(digits).enumerate() {
        let nibble = n >> (4 * (digits - 1 - place)) & 15;
        *byte = b"0123456789abcdef"[nibble];
    }
    out[digits..digits + 2].copy_from_slice(CHUNK_END);
    digits + 2
}

#[cfg(test)]
mod tests;
