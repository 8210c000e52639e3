//! How durations, sizes and base URLs are written.
//!
//! Durations are `250ms`, `8s`, `2m` or `1h`; a bare number counts only where the key's name says the unit.
//! Sizes are bytes, or `KiB`, `MiB`, `GiB` (powers of 1024) and `KB`, `MB`, `GB` (powers of 1000).
//! Base URLs follow one rule for every dialect: a path without a version segment gets `/v1`, so that with
//! and without a trailing `/v1` mean the same.

use super::defaults;
use super::plan::{Origin, Scheme};

/// The unit a bare number is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Milliseconds,
    Seconds,
}

const DURATION_HELP: &str = "write a number and a unit, for example 250ms, 8s or 2m";

/// Milliseconds of a bare number, or advice.
pub(super) fn duration_of_number(number: f64, unit: Option<Unit>) -> Result<u64, String> {
    let factor = match unit {
        Some(Unit::Milliseconds) => 1.0,
        Some(Unit::Seconds) => 1_000.0,
        None => return Err(format!("the number has no unit; {DURATION_HELP}")),
    };
    bounded_ms(number * factor)
}

/// Milliseconds of a duration with its unit (`250ms`, `8s`, `2m`, `1h`; at most 24 h), for arguments.
///
/// The error says how to write one.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    duration_of_text(text, None)
}

/// Milliseconds of a number with a unit, or advice.
pub(super) fn duration_of_text(text: &str, unit: Option<Unit>) -> Result<u64, String> {
    let text = text.trim();
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let number: f64 = digits.parse().map_err(|_| DURATION_HELP.to_owned())?;
    let factor = match suffix.trim_start() {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" | "min" => 60_000.0,
        "h" => 3_600_000.0,
        "" => return duration_of_number(number, unit),
        _ => return Err(DURATION_HELP.to_owned()),
    };
    bounded_ms(number * factor)
}

fn bounded_ms(ms: f64) -> Result<u64, String> {
    if ms.is_finite() && ms.fract().abs() < 1e-6 && ms >= 0.0 && ms <= defaults::DURATION_MAX_MS as f64 {
        Ok(ms.round() as u64)
    } else {
        Err("use whole milliseconds, at most 24h".to_owned())
    }
}

/// `ms` as a person would write it.
pub fn show_ms(ms: u64) -> String {
    match ms {
        0 => "0s".to_owned(),
        _ if ms.is_multiple_of(3_600_000) => format!("{}h", ms / 3_600_000),
        _ if ms.is_multiple_of(60_000) && ms >= 600_000 => format!("{}m", ms / 60_000),
        _ if ms.is_multiple_of(1_000) => format!("{}s", ms / 1_000),
        _ => format!("{ms}ms"),
    }
}

/// Bytes of a size with or without a unit.
pub(super) fn bytes_of_text(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let factor: u64 = match suffix.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `bytes` as a person would write it.
pub fn show_bytes(bytes: u64) -> String {
    for (unit, size) in [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes} bytes")
}

/// Splits a base URL into where to connect and the path that stands before `/chat/completions` or
/// `/messages`. `verbatim` keeps the path as it is. The error says what is wrong without quoting the URL,
/// which may hold a password.
pub(super) fn base_url(url: &str, verbatim: bool) -> Result<(Origin, Box<str>), &'static str> {
    let (scheme, rest) = if let Some(rest) = strip_ignoring_case(url, "http://") {
        (Scheme::Http, rest)
    } else if let Some(rest) = strip_ignoring_case(url, "https://") {
        (Scheme::Https, rest)
    } else {
        return Err("must start with http:// or https://");
    };
    if rest.contains(['?', '#']) {
        return Err("must not have a query or a fragment");
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err("must not hold a user name or password; use `keys` or `extra_headers`");
    }
    let (host, port) = split_authority(authority, scheme)?;
    let path = base_path(path)?;
    let versioned = path.split('/').any(is_version);
    let path = if verbatim || versioned { path.to_owned() } else { format!("{path}/v1") };
    Ok((Origin { scheme, host: host.into(), port }, path.into()))
}

/// A path without its trailing slashes, checked for characters that could not stand in a request line.
pub(super) fn base_path(path: &str) -> Result<&str, &'static str> {
    let path = path.trim_end_matches('/');
    if !(path.is_empty() || path.starts_with('/')) {
        return Err("must start with a slash");
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~%:@!$&'()*+,;=".contains(&byte);
    if !path.bytes().all(fine) {
        return Err("has a character that cannot stand in a path; percent-encode it");
    }
    if path.split('/').any(|segment| segment == "." || segment == "..") || path.contains("//") {
        return Err("must not have empty, `.` or `..` segments");
    }
    Ok(path)
}

/// Whether a path segment is an API version: `v1`, `v1beta`, `v4`.
fn is_version(segment: &str) -> bool {
    segment
        .strip_prefix('v')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()) && rest.len() <= 16)
}

