//! When a command is run.

use std::cmp::Ordering;
use std::str::FromStr;
use std::time::Duration;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, ZonedDateTime};
use rf_core::config::Interval;
use tokio::time::{Instant, sleep, sleep_until};

/// The wall clock is looked at again after so long: it may have been set, or the machine been asleep.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// A pattern that never comes again (a year that is over) is looked at again after so long.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// When the next run begins.
#[derive(Debug, Clone)]
pub(super) enum Schedule {
    /// At once, and then so long after the start of the run before.
    Every(Duration),
    /// When the machine's clock fits the pattern.
    Cron(Box<Cron>),
}

impl Schedule {
    /// `None` when the file names no time.
    pub(super) fn of(
        interval: Option<Interval>,
        cron: Option<&str>,
    ) -> Result<Option<Self>, (&'static str, String)> {
        match (interval, cron) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(("cron", "expected one of both, intervalSeconds or cron".to_owned()))
            }
            (Some(interval), None) if interval.as_duration().is_zero() => {
                Err(("intervalSeconds", "expected a time above zero".to_owned()))
            }
            (Some(interval), None) => Ok(Some(Self::Every(interval.into()))),
            (None, Some(pattern)) => Cron::from_str(pattern)
                .map(|cron| Some(Self::Cron(Box::new(cron))))
                .map_err(|error| {
                    ("cron", format!("expected a cron pattern such as \"*/5 * * * *\": {error}"))
                }),
        }
    }

    /// Waits for the time of the next run; `last` is when the run before began. What came due during that run is passed
    /// over.
    pub(super) async fn wait(&self, last: Option<Instant>) {
        match (self, last) {
            (Self::Every(_), None) => {}
            (Self::Every(interval), Some(last)) => sleep_until(last + *interval).await,
            (Self::Cron(cron), _) => wait_for_clock(cron).await,
        }
    }
}

async fn wait_for_clock(cron: &Cron) {
    let Ok(next) = cron.find_next_occurrence(&Local(ZonedDateTime::now()), false) else {
        tracing::warn!(pattern = cron.as_str(), "the cron pattern names no time that is to come");
        return sleep(NEVER).await;
    };
    while let Some(left) = left_until(&next.0, &ZonedDateTime::now()) {
        sleep(left.min(LOOK_AT_CLOCK)).await;
    }
}

/// `None` when it is time.
fn left_until(next: &ZonedDateTime, now: &ZonedDateTime) -> Option<Duration> {
    let left = Duration::try_from(next.timestamp().duration_since(now.timestamp())).ok()?;
    (!left.is_zero()).then_some(left)
}

/// A time in the machine's zone, for the cron crate, which knows another version of the date crate.
#[derive(Debug, Clone)]
struct Local(ZonedDateTime);

impl CronDateTime for Local {
    fn to_civil(&self) -> CivilDateTime {
        let time = self.0.datetime();
        let part = |value: i8| u32::try_from(value).unwrap_or_default();
        let date =
            CivilDate::from_ymd_opt(time.year().into(), part(time.month()), part(time.day()));
        let clock =
            CivilTime::from_hms_opt(part(time.hour()), part(time.minute()), part(time.second()));
        CivilDateTime::new(
            date.expect("a date of one crate is a date of the other"),
            clock.expect("so is a time of day"),
        )
    }

    fn civil_weekday(&self) -> Weekday {
        match self.0.weekday() {
            jiff::civil::Weekday::Sunday => Weekday::Sunday,
            jiff::civil::Weekday::Monday => Weekday::Monday,
            jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
            jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
            jiff::civil::Weekday::Thursday => Weekday::Thursday,
            jiff::civil::Weekday::Friday => Weekday::Friday,
            jiff::civil::Weekday::Saturday => Weekday::Saturday,
        }
    }

