//! A stream that is cut into events anywhere comes out as events whose data is JSON, and ends well only if it said why.
#![no_main]

use sluice::config::Dialect;
use sluice::dialect::{
    Api, StreamWatch, anthropic_to_openai, inspect_answer, openai_to_anthropic, read_stream_error,
};
use sluice::wire::json::{DEPTH_MAX, validate};
use sluice::wire::sse::{Splitter, fields};

fn events(stream: &[u8]) -> Vec<&[u8]> {
    let mut splitter = Splitter::new();
    let mut from = 0;
    let mut found: Vec<_> = splitter
        .feed(stream)
        .map(|end| {
            let event = &stream[from..end];
            from = end;
            event
        })
        .collect();
    found.push(&stream[from..]);
    found
}

/// Checks what was written; says whether it ends well.
fn ends(out: &[u8]) -> bool {
    let mut ended = false;
    for event in events(out) {
        let fields = fields(event);
        let Some(data) = fields.data() else { continue };
        if data.as_ref() == b"[DONE]" {
            ended = true;
        } else {
            validate(&data, DEPTH_MAX).expect("what is sent is JSON");
            ended |= fields.event == b"message_stop";
        }
    }
    ended
}

libfuzzer_sys::fuzz_target!(|stream: &[u8]| {
    let back = openai_to_anthropic::Back {
        include_usage: true,
        json_tool: stream.len() % 2 == 0,
        ..Default::default()
    };
    let mut to_chat = openai_to_anthropic::StreamTranslator::new(back, 1);
    let mut to_messages = anthropic_to_openai::StreamTranslator::new();
    let mut watches = [
        StreamWatch::new(Api::ChatCompletions, Dialect::OpenAi),
        StreamWatch::new(Api::Responses, Dialect::OpenAi),
        StreamWatch::new(Api::Messages, Dialect::Anthropic),
    ];
    let (mut chat, mut messages) = (Vec::new(), Vec::new());
    for event in events(stream) {
        let _ = to_chat.event(event, &mut chat);
        let _ = to_messages.event(event, &mut messages);
        for watch in &mut watches {
            watch.event(event);
        }
        read_stream_error(event);
    }
    let chat_ends = to_chat.finish(&mut chat).is_ok();
    assert_eq!(ends(&chat), chat_ends);
    let messages_end = to_messages.finish(&mut messages).is_ok();
    assert_eq!(ends(&messages), messages_end);
    let mut out = Vec::new();
    inspect_answer(Api::ChatCompletions, Dialect::OpenAi, stream);
    if openai_to_anthropic::translate_answer(stream, &openai_to_anthropic::Back::default(), 1, &mut out)
        .is_ok()
    {
        validate(&out, DEPTH_MAX).expect("a translated answer is JSON");
    }
    out.clear();
    if anthropic_to_openai::translate_answer(stream, &mut out).is_ok() {
        validate(&out, DEPTH_MAX).expect("a translated answer is JSON");
    }
});
