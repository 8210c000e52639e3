//! The short way over an event and the long one lead to the same place.

use proptest::prelude::*;

use super::*;

/// A watch that walks every event.
fn walk(watch: &mut StreamWatch, event: &[u8]) -> EventKind {
    watch.last.forget();
    watch.event(event)
}

const CHAT: &str = "data: {\"id\":\"c\",\"object\":\"chat.completion.chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"@\"},\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"~\"}\n\n";
const RESPONSES: &str = "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"sequence_number\":#,\"item_id\":\"m\",\"delta\":\"@\",\"logprobs\":[],\"obfuscation\":\"~\"}\n\n";
const ANTHROPIC: &str = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"@\"}}\n\n";

fn with(event: &str, text: &str, number: &str, padding: &str) -> String {
    event.replace('@', text).replace('#', number).replace('~', padding)
}

fn learnt(api: Api, dialect: Dialect, event: &str) -> StreamWatch {
    let mut watch = StreamWatch::new(api, dialect);
    assert_eq!(watch.event(with(event, "Hi", "4", "x9").as_bytes()), EventKind::Content);
    watch
}

const STREAMS: [(Api, Dialect, &str); 3] = [
    (Api::ChatCompletions, Dialect::OpenAi, CHAT),
    (Api::Responses, Dialect::OpenAi, RESPONSES),
    (Api::Messages, Dialect::Anthropic, ANTHROPIC),
];

#[test]
fn an_event_with_other_text_fits_and_one_with_another_meaning_does_not() {
    for (api, dialect, event) in STREAMS {
        let watch = learnt(api, dialect, event);
        let fits = |event: &str| watch.last.fits(event.as_bytes());
        for text in [
            "Hi",
            "H",
            " and a \\\"longer\\\" one, \\n\\u00e9 with what is escaped\\\\",
            "{\\\"a\\\":[1]}",
            "é",
        ] {
            assert!(fits(&with(event, text, "1234567", "12")), "{text}");
        }
        // Without text it is no content; a line must not end in a string; an escape must not hide the end of one.
        for text in ["", "a\nb", "a\rb", "a\\\nb", "a\\"] {
            assert!(!fits(&with(event, text, "5", "x")), "{text}");
        }
        for (was, is) in [
            ("\"index\":0", "\"index\":1"),
            ("null", "\"stop\""),
            ("data:", "dada:"),
            ("}\n\n", "}\n"),
            ("{\"", "{ \""),
        ] {
            let other = with(event, "Hi", "4", "x9").replace(was, is);
            assert_eq!(fits(&other), other == with(event, "Hi", "4", "x9"), "{other}");
        }
        let whole = with(event, "Hi", "4", "x9");
        for len in 0..whole.len() {
            assert!(!fits(&whole[..len]), "{}", &whole[..len]);
        }
    }
}

#[test]
fn a_walk_over_another_event_forgets_the_pattern() {
    for (api, dialect, event) in STREAMS {
        let mut watch = learnt(api, dialect, event);
        watch.event(b"data: {\"type\":\"ping\"}\n\n");
        assert!(!watch.last.fits(with(event, "Hi", "4", "x9").as_bytes()));
    }
}

#[test]
fn what_cannot_be_a_pattern_leaves_none() {
    let mut watch = learnt(Api::ChatCompletions, Dialect::OpenAi, CHAT);
    // Its data is put together from two lines, outside of the event.
    let lines = "data: {\"choices\":[{\"index\":0,\ndata: \"delta\":{\"content\":\"Hi\"}}]}\n\n";
    assert_eq!(watch.event(lines.as_bytes()), EventKind::Content);
    assert!(!watch.last.fits(lines.as_bytes()));
    // More free values than there are places.
    let many = "data: {\"choices\":[{\"delta\":{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\",\"d\":\"4\"}}]}\n\n";
    assert_eq!(watch.event(many.as_bytes()), EventKind::Content);
    assert!(!watch.last.fits(many.as_bytes()));
    // A piece that is longer than its length can say.
    let long = format!(
        "data: {{\"x\":\"{}\",\"choices\":[{{\"delta\":{{\"content\":\"Hi\"}}}}]}}\n\n",
        "x".repeat(70_000)
    );
    assert_eq!(watch.event(long.as_bytes()), EventKind::Content);
    assert!(!watch.last.fits(long.as_bytes()));
}

/// Events of all three grammars: alike, nearly alike, and with a byte that is another.
fn event() -> impl Strategy<Value = Vec<u8>> {
    let others = [
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"service_tier\":\"flex\"}\n\n",
        "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"@\",\"refusal\":\"~\"}}],\"usage\":{\"prompt_tokens\":#,\"completion_tokens\":2}}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{\"tool_calls\":[{\"function\":{\"arguments\":\"@\"}}]}}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}\n\n",
        "data: {\"choices\":[{\"index\":0,\"text\":\"@\",\"finish_reason\":\"stop\"}]}\n\n",
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"content_block\":{\"type\":\"tool_use\"}}\n\n",
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":#}}\n\n",
        "event: error\ndata: {\"error\":{\"message\":\"@\"}}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\"}}\n\n",
        "data: [DONE]\n\n",
    ];
    let all: Vec<&'static str> =
        [CHAT, RESPONSES, ANTHROPIC].into_iter().cycle().take(9).chain(others).collect();
    let text = prop_oneof![Just(String::new()), "[a-z\\\\\"\n\r\t0-9é]{0,20}", "[ -~]{0,40}", "[a-z ]{1,9}"];
    let change = proptest::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()));
    (prop::sample::select(all), text, "[0-9]{0,3}", "[a-z]{0,4}", change).prop_map(
        |(event, text, number, padding, change)| {
            let mut event = with(event, &text, &number, &padding).into_bytes();
            if let Some((at, byte)) = change {
                let at = at.index(event.len());
                event[at] = byte;
            }
            event
        },
    )
}

proptest! {
    #[test]
    fn both_ways_see_the_same(events in prop::collection::vec(event(), 1..12), repeat in 0..3_usize) {
        for (api, dialect, _) in STREAMS {
            let (mut short, mut long) = (StreamWatch::new(api, dialect), StreamWatch::new(api, dialect));
            for event in events.iter().flat_map(|event| std::iter::repeat_n(event, repeat + 1)) {
                prop_assert_eq!(short.event(event), walk(&mut long, event), "{:?}", String::from_utf8_lossy(event));
                prop_assert_eq!(short.seen, long.seen, "{:?}", String::from_utf8_lossy(event));
            }
        }
    }
}
