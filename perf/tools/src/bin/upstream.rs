//! A provider that costs almost nothing: fixed answers, as fast as one thread and epoll can.
//!
//! Why: the mock of the gateway plays faults and paces tokens; beside a fast proxy it would be what is measured.
//!
//! - a POST whose path ends with `/messages`: an Anthropic message of 2 KiB, or its events;
//! - any other POST: a chat completion of 2 KiB, or, with `"stream":true`, its events: 200, one write each, every 2 ms, or
//!   as the prompt says (see `request`). Each event carries its number and the moment it was written, so that a reader can
//!   tell how late it is and whether one is missing;
//! - `GET /stats`: `requests events`, counted since the start.
//!
//! A reader that does not read gets everything in the end: what a socket does not take is kept. It trusts its clients:
//! heads are searched, not parsed. Bodies need a `Content-Length`.
//!
//!     upstream 127.0.0.1:9300 [CERTIFICATE.pem KEY.pem]

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use perf_tools::epoll::Epoll;
use perf_tools::request::{Asked, understand};
use perf_tools::texts::Texts;
use perf_tools::{exact_timers, many_files, now_ns};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

struct Conn {
    stream: TcpStream,
    tls: Option<Box<ServerConnection>>,
    input: Vec<u8>,
    /// What the socket did not take yet; TLS keeps it by itself.
    unsent: Vec<u8>,
    /// Whether room to write is waited for.
    waits: bool,
    /// The stream at hand: events still to be sent, and already; how far apart; when the next is due.
    left: u32,
    sent: u32,
    gap_ns: u64,
    due_ns: u64,
    anthropic: bool,
}

impl Conn {
    fn read(&mut self, chunk: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.stream.read(chunk) };
        loop {
            match tls.reader().read(chunk) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            if tls.read_tls(&mut self.stream)? == 0 {
                return Ok(0);
            }
            tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            return tls.writer().write_all(bytes);
        }
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        match self.stream.write(bytes) {
            Ok(n) => self.unsent.extend_from_slice(&bytes[n..]),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.unsent.extend_from_slice(bytes),
            Err(e) => return Err(e),
        }
        Ok(())
    }

    /// Sends what is left, and says when there is room to wait for.
    fn flush(&mut self, epoll: &Epoll) -> io::Result<()> {
        let blocked = |e: &io::Error| e.kind() == io::ErrorKind::WouldBlock;
        let mut waits = false;
        if let Some(tls) = &mut self.tls {
            while tls.wants_write() && !waits {
                match tls.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(e) if blocked(&e) => waits = true,
                    Err(e) => return Err(e),
                }
            }
        }
        while !self.unsent.is_empty() && !waits {
            match self.stream.write(&self.unsent) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(e) if blocked(&e) => waits = true,
                Err(e) => return Err(e),
            }
        }
        if waits != self.waits {
            epoll.change(self.stream.as_raw_fd(), waits);
            self.waits = waits;
        }
        Ok(())
    }
}

struct Provider {
    texts: Texts,
    epoll: Epoll,
    tls: Option<Arc<ServerConfig>>,
    conns: Vec<Option<Conn>>,
    /// Streams by when their next event is due, nanoseconds.
    due: BTreeSet<(u64, RawFd)>,
    requests: u64,
    events: u64,
}

