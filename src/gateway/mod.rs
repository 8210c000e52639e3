//! The life of a request, the workers that carry it, start, reload and drain.
//!
//! ```text
//! serve ── running ── worker (a core) ── client (one task per connection)
//!                                           inbound    head and body of one request, bounded
//!                                             asked      what its head says
//!                                           guard      may this request be served at all
//!                                           local      /healthz, /readyz, /metrics, /v1/models: answered here
//!                                             page       the live page, its API and its events
//!                                           once       a repeated request gets the answer that was paid for
//!                                           exchange   walks the chain that policy gives:
//!                                             outbound   our own head + the client's body with spans patched
//!                                             upstream   one connection: send, response head, body
//!                                             hedge      a second call while the first is silent
//!                                             answer     a whole answer, inspected, then delivered
//!                                             stream     events: held until content, then forwarded at once
//!                                             relay      bytes of other APIs, passed on as they come
//!                                             judge      a route's checks, and what an answer cost
//!                                             configured the static answer at the end of a chain
//!                                             account    what it came to, for whoever counts
//!                                           respond    what the gateway itself has to say
//! ```
//!
//! Invariants: one task per client connection, which owns the exchange and borrows an upstream connection;
//! nothing is sent to the client before an attempt is known to be worth delivering (*commit*); after it no other
//! attempt takes over, and a stream that breaks ends with an error event and without a clean end.

mod account;
mod answer;
mod asked;
mod attempt;
mod books;
mod captured;
mod client;
mod configured;
mod connect;
mod core;
mod exchange;
mod failure;
mod fixed;
mod framing;
mod gamedays;
mod gauges;
mod greeting;
mod guard;
mod hedge;
mod inbound;
mod judge;
mod live;
mod local;
mod metrics;
mod models;
mod once;
mod outbound;
mod page;
mod relay;
mod reply;
mod respond;
mod route;
mod running;
mod serve;
mod serve_error;
mod spin;
mod state;
mod stats;
mod stream;
mod task;
mod traces;
mod translation;
mod underway;
mod upstream;
mod who;
mod wish;
mod worker;
mod written;

pub use gamedays::gateway_for;
pub use running::{Running, start};
pub use serve::{Reload, ServeOptions, serve};
pub use serve_error::ServeError;
