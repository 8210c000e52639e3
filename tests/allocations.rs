//! What a request costs in memory: heap allocations on the worker's own thread once it is warm, and how much a giant
//! event makes it hold.
//!
//! A binary of its own, because it replaces the allocator. `SLUICE_TRACE_ALLOCATIONS=1` prints where each allocation of
//! the first measured request comes from.

// What a test unwraps, it asserts; what it prints are figures. An allocator cannot be written without unsafe code.
#![allow(clippy::unwrap_used, clippy::print_stdout, unsafe_code)]

#[path = "e2e/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use support::{CHAT, CHAT_STREAM, Client, chain, each_driver, provider, request};

struct Counting;

/// The thread whose allocations count; 0 for none.
static WATCHED: AtomicU64 = AtomicU64::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
/// Bytes that the watched thread holds more than when it began to be watched, and the most of it.
static HELD: AtomicI64 = AtomicI64::new(0);
static MOST_HELD: AtomicI64 = AtomicI64::new(0);
static TRACE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The kernel's number of this thread; 0 until it is asked for.
    static SELF: Cell<u64> = const { Cell::new(0) };
    static TRACING: Cell<bool> = const { Cell::new(false) };
}

fn is_watched() -> bool {
    let watched = WATCHED.load(Ordering::Relaxed);
    watched != 0
        && SELF.try_with(|number| {
            if number.get() == 0 {
                // SAFETY: gettid(2) takes nothing and cannot fail.
                number.set(unsafe { libc::gettid() } as u64);
            }
            number.get() == watched
        }) == Ok(true)
}

fn account(bytes: i64) {
    if !is_watched() || TRACING.get() {
        return;
    }
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    MOST_HELD.fetch_max(held, Ordering::Relaxed);
    if bytes > 0 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if TRACE.load(Ordering::Relaxed) {
            TRACING.set(true);
            let trace = Backtrace::force_capture().to_string();
            let ours = trace.lines().filter(|line| line.contains("sluice::") || line.contains("monoio::"));
            let path: Vec<&str> = ours.take(6).map(str::trim).collect();
            println!("{bytes} bytes: {}", path.join(" < "));
            TRACING.set(false);
        }
    }
}

// SAFETY: every call is passed on to the system's allocator as it came; counting touches no memory of the caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        account(layout.size() as i64);
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        account(-(layout.size() as i64));
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        account(-(layout.size() as i64));
        account(size as i64);
        // SAFETY: as above.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: they share the counters, and each takes the one worker there is for its own.
static ALONE: Mutex<()> = Mutex::new(());

/// The one worker thread of the gateway that was just started.
fn worker() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let mut workers: Vec<u64> = tasks
        .filter(|task| {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            name.trim() == "sluice-0"
        })
        .map(|task| task.file_name().to_string_lossy().parse().unwrap())
        .collect();
    workers.sort_unstable();
    workers.pop().unwrap()
}

/// Allocations of the worker while `work` runs.
fn count(worker: u64, work: impl FnOnce()) -> u64 {
    ALLOCATIONS.store(0, Ordering::SeqCst);
    HELD.store(0, Ordering::SeqCst);
    MOST_HELD.store(0, Ordering::SeqCst);
    WATCHED.store(worker, Ordering::SeqCst);
    work();
    WATCHED.store(0, Ordering::SeqCst);
    ALLOCATIONS.load(Ordering::SeqCst)
}

const EMBED: &str = r#"{"model":"openai/text-embedding-3-small","input":"x"}"#;
const MESSAGE: &str =
    r#"{"model":"anthropic/claude-haiku-4-5","max_tokens":9,"messages":[{"role":"user","content":"x"}]}"#;

#[test]
fn a_request_on_a_kept_connection_allocates_nothing() {
    allocates_nothing(&[], "");
}

#[test]
fn with_traces_on_and_none_sampled_it_still_allocates_nothing() {
    // Nobody is there: the exporter's thread fails by itself.
    allocates_nothing(&["traces.endpoint=http://127.0.0.1:1", "traces.sample=0"], "");
}

#[test]
fn a_request_that_is_traced_allocates_nothing_on_its_core() {
    let parent =
        "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\ntracestate: a=b\r\n";
    allocates_nothing(&["traces.endpoint=http://127.0.0.1:1"], parent);
}

fn allocates_nothing(sets: &[&str], headers: &str) {
    const REQUESTS: u64 = 100;
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    each_driver(|driver| {
        let mock = provider("ok");
        let text = format!(
            "providers:\n  openai: {{keys: [sk-1], base_url: \"http://{0}\"}}\n  anthropic: {{keys: [sk-2], base_url: \"http://{0}\"}}\n",
            mock.addr()
        );
        let gateway = support::gateway(support::plan(&text, &[], driver, sets));
        let worker = worker();
        let mut client = Client::to(gateway.addr());
        let mut figures = Vec::new();
        for (name, path, body) in [
            ("chat", "/v1/chat/completions", CHAT),
            ("chat stream", "/v1/chat/completions", CHAT_STREAM),
            ("embeddings", "/v1/embeddings", EMBED),
            ("messages", "/v1/messages", MESSAGE),
        ] {
            let bytes = request(path, headers, body);
            let mut once = || {
                client.send(&bytes);
                let got = client.read();
                assert_eq!((got.status, got.whole), (200, true), "{name}: {}", got.text());
            };
            for _ in 0..REQUESTS {
                once();
            }
            if std::env::var_os("SLUICE_TRACE_ALLOCATIONS").is_some() {
                println!("{driver:?} {name}:");
                TRACE.store(true, Ordering::SeqCst);
                count(worker, &mut once);
                TRACE.store(false, Ordering::SeqCst);
            }
            let allocations = count(worker, || (0..REQUESTS).for_each(|_| once()));
            println!("{driver:?} {name}: {:.2} allocations a request", allocations as f64 / REQUESTS as f64);
            figures.push((name, allocations));
        }
        // Housekeeping, such as a bucket that a timer grows, may fall into the measured time once.
        for (name, allocations) in figures {
            assert!(allocations < REQUESTS / 10, "{name}: {allocations} in {REQUESTS} requests");
        }
    });
}

/// Streams one event of this many bytes and an end to every request.
fn giant(bytes: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"",
            );
            let piece = [b'g'; 64 * 1024];
            for _ in 0..bytes / piece.len() {
                let _ = stream.write_all(&piece);
            }
            let _ = stream.write_all(b"\"}}]}\n\ndata: [DONE]\n\n");
        }
    });
    addr
}

#[test]
fn a_giant_event_passes_through_a_small_window() {
    const EVENT: usize = 16 << 20;
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    each_driver(|driver| {
        let gateway = chain(giant(EVENT), None, driver, &[]);
        let worker = worker();
        let mut client = Client::to(gateway.addr());
        let mut got = support::Got::default();
        count(worker, || got = client.post("/v1/chat/completions", CHAT_STREAM));
        assert!(got.whole && got.text().ends_with("\"}}]}\n\ndata: [DONE]\n\n"));
        assert_eq!(got.body.iter().filter(|b| **b == b'g').count(), EVENT);
        let most = MOST_HELD.load(Ordering::SeqCst);
        println!("{driver:?}: at most {} KiB for an event of {} KiB", most / 1024, EVENT / 1024);
        assert!(most < 512 << 10, "{most} bytes were held");
    });
}
