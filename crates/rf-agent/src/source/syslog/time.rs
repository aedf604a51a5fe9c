//! Times at the beginning of messages, with all that devices write around them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::fmt::strtime::BrokenDownTime;
use jiff::fmt::temporal::Pieces;
use jiff::tz::TimeZone;

/// The name of a zone behind a time.
const MAX_ZONE_NAME: usize = 7;
/// A zone so far from UTC, or farther, cannot be written (RFC 3339, section 5.6).
const DAY_SECS: u32 = 24 * 60 * 60;

/// Who writes a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    Any,
    Cisco,
}

/// The name of a zone behind a time and before a colon, as Cisco devices write it, and what is behind the colon. What they
/// say begins with `%` as a rule; where it is not certain that it is one of them, another word would be a program's name.
fn zone_name(text: &str, writer: Writer) -> Option<(&str, &str)> {
    let (name, rest) = text.strip_prefix(' ')?.split_once(':')?;
    let is_name = (1..=MAX_ZONE_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    let is_cisco = writer == Writer::Cisco || rest.starts_with(" %");
    (is_name && is_cisco).then_some((name, rest))
}

/// The time at the beginning: RFC 3339, or `Oct 11 22:14:15`, perhaps with a year or fractions.
pub(super) fn time_3164<'a>(
    text: &'a str,
    writer: Writer,
    now: Timestamp,
    zone: &TimeZone,
) -> Option<(String, &'a str)> {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    if first.contains('T') && is_time(first) {
        return Some((first.to_owned(), rest));
    }
    // Cisco marks a clock that is not set with one of these.
    let text = text.trim_start_matches(['*', '.']);
    let utc = TimeZone::UTC;
    for (format, has_year) in [
        ("%b %e %H:%M:%S%.f", false),
        ("%b %e %Y %H:%M:%S%.f", true),
        ("%Y %b %e %H:%M:%S%.f", true),
    ] {
        let Ok((mut parts, used)) = BrokenDownTime::parse_prefix(format, text) else { continue };
        let rest = text.get(used..)?;
        let (name, rest) =
            zone_name(rest, writer).unwrap_or_else(|| ("", rest.strip_prefix(':').unwrap_or(rest)));
        // Other names mean one zone here and another one there.
        let zone = if matches!(name, "UTC" | "GMT") { &utc } else { zone };
        if !has_year {
            parts.set_year(Some(year_of(&parts, now, zone)?)).ok()?;
        }
        let time = zone.to_timestamp(parts.to_datetime().ok()?).ok()?;
        return Some((time.to_string(), rest));
    }
    None
}

/// Whether a text is a time with a zone, and the zone one that there can be.
pub(super) fn is_time(text: &str) -> bool {
    let offset = Pieces::parse(text).ok().and_then(|pieces| pieces.to_numeric_offset());
    offset.is_some_and(|offset| offset.seconds().unsigned_abs() < DAY_SECS)
        && text.parse::<Timestamp>().is_ok()
}

/// The year that brings the time nearest to now: a message of December may come in January.
fn year_of(parts: &BrokenDownTime, now: Timestamp, zone: &TimeZone) -> Option<i16> {
    let this_year = zone.to_datetime(now).year();
    let distance = |year: i16| -> Option<u64> {
        let (month, day) = (parts.month()?, parts.day()?);
        let time = DateTime::new(year, month, day, 0, 0, 0, 0).ok()?;
        Some(zone.to_timestamp(time).ok()?.as_second().abs_diff(now.as_second()))
    };
    (this_year - 1..=this_year + 1)
        .filter_map(|year| Some((distance(year)?, year)))
        .min()
        .map(|(_, year)| year)
}
