//! Scripted providers that stand in for real ones, well behaved or not.
//!
//! What: [`Mock`] answers the OpenAI and Anthropic dialects over real sockets, at a realistic pace, and misbehaves
//! as a [`Program`] tells it to. The game days drive it.
//!
//! Why: a gateway is judged by what it does when a provider is slow, wrong or gone. Nobody can ask a real provider to
//! be down for eight minutes, so users, tests and game days need one that will, and that counts what it was asked.
//!
//! Invariants:
//! - It is the other side of the test: it parses and writes HTTP by itself and uses none of the gateway's own rooms
//!   (`wire`, `dialect`, `net`), so that one bug cannot hide on both sides.
//! - Answers depend on the seed and the request alone; which request meets a fault depends on the seed and the order
//!   of arrival. A run can be repeated.
//! - One thread holds every connection. Waiting costs no thread and no wake-up.
//!
//! Limits: bodies of 32 MiB, heads of 64 KiB, 256 KiB of pipelined bytes behind an answer in progress.
//!
//! Left out: HTTP/2, WebSockets, and any wish to be clever: the words of an answer mean nothing.

pub mod gameday;

mod answer;
mod bytes;
mod conn;
mod counts;
mod mock;
mod program;
mod provider;
mod request;
mod reshape;
mod script;
mod server;
mod tls;

pub use counts::{Bucket, Cancelled, Counts, KeyCounts, Seen};
pub use mock::{Dialects, Mock, MockOptions, Pacing};
pub use program::{Fault, Program, ProgramError, list_faults};
