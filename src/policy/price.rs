//! What tokens cost.
//!
//! Prevents: a bill that differs from the ledger. Providers price by kind of token, by the size of the prompt, by how long
//! a cache is kept, by audio, and by the service tier that they say they answered with; and taking an unknown price for no
//! price. Field names and semantics are those of the providers' usage objects (OpenAI, Anthropic).
//!
//! Prices are pico-dollars a token, so that every published price is a whole number (0.01875 dollars a million is 18,750);
//! sums of money are nano-dollars, rounded up once, at the end.
//!
//! Leaves out: the prices themselves. They change monthly and are data: see the [`Prices`] trait.

use std::fmt;
use std::sync::Arc;

use crate::config::{ListPrice, ModelPrice};
use crate::dialect::ServiceTier;

pub use crate::config::PriceExtras as Extras;

/// What a token of each kind costs, pico-dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Input read for the first time.
    pub input: u32,
    /// Input found in the provider's cache.
    pub cache_read: u32,
    /// Input written to the provider's cache.
    pub cache_write: u32,
    /// Output, reasoning included.
    pub output: u32,
}

/// Price of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Price {
    /// What tokens cost.
    pub rates: Rates,
    /// What they cost when the prompt has more tokens than this.
    pub large: Option<(u32, Rates)>,
    /// What is priced apart.
    pub extras: Extras,
    /// Context window in tokens; 0 when unknown.
    pub context_tokens: u32,
}

/// Tokens of one answer. The first four are disjoint; the others are parts of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Input read for the first time.
    pub input: u64,
    /// Input found in the provider's cache.
    pub cache_read: u64,
    /// Input written to the provider's cache.
    pub cache_write: u64,
    /// Output, reasoning included.
    pub output: u64,
    /// Part of `cache_write` kept for an hour or more.
    pub cache_write_long: u64,
    /// Part of `input` that was audio.
    pub audio_input: u64,
    /// Part of `output` that was audio.
    pub audio_output: u64,
    /// Part of `output` spent on reasoning.
    pub reasoning: u64,
    /// The tier that the provider says it answered with.
    pub tier: ServiceTier,
}

