//! Documents whole, cut and broken.

use super::cursor::string_end;
use super::*;

#[test]
fn members_are_found_wherever_they_stand() {
    let doc = br#" { "a" : [1, {"b":"}\"]"} ], "c":"x\\", "d" : -1.5e2 , "e":null,"f":true } "#;
    let raw = Raw::of(doc);
    let [a, c, d, e, f, none] = raw.pick(["a", "c", "d", "e", "f", "zz"]);
    assert_eq!(a.bytes(), br#"[1, {"b":"}\"]"} ]"#);
    assert_eq!(c.text().as_deref(), Some("x\\"));
    assert_eq!(d.number(), Some(-150.0));
    assert!(e.is_null() && none.is_null() && !f.is_null());
    assert_eq!(f.bool(), Some(true));
    let items: Vec<_> = a.items().map(|item| item.bytes().to_vec()).collect();
    assert_eq!(items, [b"1".to_vec(), br#"{"b":"}\"]"}"#.to_vec()]);
}

#[test]
fn cut_documents_are_bad_at_every_byte_and_never_panic() {
    let doc = br#"{"a":[1,{"b":"}\"]"}],"c":"\u00e9","d":-1.5e2,"e":null,"f":{"g":[]}}"#;
    for cut in 0..doc.len() {
        let mut cursor = Cursor::new(&doc[..cut]);
        cursor.object(|_, _| {});
        assert!(cursor.bad(), "cut at {cut}");
        Raw::of(&doc[..cut]).items().count();
    }
    let mut cursor = Cursor::new(doc);
    cursor.object(|_, _| {});
    assert!(cursor.finished());
}

#[test]
fn separators_that_do_not_add_up_are_bad() {
    for doc in
        [r#"{"a" 1}"#, r#"{"a":1,,"b":2}"#, r#"{"a":1 "b":2}"#, "{1:2}", r#"{,"a":1}"#, "[1 2]", "[,]", "x"]
    {
        let mut cursor = Cursor::new(doc.as_bytes());
        if !cursor.object(|_, _| {}) {
            let mut cursor = Cursor::new(doc.as_bytes());
            cursor.array(|_| {});
            assert!(cursor.bad(), "{doc}");
            continue;
        }
        assert!(cursor.bad(), "{doc}");
    }
}

#[test]
fn blank_texts_are_seen_through_their_escapes() {
    for (doc, blank) in
        [(r#""""#, true), (r#"" \n\t""#, true), (r#""\\n""#, false), (r#"" x""#, false), ("1", false)]
    {
        assert_eq!(Raw::of(doc.as_bytes()).is_blank(), blank, "{doc}");
    }
}

#[test]
fn strings_survive_being_written_and_read() {
    for text in ["", "plain", "quote \" back \\ line\n\r\t bell \u{7} del \u{7f} é 漢 🦀"] {
        let mut out = Vec::new();
        push_string(&mut out, text);
        assert_eq!(Raw::of(&out).text().as_deref(), Some(text));
        assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
    }
    let mut out = Vec::new();
    push_number(&mut out, 0);
    push_number(&mut out, u64::MAX);
    assert_eq!(out, b"018446744073709551615");
}

#[test]
fn strings_end_at_their_own_quote_whatever_their_length() {
    for plain in 0..200 {
        for tail in ["", "\\\"", "\\\\", "\\n\\\"x", "é\\\\\\\""] {
            let doc = format!("\"{}{tail}\",\"next\"", "a".repeat(plain));
            let expected = doc.len() - ",\"next\"".len();
            assert_eq!(string_end(doc.as_bytes(), 1), Some(expected), "{doc}");
            for cut in 1..expected {
                assert_eq!(string_end(&doc.as_bytes()[..cut], 1), None, "{doc} cut at {cut}");
            }
        }
    }
}

#[test]
fn counts_are_whole_and_never_negative() {
    for (doc, count) in [
        ("0", Some(0)),
        ("12", Some(12)),
        ("12.9", Some(12)),
        ("-1", None),
        ("null", None),
        ("1e3", Some(1000)),
    ] {
        assert_eq!(Raw::of(doc.as_bytes()).count(), count, "{doc}");
    }
}

#[test]
fn nesting_is_bounded_and_encoding_is_checked() {
    let nest = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(valid(&nest(MAX_DEPTH)));
    assert!(!valid(&nest(MAX_DEPTH + 1)));
    assert!(!valid(b"\"\xff\""));
    assert!(!valid(b"{} {}"));
}
