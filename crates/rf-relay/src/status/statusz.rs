//! `/statusz`: the original's shape, and beside it, under `report`, what this version knows.
//!
//! Keys that the original does not have are only added: to buckets what waits and what was dropped, and `report`.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rf_core::clock::{go_duration, unix_ms};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::StatusPort;
use crate::report::Report;
use crate::stats::{Counts, is_recent};
use crate::store::Usage;

/// What of it is wanted: a name given leaves only that entry in its table, and everything else as it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Filter {
    bucket: Option<String>,
    env: Option<String>,
    hostname: Option<String>,
    node: Option<String>,
}

impl Filter {
    fn has(wanted: Option<&String>, name: &str) -> bool {
        wanted.is_none_or(|wanted| wanted == name)
    }
}

/// The whole page as JSON.
pub(super) fn statusz(port: &StatusPort, filter: &Filter) -> Bytes {
    let (now_ms, view) = (unix_ms(), &port.view);
    let now_secs = now_ms / 1000;
    let bucket = |(name, usage): (crate::bucket::BucketName, Usage)| {
        let stats = view.stats.bucket(name.as_str(), now_secs);
        let mut entry = Entry::new("relay", name.as_str(), &stats.counts, Some(&usage));
        let (full, age, damaged) = stats.dropped(&usage);
        (entry.dropped_full, entry.dropped_age) = (Some(full), Some(age));
        entry.dropped_damaged = Some(damaged);
        (name.to_string(), entry)
    };
    let usages = view.usages();
    let usages =
        usages.into_iter().filter(|(b, _)| Filter::has(filter.bucket.as_ref(), b.as_str()));
    let named = |kind, named: Vec<(String, Counts)>, wanted: Option<&String>| {
        let entry = |(name, counts): (String, Counts)| {
            let entry = Entry::new(kind, &name, &counts, None);
            (name, entry)
        };
        named.into_iter().filter(|(name, _)| Filter::has(wanted, name)).map(entry).collect()
    };
    let hosts = view.stats.hostnames(now_secs);
    let hosts = hosts.into_iter().map(|(name, host)| (name, host.counts)).collect();
    let mut report = view.report(now_ms);
    report.buckets.retain(|bucket| Filter::has(filter.bucket.as_ref(), &bucket.name));
    report.nodes.retain(|node| {
        Filter::has(filter.hostname.as_ref(), &node.host)
            && Filter::has(filter.env.as_ref(), &node.env)
            && Filter::has(filter.node.as_ref(), &node.id)
    });
    let page = Page {
        uptime: go_duration(Duration::from_millis(now_ms.saturating_sub(view.started_at_ms))),
        buckets: usages.map(bucket).collect(),
        envs: named("env", view.stats.envs(now_secs), filter.env.as_ref()),
        hostnames: named("hostname", hosts, filter.hostname.as_ref()),
        node_info: node_info(port, filter, now_ms),
        report,
    };
    serde_json::to_vec(&page).expect("writing names and numbers into memory cannot fail").into()
}

/// By host, as in the original: of several agents of one host the one that told last.
fn node_info(port: &StatusPort, filter: &Filter, now_ms: u64) -> BTreeMap<String, Box<RawValue>> {
    let mut nodes = port.view.nodes.all(now_ms);
    nodes.retain(|node| Filter::has(filter.hostname.as_ref(), &node.id.host));
    let absences = &port.view.absences;
    nodes.retain(|node| is_recent(absences.silence_ms(node.past.last_seen_ms, now_ms)));
    nodes.sort_by_key(|node| node.past.last_seen_ms);
    nodes.iter().map(|node| (node.id.host.clone(), node.raw.clone())).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    uptime: String,
    buckets: BTreeMap<String, Entry>,
    envs: BTreeMap<String, Entry>,
    hostnames: BTreeMap<String, Entry>,
    node_info: BTreeMap<String, Box<RawValue>>,
    report: Report,
}

/// A bucket, an environment or a host.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: &'static str,
    id: String,
    database_size_kb: u64,
    database_max_size_kb: u64,
    rx_messages_by_minute: u64,
    last_minute_rx_messages: u64,
    rx_messages_since_start: u64,
    rx_last_message_date: String,
    rx_query_by_minute: u64,
    tx_message_by_minute: u64,
    tx_query_by_minute: u64,
    tx_last_access: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_full: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_age: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_damaged: Option<u64>,
}

impl Entry {
    fn new(kind: &'static str, id: &str, counts: &Counts, usage: Option<&Usage>) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            database_size_kb: usage.map_or(0, |usage| usage.used_bytes / 1024),
            database_max_size_kb: usage.map_or(0, |usage| usage.max_bytes / 1024),
            rx_messages_by_minute: counts.rx_messages_minute,
            last_minute_rx_messages: counts.rx_messages_last_minute,
            rx_messages_since_start: counts.rx_messages_since_start,
            rx_last_message_date: go_date(counts.rx_last_secs),
            rx_query_by_minute: counts.rx_queries_minute,
            tx_message_by_minute: counts.tx_messages_minute,
            tx_query_by_minute: counts.tx_queries_minute,
            tx_last_access: go_date(counts.tx_last_secs),
            events: usage.map(|usage| usage.events),
            dropped_full: None,
            dropped_age: None,
            dropped_damaged: None,
        }
    }
}

/// RFC 3339 in UTC; "never" is the zero time of Go, as dashboards of the original know it.
fn go_date(unix_secs: Option<u64>) -> String {
    let Some(seconds) = unix_secs else { return "0001-01-01T00:00:00Z".to_owned() };
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day since 1970, after Howard Hinnant's `civil_from_days`: years begin in March, so that the
/// leap day is their last.
fn civil_date(day_since_1970: u64) -> (u64, u64, u64) {
    let days = day_since_1970 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_go() {
        for (seconds, expected) in [
            (None, "0001-01-01T00:00:00Z"),
            (Some(0), "1970-01-01T00:00:00Z"),
            (Some(951_782_400), "2000-02-29T00:00:00Z"),
            (Some(951_868_799), "2000-02-29T23:59:59Z"),
            (Some(951_868_800), "2000-03-01T00:00:00Z"),
            (Some(1_700_000_000), "2023-11-14T22:13:20Z"),
            (Some(1_735_689_599), "2024-12-31T23:59:59Z"),
            (Some(4_107_542_400), "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(go_date(seconds), expected);
        }
    }
}
