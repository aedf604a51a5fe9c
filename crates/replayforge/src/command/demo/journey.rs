//! What the demo shows of each request: when it was captured, when the relay had it, when the target had answered.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::clock::unix_us;
use rf_core::event::ReplayRequest;
use rf_queue::StoredEvent;
use tokio::sync::watch;

use crate::command::time_of_day;

/// Requests between relay and target whose times are remembered.
const MAX_UNDER_WAY: usize = 4096;
/// How long the end waits for requests that are under way.
const SETTLE: Duration = Duration::from_secs(3);

/// Times of the requests under way, and totals.
#[derive(Default)]
pub(super) struct Journeys {
    under_way: Mutex<VecDeque<(String, u64)>>,
    counts: watch::Sender<(u64, u64)>,
}

impl Journeys {
    /// The relay has answered for the event.
    pub(super) fn relayed(&self, event: &StoredEvent) {
        let now = unix_us();
        if let Some(id) = event_id(event) {
            let mut under_way = self.under_way.lock();
            if under_way.len() >= MAX_UNDER_WAY {
                under_way.pop_front();
            }
            under_way.push_back((id, now));
        }
        self.counts.send_modify(|(relayed, _)| *relayed += 1);
    }

    /// The target has answered; the line that tells the request's way.
    pub(super) fn replayed(&self, event: &StoredEvent) -> String {
        let now = unix_us();
        self.counts.send_modify(|(_, replayed)| *replayed += 1);
        let Ok(request) = ReplayRequest::parse(&event.content) else {
            return "an event without a request".to_owned();
        };
        let id = request.id.map(|id| id.to_string()).unwrap_or_default();
        // The clock may have been set back since.
        let captured = request.captured_at_us.unwrap_or(now).min(now);
        let mut under_way = self.under_way.lock();
        let relayed = under_way
            .iter()
            .position(|(known, _)| *known == id)
            .and_then(|at| under_way.remove(at));
        drop(under_way);
        // The player can be faster than the relay's answer to the proxy: the relay had it before either.
        let relayed = relayed.map_or(event.at_ms * 1000, |(_, at)| at).clamp(captured, now);
        format!(
            "{} {:<32} captured {}  relayed +{:.1} ms  replayed +{:.1} ms",
            request.method,
            shown(&request.target),
            time_of_day(captured),
            (relayed - captured) as f64 / 1000.0,
            (now - captured) as f64 / 1000.0,
        )
    }

    /// Waits a little until everything that was relayed is replayed.
    pub(super) async fn settle(&self) {
        let mut counts = self.counts.subscribe();
        let settled = counts.wait_for(|(relayed, replayed)| replayed >= relayed);
        if tokio::time::timeout(SETTLE, settled).await.is_err() {
            tracing::warn!(
                "some requests are still in flight; with --dir they are replayed after the next start"
            );
        }
    }

    pub(super) fn summary(&self) -> String {
        let (relayed, replayed) = *self.counts.borrow();
        let requests = if relayed == 1 { "request" } else { "requests" };
        format!("\n{relayed} {requests} captured and relayed, {replayed} replayed to the target.")
    }
}

fn event_id(event: &StoredEvent) -> Option<String> {
    ReplayRequest::parse(&event.content).ok()?.id.map(|id| id.to_string())
}

/// A target may hold anything; what a terminal could act on is left out.
fn shown(target: &str) -> String {
    target.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_the_way_short() {
        let later = unix_us() + 3_600_000_000;
        let event = StoredEvent {
            id: 1,
            at_ms: later / 1000,
            attempts: 0,
            content: format!(r#"{{"method":"GET","path":"/","capturedAtUs":{later}}}"#).into(),
        };
        let journeys = Journeys::default();
        journeys.relayed(&event);
        let line = journeys.replayed(&event);
        assert!(line.ends_with("relayed +0.0 ms  replayed +0.0 ms"), "{line}");
    }
}
