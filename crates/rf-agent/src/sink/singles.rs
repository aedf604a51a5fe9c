//! What the sinks of single events share: how many are under way, and for how long one of them is tried.

use std::time::Duration;

use rf_core::config::Interval;

use super::{Shape, Writes};

/// `concurrency` where the file says nothing: in order.
pub(super) fn one() -> usize {
    1
}

/// `timeout` where the file says nothing.
pub(super) fn default_timeout() -> Interval {
    Interval::from_secs(30)
}

/// `maxAttempts` where the file says nothing.
pub(super) fn default_max_attempts() -> u32 {
    20
}

/// `maxAge` where the file says nothing.
pub(super) fn default_max_age() -> Interval {
    Interval::from_secs(24 * 3600)
}

/// So many single events at a time, each until it has been tried `max_attempts` times or was queued `max_age` ago; zero:
/// for as long as it takes.
pub(super) fn shape(concurrency: usize, max_attempts: u32, max_age: Interval) -> Shape {
    Shape {
        max_attempts: (max_attempts > 0).then_some(max_attempts),
        max_age: limit(max_age),
        ..Shape::of(Writes::Singles { concurrency })
    }
}

/// A limit of time, unless it is zero.
pub(super) fn limit(time: Interval) -> Option<Duration> {
    Some(Duration::from(time)).filter(|time| !time.is_zero())
}
