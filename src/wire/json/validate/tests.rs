use super::*;
use proptest::prelude::*;

fn valid(doc: &[u8]) -> Result<(), JsonErrorKind> {
    validate(doc, DEPTH_MAX).map_err(|bad| bad.kind)
}

#[test]
fn what_the_grammar_has_is_accepted() {
    for doc in [
        "{}",
        "[]",
        "0",
        "-0",
        "1.5E+10",
        "true",
        "null",
        "\"\"",
        " [ 1 , { \"a\" : \"b\" } ] \r\n\t",
        "[[],{},[{}]]",
        "\"\\ud800\"",
        "\"\u{7f}\u{2028}\"",
        "{\"a\":1,\"a\":2}",
        "{\"\":0}",
        "[1e999]",
        "\"\\u0000\"",
    ] {
        assert_eq!(valid(doc.as_bytes()), Ok(()), "{doc}");
    }
}

#[test]
fn what_the_grammar_does_not_have_is_refused() {
    use JsonErrorKind::*;
    let cases = [
        ("", Truncated),
        (" ", Truncated),
        ("[", Truncated),
        ("[1", Truncated),
        ("[1,", Truncated),
        ("{\"a\"", Truncated),
        ("{\"a\":", Truncated),
        ("\"a", Truncated),
        ("\"\\", Truncated),
        ("{\"a\":1,", Truncated),
        ("[1,]", Unexpected),
        ("[,1]", Unexpected),
        ("{,}", Unexpected),
        ("{\"a\":1,}", Unexpected),
        ("[1}", Unexpected),
        ("{\"a\":1]", Unexpected),
        ("{a:1}", Unexpected),
        ("{\"a\" 1}", Unexpected),
        ("[1 2]", Unexpected),
        ("'a'", Unexpected),
        ("tru", Unexpected),
        ("True", Unexpected),
        ("nan", Unexpected),
        ("+1", Unexpected),
        (".5", Unexpected),
        ("/**/1", Unexpected),
        ("\u{feff}1", Unexpected),
        ("]", Unexpected),
        ("\u{a0}1", Unexpected),
        ("01", Number),
        ("1.", Number),
        ("-", Number),
        ("1e", Number),
        ("1e+", Number),
        ("0x1", Number),
        ("1.e1", Number),
        ("-a", Number),
        ("1+1", Number),
        ("2.\u{e9}", Number),
        ("\"\n\"", String),
        ("\"\t\"", String),
        ("\"\\x\"", String),
        ("\"\\u12\"", String),
        ("\"\\u12g4\"", String),
        ("1 1", Trailing),
        ("{}{}", Trailing),
        ("[]]", Trailing),
        ("1,", Trailing),
        ("\"a\"b", Trailing),
        ("{}\0", Trailing),
    ];
    for (doc, expected) in cases {
        assert_eq!(valid(doc.as_bytes()), Err(expected), "{doc:?}");
    }
    assert_eq!(valid(b"\"\xff\""), Err(NotUtf8));
}

#[test]
fn nesting_ends_where_it_is_told_to_and_at_128() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    assert!(validate(nested(3).as_bytes(), 3).is_ok());
    assert_eq!(validate(nested(4).as_bytes(), 3).map_err(|bad| bad.kind), Err(JsonErrorKind::TooDeep));
    assert!(validate(b"1", 0).is_ok() && validate(b"[]", 0).is_err());
    assert!(validate(nested(DEPTH_MAX).as_bytes(), usize::MAX).is_ok());
    assert!(validate(nested(DEPTH_MAX + 1).as_bytes(), usize::MAX).is_err());
    assert_eq!(valid("[{\"a\":".repeat(1_000_000).as_bytes()), Err(JsonErrorKind::TooDeep));
}

#[test]
fn a_document_cut_anywhere_is_refused() {
    let doc = br#"{"a":[1.5,{"b":"c\u0041\\"},true],"d":null}"#;
    assert_eq!(valid(doc), Ok(()));
    for cut in 0..doc.len() {
        assert!(valid(&doc[..cut]).is_err(), "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn we_accept_exactly_what_serde_accepts(doc in "([\\[\\]{},:\" ]|\"a\"|\"\\\\[nux]\"|-?[01][0-9]?(\\.[0-9])?([eE][+-]?[0-9])?|true|null|\"k\":){0,12}") {
        let theirs = serde_json::from_str::<serde::de::IgnoredAny>(&doc).is_ok();
        prop_assert_eq!(valid(doc.as_bytes()).is_ok(), theirs, "{}", doc);
    }
}
