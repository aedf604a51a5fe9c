//! How tasks start, stop and fail.
//!
//! Every task of the program belongs to one [`Tasks`] group, and every group is joined. What this
//! module promises:
//!
//! - an essential task ([`Tasks::spawn`]) that fails or panics cancels the group's token at once,
//!   so that its neighbours stop too, and [`Tasks::join`] names it;
//! - a contained task ([`Tasks::spawn_contained`]) can panic without harm: the panic is logged and
//!   counted;
//! - a task that ended leaves nothing behind in its group;
//! - a stop is bounded: after the grace period the tasks that are stuck are named and aborted.
//!
//! Groups nest: a listener has a group of its own for its connections, made with a child of the
//! token that it was given, and joins it before it returns. Invariant: no task outlives its group,
//! since dropping a group (also by aborting the task that owns it) aborts what is left.

use std::any::Any;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long aborted tasks may take to drop what they hold. Only a task that blocks its thread takes
/// longer.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// Why a group did not end well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TaskFailure {
    /// An essential task ended with an error.
    #[error("task {task} ended: {reason}")]
    Failed {
        /// The name that the task was spawned with.
        task: String,
        /// The error, with its causes.
        reason: String,
    },
    /// An essential task panicked.
    #[error("task {task} panicked: {reason}")]
    Panicked {
        /// The name that the task was spawned with.
        task: String,
        /// What the panic said.
        reason: String,
    },
    /// Tasks still ran when the grace period was over; they were aborted.
    #[error("still running {grace:?} after the stop: {}", tasks.join(", "))]
    Stuck {
        /// Names of the tasks in the order of their start; `name (x3)` stands for three of one
        /// name.
        tasks: Vec<String>,
        /// The grace period that they were given.
        grace: Duration,
    },
}

/// A named group of tasks that stop, fail and are joined together.
#[derive(Debug)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
    group: Arc<Group>,
}

impl Tasks {
    /// An empty group. Cancelling `stop` asks its tasks to end; a failing essential task cancels it
    /// as well, so a group that must not stop its parent is given a child token.
    #[must_use]
    pub fn new(stop: CancellationToken) -> Self {
        let group = Group {
            stop: stop.clone(),
            registry: Mutex::default(),
            contained_panics: AtomicU64::new(0),
        };
        Self { stop, tracker: TaskTracker::new(), group: Arc::new(group) }
    }

    /// Spawns an essential task: when it fails or panics, the group's token is cancelled and
    /// [`join`](Self::join) names it. To end with `Ok` is fine at any time.
    ///
    /// Must be called within a Tokio runtime.
    pub fn spawn<F, E>(&self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: fmt::Display + Send,
    {
        self.start(Cow::Owned(name.into()), Kind::Essential, async move {
            // The alternate form makes error types that keep a chain of causes print all of it.
            future.await.map_err(|error| format!("{error:#}"))
        });
    }

    /// Spawns a task whose end is nobody's concern but that must be joined, such as a connection. A
    /// panic is logged and counted, and harms nobody else.
    ///
    /// Must be called within a Tokio runtime.
    pub fn spawn_contained<F>(&self, name: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.start(Cow::Borrowed(name), Kind::Contained, async move {
            future.await;
            Ok(())
        });
    }

    /// The token that asks this group to stop.
    #[must_use]
    pub fn stop_token(&self) -> &CancellationToken {
        &self.stop
    }

    /// How many tasks are running now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// How many contained tasks have panicked since the group was made.
    #[must_use]
    pub fn contained_panics(&self) -> u64 {
        self.group.contained_panics.load(Ordering::Relaxed)
    }

    /// Waits until the stop token is cancelled or a task failed, then up to `grace` for every task
    /// to end; then aborts the stuck ones. A group whose tasks have all ended well still waits for
    /// the stop.
    ///
    /// # Errors
    /// The first failure of an essential task, which was logged when it happened; else the stuck
    /// tasks.
    pub async fn join(self, grace: Duration) -> Result<(), TaskFailure> {
        self.stop.cancelled().await;
        self.tracker.close();
        let stuck = match timeout(grace, self.tracker.wait()).await {
            Ok(()) => Vec::new(),
            Err(_elapsed) => self.abort_stuck().await,
        };
        let failure = self.group.registry.lock().failure.take();
        match (failure, stuck.is_empty()) {
            (Some(failure), true) => Err(failure),
            (Some(failure), false) => {
                // The failure is the cause, and it is what is returned: the stuck are named here.
                tracing::error!(tasks = %stuck.join(", "), "tasks are still running after the grace period");
                Err(failure)
            }
            (None, true) => Ok(()),
            (None, false) => Err(TaskFailure::Stuck { tasks: stuck, grace }),
        }
    }

    async fn abort_stuck(&self) -> Vec<String> {
        let names = self.group.registry.lock().running_names();
        self.group.abort_all();
        if timeout(ABORT_WAIT, self.tracker.wait()).await.is_err() {
            let tasks = self.group.registry.lock().running_names().join(", ");
            tracing::error!(tasks, "tasks block their thread and cannot be aborted");
        }
        names
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that spawns: here every task is named and joined"
    )]
    fn start<F>(&self, name: Cow<'static, str>, kind: Kind, future: F)
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let entry = Entry { id: self.group.enter(name.clone()), group: Arc::clone(&self.group) };
        let id = entry.id;
        let handle = tokio::task::spawn(self.tracker.track_future(async move {
            let outcome = CatchPanic { future: pin!(future) }.await;
            entry.group.ended(&name, kind, outcome);
        }));
        // The lock is not held across the spawn: a runtime that shuts down drops the task inside of
        // that call, and the dropped entry takes the lock. A task that has ended by now finds its
        // handle dropped here.
        if let Some(running) = self.group.registry.lock().running.get_mut(&id) {
            running.abort = Some(handle.abort_handle());
        }
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.group.abort_all();
    }
}

