//! Composes the content of an answer: words, tool calls, JSON that fits a schema, and what it costs.
//!
//! A token is a piece of at most four bytes, cut at a character: a stream sends one piece an event, and usage counts
//! pieces, so that the two can never disagree.
//!
//! Left out: meaning.

use serde_json::Value;

use super::super::program::mix;
use super::schema;

/// Bytes of a token.
const TOKEN_BYTES: usize = 4;
/// Most tokens of one answer, whatever is asked.
const ANSWER_TOKENS: usize = 32_768;
/// What an image, a sound or a file in a prompt counts as, in bytes.
const MEDIA_BYTES: usize = 340;

const WORDS: &[&str] = &[
    "build", "queue", "steady", "signal", "river", "gate", "level", "spare", "second", "answer", "quiet",
    "light", "north", "paper", "metal", "garden", "number", "window", "corner", "bridge", "letter",
    "morning", "simple", "travel", "copper", "branch", "anchor", "mirror", "thread", "valley", "harbor",
    "pencil",
];

/// What an answer must satisfy, out of any dialect.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// The last thing the user said.
    pub(super) last_user: String,
    /// The last message is the result of a tool.
    pub(super) after_tool: bool,
    pub(super) tools: Vec<Tool>,
    pub(super) choice: Choice,
    pub(super) one_call_at_most: bool,
    /// The answer must be JSON that satisfies this.
    pub(super) schema: Option<Value>,
    pub(super) max_tokens: Option<u64>,
    pub(super) stop: Vec<String>,
    /// Bytes of everything that a model would read.
    pub(super) prompt_bytes: usize,
    /// Of everything that the content of the answer depends on.
    pub(super) hash: u64,
}

#[derive(Debug, Clone)]
pub(super) struct Tool {
    pub(super) name: String,
    pub(super) schema: Value,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Choice {
    /// A tool is called when the last message speaks of it.
    #[default]
    Auto,
    Never,
    Any,
    Named(String),
}

/// The content of an answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// One piece a token.
    pub(super) text: Vec<String>,
    pub(super) calls: Vec<Call>,
    pub(super) finish: Finish,
    pub(super) tokens_in: u64,
    pub(super) tokens_out: u64,
    pub(super) hash: u64,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) name: String,
    /// The arguments as JSON text, one piece a token.
    pub(super) arguments: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finish {
    Stop,
    StopSequence(String),
    Length,
    Tools,
}

impl Call {
    pub(super) fn arguments(&self) -> String {
        self.arguments.concat()
    }
}

impl Reply {
    pub(super) fn text(&self) -> String {
        self.text.concat()
    }
}

/// Content that satisfies the wish; `usual` is the length of an answer nobody limits, in tokens.
pub(super) fn reply(wish: &Wish, seed: u64, usual: usize) -> Reply {
    let limit = wish.max_tokens.map_or(ANSWER_TOKENS, |max| (max as usize).min(ANSWER_TOKENS));
    let wanted = wanted_tools(wish);
    let (mut text, mut calls, mut finish) = (Vec::new(), Vec::new(), Finish::Stop);
    let mut spent = 0;
    if wanted.is_empty() {
        let whole = match &wish.schema {
            Some(schema) => schema::example(schema).to_string(),
            None => sentence(wish, seed, usual),
        };
        let (whole, stopped) = stop_at(whole, &wish.stop);
        text = pieces(&whole);
        if text.len() > limit {
            text.truncate(limit);
            finish = Finish::Length;
        } else if let Some(stopped) = stopped {
            finish = Finish::StopSequence(stopped);
        }
        spent = text.len();
    } else {
        finish = Finish::Tools;
        for tool in wanted {
            // The name and the call's frame cost about as much as the name is long.
            let name_cost = tool.name.len().div_ceil(TOKEN_BYTES);
            let mut arguments = pieces(&schema::example(&tool.schema).to_string());
            let left = limit.saturating_sub(spent + name_cost);
            if arguments.len() > left {
                arguments.truncate(left);
                finish = Finish::Length;
            }
            spent = (spent + name_cost + arguments.len()).min(limit);
            calls.push(Call { name: tool.name.clone(), arguments });
        }
    }
    Reply {
        text,
        calls,
        finish,
        tokens_in: (wish.prompt_bytes.div_ceil(TOKEN_BYTES) as u64).max(1),
        tokens_out: spent as u64,
        hash: wish.hash,
    }
}

/// Cuts text into tokens.
fn pieces(text: &str) -> Vec<String> {
    let mut out = Vec::with_capacity(text.len() / TOKEN_BYTES + 1);
    let mut piece = String::new();
    for letter in text.chars() {
        if piece.len() + letter.len_utf8() > TOKEN_BYTES && !piece.is_empty() {
            out.push(std::mem::take(&mut piece));
        }
        piece.push(letter);
    }
    if !piece.is_empty() {
        out.push(piece);
    }
    out
}

fn wanted_tools(wish: &Wish) -> Vec<&Tool> {
    let said = wish.last_user.to_lowercase();
    let mut wanted: Vec<&Tool> = match &wish.choice {
        Choice::Never => Vec::new(),
        Choice::Named(name) => wish.tools.iter().filter(|tool| tool.name == *name).collect(),
        Choice::Any => {
            let mut spoken: Vec<&Tool> = wish.tools.iter().filter(|tool| speaks_of(&said, tool)).collect();
            if spoken.is_empty() {
                spoken.extend(wish.tools.first());
            }
            spoken
        }
        Choice::Auto if wish.after_tool => Vec::new(),
        Choice::Auto => wish.tools.iter().filter(|tool| speaks_of(&said, tool)).collect(),
    };
    if wish.one_call_at_most {
        wanted.truncate(1);
    }
    wanted
}

