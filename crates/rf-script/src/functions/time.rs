//! `now`, `time_parse`, `time_format`.

use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::{rfc2822, strtime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Unit};
use mlua::{Lua, MultiValue, Value};

use super::{Call, define};
use crate::vm::Host;

/// A time as text, and a format, may be so long.
const MAX_TEXT_BYTES: usize = 1024;
/// The two old forms of a date in HTTP: of RFC 850 and of C's asctime.
const OLD_HTTP: [&str; 2] = ["%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"];
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Between two leap years there are so many at the most, as from 1896 to 1904.
const MAX_YEARS_BACK: i16 = 8;

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    define(lua, host, "now", |call| {
        Ok(SignedDuration::from_micros(call.host.options.clock.now_us()).as_secs_f64())
    })?;
    define(lua, host, "time_parse", parse)?;
    define(lua, host, "time_format", format)
}

fn parse(call: &Call<'_>) -> mlua::Result<MultiValue> {
    let text = short(call, call.utf8(0, "text")?, "text")?;
    let parsed = match call.optional_utf8(1, "format")? {
        Some(format) => {
            let format = short(call, format, "format")?;
            let now = Timestamp::from_microsecond(call.host.options.clock.now_us());
            with_format(&format, text.trim(), now.unwrap_or_default())
        }
        None => recognised(text.trim()).ok_or_else(|| {
            format!(
                "`{text}` is not a time that is recognised: expected RFC 3339, RFC 2822, a date \
                 of HTTP or Unix time, or give a format"
            )
        }),
    };
    call.answer(parsed.map(seconds))
}

fn short(call: &Call<'_>, text: String, name: &str) -> mlua::Result<String> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(call.error(format!("{name} has more than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(text)
}

/// An integer for whole seconds.
fn seconds(time: Timestamp) -> Value {
    if time.subsec_nanosecond() == 0 {
        Value::Integer(time.as_second())
    } else {
        Value::Number(time.as_duration().as_secs_f64())
    }
}

fn recognised(text: &str) -> Option<Timestamp> {
    unix(text)
        .or_else(|| text.parse().ok())
        .or_else(|| without_offset(text))
        .or_else(|| rfc2822::DateTimeParser::new().parse_timestamp(text).ok())
        .or_else(|| OLD_HTTP.iter().find_map(|format| utc(DateTime::strptime(format, text).ok()?)))
}

/// RFC 3339 without an offset counts as UTC. One that names a time zone does not: there are no rules of zones here.
fn without_offset(text: &str) -> Option<Timestamp> {
    if text.contains('[') {
        return None;
    }
    utc(text.parse().ok()?)
}

fn utc(time: DateTime) -> Option<Timestamp> {
    TimeZone::UTC.to_timestamp(time).ok()
}

/// Unix time in seconds, milli-, micro- or nanoseconds, told by its size: seconds reach to the year 5138, and milliseconds
/// begin in 1973.
fn unix(text: &str) -> Option<Timestamp> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let only_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !only_digits(whole) || !only_digits(fraction) {
        return None;
    }
    let number: i128 = whole.parse().ok()?;
    let unit: i128 = match number {
        0..100_000_000_000 => 1_000_000_000,
        100_000_000_000..100_000_000_000_000 => 1_000_000,
        100_000_000_000_000..100_000_000_000_000_000 => 1000,
        _ => 1,
    };
    let nine: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let fraction = nine.parse::<i128>().ok()? * unit / 1_000_000_000;
    Timestamp::from_nanosecond(sign * (number.checked_mul(unit)? + fraction)).ok()
}

/// As `strptime`; what the format leaves out is UTC, midnight, and for a date without a year the last such day.
fn with_format(format: &str, text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let failed = |error: jiff::Error| format!("`{text}` by `{format}`: {error}");
    let mut parts = BrokenDownTime::parse(format, text).map_err(failed)?;
    if parts.timestamp().is_some() {
        return parts.to_timestamp().map_err(failed);
    }
    let yearless = parts.year().is_none() && parts.month().is_some();
    let this_year = TimeZone::UTC.to_datetime(now).year();
    if yearless {
        parts.set_year(Some(this_year)).map_err(failed)?;
    }
    if parts.hour().is_none() {
        parts.set_hour(Some(0)).map_err(failed)?;
    }
    let mut time = assembled(&parts);
    let is_past = |time: &Timestamp| time.duration_since(now) <= DAY;
    let mut year = this_year;
    // `Dec 31` read on the first of January was a day of last year, and `Feb 29` is not in every year.
    let is_leap_day = parts.month() == Some(2) && parts.day() == Some(29);
    let first = this_year - if is_leap_day { MAX_YEARS_BACK } else { 1 };
    while yearless && year > first && !time.as_ref().is_ok_and(is_past) {
        year -= 1;
        parts.set_year(Some(year)).map_err(failed)?;
        time = assembled(&parts);
    }
    time.map_err(failed)
}

