//! The framing corpus, where it lies beside the repository: every request row against a gateway, every response row as
//! what a provider says. The rules themselves are also in [`super::framing`] and [`super::answers`], which need no files.

use std::path::Path;
use std::time::Duration;

use crate::framing::exchange;
use crate::raw::*;
use crate::support::*;

struct Case {
    id: String,
    area: String,
    expect: String,
    bytes: Vec<u8>,
}

/// The rows of the corpus; none, with a message, when it is not there.
fn cases(area: &str) -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/http/own-framing/cases.jsonl");
    let Ok(text) = std::fs::read_to_string(path) else {
        println!("skipped: the framing corpus is not beside the repository");
        return Vec::new();
    };
    let rows = text.lines().map(|line| {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let mut bytes = base64(&text("b64"));
        // The largest rows are kept as their beginning.
        match row["id"].as_str() {
            Some("R52") => {
                let chunks = "1;x=y\r\nA\r\n".repeat(20_000);
                bytes = [&b"POST /v1/chat/completions HTTP/1.1\r\nHost: __HOST__\r\nTransfer-Encoding: chunked\r\n\r\n"[..], chunks.as_bytes()].concat();
            }
            Some("U28") => bytes = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "a".repeat(600_000)).into(),
            _ => {}
        }
        Case { id: text("id"), area: text("area"), expect: text("expect"), bytes }
    });
    rows.filter(|case| case.area == area).collect()
}

fn base64(text: &str) -> Vec<u8> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut out, mut bits, mut have) = (Vec::new(), 0u32, 0);
    for byte in text.bytes().filter(|b| *b != b'=') {
        bits = bits << 6 | LETTERS.iter().position(|l| *l == byte).unwrap() as u32;
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    out
}

fn replaced(bytes: &[u8], what: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(what.len()).position(|w| w == what) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + what.len()..];
    }
    out.extend_from_slice(rest);
    out
}

/// Statuses of all answers, and whether the connection is closed behind them, for rows whose table says more than a
/// status. Their bodies are not JSON, so a request that is taken gets a 400 in words and keeps its connection.
fn special(id: &str) -> Option<(&'static [u16], bool)> {
    Some(match id {
        // A missing client key is 401; these gateways have none, so what is wrong with the body decides.
        "R17" | "R61" => (&[413], true),
        "R24" => (&[501], true),
        // Legal framing around a body that does not say what it is, or around none.
        "R50" | "R65" => (&[415], false),
        "R69" | "R126" => (&[400], false),
        "R128" => (&[401], true),
        "R64" => (&[408], true),
        "R68" | "R106" | "R107" => (&[431], true),
        "R70" => (&[415, 400], true),
        "R79" | "R94" | "R104" | "R114" => (&[200], false),
        "R80" => (&[501], true),
        "R91" | "R93" => (&[505], true),
        "R108" => (&[414], true),
        // The body came along, so no leave to send it is needed.
        "R110" => (&[415], false),
        "R111" => (&[417], true),
        "R113" => (&[200, 404], false),
        // The body of a GET is a body.
        "R115" => (&[200], false),
        "R116" => (&[404], false),
        "R117" => (&[401], true),
        "R118" => (&[200], true),
        "R119" => (&[200, 200], false),
        "R121" | "R125" => (&[400], true),
        "R122" | "R123" | "R124" => (&[404], true),
        "R129" => (&[415], true),
        "R130" => (&[403], true),
        "R131" => (&[421], true),
        "R132" => (&[403], true),
        _ => return None,
    })
}

#[test]
fn every_request_row_behaves_as_its_table_says() {
    each_driver(|driver| {
        let mock = provider("ok");
        let open = chain(mock.addr(), None, driver, &[]);
        let locked = chain(mock.addr(), None, driver, &["auth=[client-key]"]);
        let mut wrong = Vec::new();
        for case in cases("request") {
            let (statuses, closed) = match special(&case.id) {
                Some(expected) => expected,
                None => {
                    assert!(case.expect.contains("400+close"), "{}: {}", case.id, case.expect);
                    (&[400][..], true)
                }
            };
            let gateway = if matches!(&*case.id, "R117" | "R128") { &locked } else { &open };
            let bytes = replaced(&case.bytes, b"__HOST__", b"localhost");
            let patience = Duration::from_millis(match &*case.id {
                "R64" => 7000,
                _ if closed => 1500,
                _ => 100,
            });
            let answers = exchange(gateway.addr(), &bytes, patience);
            if answers.statuses() != statuses || answers.closed != closed {
                wrong.push(format!(
                    "{} ({}): {:?}, closed: {}",
                    case.id,
                    case.expect,
                    answers.statuses(),
                    answers.closed
                ));
            }
            let allows = |got: &Got| got.head.to_ascii_lowercase().contains("access-control-allow");
            assert!(!answers.all.iter().any(allows), "{}: a CORS permission", case.id);
        }
        assert!(wrong.is_empty(), "{driver:?}:\n{}", wrong.join("\n"));
        // Nothing but the gateway's own question for the list of models went out.
        let asked: Vec<String> = mock.requests().iter().map(|r| format!("{} {}", r.method, r.path)).collect();
        assert!(asked.iter().all(|line| line == "GET /v1/models"), "{asked:?}");
        assert_eq!((mock.counts().malformed, open.panics() + locked.panics()), (0, 0));
    });
}

/// What a client that asked for a whole answer must get when its provider says this: a status, and what the body has.
fn unary(id: &str) -> (u16, &'static str) {
    match id {
        // Legal, if odd: `{}` is a whole JSON answer without an error.
        "U15" | "U17" | "U30" | "U31" => (200, "{}"),
        _ => (502, "\"error\""),
    }
}

#[test]
fn every_response_row_behaves_as_its_table_says() {
    each_driver(|driver| {
        let mut wrong = Vec::new();
        for case in cases("response") {
            // These are about connections and times, not bytes: see `answers` and `paths`.
            if matches!(&*case.id, "U16" | "U37" | "U38" | "U39" | "U40" | "U41") {
                continue;
            }
            for body in [CHAT, CHAT_STREAM] {
                let raw = Raw::says(case.bytes.clone());
                let alone = chain(raw.addr, None, driver, &[]);
                let mut client = Client::to(alone.addr());
                let got = client.post("/v1/chat/completions", body);
                let (status, has) = unary(&case.id);
                let status = if body == CHAT_STREAM { 502 } else { status };
                let mut fine = got.status == status && (status != 200 || got.text() == has);
                for name in
                    ["set-cookie", "alt-svc", "strict-transport-security", "x-secret", "location", "link"]
                {
                    fine &= got.header(name).is_none();
                }
                // What came behind an answer is never the next one.
                let again = client.post("/v1/chat/completions", CHAT);
                fine &= !again.text().starts_with("bad");
                let backup = provider("ok");
                let pair = chain(raw.addr, Some(backup.addr()), driver, &[]);
                let rescued = Client::to(pair.addr()).post("/v1/chat/completions", body);
                let by = if status == 200 { "openai" } else { "backup" };
                fine &= rescued.header("x-sluice-provider") == Some(by) && rescued.whole;
                if !fine {
                    wrong.push(format!(
                        "{} ({}): {} {}\n{}{}",
                        case.id,
                        case.expect,
                        body == CHAT_STREAM,
                        got.head,
                        got.text(),
                        rescued.head
                    ));
                }
            }
        }
        assert!(wrong.is_empty(), "{driver:?}:\n{}", wrong.join("\n"));
    });
}
