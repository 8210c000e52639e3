//! Spans on their way to a collector: made on the thread of the books, delivered by one of their own.
//!
//! ```text
//! ring of a core ── Books ── Tracer::add: spans ── a queue with a bound on spans ── delivery thread ── collector
//! ```
//!
//! The delivery thread has a small tokio runtime, because OpenTelemetry's own exporter wants one; nothing of it runs on a
//! core. Deliveries that a collector asks to repeat, or that met nobody, are repeated by that exporter until
//! `traces.timeout`, then given up.
//!
//! Invariants: nobody waits for a delivery; about [`WAITING`] spans wait at most, and what comes then is dropped; every span ends in one of the three counts, until the process ends. A collector that is gone is said once, and again when it is back.
//!
//! Leaves out: partial success. A collector that takes a batch and says that it left out a part of it counts as having
//! taken it, because the exporter keeps that answer to itself.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry::KeyValue;
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};

use crate::config::{TracesConfig, TracesProtocol};
use crate::meter::outbox::Entry;
use crate::meter::trace::Rules;
use crate::meter::trace::spans;
use crate::net::{limits, tls};

/// Spans of one delivery, give or take the last exchange. The SDKs' own number.
const BATCH: usize = 512;
/// Spans that wait while a delivery runs, give or take an exchange. About a kilobyte each.
const WAITING: usize = 8_192;
/// Repetitions of a delivery, besides that its time runs out.
const RETRIES: usize = 5;
const RETRY_FIRST: Duration = Duration::from_millis(250);
const RETRY_LONGEST: Duration = Duration::from_secs(4);
/// Longest reason that is logged, bytes; collectors answer with whole pages.
const REASON_MAX: usize = 200;

/// What became of spans.
#[derive(Debug, Default)]
pub struct TraceCounts {
    delivered: AtomicU64,
    failed: AtomicU64,
    dropped: AtomicU64,
}

impl TraceCounts {
    /// Spans that a collector took.
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// Spans that were given up, because no collector took them in time.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Spans that never waited for a delivery, because too many did.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// So many spans were dropped.
    pub fn drop_spans(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Ordering::Relaxed);
    }
}

/// The rules of `config`, for the cores.
pub fn rules(config: &TracesConfig) -> Rules {
    Rules::new(config.sample, config.failed, config.slower_than_ms.map(|ms| ms.saturating_mul(1000)))
}

/// Makes spans of what the books read, and queues them.
pub struct Tracer {
    batch: Vec<SpanData>,
    /// Bounded by what waits.
    queue: mpsc::UnboundedSender<Vec<SpanData>>,
    /// Spans in the queue.
    waiting: Arc<AtomicUsize>,
    counts: Arc<TraceCounts>,
}

impl Tracer {
    /// Takes an exchange that ended at `unix_us`. One that is not traced costs a look.
    pub fn add(&mut self, entry: &Entry<'_>, unix_us: u64) {
        if entry.trace.is_none() {
            return;
        }
        if self.waiting.load(Ordering::Relaxed) + self.batch.len() >= WAITING {
            self.counts.drop_spans(1 + entry.attempts.len());
            return;
        }
        spans::write(entry, unix_us, &mut self.batch);
        if self.batch.len() >= BATCH {
            self.flush();
        }
    }

    /// Queues what there is.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let spans = self.batch.len();
        self.waiting.fetch_add(spans, Ordering::Relaxed);
        if self.queue.send(std::mem::take(&mut self.batch)).is_err() {
            // The thread is gone, which it said itself.
            self.waiting.fetch_sub(spans, Ordering::Relaxed);
            self.counts.drop_spans(spans);
        }
    }
}

/// The delivery thread.
pub struct TraceThread {
    /// What became of spans.
    pub counts: Arc<TraceCounts>,
    hurry: Arc<Notify>,
    thread: JoinHandle<()>,
}

impl TraceThread {
    /// Delivers what is queued, but for no longer than [`END`], and ends. Its [`Tracer`] is gone.
    pub fn end(self) {
        self.hurry.notify_one();
        // A panic there was said by the panic itself.
        let _ = self.thread.join();
    }
}

/// How long the end waits for a collector.
const END: Duration = Duration::from_secs(2);

