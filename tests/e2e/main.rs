//! End to end over real sockets: a gateway in this process between raw clients and scripted providers.
//!
//! Every test runs once per driver ([`support::each_driver`]); a machine without io_uring says that it skips it.

// What a test unwraps, it asserts; what it prints are figures.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod agreement;
mod answers;
mod binary;
mod books;
mod cancel;
mod collector;
mod corpus;
mod cuts;
mod fallback;
mod framing;
mod limits;
mod metrics;
mod once;
mod page;
mod paths;
mod policies;
mod process;
mod prometheus;
mod raw;
mod reuse;
mod spin;
mod sse;
mod streams;
mod support;
mod tls;
mod traces;
mod translated;
