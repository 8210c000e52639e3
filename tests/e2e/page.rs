//! The live page and its API: what it says against what happened, and who is kept out of it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice::config::DriverChoice;
use sluice::gateway::Running;

use crate::support::*;

const CHATS: &str = "/v1/chat/completions";
const API: &str = "/admin/api/v1/";
const TOKEN: &str = "a-token-that-is-long-enough";

/// `openai` at `first`, `backup` behind it, and more of the configuration.
fn with(first: SocketAddr, backup: Option<SocketAddr>, driver: DriverChoice, more: &[&str]) -> Running {
    chain(first, backup, driver, more)
}

fn locked(first: SocketAddr, driver: DriverChoice, more: &[&str]) -> Running {
    let token = format!("admin={{token: {TOKEN}}}");
    let all: Vec<&str> = std::iter::once(&*token).chain(more.iter().copied()).collect();
    with(first, None, driver, &all)
}

fn ask(addr: SocketAddr, method: &str, path: &str, fields: &str, body: &str) -> Got {
    let mut client = Client::to(addr);
    let length = if method == "POST" { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
    client.send(
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{fields}{length}\r\n{body}").as_bytes(),
    );
    client.read()
}

fn get(addr: SocketAddr, name: &str) -> Value {
    let got = ask(addr, "GET", &format!("{API}{name}"), "", "");
    assert_eq!((got.status, got.whole), (200, true), "{name}: {}", got.text());
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    assert!(got.header("access-control-allow-origin").is_none());
    let json = got.json();
    assert_eq!(json["v"], 1);
    json
}

/// What the API says once `done`: an exchange is on the board a moment after its client has the answer.
fn get_when(addr: SocketAddr, name: &str, done: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let json = get(addr, name);
        if done(&json) || begun.elapsed() > Duration::from_secs(10) {
            assert!(done(&json), "{name}: {json}");
            return json;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn post(addr: SocketAddr, name: &str, body: &str) -> Got {
    let fields = format!("Content-Type: application/json\r\nx-sluice-admin-token: {TOKEN}\r\n");
    ask(addr, "POST", &format!("{API}{name}"), &fields, body)
}

#[test]
fn the_page_is_served_with_its_files_and_keeps_others_out_of_it() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = with(mock.addr(), None, driver, &[]);
        let page = ask(gateway.addr(), "GET", "/", "", "");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(page.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        let text = page.text();
        let mut files = 0;
        for (at, _) in text.match_indices("\"/ui/") {
            let path: String = text[at + 1..].chars().take_while(|c| *c != '"').collect();
            let zipped = ask(gateway.addr(), "GET", &path, "Accept-Encoding: gzip, br\r\n", "");
            assert_eq!((zipped.status, zipped.header("content-encoding")), (200, Some("gzip")), "{path}");
            assert!(zipped.header("cache-control").unwrap().contains("immutable"), "{path}");
            assert_eq!(zipped.body[..2], [0x1f, 0x8b]);
            let plain = ask(gateway.addr(), "GET", &path, "", "");
            assert!(plain.header("content-encoding").is_none() && plain.body.len() > zipped.body.len() / 2);
            let tag = plain.header("etag").unwrap();
            let again = ask(
                gateway.addr(),
                "HEAD",
                &path,
                &format!("If-None-Match: {tag}\r\nConnection: close\r\n"),
                "",
            );
            assert_eq!((again.status, again.body.len()), (304, 0));
            files += 1;
        }
        assert!(files >= 4, "{files}");
        assert_eq!(
            ask(gateway.addr(), "GET", "/favicon.ico", "", "").header("content-type"),
            Some("image/svg+xml")
        );
        assert_eq!(ask(gateway.addr(), "GET", "/ui/0/app.js", "", "").status, 404);
        assert_eq!(
            ask(gateway.addr(), "GET", "/ui/../Cargo.toml", "", "").status,
            400,
            "no such path leaves the parser"
        );
        assert_eq!(ask(gateway.addr(), "POST", "/", "Content-Type: application/json\r\n", "{}").status, 405);
        // A link from another site may lead here; nothing else of it does.
        let linked = ask(gateway.addr(), "GET", "/", "Sec-Fetch-Site: cross-site\r\n", "");
        assert_eq!(linked.status, 200);
        let state = ask(gateway.addr(), "GET", "/admin/api/v1/state", "Sec-Fetch-Site: cross-site\r\n", "");
        assert_eq!(state.status, 403);
    });
}

#[test]
fn an_exchange_shows_its_attempts_its_targets_and_its_money() {
    each_driver(|driver| {
        let (openai, backup) = (provider("status:503"), provider("ok"));
        let gateway = with(openai.addr(), Some(backup.addr()), driver, &["workers=2"]);
        let addr = gateway.addr();
        for n in 0..6 {
            let body = if n % 2 == 0 { CHAT } else { CHAT_STREAM };
            let got = Client::to(addr).post_with(CHATS, "x-sluice-pipeline: nightly\r\n", body);
            assert_eq!((got.status, got.whole), (200, true), "{}", got.text());
        }
        let list = get_when(addr, "exchanges", |json| json["last"] == 6);
        let all = list["exchanges"].as_array().unwrap();
        assert_eq!((all.len(), &all[0]["seq"], &all[5]["seq"]), (6, &6.into(), &1.into()));
        for one in all {
            assert_eq!((&one["outcome"], &one["provider"]), (&"ok".into(), &"backup".into()), "{one}");
            assert_eq!(one["who"]["pipeline"], "nightly");
            let last = one["attempts"].as_array().unwrap().last().unwrap();
            assert!(last["answers"] == true && last["provider"] == "backup", "{one}");
        }
        // Two workers: which of the first exchanges is told first is chance.
        let failed = all.iter().rev().find(|one| one["attempts"][0]["status"] == 503);
        let first = &failed.expect("somebody met the failing provider")["attempts"];
        assert_eq!((&first[0]["status"], &first[0]["fault"]), (&503.into(), &"capacity".into()), "{first}");
        assert_eq!(first.as_array().unwrap().last().unwrap()["reason"], "fallback", "{first}");
        assert_eq!(get(addr, "exchanges?after=4&limit=1")["exchanges"].as_array().unwrap().len(), 1);

        let state = get(addr, "state");
        let targets = state["targets"].as_array().unwrap();
        let of = |provider: &str| {
            let found = targets.iter().find(|one| one["provider"] == provider && one["called"] == true);
            found.unwrap_or_else(|| panic!("{provider}: {state}"))
        };
        let sick = of("openai");
        // A slow machine may be past the breaker's second already.
        assert!(["open", "probing"].contains(&sick["state"].as_str().unwrap()), "{sick}");
        assert!(sick["words"].as_str().unwrap().contains("breaker is open"), "{sick}");
        assert!(sick["breaker"]["openings"]["failures_in_row"].as_u64() >= Some(1), "{sick}");
        let why = sick["failures"][0]["words"].as_str().unwrap();
        assert_eq!(why, "answered with status 503; counts against its breaker");
        assert_eq!(
            (&of("backup")["state"], of("backup")["failures"].as_array().unwrap().len()),
            (&"well".into(), 0)
        );
        assert_eq!(state["counts"]["exchanges"], 6);

        let history = get(addr, "history");
        let pipeline = &history["pipelines"][0];
        assert_eq!(pipeline["name"], "nightly");
        let sum = |column: &Value| column.as_array().unwrap().iter().filter_map(Value::as_f64).sum::<f64>();
        assert_eq!((sum(&pipeline["requests"]), sum(&pipeline["errors"])), (6.0, 0.0));
        let provider = |name: &str| {
            let all = history["providers"].as_array().unwrap();
            all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}: {history}"))
        };
        assert_eq!(sum(&provider("openai")["errors"]), openai.counts().requests as f64);
        assert_eq!(sum(&provider("backup")["requests"]), 6.0);
        assert!(provider("backup")["first_token_p50_ms"].as_array().unwrap().iter().any(|ms| !ms.is_null()));
        assert_eq!((&history["recent"]["requests"], &history["total"]["requests"]), (&6.into(), &6.into()));
        assert_eq!(get(addr, "history?span=day")["step_s"], 120);
    });
}

