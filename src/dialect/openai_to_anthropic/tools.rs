//! Tools and the choice among them.

use super::claude::Claude;
use super::messages::{Caches, push_cache};
use super::params::{self, Format, Plan};
use super::request::Request;
use super::{JSON_TOOL, TranslateError, Translated, schema};
use crate::dialect::json::{Kind, Raw, push_string};

/// The client's choice among its tools.
#[derive(Clone, Copy)]
enum Choice<'j> {
    Unset,
    Auto,
    None,
    Any,
    Named(Raw<'j>),
}

/// Whether the client insists on a tool call.
pub(super) fn is_forced(request: &Request<'_>) -> bool {
    matches!(choice(request), Choice::Any | Choice::Named(_))
}

/// Reads `tool_choice`, or `function_call`, its older form.
fn choice<'j>(request: &Request<'j>) -> Choice<'j> {
    let raw = if request.tool_choice.is_null() { request.function_call } else { request.tool_choice };
    match raw.content() {
        Some(b"auto") => return Choice::Auto,
        Some(b"none") => return Choice::None,
        Some(b"required" | b"any") => return Choice::Any,
        _ => {}
    }
    if let Some(allowed) = allowed_tools(raw) {
        return if allowed.get("mode").unwrap_or_default().is("required") {
            Choice::Any
        } else {
            Choice::Auto
        };
    }
    let [function, custom, name] = raw.pick(["function", "custom", "name"]);
    [function.get("name"), custom.get("name"), Some(name)]
        .into_iter()
        .flatten()
        .find(|name| name.kind() == Some(Kind::String))
        .map_or(Choice::Unset, Choice::Named)
}

/// The list of `tool_choice: {type: allowed_tools}`, which stands one level deeper.
fn allowed_tools(choice: Raw<'_>) -> Option<Raw<'_>> {
    choice.get("type").filter(|kind| kind.is("allowed_tools"))?;
    choice.get("allowed_tools")
}

/// Appends `tools` and `tool_choice`.
pub(super) fn push(
    request: &Request<'_>,
    claude: &Claude,
    plan: &Plan<'_>,
    caches: &mut Caches,
    translated: &mut Translated,
    out: &mut Vec<u8>,
) -> Result<(), TranslateError> {
    let allowed = allowed_tools(request.tool_choice).and_then(|allowed| allowed.get("tools"));
    let mut count = 0;
    for (at, tool) in request.tools.items().enumerate() {
        let path = format!("tools[{at}]");
        let [kind, function, custom] = tool.pick(["type", "function", "custom"]);
        let body = if kind.is("custom") { custom } else { function };
        if kind.is_null() || kind.is("function") || kind.is("custom") {
            let name = name_of(body, &path)?;
            if allowed.is_some_and(|allowed| !lists(allowed, name)) {
                continue;
            }
            out.extend_from_slice(if count == 0 { b",\"tools\":[" } else { b"," });
            count += 1;
            if kind.is("custom") {
                push_custom(body, name, translated, out);
            } else {
                push_function(body, name, claude, translated, out);
                push_cache(caches.take_of(tool), out);
                out.push(b'}');
            }
        } else {
            return Err(TranslateError::target(
                format!("{path}.type"),
                "Only function and custom tools can be given to Anthropic models.",
            ));
        }
    }
    for (at, function) in request.functions.items().enumerate() {
        let name = name_of(function, &format!("functions[{at}]"))?;
        out.extend_from_slice(if count == 0 { b",\"tools\":[" } else { b"," });
        count += 1;
        push_function(function, name, claude, translated, out);
        out.push(b'}');
    }
    if let Format::Tool(schema) = plan.format {
        out.extend_from_slice(if count == 0 { b",\"tools\":[" } else { b"," });
        params::push_json_tool(schema, out);
        out.push(b']');
        push_choice_for_json(count, out);
        return Ok(());
    }
    if count > 0 {
        out.push(b']');
        push_choice(request, plan, out);
    }
    Ok(())
}

fn name_of<'j>(tool: Raw<'j>, path: &str) -> Result<Raw<'j>, TranslateError> {
    match tool.get("name") {
        Some(name) if name.kind() == Some(Kind::String) && !name.is_empty() => Ok(name),
        _ => Err(TranslateError::client(path, "A tool needs a name.")),
    }
}

