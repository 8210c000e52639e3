//! Every endpoint that is served: what the provider is sent for it, byte by byte, and what the gateway answers itself.

use std::io::Write;

use sluice::config::DriverChoice;
use sluice::gateway::Running;

use crate::raw::*;
use crate::support::*;

/// A provider that answers everything with this type and body and keeps its connections.
fn answering(content_type: &'static str, body: &'static [u8]) -> Raw {
    Raw::start(move |_, stream| {
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let _ = stream.write_all(&[head.as_bytes(), body].concat());
        Then::Keep
    })
}

fn both_at(provider: &Raw, driver: DriverChoice) -> Running {
    let text = config_file("fallbacks-model-targets.yaml");
    gateway(plan(&text, &[("openai", provider.addr), ("anthropic", provider.addr)], driver, &[]))
}

/// Names and values of a head's fields, names in lower case, sorted.
fn fields(head: &str) -> Vec<(String, String)> {
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let mut all: Vec<_> = lines.map(|(n, v)| (n.to_ascii_lowercase(), v.to_owned())).collect();
    all.sort();
    all
}

fn pairs(all: &[(&str, &str)]) -> Vec<(String, String)> {
    all.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

/// Fields that a client sends and a provider must not see, with some that it must.
const CLUTTER: &str = "Accept: application/json\r\nUser-Agent: OpenAI/Python 2.0\r\nAuthorization: Bearer client-secret\r\nx-api-key: client-secret\r\nCookie: a=b\r\nX-Forwarded-For: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nVia: 1.1 x\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\nAccept-Encoding: gzip, br\r\nX-Stainless-Lang: python\r\nx-sluice-pipeline: nightly\r\nx-sluice-step: build\r\nx-sluice-cache: off\r\nOpenAI-Organization: org-1\r\nOpenAI-Beta: assistants=v2\r\nanthropic-beta: files-api\r\nIdempotency-Key: k1\r\nx-unknown: 1\r\n";

#[test]
fn a_provider_is_sent_exactly_the_fields_that_it_should_see() {
    each_driver(|driver| {
        let provider = answering("application/json", b"{\"choices\":[]}");
        let gateway = both_at(&provider, driver);
        let mut client = Client::to(gateway.addr());
        let got = client.post_with("/v1/chat/completions", CLUTTER, CHAT);
        assert_eq!(got.status, 200, "{}", got.text());
        let asked = provider.asked().pop().unwrap();
        assert_eq!(asked.line(), "POST /v1/chat/completions HTTP/1.1");
        let credential = asked.all("authorization").concat();
        assert!(["Bearer sk-primary", "Bearer sk-second"].contains(&&*credential), "{credential}");
        let body = CHAT.replace("openai/", "");
        assert_eq!(String::from_utf8_lossy(&asked.body), body);
        let (host, length) = (provider.addr.to_string(), body.len().to_string());
        let expected = pairs(&[
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("authorization", &credential),
            ("content-length", &length),
            ("content-type", "application/json"),
            ("host", &host),
            ("idempotency-key", "k1"),
            ("openai-beta", "assistants=v2"),
            ("user-agent", "OpenAI/Python 2.0"),
        ]);
        assert_eq!(fields(&asked.head), expected);
        // The other dialect, native: its own credential, version and betas.
        let body = r#"{"model":"claude-haiku-4-5","max_tokens":5,"messages":[]}"#;
        client.post_with("/v1/messages", &CLUTTER.replace("k1", "k2"), body);
        let asked = provider.asked().pop().unwrap();
        assert_eq!(asked.line(), "POST /v1/messages HTTP/1.1");
        assert_eq!(String::from_utf8_lossy(&asked.body), body);
        let length = body.len().to_string();
        let expected = pairs(&[
            ("accept", "application/json"),
            ("accept-encoding", "identity"),
            ("anthropic-beta", "files-api"),
            ("anthropic-version", "2023-06-01"),
            ("content-length", &length),
            ("content-type", "application/json"),
            ("host", &host),
            ("idempotency-key", "k2"),
            ("user-agent", "OpenAI/Python 2.0"),
            ("x-api-key", "sk-anthropic"),
        ]);
        assert_eq!(fields(&asked.head), expected);
        // And translated: all of it is the gateway's own.
        let chat = CHAT.replace("openai/gpt-4o-mini", "anthropic/claude-haiku-4-5");
        client.post_with("/v1/chat/completions", &CLUTTER.replace("k1", "k3"), &chat);
        let asked = provider.asked().pop().unwrap();
        assert_eq!(asked.line(), "POST /v1/messages HTTP/1.1");
        assert_eq!(asked.all("x-api-key"), ["sk-anthropic"]);
        assert_eq!(asked.json()["model"], "claude-haiku-4-5");
        let text = asked.head.to_ascii_lowercase();
        for gone in
            ["client-secret", "authorization", "cookie", "x-sluice", "forwarded", "stainless", "openai-"]
        {
            assert!(!text.contains(gone), "{gone} in {text}");
        }
        assert_eq!(provider.malformed(), 0);
    });
}

#[test]
fn a_body_goes_out_as_it_came_but_for_the_name_of_its_model() {
    each_driver(|driver| {
        let provider = answering("application/json", b"{\"choices\":[]}");
        let gateway = both_at(&provider, driver);
        let mut client = Client::to(gateway.addr());
        for (body, sent) in [
            (
                " {\"messages\":[ ] ,\"x\": 1.0e+2,\"model\" : \"openai\\/gpt-4o\", \"d\":\"\\u00e9é\"} \n",
                " {\"messages\":[ ] ,\"x\": 1.0e+2,\"model\" : \"gpt-4o\", \"d\":\"\\u00e9é\"} \n",
            ),
            ("{\"model\":\"gpt-4o\",\"messages\":[]}", "{\"model\":\"gpt-4o\",\"messages\":[]}"),
        ] {
            assert_eq!(client.post("/v1/chat/completions", body).status, 200);
            assert_eq!(String::from_utf8_lossy(&provider.asked().pop().unwrap().body), sent);
        }
        // One that needs many reads on the way.
        let long = CHAT.replace("Say hello", &"日本".repeat(400_000));
        assert_eq!(client.post("/v1/chat/completions", &long).status, 200);
        assert!(provider.asked().pop().unwrap().body == long.replace("openai/", "").as_bytes());
        assert_eq!(provider.connections(), 1, "one connection carries them all");
    });
}

#[test]
fn every_known_endpoint_reaches_its_provider() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut client = Client::to(gateway.addr());
        for (path, body, upstream, member) in [
            ("/v1/chat/completions", CHAT, "/v1/chat/completions", "choices"),
            ("/chat/completions", CHAT, "/v1/chat/completions", "choices"),
            (
                "/v1/completions",
                r#"{"model":"openai/gpt-4o-mini","prompt":"x"}"#,
                "/v1/completions",
                "choices",
            ),
            ("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":"x"}"#, "/v1/embeddings", "data"),
            ("/v1/responses", r#"{"model":"openai/gpt-4o-mini","input":"x"}"#, "/v1/responses", "output"),
            (
                "/v1/messages",
                r#"{"model":"claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#,
                "/v1/messages",
                "content",
            ),
            (
                "/v1/messages/count_tokens",
                r#"{"model":"claude-haiku-4-5","messages":[{"role":"user","content":"x"}]}"#,
                "/v1/messages/count_tokens",
                "input_tokens",
            ),
            (
                "/v1/images/generations",
                r#"{"model":"openai/gpt-image-1","prompt":"x"}"#,
                "/v1/images/generations",
                "data",
            ),
            ("/v1/moderations", r#"{"input":"x"}"#, "/v1/moderations", "results"),
        ] {
            let mock = if path.contains("messages") { &anthropic } else { &openai };
            let got = client.post(path, body);
            assert_eq!(got.status, 200, "{path}: {}", got.text());
            assert!(got.json().get(member).is_some(), "{path}: {}", got.text());
            assert!(got.header("x-request-id").is_some_and(|id| !id.is_empty()), "{path}");
            assert_eq!(mock.requests().last().unwrap().path, upstream, "{path}");
        }
        let connections = openai.counts().connections + anthropic.counts().connections;
        assert_eq!(connections, 2, "one each");
    });
}

