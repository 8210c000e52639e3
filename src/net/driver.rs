//! Which driver carries a core: io_uring where it truly works, epoll where it does not.
//!
//! Container runtimes block io_uring by default, some kernels switch it off, and a ring can fail in more ways than
//! at set-up (memory limits, `io_uring_enter` alone blocked). So the probe builds the real ring with the real flags
//! and sends a NOP through it; only then io_uring is taken. Flags are given up one by one on older kernels.
//!
//! SQPOLL is left out on purpose: on few cores the polling thread costs more than the system calls it saves.

use std::future::Future;
use std::io;

use io_uring::{Builder, IoUring, opcode};
use monoio::{FusionRuntime, RuntimeBuilder};

use crate::config::DriverChoice;

/// Submission entries of each core's ring. A full queue is flushed early, so this is a batch size, not a limit.
const ENTRIES: u32 = 1024;

/// What was found to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    /// io_uring, with the set-up flags that the kernel accepted.
    IoUring(RingFlags),
    /// epoll.
    Epoll,
}

impl Driver {
    /// The name that users give and see.
    pub fn name(self) -> &'static str {
        match self {
            Driver::IoUring(_) => "io_uring",
            Driver::Epoll => "epoll",
        }
    }
}

impl Driver {
    /// The same for a core that asks again and again without waiting: a ring that defers its work does it only for whoever
    /// waits, and one that cooperates does it at any system call.
    pub fn for_busy_polling(self) -> Driver {
        match self {
            Driver::IoUring(RingFlags::Deferred) => Driver::IoUring(RingFlags::Cooperative),
            other => other,
        }
    }
}

/// Set-up flags of the ring, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingFlags {
    /// SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1): completions are reaped when we ask, not by interrupting us.
    Deferred,
    /// COOP_TASKRUN (Linux 5.19).
    Cooperative,
    /// None (Linux 5.6).
    Plain,
}

fn ring(flags: RingFlags) -> Builder {
    let mut builder = IoUring::builder();
    match flags {
        RingFlags::Deferred => {
            builder.setup_single_issuer().setup_defer_taskrun();
        }
        RingFlags::Cooperative => {
            builder.setup_coop_taskrun();
        }
        RingFlags::Plain => {}
    }
    builder
}

/// Builds a ring as a core would and sends one NOP through it.
#[allow(unsafe_code)]
fn probe_ring(flags: RingFlags) -> io::Result<()> {
    let mut ring = ring(flags).build(ENTRIES)?;
    let nop = opcode::Nop::new().build().user_data(0x51);
    // SAFETY: a NOP refers to no memory.
    unsafe { ring.submission().push(&nop) }
        .map_err(|_| io::Error::other("the submission queue has no room"))?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(c) if c.user_data() == 0x51 && c.result() >= 0 => Ok(()),
        Some(c) => Err(io::Error::from_raw_os_error(-c.result())),
        None => Err(io::Error::other("the ring completed nothing")),
    }
}

/// The outcome of [`choose`]: the driver, and why it is not io_uring when it is not.
#[derive(Debug)]
pub struct Chosen {
    /// The driver that each core will use.
    pub driver: Driver,
    /// One sentence for the log when `auto` fell back.
    pub fallback: Option<String>,
}

/// Finds the driver to use.
///
/// # Errors
/// Only when io_uring was demanded and does not work; `auto` never fails.
pub fn choose(choice: DriverChoice) -> io::Result<Chosen> {
    if choice == DriverChoice::Epoll {
        return Ok(Chosen { driver: Driver::Epoll, fallback: None });
    }
    let mut first_error = None;
    for flags in [RingFlags::Deferred, RingFlags::Cooperative, RingFlags::Plain] {
        match probe_ring(flags) {
            Ok(()) => return Ok(Chosen { driver: Driver::IoUring(flags), fallback: None }),
            Err(e) => first_error = first_error.or(Some(e)),
        }
    }
    let error = first_error.unwrap_or_else(|| io::Error::other("no ring could be built"));
    let why = explain(&error);
    if choice == DriverChoice::IoUring {
        return Err(io::Error::new(
            error.kind(),
            format!("io_uring was demanded but does not work here: {why}"),
        ));
    }
    Ok(Chosen {
        driver: Driver::Epoll,
        fallback: Some(format!("io_uring does not work here, using epoll: {why}")),
    })
}

fn explain(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM) => {
            "a seccomp profile (containers block io_uring by default) or the sysctl kernel.io_uring_disabled forbids it"
        }
        Some(libc::ENOSYS) => "the kernel is older than 5.1 or a sandbox hides the system call",
        Some(libc::ENOMEM) => {
            "the locked-memory limit is too low; raise it with `ulimit -l` or LimitMEMLOCK="
        }
        Some(libc::EINVAL) => "the kernel is older than 5.6",
        _ => "epoll needs nothing of the kind",
    };
    format!("{error}; {hint}")
}

/// Runs `future` to its end on a fresh runtime of `driver`, on this thread.
///
/// # Errors
/// When the runtime cannot be built, for instance because the process is out of file descriptors.
pub fn block_on<F: Future>(driver: Driver, future: F) -> io::Result<F::Output> {
    match driver {
        Driver::IoUring(flags) => {
            let mut runtime = RuntimeBuilder::<monoio::IoUringDriver>::new()
                .with_entries(ENTRIES)
                .uring_builder(ring(flags))
                .enable_timer()
                .build()?;
            Ok(runtime.block_on(future))
        }
        Driver::Epoll => {
            let mut runtime = RuntimeBuilder::<monoio::LegacyDriver>::new().enable_timer().build()?;
            Ok(runtime.block_on(future))
        }
    }
}

/// Runs `future` on whatever driver works, for tests and tools.
pub fn block_on_any<F: Future>(future: F) -> F::Output {
    let mut runtime: FusionRuntime<_, _> =
        match RuntimeBuilder::<monoio::FusionDriver>::new().enable_timer().build() {
            Ok(runtime) => runtime,
            Err(e) => panic!("no driver can be built: {e}"),
        };
    runtime.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_always_finds_a_driver_and_says_why_when_it_is_not_io_uring() {
        let chosen = choose(DriverChoice::Auto).unwrap();
        assert_eq!(chosen.fallback.is_none(), matches!(chosen.driver, Driver::IoUring(_)));
    }

    #[test]
    fn epoll_is_taken_when_asked_for() {
        assert_eq!(choose(DriverChoice::Epoll).unwrap().driver, Driver::Epoll);
    }

    #[test]
    fn each_driver_runs_a_future_with_a_timer() {
        let mut drivers = vec![Driver::Epoll];
        drivers.extend(choose(DriverChoice::IoUring).ok().map(|c| c.driver));
        for driver in drivers {
            let slept = block_on(driver, async {
                monoio::time::sleep(std::time::Duration::from_millis(2)).await;
                7
            });
            assert_eq!(slept.unwrap(), 7, "{driver:?}");
        }
    }

    #[test]
    fn a_blocked_ring_is_explained_with_what_to_do() {
        let text = explain(&io::Error::from_raw_os_error(libc::EPERM));
        assert!(text.contains("seccomp") && text.contains("io_uring_disabled"), "{text}");
    }
}
