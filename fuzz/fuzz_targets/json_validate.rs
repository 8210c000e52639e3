//! We accept what serde_json accepts, but for nesting; the lazy walk and peek agree with the validator.
#![no_main]

use serde::de::IgnoredAny;
use sluice::wire::json::{DEPTH_MAX, JsonErrorKind, Kind, Value, peek, validate};

libfuzzer_sys::fuzz_target!(|doc: &[u8]| {
    let ours = validate(doc, DEPTH_MAX);
    // On bytes, serde_json does not look at the encoding of strings that it ignores.
    let theirs = std::str::from_utf8(doc).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok());
    match ours {
        Err(bad) if bad.kind == JsonErrorKind::TooDeep => {}
        _ => assert_eq!(ours.is_ok(), theirs, "{ours:?}"),
    }
    let walked = Value::parse(doc);
    if ours.is_ok() {
        let value = walked.expect("a valid document is one value");
        assert!(value.as_object().is_none_or(|mut members| members.all(|member| member.is_ok())));
        assert!(value.as_array().is_none_or(|mut elements| elements.all(|element| element.is_ok())));
        // Of valid objects, peek refuses only those whose members that are acted upon are ambiguous or of a wrong type.
        use JsonErrorKind::{DuplicateKey, KeyAlias, LoneSurrogate, WrongType};
        match peek(doc) {
            Ok(_) => assert_eq!(value.kind(), Kind::Object),
            Err(bad) if value.kind() == Kind::Object => {
                assert!(matches!(bad.kind, DuplicateKey | KeyAlias | LoneSurrogate | WrongType), "{bad:?}");
            }
            Err(_) => {}
        }
    } else if let Some(object) = walked.ok().and_then(|value| value.as_object()) {
        object.for_each(drop);
    }
});
