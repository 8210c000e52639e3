//! The ledger and its file together.

use super::super::spend::{self, Query, Spend};
use super::super::{Store, StoreError, day_from};
use super::*;
use crate::meter::Record;
use crate::meter::outbox::samples::{FAILED, PLAIN, TRIED};
use crate::meter::outbox::{Inbox, Outbox, outbox};

/// 2026-11-24, noon.
const NOON: u64 = 1_795_521_600;

struct Desk {
    outbox: Outbox,
    inbox: Inbox,
    ledger: Ledger,
}

impl Desk {
    fn new(ledger: Ledger) -> Desk {
        let (outbox, inbox) = outbox();
        Desk { outbox, inbox, ledger }
    }

    fn book(&mut self, record: &Record<'_>, unix_s: u64) {
        self.outbox.push("", record, &[]);
        self.inbox.each(|entry, _| self.ledger.book(entry, unix_s));
    }
}

fn all(path: &std::path::Path, by: &[&'static str]) -> Spend {
    spend::read(path, &Query { by: by.to_vec(), since: 0, until: u32::MAX }).unwrap()
}

fn named<'r>(pipeline: &'r str, step: &'r str) -> Record<'r> {
    let mut record = PLAIN;
    record.who[0] = pipeline;
    record.who[1] = step;
    record
}

#[test]
fn what_was_booked_is_read_by_whatever_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state/ledger.db");
    let mut store = Store::open(&path).unwrap();
    let mut desk = Desk::new(Ledger::resume(&store, day_of(NOON)).unwrap());
    let tried = [FAILED, TRIED];
    for _ in 0..3 {
        desk.book(&PLAIN, NOON);
    }
    desk.book(&Record { tried: &tried, cost: Cost::Priced(1), ..named("lint", "") }, NOON + 86_400);
    desk.ledger.commit(&mut store).unwrap();
    assert!(!desk.ledger.is_dirty());
    let spent = all(&path, &["pipeline"]);
    let names: Vec<_> = spent.rows.iter().map(|row| row.names[0].as_str()).collect();
    assert_eq!(names, ["nightly", "lint"]);
    let first = spent.rows[0].sums;
    assert_eq!((first.requests, first.input, first.cache_read, first.output), (3, 300, 60, 90));
    assert_eq!((first.reasoning, first.nano_usd, first.failures), (15, 103_500, 0));
    let lint = spent.rows[1].sums;
    assert_eq!((lint.nano_usd, lint.lost_attempts, lint.lost_tokens, lint.lost_nano_usd), (1, 1, 7, 700));
    assert_eq!((lint.lost_estimated_nano_usd, lint.spent_nano_usd()), (9_000, 701));
    assert_eq!((spent.total.requests, spent.share(&spent.rows[0])), (4, Some(993)));
    // The lost attempt is the other provider's.
    let by = all(&path, &["provider", "day"]);
    let azure = by.rows.iter().find(|row| row.names[0] == "azure").unwrap();
    assert_eq!(
        (azure.sums.requests, azure.sums.lost_attempts, azure.names[1].as_str()),
        (0, 1, "2026-11-25")
    );
    let one_day = Query { by: vec![], since: day_of(NOON), until: day_of(NOON) };
    assert_eq!(spend::read(&path, &one_day).unwrap().total.requests, 3);
    assert_eq!(day_from("2026-11-24"), Some(day_of(NOON)));
}

#[test]
fn unpriced_is_counted_and_never_free_and_nobody_is_somebody() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let mut store = Store::open(&path).unwrap();
    let mut desk = Desk::new(Ledger::default());
    desk.book(&Record { cost: Cost::Unpriced, ..PLAIN }, NOON);
    desk.book(&Record { cost: Cost::Unknown, usage: None, usage_missing: true, ..PLAIN }, NOON);
    let tried = [FAILED];
    let failed = crate::meter::Outcome::UpstreamError;
    let lost = Record {
        outcome: failed,
        answered: None,
        usage: None,
        cost: Cost::Unknown,
        tried: &tried,
        who: [""; 11],
        ..PLAIN
    };
    desk.book(&lost, NOON);
    desk.book(&Record { tried: &[], ..lost }, NOON);
    desk.ledger.miss(5, NOON);
    assert!(desk.ledger.is_dirty());
    desk.ledger.commit(&mut store).unwrap();
    let spent = all(&path, &["provider"]);
    assert_eq!((spent.total.unpriced, spent.total.unreported, spent.missed), (1, 1, 5));
    assert_eq!((spent.total.nano_usd, spent.total.failures, spent.total.requests), (0, 2, 4));
    let of = |name: &str| spent.rows.iter().find(|row| row.names[0] == name).unwrap().sums;
    // An exchange that nobody answered is booked at the last who was asked, or at no one.
    assert_eq!((of("azure").requests, of("").requests, of("openai").requests), (1, 1, 2));
}

