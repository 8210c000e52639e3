//! The atomics that cores share, behind one name.
//!
//! Every shared cell imports its atomics from here, so that `--cfg loom` swaps in the model checker's twins
//! and the `loom_` tests explore the real code, not a copy of it. Cells start from a function, never from a
//! `const`, because loom's atomics must be created inside a model.

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
