//! What the kernel allows this process.

#![allow(unsafe_code)] // getrlimit(2) and setrlimit(2); see the SAFETY lines.

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

#[cfg(test)]
mod tests {
    #[test]
    fn the_soft_limit_is_raised_to_the_hard_one_and_stays() {
        let raised = super::raise_open_files();
        assert!(raised > 0);
        assert_eq!(super::raise_open_files(), raised);
    }
}
