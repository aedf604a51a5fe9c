//! A report as text. Names and sentences come from other machines: what could steer a terminal is taken out.

use rf_relay::report::{BucketReport, Level, NodeReport, Presence, Report, ago, bytes, count};

/// The whole report.
pub(super) fn status(report: &Report, url: &str) -> String {
    lines(report, url, usize::MAX).join("\n") + "\n"
}

/// As much of it as fits on a screen of so many rows and columns.
pub(super) fn top(report: &Report, url: &str, (rows, columns): (usize, usize)) -> String {
    let mut lines = lines(report, url, rows / 3);
    lines.truncate(rows.saturating_sub(1).max(1));
    let cut = |line: String| line.chars().take(columns.max(20)).collect::<String>();
    lines.into_iter().map(cut).collect::<Vec<_>>().join("\n") + "\n"
}

fn lines(report: &Report, url: &str, most_troubles: usize) -> Vec<String> {
    let troubles = report.troubles();
    let up = ago(report.started_at_ms, report.at_ms);
    let mut lines = vec![
        format!("relay {} at {}, up {up}: {}", report.version, plain(url), verdict(report)),
        String::new(),
    ];
    for trouble in troubles.iter().take(most_troubles) {
        let (level, what) = (word(trouble.why.level), trouble.subject.as_str());
        lines.push(format!("{level:7} {what} {}: {}", plain(trouble.id), plain(&trouble.why.text)));
    }
    if troubles.len() > most_troubles {
        lines.push(format!("        and {} more", troubles.len() - most_troubles));
    }
    if !troubles.is_empty() {
        lines.push(String::new());
    }
    let mut buckets: Vec<&BucketReport> = report.buckets.iter().collect();
    buckets.sort_by_key(|bucket| std::cmp::Reverse(bucket.level));
    let head =
        ["BUCKET", "STATE", "IN/MIN", "OUT/MIN", "WAITING", "OLDEST", "SIZE", "DROPPED", "REFUSED"];
    lines.extend(table(&head, buckets.iter().map(|bucket| bucket_row(bucket, report.at_ms))));
    lines.push(String::new());
    let mut nodes: Vec<&NodeReport> = report.nodes.iter().collect();
    nodes.sort_by_key(|node| std::cmp::Reverse(node.level));
    let head = [
        "NODE",
        "ROLE",
        "STATE",
        "SEEN",
        "EVENTS/MIN",
        "QUEUED",
        "FILL",
        "OLDEST",
        "DROPPED",
        "DEAD",
        "CPU",
        "MEM",
        "DISK",
        "VERSION",
    ];
    lines.extend(table(&head, nodes.iter().map(|node| node_row(node, report.at_ms))));
    lines
}

fn verdict(report: &Report) -> String {
    let troubles = report.troubles();
    let bad = troubles.iter().filter(|trouble| trouble.why.level == Level::Bad).count();
    match (bad, troubles.len() - bad) {
        (0, 0) => "all is well".to_owned(),
        (bad, warnings) => format!("{bad} in trouble, {warnings} to be watched"),
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Warn => "warning",
        Level::Bad => "TROUBLE",
    }
}

fn bucket_row(bucket: &BucketReport, now_ms: u64) -> Vec<String> {
    vec![
        plain(&bucket.name),
        word(bucket.level).to_owned(),
        count(bucket.rx_per_minute),
        count(bucket.tx_per_minute),
        count(bucket.events),
        age(bucket.oldest_at_ms, now_ms),
        format!(
            "{} of {} ({} %)",
            bytes(bucket.used_bytes),
            bytes(bucket.events_limit()),
            bucket.fill()
        ),
        count(bucket.dropped()),
        count(bucket.refused),
    ]
}

fn node_row(node: &NodeReport, now_ms: u64) -> Vec<String> {
    // Of a machine that has told nothing of itself all three are zero.
    let figures = [node.cpu_percent, node.memory_percent, node.disk_percent];
    let is_known = figures.iter().any(|percent| *percent > 0.0);
    let of_machine =
        |percent: f64| if is_known { format!("{percent:.0} %") } else { "-".to_owned() };
    let name = if node.instance().is_empty() { &node.host } else { &node.id };
    vec![
        plain(name),
        node.role.clone(),
        state(node).to_owned(),
        age(node.last_seen_ms, now_ms),
        count(node.per_minute),
        count(node.queued),
        if node.sinks.is_empty() { "-".to_owned() } else { format!("{} %", node.fill_percent) },
        age(node.oldest_at_ms, now_ms),
        count(node.dropped),
        count(node.dead_letters),
        of_machine(node.cpu_percent),
        of_machine(node.memory_percent),
        of_machine(node.disk_percent),
        plain(&node.version),
    ]
}

