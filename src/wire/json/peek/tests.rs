use super::*;
use crate::wire::json::{DEPTH_MAX, JsonErrorKind as Bad};

fn bad(body: &str) -> Bad {
    match peek(body.as_bytes()) {
        Err(bad) => bad.kind,
        Ok(peek) => panic!("{body} gave {peek:?}"),
    }
}

fn model(body: &str) -> Option<String> {
    let peek = peek(body.as_bytes()).unwrap_or_else(|bad| panic!("{body}: {bad}"));
    peek.model_str(body.as_bytes()).map(|model| model.text().unwrap().into_owned())
}

#[test]
fn a_chat_request_is_read_in_one_look() {
    let body = br#" {"model":"gpt-4o-mini","messages":[{"role":"user","content":"{\"model\":\"no\"}"}],
        "stream":true,"stream_options":{"x":[1],"include_usage":true},"max_tokens":100,
        "max_completion_tokens":2e2,"max_output_tokens":null,"n":1.0,"user":"u-1","temperature":-1.5e-3} "#;
    let peek = peek(body).unwrap();
    assert_eq!(peek.model.map(|span| span.of(body)), Some(&b"\"gpt-4o-mini\""[..]));
    assert_eq!(
        peek.stream_options.map(|span| span.of(body)),
        Some(&br#"{"x":[1],"include_usage":true}"#[..])
    );
    assert_eq!(peek.stream_span.map(|span| span.of(body)), Some(&b"true"[..]));
    assert_eq!(peek.object.of(body).first(), Some(&b'{'));
    assert_eq!(peek.object.of(body).last(), Some(&b'}'));
    assert!(peek.stream);
    assert_eq!((peek.include_usage, peek.members), (Some(true), 10));
    assert_eq!(
        (peek.max_tokens, peek.max_completion_tokens, peek.max_output_tokens),
        (Some(100), Some(200), None)
    );
    assert_eq!((peek.n, peek.output_limit()), (Some(1), Some(200)));
    assert_eq!(peek.user_str(body).map(|user| user.eq_str("u-1")), Some(true));
}

