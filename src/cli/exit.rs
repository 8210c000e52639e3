//! Exit codes, which scripts rely on.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked, or was told to stop.
    Ok = 0,
    /// The configuration was refused, or the model is unknown.
    Refused = 1,
    /// The arguments were wrong.
    Usage = 2,
    /// It could not start: the address is taken, the driver is missing, the process may not open enough files.
    NotStarted = 3,
    /// A game day missed its bar.
    BarMissed = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}
