//! Node-info: each relay is told every `nodeInfoEvery`, and at once when something begins or ends to be wrong.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ToldRelay;
use super::sight::{SeenSink, Sight};
use crate::relay_client::RelayError;

/// How often it is looked whether something has changed that should not wait for its time.
const LOOK: Duration = Duration::from_secs(5);
/// The first time: soon, so that a new machine shows up, but not before its first connections.
const FIRST: Duration = Duration::from_secs(1);

/// Whom one agent tells.
pub(crate) struct Telling {
    pub(crate) sight: Arc<Sight>,
    pub(crate) relays: Vec<ToldRelay>,
}

/// Tells until `stop`. A relay that cannot be told is told the next time: what is told is always the state of the moment.
pub(crate) async fn tell(telling: Telling, stop: CancellationToken) {
    if telling.relays.is_empty() {
        return;
    }
    let mut next = Instant::now() + FIRST;
    let mut troubles = telling.sight.troubles();
    let mut refusing = BTreeSet::new();
    loop {
        let look = next.min(Instant::now() + LOOK);
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(look) => {}
        }
        let now = telling.sight.troubles();
        if Instant::now() < next && now == troubles {
            continue;
        }
        troubles = now;
        next = Instant::now() + telling.sight.every;
        tokio::select! {
            () = stop.cancelled() => return,
            () = tell_all(&telling, &mut refusing) => {}
        }
    }
}

/// `refusing`: relays that did not take it the last time.
async fn tell_all(telling: &Telling, refusing: &mut BTreeSet<String>) {
    for relay in &telling.relays {
        let body = Bytes::from(telling.sight.told_info().to_body());
        let told = &telling.sight.told;
        told.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        let origin = relay.client.origin();
        match relay.client.tell(&relay.bucket, body).await {
            Ok(()) => {
                refusing.remove(&origin);
                hurry(&telling.sight.sinks, &origin);
            }
            Err(RelayError::Rejected(answer)) if refusing.insert(origin.clone()) => {
                tracing::warn!(
                    relay = origin,
                    error = answer,
                    "relay does not accept this node's info: the node is missing from the relay's pages"
                );
            }
            // The sinks and sources of this relay say loudly enough that it is away.
            Err(error) => tracing::debug!(%error, "node info not sent to the relay"),
        }
    }
}

/// A relay has answered: its sinks that wait because they could not reach it need not wait any longer.
fn hurry(sinks: &[SeenSink], relay: &str) {
    let those = |sink: &&SeenSink| sink.wired_to.as_ref().is_some_and(|wired| wired.relay == relay);
    sinks.iter().filter(those).for_each(|sink| sink.reached.notify_waiters());
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use rf_core::node_info::Wiring;
    use rf_queue::{QueueOptions, Store, StoreOptions};

    use super::*;

    #[tokio::test]
    async fn only_the_sinks_of_the_relay_that_answered_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let queues = vec![QueueOptions::new("sink")];
        let options = StoreOptions::new(folder.path().join("q.sqlite3"), 4 << 20, queues);
        let store = Store::open(options).unwrap().store;
        let sink = |relay: Option<&str>| SeenSink {
            id: "sink".to_owned(),
            kind: "http".to_owned(),
            wired_to: relay.map(|relay| Wiring { relay: relay.to_owned(), buckets: Vec::new() }),
            target: String::new(),
            url: String::new(),
            traffic: None,
            queue: store.queue("sink").unwrap(),
            max_bytes: 0,
            meter: Arc::default(),
            reached: Arc::default(),
        };
        let sinks = [sink(Some("http://a:1")), sink(Some("http://b:1")), sink(None)];
        let waits: Vec<_> = sinks.iter().map(|sink| sink.reached.notified()).collect();
        hurry(&sinks, "http://a:1");
        let woken: Vec<bool> =
            waits.into_iter().map(|wait| wait.now_or_never().is_some()).collect();
        assert_eq!(woken, [true, false, false]);
    }
}
