//! What we accept, httparse reads the same; and no beginning of it was refused.
#![no_main]

use sluice::wire::fields::Fields;
use sluice::wire::framing::frame_request;
use sluice::wire::head::{HeadLimits, Parsed, parse_request};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut fields = Fields::new();
    let Ok(Parsed::Complete(head)) = parse_request(bytes, &mut fields, &HeadLimits::REQUEST) else { return };
    let _ = frame_request(&head, &fields, bytes);
    let mut storage = [httparse::EMPTY_HEADER; 128];
    let mut oracle = httparse::Request::new(&mut storage);
    assert_eq!(oracle.parse(bytes), Ok(httparse::Status::Complete(head.len)));
    assert_eq!(
        (oracle.method.map(str::as_bytes), oracle.path.map(str::as_bytes)),
        (Some(head.method), Some(head.target))
    );
    let ours = fields.iter().map(|field| (field.name.of(bytes), field.value.of(bytes)));
    assert!(ours.eq(oracle.headers.iter().map(|field| (field.name.as_bytes(), field.value))));
    for cut in (0..head.len).step_by(1 + head.len / 8) {
        assert_eq!(parse_request(&bytes[..cut], &mut fields, &HeadLimits::REQUEST), Ok(Parsed::Partial));
    }
});
