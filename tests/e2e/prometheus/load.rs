//! A day of a gateway in a few seconds: pipelines whose steps cost differently, a provider that fails now and then and one
//! that always does, and one exchange of every other kind that a dashboard shows.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice::config::DriverChoice;
use sluice::gateway::Running;
use sluice::rehearsal::{Mock, MockOptions, Program};

use crate::raw::{Raw, Then};
use crate::support::*;

const CHATS: &str = "/v1/chat/completions";
const CLIENTS: usize = 4;

/// Pipeline, step, words of its prompts, and how many of its requests there are in a round.
const STEPS: [(&str, &str, usize, usize); 4] = [
    ("nightly", "judge", 600, 5),
    ("nightly", "triage", 60, 5),
    ("build", "review", 200, 4),
    ("build", "summarise", 20, 6),
];

/// Nano-dollars a token, input and output.
const PRICES: [(&str, u64, u64); 2] = [("alpha", 150, 600), ("bravo", 1_000, 5_000)];

/// The two that steps use, and those that show what else can happen.
pub struct World {
    pub alpha: Mock,
    pub bravo: Mock,
    pub down: Mock,
    /// They answer as long as they are held.
    _others: (Vec<(&'static str, Mock)>, Raw),
    pub gateway: Running,
    next: AtomicUsize,
    /// What clients were told, by pipeline and step: nano-dollars.
    spent: Mutex<BTreeMap<[String; 2], u64>>,
    /// Requests that make no sense.
    pub nonsense: AtomicUsize,
}

fn mock(program: &str) -> Mock {
    let program = Program::parse(program).unwrap();
    Mock::start(MockOptions { program, ..MockOptions::default() }).unwrap()
}

impl World {
    pub fn start(log: &std::path::Path) -> World {
        let alpha = mock("first-event-late:30ms; slow:+0ms; status:503,every=6");
        let (bravo, down) = (mock("ok"), mock("down:503"));
        let others: Vec<(&str, Mock)> = [
            ("dead", "down:502"),
            ("limited", "brownout:rate=1,retry-after=60"),
            ("free", "no-usage"),
            ("cutting", "cut:after=2"),
            ("stalling", "stall:20s,after=3"),
            ("narrow", "slow:+150ms"),
            ("checked", "ok"),
        ]
        .map(|(name, program)| (name, mock(program)))
        .into();
        let cached = Raw::start(|_, stream| {
            let body = r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":100,"completion_tokens":10,"total_tokens":110,"prompt_tokens_details":{"cached_tokens":90}}}"#;
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all([head.as_bytes(), body.as_bytes()].concat().as_slice());
            Then::Keep
        });
        let text = config(&alpha, &bravo, &down, &others, cached.addr);
        let sets = [format!("access_log.to={}", log.display()), "workers=2".to_owned()];
        let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
        let gateway = gateway(plan(&text, &[], DriverChoice::Epoll, &sets));
        let (next, spent, nonsense) = Default::default();
        World { alpha, bravo, down, _others: (others, cached), gateway, next, spent, nonsense }
    }

    /// What clients were told so far, nano-dollars by pipeline and step.
    pub fn spent(&self) -> BTreeMap<[String; 2], u64> {
        self.spent.lock().unwrap().clone()
    }

    /// What the two priced providers of the steps counted, nano-dollars.
    pub fn counted_nano_usd(&self) -> u64 {
        let mocks = [&self.alpha, &self.bravo].map(Mock::counts);
        let of = |(counts, price): (&sluice::rehearsal::Counts, (_, u64, u64))| {
            counts.tokens_in * price.1 + counts.tokens_out * price.2
        };
        mocks.iter().zip(PRICES).map(of).sum()
    }

    /// Exchanges of each step at each of its providers, streamed and not: a series that is born with its last value has no
    /// rate, so all of them have to begin here.
    pub fn begin(&self) {
        let mut client = Client::to(self.gateway.addr());
        for (pipeline, step, words, _) in STEPS {
            for model in ["alpha/m", "bravo/m"] {
                let wanted = model.split('/').next();
                for stream in [true, false] {
                    while self.one(&mut client, model, stream, pipeline, step, words).as_deref() != wanted {}
                }
            }
        }
        // The refusals, too: of both kinds, since what is asked there falls back to another series.
        for stream in [true, false] {
            let (pipeline, step, words, _) = STEPS[0];
            while self.one(&mut client, "alpha/m", stream, pipeline, step, words).as_deref() != Some("bravo")
            {
            }
        }
        self.everything_else();
    }

    /// So many rounds of all steps, then everything else.
    pub fn run(&self, rounds: usize) {
        let jobs: Vec<_> =
            STEPS.iter().flat_map(|step| std::iter::repeat_n(*step, step.3 * rounds)).collect();
        let next = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = Client::to(self.gateway.addr());
                    // 7 and the number of jobs have no common divisor, so that steps are mixed.
                    while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < jobs.len())
                    {
                        let (pipeline, step, words, _) = jobs[n * 7 % jobs.len()];
                        self.one(&mut client, "alpha/m", n.is_multiple_of(2), pipeline, step, words);
                    }
                });
            }
        });
        self.everything_else();
    }

    /// One exchange of a step; who answered.
    fn one(
        &self,
        client: &mut Client,
        model: &str,
        stream: bool,
        pipeline: &str,
        step: &str,
        words: usize,
    ) -> Option<String> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let stream = if stream { r#""stream":true,"stream_options":{"include_usage":true},"# } else { "" };
        let text = "word ".repeat(words + n % 5);
        let body =
            format!(r#"{{"model":"{model}",{stream}"messages":[{{"role":"user","content":"{text}"}}]}}"#);
        let who =
            format!("x-sluice-pipeline: {pipeline}\r\nx-sluice-step: {step}\r\nx-sluice-team: core\r\n");
        let got = client.post_with(CHATS, &who, &body);
        assert!(got.status == 200 && got.whole, "{}", got.text());
        let provider = got.header("x-sluice-provider").unwrap().to_owned();
        let (input, output) = crate::agreement::tokens(&got);
        let price = PRICES.iter().find(|price| price.0 == provider).unwrap();
        let key = [pipeline.to_owned(), step.to_owned()];
        *self.spent.lock().unwrap().entry(key).or_default() += input * price.1 + output * price.2;
        Some(provider)
    }

    /// Whatever else a dashboard shows: failures, refusals, broken streams, waits.
    fn everything_else(&self) {
        let addr = self.gateway.addr();
        let post = |provider: &str, body: &str| {
            let body = body.replace("openai/gpt-4o-mini", &format!("{provider}/m"));
            Client::to(addr).post_with(CHATS, "x-sluice-pipeline: odd\r\nx-sluice-step: odd\r\n", &body)
        };
        for _ in 0..7 {
            assert!(post("down", CHAT).status >= 500);
            assert!(post("dead", CHAT).status >= 500);
        }
        assert_eq!(post("limited", CHAT).status, 429);
        for body in [CHAT, CHAT_STREAM] {
            assert_eq!(post("free", body).status, 200);
            assert_eq!(post("checked", body).status, 200);
        }
        assert_eq!(post("cached", CHAT).status, 200);
        assert!(!post("cutting", CHAT_STREAM).whole);
        assert!(!post("stalling", CHAT_STREAM).whole);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| assert_eq!(post("narrow", CHAT).status, 200));
            }
        });
        assert_eq!(Client::to(addr).post(CHATS, "{").status, 400);
        self.nonsense.fetch_add(1, Ordering::Relaxed);
    }
}

