//! The mock provider as a client sees it: real sockets, bytes looked at one by one.

mod answers;
mod client;
mod faults;
mod life;