#[test]
fn what_runs_is_listed_while_it_runs_and_gone_when_its_client_leaves() {
    each_driver(|driver| {
        let mock = provider("first-event-late:30s");
        let gateway = with(mock.addr(), None, driver, &["workers=2"]);
        let mut clients: Vec<Client> = (0..3).map(|_| Client::to(gateway.addr())).collect();
        for client in &mut clients {
            client.send(&request(CHATS, "x-sluice-pipeline: nightly\r\n", CHAT_STREAM));
        }
        // The counters and the list are read one after the other.
        let waits = |json: &Value| {
            let listed = json["running"]["listed"].as_array().unwrap();
            listed.len() == 3
                && listed.iter().all(|one| one["phase"] == "waiting")
                && json["running"]["count"] == 3
                && json["running"]["streams"] == 3
        };
        let state = get_when(gateway.addr(), "state", waits);
        assert_eq!((&state["running"]["count"], &state["running"]["streams"]), (&3.into(), &3.into()));
        let one = &state["running"]["listed"][0];
        assert_eq!((&one["asked"], &one["provider"]), (&"openai/gpt-4o-mini".into(), &"openai".into()));
        assert_eq!(
            (&one["pipeline"], &one["stream"], &one["attempts"]),
            (&"nightly".into(), &true.into(), &1.into())
        );
        drop(clients);
        get_when(gateway.addr(), "state", |json| json["running"]["count"] == 0);
    });
}

