//! epoll with waits in nanoseconds.

use std::os::fd::RawFd;
use std::time::Duration;

/// An epoll set whose entries are known by their descriptor.
pub struct Epoll {
    fd: RawFd,
    events: Vec<libc::epoll_event>,
}

impl Default for Epoll {
    fn default() -> Epoll {
        // SAFETY: no pointer is involved.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        Epoll { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 512] }
    }
}

impl Epoll {
    /// Watches `fd` for input, and for room to write when `out`.
    pub fn add(&self, fd: RawFd, out: bool) {
        self.control(libc::EPOLL_CTL_ADD, fd, out);
    }

    /// Changes what `fd` is watched for.
    pub fn change(&self, fd: RawFd, out: bool) {
        self.control(libc::EPOLL_CTL_MOD, fd, out);
    }

    fn control(&self, what: i32, fd: RawFd, out: bool) {
        let events = libc::EPOLLIN | if out { libc::EPOLLOUT } else { 0 };
        let mut event = libc::epoll_event { events: events as u32, u64: fd as u64 };
        // SAFETY: `event` lives for the call.
        unsafe { libc::epoll_ctl(self.fd, what, fd, &mut event) };
    }

    /// Waits for events, at most so long; which descriptors have one.
    pub fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<RawFd>) {
        let spec = timeout.map(|t| libc::timespec {
            tv_sec: t.as_secs() as libc::time_t,
            tv_nsec: t.subsec_nanos().into(),
        });
        let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the pointers are valid for the call, and the length is that of the vector.
        let n = unsafe {
            let length = self.events.len() as i32;
            libc::epoll_pwait2(self.fd, self.events.as_mut_ptr(), length, spec, std::ptr::null())
        };
        ready.clear();
        let n = usize::try_from(n).unwrap_or(0);
        ready.extend(self.events[..n].iter().map(|event| event.u64 as RawFd));
    }
}
