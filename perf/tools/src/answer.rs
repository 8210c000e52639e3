//! Reads HTTP answers piece by piece: where each ends, its status, and the bytes of its body without chunk framing.
//!
//! Invariant: what is fed is looked at once, whatever pieces it comes in. Not here: answers without a length that end with
//! the connection, interim ones, and anything a provider would not send; they are errors, which `load` counts.

use memchr::memmem;

/// More than any head that a gateway sends.
const HEAD_MAX: usize = 64 * 1024;

/// Bytes that are no answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

enum State {
    Head,
    /// So many bytes of a body with a length are to come.
    Length(u64),
    /// In a chunk's size line: its value so far, and whether digits are still read.
    Size(u64, bool),
    Data(u64),
    /// After a chunk's data: so many bytes of its line end are to come.
    DataEnd(u8),
    /// After the last chunk: whether the line at hand is empty so far.
    Trailer(bool),
    Whole,
}

/// The state of one connection's answers.
pub struct Reader {
    state: State,
    head: Vec<u8>,
    status: u16,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader { state: State::Head, head: Vec::new(), status: 0 }
    }
}

impl Reader {
    /// The status of the answer at hand; 0 before its head is whole.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Forgets the answer at hand.
    pub fn restart(&mut self) {
        self.state = State::Head;
        self.head.clear();
        self.status = 0;
    }

    /// Takes in `bytes`, and gives what is of the body to `payload`; whether the answer is whole.
    ///
    /// # Errors
    /// The bytes are no answer, or more came than the answer has.
    pub fn feed(&mut self, mut bytes: &[u8], mut payload: impl FnMut(&[u8])) -> Result<bool, Malformed> {
        while !bytes.is_empty() {
            match &mut self.state {
                State::Head => {
                    let before = self.head.len();
                    self.head.extend_from_slice(&bytes[..bytes.len().min(HEAD_MAX)]);
                    let from = before.saturating_sub(3);
                    let Some(at) = memmem::find(&self.head[from..], b"\r\n\r\n") else {
                        if self.head.len() >= HEAD_MAX {
                            return Err(Malformed);
                        }
                        bytes = &[];
                        continue;
                    };
                    let end = from + at + 4;
                    bytes = &bytes[end - before..];
                    self.head.truncate(end);
                    self.begin_body()?;
                }
                State::Length(left) => {
                    let n = bytes.len().min(*left as usize);
                    payload(&bytes[..n]);
                    bytes = &bytes[n..];
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::Whole;
                    }
                }
                State::Size(size, digits) => {
                    let byte = bytes[0];
                    bytes = &bytes[1..];
                    match (byte as char).to_digit(16) {
                        Some(digit) if *digits => *size = *size * 16 + u64::from(digit),
                        _ if byte == b'\n' => {
                            self.state = if *size == 0 { State::Trailer(true) } else { State::Data(*size) };
                        }
                        _ => *digits = false,
                    }
                }
                State::Data(left) => {
                    let n = bytes.len().min(*left as usize);
                    payload(&bytes[..n]);
                    bytes = &bytes[n..];
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::DataEnd(2);
                    }
                }
                State::DataEnd(left) => {
                    if bytes[0] != b"\n\r"[usize::from(*left) - 1] {
                        return Err(Malformed);
                    }
                    bytes = &bytes[1..];
                    *left -= 1;
                    if *left == 0 {
                        self.state = State::Size(0, true);
                    }
                }
                State::Trailer(empty) => {
                    match (bytes[0], *empty) {
                        (b'\n', true) => self.state = State::Whole,
                        (b'\n', false) => *empty = true,
                        (b'\r', _) => {}
                        _ => *empty = false,
                    }
                    bytes = &bytes[1..];
                }
                State::Whole => return Err(Malformed),
            }
        }
        Ok(matches!(self.state, State::Whole))
    }

    fn begin_body(&mut self) -> Result<(), Malformed> {
        let text = std::str::from_utf8(&self.head).map_err(|_| Malformed)?;
        let status = text.get(9..12).and_then(|digits| digits.parse().ok());
        self.status = status.filter(|_| text.starts_with("HTTP/1.")).ok_or(Malformed)?;
        let mut state = None;
        for line in text.lines().skip(1) {
            let Some((name, value)) = line.split_once(':') else { continue };
            if name.eq_ignore_ascii_case("content-length") {
                let length = value.trim().parse().map_err(|_| Malformed)?;
                state = Some(if length == 0 { State::Whole } else { State::Length(length) });
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                state = Some(State::Size(0, true));
            }
        }
        self.state = state.ok_or(Malformed)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=1\r\nhello\r\nA\r\n, 10 bytes\r\n0\r\nT: 1\r\n\r\n";
    const FIXED: &[u8] = b"HTTP/1.1 503 Busy\r\ncontent-LENGTH: 3\r\n\r\nabc";

    fn read(pieces: &[&[u8]]) -> (Result<bool, Malformed>, u16, Vec<u8>) {
        let (mut reader, mut body) = (Reader::default(), Vec::new());
        let mut last = Ok(false);
        for piece in pieces {
            last = reader.feed(piece, |bytes| body.extend_from_slice(bytes));
        }
        (last, reader.status(), body)
    }

    #[test]
    fn an_answer_is_the_same_wherever_it_is_cut() {
        for (bytes, status, body) in [(CHUNKED, 200, &b"hello, 10 bytes"[..]), (FIXED, 503, b"abc")] {
            for cut in 0..bytes.len() {
                let got = read(&[&bytes[..cut], &bytes[cut..]]);
                assert_eq!(got, (Ok(true), status, body.to_vec()), "cut at {cut}");
                assert_eq!(read(&[&bytes[..cut]]).0, Ok(false), "whole at {cut} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for bad in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"SSH-2.0-x\r\nContent-Length: 1\r\n\r\n",
            &[FIXED, b"x"].concat(),
        ] {
            assert_eq!(read(&[bad]).0, Err(Malformed), "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_second_answer_is_read_after_the_first() {
        let mut reader = Reader::default();
        assert_eq!(reader.feed(CHUNKED, |_| ()), Ok(true));
        reader.restart();
        assert_eq!((reader.feed(FIXED, |_| ()), reader.status()), (Ok(true), 503));
    }
}