impl Provider {
    fn accept(&mut self, listener: &TcpListener) {
        while let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(true).expect("a socket can be non-blocking");
            stream.set_nodelay(true).expect("TCP has this option");
            let fd = stream.as_raw_fd();
            self.epoll.add(fd, false);
            if self.conns.len() <= fd as usize {
                self.conns.resize_with(fd as usize + 1, || None);
            }
            let tls = self.tls.as_ref().map(|config| {
                let mut session = ServerConnection::new(config.clone()).expect("the config is whole");
                session.set_buffer_limit(None);
                Box::new(session)
            });
            self.conns[fd as usize] = Some(Conn {
                stream,
                tls,
                input: Vec::with_capacity(4096),
                unsent: Vec::new(),
                waits: false,
                left: 0,
                sent: 0,
                gap_ns: 0,
                due_ns: 0,
                anthropic: false,
            });
        }
    }

    fn ready(&mut self, fd: RawFd, chunk: &mut [u8]) {
        if self.serve(fd, chunk).is_err()
            && let Some(conn) = self.conns[fd as usize].take()
        {
            self.due.remove(&(conn.due_ns, fd));
        }
    }

    fn serve(&mut self, fd: RawFd, chunk: &mut [u8]) -> io::Result<()> {
        let Some(conn) = self.conns[fd as usize].as_mut() else { return Ok(()) };
        loop {
            match conn.read(chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    conn.input.extend_from_slice(&chunk[..n]);
                    // A short read emptied the socket; TLS may have decrypted more than it gave.
                    if n < chunk.len() && conn.tls.is_none() {
                        break;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        while let Some((length, asked)) = understand(&conn.input) {
            conn.input.drain(..length);
            self.requests += u64::from(asked != Asked::Stats);
            match asked {
                Asked::Stats => {
                    let body = format!("{} {}\n", self.requests, self.events);
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    conn.send((head + &body).as_bytes())?;
                }
                Asked::Whole { anthropic } => {
                    conn.send(if anthropic { &self.texts.message } else { &self.texts.chat })?;
                }
                Asked::Stream { anthropic, events, gap_ns } => {
                    (conn.left, conn.sent, conn.gap_ns, conn.anthropic) = (events, 0, gap_ns, anthropic);
                    conn.due_ns = now_ns() + gap_ns;
                    self.due.insert((conn.due_ns, fd));
                    let texts = &self.texts;
                    conn.send(if anthropic {
                        &texts.message_stream.start
                    } else {
                        &texts.chat_stream.start
                    })?;
                }
            }
        }
        conn.flush(&self.epoll)
    }

    /// Sends the events that are due.
    fn send_due(&mut self) {
        let until = now_ns();
        while let Some(&(at, fd)) = self.due.first().filter(|(at, _)| *at <= until) {
            self.due.pop_first();
            let Some(conn) = self.conns[fd as usize].as_mut() else { continue };
            let texts =
                if conn.anthropic { &mut self.texts.message_stream } else { &mut self.texts.chat_stream };
            let now = now_ns();
            let mut sent = Ok(());
            if conn.left == 0 {
                sent = conn.send(&texts.end);
            } else {
                // Back to back is all of them at once, one write each.
                let batch = if conn.gap_ns == 0 { conn.left } else { 1 };
                for _ in 0..batch {
                    conn.left -= 1;
                    conn.sent += 1;
                    sent = sent.and_then(|()| conn.send(texts.stamped(now_ns(), conn.sent)));
                    self.events += 1;
                }
                // A provider that fell behind does not catch up in a burst.
                conn.due_ns = (at + conn.gap_ns).max(now.saturating_sub(conn.gap_ns));
                self.due.insert((conn.due_ns, fd));
            }
            if sent.and_then(|()| conn.flush(&self.epoll)).is_err() {
                self.due.remove(&(conn.due_ns, fd));
                self.conns[fd as usize] = None;
            }
        }
    }
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let addr = words.first().map_or("127.0.0.1:9300", String::as_str);
    let tls = match &words[..] {
        [_, certificate, key] => {
            let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(key).expect("a key");
            let config =
                ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key);
            Some(Arc::new(config.expect("the key belongs to the certificate")))
        }
        _ => None,
    };
    many_files();
    exact_timers();
    let listener = TcpListener::bind(addr).expect("the address is free");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut provider = Provider {
        texts: Texts::default(),
        epoll: Epoll::default(),
        tls,
        conns: Vec::new(),
        due: BTreeSet::new(),
        requests: 0,
        events: 0,
    };
    provider.epoll.add(listener.as_raw_fd(), false);
    println!("upstream on {}", listener.local_addr().expect("it is bound"));
    let (mut ready, mut chunk) = (Vec::new(), vec![0; 65536]);
    loop {
        let timeout = provider.due.first().map(|(at, _)| Duration::from_nanos(at.saturating_sub(now_ns())));
        provider.epoll.wait(timeout, &mut ready);
        for &fd in &ready {
            if fd == listener.as_raw_fd() {
                provider.accept(&listener);
            } else {
                provider.ready(fd, &mut chunk);
            }
        }
        provider.send_due();
    }
}
