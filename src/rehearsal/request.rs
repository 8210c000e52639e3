//! Reads requests from a connection's bytes.
//!
//! Heads are parsed by `httparse` and bodies framed here, not by the gateway's `wire` room: a mistake there must not
//! find the same mistake on the other side.
//!
//! Limits: head 64 KiB and 200 fields (431), body 32 MiB (413). Left out: trailers (discarded) and chunk extensions
//! (ignored).

/// Most bytes and fields of a head.
const HEAD_BYTES: usize = 64 * 1024;
const HEAD_FIELDS: usize = 200;
/// Most bytes of a body, as the providers' own limit (32 MB).
pub(super) const BODY_BYTES: usize = 32 * 1024 * 1024;

/// A request head.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) method: String,
    /// Path and query as they came.
    pub(super) target: String,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) http10: bool,
    pub(super) keep_alive: bool,
    pub(super) expect_continue: bool,
    framing: Framing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
}

/// A whole request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
}

/// What the bytes so far amount to.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing new until more bytes come.
    More,
    /// The head is whole; told once.
    Head,
    Request(Request),
    /// The client broke HTTP: the status to say so with.
    Bad(u16, &'static str),
}

/// Reads one request after the other.
#[derive(Debug, Default)]
pub(super) struct Reader {
    head: Option<Head>,
    body: Vec<u8>,
}

impl Head {
    pub(super) fn path(&self) -> &str {
        self.target.split(['?', '#']).next().unwrap_or("")
    }

    /// The value of the first field of this name (lower case).
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The API key, wherever the dialect puts it; empty when there is none.
    pub(super) fn key(&self) -> &str {
        let bearer =
            self.field("authorization").map(|value| value.strip_prefix("Bearer ").unwrap_or(value).trim());
        bearer
            .or_else(|| self.field("x-api-key"))
            .or_else(|| self.field("api-key"))
            .or_else(|| self.field("x-goog-api-key"))
            .unwrap_or("")
    }

    pub(super) fn has_body(&self) -> bool {
        self.framing != Framing::Length(0)
    }
}

impl Reader {
    /// The head of the request whose body is being read.
    pub(super) fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// Nothing of a next request was seen.
    pub(super) fn is_idle(&self, input: &[u8]) -> bool {
        self.head.is_none() && input.is_empty()
    }

    /// Takes what it can from the front of `input`.
    pub(super) fn advance(&mut self, input: &mut Vec<u8>) -> Progress {
        let Some(head) = &self.head else {
            return match read_head(input) {
                Ok(Some((head, length))) => {
                    input.drain(..length);
                    self.head = Some(head);
                    Progress::Head
                }
                Ok(None) if input.len() > HEAD_BYTES => Progress::Bad(431, "the head is longer than 64 KiB"),
                Ok(None) => Progress::More,
                Err((status, why)) => Progress::Bad(status, why),
            };
        };
        let complete = match head.framing {
            Framing::Length(length) => {
                if input.len() >= length {
                    let rest = input.split_off(length);
                    self.body = std::mem::replace(input, rest);
                    true
                } else {
                    input.reserve(length.saturating_sub(input.len()));
                    false
                }
            }
            Framing::Chunked => match take_chunks(input, &mut self.body) {
                Ok(done) => done,
                Err(why) => return Progress::Bad(400, why),
            },
        };
        if self.body.len() > BODY_BYTES {
            return Progress::Bad(413, "the body is longer than 32 MiB");
        }
        match self.head.take() {
            Some(head) if complete => {
                Progress::Request(Request { head, body: std::mem::take(&mut self.body) })
            }
            head => {
                self.head = head;
                Progress::More
            }
        }
    }
}

