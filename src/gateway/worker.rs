//! One core's work: accept, serve, sweep, and listen to what the process tells it.

use std::cell::Cell;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, ready};

use crate::meter::trace::Rules;
use crate::net::driver::{self, Driver};
use crate::net::listener::Listener;
use crate::net::mailbox::Receiver;
use crate::net::resolver::Resolver;
use crate::net::{Conn, clock};

use super::books::Desk;
use super::captured::CaptureDesk;
use super::client;
use super::core::{Core, Phase};
use super::live::Live;
use super::metrics::Scraper;
use super::page::Hub;
use super::spin;
use super::task::{Ended, Task, until};
use super::underway::Seen;

/// Pause after a failed accept: the process is out of descriptors, and trying at once would only burn the core.
const ACCEPT_PAUSE_US: u64 = 10_000;

/// Tasks of the core itself, which end last: timers and sweeping; and, where it looks for work, two for that.
const OWN_TASKS: usize = 2;
const SPINNING_TASKS: usize = 2;

/// What the process tells a core.
pub enum Message {
    /// Serve this plan from the next exchange on, and say so.
    Adopt(Arc<Live>, mpsc::Sender<()>),
    /// Say what runs here.
    Look {
        /// The most exchanges to list.
        most: usize,
        /// Where to say it.
        to: mpsc::Sender<(Vec<Seen>, usize)>,
    },
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
    /// How long it looks for work before it sleeps, microseconds; 0: not at all.
    pub busy_poll_us: u64,
    /// Its listener.
    pub listener: std::net::TcpListener,
    /// The first plan.
    pub live: Arc<Live>,
    /// Name lookups.
    pub resolver: Resolver,
    /// Who writes the metrics page; holds its counters.
    pub scraper: Arc<Scraper>,
    /// The way to the ledger and the access log.
    pub desk: Option<Desk>,
    /// The way to the captures.
    pub captures: Option<CaptureDesk>,
    /// Who serves the live page.
    pub hub: Option<Arc<Hub>>,
    /// Which exchanges are traced; `None`: none is.
    pub rules: Option<Rules>,
    /// Client connections of the whole process that are open.
    pub connections: Arc<AtomicU64>,
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
    let driver = if start.busy_poll_us > 0 { start.driver.for_busy_polling() } else { start.driver };
    driver::block_on(driver, work(start))?
}

async fn work(start: Start) -> std::io::Result<()> {
    let core = Rc::new(Core::new(start.index, start.live, start.resolver, start.scraper, start.connections));
    core.desk.replace(start.desk);
    core.captures.replace(start.captures);
    core.hub.replace(start.hub);
    core.traces.set(start.rules);
    let listener = Listener::new(start.listener)?;
    monoio::spawn(until(core.clone(), Phase::Ended, core.timers.clone().drive()));
    monoio::spawn(until(core.clone(), Phase::Ended, sweep(core.clone())));
    let mut own_tasks = OWN_TASKS;
    if start.busy_poll_us > 0 {
        own_tasks += SPINNING_TASKS;
        monoio::spawn(until(core.clone(), Phase::Ended, spin::spin(core.clone(), start.busy_poll_us)));
        monoio::spawn(until(core.clone(), Phase::Ended, spin::echo(core.clone())));
    }
    monoio::spawn(until(core.clone(), Phase::Closed, accept(core.clone(), listener)));
    (start.ready)();
    let drain_until = Cell::new(0);
    let told = core.clone();
    start
        .mailbox
        .run(|message| match message {
            Message::Adopt(live, adopted) => {
                told.adopt(live);
                // Who asked may have given up waiting.
                let _ = adopted.send(());
                ControlFlow::Continue(())
            }
            Message::Look { most, to } => {
                // Who asked may have given up waiting.
                let _ = to.send(told.underway.look(most));
                ControlFlow::Continue(())
            }
            Message::Drain { until_us } => {
                drain_until.set(until_us);
                ControlFlow::Break(())
            }
        })
        .await?;
    core.enter(Phase::Draining);
    // Connections that the kernel has accepted for this listener already are served, not reset: they get a moment.
    core.timers.sleep(ACCEPT_PAUSE_US * 5).await;
    core.enter(Phase::Closed);
    while core.stats.exchanges.get() > 0 && clock::now_us() < drain_until.get() {
        core.timers.sleep(10_000).await;
    }
    core.enter(Phase::Cut);
    core.roll.drained_to(own_tasks).await;
    core.pool.borrow_mut().close();
    // The driver takes back what it was doing for the sockets that are closed now.
    core.timers.sleep(ACCEPT_PAUSE_US).await;
    core.enter(Phase::Ended);
    core.roll.drained_to(0).await;
    Ok(())
}

