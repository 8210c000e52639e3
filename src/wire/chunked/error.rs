//! Why a chunked body was refused: in a request the client's fault, in a response the upstream's.

/// What is wrong with a chunked body. After any of them the connection is of no more use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChunkError {
    /// A chunk size is missing, too long, or has a byte that is not a hexadecimal digit.
    Size,
    /// A chunk extension breaks the grammar.
    Extension,
    /// Extensions are longer than [`super::EXTENSION_MAX`] or [`super::EXTENSIONS_MAX`].
    ExtensionTooLong,
    /// CR and LF do not come together, or data does not end where its chunk does.
    LineEnd,
    /// The payload is, or announces to be, longer than the limit.
    BodyTooLarge,
    /// There is far more framing than payload.
    Overhead,
    /// A trailer line breaks the grammar of fields.
    Trailer,
    /// A trailer has a name that decides framing, routing or access.
    ForbiddenTrailer,
    /// Trailers are longer than [`super::TRAILERS_MAX`].
    TrailersTooLarge,
}

impl ChunkError {
    /// The status to answer a request with: 400, 413 or 431.
    pub fn status(self) -> u16 {
        match self {
            Self::BodyTooLarge => 413,
            Self::TrailersTooLarge => 431,
            _ => 400,
        }
    }

    /// What is wrong and what to do, as one sentence for the person who sent it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Size => "A chunk size is not a plain hexadecimal number; correct the chunked encoding.",
            Self::Extension => "A chunk extension is malformed; leave extensions out.",
            Self::ExtensionTooLong => "Chunk extensions are too long; leave them out.",
            Self::LineEnd => {
                "A chunk does not end in CRLF where its size says; correct the chunked encoding."
            }
            Self::BodyTooLarge => "The body is longer than the limit; send a shorter one or raise the limit.",
            Self::Overhead => "The chunks are too small for the body they carry; send larger ones.",
            Self::Trailer => "A trailer line is malformed; leave trailers out.",
            Self::ForbiddenTrailer => "A trailer names a field that belongs in the head; send it there.",
            Self::TrailersTooLarge => "The trailers are longer than 8 KiB; leave them out.",
        }
    }
}

impl std::fmt::Display for ChunkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for ChunkError {}
