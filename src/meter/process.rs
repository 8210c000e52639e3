//! Figures of the process, read from what Linux says of it in `/proc` (proc(5)). Text in, numbers out: the files are
//! read by whoever asks.

/// What the kernel says of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Processor time used, user and system, seconds.
    pub cpu_seconds: f64,
    /// When it started, seconds since the Unix epoch.
    pub start_seconds: f64,
    /// Address space, bytes.
    pub virtual_bytes: u64,
    /// Memory in use, bytes.
    pub resident_bytes: u64,
    /// Threads.
    pub threads: u64,
    /// Descriptors it may open; 0 when unlimited or unknown.
    pub fds_max: u64,
}

/// Clock ticks a second in `/proc`, fixed by Linux for user space (USER_HZ).
const TICKS: f64 = 100.0;

/// Reads `/proc/self/stat`, `/proc/self/status`, `/proc/self/limits` and `/proc/stat`. `None` when the first is not what it
/// should be.
pub fn figures(stat: &str, status: &str, limits: &str, system: &str) -> Option<ProcessFigures> {
    // The name of the command stands in parentheses and may hold anything, so fields are counted from behind it.
    let rest = &stat[stat.rfind(')')? + 1..];
    let field = |at: usize| rest.split_ascii_whitespace().nth(at - 3)?.parse::<u64>().ok();
    let after = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    };
    let kib = |name| after(status, name).unwrap_or(0).saturating_mul(1024);
    Some(ProcessFigures {
        cpu_seconds: (field(14)? + field(15)?) as f64 / TICKS,
        start_seconds: after(system, "btime ").unwrap_or(0) as f64 + field(22)? as f64 / TICKS,
        virtual_bytes: kib("VmSize:"),
        resident_bytes: kib("VmRSS:"),
        threads: field(20)?,
        fds_max: after(limits, "Max open files").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "4242 (a b) c) S 1 4242 4242 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 1000 \
                        123456789 2048 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0";
    const STATUS: &str = "Name:\ta b) c\nVmPeak:\t  9999 kB\nVmSize:\t    2000 kB\nVmRSS:\t     300 kB\n";
    const LIMITS: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
                          Max open files            1024                 4096                 files     \n";

    #[test]
    fn the_kernels_words_become_numbers() {
        let found = figures(STAT, STATUS, LIMITS, "cpu 1 2 3\nbtime 1700000000\n");
        let expected = ProcessFigures {
            cpu_seconds: 3.0,
            start_seconds: 1_700_000_010.0,
            virtual_bytes: 2000 * 1024,
            resident_bytes: 300 * 1024,
            threads: 7,
            fds_max: 1024,
        };
        assert_eq!(found, Some(expected));
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        assert_eq!(figures("", "", "", ""), None);
        assert_eq!(figures("1 (x) S 2", "", "", ""), None);
        let without = figures(STAT, "", "", "").unwrap();
        assert_eq!((without.fds_max, without.start_seconds), (0, 10.0));
    }
}
