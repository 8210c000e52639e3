//! The providers the gateway knows by name.
//!
//! The rows are data, in `providers.yaml` beside this file: base URL, variables that hold a key, and the
//! beginnings of model names that give a bare name its provider. The table is read once per load and is
//! small; nothing of it is kept in a global.
//!
//! Left out: what models exist. Names change weekly; only their beginnings are stable enough to compile in.

use serde::Deserialize;

/// Name of the built-in provider that answers without any account.
pub const MOCK: &str = "mock";

/// A row of `providers.yaml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    pub id: String,
    #[serde(default)]
    pub url: Option<String>,
    #[serde(default)]
    pub example: Option<String>,
    pub env: Vec<String>,
    #[serde(default)]
    pub dialect: Option<String>,
    #[serde(default)]
    pub models: Vec<String>,
    #[serde(default)]
    pub hosts: Vec<String>,
    #[serde(default)]
    pub keyless: bool,
}

impl Known {
    /// The variables that would hold a key, in words.
    pub(super) fn variables(&self) -> String {
        self.env.join(" or ")
    }
}

/// All rows.
pub(super) struct Table(pub Vec<Known>);

impl Table {
    /// Reads the compiled-in table.
    #[allow(clippy::expect_used, reason = "the text is compiled in and a test reads it")]
    pub(super) fn load() -> Self {
        Table(serde_saphyr::from_str(include_str!("providers.yaml")).expect("providers.yaml is valid"))
    }

    /// The row called `id`.
    pub(super) fn row(&self, id: &str) -> Option<&Known> {
        self.0.iter().find(|known| known.id == id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::dialect::Dialect;
    use super::super::values;
    use super::*;

    #[test]
    fn every_row_is_complete_and_unique() {
        let table = Table::load();
        let mut ids = HashSet::new();
        for row in &table.0 {
            assert!(ids.insert(row.id.clone()), "{} twice", row.id);
            assert!(!row.id.contains('/') && row.id != MOCK);
            assert!(row.url.is_some() != row.example.is_some(), "{}", row.id);
            assert!(row.keyless == row.env.is_empty(), "{}", row.id);
            if let Some(url) = &row.url {
                let (_, path) = values::base_url(url, true).unwrap();
                assert!(!path.ends_with('/'), "{}", row.id);
            }
            if let Some(dialect) = &row.dialect {
                assert!(Dialect::NAMES.iter().any(|(name, _)| name == dialect), "{}", row.id);
            }
        }
    }

    #[test]
    fn no_two_makers_claim_the_same_models() {
        let table = Table::load();
        let claims: Vec<(&str, &str)> =
            table.0.iter().flat_map(|row| row.models.iter().map(|m| (row.id.as_str(), m.as_str()))).collect();
        for (id, models) in &claims {
            for (other, longer) in &claims {
                assert!(id == other || !longer.starts_with(models), "{id} and {other} both claim {longer}");
            }
        }
    }
}
