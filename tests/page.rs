//! The live page in a real browser: tests/page/run.mjs drives a headless Chromium against a gateway under load.
//!
//! It needs Chromium and two npm packages, so it runs only when `SLUICE_PAGE_TESTS=1` says that those are installed:
//!
//! ```sh
//! apt-get install chromium
//! (cd tests/page && npm ci)
//! SLUICE_PAGE_TESTS=1 cargo test --test page -- --nocapture
//! ```
//!
//! `SLUICE_PAGE_SHOTS=docs/images` has it take the pictures of the documentation as well, after `SLUICE_PAGE_WARM_SECONDS`
//! (10 by default) of load. `SLUICE_PAGE_BROWSER` names another browser than `/usr/bin/chromium`.
#![allow(clippy::print_stdout, clippy::unwrap_used)] // a skipped suite says so; what a test unwraps, it asserts

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sluice::config::Loader;
use sluice::gateway;
use sluice::rehearsal::{Mock, MockOptions, Pacing, Program};

const TOKEN: &str = "a-token-for-the-page-tests";

fn provider(program: &str, seed: u64) -> Mock {
    let program = Program::parse(program).unwrap();
    let pacing = Pacing { tokens: 24, ..Pacing::realistic() };
    Mock::start(MockOptions { program, pacing, seed, ..MockOptions::default() }).unwrap()
}

/// One request on a connection of its own, read to its end.
fn ask(addr: SocketAddr, model: &str, pipeline: &str, stream: bool) {
    let body = format!(
        "{{\"model\":\"{model}\",\"stream\":{stream},\"messages\":[{{\"role\":\"user\",\"content\":\"Which of these tests \
         failed, and why?\"}}]}}"
    );
    let Ok(mut client) = TcpStream::connect(addr) else { return };
    let _ = client.set_read_timeout(Some(Duration::from_secs(30)));
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n\
         x-sluice-pipeline: {pipeline}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body.as_bytes()));
    // What came is on the page; here it only has to end.
    let _ = client.read_to_end(&mut Vec::new());
}

#[test]
fn the_page_works_in_a_browser_for_everybody() {
    if std::env::var("SLUICE_PAGE_TESTS").as_deref() != Ok("1") {
        println!(
            "SKIPPED: the page's tests: SLUICE_PAGE_TESTS is not 1 (tests/page.rs says how to run them)"
        );
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    assert!(folder.join("node_modules/axe-core").is_dir(), "run `npm ci` in {}", folder.display());
    let openai = provider("brownout:rate=0.12,retry-after=2", 1);
    let anthropic = provider("ok", 2);
    let flaky = provider("status:503", 3);
    let text = format!(
        "listen: 127.0.0.1:0\nworkers: 2\nadmin: {{token: {TOKEN}}}\naliases: {{steady: anthropic/claude-haiku-4-5}}\n\
         providers:\n  openai: {{keys: [{{value: sk-page-secret-1, name: primary, weight: 0.7}}, {{value: sk-page-secret-2, \
         name: backup, weight: 0.3}}], base_url: 'http://{}'}}\n  anthropic: {{keys: [sk-page-secret-3], base_url: \
         'http://{}'}}\n  flaky-vllm: {{base_url: 'http://{}', models: [qwen3-8b]}}\nfallbacks:\n  - model: \
         openai/gpt-4o-mini\n    targets: [anthropic/claude-haiku-4-5]\n  - model: flaky-vllm/qwen3-8b\n    targets: \
         [openai/gpt-4.1-mini, anthropic/claude-haiku-4-5]\n",
        openai.addr(),
        anthropic.addr(),
        flaky.addr()
    );
    let loader = Loader { file: Some("sluice.yaml".into()), ..Loader::default() };
    let gateway = gateway::start(loader.load_text(&text, &|_| None).unwrap()).unwrap();
    let addr = gateway.addr();
    let seconds = |name: &str| std::env::var(name).ok().and_then(|value| value.parse().ok());
    let warm = Duration::from_secs(seconds("SLUICE_PAGE_WARM_SECONDS").unwrap_or(10));
    let done = AtomicBool::new(false);
    let passed = std::thread::scope(|scope| {
        let load = [
            ("openai/gpt-4o-mini", "nightly-eval", true, 60),
            ("openai/gpt-4o-mini", "nightly-eval", true, 90),
            ("steady", "pr-review", false, 350),
            ("openai/gpt-4o-mini", "pr-review", true, 500),
            ("flaky-vllm/qwen3-8b", "triage", true, 700),
        ];
        for (model, pipeline, stream, pause_ms) in load {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    ask(addr, model, pipeline, stream);
                    std::thread::sleep(Duration::from_millis(pause_ms));
                }
            });
        }
        std::thread::sleep(warm);
        let browser = std::env::var("SLUICE_PAGE_BROWSER").unwrap_or_else(|_| "/usr/bin/chromium".to_owned());
        let mut node = Command::new("node");
        node.current_dir(&folder).args(["run.mjs", "--url", &format!("http://{addr}"), "--token", TOKEN]);
        node.args(["--browser", &browser]);
        if let Ok(shots) = std::env::var("SLUICE_PAGE_SHOTS") {
            node.arg("--shots").arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(shots));
        }
        let passed = node.status().unwrap_or_else(|error| panic!("Node: {error}")).success();
        done.store(true, Ordering::Release);
        passed
    });
    gateway.stop(Duration::from_secs(5)).unwrap();
    assert!(passed, "see above");
}
