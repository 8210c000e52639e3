//! What OpenAI's own models refuse, by name. Other vendors' models behind the same API take the classic parameters.

/// What one model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Model {
    /// The limit is called `max_completion_tokens`; `max_tokens` is refused or deprecated.
    pub completion_limit: bool,
    /// It reasons: `reasoning_effort` is accepted, sampling and `stop` are refused.
    pub reasons: bool,
    /// `reasoning_effort: none` is accepted.
    pub can_stop_reasoning: bool,
    /// Accepts `reasoning_effort`, whatever else it takes.
    pub effort: bool,
}

impl Model {
    pub fn of(model: &str) -> Self {
        // Aggregators put the vendor in front: `openai/gpt-5`.
        let name = model.rsplit('/').next().unwrap_or(model);
        let o_series =
            name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let gpt_5 = name.starts_with("gpt-5") && !name.contains("chat");
        let open_weights = name.starts_with("gpt-oss");
        Self {
            completion_limit: o_series
                || (name.starts_with("gpt-") && !open_weights)
                || name.starts_with("chatgpt-"),
            reasons: o_series || gpt_5,
            can_stop_reasoning: name.starts_with("gpt-5."),
            effort: o_series || gpt_5 || open_weights,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_given_only_what_they_take() {
        for (model, completion_limit, reasons, can_stop, effort) in [
            ("gpt-4o-mini", true, false, false, false),
            ("gpt-5-nano", true, true, false, true),
            ("gpt-5.6-terra", true, true, true, true),
            ("gpt-5-chat-latest", true, false, false, false),
            ("openai/o3", true, true, false, true),
            ("o4-mini-2025-04-16", true, true, false, true),
            ("openai/gpt-oss-120b", false, false, false, true),
            ("llama-3.3-70b", false, false, false, false),
            ("olmo", false, false, false, false),
        ] {
            let expected = Model { completion_limit, reasons, can_stop_reasoning: can_stop, effort };
            assert_eq!(Model::of(model), expected, "{model}");
        }
    }
}
