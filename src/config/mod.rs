//! The config file, read, checked and compiled to a plan.

/// The wire API family that a provider speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// OpenAI Chat Completions and its siblings, and the many providers that copy them.
    OpenAi,
    /// Anthropic Messages.
    Anthropic,
}