#[test]
fn a_body_cut_anywhere_is_refused() {
    let body = br#"{"model":"a\"b","messages":[{"content":"x\\"},[]],"stream":false,"n":12}"#;
    assert!(peek(body).is_ok());
    for cut in 0..body.len() {
        assert!(peek(&body[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn nothing_inside_other_values_is_taken_for_a_member() {
    assert_eq!(model(r#"{"a":{"model":"x"},"b":[{"model":"y"}],"c":"\",\"model\":\"z"}"#), None);
    assert_eq!(model(r#"{"a":"\\","model":"b"}"#).as_deref(), Some("b"));
    assert_eq!(model(r#"{"a":"\\\"","model":"b"}"#).as_deref(), Some("b"));
    assert_eq!(model("{}"), None);
    assert_eq!(model(r#"{"model":null}"#), None);
}

#[test]
fn an_escaped_key_is_the_same_key() {
    assert_eq!(model(r#"{"mod\u0065l":"a"}"#).as_deref(), Some("a"));
    assert_eq!(model(r#"{"\u006D\u006f\u0064\u0065\u006c":"\u0061"}"#).as_deref(), Some("a"));
    assert_eq!(model(r#"{"mode\u006c\u0000":"a"}"#), None);
    assert_eq!(model(r#"{"mod\\u0065l":"a"}"#), None);
}

#[test]
fn two_members_of_one_name_are_refused_however_they_are_spelled() {
    assert_eq!(bad(r#"{"model":"cheap","model":"dear"}"#), Bad::DuplicateKey);
    assert_eq!(bad(r#"{"model":"cheap","mod\u0065l":"dear"}"#), Bad::DuplicateKey);
    assert_eq!(bad(r#"{"model":null,"model":"dear"}"#), Bad::DuplicateKey);
    assert_eq!(bad(r#"{"stream":true,"x":1,"stream":true}"#), Bad::DuplicateKey);
    assert_eq!(bad(r#"{"stream_options":{"include_usage":true,"include_usage":false}}"#), Bad::DuplicateKey);
    assert!(peek(br#"{"x":1,"x":2}"#).is_ok(), "others are the upstream's business");
}

#[test]
fn keys_that_only_a_case_folding_reader_would_take_are_refused() {
    for key in ["Model", "MODEL", "\\u004dodel", "\u{17f}tream", "max_to\u{212a}ens", "N", "User"] {
        assert_eq!(bad(&format!(r#"{{"{key}":"x"}}"#)), Bad::KeyAlias, "{key}");
    }
    for key in ["Models", "mödel", "model ", "", "messages", "X-Model", "\\ud800"] {
        assert_eq!(model(&format!(r#"{{"{key}":1}}"#)), None, "{key}");
    }
}

#[test]
fn the_root_is_one_object_and_nothing_follows_it() {
    for body in ["[]", "1", "\"x\"", "null", "\u{feff}{}", "x"] {
        assert_eq!(bad(body), Bad::NotAnObject, "{body}");
    }
    for body in ["{}{}", "{} x", "{},", "{}\0", "{}}"] {
        assert_eq!(bad(body), Bad::Trailing, "{body}");
    }
    for body in ["", "  ", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a", "{\"a\":\"b"] {
        assert_eq!(bad(body), Bad::Truncated, "{body}");
    }
    assert!(peek(b"\r\n\t {} \r\n\t").is_ok());
}

#[test]
fn a_malformed_top_level_is_refused() {
    for body in [
        "{,}",
        "{1:2}",
        "{\"a\" 1}",
        "{\"a\":1 \"b\":2}",
        "{\"a\":1,}",
        "{\"a\":1;\"b\":2}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":x}",
        "{\"a\":True}",
        "{\"a\":nul}",
        "{\"a\":\\\"}\"}",
        "{\"a\":1]",
        "{\"a\":/**/1}",
        "{\"a\"::1}",
        "{\"a\":[}]}",
        "{\"a\":[{]}}",
        "{\"a\":[\\\"]\"]}",
        "{\"a\":1}\u{b}",
        "{\"a\":\"b\"\"c\"}",
    ] {
        assert!(peek(body.as_bytes()).is_err(), "{body}");
    }
    for number in ["01", "1.", ".5", "-", "+1", "1e", "0x1", "1_0", "NaN", "Infinity"] {
        assert!(peek(format!("{{\"a\":{number}}}").as_bytes()).is_err(), "{number}");
    }
}

#[test]
fn members_that_are_acted_upon_have_their_type() {
    for body in [
        r#"{"model":1}"#,
        r#"{"model":["a"]}"#,
        r#"{"stream":1}"#,
        r#"{"stream":"true"}"#,
        r#"{"max_tokens":"1"}"#,
        r#"{"n":true}"#,
        r#"{"stream_options":[]}"#,
        r#"{"stream_options":{"include_usage":1}}"#,
    ] {
        assert_eq!(bad(body), Bad::WrongType, "{body}");
    }
    let read = peek(br#"{"max_tokens":-1,"n":1.5,"stream":null,"stream_options":null,"user":7}"#).unwrap();
    assert_eq!(
        (read.max_tokens, read.n, read.stream, read.include_usage, read.user),
        (None, None, false, None, None)
    );
    assert!(read.stream_span.is_some() && read.stream_options.is_some());
    assert_eq!(peek(b"{\"n\":18446744073709551615}").unwrap().n, Some(u64::MAX));
    assert_eq!(peek(b"{\"n\":18446744073709551616}").unwrap().n, None);
}

#[test]
fn a_model_that_is_no_text_is_refused() {
    assert_eq!(bad(r#"{"model":"\x"}"#), Bad::String);
    assert_eq!(bad("{\"model\":\"a\nb\"}"), Bad::String);
    assert_eq!(bad(r#"{"model":"\ud800"}"#), Bad::LoneSurrogate);
    assert_eq!(peek(b"{\"model\":\"\xff\"}").unwrap_err(), JsonError { kind: Bad::NotUtf8, at: 10 });
}

#[test]
fn nesting_ends_at_128_levels() {
    let nested = |levels: usize| {
        let inner = levels - 1;
        format!("{{\"a\":{}{},\"model\":\"m\"}}", "[".repeat(inner), "]".repeat(inner))
    };
    assert_eq!(model(&nested(DEPTH_MAX)).as_deref(), Some("m"));
    assert_eq!(bad(&nested(DEPTH_MAX + 1)), Bad::TooDeep);
    assert_eq!(bad(&format!("{{\"a\":{}", "[{\"a\":".repeat(1_000_000))), Bad::TooDeep);
}

#[test]
fn strings_may_end_at_any_place_of_a_block() {
    for length in 0..200 {
        for escape in ["", "\\\\", "\\\"", "\\\\\\\""] {
            let body = format!(
                r#"{{"a":"{}{escape}","b":["{}{escape}",{{}}],"model":"{}{escape}"}}"#,
                "x".repeat(length),
                "y".repeat(length),
                "z".repeat(length)
            );
            let expected = format!(
                "{}{}",
                "z".repeat(length),
                escape.replace("\\\\", "\0").replace("\\\"", "\"").replace('\0', "\\")
            );
            assert_eq!(model(&body), Some(expected), "{body}");
        }
    }
}
