//! The monotonic clock, read in one place and passed on as microseconds.
//!
//! Rooms below take `now_us` as an argument; this is where it comes from.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

fn start() -> Instant {
    *START.get_or_init(Instant::now)
}

/// Microseconds since the process first asked. Monotonic; never goes back with the wall clock.
#[inline]
pub fn now_us() -> u64 {
    // A u64 of microseconds lasts 584,000 years.
    start().elapsed().as_micros() as u64
}

/// The instant that a value of [`now_us`] stands for.
pub fn instant_of(at_us: u64) -> Instant {
    start() + Duration::from_micros(at_us)
}

/// Microseconds since the Unix epoch.
pub fn unix_us() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

/// Seconds since the Unix epoch, for headers and logs that need a wall clock.
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
