//! Tokens, as the providers count them, in one shape whose parts can be summed.
//!
//! The trap is that the same word means different things. OpenAI's `prompt_tokens` includes what was read from and
//! written to the cache; Anthropic's `input_tokens` does not. OpenAI's `completion_tokens` includes reasoning; xAI's
//! does not. So the fields below are made disjoint on reading and never re-read from the raw names:
//!
//! | field | OpenAI Chat, Completions, Embeddings | OpenAI Responses | Anthropic Messages |
//! |---|---|---|---|
//! | `input` | `prompt_tokens` − cached − written | `input_tokens` − cached − written | `input_tokens` |
//! | `cache_read` | `prompt_tokens_details.cached_tokens`, else `prompt_cache_hit_tokens` (DeepSeek) | `input_tokens_details.cached_tokens` | `cache_read_input_tokens` |
//! | `cache_write` | `prompt_tokens_details.cache_write_tokens` | `input_tokens_details.cache_write_tokens` | `cache_creation_input_tokens` |
//! | `cache_write_long` | – | `…cache_write_tokens_details.ttl_12h_tokens` | `cache_creation.ephemeral_1h_input_tokens` |
//! | `output` | `completion_tokens` (+ reasoning where the total says it is on top) | `output_tokens` | `output_tokens` |
//! | `tier` | `service_tier` beside `usage` | the same | `service_tier`, `speed` |
//! | `reasoning` | `completion_tokens_details.reasoning_tokens` | `output_tokens_details.reasoning_tokens` | `output_tokens_details.thinking_tokens` |
//!
//! A provider whose cached count is larger than its prompt count excludes the cache from the prompt, as Anthropic
//! does; it is read that way. Left out: prices (`meter`), and provider extras such as timings.

use super::json::Cursor;

/// What a provider says it answered with. Prices depend on it; what was asked for does not decide it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ServiceTier {
    /// The usual one; also of who says nothing.
    #[default]
    Standard,
    /// Slower and cheaper.
    Flex,
    /// Faster and dearer.
    Priority,
    /// In batches.
    Batch,
    /// One that we do not know.
    Other,
}

impl ServiceTier {
    /// Reads `service_tier` of an answer: OpenAI, Anthropic, Groq, Gemini's OpenAI endpoint.
    fn of(word: &[u8]) -> ServiceTier {
        match word {
            // `scale` is capacity that was paid for before.
            b"default" | b"standard" | b"auto" | b"on_demand" | b"scale" | b"standard_only" | b"" => {
                ServiceTier::Standard
            }
            b"flex" => ServiceTier::Flex,
            b"priority" => ServiceTier::Priority,
            b"batch" => ServiceTier::Batch,
            _ => ServiceTier::Other,
        }
    }

    /// Reads the value at the cursor; what is no text says nothing.
    pub(crate) fn read(cursor: &mut Cursor<'_>) -> Option<ServiceTier> {
        cursor.skip().content().map(ServiceTier::of)
    }

    /// A number for it, below 8.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The tier that [`code`](Self::code) gave this number.
    pub fn from_code(code: u8) -> ServiceTier {
        match code {
            0 => ServiceTier::Standard,
            1 => ServiceTier::Flex,
            2 => ServiceTier::Priority,
            3 => ServiceTier::Batch,
            _ => ServiceTier::Other,
        }
    }

    /// The stable word for logs and the ledger.
    pub fn label(self) -> &'static str {
        match self {
            ServiceTier::Standard => "standard",
            ServiceTier::Flex => "flex",
            ServiceTier::Priority => "priority",
            ServiceTier::Batch => "batch",
            ServiceTier::Other => "other",
        }
    }
}

/// Tokens of one answer. `input`, `cache_read`, `cache_write` and `output` are disjoint and sum to the total;
/// every other field is a part of the one its doc names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that were neither read from nor written to a cache.
    pub input: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to the provider's cache.
    pub cache_write: u64,
    /// Part of `cache_write` kept for an hour or more, which costs more.
    pub cache_write_long: u64,
    /// Tokens produced, reasoning included.
    pub output: u64,
    /// Part of `output` spent on reasoning.
    pub reasoning: u64,
    /// Part of the prompt that was audio.
    pub audio_in: u64,
    /// Part of `output` that was audio.
    pub audio_out: u64,
    /// What it was answered with.
    pub tier: ServiceTier,
}

impl Usage {
    /// All prompt tokens, cached or not.
    pub fn prompt(&self) -> u64 {
        self.input.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }

    /// Prompt and output together.
    pub fn total(&self) -> u64 {
        self.prompt().saturating_add(self.output)
    }
}

