//! Field lines: the part of a head where the time goes.
//!
//! The cost of a line is the wait for where the next one starts. So the search for a line's end starts with the line, not
//! after its name, and looks at 64 bytes at once, in which nearly all lines end; the name is classified meanwhile.
//!
//! No closures here: one that is not inlined is compiled without the lanes' instructions.

use super::HeadError;
use crate::wire::fields::{Fields, Known, classify};
use crate::wire::simd::{LINE_BLOCK, Lanes, NAME_BLOCK, TARGET, TCHAR, VALUE};

/// Longest field name: its length is kept in 16 bits.
const NAME_MAX: usize = u16::MAX as usize;

/// Parses field lines up to the empty one; returns where the head ends, or `None` when the buffer ends first.
// RFC 9112 section 5: field-line = field-name ":" OWS field-value OWS
#[inline(always)]
pub(super) fn parse_fields<L: Lanes>(
    lanes: L,
    buf: &[u8],
    mut at: usize,
    fields: &mut Fields,
    limit: usize,
) -> Result<Option<usize>, HeadError> {
    loop {
        let Some((name_end, known)) = field_name(lanes, buf, at) else { return Ok(None) };
        let Some(&after) = buf.get(name_end) else { return Ok(None) };
        if name_end == at || after != b':' {
            return nameless_line(buf, at, name_end);
        }
        // No byte of the name ends a line, so the search may start with it.
        let Some(stop) = find_line_end(lanes, buf, at) else { return Ok(None) };
        let mut value_start = name_end + 1;
        while buf.get(value_start).is_some_and(|&byte| is_blank(byte)) {
            value_start += 1;
        }
        let next = match buf.get(stop..) {
            Some([b'\r', b'\n', ..]) => stop + 2,
            Some([b'\r']) => return Ok(None),
            Some([b'\r', ..]) => return Err(HeadError::BareCr),
            Some([b'\n', ..]) => return Err(HeadError::BareLf),
            _ => return Err(HeadError::FieldValue),
        };
        let mut value_end = stop;
        while value_end > value_start && is_blank(buf[value_end - 1]) {
            value_end -= 1;
        }
        if !fields.push(known, (at, name_end), (value_start, value_end), limit) {
            return Err(HeadError::TooManyFields);
        }
        at = next;
    }
}

const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The kind of the name that ends at the first of `stops`.
#[inline(always)]
fn name_kind<L: Lanes>(lanes: L, block: &[u8; NAME_BLOCK], stops: u32) -> Known {
    // The bits below the first stop.
    let inside = stops.wrapping_sub(1) & !stops;
    classify(lanes, block, stops.trailing_zeros() as usize, lanes.underscores(block) & inside != 0)
}

/// Where the field name at `at` ends, and its kind; `None` when the buffer ends first.
// RFC 9110 section 5.1: field-name = token ; token = 1*tchar
#[inline(always)]
fn field_name<L: Lanes>(lanes: L, buf: &[u8], at: usize) -> Option<(usize, Known)> {
    let mut pad = None;
    let block = block_at(buf, at, &mut pad);
    let stops = lanes.name_stops(block);
    if stops != 0 {
        return Some((at + stops.trailing_zeros() as usize, name_kind(lanes, block, stops)));
    }
    // No known name is as long as a block. One that is longer than the table can say is malformed: no name at all.
    let end = find_stop::<L, TCHAR>(lanes, buf, at + NAME_BLOCK)?;
    Some((if end - at > NAME_MAX { at } else { end }, Known::Other))
}

/// Reads a line that has no name: the empty one, past which the head ends, or a fault.
#[inline(always)]
fn nameless_line(buf: &[u8], at: usize, name_end: usize) -> Result<Option<usize>, HeadError> {
    match buf.get(at..) {
        Some([b'\r', b'\n', ..]) => Ok(Some(at + 2)),
        Some([b'\r']) => Ok(None),
        Some([b'\r', ..]) => Err(HeadError::BareCr),
        Some([b'\n', ..]) => Err(HeadError::BareLf),
        Some([b' ' | b'\t', ..]) => Err(HeadError::Folded),
        _ if buf.get(name_end).is_some_and(|&byte| is_blank(byte)) => Err(HeadError::SpaceBeforeColon),
        _ => Err(HeadError::FieldName),
    }
}

/// The first byte from `at` on that ends a field value; `None` when the buffer ends first.
#[inline(always)]
fn find_line_end<L: Lanes>(lanes: L, buf: &[u8], at: usize) -> Option<usize> {
    if let Some(block) = buf.get(at..).and_then(<[u8]>::first_chunk) {
        let stops = lanes.line_stops(block);
        if stops != 0 {
            return Some(at + stops.trailing_zeros() as usize);
        }
        return find_stop::<L, VALUE>(lanes, buf, at + LINE_BLOCK);
    }
    find_stop::<L, VALUE>(lanes, buf, at)
}

/// The first byte from `at` on that is not of the class; `None` when the buffer ends first.
#[inline(always)]
pub(super) fn find_stop<L: Lanes, const CLASS: u8>(lanes: L, buf: &[u8], mut at: usize) -> Option<usize> {
    let mut pad = None;
    while at < buf.len() {
        let mask = stops::<L, CLASS>(lanes, block_at(buf, at, &mut pad));
        if mask != 0 {
            let found = at + mask.trailing_zeros() as usize;
            return (found < buf.len()).then_some(found);
        }
        at += NAME_BLOCK;
    }
    None
}

#[inline(always)]
fn stops<L: Lanes, const CLASS: u8>(lanes: L, block: &[u8; NAME_BLOCK]) -> u32 {
    const { assert!(matches!(CLASS, TCHAR | VALUE | TARGET)) };
    match CLASS {
        TCHAR => lanes.name_stops(block),
        VALUE => lanes.value_stops(block),
        _ => lanes.target_stops(block),
    }
}

/// The block at `at`. Past the end of the buffer it is padded, by way of `pad`, with NUL, which is in no class.
#[inline(always)]
pub(super) fn block_at<'a>(
    buf: &'a [u8],
    at: usize,
    pad: &'a mut Option<[u8; NAME_BLOCK]>,
) -> &'a [u8; NAME_BLOCK] {
    let rest = buf.get(at..).unwrap_or_default();
    match rest.first_chunk() {
        Some(block) => block,
        None => pad.insert(padded(rest)),
    }
}

/// Out of line, so that the registers of the loops stay theirs.
#[cold]
#[inline(never)]
fn padded(rest: &[u8]) -> [u8; NAME_BLOCK] {
    let mut pad = [0; NAME_BLOCK];
    pad[..rest.len()].copy_from_slice(rest);
    pad
}