#[test]
fn events_come_by_themselves_and_a_drain_does_not_wait_for_them() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = with(mock.addr(), None, driver, &[]);
        let mut page = Client::to(gateway.addr());
        page.send(b"GET /admin/api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(page.read_until(b"event: state\ndata: {\"v\":1,"));
        assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT).status, 200);
        assert!(page.read_until(b"\"exchanges\":[{\"seq\":1,"), "the next one has the exchange in it");
        let begun = Instant::now();
        gateway.stop(Duration::from_secs(20)).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        let got = page.read();
        assert_eq!((got.status, got.header("content-type")), (200, Some("text/event-stream")));
    });
}

#[test]
fn no_more_than_sixteen_pages_are_fed_and_a_closed_one_makes_room() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = with(mock.addr(), None, driver, &[]);
        let open = || {
            let mut page = Client::to(gateway.addr());
            page.send(b"GET /admin/api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n");
            page
        };
        let mut pages: Vec<Client> = (0..16).map(|_| open()).collect();
        for page in &mut pages {
            assert!(page.read_until(b"event: state"));
        }
        let refused = open().read();
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("10")), "{}", refused.text());
        drop(pages.pop());
        let begun = Instant::now();
        while !open().read_until(b"event: state") && begun.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn foreign_pages_and_rebound_names_reach_neither_the_page_nor_a_provider() {
    each_driver(|driver| {
        let mock = provider("ok");
        let gateway = locked(mock.addr(), driver, &["allowed_origins=['https://app.example']"]);
        let addr = gateway.addr();
        let raw = |head: String| {
            let mut client = Client::to(addr);
            client.send(head.as_bytes());
            client.read()
        };
        for host in
            ["rebind.evil.example", "0.0.0.0", "localhost.evil.example", "127.0.0.1.nip.io", "LOCALHOST."]
        {
            for path in ["/", "/admin/api/v1/state"] {
                let got = raw(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                assert_eq!(got.status, 421, "{host} {path}");
            }
        }
        let token = format!("x-sluice-admin-token: {TOKEN}\r\n");
        for fields in [
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost:1\r\n",
            "Origin: https://app.example\r\n",
            "Sec-Fetch-Site: cross-site\r\n",
            "Sec-Fetch-Site: same-site\r\n",
        ] {
            let fields = format!("{fields}{token}Content-Type: application/json\r\n");
            for (method, name) in [("GET", "state"), ("GET", "access"), ("GET", "events"), ("POST", "reload")]
            {
                let got = ask(addr, method, &format!("{API}{name}"), &fields, "{}");
                assert_eq!(got.status, 403, "{fields} {method} {name}: {}", got.text());
                assert!(got.header("access-control-allow-origin").is_none());
            }
        }
        let preflight = ask(addr, "OPTIONS", "/admin/api/v1/reload", "Origin: http://localhost\r\n", "");
        assert_eq!(preflight.status, 405);
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
            let fields = format!("{token}Content-Type: {kind}\r\n");
            assert_eq!(ask(addr, "POST", "/admin/api/v1/reload", &fields, "{}").status, 415, "{kind}");
        }
        assert_eq!(mock.counts().requests, 0);
        // The page's own try-it box, and a web page that the file allows, may use the models.
        for origin in ["http://localhost", "https://app.example"] {
            let fields = format!("Origin: {origin}\r\n");
            assert_eq!(Client::to(addr).post_with(CHATS, &fields, CHAT).status, 200, "{origin}");
        }
    });
}

