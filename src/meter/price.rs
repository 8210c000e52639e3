//! What models cost: the price list that ships with the binary.
//!
//! `prices.tsv` is made by `tools/prices.py` from `genai-prices`, which Pydantic keeps current for some 2,300 models of 47
//! providers (MIT; the file names its version and date). It was chosen over LiteLLM's list, which is larger but mixes
//! providers and models in one key and has no rules for dated names.
//!
//! A model is found by the rules of its provider: the whole name first, then the longest prefix, then the longest part. A model
//! without a rule is unpriced, which is shown as such and never as free.
//!
//! Limits: list prices only; batch, priority and negotiated prices are not known. Prompts that cost more by their size
//! are, for the first step. Leaves out: fetching newer lists; a release carries one.

mod find;

use std::collections::HashMap;

use crate::policy::estimate::{Price, Prices, Rates};

pub use find::Listed;

const LIST: &str = include_str!("prices.tsv");

/// Provider names of the configuration that the list has under another name.
const ALIASES: [(&str, &str); 7] = [
    ("bedrock", "aws"),
    ("gemini", "google"),
    ("github", "github-copilot"),
    ("moonshot", "moonshotai"),
    ("vertex", "google"),
    ("xai", "x-ai"),
    ("zhipu", "zhipuai"),
];

/// A parsed price list.
#[derive(Debug)]
pub struct PriceList {
    providers: HashMap<&'static str, Rules>,
    /// The first comment line: what the list is, and of when.
    about: &'static str,
}

#[derive(Debug, Default)]
struct Rules {
    exact: HashMap<&'static str, Price>,
    prefixes: Vec<(&'static str, Price)>,
    parts: Vec<(&'static str, Price)>,
}

impl PriceList {
    /// The list that ships with the binary. Takes a few milliseconds; a process needs one.
    pub fn shipped() -> PriceList {
        PriceList::parse(LIST)
    }

    /// Reads a list; lines that are not understood are left out, so their models are unpriced.
    fn parse(text: &'static str) -> PriceList {
        let mut providers: HashMap<&'static str, Rules> = HashMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((provider, rule, price)) = read(line) else { continue };
            let rules = providers.entry(provider).or_default();
            match rule.split_at_checked(1) {
                Some(("=", name)) => drop(rules.exact.insert(name, price)),
                Some(("^", name)) => rules.prefixes.push((name, price)),
                Some(("~", name)) => rules.parts.push((name, price)),
                _ => {}
            }
        }
        for rules in providers.values_mut() {
            // The longest rule is the most particular one.
            rules.prefixes.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
            rules.parts.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
        let about = text.lines().next().unwrap_or_default().trim_start_matches(['#', ' ']);
        PriceList { providers, about }
    }

    /// Where the prices are from, and of when.
    pub fn about(&self) -> &str {
        self.about
    }
}

impl Prices for PriceList {
    fn price(&self, provider: &str, model: &str) -> Option<Price> {
        self.listed(provider, model).map(|listed| listed.price)
    }
}

fn read(line: &'static str) -> Option<(&'static str, &'static str, Price)> {
    let mut fields = line.split('\t');
    let (provider, rule) = (fields.next()?, fields.next()?);
    let mut numbers = fields.map(|field| field.parse::<u32>().ok());
    let rates = rates(&mut numbers)?;
    let context_tokens = numbers.next()??;
    let large = match numbers.next() {
        Some(from) => Some((from?, self::rates(&mut numbers)?)),
        None => None,
    };
    Some((provider, rule, Price { rates, large, context_tokens }))
}

fn rates(numbers: &mut impl Iterator<Item = Option<u32>>) -> Option<Rates> {
    let mut next = || numbers.next().flatten();
    Some(Rates { input: next()?, cache_read: next()?, cache_write: next()?, output: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::estimate::Tokens;

    #[test]
    fn the_models_of_the_readme_have_their_published_prices() {
        let list = PriceList::shipped();
        let dollars = |provider, model| {
            let price = list.price(provider, model).expect("priced");
            let million = Tokens { input: 100_000, output: 100_000, ..Tokens::default() };
            price.cost(&million) as f64 / 1e8
        };
        assert_eq!(dollars("openai", "gpt-4o-mini"), 0.15 + 0.60);
        assert_eq!(dollars("anthropic", "claude-haiku-4-5"), 1.0 + 5.0);
        assert_eq!(dollars("anthropic", "claude-haiku-4-5-20251001"), 1.0 + 5.0);
        assert!(list.price("gemini", "gemini-2.5-flash").is_some());
        assert!(list.about().contains("genai-prices"));
    }

    #[test]
    fn an_unknown_model_is_unpriced_and_not_free() {
        let list = PriceList::shipped();
        assert_eq!(list.price("openai", "our-own-model"), None);
        assert_eq!(list.price("my-vllm", "gpt-4o-mini"), None);
    }

    #[test]
    fn every_line_of_the_list_is_understood() {
        for line in LIST.lines().filter(|line| !line.starts_with('#')) {
            let (_, rule, price) = read(line).unwrap_or_else(|| panic!("{line}"));
            assert!(rule.starts_with(['=', '^', '~']) && rule.len() > 1, "{line}");
            assert_eq!(rule.to_ascii_lowercase(), rule, "{line}");
            assert!(
                price.rates.input > 0
                    || price.rates.output > 0
                    || line.contains(":free")
                    || price.rates == Rates::default()
            );
        }
    }

    #[test]
    fn the_whole_name_goes_before_the_longest_prefix_and_that_before_a_part() {
        let list = PriceList::parse(
            "p\t~a\t1\t1\t1\t1\t0\np\t^ab\t2\t2\t2\t2\t0\np\t^abc\t3\t3\t3\t3\t0\np\t=abcd\t4\t4\t4\t4\t0\n",
        );
        for (model, expected) in [("ABCD", 4), ("abcde", 3), ("abx", 2), ("xax", 1)] {
            assert_eq!(list.price("p", model).unwrap().rates.input, expected, "{model}");
        }
        assert_eq!(list.price("p", "xyz"), None);
    }
}