/// Counts of an OpenAI usage object (Chat, Completions, Embeddings, Responses) as they were sent.
#[derive(Clone, Copy, Debug, Default)]
struct OpenAiCounts {
    prompt: Option<u64>,
    output: Option<u64>,
    total: Option<u64>,
    cached: Option<u64>,
    cache_hit: Option<u64>,
    written: u64,
    written_long: u64,
    reasoning: u64,
    audio_in: u64,
    audio_out: u64,
}

/// Reads an OpenAI usage object at the cursor; `None` when it is null, no object, or has no token count.
pub(crate) fn read_openai(cursor: &mut Cursor<'_>) -> Option<Usage> {
    let mut counts = OpenAiCounts::default();
    cursor.object(|cursor, name| match name {
        b"prompt_tokens" | b"input_tokens" => counts.prompt = cursor.skip().count().or(counts.prompt),
        b"completion_tokens" | b"output_tokens" => counts.output = cursor.skip().count().or(counts.output),
        b"total_tokens" => counts.total = cursor.skip().count(),
        // DeepSeek on Azure puts it beside the details.
        b"reasoning_tokens" => counts.reasoning = cursor.skip().count().unwrap_or(0),
        b"prompt_cache_hit_tokens" => counts.cache_hit = cursor.skip().count(),
        b"prompt_tokens_details" | b"input_tokens_details" => {
            cursor.object(|cursor, name| match name {
                b"cached_tokens" => counts.cached = cursor.skip().count(),
                b"cache_write_tokens" => counts.written = cursor.skip().count().unwrap_or(0),
                b"audio_tokens" => counts.audio_in = cursor.skip().count().unwrap_or(0),
                b"cache_write_tokens_details" => {
                    cursor.object(|cursor, name| {
                        if name == b"ttl_12h_tokens" {
                            counts.written_long = cursor.skip().count().unwrap_or(0);
                        }
                    });
                }
                _ => {}
            });
        }
        b"completion_tokens_details" | b"output_tokens_details" => {
            cursor.object(|cursor, name| match name {
                b"reasoning_tokens" => counts.reasoning = cursor.skip().count().unwrap_or(0),
                b"audio_tokens" => counts.audio_out = cursor.skip().count().unwrap_or(0),
                _ => {}
            });
        }
        _ => {}
    });
    counts.settle()
}

impl OpenAiCounts {
    fn settle(self) -> Option<Usage> {
        if self.prompt.is_none() && self.output.is_none() {
            return None;
        }
        let prompt = self.prompt.unwrap_or(0);
        let cache_read = self.cached.or(self.cache_hit).unwrap_or(0);
        let cached = cache_read.saturating_add(self.written);
        let said = self.output.unwrap_or(0);
        // Only a total that adds up exactly tells that reasoning is counted on top; a larger reasoning count cannot
        // be a part either.
        let on_top = prompt.checked_add(said).and_then(|sum| sum.checked_add(self.reasoning));
        let output = if self.reasoning > said
            || (self.reasoning > 0 && self.total.is_some() && self.total == on_top)
        {
            said.saturating_add(self.reasoning)
        } else {
            said
        };
        Some(Usage {
            input: if cached > prompt { prompt } else { prompt - cached },
            cache_read,
            cache_write: self.written,
            cache_write_long: self.written_long.min(self.written),
            output,
            reasoning: self.reasoning,
            audio_in: self.audio_in,
            audio_out: self.audio_out,
            tier: ServiceTier::default(),
        })
    }
}

