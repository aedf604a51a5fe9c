//! The wall clock, in whole units since 1970 (UTC), spans of time as the original shows them, and the processor time of a
//! thread.
//!
//! The wall clock is for times that are shown, stored or sent to another program. It may jump when the machine's clock is set:
//! measure spans with `tokio::time::Instant`. A clock before 1970 reads 0.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Seconds since 1970.
#[must_use]
pub fn unix_secs() -> u64 {
    since_1970().as_secs()
}

/// Milliseconds since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    millis(since_1970())
}

/// Microseconds since 1970.
#[must_use]
pub fn unix_us() -> u64 {
    micros(since_1970())
}

/// `1h2m3s`, as Go prints a duration, in whole seconds.
#[must_use]
pub fn go_duration(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// How long this thread has been on a processor, since it began: what others do on the machine does not count.
#[must_use]
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn millis(since: Duration) -> u64 {
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn micros(since: Duration) -> u64 {
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_whole_and_saturate() {
        let since = Duration::new(1_700_000_000, 123_456_789);
        assert_eq!((millis(since), micros(since)), (1_700_000_000_123, 1_700_000_000_123_456));
        assert_eq!((millis(Duration::MAX), micros(Duration::MAX)), (u64::MAX, u64::MAX));
        assert_eq!((millis(Duration::ZERO), micros(Duration::ZERO)), (0, 0));
    }

    #[test]
    fn durations_are_those_of_go() {
        for (ms, expected) in [
            (999, "0s"),
            (59_000, "59s"),
            (60_000, "1m0s"),
            (3_600_000, "1h0m0s"),
            (90_061_000, "25h1m1s"),
        ] {
            assert_eq!(go_duration(Duration::from_millis(ms)), expected);
        }
    }

    #[test]
    fn all_read_the_same_clock() {
        let (secs, ms, us) = (unix_secs(), unix_ms(), unix_us());
        // Later than this was written, and within a minute of each other.
        assert!(secs > 1_700_000_000, "{secs}");
        assert!((ms / 1000).abs_diff(secs) < 60, "{secs} s, {ms} ms");
        assert!((us / 1_000_000).abs_diff(secs) < 60, "{secs} s, {us} us");
    }
}
