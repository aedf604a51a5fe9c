//! `relay` source of a player: pulls a bucket, batch by batch, under a lease.
//!
//! Exactly once into the player's queues: the transaction that stores a batch also stores the relay's ids of it (the
//! checkpoint `pull:BUCKET`). A player that is killed after that commit and before its acknowledgement finds the ids at the
//! next start and acknowledges them before it pulls again. An answer to an acknowledgement that may not be the relay's proves
//! nothing: the ids are kept until a pull has worked, and what it brings of them is not stored again.
//!
//! A relay of the original program knows no lease and no long poll: it is asked for at most 100 events, and after an empty
//! answer that came at once the source pauses. It may also take the place of a relay that does, when somebody goes back.

#[cfg(test)]
pub(super) mod contract;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rf_core::backoff::Backoff;
use rf_core::node_info::Wiring;
use rf_core::protocol::{PulledEvent, encode_ids, parse_ids};
use rf_queue::{Checkpoint, FullReason};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::hand_over::BURIED;
use super::{Source, SourceError};
use crate::pipeline::{Batch, Kept, Output, Rejected};
use crate::relay_client::{Acknowledged, BucketKey, Pull, Pulled, RelayClient, RelayError};

/// Events asked for at a time of a relay that knows leases.
const PULL_EVENTS: usize = 1000;
/// All that a relay of the original answers at a time.
const PULL_EVENTS_ORIGINAL: usize = 100;
/// Content bytes asked for at a time.
const PULL_BYTES: usize = 4 * 1024 * 1024;
/// How long the relay keeps a question open.
const WAIT: Duration = Duration::from_secs(20);
/// How long pulled events are ours; renewed while they are in hand.
const LEASE: Duration = Duration::from_secs(30);
/// An empty answer that comes sooner is one of a relay without long poll.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Pause before trying a full queue again.
const FULL_PAUSE: Duration = Duration::from_millis(250);
/// More ids than any batch has.
const MAX_REMEMBERED: usize = 100_000;
/// How long a stop waits for a commit under way: cutting it could store events that are then given back.
const COMMIT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a stop waits for an answer to an acknowledgement or a release.
const LAST_CALL: Duration = Duration::from_secs(5);
/// Bounds of the pause after a failed call.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Pause where a person must act.
const HELP_PAUSE: Duration = Duration::from_secs(30);

/// An event that a relay took which did not know how much a player reads.
const TOO_LARGE: &str = "the first event of the bucket is too large to be pulled and holds the others back: \
                         the relay's GET /first shows it, DELETE /acknowledge?id=ID removes it";

/// Somebody answers acknowledgements in the place of the relay, which gives the same events again.
const UNHEARD: &str = "the relay sends events again although their acknowledgement was answered: does something in front of it answer?";

/// One bucket of one relay.
pub(crate) struct RelaySource {
    pub(crate) id: String,
    pub(crate) bucket: BucketKey,
    pub(crate) client: Arc<RelayClient>,
    /// Pause between questions to a relay without long poll.
    pub(crate) poll: Duration,
}

impl Source for RelaySource {
    fn wired_to(&self) -> Option<Wiring> {
        let buckets = vec![self.bucket.name.clone()];
        Some(Wiring { relay: self.client.origin(), buckets })
    }

    fn run(
        self: Box<Self>,
        out: Output,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), SourceError>> {
        Box::pin(async move {
            let mut puller = Puller {
                source: &self,
                out,
                stop,
                holder: String::new(),
                unacknowledged: Vec::new(),
                leases: false,
                most: PULL_EVENTS,
                backoff: Backoff::new(BACKOFF.0, BACKOFF.1),
                unheard: Backoff::new(BACKOFF.0, BACKOFF.1),
            };
            puller.run().await;
            Ok(())
        })
    }
}

struct Puller<'a> {
    source: &'a RelaySource,
    out: Output,
    stop: CancellationToken,
    /// Names this player at the relay, for ever: a restart ends the lease that it was killed with.
    holder: String,
    /// Ids that are stored here and may still lie in the bucket.
    unacknowledged: Vec<u64>,
    /// The relay has shown that it knows leases.
    leases: bool,
    /// Events that are asked for at a time at the most: fewer after an answer that was too large. A relay of the original
    /// does not look at their bytes.
    most: usize,
    backoff: Backoff,
    /// Between acknowledgements that do not reach the relay, while it can be pulled from.
    unheard: Backoff,
}

