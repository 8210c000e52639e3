//! The physical floor of a hop: bytes from one connection to another and back, on one thread, with no idea what they mean.
//!
//! One upstream connection for each client connection, opened with it. Nothing is parsed, so nothing can be pooled.
//!
//!     relay 127.0.0.1:9400 127.0.0.1:9300

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};

use perf_tools::epoll::Epoll;
use perf_tools::many_files;

struct Half {
    stream: TcpStream,
    /// The other side.
    to: RawFd,
    /// What it did not take yet.
    rest: Vec<u8>,
}

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(listen), Some(upstream)) = (words.next(), words.next()) else {
        eprintln!("usage: relay LISTEN UPSTREAM");
        std::process::exit(2);
    };
    many_files();
    let listener = TcpListener::bind(&listen).expect("the address is free");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let mut epoll = Epoll::default();
    epoll.add(listener.as_raw_fd(), false);
    let mut halves: Vec<Option<Half>> = Vec::new();
    let (mut ready, mut chunk) = (Vec::new(), vec![0; 65536]);
    println!("relay on {}", listener.local_addr().expect("it is bound"));
    loop {
        epoll.wait(None, &mut ready);
        for &fd in &ready {
            if fd == listener.as_raw_fd() {
                while let Ok((client, _)) = listener.accept() {
                    let Ok(provider) = TcpStream::connect(&upstream) else { continue };
                    let (a, b) = (client.as_raw_fd(), provider.as_raw_fd());
                    for (stream, to) in [(client, b), (provider, a)] {
                        stream.set_nonblocking(true).expect("a socket can be non-blocking");
                        stream.set_nodelay(true).expect("TCP has this option");
                        let fd = stream.as_raw_fd();
                        if halves.len() <= fd as usize {
                            halves.resize_with(fd as usize + 1, || None);
                        }
                        halves[fd as usize] = Some(Half { stream, to, rest: Vec::new() });
                        epoll.add(fd, false);
                    }
                }
                continue;
            }
            if !pass(fd, &mut halves, &mut chunk, &epoll) {
                let Some(half) = halves[fd as usize].take() else { continue };
                halves[half.to as usize] = None;
            }
        }
    }
}

/// Passes on what came at `fd`, and what it could not take before; false when either side is gone.
fn pass(fd: RawFd, halves: &mut [Option<Half>], chunk: &mut [u8], epoll: &Epoll) -> bool {
    let Some(half) = halves[fd as usize].as_mut() else { return true };
    if !half.rest.is_empty() {
        match half.stream.write(&half.rest) {
            Ok(n) => drop(half.rest.drain(..n)),
            Err(e) if e.kind() == ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
        if half.rest.is_empty() {
            epoll.change(fd, false);
        }
    }
    let n = match half.stream.read(chunk) {
        Ok(0) => return false,
        Ok(n) => n,
        Err(e) if e.kind() == ErrorKind::WouldBlock => return true,
        Err(_) => return false,
    };
    let to = half.to;
    let Some(other) = halves[to as usize].as_mut() else { return false };
    let mut sent = 0;
    if other.rest.is_empty() {
        sent = match other.stream.write(&chunk[..n]) {
            Ok(sent) => sent,
            Err(e) if e.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => return false,
        };
    }
    if sent < n {
        other.rest.extend_from_slice(&chunk[sent..n]);
        epoll.change(to, true);
    }
    true
}
