//! An OpenAI client and an Anthropic provider: what the client sees of a stream that is said anew.

use std::io::Write;
use std::net::TcpStream;

use sluice::config::DriverChoice;
use sluice::gateway::Running;

use crate::raw::*;
use crate::support::*;

const ASK: &str = r#"{"model":"anthropic/claude-haiku-4-5","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}},{"type":"function","function":{"name":"g","parameters":{"type":"object"}}}]}"#;

fn event(name: &str, members: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\"{members}}}\n\n")
}

fn start() -> String {
    event(
        "message_start",
        r#","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude-haiku-4-5","stop_reason":null,"usage":{"input_tokens":11,"output_tokens":1}}"#,
    ) + &event("ping", "")
}

fn text(index: usize, text: &str) -> String {
    [
        event(
            "content_block_start",
            &format!(r#","index":{index},"content_block":{{"type":"text","text":""}}"#),
        ),
        event(
            "content_block_delta",
            &format!(r#","index":{index},"delta":{{"type":"text_delta","text":"{text}"}}"#),
        ),
        event("content_block_stop", &format!(r#","index":{index}"#)),
    ]
    .concat()
}

fn call(index: usize, name: &str, pieces: &[&str]) -> String {
    let mut out = event(
        "content_block_start",
        &format!(
            r#","index":{index},"content_block":{{"type":"tool_use","id":"toolu_{index}","name":"{name}","input":{{}}}}"#
        ),
    );
    for piece in pieces {
        let piece = serde_json::to_string(piece).unwrap();
        let members =
            format!(r#","index":{index},"delta":{{"type":"input_json_delta","partial_json":{piece}}}"#);
        out.push_str(&event("content_block_delta", &members));
    }
    out + &event("content_block_stop", &format!(r#","index":{index}"#))
}

fn finish(reason: &str) -> String {
    event(
        "message_delta",
        &format!(
            r#","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":7}}"#
        ),
    )
}

fn stop() -> String {
    event("message_stop", "")
}

/// A gateway in front of an Anthropic provider that streams `events`; cut when `whole` is false.
fn behind(
    events: String,
    framing: Framing,
    whole: bool,
    driver: DriverChoice,
    more: &[&str],
) -> (Raw, Running) {
    let provider = Raw::start(move |_, stream: &mut TcpStream| {
        let mut dice = Dice::new(events.len() as u64);
        let wire = framed(events.as_bytes(), framing, &mut dice);
        let wire = if whole { &wire[..] } else { &wire[..wire.len() - 9] };
        if events.len() > 50_000 {
            let _ = stream.write_all(wire);
        } else {
            write_in_pieces(stream, wire, &mut dice);
        }
        Then::Close
    });
    let text = config_file("fallbacks-model-targets.yaml");
    let gateway = gateway(plan(&text, &[("anthropic", provider.addr)], driver, more));
    (provider, gateway)
}

/// The chunks of a translated stream, and whether `[DONE]` came last and once.
fn chunks(got: &Got) -> (Vec<serde_json::Value>, bool) {
    let text = got.text();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    let done = lines.iter().filter(|line| **line == "[DONE]").count();
    let chunks = lines.iter().filter(|line| **line != "[DONE]");
    let chunks = chunks.map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    (chunks.collect(), done == 1 && lines.last() == Some(&"[DONE]"))
}

fn joined(chunks: &[serde_json::Value], of: impl Fn(&serde_json::Value) -> Option<&str>) -> String {
    chunks.iter().filter_map(|chunk| of(&chunk["choices"][0]["delta"])).collect()
}

#[test]
fn a_translated_stream_has_one_finish_one_end_and_its_tool_calls() {
    let events = [
        start(),
        text(0, "I will call"),
        call(1, "f", &["", "{\"a\":", "1}"]),
        call(2, "g", &["{}"]),
        finish("tool_use"),
        stop(),
    ]
    .concat();
    each_driver(|driver| {
        for framing in FRAMINGS {
            let (_provider, gateway) = behind(events.clone(), framing, true, driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", ASK);
            let (chunks, done) = chunks(&got);
            assert!(got.whole && done, "{framing:?}: {}", got.text());
            assert_eq!(joined(&chunks, |d| d["content"].as_str()), "I will call");
            for (index, name, arguments) in [(0, "f", "{\"a\":1}"), (1, "g", "{}")] {
                let of = |d: &serde_json::Value, what: &str| {
                    let calls = d["tool_calls"].as_array().cloned().unwrap_or_default();
                    let mine = calls.iter().filter(|c| c["index"] == index);
                    mine.filter_map(|c| c["function"][what].as_str().map(str::to_owned)).collect::<String>()
                };
                let all =
                    |what| chunks.iter().map(|c| of(&c["choices"][0]["delta"], what)).collect::<String>();
                assert_eq!((all("name").as_str(), all("arguments").as_str()), (name, arguments));
            }
            let reasons = chunks.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str());
            assert_eq!(reasons.collect::<Vec<_>>(), ["tool_calls"], "{}", got.text());
            let usage: Vec<_> = chunks.iter().filter(|c| c["usage"].is_object()).collect();
            assert_eq!(usage.len(), 1, "{}", got.text());
            assert_eq!(
                (&usage[0]["usage"]["prompt_tokens"], &usage[0]["usage"]["completion_tokens"]),
                (&11.into(), &7.into())
            );
        }
    });
}

#[test]
fn a_translated_stream_that_is_cut_has_no_finish_and_no_end() {
    each_driver(|driver| {
        for framing in [Framing::Chunked, Framing::Length] {
            let events = [start(), text(0, "Hello"), text(1, " more")].concat();
            let (_provider, gateway) = behind(events, framing, false, driver, &[]);
            let mut client = Client::to(gateway.addr());
            let got = client.post("/v1/chat/completions", ASK);
            let (chunks, done) = chunks(&got);
            assert!(!got.whole && !done && client.is_closed(), "{}", got.text());
            assert!(joined(&chunks, |d| d["content"].as_str()).starts_with("Hello"), "{}", got.text());
            assert!(chunks.iter().all(|c| !c["choices"][0]["finish_reason"].is_string()));
            assert_eq!(chunks.last().unwrap()["error"]["code"], "upstream_truncated");
        }
    });
}

#[test]
fn a_stream_that_said_why_it_stops_gets_its_end_although_the_provider_left_it_out() {
    each_driver(|driver| {
        for framing in FRAMINGS {
            let events = [start(), text(0, "Hello"), finish("end_turn")].concat();
            let (_provider, gateway) = behind(events, framing, true, driver, &[]);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", ASK);
            let (chunks, done) = chunks(&got);
            assert!(got.whole && done, "{framing:?}: {}", got.text());
            assert_eq!(joined(&chunks, |d| d["content"].as_str()), "Hello");
            let reasons = chunks.iter().filter_map(|c| c["choices"][0]["finish_reason"].as_str());
            assert_eq!(reasons.collect::<Vec<_>>(), ["stop"]);
        }
    });
}

#[test]
fn a_large_event_is_translated_and_not_lost() {
    let long = "y".repeat(300_000);
    let input = format!("{{\"a\":\"{long}\"}}");
    let events = [start(), text(0, &long), call(1, "f", &[&input]), finish("tool_use"), stop()].concat();
    each_driver(|driver| {
        let (_provider, gateway) = behind(events.clone(), Framing::Chunked, true, driver, &[]);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", ASK);
        let (chunks, done) = chunks(&got);
        assert!(got.whole && done, "{}", &got.text()[got.body.len().saturating_sub(500)..]);
        let text = joined(&chunks, |d| d["content"].as_str());
        assert!(text == long, "{} bytes of text", text.len());
        let arguments = joined(&chunks, |d| d["tool_calls"][0]["function"]["arguments"].as_str());
        assert!(arguments == input, "{} bytes of arguments", arguments.len());
    });
}

#[test]
fn what_the_other_dialect_has_no_words_for_is_named_on_the_answer_that_lacks_it() {
    let more = r#""logit_bias":{"1":1},"seed":7,"n":1,"made_up_by_the_client":1,"#;
    let ask = |body: &str| body.replacen('{', &format!("{{{more}"), 1);
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for body in [ASK, &ASK.replace(r#""stream":true,"stream_options":{"include_usage":true},"#, "")] {
            let got = client.post("/v1/chat/completions", &ask(body));
            assert_eq!(got.header("x-sluice-provider"), Some("anthropic"), "{}", got.text());
            assert_eq!(got.header("x-sluice-dropped"), Some("logit_bias, seed, other"), "{}", got.head);
            // Nothing is said where nothing was left out: said in full, or passed on as it came.
            assert_eq!(client.post("/v1/chat/completions", body).header("x-sluice-dropped"), None);
            let own = ask(body).replace("anthropic/claude-haiku-4-5", "openai/gpt-4o");
            let got = client.post("/v1/chat/completions", &own);
            assert_eq!((got.status, got.header("x-sluice-dropped")), (200, None), "{}", got.text());
        }
        // The other way round.
        let body = r#"{"model":"openai/gpt-4o","max_tokens":9,"top_k":4,"messages":[{"role":"user","content":"x"}]}"#;
        let got = client.post("/v1/messages", body);
        assert_eq!((got.status, got.header("x-sluice-dropped")), (200, Some("top_k")), "{}", got.head);
    });
}

#[test]
fn an_event_past_the_limit_breaks_a_translated_stream_visibly() {
    let events =
        [start(), text(0, "Hello"), text(1, &"y".repeat(300_000)), finish("end_turn"), stop()].concat();
    each_driver(|driver| {
        let (_provider, gateway) =
            behind(events.clone(), Framing::Chunked, true, driver, &["limits.event=128KiB"]);
        let mut client = Client::to(gateway.addr());
        let got = client.post("/v1/chat/completions", ASK);
        let (chunks, done) = chunks(&got);
        assert!(!got.whole && !done && client.is_closed());
        assert_eq!(joined(&chunks, |d| d["content"].as_str()), "Hello");
        assert!(chunks.last().unwrap()["error"].is_object());
    });
}