/// A node that is expected, and has its time to come yet, is neither well nor in trouble.
fn state(node: &NodeReport) -> &'static str {
    match (node.presence, node.level) {
        (Presence::Missing, Level::Ok) => node.presence_word(),
        (_, level) => word(level),
    }
}

fn age(at_ms: Option<u64>, now_ms: u64) -> String {
    at_ms.map_or("-".to_owned(), |at_ms| ago(at_ms, now_ms))
}

/// Rows in columns that are as wide as they need to be.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> Vec<String> {
    let mut all = vec![head.iter().map(ToString::to_string).collect::<Vec<_>>()];
    all.extend(rows);
    let width =
        |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// Text of another machine on one line, without anything that steers a terminal.
pub(in crate::command) fn plain(text: &str) -> String {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use rf_relay::report::Why;

    use super::*;

    fn report() -> Report {
        let why = Why {
            level: Level::Bad,
            key: "silent".to_owned(),
            text: "silent\x1b[2J for 3 min".to_owned(),
        };
        let node = |host: &str, why: Vec<Why>| NodeReport {
            id: format!("{host}/proxy"),
            host: host.to_owned(),
            role: "proxy".to_owned(),
            level: why.first().map_or(Level::Ok, |why| why.level),
            why,
            last_seen_ms: Some(820_000),
            ..NodeReport::default()
        };
        Report {
            at_ms: 1_000_000,
            started_at_ms: 400_000,
            version: "0.1.0".to_owned(),
            level: Level::Bad,
            buckets: vec![BucketReport {
                name: "shop".to_owned(),
                events: 1234,
                used_bytes: 1024,
                max_bytes: 2048,
                ..BucketReport::default()
            }],
            nodes: vec![node("a", Vec::new()), node("b\n\u{202e}", vec![why])],
            ..Report::default()
        }
    }

    #[test]
    fn trouble_comes_first_and_nothing_steers_the_terminal() {
        let text = status(&report(), "http://relay:8090");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "relay 0.1.0 at http://relay:8090, up 10 min: 1 in trouble, 0 to be watched"
        );
        assert_eq!(lines[2], "TROUBLE node b\u{fffd}\u{fffd}/proxy: silent\u{fffd}[2J for 3 min");
        assert_eq!(
            lines[4],
            "BUCKET  STATE  IN/MIN  OUT/MIN  WAITING  OLDEST  SIZE                       DROPPED  REFUSED"
        );
        assert_eq!(
            lines[5],
            "shop    ok     0       0        1,234    -       1.0 KiB of 2.0 KiB (50 %)  0        0"
        );
        assert!(lines[8].starts_with("b\u{fffd}\u{fffd}   proxy  TROUBLE  3 min"), "{text}");
        assert!(lines[9].starts_with("a     proxy  ok       3 min"), "{text}");
    }

    #[test]
    fn a_node_that_was_never_heard_of_is_awaited_and_has_no_figures() {
        let mut report = report();
        report.nodes = vec![NodeReport {
            host: "nowhere".to_owned(),
            role: "unknown".to_owned(),
            presence: Presence::Missing,
            ..NodeReport::default()
        }];
        let row = |report: &Report| {
            let text = status(report, "http://relay:8090");
            let last = text.lines().next_back().unwrap_or_default().to_owned();
            last.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(row(&report), "nowhere unknown awaited - 0 0 - - 0 0 - - -");
        report.nodes[0].level = Level::Bad;
        assert!(row(&report).starts_with("nowhere unknown TROUBLE - "), "{}", row(&report));
        report.nodes[0].cpu_percent = 7.0;
        assert!(row(&report).ends_with(" 7 % 0 % 0 %"), "{}", row(&report));
    }

    #[test]
    fn two_agents_of_one_role_on_a_host_have_their_instances() {
        let mut report = report();
        for (node, instance) in report.nodes.iter_mut().zip(["1f", "2e"]) {
            (node.host, node.id) = ("vm".to_owned(), format!("vm/proxy/{instance}"));
        }
        let text = status(&report, "http://relay:8090");
        assert!(text.contains("\nvm/proxy/2e  proxy  TROUBLE"), "{text}");
        assert!(text.contains("\nvm/proxy/1f  proxy  ok"), "{text}");
    }

    #[test]
    fn a_frame_fits_the_screen() {
        let frame = top(&report(), "http://relay:8090", (6, 40));
        assert!(
            frame.lines().count() < 6 && frame.lines().all(|line| line.chars().count() <= 40),
            "{frame}"
        );
    }
}
