//! TLS towards providers: rustls sessions fed from and drained into our own buffers.
//!
//! The session is sans-IO: [`super::Conn`] moves the bytes. Certificates are checked against the Mozilla roots that
//! are compiled in, plus the CA files that the configuration names; there is no switch to skip the check.
//! Sessions resume (tickets are kept per configuration); 0-RTT is off, since a request that is replayed is paid twice.
//!
//! Limits: TLS 1.2 and 1.3; ALPN offers `http/1.1` only.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::{Buf, Conn, buf};

/// Why a TLS configuration cannot be built.
#[derive(Debug)]
pub struct CaError {
    /// The file that is at fault.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl std::fmt::Display for CaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CA file {}: {}; it must hold PEM certificates", self.file.display(), self.problem)
    }
}

impl std::error::Error for CaError {}

/// The client configuration shared by all cores: Mozilla's roots and the extra CA files.
///
/// # Errors
/// When a CA file cannot be read or holds no certificate.
pub fn client_config(extra_ca: &[PathBuf]) -> Result<Arc<ClientConfig>, CaError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    for file in extra_ca {
        let fail = |problem: String| CaError { file: file.clone(), problem };
        let certificates = CertificateDer::pem_file_iter(file).map_err(|e| fail(e.to_string()))?;
        let mut added = 0;
        for certificate in certificates {
            let certificate = certificate.map_err(|e| fail(e.to_string()))?;
            roots.add(certificate).map_err(|e| fail(e.to_string()))?;
            added += 1;
        }
        if added == 0 {
            return Err(fail("no certificate in it".to_owned()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| CaError { file: PathBuf::new(), problem: e.to_string() })?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// One TLS session, without its transport.
pub struct TlsSession {
    session: ClientConnection,
    closed: bool,
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl TlsSession {
    /// A session towards `host`.
    ///
    /// # Errors
    /// When the host is neither a DNS name nor an IP address.
    pub fn new(config: &Arc<ClientConfig>, host: &str) -> io::Result<TlsSession> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("`{host}` is no name that TLS can check"))
        })?;
        let mut session = ClientConnection::new(config.clone(), name).map_err(invalid)?;
        // The caller encrypts in bounded steps; rustls's own limit would turn a step into a short write.
        session.set_buffer_limit(None);
        Ok(TlsSession { session, closed: false })
    }

    /// Takes in bytes from the transport.
    pub(super) fn feed(&mut self, mut cipher: &[u8]) -> io::Result<()> {
        while !cipher.is_empty() {
            self.session.read_tls(&mut cipher)?;
            let state = self.session.process_new_packets().map_err(invalid)?;
            self.closed |= state.peer_has_closed();
        }
        Ok(())
    }

    /// Moves decrypted bytes into the room of `target`; 0 when there are none.
    pub(super) fn take_plain(&mut self, target: &mut Buf) -> io::Result<usize> {
        let room = target.room();
        let vec = target.as_vec();
        let before = vec.len();
        vec.resize(before + room, 0);
        let mut filled = before;
        let result = loop {
            if filled == vec.len() {
                break Ok(());
            }
            match self.session.reader().read(&mut vec[filled..]) {
                Ok(0) => {
                    self.closed = true;
                    break Ok(());
                }
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break Ok(()),
                Err(e) => break Err(e),
            }
        };
        vec.truncate(filled);
        result.map(|()| filled - before)
    }

    /// Whether the peer ended the session properly.
    pub(super) fn peer_closed(&self) -> bool {
        self.closed
    }

    /// Encrypts bytes; they wait until [`TlsSession::take_cipher`].
    pub(super) fn encrypt(&mut self, plain: &[u8]) -> io::Result<()> {
        self.session.writer().write_all(plain)
    }

    /// What is to be sent now.
    pub(super) fn take_cipher(&mut self) -> Buf {
        let mut out = Buf::take(buf::STREAM);
        while self.session.wants_write() {
            // Writing into memory cannot fail.
            if self.session.write_tls(out.as_vec()).is_err() {
                break;
            }
        }
        out
    }

    fn handshaking(&self) -> bool {
        self.session.is_handshaking()
    }
}

/// Puts TLS on a fresh connection and completes the handshake. No byte of a request is sent before it is verified.
///
/// # Errors
/// Certificate and protocol errors as `InvalidData` with rustls's own words; the transport's errors as they are.
pub async fn handshake(mut conn: Conn, config: &Arc<ClientConfig>, host: &str) -> io::Result<Conn> {
    conn.secure(TlsSession::new(config, host)?);
    conn.flush_tls().await?;
    while conn.session().is_some_and(|s| s.handshaking()) {
        conn.arm_cipher(buf::STREAM);
        let (result, cipher) = std::future::poll_fn(|cx| conn.poll_cipher(cx)).await;
        if result? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed during the TLS handshake",
            ));
        }
        let fed = conn.session().map_or(Ok(()), |s| s.feed(cipher.filled()));
        // An alert that says why we refuse goes out before the error is returned.
        let flushed = conn.flush_tls().await;
        fed?;
        flushed?;
    }
    Ok(conn)
}