fn config(alpha: &Mock, bravo: &Mock, down: &Mock, others: &[(&str, Mock)], cached: SocketAddr) -> String {
    let mut text = String::from("providers:\n");
    let mut one = |name: &str, addr: SocketAddr, more: &str| {
        text.push_str(&format!("  {name}: {{base_url: \"http://{addr}\", keys: [sk-{name}]{more}}}\n"));
    };
    // One that is asked again soon, and one that is given up for the length of the test.
    for (name, mock, more) in [
        ("alpha", alpha, ""),
        ("bravo", bravo, ""),
        ("down", down, ", breaker: {open_min: 500ms, open_max: 1s}"),
    ] {
        one(name, mock.addr(), more);
    }
    for (name, mock) in others {
        let more = match *name {
            "dead" => ", breaker: {open_min: 200s, open_max: 300s}",
            "stalling" => ", timeouts: {token_gap: 300ms}",
            "narrow" => ", bulkhead: {concurrent: 1, queue_wait: 10s}",
            _ => "",
        };
        one(name, mock.addr(), more);
    }
    one("cached", cached, "");
    text.push_str("who: {labels: [pipeline, step, team]}\nretry_budget: {percent: 100}\nfallbacks:\n");
    text.push_str("  - {model: alpha/m, targets: [bravo/m]}\n");
    text.push_str("  - {model: checked/m, targets: [static/heuristic], checks: [json]}\n");
    text.push_str("static:\n  heuristic: {content: '{}'}\nmodels:\n");
    for (name, input, output) in PRICES.into_iter().chain([("checked", 150, 600), ("cached", 150, 600)]) {
        let usd = |nano: u64| nano as f64 / 1e3;
        text.push_str(&format!(
            "  {name}/m: {{price: {{input: {}, output: {}}}}}\n",
            usd(input),
            usd(output)
        ));
    }
    text
}
