//! Hostile and odd requests on the wire: what is refused, how, and that no provider ever sees any of it.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use sluice::rehearsal::Mock;

use crate::support::*;

/// What came back on a connection until it was closed, or until nothing more came.
pub struct Answers {
    pub all: Vec<Got>,
    pub closed: bool,
}

impl Answers {
    pub fn statuses(&self) -> Vec<u16> {
        self.all.iter().map(|got| got.status).collect()
    }
}

/// Sends bytes and reads every answer to them; `patience` is how long a connection that stays open is listened to.
pub fn exchange(addr: SocketAddr, bytes: &[u8], patience: Duration) -> Answers {
    let mut client = Client::to(addr);
    client.stream.set_read_timeout(Some(patience)).unwrap();
    // The gateway may answer and stop reading before all of it is sent.
    let _ = client.stream.write_all(bytes);
    let mut all = Vec::new();
    loop {
        let got = client.read();
        if got.status == 0 {
            return Answers { all, closed: client.ended() };
        }
        all.push(got);
    }
}

const PATIENCE: Duration = Duration::from_millis(80);

fn gateway_before(
    mock: &Mock,
    driver: sluice::config::DriverChoice,
    more: &[&str],
) -> sluice::gateway::Running {
    chain(mock.addr(), None, driver, more)
}

/// A head for a chat request, to be completed.
const POST: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";

/// Requests that are refused on sight with a status, after which the connection is closed.
const REFUSED: [(&str, &str, u16); 34] = [
    ("length and chunked", "{P}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    ("two lengths", "{P}Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 400),
    ("signed length", "{P}Content-Length: +5\r\n\r\nhello", 400),
    ("length too large for anything", "{P}Content-Length: 18446744073709551616\r\n\r\n", 400),
    ("length past the limit", "{P}Content-Length: 9223372036854775807\r\n\r\n", 413),
    ("space before the colon", "{P}Content-Length : 5\r\n\r\nhello", 400),
    ("unknown coding", "{P}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("chunked twice", "{P}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
    ("folded line", "{P}X: y\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
    ("bare line feed", "{P}X: y\nContent-Length: 0\r\n\r\n", 400),
    ("bare carriage return", "{P}X: y\rContent-Length: 0\r\n\r\n", 400),
    ("line feed after the chunk size", "{P}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", 400),
    ("chunk longer than it says", "{P}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX\r\n0\r\n\r\n", 400),
    ("chunk size past the limit", "{P}Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx", 413),
    (
        "trailer with a length",
        "{P}Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nContent-Length: 50\r\n\r\n",
        400,
    ),
    (
        "chunked in 1.0",
        "POST /v1/messages HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    ("no host", "GET /v1/models HTTP/1.1\r\n\r\n", 400),
    ("two hosts", "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
    ("path in the host", "GET /v1/models HTTP/1.1\r\nHost: localhost/?x=\r\n\r\n", 400),
    ("two spaces", "GET  /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("old protocol", "GET /v1/models\r\n\r\n", 400),
    ("next protocol", "GET /v1/models HTTP/2.0\r\nHost: localhost\r\n\r\n", 505),
    ("fragment", "GET /v1/models#x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("dot segments", "GET /v1/../admin HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("encoded dot segments", "GET /v1/%2e%2e/admin HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ("tunnel", "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: 169.254.169.254:80\r\n\r\n", 501),
    ("unknown expectation", "{P}Content-Length: 2\r\nExpect: x\r\n\r\n{}", 417),
    ("compressed body", "{P}Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}", 415),
    ("foreign origin", "{P}Origin: https://evil.example\r\nContent-Length: 2\r\n\r\n{}", 403),
    ("cross-site fetch", "{P}Sec-Fetch-Site: cross-site\r\nContent-Length: 2\r\n\r\n{}", 403),
    (
        "rebound host",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: rebind.example\r\nContent-Length: 2\r\n\r\n{}",
        421,
    ),
    (
        "form post",
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}",
        415,
    ),
    (
        "preflight",
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n",
        403,
    ),
    (
        "two credentials",
        "{P}Authorization: Bearer a\r\nAuthorization: Bearer b\r\nContent-Length: 2\r\n\r\n{}",
        400,
    ),
];

#[test]
fn a_request_that_two_servers_could_read_differently_is_refused_and_its_connection_closed() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        for (name, bytes, status) in REFUSED {
            // A second request behind it must never be read as one.
            let bytes = bytes.replace("{P}", POST) + "GET /v1/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
            let answers = exchange(gateway.addr(), bytes.as_bytes(), PATIENCE * 10);
            assert_eq!(answers.statuses(), [status], "{name}");
            assert!(answers.closed, "{name}: still open");
            assert!(!answers.all[0].head.to_ascii_lowercase().contains("access-control-allow"), "{name}");
            assert_eq!(answers.all[0].header("connection"), Some("close"), "{name}");
            assert!(answers.all[0].json()["error"]["message"].is_string(), "{name}");
        }
        let counts = mock.counts();
        assert_eq!((counts.requests, counts.connections, gateway.panics()), (0, 0, 0));
    });
}

#[test]
fn requests_in_one_packet_are_answered_in_their_order() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        let three: Vec<u8> = ["gpt-4o", "gpt-4o-mini", "gpt-5-mini"]
            .iter()
            .flat_map(|model| request("/v1/chat/completions", "", &CHAT.replace("gpt-4o-mini", model)))
            .collect();
        let answers = exchange(gateway.addr(), &three, PATIENCE * 4);
        let models: Vec<_> = answers.all.iter().map(|got| got.json()["model"].clone()).collect();
        assert_eq!(models, ["gpt-4o", "gpt-4o-mini", "gpt-5-mini"]);
        assert!(!answers.closed);
        // A stream in front does not eat what follows it either.
        let two =
            [request("/v1/chat/completions", "", CHAT_STREAM), request("/v1/chat/completions", "", CHAT)]
                .concat();
        let answers = exchange(gateway.addr(), &two, PATIENCE * 4);
        assert_eq!(answers.statuses(), [200, 200]);
        assert!(answers.all[0].text().ends_with("data: [DONE]\n\n"));
        assert_eq!(answers.all[1].json()["object"], "chat.completion");
    });
}