    fn resolve_civil(&self, civil: CivilDateTime) -> Result<Resolution<Self>, CronError> {
        let ambiguous = self.0.time_zone().to_ambiguous_zoned_datetime(datetime(civil)?);
        let invalid = |_| CronError::InvalidTime;
        Ok(match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } => {
                Resolution::Single(Self(ambiguous.unambiguous().map_err(invalid)?))
            }
            AmbiguousOffset::Gap { .. } => Resolution::Gap,
            AmbiguousOffset::Fold { .. } => Resolution::Ambiguous(
                Self(ambiguous.clone().earlier().map_err(invalid)?),
                Self(ambiguous.later().map_err(invalid)?),
            ),
        })
    }

    fn checked_add_seconds(&self, seconds: i64) -> Option<Self> {
        self.0.checked_add(SignedDuration::from_secs(seconds)).ok().map(Self)
    }

    fn cmp_instant(&self, other: &Self) -> Ordering {
        self.0.timestamp().cmp(&other.0.timestamp())
    }
}

fn datetime(civil: CivilDateTime) -> Result<DateTime, CronError> {
    let part = |value: u32| i8::try_from(value).ok().ok_or(CronError::InvalidDate);
    let year = i16::try_from(civil.year()).ok().ok_or(CronError::InvalidDate)?;
    let (month, day) = (part(civil.month())?, part(civil.day())?);
    let (hour, minute, second) =
        (part(civil.hour())?, part(civil.minute())?, part(civil.second())?);
    DateTime::new(year, month, day, hour, minute, second, 0).ok().ok_or(CronError::InvalidDate)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, now: &str, expected: &str) {
        let cron = Cron::from_str(pattern).expect(pattern);
        let now: ZonedDateTime = now.parse().expect(now);
        let next = cron.find_next_occurrence(&Local(now), false).expect("a next time");
        assert_eq!(next.0.timestamp(), expected.parse().expect(expected), "{pattern}");
    }

    #[test]
    fn a_pattern_is_held_against_the_wall_clock() {
        let zone = "[Europe/Berlin]";
        check("*/5 * * * *", &format!("2026-11-25T23:04:46+01:00{zone}"), "2026-11-25T22:05:00Z");
        check(
            "0 9 * * MON-FRI",
            &format!("2026-11-27T10:00:00+01:00{zone}"),
            "2026-11-30T08:00:00Z",
        );
        check("@daily", &format!("2026-12-31T23:59:59+01:00{zone}"), "2026-12-31T23:00:00Z");
        check(
            "*/10 * * * * *",
            &format!("2026-11-25T23:04:46+01:00{zone}"),
            "2026-11-25T22:04:50Z",
        );
    }

    #[test]
    fn an_hour_that_is_not_or_is_twice_runs_once() {
        let zone = "[Europe/Berlin]";
        // 2:30 does not exist on 28 March 2027, and is twice on 31 October 2027.
        check("30 2 * * *", &format!("2027-03-28T00:00:00+01:00{zone}"), "2027-03-28T01:00:00Z");
        check("30 2 * * *", &format!("2027-10-31T00:00:00+02:00{zone}"), "2027-10-31T00:30:00Z");
        check("30 2 * * *", &format!("2027-10-31T02:30:00+02:00{zone}"), "2027-11-01T01:30:00Z");
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_counts_from_the_start_of_the_run_before() {
        let schedule = Schedule::Every(Duration::from_secs(60));
        let begin = Instant::now();
        schedule.wait(None).await;
        assert_eq!(begin.elapsed(), Duration::ZERO);
        sleep(Duration::from_secs(20)).await;
        schedule.wait(Some(begin)).await;
        assert_eq!(begin.elapsed().as_secs(), 60);
        // A run that took longer is followed by the next at once.
        sleep(Duration::from_secs(100)).await;
        schedule.wait(Some(begin + Duration::from_secs(60))).await;
        assert_eq!(begin.elapsed().as_secs(), 160);
    }
}
