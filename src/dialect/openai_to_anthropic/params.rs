//! Everything beside the conversation: limits, sampling, thinking, the answer's format, and the system prompt.

use super::claude::{Claude, ThinkingStyle};
use super::messages::{Said, Text, push_text_block};
use super::request::{Request, TranslateOptions};
use super::{JSON_TOOL, TranslateError, Translated, schema};
use crate::dialect::json::{Kind, Raw, push_number, push_string};

/// Smallest thinking budget that the API takes.
const MIN_BUDGET: u32 = 1024;

/// What was decided before anything is written.
pub(super) struct Plan<'j> {
    pub max_tokens: u32,
    pub thinking: Thinking<'j>,
    effort: Option<&'static str>,
    pub format: Format<'j>,
    pub tool_choice_forced: bool,
}

/// The `thinking` member.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Thinking<'j> {
    /// Not said.
    Unset,
    Disabled,
    Budget(u32),
    Adaptive,
    /// The client wrote Anthropic's own member; copied.
    Own(Raw<'j>),
}

/// What the answer must look like.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format<'j> {
    Text,
    /// Any JSON object: by instruction.
    JsonObject,
    /// A schema, by `output_config.format`.
    Native(Raw<'j>),
    /// A schema, by a tool that the model must call.
    Tool(Raw<'j>),
}

impl Plan<'_> {
    /// Whether the model will think, so that sampling parameters and forced tools are refused.
    pub fn thinks(&self, claude: &Claude) -> bool {
        match self.thinking {
            Thinking::Unset => claude.always_thinks,
            Thinking::Disabled => false,
            Thinking::Budget(_) | Thinking::Adaptive => true,
            Thinking::Own(own) => !own.get("type").unwrap_or_default().is("disabled"),
        }
    }

    /// Gives up a thinking budget where the conversation does not allow it: a turn that goes on after tool results
    /// must start with its signed thinking, which a client of the other dialect may not have kept.
    pub fn settle_thinking(&mut self, said: &Said<'_>, claude: &Claude, translated: &mut Translated) {
        if matches!(self.thinking, Thinking::Budget(_)) && said.lacks_thinking {
            self.thinking = Thinking::Unset;
            translated.dropped.add("reasoning_effort");
        }
        if self.thinks(claude) && self.tool_choice_forced {
            self.tool_choice_forced = false;
            translated.dropped.add("tool_choice");
        }
    }
}

pub(super) fn plan<'j>(
    request: &Request<'j>,
    claude: &Claude,
    options: &TranslateOptions<'_>,
    translated: &mut Translated,
) -> Result<Plan<'j>, TranslateError> {
    let format = read_format(request.response_format, claude)?;
    translated.back.json_tool = matches!(format, Format::Tool(_));
    let limit =
        [request.max_completion_tokens, request.max_tokens].into_iter().find(|limit| !limit.is_null());
    let limit = match limit {
        None => None,
        Some(raw) => match raw.count().filter(|&limit| limit > 0) {
            Some(limit) => Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            None => {
                return Err(TranslateError::client(
                    "max_tokens",
                    "The token limit must be a whole number above 0.",
                ));
            }
        },
    };
    let default = options.default_max_tokens.unwrap_or(claude.max_output).max(1);
    let mut plan = Plan {
        max_tokens: limit.unwrap_or(default),
        thinking: Thinking::Unset,
        effort: None,
        format,
        tool_choice_forced: super::tools::is_forced(request) && claude.forced_tools,
    };
    if super::tools::is_forced(request) && !claude.forced_tools {
        translated.dropped.add("tool_choice");
    }
    if request.thinking.kind() == Some(Kind::Object) {
        plan.thinking = Thinking::Own(request.thinking);
    } else if !request.reasoning_effort.is_null() && !plan_effort(&mut plan, request, claude, limit.is_some())
    {
        translated.dropped.add("reasoning_effort");
    }
    Ok(plan)
}