/// "What is the weather in Paris?" speaks of `get_weather`.
fn speaks_of(said: &str, tool: &Tool) -> bool {
    let name = tool.name.to_lowercase();
    said.contains(&name)
        || name
            .split(|letter: char| !letter.is_alphanumeric())
            .any(|word| word.len() >= 4 && said.contains(word))
}

fn sentence(wish: &Wish, seed: u64, tokens: usize) -> String {
    let length = tokens.min(ANSWER_TOKENS) * TOKEN_BYTES;
    let said: String = wish.last_user.chars().take(48).collect();
    let more = if said.len() < wish.last_user.len() { "..." } else { "" };
    let heard = if wish.after_tool { "The tool said" } else { "You said" };
    let mut text = format!("{heard} \"{said}{more}\".");
    let mut n = 0;
    while text.len() < length {
        let word = WORDS[(mix(seed, wish.hash, n) % WORDS.len() as u64) as usize];
        text.push_str(if n.is_multiple_of(9) { " Rehearsal:" } else { " " });
        if n.is_multiple_of(9) {
            text.push(' ');
        }
        text.push_str(word);
        n += 1;
    }
    let mut end = length.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

fn stop_at(mut text: String, stops: &[String]) -> (String, Option<String>) {
    let first = stops
        .iter()
        .filter(|stop| !stop.is_empty())
        .filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop.clone())))
        .min();
    match first {
        Some((at, stop)) => {
            text.truncate(at);
            (text, Some(stop))
        }
        None => (text, None),
    }
}

/// Bytes of text in a part of a prompt; media count as a fixed size.
pub(super) fn text_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) if text.starts_with("data:") => MEDIA_BYTES,
        Value::String(text) => text.len(),
        Value::Number(_) | Value::Bool(_) => TOKEN_BYTES,
        Value::Null => 0,
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match name.as_str() {
                "data" | "file_data" | "b64_json" if value.is_string() => MEDIA_BYTES,
                "cache_control" => 0,
                _ => text_bytes(value),
            })
            .sum(),
    }
}

/// The text of a message's content, string or parts.
pub(super) fn content_text(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            let texts: Vec<&str> =
                parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// A hash of the members that decide the content of an answer.
pub(super) fn hash(json: &Value, members: &[&str]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325;
    for name in members {
        let Some(value) = json.get(name) else { continue };
        for chunk in value.to_string().as_bytes().chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            hash = mix(hash, u64::from_le_bytes(word), chunk.len() as u64);
        }
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(said: &str) -> Wish {
        Wish { last_user: said.to_owned(), prompt_bytes: 400, hash: 9, ..Wish::default() }
    }

    #[test]
    fn an_answer_has_the_usual_length_and_repeats_with_the_seed() {
        for tokens in [1, 2, 40, 1_000] {
            let one = reply(&wish("Hello there"), 7, tokens);
            assert_eq!(one.tokens_out, tokens as u64);
            assert_eq!(one.text(), reply(&wish("Hello there"), 7, tokens).text());
            assert_eq!(one.finish, Finish::Stop);
        }
        assert_ne!(reply(&wish("a"), 7, 40).text(), reply(&wish("a"), 8, 40).text());
        assert!(reply(&wish("Hello there"), 7, 40).text().contains("Hello there"));
    }

    #[test]
    fn max_tokens_holds_at_the_limit_and_one_below() {
        let at = |max| reply(&Wish { max_tokens: Some(max), ..wish("hi") }, 7, 40);
        assert_eq!((at(40).tokens_out, at(40).finish), (40, Finish::Stop));
        assert_eq!((at(39).tokens_out, at(39).finish), (39, Finish::Length));
    }

    #[test]
    fn pieces_join_to_the_text_and_stay_within_four_bytes() {
        for text in ["", "a", "abcd", "abcde", "žluťoučký 🐎 kůň", "日本語"] {
            let cut = pieces(text);
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|piece| (1..=4).contains(&piece.len())));
        }
    }

    #[test]
    fn a_tool_is_called_when_asked_for_and_not_otherwise() {
        let tool = |name: &str| Tool { name: name.to_owned(), schema: serde_json::json!({"type": "object"}) };
        let tools = vec![tool("get_weather"), tool("send_mail")];
        let calls = |said: &str, choice: Choice| -> Vec<String> {
            let wish = Wish { tools: tools.clone(), choice, ..wish(said) };
            reply(&wish, 7, 40).calls.into_iter().map(|call| call.name).collect()
        };
        assert_eq!(calls("What is the weather in Paris?", Choice::Auto), ["get_weather"]);
        assert_eq!(calls("Tell me a story", Choice::Auto), [""; 0]);
        assert_eq!(calls("Tell me a story", Choice::Any), ["get_weather"]);
        assert_eq!(calls("Tell me a story", Choice::Named("send_mail".to_owned())), ["send_mail"]);
        assert_eq!(calls("What is the weather?", Choice::Never), [""; 0]);
    }

    #[test]
    fn a_stop_sequence_ends_the_text_before_it() {
        let stopped = reply(&Wish { stop: vec!["there".to_owned()], ..wish("Hello there") }, 7, 40);
        assert_eq!(stopped.text(), "You said \"Hello ");
        assert_eq!(stopped.finish, Finish::StopSequence("there".to_owned()));
    }
}
