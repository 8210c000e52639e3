//! Who asked: the pipeline, step, team and declared dimensions that a request's headers name.
//!
//! Read once with the head. The values are kept in a buffer of their own, because the request's is let go while its answer
//! streams; where nobody says who asks there is none.
//!
//! Limits: [`VALUE_MAX`] bytes of a value; of a list, as in `x-litellm-tags`, an alias gives its first entry.

use crate::config::{self, WhoHeader};
use crate::meter::{WHO_MAX, Who};
use crate::net::Buf;
use crate::wire::Span;

/// Longest value that is kept, bytes.
const VALUE_MAX: usize = 256;

/// The fields of a head that say who asked, as far as they have been looked at.
#[derive(Default)]
pub struct Found([Option<(u8, Span)>; WHO_MAX]);

impl Found {
    /// Looks at one field.
    #[inline]
    pub fn look(&mut self, who: &config::Who, name: &[u8], value: Span) {
        if let Some(WhoHeader { at, rank, .. }) = who.header(name)
            && let Some(place) = self.0.get_mut(usize::from(*at))
            && place.is_none_or(|(other, _)| *rank < other)
        {
            *place = Some((*rank, value));
        }
    }

    /// Where a value stands in the head: 0 the pipeline, 1 the step, 2 the team.
    pub fn span(&self, at: usize) -> Option<Span> {
        self.0.get(at)?.map(|(_, span)| span)
    }

    /// Copies the values.
    pub fn keep(&self, bytes: &[u8]) -> Kept {
        let values = self.0.map(|found| match found {
            Some((rank, span)) => clean(span.of(bytes), rank > 0),
            None => &[],
        });
        let all: usize = values.iter().map(|value| value.len()).sum();
        if all == 0 {
            return Kept(Buf::default());
        }
        // The length of each, then all of them.
        let mut kept = Buf::take(2 * WHO_MAX + all);
        values.iter().for_each(|value| kept.push(&(value.len() as u16).to_le_bytes()));
        values.iter().for_each(|value| kept.push(value));
        Kept(kept)
    }
}

/// A value as it may be shown.
fn clean(value: &[u8], alias: bool) -> &[u8] {
    let first = value.split(|byte| *byte == b',').next().unwrap_or(value);
    let value = if alias { first.trim_ascii() } else { value };
    let value = &value[..value.len().min(VALUE_MAX)];
    if value.iter().all(|byte| (b' '..=b'~').contains(byte)) { value } else { b"invalid" }
}

/// The values of one request.
pub struct Kept(Buf);

impl Kept {
    /// The values, empty where nothing was said.
    pub fn values(&self) -> Who<'_> {
        let Some((lengths, mut rest)) = self.0.filled().split_at_checked(2 * WHO_MAX) else {
            return Who::default();
        };
        std::array::from_fn(|at| {
            let length = u16::from_le_bytes([lengths[2 * at], lengths[2 * at + 1]]);
            let (value, after) = rest.split_at_checked(usize::from(length)).unwrap_or_default();
            rest = after;
            std::str::from_utf8(value).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    fn who(settings: &str, head: &[(&str, &str)]) -> (Vec<String>, Option<String>) {
        let loader = Loader { file: Some("test.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, who: {settings}}}");
        let plan = loader.load_text(&text, &|_| None).unwrap();
        let mut bytes = Vec::new();
        let mut found = Found::default();
        for (name, value) in head {
            let start = bytes.len();
            bytes.extend_from_slice(value.as_bytes());
            found.look(&plan.who, name.as_bytes(), Span { start: start as u32, end: bytes.len() as u32 });
        }
        let kept = found.keep(&bytes);
        let pipeline = found.span(0).map(|span| String::from_utf8_lossy(span.of(&bytes)).into_owned());
        (kept.values().iter().map(|value| (*value).to_owned()).collect(), pipeline)
    }

    #[test]
    fn the_gateways_own_names_go_before_aliases_whatever_comes_first() {
        let settings = "{dims: [branch], aliases: {pipeline: [x-bf-dim-pipeline, x-litellm-tags]}}";
        let (values, pipeline) = who(
            settings,
            &[
                ("x-litellm-tags", "tag-1, tag-2"),
                ("X-BF-Dim-Pipeline", "bifrost"),
                ("X-Sluice-Team", "infra"),
                ("x-sluice-dim-branch", "main"),
            ],
        );
        assert_eq!(values[..4], ["bifrost", "", "infra", "main"]);
        assert_eq!(pipeline.as_deref(), Some("bifrost"));
        let (values, _) = who(settings, &[("x-litellm-tags", "tag-1, tag-2")]);
        assert_eq!(values[0], "tag-1");
        let (values, _) =
            who(settings, &[("x-sluice-pipeline", "own, with a comma"), ("x-litellm-tags", "t")]);
        assert_eq!(values[0], "own, with a comma");
    }

    #[test]
    fn values_that_cannot_be_shown_are_not() {
        let (values, _) =
            who("{}", &[("x-sluice-pipeline", "a\u{7f}b"), ("x-sluice-team", &"t".repeat(300))]);
        assert_eq!((values[0].as_str(), values[2].len()), ("invalid", VALUE_MAX));
    }
}