#[test]
fn a_request_behind_connection_close_is_not_read() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        let two = [
            request("/v1/chat/completions", "Connection: close\r\n", CHAT),
            request("/v1/chat/completions", "", CHAT),
        ]
        .concat();
        let answers = exchange(gateway.addr(), &two, PATIENCE * 10);
        assert_eq!((answers.statuses(), answers.closed), (vec![200], true));
        assert_eq!(answers.all[0].header("connection"), Some("close"));
        assert_eq!(mock.counts().requests, 1);
    });
}

#[test]
fn a_body_in_chunks_is_sent_on_with_a_length() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        let mut bytes = format!("{POST}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
        for piece in CHAT.as_bytes().chunks(7) {
            bytes.extend_from_slice(format!("{:x};a=b\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nX-Trailer: 1\r\n\r\n");
        let mut client = Client::to(gateway.addr());
        // At once, and byte by byte in two halves.
        client.send(&bytes);
        assert_eq!(client.read().status, 200);
        for half in bytes.chunks(bytes.len() / 2 + 1) {
            client.send(half);
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(client.read().status, 200);
        let expected = CHAT.replace("openai/", "");
        for seen in mock.requests() {
            assert_eq!(String::from_utf8_lossy(&seen.body), expected);
            let field = |name: &str| seen.headers.iter().filter(|(n, _)| n == name).count();
            assert_eq!((field("content-length"), field("transfer-encoding"), field("x-trailer")), (1, 0, 0));
        }
    });
}

#[test]
fn a_client_that_asks_before_it_uploads_is_told_to_go_on_unless_it_need_not() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &["limits.body=2KiB"]);
        let mut client = Client::to(gateway.addr());
        let head = format!("{POST}Expect: 100-continue\r\nContent-Length: {}\r\n\r\n", CHAT.len());
        client.send(head.as_bytes());
        assert_eq!(client.read().status, 100);
        client.send(CHAT.as_bytes());
        assert_eq!(client.read().status, 200);
        let expects = mock.requests()[0].headers.iter().any(|(name, _)| name == "expect");
        assert!(!expects, "passed on");
        // A body that came along needs no leave.
        client.send(&request("/v1/chat/completions", "Expect: 100-continue\r\n", CHAT));
        assert_eq!(client.read().status, 200);
        // One that will be refused gets none.
        let head = format!("{POST}Expect: 100-continue\r\nContent-Length: 2049\r\n\r\n");
        client.send(head.as_bytes());
        assert_eq!(client.read().status, 413);
    });
}

#[test]
fn a_body_may_have_its_limit_and_not_one_byte_more() {
    const LIMIT: usize = 2048;
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &["limits.body=2KiB"]);
        for (size, status) in [(LIMIT, 200), (LIMIT + 1, 413)] {
            let filler = "x".repeat(size - CHAT.len());
            let body = CHAT.replace("Say hello", &format!("Say hello{filler}"));
            assert_eq!(body.len(), size);
            let answers = exchange(
                gateway.addr(),
                &request("/v1/chat/completions", "Connection: close\r\n", &body),
                PATIENCE * 10,
            );
            assert_eq!(answers.statuses(), [status], "{size} with a length");
            for chunk in [100, size] {
                let mut bytes =
                    format!("{POST}Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n").into_bytes();
                for piece in body.as_bytes().chunks(chunk) {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
                let answers = exchange(gateway.addr(), &bytes, PATIENCE * 10);
                assert_eq!(answers.statuses(), [status], "{size} in chunks of {chunk}");
            }
        }
    });
}

