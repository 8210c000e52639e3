//! The ledger and the access log against each other, the metrics, and what scripted providers counted.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice::meter::ledger::Sums;
use sluice::meter::ledger::spend::{self, Query, Spend};
use sluice::rehearsal::Mock;

use crate::binary::Process;
use crate::support::*;

const CHATS: &str = "/v1/chat/completions";

pub fn spent(ledger: &Path, by: &[&'static str]) -> Spend {
    spend::read(ledger, &Query { by: by.to_vec(), since: 0, until: u32::MAX }).unwrap()
}

/// Sums of a group; nothing when there is no such group.
pub fn of(spend: &Spend, name: &str) -> Sums {
    spend.rows.iter().find(|row| row.names[0] == name).map_or_else(Sums::default, |row| row.sums)
}

pub fn lines(log: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Prompt, output, and nano-dollars of answers and of lost attempts, by provider, as the log says.
pub fn by_provider(lines: &[serde_json::Value]) -> BTreeMap<String, [u64; 4]> {
    let mut all: BTreeMap<String, [u64; 4]> = BTreeMap::new();
    for line in lines {
        let number = |value: &serde_json::Value| value.as_u64().unwrap_or(0);
        if let Some(provider) = line["provider"].as_str() {
            let sums = all.entry(provider.to_owned()).or_default();
            let tokens = &line["tokens"];
            sums[0] +=
                ["input", "cache_read", "cache_write"].map(|kind| number(&tokens[kind])).iter().sum::<u64>();
            sums[1] += number(&tokens["output"]);
            sums[2] += number(&line["cost_nano_usd"]);
        }
        for attempt in line["attempts"].as_array().unwrap() {
            let provider = attempt["provider"].as_str().unwrap().to_owned();
            all.entry(provider).or_default()[3] += number(&attempt["lost"]["nano_usd"]);
        }
    }
    all
}

#[test]
fn after_thousands_of_exchanges_with_faults_and_cancels_all_books_agree() {
    const CLIENTS: u64 = 4;
    const EACH: u64 = 640;
    each_driver(|driver| {
        let directory = tempfile::tempdir().unwrap();
        let (ledger, log) = (directory.path().join("l.db"), directory.path().join("access.log"));
        let (openai, backup) = (provider("status:503,every=3"), provider("status:429,every=7"));
        let slow = provider("stall:60s,after=3");
        let sets = [
            "workers=2".to_owned(),
            format!("ledger.path={}", ledger.display()),
            format!("access_log.to={}", log.display()),
            format!("providers.slow.base_url=http://{}", slow.addr()),
        ];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let gateway = chain(openai.addr(), Some(backup.addr()), driver, &sets);
        let addr = gateway.addr();
        let stream = CHAT_STREAM.replacen('{', r#"{"stream_options":{"include_usage":true},"#, 1);
        let leaving = CHAT_STREAM.replace("openai/gpt-4o-mini", "slow/sloth");
        let (good, left) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (good, left, stream, leaving) = (&good, &left, &stream, &leaving);
                scope.spawn(move || {
                    let mut connection = Client::to(addr);
                    for n in 0..EACH {
                        let who = format!("x-sluice-pipeline: p{}\r\nx-sluice-step: s{}\r\n", n % 3, n % 7);
                        if n % 40 == 39 {
                            let mut leaver = Client::to(addr);
                            leaver.send(&request(CHATS, &who, leaving));
                            assert!(leaver.read_until(b"content"));
                            left.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        if n % 16 == client {
                            connection = Client::to(addr);
                        }
                        let got = connection.post_with(CHATS, &who, if n % 2 == 0 { CHAT } else { stream });
                        good.fetch_add(u64::from(got.status == 200 && got.whole), Ordering::Relaxed);
                    }
                });
            }
        });
        let (good, left) = (good.into_inner(), left.into_inner());
        let begun = Instant::now();
        while slow.counts().cancelled < left {
            assert!(begun.elapsed() < Duration::from_secs(20), "{} of {left}", slow.counts().cancelled);
            std::thread::sleep(Duration::from_millis(10));
        }
        gateway.stop(Duration::from_secs(10)).unwrap();

        let (by, lines) = (spent(&ledger, &["provider"]), lines(&log));
        let all = CLIENTS * EACH;
        assert_eq!((by.total.requests, lines.len() as u64, by.missed), (all, all, 0));
        let count = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count() as u64;
        assert_eq!((count("ok"), count("aborted")), (good, left));
        assert_eq!(by.total.failures, all - good);
        let logged = by_provider(&lines);
        for (name, mock) in [("openai", &openai), ("backup", &backup)] {
            let (sums, counts, log) = (of(&by, name), mock.counts(), logged[name]);
            let prompt = sums.input + sums.cache_read + sums.cache_write;
            assert_eq!((prompt, sums.output), (counts.tokens_in, counts.tokens_out), "{name}");
            assert_eq!(log, [prompt, sums.output, sums.nano_usd, sums.lost_nano_usd], "{name}");
        }
        // Nobody has a price for `backup`, which is not free; a token of gpt-4o-mini is a whole number of nano-dollars.
        let (priced, unpriced) = (of(&by, "openai"), of(&by, "backup"));
        let cost =
            priced.input * 150 + priced.cache_read * 75 + priced.cache_write * 150 + priced.output * 600;
        assert_eq!((priced.nano_usd, unpriced.nano_usd), (cost, 0));
        assert_eq!(unpriced.unpriced, backup.counts().completed);
        assert_eq!(of(&by, "slow").requests, left);
        for by in ["pipeline", "step", "model", "key", "day"] {
            assert_eq!(spent(&ledger, &[by]).total, spent(&ledger, &["provider"]).total, "{by}");
        }
        let steps = spent(&ledger, &["pipeline", "step"]);
        assert_eq!(steps.rows.len(), 21);
        assert!(lines.iter().all(|line| line["who"]["pipeline"].is_string()));
        assert!(lines.iter().all(|line| line["id"].as_str().is_some_and(|id| !id.is_empty())));
    });
}

/// Sends exchanges one after the other until `until` says so; when each was answered.
fn drive(process: &Process, until: impl Fn(usize) -> bool) -> Vec<Instant> {
    let mut client = Client::to(process.addr);
    let mut done = Vec::new();
    while !until(done.len()) {
        assert_eq!(client.post(CHATS, CHAT).status, 200);
        done.push(Instant::now());
    }
    done
}

#[test]
fn a_kill_loses_the_last_moment_and_counts_nothing_twice() {
    /// The promise is a second; a machine that is busy with other tests gets more.
    const SLACK: Duration = Duration::from_secs(3);
    let directory = tempfile::tempdir().unwrap();
    let ledger = directory.path().join("state/sluice/ledger.db");
    let mock: Mock = provider("ok");
    let state = directory.path().join("state").display().to_string();
    let base = format!("providers.openai.network_config.base_url=http://{}", mock.addr());
    let args = ["--listen", "127.0.0.1:0", "--workers", "2", "--set", &base];
    let vars = [("OPENAI_API_KEY", "sk-1"), ("XDG_STATE_HOME", state.as_str())];
    let mut process = Process::serve(directory.path(), &args, &vars);
    let begun = Instant::now();
    let done = drive(&process, |_| begun.elapsed() > SLACK + Duration::from_secs(1));
    let killed = Instant::now();
    process.child.kill().unwrap();
    assert!(!process.end().success());
    let first = spent(&ledger, &["provider"]).total;
    let old = done.iter().filter(|at| **at + SLACK < killed).count() as u64;
    assert!(
        old > 0 && (old..=done.len() as u64).contains(&first.requests),
        "{} of {}",
        first.requests,
        done.len()
    );

    let mut process = Process::serve(directory.path(), &args, &vars);
    process.hear("what is spent is kept in");
    let more = drive(&process, |done| done == 50).len() as u64;
    // What runs can be read beside it.
    assert!(spent(&ledger, &["model"]).total.requests >= first.requests);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "{}", process.said);
    assert!(process.said.contains(&ledger.display().to_string()), "{}", process.said);
    let both = spent(&ledger, &["provider"]).total;
    assert_eq!(both.requests, first.requests + more);
    // Every answer had the same tokens: no sum was written in part.
    let each = mock.counts().tokens_in / mock.counts().requests;
    assert_eq!((both.input, both.nano_usd % both.requests), (each * both.requests, 0));
    assert_eq!(both.spent_nano_usd(), both.input * 150 + both.output * 600);

    let said = std::process::Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["spend", "--by", "provider,key", "--csv"])
        .current_dir(directory.path())
        .env_clear()
        .envs(vars)
        .output()
        .unwrap();
    let csv = String::from_utf8(said.stdout).unwrap();
    let row = format!("openai,OPENAI_API_KEY,{},0,", both.requests);
    assert!(csv.lines().nth(1).is_some_and(|line| line.starts_with(&row)), "{csv}");
}

