//! An example value for a JSON Schema: the required members, in the simplest way that fits.
//!
//! Left out: patterns, `not`, conditionals, references other than into the same document.

use serde_json::{Map, Value, json};

/// Deepest nesting followed, and most values made; beyond them values are null.
const DEPTH: usize = 16;
const VALUES: usize = 1_000;

pub(super) fn example(schema: &Value) -> Value {
    let mut left = VALUES;
    value(schema, schema, DEPTH, &mut left)
}

fn value(schema: &Value, root: &Value, depth: usize, left: &mut usize) -> Value {
    if depth == 0 || *left == 0 {
        return Value::Null;
    }
    *left -= 1;
    for given in ["const", "default"] {
        if let Some(known) = schema.get(given) {
            return known.clone();
        }
    }
    for list in ["enum", "examples"] {
        if let Some(first) = schema.get(list).and_then(Value::as_array).and_then(|all| all.first()) {
            return first.clone();
        }
    }
    if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
        let found = target.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
        return found.map_or(Value::Null, |found| value(found, root, depth - 1, left));
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        if let Some(first) = schema.get(choice).and_then(Value::as_array).and_then(|all| all.first()) {
            return value(first, root, depth - 1, left);
        }
    }
    match kind(schema) {
        "object" => object(schema, root, depth, left),
        "array" => array(schema, root, depth, left),
        "integer" => json!(number(schema).ceil() as i64),
        "number" => json!(number(schema)),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!(text(schema)),
    }
}

fn kind(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(kinds)) => kinds.first().and_then(Value::as_str).unwrap_or("null"),
        _ if schema.get("items").is_some() => "array",
        _ if schema.get("properties").is_some() || schema.as_object().is_some_and(Map::is_empty) => "object",
        _ => "string",
    }
}

fn object(schema: &Value, root: &Value, depth: usize, left: &mut usize) -> Value {
    let required = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut members = Map::new();
    for name in required.iter().filter_map(Value::as_str) {
        let member = schema.get("properties").and_then(|properties| properties.get(name));
        members.insert(
            name.to_owned(),
            member.map_or(Value::Null, |schema| value(schema, root, depth - 1, left)),
        );
    }
    Value::Object(members)
}

fn array(schema: &Value, root: &Value, depth: usize, left: &mut usize) -> Value {
    let least = schema.get("minItems").and_then(Value::as_u64).unwrap_or(1).min(16);
    let most = schema.get("maxItems").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let mut item = || schema.get("items").map_or(Value::Null, |items| value(items, root, depth - 1, left));
    (0..least.min(most)).map(|_| item()).collect()
}

fn number(schema: &Value) -> f64 {
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let least = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|least| least + 0.5));
    let most = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|most| most - 0.5));
    match (least, most) {
        (Some(least), _) => least.max(1.0_f64.min(most.unwrap_or(1.0))),
        (None, Some(most)) => most.min(1.0),
        (None, None) => 1.0,
    }
}

fn text(schema: &Value) -> String {
    let plain = match schema.get("format").and_then(Value::as_str) {
        Some("date") => "2026-01-01",
        Some("date-time") => "2026-01-01T00:00:00Z",
        Some("time") => "00:00:00Z",
        Some("email") => "someone@example.com",
        Some("uri") => "https://example.com/",
        Some("uuid") => "00000000-0000-4000-8000-000000000000",
        _ => "example",
    };
    let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or(0).min(4096) as usize;
    let most = schema.get("maxLength").and_then(Value::as_u64).unwrap_or(u64::MAX);
    let mut text = plain.to_owned();
    while text.len() < least {
        text.push('e');
    }
    text.truncate(usize::try_from(most).unwrap_or(usize::MAX).max(least));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn required_members_are_there_with_their_types() {
        let schema = json!({"type": "object", "required": ["city", "days", "unit", "tags", "spot", "ok"], "properties": {
            "city": {"type": "string"}, "days": {"type": "integer", "minimum": 3}, "unit": {"enum": ["c", "f"]},
            "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2}, "spot": {"$ref": "#/$defs/spot"},
            "ok": {"type": ["boolean", "null"]}, "extra": {"type": "string"}},
            "$defs": {"spot": {"type": "object", "required": ["x"], "properties": {"x": {"type": "number"}}}}});
        assert_eq!(
            example(&schema),
            json!({"city": "example", "days": 3, "unit": "c", "tags": ["example", "example"], "spot": {"x": 1.0}, "ok": true})
        );
    }

    #[test]
    fn odd_schemas_end_in_some_value() {
        assert_eq!(example(&json!({})), json!({}));
        assert_eq!(example(&json!(true)), json!("example"));
        let endless = json!({"type": "object", "required": ["next"], "properties": {"next": {"$ref": "#"}}});
        assert!(example(&endless).get("next").is_some());
        // Two references to itself would be 2 to the power of the depth, sixteen items each far more.
        let wide = json!({"type": "array", "minItems": 16, "items": {"$ref": "#"}});
        assert!(example(&wide).to_string().len() < 20_000);
        assert_eq!(example(&json!({"type": "number", "maximum": -2.0})), json!(-2.0));
        assert_eq!(example(&json!({"type": "string", "maxLength": 3})), json!("exa"));
    }
}
