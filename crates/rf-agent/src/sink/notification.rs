//! `notification` sink: tells people, through the services of `rf_notify`.
//!
//! POST events only; the body is `{"subject"?, "message"}` or a text. What waits becomes one message, so a burst is told
//! once; a text that was told within `dedupWindow` is counted instead of told again.
//!
//! Promises:
//! - at least once to every service, and a service that took an event is not told again because another one is away;
//! - how far each service is, and what is counted, is stored in the agent's database before an event leaves the queue
//!   (`progress`), so a kill at any point repeats the one message that was under way and loses none.

#[cfg(test)]
pub(super) mod contract;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use parking_lot::Mutex;
use rf_core::config::{Interval, Node, Problems, schema_of};
use rf_core::event::ReplayRequest;
use rf_notify::{Message, NotifyError, Sent, Target, TargetConfig};
use rf_queue::{Checkpoint, StoredEvent};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use tokio::sync::{OnceCell, watch};
use tokio_util::sync::CancellationToken;

use self::progress::{Arrived, Progress};
use super::{
    Batching, EventLimit, Overlap, RateLimits, Shape, Sink, SinkBatch, SinkContext, SinkError,
    SinkHost, SinkStartError, Writes, checkpoint, singles,
};
use crate::pipeline::{Batch, Output};
use crate::settings::at;

/// Services of one sink at the most.
const MAX_WEBHOOKS: usize = 32;
/// Most events of a batch, and so of a message.
const MAX_BATCH: usize = 100;
const BATCH_BYTES: usize = 1024 * 1024;
/// A larger event is no notification.
const MAX_EVENT_BYTES: usize = 1024 * 1024;
/// A service that refuses us is asked again after this.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A reminder that the queue did not take is tried again after this, and one that got lost is missed.
const REMIND_PAUSE: Duration = Duration::from_secs(5);
/// Messages a minute to people where the file says nothing.
const DEFAULT_PER_MINUTE: f64 = 20.0;
/// Put into the sink's own queue when the window of a counted text is over: what it counted is told then. Anybody may
/// send the same, and would only be early.
const WINDOW_OVER: &[u8] = br#"{"method":"POST","path":"/_rpf/dedup-window-over"}"#;

/// `params` of a `notification` sink.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NotificationConfig {
    /// The services, each by a name of your choice; every notification goes to all of them.
    pub(crate) webhooks: BTreeMap<String, TargetConfig>,
    /// The same notification within this time after it was told is counted, and the count told at its end; 0: every one
    /// is told.
    #[serde(default)]
    pub(crate) dedup_window: Interval,
    /// Batches a minute at the most: what comes meanwhile is grouped. None: 20 where any service groups; 0: unlimited.
    #[serde(default)]
    pub(crate) max_messages_per_minute: Option<u32>,
    /// A notification that fails and was queued longer ago than this becomes a dead letter; 0: never.
    #[serde(default = "singles::default_max_age")]
    pub(crate) max_age: Interval,
}

/// JSON Schema of [`NotificationConfig`].
pub(super) fn schema() -> Schema {
    schema_of::<NotificationConfig>()
}

/// The services that `params` names.
pub(crate) fn targets(params: &Node<'_>, problems: &mut Problems) -> Option<Vec<Target>> {
    let config: NotificationConfig = params.decode(problems)?;
    check_targets(&config, params, problems)
}