/// Starts the thread.
///
/// # Errors
/// A CA file cannot be used, a variable of the exporter's cannot be, or the thread cannot be started.
pub fn start(config: &TracesConfig) -> Result<(Tracer, TraceThread), String> {
    let fail =
        |why: &dyn std::fmt::Display| format!("{why}; see `traces`, and the variables that begin with OTEL_");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        // Name lookups, which may hang.
        .max_blocking_threads(2)
        .build()
        .map_err(|error| fail(&error))?;
    let exporter = {
        let _inside = runtime.enter();
        exporter(config).map_err(|why| fail(&why))?
    };
    let (queue, batches) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    let (counts, hurry) = (Arc::new(TraceCounts::default()), Arc::new(Notify::new()));
    let delivery = Delivery {
        exporter,
        batches,
        waiting: waiting.clone(),
        counts: counts.clone(),
        to: format!("{}://{}", config.origin.scheme.name(), config.origin.authority()),
        // The exporter keeps to its own limit; this is for the case that it does not.
        limit: Duration::from_millis(config.timeout_ms) + Duration::from_secs(1),
        failing: None,
    };
    let told = hurry.clone();
    let thread = std::thread::Builder::new()
        .name("sluice-traces".to_owned())
        .spawn(move || deliver_all(runtime, delivery, &told))
        .map_err(|error| fail(&error))?;
    let tracer = Tracer { batch: Vec::new(), queue, waiting, counts: counts.clone() };
    Ok((tracer, TraceThread { counts, hurry, thread }))
}

fn exporter(config: &TracesConfig) -> Result<SpanExporter, String> {
    let timeout = Duration::from_millis(config.timeout_ms);
    let url = format!("{}://{}{}", config.origin.scheme.name(), config.origin.authority(), config.path);
    let mut tls = (*tls::client_config(&config.extra_ca).map_err(|error| error.to_string())?).clone();
    // The connector says by itself what it speaks.
    tls.alpn_protocols.clear();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(timeout));
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    let retry = RetryPolicy::recommended()
        .with_max_retries(RETRIES)
        .with_initial_delay(RETRY_FIRST)
        .with_max_delay(RETRY_LONGEST);
    let headers = config.headers.iter().map(|(name, value)| (name.to_string(), value.expose().to_owned()));
    let built = match config.protocol {
        TracesProtocol::Http => {
            let client = HyperClient::new(connector.enable_http1().wrap_connector(http), timeout, None);
            SpanExporter::builder()
                .with_http()
                .with_http_client(client)
                .with_endpoint(url)
                .with_headers(headers.collect::<HashMap<_, _>>())
                .with_timeout(timeout)
                .with_retry_policy(retry)
                .build()
        }
        TracesProtocol::Grpc => {
            let endpoint = tonic::transport::Endpoint::from_shared(url).map_err(|error| error.to_string())?;
            let channel = endpoint.connect_with_connector_lazy(connector.enable_http2().wrap_connector(http));
            let mut fields = http::HeaderMap::new();
            for (name, value) in headers {
                let name = http::HeaderName::try_from(name).map_err(|error| error.to_string())?;
                let value = http::HeaderValue::try_from(value).map_err(|error| error.to_string())?;
                fields.insert(name, value);
            }
            SpanExporter::builder()
                .with_tonic()
                .with_channel(channel)
                .with_metadata(tonic::metadata::MetadataMap::from_headers(fields))
                .with_timeout(timeout)
                .with_retry_policy(retry)
                .build()
        }
    };
    let mut exporter = built.map_err(|error| error.to_string())?;
    exporter.set_resource(&resource(config));
    Ok(exporter)
}

/// What sends: the variables' attributes, then the file's.
fn resource(config: &TracesConfig) -> Resource {
    const NAME: &str = "service.name";
    let own = config.resource.iter().map(|(name, value)| KeyValue::new(name.to_string(), value.to_string()));
    let found = Resource::builder().build();
    let named = found.get(&NAME.into()).is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    let mut builder = Resource::builder();
    if !named {
        builder = builder.with_service_name("sluice");
    }
    builder = builder
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attributes(own);
    match &config.service_name {
        Some(name) => builder.with_service_name(name.to_string()).build(),
        None => builder.build(),
    }
}

