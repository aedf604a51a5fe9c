//! From the copy to the queue, without anybody waiting: connections offer their copies to one task, which makes events of
//! them and stores them, many in a commit.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rf_core::lifecycle::Tasks;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use super::config::CaptureSettings;
use super::maker::Maker;
use super::recording::{Draft, Memory};
use crate::pipeline::{Batch, Output, Rejected};
use crate::redact::CUT_MARGIN_BYTES;
use crate::source::SourceError;
use crate::stats::{Counts, Loss, SourceMeter};

/// Copies that may wait for the task, whatever their size.
const MAX_WAITING: usize = 16 * 1024;
/// Copies that are taken at once.
const MAX_TAKEN: usize = 1024;
/// After a turn with at least so many copies the task pauses, so that a commit takes many: nobody waits for it, and the
/// processor is there for the traffic.
const MANY: usize = 8;
const PAUSE: Duration = Duration::from_millis(10);
/// Lost copies are logged at the first loss, and then so often.
const REPORT_EVERY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Takes copies; clones share one task.
#[derive(Clone)]
pub(super) struct Copies(Arc<Shared>);

struct Shared {
    sender: mpsc::Sender<Draft>,
    settings: Arc<CaptureSettings>,
    memory: Arc<Memory>,
    meter: Arc<SourceMeter>,
}

impl Copies {
    /// Starts the task; it ends when every clone has gone and what waits is stored.
    ///
    /// # Errors
    /// When its thread cannot be made.
    pub(super) fn start(
        source: &str,
        settings: Arc<CaptureSettings>,
        out: Output,
        tasks: &Tasks,
    ) -> io::Result<Self> {
        let (sender, waiting) = mpsc::channel(MAX_WAITING);
        let meter = Arc::clone(out.meter());
        let memory = Memory::new(settings.memory_bytes);
        let maker = Maker::start(Arc::clone(&settings))?;
        let store = Store { source: source.to_owned(), out };
        tasks.spawn(format!("source {source} copies"), async move {
            store.run(waiting, &maker).await;
            Ok::<(), SourceError>(())
        });
        Ok(Self(Arc::new(Shared { sender, settings, memory, meter })))
    }

    pub(super) fn settings(&self) -> &CaptureSettings {
        &self.0.settings
    }

    pub(super) fn memory(&self) -> &Arc<Memory> {
        &self.0.memory
    }

    /// No other one could be offered now.
    pub(super) fn are_many(&self) -> bool {
        self.0.sender.capacity() == 0
    }

    /// Never waits.
    pub(super) fn offer(&self, draft: Draft) {
        match self.0.sender.try_send(draft) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_draft)) => self.lose(Loss::Waiting),
            Err(mpsc::error::TrySendError::Closed(_draft)) => self.lose(Loss::Stopping),
        }
    }

    pub(super) fn lose(&self, loss: Loss) {
        self.0.meter.losses.count(loss, 1);
    }
}

impl CaptureSettings {
    /// How far bodies are known behind the place where they are cut.
    pub(super) fn margin(&self) -> usize {
        if self.redactor.is_some() { CUT_MARGIN_BYTES } else { 0 }
    }
}

/// The task's side.
struct Store {
    source: String,
    out: Output,
}

