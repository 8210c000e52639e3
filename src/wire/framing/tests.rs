use super::*;
use crate::wire::head::{HeadLimits, Parsed, parse_request, parse_response};
use HeadError as Bad;

fn framed(bytes: &[u8]) -> Result<RequestFraming, HeadError> {
    let mut fields = Fields::new();
    match parse_request(bytes, &mut fields, &HeadLimits::REQUEST)? {
        Parsed::Complete(head) => frame_request(&head, &fields, bytes),
        Parsed::Partial => panic!("partial: {}", bytes.escape_ascii()),
    }
}

/// A POST with these field lines (without Host).
fn post(lines: &str) -> Result<RequestFraming, HeadError> {
    framed(format!("POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n{lines}\r\n").as_bytes())
}

fn answered(status: &str, lines: &str, to_head: bool) -> Result<ResponseFraming, HeadError> {
    let bytes = format!("{status}\r\n{lines}\r\n");
    let mut fields = Fields::new();
    match parse_response(bytes.as_bytes(), &mut fields, &HeadLimits::RESPONSE)? {
        Parsed::Complete(head) => frame_response(&head, &fields, bytes.as_bytes(), to_head),
        Parsed::Partial => panic!("partial: {bytes}"),
    }
}

#[test]
fn a_request_has_no_body_a_length_or_chunks() {
    let cases = [
        ("", Body::None),
        ("Content-Length: 0\r\n", Body::Length(0)),
        ("Content-Length: 5\r\n", Body::Length(5)),
        ("Content-Length: \t5 \r\n", Body::Length(5)),
        ("Content-Length: 9999999999999999999\r\n", Body::Length(9_999_999_999_999_999_999)),
        ("Transfer-Encoding: chunked\r\n", Body::Chunked),
        ("TRANSFER-ENCODING: \tChunKED \r\n", Body::Chunked),
    ];
    for (lines, body) in cases {
        assert_eq!(post(lines).map(|framing| framing.body), Ok(body), "{lines:?}");
    }
}

#[test]
fn lengths_that_two_readers_could_read_in_two_ways_are_refused() {
    for value in [
        "",
        "+5",
        "-5",
        "0x5",
        "1_0",
        "5.0",
        "5e0",
        "010",
        "00",
        "5, 5",
        "5,6",
        "5 5",
        "18446744073709551616",
        "\u{0665}",
    ] {
        assert_eq!(post(&format!("Content-Length: {value}\r\n")), Err(Bad::ContentLength), "{value:?}");
    }
    assert_eq!(post("Content-Length: 5\r\nContent-Length: 5\r\n"), Err(Bad::Repeated(Known::ContentLength)));
    assert_eq!(post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(Bad::LengthAndEncoding));
    assert_eq!(post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), Err(Bad::LengthAndEncoding));
}

