//! Reload, drain and the start.
