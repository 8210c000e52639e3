//! The metrics page: what exchanges filled (`meter`), and how things stand right now ([`super::gauges`]).
//!
//! Written on a side thread, which reads what the cores publish and lets them go first; the core that is asked only waits
//! for the page on a mailbox and serves others meanwhile, and it sends it in pieces. One page is written at a time.

use std::future::Future;
use std::ops::ControlFlow;
use std::pin::pin;
use std::sync::{Arc, OnceLock, mpsc};

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::meter::Meter;
use crate::meter::form::Form;
use crate::net::mailbox::{self, Sender};
use crate::net::race::race;
use crate::net::{clock, limits};

use super::client::{After, Client};
use super::inbound::Inbound;
use super::live::Live;
use super::respond;
use super::stats::Stats;
use super::written::Written;

/// Longest wait for the page. Prometheus itself waits 10 s.
const WAIT_US: u64 = 10_000_000;

/// What a page is written from, apart from the plan. One for the life of the process.
pub struct Scraper {
    /// What exchanges filled.
    pub meter: Arc<Meter>,
    /// The counters of each core.
    pub stats: Vec<Arc<Stats>>,
    /// The driver in use.
    pub driver: &'static str,
    /// The counters of whoever writes down.
    pub written: Written,
    jobs: OnceLock<mpsc::Sender<Job>>,
}

/// One page to write.
pub(super) struct Job {
    pub(super) live: Arc<Live>,
    form: Form,
    pub(super) meter: Arc<Meter>,
    pub(super) stats: Vec<Arc<Stats>>,
    pub(super) driver: &'static str,
    pub(super) written: Written,
    answer: Sender<Option<Vec<u8>>>,
}

impl Scraper {
    /// For a process with these cores.
    pub fn new(meter: Arc<Meter>, stats: Vec<Arc<Stats>>, driver: &'static str, written: Written) -> Scraper {
        Scraper { meter, stats, driver, written, jobs: OnceLock::new() }
    }

    /// Has the page written; it comes to `answer`.
    fn ask(&self, live: Arc<Live>, form: Form, answer: Sender<Option<Vec<u8>>>) {
        let jobs = self.jobs.get_or_init(|| {
            let (jobs, todo) = mpsc::channel::<Job>();
            // Ends with the scraper, which holds the other end. Without a thread every page is an error.
            let _ = std::thread::Builder::new().name("sluice-metrics".to_owned()).spawn(move || {
                limits::give_way(19);
                for job in todo {
                    let page = job.form.write(job.families()).ok();
                    job.answer.send(page);
                }
            });
            jobs
        });
        let (meter, stats) = (self.meter.clone(), self.stats.clone());
        let (driver, written) = (self.driver, self.written.clone());
        let job = Job { live, form, meter, stats, driver, written, answer };
        if let Err(mpsc::SendError(job)) = jobs.send(job) {
            job.answer.send(None);
        }
    }
}

/// Answers with the page.
pub async fn page(client: &mut Client, inbound: &Inbound) -> After {
    let head = client.gather.as_ref().and_then(|g| g.body.filled().get(..inbound.head_len));
    let form = Form::wanted(&accept(head.unwrap_or_default()));
    let mut page = None;
    if let Ok((answer, written)) = mailbox::mailbox() {
        let core = client.core.clone();
        core.scraper.ask(inbound.plan.live.clone(), form, answer);
        let mut written = pin!(written.run(|written| {
            page = written;
            ControlFlow::Break(())
        }));
        let late = pin!(core.timers.sleep_until(clock::now_us() + WAIT_US));
        race(|cx| written.as_mut().poll(cx).map(|_| ()), late).await;
    }
    match page {
        Some(page) => respond::page(client, inbound, 200, form.content_type(), &page).await,
        None => {
            let mut error = GatewayError::new(ErrorKind::Server, "the metrics could not be written in time");
            error.status = 503;
            respond::error(client, inbound, &error, b"").await
        }
    }
}

/// What the request's `Accept` fields say, as one list. The head has been checked: a line is a field.
fn accept(head: &[u8]) -> String {
    let values = head.split(|byte| *byte == b'\n').filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        name.eq_ignore_ascii_case(b"accept").then(|| String::from_utf8_lossy(value).trim().to_owned())
    });
    values.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_accept_fields_are_one_list_and_other_fields_are_none() {
        let head = b"GET /metrics?accept:x HTTP/1.1\r\nHost: h\r\nACCEPT: text/plain;q=0.5 \r\n\
                     Accept-Encoding: gzip\r\naccept:application/openmetrics-text\r\n\r\n";
        assert_eq!(accept(head), "text/plain;q=0.5,application/openmetrics-text");
        assert_eq!(accept(b"GET / HTTP/1.1\r\n\r\n"), "");
    }
}