/// Whether a failure concerns the group.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Essential,
    Contained,
}

/// How a task ended short of its own end: by its error, or by a panic with its message.
#[derive(Debug)]
enum Ending {
    Failed(String),
    Panicked(String),
}

/// What the tasks of a group share with its owner.
#[derive(Debug)]
struct Group {
    stop: CancellationToken,
    /// A std lock, held for a few instructions and never across an await.
    registry: Mutex<Registry>,
    contained_panics: AtomicU64,
}

impl Group {
    fn enter(&self, name: Cow<'static, str>) -> u64 {
        let mut registry = self.registry.lock();
        let id = registry.next_id;
        registry.next_id += 1;
        registry.running.insert(id, Running { name, abort: None });
        id
    }

    fn ended(&self, name: &str, kind: Kind, outcome: Result<(), Ending>) {
        let Err(ending) = outcome else { return };
        let (Ending::Failed(reason) | Ending::Panicked(reason)) = &ending;
        match kind {
            Kind::Contained => {
                self.contained_panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    task = name,
                    error = reason,
                    "a task panicked; the others continue"
                );
            }
            Kind::Essential => {
                tracing::error!(
                    task = name,
                    error = reason,
                    "an essential task failed; its group stops"
                );
                self.registry.lock().failure.get_or_insert_with(|| ending.into_failure(name));
                self.stop.cancel();
            }
        }
    }

    fn abort_all(&self) {
        // Collected first: a runtime that shuts down may drop a task inside of `abort`, which takes
        // the lock.
        let handles: Vec<AbortHandle> = self
            .registry
            .lock()
            .running
            .values()
            .filter_map(|running| running.abort.clone())
            .collect();
        for handle in handles {
            handle.abort();
        }
    }
}

impl Ending {
    fn into_failure(self, name: &str) -> TaskFailure {
        let task = name.to_owned();
        match self {
            Self::Failed(reason) => TaskFailure::Failed { task, reason },
            Self::Panicked(reason) => TaskFailure::Panicked { task, reason },
        }
    }
}

#[derive(Debug, Default)]
struct Registry {
    next_id: u64,
    running: HashMap<u64, Running>,
    failure: Option<TaskFailure>,
}

impl Registry {
    /// The names in the order of the start, those of one name counted together.
    fn running_names(&self) -> Vec<String> {
        let mut by_age: Vec<(&u64, &Running)> = self.running.iter().collect();
        by_age.sort_unstable_by_key(|(id, _)| **id);
        let mut counted: Vec<(&str, usize)> = Vec::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (_, running) in by_age {
            let place = *places.entry(&running.name).or_insert_with(|| {
                counted.push((&running.name, 0));
                counted.len() - 1
            });
            counted[place].1 += 1;
        }
        let told = |(name, count): (&str, usize)| match count {
            1 => name.to_owned(),
            _ => format!("{name} (x{count})"),
        };
        counted.into_iter().map(told).collect()
    }
}

#[derive(Debug)]
struct Running {
    name: Cow<'static, str>,
    /// `None` for the instant between the registration and the spawn.
    abort: Option<AbortHandle>,
}

/// A running task's place in the registry; given back however the task ends, be it by an abort.
struct Entry {
    id: u64,
    group: Arc<Group>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let removed = self.group.registry.lock().running.remove(&self.id);
        // Dropped after the lock is released: it may hold the last reference to the task.
        drop(removed);
    }
}

/// Turns a panic while polling into a value, which keeps its message.
///
/// The futures that it is given are async blocks, which drop what they hold inside of their last
/// poll: so a panic in a task's destructors is caught as well.
struct CatchPanic<'a, F> {
    future: Pin<&'a mut F>,
}

impl<F> Future for CatchPanic<'_, F>
where
    F: Future<Output = Result<(), String>>,
{
    type Output = Result<(), Ending>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // A future that panicked is never polled again, so nobody sees the state that it was left
        // in.
        match catch_unwind(AssertUnwindSafe(|| self.future.as_mut().poll(context))) {
            Ok(poll) => poll.map_err(Ending::Failed),
            Err(payload) => Poll::Ready(Err(Ending::Panicked(panic_text(&*payload)))),
        }
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests;
