//! The same relay on three foundations: monoio on io_uring, monoio on epoll, and tokio-uring; so that the choice of the
//! runtime stays a measured one.
//!
//! A client asks 1 KiB and is answered 2 KiB through the relay, over loopback: one connection at a time (what waking up
//! costs), and 16 that are asked together (what a batch costs each). The head of each request is parsed as the gateway
//! parses it; nothing else is done, so what differs is the foundation. Figures of a loaded machine mean nothing: client,
//! relay and provider are a thread each.
//!
//! Not here: who is faster with the gateway's work on top. That is what `perf/board` tells for the drivers it has.

// The setters of the two libraries want different borrows of the same words.
#![allow(missing_docs, unused_mut, clippy::print_stdout)]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use sluice::config::DriverChoice;
use sluice::net::driver;
use sluice::wire::fields::Fields;
use sluice::wire::head::{HeadLimits, Parsed, parse_request};

const REQUEST: usize = 1024;
const ANSWER: usize = 2048;
const TOGETHER: usize = 16;

fn request() -> Vec<u8> {
    let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost:8080\r\nAuthorization: Bearer sk-0123456789\r\n\
Content-Type: application/json\r\nContent-Length: 0800\r\n\r\n";
    let mut bytes = head.as_bytes().to_vec();
    bytes.resize(REQUEST, b'x');
    bytes
}

/// What the relay does with the first bytes of a request.
fn look(bytes: &[u8], fields: &mut Fields) -> bool {
    matches!(parse_request(bytes, fields, &HeadLimits::REQUEST), Ok(Parsed::Complete(head)) if head.len > 0)
}

/// The relay, with the words that both libraries share: owned buffers go into each read and write and come back.
macro_rules! relay {
    ($module:ident, $stream:path, $listener:path, $spawn:path, $($import:path),*) => {
        mod $module {
            $(use $import;)*
            use super::*;

            /// Passes on a message of `size` bytes; false at the end of the connection.
            async fn pass(from: &mut $stream, to: &mut $stream, buf: &mut Vec<u8>, size: usize, fields: Option<&mut Fields>) -> bool {
                let mut left = size;
                let mut fields = fields;
                while left > 0 {
                    let mut taken = std::mem::take(buf);
                    taken.clear();
                    let (n, mut read) = from.read(taken).await;
                    let Ok(n) = n else { return false };
                    if n == 0 || n > left {
                        return false;
                    }
                    if let Some(fields) = fields.take() {
                        assert!(look(&read[..n], fields), "the head came in one piece");
                    }
                    read.truncate(n);
                    let (sent, back) = to.write_all(read).await;
                    *buf = back;
                    if sent.is_err() {
                        return false;
                    }
                    left -= n;
                }
                true
            }

            pub async fn run(listener: TcpListener, provider: SocketAddr, connections: usize) {
                let listener = <$listener>::from_std(listener);
                #[allow(clippy::useless_conversion)]
                let listener = super::Listening::from(listener).0;
                let mut tasks = Vec::new();
                for _ in 0..connections {
                    let Ok((mut client, _)) = listener.accept().await else { return };
                    let Ok(mut upstream) = <$stream>::connect(provider).await else { return };
                    if client.set_nodelay(true).is_err() || upstream.set_nodelay(true).is_err() {
                        return;
                    }
                    tasks.push($spawn(async move {
                        let mut buf = Vec::with_capacity(4096);
                        let mut fields = Box::new(Fields::new());
                        while pass(&mut client, &mut upstream, &mut buf, REQUEST, Some(&mut fields)).await
                            && pass(&mut upstream, &mut client, &mut buf, ANSWER, None).await
                        {}
                    }));
                }
                for task in tasks {
                    let _ = task.await;
                }
            }
        }
    };
}

/// One library's listener is made at once, the other's may fail.
struct Listening<T>(T);

