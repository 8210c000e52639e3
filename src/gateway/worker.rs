//! One core's work: accept, serve, sweep, and listen to what the process tells it.

use std::cell::Cell;
use std::future::Future;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::net::driver::{self, Driver};
use crate::net::listener::Listener;
use crate::net::mailbox::Receiver;
use crate::net::resolver::Resolver;
use crate::net::{Conn, clock};

use super::client;
use super::core::{Core, Phase};
use super::live::Live;
use super::stats::Stats;

/// How often idle upstream connections are looked at.
const SWEEP_US: u64 = 1_000_000;
/// Pause after a failed accept: the process is out of descriptors, and trying at once would only burn the core.
const ACCEPT_PAUSE_US: u64 = 10_000;

/// What the process tells a core.
pub enum Message {
    /// Serve this plan from the next exchange on.
    Adopt(Arc<Live>),
    /// Stop accepting; finish what runs until then (gateway clock), then end.
    Drain {
        /// When what still runs is cut.
        until_us: u64,
    },
}

/// What a worker is started with.
pub struct Start {
    /// Its number.
    pub index: usize,
    /// Its driver.
    pub driver: Driver,
    /// Its listener.
    pub listener: std::net::TcpListener,
    /// The first plan.
    pub live: Arc<Live>,
    /// Name lookups.
    pub resolver: Resolver,
    /// Its counters.
    pub stats: Arc<Stats>,
    /// What it is told.
    pub mailbox: Receiver<Message>,
    /// Called once it serves.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// Runs a worker on this thread until it is drained.
///
/// # Errors
/// The runtime or the listener cannot be set up.
pub fn run(start: Start) -> std::io::Result<()> {
    driver::block_on(start.driver, work(start))?
}

async fn work(start: Start) -> std::io::Result<()> {
    let core = Rc::new(Core::new(start.index, start.live, start.resolver, start.stats));
    let listener = Listener::new(start.listener)?;
    monoio::spawn(core.timers.clone().drive());
    let sweeping = core.clone();
    monoio::spawn(async move {
        loop {
            sweeping.timers.sleep(SWEEP_US).await;
            sweeping.pool.borrow_mut().sweep(clock::now_us());
        }
    });
    let accepting = monoio::spawn(accept(core.clone(), listener));
    (start.ready)();
    let drain_until = Cell::new(0);
    let told = core.clone();
    start
        .mailbox
        .run(|message| match message {
            Message::Adopt(live) => {
                told.adopt(live);
                ControlFlow::Continue(())
            }
            Message::Drain { until_us } => {
                drain_until.set(until_us);
                ControlFlow::Break(())
            }
        })
        .await?;
    core.phase.set(Phase::Draining);
    // Connections that the kernel has accepted for this listener already are served, not reset: the accept loop goes
    // on until it has been quiet for a moment.
    core.timers.sleep(ACCEPT_PAUSE_US * 5).await;
    drop(accepting);
    while core.stats.connections.get() > 0
        && core.stats.exchanges.get() > 0
        && clock::now_us() < drain_until.get()
    {
        core.timers.sleep(10_000).await;
    }
    // What idles gets a moment to see its connection end cleanly.
    core.pool.borrow_mut().close();
    Ok(())
}

async fn accept(core: Rc<Core>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(conn) => {
                let limit = core.plan().live.plan.limits.connections;
                if core.stats.connections.get() >= u64::from(limit) {
                    // Closing at once tells the client more than a connection that is never served.
                    continue;
                }
                core.stats.accepted.add(1);
                core.stats.connections.add(1);
                monoio::spawn(guarded(core.clone(), conn));
            }
            Err(_) => core.timers.sleep(ACCEPT_PAUSE_US).await,
        }
    }
}

/// Serves one connection; a panic costs that connection and is counted.
async fn guarded(core: Rc<Core>, conn: Conn) {
    let serving = core.clone();
    let caught = CatchPanic { future: Some(client::serve(serving, conn)) }.await;
    core.stats.connections.sub(1);
    if caught.is_err() {
        core.stats.panics.add(1);
        tracing::error!("a connection's task panicked; its connection is closed");
    }
}

pin_project_lite::pin_project! {
    /// Turns a panic of the inner future into an error, and drops it.
    struct CatchPanic<F> {
        #[pin]
        future: Option<F>,
    }
}

impl<F: Future> Future for CatchPanic<F> {
    type Output = Result<F::Output, ()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(Err(())) };
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
            Err(_) => {
                this.future.set(None);
                Poll::Ready(Err(()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_its_own_task() {
        let silent = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let caught = driver::block_on_any(CatchPanic { future: Some(async { panic!("test") }) });
        std::panic::set_hook(silent);
        assert_eq!(caught, Err::<(), ()>(()));
        assert_eq!(driver::block_on_any(CatchPanic { future: Some(async { 7 }) }), Ok(7));
    }
}
