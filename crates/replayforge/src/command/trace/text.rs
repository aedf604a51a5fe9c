//! The way of an event as text. What comes from other machines cannot steer the terminal.

use std::time::{Duration, UNIX_EPOCH};

use rf_core::trace::{Passed, Step, TraceReport};
use uuid::Uuid;

use crate::command::status::plain;
use crate::command::time_of_day;

/// The last second that a date of HTTP can name, at the end of the year 9999: ids and times may say anything.
const LAST_US: u64 = 253_402_300_799_000_000;

struct Line {
    at_us: u64,
    program: String,
    text: String,
}

/// When the event was captured: UUIDv7 begins with that.
pub(super) fn captured_at_us(id: Uuid) -> Option<u64> {
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    Some(seconds * 1_000_000 + u64::from(nanos / 1000))
}

/// Every step in the order of time, and where the event is now.
pub(super) fn way(id: Uuid, reports: &[(String, TraceReport)]) -> String {
    let mut steps = Vec::new();
    for (name, report) in reports {
        let program = program(name, report);
        let line = |passed: &Passed| Line {
            at_us: passed.at_us,
            program: program.clone(),
            text: words(&report.role, passed),
        };
        steps.extend(report.steps.iter().map(line));
    }
    // Those of one program are in order: the sort must not change that.
    steps.sort_by_key(|line| line.at_us);
    let captured = captured_at_us(id);
    let day = |at_us: u64| {
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_micros(at_us.min(LAST_US)))
    };
    let day = captured.or(steps.first().map(|line| line.at_us)).map(day).unwrap_or_default();
    let mut lines = vec![format!("event {id}, {}", day.get(..16).unwrap_or("on an unknown day"))];
    let width = steps.iter().map(|line| line.program.chars().count()).max().unwrap_or_default();
    lines.extend(
        captured
            .map(|at_us| row(at_us, "", &format!("{:width$}  captured, according to its id", ""))),
    );
    let mut before = captured;
    for line in &steps {
        let after = before.map(|before| after(before, line.at_us)).unwrap_or_default();
        lines.push(row(line.at_us, &after, &format!("{:width$}  {}", line.program, line.text)));
        before = Some(line.at_us);
    }
    lines.extend(reports.iter().flat_map(|(name, report)| now(&program(name, report), report)));
    lines.join("\n") + "\n"
}

/// What to say when nobody knows the event.
pub(super) fn unknown(id: Uuid, reports: &[(String, TraceReport)]) -> String {
    let mut lines = vec![format!("no program that answered knows the event {id}")];
    for (name, report) in reports {
        let journal = match (report.journal.limit, report.journal.since_us) {
            (0, _) => "remembers nothing (traceSteps: 0, or it does not run)".to_owned(),
            (_, None) => "remembers nothing yet".to_owned(),
            (_, Some(since)) => format!("remembers steps since {} UTC", time_of_day(since)),
        };
        let program = program(name, report);
        lines.push(format!("{program} {journal}"));
        lines.extend(unsearched(&program, report));
    }
    lines.join("\n")
}

/// Where the event is now, as far as the program can tell.
fn now(program: &str, report: &TraceReport) -> Vec<String> {
    let kind = if report.role == "relay" { "bucket" } else { "the queue of" };
    let waiting = report.waiting.iter().map(|waiting| {
        let (place, since) = (plain(&waiting.place), clock_of_ms(waiting.since_ms));
        format!("now: {program}: waits in {kind} `{place}` since {since} UTC")
    });
    let letters = report.dead_letters.iter().map(|letter| {
        let (place, reason) = (plain(&letter.place), plain(&letter.reason));
        let (number, attempts, at) = (letter.number, letter.attempts, clock_of_ms(letter.at_ms));
        format!(
            "now: {program}: dead letter {number} of `{place}` since {at} UTC, after {attempts} attempts: {reason}"
        )
    });
    waiting.chain(letters).chain(unsearched(program, report)).collect()
}

