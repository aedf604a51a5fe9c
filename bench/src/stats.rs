//! Percentiles of latencies, medians and spreads of rounds.

use std::time::Duration;

/// Latencies of one run, sorted.
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// Takes the samples in any order.
    pub(crate) fn new(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        Self(samples)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The smallest sample that `per_mille` of all samples do not exceed (nearest rank, never interpolated), in
    /// milliseconds; 0 of nothing.
    pub(crate) fn per_mille_ms(&self, per_mille: usize) -> f64 {
        let rank = (self.0.len() * per_mille).div_ceil(1000).max(1);
        self.0.get(rank - 1).map_or(0.0, |latency| latency.as_secs_f64() * 1000.0)
    }

    /// The slowest in milliseconds; 0 of nothing.
    pub(crate) fn max_ms(&self) -> f64 {
        self.per_mille_ms(1000)
    }
}

/// Median and extremes of some rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// The middle value, or the mean of the two middle ones.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// None of no rounds.
    pub(crate) fn of(mut rounds: Vec<f64>) -> Option<Self> {
        rounds.sort_by(f64::total_cmp);
        let (&min, &max) = (rounds.first()?, rounds.last()?);
        let (low, high) = (rounds[(rounds.len() - 1) / 2], rounds[rounds.len() / 2]);
        Some(Self { median: f64::midpoint(low, high), min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_per_mille(millis: &[u64], per_mille: usize, expected_ms: f64) {
        let latencies = Latencies::new(millis.iter().copied().map(Duration::from_millis).collect());
        let found = latencies.per_mille_ms(per_mille);
        assert!(
            (found - expected_ms).abs() < 1e-9,
            "{per_mille} of {millis:?} is {found}, not {expected_ms}"
        );
    }

    #[test]
    fn percentiles_are_samples_by_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        check_per_mille(&hundred, 500, 50.0);
        check_per_mille(&hundred, 990, 99.0);
        check_per_mille(&hundred, 999, 100.0);
        check_per_mille(&[7], 500, 7.0);
        check_per_mille(&[1, 9], 990, 9.0);
        check_per_mille(&[], 990, 0.0);
    }

    fn check_spread(rounds: &[f64], expected: Option<(f64, f64, f64)>) {
        let expected = expected.map(|(median, min, max)| Spread { median, min, max });
        assert_eq!(Spread::of(rounds.to_vec()), expected, "{rounds:?}");
    }

    #[test]
    fn the_median_is_the_middle_round() {
        check_spread(&[3.0, 1.0, 2.0], Some((2.0, 1.0, 3.0)));
        check_spread(&[4.0, 1.0], Some((2.5, 1.0, 4.0)));
        check_spread(&[], None);
    }
}
