//! What the kernel allows this process, and which of its threads go first.

#![allow(unsafe_code)] // getrlimit(2), setrlimit(2), sched_setattr(2), setpriority(2); see the SAFETY lines.

/// Raises the soft limit of open files to the hard one: a gateway holds two sockets for each stream. Returns the limit
/// that holds now.
pub fn raise_open_files() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a local of the right type for the length of the call.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return 0;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, ..limit };
        // SAFETY: as above.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return raised.rlim_cur;
        }
    }
    limit.rlim_cur
}

/// Longest slice that the kernel gives an ordinary thread, nanoseconds (sched(7) from Linux 6.12).
const LONG_SLICE_NS: u64 = 100_000_000;

/// Makes this thread, and those that it starts from now on, give way to the others of the process. For side threads with
/// milliseconds of work, which the kernel would otherwise put before a core that has just woken up. With so many `steps` of
/// niceness it also has the smaller share of a processor that is never idle; with 0 its share stays what it was. Returns
/// whether the kernel agreed; without it everything works, with longer tails.
///
/// Niceness alone is not enough: what runs is left alone until its slice is over, and that is looked at once a tick, up to
/// 4 ms later. A thread that asks for a long slice loses that protection to every one that wakes with a shorter. Before
/// Linux 6.12 the slice is ignored.
pub fn give_way(steps: i32) -> bool {
    // SAFETY: no pointer is passed. On Linux `0` is the calling thread, not the process (setpriority(2), "C library/kernel
    // differences"), which there always is.
    let nice = (unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) } + steps).min(19);
    let size = size_of::<libc::sched_attr>() as u32;
    let attr = libc::sched_attr {
        size,
        sched_policy: libc::SCHED_OTHER as u32,
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: LONG_SLICE_NS,
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the pointer is to a local of the size that it states, for the length of the call. `0` is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) == 0 };
    // A sandbox may forbid the one and allow the other.
    // SAFETY: no pointer is passed; of `0` the same holds as above.
    set || unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_that_gives_way_takes_nobody_with_it_but_those_it_starts() {
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
            let after_name = stat.rsplit_once(')').unwrap().1;
            after_name.split_whitespace().nth(16).unwrap().parse::<i32>().unwrap()
        };
        let before = nice();
        let spawned = std::thread::spawn(move || {
            assert!(super::give_way(0));
            let same = nice();
            assert!(super::give_way(4));
            (same, nice(), std::thread::spawn(nice).join().unwrap())
        });
        let after = (before + 4).min(19);
        assert_eq!(spawned.join().unwrap(), (before, after, after));
        assert_eq!(nice(), before);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_stays() {
        let raised = super::raise_open_files();
        assert!(raised > 0);
        assert_eq!(super::raise_open_files(), raised);
    }
}
