use super::*;
use proptest::prelude::*;

fn read(raw: &[u8]) -> Result<String, JsonErrorKind> {
    let mut out = b"kept ".to_vec();
    let result = unescape(raw, &mut out);
    assert_eq!(check_text(raw), result);
    if result.is_err() {
        assert_eq!(out, b"kept ", "an error leaves what was there");
    }
    result.map(|()| String::from_utf8(out.split_off(5)).unwrap()).map_err(|bad| bad.kind)
}

#[test]
fn every_escape_is_read() {
    assert_eq!(read(br#"a\"\\\/\b\f\n\r\tz"#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tz");
    assert_eq!(read(br"\u0041\u00E9\u20ac\ud83d\uDE00\u0000").unwrap(), "A\u{e9}\u{20ac}\u{1f600}\0");
    assert_eq!(read("caf\u{e9}\u{1f600}".as_bytes()).unwrap(), "caf\u{e9}\u{1f600}");
    assert_eq!(read(b"").unwrap(), "");
}

#[test]
fn what_is_no_text_is_refused() {
    for raw in
        [&br"\x"[..], br"\", br"\u", br"\u12", br"\u12g4", br"\U0041", b"a\nb", b"\x1f", b"\\\n", br"\u+123"]
    {
        assert_eq!(read(raw), Err(JsonErrorKind::String), "{}", raw.escape_ascii());
    }
    for raw in [&br"\ud800"[..], br"\udc00", br"\ud83dx", br"\ud83d\n", br"\ud83d\u0041", br"\ude00\ud83d"] {
        assert_eq!(read(raw), Err(JsonErrorKind::LoneSurrogate), "{}", raw.escape_ascii());
    }
    for raw in [&b"\xff"[..], b"a\xc3", b"\xc3\\n", b"\xed\xa0\x80", b"\xc0\x80"] {
        assert_eq!(read(raw), Err(JsonErrorKind::NotUtf8), "{}", raw.escape_ascii());
    }
}

#[test]
fn lossy_reading_replaces_lone_surrogates_only() {
    let mut out = Vec::new();
    unescape_lossy(br"a\ud83db\ud83d\ude00\udc00", &mut out).unwrap();
    assert_eq!(out, "a\u{fffd}b\u{1f600}\u{fffd}".as_bytes());
    assert!(unescape_lossy(br"\x", &mut out).is_err() && unescape_lossy(b"\xff", &mut out).is_err());
}

#[test]
fn folding_follows_unicode() {
    assert!(folds_to(b"MODEL", b"model") && folds_to("u\u{17f}er".as_bytes(), b"user"));
    assert!(folds_to(br"\u212a", b"k") && !folds_to(b"model ", b"model") && !folds_to(b"mode", b"model"));
}

#[test]
fn control_characters_are_escaped() {
    let mut out = Vec::new();
    write_string("a\"\\\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}\u{e9}/", &mut out);
    assert_eq!(out, "\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001f\u{7f}\u{e9}/\"".as_bytes());
}

proptest! {
    #[test]
    fn escaping_and_reading_back_changes_nothing(text in any::<String>()) {
        let mut raw = Vec::new();
        escape_into(&text, &mut raw);
        prop_assert!(is_text(&raw, text.as_bytes()));
        prop_assert_eq!(read(&raw), Ok(text.clone()));
        let quoted = [b"\"", raw.as_slice(), b"\""].concat();
        prop_assert_eq!(serde_json::from_slice::<String>(&quoted).ok(), Some(text));
    }

    #[test]
    fn we_read_a_string_exactly_when_serde_does(raw in "([a-z\u{e9}]|\\\\[\"\\\\/bfnrtux]|[0-9a-fA-F]{1,4}|\\\\u[dD][89abcdef][0-9]{2}){0,8}") {
        let quoted = format!("\"{raw}\"");
        prop_assert_eq!(read(raw.as_bytes()).ok(), serde_json::from_str::<String>(&quoted).ok());
    }
}