/// Turns the effort into what the model calls it; false when it has to be left out.
fn plan_effort(plan: &mut Plan<'_>, request: &Request<'_>, claude: &Claude, limited: bool) -> bool {
    let Some(effort) = request.reasoning_effort.content() else { return false };
    if effort == b"none" {
        if claude.always_thinks {
            return false;
        }
        if claude.thinking == ThinkingStyle::Adaptive {
            plan.thinking = Thinking::Disabled;
        }
        return true;
    }
    match claude.thinking {
        ThinkingStyle::None => false,
        ThinkingStyle::Adaptive => {
            let level = match effort {
                b"minimal" | b"low" => "low",
                b"medium" => "medium",
                b"high" => "high",
                b"xhigh" if claude.xhigh => "xhigh",
                b"xhigh" => "high",
                b"max" => "max",
                _ => return false,
            };
            plan.thinking = Thinking::Adaptive;
            plan.effort = Some(level);
            true
        }
        ThinkingStyle::Budget => {
            let budget = match effort {
                b"minimal" | b"low" => MIN_BUDGET,
                b"medium" => 2048,
                b"high" => 4096,
                b"xhigh" => 8192,
                b"max" => 16_384,
                _ => return false,
            };
            // A forced tool and thinking exclude each other; the format was asked for more plainly.
            if matches!(plan.format, Format::Tool(_)) {
                return false;
            }
            if !limited && plan.max_tokens <= budget {
                plan.max_tokens += budget;
            }
            // The limit is the client's promise on cost and counts thinking too, so half of it may go there.
            let budget = if plan.max_tokens > budget { budget } else { plan.max_tokens / 2 };
            if budget < MIN_BUDGET {
                return false;
            }
            plan.thinking = Thinking::Budget(budget);
            true
        }
    }
}

fn read_format<'j>(format: Raw<'j>, claude: &Claude) -> Result<Format<'j>, TranslateError> {
    if format.is_null() {
        return Ok(Format::Text);
    }
    let [kind, json_schema] = format.pick(["type", "json_schema"]);
    match kind.content() {
        Some(b"text") => Ok(Format::Text),
        Some(b"json_object") => Ok(Format::JsonObject),
        Some(b"json_schema") => match json_schema.get("schema") {
            Some(schema) if schema.kind() == Some(Kind::Object) => {
                Ok(if claude.native_schema { Format::Native(schema) } else { Format::Tool(schema) })
            }
            _ => {
                Err(TranslateError::client("response_format.json_schema.schema", "A schema is needed here."))
            }
        },
        _ => Err(TranslateError::client(
            "response_format.type",
            "The type must be text, json_object or json_schema.",
        )),
    }
}

/// Appends the `system` member: the texts of all system and developer messages in their order.
pub(super) fn push_system(system: &[Text<'_>], plan: &Plan<'_>, out: &mut Vec<u8>) {
    let json_only = plan.format == Format::JsonObject;
    match system {
        [] if !json_only => return,
        [one] if !json_only && one.cache_control.is_none() => {
            out.extend_from_slice(b",\"system\":");
            out.extend_from_slice(one.text.bytes());
            return;
        }
        _ => {}
    }
    out.extend_from_slice(b",\"system\":[");
    for (at, text) in system.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_text_block(text, out);
    }
    if json_only {
        if !system.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(
            b"{\"type\":\"text\",\"text\":\"Answer with exactly one JSON object and nothing else: no prose, no code fence.\"}",
        );
    }
    out.push(b']');
}

/// Appends the members that follow the conversation and the tools.
pub(super) fn push(
    request: &Request<'_>,
    claude: &Claude,
    plan: &Plan<'_>,
    translated: &mut Translated,
    out: &mut Vec<u8>,
) {
    push_thinking(plan, out);
    push_sampling(request, claude, plan, translated, out);
    push_stop(request.stop, translated, out);
    push_user(request, translated, out);
    match request.service_tier.content() {
        None => {}
        Some(b"auto") => out.extend_from_slice(b",\"service_tier\":\"auto\""),
        Some(b"default") => out.extend_from_slice(b",\"service_tier\":\"standard_only\""),
        Some(_) => translated.dropped.add("service_tier"),
    }
}

