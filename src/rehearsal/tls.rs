//! A connection's transport: TCP, with or without TLS above it.
//!
//! Invariant: `read` and `write` behave like a non-blocking socket's; `WouldBlock` means that readiness will be told.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection};

pub(super) struct Transport {
    pub(super) socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
}

impl Transport {
    pub(super) fn new(socket: TcpStream, config: Option<&Arc<ServerConfig>>) -> io::Result<Transport> {
        let tls = match config {
            Some(config) => {
                let session = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
                Some(Box::new(session))
            }
            None => None,
        };
        Ok(Transport { socket, tls })
    }

    /// Bytes of the application; 0 is the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.read(buffer) };
        loop {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            if tls.read_tls(&mut self.socket)? == 0 {
                return Ok(0);
            }
            let processed = tls.process_new_packets();
            while tls.wants_write() {
                match tls.write_tls(&mut self.socket) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            processed.map_err(io::Error::other)?;
        }
    }

    /// Takes some of the bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.socket.write(bytes) };
        if tls.is_handshaking() {
            return Err(ErrorKind::WouldBlock.into());
        }
        while tls.wants_write() {
            tls.write_tls(&mut self.socket)?;
        }
        let taken = tls.writer().write(bytes)?;
        while tls.wants_write() {
            match tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    }

    /// Whether encrypted bytes still wait for the socket.
    pub(super) fn flushed(&mut self) -> bool {
        let Some(tls) = &mut self.tls else { return true };
        while tls.wants_write() {
            if tls.write_tls(&mut self.socket).is_err() {
                return false;
            }
        }
        true
    }

    /// FIN. A polite one says so in TLS first; an impolite one is how a cut looks.
    pub(super) fn finish(&mut self, polite: bool) {
        if let Some(tls) = self.tls.as_mut().filter(|_| polite) {
            tls.send_close_notify();
            self.flushed();
        }
        // The peer may be gone already; then there is nothing to tell it.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// Makes the coming close an RST.
    pub(super) fn arm_reset(&self) {
        let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
    }
}