impl Tokens {
    /// All of them.
    pub fn total(&self) -> u64 {
        let all = [self.input, self.cache_read, self.cache_write, self.output];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

impl From<ModelPrice> for Price {
    /// A price that the file states holds for prompts of every size.
    fn from(own: ModelPrice) -> Price {
        let rates = Rates {
            input: own.input,
            cache_read: own.cache_read,
            cache_write: own.cache_write,
            output: own.output,
        };
        Price { rates, extras: own.extras, ..Price::default() }
    }
}

impl Price {
    /// What these tokens cost, nano-dollars, rounded up. `None`: a service tier whose price nobody knows and that may be
    /// dearer than the standard one. A cheaper tier without a price of its own costs the standard one.
    pub fn cost(&self, tokens: &Tokens) -> Option<u64> {
        let extras = &self.extras;
        let share = match tokens.tier {
            ServiceTier::Standard => 1000,
            ServiceTier::Flex => extras.flex.unwrap_or(1000),
            ServiceTier::Batch => extras.batch.unwrap_or(1000),
            ServiceTier::Priority => extras.priority?,
            ServiceTier::Other => return None,
        };
        let prompt = tokens.input.saturating_add(tokens.cache_read).saturating_add(tokens.cache_write);
        let rates = self.rates_for(prompt);
        // What is priced apart grows with the price of large prompts as the kind that it is a part of.
        let apart = |own: Option<u32>, plain: u32, now: u32| match own {
            Some(own) if plain > 0 => u128::from(own) * u128::from(now) / u128::from(plain),
            Some(own) => u128::from(own),
            None => u128::from(now),
        };
        let plain = &self.rates;
        let (long, heard) =
            (tokens.cache_write_long.min(tokens.cache_write), tokens.audio_input.min(tokens.input));
        let spoken = tokens.audio_output.min(tokens.output);
        let thought = tokens.reasoning.min(tokens.output - spoken);
        let part = |count: u64, rate: u128| u128::from(count) * rate;
        let pico = part(tokens.input - heard, rates.input.into())
            + part(heard, apart(extras.audio_input, plain.input, rates.input))
            + part(tokens.cache_read, rates.cache_read.into())
            + part(tokens.cache_write - long, rates.cache_write.into())
            + part(long, apart(extras.cache_write_long, plain.cache_write, rates.cache_write))
            + part(tokens.output - spoken - thought, rates.output.into())
            + part(spoken, apart(extras.audio_output, plain.output, rates.output))
            + part(thought, apart(extras.reasoning, plain.output, rates.output));
        // In thousandths of a pico-dollar, so that the one rounding is the last.
        Some(u64::try_from((pico * u128::from(share)).div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// What an input token of a prompt of this size costs, nano-dollars, rounded up: for
    /// [`super::TargetRef::input_nano_usd`].
    pub fn input_nano_usd(&self, prompt_tokens: u64) -> u32 {
        self.rates_for(prompt_tokens).input.div_ceil(1000)
    }

    fn rates_for(&self, prompt_tokens: u64) -> Rates {
        match self.large {
            Some((from, rates)) if prompt_tokens > u64::from(from) => rates,
            _ => self.rates,
        }
    }
}

/// Where prices come from.
pub trait Prices {
    /// The price of `model` at `provider`; `None`: unpriced, which is not free.
    fn price(&self, provider: &str, model: &str) -> Option<Price>;
}

/// The price list that settings carry for models that only clients name. Equal to itself alone.
#[derive(Clone, Default)]
pub struct PriceSource(Option<Arc<dyn Prices + Send + Sync>>);

impl PriceSource {
    /// Prices from `list`; the default has none, so that every model is unpriced.
    pub fn new(list: impl Prices + Send + Sync + 'static) -> Self {
        PriceSource(Some(Arc::new(list)))
    }

    /// The price of `model` at `provider`; `None`: unpriced.
    pub fn price(&self, provider: &str, model: &str) -> Option<Price> {
        self.0.as_ref()?.price(provider, model)
    }
}

impl fmt::Debug for PriceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "PriceSource(..)" } else { "PriceSource(none)" })
    }
}

impl PartialEq for PriceSource {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

impl From<Price> for ListPrice {
    /// What a list says of a model, in the words of an explanation.
    fn from(price: Price) -> ListPrice {
        let rates = price.rates;
        ListPrice {
            price: ModelPrice {
                input: rates.input,
                cache_read: rates.cache_read,
                cache_write: rates.cache_write,
                output: rates.output,
                extras: price.extras,
            },
            context_tokens: (price.context_tokens > 0).then_some(price.context_tokens),
            dearer_above: price.large.map(|(tokens, _)| tokens),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SONNET: Rates =
        Rates { input: 3_000_000, cache_read: 300_000, cache_write: 3_750_000, output: 15_000_000 };

    #[test]
    fn a_200k_prompt_at_three_dollars_a_million_costs_sixty_cents() {
        let price = Price { rates: SONNET, ..Price::default() };
        assert_eq!(price.cost(&Tokens { input: 200_000, ..Tokens::default() }), Some(600_000_000));
        let all = Tokens { input: 1, cache_read: 1, cache_write: 1, output: 1, ..Tokens::default() };
        assert_eq!(price.cost(&all), Some(22_050));
        assert_eq!(price.cost(&Tokens { input: u64::MAX, output: 1, ..Tokens::default() }), Some(u64::MAX));
        assert_eq!(price.input_nano_usd(200_000), 3_000);
    }

    #[test]
    fn a_large_prompt_costs_more_from_one_past_its_limit() {
        let double = Rates { input: 6_000_000, ..SONNET };
        let price = Price { rates: SONNET, large: Some((200_000, double)), ..Price::default() };
        assert_eq!(
            price.cost(&Tokens { input: 199_999, cache_read: 1, ..Tokens::default() }),
            Some(599_997_300)
        );
        assert_eq!(
            price.cost(&Tokens { input: 200_000, cache_read: 1, ..Tokens::default() }),
            Some(1_200_000_300)
        );
        assert_eq!((price.input_nano_usd(200_000), price.input_nano_usd(200_001)), (3_000, 6_000));
    }

    #[test]
    fn a_fraction_of_a_nano_dollar_is_rounded_up() {
        let price = Price { rates: Rates { input: 18_750, ..Rates::default() }, ..Price::default() };
        assert_eq!(price.cost(&Tokens { input: 1, ..Tokens::default() }), Some(19));
        assert_eq!(price.cost(&Tokens { input: 1_000, ..Tokens::default() }), Some(18_750));
    }

    const APART: Extras = Extras {
        cache_write_long: Some(6_000_000),
        audio_input: Some(32_000_000),
        audio_output: Some(64_000_000),
        reasoning: Some(3_000_000),
        flex: Some(500),
        priority: Some(1_667),
        batch: None,
    };

    #[test]
    fn parts_that_are_priced_apart_are_not_paid_twice() {
        let price = Price { rates: SONNET, extras: APART, ..Price::default() };
        let tokens = Tokens {
            input: 10,
            cache_write: 10,
            output: 10,
            cache_write_long: 4,
            audio_input: 3,
            audio_output: 2,
            reasoning: 5,
            ..Tokens::default()
        };
        let input = 7 * 3_000 + 3 * 32_000;
        let written = 6 * 3_750 + 4 * 6_000;
        let output = 3 * 15_000 + 2 * 64_000 + 5 * 3_000;
        assert_eq!(price.cost(&tokens), Some(input + written + output));
        let plain = Price { rates: SONNET, ..Price::default() };
        assert_eq!(plain.cost(&tokens), Some(10 * 3_000 + 10 * 3_750 + 10 * 15_000), "no price of their own");
    }

    #[test]
    fn a_part_larger_than_its_whole_is_not_believed() {
        let price = Price { rates: SONNET, extras: APART, ..Price::default() };
        let tokens = Tokens { output: 2, audio_output: 1, reasoning: 9, audio_input: 9, ..Tokens::default() };
        assert_eq!(price.cost(&tokens), Some(64_000 + 3_000));
    }

    #[test]
    fn a_long_cache_of_a_large_prompt_grows_with_its_price() {
        let double =
            Rates { input: 6_000_000, cache_read: 600_000, cache_write: 7_500_000, output: 22_500_000 };
        let price = Price { rates: SONNET, large: Some((200_000, double)), extras: APART, context_tokens: 0 };
        let tokens = Tokens { cache_write: 200_001, cache_write_long: 200_001, ..Tokens::default() };
        assert_eq!(price.cost(&tokens), Some(200_001 * 12_000));
    }

    #[test]
    fn a_part_that_is_priced_apart_of_a_whole_that_is_free_costs_its_own_price() {
        let price = Price { extras: APART, ..Price::default() };
        let tokens = Tokens { input: 10, audio_input: 3, ..Tokens::default() };
        assert_eq!(price.cost(&tokens), Some(3 * 32_000));
    }

    #[test]
    fn what_the_file_and_a_list_say_of_a_model_is_kept_whole() {
        let own = ModelPrice { input: 1, cache_read: 2, cache_write: 3, output: 4, extras: APART };
        let rates = Rates { input: 1, cache_read: 2, cache_write: 3, output: 4 };
        assert_eq!(Price::from(own), Price { rates, extras: APART, ..Price::default() });
        let listed = Price { large: Some((200_000, SONNET)), context_tokens: 1, ..Price::from(own) };
        let shown = ListPrice { price: own, context_tokens: Some(1), dearer_above: Some(200_000) };
        assert_eq!(ListPrice::from(listed), shown);
        let unknown = ListPrice { context_tokens: None, dearer_above: None, ..shown };
        assert_eq!(ListPrice::from(Price::from(own)), unknown, "a window of nothing is an unknown one");
    }

    #[test]
    fn a_service_tier_costs_what_it_is_known_to_or_is_unpriced() {
        let price = Price { rates: SONNET, extras: APART, ..Price::default() };
        let cost = |tier| price.cost(&Tokens { input: 1_000, tier, ..Tokens::default() });
        assert_eq!(cost(ServiceTier::Standard), Some(3_000_000));
        assert_eq!(cost(ServiceTier::Flex), Some(1_500_000));
        assert_eq!(cost(ServiceTier::Priority), Some(5_001_000));
        assert_eq!(
            cost(ServiceTier::Batch),
            Some(3_000_000),
            "cheaper by an unknown share: never shown too low"
        );
        assert_eq!(cost(ServiceTier::Other), None);
        let plain = Price { rates: SONNET, ..Price::default() };
        assert_eq!(plain.cost(&Tokens { tier: ServiceTier::Priority, ..Tokens::default() }), None);
    }

    #[test]
    fn a_list_is_the_same_only_as_itself() {
        struct Free;
        impl Prices for Free {
            fn price(&self, _: &str, model: &str) -> Option<Price> {
                (model == "free").then(Price::default)
            }
        }
        let (one, other, none) = (PriceSource::new(Free), PriceSource::new(Free), PriceSource::default());
        assert!(one == one.clone() && none == PriceSource::default());
        assert_ne!(one, other);
        assert_ne!(one, none);
        assert_ne!(none, one);
        assert_eq!(one.price("any", "free"), Some(Price::default()));
        assert_eq!((one.price("any", "gpt"), none.price("any", "free")), (None, None));
    }

    #[test]
    fn the_tokens_of_an_answer_are_its_four_parts() {
        let parts = Tokens { input: 1, cache_read: 20, cache_write: 300, output: 4_000, ..Tokens::default() };
        assert_eq!(Tokens { reasoning: 9, audio_input: 9, ..parts }.total(), 4_321);
        assert_eq!(Tokens { output: u64::MAX, ..parts }.total(), u64::MAX);
    }

    prop_compose! {
        fn any_tokens()(n in prop::collection::vec(0u64..1_000_000, 8)) -> Tokens {
            Tokens {
                input: n[0], cache_read: n[1], cache_write: n[2], output: n[3],
                cache_write_long: n[4], audio_input: n[5], audio_output: n[6], reasoning: n[7],
                tier: ServiceTier::Standard,
            }
        }
    }

    prop_compose! {
        fn any_rates()(n in prop::collection::vec(0u32..100_000_000, 4)) -> Rates {
            Rates { input: n[0], cache_read: n[1], cache_write: n[2], output: n[3] }
        }
    }

    proptest! {
        #[test]
        fn an_answer_costs_the_sum_of_its_parts_rounded_up_once(tokens in any_tokens(), rates in any_rates()) {
            let price = Price { rates, ..Price::default() };
            let pico = [
                (tokens.input, rates.input),
                (tokens.cache_read, rates.cache_read),
                (tokens.cache_write, rates.cache_write),
                (tokens.output, rates.output),
            ];
            let pico: u64 = pico.iter().map(|&(count, rate)| count * u64::from(rate)).sum();
            prop_assert_eq!(price.cost(&tokens), Some(pico.div_ceil(1000)));
        }

        #[test]
        fn no_answer_costs_less_for_one_more_token(
            tokens in any_tokens(), rates in any_rates(), large in any_rates(), from in 0u32..4_000_000,
        ) {
            let dearer = |a: u32, b: u32| a.saturating_add(b);
            let large = Rates {
                input: dearer(rates.input, large.input),
                cache_read: dearer(rates.cache_read, large.cache_read),
                cache_write: dearer(rates.cache_write, large.cache_write),
                output: dearer(rates.output, large.output),
            };
            let price = Price { rates, large: Some((from, large)), ..Price::default() };
            let plain = price.cost(&tokens);
            for more in [
                Tokens { input: tokens.input + 1, ..tokens },
                Tokens { cache_read: tokens.cache_read + 1, ..tokens },
                Tokens { cache_write: tokens.cache_write + 1, ..tokens },
                Tokens { output: tokens.output + 1, ..tokens },
            ] {
                prop_assert!(price.cost(&more) >= plain);
            }
        }
    }
}
