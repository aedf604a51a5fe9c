//! Node-info: each relay is told every `nodeInfoEvery`, and at once when something begins or ends to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use rf_core::clock::unix_ms;
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
    /// A relay stands here once for each token that it is reached with.
    pub(crate) relays: Vec<ToldRelay>,
}

/// Whether a relay took it the last time that it answered, by the place in [`Telling::relays`].
type Answers = BTreeMap<usize, bool>;

/// Tells until `stop`. A relay that cannot be told is told the next time: what is told is always the state of the moment.
pub(crate) async fn tell(telling: Telling, stop: CancellationToken) {
    if telling.relays.is_empty() {
        return;
    }
    let mut next = Instant::now() + FIRST;
    let mut troubles = telling.sight.troubles();
    let mut answers = Answers::new();
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
            () = tell_all(&telling, &mut answers) => {}
        }
    }
}

/// One round. A relay gets one report in it, since two that follow each other at once would tell it of no events between them:
/// further tokens for it are used when those before are refused, and once each, so that a wrong one is known at the start.
async fn tell_all(telling: &Telling, answers: &mut Answers) {
    let mut info = telling.sight.told_info();
    let mut done: Vec<&Uri> = Vec::new();
    for (place, relay) in telling.relays.iter().enumerate() {
        if done.contains(&relay.client.base()) && answers.contains_key(&place) {
            continue;
        }
        // A relay compares it with its own clock, and the one before may have taken long to answer.
        info.clock_ms = unix_ms();
        let body = Bytes::from(info.clone().to_body());
        telling.sight.told.sent.fetch_add(body.len() as u64, Ordering::Relaxed);
        match relay.client.tell(&relay.bucket, body).await {
            Ok(()) => {
                answers.insert(place, true);
                done.push(relay.client.base());
                hurry(&telling.sight.sinks, &relay.client.origin());
            }
            Err(error @ (RelayError::Refused { .. } | RelayError::Rejected(_)))
                if answers.insert(place, false) != Some(false) =>
            {
                warn(relay, &error);
            }
            // The sinks and sources of this relay say loudly enough that it is away.
            Err(error) => tracing::debug!(%error, "node info not sent to the relay"),
        }
    }
}

fn warn(relay: &ToldRelay, error: &RelayError) {
    let text = match error {
        RelayError::Refused { .. } => {
            "relay refuses the token for this bucket, or has no such bucket: nothing passes through it until that is mended"
        }
        _ => "relay does not accept this node's info: the node is missing from the relay's pages",
    };
    tracing::warn!(
        relay = relay.client.origin(),
        bucket = relay.bucket.name,
        %error,
        "{text}"
    );
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
