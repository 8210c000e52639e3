//! The handle of a running mock provider.
//!
//! Invariants: [`Mock::program`] returns when the new program holds, port included; [`Mock::stop`] and dropping return
//! when the thread has ended and the port is free.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use super::counts::{Counts, Ledger, Seen};
use super::program::{Program, Running};
use super::provider::{Provider, Shared, State};
use super::server::{self, Server, WAKE};

/// How long the thread may take to catch up before the handle goes on without; it takes microseconds unless it is
/// building the answer to a very long prompt.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A running mock provider. Dropping it stops it.
pub struct Mock {
    addr: SocketAddr,
    shared: Arc<Shared>,
    waker: Waker,
    seed: u64,
    thread: Option<JoinHandle<()>>,
}

/// What a mock provider is like.
#[derive(Debug, Clone)]
pub struct MockOptions {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The dialects it speaks.
    pub dialects: Dialects,
    /// What it does wrong.
    pub program: Program,
    /// The pace of its answers.
    pub pacing: Pacing,
    /// Keeps requests for [`Mock::requests`].
    pub capture: bool,
    /// Most bytes kept of a captured body.
    pub capture_body: usize,
    /// Most captured requests; older ones are forgotten.
    pub capture_requests: usize,
    /// The API keys it accepts; every key, or none, when empty.
    pub keys: Vec<String>,
    /// What `GET /v1/models` lists. Any model name is answered.
    pub models: Vec<String>,
    /// Serves TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Decides words, identifiers, jitter and chance.
    pub seed: u64,
    /// Length of a bucket in [`Counts::buckets`].
    pub bucket: Duration,
}

/// Which dialects a mock speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dialects {
    /// Both, told apart by path and header.
    #[default]
    All,
    /// OpenAI alone; Anthropic paths are unknown.
    OpenAi,
    /// Anthropic alone.
    Anthropic,
}

/// The pace of answers.
#[derive(Debug, Clone, PartialEq)]
pub struct Pacing {
    /// From the request to the first token.
    pub first_token: Duration,
    /// Between tokens.
    pub token_gap: Duration,
    /// Each time varies by up to this share, 0 to 1.
    pub jitter: f64,
    /// Tokens of an answer that the request does not limit.
    pub tokens: usize,
}

impl Pacing {
    /// No waiting at all, 40 tokens: for tests.
    pub fn instant() -> Pacing {
        Pacing { first_token: Duration::ZERO, token_gap: Duration::ZERO, jitter: 0.0, tokens: 40 }
    }

    /// 300 ms to the first token, then 50 tokens a second, 40 tokens: a small hosted model on a quiet day.
    pub fn realistic() -> Pacing {
        Pacing {
            first_token: Duration::from_millis(300),
            token_gap: Duration::from_millis(20),
            jitter: 0.25,
            tokens: 40,
        }
    }
}

impl Default for MockOptions {
    /// For tests: a free loopback port, no pacing, no faults, nothing captured.
    fn default() -> MockOptions {
        let models = [
            "gpt-4o-mini",
            "gpt-4o",
            "gpt-4.1-mini",
            "gpt-5-mini",
            "o4-mini",
            "text-embedding-3-small",
            "text-embedding-3-large",
            "claude-haiku-4-5",
            "claude-sonnet-4-5",
            "mock",
        ];
        MockOptions {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            dialects: Dialects::All,
            program: Program::ok(),
            pacing: Pacing::instant(),
            capture: false,
            capture_body: 64 * 1024,
            capture_requests: 10_000,
            keys: Vec::new(),
            models: models.iter().map(|name| (*name).to_owned()).collect(),
            tls: None,
            seed: 1,
            bucket: Duration::from_secs(1),
        }
    }
}

impl Mock {
    /// Starts a mock on a thread of its own. An error is about the address or the process's limits.
    pub fn start(options: MockOptions) -> io::Result<Mock> {
        let doorway = server::listen(options.listen)?;
        let addr = doorway.listener.local_addr()?;
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let now = Instant::now();
        let seed = options.seed;
        let shared = Arc::new(Shared::new(State {
            running: Running::start(options.program.clone(), seed, now),
            ledger: Ledger::new(options.bucket, now),
            seen: Default::default(),
            handed: 0,
            taken: 0,
        }));
        let tls = options.tls.clone();
        let provider = Provider::new(options, Arc::clone(&shared));
        let server = Server::new(poll, doorway, tls, provider)?;
        let thread =
            std::thread::Builder::new().name(format!("mock-{}", addr.port())).spawn(move || server.run())?;
        let mock = Mock { addr, shared, waker, seed, thread: Some(thread) };
        mock.catch_up();
        Ok(mock)
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://ADDR/v1`.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    /// Replaces the fault program: every request read from now on meets the new one, whose clock starts now. Answers
    /// in progress are finished as they were begun.
    pub fn program(&self, program: Program) {
        {
            let mut state = self.shared.lock();
            state.running = Running::start(program, self.seed, Instant::now());
        }
        self.catch_up();
    }

    /// The figures at this moment: whatever a client on this machine saw or did before the call is in them.
    pub fn counts(&self) -> Counts {
        self.catch_up();
        self.shared.lock().ledger.snapshot()
    }

    /// The captured requests, oldest first; empty without `MockOptions::capture`.
    pub fn requests(&self) -> Vec<Seen> {
        self.catch_up();
        self.shared.lock().seen.iter().cloned().collect()
    }

    /// Resets every connection, frees the port and ends the thread.
    pub fn stop(mut self) {
        self.end();
    }

    /// Waits until the thread has made a whole turn.
    fn catch_up(&self) {
        let mine = {
            let mut state = self.shared.lock();
            state.handed += 1;
            state.handed
        };
        // A wake-up that fails leaves it to the next turn of the loop, at most a timer away.
        let _ = self.waker.wake();
        let state = self.shared.lock();
        let ended = || self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let _ =
            self.shared.applied.wait_timeout_while(state, CATCH_UP, |state| state.taken < mine && !ended());
    }

    fn end(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was already reported by the panic hook.
            let _ = thread.join();
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        self.end();
    }
}

impl std::fmt::Debug for Mock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mock").field("addr", &self.addr).finish_non_exhaustive()
    }
}