#[test]
fn a_disk_without_room_costs_no_answer() {
    each_driver(|driver| {
        let directory = tempfile::tempdir().unwrap();
        let openai = provider("ok");
        // A directory stands where the ledger should be, and the log goes to a device that is always full.
        let sets =
            [format!("ledger.path={}", directory.path().display()), "access_log.to=/dev/full".to_owned()];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let gateway = chain(openai.addr(), None, driver, &sets);
        for _ in 0..20 {
            assert_eq!(Client::to(gateway.addr()).post(CHATS, CHAT).status, 200);
        }
        gateway.stop(Duration::from_secs(5)).unwrap();
    });
}

#[test]
fn the_log_has_the_id_that_the_client_was_given_and_never_a_prompt_or_a_key() {
    each_driver(|driver| {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("access.log");
        let openai = provider("status:400,every=3");
        let set = format!("access_log.to={}", log.display());
        let gateway = chain(openai.addr(), None, driver, &[&set]);
        let mut ids = Vec::new();
        for body in [CHAT, CHAT_STREAM, CHAT, r#"{"model":"nobody/knows","messages":[]}"#, "{"] {
            let got = Client::to(gateway.addr()).post_with(CHATS, "x-sluice-team: core\r\n", body);
            ids.push((got.header("x-request-id").unwrap().to_owned(), u64::from(got.status)));
        }
        gateway.stop(Duration::from_secs(5)).unwrap();
        let lines = lines(&log);
        let logged = |line: &serde_json::Value| {
            (line["id"].as_str().unwrap().to_owned(), line["status"].as_u64().unwrap())
        };
        assert_eq!(lines.iter().map(logged).collect::<Vec<_>>(), ids);
        assert!(ids.iter().any(|(_, status)| *status == 400) && ids[3].1 == 404);
        let text = std::fs::read_to_string(&log).unwrap();
        assert!(!text.contains("Say hello") && !text.contains("sk-first"), "{text}");
        assert!(lines.iter().all(|line| line["who"]["team"] == "core"), "{text}");
    });
}

