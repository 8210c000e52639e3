//! Looking things up in a price list, for people: by every provider, with the rule that matched, and names nearby.

use super::{ALIASES, PriceList, Rules};
use crate::policy::price::Price;

/// Similarity of a name below which it is no suggestion.
const NEAR: f64 = 0.8;
/// Most suggestions.
const NEAREST_MAX: usize = 5;

/// A line of the list that says what a model costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed<'l> {
    /// The provider, by the list's name.
    pub provider: &'l str,
    /// `=name`, `^beginning` or `~part`.
    pub kind: char,
    /// The name, its beginning or its part.
    pub rule: &'l str,
    /// The price.
    pub price: Price,
}

impl PriceList {
    /// Whether the list has this provider, under its own name or one of ours.
    pub fn knows(&self, provider: &str) -> bool {
        self.providers.contains_key(provider) || ALIASES.iter().any(|(name, _)| *name == provider)
    }

    /// What `model` costs at `provider`, with the rule that says so.
    pub fn listed(&self, provider: &str, model: &str) -> Option<Listed<'_>> {
        let alias = ALIASES.iter().find(|(name, _)| *name == provider).map(|(_, listed)| *listed);
        let (provider, rules) =
            self.providers.get_key_value(provider).or_else(|| self.providers.get_key_value(alias?))?;
        let (kind, rule, price) = rules.find(&model.to_ascii_lowercase())?;
        Some(Listed { provider, kind, rule, price })
    }

    /// What `model` costs wherever the list has it: providers with the very name first, then by name.
    pub fn anywhere(&self, model: &str) -> Vec<Listed<'_>> {
        let mut found: Vec<Listed<'_>> =
            self.providers.keys().filter_map(|provider| self.listed(provider, model)).collect();
        let order = |listed: &Listed<'_>| ['=', '^', '~'].iter().position(|kind| *kind == listed.kind);
        found.sort_by(|a, b| (order(a), a.provider).cmp(&(order(b), b.provider)));
        found
    }

    /// Every line of the list, by provider and rule.
    pub fn all(&self) -> Vec<Listed<'_>> {
        let mut all = Vec::new();
        for (provider, rules) in &self.providers {
            all.extend(rules.all().map(|(kind, rule, price)| Listed { provider, kind, rule, price }));
        }
        all.sort_by_key(|listed| (listed.provider, listed.rule));
        all
    }

    /// Names of the list that look like `asked` (`model` or `provider/model`), nearest first.
    pub fn nearest(&self, asked: &str) -> Vec<String> {
        let (provider, model) = match asked.split_once('/') {
            Some((provider, model)) if self.knows(provider) => (Some(provider), model),
            _ => (None, asked),
        };
        let model = model.to_ascii_lowercase();
        let mut ranked: Vec<(f64, String)> = Vec::new();
        for listed in self.all() {
            let own = listed.rule.rsplit('/').next().unwrap_or(listed.rule);
            let mut near = strsim::jaro_winkler(&model, own);
            // Of equals, the provider that was named goes first, then who makes the model.
            if provider == Some(listed.provider) || listed.rule == own {
                near += 0.001;
            }
            if near >= NEAR {
                ranked.push((near, format!("{}/{}", listed.provider, listed.rule)));
            }
        }
        ranked.sort_by(|(a, one), (b, other)| b.total_cmp(a).then_with(|| one.cmp(other)));
        ranked.dedup_by(|a, b| a.1 == b.1);
        ranked.into_iter().take(NEAREST_MAX).map(|(_, name)| name).collect()
    }
}

impl Rules {
    /// The rule for a name in lower case: the whole name, then the longest beginning, then the longest part.
    pub(super) fn find(&self, model: &str) -> Option<(char, &'static str, Price)> {
        let exact = || self.exact.get_key_value(model).map(|(name, price)| ('=', *name, *price));
        let prefix = || self.prefixes.iter().find(|(name, _)| model.starts_with(name)).map(as_rule('^'));
        let part = || self.parts.iter().find(|(name, _)| model.contains(name)).map(as_rule('~'));
        exact().or_else(prefix).or_else(part)
    }

    fn all(&self) -> impl Iterator<Item = (char, &'static str, Price)> {
        let exact = self.exact.iter().map(|(name, price)| ('=', *name, *price));
        exact.chain(self.prefixes.iter().map(as_rule('^'))).chain(self.parts.iter().map(as_rule('~')))
    }
}

fn as_rule(kind: char) -> impl Fn(&(&'static str, Price)) -> (char, &'static str, Price) {
    move |(name, price)| (kind, *name, *price)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_at_every_provider_that_lists_it() {
        let list = PriceList::shipped();
        let found = list.anywhere("gpt-4o-mini");
        assert!(
            found.iter().any(|listed| listed.provider == "openai" && listed.price.rates.input == 150_000)
        );
        assert!(list.anywhere("claude-haiku-4-5").len() > 1);
        let gemini = list.listed("gemini", "gemini-2.5-flash").unwrap();
        assert_eq!(gemini.provider, "google");
        assert!(list.knows("gemini") && list.knows("openai") && !list.knows("my-vllm"));
        assert!(list.anywhere("no-such-model-at-all").is_empty());
        assert!(list.all().len() > 3_000);
    }

    #[test]
    fn a_slip_of_the_pen_gets_the_name_that_was_meant() {
        let list = PriceList::shipped();
        assert!(list.nearest("gpt-4o-mimi").contains(&"openai/gpt-4o-mini".to_owned()));
        assert!(list.nearest("anthropic/claude-haiku-45")[0].starts_with("anthropic/claude-haiku-4"));
        assert!(list.nearest("zzzzzzzz").is_empty());
    }
}
