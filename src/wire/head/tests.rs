use super::*;
use crate::wire::fields::Known;
use crate::wire::simd::each_lanes;
use proptest::prelude::*;

const POST: &[u8] = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Bearer sk-1\r\n\
Content-Type: application/json\r\nX-Stainless-Retry-Count: 0\r\nA-Name-That-Is-Longer-Than-A-Block-Of-Bytes: v\r\n\
Empty:\r\nBlank: \t \r\nPadded: \t a b\t \r\nHigh: caf\xc3\xa9\r\nContent-Length: 2\r\n\r\n{}";

fn request(bytes: &[u8]) -> Result<Parsed<RequestHead<'_>>, HeadError> {
    parse_request(bytes, &mut Fields::new(), &HeadLimits::REQUEST)
}

fn response(bytes: &[u8]) -> Result<Parsed<ResponseHead<'_>>, HeadError> {
    parse_response(bytes, &mut Fields::new(), &HeadLimits::RESPONSE)
}

fn complete<T>(parsed: Result<Parsed<T>, HeadError>) -> T {
    match parsed {
        Ok(Parsed::Complete(head)) => head,
        Ok(Parsed::Partial) => panic!("partial"),
        Err(bad) => panic!("{bad:?}"),
    }
}

#[test]
fn a_request_is_taken_apart() {
    let mut fields = Fields::new();
    let head = complete(parse_request(POST, &mut fields, &HeadLimits::REQUEST));
    assert_eq!(head.method, b"POST");
    assert_eq!(head.target, b"/v1/chat/completions");
    assert_eq!(head.minor, 1);
    assert_eq!(&POST[head.len..], b"{}");
    let read: Vec<(&[u8], &[u8])> = fields.iter().map(|f| (f.name.of(POST), f.value.of(POST))).collect();
    let expected: [(&[u8], &[u8]); 10] = [
        (b"Host", b"localhost:8080"),
        (b"Authorization", b"Bearer sk-1"),
        (b"Content-Type", b"application/json"),
        (b"X-Stainless-Retry-Count", b"0"),
        (b"A-Name-That-Is-Longer-Than-A-Block-Of-Bytes", b"v"),
        (b"Empty", b""),
        (b"Blank", b""),
        (b"Padded", b"a b"),
        (b"High", b"caf\xc3\xa9"),
        (b"Content-Length", b"2"),
    ];
    assert_eq!(read, expected);
    assert_eq!(fields.value(POST, Known::StainlessRetryCount), Some(&b"0"[..]));
}

#[test]
fn a_head_cut_anywhere_is_partial_and_then_the_same() {
    let whole = complete(request(POST));
    for cut in 0..whole.len {
        assert_eq!(request(&POST[..cut]), Ok(Parsed::Partial), "cut at {cut}");
    }
    for cut in whole.len..=POST.len() {
        assert_eq!(complete(request(&POST[..cut])), whole, "cut at {cut}");
    }
}

#[test]
fn all_lanes_read_the_same() {
    struct Both<'b>(&'b [u8]);
    impl Task for Both<'_> {
        type Output = (String, String);
        fn run<L: Lanes>(self, lanes: L) -> Self::Output {
            let mut fields = Fields::new();
            let request =
                Request { buf: self.0, fields: &mut fields, limits: &HeadLimits::REQUEST }.run(lanes);
            let request = format!("{request:?} {fields:?}");
            fields.clear();
            let response =
                Response { buf: self.0, fields: &mut fields, limits: &HeadLimits::RESPONSE }.run(lanes);
            (request, format!("{response:?} {fields:?}"))
        }
    }
    for cut in 0..=POST.len() {
        for (at, byte) in [(0, b'P'), (cut / 2, 0x80), (cut / 3, b':'), (cut / 4, b'\r')] {
            let mut bytes = POST[..cut].to_vec();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            each_lanes(|| Both(&bytes));
        }
    }
}

