//! What a table's name says: `[ts_]TYPE_NAME_INTERVAL`, such as `ts_gauge_systemstats_60s`.

use std::time::Duration;

use rf_core::config::Interval;

/// How the points of an interval become one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The last value.
    Gauge,
    /// The sum of what was counted.
    Counter,
    /// Least, greatest, mean and number of values.
    Rollup,
    /// How far the value moved.
    Delta,
    /// How often each value was seen.
    Snapshot,
}

/// A table's kind and the length of its intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// How points are put together.
    pub(crate) kind: Kind,
    /// Seconds, at least 1.
    pub(crate) interval: i64,
}

impl Form {
    /// Reads the name of a table.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn of(table: &str) -> Result<Self, String> {
        let wrong = |part: &str| {
            format!(
                "`{table}` is not a table of a time series: {part}; expected [ts_]TYPE_NAME_INTERVAL such as ts_gauge_cpu_60s, with the types gauge, counter, rollup, delta and snapshot"
            )
        };
        // To SQLite, tables in other letters are the same ones.
        let folded = table.to_ascii_lowercase();
        let rest = folded.strip_prefix("ts_").unwrap_or(&folded);
        let (kind, rest) = rest.split_once('_').ok_or_else(|| wrong("it has no type"))?;
        let kind = match kind {
            "gauge" => Kind::Gauge,
            "counter" => Kind::Counter,
            "rollup" => Kind::Rollup,
            "delta" => Kind::Delta,
            "snapshot" => Kind::Snapshot,
            _ => return Err(wrong("its type is unknown")),
        };
        let (name, interval) = rest.rsplit_once('_').ok_or_else(|| wrong("it has no interval"))?;
        let interval = seconds(interval).ok_or_else(|| {
            wrong("its interval is not a whole number of seconds, as in 60s, 5m or 1h")
        })?;
        if name.is_empty() {
            return Err(wrong("it has no name"));
        }
        Ok(Self { kind, interval })
    }

    /// The beginning of the interval that a time lies in.
    pub(crate) fn floor(self, seconds: i64) -> i64 {
        seconds.div_euclid(self.interval).saturating_mul(self.interval)
    }
}

/// A length of time in whole seconds: a duration, or a plain number of seconds.
pub(crate) fn seconds(text: &str) -> Option<i64> {
    let seconds = match text.parse::<u32>() {
        Ok(seconds) => i64::from(seconds),
        Err(_no_plain_number) => {
            let length = Duration::from(text.parse::<Interval>().ok()?);
            (length.subsec_nanos() == 0).then(|| i64::try_from(length.as_secs()).ok())??
        }
    };
    (seconds > 0).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_type_and_interval() {
        let check = |name: &str, kind: Kind, interval: i64| {
            assert_eq!(Form::of(name), Ok(Form { kind, interval }), "{name}");
        };
        check("ts_gauge_systemstats_60s", Kind::Gauge, 60);
        check("counter_http_requests_5m", Kind::Counter, 300);
        check("ts_rollup_a-b_1h", Kind::Rollup, 3600);
        check("ts_delta_x_90", Kind::Delta, 90);
        check("ts_snapshot_state_1d", Kind::Snapshot, 86_400);
        check("ts_snapshot_state_1w", Kind::Snapshot, 7 * 86_400);
        check("TS_Gauge_CPU_60S", Kind::Gauge, 60);
        for name in [
            "",
            "ts_",
            "gauge",
            "ts_gauge",
            "ts_gauge_60s",
            "ts_gauge__60s",
            "ts_gauge_cpu",
            "ts_gauge_cpu_0s",
            "ts_gauge_cpu_300ms",
            "ts_gauge_cpu_-1s",
            "ts_meter_cpu_60s",
        ] {
            assert!(Form::of(name).is_err(), "{name}");
        }
    }

    #[test]
    fn times_are_rounded_down() {
        let form = Form { kind: Kind::Gauge, interval: 60 };
        assert_eq!([form.floor(59), form.floor(60), form.floor(-1)], [0, 60, -60]);
    }
}
