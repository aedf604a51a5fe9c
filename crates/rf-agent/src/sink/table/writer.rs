//! One thread owns what writes to a database; everybody else sends it jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use super::failure::OpenError;

/// Jobs that may wait; a sender past that waits itself.
const WAITING_JOBS: usize = 8;

/// Is given the state, or why there is none.
type Job<S> = Box<dyn FnOnce(Result<&mut S, &OpenError>) + Send>;

/// A thread with a state `S` that never leaves it.
///
/// A panic in a job is contained: the state is dropped, which rolls its transaction back, and opened anew for the next job.
/// So is a state that could not be opened for a reason that may pass.
pub(crate) struct Writer<S> {
    jobs: Option<mpsc::Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// The job was not done, or not to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDone {
    /// Nothing of it was done.
    #[error(transparent)]
    NotOpen(#[from] OpenError),
    /// Nothing of it was done.
    #[error(
        "database {}: the file was removed, or another one is in its place, while the player had it open: put it back, or restart the player to go on with what is there",
        .0.display()
    )]
    Gone(PathBuf),
    /// It panicked.
    #[error("the database writer failed: see the log")]
    BrokeOff,
}

impl<S: 'static> Writer<S> {
    /// Starts the thread and opens its state there. What may pass is logged; the next job finds it out again.
    ///
    /// # Errors
    /// What `open` says that will not pass by itself, or why there is no thread.
    pub(crate) async fn start(
        name: String,
        open: impl Fn() -> Result<S, OpenError> + Send + 'static,
    ) -> Result<Self, String> {
        let (jobs, receiver) = mpsc::channel(WAITING_JOBS);
        let (opened, is_open) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("rf-sink".to_owned())
            .spawn(move || run(&name, open, receiver, opened))
            .map_err(|error| format!("cannot start the database's thread: {error}"))?;
        is_open.await.map_err(|_gone| NotDone::BrokeOff.to_string())??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `job` done, after those that wait already.
    ///
    /// # Errors
    /// [`NotDone`] when it panicked, or there is no state.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, NotDone> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Nobody waits any more when the caller was dropped; the job is done all the same.
            drop(answer.send(state.map(job).map_err(Clone::clone)));
        });
        let jobs = self.jobs.as_ref().ok_or(NotDone::BrokeOff)?;
        jobs.send(job).await.map_err(|_closed| NotDone::BrokeOff)?;
        Ok(answered.await.map_err(|_dropped| NotDone::BrokeOff)??)
    }
}

impl<S> Drop for Writer<S> {
    /// Lets the thread do what waits and close the database.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of a database panicked while closing");
        }
    }
}

fn run<S>(
    name: &str,
    open: impl Fn() -> Result<S, OpenError>,
    mut jobs: mpsc::Receiver<Job<S>>,
    opened: oneshot::Sender<Result<(), String>>,
) {
    let mut state = match open() {
        Ok(state) => Some(state),
        Err(error) if error.may_pass => {
            tracing::error!(sink = name, %error, "the sink's database cannot be opened; its events wait until it can be");
            None
        }
        Err(error) => {
            drop(opened.send(Err(error.to_string())));
            return;
        }
    };
    drop(opened.send(Ok(())));
    while let Some(job) = jobs.blocking_recv() {
        let mut current = state.take().map_or_else(&open, Ok);
        let work = || job(current.as_mut().map_err(|error| &*error));
        if catch_unwind(AssertUnwindSafe(work)).is_ok() {
            state = current.ok();
        } else {
            tracing::error!(sink = name, "a write panicked; it is rolled back and tried again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_panic_costs_its_job_and_the_state_is_made_anew() {
        let writer = Writer::start("test".to_owned(), || Ok(0)).await.unwrap();
        let add = |state: &mut i32| {
            *state += 1;
            *state
        };
        assert_eq!(writer.call(add).await, Ok(1));
        assert_eq!(writer.call(add).await, Ok(2));
        assert_eq!(writer.call(|_| -> i32 { panic!("a job") }).await, Err(NotDone::BrokeOff));
        assert_eq!(writer.call(add).await, Ok(1));
    }

    fn refused(may_pass: bool) -> OpenError {
        OpenError { path: "a.sqlite3".into(), reason: "no".to_owned(), may_pass }
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_so() {
        let started = Writer::<()>::start("test".to_owned(), || Err(refused(false))).await;
        assert_eq!(started.err().as_deref(), Some("database a.sqlite3: no"));
    }

    #[tokio::test]
    async fn what_may_pass_is_tried_again_with_the_next_job() {
        let tries = AtomicUsize::new(0);
        let open = move || match tries.fetch_add(1, Ordering::SeqCst) {
            0 | 1 => Err(refused(true)),
            _ => Ok(7),
        };
        let writer = Writer::start("test".to_owned(), open).await.unwrap();
        assert_eq!(writer.call(|state| *state).await, Err(refused(true).into()));
        assert_eq!(writer.call(|state| *state).await, Ok(7));
    }
}
