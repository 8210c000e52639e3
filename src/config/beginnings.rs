//! What works without the file naming any model: providers before a slash, and bare names by how they begin.
//!
//! A maker's claim on a beginning beats that of a host, and only configured providers have claims, so the same
//! bare name may be clear in one file and ambiguous in another.

use super::catalog::{Catalog, Claim};
use super::compile::id;
use super::known::{Known, Table};
use super::plan::{Provider, ProviderId};
use super::provider::is_mock;

/// A catalog with rules 2 to 4 filled in.
pub(super) fn catalog(providers: &[Provider], table: &Table) -> Catalog {
    let mut catalog = Catalog::default();
    let mut made: Vec<(&str, ProviderId)> = Vec::new();
    let mut hosted: Vec<(&str, ProviderId)> = Vec::new();
    for (index, provider) in providers.iter().enumerate() {
        catalog.providers.insert(provider.name.clone(), id(index));
        if let Some(Known { models, hosts, .. }) = table.row(&provider.name) {
            made.extend(models.iter().map(|start| (start.as_str(), id(index))));
            hosted.extend(hosts.iter().map(|start| (start.as_str(), id(index))));
        }
    }
    hosted.retain(|(start, _)| !made.iter().any(|(own, _)| start.starts_with(own) || own.starts_with(start)));
    made.append(&mut hosted);
    catalog.beginnings = beginnings(&made);
    catalog.everything = match providers {
        [only] => {
            let guessable = table.row(&only.name).is_some_and(|known| !known.models.is_empty());
            (is_mock(only) || (!guessable && only.models.is_empty())).then_some(ProviderId(0))
        }
        _ => None,
    };
    catalog
}

/// Each beginning once, longest first, with all who claim it or a shorter one it starts with.
fn beginnings(claims: &[(&str, ProviderId)]) -> Vec<(Box<str>, Claim)> {
    let mut beginnings: Vec<(Box<str>, Claim)> = Vec::new();
    for (start, _) in claims {
        if beginnings.iter().any(|(own, _)| **own == **start) {
            continue;
        }
        let mut owners: Vec<ProviderId> = Vec::new();
        for (own, owner) in claims {
            if start.starts_with(own) && !owners.contains(owner) {
                owners.push(*owner);
            }
        }
        let claim = match owners[..] {
            [one] => Claim::One(one),
            _ => Claim::Several(owners),
        };
        beginnings.push(((*start).into(), claim));
    }
    beginnings.sort_by_key(|(start, _)| std::cmp::Reverse(start.len()));
    beginnings
}