#[test]
fn bad_requests_are_refused_at_the_byte_that_makes_them_bad() {
    use HeadError::*;
    let cases: &[(&[u8], HeadError)] = &[
        (b"\n", BareLf),
        (b"\rG", BareCr),
        (b"\r\n\r\n\r", LeadingLines),
        (b" ", Method),
        (b"GET\t", Method),
        (b"G\xc3", Method),
        (b"GET  ", TargetByte),
        (b"GET /\xc3", TargetByte),
        (b"GET /\x00", TargetByte),
        (b"GET /\x7f", TargetByte),
        (b"GET /\t", TargetByte),
        (b"GET /\r", Version),
        (b"GET \r", TargetByte),
        (b"GET /a b", Version),
        (b"GET / h", Version),
        (b"GET / HTTP/1.1 ", Version),
        (b"GET / HTTP/1.10", Version),
        (b"GET / HTTP/11", Version),
        (b"GET / HTTP/1.2", VersionUnsupported),
        (b"GET / HTTP/2.0", VersionUnsupported),
        (b"GET / HTTP/0.9", VersionUnsupported),
        (b"PRI * HTTP/2.0", VersionUnsupported),
        (b"GET / HTTP/1.1\n", BareLf),
        (b"GET / HTTP/1.1\rH", BareCr),
        (b"GET / HTTP/1.1\r\n ", Folded),
        (b"GET / HTTP/1.1\r\n\t", Folded),
        (b"GET / HTTP/1.1\r\n:", FieldName),
        (b"GET / HTTP/1.1\r\n\n", BareLf),
        (b"GET / HTTP/1.1\r\n\rZ", BareCr),
        (b"GET / HTTP/1.1\r\nHost ", SpaceBeforeColon),
        (b"GET / HTTP/1.1\r\nHost\t", SpaceBeforeColon),
        (b"GET / HTTP/1.1\r\nHost\r", FieldName),
        (b"GET / HTTP/1.1\r\nX[", FieldName),
        (b"GET / HTTP/1.1\r\nX\x00", FieldName),
        (b"GET / HTTP/1.1\r\nX\xff", FieldName),
        (b"GET / HTTP/1.1\r\nX: a\n", BareLf),
        (b"GET / HTTP/1.1\r\nX: a\rb", BareCr),
        (b"GET / HTTP/1.1\r\nX: a\x00", FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\x07", FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\x0b", FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\x7f", FieldValue),
        (b"GET / HTTP/1.1\r\nX: a\r\n ", Folded),
    ];
    for (bytes, expected) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(request(bytes), Err(*expected), "{shown}");
        let before = &bytes[..bytes.len() - 1];
        assert_eq!(request(before), Ok(Parsed::Partial), "{shown} one byte earlier");
        let after = [bytes, &b"\r\n\r\n"[..], &[b'a'; 64]].concat();
        assert_eq!(request(&after), Err(*expected), "{shown} and more");
    }
}

#[test]
fn two_empty_lines_may_come_first() {
    for lead in ["", "\r\n", "\r\n\r\n"] {
        let bytes = format!("{lead}GET / HTTP/1.0\r\n\r\n");
        let head = complete(request(bytes.as_bytes()));
        assert_eq!((head.len, head.minor), (bytes.len(), 0));
    }
}

#[test]
fn methods_end_at_32_bytes() {
    let at_limit = format!("{} / HTTP/1.1\r\n\r\n", "M".repeat(METHOD_MAX));
    assert_eq!(complete(request(at_limit.as_bytes())).method.len(), METHOD_MAX);
    assert_eq!(request(&[b'M'; METHOD_MAX]), Ok(Parsed::Partial));
    assert_eq!(request(&[b'M'; METHOD_MAX + 1]), Err(HeadError::MethodTooLong));
}

