//! In a valid document, peek sees the same members as a full parser does.
#![no_main]

use serde_json::{Map, Value};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let peeked = sluice::wire::json::peek(body);
    let Ok(map) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    let Ok(peek) = peeked else { return };
    let model = peek.model_str(body).map(|model| model.text().expect("peek checked it").into_owned());
    assert_eq!(model.as_deref(), map.get("model").and_then(Value::as_str));
    assert_eq!(peek.stream, map.get("stream") == Some(&Value::Bool(true)));
    assert_eq!(peek.stream_options.is_some(), map.contains_key("stream_options"));
    let usage = map.get("stream_options").and_then(|options| options.get("include_usage"));
    assert_eq!(peek.include_usage, usage.and_then(Value::as_bool));
    for (name, ours) in [
        ("max_tokens", peek.max_tokens),
        ("n", peek.n),
        ("max_completion_tokens", peek.max_completion_tokens),
    ] {
        if let Some(exact) = map.get(name).and_then(Value::as_u64) {
            assert_eq!(ours, Some(exact), "{name}");
        }
    }
});
