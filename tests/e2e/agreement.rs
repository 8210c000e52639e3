//! Ledger, access log, metrics, clients and scripted providers agree to the token and to the nano-dollar, over mixed
//! exchanges with faults, clients that leave, and a kill in the middle.
//!
//! 4,000 exchanges on each driver, or on the better one as many as `SLUICE_EXCHANGES` says; `.ci/run` says 100,000.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluice::config::DriverChoice;
use sluice::net::driver;
use sluice::rehearsal::{Counts, Mock};

use crate::binary::Process;
use crate::books::{by_provider, lines, of, spent};
use crate::metrics::Page;
use crate::support::*;

const CLIENTS: usize = 8;
/// One exchange in so many is left by its client in the middle.
const LEAVES: usize = 50;
/// The promise is that a kill loses less than a second; a machine that is busy with other tests gets more.
const SLACK: Duration = Duration::from_secs(3);
/// Nano-dollars a token, input and output: whole numbers, so that nothing is rounded.
const PRICES: [(&str, u64, u64); 2] = [("alpha", 150, 600), ("bravo", 1_000, 5_000)];

/// The providers: `alpha` refuses one call in nine, `mangled` cuts or bends what it says, `sloth` stops in the middle.
struct Providers {
    alpha: Mock,
    bravo: Mock,
    mangled: Mock,
    sloth: Mock,
}

impl Providers {
    fn start() -> Providers {
        Providers {
            alpha: provider("status:503,every=9"),
            bravo: provider("ok"),
            mangled: provider("truncate:every=2; error-in-200:every=3"),
            sloth: provider("stall:60s,after=3"),
        }
    }

    fn config(&self) -> String {
        let mut text = String::from("providers:\n");
        let all = [
            ("alpha", &self.alpha),
            ("bravo", &self.bravo),
            ("mangled", &self.mangled),
            ("sloth", &self.sloth),
        ];
        for (name, mock) in all {
            text.push_str(&format!(
                "  {name}: {{base_url: \"http://{}\", keys: [sk-{name}]}}\n",
                mock.addr()
            ));
        }
        // A breaker that opened would take the mixture out of the mixture.
        text.push_str("breaker: {failure_percent: 100, failures_in_row: 1000, calls_min: 10000}\n");
        text.push_str("retry_budget: {percent: 100, burst: 10000}\n");
        text.push_str("fallbacks:\n");
        for first in ["alpha", "mangled"] {
            text.push_str(&format!("  - {{model: {first}/m, targets: [{first}/m, bravo/m]}}\n"));
        }
        text.push_str("models:\n");
        for (name, input, output) in PRICES {
            let usd = |nano: u64| nano as f64 / 1e3;
            text.push_str(&format!(
                "  {name}/m: {{price: {{input: {}, output: {}}}}}\n",
                usd(input),
                usd(output)
            ));
        }
        text
    }

    /// What the two priced providers counted, once they are at rest.
    fn at_rest(&self) -> [Counts; 2] {
        let begun = Instant::now();
        loop {
            let counts = [self.alpha.counts(), self.bravo.counts()];
            if counts.iter().all(|counts| counts.in_progress == 0) {
                return counts;
            }
            assert!(begun.elapsed() < SLACK * 4, "a provider still works");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What clients got: answers, their tokens, how many they left, and how many broke off.
#[derive(Default)]
struct Clients {
    good: AtomicU64,
    left: AtomicU64,
    broken: AtomicU64,
    input: AtomicU64,
    output: AtomicU64,
    /// When each exchange that came to its end did.
    ended: Mutex<Vec<Instant>>,
}

impl Clients {
    /// Exchanges `begin..end`, or those until the gateway is gone.
    fn run(&self, process: &Process, begin: usize, end: usize) {
        let next = AtomicU64::new(begin as u64);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut connection = None;
                    loop {
                        let n = next.fetch_add(1, Ordering::Relaxed) as usize;
                        if n >= end || !self.one(n, process, &mut connection) {
                            return;
                        }
                    }
                });
            }
        });
    }

    /// One exchange; whether the gateway is still there.
    fn one(&self, n: usize, process: &Process, connection: &mut Option<Client>) -> bool {
        let who = format!("x-sluice-pipeline: p{}\r\nx-sluice-step: s{}\r\n", n % 5, n % 11);
        if n % LEAVES == LEAVES - 1 {
            let body = r#"{"model":"sloth/m","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
            let Some(mut leaver) = Client::reach(process.addr) else { return false };
            if !leaver.try_send(&request("/v1/chat/completions", &who, body))
                || !leaver.read_until(b"content")
            {
                return false;
            }
            self.left.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let (path, body) = ask(n);
        let Some(client) = connection.take().or_else(|| Client::reach(process.addr)) else { return false };
        let client = connection.insert(client);
        if !client.try_send(&request(path, &who, &body)) {
            return false;
        }
        let got = client.read();
        if !got.whole {
            // A stream was cut, or the gateway was killed.
            self.broken.fetch_add(1, Ordering::Relaxed);
            *connection = None;
            return Client::reach(process.addr).is_some();
        }
        assert_eq!(got.status, 200, "{}", got.text());
        let (input, output) = tokens(&got);
        self.good.fetch_add(1, Ordering::Relaxed);
        self.input.fetch_add(input, Ordering::Relaxed);
        self.output.fetch_add(output, Ordering::Relaxed);
        self.ended.lock().unwrap().push(Instant::now());
        true
    }
}

