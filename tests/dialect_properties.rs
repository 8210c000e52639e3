//! Whatever a client or a provider sends: no panic, and what comes out is always JSON.

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use sluice::config::Dialect;
use sluice::dialect::{
    Api, RetryHints, StreamWatch, anthropic_to_openai, inspect_answer, openai_to_anthropic, read_error,
    read_stream_error, render_error, render_stream_error,
};

/// Words that steer the translators, so that arbitrary documents reach their branches.
const WORDS: [&str; 60] = [
    "",
    " ",
    "\n",
    "role",
    "user",
    "assistant",
    "system",
    "developer",
    "tool",
    "function",
    "content",
    "type",
    "text",
    "messages",
    "tool_calls",
    "tool_call_id",
    "id",
    "name",
    "arguments",
    "{}",
    "{\"a\":1}",
    "{",
    "tools",
    "parameters",
    "tool_choice",
    "required",
    "auto",
    "json_schema",
    "response_format",
    "schema",
    "image_url",
    "url",
    "https://e.com",
    "data:image/png;base64,AAAA",
    "file",
    "file_data",
    "stop",
    "max_tokens",
    "reasoning_effort",
    "high",
    "thinking",
    "signature",
    "tool_use",
    "tool_result",
    "tool_use_id",
    "input",
    "source",
    "base64",
    "media_type",
    "data",
    "choices",
    "delta",
    "finish_reason",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "content_block",
    "index",
    "usage",
    "\u{1F980}\"\\",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![4 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned), 1 => ".{0,6}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..2000).prop_map(Value::from),
        (-1.0..3.0f64).prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn content() -> impl Strategy<Value = Value> {
    let part = prop_oneof![
        word().prop_map(|text| json!({"type": "text", "text": text})),
        word().prop_map(|url| json!({"type": "image_url", "image_url": {"url": url}})),
        (word(), value())
            .prop_map(|(id, content)| json!({"type": "tool_result", "tool_use_id": id, "content": content})),
        (word(), word(), value()).prop_map(
            |(id, name, input)| json!({"type": "tool_use", "id": id, "name": name, "input": input})
        ),
        value(),
    ];
    prop_oneof![
        word().prop_map(Value::from),
        Just(Value::Null),
        prop::collection::vec(part, 0..4).prop_map(Value::from)
    ]
}

fn message() -> impl Strategy<Value = Value> {
    let role = prop::sample::select(vec!["user", "assistant", "system", "tool", "developer", "function"]);
    let call = (word(), word(), word()).prop_map(
        |(id, name, arguments)| json!({"id": id, "function": {"name": name, "arguments": arguments}}),
    );
    (role, content(), prop::collection::vec(call, 0..3), word()).prop_map(|(role, content, calls, id)| {
        let mut message = json!({"role": role, "content": content});
        if role == "assistant" && !calls.is_empty() {
            message["tool_calls"] = calls.into();
        }
        if role == "tool" {
            message["tool_call_id"] = id.into();
        }
        message
    })
}

fn request() -> impl Strategy<Value = Value> {
    (prop::collection::vec(message(), 0..6), prop::collection::vec((word(), value()), 0..6)).prop_map(
        |(messages, extra)| {
            let mut body: Map<_, _> = extra.into_iter().collect();
            body.insert("messages".to_owned(), messages.into());
            body.entry("max_tokens").or_insert_with(|| 9.into());
            body.into()
        },
    )
}

fn event() -> impl Strategy<Value = Value> {
    let index = 0u32..3;
    prop_oneof![
        word().prop_map(|id| json!({"type": "message_start", "message": {"id": id, "usage": {"input_tokens": 3}}})),
        (index.clone(), prop::sample::select(vec!["text", "thinking", "tool_use", "other"]), word(), value())
            .prop_map(|(index, kind, name, input)| json!({"type": "content_block_start", "index": index,
                "content_block": {"type": kind, "id": name, "name": name, "text": "", "thinking": name, "input": input}})),
        (index.clone(), word()).prop_map(|(index, text)| json!({"type": "content_block_delta", "index": index,
            "delta": {"text": text, "thinking": text, "partial_json": text, "signature": text}})),
        index.prop_map(|index| json!({"type": "content_block_stop", "index": index})),
        word().prop_map(|reason| json!({"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 4}})),
        Just(json!({"type": "message_stop"})),
        (0u32..3, word(), word()).prop_map(|(index, id, text)| json!({"id": id, "choices": [{"index": 0, "delta": {"content": text,
            "tool_calls": [{"index": index, "id": id, "function": {"name": id, "arguments": text}}]}, "finish_reason": null}]})),
        word().prop_map(|reason| json!({"choices": [{"index": 0, "delta": {}, "finish_reason": reason}], "usage": {"prompt_tokens": 3}})),
        value(),
    ]
}

/// Every `data` line but the end mark is one JSON value.
fn check_events(out: &[u8]) {
    let text = std::str::from_utf8(out).expect("UTF-8");
    for data in text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        assert!(serde_json::from_str::<Value>(data).is_ok(), "{data}");
    }
}

const MODELS: [&str; 4] = ["claude-sonnet-4-5", "claude-opus-5-5", "claude-3-haiku-20240307", "gpt-5"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_translated_request_is_always_json(body in request(), model in prop::sample::select(MODELS.to_vec())) {
        let text = body.to_string();
        let mut out = Vec::new();
        let options = openai_to_anthropic::TranslateOptions { model, default_max_tokens: None };
        if openai_to_anthropic::translate_request(text.as_bytes(), &options, &mut out).is_ok() {
            let sent: Value = serde_json::from_slice(&out).expect("JSON");
            prop_assert_eq!(&sent["messages"][0]["role"], "user");
        }
        let mut out = Vec::new();
        let options = anthropic_to_openai::TranslateOptions { model };
        if anthropic_to_openai::translate_request(text.as_bytes(), &options, &mut out).is_ok() {
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
        }
    }

    #[test]
    fn any_document_is_read_without_harm(body in value(), cut in any::<prop::sample::Index>()) {
        let text = body.to_string();
        let part = &text.as_bytes()[..cut.index(text.len() + 1)];
        for bytes in [text.as_bytes(), part] {
            for (api, dialect) in [(Api::ChatCompletions, Dialect::OpenAi), (Api::Responses, Dialect::OpenAi), (Api::Messages, Dialect::Anthropic)] {
                inspect_answer(api, dialect, bytes);
            }
            let mut out = Vec::new();
            if openai_to_anthropic::translate_answer(bytes, &openai_to_anthropic::Back::default(), 1, &mut out).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
            }
            out.clear();
            if anthropic_to_openai::translate_answer(bytes, &mut out).is_ok() {
                prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
            }
            let options = openai_to_anthropic::TranslateOptions { model: MODELS[0], default_max_tokens: None };
            let _ = openai_to_anthropic::translate_request(bytes, &options, &mut out);
        }
    }

    #[test]
    fn any_stream_is_translated_to_json_or_broken(events in prop::collection::vec(event(), 0..12), json_tool in any::<bool>()) {
        let back = openai_to_anthropic::Back { include_usage: true, json_tool, custom_tools: vec!["name".into(), "user".into()] };
        let mut to_chat = openai_to_anthropic::StreamTranslator::new(back, 1);
        let mut to_messages = anthropic_to_openai::StreamTranslator::new();
        let mut watches = [
            StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi),
            StreamWatch::new(Api::Responses, Dialect::OpenAi),
            StreamWatch::new(Api::Messages, Dialect::Anthropic),
        ];
        let (mut chat, mut messages) = (Vec::new(), Vec::new());
        for event in &events {
            let text = format!("data: {event}\n\n");
            let _ = to_chat.event(text.as_bytes(), &mut chat);
            let _ = to_messages.event(text.as_bytes(), &mut messages);
            for watch in &mut watches {
                watch.event(text.as_bytes());
            }
            let error = read_stream_error(text.as_bytes()).for_client(Dialect::OpenAi);
            let mut rendered = Vec::new();
            render_stream_error(Dialect::OpenAi, Api::Responses, &error, &mut rendered);
            check_events(&rendered);
        }
        let chat_ends = to_chat.finish(&mut chat).is_ok();
        let messages_end = to_messages.finish(&mut messages).is_ok();
        check_events(&chat);
        check_events(&messages);
        let chat = String::from_utf8(chat).expect("UTF-8");
        prop_assert_eq!(chat.matches("data: [DONE]\n\n").count(), usize::from(chat_ends));
        if chat_ends {
            prop_assert_eq!(chat.matches("\"finish_reason\":\"").count(), 1);
        }
        let messages = String::from_utf8(messages).expect("UTF-8");
        prop_assert_eq!(messages.matches("event: message_stop\n").count(), usize::from(messages_end));
    }

    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), status in 100u16..600) {
        let error = read_error(status, &RetryHints { retry_after: Some(&bytes), now_unix_s: 1, ..RetryHints::default() }, &bytes);
        for client in [Dialect::OpenAi, Dialect::Anthropic] {
            let mut out = Vec::new();
            let answer = error.for_client(client);
            prop_assert!((400..600).contains(&answer.status));
            render_error(client, &answer, "req_1", &mut out);
            prop_assert!(serde_json::from_slice::<Value>(&out).is_ok());
        }
        inspect_answer(Api::ChatCompletions, Dialect::OpenAi, &bytes);
        let mut watch = StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi);
        watch.event(&bytes);
        let mut out = Vec::new();
        let mut translator = openai_to_anthropic::StreamTranslator::new(openai_to_anthropic::Back::default(), 1);
        let _ = translator.event(&bytes, &mut out);
        let _ = anthropic_to_openai::StreamTranslator::new().event(&bytes, &mut out);
    }
}