fn push_thinking(plan: &Plan<'_>, out: &mut Vec<u8>) {
    match plan.thinking {
        Thinking::Unset => {}
        Thinking::Disabled => out.extend_from_slice(b",\"thinking\":{\"type\":\"disabled\"}"),
        Thinking::Adaptive => out.extend_from_slice(b",\"thinking\":{\"type\":\"adaptive\"}"),
        Thinking::Budget(budget) => {
            out.extend_from_slice(b",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":");
            push_number(out, u64::from(budget));
            out.push(b'}');
        }
        Thinking::Own(own) => {
            out.extend_from_slice(b",\"thinking\":");
            out.extend_from_slice(own.bytes());
        }
    }
    let native = if let Format::Native(schema) = plan.format { Some(schema) } else { None };
    if plan.effort.is_none() && native.is_none() {
        return;
    }
    out.extend_from_slice(b",\"output_config\":{");
    if let Some(effort) = plan.effort {
        out.extend_from_slice(b"\"effort\":");
        push_string(out, effort);
    }
    if let Some(schema) = native {
        if plan.effort.is_some() {
            out.push(b',');
        }
        out.extend_from_slice(b"\"format\":{\"type\":\"json_schema\",\"schema\":");
        schema::push_strict(schema, out);
        out.push(b'}');
    }
    out.push(b'}');
}

fn push_sampling(
    request: &Request<'_>,
    claude: &Claude,
    plan: &Plan<'_>,
    translated: &mut Translated,
    out: &mut Vec<u8>,
) {
    let allowed = claude.sampling && !plan.thinks(claude);
    let temperature = request.temperature.number();
    let top_p = request.top_p.number();
    if let Some(value) = temperature {
        if allowed {
            out.extend_from_slice(b",\"temperature\":");
            // OpenAI's scale ends at 2, Anthropic's at 1; negative ones are the provider's to refuse.
            out.extend_from_slice(if value > 1.0 { b"1" } else { request.temperature.bytes() });
        } else if value != 1.0 {
            translated.dropped.add("temperature");
        }
    }
    if let Some(value) = top_p {
        if allowed && (claude.sampling_together || temperature.is_none()) {
            out.extend_from_slice(b",\"top_p\":");
            out.extend_from_slice(request.top_p.bytes());
        } else if value != 1.0 {
            translated.dropped.add("top_p");
        }
    }
    if request.top_k.number().is_some() {
        if allowed {
            out.extend_from_slice(b",\"top_k\":");
            out.extend_from_slice(request.top_k.bytes());
        } else {
            translated.dropped.add("top_k");
        }
    }
}

/// Stop sequences; blank ones are refused by the API.
fn push_stop(stop: Raw<'_>, translated: &mut Translated, out: &mut Vec<u8>) {
    let mut first = true;
    let mut push = |sequence: Raw<'_>| {
        if sequence.kind() != Some(Kind::String) {
            return;
        }
        if sequence.is_blank() {
            translated.dropped.add("stop");
            return;
        }
        out.extend_from_slice(if first { b",\"stop_sequences\":[" } else { b"," });
        out.extend_from_slice(sequence.bytes());
        first = false;
    };
    push(stop);
    stop.items().for_each(&mut push);
    if !first {
        out.push(b']');
    }
}

/// `metadata.user_id`; what looks like an e-mail address or a phone number is refused by the API and left out.
fn push_user(request: &Request<'_>, translated: &mut Translated, out: &mut Vec<u8>) {
    let user = [request.safety_identifier, request.user].into_iter().find(|user| !user.is_empty());
    let Some(content) = user.and_then(Raw::content) else { return };
    let digits = content.iter().filter(|byte| byte.is_ascii_digit()).count();
    let like_phone =
        digits >= 7 && content.iter().all(|byte| byte.is_ascii_digit() || b"+-() .".contains(byte));
    if content.contains(&b'@') || like_phone || content.len() > 256 {
        translated.dropped.add("user");
        return;
    }
    out.extend_from_slice(b",\"metadata\":{\"user_id\":\"");
    out.extend_from_slice(content);
    out.extend_from_slice(b"\"}");
}

/// The synthetic tool for a schema on models without native structured output.
pub(super) fn push_json_tool(schema: Raw<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"name\":");
    push_string(out, JSON_TOOL);
    out.extend_from_slice(b",\"description\":\"Give the answer by calling this tool.\",\"input_schema\":");
    out.extend_from_slice(schema.bytes());
    out.push(b'}');
}