#[test]
fn methods_and_queries_of_unknown_endpoints_pass() {
    each_driver(|driver| {
        let provider = answering("application/json", b"{\"object\":\"list\"}");
        let gateway = both_at(&provider, driver);
        let mut client = Client::to(gateway.addr());
        for (line, body, upstream) in [
            ("GET /v1/files?purpose=batch&limit=2", "", "GET /v1/files?purpose=batch&limit=2 HTTP/1.1"),
            ("GET /v1/responses/resp_1?x=%20y", "", "GET /v1/responses/resp_1?x=%20y HTTP/1.1"),
            ("DELETE /v1/files/file-1", "", "DELETE /v1/files/file-1 HTTP/1.1"),
            ("POST /v1/threads", "{}", "POST /v1/threads HTTP/1.1"),
            ("POST /v1/responses/resp_1/cancel", "", "POST /v1/responses/resp_1/cancel HTTP/1.1"),
        ] {
            let length = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
            let length = if line.starts_with("POST") { &*length } else { "" };
            client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\n{length}\r\n{body}").as_bytes());
            let got = client.read();
            assert_eq!((got.status, got.text().as_str()), (200, "{\"object\":\"list\"}"), "{line}");
            let asked = provider.asked().pop().unwrap();
            assert_eq!(asked.line(), upstream);
            assert_eq!(asked.all("authorization").len(), 1, "{line}: the default provider's key");
            let lengths = asked.all("content-length").len();
            assert_eq!(lengths, usize::from(line.starts_with("POST")), "{line}");
        }
        assert_eq!(provider.connections(), 1);
    });
}

