//! Why the gateway does not serve, each in words that say what to do.

use std::net::SocketAddr;
use std::time::Duration;

/// How long a reload waits for the cores to take the new plan over; they do between two of their turns, at once.
pub(super) const ADOPTION: Duration = Duration::from_secs(5);

/// Why the gateway does not serve.
#[derive(Debug)]
pub enum ServeError {
    /// The address cannot be bound.
    Bind(SocketAddr, std::io::Error),
    /// The demanded driver does not work here.
    Driver(std::io::Error),
    /// The plan needs something that is not there, such as a CA file.
    Plan(String),
    /// A worker could not be started, or died.
    Worker(std::io::Error),
    /// The built-in mock provider could not be started.
    Mock(std::io::Error),
    /// A plan with this number was handed out, and not every worker has taken it over in time.
    Slow(u64),
}

impl std::fmt::Display for ServeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ServeError::Bind(addr, e) if e.kind() == std::io::ErrorKind::AddrInUse => write!(
                f,
                "{addr} is in use by another process; stop it or choose another address with --listen {}:PORT",
                addr.ip()
            ),
            ServeError::Bind(addr, e) => {
                let help = match e.kind() {
                    std::io::ErrorKind::AddrNotAvailable => {
                        "; this machine has no such address: use 127.0.0.1 for this machine alone, or 0.0.0.0 for all"
                    }
                    std::io::ErrorKind::PermissionDenied => {
                        "; use a port from 1024 on, or run with the right to bind it"
                    }
                    _ => "",
                };
                write!(f, "cannot listen on {addr}: {e}{help}")
            }
            ServeError::Driver(e) => write!(f, "{e}; use --driver auto or --driver epoll"),
            ServeError::Plan(why) => f.write_str(why),
            ServeError::Worker(e) => write!(f, "a worker cannot run: {e}"),
            ServeError::Mock(e) => write!(f, "the built-in mock provider cannot start: {e}"),
            ServeError::Slow(plan) => write!(
                f,
                "plan {plan} does not serve on every worker after {} s: the machine is overloaded; each takes it over as \
                 soon as it can",
                ADOPTION.as_secs()
            ),
        }
    }
}

impl std::error::Error for ServeError {}