/// Whether `allowed` has an entry for the tool called `name`.
fn lists(allowed: Raw<'_>, name: Raw<'_>) -> bool {
    allowed.items().any(|entry| {
        let [plain, function, custom] = entry.pick(["name", "function", "custom"]);
        [Some(plain), function.get("name"), custom.get("name")]
            .into_iter()
            .flatten()
            .any(|listed| listed == name)
    })
}

/// Appends a tool up to its last brace.
fn push_function(
    function: Raw<'_>,
    name: Raw<'_>,
    claude: &Claude,
    translated: &mut Translated,
    out: &mut Vec<u8>,
) {
    let [description, parameters, strict] = function.pick(["description", "parameters", "strict"]);
    let strict = strict.bool() == Some(true);
    out.extend_from_slice(b"{\"name\":");
    out.extend_from_slice(name.bytes());
    push_description(description, out);
    out.extend_from_slice(b",\"input_schema\":");
    if strict && claude.native_schema && parameters.get("type").is_some() {
        schema::push_strict(parameters, out);
        out.extend_from_slice(b",\"strict\":true");
    } else {
        if strict {
            translated.dropped.add("strict");
        }
        push_schema(parameters, out);
    }
}

/// A schema whose root says that it is an object, which the API insists on and OpenAI does not.
fn push_schema(parameters: Raw<'_>, out: &mut Vec<u8>) {
    if parameters.kind() != Some(Kind::Object) || parameters.is_empty() {
        out.extend_from_slice(b"{\"type\":\"object\",\"properties\":{}}");
    } else if parameters.get("type").is_none() {
        out.extend_from_slice(b"{\"type\":\"object\",");
        out.extend_from_slice(&parameters.bytes()[1..]);
    } else {
        out.extend_from_slice(parameters.bytes());
    }
}

fn push_description(description: Raw<'_>, out: &mut Vec<u8>) {
    if description.kind() == Some(Kind::String) && !description.is_empty() {
        out.extend_from_slice(b",\"description\":");
        out.extend_from_slice(description.bytes());
    }
}

/// A tool with free-form input becomes one with a single string member, which the way back unwraps.
fn push_custom(custom: Raw<'_>, name: Raw<'_>, translated: &mut Translated, out: &mut Vec<u8>) {
    let [description, format] = custom.pick(["description", "format"]);
    out.extend_from_slice(b"{\"name\":");
    out.extend_from_slice(name.bytes());
    push_description(description, out);
    out.extend_from_slice(
        b",\"input_schema\":{\"type\":\"object\",\"properties\":{\"input\":{\"type\":\"string\",\"description\":",
    );
    match format.get("grammar").and_then(|grammar| grammar.get("definition")).and_then(Raw::text) {
        Some(definition) => {
            push_string(out, &format!("The tool's input, which must follow this grammar:\n{definition}"));
        }
        None => push_string(out, "The tool's input as plain text."),
    }
    out.extend_from_slice(b"}},\"required\":[\"input\"]}}");
    if let Some(name) = name.text() {
        translated.back.custom_tools.push(name.into_owned());
    }
}

/// With the client's own tools beside it, the model may take those first; the format applies to its last word.
fn push_choice_for_json(other_tools: usize, out: &mut Vec<u8>) {
    if other_tools > 0 {
        out.extend_from_slice(b",\"tool_choice\":{\"type\":\"any\"}");
    } else {
        out.extend_from_slice(b",\"tool_choice\":{\"type\":\"tool\",\"name\":");
        push_string(out, JSON_TOOL);
        out.push(b'}');
    }
}

fn push_choice(request: &Request<'_>, plan: &Plan<'_>, out: &mut Vec<u8>) {
    let one_at_a_time = request.parallel_tool_calls.bool() == Some(false);
    let choice = match choice(request) {
        Choice::Any | Choice::Named(_) if !plan.tool_choice_forced => Choice::Auto,
        Choice::Unset if one_at_a_time => Choice::Auto,
        choice => choice,
    };
    out.extend_from_slice(match choice {
        Choice::Unset => return,
        Choice::None => b",\"tool_choice\":{\"type\":\"none\"".as_slice(),
        Choice::Auto => b",\"tool_choice\":{\"type\":\"auto\"",
        Choice::Any => b",\"tool_choice\":{\"type\":\"any\"",
        Choice::Named(_) => b",\"tool_choice\":{\"type\":\"tool\",\"name\":",
    });
    if let Choice::Named(name) = choice {
        out.extend_from_slice(name.bytes());
    }
    if one_at_a_time && !matches!(choice, Choice::None) {
        out.extend_from_slice(b",\"disable_parallel_tool_use\":true");
    }
    out.push(b'}');
}
