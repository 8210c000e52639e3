//! The rooms whose code meets bytes from strangers, built alone: no target calls the rest of the gateway, which takes ten
//! minutes to build with libFuzzer's instruments.

#![allow(missing_docs, dead_code)] // what they document and who calls them is the gateway's own matter

/// What these rooms know of the lowest one.
pub mod config {
    pub use crate::family::Dialect;
}
#[path = "../src/dialect/mod.rs"]
pub mod dialect;
#[path = "../src/config/dialect.rs"]
mod family;
#[path = "../src/wire/mod.rs"]
pub mod wire;