#[test]
fn request_lines_end_at_8_kib() {
    let line = |length: usize| format!("GET /{} HTTP/1.1", "a".repeat(length - 14));
    let at_limit = format!("{}\r\n\r\n", line(HeadLimits::REQUEST.line));
    complete(request(at_limit.as_bytes()));
    let past = format!("{}\r\n\r\n", line(HeadLimits::REQUEST.line + 1));
    assert_eq!(request(past.as_bytes()), Err(HeadError::RequestLineTooLong));
    let endless = [b"GET /".to_vec(), vec![b'a'; HeadLimits::REQUEST.line]].concat();
    assert_eq!(request(&endless), Err(HeadError::RequestLineTooLong));
    assert_eq!(request(&endless[..HeadLimits::REQUEST.line]), Ok(Parsed::Partial));
}

#[test]
fn heads_end_at_64_kib() {
    let head = |length: usize| {
        let frame = "GET / HTTP/1.1\r\nX: \r\n\r\n";
        format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(length - frame.len()))
    };
    assert_eq!(complete(request(head(HeadLimits::REQUEST.bytes).as_bytes())).len, HeadLimits::REQUEST.bytes);
    let past = head(HeadLimits::REQUEST.bytes + 1);
    assert_eq!(request(past.as_bytes()), Err(HeadError::HeadTooLarge));
    assert_eq!(request(&past.as_bytes()[..HeadLimits::REQUEST.bytes]), Err(HeadError::HeadTooLarge));
    assert_eq!(request(&past.as_bytes()[..HeadLimits::REQUEST.bytes - 1]), Ok(Parsed::Partial));
}

#[test]
fn requests_end_at_100_fields_and_responses_at_128() {
    let fields = |count: usize| "X: y\r\n".repeat(count);
    let with = |count| format!("GET / HTTP/1.1\r\n{}\r\n", fields(count));
    complete(request(with(HeadLimits::REQUEST.fields).as_bytes()));
    assert_eq!(request(with(HeadLimits::REQUEST.fields + 1).as_bytes()), Err(HeadError::TooManyFields));
    let with = |count| format!("HTTP/1.1 200 OK\r\n{}\r\n", fields(count));
    complete(response(with(HeadLimits::RESPONSE.fields).as_bytes()));
    assert_eq!(response(with(HeadLimits::RESPONSE.fields + 1).as_bytes()), Err(HeadError::TooManyFields));
}

#[test]
fn a_response_is_taken_apart() {
    let cases: &[(&[u8], u16, &[u8], u8)] = &[
        (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", 200, b"OK", 1),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", 404, b"Not Found", 0),
        (b"HTTP/1.1 204 \r\n\r\n", 204, b"", 1),
        (b"HTTP/1.1 529\r\n\r\n", 529, b"", 1),
        (b"HTTP/1.1 100 caf\xc3\xa9\tx\r\n\r\n", 100, b"caf\xc3\xa9\tx", 1),
    ];
    for (bytes, status, reason, minor) in cases {
        let head = complete(response(bytes));
        assert_eq!((head.status, head.reason, head.minor, head.len), (*status, *reason, *minor, bytes.len()));
        for cut in 0..bytes.len() {
            assert_eq!(response(&bytes[..cut]), Ok(Parsed::Partial), "{} cut at {cut}", bytes.escape_ascii());
        }
    }
}

#[test]
fn bad_responses_are_refused_at_the_byte_that_makes_them_bad() {
    use HeadError::*;
    let cases: &[(&[u8], HeadError)] = &[
        (b"\r", Version),
        (b"I", Version),
        (b"HTTP/2 ", Version),
        (b"HTTP/2.0", VersionUnsupported),
        (b"HTTP/1.1\t", Version),
        (b"HTTP/1.1\r", Version),
        (b"HTTP/1.1  ", StatusCode),
        (b"HTTP/1.1 0", StatusCode),
        (b"HTTP/1.1 6", StatusCode),
        (b"HTTP/1.1 9", StatusCode),
        (b"HTTP/1.1 20 ", StatusCode),
        (b"HTTP/1.1 2000", StatusCode),
        (b"HTTP/1.1 200\t", StatusCode),
        (b"HTTP/1.1 200 a\x00", Reason),
        (b"HTTP/1.1 200 OK\n", BareLf),
        (b"HTTP/1.1 200\n", BareLf),
        (b"HTTP/1.1 200 OK\rX", BareCr),
        (b"HTTP/1.1 200 OK\r\n ", Folded),
        (b"HTTP/1.1 200 OK\r\nX: a\rS", BareCr),
    ];
    for (bytes, expected) in cases {
        let shown = bytes.escape_ascii();
        assert_eq!(response(bytes), Err(*expected), "{shown}");
        assert_eq!(response(&bytes[..bytes.len() - 1]), Ok(Parsed::Partial), "{shown} one byte earlier");
    }
}