impl From<std::io::Result<monoio::net::TcpListener>> for Listening<monoio::net::TcpListener> {
    fn from(made: std::io::Result<monoio::net::TcpListener>) -> Self {
        Listening(made.expect("a bound socket becomes a listener"))
    }
}

impl From<tokio_uring::net::TcpListener> for Listening<tokio_uring::net::TcpListener> {
    fn from(made: tokio_uring::net::TcpListener) -> Self {
        Listening(made)
    }
}

relay!(
    on_monoio,
    monoio::net::TcpStream,
    monoio::net::TcpListener,
    monoio::spawn,
    monoio::io::AsyncReadRent,
    monoio::io::AsyncWriteRentExt
);
relay!(on_tokio_uring, tokio_uring::net::TcpStream, tokio_uring::net::TcpListener, tokio_uring::spawn,);

/// Answers every 1,024 bytes with 2,048.
fn provider(listener: TcpListener, connections: usize) {
    for _ in 0..connections {
        let Ok((mut stream, _)) = listener.accept() else { return };
        stream.set_nodelay(true).expect("TCP has this option");
        thread::spawn(move || {
            let (mut asked, answer) = ([0; REQUEST], [b'a'; ANSWER]);
            while stream.read_exact(&mut asked).is_ok() && stream.write_all(&answer).is_ok() {}
        });
    }
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    let addr = listener.local_addr().expect("it is bound");
    (listener, addr)
}

/// Clients of a relay that `run` carries.
fn clients(
    connections: usize,
    run: impl FnOnce(TcpListener, SocketAddr, usize) + Send + 'static,
) -> Vec<TcpStream> {
    let (upstream, upstream_addr) = listener();
    thread::spawn(move || provider(upstream, connections));
    let (relay, addr) = listener();
    relay.set_nonblocking(true).expect("a socket can be non-blocking");
    thread::spawn(move || run(relay, upstream_addr, connections));
    let connect = |_| {
        let stream = TcpStream::connect(addr).expect("the relay listens");
        stream.set_nodelay(true).expect("TCP has this option");
        stream
    };
    (0..connections).map(connect).collect()
}

/// All clients ask, then all read their answers.
fn ask(clients: &mut [TcpStream], request: &[u8], answer: &mut [u8; ANSWER]) -> u8 {
    for client in &mut *clients {
        client.write_all(request).expect("the relay takes it");
    }
    for client in clients {
        client.read_exact(answer).expect("the relay answers");
    }
    answer[ANSWER - 1]
}

fn relays(c: &mut Criterion) {
    type Run = fn(TcpListener, SocketAddr, usize);
    let mut all: Vec<(&str, Run)> = vec![("monoio, epoll", |listener, provider, connections| {
        let chosen = driver::choose(DriverChoice::Epoll).expect("epoll is everywhere");
        driver::block_on(chosen.driver, on_monoio::run(listener, provider, connections)).expect("it starts");
    })];
    match driver::choose(DriverChoice::IoUring) {
        Err(why) => println!("skipped on io_uring: {why}"),
        Ok(_) => {
            all.push(("monoio, io_uring", |listener, provider, connections| {
                let chosen = driver::choose(DriverChoice::IoUring).expect("it was tried before");
                driver::block_on(chosen.driver, on_monoio::run(listener, provider, connections))
                    .expect("it starts");
            }));
            all.push(("tokio-uring", |listener, provider, connections| {
                tokio_uring::start(on_tokio_uring::run(listener, provider, connections));
            }));
        }
    }
    let (request, mut answer) = (request(), [0; ANSWER]);
    for (name, connections) in [("one connection", 1), ("16 together", TOGETHER)] {
        let mut group = c.benchmark_group(format!("relay, {name}"));
        group.throughput(Throughput::Elements(connections as u64));
        for (foundation, run) in &all {
            let mut clients = clients(connections, *run);
            group.bench_function(*foundation, |b| {
                b.iter(|| black_box(ask(&mut clients, &request, &mut answer)))
            });
        }
        group.finish();
    }
}

criterion_group!(benches, relays);
criterion_main!(benches);
