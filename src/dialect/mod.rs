//! What each wire API means: one folder or file per API, sans-IO.
//!
//! Bytes go in, bytes and small facts come out; no socket, no clock, no environment. Where client and provider speak
//! the same dialect, nothing here touches the body: [`watch`] and [`inspect_answer`] look at it going by, and
//! `edit` names the few spans to patch. Where they differ, the translators walk raw tokens and copy them as they
//! stand.

pub mod answer;
pub mod api;
pub mod event;
pub mod json;
pub mod usage;
pub mod watch;

pub use answer::{Answer, inspect_answer};
pub use api::{Api, client_dialect};
pub use usage::Usage;
pub use watch::{EventKind, Finish, StreamWatch};