fn assembled(parts: &BrokenDownTime) -> Result<Timestamp, jiff::Error> {
    match parts.offset() {
        Some(offset) => offset.to_timestamp(parts.to_datetime()?),
        None => TimeZone::UTC.to_timestamp(parts.to_datetime()?),
    }
}

fn format(call: &Call<'_>) -> mlua::Result<String> {
    let time = match call.value(0, "seconds", "a number")? {
        Value::Integer(seconds) => Timestamp::from_second(*seconds),
        Value::Number(seconds) => SignedDuration::try_from_secs_f64(*seconds)
            .and_then(Timestamp::from_duration)
            // A float next to `.123` may be a little below it.
            .and_then(|time| time.round(Unit::Microsecond)),
        _ => return Err(call.unexpected(0, "seconds", "a number")),
    };
    let time = time.map_err(|error| call.error(error))?;
    let Some(format) = call.optional_utf8(1, "format")? else {
        let digits = if time.subsec_nanosecond() == 0 { 0 } else { 3 };
        return Ok(format!("{time:.digits$}"));
    };
    let format = short(call, format, "format")?;
    let text = strtime::format(&format, time);
    text.map_err(|error| call.error(format!("format `{format}`: {error}")))
}

#[cfg(test)]
mod tests {
    use super::with_format;
    use crate::functions::tests::{check, evaluate};

    #[test]
    fn now_is_the_time_of_the_clock() {
        check("return string.format('%.6f', now())", "1795489445.678901");
    }

