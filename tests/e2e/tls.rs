//! Providers behind TLS: used when their certificate is right, and told nothing when it is not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use sluice::config::DriverChoice;
use sluice::gateway::Running;
use sluice::rehearsal::{Mock, MockOptions, Program};

use crate::support::*;

/// A certificate authority whose certificate lies in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
    _dir: tempfile::TempDir,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        std::fs::write(&file, issuer.pem()).unwrap();
        Authority { issuer, file, _dir: dir }
    }

    fn server(&self, names: &[&str], expired: bool) -> Arc<rustls::ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

fn secure(tls: Arc<rustls::ServerConfig>, program: &str) -> Mock {
    let program = Program::parse(program).unwrap();
    Mock::start(MockOptions { program, tls: Some(tls), capture: true, ..MockOptions::default() }).unwrap()
}

/// `openai` at `https://HOST:PORT`, and a plain backup.
fn behind(
    port: u16,
    host: &str,
    ca: Option<&Authority>,
    backup: SocketAddr,
    driver: DriverChoice,
) -> Running {
    let ca = ca.map_or(String::new(), |ca| format!("\n    extra_ca_files: [{}]", ca.file.display()));
    let text = format!(
        "providers:\n  openai:\n    keys: [sk-first]\n    base_url: https://{host}:{port}{ca}\n  backup:\n    base_url: http://{backup}\nfallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [backup/gpt-4o-mini]\n"
    );
    gateway(plan(&text, &[], driver, &[]))
}

#[test]
fn a_provider_with_a_good_certificate_is_used_and_its_connection_kept() {
    each_driver(|driver| {
        let ca = Authority::new();
        let mock = secure(ca.server(&["localhost", "127.0.0.1"], false), "ok");
        let backup = provider("ok");
        for host in ["localhost", "127.0.0.1"] {
            let gateway = behind(mock.addr().port(), host, Some(&ca), backup.addr(), driver);
            let before = mock.counts().connections;
            let mut client = Client::to(gateway.addr());
            for _ in 0..3 {
                for body in [CHAT, CHAT_STREAM] {
                    let got = client.post("/v1/chat/completions", body);
                    assert_eq!(got.header("x-sluice-provider"), Some("openai"), "{}", got.text());
                    assert!(got.whole);
                }
            }
            // Bodies of many records both ways, and back.
            let text = "日本 ".repeat(300_000);
            let long = CHAT.replace("Say hello", &text);
            let got = client.post("/v1/chat/completions", &long);
            assert_eq!(got.header("x-sluice-provider"), Some("openai"), "{}", got.text());
            assert_eq!(mock.requests().last().unwrap().body_len, long.len() - "openai/".len());
            assert_eq!(mock.counts().connections - before, 1, "{host}");
        }
        assert_eq!(backup.counts().requests, 0);
    });
}

#[test]
fn a_stream_over_tls_that_is_cut_is_visibly_cut() {
    each_driver(|driver| {
        let ca = Authority::new();
        for fault in ["cut:after=3", "reset:after=3", "no-length; cut:after=3"] {
            let mock = secure(ca.server(&["localhost"], false), fault);
            let backup = provider("ok");
            let gateway = behind(mock.addr().port(), "localhost", Some(&ca), backup.addr(), driver);
            let mut client = Client::to(gateway.addr());
            let got = client.post("/v1/chat/completions", CHAT_STREAM);
            assert_eq!((got.status, got.whole), (200, false), "{fault}: {}{}", got.head, got.text());
            assert!(got.text().contains("upstream_truncated"), "{fault}: {}", got.text());
            assert!(!got.text().contains("[DONE]"));
        }
    });
}

#[test]
fn a_provider_whose_certificate_is_wrong_gets_no_request_and_no_key() {
    each_driver(|driver| {
        let (ca, other) = (Authority::new(), Authority::new());
        for (what, tls) in [
            ("expired", ca.server(&["localhost"], true)),
            ("wrong host", ca.server(&["example.com"], false)),
            ("unknown issuer", other.server(&["localhost"], false)),
        ] {
            let (mock, backup) = (secure(tls, "ok"), provider("ok"));
            let gateway = behind(mock.addr().port(), "localhost", Some(&ca), backup.addr(), driver);
            let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
            assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{what}: {}", got.text());
            let attempts = got.header("x-sluice-attempts").unwrap();
            assert!(attempts.starts_with("openai tls"), "{what}: {attempts}");
            assert_eq!((mock.counts().requests, mock.counts().malformed), (0, 0), "{what}");
        }
        // Without the extra file even the good one is unknown.
        let (mock, backup) = (secure(ca.server(&["localhost"], false), "ok"), provider("ok"));
        let gateway = behind(mock.addr().port(), "localhost", None, backup.addr(), driver);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{}", got.text());
        assert_eq!(mock.counts().requests, 0);
    });
}

/// Accepts, says `bytes` at once and keeps all that is sent to it.
fn talker(bytes: &'static [u8]) -> (u16, Arc<Mutex<Vec<u8>>>, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (heard, count) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let (ear, counter) = (heard.clone(), count.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten().take(8) {
            counter.fetch_add(1, Ordering::AcqRel);
            let mut stream = stream;
            let _ = stream.write_all(bytes);
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            let mut chunk = [0; 4096];
            while let Ok(n) = stream.read(&mut chunk) {
                if n == 0 {
                    break;
                }
                ear.lock().unwrap().extend_from_slice(&chunk[..n]);
            }
        }
    });
    (port, heard, count)
}

#[test]
fn an_answer_in_plain_text_on_a_tls_port_is_no_answer() {
    each_driver(|driver| {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let (port, heard, count) = talker(answer);
        let backup = provider("ok");
        let gateway = behind(port, "localhost", None, backup.addr(), driver);
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{}", got.text());
        assert_eq!(count.load(Ordering::Acquire), 1);
        let heard = String::from_utf8_lossy(&heard.lock().unwrap()).into_owned();
        assert!(!heard.contains("sk-first") && !heard.contains("Bearer") && !heard.contains("Say hello"));
    });
}

#[test]
fn a_handshake_that_hangs_costs_the_connect_timeout() {
    each_driver(|driver| {
        let (port, _, _) = talker(b"");
        let backup = provider("ok");
        let mut text = String::new();
        text.push_str(&format!("timeouts: {{connect: 200ms}}\nproviders:\n  openai:\n    keys: [sk-first]\n    base_url: https://localhost:{port}\n"));
        text.push_str(&format!("  backup:\n    base_url: http://{}\n", backup.addr()));
        text.push_str("fallbacks:\n  - model: openai/gpt-4o-mini\n    targets: [backup/gpt-4o-mini]\n");
        let gateway = gateway(plan(&text, &[], driver, &[]));
        let begun = std::time::Instant::now();
        let got = Client::to(gateway.addr()).post("/v1/chat/completions", CHAT);
        assert_eq!(got.header("x-sluice-provider"), Some("backup"), "{}", got.text());
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(200) && took < Duration::from_millis(700), "{took:?}");
    });
}