impl Puller<'_> {
    async fn run(&mut self) {
        if !self.remember().await {
            return;
        }
        // Once more after the stop, so that what was stored meanwhile is not given to another player, too.
        while self.acknowledge().await && !self.stop.is_cancelled() {
            let asked = Instant::now();
            // One that was away tells at once that it is back, and not only when an event comes.
            let wait = if self.out.meter().health.is_down() { Duration::ZERO } else { WAIT };
            let pulled = tokio::select! {
                () = self.stop.cancelled() => return,
                pulled = self.pull(wait) => pulled,
            };
            match pulled {
                Ok(pulled) if pulled.events.is_empty() => {
                    self.forget_acknowledged();
                    self.answered();
                    self.out.meter().works();
                    let is_at_once = !wait.is_zero() && asked.elapsed() < AT_ONCE;
                    if is_at_once && self.pause(self.source.poll).await {
                        return;
                    }
                }
                Ok(pulled) => {
                    let (records, first) = (pulled.events.len(), pulled.events[0].id);
                    tracing::debug!(source = self.source.id, records, first, "batch pulled");
                    self.most = (2 * self.most).min(PULL_EVENTS);
                    self.out.trace().pulled(&pulled.events);
                    self.leases = pulled.lease.is_some();
                    self.accept(pulled).await;
                }
                Err(RelayError::TooLarge) if self.most > 1 => self.most = 1,
                // A relay of the original refuses to be asked for so many; whatever else is refused is refused again.
                Err(RelayError::Rejected(_)) if self.leases => self.leases = false,
                Err(error) => {
                    if self.pause_after(&error).await {
                        return;
                    }
                }
            }
        }
    }

    fn key(&self) -> String {
        format!("pull:{}", self.source.bucket.name)
    }

    /// What the last run stored and may not have acknowledged; false when the agent stops before that is known.
    async fn remember(&mut self) -> bool {
        loop {
            match self.out.checkpoint(&self.key()).await {
                Ok(stored) => {
                    let ids = stored.and_then(|text| parse_ids(&text, MAX_REMEMBERED).ok());
                    self.unacknowledged = ids.unwrap_or_default();
                    self.name_holder().await;
                    return true;
                }
                Err(Rejected::Closed) => return false,
                Err(error) => {
                    tracing::error!(source = self.source.id, %error, "the checkpoint cannot be read, trying again");
                }
            }
            if self.pause(FULL_PAUSE).await {
                return false;
            }
        }
    }

    /// The name that the first start of this player has drawn for the bucket.
    async fn name_holder(&mut self) {
        let key = format!("holder:{}", self.source.bucket.name);
        let stored = self.out.checkpoint(&key).await.ok().flatten();
        if let Some(name) = stored.and_then(|name| String::from_utf8(name).ok()) {
            self.holder = name;
            return;
        }
        self.holder = Uuid::now_v7().to_string();
        let value = Some(self.holder.clone().into_bytes());
        let checkpoints = vec![Checkpoint { key, value }];
        if let Err(error) = self.out.send(Batch { events: Vec::new(), checkpoints }).await {
            // Good for this run; the next one draws another and waits for the lease of this one.
            tracing::warn!(source = self.source.id, %error, "the player's name cannot be stored");
        }
    }

    async fn pull(&self, wait: Duration) -> Result<Pulled, RelayError> {
        let max_events = if self.leases { PULL_EVENTS } else { PULL_EVENTS_ORIGINAL };
        let pull = Pull {
            holder: &self.holder,
            max_events: max_events.min(self.most),
            max_bytes: PULL_BYTES,
            wait,
            lease: LEASE,
        };
        self.source.client.pull(&self.source.bucket, &pull).await
    }

    /// Stores a batch, holding its lease meanwhile. What is not stored when the agent stops is given back.
    async fn accept(&mut self, pulled: Pulled) {
        let Pulled { events, lease } = pulled;
        let (again, fresh): (Vec<PulledEvent>, Vec<PulledEvent>) =
            events.into_iter().partition(|event| self.unacknowledged.contains(&event.id));
        // The relay gives the oldest first: where it brings none of them, there are none.
        if again.is_empty() {
            self.forget_acknowledged();
            self.answered();
        }
        let stored = {
            let storing = self.store(&fresh);
            let holding = self.hold(lease.as_deref());
            tokio::select! {
                stored = storing => stored,
                () = holding => 0,
            }
        };
        let ids: Vec<u64> = fresh.iter().map(|event| event.id).collect();
        let (stored, rest) = ids.split_at(stored);
        self.unacknowledged.extend_from_slice(stored);
        if !rest.is_empty()
            && self.stop.is_cancelled()
            && lease.is_some()
            && let Err(error) =
                self.last_call(self.source.client.release(&self.source.bucket, rest)).await
        {
            tracing::debug!(source = self.source.id, %error, "events not given back, their lease runs out by itself");
        }
        if !again.is_empty() {
            let state = self.out.meter().health.mark_down().then_some("down");
            self.out.meter().failed(UNHEARD);
            tracing::warn!(source = self.source.id, state, "{UNHEARD}");
            let pause = self.unheard.next_delay();
            self.pause(pause).await;
        }
    }

    /// What is stored here is not in the bucket any more.
    fn forget_acknowledged(&mut self) {
        self.unacknowledged.clear();
        self.unheard.reset();
    }

    /// Tries until the queues take the events; how many of them, from the first on. Less than all when the agent stops. One
    /// that can never fit becomes a dead letter, so that the bucket goes on behind it.
    async fn store(&self, events: &[PulledEvent]) -> usize {
        let (mut stored, mut step) = (0, events.len());
        while stored < events.len() {
            let end = (stored + step).min(events.len());
            // Always the ids from the batch's start: the checkpoint holds all that is not acknowledged yet.
            let new = events[..end].iter().map(|event| event.id);
            let ids: Vec<u64> = self.unacknowledged.iter().copied().chain(new).collect();
            let checkpoint = Checkpoint { key: self.key(), value: Some(encode_ids(&ids)) };
            let contents = events[stored..end].iter().map(|event| event.content.clone()).collect();
            let batch = Batch { events: contents, checkpoints: vec![checkpoint] };
            match self.out.send_or_bury(batch).await {
                Ok(Kept::Queued) => {
                    stored = end;
                    // There may be room for more at once by now, and each commit stores the ids of all.
                    step *= 2;
                }
                Ok(Kept::Buried) => {
                    let event = &events[stored];
                    let (id, bytes) = (event.id, event.content.len());
                    tracing::error!(source = self.source.id, id, bytes, "{BURIED}");
                    stored = end;
                    // Those behind it may well fit together.
                    step = events.len();
                }
                Err(Rejected::Closed) => break,
                Err(Rejected::TooLarge { .. }) if end - stored > 1 => step = (end - stored) / 2,
                Err(rejected) => {
                    tracing::warn!(source = self.source.id, error = %rejected, "pulled events cannot be stored now, trying again");
                    if matches!(rejected, Rejected::Full { reason: FullReason::Disk, .. }) {
                        // A disk that has no room for all of them may have some for a part.
                        step = (end - stored).div_ceil(2);
                    }
                    if self.pause(FULL_PAUSE).await {
                        break;
                    }
                }
            }
        }
        stored
    }

    /// Renews the lease for ever; ends when the agent stops.
    async fn hold(&self, lease: Option<&str>) {
        loop {
            if self.pause(LEASE / 3).await {
                tokio::time::sleep(COMMIT_PATIENCE).await;
                return;
            }
            if let Some(lease) = lease
                && let Err(error) =
                    self.source.client.extend(&self.source.bucket, lease, LEASE).await
            {
                tracing::warn!(source = self.source.id, %error, "lease cannot be renewed");
            }
        }
    }

    /// Acknowledges what is stored, trying until there is an answer; false when the agent stops first. Of ids whose answer may
    /// not be the relay's the next pull tells.
    async fn acknowledge(&mut self) -> bool {
        while !self.unacknowledged.is_empty() {
            let ids = &self.unacknowledged;
            let call = self.source.client.acknowledge(&self.source.bucket, ids);
            match self.last_call(call).await {
                Ok(Acknowledged::Surely) => {
                    self.forget_acknowledged();
                    self.answered();
                    return true;
                }
                Ok(Acknowledged::Perhaps) => return true,
                Err(error) => {
                    if self.pause_after(&error).await {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// A call that may be the last one. What it does not tell the relay, the next start does, or the end of the lease.
    async fn last_call<T>(
        &self,
        call: impl Future<Output = Result<T, RelayError>>,
    ) -> Result<T, RelayError> {
        let too_long = async {
            self.stop.cancelled().await;
            tokio::time::sleep(LAST_CALL).await;
        };
        tokio::select! {
            answer = call => answer,
            () = too_long => Err(RelayError::Away("it did not answer before the stop".to_owned())),
        }
    }

    /// The relay has done as it was asked, also with what was acknowledged before.
    fn answered(&mut self) {
        self.backoff.reset();
        if self.out.meter().health.mark_up() {
            tracing::info!(source = self.source.id, state = "up", "relay works again");
        }
    }

    async fn pause_after(&mut self, error: &RelayError) -> bool {
        // Its repeats are muted.
        let state = self.out.meter().health.mark_down().then_some("down");
        let pause = match error {
            RelayError::Refused { .. } => {
                self.out.meter().paused(&error.to_string());
                tracing::error!(source = self.source.id, %error, state, "relay refuses the bucket or its token; trying again slowly");
                HELP_PAUSE
            }
            RelayError::NotThere(_) => {
                self.out.meter().paused(&error.to_string());
                tracing::error!(source = self.source.id, %error, state, "no relay's API is at relayUrl; trying again slowly");
                HELP_PAUSE
            }
            RelayError::TooLarge => {
                self.out.meter().paused(&format!("{error}: {TOO_LARGE}"));
                tracing::error!(source = self.source.id, %error, state, "{TOO_LARGE}; trying again slowly");
                HELP_PAUSE
            }
            RelayError::Away(_) => {
                self.out.meter().failed(&error.to_string());
                tracing::warn!(source = self.source.id, %error, state, "relay cannot be reached, trying again");
                self.backoff.next_delay()
            }
            RelayError::Failed(_) | RelayError::Rejected(_) => {
                self.out.meter().failed(&error.to_string());
                tracing::warn!(source = self.source.id, %error, state, "relay answers with an error, trying again");
                self.backoff.next_delay()
            }
        };
        self.pause(pause).await
    }

    /// Waits; true when the agent stops meanwhile.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stop.cancelled() => true,
            () = tokio::time::sleep(time) => false,
        }
    }
}
