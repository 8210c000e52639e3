//! Spend as a user asks for it, from a ledger that is known.

use std::path::Path;

use super::*;
use crate::cli::tests::{directory, ran};
use crate::meter::ledger::{Key, Store};

/// Writes a ledger: two pipelines over two days, one model without a price, one failed attempt.
fn write_ledger(path: &Path) {
    let key =
        |date: &str, names: [&str; 6]| Key { day: day_from(date).unwrap(), names: names.map(str::to_owned) };
    let base = Sums {
        requests: 10,
        input: 9_000,
        cache_read: 1_000,
        output: 2_000,
        nano_usd: 6_000_000_000,
        ..Sums::default()
    };
    let rows = [
        (key("2026-11-23", ["nightly", "eval", "core", "openai", "gpt-4o", "main"]), base),
        (
            key("2026-11-24", ["nightly", "triage", "core", "openai", "gpt-4o", "main"]),
            Sums {
                failures: 2,
                nano_usd: 2_000_000_000,
                lost_attempts: 1,
                lost_nano_usd: 500_000_000,
                ..base
            },
        ),
        (
            key("2026-11-24", ["pr, \"quick\"", "", "", "openai", "gpt-4o-mini", "main"]),
            Sums { nano_usd: 1_500_000_001, lost_estimated_nano_usd: 12_000_000, ..base },
        ),
        (
            key("2026-11-24", ["", "", "", "mine", "qwen", ""]),
            Sums { requests: 3, unpriced: 3, nano_usd: 0, unreported: 1, ..base },
        ),
        (key("2026-10-01", ["old", "", "", "openai", "gpt-4o", "main"]), base),
    ];
    let mut store = Store::open(path).unwrap();
    store
        .add(rows.iter().map(|(key, sums)| (key, sums)), [(day_from("2026-11-24").unwrap(), 4)].into_iter())
        .unwrap();
}

fn spend(words: &[&str]) -> (Exit, String, String) {
    let directory = directory(&[]);
    let home = directory.path().display().to_string();
    write_ledger(&directory.path().join(".local/state/sluice/ledger.db"));
    let line = [&["spend"][..], words].concat();
    let ran = ran(&line, directory.path(), &[("HOME", &home)], false);
    (ran.exit, ran.out, ran.err.replace(&home, "HOME"))
}

const DAYS: [&str; 4] = ["--since", "2026-11-23", "--until", "2026-11-24"];

#[test]
fn the_pipeline_that_burns_the_most_stands_first_with_its_share() {
    let (exit, out, err) = spend(&DAYS);
    assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
    let expected = "\
spend by pipeline, 2026-11-23 to 2026-11-24 (UTC)

pipeline                         share   dollars  requests  failed  tokens in  cached  tokens out  lost dollars  unpriced
nightly      #################  85.0 %    8.5000        20       2     20,000   2,000       4,000        0.5000
pr, \"quick\"  ###                15.0 %    1.5000        10             10,000   1,000       2,000
-                                0.0 %  unpriced         3             10,000   1,000       2,000                       3
total                                    10.0000        33       2     40,000   4,000       8,000        0.5000         3

3 requests have no price and cost nothing above: `sluice prices MODEL`, `models.NAME.price`
1 answers came without a count of tokens; what they cost is not known
4 exchanges were not booked, because more came than could be written
attempts that broke off may have cost 0.012000 dollars more, by the size of their prompts
";
    assert_eq!(out, expected, "\n{out}");
}

#[test]
fn the_step_that_burns_forty_percent_is_seen_by_any_combination() {
    let (_, out, _) = spend(&[&["--by", "pipeline,step,model"][..], &DAYS].concat());
    let rows: Vec<Vec<&str>> = out.lines().skip(3).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(&rows[0][..5], ["nightly", "eval", "gpt-4o", "############", "60.0"]);
    assert_eq!(&rows[1][..5], ["nightly", "triage", "gpt-4o", "#####", "25.0"]);
    let (_, out, _) = spend(&[&["--by", "day"][..], &DAYS].concat());
    assert!(out.lines().nth(3).unwrap().starts_with("2026-11-23  ############"), "{out}");
}

