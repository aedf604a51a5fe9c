//! A span of time as the original's users write it.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::decimal;

/// The longest interval, that of the original: what 63 bits of nanoseconds hold, some 292 years.
const MAX_NANOS: u64 = u64::MAX >> 1;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// The same in whole hours, for messages.
const MAX_HOURS: u64 = MAX_NANOS / (3600 * NANOS_PER_SEC);

/// What may be written, for problems and for the schema.
const EXPECTED: &str = "a duration such as \"300ms\" or \"2h45m\", or a number of seconds";

/// Units that the original has not, as Grafana writes them; they are read and not printed.
const LONG_UNITS: [(&str, u64); 3] = [
    ("d", 24 * 3600 * NANOS_PER_SEC),
    ("w", 7 * 24 * 3600 * NANOS_PER_SEC),
    ("y", 365 * 24 * 3600 * NANOS_PER_SEC),
];

/// The units from the longest; of two names of a unit the first is printed.
const UNITS: [(&str, u64); 8] = [
    ("h", 3600 * NANOS_PER_SEC),
    ("m", 60 * NANOS_PER_SEC),
    ("s", NANOS_PER_SEC),
    ("ms", 1_000_000),
    ("us", 1_000),
    // The micro sign and the Greek letter, as in Go.
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

/// A span of time in a configuration: a Go duration string, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Interval(Duration);

/// What is not an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidInterval {
    /// No span of time at all.
    #[error("expected {EXPECTED}")]
    NoTime,
    /// Longer than an interval can be.
    #[error("expected {EXPECTED}, at most {MAX_HOURS}h")]
    TooLong,
}

impl Interval {
    /// The span of time as std has it.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// An interval of whole seconds, for defaults.
    pub const fn from_secs(secs: u64) -> Interval {
        Interval(Duration::from_secs(secs))
    }

    /// An interval of milliseconds, for defaults.
    pub const fn from_millis(millis: u64) -> Interval {
        Interval(Duration::from_millis(millis))
    }

    fn from_nanos(nanos: u128) -> Result<Interval, InvalidInterval> {
        match u64::try_from(nanos) {
            Ok(nanos) if nanos <= MAX_NANOS => Ok(Interval(Duration::from_nanos(nanos))),
            _ => Err(InvalidInterval::TooLong),
        }
    }

    /// An interval of seconds, perhaps with a fraction.
    ///
    /// # Errors
    /// [`InvalidInterval`].
    pub fn from_secs_f64(secs: f64) -> Result<Interval, InvalidInterval> {
        match Duration::try_from_secs_f64(secs) {
            Ok(duration) => Interval::from_nanos(duration.as_nanos()),
            Err(_) if secs > 0.0 => Err(InvalidInterval::TooLong),
            Err(_) => Err(InvalidInterval::NoTime),
        }
    }
}

impl From<Duration> for Interval {
    fn from(duration: Duration) -> Interval {
        Interval(duration)
    }
}

impl From<Interval> for Duration {
    fn from(interval: Interval) -> Duration {
        interval.0
    }
}

impl FromStr for Interval {
    type Err = InvalidInterval;

    /// Reads `300ms`, `2h45m`, `1.5h`, `7d`; a plain `0` needs no unit.
    fn from_str(text: &str) -> Result<Interval, InvalidInterval> {
        let mut rest = text.strip_prefix('+').unwrap_or(text);
        if rest == "0" {
            return Ok(Interval::default());
        }
        let mut nanos = 0_u128;
        loop {
            let (number, after) = decimal::split_number(rest);
            let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            let (_, unit) = UNITS
                .iter()
                .chain(&LONG_UNITS)
                .find(|(known, _)| *known == name)
                .ok_or(InvalidInterval::NoTime)?;
            let part = decimal::times(number, *unit).ok_or(InvalidInterval::NoTime)?;
            nanos = nanos.checked_add(part).ok_or(InvalidInterval::TooLong)?;
            if tail.is_empty() {
                return Interval::from_nanos(nanos);
            }
            rest = tail;
        }
    }
}