const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\nRIFF\0\u{1}\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nMODEL\r\n--b\r\nContent-Disposition: form-data; name=\"language\"\r\n\r\nde\r\n--b--\r\n";

#[test]
fn uploads_go_where_their_form_says_and_audio_comes_back_untouched() {
    const AUDIO: &[u8] = b"RIFF\x00\xff\x01data: [DONE]\n\n\x80";
    each_driver(|driver| {
        let provider = answering("audio/mpeg", AUDIO);
        let gateway = both_at(&provider, driver);
        let mut client = Client::to(gateway.addr());
        for model in ["whisper-1", "openai/whisper-1"] {
            let body = FORM.replace("MODEL", model);
            let head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=b\r\n";
            client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes());
            assert_eq!(client.read().status, 200);
            let asked = provider.asked().pop().unwrap();
            assert_eq!(String::from_utf8_lossy(&asked.body), FORM.replace("MODEL", "whisper-1"), "{model}");
            assert_eq!(asked.all("content-type"), ["multipart/form-data; boundary=b"]);
        }
        let got = client.post("/v1/audio/speech", r#"{"model":"openai/tts-1","input":"x"}"#);
        assert_eq!((got.status, &*got.body), (200, AUDIO));
        assert_eq!(got.header("content-type"), Some("audio/mpeg"));
        let asked = provider.asked().pop().unwrap();
        assert_eq!(asked.json()["model"], "tts-1");
    });
}

#[test]
fn a_base_url_may_end_in_v1_or_not_and_a_provider_may_want_no_key() {
    each_driver(|driver| {
        let provider = answering("application/json", b"{\"choices\":[]}");
        for (base, path) in [
            ("", "/v1/chat/completions"),
            ("/", "/v1/chat/completions"),
            ("/v1", "/v1/chat/completions"),
            ("/v1/", "/v1/chat/completions"),
            ("/llm/v1", "/llm/v1/chat/completions"),
        ] {
            let text = format!("providers: {{mine: {{base_url: \"http://{}{base}\"}}}}", provider.addr);
            let gateway = gateway(plan(&text, &[], driver, &[]));
            let body = CHAT.replace("openai/", "mine/");
            let got = Client::to(gateway.addr()).post_with(
                "/v1/chat/completions",
                "Authorization: Bearer client-secret\r\n",
                &body,
            );
            assert_eq!(got.status, 200, "{base}: {}", got.text());
            let asked = provider.asked().pop().unwrap();
            assert_eq!(asked.line(), format!("POST {path} HTTP/1.1"), "{base}");
            assert!(asked.all("authorization").is_empty(), "{}", asked.head);
        }
    });
}

#[test]
fn the_gateway_answers_for_itself() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("ok"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let mut client = Client::to(gateway.addr());
        let got = client.get("/healthz");
        assert_eq!((got.status, &got.json()["status"]), (200, &"alive".into()));
        let got = client.get("/readyz");
        assert_eq!((got.status, &got.json()["status"]), (200, &"ready".into()));
        let got = client.get("/v1/models");
        let list = got.json();
        assert_eq!(list["object"], "list");
        let ids: Vec<&str> =
            list["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap()).collect();
        assert!(
            ids.contains(&"openai/gpt-4o-mini") && ids.contains(&"anthropic/claude-haiku-4-5"),
            "{ids:?}"
        );
        for id in &ids {
            let one = client.get(&format!("/v1/models/{id}"));
            assert_eq!((one.status, &one.json()["id"]), (200, &(*id).into()), "{}", one.text());
        }
        client.send(
            b"GET /v1/models?limit=5 HTTP/1.1\r\nHost: localhost\r\nanthropic-version: 2023-06-01\r\n\r\n",
        );
        let list = client.read().json();
        assert_eq!(list["data"][0]["type"], "model", "{list}");
        assert!(list.get("first_id").is_some(), "{list}");
        let got = client.get("/v1/models/nobody");
        assert_eq!((got.status, &got.json()["error"]["code"]), (404, &"model_not_found".into()));
        let got = client.get("/");
        assert_eq!((got.status, got.header("content-type")), (200, Some("text/html; charset=utf-8")));
        for path in ["/nothing", "/v2/chat", "/metrics/x"] {
            let got = client.get(path);
            assert_eq!(got.status, 404, "{path}");
            assert!(got.text().contains("/v1/chat/completions"), "{}", got.text());
        }
        assert_eq!(
            (openai.counts().requests, anthropic.counts().requests),
            (1, 1),
            "asked for their lists once"
        );
    });
}

#[test]
fn the_list_of_models_does_not_wait_for_a_provider_that_hangs() {
    each_driver(|driver| {
        let (openai, anthropic) = (provider("ok"), provider("hang"));
        let gateway = two(&openai, &anthropic, driver, &[]);
        let begun = std::time::Instant::now();
        let got = Client::to(gateway.addr()).get("/v1/models");
        assert!(begun.elapsed() < std::time::Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(got.text().contains("openai/gpt-4o-mini"), "{}", got.text());
    });
}
