//! The field table of one head: fixed storage, no heap, names classified while they are parsed.
//!
//! A gateway asks the same few questions of each head ("how long is the body", "who is calling"). The parser
//! therefore recognises the names that matter once, in passing, and the table answers by index. Unknown names keep their
//! spans and can be searched.
//!
//! Invariants: spans point into the buffer that was parsed; `first[k]` is the position of the first field of kind `k`
//! plus one, or zero; a kind is in `repeated` exactly when it came more than once.
//!
//! Limits: [`CAPACITY`] fields. The table is about 2 KiB; clearing it costs one cache line.
//! It leaves out: the meaning of values (`framing`), and joining repeated fields.

use super::Span;
use super::simd::{Lanes, NAME_BLOCK, is_tchar};

/// The most fields a table holds: an upstream head may have 128 (DESIGN section 9).
pub const CAPACITY: usize = 128;

macro_rules! known {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)+) => {
        /// The kind of a field, by its name (case does not matter).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Known {
            /// A name that is not in this list.
            Other,
            /// A name that becomes a framing, host or credential name once `_` is read as `-`, as CGI-like servers do.
            UnderscoreAlias,
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )+
        }

        /// Each known name in lower case, with its kind.
        const NAMES: &[(Known, &str)] = &[$((Known::$name, $text)),+];
    };
}

known! {
    Host = "host",
    ContentLength = "content-length",
    TransferEncoding = "transfer-encoding",
    Connection = "connection",
    ContentType = "content-type",
    ContentEncoding = "content-encoding",
    ContentRange = "content-range",
    Authorization = "authorization",
    ProxyAuthorization = "proxy-authorization",
    ProxyConnection = "proxy-connection",
    XApiKey = "x-api-key",
    ApiKey = "api-key",
    XGoogApiKey = "x-goog-api-key",
    Cookie = "cookie",
    SetCookie = "set-cookie",
    Expect = "expect",
    Upgrade = "upgrade",
    Te = "te",
    Trailer = "trailer",
    Origin = "origin",
    SecFetchSite = "sec-fetch-site",
    Accept = "accept",
    AcceptEncoding = "accept-encoding",
    UserAgent = "user-agent",
    XRequestId = "x-request-id",
    RequestId = "request-id",
    RetryAfter = "retry-after",
    RetryAfterMs = "retry-after-ms",
    IdempotencyKey = "idempotency-key",
    AnthropicVersion = "anthropic-version",
    AnthropicBeta = "anthropic-beta",
    StainlessTimeout = "x-stainless-timeout",
    StainlessReadTimeout = "x-stainless-read-timeout",
    StainlessRetryCount = "x-stainless-retry-count",
    XShouldRetry = "x-should-retry",
    Date = "date",
    Server = "server",
    KeepAlive = "keep-alive",
    Location = "location",
    CacheControl = "cache-control",
    Traceparent = "traceparent",
    Tracestate = "tracestate",
    WwwAuthenticate = "www-authenticate",
    SluicePipeline = "x-sluice-pipeline",
    SluiceStep = "x-sluice-step",
    SluiceDeadlineMs = "x-sluice-deadline-ms",
    SluiceFallbacks = "x-sluice-fallbacks",
    SluiceCache = "x-sluice-cache",
}

/// Number of kinds, with `Other` and `UnderscoreAlias`.
const KINDS: usize = NAMES.len() + 2;

// Kinds are kept as bits of one word.
const _: () = assert!(KINDS <= 64);

impl Known {
    /// The name in lower case; empty for [`Known::Other`] and [`Known::UnderscoreAlias`].
    pub fn name(self) -> &'static str {
        match (self as usize).checked_sub(2).and_then(|index| NAMES.get(index)) {
            Some((_, name)) => name,
            None => "",
        }
    }

    /// The kind of a field name given in any case.
    pub fn of(name: &[u8]) -> Self {
        // Folding case by one bit is only right for the bytes of a token.
        if !name.iter().copied().all(is_tchar) {
            return Self::Other;
        }
        let mut block = [0; NAME_BLOCK];
        let Some(start) = block.get_mut(..name.len()) else { return Self::Other };
        start.copy_from_slice(name);
        classify(super::simd::Portable, &block, name.len(), name.contains(&b'_'))
    }

    /// This kind as one bit.
    pub(super) const fn bit(self) -> u64 {
        1 << self as u8
    }
}