fn split_authority(authority: &str, scheme: Scheme) -> Result<(String, u16), &'static str> {
    const PORT: &str = "has a port that is not a number from 1 to 65535";
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').ok_or("has an IPv6 address without its `]`")?;
        inside
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| "has brackets around what is not an IPv6 address")?;
        let port = match after {
            "" => None,
            _ => Some(after.strip_prefix(':').ok_or(PORT)?),
        };
        (inside, port)
    } else {
        match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        }
    };
    if host.is_empty() {
        return Err("has no host");
    }
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:".contains(&byte);
    if host.len() > 253 || !host.bytes().all(fine) {
        return Err("has a host with characters that no host has");
    }
    let port = match port {
        None => scheme.default_port(),
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            port.parse::<u16>().ok().filter(|port| *port > 0).ok_or(PORT)?
        }
        Some(_) => return Err(PORT),
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn strip_ignoring_case<'t>(text: &'t str, prefix: &str) -> Option<&'t str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_with_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("8s", 8_000),
            ("1.5s", 1_500),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("24h", 86_400_000),
        ] {
            assert_eq!(duration_of_text(text, None), Ok(ms), "{text}");
        }
        for text in ["", "s", "8", "-1s", "8 parsecs", "1e9s", "25h", "0.5ms", "..s", "86400001ms"] {
            assert!(duration_of_text(text, None).is_err(), "{text}");
        }
        assert_eq!(duration_of_text("8", Some(Unit::Seconds)), Ok(8_000));
        assert_eq!(duration_of_number(0.5, Some(Unit::Seconds)), Ok(500));
        assert!(duration_of_number(f64::NAN, Some(Unit::Seconds)).is_err());
        assert!(duration_of_number(2.0, None).is_err());
    }

    #[test]
    fn durations_print_as_they_are_written() {
        for (ms, text) in
            [(0, "0s"), (250, "250ms"), (8_000, "8s"), (90_000, "90s"), (600_000, "10m"), (3_600_000, "1h")]
        {
            assert_eq!(show_ms(ms), text);
        }
    }

    #[test]
    fn sizes_know_both_families_of_units() {
        assert_eq!(bytes_of_text("64KiB"), Some(65_536));
        assert_eq!(bytes_of_text("32 MiB"), Some(33_554_432));
        assert_eq!(bytes_of_text("1MB"), Some(1_000_000));
        assert_eq!(bytes_of_text("17"), Some(17));
        for text in ["", "x", "1.5MiB", "99999999999999999999", "18446744073709551615KiB", "-1"] {
            assert_eq!(bytes_of_text(text), None, "{text}");
        }
        assert_eq!(show_bytes(33_554_432), "32MiB");
        assert_eq!(show_bytes(1_000), "1000 bytes");
    }

    #[test]
    fn with_and_without_v1_is_the_same_place() {
        let expected = base_url("http://127.0.0.1:9/v1", false).unwrap();
        for url in
            ["http://127.0.0.1:9", "http://127.0.0.1:9/", "http://127.0.0.1:9/v1/", "HTTP://127.0.0.1:9"]
        {
            assert_eq!(base_url(url, false).unwrap(), expected, "{url}");
        }
        assert_eq!(&*expected.1, "/v1");
    }

    #[test]
    fn other_base_paths_stay_as_they_are_when_they_have_a_version() {
        for (url, path) in [
            ("https://api.groq.com/openai/v1", "/openai/v1"),
            ("https://api.groq.com/openai", "/openai/v1"),
            ("https://h/v1beta/openai/", "/v1beta/openai"),
            ("https://h/api/paas/v4", "/api/paas/v4"),
            ("https://h/anthropic", "/anthropic/v1"),
        ] {
            assert_eq!(&*base_url(url, false).unwrap().1, path, "{url}");
        }
        assert_eq!(&*base_url("https://api.perplexity.ai", true).unwrap().1, "");
    }

    #[test]
    fn ports_hosts_and_addresses() {
        let origin = |url: &str| base_url(url, false).unwrap().0;
        assert_eq!(origin("https://API.example.com").authority(), "api.example.com");
        assert_eq!(origin("https://api.example.com:8443").authority(), "api.example.com:8443");
        assert_eq!(origin("http://[::1]:9101/v1").authority(), "[::1]:9101");
        assert_eq!(&*origin("http://[::1]:9101").host, "::1");
        assert_eq!(origin("http://h").port, 80);
        assert_eq!(origin("https://h").port, 443);
    }

    #[test]
    fn urls_that_would_confuse_are_refused() {
        for url in [
            "",
            "api.openai.com",
            "ftp://h",
            "http://",
            "http:///v1",
            "http://user:canary@h",
            "http://h:0",
            "http://h:65536",
            "http://h:x",
            "http://h:",
            "http://h?x=1",
            "http://h#f",
            "http://[::1",
            "http://[zz]",
            "http://[::1]x",
            "http://h/a b",
            "http://h/../v1",
            "http://h//v1",
            "http://h\r\n/",
            "http://é/",
            "http://a:b:c",
        ] {
            let error = base_url(url, false).unwrap_err();
            assert!(!error.contains("canary"));
        }
    }
}
