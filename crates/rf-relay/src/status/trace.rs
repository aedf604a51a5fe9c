//! `/trace/ID`: what the relay knows of one event. Ids, buckets and times; of the event's content nothing.

use std::sync::Arc;
use std::time::Duration;

use rf_core::clock::unix_ms;
use rf_core::event::event_id;
use rf_core::trace::{TraceReport, Waiting};
use tokio::time::Instant;
use uuid::Uuid;

use crate::report::RelayView;

/// How long a person waits until all buckets are looked through.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is remembered of the event, and which buckets hold it now.
pub(super) async fn trace(view: &RelayView, id: Uuid) -> TraceReport {
    let mut report = TraceReport {
        id: id.to_string(),
        role: "relay".to_owned(),
        clock_us: unix_ms() * 1000,
        // Before the buckets are searched: an event that moves meanwhile is seen twice rather than not at all.
        steps: view.journal.of(id),
        journal: view.journal.span(),
        ..TraceReport::default()
    };
    let until = Instant::now() + PATIENCE;
    let is_meant = Arc::new(move |content: &[u8]| event_id(content) == Some(id));
    for bucket in view.buckets.keys() {
        let usage = view.store.usage(bucket);
        if usage.is_closed {
            report.unsearched.push(format!("bucket {bucket}: it is not open"));
            continue;
        }
        if usage.events == 0 {
            continue;
        }
        let patience = until.saturating_duration_since(Instant::now());
        match view.store.find(bucket, is_meant.clone(), patience).await {
            Ok(found) => {
                let place = || bucket.as_str().to_owned();
                report.waiting.extend(found.waiting.into_iter().map(|event| Waiting {
                    place: place(),
                    number: event.id,
                    since_ms: event.at_ms,
                }));
                if found.is_cut {
                    report.unsearched.push(format!("bucket {bucket}: it is too long"));
                }
            }
            Err(error) => report.unsearched.push(format!("bucket {bucket}: {error}")),
        }
    }
    report
}
