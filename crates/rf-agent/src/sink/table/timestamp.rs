//! Times as events carry them, read into microseconds since 1970.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::TimeZone;
use serde_json::Value;

/// A time as text may be so long.
const MAX_TEXT_BYTES: usize = 64;
/// The format of access logs: `02/Jan/2006:15:04:05 -0700`.
const ACCESS_LOG: &str = "%d/%b/%Y:%H:%M:%S %z";

/// What may be written, for messages.
pub(crate) const EXPECTED: &str = "Unix time in seconds, ms, us or ns, RFC 3339, `2006-01-02 15:04:05` or `02/Jan/2006:15:04:05 -0700`, at most 9999-12-30T22:00:00Z";

/// Microseconds since 1970, now.
pub(crate) fn now_us() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Whole seconds since 1970, now.
pub(crate) fn now_seconds() -> i64 {
    now_us() / 1_000_000
}

/// The time in an event's `timestamp`: `Ok(None)` where there is none.
///
/// # Errors
/// The text that is no time, as a message.
pub(crate) fn of_event(value: Option<&Value>) -> Result<Option<i64>, String> {
    let read = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) if text.trim().is_empty() => return Ok(None),
        Some(Value::String(text)) => parse(text),
        Some(Value::Number(number)) => parse(&number.to_string()),
        Some(_) => None,
    };
    read.map(Some).ok_or_else(|| format!("timestamp is not a time: expected {EXPECTED}"))
}

/// A time in any of the forms of [`EXPECTED`]; without an offset it is UTC.
pub(crate) fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    if text.len() > MAX_TEXT_BYTES {
        return None;
    }
    let is_time = |micros: &i64| Timestamp::from_microsecond(*micros).is_ok();
    unix(text)
        .filter(is_time)
        .or_else(|| Some(text.parse::<Timestamp>().ok()?.as_microsecond()))
        .or_else(|| utc(text.parse().ok()?))
        .or_else(|| {
            let parts = BrokenDownTime::parse(ACCESS_LOG, text).ok()?;
            Some(parts.to_timestamp().ok()?.as_microsecond())
        })
}

fn utc(time: DateTime) -> Option<i64> {
    Some(TimeZone::UTC.to_timestamp(time).ok()?.as_microsecond())
}

/// The unit is told by the size: seconds reach to the year 5138, and milliseconds begin in 1973.
fn unix(text: &str) -> Option<i64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) {
        return None;
    }
    if let Ok(whole) = text.parse::<i64>() {
        return match whole.unsigned_abs() {
            0..100_000_000_000 => whole.checked_mul(1_000_000),
            100_000_000_000..100_000_000_000_000 => whole.checked_mul(1000),
            100_000_000_000_000..100_000_000_000_000_000 => Some(whole),
            _ => Some(whole / 1000),
        };
    }
    let number: f64 = text.parse().ok()?;
    let unit = match number.abs() {
        size if size < 1e11 => 1e6,
        size if size < 1e14 => 1e3,
        size if size < 1e17 => 1.0,
        _ => 1e-3,
    };
    let micros = (number * unit).round();
    #[expect(clippy::cast_possible_truncation, reason = "within the bounds just checked")]
    (micros.abs() < 9e18).then_some(micros as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_same_second() {
        for text in [
            "1136214245",
            "1136214245000",
            "1136214245000000",
            "1136214245000000000",
            "1136214245.0",
            "1.136214245e9",
            "2006-01-02T15:04:05Z",
            "2006-01-02T17:04:05+02:00",
            "2006-01-02 15:04:05",
            "2006-01-02T15:04:05",
            "02/Jan/2006:15:04:05 +0000",
            "02/Jan/2006:08:04:05 -0700",
            " 2006-01-02 15:04:05 ",
        ] {
            assert_eq!(parse(text), Some(1_136_214_245_000_000), "{text}");
        }
        assert_eq!(parse("1136214245.25"), Some(1_136_214_245_250_000));
        assert_eq!(parse("2006-01-02T15:04:05.5Z"), Some(1_136_214_245_500_000));
        assert_eq!(parse("-1"), Some(-1_000_000));
        for text in ["", "yesterday", "1e999", "--", "12:00", "9".repeat(70).as_str()] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// No later one is a time in every zone.
    #[test]
    fn the_last_time_is_told() {
        let event = |text: &str| of_event(Some(&Value::String(text.to_owned())));
        assert_eq!(event("9999-12-30T22:00:00Z"), Ok(Some(253_402_207_200_000_000)));
        for text in ["9999-12-31T23:59:59Z", "9999-12-31 00:00:00"] {
            let refused = event(text).unwrap_err();
            assert!(refused.ends_with("at most 9999-12-30T22:00:00Z"), "{text}: {refused}");
        }
        assert!(parse("253402207199e9").is_some());
        for text in ["253402207201e9", "5e21", "-5e21"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}") {
            let _time = parse(&text);
        }
    }
}