/// The union of some kinds, as bits.
pub(super) const fn set_of(kinds: &[Known]) -> u64 {
    let mut bits = 0;
    let mut i = 0;
    while i < kinds.len() {
        bits |= kinds[i].bit();
        i += 1;
    }
    bits
}

/// Names whose aliases with `_` are refused: they decide framing, host, or who pays.
const GUARDED: u64 = set_of(&[
    Known::Host,
    Known::ContentLength,
    Known::TransferEncoding,
    Known::Connection,
    Known::ContentType,
    Known::ContentEncoding,
    Known::Authorization,
    Known::ProxyAuthorization,
    Known::XApiKey,
    Known::ApiKey,
    Known::XGoogApiKey,
    Known::Expect,
    Known::Upgrade,
]);

const SLOTS: usize = 128;

/// Where a name would stand in [`SLOT`]: factors found by search so that no two known names share a slot, which the
/// table's construction asserts.
const fn slot(length: usize, first: u8, middle: u8, last: u8) -> usize {
    let hash = length * 27
        + (first | 0x20) as usize * 27
        + (last | 0x20) as usize * 40
        + (middle | 0x20) as usize * 29;
    hash & (SLOTS - 1)
}

/// What the slots hold. The names stand apart, each padded and aligned for a comparison of a whole block.
struct Slots {
    names: [Name; SLOTS],
    lengths: [u8; SLOTS],
    kinds: [Known; SLOTS],
}

#[derive(Clone, Copy)]
#[repr(align(32))]
struct Name([u8; NAME_BLOCK]);

static SLOT: Slots = {
    // No name is 255 bytes long, so an empty slot never matches.
    let mut slots = Slots {
        names: [Name([0; NAME_BLOCK]); SLOTS],
        lengths: [u8::MAX; SLOTS],
        kinds: [Known::Other; SLOTS],
    };
    let mut n = 0;
    while n < NAMES.len() {
        let name = NAMES[n].1.as_bytes();
        let at = slot(name.len(), name[0], name[name.len() / 2], name[name.len() - 1]);
        assert!(slots.lengths[at] == u8::MAX, "two known names share a slot");
        slots.lengths[at] = name.len() as u8;
        slots.kinds[at] = NAMES[n].0;
        let mut i = 0;
        while i < name.len() {
            slots.names[at].0[i] = name[i];
            i += 1;
        }
        n += 1;
    }
    slots
};

/// The kind of the name that fills the first `length` bytes of `block`; all of them are `tchar`.
#[inline(always)]
pub(super) fn classify<L: Lanes>(
    lanes: L,
    block: &[u8; NAME_BLOCK],
    length: usize,
    underscore: bool,
) -> Known {
    if length == 0 || length > NAME_BLOCK {
        return Known::Other;
    }
    if underscore {
        return classify_alias(block, length);
    }
    let at = slot(length, block[0], block[length / 2], block[length - 1]);
    if usize::from(SLOT.lengths[at]) == length && lanes.same_name(block, &SLOT.names[at].0, length) {
        SLOT.kinds[at]
    } else {
        Known::Other
    }
}

/// Names with `_` are rare and never known themselves.
#[cold]
fn classify_alias(block: &[u8; NAME_BLOCK], length: usize) -> Known {
    let dashed = block.map(|byte| if byte == b'_' { b'-' } else { byte });
    let meant = classify(super::simd::Portable, &dashed, length, false);
    if meant.bit() & GUARDED != 0 { Known::UnderscoreAlias } else { Known::Other }
}

/// One field of a head: its kind and where its name and value stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Kind of the name.
    pub known: Known,
    /// The name as sent.
    pub name: Span,
    /// The value without the blanks around it.
    pub value: Span,
}

