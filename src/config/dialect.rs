//! Which family of APIs a provider speaks.

/// The family of wire APIs a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// Chat Completions, Responses, Embeddings and the rest of `api.openai.com`; bearer keys.
    OpenAi,
    /// Messages of `api.anthropic.com`; keys in `x-api-key`.
    Anthropic,
}

impl Dialect {
    /// The names a file uses.
    pub const NAMES: [(&'static str, Dialect); 2] =
        [("openai", Dialect::OpenAi), ("anthropic", Dialect::Anthropic)];

    /// The name a file uses.
    pub fn name(self) -> &'static str {
        match self {
            Dialect::OpenAi => "openai",
            Dialect::Anthropic => "anthropic",
        }
    }
}