async fn sweep(core: Rc<Core>) {
    loop {
        poll_fn(|cx| core.pool.borrow().poll_sweep(cx)).await;
        let mut pool = core.pool.borrow_mut();
        pool.sweep(clock::now_us());
        core.stats.idle.set(pool.idle() as u64);
    }
}

async fn accept(core: Rc<Core>, listener: Listener) {
    loop {
        match listener.accept().await {
            Ok(conn) => {
                let limits = core.plan().live.plan.limits;
                if core.connections.fetch_add(1, Ordering::AcqRel) >= u64::from(limits.connections) {
                    core.connections.fetch_sub(1, Ordering::AcqRel);
                    // Closing at once tells the client more than a connection that is never served.
                    continue;
                }
                core.stats.accepted.add(1);
                conn.bound_unsent(limits.unread_bytes);
                monoio::spawn(guarded(core.clone(), conn));
            }
            Err(_) => core.timers.sleep(ACCEPT_PAUSE_US).await,
        }
    }
}

/// Serves one connection; a panic costs that connection and is counted.
fn guarded(core: Rc<Core>, conn: Conn) -> impl Future<Output = ()> {
    core.stats.open.add(1);
    let task = until(core.clone(), Phase::Cut, client::serve(core.clone(), conn));
    Guarded { task, core }
}

pin_project_lite::pin_project! {
    /// See [`guarded`]. Not an `async fn`, which would hold the connection twice.
    struct Guarded<F> {
        #[pin]
        task: Task<F>,
        core: Rc<Core>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let core = this.core;
        core.spin.stir();
        let ended = ready!(this.task.poll(cx));
        core.stats.open.sub(1);
        core.connections.fetch_sub(1, Ordering::AcqRel);
        if ended == Ended::Panicked {
            core.stats.panics.add(1);
            tracing::error!("a connection's task panicked; its connection is closed");
        }
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use crate::config::{DriverChoice, Loader};
    use crate::net::driver;

    #[test]
    fn a_panic_costs_the_connection_that_met_it_and_nothing_else() {
        for choice in [DriverChoice::Epoll, DriverChoice::IoUring] {
            if driver::choose(choice).is_err() {
                continue;
            }
            let text = "{listen: \"127.0.0.1:0\", workers: 1, providers: {mine: {base_url: \"http://127.0.0.1:1\"}}}";
            let loader = Loader { file: Some("test.yaml".into()), ..Loader::default() };
            let mut plan = loader.load_text(text, &|_| None).unwrap();
            plan.driver = choice;
            let gateway = crate::gateway::start(plan).unwrap();
            let connect = || {
                let stream = TcpStream::connect(gateway.addr()).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                stream
            };
            let ask = |stream: &mut TcpStream, path: &str| {
                write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let mut answer = [0; 1024];
                loop {
                    match stream.read(&mut answer) {
                        Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                        read => return String::from_utf8_lossy(&answer[..read.unwrap()]).into_owned(),
                    }
                }
            };
            let mut other = connect();
            assert!(ask(&mut other, "/healthz").starts_with("HTTP/1.1 200"));
            assert_eq!(ask(&mut connect(), "/panic"), "", "closed without an answer");
            assert!(ask(&mut other, "/healthz").starts_with("HTTP/1.1 200"));
            assert!(ask(&mut connect(), "/healthz").starts_with("HTTP/1.1 200"));
            assert_eq!((gateway.panics(), gateway.requests()), (1, 4));
            drop(other);
            // What the panicked task had counted is taken back, so the end waits for nothing.
            let begun = std::time::Instant::now();
            gateway.stop(Duration::from_secs(10)).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        }
    }
}