fn read_head(input: &[u8]) -> Result<Option<(Head, usize)>, (u16, &'static str)> {
    let mut fields = [httparse::EMPTY_HEADER; HEAD_FIELDS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(input) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => return Err((431, "more than 200 header fields")),
        Err(_) => return Err((400, "the request head is not HTTP/1.1")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    let fields: Vec<(String, String)> =
        parsed.headers.iter().map(|field| (field.name.to_ascii_lowercase(), text(field.value))).collect();
    let all =
        |name: &'static str| fields.iter().filter(move |(known, _)| known == name).map(|(_, value)| value);
    let http10 = parsed.version == Some(0);
    let chunked = all("transfer-encoding").count() > 0;
    let lengths: Vec<&String> = all("content-length").collect();
    let framing = match (chunked, lengths.as_slice()) {
        (true, []) if all("transfer-encoding").all(|value| value.eq_ignore_ascii_case("chunked")) => {
            Framing::Chunked
        }
        (false, []) => Framing::Length(0),
        (false, [length]) => match length.parse::<usize>() {
            Ok(length) if length > BODY_BYTES => return Err((413, "the body is longer than 32 MiB")),
            Ok(length) => Framing::Length(length),
            Err(_) => return Err((400, "Content-Length is not a number")),
        },
        _ => return Err((400, "the request says twice how long its body is")),
    };
    let says = |word: &str| {
        all("connection").any(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(word)))
    };
    let keep_alive = if http10 { says("keep-alive") } else { !says("close") };
    let expect_continue = all("expect").any(|value| value.eq_ignore_ascii_case("100-continue"));
    Ok(Some((
        Head {
            method: parsed.method.unwrap_or("").to_owned(),
            target: parsed.path.unwrap_or("").to_owned(),
            http10,
            keep_alive,
            expect_continue,
            framing,
            fields,
        },
        length,
    )))
}

/// Moves whole chunks from `input` to `body`; true after the last one and its trailers.
fn take_chunks(input: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, &'static str> {
    let mut at = 0;
    let mut done = false;
    while let Some(line) = input[at..].windows(2).position(|pair| pair == b"\r\n") {
        let text = std::str::from_utf8(&input[at..at + line]).map_err(|_| "a chunk size is not a number")?;
        let digits = text.split(';').next().unwrap_or("").trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| "a chunk size is not a number")?;
        if size > BODY_BYTES {
            return Err("a chunk is longer than 32 MiB");
        }
        let data = at + line + 2;
        if size == 0 {
            // Trailers end with an empty line; none is the usual case.
            let Some(end) = trailers_end(&input[data..]) else { break };
            at = data + end;
            done = true;
            break;
        }
        if input.len() < data + size + 2 {
            break;
        }
        if &input[data + size..data + size + 2] != b"\r\n" {
            return Err("a chunk is longer than its size");
        }
        body.extend_from_slice(&input[data..data + size]);
        at = data + size + 2;
    }
    input.drain(..at);
    Ok(done)
}

fn trailers_end(bytes: &[u8]) -> Option<usize> {
    if bytes.starts_with(b"\r\n") {
        return Some(2);
    }
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes in two parts and returns the requests and the first complaint.
    fn read(bytes: &[u8], cut: usize) -> (Vec<Request>, Option<u16>) {
        let (mut reader, mut input, mut requests) = (Reader::default(), Vec::new(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            input.extend_from_slice(part);
            loop {
                match reader.advance(&mut input) {
                    Progress::More => break,
                    Progress::Head => {}
                    Progress::Request(request) => requests.push(request),
                    Progress::Bad(status, _) => return (requests, Some(status)),
                }
            }
        }
        (requests, None)
    }

    #[test]
    fn pipelined_requests_read_the_same_cut_at_every_byte() {
        let bytes = b"POST /v1/a?x=1 HTTP/1.1\r\nAuthorization: Bearer sk-1\r\nContent-Length: 3\r\n\r\nabc\
            POST /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\nx-api-key: k\r\n\r\n2;e=1\r\nhi\r\n3\r\n you\r\n0\r\nT: 1\r\n\r\n\
            GET /c HTTP/1.0\r\n\r\n";
        for cut in 0..bytes.len() {
            let (requests, bad) = read(bytes, cut);
            // The second chunk's size is wrong on purpose below; here all three are right.
            assert_eq!(bad, Some(400), "cut {cut}");
            assert_eq!(requests.len(), 1);
        }
        let bytes = String::from_utf8_lossy(bytes).replace("3\r\n you", "4\r\n you");
        for cut in 0..bytes.len() {
            let (requests, bad) = read(bytes.as_bytes(), cut);
            assert_eq!(bad, None, "cut {cut}");
            assert_eq!(requests.len(), 3, "cut {cut}");
            assert_eq!((requests[0].head.path(), requests[0].head.key()), ("/v1/a", "sk-1"));
            assert_eq!(requests[0].body, b"abc");
            assert_eq!((requests[1].body.as_slice(), requests[1].head.key()), (&b"hi you"[..], "k"));
            assert!(!requests[2].head.keep_alive && requests[2].head.http10);
        }
    }

    #[test]
    fn two_lengths_and_a_length_beside_chunks_are_refused() {
        for fields in
            ["Content-Length: 1\r\nContent-Length: 1", "Content-Length: 1\r\nTransfer-Encoding: chunked"]
        {
            let bytes = format!("POST / HTTP/1.1\r\n{fields}\r\n\r\n");
            assert_eq!(read(bytes.as_bytes(), 4).1, Some(400));
        }
    }

    #[test]
    fn a_body_is_taken_at_the_limit_and_refused_one_past_it() {
        let head = |n: usize| format!("POST / HTTP/1.1\r\nContent-Length: {n}\r\n\r\n");
        assert_eq!(read(head(BODY_BYTES).as_bytes(), 1).1, None);
        assert_eq!(read(head(BODY_BYTES + 1).as_bytes(), 1).1, Some(413));
    }

    #[test]
    fn a_head_is_taken_at_the_limit_and_refused_one_past_it() {
        let head = |n: usize| {
            let fields: String = (0..n).map(|i| format!("X-{i}: y\r\n")).collect();
            format!("GET / HTTP/1.1\r\n{fields}\r\n")
        };
        assert_eq!(read(head(HEAD_FIELDS).as_bytes(), 1).0.len(), 1);
        assert_eq!(read(head(HEAD_FIELDS + 1).as_bytes(), 1).1, Some(431));
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(HEAD_BYTES));
        assert_eq!(read(endless.as_bytes(), 1).1, Some(431));
    }
}
