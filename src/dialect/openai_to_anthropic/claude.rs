//! What each Claude model takes, by family and version rather than by a list of names.
//!
//! The rules come from the providers' documents and from published capability tables of November 2026; dated names,
//! `-latest` and cloud prefixes (`anthropic.claude-…`) need no entry of their own. A Claude whose version cannot be
//! read is taken for a new one, which accepts the fewest parameters; a name that is no Claude at all is some other
//! vendor's model behind the same API, which takes the classic ones.

/// How a model is told to think before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ThinkingStyle {
    /// It cannot.
    None,
    /// `thinking: {type: enabled, budget_tokens}`.
    Budget,
    /// `thinking: {type: adaptive}` with `output_config.effort`.
    Adaptive,
}

/// What one model takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claude {
    /// Most output tokens of one answer.
    pub max_output: u32,
    /// `temperature`, `top_p` and `top_k` are accepted.
    pub sampling: bool,
    /// `temperature` and `top_p` are accepted together.
    pub sampling_together: bool,
    /// The last message may be the assistant's.
    pub prefill: bool,
    /// `tool_choice` may be `any` or `tool`.
    pub forced_tools: bool,
    /// `output_config.format` and `strict` tools are accepted.
    pub native_schema: bool,
    /// How it is told to think.
    pub thinking: ThinkingStyle,
    /// Thinking cannot be switched off.
    pub always_thinks: bool,
    /// The effort level `xhigh` exists.
    pub xhigh: bool,
}

/// Output limit where the model is unknown: what every model of the API takes.
pub(super) const SAFE_MAX_OUTPUT: u32 = 4096;

impl Claude {
    /// What `model` takes.
    pub fn of(model: &str) -> Self {
        let Some(name) = model.find("claude").map(|at| &model[at + "claude".len()..]) else {
            return Self::other_vendor();
        };
        let family = ["haiku", "sonnet", "opus", "fable", "mythos", "instant"]
            .into_iter()
            .find(|family| name.contains(family))
            .unwrap_or("");
        let newest = Self::versioned(family, 99);
        version(name).map_or(newest, |version| Self::versioned(family, version))
    }

    /// `version` is ten times the major plus the minor number: 45 is 4.5.
    fn versioned(family: &str, version: u32) -> Self {
        let frontier = matches!(family, "fable" | "mythos");
        Self {
            max_output: match (family, version) {
                _ if version >= 46 || frontier => 128_000,
                ("opus", 40..=41) => 32_000,
                _ if version >= 37 => 64_000,
                _ if version >= 35 => 8192,
                _ => SAFE_MAX_OUTPUT,
            },
            sampling: version < 47 && !frontier,
            sampling_together: version < 41,
            prefill: version < 46 && !frontier,
            forced_tools: match family {
                "haiku" => version < 99,
                "fable" | "mythos" => version < 51,
                _ => version < 55,
            },
            native_schema: version >= 45 || frontier,
            thinking: match version {
                _ if version >= 46 || frontier => ThinkingStyle::Adaptive,
                37.. => ThinkingStyle::Budget,
                _ => ThinkingStyle::None,
            },
            always_thinks: frontier || (version >= 55 && family != "haiku"),
            xhigh: version >= 47 || frontier,
        }
    }

    fn other_vendor() -> Self {
        Self {
            max_output: SAFE_MAX_OUTPUT,
            sampling: true,
            sampling_together: true,
            prefill: true,
            forced_tools: true,
            native_schema: false,
            thinking: ThinkingStyle::Budget,
            always_thinks: false,
            xhigh: false,
        }
    }
}

/// First run of one or two short numbers in a name: 45 for `-sonnet-4-5-20250929`, 40 for `-opus-4-20250514`.
fn version(name: &str) -> Option<u32> {
    let mut numbers = name
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| (word.len() <= 2).then(|| word.parse::<u32>().ok()).flatten())
        .skip_while(Option::is_none);
    let major = numbers.next()??;
    let minor = numbers.next().flatten().unwrap_or(0);
    Some(major * 10 + minor.min(9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_every_spelling() {
        for (name, expected) in [
            ("-sonnet-4-5-20250929", Some(45)),
            ("-opus-4-20250514", Some(40)),
            ("-3-5-sonnet-latest", Some(35)),
            ("-3-7-sonnet-20250219-v1:0", Some(37)),
            ("-3-haiku-20240307", Some(30)),
            ("-2.1", Some(21)),
            ("-opus-4-6@20260205", Some(46)),
            ("-fable-5", Some(50)),
            ("-mythos-preview", None),
            ("", None),
        ] {
            assert_eq!(version(name), expected, "{name}");
        }
    }

    #[test]
    fn models_are_given_only_what_they_take() {
        let facts = |model| {
            let it = Claude::of(model);
            (
                it.max_output,
                it.sampling,
                it.prefill,
                it.forced_tools,
                it.native_schema,
                it.always_thinks,
                it.xhigh,
            )
        };
        for (model, expected) in [
            ("claude-3-haiku-20240307", (4096, true, true, true, false, false, false)),
            ("claude-3-5-sonnet-20241022", (8192, true, true, true, false, false, false)),
            ("claude-opus-4-1", (32_000, true, true, true, false, false, false)),
            ("claude-haiku-4-5-20251001", (64_000, true, true, true, true, false, false)),
            ("claude-sonnet-4-6", (128_000, true, false, true, true, false, false)),
            ("claude-opus-4-8", (128_000, false, false, true, true, false, true)),
            ("claude-sonnet-5", (128_000, false, false, true, true, false, true)),
            ("claude-haiku-5-5", (128_000, false, false, true, true, false, true)),
            ("claude-opus-5-5", (128_000, false, false, false, true, true, true)),
            ("claude-fable-5", (128_000, false, false, true, true, true, true)),
            ("claude-fable-5-1", (128_000, false, false, false, true, true, true)),
            ("anthropic.claude-sonnet-4-5-v1:0", (64_000, true, true, true, true, false, false)),
            ("claude-next", (128_000, false, false, false, true, true, true)),
            ("kimi-k2", (4096, true, true, true, false, false, false)),
        ] {
            assert_eq!(facts(model), expected, "{model}");
        }
    }
}