fn unsearched(program: &str, report: &TraceReport) -> Option<String> {
    let places: Vec<String> = report.unsearched.iter().map(|place| plain(place)).collect();
    let places = Some(places.join("; ")).filter(|places| !places.is_empty())?;
    Some(format!("{program}: not searched: {places}"))
}

fn program(name: &str, report: &TraceReport) -> String {
    match (report.role.as_str(), report.host.as_str()) {
        ("", _) => plain(name),
        (role, "") => plain(role),
        (role, host) => plain(&format!("{role} {host}")),
    }
}

fn words(role: &str, passed: &Passed) -> String {
    let place = plain(&passed.place);
    let detail = passed.detail.as_deref().map(plain).unwrap_or_default();
    let because = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let attempt = passed.attempt;
    let again = if attempt > 1 { format!(", attempt {attempt}") } else { String::new() };
    match (passed.step, role) {
        (Step::Stored, "relay") => format!("stored in bucket `{place}`{because}"),
        (Step::Stored, _) => format!("stored, from source `{place}`"),
        (Step::Repeated, "relay") => format!("came to bucket `{place}` again, ignored{because}"),
        (Step::Repeated, _) => format!("came from source `{place}` again, ignored"),
        (Step::Script, _) => format!("through the script of source `{place}`{because}"),
        (Step::Shipped, _) => format!("shipped by sink `{place}`, try {attempt}{because}"),
        (Step::Pulled, "relay") => format!("handed out of bucket `{place}` {detail}{again}"),
        (Step::Pulled, _) => format!("pulled from bucket `{place}`{again}"),
        (Step::Delivered, _) => format!("delivered by sink `{place}`, try {attempt}"),
        (Step::Retried, _) => format!("try {attempt} of sink `{place}` failed{because}"),
        (Step::Dropped, _) => format!("dropped at `{place}`{because}"),
        (Step::DeadLettered, _) => {
            format!("dead letter of `{place}`, after {attempt} attempts{because}")
        }
        (Step::Other, _) => {
            format!("a step at `{place}` that this program is too old to name{because}")
        }
    }
}

fn row(at_us: u64, after: &str, text: &str) -> String {
    format!("{}  {after:>10}  {text}", time_of_day(at_us))
}

/// `+1.2 ms`; negative where two machines disagree about the time.
fn after(before: u64, at_us: u64) -> String {
    let (sign, us) = if at_us >= before { ('+', at_us - before) } else { ('-', before - at_us) };
    let (whole, unit) = match us {
        0..1000 => return format!("{sign}{us} us"),
        1000..1_000_000 => (1000, "ms"),
        1_000_000..60_000_000 => (1_000_000, "s"),
        60_000_000..3_600_000_000 => (60_000_000, "min"),
        _ => (3_600_000_000, "h"),
    };
    format!("{sign}{}.{} {unit}", us / whole, us % whole * 10 / whole)
}

fn clock_of_ms(at_ms: u64) -> String {
    time_of_day(at_ms.saturating_mul(1000))
}

#[cfg(test)]
mod tests {
    use rf_core::trace::{Buried, JournalSpan, Waiting};

    use super::*;

    const ID: Uuid = Uuid::from_u128(0x019a_be40_7d3b_7000_8000_0000_0000_0001);

    fn passed(at_us: u64, step: Step, place: &str, attempt: u32, detail: &str) -> Passed {
        let detail = Some(detail.to_owned()).filter(|detail| !detail.is_empty());
        Passed { at_us, step, place: place.to_owned(), attempt, detail }
    }

    fn report(role: &str, host: &str, steps: Vec<Passed>) -> (String, TraceReport) {
        let report = TraceReport {
            role: role.to_owned(),
            host: host.to_owned(),
            steps,
            ..TraceReport::default()
        };
        ("http://url".to_owned(), report)
    }

