//! What models cost: the price list that ships with the binary.
//!
//! `prices.tsv` is made by `tools/prices.py` from `genai-prices`, which Pydantic keeps current for some 2,300 models of 47
//! providers (MIT; the file names its version and date). It was chosen over LiteLLM's list, which is larger but mixes
//! providers and models in one key and has no rules for dated names.
//!
//! A model is found by the rules of its provider: the whole name first, then the longest prefix, then the longest part. A model
//! without a rule is unpriced, which is shown as such and never as free.
//!
//! What that list leaves out (service tiers, audio tokens, caches kept for an hour) comes from LiteLLM's, where both agree on
//! the model's input price.
//!
//! Limits: list prices only; negotiated prices are not known. Prompts that cost more by their size are, for the first step. Leaves out: fetching newer lists; a release carries one.

mod find;

use std::collections::HashMap;

use crate::policy::price::{Extras, Price, Prices, Rates};

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
    // The last column has words; all before it are numbers.
    let (line, extras) = match line.rsplit_once('\t') {
        Some((numbers, words)) if words.contains('=') => (numbers, extras(words)?),
        _ => (line, Extras::default()),
    };
    let mut fields = line.split('\t');
    let (provider, rule) = (fields.next()?, fields.next()?);
    let mut numbers = fields.map(|field| field.parse::<u32>().ok());
    let rates = rates(&mut numbers)?;
    let context_tokens = numbers.next()??;
    let large = match numbers.next() {
        Some(from) => Some((from?, self::rates(&mut numbers)?)),
        None => None,
    };
    Some((provider, rule, Price { rates, large, extras, context_tokens }))
}

fn extras(words: &str) -> Option<Extras> {
    let mut extras = Extras::default();
    for word in words.split(' ') {
        let (name, number) = word.split_once('=')?;
        let (rate, share) = (number.parse().ok(), number.parse().ok());
        match name {
            "cache_write_long" => extras.cache_write_long = rate,
            "audio_input" => extras.audio_input = rate,
            "audio_output" => extras.audio_output = rate,
            "reasoning" => extras.reasoning = rate,
            "flex" => extras.flex = share,
            "priority" => extras.priority = share,
            "batch" => extras.batch = share,
            _ => return None,
        }
    }
    Some(extras)
}

fn rates(numbers: &mut impl Iterator<Item = Option<u32>>) -> Option<Rates> {
    let mut next = || numbers.next().flatten();
    Some(Rates { input: next()?, cache_read: next()?, cache_write: next()?, output: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::price::Tokens;

    #[test]
    fn what_is_priced_apart_is_read_and_a_word_that_is_not_known_makes_a_model_unpriced() {
        let list = PriceList::shipped();
        let sonnet = list.price("anthropic", "claude-sonnet-4-5").expect("priced");
        assert_eq!(
            sonnet.extras.cache_write_long,
            Some(2 * sonnet.rates.input),
            "Anthropic's rule for an hour"
        );
        let gpt = list.price("openai", "gpt-5").expect("priced");
        assert_eq!((gpt.extras.flex, gpt.extras.batch), (Some(500), Some(500)));
        let audio = list.price("openai", "gpt-4o-audio-preview").expect("priced");
        assert!(audio.extras.audio_input > Some(audio.rates.input));
        let text = "# a list\na\t=x\t1\t2\t3\t4\t0\tflex=500 audio_input=9\nb\t=x\t1\t2\t3\t4\t0\tsoon=1\n";
        let list = PriceList::parse(text);
        let extras = list.price("a", "x").expect("priced").extras;
        assert_eq!((extras.flex, extras.audio_input, extras.priority), (Some(500), Some(9), None));
        assert_eq!(list.price("b", "x"), None);
    }

    #[test]
    fn the_models_of_the_readme_have_their_published_prices() {
        let list = PriceList::shipped();
        let dollars = |provider, model| {
            let price = list.price(provider, model).expect("priced");
            let million = Tokens { input: 100_000, output: 100_000, ..Tokens::default() };
            price.cost(&million).expect("the standard tier") as f64 / 1e8
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