#[derive(Clone, Copy)]
struct Entry {
    name_start: u32,
    value_start: u32,
    value_end: u32,
    name_length: u16,
    known: Known,
}

impl Entry {
    const EMPTY: Self =
        Self { name_start: 0, value_start: 0, value_end: 0, name_length: 0, known: Known::Other };

    fn name(&self) -> Span {
        Span { start: self.name_start, end: self.name_start + u32::from(self.name_length) }
    }

    fn value(&self) -> Span {
        Span { start: self.value_start, end: self.value_end }
    }
}

/// The fields of one head, in the order they came. Reused from head to head.
#[derive(Clone)]
pub struct Fields {
    entries: [Entry; CAPACITY],
    // INVARIANT: len <= CAPACITY.
    len: usize,
    first: [u8; KINDS],
    repeated: u64,
}

impl Default for Fields {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Fields {
    /// An empty table.
    pub const fn new() -> Self {
        Self { entries: [Entry::EMPTY; CAPACITY], len: 0, first: [0; KINDS], repeated: 0 }
    }

    /// Forgets all fields.
    pub fn clear(&mut self) {
        self.len = 0;
        self.first = [0; KINDS];
        self.repeated = 0;
    }

    /// Number of fields.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the value of the first field of this kind stands. For `Other` and `UnderscoreAlias`: the first of them.
    pub fn get(&self, known: Known) -> Option<Span> {
        let index = usize::from(self.first[known as usize]).checked_sub(1)?;
        self.entries.get(index).map(Entry::value)
    }

    /// Whether a field of this kind came.
    pub fn has(&self, known: Known) -> bool {
        self.first[known as usize] != 0
    }

    /// Whether a field of this kind came more than once.
    pub fn repeated(&self, known: Known) -> bool {
        self.repeated & known.bit() != 0
    }

    /// The value of the first field of this kind.
    pub fn value<'b>(&self, buf: &'b [u8], known: Known) -> Option<&'b [u8]> {
        self.get(known).map(|span| span.of(buf))
    }

    /// All fields in the order they came.
    pub fn iter(&self) -> impl Iterator<Item = Field> + '_ {
        let field = |entry: &Entry| Field { known: entry.known, name: entry.name(), value: entry.value() };
        self.entries[..self.len].iter().map(field)
    }

    /// The value of the first field with this name, given in lower case. Names in [`Known`] are found faster by
    /// [`Fields::value`].
    pub fn find<'b>(&self, buf: &'b [u8], lowercase_name: &[u8]) -> Option<&'b [u8]> {
        let wanted = |entry: &&Entry| {
            usize::from(entry.name_length) == lowercase_name.len()
                && entry.name().of(buf).eq_ignore_ascii_case(lowercase_name)
        };
        self.entries[..self.len].iter().find(wanted).map(|entry| entry.value().of(buf))
    }

    /// The kinds that came more than once, as bits.
    pub(super) fn repeated_bits(&self) -> u64 {
        self.repeated
    }

    /// Adds a field whose offsets lie in a head of at most [`super::head::HEAD_MAX`] bytes; false when the table
    /// already holds `limit` fields.
    #[inline(always)]
    pub(super) fn push(
        &mut self,
        known: Known,
        (name_start, name_end): (usize, usize),
        (value_start, value_end): (usize, usize),
        limit: usize,
    ) -> bool {
        if self.len >= limit {
            return false;
        }
        let Some(entry) = self.entries.get_mut(self.len) else { return false };
        // The casts keep all bits: heads are at most 1 MiB, and the parser refuses names past 16 bits.
        *entry = Entry {
            name_start: name_start as u32,
            value_start: value_start as u32,
            value_end: value_end as u32,
            name_length: (name_end - name_start) as u16,
            known,
        };
        self.len += 1;
        // Without a branch: which names repeat is not predictable.
        let first = &mut self.first[known as usize];
        let again = *first != 0;
        *first = if again { *first } else { self.len as u8 };
        self.repeated |= u64::from(again) << known as u8;
        true
    }
}

#[cfg(test)]
mod tests;
