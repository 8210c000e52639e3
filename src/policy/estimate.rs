//! How large a prompt is, and what it costs, before anyone has counted it.
//!
//! Prevents: counting a 200k-token prompt (tens of milliseconds of tokenizer) to decide whether to send it; and taking
//! an unknown price for no price. Every answer says how many tokens its prompt had, so bytes per token are learned per
//! model: on prose, code and JSON a fixed 4 is off by 26 %, the learned figure by what the last requests differ.
//!
//! The figure is a moving average of 1/16, kept per core and seeded with 4.0 bytes; a report outside 1 to 16 bytes a
//! token (images sent as base64, cached prompts counted elsewhere) is not believed.
//!
//! Leaves out: what a token costs, see [`super::price`].

use super::ids::SlotId;
use super::price::{Price, Tokens};
use super::state::Core;

/// Bytes a token of a model nothing is known of.
pub const SEED_BYTES_PER_TOKEN: f32 = 4.0;
const BELIEVABLE: std::ops::RangeInclusive<f32> = 1.0..=16.0;
const WEIGHT: f32 = 1.0 / 16.0;

/// What is known of a model besides what was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ModelFacts {
    /// `None`: unpriced, which is not free.
    pub price: Option<Price>,
    /// Context window in tokens; 0 when unknown.
    pub context_tokens: u32,
}

impl ModelFacts {
    /// What these tokens count under limits in money, nano-dollars: their cost, and for an unpriced model
    /// `unpriced_nano_usd` for each, input or output, because unknown is not free.
    pub fn cost_for_limits(&self, tokens: &Tokens, unpriced_nano_usd: u32) -> u64 {
        let unpriced = || tokens.total().saturating_mul(u64::from(unpriced_nano_usd));
        self.price.and_then(|price| price.cost(tokens)).unwrap_or_else(unpriced)
    }
}

/// What is known of one model's tokens. One writer: the core.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TokenSize {
    bytes: f32,
    known: bool,
}

impl TokenSize {
    pub(crate) fn new() -> Self {
        TokenSize { bytes: SEED_BYTES_PER_TOKEN, known: false }
    }

    fn learn(&mut self, body_bytes: u64, tokens: u64) {
        let seen = body_bytes as f32 / tokens.max(1) as f32;
        if tokens == 0 || !BELIEVABLE.contains(&seen) {
            return;
        }
        self.bytes = if self.known { self.bytes + (seen - self.bytes) * WEIGHT } else { seen };
        self.known = true;
    }

    fn tokens(&self, body_bytes: u64) -> u32 {
        (body_bytes as f32 / self.bytes).ceil() as u32
    }
}

impl Core {
    /// Estimated tokens of a prompt of `body_bytes` for this target.
    pub fn estimate_tokens(&self, slot: SlotId, body_bytes: u64) -> u32 {
        self.known(slot).map_or_else(TokenSize::new, |local| local.token_size).tokens(body_bytes)
    }

    /// Learns from a reported prompt size, cached tokens included.
    pub fn learn_tokens(&mut self, slot: SlotId, body_bytes: u64, tokens: u64) {
        self.local(slot).token_size.learn(body_bytes, tokens);
    }
}

#[cfg(test)]
mod tests {
    use super::super::price::Rates;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_report_replaces_the_seed_and_later_ones_pull_gently() {
        let mut size = TokenSize::new();
        assert_eq!(size.tokens(800_000), 200_000);
        size.learn(300, 100);
        assert_eq!(size.tokens(300_000), 100_000);
        size.learn(500, 100);
        assert!((91_000..99_000).contains(&size.tokens(300_000)));
        (0..200).for_each(|_| size.learn(500, 100));
        assert!((59_000..61_000).contains(&size.tokens(300_000)));
    }

    #[test]
    fn reports_that_cannot_be_are_not_believed() {
        let mut size = TokenSize::new();
        for (bytes, tokens) in [(100, 0), (100, 101), (1601, 100), (10_000_000, 85)] {
            size.learn(bytes, tokens);
            assert_eq!(size.tokens(400), 100);
        }
        size.learn(1600, 100);
        assert_eq!(size.tokens(1600), 100, "exactly sixteen bytes a token is believed");
    }

    const SONNET: Rates =
        Rates { input: 3_000_000, cache_read: 300_000, cache_write: 3_750_000, output: 15_000_000 };

    #[test]
    fn an_unpriced_model_is_not_free_under_a_limit() {
        let tokens = Tokens { input: 900, output: 100, ..Tokens::default() };
        assert_eq!(ModelFacts::default().cost_for_limits(&tokens, 15_000), 15_000_000);
        let priced =
            ModelFacts { price: Some(Price { rates: SONNET, ..Price::default() }), context_tokens: 0 };
        assert_eq!(priced.cost_for_limits(&tokens, 15_000), 4_200_000);
        let free = ModelFacts { price: Some(Price::default()), context_tokens: 0 };
        assert_eq!(free.cost_for_limits(&tokens, 15_000), 0, "a price of nothing is a price");
    }

    proptest! {
        #[test]
        fn an_estimate_stays_between_what_was_seen(reports in prop::collection::vec(100u64..1600, 1..100), body in 1u64..1_000_000) {
            let mut size = TokenSize::new();
            reports.iter().for_each(|&bytes| size.learn(bytes, 100));
            let (low, high) = (*reports.iter().min().unwrap() as f64 / 100.0, *reports.iter().max().unwrap() as f64 / 100.0);
            let tokens = f64::from(size.tokens(body));
            prop_assert!(tokens >= (body as f64 / high) * 0.999 && tokens <= body as f64 / low * 1.001 + 1.0);
        }
    }
}