/// Reads an Anthropic usage object at the cursor over what earlier events said: a field that is there replaces, one
/// that is missing stays, since `message_delta` repeats only some of `message_start`'s and corrects others.
pub(crate) fn read_anthropic(cursor: &mut Cursor<'_>, before: Option<Usage>) -> Option<Usage> {
    let mut usage = before.unwrap_or_default();
    let mut seen = before.is_some();
    cursor.object(|cursor, name| {
        let slot = match name {
            b"input_tokens" => &mut usage.input,
            b"cache_read_input_tokens" => &mut usage.cache_read,
            b"cache_creation_input_tokens" => &mut usage.cache_write,
            b"output_tokens" => &mut usage.output,
            b"service_tier" => {
                usage.tier = ServiceTier::read(cursor).unwrap_or(usage.tier);
                return;
            }
            // Anthropic's fast mode costs more, and is no tier.
            b"speed" => {
                if cursor.skip().is("fast") {
                    usage.tier = ServiceTier::Other;
                }
                return;
            }
            b"cache_creation" => {
                cursor.object(|cursor, name| {
                    if name == b"ephemeral_1h_input_tokens" {
                        usage.cache_write_long = cursor.skip().count().unwrap_or(usage.cache_write_long);
                    }
                });
                return;
            }
            b"output_tokens_details" => {
                cursor.object(|cursor, name| {
                    if name == b"thinking_tokens" {
                        usage.reasoning = cursor.skip().count().unwrap_or(usage.reasoning);
                    }
                });
                return;
            }
            _ => return,
        };
        if let Some(count) = cursor.skip().count() {
            *slot = count;
            seen = true;
        }
    });
    seen.then_some(usage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn openai(text: &str) -> Option<Usage> {
        read_openai(&mut Cursor::new(text.as_bytes()))
    }

    #[test]
    fn cached_tokens_are_not_counted_twice() {
        let usage = openai(
            r#"{"prompt_tokens":100,"completion_tokens":50,"total_tokens":150,
                "prompt_tokens_details":{"cached_tokens":60,"cache_write_tokens":30,"audio_tokens":4},
                "completion_tokens_details":{"reasoning_tokens":20,"audio_tokens":3}}"#,
        )
        .unwrap();
        assert_eq!(
            usage,
            Usage {
                input: 10,
                cache_read: 60,
                cache_write: 30,
                output: 50,
                reasoning: 20,
                audio_in: 4,
                audio_out: 3,
                ..Usage::default()
            }
        );
        assert_eq!((usage.prompt(), usage.total()), (100, 150));
    }

    #[test]
    fn each_provider_is_read_as_it_counts() {
        for (what, text, (input, read, output, reasoning)) in [
            (
                "deepseek",
                r#"{"prompt_tokens":13,"completion_tokens":4,"prompt_cache_hit_tokens":5}"#,
                (8, 5, 4, 0),
            ),
            (
                "xai",
                r#"{"prompt_tokens":12,"completion_tokens":1,"total_tokens":303,
                    "prompt_tokens_details":{"cached_tokens":11},"completion_tokens_details":{"reasoning_tokens":290}}"#,
                (1, 11, 291, 290),
            ),
            (
                "responses",
                r#"{"input_tokens":255,"input_tokens_details":{"cached_tokens":55},"output_tokens":16,
                    "output_tokens_details":{"reasoning_tokens":6},"total_tokens":271}"#,
                (200, 55, 16, 6),
            ),
            ("embeddings", r#"{"prompt_tokens":8,"total_tokens":8}"#, (8, 0, 0, 0)),
            (
                "null details",
                r#"{"prompt_tokens":8,"completion_tokens":2,"prompt_tokens_details":null}"#,
                (8, 0, 2, 0),
            ),
            (
                "cache outside the prompt",
                r#"{"prompt_tokens":4,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":1000}}"#,
                (4, 1000, 2, 0),
            ),
        ] {
            let usage = openai(text).unwrap();
            assert_eq!(
                (usage.input, usage.cache_read, usage.output, usage.reasoning),
                (input, read, output, reasoning),
                "{what}"
            );
        }
    }

    #[test]
    fn the_tier_is_what_the_answer_says() {
        let tier = |text: &str| read_anthropic(&mut Cursor::new(text.as_bytes()), None).unwrap().tier;
        assert_eq!(tier(r#"{"input_tokens":1,"service_tier":"priority"}"#), ServiceTier::Priority);
        assert_eq!(tier(r#"{"input_tokens":1,"service_tier":null}"#), ServiceTier::Standard);
        assert_eq!(tier(r#"{"service_tier":"standard","input_tokens":1}"#), ServiceTier::Standard);
        assert_eq!(
            tier(r#"{"input_tokens":1,"service_tier":"standard","speed":"fast"}"#),
            ServiceTier::Other
        );
        for code in 0..8 {
            let tier = ServiceTier::from_code(code);
            assert_eq!(tier.code(), code.min(4));
            assert_eq!(ServiceTier::of(tier.label().as_bytes()), tier);
        }
    }

    #[test]
    fn nothing_is_made_up_when_nothing_was_said() {
        for text in ["null", "{}", "[]", "3", r#"{"prompt_tokens":null}"#, ""] {
            assert_eq!(openai(text), None, "{text}");
            assert_eq!(read_anthropic(&mut Cursor::new(text.as_bytes()), None), None, "{text}");
        }
    }

    #[test]
    fn later_anthropic_counts_correct_the_first_ones() {
        let start = read_anthropic(
            &mut Cursor::new(
                br#"{"input_tokens":61,"cache_creation_input_tokens":7,"cache_read_input_tokens":3,
                     "cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":5},"output_tokens":1}"#,
            ),
            None,
        );
        let end = read_anthropic(
            &mut Cursor::new(
                br#"{"input_tokens":43,"output_tokens":12,"output_tokens_details":{"thinking_tokens":9}}"#,
            ),
            start,
        )
        .unwrap();
        assert_eq!((end.input, end.cache_read, end.cache_write, end.cache_write_long), (43, 3, 7, 5));
        assert_eq!((end.output, end.reasoning, end.total()), (12, 9, 65));
    }
}
