//! Sluice, an LLM gateway: one local endpoint in front of every model provider.
//!
//! The crate is one house; arrows between its rooms only go down this list:
//! `cli` > `gateway` > `ui` > `rehearsal` > `net` > `meter` > `policy` > `dialect` > `wire` > `config`.
//! ARCHITECTURE.md has the life of a request.

pub mod cli;
pub mod config;
pub mod dialect;
pub mod gateway;
pub mod meter;
pub mod net;
pub mod policy;
pub mod rehearsal;
pub mod ui;
pub mod wire;