impl fmt::Display for Interval {
    /// In the form that is read: `1h30m`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut nanos = self.0.as_nanos();
        if nanos == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in UNITS {
            let count = nanos / u128::from(unit);
            nanos %= u128::from(unit);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Interval {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Interval, D::Error> {
        deserializer.deserialize_any(IntervalVisitor)
    }
}

struct IntervalVisitor;

impl Visitor<'_> for IntervalVisitor {
    type Value = Interval;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Interval, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, secs: u64) -> Result<Interval, E> {
        Interval::from_nanos(u128::from(secs) * u128::from(NANOS_PER_SEC)).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, secs: i64) -> Result<Interval, E> {
        self.visit_u64(u64::try_from(secs).ok().ok_or_else(|| E::custom(InvalidInterval::NoTime))?)
    }

    fn visit_f64<E: de::Error>(self, secs: f64) -> Result<Interval, E> {
        Interval::from_secs_f64(secs).map_err(E::custom)
    }
}

impl JsonSchema for Interval {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Interval".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "minimum": 0, "format": "interval", "title": EXPECTED })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::Interval;

    #[test]
    fn reads_what_the_original_reads() {
        let hour = 3_600_000_000_000;
        for (value, nanos) in [
            (json!("300ms"), 300_000_000),
            (json!("2h45m"), 2 * hour + hour * 3 / 4),
            (json!("1.5h"), hour + hour / 2),
            (json!("1h0.5m1s"), hour + 31_000_000_000),
            (json!("7ns"), 7),
            (json!("1us2\u{b5}s3\u{3bc}s"), 6_000),
            (json!("+1.s"), 1_000_000_000),
            (json!(".5s"), 500_000_000),
            (json!("0"), 0),
            (json!("0s"), 0),
            (json!("2562047h47m16.854775807s"), u64::MAX / 2),
            (json!(5), 5_000_000_000),
            (json!(0), 0),
            (json!(0.25), 250_000_000),
        ] {
            let interval = serde_json::from_value::<Interval>(value.clone());
            assert_eq!(interval.ok(), Some(Duration::from_nanos(nanos).into()), "{value}");
        }
    }

    #[test]
    fn reads_days_weeks_and_years() {
        let day = 24 * 3600;
        for (text, seconds) in [
            ("1d", day),
            ("1d12h", day * 3 / 2),
            ("0.5d", day / 2),
            ("1w", 7 * day),
            ("1y", 365 * day),
        ] {
            let interval: Interval = text.parse().unwrap();
            assert_eq!(interval, Interval::from_secs(seconds), "{text}");
            assert_eq!(interval.to_string().parse(), Ok(interval), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for value in [
            json!(""),
            json!("5"),
            json!("5 s"),
            json!("-5s"),
            json!("s"),
            json!("1M"),
            json!("300y"),
            json!("1.2.3s"),
            json!(".s"),
            json!("1h "),
            json!("2562047h47m16.854775808s"),
            json!("99999999999999999999999h"),
            json!(-1),
            json!(-0.5),
            json!(1e300),
            json!(10_000_000_000_u64),
            json!(true),
            json!(null),
            json!([1]),
        ] {
            let error = serde_json::from_value::<Interval>(value.clone())
                .expect_err(&value.to_string())
                .to_string();
            assert!(error.contains("expected a duration such as \"300ms\""), "{value}: {error}");
        }
    }

    #[test]
    fn what_is_too_long_is_told_how_long_it_may_be() {
        for value in [
            json!("99999999h"),
            json!("2562047h47m16.854775808s"),
            json!(1e300),
            json!(10_000_000_000_u64),
        ] {
            let error = serde_json::from_value::<Interval>(value.clone()).unwrap_err().to_string();
            assert!(error.ends_with(", at most 2562047h"), "{value}: {error}");
        }
        let soon = serde_json::from_value::<Interval>(json!("soon")).unwrap_err().to_string();
        assert!(soon.ends_with("a number of seconds"), "{soon}");
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(nanos in 0..=u64::MAX / 2) {
            let interval = Interval::from(Duration::from_nanos(nanos));
            prop_assert_eq!(interval.to_string().parse(), Ok(interval));
        }
    }
}
