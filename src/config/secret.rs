//! Text that must never be printed.
//!
//! Invariant: the value leaves a [`Secret`] only through [`Secret::expose`]; there is no `Display`, no
//! `Serialize`, and `Debug` prints stars, so that a derived `Debug` higher up cannot leak it.
//!
//! Left out: wiping memory. The value also lies in prebuilt heads and in the process environment, so wiping
//! one copy would promise what it cannot keep.

use std::fmt;

/// A credential or another value that must not reach a log, an error or a page.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Takes custody of `value`.
    pub fn new(value: impl Into<Box<str>>) -> Self {
        Secret(value.into())
    }

    /// The value itself, to be sent upstream and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether `presented` equals the value, in time that depends on lengths only.
    pub fn matches(&self, presented: &[u8]) -> bool {
        let own = self.0.as_bytes();
        if own.len() != presented.len() {
            return false;
        }
        let difference = own.iter().zip(presented).fold(0u8, |sum, (a, b)| sum | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_stars() {
        assert_eq!(format!("{:?}", Some(Secret::new("canary"))), "Some(***)");
    }

    #[test]
    fn only_the_whole_value_matches() {
        let secret = Secret::new("abc");
        assert!(secret.matches(b"abc"));
        for wrong in [&b"ab"[..], b"abd", b"abcd", b"", b"ABC"] {
            assert!(!secret.matches(wrong));
        }
    }
}
