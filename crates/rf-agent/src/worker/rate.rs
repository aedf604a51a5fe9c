//! Rate limits that delay and never drop: token buckets that may go into debt, so that a batch larger than the allowance
//! of a second still goes, and the pause after it pays for it.

use std::time::Duration;

use rf_queue::StoredEvent;
use tokio::time::Instant;

use crate::sink::RateLimits;

/// Looked at again after this, however small the rate.
const MAX_PAUSE: Duration = Duration::from_secs(3600);

/// The limits of one sink.
pub(super) struct Rate {
    writes: Option<Allowance>,
    events: Option<Allowance>,
    bytes: Option<Allowance>,
}

struct Allowance {
    per_second: f64,
    most: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(limits: &RateLimits) -> Self {
        let minute = limits.writes_per_minute.map(|writes| Allowance::new(writes / 60.0, writes));
        let second = |rate: f64| Allowance::new(rate, rate.max(1.0));
        Self {
            writes: minute,
            events: limits.events_per_second.map(second),
            bytes: limits.bytes_per_second.map(second),
        }
    }

    /// How long to wait before the next write.
    pub(super) fn pause(&mut self) -> Duration {
        let now = Instant::now();
        let pauses = [&mut self.writes, &mut self.events, &mut self.bytes];
        pauses.into_iter().flatten().map(|allowance| allowance.pause(now)).max().unwrap_or_default()
    }

    /// Takes a write of these events into account.
    pub(super) fn spend(&mut self, events: &[StoredEvent]) {
        let bytes = events.iter().map(|event| event.content.len()).sum();
        let spent =
            [(&mut self.writes, 1), (&mut self.events, events.len()), (&mut self.bytes, bytes)];
        for (allowance, amount) in spent {
            if let Some(allowance) = allowance {
                allowance.left -= amount as f64;
            }
        }
    }
}

impl Allowance {
    fn new(per_second: f64, most: f64) -> Self {
        Self { per_second, most, left: most, at: Instant::now() }
    }

    /// One unit must be there; debt beyond that is waited off.
    fn pause(&mut self, now: Instant) -> Duration {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.per_second).min(self.most);
        self.at = now;
        // The least that lets a write through: one unit, or all there can ever be.
        let needed = self.most.min(1.0);
        if self.left >= needed {
            Duration::ZERO
        } else {
            Duration::try_from_secs_f64((needed - self.left) / self.per_second)
                .unwrap_or(MAX_PAUSE)
                .min(MAX_PAUSE)
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn events(count: usize, bytes_each: usize) -> Vec<StoredEvent> {
        let content = Bytes::from(vec![b'x'; bytes_each]);
        vec![StoredEvent { id: 1, at_ms: 0, content, attempts: 0 }; count]
    }

    #[tokio::test(start_paused = true)]
    async fn writes_are_spread_over_the_minute_after_a_burst() {
        let mut rate =
            Rate::new(&RateLimits { writes_per_minute: Some(60.0), ..RateLimits::default() });
        let start = Instant::now();
        for _ in 0..120 {
            tokio::time::sleep(rate.pause()).await;
            rate.spend(&events(1, 1));
        }
        let seconds = start.elapsed().as_secs();
        assert!((59..=61).contains(&seconds), "{seconds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_larger_than_a_second_allows_is_paid_off_afterwards() {
        let mut rate =
            Rate::new(&RateLimits { bytes_per_second: Some(100.0), ..RateLimits::default() });
        assert_eq!(rate.pause(), Duration::ZERO);
        rate.spend(&events(1, 1100));
        assert_eq!(rate.pause().as_secs(), 10);
        tokio::time::sleep(rate.pause()).await;
        assert!(rate.pause() < Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_limits_nothing_waits() {
        let mut rate = Rate::new(&RateLimits::default());
        rate.spend(&events(1000, 1_000_000));
        assert_eq!(rate.pause(), Duration::ZERO);
    }
}