fn check_targets(
    config: &NotificationConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Vec<Target>> {
    let webhooks = at(params, "webhooks");
    if config.webhooks.is_empty() || config.webhooks.len() > MAX_WEBHOOKS {
        problems.error(&webhooks, format!("expected 1 to {MAX_WEBHOOKS} services"));
        return None;
    }
    let built: Vec<Option<Target>> = config
        .webhooks
        .iter()
        .map(|(name, target)| Target::build(name, target, &at(&webhooks, name), problems))
        .collect();
    built.into_iter().collect()
}

/// Checks the configuration and makes the sink.
pub(super) fn build(
    context: &SinkContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Arc<dyn Sink>> {
    let config: NotificationConfig = params.decode(problems)?;
    let targets = check_targets(&config, params, problems)?;
    let groups = targets.iter().any(|target| target.group_max() > 1);
    let per_minute = match config.max_messages_per_minute {
        Some(most) => Some(f64::from(most)).filter(|most| *most > 0.0),
        None => groups.then_some(DEFAULT_PER_MINUTE),
    };
    let shape = Shape {
        writes: Writes::Batches(Batching {
            max_events: MAX_BATCH,
            goal_bytes: BATCH_BYTES,
            event_limit: Some(EventLimit {
                bytes: MAX_EVENT_BYTES,
                name: "a notification may have",
            }),
            linger: Duration::ZERO,
            overlap: Overlap::None,
        }),
        max_attempts: None,
        max_age: singles::limit(config.max_age),
        backoff: (Duration::from_secs(1), Duration::from_secs(300)),
        rate: RateLimits { writes_per_minute: per_minute, ..RateLimits::default() },
    };
    Some(Arc::new(Notification {
        name: context.name.to_owned(),
        targets,
        window: config.dedup_window.into(),
        shape,
        own_queue: OnceLock::new(),
        loaded: OnceCell::new(),
        progress: Mutex::default(),
        window_end: watch::Sender::new(None),
    }))
}

struct Notification {
    name: String,
    targets: Vec<Target>,
    window: Duration,
    shape: Shape,
    /// Set at the start.
    own_queue: OnceLock<Output>,
    /// What is stored was read: not yet where the queue's disk refused it at the start.
    loaded: OnceCell<()>,
    /// Written by [`Sink::write`] alone, of which one runs at a time.
    progress: Mutex<Progress>,
    /// When the next counted text is due, milliseconds since 1970.
    window_end: watch::Sender<Option<u64>>,
}

impl Sink for Notification {
    fn shape(&self) -> &Shape {
        &self.shape
    }

    fn start<'a>(&'a self, host: &'a SinkHost) -> BoxFuture<'a, Result<(), SinkStartError>> {
        Box::pin(async move {
            let error = |reason: String| SinkStartError { name: self.name.clone(), reason };
            let output =
                host.output(&self.name).ok_or_else(|| error("it has no queue".to_owned()))?;
            self.own_queue
                .set(output)
                .map_err(|_second| error("it was started twice".to_owned()))?;
            if let Err(reason) = self.load().await {
                tracing::warn!(sink = self.name, %reason, "the sink's progress cannot be read now; it is read with the first write");
            }
            Ok(())
        })
    }

    fn write<'a>(&'a self, batch: &'a SinkBatch) -> BoxFuture<'a, Result<(), SinkError>> {
        Box::pin(async move {
            self.load().await?;
            let arrived = batch
                .events
                .iter()
                .map(read)
                .collect::<Result<Vec<_>, _>>()
                .map_err(SinkError::Permanent)?;
            let before = self.progress.lock().clone();
            let (mut after, told) = before.judge(&arrived, self.window);
            let sent = self.targets.iter().map(|target| self.tell(target, &told, &before));
            let mut failed = None;
            after.reached.clear();
            for (target, (reached, outcome)) in self.targets.iter().zip(join_all(sent).await) {
                after.reached.insert(target.name().to_owned(), reached);
                failed = failed.or(outcome.err());
            }
            match failed {
                None => self.store(after).await,
                Some(error) => {
                    // The judgement is made again with the next try; how far each service is, is not lost by a kill.
                    if after.reached != before.reached {
                        let mut partly = before.clone();
                        partly.reached = after.reached;
                        self.store(partly).await?;
                    }
                    Err(error)
                }
            }
        })
    }

    fn run(self: Arc<Self>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.remind() => {}
            }
        })
    }
}

impl Notification {
    fn key(&self) -> String {
        format!("notify:{}", self.name)
    }

    /// Reads what is stored, once in a run.
    async fn load(&self) -> Result<(), SinkError> {
        self.loaded.get_or_try_init(|| self.read_stored()).await.copied()
    }

    async fn read_stored(&self) -> Result<(), SinkError> {
        let Some(output) = self.own_queue.get() else { return Ok(()) };
        let stored = output.checkpoint(&self.key()).await.map_err(|error| {
            let reason = format!("its progress cannot be read: {error}");
            SinkError::Retry { reason, after: None }
        })?;
        let consequence = "services may be told their last notifications again";
        let progress: Option<Progress> = stored
            .and_then(|stored| checkpoint::decode(&self.name, &self.key(), &stored, consequence));
        if let Some(progress) = progress {
            self.store_in_memory(progress);
        }
        Ok(())
    }

