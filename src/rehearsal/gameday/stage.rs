//! Puts a scenario on: its providers at their ports, and the way to the gateway.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::super::counts::Counts;
use super::super::mock::{Dialects, Mock, MockOptions, Pacing};
use super::run::Options;
use super::scenario::Scenario;

/// The pace of every provider, on the unscaled clock.
const FIRST_TOKEN: Duration = Duration::from_millis(100);
const TOKEN_GAP: Duration = Duration::from_millis(5);
/// Tokens of a whole answer.
pub(super) const TOKENS: usize = 20;
/// How finely providers count over time, on the unscaled clock, and at the finest.
const BUCKET: Duration = Duration::from_millis(250);
const BUCKET_LEAST: Duration = Duration::from_millis(20);
/// What a gateway may need to close what its last client left.
const CLEAN_UP: Duration = Duration::from_secs(1);
/// How long a gateway may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Starts the scenario's providers, well for now.
pub(super) fn providers(scenario: &Scenario, options: &Options) -> Result<Vec<Mock>, String> {
    let start = |n: usize| {
        let port = options.provider_ports.get(n).copied().unwrap_or(0);
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pacing = Pacing {
            first_token: FIRST_TOKEN.mul_f64(options.scale),
            token_gap: TOKEN_GAP.mul_f64(options.scale),
            jitter: 0.25,
            tokens: TOKENS,
        };
        let bucket = BUCKET.mul_f64(options.scale).max(BUCKET_LEAST);
        let seed = options.seed ^ (n as u64) << 32;
        let dialects = if scenario.providers[n].anthropic { Dialects::Anthropic } else { Dialects::OpenAi };
        Mock::start(MockOptions { listen, pacing, bucket, seed, dialects, ..MockOptions::default() })
            .map_err(|error| unlistenable(listen, &error))
    };
    (0..scenario.providers.len()).map(start).collect()
}

fn unlistenable(listen: SocketAddr, error: &io::Error) -> String {
    if error.kind() == ErrorKind::AddrInUse {
        format!(
            "a provider must listen on {listen}, which another process has; stop that one, or choose other ports \
             with --provider-port"
        )
    } else {
        format!("a provider cannot listen on {listen}: {error}")
    }
}

/// The figures once nothing is in progress any more, or when that took too long.
pub(super) fn settled(mocks: &[Mock]) -> Vec<Counts> {
    let until = Instant::now() + CLEAN_UP;
    loop {
        let counts: Vec<Counts> = mocks.iter().map(Mock::counts).collect();
        if counts.iter().all(|counts| counts.in_progress == 0) || Instant::now() > until {
            return counts;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// `http://127.0.0.1:8080/v1` to its address and path.
pub(super) fn reach(url: &str) -> Result<(SocketAddr, String), String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| {
        format!(
            "`{url}` must begin with http://, for example http://127.0.0.1:8080/v1; game days speak no TLS"
        )
    })?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let addr = host.to_socket_addrs().ok().and_then(|mut all| all.next());
    let addr = addr.ok_or_else(|| format!("`{host}` does not resolve; write an address and a port"))?;
    let path = path.trim_end_matches('/');
    let path = if path.is_empty() { "/v1".to_owned() } else { format!("/{path}") };
    Ok((addr, path))
}

/// Returns when something listens there.
pub(super) fn wait_until_it_listens(addr: SocketAddr) -> Result<(), String> {
    let until = Instant::now() + START;
    loop {
        match TcpStream::connect_timeout(&addr, Duration::from_millis(500)) {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() > until => {
                return Err(format!("nothing listens on {addr}: {error}; is the gateway up?"));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_with_and_without_a_path() {
        let expected = (SocketAddr::from(([127, 0, 0, 1], 8080)), "/v1".to_owned());
        assert_eq!(reach("http://127.0.0.1:8080"), Ok(expected.clone()));
        assert_eq!(reach("http://127.0.0.1:8080/v1/"), Ok(expected));
        assert!(reach("https://127.0.0.1").is_err_and(|error| error.contains("http://127.0.0.1:8080/v1")));
    }
}
