//! The live page's files, inside the binary.
//!
//! `build.rs` packs what is in `assets`: each file as it is and as gzip, under a path that holds a hash of all of them,
//! so that browsers keep it for ever and a new build is a new path. `index.html` names those paths and is asked for anew.
//! Nothing here is loaded from a network, and nothing knows a socket: the gateway serves it.
//!
//! Limits: all files together are smaller than 150 KB as they are ([`SIZE_MAX`]); a test holds it.
#![forbid(unsafe_code)]

/// Bytes that all files may have together, before compression.
pub const SIZE_MAX: usize = 150_000;

/// One file.
#[derive(Debug)]
pub struct Asset {
    /// Where it is served.
    pub path: &'static str,
    /// Its media type.
    pub kind: &'static str,
    /// Its content will never be another under this path.
    pub fixed: bool,
    /// A hash of its content.
    pub etag: &'static str,
    /// Its content.
    pub plain: &'static [u8],
    /// The same, compressed with gzip.
    pub gzip: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/ui.rs"));

/// The file at `path`.
pub fn asset(path: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.path == path)
}

/// Every file.
pub fn assets() -> &'static [Asset] {
    ASSETS
}

/// Whether an `If-None-Match` names this tag (RFC 9110 section 13.1.2; weak ones count).
pub fn names(tags: &[u8], etag: &str) -> bool {
    tags.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).any(|tag| {
        let tag = tag.strip_prefix(b"W/").unwrap_or(tag);
        tag == b"*"
            || tag.strip_prefix(b"\"").and_then(|tag| tag.strip_suffix(b"\"")) == Some(etag.as_bytes())
    })
}

/// Whether an `Accept-Encoding` takes gzip (RFC 9110 section 12.5.3).
pub fn takes_gzip(accept: &[u8]) -> bool {
    accept.split(|byte| *byte == b',').any(|coding| {
        let mut parts = coding.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let refused = parts.any(|part| matches!(part, b"q=0" | b"q=0.0" | b"q=0.00" | b"q=0.000"));
        (name.eq_ignore_ascii_case(b"gzip") || name == b"*") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_page_is_small() {
        let plain: usize = ASSETS.iter().map(|asset| asset.plain.len()).sum();
        let gzip: usize = ASSETS.iter().map(|asset| asset.gzip.len()).sum();
        println!("the page: {plain} bytes, {gzip} over the wire");
        assert!(plain < SIZE_MAX, "{plain} bytes");
        assert!(gzip < plain / 2);
    }

    #[test]
    fn the_page_names_only_files_that_it_has_and_nothing_from_elsewhere() {
        let index = asset("/").expect("there is a page");
        let text = std::str::from_utf8(index.plain).expect("text");
        let mut named = 0;
        for (at, _) in text.match_indices("/ui/") {
            let path: String = text[at..].chars().take_while(|c| !"\"'> ".contains(*c)).collect();
            assert!(asset(&path).is_some(), "{path}");
            named += 1;
        }
        assert!(named >= 3, "{named}");
        for asset in ASSETS.iter().filter(|asset| !asset.path.contains("/vendor/")) {
            let text = String::from_utf8_lossy(asset.plain);
            let foreign = text.match_indices("https://").map(|(at, _)| &text[at..(at + 40).min(text.len())]);
            assert_eq!(foreign.count(), 0, "{}", asset.path);
            assert!(!text.contains("innerHTML") && !text.contains("<script>"), "{}", asset.path);
        }
    }

    #[test]
    fn files_have_paths_for_ever_and_the_page_does_not() {
        assert!(ASSETS.iter().all(|asset| asset.fixed == asset.path.starts_with("/ui/")));
        assert!(ASSETS.iter().all(|asset| asset.etag.len() == 16 && !asset.kind.is_empty()));
        assert!(asset("/ui/app.js").is_none() && asset("/index.html").is_none());
    }

    #[test]
    fn a_browser_that_has_the_file_is_recognised() {
        for (tags, same) in [
            ("\"abc\"", true),
            ("W/\"abc\"", true),
            ("\"x\", \"abc\"", true),
            ("*", true),
            ("abc", false),
            ("\"abcd\"", false),
            ("", false),
        ] {
            assert_eq!(names(tags.as_bytes(), "abc"), same, "{tags}");
        }
        for (accept, takes) in [
            ("gzip, deflate, br", true),
            ("br;q=1.0, GZIP;q=0.8", true),
            ("*", true),
            ("gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(takes_gzip(accept.as_bytes()), takes, "{accept}");
        }
    }
}