#[test]
fn transfer_encoding_is_chunked_alone() {
    let cases = [
        ("", Bad::TransferEncoding),
        ("chunked, chunked", Bad::TransferEncoding),
        ("gzip, chunked", Bad::TransferCoding),
        ("GZIP , deflate,chunked", Bad::TransferCoding),
        ("chunked, gzip", Bad::TransferEncoding),
        ("gzip", Bad::TransferEncoding),
        ("identity", Bad::TransferEncoding),
        ("identity, chunked", Bad::TransferEncoding),
        ("xchunked", Bad::TransferEncoding),
        (",chunked", Bad::TransferEncoding),
        ("chunked,", Bad::TransferEncoding),
        ("chunked;q=1", Bad::TransferEncoding),
        ("\"chunked\"", Bad::TransferEncoding),
        ("\u{a0}chunked", Bad::TransferEncoding),
    ];
    for (value, expected) in cases {
        assert_eq!(post(&format!("Transfer-Encoding: {value}\r\n")), Err(expected), "{value:?}");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(post(twice), Err(Bad::Repeated(Known::TransferEncoding)));
    let old = b"POST / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(framed(old), Err(Bad::EncodingInOldVersion));
}

#[test]
fn fields_that_may_come_once_come_once() {
    for name in ["Authorization", "x-api-key", "api-key", "Content-Type", "Expect", "Host", "Idempotency-Key"]
    {
        let lines = format!("{name}: a\r\n{}: a\r\n", name.to_uppercase());
        assert!(matches!(post(&lines), Err(Bad::Repeated(_))), "{name}");
    }
    assert!(post("Accept: a\r\nAccept: b\r\nCookie: c\r\nCookie: d\r\n").is_ok());
}

#[test]
fn names_with_underscores_that_shadow_real_ones_are_refused() {
    assert_eq!(post("Content_Length: 5\r\n"), Err(Bad::UnderscoreAlias));
    assert_eq!(post("transfer_encoding: chunked\r\n"), Err(Bad::UnderscoreAlias));
    assert!(post("my_field: 1\r\n").is_ok());
}

#[test]
fn connection_decides_reuse_and_nominates_nothing_that_matters() {
    let reuse = |lines: &str| post(lines).map(|framing| framing.keep_alive);
    assert_eq!(reuse(""), Ok(true));
    assert_eq!(reuse("Connection: close\r\n"), Ok(false));
    assert_eq!(reuse("Connection: keep-alive\r\nConnection: x, CLOSE\r\n"), Ok(false));
    assert_eq!(reuse("Connection: , Upgrade,\tHTTP2-Settings,\r\n"), Ok(true));
    for name in [
        "Content-Length",
        "transfer-encoding",
        "Host",
        "Authorization",
        "content-type",
        "Cookie",
        "x-api-key",
    ] {
        assert_eq!(reuse(&format!("Connection: close, {name}\r\n")), Err(Bad::Nomination), "{name}");
    }
    for value in ["a b", "a;b", "\"close\"", "clos\u{e9}"] {
        assert_eq!(reuse(&format!("Connection: {value}\r\n")), Err(Bad::ConnectionValue), "{value}");
    }
    let old = |lines: &str| framed(format!("GET / HTTP/1.0\r\n{lines}\r\n").as_bytes()).map(|f| f.keep_alive);
    assert_eq!(old(""), Ok(false));
    assert_eq!(old("Connection: Keep-Alive\r\n"), Ok(true));
}

#[test]
fn expect_is_100_continue_or_refused() {
    let expects = |lines: &str| post(lines).map(|framing| framing.expect_continue);
    assert_eq!(expects("Content-Length: 5\r\nExpect: 100-Continue\r\n"), Ok(true));
    assert_eq!(expects("Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"), Ok(true));
    assert_eq!(expects("Expect: 100-continue\r\n"), Ok(false), "there is no body to wait for");
    assert_eq!(expects("Content-Length: 5\r\nExpect: y 100-continue\r\n"), Err(Bad::Expectation));
    assert_eq!(expects("Expect:\r\n"), Err(Bad::Expectation));
    let old = b"POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(framed(old).map(|framing| framing.expect_continue), Ok(false));
}

#[test]
fn host_is_there_and_is_a_plain_authority() {
    let with = |host: &str| framed(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).map(drop);
    for host in [
        "h",
        "localhost:8080",
        "api.example.com",
        "my_service:80",
        "127.0.0.1:65535",
        "[::1]",
        "[::1]:8080",
        "[::ffff:1.2.3.4]",
    ] {
        assert_eq!(with(host), Ok(()), "{host}");
    }
    for host in [
        "",
        "a/?x=",
        "localhost:4000/#@attacker.example",
        "user@h",
        "a,b",
        "a b",
        "h:",
        "h:0x50",
        "h:65536",
        "h:123456",
        ":80",
        "[::1",
        "::1",
        "[]",
        "[::1]x",
        "[::1]:",
        "[g::1]",
        "h:80:80",
        "caf\u{e9}",
        "a%2eb",
        "a\\b",
    ] {
        assert_eq!(with(host), Err(Bad::HostValue), "{host}");
    }
    assert_eq!(framed(b"GET / HTTP/1.1\r\n\r\n"), Err(Bad::HostMissing));
    assert!(framed(b"GET / HTTP/1.0\r\n\r\n").is_ok());
}

#[test]
fn target_forms_fit_their_methods() {
    let with = |line: &str| framed(format!("{line} HTTP/1.1\r\nHost: h:80\r\n\r\n").as_bytes()).map(drop);
    assert_eq!(with("OPTIONS *"), Ok(()));
    assert_eq!(with("GET *"), Err(Bad::TargetForm));
    assert_eq!(with("GET v1/models"), Err(Bad::TargetForm));
    assert_eq!(with("GET h:80"), Err(Bad::TargetForm));
    assert_eq!(with("GET ftp://h:80/"), Err(Bad::TargetForm));
    assert_eq!(with("CONNECT h:80"), Err(Bad::Connect));
    assert_eq!(with("GET http://H:80/v1/models?a"), Ok(()));
    assert_eq!(with("GET http://h:80"), Ok(()));
    assert_eq!(with("GET http://other/v1/models"), Err(Bad::HostMismatch));
    assert_eq!(with("GET http:///v1/models"), Err(Bad::HostValue));
    assert_eq!(with("GET http://u@h:80/"), Err(Bad::HostValue));
}

#[test]
fn targets_are_split_and_never_normalised() {
    let cases: &[(&[u8], &[u8], &[u8])] = &[
        (b"/", b"/", b""),
        (b"/v1/models", b"/v1/models", b""),
        (b"/v1/models/", b"/v1/models/", b""),
        (b"/v1/models?a=/../b//;\\&c=^|", b"/v1/models", b"a=/../b//;\\&c=^|"),
        (b"/v1/a?b?c", b"/v1/a", b"b?c"),
        (b"/v1/models/ft:gpt-4o%3Ax@~!$&'()*+,=", b"/v1/models/ft:gpt-4o%3Ax@~!$&'()*+,=", b""),
        (
            b"/v1beta/models/gemini-2.5-pro:streamGenerateContent?alt=sse",
            b"/v1beta/models/gemini-2.5-pro:streamGenerateContent",
            b"alt=sse",
        ),
        (b"/a/...", b"/a/...", b""),
        (b"/.well-known", b"/.well-known", b""),
        (b"http://h", b"/", b""),
        (b"http://h?q", b"/", b"q"),
        (b"HTTPS://h:1/p", b"/p", b""),
        (b"*", b"*", b""),
    ];
    for (target, path, query) in cases {
        let expected = Ok(PathQuery { path, query });
        assert_eq!(check_target(target), expected, "{}", target.escape_ascii());
    }
}

#[test]
fn paths_that_could_be_read_in_two_ways_are_refused() {
    let cases: &[(&[u8], HeadError, u16)] = &[
        (b"", Bad::TargetForm, 400),
        (b"/v1/../admin", Bad::DotSegment, 400),
        (b"/v1/./admin", Bad::DotSegment, 400),
        (b"/v1/..", Bad::DotSegment, 400),
        (b"/.", Bad::DotSegment, 400),
        (b"/..?q", Bad::DotSegment, 400),
        (b"/v1/%2e%2e/admin", Bad::DotSegment, 400),
        (b"/v1/.%2E", Bad::DotSegment, 400),
        (b"//v1/models", Bad::EmptySegment, 404),
        (b"/v1//models", Bad::EmptySegment, 404),
        (b"/v1/models//", Bad::EmptySegment, 404),
        (b"/v1%2fmodels", Bad::EncodedSlash, 404),
        (b"/v1%2Fmodels", Bad::EncodedSlash, 404),
        (b"/v1%5cmodels", Bad::PathByte, 400),
        (b"/v1\\models", Bad::PathByte, 400),
        (b"/v1/%00", Bad::PathByte, 400),
        (b"/v1/\xc3\xa9", Bad::PathByte, 400),
        (b"/v1/<a>", Bad::PathByte, 400),
        (b"/v1/models;x", Bad::PathParameter, 404),
        (b"/v1/%zz", Bad::PercentEncoding, 400),
        (b"/v1/%", Bad::PercentEncoding, 400),
        (b"/v1/%4", Bad::PercentEncoding, 400),
        (b"/v1?a=%4", Bad::PercentEncoding, 400),
        (b"/v1/models#frag", Bad::Fragment, 400),
        (b"/v1?a#frag", Bad::Fragment, 400),
        (b"/v1?a\x80", Bad::TargetByte, 400),
    ];
    for (target, expected, status) in cases {
        assert_eq!(check_target(target), Err(*expected), "{}", target.escape_ascii());
        assert_eq!(expected.status(), *status, "{}", target.escape_ascii());
    }
}

#[test]
fn a_name_may_hold_an_encoded_slash_and_nothing_else_that_hides() {
    let name = check_target_of_name(b"/v1/models/openai%2Fgpt-4o-mini").unwrap();
    assert_eq!(name.path, b"/v1/models/openai%2Fgpt-4o-mini");
    assert_eq!(check_target(b"/v1/models/openai%2Fgpt-4o-mini").unwrap_err(), Bad::EncodedSlash);
    for hidden in [&b"/v1/models/a%5cb"[..], b"/v1/models/a%00", b"/v1/models/../x", b"/v1/models//x"] {
        assert!(check_target_of_name(hidden).is_err(), "{}", hidden.escape_ascii());
    }
}

#[test]
fn a_response_body_is_delimited_in_one_way() {
    let body = |lines: &str| answered("HTTP/1.1 200 OK", lines, false);
    let of = |body, keep_alive| Ok(ResponseFraming { body, keep_alive });
    assert_eq!(body("Content-Length: 2\r\n"), of(Body::Length(2), true));
    assert_eq!(body("Content-Length: 2\r\nConnection: close\r\n"), of(Body::Length(2), false));
    assert_eq!(body("Transfer-Encoding: chunked\r\n"), of(Body::Chunked, true));
    assert_eq!(body(""), of(Body::UntilClose, false));
    assert_eq!(body("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(Bad::LengthAndEncoding));
    assert_eq!(body("Content-Length: 5\r\nContent-Length: 6\r\n"), Err(Bad::Repeated(Known::ContentLength)));
    assert_eq!(body("Content-Length: abc\r\n"), Err(Bad::ContentLength));
    assert_eq!(body("Content-Length: 5, 5\r\n"), Err(Bad::ContentLength));
    assert_eq!(body("Transfer-Encoding: gzip\r\n"), Err(Bad::TransferEncoding));
    assert_eq!(body("Transfer-Encoding: chunked, chunked\r\n"), Err(Bad::TransferEncoding));
    let old = |lines: &str| answered("HTTP/1.0 200 OK", lines, false);
    assert_eq!(old("Transfer-Encoding: chunked\r\n"), Err(Bad::EncodingInOldVersion));
    assert_eq!(old("Content-Length: 2\r\nConnection: keep-alive\r\n"), of(Body::Length(2), false));
}

#[test]
fn responses_without_content_end_with_their_head() {
    let of = |keep_alive| Ok(ResponseFraming { body: Body::None, keep_alive });
    assert_eq!(answered("HTTP/1.1 204 No Content", "", false), of(true));
    assert_eq!(answered("HTTP/1.1 204 No Content", "Content-Length: 5\r\n", false), of(false));
    assert_eq!(answered("HTTP/1.1 304 Not Modified", "Content-Length: 5\r\n", false), of(true));
    assert_eq!(answered("HTTP/1.1 200 OK", "Content-Length: 5\r\n", true), of(true));
    assert_eq!(answered("HTTP/1.1 200 OK", "", true), of(true));
    assert_eq!(answered("HTTP/1.1 100 Continue", "", false), of(true));
    assert_eq!(answered("HTTP/1.1 103 Early Hints", "Link: x\r\n", false), of(true));
    assert_eq!(answered("HTTP/1.1 103 Early Hints", "Transfer-Encoding: chunked\r\n", false), of(false));
    assert_eq!(answered("HTTP/1.1 101 Switching Protocols", "", false), Err(Bad::Unrequested101));
}

#[test]
fn a_provider_cannot_nominate_its_content_type_away() {
    let lines =
        "Connection: x-secret, content-type\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    assert!(answered("HTTP/1.1 200 OK", lines, false).is_ok());
}

#[test]
fn a_content_type_said_twice_does_not_cost_an_answer() {
    let lines = "Content-Type: application/json\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
    assert!(answered("HTTP/1.1 200 OK", lines, false).is_ok());
}