#[test]
fn captures_have_what_was_asked_and_said_without_its_secrets() {
    use std::os::unix::fs::PermissionsExt;
    each_driver(|driver| {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("captures.log");
        let openai = provider("status:400,every=4");
        let sets = [format!("capture.to={}", file.display()), "capture.bytes=1KiB".to_owned()];
        let gateway = chain(openai.addr(), None, driver, &[&sets[0], &sets[1]]);
        let secret = "my key is sk-abcdEFGH1234567890";
        let ask = |text: &str| CHAT.replace("Say hello", text);
        let long = "x".repeat(200_000);
        let mut client = Client::to(gateway.addr());
        let plain = client.post(CHATS, &ask(secret));
        let streamed = client.post(CHATS, CHAT_STREAM);
        let said = stream_text(&streamed.body);
        assert_eq!(client.post(CHATS, &ask(&long)).status, 200);
        assert_eq!(client.post(CHATS, CHAT).status, 400);
        // What the gateway answers itself is no exchange.
        assert_eq!(client.get("/healthz").status, 200);
        gateway.stop(Duration::from_secs(5)).unwrap();

        let lines = lines(&file);
        assert_eq!(lines.len(), 4);
        let request = lines[0]["request"].as_str().unwrap();
        assert!(request.contains("my key is [redacted key]"), "{request}");
        assert_eq!(lines[0]["id"], plain.header("x-request-id").unwrap());
        assert_eq!(lines[0]["answered"], "openai/gpt-4o-mini");
        // The mock repeats the message, secret and all.
        assert!(lines[0]["answer"].as_str().unwrap().contains("\"choices\""));
        assert!(lines[0]["redacted"].as_u64() >= Some(1));
        assert!(!said.is_empty() && lines[1]["answer"] == said.as_str(), "{}", lines[1]);
        assert_eq!(lines[2]["request"].as_str().map(str::len), Some(1024));
        assert!(lines[2]["request_bytes"].as_u64() > Some(200_000));
        assert_eq!((&lines[3]["status"], &lines[3]["answer"]), (&400.into(), &"".into()));
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("abcdEFGH") && !text.contains("sk-first"), "{text}");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    });
}
