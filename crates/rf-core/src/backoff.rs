//! How long to wait before the next try.
//!
//! Promises: delays spread out, so that many agents which lost one relay do not come back in step;
//! no delay is above the given maximum; no number of failures overflows.

use std::time::Duration;

/// The shortest first step. A zero out of a configuration file must not become a busy loop.
const MIN_STEP: Duration = Duration::from_millis(1);

/// Capped exponential backoff with *full jitter*, as the AWS architecture blog calls it
/// ("Exponential Backoff And Jitter"): each delay is drawn uniformly from zero to the current step,
/// and the step doubles up to the maximum.
///
/// Full jitter is preferred to a jitter around the step because it empties a thundering herd with
/// the fewest calls; its price is that a single delay may be short.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    step: Duration,
}

impl Backoff {
    /// Starts at `initial` and never goes above `max`; below a millisecond both count as a
    /// millisecond.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        let max = max.max(MIN_STEP);
        let initial = initial.clamp(MIN_STEP, max);
        Self { initial, max, step: initial }
    }

    /// How long to wait before the next try; each call counts as one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).min(self.max);
        let nanos = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(fastrand::u64(0..=nanos))
    }

    /// A try succeeded: the next failure starts from the first step again.
    pub fn reset(&mut self) {
        self.step = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: usize = 4_000;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// The smallest and largest delay drawn after each number of failures.
    fn spread(initial: Duration, max: Duration, failures: usize) -> Vec<(Duration, Duration)> {
        fastrand::seed(7);
        let mut spread = vec![(Duration::MAX, Duration::ZERO); failures];
        for _ in 0..DRAWS {
            let mut backoff = Backoff::new(initial, max);
            for (low, high) in &mut spread {
                let delay = backoff.next_delay();
                *low = delay.min(*low);
                *high = delay.max(*high);
            }
        }
        spread
    }

    /// Delays reach from (nearly) zero to (nearly) the expected step, and never beyond it.
    fn check(initial: Duration, max: Duration, expected_steps: &[Duration]) {
        let spread = spread(initial, max, expected_steps.len());
        for ((low, high), step) in spread.into_iter().zip(expected_steps) {
            assert!(high <= *step, "{high:?} is above {step:?}");
            assert!(high > step.mul_f64(0.99), "{high:?} is far below {step:?}");
            assert!(low < step.mul_f64(0.01), "{low:?} is far from zero, step {step:?}");
        }
    }

    #[test]
    fn steps_double_up_to_the_maximum_and_delays_fill_them() {
        check(ms(100), ms(1_000), &[ms(100), ms(200), ms(400), ms(800), ms(1_000), ms(1_000)]);
    }

    #[test]
    fn odd_settings_are_mended() {
        check(ms(0), ms(3), &[ms(1), ms(2), ms(3), ms(3)]);
        check(ms(500), ms(20), &[ms(20), ms(20)]);
        check(ms(0), ms(0), &[ms(1), ms(1)]);
    }

    #[test]
    fn endless_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::MAX);
        for _ in 0..10_000 {
            backoff.next_delay();
        }
        assert_eq!(backoff.step, Duration::MAX);
    }

    #[test]
    fn reset_starts_over() {
        let mut backoff = Backoff::new(ms(10), ms(10_000));
        for _ in 0..8 {
            backoff.next_delay();
        }
        backoff.reset();
        assert!(backoff.next_delay() <= ms(10));
    }
}
