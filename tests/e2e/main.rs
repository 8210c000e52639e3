//! End to end over real sockets: a gateway in this process between raw clients and scripted providers.
//!
//! Every test runs once per driver ([`support::each_driver`]); a machine without io_uring says that it skips it.

mod cancel;
mod cuts;
mod fallback;
mod framing;
mod paths;
mod process;
mod raw;
mod streams;
mod support;
mod translated;
