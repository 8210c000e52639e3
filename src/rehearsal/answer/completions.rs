//! OpenAI Completions (legacy).

use serde_json::{Value, json};

use super::compose::{self, Finish, Wish};
use super::{Answer, Ask, Event, Part, Setting, errors, identifier};

const PROMPTS: usize = 256;

pub(super) fn answer(ask: &Ask, json: &Value, setting: &Setting<'_>) -> Answer {
    let prompts: Vec<String> = match &json["prompt"] {
        Value::String(prompt) => vec![prompt.clone()],
        Value::Array(all) if all.iter().all(Value::is_string) => {
            all.iter().filter_map(|prompt| prompt.as_str().map(str::to_owned)).collect()
        }
        // Token ids: one prompt, or one a list.
        Value::Array(all) if all.iter().all(Value::is_array) => vec![String::new(); all.len()],
        _ => vec![String::new()],
    };
    if prompts.len() > PROMPTS {
        let say = format!("Invalid 'prompt': more than {PROMPTS} prompts.");
        return errors::invalid(ask, 400, &say, Some("prompt"), Some("array_above_max_length"));
    }
    let copies = json["n"].as_u64().unwrap_or(1).clamp(1, 16) as usize;
    let hash = compose::hash(json, &["model", "prompt", "suffix", "stop"]);
    let replies: Vec<compose::Reply> = prompts
        .iter()
        .flat_map(|prompt| std::iter::repeat_n(prompt, copies))
        .map(|prompt| {
            let wish = Wish {
                last_user: prompt.clone(),
                max_tokens: json["max_tokens"].as_u64(),
                stop: super::chat::stops(&json["stop"]),
                prompt_bytes: compose::text_bytes(&json["prompt"]),
                hash,
                ..Wish::default()
            };
            compose::reply(&wish, setting.seed, setting.tokens)
        })
        .collect();
    let tokens_in = replies.first().map_or(0, |reply| reply.tokens_in);
    let tokens_out = replies.iter().map(|reply| reply.tokens_out).sum();
    let usage = json!({
        "prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out,
    });
    let id = identifier("cmpl-", setting.seed, hash, 0);
    let object = |choices: Value| {
        json!({"id": id, "object": "text_completion", "created": setting.unix_s, "model": ask.model,
            "choices": choices})
    };
    let finish = |finish: &Finish| if *finish == Finish::Length { "length" } else { "stop" };
    let choice = |index: usize, text: String, finish: Value| json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish});
    if !ask.stream {
        let choices = replies.iter().enumerate();
        let mut whole =
            object(choices.map(|(n, reply)| choice(n, reply.text(), json!(finish(&reply.finish)))).collect());
        whole["usage"] = usage;
        return Answer::json(200, &whole).costing(tokens_in, tokens_out);
    }
    let wants_usage = json["stream_options"]["include_usage"].as_bool().unwrap_or(false);
    let chunk = |choices: Value, usage: Value| {
        let mut chunk = object(choices);
        if wants_usage {
            chunk["usage"] = usage;
        }
        chunk
    };
    let mut events = Vec::new();
    for (n, reply) in replies.iter().enumerate() {
        for piece in &reply.text {
            let choices = json!([choice(n, piece.clone(), Value::Null)]);
            events.push(Event::data(Part::Content, &chunk(choices, Value::Null)));
        }
        let choices = json!([choice(n, String::new(), json!(finish(&reply.finish)))]);
        events.push(Event::data(Part::Tail, &chunk(choices, Value::Null)));
    }
    if wants_usage {
        events.push(Event::data(Part::Tail, &chunk(json!([]), usage)));
    }
    events.push(Event::done());
    Answer::stream(events).costing(tokens_in, tokens_out)
}
