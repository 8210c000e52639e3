//! What each wire API means: one folder or file per API, sans-IO.
//!
//! Bytes go in, bytes and small facts come out; no socket, no clock, no environment. Where client and provider speak
//! the same dialect, nothing here touches the body: [`watch`] and [`inspect_answer`] look at it going by, and
//! [`edit_request`] names the few spans to patch. Where they differ, the translators walk raw tokens and copy them as they
//! stand.

pub mod answer;
pub mod anthropic_to_openai;
pub mod api;
pub mod configured;
pub mod date;
pub mod edit;
pub mod error;
pub mod head;
pub mod json;
mod model_name;
pub mod models;
pub mod openai_to_anthropic;
pub mod text;
pub mod translate;
pub mod usage;
pub mod watch;

pub use answer::{Answer, inspect_answer};
pub use api::{Api, client_dialect};
pub use configured::{Configured, can_configure, render_configured};
pub use edit::{Edits, edit_request};
pub use error::{
    ErrorKind, GatewayError, RetryHints, UpstreamError, read_error, read_stream_error, render_error,
    render_stream_error,
};
pub use head::{anthropic_version, auth_header, forward_request_header, forward_response_header};
pub use model_name::ModelName;
pub use models::{ModelEntry, parse_models, render_models};
pub use translate::{Dropped, TranslateError, TranslateFault};
pub use usage::{ServiceTier, Usage};
pub use watch::{EventKind, Finish, StreamWatch};
