//! What the kernel allows this process, and which of its threads go first.

#![allow(unsafe_code)] // getrlimit(2), setrlimit(2) and setpriority(2); see the SAFETY lines.

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

/// Makes this thread, and those that it starts from now on, give way to the others of the process by so many steps of
/// niceness. For side threads with milliseconds of work, which the kernel would otherwise put before a core that has just
/// woken up. Returns whether the kernel agreed; without it everything works, with longer tails.
pub fn give_way(nice: i32) -> bool {
    // SAFETY: no pointer is passed. On Linux `0` is the calling thread, not the process (setpriority(2), "C library/kernel
    // differences").
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) == 0 }
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
            assert!(super::give_way(15));
            (nice(), std::thread::spawn(nice).join().unwrap())
        });
        assert_eq!(spawned.join().unwrap(), (15, 15));
        assert_eq!(nice(), before);
    }

    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_stays() {
        let raised = super::raise_open_files();
        assert!(raised > 0);
        assert_eq!(super::raise_open_files(), raised);
    }
}
