//! An OpenTelemetry collector for tests: takes spans over HTTP or gRPC and keeps them as they came.
//!
//! It shares the messages' definitions with the exporter and nothing else: HTTP is parsed by httparse, gRPC is written out over
//! plain HTTP/2.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use prost::Message;
use prost::bytes::Bytes as Data;
use tokio::net::TcpStream;
use tokio::sync::Notify;

/// What it does with a delivery.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Mood {
    Takes = 0,
    /// Says that it is overloaded: HTTP 503, gRPC UNAVAILABLE.
    Refuses = 1,
    /// Reads, and says nothing.
    Hangs = 2,
}

/// One span, as a test wants it.
#[derive(Clone, Debug, Default)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    /// 2 server, 3 client.
    pub kind: i32,
    pub from_ns: u64,
    pub to_ns: u64,
    pub said: BTreeMap<String, String>,
    pub events: Vec<(String, u64)>,
    /// 2 error.
    pub status: i32,
    /// What sent it.
    pub resource: BTreeMap<String, String>,
}

impl Span {
    pub fn get(&self, name: &str) -> &str {
        self.said.get(name).map_or("", |value| value)
    }

    pub fn number(&self, name: &str) -> u64 {
        self.get(name).parse().unwrap_or_else(|_| panic!("{name} of {self:?}"))
    }
}

#[derive(Default)]
struct Kept {
    spans: Mutex<Vec<Span>>,
    /// Fields of each delivery, and its message.
    raw: Mutex<Vec<(String, Vec<u8>)>>,
    mood: AtomicU8,
}

/// A collector that runs.
pub struct Collector {
    pub addr: SocketAddr,
    kept: Arc<Kept>,
    stop: Arc<Notify>,
    thread: Option<JoinHandle<()>>,
}

fn text(value: &Option<AnyValue>) -> String {
    match value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(on)) => on.to_string(),
        Some(Value::IntValue(n)) => n.to_string(),
        Some(Value::DoubleValue(n)) => n.to_string(),
        Some(Value::ArrayValue(list)) => {
            list.values.iter().map(|value| text(&Some(value.clone()))).collect::<Vec<_>>().join(",")
        }
        other => panic!("{other:?}"),
    }
}

fn pairs(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes.iter().map(|pair| (pair.key.clone(), text(&pair.value))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Kept {
    fn mood(&self) -> Mood {
        match self.mood.load(Ordering::SeqCst) {
            0 => Mood::Takes,
            1 => Mood::Refuses,
            _ => Mood::Hangs,
        }
    }

    fn take(&self, head: String, message: &[u8]) {
        let request = ExportTraceServiceRequest::decode(message).unwrap();
        self.raw.lock().unwrap().push((head, message.to_vec()));
        let mut spans = self.spans.lock().unwrap();
        for of in request.resource_spans {
            let resource = pairs(&of.resource.unwrap_or_default().attributes);
            for span in of.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                spans.push(Span {
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    kind: span.kind,
                    from_ns: span.start_time_unix_nano,
                    to_ns: span.end_time_unix_nano,
                    said: pairs(&span.attributes),
                    events: span.events.into_iter().map(|e| (e.name, e.time_unix_nano)).collect(),
                    status: span.status.map_or(0, |status| status.code),
                    resource: resource.clone(),
                    name: span.name,
                });
            }
        }
    }
}

impl Collector {
    /// One that takes spans over HTTP, or over gRPC.
    pub fn start(grpc: bool) -> Collector {
        Collector::at(SocketAddr::from(([127, 0, 0, 1], 0)), grpc)
    }

    /// The same at an address.
    pub fn at(addr: SocketAddr, grpc: bool) -> Collector {
        let listener = TcpListener::bind(addr).unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let (kept, stop) = (Arc::new(Kept::default()), Arc::new(Notify::new()));
        let (ours, told) = (kept.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                tokio::spawn(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        match grpc {
                            true => drop(tokio::spawn(serve_grpc(stream, ours.clone()))),
                            false => drop(tokio::spawn(serve_http(stream, ours.clone()))),
                        }
                    }
                });
                told.notified().await;
            });
            // What is open is closed with it.
        });
        Collector { addr, kept, stop, thread: Some(thread) }
    }

    pub fn mood(&self, mood: Mood) {
        self.kept.mood.store(mood as u8, Ordering::SeqCst);
    }

    /// Closes everything that is open.
    pub fn kill(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap().clone()
    }

    pub fn raw(&self) -> Vec<(String, Vec<u8>)> {
        self.kept.raw.lock().unwrap().clone()
    }

    /// The spans once there are so many; whatever there is after ten seconds.
    pub fn wait_for(&self, spans: usize) -> Vec<Span> {
        let begun = Instant::now();
        while self.spans().len() < spans && begun.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.spans()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        stream.writable().await.unwrap();
        match stream.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn serve_http(stream: TcpStream, kept: Arc<Kept>) {
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        let mut fields = [httparse::EMPTY_HEADER; 64];
        let mut request = httparse::Request::new(&mut fields);
        if let Ok(httparse::Status::Complete(head)) = request.parse(&bytes) {
            let length =
                request.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
            let length: usize = std::str::from_utf8(length.unwrap().value).unwrap().parse().unwrap();
            if bytes.len() >= head + length {
                let text = String::from_utf8_lossy(&bytes[..head]).to_lowercase();
                let answer = match kept.mood() {
                    Mood::Takes => {
                        kept.take(text, &bytes[head..head + length]);
                        "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
                    }
                    Mood::Refuses => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                    Mood::Hangs => return std::future::pending().await,
                };
                bytes.drain(..head + length);
                write_all(&stream, answer.as_bytes()).await;
                continue;
            }
        }
        stream.readable().await.unwrap();
        let mut piece = [0; 65536];
        match stream.try_read(&mut piece) {
            Ok(0) => return,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

async fn serve_grpc(stream: TcpStream, kept: Arc<Kept>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(serve_call(request, respond, kept.clone()));
    }
}

async fn serve_call(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Data>,
    kept: Arc<Kept>,
) {
    let mut head = format!("{} {}\n", request.method(), request.uri().path()).to_lowercase();
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\n", value.to_str().unwrap_or_default()).to_lowercase());
    }
    let mut body = request.into_body();
    let mut bytes = Vec::new();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        bytes.extend_from_slice(&piece);
    }
    let status = match kept.mood() {
        Mood::Takes => {
            // One byte says whether it is compressed, four how long it is.
            assert_eq!((bytes[0], &bytes[1..5]), (0, &((bytes.len() - 5) as u32).to_be_bytes()[..]));
            kept.take(head, &bytes[5..]);
            "0"
        }
        Mood::Refuses => "14",
        Mood::Hangs => return std::future::pending().await,
    };
    let answer =
        http::Response::builder().status(200).header("content-type", "application/grpc").body(()).unwrap();
    let Ok(mut send) = respond.send_response(answer, false) else { return };
    let _ = send.send_data(Data::from_static(&[0, 0, 0, 0, 0]), false);
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", status.parse().unwrap());
    let _ = send.send_trailers(trailers);
}
