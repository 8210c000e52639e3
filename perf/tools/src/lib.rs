//! What the tools of the laboratory share.
//!
//! Three programs stand on it: `load` (asks), `upstream` (answers) and `relay` (passes on). They are one thread and epoll
//! each, so that they cost a known core and nothing else, and they trust each other: nothing here is fit for a network.
//! What is measured in between must not be: its answers are parsed strictly enough to notice what is lost.

pub mod answer;
pub mod cpu;
pub mod engine;
pub mod epoll;
pub mod quantiles;
pub mod request;
pub mod stamp;
pub mod texts;

/// Nanoseconds of the monotonic clock, which all processes of a machine share.
pub fn now_ns() -> u64 {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` lives for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut spec) };
    spec.tv_sec as u64 * 1_000_000_000 + spec.tv_nsec as u64
}

/// Lets timers of this thread fire when they are due, not up to 50 microseconds later.
pub fn exact_timers() {
    // SAFETY: no pointer is involved.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

/// Allows as many open files as the system lets this process have.
pub fn many_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives for both calls.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
