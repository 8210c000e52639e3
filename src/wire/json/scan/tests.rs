use super::*;

#[test]
fn members_and_elements_come_as_raw_tokens() {
    let doc = br#" { "a" : 1.5e3 , "b":[ true,false , null,"x\"y",{"c":[]} ],"d":{} } "#;
    let root = Value::parse(doc).unwrap();
    assert_eq!(root.kind(), Kind::Object);
    let members: Vec<(Vec<u8>, &[u8])> =
        root.as_object().unwrap().map(|m| m.map(|(k, v)| (k.raw().to_vec(), v.raw())).unwrap()).collect();
    assert_eq!(members.len(), 3);
    assert_eq!(members[0], (b"a".to_vec(), &b"1.5e3"[..]));
    assert_eq!(members[2].1, b"{}");
    let elements: Vec<Value<'_>> = root.get("b").unwrap().as_array().unwrap().map(Result::unwrap).collect();
    let kinds: Vec<Kind> = elements.iter().map(Value::kind).collect();
    assert_eq!(kinds, [Kind::True, Kind::False, Kind::Null, Kind::String, Kind::Object]);
    assert_eq!(elements[3].as_str().unwrap().text().unwrap(), "x\"y");
    assert_eq!(elements[4].raw(), br#"{"c":[]}"#);
    assert!(elements[2].is_null());
}

#[test]
fn paths_and_scalars_are_read() {
    let doc = br#"{"usage":{"input":12,"details":{"cached":-3}},"ok":true,"score":0.25,"big":18446744073709551615}"#;
    let root = Value::parse(doc).unwrap();
    assert_eq!(root.at(&["usage", "input"]).and_then(|v| v.as_u64()), Some(12));
    assert_eq!(root.at(&["usage", "details", "cached"]).and_then(|v| v.as_i64()), Some(-3));
    assert_eq!(root.at(&["usage", "details", "cached"]).and_then(|v| v.as_u64()), None);
    assert_eq!(root.get("ok").and_then(|v| v.as_bool()), Some(true));
    assert_eq!(root.get("score").and_then(|v| v.as_f64()), Some(0.25));
    assert_eq!(root.get("big").and_then(|v| v.as_u64()), Some(u64::MAX));
    assert_eq!(root.get("missing"), None);
    assert_eq!(root.at(&["ok", "x"]), None);
    assert_eq!(root.get("score").unwrap().as_u64(), None);
}

#[test]
fn escaped_text_compares_as_text() {
    let doc = br#"{"k\u0065y":"a\u00e9\ud83d\ude00\n"}"#;
    let value = Value::parse(doc).unwrap().get("key").unwrap().as_str().unwrap();
    assert!(value.eq_str("a\u{e9}\u{1f600}\n") && !value.eq_str("a") && !value.eq_str("a\u{e9}\u{1f600}\nx"));
    assert!(matches!(value.text(), Ok(Cow::Owned(_))));
    let plain = Value::parse(b"\"abc\"").unwrap().as_str().unwrap();
    assert!(matches!(plain.text(), Ok(Cow::Borrowed("abc"))));
    assert!(!Value::parse(br#""a\\b""#).unwrap().as_str().unwrap().eq_str(r"a\\b"));
}

#[test]
fn a_whole_document_is_one_value() {
    for doc in ["1", " true ", "\"x\"", "[]", "{ }", "-0.5"] {
        assert!(Value::parse(doc.as_bytes()).is_ok(), "{doc}");
    }
    for doc in ["", "  ", "1 2", "\"a\" \"b\"", "{", "[1", "]", "{]", "tru", "\"a", "01", "nul l"] {
        assert!(Value::parse(doc.as_bytes()).is_err(), "{doc}");
    }
}

#[test]
fn malformed_containers_end_the_walk_with_one_error() {
    for doc in [
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "{1:1}",
        "{\"a\":1 \"b\":1}",
        "{}}",
        "{} {}",
        "{\"a\":1}}",
        "{\"a\":[}",
    ] {
        let items: Vec<_> = Value::parse(doc.as_bytes()).unwrap().as_object().unwrap().take(10).collect();
        assert!(items.len() < 10 && items.last().is_some_and(Result::is_err), "{doc}: {items:?}");
        assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1, "{doc}");
    }
    for doc in ["[,]", "[1,]", "[1 2]", "[1]]", "[] []", "[{]", "[x]"] {
        let items: Vec<_> = Value::parse(doc.as_bytes()).unwrap().as_array().unwrap().take(10).collect();
        assert!(items.len() < 10 && items.last().is_some_and(Result::is_err), "{doc}: {items:?}");
    }
}

#[test]
fn a_walk_of_any_valid_document_agrees_with_serde() {
    fn same(ours: Value<'_>, theirs: &serde_json::Value) {
        match theirs {
            serde_json::Value::Object(map) => {
                let members: Vec<_> = ours.as_object().unwrap().map(Result::unwrap).collect();
                assert_eq!(members.len(), map.len());
                for ((key, value), (name, expected)) in members.into_iter().zip(map) {
                    assert!(key.eq_str(name));
                    same(value, expected);
                }
            }
            serde_json::Value::Array(list) => {
                let elements: Vec<_> = ours.as_array().unwrap().map(Result::unwrap).collect();
                assert_eq!(elements.len(), list.len());
                elements.into_iter().zip(list).for_each(|(value, expected)| same(value, expected));
            }
            serde_json::Value::String(text) => assert_eq!(ours.as_str().unwrap().text().unwrap(), *text),
            serde_json::Value::Number(number) => assert_eq!(ours.as_f64(), number.as_f64()),
            serde_json::Value::Bool(flag) => assert_eq!(ours.as_bool(), Some(*flag)),
            serde_json::Value::Null => assert!(ours.is_null()),
        }
    }
    let leaf = "{\"t\":\"q\\\"\\\\ \\u00e9 [}{]\",\"n\":[1,-2.5,1e9],\"e\":{},\"f\":[[],[[]]],\"b\":[true,false,null]}";
    for width in 0..90 {
        let doc = format!("{{\"pad\":\"{}\",\"x\":[{leaf},{leaf}],\"y\":{leaf}}}", "\\\\".repeat(width));
        same(Value::parse(doc.as_bytes()).unwrap(), &serde_json::from_str(&doc).unwrap());
    }
}