    /// Tells one service what it has not been told yet; the last event that it has, and how it ended.
    async fn tell(
        &self,
        target: &Target,
        told: &[(u64, Message)],
        before: &Progress,
    ) -> (u64, Result<(), SinkError>) {
        let mut reached = before.reached.get(target.name()).copied().unwrap_or_default();
        let behind = reached;
        let mut rest: &[(u64, Message)] = told;
        while let Some((first, _)) = rest.first() {
            // Several texts of one event are never parted: `reached` could not tell them apart.
            let mut count = target.group_max().min(rest.len());
            while rest.get(count).is_some_and(|(id, _)| *id == rest[count - 1].0) {
                count += 1;
            }
            let (group, later) = rest.split_at(count);
            rest = later;
            let messages: Vec<Message> = group
                .iter()
                .filter(|(id, _)| *id > behind)
                .map(|(_, message)| message.clone())
                .collect();
            if messages.is_empty() {
                continue;
            }
            let id = format!("{}-{first}-{}", self.name, messages.len());
            match target.send(&target.grouped(&messages), &id).await {
                Ok(Sent { missed, .. }) => self.tell_of_missed(target, missed),
                Err(error) => return (reached, Err(sink_error(target.name(), error))),
            }
            reached = group.last().map_or(reached, |(id, _)| *id);
        }
        (reached, Ok(()))
    }

    fn tell_of_missed(&self, target: &Target, missed: Option<String>) {
        if let Some(missed) = missed {
            tracing::warn!(
                sink = self.name,
                webhook = target.name(),
                missed,
                "a notification did not reach all recipients: check the addresses"
            );
        }
    }

    /// Keeps the progress in memory first: what was sent is not sent again by this process, even if it cannot be stored.
    async fn store(&self, progress: Progress) -> Result<(), SinkError> {
        let retry = |reason: String| SinkError::Retry { reason, after: None };
        let value = serde_json::to_vec(&progress).map_err(|error| retry(error.to_string()))?;
        self.store_in_memory(progress);
        let Some(output) = self.own_queue.get() else { return Ok(()) };
        let checkpoints = vec![Checkpoint { key: self.key(), value: Some(value) }];
        let batch = Batch { events: Vec::new(), checkpoints };
        output
            .send(batch)
            .await
            .map_err(|error| retry(format!("its progress was not stored: {error}")))
    }

    fn store_in_memory(&self, progress: Progress) {
        self.window_end.send_replace(progress.next_end_ms());
        *self.progress.lock() = progress;
    }

    /// Puts [`WINDOW_OVER`] into the sink's own queue whenever a window ends in which something was counted.
    async fn remind(&self) {
        let mut window_end = self.window_end.subscribe();
        // When the last reminder was queued: it ends every window that was over by then.
        let mut reminded_ms: Option<u64> = None;
        loop {
            let Some(output) = self.own_queue.get() else { return };
            // Looked at before the end is: a reminder that was written has changed that before it left the queue.
            let is_queue_empty = output.is_empty();
            let end = *window_end.borrow_and_update();
            let Some(end) = end else {
                if window_end.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let pause = Duration::from_millis(end).saturating_sub(now);
            if !pause.is_zero() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    changed = window_end.changed() => if changed.is_err() { return },
                }
                continue;
            }
            // While a service is away the reminder waits behind the events, and any later one does its work as well. With an
            // empty queue it has got lost.
            let is_on_its_way = reminded_ms >= Some(end) && !is_queue_empty;
            if !is_on_its_way {
                match output.send(Batch::of(vec![Bytes::from_static(WINDOW_OVER)])).await {
                    Ok(()) => {
                        reminded_ms = Some(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
                    }
                    Err(error) => {
                        tracing::debug!(sink = self.name, %error, "a count of duplicates waits for room in the queue");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(REMIND_PAUSE) => {}
                changed = window_end.changed() => if changed.is_err() { return },
            }
        }
    }
}

fn sink_error(name: &str, error: NotifyError) -> SinkError {
    let reason = format!("webhook `{name}`: {error}");
    match error {
        NotifyError::Retry { after, .. } => SinkError::Retry { reason, after },
        NotifyError::Away(_) => SinkError::Away(reason),
        NotifyError::Refused(_) => SinkError::Retry { reason, after: Some(REFUSED_PAUSE) },
        NotifyError::Permanent(_) => SinkError::Permanent(reason),
    }
}

/// What an event asks for; other methods than POST ask for nothing.
fn read(event: &StoredEvent) -> Result<Arrived, String> {
    let (id, at_ms) = (event.id, event.at_ms);
    if event.content == WINDOW_OVER {
        return Ok(Arrived { id, at_ms, message: None });
    }
    let request = ReplayRequest::parse(&event.content).map_err(|error| error.to_string())?;
    if request.method != "POST" {
        return Ok(Arrived { id, at_ms, message: None });
    }
    let message = Message::from_body(&request.body)?;
    Ok(Arrived { id, at_ms, message: Some(message) })
}
