//! A JSON schema made acceptable to Anthropic's structured outputs.
//!
//! Every object needs `additionalProperties: false`, and bounds on numbers, lengths and counts are refused. OpenAI's
//! strict mode demands the first and takes the second, so a schema that is fine there must be rewritten. Everything
//! else is copied as it stands, also members that are named like keywords but stand under `properties`.

use crate::dialect::json::{Kind, Raw};

/// Keywords that the structured-output compiler refuses.
const REFUSED: [&[u8]; 13] = [
    b"minimum",
    b"maximum",
    b"exclusiveMinimum",
    b"exclusiveMaximum",
    b"multipleOf",
    b"minLength",
    b"maxLength",
    b"maxItems",
    b"uniqueItems",
    b"minProperties",
    b"maxProperties",
    b"minContains",
    b"maxContains",
];

/// Appends `schema`, rewritten. Recursion is bounded by the depth that the body was validated for.
pub(super) fn push_strict(schema: Raw<'_>, out: &mut Vec<u8>) {
    if schema.kind() != Some(Kind::Object) {
        out.extend_from_slice(schema.bytes());
        return;
    }
    let mut is_object = false;
    let mut first = true;
    out.push(b'{');
    schema.members(|name, value| {
        if REFUSED.contains(&name) || name == b"additionalProperties" {
            is_object |= name == b"additionalProperties";
            return;
        }
        // Only 0 and 1 are accepted.
        if name == b"minItems" && value.count().is_none_or(|count| count > 1) {
            return;
        }
        is_object |= name == b"properties" || (name == b"type" && names_object(value));
        push_name(name, &mut first, out);
        match name {
            b"properties" | b"$defs" | b"definitions" => push_map(value, out),
            b"items" | b"not" | b"if" | b"then" | b"else" | b"contains" => push_strict(value, out),
            b"anyOf" | b"allOf" | b"oneOf" | b"prefixItems" => push_list(value, out),
            _ => out.extend_from_slice(value.bytes()),
        }
    });
    if is_object {
        push_name(b"additionalProperties", &mut first, out);
        out.extend_from_slice(b"false");
    }
    out.push(b'}');
}

fn names_object(value: Raw<'_>) -> bool {
    value.is("object") || value.items().any(|item| item.is("object"))
}

/// A map from names to schemas.
fn push_map(map: Raw<'_>, out: &mut Vec<u8>) {
    if map.kind() != Some(Kind::Object) {
        out.extend_from_slice(map.bytes());
        return;
    }
    out.push(b'{');
    let mut first = true;
    map.members(|name, value| {
        push_name(name, &mut first, out);
        push_strict(value, out);
    });
    out.push(b'}');
}

/// A list of schemas.
fn push_list(list: Raw<'_>, out: &mut Vec<u8>) {
    if list.kind() != Some(Kind::Array) {
        out.extend_from_slice(list.bytes());
        return;
    }
    out.push(b'[');
    for (at, item) in list.items().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        push_strict(item, out);
    }
    out.push(b']');
}

/// A member's name as it was written, still escaped.
fn push_name(name: &[u8], first: &mut bool, out: &mut Vec<u8>) {
    if !*first {
        out.push(b',');
    }
    *first = false;
    out.push(b'"');
    out.extend_from_slice(name);
    out.extend_from_slice(b"\":");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_go_and_objects_are_closed() {
        for (before, after) in [
            (
                r#"{"type":"object","properties":{"minimum":{"type":"integer","minimum":1},"a":{"type":["object","null"],"properties":{}}},"required":["a"]}"#,
                r#"{"type":"object","properties":{"minimum":{"type":"integer"},"a":{"type":["object","null"],"properties":{},"additionalProperties":false}},"required":["a"],"additionalProperties":false}"#,
            ),
            (
                r##"{"$defs":{"x":{"type":"array","minItems":2,"items":{"type":"string","maxLength":3}}},"anyOf":[{"$ref":"#/$defs/x"},{"type":"number","multipleOf":2}]}"##,
                r##"{"$defs":{"x":{"type":"array","items":{"type":"string"}}},"anyOf":[{"$ref":"#/$defs/x"},{"type":"number"}]}"##,
            ),
            (
                r#"{"additionalProperties":true,"minItems":1}"#,
                r#"{"minItems":1,"additionalProperties":false}"#,
            ),
            (r#"{"enum":["minimum",{"minimum":1}]}"#, r#"{"enum":["minimum",{"minimum":1}]}"#),
            ("{}", "{}"),
            ("true", "true"),
        ] {
            let mut out = Vec::new();
            push_strict(Raw::of(before.as_bytes()), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), after);
        }
    }
}