/// Runs until the queue is closed and empty, or [`END`] after it is told to hurry.
fn deliver_all(runtime: Runtime, mut delivery: Delivery, hurry: &Notify) {
    limits::give_way(19);
    runtime.block_on(async {
        let mut work = pin!(delivery.run());
        let mut late = pin!(async {
            hurry.notified().await;
            tokio::time::sleep(END).await;
        });
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(()),
            Poll::Pending => late.as_mut().poll(cx),
        })
        .await;
    });
    // A name lookup that hangs is not waited for.
    runtime.shutdown_background();
}

struct Delivery {
    exporter: SpanExporter,
    batches: mpsc::UnboundedReceiver<Vec<SpanData>>,
    waiting: Arc<AtomicUsize>,
    counts: Arc<TraceCounts>,
    /// The collector, for the log.
    to: String,
    limit: Duration,
    /// Spans that were lost when nobody took them for the first time, while nobody does.
    failing: Option<u64>,
}

impl Delivery {
    async fn run(&mut self) {
        while let Some(mut batch) = self.batches.recv().await {
            // What came in small pieces while the last delivery ran goes as one.
            while batch.len() < BATCH
                && let Ok(mut more) = self.batches.try_recv()
            {
                batch.append(&mut more);
            }
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            let spans = batch.len() as u64;
            let done = tokio::time::timeout(self.limit, self.exporter.export(batch)).await;
            match done {
                Ok(Ok(())) => {
                    self.counts.delivered.fetch_add(spans, Ordering::Relaxed);
                    self.recovered();
                }
                Ok(Err(error)) => self.failed(spans, &error.to_string()),
                Err(_) => self.failed(spans, "it did not answer in time"),
            }
        }
    }

    fn lost(&self) -> u64 {
        self.counts.failed() + self.counts.dropped()
    }

    fn recovered(&mut self) {
        if let Some(before) = self.failing.take() {
            let lost = self.lost() - before;
            tracing::info!("{} takes traces again; {lost} spans were lost", self.to);
        }
    }

    fn failed(&mut self, spans: u64, why: &str) {
        let before = self.lost();
        self.counts.failed.fetch_add(spans, Ordering::Relaxed);
        if self.failing.is_none() {
            self.failing = Some(before);
            let mut end = why.len().min(REASON_MAX);
            while !why.is_char_boundary(end) {
                end -= 1;
            }
            tracing::warn!(
                "{} does not take traces: {}; they are lost until it does, requests are served as ever; see `traces`",
                self.to,
                &why[..end]
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::Record;
    use crate::meter::outbox::samples::{PLAIN, TRACED};
    use crate::meter::outbox::{decode, encode};

    fn tracer() -> (Tracer, mpsc::UnboundedReceiver<Vec<SpanData>>) {
        let (queue, batches) = mpsc::unbounded_channel();
        (Tracer { batch: Vec::new(), queue, waiting: Arc::default(), counts: Arc::default() }, batches)
    }

    #[test]
    fn a_collector_that_takes_nothing_costs_a_bounded_number_of_spans() {
        let (mut tracer, mut batches) = tracer();
        let mut bytes = Vec::new();
        encode("", &Record { trace: Some(TRACED), ..PLAIN }, &[], &mut bytes);
        let entry = decode(&bytes).unwrap();
        const EXCHANGES: u64 = 20_000;
        const EACH: u64 = 2;
        for n in 0..EXCHANGES {
            tracer.add(&entry, 1);
            if n % 100 == 0 {
                tracer.flush();
            }
        }
        tracer.flush();
        let mut queued = 0;
        while let Ok(batch) = batches.try_recv() {
            assert!(batch.len() <= BATCH + EACH as usize);
            queued += batch.len() as u64;
        }
        assert_eq!((queued, tracer.waiting.load(Ordering::Relaxed)), (WAITING as u64, WAITING));
        assert_eq!(queued + tracer.counts.dropped(), EXCHANGES * EACH);
        // It goes on where there is room again.
        tracer.waiting.store(0, Ordering::Relaxed);
        tracer.add(&entry, 1);
        tracer.flush();
        assert!(batches.try_recv().is_ok());
    }

    #[test]
    fn what_is_not_traced_makes_no_spans() {
        let (mut tracer, _batches) = tracer();
        let mut bytes = Vec::new();
        encode("", &PLAIN, &[], &mut bytes);
        tracer.add(&decode(&bytes).unwrap(), 1);
        assert_eq!((tracer.batch.len(), tracer.counts.dropped()), (0, 0));
    }
}