#[test]
fn a_head_may_have_its_limits_and_not_more() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        let fields = |n: usize| {
            let more = "X-A: b\r\n".repeat(n - 2);
            format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n")
        };
        let sized = |n: usize| {
            let start = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nX: ";
            format!("{start}{}\r\n\r\n", "a".repeat(n - start.len() - 4))
        };
        let line = |n: usize| {
            let (start, end) = ("GET /healthz?", " HTTP/1.1");
            let query = "q".repeat(n - start.len() - end.len());
            format!("{start}{query}{end}\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        };
        for (name, bytes, status) in [
            ("100 fields", fields(100), 200),
            ("101 fields", fields(101), 431),
            ("64 KiB", sized(64 << 10), 200),
            ("64 KiB and a byte", sized((64 << 10) + 1), 431),
            ("a line of 8 KiB", line(8 << 10), 200),
            ("a line of 8 KiB and a byte", line((8 << 10) + 1), 414),
            ("a method without end", "A".repeat(100_000), 400),
        ] {
            let answers = exchange(gateway.addr(), bytes.as_bytes(), PATIENCE * 10);
            assert_eq!((answers.statuses(), answers.closed), (vec![status], true), "{name}");
        }
    });
}

#[test]
fn a_head_or_a_body_that_crawls_in_is_cut_off() {
    std::thread::scope(|scope| {
        each_driver(|driver| {
            scope.spawn(move || {
                let mock = provider("ok");
                let gateway = gateway_before(&mock, driver, &["timeouts.request_head=300ms"]);
                let mut client = Client::to(gateway.addr());
                let begun = Instant::now();
                for byte in "GET /v1/models HTTP/1.1\r\n".bytes().take(6) {
                    client.send(&[byte]);
                    std::thread::sleep(Duration::from_millis(40));
                }
                assert_eq!(client.read().status, 408);
                let took = begun.elapsed();
                assert!(took >= Duration::from_millis(300) && took < Duration::from_millis(900), "{took:?}");
                // Bytes of a body have five seconds of grace.
                let mut client = Client::to(gateway.addr());
                client.send(format!("{POST}Content-Length: 1000\r\n\r\n{{").as_bytes());
                let begun = Instant::now();
                let got = client.read();
                assert_eq!((got.status, got.header("connection")), (408, Some("close")));
                let took = begun.elapsed();
                assert!(took >= Duration::from_secs(5) && took < Duration::from_millis(5900), "{took:?}");
                assert_eq!(mock.counts().requests, 0);
            });
        });
    });
}

#[test]
fn an_idle_connection_is_closed_in_silence() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &["timeouts.client_idle=200ms"]);
        let begun = Instant::now();
        let mut client = Client::to(gateway.addr());
        assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
        assert!(client.is_closed());
        assert!(begun.elapsed() >= Duration::from_millis(200));
        let mut silent = Client::to(gateway.addr());
        assert!(silent.is_closed());
    });
}

#[test]
fn clients_without_a_key_are_told_so_before_they_upload() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &["auth=[client-key]"]);
        let post = |field: &str| {
            let bytes = request("/v1/chat/completions", field, CHAT);
            exchange(gateway.addr(), &bytes, PATIENCE).statuses()
        };
        for field in
            ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic client-key\r\n", "x-api-key: \r\n"]
        {
            assert_eq!(post(field), [401], "{field}");
        }
        let begun = Instant::now();
        let head = format!("{POST}Content-Length: 1000000\r\n\r\n");
        let answers = exchange(gateway.addr(), head.as_bytes(), PATIENCE * 10);
        assert_eq!((answers.statuses(), answers.closed), (vec![401], true));
        assert!(begun.elapsed() < Duration::from_millis(700), "waited for the body");
        assert_eq!(mock.counts().requests, 0);
        for field in [
            "Authorization: Bearer client-key\r\n",
            "authorization: bearer client-key\r\n",
            "x-api-key: client-key\r\n",
        ] {
            assert_eq!(post(field), [200], "{field}");
        }
        assert_eq!(
            exchange(gateway.addr(), b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", PATIENCE)
                .statuses(),
            [200]
        );
        assert_eq!(
            exchange(gateway.addr(), b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", PATIENCE)
                .statuses(),
            [401]
        );
        let leaked =
            mock.requests().iter().any(|seen| seen.headers.iter().any(|(_, v)| v.contains("client-key")));
        assert!(!leaked, "a client's key reached a provider");
    });
}

#[test]
fn head_is_answered_without_a_body_and_the_connection_goes_on() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = gateway_before(&mock, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for (path, status) in [("/healthz", "200"), ("/v1/models", "200"), ("/nothing", "404")] {
            client.send(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes());
            let head = client.read_head();
            assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {head}");
        }
        assert_eq!(client.get("/healthz").status, 200);
    });
}
