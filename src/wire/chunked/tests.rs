use super::*;
use proptest::prelude::*;

const LIMIT: u64 = 1 << 20;

/// Decodes `bytes` cut at `cuts`; payload and bytes left over, or the error. `None` when the body is not complete.
type Outcome = Result<Option<(Vec<u8>, usize)>, ChunkError>;

fn decode_cut(bytes: &[u8], cuts: &[usize], limit: u64) -> Outcome {
    let mut decoder = Decoder::new(ChunkLimits::request(limit));
    let mut payload = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        let mut piece = bytes[start..end].to_vec();
        let progress = decoder.decode(&mut piece)?;
        payload.extend_from_slice(&piece[..progress.payload]);
        assert_eq!(&piece[progress.consumed..], &bytes[start + progress.consumed..end]);
        if progress.done {
            return Ok(Some((payload, bytes.len() - start - progress.consumed)));
        }
        assert_eq!(progress.consumed, end - start);
        start = end;
    }
    Ok(None)
}

fn decode(bytes: &[u8]) -> Outcome {
    let whole = decode_cut(bytes, &[], LIMIT);
    if bytes.len() < 4096 {
        for cut in 0..=bytes.len() {
            assert_eq!(decode_cut(bytes, &[cut], LIMIT), whole, "{} cut at {cut}", bytes.escape_ascii());
        }
        let everywhere: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(decode_cut(bytes, &everywhere, LIMIT), whole, "{} byte by byte", bytes.escape_ascii());
    }
    whole
}

