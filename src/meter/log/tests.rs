//! The log from an entry to its file.

use std::time::Instant;

use super::*;
use crate::meter::outbox::samples::{FAILED, PLAIN, TRIED};
use crate::meter::outbox::{decode, encode};
use crate::meter::{Cost, Outcome, Record};

const END: Duration = Duration::from_secs(5);
/// 2026-11-24, 12:00:00.250.
const NOON_US: u64 = 1_795_521_600_250_000;

fn with_entry(id: &str, record: &Record<'_>, mut take: impl FnMut(&Entry<'_>)) {
    let mut frame = Vec::new();
    encode(id, record, &["branch".into()], &mut frame);
    take(&decode(&frame).unwrap());
}

fn line(record: &Record<'_>) -> serde_json::Value {
    let mut text = Vec::new();
    with_entry("req_2a", record, |entry| write_line(entry, NOON_US, &mut text));
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 1);
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a_line_says_who_asked_what_came_of_it_and_what_it_cost() {
    let mut record = PLAIN;
    record.who[3] = "main \"quoted\"";
    let tried = [FAILED, TRIED];
    record.tried = &tried;
    let expected = serde_json::json!({
        "time": "2026-11-24T12:00:00.250Z", "id": "req_2a", "api": "chat_completions",
        "stream": false, "status": 200, "outcome": "ok", "source": "provider", "asked": "gpt-4o-mini",
        "route": "none", "provider": "openai", "model": "gpt-4o-mini", "key": "main",
        "tokens": {"input": 100, "cache_read": 20, "cache_write": 0, "output": 30, "reasoning": 5},
        "service_tier": "flex", "cost": "priced", "cost_nano_usd": 34500, "duration_ms": 250.0, "overhead_ms": 0.045,
        "who": {"pipeline": "nightly", "step": "triage", "team": "core", "branch": "main \"quoted\""},
        "attempts": [
            {"provider": "azure", "model": "gpt-4o-mini", "reason": "first", "result": "status", "status": 503,
             "fault": "capacity", "after_ms": 0.025, "ms": 1.5,
             "lost": {"tokens": 7, "nano_usd": 700, "estimated_nano_usd": 9000}},
            {"provider": "openai", "model": "gpt-4o-mini", "key": "main", "reason": "first", "result": "ok",
             "after_ms": 0.03, "ms": 249.9, "answers": true},
        ],
    });
    assert_eq!(line(&record), expected);
}

#[test]
fn what_is_not_known_is_left_out_and_unpriced_is_not_free() {
    let record = Record {
        answered: None,
        usage: None,
        cost: Cost::Unknown,
        status: 0,
        outcome: Outcome::Aborted,
        tried: &[],
        who: [""; 11],
        ..PLAIN
    };
    let said = line(&record);
    for name in ["status", "provider", "key", "tokens", "cost_nano_usd", "who", "code", "truncated"] {
        assert!(said.get(name).is_none(), "{name}");
    }
    assert_eq!((&said["cost"], &said["attempts"]), (&"unknown".into(), &serde_json::json!([])));
    assert_eq!(line(&Record { cost: Cost::Unpriced, ..PLAIN })["cost"], "unpriced");
}

#[test]
fn lines_reach_the_file_in_order_and_a_sample_keeps_all_that_went_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let read = || -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let mut log = AccessLog::start(Output::File(path.clone(), None), 1.0).unwrap();
    for id in 0..500 {
        with_entry(&id.to_string(), &PLAIN, |entry| log.add(entry, NOON_US));
    }
    let counts = log.counts();
    log.end(END);
    assert_eq!((counts.written(), counts.dropped(), read().len()), (500, 0, 500));
    assert!(read().iter().enumerate().all(|(n, line)| line["id"].as_str() == Some(n.to_string().as_str())));

    std::fs::remove_file(&path).unwrap();
    let mut log = AccessLog::start(Output::File(path.clone(), None), 0.25).unwrap();
    let tried = [FAILED, TRIED];
    let failed = Record { outcome: Outcome::UpstreamError, ..PLAIN };
    for n in 0..1_000 {
        with_entry("", &PLAIN, |entry| log.add(entry, NOON_US));
        if n < 50 {
            with_entry("", &failed, |entry| log.add(entry, NOON_US));
            with_entry("", &Record { tried: &tried, ..PLAIN }, |entry| log.add(entry, NOON_US));
        }
    }
    log.end(END);
    let lines = read();
    let plain = lines.iter().filter(|line| line["outcome"] == "ok" && line["attempts"][1].is_null()).count();
    assert_eq!(lines.len() - plain, 100);
    assert!((245..255).contains(&plain), "{plain}");
}

#[test]
fn a_log_that_nobody_reads_costs_lines_and_holds_nobody_up() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    // Both ends are open here, and nobody reads.
    let _reader = std::fs::OpenOptions::new().read(true).write(true).open(&fifo).unwrap();
    let mut log = AccessLog::start(Output::File(fifo, None), 1.0).unwrap();
    let counts = log.counts();
    let begun = Instant::now();
    // Twice what the pipe and the queue hold.
    for _ in 0..6_000 {
        with_entry("", &PLAIN, |entry| log.add(entry, NOON_US));
    }
    log.flush();
    assert!(counts.dropped() > 0);
    log.end(Duration::from_millis(100));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(counts.dropped() < 6_000);
}
