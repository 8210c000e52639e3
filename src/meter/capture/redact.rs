//! Makes secrets in captured text unreadable.
//!
//! The built-in patterns know credentials (keys of the known providers and clouds, bearer tokens, JSON web tokens, private
//! keys, members called password or token), mail addresses, card numbers (with their check digit) and files sent as
//! base64. They cannot know names, addresses or what is secret in your house: `capture.redact` adds patterns.

use regex::{Captures, Regex};

/// What stands in the place of what was found.
const CARD: &str = "card";

/// Name and pattern, in the order in which they are looked for. In a request text stands inside JSON, so quotes may be
/// escaped, more than once.
const BUILT_IN: [(&str, &str); 8] = [
    ("private key", r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|\z)"),
    ("file", r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=_-]+"),
    ("token", r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{4,}"),
    (
        "key",
        r"\b(?:sk|pk|rk|gsk|xai|pplx|hf|ghp|gho|ghs|github_pat|glpat|xox[abeoprs]|AKIA|ASIA|AIza)[-_]?[\w-]{12,}",
    ),
    ("token", r"(?i)\bbearer\s+[\w.~+/-]{12,}=*"),
    (
        "secret",
        r#"(?i)["'](?:[\w-]*(?:password|passwd|secret|api_?key|access_?token|auth_?token|private_?key))\\*["']\s*:\s*\\*["'][^"'\\]+"#,
    ),
    ("mail", r"[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}"),
    (CARD, r"\b\d(?:[ -]?\d){12,18}\b"),
];

/// The patterns, compiled.
pub struct Redactor {
    patterns: Vec<(&'static str, Regex)>,
}

impl Redactor {
    /// The built-in patterns and `own`.
    ///
    /// # Errors
    /// A pattern does not compile.
    pub fn new(own: &[Box<str>]) -> Result<Redactor, String> {
        let own = own.iter().map(|pattern| ("own", &**pattern));
        let all = own.chain(BUILT_IN);
        let patterns = all.map(|(name, pattern)| Ok((name, Regex::new(pattern).map_err(|e| e.to_string())?)));
        Ok(Redactor { patterns: patterns.collect::<Result<_, String>>()? })
    }

    /// `text` with `[redacted NAME]` in the place of each find, and how many there were.
    pub fn redact(&self, text: &str) -> (String, u64) {
        let (mut text, mut finds) = (text.to_owned(), 0);
        for (name, pattern) in &self.patterns {
            let next = pattern.replace_all(&text, |found: &Captures<'_>| {
                let all = &found[0];
                if *name == CARD && !is_card(all) {
                    return all.to_owned();
                }
                finds += 1;
                format!("[redacted {name}]")
            });
            if let std::borrow::Cow::Owned(next) = next {
                text = next;
            }
        }
        (text, finds)
    }
}

/// Whether the digits of `text` end with the check digit of a card number (Luhn).
fn is_card(text: &str) -> bool {
    let digits = text.bytes().rev().filter(u8::is_ascii_digit).map(|digit| u32::from(digit - b'0'));
    let sum: u32 = digits
        .enumerate()
        .map(|(place, digit)| match (place % 2, digit) {
            (0, digit) => digit,
            (_, digit @ 5..) => 2 * digit - 9,
            (_, digit) => 2 * digit,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_made_unreadable_wherever_they_stand() {
        let redactor = Redactor::new(&[]).unwrap();
        for (text, secret) in [
            ("use sk-proj-abcdEFGH1234567890 now", "abcdEFGH1234567890"),
            ("key=AKIAIOSFODNN7EXAMPLE", "IOSFODNN7EXAMPLE"),
            ("ghp_16C7e42F292c6912E7710c838347Ae178B4a", "16C7e42F"),
            ("Authorization: Bearer abc.def-123456789==", "abc.def-123456789"),
            ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
            (r#"{"password": "hunter2"}"#, "hunter2"),
            (r#""{\"db_password\": \"hunter2\"}""#, "hunter2"),
            ("-----BEGIN RSA PRIVATE KEY-----\\nMIIEow\\n-----END RSA PRIVATE KEY-----", "MIIEow"),
            ("-----BEGIN PRIVATE KEY-----\\nMIIEowCut", "MIIEowCut"),
            ("write to jane.doe+x@mail.example.co.uk today", "jane.doe"),
            ("card 4111 1111 1111 1111 please", "4111 1111"),
            ("data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA==", "iVBORw0KGgo"),
        ] {
            let (clean, finds) = redactor.redact(text);
            assert!(!clean.contains(secret) && clean.contains("[redacted ") && finds == 1, "{text}: {clean}");
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        let redactor = Redactor::new(&[]).unwrap();
        for text in [
            "the risk-averse bearer of news asked for a password",
            "order 1234 5678 9012 3456 has no check digit of a card",
            r#"{"max_tokens": 4096, "token": 12}"#,
            "a @ b, and 3.14159265358979",
        ] {
            assert_eq!(redactor.redact(text), (text.to_owned(), 0));
        }
    }

    #[test]
    fn own_patterns_come_on_top() {
        let redactor = Redactor::new(&[r"ACME-\d+".into()]).unwrap();
        assert_eq!(
            redactor.redact("ACME-7 and a@b.io"),
            ("[redacted own] and [redacted mail]".to_owned(), 2)
        );
        assert!(Redactor::new(&["(".into()]).is_err());
    }
}
