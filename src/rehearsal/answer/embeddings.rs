//! OpenAI Embeddings: unit vectors that depend on the text, as floats or as base64 of little-endian `f32`.

use serde_json::{Value, json};

use super::super::program::unit;
use super::{Answer, Ask, Setting, compose, errors};

const INPUTS: usize = 2_048;
const DIMENSIONS: u64 = 4_096;

pub(super) fn answer(ask: &Ask, json: &Value, setting: &Setting<'_>) -> Answer {
    let inputs: Vec<&Value> = match &json["input"] {
        Value::Array(all) if all.iter().any(|item| item.is_string() || item.is_array()) => {
            all.iter().collect()
        }
        one => vec![one],
    };
    if inputs.len() > INPUTS {
        let say = format!("Invalid 'input': array too long. Expected an array with maximum length {INPUTS}.");
        return errors::invalid(ask, 400, &say, Some("input"), Some("array_above_max_length"));
    }
    let usual = if ask.model.contains("large") { 3_072 } else { 1_536 };
    let dimensions = json["dimensions"].as_u64().unwrap_or(usual).clamp(1, DIMENSIONS) as usize;
    let packed = json["encoding_format"] == "base64";
    let entry = |(index, input): (usize, &&Value)| {
        let vector = vector(&input.to_string(), setting.seed, dimensions);
        let embedding = if packed { json!(base64(&vector)) } else { json!(vector) };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    };
    let data: Vec<Value> = inputs.iter().enumerate().map(entry).collect();
    let tokens = inputs.iter().map(|input| tokens(input)).sum::<u64>().max(1);
    Answer::json(
        200,
        &json!({"object": "list", "data": data, "model": ask.model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}),
    )
    .costing(tokens, 0)
}

/// A list of numbers is a list of tokens already.
fn tokens(input: &Value) -> u64 {
    match input {
        Value::Array(ids) => ids.len() as u64,
        other => compose::text_bytes(other).div_ceil(4) as u64,
    }
}

fn vector(text: &str, seed: u64, dimensions: usize) -> Vec<f32> {
    let hash = compose::hash(&json!({"text": text}), &["text"]);
    let raw: Vec<f64> = (0..dimensions).map(|n| unit(seed ^ hash, 5, n as u64) - 0.5).collect();
    let length = raw.iter().map(|x| x * x).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
    raw.iter().map(|x| (x / length) as f32).collect()
}

fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
    super::other::base64(&bytes)
}
