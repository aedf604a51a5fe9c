//! The status port: `/statusz` in the original's shape, `/healthz`, and `ok` for any other path.
//!
//! Keys that the original does not have are only added, to buckets: what waits and what was dropped.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use crate::bucket::BucketName;
use crate::stats::{Counts, Stats, unix_seconds};
use crate::store::{BucketStore, Usage};

/// What the status is made of.
pub(crate) struct Status {
    pub(crate) started: Instant,
    pub(crate) buckets: Vec<BucketName>,
    pub(crate) store: Arc<dyn BucketStore>,
    pub(crate) stats: Arc<Stats>,
}

impl Status {
    /// Answers any request of the status port.
    pub(crate) fn answer<B>(
        &self,
        request: &Request<B>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let (status, content_type, body) = match request.uri().path() {
            "/statusz" => (StatusCode::OK, "application/json", self.statusz(unix_seconds())),
            "/healthz" => self.healthz(),
            _ => (StatusCode::OK, "text/plain", Bytes::from_static(b"ok")),
        };
        let mut response = Response::new(Full::new(body));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Ok(response)
    }

    fn healthz(&self) -> (StatusCode, &'static str, Bytes) {
        let failed = |bucket: &&BucketName| self.store.usage(bucket).failure.is_some();
        let failed: Vec<&str> =
            self.buckets.iter().filter(failed).map(BucketName::as_str).collect();
        if failed.is_empty() {
            return (StatusCode::OK, "text/plain", Bytes::from_static(b"ok"));
        }
        let text = format!("buckets that cannot be opened: {}", failed.join(", "));
        (StatusCode::SERVICE_UNAVAILABLE, "text/plain", text.into())
    }

    fn statusz(&self, now: u64) -> Bytes {
        let bucket = |name: &BucketName| {
            let usage = self.store.usage(name);
            (
                name.to_string(),
                Entry::new("relay", name.as_str(), &self.stats.bucket(name, now), Some(&usage)),
            )
        };
        let named = |kind, named: Vec<(String, Counts)>| {
            let entry = |(name, counts): (String, Counts)| {
                (name.clone(), Entry::new(kind, &name, &counts, None))
            };
            named.into_iter().map(entry).collect()
        };
        let page = Page {
            uptime: go_duration(self.started.elapsed().as_secs()),
            buckets: self.buckets.iter().map(bucket).collect(),
            envs: named("env", self.stats.envs(now)),
            hostnames: named("hostname", self.stats.hostnames(now)),
            node_info: self.stats.nodes(now).into_iter().collect(),
        };
        serde_json::to_vec(&page).expect("writing names and numbers into memory cannot fail").into()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    uptime: String,
    buckets: BTreeMap<String, Entry>,
    envs: BTreeMap<String, Entry>,
    hostnames: BTreeMap<String, Entry>,
    node_info: BTreeMap<String, Box<RawValue>>,
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
}

impl Entry {
    fn new(kind: &'static str, id: &str, counts: &Counts, usage: Option<&Usage>) -> Entry {
        Entry {
            kind,
            id: id.to_owned(),
            database_size_kb: usage.map_or(0, |usage| usage.used_bytes / 1024),
            database_max_size_kb: usage.map_or(0, |usage| usage.max_bytes / 1024),
            rx_messages_by_minute: counts.rx_messages_minute,
            last_minute_rx_messages: counts.rx_messages_last_minute,
            rx_messages_since_start: counts.rx_messages_since_start,
            rx_last_message_date: go_date(counts.rx_last),
            rx_query_by_minute: counts.rx_queries_minute,
            tx_message_by_minute: counts.tx_messages_minute,
            tx_query_by_minute: counts.tx_queries_minute,
            tx_last_access: go_date(counts.tx_last),
            events: usage.map(|usage| usage.events),
            dropped_full: usage.map(|usage| usage.dropped_full),
            dropped_age: usage.map(|usage| usage.dropped_age),
        }
    }
}

/// RFC 3339 in UTC; "never" is the zero time of Go, as dashboards of the original know it.
fn go_date(unix_seconds: Option<u64>) -> String {
    let Some(seconds) = unix_seconds else { return "0001-01-01T00:00:00Z".to_owned() };
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

/// `1h2m3s`, as Go prints a duration.
fn go_duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
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

    #[test]
    fn durations_are_those_of_go() {
        for (seconds, expected) in
            [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (90_061, "25h1m1s")]
        {
            assert_eq!(go_duration(seconds), expected);
        }
    }
}
