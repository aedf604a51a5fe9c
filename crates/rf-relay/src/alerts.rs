//! Alerts about ReplayForge itself: what is wrong is told once, and once more when it is over.
//!
//! Promises: what is wrong for less than `alerts.after` is not told; what was told is not told again, over a restart of
//! the relay too, unless it becomes worse, or a service had not got it yet; its end is told, and likewise over a restart; a
//! node that is forgotten does not count as recovered.

mod heartbeat;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

pub(crate) use heartbeat::beat;
use tell::Pending;
pub(crate) use tell::{Teller, tell};

use crate::report::{ITSELF, Level, RelayView, Report, Subject, ago};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// So many things that are wrong at a time are watched; further ones of nodes are seen on the page. Those of the relay and its
/// buckets are bounded by its file and always watched: whoever has a token can tell of more nodes in trouble than this.
const MAX_OPEN: usize = 4096;

/// Everything that is wrong now, and what was told of it.
#[derive(Debug)]
pub(crate) struct Alerts {
    after: Duration,
    least: Level,
    open: Mutex<BTreeMap<Key, Open>>,
}

/// As it is kept on disk.
pub(crate) type KeptAlerts = Vec<(Key, Open)>;

/// What is wrong with what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Key {
    subject: Subject,
    id: String,
    key: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Open {
    since_ms: u64,
    /// The worst that was told.
    told: Option<Level>,
    /// To be told anew: a service had not got it before the restart.
    #[serde(default)]
    again: bool,
    /// It is over, which the message says; kept until that has arrived.
    #[serde(skip)]
    has_ended: bool,
    /// The message that tells it.
    #[serde(skip)]
    pending: Pending,
}

impl Open {
    fn new(since_ms: u64) -> Self {
        Self { since_ms, told: None, again: false, has_ended: false, pending: Pending::default() }
    }
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    pub(crate) subject: Subject,
    pub(crate) id: String,
    pub(crate) what: What,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// It is wrong.
    Wrong {
        /// How bad.
        level: Level,
        /// Why.
        text: String,
    },
    /// It was wrong for so long, and is not any more.
    Recovered {
        /// Names what was wrong.
        key: String,
        /// For how long.
        lasted: String,
    },
}

impl Change {
    /// One line for a person.
    pub(crate) fn line(&self) -> String {
        let (subject, id) = (self.subject.as_str(), &self.id);
        let line = match &self.what {
            What::Wrong { level: Level::Bad, text } => format!("TROUBLE {subject} {id}: {text}"),
            What::Wrong { text, .. } => format!("WARNING {subject} {id}: {text}"),
            What::Recovered { key, lasted } => {
                format!("RECOVERED {subject} {id}: {key}, after {lasted}")
            }
        };
        // Nodes name themselves, and quote others: none of that may look like a line of its own.
        line.replace(|letter: char| letter.is_control() || is_line_end(letter), " ")
    }
}

/// Line ends that are no control characters.
fn is_line_end(letter: char) -> bool {
    matches!(letter, '\u{2028}' | '\u{2029}')
}

impl Alerts {
    /// What was kept was bounded when it came.
    pub(crate) fn new(after: Duration, least: Level, kept: KeptAlerts) -> Self {
        Self { after, least, open: Mutex::new(kept.into_iter().collect()) }
    }

    /// What shall be kept. What is still on its way to a service is to be told anew by the next run: an end by finding that
    /// what was told is over.
    pub(crate) fn kept(&self) -> KeptAlerts {
        let open = self.open.lock();
        let known = open.iter().filter(|(_, open)| !(open.has_ended && open.pending.is_over()));
        let keep = |(key, open): (&Key, &Open)| {
            let again = open.again || !(open.has_ended || open.pending.is_over());
            (key.clone(), Open { told: open.told, again, ..Open::new(open.since_ms) })
        };
        known.map(keep).collect()
    }

