//! The rows of one step, put together.

use super::name::Kind;
use crate::sink::table::api_error::ApiError;

/// How the rows of a step become one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aggregate {
    Avg,
    Min,
    Max,
    Sum,
    Count,
    Last,
    /// By the second: of a gauge how far it grew, else how much there was.
    Rate,
    P95,
}

const NAMES: [(&str, Aggregate); 8] = [
    ("avg", Aggregate::Avg),
    ("min", Aggregate::Min),
    ("max", Aggregate::Max),
    ("sum", Aggregate::Sum),
    ("count", Aggregate::Count),
    ("last", Aggregate::Last),
    ("rate", Aggregate::Rate),
    ("p95", Aggregate::P95),
];

impl Aggregate {
    /// The aggregate of that name.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`], naming the known ones.
    pub(super) fn named(name: &str) -> Result<Self, ApiError> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, aggregate)| *aggregate).ok_or_else(|| {
            ApiError::BadRequest(
                "aggregate: expected avg, min, max, sum, count, last, rate or p95".to_owned(),
            )
        })
    }

    pub(super) fn name(self) -> &'static str {
        NAMES.iter().find(|(_, known)| *known == self).map_or("value", |(name, _)| name)
    }

    /// What a chart of this kind shows.
    pub(super) fn default_of(kind: Kind) -> Self {
        match kind {
            Kind::Gauge | Kind::Rollup => Self::Avg,
            Kind::Counter | Kind::Delta | Kind::Snapshot => Self::Sum,
        }
    }
}

/// A row, as far as it is put together with others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) sum: f64,
    pub(super) count: f64,
    pub(super) last: f64,
    /// What `rate` adds up.
    pub(super) grown: f64,
}

impl Sample {
    /// Of a row that is one value.
    pub(super) fn of(value: f64) -> Self {
        Self { min: value, max: value, sum: value, count: 1.0, last: value, grown: value }
    }
}

/// The samples of a step so far, in the order of time.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    so_far: Option<Sample>,
    /// The rows' values, of a rollup their means, where a percentile is asked.
    values: Vec<f64>,
}

impl Bucket {
    pub(super) fn add(&mut self, sample: &Sample, keeps_values: bool) {
        if keeps_values {
            self.values.push(sample.sum / sample.count);
        }
        self.so_far = Some(match self.so_far {
            None => *sample,
            Some(all) => Sample {
                min: all.min.min(sample.min),
                max: all.max.max(sample.max),
                sum: all.sum + sample.sum,
                count: all.count + sample.count,
                last: sample.last,
                grown: all.grown + sample.grown,
            },
        });
    }

    /// The value for a step of so many seconds.
    pub(super) fn value(&mut self, aggregate: Aggregate, step: i64) -> f64 {
        let all = self.so_far.unwrap_or(Sample::of(f64::NAN));
        #[expect(clippy::cast_precision_loss, reason = "a step is a small number of seconds")]
        let step = step as f64;
        match aggregate {
            Aggregate::Avg => all.sum / all.count,
            Aggregate::Min => all.min,
            Aggregate::Max => all.max,
            Aggregate::Sum => all.sum,
            Aggregate::Count => all.count,
            Aggregate::Last => all.last,
            Aggregate::Rate => all.grown / step,
            Aggregate::P95 => self.percentile(95),
        }
    }

    /// The least value that so many of a hundred do not exceed.
    fn percentile(&mut self, percent: usize) -> f64 {
        self.values.sort_by(f64::total_cmp);
        let place = (self.values.len() * percent).div_ceil(100).saturating_sub(1);
        self.values.get(place).copied().unwrap_or(f64::NAN)
    }
}