impl Store {
    async fn run(self, mut waiting: mpsc::Receiver<Draft>, maker: &Maker) {
        let mut told = Counts::default();
        // Reports also while a commit hangs, so it is no part of the loop below.
        let storing = async {
            let mut taken = Vec::with_capacity(MAX_TAKEN);
            while waiting.recv_many(&mut taken, MAX_TAKEN).await > 0 {
                let is_many = taken.len() >= MANY;
                self.store_all(maker, std::mem::take(&mut taken)).await;
                if is_many && !waiting.is_closed() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        };
        let reporting = async {
            let mut look = tokio::time::interval(LOOK_EVERY);
            look.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut quiet_for = REPORT_EVERY;
            loop {
                look.tick().await;
                quiet_for += LOOK_EVERY;
                if quiet_for >= REPORT_EVERY && self.report(&mut told) {
                    quiet_for = Duration::ZERO;
                }
            }
        };
        // Both can be dropped at any point: what a hanging commit held is lost with the agent's end, and the caller says so.
        tokio::select! {
            () = storing => {}
            () = reporting => {}
        }
        self.report(&mut told);
    }

    /// True when there was something to tell.
    fn report(&self, told: &mut Counts) -> bool {
        let counts = self.out.meter().losses.counts();
        let new = counts.since(*told);
        *told = counts;
        if new.total() > 0 {
            tracing::warn!(
                source = self.source,
                lost = new.total(),
                lost_since_start = counts.total(),
                reasons = %new,
                "copies of requests are lost; the requests themselves were forwarded"
            );
        }
        new.total() > 0
    }

    async fn store_all(&self, maker: &Maker, mut drafts: Vec<Draft>) {
        drafts.reverse();
        while !drafts.is_empty() {
            let count = drafts.len();
            let Some(made) = maker.make(drafts).await else {
                self.out.meter().losses.count(Loss::Failed, count);
                tracing::error!(
                    source = self.source,
                    "copies of requests could not be converted to events"
                );
                return;
            };
            drafts = made.rest;
            self.store(made.events).await;
        }
    }

    /// Stores a batch, or drops it and counts it: nothing is tried again, the next copies are coming already.
    async fn store(&self, events: Vec<Bytes>) {
        let mut batches = vec![events];
        while let Some(mut batch) = batches.pop() {
            let count = batch.len();
            let loss = match self.out.offer(Batch::of(batch.clone())).await {
                Ok(()) => continue,
                // One event may be what is too large, or all of them together.
                Err(Rejected::TooLarge { .. }) if count > 1 => {
                    let second = batch.split_off(count / 2);
                    batches.extend([second, batch]);
                    continue;
                }
                // The output has counted it.
                Err(Rejected::TooLarge { .. }) => continue,
                Err(Rejected::Full { .. }) => Loss::Full,
                Err(Rejected::Closed) => Loss::Stopping,
                Err(Rejected::Failed(reason)) => {
                    tracing::warn!(
                        source = self.source,
                        error = reason,
                        "copies of requests are not stored"
                    );
                    Loss::Refused
                }
            };
            self.out.meter().losses.count(loss, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use http::{HeaderMap, Method};
    use rf_core::config::{Problems, parse};

    use super::super::config::check_capture;
    use super::super::recording::{Head, Recording};
    use super::*;

    fn settings() -> CaptureSettings {
        let mut problems = Problems::new();
        let text = r#"{ "forwardTo": "http://127.0.0.1:1", "listenPort": 0 }"#;
        let document = parse("test", text, &|_| None, &mut problems).unwrap();
        let params = document.root();
        check_capture(&params.decode(&mut problems).unwrap(), &params, &mut problems).unwrap()
    }

    #[test]
    fn where_none_could_wait_no_copy_is_begun() {
        let (sender, mut waiting) = mpsc::channel(1);
        let settings = Arc::new(settings());
        let memory = Memory::new(settings.memory_bytes);
        let meter = Arc::<SourceMeter>::default();
        let shared = Shared { sender, settings, memory, meter: Arc::clone(&meter) };
        let copies = Copies(Arc::new(shared));
        let begin = || {
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let (method, headers) = (&Method::GET, &HeaderMap::new());
            let head = Head { captured_at_us: 0, peer, method, target: "/", headers, named: &[] };
            Recording::begin(head, &copies)
        };
        drop(begin().expect("there is room"));
        assert!(begin().is_none());
        assert_eq!(meter.losses.counts().to_string(), "1 waiting");
        waiting.try_recv().expect("the first was handed over");
        assert!(begin().is_some());
    }
}