#[test]
fn json_and_csv_have_whole_nano_dollars() {
    let (_, out, _) = spend(&[&["--json", "--by", "pipeline,provider"][..], &DAYS].concat());
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["since"], &json["missed"]), (&"2026-11-23".into(), &4.into()));
    let first = &json["rows"][0];
    assert_eq!((&first["pipeline"], &first["provider"]), (&"nightly".into(), &"openai".into()));
    assert_eq!(
        (&first["spent_nano_usd"], &first["lost_nano_usd"]),
        (&8_500_000_000u64.into(), &500_000_000u64.into())
    );
    assert_eq!(
        (&first["share"], &json["total"]["spent_nano_usd"]),
        (&0.85.into(), &10_000_000_001u64.into())
    );
    let (_, out, _) = spend(&[&["--csv"][..], &DAYS].concat());
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(
        lines[0],
        "pipeline,requests,failures,input,cache_read,cache_write,output,reasoning,nano_usd,unpriced,unreported,\
         lost_attempts,lost_tokens,lost_nano_usd,lost_estimated_nano_usd,spent_nano_usd"
    );
    assert_eq!(lines[1], "nightly,20,2,18000,2000,0,4000,0,8000000000,0,0,1,0,500000000,0,8500000000");
    assert!(lines[2].starts_with("\"pr, \"\"quick\"\"\",10,"), "{out}");
}

#[test]
fn days_are_counted_back_with_today_or_named() {
    let args = |since: Option<&str>, until: Option<&str>, by: &str| SpendArgs {
        by: by.to_owned(),
        since: since.map(str::to_owned),
        until: until.map(str::to_owned),
        json: false,
        csv: false,
        ledger: None,
        config: None,
    };
    let days =
        |since, until| query(&args(since, until, "team"), 1_000).map(|query| (query.since, query.until));
    assert_eq!(days(None, None), Ok((994, 1_000)));
    assert_eq!(days(Some("1d"), None), Ok((1_000, 1_000)));
    assert_eq!(days(Some("5000d"), None), Ok((0, 1_000)));
    assert_eq!(days(Some("1970-01-02"), Some("1970-01-05")), Ok((1, 4)));
    assert!(days(Some("0d"), None).unwrap_err().contains("7d"));
    assert!(days(Some("week"), None).is_err() && days(None, Some("1d")).is_err());
    assert!(days(Some("1970-02-02"), Some("1970-01-05")).unwrap_err().contains("before it begins"));
    assert_eq!(query(&args(None, None, "model, day,model"), 9).unwrap().by, ["model", "day"]);
    assert!(query(&args(None, None, "piplines"), 9).unwrap_err().contains("use pipeline, step"));
}

#[test]
fn the_ledger_is_found_where_a_gateway_would_keep_it_or_said_to_be_missing() {
    let files =
        directory(&[("sluice.yaml", "{providers: {x: {keys: [env.NOT_SET]}}, ledger: {path: own.db}}")]);
    let file = files.path().join("sluice.yaml");
    std::fs::write(&file, "{providers: {openai: {keys: [env.NOT_SET]}}, ledger: {path: own.db}}").unwrap();
    write_ledger(&files.path().join("own.db"));
    let found = ran(&["spend", "--since", "2026-11-01"], files.path(), &[], false);
    assert!(found.exit == Exit::Ok && found.out.contains("nightly"), "{}{}", found.out, found.err);
    let empty = directory(&[]);
    let nobody = ran(&["spend"], empty.path(), &[], false);
    assert!(nobody.exit == Exit::Refused && nobody.err.contains("--ledger PATH"), "{}", nobody.err);
    let missing = ran(&["spend"], empty.path(), &[("HOME", "/nonexistent")], false);
    assert!(
        missing.exit == Exit::Refused && missing.err.contains("there is no such file"),
        "{}",
        missing.err
    );
    let (exit, out, _) = spend(&["--since", "2025-01-01", "--until", "2025-01-02"]);
    assert_eq!((exit, out.as_str()), (Exit::Ok, "nothing was spent: 2025-01-01 to 2025-01-02 (UTC)\n"));
}

#[test]
fn sums_are_rounded_to_what_can_be_read() {
    for (nano_usd, text) in [
        (0, "0.000000000"),
        (19, "0.000000019"),
        (1_500_000, "0.001500"),
        (2_345_678_901, "2.3457"),
        (1_234_567_890_123_456, "1,234,567.89"),
    ] {
        assert_eq!(usd(nano_usd, places(nano_usd)), text);
    }
}