/// The path and the body of the nth request: five kinds, of many sizes, to two routes.
fn ask(n: usize) -> (&'static str, String) {
    let model = if n.is_multiple_of(7) { "mangled/m" } else { "alpha/m" };
    let text = "word ".repeat(1 + n % 97);
    let messages = format!(r#""messages":[{{"role":"user","content":"{text}"}}]"#);
    match n % 5 {
        0 => ("/v1/chat/completions", format!(r#"{{"model":"{model}",{messages}}}"#)),
        1 => (
            "/v1/chat/completions",
            format!(
                r#"{{"model":"{model}","stream":true,"stream_options":{{"include_usage":true}},{messages}}}"#
            ),
        ),
        2 => ("/v1/messages", format!(r#"{{"model":"{model}","max_tokens":{},{messages}}}"#, 1 + n % 40)),
        3 => ("/v1/responses", format!(r#"{{"model":"{model}","input":"{text}"}}"#)),
        _ => ("/v1/embeddings", format!(r#"{{"model":"{model}","input":"{text}"}}"#)),
    }
}

/// Prompt and output tokens that an answer reports, in whichever dialect.
pub fn tokens(got: &Got) -> (u64, u64) {
    let usage = match got.header("content-type") {
        Some(kind) if kind.starts_with("text/event-stream") => {
            let text = got.text();
            let line = text.lines().rev().find(|line| line.contains("\"prompt_tokens\"")).unwrap();
            serde_json::from_str::<serde_json::Value>(line.strip_prefix("data: ").unwrap()).unwrap()
        }
        _ => got.json(),
    };
    let count =
        |names: [&str; 2]| names.iter().find_map(|name| usage["usage"][name].as_u64()).unwrap_or_default();
    (count(["prompt_tokens", "input_tokens"]), count(["completion_tokens", "output_tokens"]))
}

/// The ids of the log's lines, none of which may come twice.
fn ids(log: &Path) -> HashSet<String> {
    let text = std::fs::read_to_string(log).unwrap();
    let mut ids = HashSet::new();
    // A kill may cut the last line of a life; the next life begins a line of its own.
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        // The id is the provider's, and scripted providers number alike.
        let id = format!("{} {}", line["provider"], line["id"]);
        assert!(ids.insert(id), "logged twice: {line}");
    }
    ids
}

#[test]
fn through_faults_cancels_and_a_kill_every_book_says_the_same() {
    let wanted = std::env::var("SLUICE_EXCHANGES").ok();
    let has_ring = driver::choose(DriverChoice::IoUring).is_ok();
    each_driver(|driver| {
        let exchanges: usize = match &wanted {
            Some(number) if !has_ring || driver == DriverChoice::IoUring => {
                number.parse().expect("a number of exchanges")
            }
            _ => 4_000,
        };
        let directory = tempfile::tempdir().unwrap();
        let providers = Providers::start();
        std::fs::write(directory.path().join("s.yaml"), providers.config()).unwrap();
        let (ledger, logs) = (directory.path().join("l.db"), ["first.log", "second.log"]);
        let serve = |log: &str| {
            let sets = [format!("ledger.path={}", ledger.display()), format!("access_log.to={log}")];
            let args = ["--config", "s.yaml", "--listen", "127.0.0.1:0", "--workers", "2"];
            let driver = if driver == DriverChoice::Epoll { "epoll" } else { "io_uring" };
            let more = ["--set", &sets[0], "--set", &sets[1], "--driver", driver];
            Process::serve(directory.path(), &[&args[..], &more].concat(), &[])
        };

        // The first life ends by a kill in the middle of the load.
        let mut process = serve(logs[0]);
        let clients = Clients::default();
        let killed = std::thread::scope(|scope| {
            let (pid, clients) = (process.child.id(), &clients);
            let killer = scope.spawn(move || {
                while clients.ended.lock().unwrap().len() < exchanges / 3 {
                    std::thread::sleep(Duration::from_millis(5));
                }
                std::thread::sleep(Duration::from_millis(300));
                let killed = Instant::now();
                let sent = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
                assert!(sent.unwrap().success());
                killed
            });
            clients.run(&process, 0, usize::MAX);
            killer.join().unwrap()
        });
        assert!(!process.end().success());
        let before = providers.at_rest();
        let first = spent(&ledger, &["provider"]);
        let ended = clients.ended.lock().unwrap();
        let old = ended.iter().filter(|at| **at + SLACK < killed).count() as u64;
        // A stream that was cut is booked as well.
        let issued = [&clients.good, &clients.left, &clients.broken]
            .map(|n| n.load(Ordering::Relaxed))
            .iter()
            .sum::<u64>();
        assert!(
            (old..=issued + 2 * CLIENTS as u64).contains(&first.total.requests),
            "{old} {issued} {first:?}"
        );
        for ((name, input, output), counts) in PRICES.into_iter().zip(&before) {
            let sums = of(&first, name);
            assert!(
                sums.input <= counts.tokens_in && sums.output <= counts.tokens_out,
                "{name}: counted twice"
            );
            assert_eq!(sums.nano_usd, sums.input * input + sums.output * output, "{name}: written in part");
        }
        let first_ids = ids(&directory.path().join(logs[0]));

        // The second life ends in order; what it adds must be what everyone else says, exactly.
        let rest = exchanges - exchanges / 3;
        let mut process = serve(logs[1]);
        let clients = Clients::default();
        clients.run(&process, 0, rest);
        let (good, left) = (clients.good.into_inner(), clients.left.into_inner());
        assert_eq!(good + left + clients.broken.into_inner(), rest as u64);
        let after = providers.at_rest();
        let page = settled(&process, rest as u64);
        process.signal("TERM");
        assert_eq!(process.end().code(), Some(0), "{}", process.said);

        let both = spent(&ledger, &["provider"]);
        let log = directory.path().join(logs[1]);
        let (lines, second_ids) = (lines(&log), ids(&log));
        assert_eq!((lines.len(), second_ids.len(), both.missed), (rest, rest, 0));
        assert!(first_ids.is_disjoint(&second_ids));
        assert_eq!(both.total.requests - first.total.requests, rest as u64);
        let count = |outcome: &str| lines.iter().filter(|line| line["outcome"] == outcome).count() as u64;
        assert_eq!((count("ok"), count("aborted")), (good, left));
        assert_eq!(page.count("sluice_requests_total", &[("outcome", "ok")]), good);

        let logged = by_provider(&lines);
        let mut by_clients = [clients.input.into_inner(), clients.output.into_inner()];
        for (n, (name, input, output)) in PRICES.into_iter().enumerate() {
            let (old, new) = (of(&first, name), of(&both, name));
            let booked = [new.input - old.input, new.output - old.output, new.nano_usd - old.nano_usd];
            let counted =
                [after[n].tokens_in - before[n].tokens_in, after[n].tokens_out - before[n].tokens_out];
            assert_eq!(booked[..2], counted, "{name}: ledger and provider");
            assert_eq!(booked[2], booked[0] * input + booked[1] * output, "{name}: money");
            assert_eq!(booked, logged[name][..3], "{name}: ledger and access log");
            let of_type = |kind| page.count("sluice_tokens_total", &[("provider", name), ("type", kind)]);
            let usd = page.sum("sluice_cost_usd_total", &[("provider", name)]);
            let shown = [of_type("input_uncached"), of_type("output_text"), (usd * 1e9).round() as u64];
            assert_eq!(booked, shown, "{name}: ledger and metrics");
            by_clients[0] -= booked[0];
            // What embeddings report has no output.
            by_clients[1] -= booked[1];
        }
        let mangled = of(&both, "mangled");
        let old = of(&first, "mangled");
        by_clients[0] -= mangled.input - old.input;
        by_clients[1] -= mangled.output - old.output;
        assert_eq!(by_clients, [0, 0], "what clients were told they used is what was booked");
    });
}

/// The metrics page once all exchanges are on it: one is booked a moment after its client has the answer.
fn settled(process: &Process, requests: u64) -> Page {
    let begun = Instant::now();
    loop {
        let page = Page::of(process.addr);
        if page.count("sluice_requests_total", &[]) == requests || begun.elapsed() > SLACK * 4 {
            assert_eq!(page.count("sluice_requests_total", &[]), requests);
            return page;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