    /// What is to be told after a look at the system, and the message that tells it.
    pub(crate) fn look(&self, report: &Report) -> (Vec<Change>, Pending) {
        let mut open = self.open.lock();
        let (mut changes, pending) = (Vec::new(), Pending::default());
        let mut wrong = BTreeSet::new();
        for trouble in report.troubles() {
            let why = trouble.why;
            let key =
                Key { subject: trouble.subject, id: trouble.id.to_owned(), key: why.key.clone() };
            wrong.insert(key.clone());
            let is_bounded = trouble.subject != Subject::Node;
            let has_room = is_bounded || open.len() < MAX_OPEN || open.contains_key(&key);
            if why.level < self.least || !has_room {
                continue;
            }
            let known = open.entry(key).or_insert_with(|| Open::new(report.at_ms));
            // A clock that was ahead would have it wait until then.
            known.since_ms = known.since_ms.min(report.at_ms);
            if known.has_ended {
                *known = Open::new(report.at_ms);
            }
            let lasts = Duration::from_millis(report.at_ms.saturating_sub(known.since_ms));
            if lasts >= self.after && (known.again || known.told < Some(why.level)) {
                // Told anew, it may be less bad: who got that alone is told when it is worse again.
                (known.told, known.again, known.pending) =
                    (Some(why.level), false, pending.clone());
                changes.push(Change {
                    subject: trouble.subject,
                    id: trouble.id.to_owned(),
                    what: What::Wrong { level: why.level, text: why.text.clone() },
                });
            }
        }
        let known: BTreeSet<(Subject, &str)> = subjects(report).collect();
        // At a start, the alerts look before the buckets are open.
        let closed = report.buckets.iter().filter(|bucket| bucket.is_closed);
        let closed: BTreeSet<&str> = closed.map(|bucket| bucket.name.as_str()).collect();
        open.retain(|key, open| {
            if wrong.contains(key) {
                return true;
            }
            if open.has_ended {
                return !open.pending.is_over();
            }
            if key.subject == Subject::Bucket && closed.contains(key.id.as_str()) {
                return true;
            }
            let is_told = open.told.is_some() && known.contains(&(key.subject, key.id.as_str()));
            if is_told {
                let lasted = ago(open.since_ms, report.at_ms);
                let what = What::Recovered { key: key.key.clone(), lasted };
                changes.push(Change { subject: key.subject, id: key.id.clone(), what });
                (open.has_ended, open.pending) = (true, pending.clone());
            }
            is_told
        });
        (changes, pending)
    }
}

/// What there is. A node that was missing was known by its host alone.
fn subjects(report: &Report) -> impl Iterator<Item = (Subject, &str)> {
    let buckets = report.buckets.iter().map(|bucket| (Subject::Bucket, bucket.name.as_str()));
    let names = report.nodes.iter().flat_map(|node| [node.id.as_str(), node.host.as_str()]);
    let relay = std::iter::once((Subject::Relay, ITSELF));
    relay.chain(buckets).chain(names.map(|name| (Subject::Node, name)))
}

