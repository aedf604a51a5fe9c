//! When a command is run.

use std::cmp::Ordering;
use std::str::FromStr;
use std::time::Duration;

use croner::errors::CronError;
use croner::{CivilDate, CivilDateTime, CivilTime, Cron, CronDateTime, Resolution, Weekday};
use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::{SignedDuration, Timestamp, ZonedDateTime};
use rf_core::config::Interval;
use tokio::time::{Instant, sleep, sleep_until};

/// The wall clock is looked at again after so long: it may have been set, or the machine been asleep.
const LOOK_AT_CLOCK: Duration = Duration::from_secs(30);
/// A clock that is set back by no more is only put right: what has run in that time does not run again.
const CORRECTION: SignedDuration = SignedDuration::from_secs(60);

/// The fields of a pattern; the first may be left out.
const FIELDS: [&str; 6] = ["second", "minute", "hour", "day of month", "month", "day of week"];

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
                Err(("cron", "expected only one of intervalSeconds and cron".to_owned()))
            }
            (Some(interval), None) if interval.as_duration().is_zero() => {
                Err(("intervalSeconds", "expected a time above zero".to_owned()))
            }
            (Some(interval), None) => Ok(Some(Self::Every(interval.into()))),
            (None, Some(pattern)) => Cron::from_str(pattern)
                .map(|cron| Some(Self::Cron(Box::new(cron))))
                .map_err(|error| {
                    let field = wrong_field(pattern).unwrap_or_default();
                    let wanted = "expected a cron pattern such as \"*/5 * * * *\"";
                    ("cron", format!("{wanted}: {field}{error}"))
                }),
        }
    }

    /// Waits for the time of the next run; `last` is when the run before began. What came due during that run is passed
    /// over.
    pub(super) async fn wait(&self, last: Option<Instant>) {
        match (self, last) {
            (Self::Every(_), None) => {}
            (Self::Every(interval), Some(last)) => sleep_until(last + *interval).await,
            (Self::Cron(cron), _) => wait_for_clock(cron, ZonedDateTime::now).await,
        }
    }
}

/// The field that keeps a pattern from being one, where it is a single one.
fn wrong_field(pattern: &str) -> Option<String> {
    let fields: Vec<&str> = pattern.split_whitespace().collect();
    let unnamed = FIELDS.len().checked_sub(fields.len())?;
    let names = FIELDS.get(unnamed..).filter(|names| names.len() >= FIELDS.len() - 1)?;
    let is_wrong = |at: usize| {
        let mut alone = vec!["*"; fields.len()];
        alone[at] = fields[at];
        Cron::from_str(&alone.join(" ")).is_err()
    };
    let (_, name) = names.iter().enumerate().find(|(at, _)| is_wrong(*at))?;
    Some(format!("the {name} is wrong: "))
}

/// Waits for the next time that the pattern names; for ever where there is none.
async fn wait_for_clock(cron: &Cron, clock: impl Fn() -> ZonedDateTime) {
    loop {
        let now = clock();
        let begun = now.timestamp();
        let next = cron.find_next_occurrence(&Local(now), false).ok();
        let next = next.map(|next| next.0.timestamp());
        if next.is_none() {
            tracing::warn!(
                pattern = cron.as_str(),
                "the cron pattern matches no time in the future: the command will not run"
            );
        }
        if has_come(next, begun, || clock().timestamp()).await {
            return;
        }
        tracing::info!(
            pattern = cron.as_str(),
            "the clock was set back: calculating the next run again"
        );
    }
}

/// Waits for `next`. False when the clock is set back before it comes: then it may be years away, and another one the next.
async fn has_come(
    next: Option<Timestamp>,
    begun: Timestamp,
    clock: impl Fn() -> Timestamp,
) -> bool {
    let mut latest = begun;
    loop {
        let now = clock();
        if latest.duration_since(now) > CORRECTION {
            return false;
        }
        let left = match next.map(|next| left_until(next, now)) {
            Some(None) => return true,
            Some(Some(left)) => left.min(LOOK_AT_CLOCK),
            None => LOOK_AT_CLOCK,
        };
        latest = latest.max(now);
        sleep(left).await;
    }
}

/// `None` when it is time.
fn left_until(next: Timestamp, now: Timestamp) -> Option<Duration> {
    let left = Duration::try_from(next.duration_since(now)).ok()?;
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
    use std::cell::RefCell;

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

    /// A clock that goes on with the test's time, and can be set.
    struct Clock(RefCell<(ZonedDateTime, Instant)>);

    impl Clock {
        fn at(time: &str) -> Self {
            Self(RefCell::new((time.parse().expect(time), Instant::now())))
        }

        fn set(&self, time: &str) {
            *self.0.borrow_mut() = (time.parse().expect(time), Instant::now());
        }

        fn now(&self) -> ZonedDateTime {
            let (time, since) = self.0.borrow().clone();
            time.checked_add(since.elapsed()).expect("a time")
        }
    }

    /// The clock stands at `begin`, is `set` after so many seconds, and says `expected` when the wait is over.
    async fn check_wait(pattern: &str, begin: &str, set: Option<(u64, &str)>, expected: &str) {
        let cron = Cron::from_str(pattern).expect(pattern);
        let clock = Clock::at(begin);
        let setting = async {
            if let Some((seconds, time)) = set {
                sleep(Duration::from_secs(seconds)).await;
                clock.set(time);
            }
        };
        tokio::join!(wait_for_clock(&cron, || clock.now()), setting);
        let expected: Timestamp = expected.parse().expect(expected);
        assert_eq!(clock.now().timestamp().as_second(), expected.as_second(), "{pattern} {begin}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_has_another_next_time() {
        // At the boot of a machine without a clock of its own.
        let now = Some((60, "2026-11-25T23:04:00+01:00[Europe/Berlin]"));
        let begin = "2030-01-01T00:02:00+01:00[Europe/Berlin]";
        check_wait("*/5 * * * *", begin, now, "2026-11-25T22:05:00Z").await;
        check_wait("@daily", begin, now, "2026-11-25T23:00:00Z").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_put_right_after_a_run_does_not_bring_it_again() {
        let begin = "2026-11-25T12:05:00+01:00[Europe/Berlin]";
        let now = Some((29, "2026-11-25T12:04:58+01:00[Europe/Berlin]"));
        check_wait("*/5 * * * *", begin, now, "2026-11-25T11:10:00Z").await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_hour_that_comes_twice_is_no_clock_that_is_set_back() {
        // From the first 2:30 over the second one.
        let begin = "2027-10-31T02:30:00+02:00[Europe/Berlin]";
        check_wait("30 2 * * *", begin, None, "2027-11-01T01:30:00Z").await;
        check_wait("*/30 * * * *", begin, None, "2027-10-31T01:00:00Z").await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_that_never_comes_is_waited_for_in_vain() {
        let cron = Cron::from_str("0 0 30 2 *").expect("a pattern");
        let clock = Clock::at("2026-11-25T12:00:00+01:00[Europe/Berlin]");
        let waiting = wait_for_clock(&cron, || clock.now());
        let days = Duration::from_secs(3 * 24 * 3600);
        assert!(tokio::time::timeout(days, waiting).await.is_err(), "the command would run");
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