#[test]
fn reading_is_free_where_only_this_machine_is_and_wants_the_token_elsewhere() {
    each_driver(|driver| {
        let mock = provider("ok");
        let token = format!("Authorization: Bearer {TOKEN}\r\n");
        let state =
            |gateway: &Running, fields: &str| ask(gateway.addr(), "GET", "/admin/api/v1/state", fields, "");
        for more in ["listen=0.0.0.0:0", "auth=[sk-client]"] {
            let closed = with(mock.addr(), None, driver, &[more]);
            let got = state(&closed, "");
            assert_eq!(
                (got.status, got.json()["error"]["code"].as_str().unwrap()),
                (403, "admin_token_not_configured")
            );
            assert!(got.text().contains("admin: {token: env.SLUICE_ADMIN_TOKEN}"), "{}", got.text());
            assert_eq!(ask(closed.addr(), "GET", "/", "", "").status, 200, "the frame holds no data");
            let gateway = locked(mock.addr(), driver, &[more]);
            assert_eq!(state(&gateway, "").status, 401);
            assert_eq!(state(&gateway, "Authorization: Bearer sk-client\r\n").status, 401);
            assert_eq!(state(&gateway, &token).status, 200);
            let access = ask(gateway.addr(), "GET", "/admin/api/v1/access", "", "").json();
            assert_eq!((&access["read"], &access["change"]), (&false.into(), &false.into()));
        }
        let off = with(mock.addr(), None, driver, &["admin=off"]);
        for path in ["/", "/admin/api/v1/state", "/favicon.ico"] {
            assert_eq!(ask(off.addr(), "GET", path, "", "").status, 404, "{path}");
        }
    });
}

