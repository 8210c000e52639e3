//! Streams as their providers send them, and what a user of the gateway would notice about each.

use super::*;

fn watch(api: Api, dialect: Dialect, events: &[&str]) -> (Vec<EventKind>, StreamWatch) {
    let mut watch = StreamWatch::new(api, dialect);
    let kinds = events.iter().map(|event| watch.event(event.as_bytes())).collect();
    (kinds, watch)
}

fn chat(data: &[&str]) -> (Vec<EventKind>, StreamWatch) {
    let events: Vec<String> = data.iter().map(|data| format!("data: {data}\n\n")).collect();
    watch(Api::ChatCompletions, Dialect::OpenAi, &events.iter().map(String::as_str).collect::<Vec<_>>())
}

fn one(data: &str) -> EventKind {
    chat(&[data]).0[0]
}

use EventKind::{Content, Error, Other, Preamble, Terminal, UsageOnly};

#[test]
fn a_chat_stream_is_held_until_its_first_token() {
    let (kinds, watch) = chat(&[
        r#"{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}],"usage":null}"#,
        r#"{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":null}"#,
        r#"{"id":"c","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":1,"total_tokens":10}}"#,
        r#"{"id":"c","choices":[],"usage":null,"moderation":{"output":[]}}"#,
        "[DONE]",
    ]);
    assert_eq!(kinds, [Preamble, Content, Other, UsageOnly, Preamble, Terminal]);
    assert!(watch.ended());
    assert_eq!((watch.finish(), watch.usage().unwrap().total()), (Some(Finish::Stop), 10));
}