    #[test]
    fn usual_forms_are_recognised() {
        for (text, expected) in [
            ("1994-11-06T08:49:37Z", "784111777"),
            ("1994-11-06t08:49:37z", "784111777"),
            ("1994-11-06T09:49:37+01:00", "784111777"),
            ("1994-11-06 08:49:37Z", "784111777"),
            ("1994-11-06T08:49:37.250Z", "784111777.25"),
            ("1994-11-06T08:49:37", "784111777"),
            ("1994-11-06 08:49:37.5", "784111777.5"),
            ("1994-11-06", "784080000"),
            ("1937-01-01T12:00:27.87+00:20", "-1041337172.13"),
            ("Sun, 06 Nov 1994 08:49:37 GMT", "784111777"),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "784111777"),
            ("Sun Nov  6 08:49:37 1994", "784111777"),
            ("Sun, 6 Nov 1994 00:49:37 -0800", "784111777"),
            ("  784111777\\n", "784111777"),
            ("784111777.25", "784111777.25"),
            ("784111777250", "784111777.25"),
            ("784111777000000", "784111777"),
            ("784111777000000000", "784111777"),
            ("0", "0"),
            ("-1", "-1"),
            ("-0.5", "-0.5"),
        ] {
            check(&format!("return time_parse('{text}')"), expected);
        }
        check("return time_parse(784111777)", "784111777");
        check("return math.type(time_parse('1994-11-06T08:49:37.0Z'))", "integer");
    }

    #[test]
    fn what_is_no_time_is_nil_with_the_reason() {
        for text in [
            "",
            "yesterday",
            "1994-13-06T08:49:37Z",
            "1994-11-06T08:49:37[Europe/Paris]",
            ".",
            "1.",
        ] {
            let said = evaluate(&format!("return time_parse('{text}')"));
            let expected = format!("nil time_parse: `{text}` is not a time");
            assert!(said.starts_with(&expected) || text == "1.", "{said}");
        }
        check(
            "return time_parse(('1'):rep(1025))",
            "error: test.lua:1: time_parse: text has more than 1024 bytes",
        );
        let said = evaluate("return time_parse(('9'):rep(100))");
        assert!(said.starts_with("nil time_parse: `999"), "{said}");
    }

    #[test]
    fn a_format_reads_what_it_says() {
        for (text, format, expected) in [
            ("06/Nov/1994:08:49:37 +0000", "%d/%b/%Y:%H:%M:%S %z", "784111777"),
            ("06/Nov/1994:09:49:37 +0100", "%d/%b/%Y:%H:%M:%S %z", "784111777"),
            ("1994-11-06 08:49:37", "%Y-%m-%d %H:%M:%S", "784111777"),
            ("1994-11-06 08:49:37.25", "%Y-%m-%d %H:%M:%S%.f", "784111777.25"),
            ("1994-11-06 08:49", "%Y-%m-%d %H:%M", "784111740"),
            ("06.11.1994", "%d.%m.%Y", "784080000"),
            ("784111777", "%s", "784111777"),
        ] {
            check(&format!("return time_parse('{text}', '{format}')"), expected);
        }
        let said = evaluate("return time_parse('x', '%Y')");
        assert!(said.starts_with("nil time_parse: `x` by `%Y`: "), "{said}");
        let said = evaluate("return time_parse('x', '%Q!')");
        assert!(said.starts_with("nil time_parse: `x` by `%Q!`: "), "{said}");
        let said = evaluate("return time_parse('10:00', '%H:%M')");
        assert!(said.starts_with("nil time_parse: `10:00` by `%H:%M`: "), "{said}");
    }

    #[test]
    fn a_date_without_a_year_is_the_last_one() {
        for (text, expected) in [
            ("Nov 24 03:04:05", "2026-11-24T03:04:05Z"),
            // A clock that is a little ahead of ours.
            ("Nov 24 03:05:05", "2026-11-24T03:05:05Z"),
            ("Dec 31 23:59:59", "2025-12-31T23:59:59Z"),
            ("Jan  1 00:00:00", "2026-01-01T00:00:00Z"),
            ("Feb 29 12:00:00", "2024-02-29T12:00:00Z"),
        ] {
            check(&format!("return time_format(time_parse('{text}', '%b %d %H:%M:%S'))"), expected);
        }
        let said = evaluate("return time_parse('Feb 30', '%b %d')");
        assert!(said.starts_with("nil time_parse: "), "{said}");
    }

    #[test]
    fn the_last_leap_day_may_be_eight_years_ago() {
        for (now, expected) in [
            ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z"),
            ("2024-02-27T00:00:00Z", "2020-02-29T00:00:00Z"),
            ("2023-12-31T00:00:00Z", "2020-02-29T00:00:00Z"),
            ("1904-02-01T00:00:00Z", "1896-02-29T00:00:00Z"),
            ("2103-12-31T00:00:00Z", "2096-02-29T00:00:00Z"),
        ] {
            let found = with_format("%b %d", "Feb 29", now.parse().unwrap());
            assert_eq!(found.map(|time| time.to_string()).as_deref(), Ok(expected), "{now}");
        }
    }

    #[test]
    fn a_time_is_written_in_utc() {
        check("return time_format(784111777)", "1994-11-06T08:49:37Z");
        check("return time_format(784111777.0)", "1994-11-06T08:49:37Z");
        check("return time_format(784111777.123)", "1994-11-06T08:49:37.123Z");
        check("return time_format(784111777.1239)", "1994-11-06T08:49:37.123Z");
        check("return time_format(-0.5)", "1969-12-31T23:59:59.500Z");
        check(
            "return time_format(784111777, '%d/%b/%Y:%H:%M:%S %z')",
            "06/Nov/1994:08:49:37 +0000",
        );
        check("return time_format(784111777.25, '%H:%M:%S%.3f %A')", "08:49:37.250 Sunday");
        check(
            "return time_format(time_parse('2026-11-24T00:00:00.001Z'))",
            "2026-11-24T00:00:00.001Z",
        );
    }

    #[test]
    fn what_cannot_be_written_is_thrown() {
        let bad = [
            "'x'",
            "1e30",
            "0/0",
            "1/0",
            "math.maxinteger",
            "1, '%'",
            "1, '%!'",
            "1, ('%Y'):rep(1000)",
        ];
        for arguments in bad {
            let said = evaluate(&format!("return time_format({arguments})"));
            assert!(said.starts_with("error: test.lua:1: time_format: "), "{arguments}: {said}");
        }
    }
}