/// Looks now and then until `stop`, writes to the log what is to be told, and hands it on.
pub(crate) async fn run(
    view: Arc<RelayView>,
    alerts: Arc<Alerts>,
    tellers: Vec<Teller>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut ticks = tokio::time::interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        let (changes, pending) = alerts.look(&view.report(unix_ms()));
        for change in &changes {
            let (subject, id, line) = (change.subject.as_str(), change.id.as_str(), change.line());
            match &change.what {
                What::Wrong { .. } => tracing::warn!(subject, id, "{line}"),
                What::Recovered { .. } => tracing::info!(subject, id, "{line}"),
            }
        }
        if !changes.is_empty() {
            tellers.iter().for_each(|teller| teller.hand_on(&changes, &pending));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{BucketReport, NodeReport, Why};

    const MINUTE: u64 = 60_000;

    /// A system whose node `web` has these troubles.
    fn report(at_ms: u64, troubles: &[(Level, &str)]) -> Report {
        let why = |(level, key): &(Level, &str)| Why {
            level: *level,
            key: (*key).to_owned(),
            text: format!("it is {key}"),
        };
        let node = NodeReport {
            id: "web".to_owned(),
            why: troubles.iter().map(why).collect(),
            ..NodeReport::default()
        };
        Report { at_ms, nodes: vec![node], ..Report::default() }
    }

    fn lines(alerts: &Alerts, report: &Report) -> Vec<String> {
        alerts.look(report).0.iter().map(Change::line).collect()
    }

    fn alerts(kept: KeptAlerts) -> Alerts {
        Alerts::new(Duration::from_secs(60), Level::Warn, kept)
    }

    #[test]
    fn what_lasts_is_told_once_and_its_end_too() {
        let alerts = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        assert_eq!(lines(&alerts, &report(0, &silent)), [""; 0]);
        assert_eq!(lines(&alerts, &report(MINUTE - 1, &silent)), [""; 0]);
        assert_eq!(lines(&alerts, &report(MINUTE, &silent)), ["TROUBLE node web: it is silent"]);
        assert_eq!(lines(&alerts, &report(9 * MINUTE, &silent)), [""; 0]);
        assert_eq!(
            lines(&alerts, &report(10 * MINUTE, &[])),
            ["RECOVERED node web: silent, after 10 min"]
        );
        assert_eq!(lines(&alerts, &report(11 * MINUTE, &[])), [""; 0]);
    }

    #[test]
    fn what_is_short_is_never_told_and_what_becomes_worse_is_told_again() {
        let alerts = alerts(Vec::new());
        assert_eq!(lines(&alerts, &report(0, &[(Level::Bad, "silent")])), [""; 0]);
        assert_eq!(lines(&alerts, &report(MINUTE, &[])), [""; 0]);
        let filling = |level| [(level, "filling")];
        lines(&alerts, &report(MINUTE, &filling(Level::Warn)));
        let warned = lines(&alerts, &report(2 * MINUTE, &filling(Level::Warn)));
        assert_eq!(warned, ["WARNING node web: it is filling"]);
        let worse = lines(&alerts, &report(3 * MINUTE, &filling(Level::Bad)));
        assert_eq!(worse, ["TROUBLE node web: it is filling"]);
        assert_eq!(lines(&alerts, &report(4 * MINUTE, &filling(Level::Warn))), [""; 0]);
    }

    #[test]
    fn a_restart_tells_nothing_again_and_forgetting_is_no_recovery() {
        let before = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        lines(&before, &report(0, &silent));
        lines(&before, &report(MINUTE, &silent));
        let kept = serde_json::to_vec(&before.kept()).unwrap();
        let after = alerts(serde_json::from_slice(&kept).unwrap());
        assert_eq!(lines(&after, &report(2 * MINUTE, &silent)), [""; 0]);
        let forgotten = Report { at_ms: 3 * MINUTE, ..Report::default() };
        assert_eq!(lines(&after, &forgotten), [""; 0]);
        assert!(after.kept().is_empty());
    }

    #[test]
    fn what_a_service_has_not_got_before_a_restart_is_told_again() {
        let before = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        before.look(&report(0, &silent));
        let (changes, pending) = before.look(&report(MINUTE, &silent));
        let (teller, mut messages) = Teller::new("phone");
        teller.hand_on(&changes, &pending);
        let told_again = || lines(&alerts(before.kept()), &report(2 * MINUTE, &silent));
        assert_eq!(told_again(), ["TROUBLE node web: it is silent"]);
        // Another service may have got it.
        let end = lines(&alerts(before.kept()), &report(10 * MINUTE, &[]));
        assert_eq!(end, ["RECOVERED node web: silent, after 10 min"]);
        messages.try_recv().unwrap().1.end();
        assert_eq!(told_again(), [""; 0]);
    }

    #[test]
    fn what_is_told_anew_as_less_bad_is_told_when_it_is_worse_again() {
        let before = alerts(Vec::new());
        let filling = |level| [(level, "filling")];
        before.look(&report(0, &filling(Level::Bad)));
        let (changes, pending) = before.look(&report(MINUTE, &filling(Level::Bad)));
        let (teller, _messages) = Teller::new("phone");
        teller.hand_on(&changes, &pending);
        let after = alerts(before.kept());
        let warned = lines(&after, &report(2 * MINUTE, &filling(Level::Warn)));
        assert_eq!(warned, ["WARNING node web: it is filling"]);
        let worse = lines(&after, &report(3 * MINUTE, &filling(Level::Bad)));
        assert_eq!(worse, ["TROUBLE node web: it is filling"]);
    }

    #[test]
    fn an_end_that_a_service_has_not_got_before_a_restart_is_told_again() {
        let before = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        before.look(&report(0, &silent));
        before.look(&report(MINUTE, &silent));
        let (changes, pending) = before.look(&report(2 * MINUTE, &[]));
        let (teller, mut messages) = Teller::new("phone");
        teller.hand_on(&changes, &pending);
        assert_eq!(lines(&before, &report(3 * MINUTE, &[])), [""; 0]);
        let told_again =
            |now: &[(Level, &str)]| lines(&alerts(before.kept()), &report(10 * MINUTE, now));
        assert_eq!(told_again(&[]), ["RECOVERED node web: silent, after 10 min"]);
        assert_eq!(told_again(&silent), [""; 0], "as far as the service knows, it goes on");
        messages.try_recv().unwrap().1.end();
        assert_eq!(told_again(&[]), [""; 0]);
        assert!(before.kept().is_empty());
    }

    #[test]
    fn what_comes_back_before_its_end_is_known_is_another_trouble() {
        let alerts = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        alerts.look(&report(0, &silent));
        alerts.look(&report(MINUTE, &silent));
        let (changes, pending) = alerts.look(&report(2 * MINUTE, &[]));
        let (teller, _messages) = Teller::new("phone");
        teller.hand_on(&changes, &pending);
        assert_eq!(lines(&alerts, &report(3 * MINUTE, &silent)), [""; 0]);
        assert_eq!(
            lines(&alerts, &report(4 * MINUTE, &silent)),
            ["TROUBLE node web: it is silent"]
        );
    }

    #[test]
    fn a_missing_node_recovers_under_the_name_that_it_tells() {
        let alerts = Alerts::new(Duration::ZERO, Level::Warn, Vec::new());
        assert_eq!(lines(&alerts, &report(0, &[(Level::Bad, "silent")])).len(), 1);
        let mut there = report(MINUTE, &[]);
        there.nodes[0].id = "web/proxy".to_owned();
        there.nodes[0].host = "web".to_owned();
        assert_eq!(lines(&alerts, &there), ["RECOVERED node web: silent, after 60 s"]);
    }

    #[test]
    fn of_a_bucket_that_is_not_open_yet_nothing_is_over() {
        let why = Why { level: Level::Warn, key: "filling".to_owned(), text: String::new() };
        let bucket = |why: &[Why], is_closed: bool| {
            let bucket =
                BucketReport { name: "b".to_owned(), is_closed, ..BucketReport::default() };
            let buckets = vec![BucketReport { why: why.to_vec(), ..bucket }];
            Report { at_ms: 10 * MINUTE, buckets, ..Report::default() }
        };
        let alerts = Alerts::new(Duration::ZERO, Level::Warn, Vec::new());
        let filling = [why];
        assert_eq!(lines(&alerts, &bucket(&filling, false)).len(), 1);
        assert_eq!(lines(&alerts, &bucket(&[], true)), [""; 0]);
        assert_eq!(lines(&alerts, &bucket(&filling, false)), [""; 0]);
        assert_eq!(lines(&alerts, &bucket(&[], false)), ["RECOVERED bucket b: filling, after 0 s"]);
    }

    #[test]
    fn nodes_in_trouble_without_end_hide_nothing_of_the_relay_and_its_buckets() {
        let alerts = Alerts::new(Duration::ZERO, Level::Warn, Vec::new());
        let keys: Vec<String> = (0..2 * MAX_OPEN).map(|number| number.to_string()).collect();
        let troubles: Vec<_> = keys.iter().map(|key| (Level::Bad, key.as_str())).collect();
        let mut system = report(0, &troubles);
        assert_eq!(lines(&alerts, &system).len(), MAX_OPEN);
        let why = Why { level: Level::Warn, key: "disk".to_owned(), text: "full".to_owned() };
        system.why = vec![why.clone()];
        system.buckets =
            vec![BucketReport { name: "b".to_owned(), why: vec![why], ..BucketReport::default() }];
        let told = lines(&alerts, &system);
        assert_eq!(told, ["WARNING relay itself: full", "WARNING bucket b: full"]);
        let kept = alerts.kept();
        let again = Alerts::new(Duration::ZERO, Level::Warn, kept);
        assert_eq!(lines(&again, &system), [""; 0]);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_delay_what_is_told() {
        let alerts = alerts(Vec::new());
        let silent = [(Level::Bad, "silent")];
        lines(&alerts, &report(1000 * MINUTE, &silent));
        assert_eq!(lines(&alerts, &report(0, &silent)), [""; 0]);
        assert_eq!(lines(&alerts, &report(MINUTE, &silent)), ["TROUBLE node web: it is silent"]);
    }

    #[test]
    fn what_a_node_says_is_no_line_of_its_own() {
        let what = What::Wrong { level: Level::Warn, text: "a\nRECOVERED x\u{2028}b".to_owned() };
        let change = Change { subject: Subject::Node, id: "w\re\u{1b}b".to_owned(), what };
        assert_eq!(change.line(), "WARNING node w e b: a RECOVERED x b");
    }

    #[test]
    fn only_what_is_bad_enough_is_told() {
        let alerts = Alerts::new(Duration::ZERO, Level::Bad, Vec::new());
        let mut system = report(0, &[(Level::Warn, "clock")]);
        let why = Why { level: Level::Bad, key: "drops".to_owned(), text: "dropped".to_owned() };
        system.buckets =
            vec![BucketReport { name: "b".to_owned(), why: vec![why], ..BucketReport::default() }];
        assert_eq!(lines(&alerts, &system), ["TROUBLE bucket b: dropped"]);
    }
}
