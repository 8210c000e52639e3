use super::*;
use proptest::prelude::*;

/// The pieces of `stream`, fed in at `cuts`, and whether the rest is a whole event.
fn split_at(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let mut splitter = Splitter::new();
    let mut pieces = Vec::new();
    let mut pending = Vec::new();
    let mut start = 0;
    for end in cuts.iter().copied().chain([stream.len()]) {
        let bytes = &stream[start..end];
        let mut from = 0;
        for at in splitter.feed(bytes) {
            pending.extend_from_slice(&bytes[from..at]);
            pieces.push(std::mem::take(&mut pending));
            from = at;
        }
        pending.extend_from_slice(&bytes[from..]);
        assert_eq!(splitter.pending_len(), pending.len());
        start = end;
    }
    (pieces, pending, splitter.finish())
}

/// The pieces of `stream`, which must be the same however it is cut.
fn split(stream: &[u8]) -> (Vec<Vec<u8>>, Vec<u8>, bool) {
    let whole = split_at(stream, &[]);
    for cut in 0..=stream.len() {
        assert_eq!(split_at(stream, &[cut]), whole, "{} cut at {cut}", stream.escape_ascii());
    }
    let everywhere: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(split_at(stream, &everywhere), whole, "{} byte by byte", stream.escape_ascii());
    assert_eq!([whole.0.concat(), whole.1.clone()].concat(), stream, "no byte is changed");
    whole
}

fn data(event: &[u8]) -> Option<Vec<u8>> {
    fields(event).data().map(Cow::into_owned)
}

#[test]
fn events_end_at_a_blank_line_however_lines_end() {
    for stream in
        ["data: {\"a\":1}\r\n\r\n", "data: {\"a\":1}\n\r\n", "data: {\"a\":1}\n\n", "data: {\"a\":1}\r\n\n"]
    {
        let (pieces, rest, _) = split(stream.as_bytes());
        assert_eq!(pieces, [stream.as_bytes()], "{stream:?}");
        assert!(rest.is_empty());
        assert_eq!(data(stream.as_bytes()).as_deref(), Some(&b"{\"a\":1}"[..]));
    }
}

#[test]
fn a_cr_at_the_end_waits_for_the_byte_that_may_belong_to_it() {
    let (pieces, rest, whole) = split(b"data: x\r\r");
    assert!(pieces.is_empty() && whole);
    assert_eq!(data(&rest).as_deref(), Some(&b"x"[..]));
    assert_eq!(split(b"data: x\r\rdata: y\r\r").0, [b"data: x\r\r"]);
    assert_eq!(split(b"data: x\r\r\ndata: y\r\n\r\n").0, [&b"data: x\r\r\n"[..], b"data: y\r\n\r\n"]);
    let (pieces, _, whole) = split(b"data: x\r");
    assert!(pieces.is_empty() && !whole);
}

#[test]
fn a_byte_order_mark_is_skipped_at_the_start_only() {
    let (pieces, _, _) = split(b"\xef\xbb\xbfdata: x\n\n");
    assert_eq!(pieces, [&b"\xef\xbb\xbf"[..], b"data: x\n\n"]);
    assert_eq!(data(&pieces[0]), None);
    let (pieces, _, _) = split(b"data: \xef\xbb\xbfx\n\n\xef\xbb\xbfdata: y\n\n");
    assert_eq!(data(&pieces[0]).as_deref(), Some(&b"\xef\xbb\xbfx"[..]));
    assert_eq!(data(&pieces[1]), None, "the mark is part of the name there");
    assert_eq!(split(b"\xef\xbb\n\ndata: y\n\n").0.len(), 2);
    assert_eq!(split(b"\xef\xbb\n\n").0, [b"\xef\xbb\n\n"]);
}

#[test]
fn other_line_separators_are_content() {
    let stream = "data: {\"content\":\"\u{2028}\u{85}\"}\n\n".as_bytes();
    assert_eq!(split(stream).0, [stream]);
}

#[test]
fn data_lines_are_joined_by_lf() {
    assert_eq!(
        data(b"data: {\ndata: \"foo\":\ndata:\ndata: true}\n\n").as_deref(),
        Some(&b"{\n\"foo\":\n\ntrue}"[..])
    );
    assert_eq!(data(b"data: a\r\ndata: b\r\r").as_deref(), Some(&b"a\nb"[..]));
    assert!(matches!(fields(b"event: e\ndata: one\n\n").data(), Some(Cow::Borrowed(b"one"))));
}

#[test]
fn fields_are_read_as_the_standard_says() {
    type Case = (&'static [u8], &'static [u8], Option<&'static [u8]>);
    let cases: &[Case] = &[
        (b": ping\n\n", b"", None),
        (b"\n", b"", None),
        (b"event: error\ndata: {}\n\n", b"error", Some(b"{}")),
        (b"data:no-space\n\n", b"", Some(b"no-space")),
        (b"data:  two\n\n", b"", Some(b" two")),
        (b"data\n\n", b"", Some(b"")),
        (b"data:\n\n", b"", Some(b"")),
        (b"Data: x\n\n", b"", None),
        (b"data : x\n\n", b"", None),
        (b" data: x\n\n", b"", None),
        (b"event: a\nevent: b\ndata: x\n\n", b"b", Some(b"x")),
        (b"data: [DONE]", b"", Some(b"[DONE]")),
    ];
    for (event, name, expected) in cases {
        let shown = event.escape_ascii();
        assert_eq!(fields(event).event, *name, "{shown}");
        assert_eq!(data(event).as_deref(), *expected, "{shown}");
    }
}

#[test]
fn ids_with_nul_and_retries_that_are_no_numbers_are_ignored() {
    let read = fields(b"id: 1\nid: a\x00b\nretry: 10\nretry: 10x\nretry: +5\nretry:\ndata: x\n\n");
    assert_eq!(read.id, Some(&b"1"[..]));
    assert_eq!(read.retry_ms, Some(10));
    assert_eq!(fields(b"retry: 99999999999999999999\n\n").retry_ms, None);
}

#[test]
fn an_event_without_its_blank_line_is_pending() {
    let (pieces, rest, whole) = split(b"data: a\n\ndata: x");
    assert_eq!(pieces.len(), 1);
    assert_eq!((rest.as_slice(), whole), (&b"data: x"[..], false));
    assert!(!split(b"data: x\n").2);
}

#[test]
fn an_event_longer_than_any_is_counted_so_that_its_reader_can_stop() {
    let mut splitter = Splitter::new();
    let piece = [b'x'; 64 * 1024];
    assert_eq!(splitter.feed(b"data: ").count(), 0);
    for n in 1..=EVENT_MAX / piece.len() {
        assert_eq!(splitter.feed(&piece).count(), 0);
        assert_eq!(splitter.pending_len(), 6 + n * piece.len());
    }
    assert!(splitter.pending_len() > EVENT_MAX && !splitter.finish());
    assert_eq!(splitter.feed(b"\n\n").collect::<Vec<_>>(), [2]);
    assert_eq!(splitter.pending_len(), 0);
}

#[test]
fn further_blank_lines_are_pieces_of_their_own() {
    assert_eq!(split(b"data: a\n\n\n\r\n: c\n\n").0, [&b"data: a\n\n"[..], b"\n", b"\r\n", b": c\n\n"]);
}

proptest! {
    #[test]
    fn cuts_never_matter(stream in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b':'), Just(b'd'), Just(0xef), Just(0xbb), Just(0xbf)], 0..20)) {
        split(&stream);
    }
}
