//! `/statusz` of proxy and player, in the shape of the original's proxy, with ours beside it.

use std::sync::atomic::Ordering;

use rf_core::clock::{go_duration, unix_ms};
use rf_core::recent_logs::{MAX_LINES, Part};
use serde_json::{Map, Value, json};

use super::meters::Health;
use super::sight::Sight;

/// `?source=` and `?sink=`: only these.
#[derive(Debug, Default)]
pub(super) struct Filter {
    pub(super) source: Option<String>,
    pub(super) sink: Option<String>,
}

impl Filter {
    /// With one filter the other kind is left out.
    fn takes_source(&self, id: &str) -> bool {
        self.source.as_deref().map_or(self.sink.is_none(), |wanted| wanted == id)
    }

    fn takes_sink(&self, id: &str) -> bool {
        self.sink.as_deref().map_or(self.source.is_none(), |wanted| wanted == id)
    }
}

/// The page for everybody who asks the status port.
pub(super) fn page(sight: &Sight, filter: &Filter) -> Value {
    statusz(sight, filter, MAX_LINES)
}

/// The page with so many log lines of each component.
pub(super) fn statusz(sight: &Sight, filter: &Filter, log_lines: usize) -> Value {
    let now = unix_ms();
    let (mut sources, mut sinks) = (Map::new(), Map::new());
    for source in sight.sources.iter().filter(|source| filter.takes_source(&source.id)) {
        let meter = &source.meter;
        let mut entry = json!({
            "type": source.kind,
            "id": source.id,
            "messagesByMinute": meter.stored.this_minute(now),
            "messageSinceStart": meter.stored.all(),
            "deadLettered": source.dead_lettered(),
            "cutLines": meter.cut_lines.load(Ordering::Relaxed),
            "dropped": source.dropped(&sight.store),
            "lastMessageDate": date(meter.last_stored_at_ms()),
            "recentLogs": sight.log_texts(Part::Source, &source.id, log_lines),
        });
        tell_pause(&mut entry, &meter.health);
        sources.insert(source.id.clone(), entry);
    }
    for sink in sight.sinks.iter().filter(|sink| filter.takes_sink(&sink.id)) {
        let meter = &sink.meter;
        let usage = sight.store.usage(sink.queue);
        let (sent, received) = sink.app_bytes();
        let mut entry = json!({
            "id": sink.id,
            "type": sink.kind,
            "url": sink.url,
            "messagesByMinute": meter.delivered.this_minute(now),
            "messageSinceStart": meter.delivered.all(),
            "lastMessageDate": date(meter.health.last_success_at_ms()),
            "totalEvents": usage.events,
            "dropped": sink.dropped(&usage),
            "batchCounter": meter.batches.load(Ordering::Relaxed),
            "appBytesSent": sent,
            "appBytesRecv": received,
            "lastMessage": meter.last_message(),
            "recentLogs": sight.log_texts(Part::Sink, &sink.id, log_lines),
        });
        tell_pause(&mut entry, &meter.health);
        sinks.insert(sink.id.clone(), entry);
    }
    json!({
        "sources": sources,
        "sinks": sinks,
        "uptime": go_duration(sight.started.elapsed()),
        "version": env!("CARGO_PKG_VERSION"),
    })
}

/// Beside the original's keys, while there is something to say.
fn tell_pause(entry: &mut Value, health: &Health) {
    if let Some(reason) = health.paused() {
        entry["paused"] = reason.into();
    }
}

/// RFC 3339 in UTC; "never" is the zero time of Go, as dashboards of the original know it.
pub(super) fn date(at_ms: Option<u64>) -> String {
    at_ms.and_then(time).map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string())
}

/// The same at the beginning of a line: always with milliseconds, so that lines can be sorted as texts.
pub(super) fn date_of_line(at_ms: u64) -> String {
    format!("{:.3}", time(at_ms).unwrap_or_default())
}

fn time(at_ms: u64) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(i64::try_from(at_ms).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_lines_are_equally_long() {
        for (at_ms, expected) in [
            (36_280, "1970-01-01T00:00:36.280Z"),
            (36_000, "1970-01-01T00:00:36.000Z"),
            (36_289, "1970-01-01T00:00:36.289Z"),
        ] {
            assert_eq!(date_of_line(at_ms), expected);
        }
    }
}