#[test]
fn a_restart_goes_on_and_a_commit_that_fails_is_tried_again_without_counting_twice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let mut desk = Desk::new(Ledger::default());
    for round in 1..=3 {
        let mut store = Store::open(&path).unwrap();
        desk.ledger = Ledger::resume(&store, day_of(NOON)).unwrap();
        desk.book(&PLAIN, NOON);
        // Another process holds the file for longer than a commit waits.
        let other = rusqlite::Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        assert!(desk.ledger.commit(&mut store).is_err());
        other.execute_batch("ROLLBACK").unwrap();
        assert!(desk.ledger.is_dirty());
        desk.book(&PLAIN, NOON);
        desk.ledger.commit(&mut store).unwrap();
        desk.ledger.commit(&mut store).unwrap();
        assert_eq!(all(&path, &["model"]).total.requests, 2 * round);
    }
}

#[test]
fn two_gateways_may_share_a_ledger() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let each = |path: std::path::PathBuf| {
        move || {
            let mut store = Store::open(&path).unwrap();
            let mut desk = Desk::new(Ledger::resume(&store, day_of(NOON)).unwrap());
            for _ in 0..50 {
                desk.book(&PLAIN, NOON);
                while desk.ledger.commit(&mut store).is_err() {}
            }
        }
    };
    let threads: Vec<_> = (0..2).map(|_| std::thread::spawn(each(path.clone()))).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let spent = all(&path, &["key"]);
    assert_eq!((spent.rows.len(), spent.total.requests, spent.total.nano_usd), (1, 100, 3_450_000));
}

#[test]
fn an_attack_with_a_million_names_ends_in_other_and_a_restart_does_not_reopen_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let mut store = Store::open(&path).unwrap();
    let mut desk = Desk::new(Ledger::default());
    let mut booked = 0;
    for restart in 0..2 {
        for n in 0..ROWS_PER_DAY + 300 {
            desk.book(&named(&format!("p{restart}-{n}"), "s"), NOON);
            booked += 1;
        }
        let models: Vec<String> = (0..ROWS_BESIDE + 50).map(|n| format!("m{restart}-{n}")).collect();
        for model in &models {
            let answered = Some(Answered { provider: "openai", model, key: None });
            desk.book(&Record { answered, ..named("late", "") }, NOON);
            booked += 1;
        }
        desk.ledger.commit(&mut store).unwrap();
        desk.ledger = Ledger::resume(&store, day_of(NOON)).unwrap();
    }
    let spent = all(&path, &["pipeline", "model", "provider"]);
    assert_eq!(spent.total.requests, booked);
    assert_eq!(spent.rows.len(), ROWS_PER_DAY + ROWS_BESIDE + 1);
    assert!(spent.rows.iter().any(|row| row.names == [OTHER, OTHER, OTHER]));
    // The next day is a new one.
    desk.book(&named("new", "s"), NOON + 86_400);
    desk.ledger.commit(&mut store).unwrap();
    assert!(all(&path, &["pipeline"]).rows.iter().any(|row| row.names == ["new"]));
    assert!(desk.ledger.rows.len() < 10, "the old day is forgotten in memory");
}

#[test]
fn old_days_are_forgotten_and_names_cannot_move_a_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let mut store = Store::open(&path).unwrap();
    let mut desk = Desk::new(Ledger::default());
    desk.book(&named("a\u{1b}[2Jb\u{1f}c", &"é".repeat(120)), NOON);
    desk.book(&named("old", ""), NOON - 86_400 * 400);
    desk.ledger.miss(1, NOON - 86_400 * 400);
    desk.ledger.commit(&mut store).unwrap();
    assert_eq!(all(&path, &[]).missed, 1);
    store.forget_before(day_of(NOON) - 399).unwrap();
    let spent = all(&path, &["pipeline", "step"]);
    assert_eq!((spent.rows.len(), spent.missed), (1, 0));
    assert_eq!(spent.rows[0].names, ["a?[2Jb?c".to_owned(), "é".repeat(64)]);
}

#[test]
fn sums_past_the_largest_number_stay_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let mut store = Store::open(&path).unwrap();
    let mut desk = Desk::new(Ledger::default());
    for _ in 0..2 {
        desk.book(&Record { cost: Cost::Priced(u64::MAX), ..PLAIN }, NOON);
        desk.ledger.commit(&mut store).unwrap();
    }
    assert_eq!(all(&path, &["model"]).total.nano_usd, i64::MAX as u64);
}

#[test]
fn a_file_that_is_no_ledger_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notes.txt");
    let query = Query { by: vec!["model"], since: 0, until: 1 };
    assert!(matches!(spend::read(&path, &query), Err(StoreError::Missing)));
    let text = "these are notes, and more than a header's worth of them: ".repeat(40);
    std::fs::write(&path, &text).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Foreign)));
    assert!(matches!(spend::read(&path, &query), Err(StoreError::Foreign)));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    let other = directory.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(matches!(Store::open(&other), Err(StoreError::Foreign)));
    let newer = directory.path().join("newer.db");
    drop(Store::open(&newer).unwrap());
    rusqlite::Connection::open(&newer).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(Store::open(&newer), Err(StoreError::Newer(9))));
    assert!(Store::open(directory.path()).is_err());
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&newer).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