    #[test]
    fn steps_of_all_programs_stand_in_the_order_of_time() {
        let at = captured_at_us(ID).unwrap();
        let proxy = report(
            "proxy",
            "web-1",
            vec![
                passed(at + 300, Step::Stored, "in", 0, ""),
                passed(at + 3_500, Step::Retried, "out", 1, "away\x1b[2J"),
                passed(at + 65_003_500, Step::Shipped, "out", 2, "batch 7"),
            ],
        );
        let relay = report(
            "relay",
            "",
            vec![
                passed(at + 65_002_500, Step::Stored, "b", 0, "from web-1, batch 7"),
                passed(at + 65_900_000, Step::Pulled, "b", 2, "by home"),
            ],
        );
        let mut player =
            report("player", "home", vec![passed(at + 65_000_000, Step::Other, "b", 0, "")]);
        player.1.waiting =
            vec![Waiting { place: "target".to_owned(), number: 1, since_ms: at / 1000 + 70_000 }];
        player.1.dead_letters = vec![Buried {
            place: "other".to_owned(),
            number: 3,
            since_ms: 0,
            at_ms: at / 1000 + 80_000,
            attempts: 5,
            reason: "410".to_owned(),
        }];
        let expected = "\
event 019abe40-7d3b-7000-8000-000000000001, Wed, 26 Nov 2025
03:41:28.763              ___________  captured, according to its id
03:41:28.763     +300 us  proxy web-1  stored, from source `in`
03:41:28.766     +3.2 ms  proxy web-1  try 1 of sink `out` failed: away\u{fffd}[2J
03:42:33.763    +1.0 min  player home  a step at `b` that this program is too old to name
03:42:33.765     +2.5 ms  relay        stored in bucket `b`: from web-1, batch 7
03:42:33.766     +1.0 ms  proxy web-1  shipped by sink `out`, try 2: batch 7
03:42:34.663   +896.5 ms  relay        handed out of bucket `b` by home, attempt 2
now: player home: waits in the queue of `target` since 03:42:38.763 UTC
now: player home: dead letter 3 of `other` since 03:42:48.763 UTC, after 5 attempts: 410
";
        assert_eq!(
            way(ID, &[proxy, relay, player]),
            expected.replace("___________", "           ")
        );
    }

    #[test]
    fn an_id_and_times_that_cannot_be_end_nothing() {
        let id = Uuid::from_u128(0xffff_ffff_ffff_7fff_bfff_ffff_ffff_ffff);
        let mut relay = report("relay", "", vec![passed(u64::MAX, Step::Stored, "b", 0, "")]);
        relay.1.waiting = vec![Waiting { place: "b".to_owned(), number: 1, since_ms: u64::MAX }];
        let told = way(id, &[relay]);
        assert!(told.starts_with(&format!("event {id}, Fri, 31 Dec 9999\n")), "{told}");
    }

    #[test]
    fn who_knows_nothing_says_how_far_it_goes_back() {
        let mut proxy = report("proxy", "web-1", Vec::new());
        proxy.1.journal = JournalSpan { limit: 9, steps: 1, since_us: Some(3_661_500_000) };
        proxy.1.unsearched = vec!["bucket b: it is too long".to_owned()];
        let text = unknown(ID, &[proxy, report("", "", Vec::new())]);
        assert_eq!(
            text,
            format!(
                "no program that answered knows the event {ID}\n\
                 proxy web-1 remembers steps since 01:01:01.500 UTC\n\
                 proxy web-1: not searched: bucket b: it is too long\n\
                 http://url remembers nothing (traceSteps: 0, or it does not run)"
            )
        );
    }

    #[test]
    fn spans_are_short() {
        for (from, to, expected) in [
            (0, 999, "+999 us"),
            (0, 1_250, "+1.2 ms"),
            (1_250, 0, "-1.2 ms"),
            (0, 2_900_000, "+2.9 s"),
            (0, 90_000_000, "+1.5 min"),
            (0, 7_200_000_000, "+2.0 h"),
        ] {
            assert_eq!(after(from, to), expected);
        }
    }
}
