//! Uses CPU: counted in CPU time of this thread, not in time on the wall. On a machine with more work than
//! cores it takes as much longer as it would for any other program, which is what a load test wants to see.

use std::{hint::black_box, time::Duration};

use rustix::time::{ClockId, clock_gettime};

use super::cancel::{Cancel, Cancelled};

/// Rounds between two looks at the clock and the cancellation: some tens of microseconds.
const ROUNDS: u32 = 1 << 14;

/// Keeps this thread busy until it has used `cpu` more of CPU time.
pub(super) fn burn(cpu: Duration, cancel: &Cancel) -> Result<(), Cancelled> {
    let until = thread_cpu_time() + cpu;
    let mut state: u64 = 1;
    while thread_cpu_time() < until {
        for _ in 0..ROUNDS {
            state = black_box(state.wrapping_mul(0x5851_f42d_4c95_7f2d).rotate_left(17));
        }
        cancel.check()?;
    }
    Ok(())
}

/// CPU time this thread has used so far.
pub(super) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("CPU time is not negative");
    let nanoseconds = u32::try_from(time.tv_nsec).expect("less than a second");
    Duration::new(seconds, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uses_what_was_asked_for() {
        let before = thread_cpu_time();
        burn(Duration::from_millis(20), &Cancel::default()).unwrap();
        let used = thread_cpu_time().checked_sub(before).unwrap();
        assert!(used >= Duration::from_millis(20), "{used:?}");
    }
}