#[test]
fn only_what_a_user_can_see_is_content() {
    for (delta, kind) in [
        (r#"{"role":"assistant"}"#, Preamble),
        (r#"{"role":"assistant","content":null}"#, Preamble),
        (r#"{"content":"","reasoning_content":null,"tool_calls":[],"annotations":[ ]}"#, Preamble),
        (r#"{"content":" "}"#, Content),
        (r#"{"content":null,"reasoning_content":"hm"}"#, Content),
        (r#"{"reasoning":"hm"}"#, Content),
        (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]}]}"#, Content),
        (r#"{"refusal":"no"}"#, Content),
        (r#"{"audio":{"id":"a","transcript":"x"}}"#, Content),
        (
            r#"{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"name":"f","arguments":""}}]}"#,
            Content,
        ),
        (r#"{"function_call":{"name":"f"}}"#, Content),
    ] {
        let data = format!(r#"{{"choices":[{{"index":0,"delta":{delta},"finish_reason":null}}]}}"#);
        assert_eq!(one(&data), kind, "{delta}");
    }
    assert_eq!(one(r#"{"choices":[{"text":"","index":0,"finish_reason":null}]}"#), Preamble);
    assert_eq!(one(r#"{"choices":[{"text":"to","index":0,"finish_reason":null}]}"#), Content);
}

#[test]
fn azures_first_chunk_is_not_taken_for_the_usage_chunk() {
    let (kinds, watch) = chat(&[
        r#"{"choices":[],"created":0,"id":"","model":"","object":"","prompt_filter_results":[{"prompt_index":0}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4}}"#,
    ]);
    assert_eq!(kinds, [Preamble, UsageOnly]);
    assert!(!watch.ended());
}

#[test]
fn usage_is_found_wherever_a_provider_puts_it() {
    for (what, data, kind) in [
        (
            "on the finish chunk",
            r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"stop"}],"usage":{"prompt_tokens":13,"completion_tokens":8}}"#,
            Other,
        ),
        (
            "on a content chunk",
            r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":{"prompt_tokens":13,"completion_tokens":8}}"#,
            Content,
        ),
        (
            "in x_groq",
            r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"x_groq":{"id":"r","usage":{"prompt_tokens":13,"completion_tokens":8}}}"#,
            Other,
        ),
    ] {
        let (kinds, watch) = chat(&[data]);
        assert_eq!(kinds, [kind], "{what}");
        assert_eq!(watch.usage().unwrap().total(), 21, "{what}");
    }
}

#[test]
fn failures_inside_a_stream_are_errors() {
    for data in [
        r#"{"error":{"message":"overloaded","type":"server_error"}}"#,
        r#"{"error":"overloaded"}"#,
        r#"{"object":"error","message":"x","code":400}"#,
        r#"{"choices":[{"index":0,"delta":{"content":""},"finish_reason":"error"}],"error":{"code":502,"message":"x"}}"#,
    ] {
        assert_eq!(one(data), Error, "{data}");
    }
    let (kinds, _) = watch(Api::ChatCompletions, Dialect::OpenAi, &["event: error\ndata: oh no\n\n"]);
    assert_eq!(kinds, [Error]);
    assert_eq!(one(r#"{"error":null,"choices":[{"index":0,"delta":{"content":"x"}}]}"#), Content);
}

#[test]
fn a_stream_of_two_choices_ends_when_both_have_finished() {
    let chunk = |index: u32, finish: &str| {
        format!(r#"{{"choices":[{{"index":{index},"delta":{{"content":"x"}},"finish_reason":{finish}}}]}}"#)
    };
    let (_, watch) = chat(&[&chunk(0, "null"), &chunk(1, "null"), &chunk(0, "\"stop\"")]);
    assert!(!watch.ended());
    let (_, watch) =
        chat(&[&chunk(0, "null"), &chunk(1, "null"), &chunk(0, "\"stop\""), &chunk(1, "\"length\"")]);
    assert!(watch.ended());
    let (_, watch) = chat(&[]);
    assert!(!watch.ended());
}

#[test]
fn comments_and_junk_are_forwarded_without_harm() {
    let (kinds, watch) = watch(
        Api::ChatCompletions,
        Dialect::OpenAi,
        &[
            ": OPENROUTER PROCESSING\n\n",
            "\n",
            "data: \n\n",
            "data: {\"cut\n\n",
            "data: [1,2]\n\n",
            "data: {}\n\n",
        ],
    );
    assert_eq!(kinds, [Preamble, Preamble, Other, Other, Other, Other]);
    assert!(!watch.ended() && watch.usage().is_none());
}

#[test]
fn a_responses_stream_ends_without_done() {
    let (kinds, watch) = watch(
        Api::Responses,
        Dialect::OpenAi,
        &[
            "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"status\":\"in_progress\",\"usage\":null,\"error\":null}}\n\n",
            "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"item\":{\"type\":\"message\",\"content\":[]}}\n\n",
            "data: {\"type\":\"response.content_part.added\",\"part\":{\"type\":\"output_text\",\"text\":\"\"}}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"\"}\n\n",
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"Hi\"}\n\n",
            "data: {\"type\":\"response.output_item.added\",\"item\":{\"id\":\"fc\",\"type\":\"function_call\",\"name\":\"f\"}}\n\n",
            "data: {\"response\":{\"usage\":{\"input_tokens\":5,\"output_tokens\":2,\"input_tokens_details\":{\"cached_tokens\":4}},\"status\":\"completed\",\"output\":[{\"type\":\"x\"}]},\"type\":\"response.completed\"}\n\n",
        ],
    );
    assert_eq!(kinds, [Preamble, Preamble, Preamble, Preamble, Content, Content, Terminal]);
    let usage = watch.usage().unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.output), (1, 4, 2));
    assert!(watch.ended() && watch.tool_calls());
    assert_eq!(watch.finish(), Some(Finish::ToolCalls));
}

#[test]
fn a_responses_stream_can_fail_in_either_shape() {
    for event in [
        "event: error\ndata: {\"type\":\"error\",\"sequence_number\":2,\"error\":{\"code\":\"insufficient_quota\"}}\n\n",
        "data: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"x\"}\n\n",
        "data: {\"type\":\"response.failed\",\"response\":{\"status\":\"failed\",\"error\":{\"code\":\"x\"}}}\n\n",
    ] {
        let (kinds, watch) = watch(Api::Responses, Dialect::OpenAi, &[event]);
        assert_eq!(kinds, [Error], "{event}");
        assert!(!watch.ended());
    }
}

#[test]
fn an_anthropic_stream_is_held_until_its_first_token() {
    let (kinds, watch) = watch(
        Api::Messages,
        Dialect::Anthropic,
        &[
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"usage\":{\"input_tokens\":61,\"cache_read_input_tokens\":5,\"output_tokens\":1}}  }\n\n",
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            "event: ping\ndata: {\"type\": \"ping\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"s\"}}\n\n",
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n",
            "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{}}}\n\n",
            "data: {\"type\":\"brand_new_event\"}\n\n",
            "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\",\"stop_sequence\":null},\"usage\":{\"input_tokens\":43,\"output_tokens\":12}}\n\n",
            "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        ],
    );
    assert_eq!(kinds, [Preamble, Preamble, Preamble, Content, Other, Other, Content, Other, Other, Terminal]);
    let usage = watch.usage().unwrap();
    assert_eq!((usage.input, usage.cache_read, usage.output), (43, 5, 12));
    assert!(watch.ended() && watch.tool_calls());
    assert_eq!(watch.finish(), Some(Finish::ToolCalls));
}

#[test]
fn an_anthropic_stream_can_fail_after_its_200() {
    let (kinds, watch) = watch(
        Api::Messages,
        Dialect::Anthropic,
        &[
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n",
        ],
    );
    assert_eq!(kinds, [Error]);
    assert!(!watch.ended());
}

#[test]
fn streams_of_unknown_endpoints_pass_unjudged() {
    let (kinds, watch) =
        watch(Api::Other, Dialect::OpenAi, &["event: image_generation.partial_image\ndata: {}\n\n"]);
    assert_eq!(kinds, [Content]);
    assert!(watch.ended());
}