#[test]
fn a_head_that_dribbles_in_is_parsed_a_bounded_number_of_times() {
    let head = format!("GET / HTTP/1.1\r\n{}X: {}\r\n\r\n", "X: y\r\n".repeat(90), "a".repeat(60_000));
    let bytes = head.as_bytes();
    let mut arrival = Arrival::within(HeadLimits::REQUEST.bytes);
    let mut parses = 0;
    let mut work = 0;
    for end in 1..=bytes.len() {
        if arrival.due(&bytes[..end]) {
            parses += 1;
            work += end;
            assert_eq!(
                request(&bytes[..end]).map(|parsed| parsed != Parsed::Partial),
                Ok(end == bytes.len())
            );
        }
    }
    assert!(parses < 712, "{parses} parses");
    assert!(work < 8 * bytes.len(), "{work} bytes parsed");
}

#[test]
fn an_endless_line_is_noticed_although_no_line_ends() {
    let mut arrival = Arrival::within(HeadLimits::REQUEST.bytes);
    let bytes = [b"GET /".to_vec(), vec![b'a'; 4 * HeadLimits::REQUEST.line]].concat();
    let refused = (1..=bytes.len())
        .find(|&end| arrival.due(&bytes[..end]) && request(&bytes[..end]).is_err())
        .expect("refused");
    assert!(refused <= 2 * HeadLimits::REQUEST.line + 2, "{refused}");
}

#[test]
fn every_refusal_has_a_status_and_a_sentence() {
    for bytes in [&b"GET / HTTP/1.1\n"[..], b"GET / HTTP/3.0"] {
        let bad = request(bytes).unwrap_err();
        assert!(matches!(bad.status(), 400 | 505));
        assert!(bad.to_string().ends_with('.'));
    }
}

proptest! {
    #[test]
    fn what_we_accept_httparse_reads_the_same(bytes in mutated_head()) {
        let mut fields = Fields::new();
        if let Ok(Parsed::Complete(head)) = parse_request(&bytes, &mut fields, &HeadLimits::REQUEST) {
            let mut storage = [httparse::EMPTY_HEADER; 128];
            let mut oracle = httparse::Request::new(&mut storage);
            prop_assert_eq!(oracle.parse(&bytes), Ok(httparse::Status::Complete(head.len)));
            prop_assert_eq!(oracle.method.map(str::as_bytes), Some(head.method));
            prop_assert_eq!(oracle.path.map(str::as_bytes), Some(head.target));
            prop_assert_eq!(oracle.headers.len(), fields.len());
            for (field, theirs) in fields.iter().zip(oracle.headers.iter()) {
                prop_assert_eq!(field.name.of(&bytes), theirs.name.as_bytes());
                prop_assert_eq!(field.value.of(&bytes), theirs.value);
            }
        }
    }

    #[test]
    fn no_prefix_of_an_accepted_head_is_refused(bytes in mutated_head()) {
        if let Ok(Parsed::Complete(head)) = request(&bytes) {
            for cut in 0..head.len {
                prop_assert_eq!(request(&bytes[..cut]), Ok(Parsed::Partial));
            }
        }
    }
}

/// The head above with a few bytes changed to ones that matter.
fn mutated_head() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), Just(b'\t'), any::<u8>()];
    proptest::collection::vec((0..POST.len(), byte), 0..4).prop_map(|changes| {
        let mut bytes = POST.to_vec();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        bytes
    })
}
