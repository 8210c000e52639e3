//! How long a provider asks us to wait, in the four ways it may say so.

use crate::dialect::date;

/// The response header values that speak about retrying, as they were received.
#[derive(Clone, Copy, Debug, Default)]
pub struct RetryHints<'h> {
    /// `retry-after`: seconds, possibly with a fraction, or an HTTP date.
    pub retry_after: Option<&'h [u8]>,
    /// `retry-after-ms`: milliseconds (Azure, and OpenAI at times); more exact, so it wins.
    pub retry_after_ms: Option<&'h [u8]>,
    /// `x-should-retry`: `true` or `false`.
    pub should_retry: Option<&'h [u8]>,
    /// Wall clock, seconds since 1970, to make a wait of a date.
    pub now_unix_s: u64,
}

impl RetryHints<'_> {
    /// The provider's own advice.
    pub(super) fn advice(&self) -> Option<bool> {
        match self.should_retry?.trim_ascii() {
            b"true" => Some(true),
            b"false" => Some(false),
            _ => None,
        }
    }
}

/// The wait that the headers ask for, in milliseconds; a date in the past is 0, nonsense is `None`. Not capped.
pub fn retry_after_ms(hints: &RetryHints<'_>) -> Option<u64> {
    if let Some(wait) = hints.retry_after_ms.and_then(|text| millis(text, 1.0)) {
        return Some(wait);
    }
    let text = hints.retry_after?.trim_ascii();
    millis(text, 1000.0).or_else(|| {
        let wait_s = date::parse_http_date(text)? - i64::try_from(hints.now_unix_s).ok()?;
        u64::try_from(wait_s.max(0)).ok()?.checked_mul(1000)
    })
}

/// A protobuf duration such as `39s` or `0.5s`, as Google's RetryInfo has it.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    millis(text.strip_suffix('s')?.as_bytes(), 1000.0)
}

fn millis(text: &[u8], unit_ms: f64) -> Option<u64> {
    let number: f64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    let wait = (number * unit_ms).ceil();
    // 2^53 ms is 285,000 years; the bound keeps the cast exact.
    (0.0..=9_007_199_254_740_992.0).contains(&wait).then_some(wait as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_say_it_is_understood() {
        let now_unix_s = 784_111_777;
        for (seconds, millis, wait) in [
            (Some("30"), None, Some(30_000)),
            (Some("0.25"), None, Some(250)),
            (Some(" 2 "), Some("1500"), Some(1500)),
            (Some("2"), Some("soon"), Some(2000)),
            (None, Some("0"), Some(0)),
            (Some("Sun, 06 Nov 1994 08:50:07 GMT"), None, Some(30_000)),
            (Some("Sun, 06 Nov 1994 08:00:00 GMT"), None, Some(0)),
            (Some("-3"), None, None),
            (Some("NaN"), None, None),
            (Some("inf"), None, None),
            (Some(""), None, None),
            (None, None, None),
        ] {
            let hints = RetryHints {
                retry_after: seconds.map(str::as_bytes),
                retry_after_ms: millis.map(str::as_bytes),
                should_retry: None,
                now_unix_s,
            };
            assert_eq!(retry_after_ms(&hints), wait, "{seconds:?} {millis:?}");
        }
        assert_eq!(duration_ms("39s"), Some(39_000));
        assert_eq!(duration_ms("0.5s"), Some(500));
        assert_eq!(duration_ms("39"), None);
    }
}