#[test]
fn a_target_can_be_reset_with_the_token_and_not_without() {
    each_driver(|driver| {
        let mock = provider("status:503");
        let gateway = locked(mock.addr(), driver, &[]);
        let addr = gateway.addr();
        for _ in 0..6 {
            assert!(Client::to(addr).post(CHATS, CHAT).status >= 500);
        }
        let open = |json: &Value| json["targets"][0]["state"] == "open";
        get_when(addr, "state", open);
        let name = r#"{"provider":"openai","model":"gpt-4o-mini"}"#;
        let json = "Content-Type: application/json\r\n";
        let path = "/admin/api/v1/targets/reset";
        assert_eq!(ask(addr, "POST", path, json, name).status, 401);
        let calls = mock.counts().requests;
        let got = post(addr, "targets/reset", name);
        assert_eq!((got.status, &got.json()["ok"]), (200, &true.into()), "{}", got.text());
        assert_eq!(get(addr, "state")["targets"][0]["state"], "well");
        mock.program(sluice::rehearsal::Program::parse("ok").unwrap());
        assert_eq!(Client::to(addr).post(CHATS, CHAT).status, 200);
        assert!(mock.counts().requests > calls);
        let unknown = post(addr, "targets/reset", r#"{"provider":"nobody","model":"m"}"#);
        assert_eq!(unknown.status, 404);
        // Nothing is configured: nothing can be changed, and the answer says what to do.
        let plain = with(mock.addr(), None, driver, &[]);
        let refused = post(plain.addr(), "targets/reset", name);
        assert_eq!((refused.status, refused.text().contains("admin: {token")), (403, true));
        // This one has no file.
        assert_eq!(post(addr, "reload", "").status, 409);
    });
}

#[test]
fn neither_a_secret_nor_a_prompt_is_in_anything_that_the_page_is_told() {
    each_driver(|driver| {
        let mock = provider("ok");
        let more = [
            "auth=[{name: builds, value: sk-client-secret}]",
            "providers.openai.network_config={extra_headers: {x-team: header-secret}}",
        ];
        let gateway = locked(mock.addr(), driver, &more);
        let prompt = CHAT.replace("Say hello", "the prompt of somebody");
        let got = Client::to(gateway.addr()).post_with(
            CHATS,
            "Authorization: Bearer sk-client-secret\r\n",
            &prompt,
        );
        assert_eq!(got.status, 200, "{}", got.text());
        let fields = format!("x-sluice-admin-token: {TOKEN}\r\n");
        std::thread::sleep(Duration::from_millis(600));
        for name in ["state", "exchanges", "history", "config", "gamedays", "access"] {
            let text = ask(gateway.addr(), "GET", &format!("{API}{name}"), &fields, "").text();
            for secret in ["sk-first", "sk-client-secret", "header-secret", TOKEN, "the prompt of"] {
                assert!(!text.contains(secret), "{name} says {secret}: {text}");
            }
        }
        let config = ask(gateway.addr(), "GET", "/admin/api/v1/config", &fields, "").json();
        assert_eq!(config["providers"][0]["keys"][0]["value"], "***");
        assert!(config["chains"][0]["targets"].as_array().is_some_and(|all| !all.is_empty()), "{config}");
    });
}

#[test]
fn a_game_day_is_played_beside_the_served_traffic_and_gives_its_verdict() {
    // One driver: the day's own gateway is what takes its time.
    let mock = provider("ok");
    let gateway = locked(mock.addr(), DriverChoice::Epoll, &[]);
    let addr = gateway.addr();
    let days = get(addr, "gamedays");
    assert!(days["days"].as_array().unwrap().len() > 20 && days["run"].is_null());
    assert_eq!(post(addr, "gamedays", r#"{"days":["nonsense"]}"#).status, 400);
    let got = post(addr, "gamedays", r#"{"days":["down"],"scale":0.05}"#);
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(post(addr, "gamedays", r#"{"days":["down"]}"#).status, 409, "one run at a time");
    let begun = Instant::now();
    let run = loop {
        assert_eq!(Client::to(addr).post(CHATS, CHAT).status, 200, "what is served goes on");
        let run = get(addr, "gamedays")["run"].clone();
        if run["running"] == false || begun.elapsed() > Duration::from_secs(90) {
            break run;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    assert_eq!((&run["verdicts"][0]["id"], &run["running"]), (&"down".into(), &false.into()), "{run}");
    assert!(!run["verdicts"][0]["checks"].as_array().unwrap().is_empty());
    let served = get_when(addr, "state", |json| json["gameday"]["running"] == false);
    let providers: Vec<_> =
        served["providers"].as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(providers, ["openai"], "the day's providers are not ours");
}
