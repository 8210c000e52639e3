//! Calendar dates in the places where an API writes them: `Date`, `Retry-After`, Anthropic's `created_at`, and ours.
//!
//! Seconds since 1970 in UTC on one side, text on the other; no time zones, no leap seconds, no clock.

/// Reads an HTTP date (RFC 9110, 5.6.7) in its current form or the two obsolete ones; seconds since 1970.
pub(crate) fn parse_http_date(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let words: Vec<&str> = text.split([' ', '-', ',']).filter(|word| !word.is_empty()).take(8).collect();
    match *words.as_slice() {
        // Sun, 06 Nov 1994 08:49:37 GMT, and Sunday, 06-Nov-94 08:49:37 GMT
        [_, day, month, year, clock, "GMT" | "UTC"] if day.starts_with(|c: char| c.is_ascii_digit()) => {
            let year = match year.len() {
                4 => year.parse().ok()?,
                2 => {
                    // RFC 9110: a two-digit year more than 50 years ahead is in the past; the border is fixed here.
                    let short: i64 = year.parse().ok()?;
                    if short < 70 { 2000 + short } else { 1900 + short }
                }
                _ => return None,
            };
            seconds(year, month_number(month)?, day.parse().ok()?, clock)
        }
        // Sun Nov  6 08:49:37 1994
        [_, month, day, clock, year] => {
            seconds(year.parse().ok()?, month_number(month)?, day.parse().ok()?, clock)
        }
        _ => None,
    }
}

/// Reads the UTC date and time of RFC 3339, `2026-10-21T00:00:00Z`; fractions are cut off. Seconds since 1970.
pub(crate) fn parse_rfc3339(text: &str) -> Option<i64> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let mut parts = date.splitn(3, '-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let clock = rest.get(..8)?;
    let tail = rest.get(8..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    if !matches!(tail, "Z" | "z" | "+00:00") {
        return None;
    }
    seconds(year.parse().ok()?, month.parse().ok()?, day.parse().ok()?, clock)
}

/// Appends RFC 3339 for seconds since 1970, as in `2026-10-21T00:00:00Z`.
pub(crate) fn push_rfc3339(out: &mut Vec<u8>, unix_s: u64) {
    let days = i64::try_from(unix_s / 86_400).unwrap_or(0);
    let second = unix_s % 86_400;
    let (year, month, day) = civil(days);
    let text = format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    );
    out.extend_from_slice(text.as_bytes());
}

/// Length of an HTTP date.
pub const HTTP_DATE_LEN: usize = 29;

/// The HTTP date of seconds since 1970, `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, 5.6.7). Does not allocate.
pub fn http_date(unix_s: u64) -> [u8; HTTP_DATE_LEN] {
    // 1970-01-01 was a Thursday.
    const WEEKDAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
    let days = i64::try_from(unix_s / 86_400).unwrap_or(0);
    let second = (unix_s % 86_400) as i64;
    let (year, month, day) = civil(days);
    let mut out = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut digits = |at: usize, number: i64| {
        out[at] = b'0' + (number / 10 % 10) as u8;
        out[at + 1] = b'0' + (number % 10) as u8;
    };
    for (at, number) in [
        (5, day),
        (12, year / 100),
        (14, year % 100),
        (17, second / 3600),
        (20, second / 60 % 60),
        (23, second % 60),
    ] {
        digits(at, number);
    }
    out[..3].copy_from_slice(WEEKDAYS[days.rem_euclid(7) as usize]);
    // `civil` gives months from 1 to 12.
    let name = MONTHS.get(usize::try_from(month - 1).unwrap_or(0)).unwrap_or(&MONTHS[0]);
    out[8..11].copy_from_slice(name.as_bytes());
    out
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

fn month_number(name: &str) -> Option<i64> {
    let index = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))?;
    i64::try_from(index + 1).ok()
}

fn seconds(year: i64, month: i64, day: i64, clock: &str) -> Option<i64> {
    let mut parts = clock.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let ranges =
        [(year, 1970, 9999), (month, 1, 12), (day, 1, 31), (hour, 0, 23), (minute, 0, 59), (second, 0, 60)];
    if ranges.iter().any(|&(value, low, high)| value < low || value > high) {
        return None;
    }
    Some(days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days from 1970-01-01 in the Gregorian calendar; counts in years that start in March, so that a leap day is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The inverse of [`days`].
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_dates_are_read_in_all_three_forms() {
        for text in
            ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), Some(784_111_777), "{text}");
        }
        for text in
            ["", "soon", "Sun, 06 Nov 1994", "Sun, 99 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 25:49:37 GMT"]
        {
            assert_eq!(parse_http_date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn our_own_http_dates_are_right_and_read_back() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&http_date(951_782_399), b"Mon, 28 Feb 2000 23:59:59 GMT");
        for unix in [951_782_400, 1_792_540_800, 4_102_444_799, 253_402_300_799] {
            assert_eq!(parse_http_date(&http_date(unix)), i64::try_from(unix).ok());
        }
    }

    #[test]
    fn timestamps_survive_being_written_and_read() {
        for unix in [0, 951_782_400, 1_792_540_800, 4_102_444_799] {
            let mut out = Vec::new();
            push_rfc3339(&mut out, unix);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(parse_rfc3339(&text), i64::try_from(unix).ok(), "{text}");
        }
        assert_eq!(parse_rfc3339("2000-02-29T00:00:00.123Z"), Some(951_782_400));
        assert_eq!(parse_rfc3339("2000-02-29"), None);
    }
}
