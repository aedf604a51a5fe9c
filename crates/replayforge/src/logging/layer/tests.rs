//! The way of an event through the whole layer, seen at a captured writer.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::recent_logs::{Part, RecentLogs};
use tracing::level_filters::LevelFilter;
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{debug, error, info, info_span, warn};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::SubscriberExt;

use super::{LogLayer, Look};

/// A writer whose content can be seen, and that can be broken.
#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Pipe>>);

#[derive(Default)]
struct Pipe {
    written: Vec<u8>,
    closed: bool,
}

impl Captured {
    /// Makes this thread log here, for as long as the guard lives.
    fn listen(&self, look: Look, level: LevelFilter) -> DefaultGuard {
        let layer = LogLayer::new(look, Box::new(self.clone()));
        set_default(Registry::default().with(level).with(layer))
    }

    fn set_closed(&self, closed: bool) {
        self.0.lock().closed = closed;
    }

    /// The lines since the last call, without their time.
    fn lines(&self) -> Vec<String> {
        let written = std::mem::take(&mut self.0.lock().written);
        let text = String::from_utf8(written).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut pipe = self.0.lock();
        if pipe.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        pipe.written.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What `log` writes as text at the level `info`.
fn check(log: impl FnOnce(), expected: &[&str]) {
    let captured = Captured::default();
    let guard = captured.listen(Look::Text, LevelFilter::INFO);
    log();
    drop(guard);
    assert_eq!(captured.lines(), expected);
}

#[test]
fn fields_keep_their_kind_and_order() {
    let error = anyhow::anyhow!("inner").context("outer");
    let error: &(dyn std::error::Error + 'static) = error.as_ref();
    check(
        || {
            info!(sink = "a", records = 3_u64, delta = -1, ok = true, "batch {}", "sent");
            info!(%error, debug = ?Some("x"), "plain");
            info!(error, r#type = %"http", huge = u128::MAX, ratio = f64::NAN, "odd");
        },
        &[
            " INFO batch sent sink=a records=3 delta=-1 ok=true",
            r#" INFO plain error=outer debug="Some(\"x\")""#,
            r#" INFO odd error="outer: inner" type=http huge=340282366920938463463374607431768211455 ratio=NaN"#,
        ],
    );
}

#[test]
fn levels_below_the_chosen_one_are_not_written() {
    check(
        || {
            debug!("hidden");
            warn!("shown");
        },
        &[" WARN shown"],
    );
}

#[test]
fn spans_give_their_fields_to_the_events_inside() {
    check(
        || {
            let role = info_span!("role", role = "proxy", peer = tracing::field::Empty).entered();
            role.record("peer", "1.2.3.4");
            let sink = info_span!("sink", sink = "a").entered();
            info!(records = 1, "in both");
            info!(sink = "b", "the event wins");
            drop(sink);
            info!("in one");
        },
        &[
            " INFO in both role=proxy peer=1.2.3.4 sink=a records=1",
            " INFO the event wins role=proxy peer=1.2.3.4 sink=b",
            " INFO in one role=proxy peer=1.2.3.4",
        ],
    );
}

#[test]
fn identical_is_all_but_the_numbers() {
    check(
        || {
            for count in 0..9 {
                warn!(sink = "a", count, "full");
                warn!(sink = "b", count, "full");
            }
            error!(sink = "a", "full");
            warn!(target: "elsewhere", sink = "a", "full");
        },
        &[
            " WARN full sink=a count=0",
            " WARN full sink=b count=0",
            " WARN full (muted for 3 minutes) sink=a count=1",
            " WARN full (muted for 3 minutes) sink=b count=1",
            "ERROR full sink=a",
            " WARN full sink=a",
        ],
    );
}

#[test]
fn changes_of_state_are_shown_each_time() {
    let round = [
        " WARN away source=b",
        " WARN away (muted for 3 minutes) source=b",
        " INFO works again source=b tries=5",
    ];
    check(
        || {
            for _ in 0..3 {
                let mut state = Some("down");
                for _ in 0..5 {
                    warn!(source = "b", state, "away");
                    state = None;
                }
                info!(source = "b", tries = 5, state = "up", "works again");
            }
            info!(state = "idle", "another word");
        },
        &[&round[..], &round, &round, &[" INFO another word state=idle"]].concat(),
    );
}

#[test]
fn numbers_count_for_who_asks_for_debug() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Text, LevelFilter::DEBUG);
    for records in [1, 2, 3, 3, 3] {
        debug!(records, "batch sent");
    }
    assert_eq!(
        captured.lines(),
        [
            "DEBUG batch sent records=1",
            "DEBUG batch sent records=2",
            "DEBUG batch sent records=3",
            "DEBUG batch sent (muted for 3 minutes) records=3",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_mute_tells_how_many_were_muted() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Text, LevelFilter::INFO);
    let log = || info!("again");
    for _ in 0..7 {
        log();
    }
    assert_eq!(captured.lines(), [" INFO again", " INFO again (muted for 3 minutes)"]);
    tokio::time::advance(Duration::from_secs(179)).await;
    log();
    assert_eq!(captured.lines(), [""; 0]);
    tokio::time::advance(Duration::from_secs(1)).await;
    log();
    assert_eq!(captured.lines(), [" INFO again (was muted 6 times)"]);
}

#[tokio::test(start_paused = true)]
async fn a_mute_that_ends_in_silence_is_announced() {
    let captured = Captured::default();
    let layer = LogLayer::new(Look::Text, Box::new(captured.clone()));
    let exit = Arc::clone(&layer.exit);
    let guard = set_default(Registry::default().with(LevelFilter::INFO).with(layer));
    for count in 0..5 {
        warn!(sink = "a", count, "full");
        warn!(sink = "b", count, "{}", "é".repeat(300));
    }
    drop(guard);
    captured.lines();
    tokio::time::advance(Duration::from_secs(180)).await;
    exit.lock().announce_ended(tokio::time::Instant::now());
    let mut lines = captured.lines();
    lines.sort();
    let ended = "(was muted 3 times, last 180 s ago)";
    let cut = "é".repeat(200);
    assert_eq!(
        lines,
        [format!(" WARN full {ended} sink=a"), format!(" WARN {cut}… {ended} sink=b")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_cut_and_announced() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Text, LevelFilter::INFO);
    for number in 0..1_300 {
        info!("line {number}");
    }
    assert_eq!(captured.lines().len(), 1_000);
    tokio::time::advance(Duration::from_secs(2)).await;
    info!("later");
    assert_eq!(
        captured.lines(),
        [
            " WARN log lines were suppressed: too many at once, or stderr accepted none lines=300",
            " INFO later",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_closed_stderr_loses_lines_and_nothing_else() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Text, LevelFilter::INFO);
    captured.set_closed(true);
    info!("one");
    info!("two");
    captured.set_closed(false);
    tokio::time::advance(Duration::from_secs(1)).await;
    info!("three");
    assert_eq!(
        captured.lines(),
        [
            " WARN log lines were suppressed: too many at once, or stderr accepted none lines=2",
            " INFO three",
        ]
    );
}

#[test]
fn pages_keep_lines_from_info_on() {
    let recent = Arc::new(RecentLogs::default());
    let layer = LogLayer::new(Look::Text, Box::new(Captured::default()));
    let layer = layer.keeping(Arc::clone(&recent));
    let guard = set_default(Registry::default().with(LevelFilter::DEBUG).with(layer));
    info!(sink = "a", "kept");
    debug!(sink = "a", "a batch");
    drop(guard);
    let lines = recent.of(Part::Sink, "a", 9);
    assert_eq!(lines.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(), ["kept"]);
}

#[test]
fn a_huge_value_is_cut() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Text, LevelFilter::INFO);
    let huge = "é".repeat(1024 * 1024);
    info!(body = %huge, "{huge} and {huge}");
    let lines = captured.lines();
    let cut = format!("{}…", "é".repeat(4 * 1024));
    assert_eq!(lines, [format!(" INFO {cut} body={cut}")]);
}

#[test]
fn json_lines_are_objects_with_a_utc_time() {
    let captured = Captured::default();
    let _guard = captured.listen(Look::Json, LevelFilter::INFO);
    info!(sink = "a", records = 3, "sent");
    let written = captured.0.lock().written.clone();
    let line: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!((&line["level"], &line["message"]), (&"info".into(), &"sent".into()));
    assert_eq!(line["fields"], serde_json::json!({"sink": "a", "records": 3}));
    let time = line["timestamp"].as_str().unwrap();
    let shape = time.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
}
