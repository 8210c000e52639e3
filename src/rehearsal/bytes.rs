//! Bytes that faults need ready made: broken heads, gzip, dates.

use std::time::{SystemTime, UNIX_EPOCH};

use super::program::BadHead;

/// A head that breaks the rules; the body, if any, is the JSON of nothing.
pub(super) fn bad_head(kind: BadHead) -> Vec<u8> {
    let text: &[u8] = match kind {
        BadHead::LengthAndChunked => {
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        }
        BadHead::TwoLengths => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        BadHead::LengthNotANumber => b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\n",
        BadHead::LengthList => b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        BadHead::UnknownCoding => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        BadHead::ChunkedTwice => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        BadHead::ChunkedInHttp10 => b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        BadHead::SwitchingProtocols => {
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"
        }
        BadHead::Status999 => b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
        BadHead::TwoDigitStatus => b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        BadHead::Http2Line => b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n",
        BadHead::LineFeedOnly => b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        BadHead::CarriageReturnInValue => {
            b"HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: x=y\r\nContent-Length: 2\r\n\r\n{}"
        }
        BadHead::NulInValue => b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\n{}",
        BadHead::FoldedLine => b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n b\r\n\r\n{}",
        BadHead::BodyOn204 => b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        BadHead::BadChunkSize => b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        BadHead::LineFeedInChunk => {
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n"
        }
        BadHead::Garbage => b"\x16\x03\x01 this is not HTTP\r\n\r\n",
    };
    text.to_vec()
}

/// A gzip member of stored blocks (RFC 1951 3.2.4, RFC 1952): valid, and needs no compressor.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let blocks: Vec<&[u8]> = if bytes.is_empty() { vec![&[]] } else { bytes.chunks(65_535).collect() };
    for (n, block) in blocks.iter().enumerate() {
        out.push(u8::from(n + 1 == blocks.len()));
        let length = block.len() as u16;
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(block);
    }
    out.extend_from_slice(&crc32(bytes).to_le_bytes());
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 5.6.7), rounded up to the second.
pub(super) fn http_date(at: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() + u64::from(since.subsec_nanos() > 0);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, counted from 1 March of year 0 so that the leap day is the last one.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{}, {day:02} {} {year} {:02}:{:02}:{:02} GMT",
        DAYS[(days % 7) as usize],
        MONTHS[(month - 1) as usize],
        rest / 3600,
        rest / 60 % 60,
        rest % 60
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_written_as_http_writes_them() {
        let at = |seconds| http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(at(0), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(at(1_709_164_800), "Thu, 29 Feb 2024 00:00:00 GMT");
        assert_eq!(at(1_735_689_599), "Tue, 31 Dec 2024 23:59:59 GMT");
    }

    #[test]
    fn gzip_members_carry_their_length_and_checksum() {
        let packed = gzip(b"123456789");
        // The check value that every CRC-32 is tested with.
        assert_eq!(packed[packed.len() - 8..packed.len() - 4], 0xCBF4_3926u32.to_le_bytes());
        assert_eq!(packed[packed.len() - 4..], 9u32.to_le_bytes());
        assert_eq!(&packed[15..24], b"123456789");
        assert_eq!(gzip(&[7; 70_000]).len(), 10 + 5 + 65_535 + 5 + 4_465 + 8);
    }
}
