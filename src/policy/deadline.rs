//! Not starting what cannot finish.
//!
//! Prevents: paying for an answer that nobody waits for any more. With 2 s left and a model that needs 3 s to its
//! first token in half of all cases, a call is likelier to be billed and thrown away than to help; a faster target, or
//! an honest error now, is worth more.
//!
//! Rule: no attempt starts with less time left than the target's median first-token time (streams) or answer time
//! (whole answers), as soon as that median is known. And an attempt that the caller's deadline, or the caller's
//! leaving, cut short still counts against its target when it had taken far longer than usual: otherwise a
//! hanging provider whose callers all give up early would look healthy for ever.
//!
//! Reference: Google SRE, Addressing Cascading Failures (deadline propagation); gRPC deadlines.

/// An attempt cut short says something about its target after this many times the median.
const OVERDUE_TIMES: u64 = 4;
/// And not before this, microseconds: who hangs up within a second did not wait for a slow provider, however fast that
/// usually is.
const OVERDUE_MIN_US: u64 = 1_000_000;
/// The same, while no median is known. 10 s: slow for any model that streams.
const OVERDUE_UNKNOWN_US: u64 = 10_000_000;

/// True when there is enough time to start.
pub fn can_start(now_us: u64, deadline_us: Option<u64>, median_us: Option<u64>) -> bool {
    match deadline_us {
        None => true,
        Some(deadline) => {
            let left_us = deadline.saturating_sub(now_us);
            left_us > 0 && left_us >= median_us.unwrap_or(0)
        }
    }
}

/// True when a call without content so far has taken so long that its target is to blame.
pub fn is_overdue(elapsed_us: u64, median_us: Option<u64>) -> bool {
    elapsed_us
        >= median_us.map_or(OVERDUE_UNKNOWN_US, |m| m.saturating_mul(OVERDUE_TIMES).max(OVERDUE_MIN_US))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_call_starts_with_exactly_its_median_left_and_not_with_less() {
        assert!(can_start(100, Some(300), Some(200)));
        assert!(!can_start(101, Some(300), Some(200)));
        assert!(can_start(299, Some(300), None));
        assert!(!can_start(300, Some(300), None));
        assert!(can_start(u64::MAX, None, Some(1)));
    }

    #[test]
    fn a_call_is_overdue_after_four_medians_or_ten_seconds() {
        let median = Some(1_000_000);
        assert!(is_overdue(4_000_000, median) && !is_overdue(3_999_999, median));
        assert!(is_overdue(1_000_000, Some(100)) && !is_overdue(999_999, Some(100)));
        assert!(is_overdue(10_000_000, None) && !is_overdue(9_999_999, None));
    }

    proptest! {
        #[test]
        fn more_time_never_forbids_a_start(now in 0u64..1000, left in 0u64..1000, more in 0u64..1000, median in prop::option::of(0u64..1000)) {
            let early = can_start(now, Some(now + left), median);
            prop_assert!(!early || can_start(now, Some(now + left + more), median));
        }
    }
}
