//! `/readyz`: whether events make progress.

use std::time::Duration;

use super::sight::{SeenSink, Sight};
use rf_core::clock::unix_ms;

/// A sink whose oldest event waits longer than this, and that has delivered nothing for as long, makes no progress.
const STUCK_AFTER: Duration = Duration::from_secs(300);

/// Why the agent makes no progress; empty when it does. A sink that is slow but moves is fine.
pub(super) fn stuck(sight: &Sight) -> Vec<String> {
    let sources = sight.sources.iter().filter_map(|source| {
        let reason = source.meter.health.paused()?;
        Some(format!("source `{}` is paused: {reason}", source.id))
    });
    let sinks = sight.sinks.iter().filter_map(|sink| why(sight, sink));
    sources.chain(sinks).collect()
}

fn why(sight: &Sight, sink: &SeenSink) -> Option<String> {
    if let Some(reason) = sink.meter.health.paused() {
        return Some(format!("sink `{}` is paused: {reason}", sink.id));
    }
    let now = unix_ms();
    let oldest = sight.store.usage(sink.queue).oldest_at_ms?;
    let since = |at: u64| Duration::from_millis(now.saturating_sub(at));
    let last = sink.meter.health.last_success_at_ms().unwrap_or(sight.started_at_ms);
    let is_stuck = since(oldest) > STUCK_AFTER && since(last) > STUCK_AFTER;
    is_stuck.then(|| {
        let (waits, silent) = (since(oldest).as_secs(), since(last).as_secs());
        let error = sink.meter.health.last_error().map(|error| format!("; {}", error.text));
        let error = error.unwrap_or_default();
        format!(
            "sink `{}` has delivered nothing for {silent} s, its oldest event has waited for {waits} s{error}",
            sink.id
        )
    })
}

/// Whether the data path lives: the store answers, or waits for its disk, which no restart would mend. What the watchdog is
/// fed by.
pub(super) async fn is_alive(sight: &Sight) -> bool {
    !sight.store.is_open() || sight.store.checkpoint("alive").await.is_ok()
}