#[test]
fn valid_bodies_are_decoded_and_what_follows_is_left() {
    let cases: &[(&[u8], &[u8], usize)] = &[
        (b"0\r\n\r\n", b"", 0),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nGET / HTTP/1.1", b"hello!", 14),
        (b"A\r\n0123456789\r\n000\r\n\r\n", b"0123456789", 0),
        (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello", 0),
        (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello", 0),
        (b"5;a;b=\"x\\\"y; z\xc3\";c=d\r\nhello\r\n0\r\n\r\n", b"hello", 0),
        (b"5\r\nhello\r\n0\r\nX-T: 1\r\nY:\r\n\r\n", b"hello", 0),
        (b"0\r\nX:POST / HTTP/1.1\r\n\r\n", b"", 0),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", 0),
    ];
    for (bytes, payload, left) in cases {
        assert_eq!(decode(bytes), Ok(Some((payload.to_vec(), *left))), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_cut_off_body_is_never_complete() {
    let whole = b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n";
    for cut in 0..whole.len() {
        assert_eq!(decode(&whole[..cut]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn bad_bodies_are_refused() {
    use ChunkError::*;
    let cases: &[(&[u8], ChunkError)] = &[
        (b"\r\nhello", Size),
        (b"0x5\r\n", Size),
        (b"+5\r\n", Size),
        (b"-0\r\n", Size),
        (b"5_0\r\n", Size),
        (b" 5\r\n", Size),
        (b"5 \r\n", Size),
        (b"5 ;a\r\n", Size),
        (b"5\t\r\n", Size),
        (b"g\r\n", Size),
        (b"00000000000000000", Size),
        (b"FFFFFFFFFFFFFFFFF", Size),
        (b"FFFFFFFFFFFFFFFF\r", BodyTooLarge),
        (b"5\n", LineEnd),
        (b"5\rhello", LineEnd),
        (b"5\r\nhelloXX", LineEnd),
        (b"5\r\nhello\n", LineEnd),
        (b"5\r\nhello\rX", LineEnd),
        (b"5\r\nhello\r\n0\n", LineEnd),
        (b"0\r\n\n", LineEnd),
        (b"0\r\n\rX", LineEnd),
        (b"5;\n", LineEnd),
        (b"5;\r\n", Extension),
        (b"5; a\r\n", Extension),
        (b"5;a =b\r\n", Extension),
        (b"5;a= b\r\n", Extension),
        (b"5;a=\r\n", Extension),
        (b"5;a b\r\n", Extension),
        (b"5;a\rb\r\n", LineEnd),
        (b"5;a=\x00", Extension),
        (b"5;a=\"b\r", Extension),
        (b"5;a=\"b\"c", Extension),
        (b"0\r\n X: 1\r\n", Trailer),
        (b"0\r\n: 1\r\n", Trailer),
        (b"0\r\nX\r\n", Trailer),
        (b"0\r\nX : 1\r\n", Trailer),
        (b"0\r\nX: \x00", Trailer),
        (b"0\r\nX: 1\n", LineEnd),
        (b"0\r\nX: 1\rY", LineEnd),
        (b"0\r\nX: 1\r\n Y", Trailer),
        (b"0\r\nContent-Length:", ForbiddenTrailer),
        (b"0\r\nX: 1\r\nhost:", ForbiddenTrailer),
        (b"0\r\nAUTHORIZATION:", ForbiddenTrailer),
        (b"0\r\nTransfer_Encoding:", ForbiddenTrailer),
    ];
    for (bytes, expected) in cases {
        assert_eq!(decode(bytes), Err(*expected), "{}", bytes.escape_ascii());
    }
}

#[test]
fn the_body_limit_holds_at_the_size_line() {
    let body =
        |size: usize| [format!("{size:x}\r\n").as_bytes(), &vec![b'a'; size], b"\r\n0\r\n\r\n"].concat();
    assert_eq!(decode_cut(&body(100), &[], 100), Ok(Some((vec![b'a'; 100], 0))));
    assert_eq!(decode_cut(&body(101)[..3], &[], 100), Err(ChunkError::BodyTooLarge));
    assert_eq!(decode_cut(b"60\r\n", &[], 100), Ok(None));
    let two = [&body(96)[..96 + 6], b"5\r\n"].concat();
    assert_eq!(decode_cut(&two, &[], 100), Err(ChunkError::BodyTooLarge));
}

#[test]
fn extensions_are_bounded_each_and_together() {
    let chunk = |length: usize| format!("1;{}\r\na\r\n", "e".repeat(length - 1));
    let at_limit = format!("{}0\r\n\r\n", chunk(EXTENSION_MAX as usize));
    assert_eq!(decode(at_limit.as_bytes()), Ok(Some((b"a".to_vec(), 0))));
    assert_eq!(decode(chunk(EXTENSION_MAX as usize + 1).as_bytes()), Err(ChunkError::ExtensionTooLong));
    // Many medium ones, in front of enough payload to pay for them.
    let chunks = |count: usize| {
        format!(
            "2000\r\n{}\r\n{}0\r\n\r\n",
            "p".repeat(0x2000),
            chunk(EXTENSIONS_MAX as usize / 8).repeat(count)
        )
    };
    assert!(decode(chunks(8).as_bytes()).is_ok());
    assert_eq!(decode(chunks(9).as_bytes()), Err(ChunkError::ExtensionTooLong));
}

#[test]
fn trailers_are_bounded() {
    let body = |length: usize| format!("0\r\nX: {}\r\n\r\n", "t".repeat(length - 5));
    assert!(matches!(decode(body(TRAILERS_MAX as usize).as_bytes()), Ok(Some(_))));
    assert_eq!(decode(body(TRAILERS_MAX as usize + 1).as_bytes()), Err(ChunkError::TrailersTooLarge));
    assert_eq!(ChunkError::TrailersTooLarge.status(), 431);
}

#[test]
fn a_body_of_tiny_chunks_is_refused_in_requests_only() {
    let tiny = b"1\r\na\r\n".repeat(20_000);
    assert_eq!(decode(&tiny), Err(ChunkError::Overhead));
    let mut decoder = Decoder::new(ChunkLimits::response());
    assert_eq!(decoder.decode(&mut tiny.clone()).map(|progress| progress.payload), Ok(20_000));
    let small = b"4\r\nabcd\r\n".repeat(20_000);
    assert_eq!(decode(&small), Ok(None));
}

#[test]
fn a_trailer_name_longer_than_any_known_one_is_not_mistaken() {
    let body = format!("0\r\nhost{}: 1\r\n\r\n", "x".repeat(60));
    assert!(matches!(decode(body.as_bytes()), Ok(Some(_))));
}

#[test]
fn chunk_sizes_are_written_in_plain_hexadecimal() {
    for n in [0, 1, 9, 10, 15, 16, 255, 256, 4095, 65_536, usize::MAX] {
        let mut line = [0; CHUNK_LINE_MAX];
        let length = write_chunk_size(&mut line, n);
        assert_eq!(&line[..length], format!("{n:x}\r\n").as_bytes());
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let mut line = [0; CHUNK_LINE_MAX];
            let length = write_chunk_size(&mut line, chunk.len());
            bytes.extend_from_slice(&line[..length]);
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(CHUNK_END);
        }
        bytes.extend_from_slice(LAST_CHUNK);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        prop_assert_eq!(decode_cut(&bytes, &cuts, LIMIT), Ok(Some((chunks.concat(), 0))));
    }

    #[test]
    fn cuts_never_matter(bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'2'), Just(b';'), Just(b'a'), Just(b':'), Just(b'"'), Just(b'='), Just(b' ')], 0..24)) {
        let _ = decode(&bytes);
    }
}
