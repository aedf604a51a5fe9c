//! One thread owns what writes to a database; everybody else sends it jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

/// Jobs that may wait; a sender past that waits itself.
const WAITING_JOBS: usize = 8;

type Job<S> = Box<dyn FnOnce(&mut S) + Send>;

/// A thread with a state `S` that never leaves it.
///
/// A panic in a job is contained: the state is dropped, which rolls its transaction back, and opened anew for the next job.
pub(crate) struct Writer<S> {
    jobs: Option<mpsc::Sender<Job<S>>>,
    thread: Option<JoinHandle<()>>,
}

/// The job was not done, or not to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the writer of the database broke off: see the log")]
pub(crate) struct WriterGone;

impl<S: 'static> Writer<S> {
    /// Starts the thread and opens its state there.
    ///
    /// # Errors
    /// What `open` says, or why there is no thread.
    pub(crate) async fn start(
        name: String,
        open: impl Fn() -> Result<S, String> + Send + 'static,
    ) -> Result<Self, String> {
        let (jobs, receiver) = mpsc::channel(WAITING_JOBS);
        let (opened, is_open) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("rf-sink".to_owned())
            .spawn(move || run(&name, open, receiver, opened))
            .map_err(|error| format!("no thread for the database: {error}"))?;
        is_open.await.map_err(|_gone| WriterGone.to_string())??;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `job` done, after those that wait already.
    ///
    /// # Errors
    /// [`WriterGone`] when it panicked, or the state could not be opened anew.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, WriterGone> {
        let (answer, answered) = oneshot::channel();
        let job: Job<S> = Box::new(move |state| {
            // Nobody waits any more when the caller was dropped; the job is done all the same.
            drop(answer.send(job(state)));
        });
        let jobs = self.jobs.as_ref().ok_or(WriterGone)?;
        jobs.send(job).await.map_err(|_closed| WriterGone)?;
        answered.await.map_err(|_dropped| WriterGone)
    }
}

impl<S> Drop for Writer<S> {
    /// Lets the thread do what waits and close the database.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the writer of a database panicked while it closed");
        }
    }
}

fn run<S>(
    name: &str,
    open: impl Fn() -> Result<S, String>,
    mut jobs: mpsc::Receiver<Job<S>>,
    opened: oneshot::Sender<Result<(), String>>,
) {
    let mut state = match open() {
        Ok(state) => Some(state),
        Err(reason) => {
            drop(opened.send(Err(reason)));
            return;
        }
    };
    drop(opened.send(Ok(())));
    while let Some(job) = jobs.blocking_recv() {
        if state.is_none() {
            state = open()
                .inspect_err(|error| {
                    tracing::error!(sink = name, error, "the database cannot be opened anew");
                })
                .ok();
        }
        let Some(open_state) = &mut state else { continue };
        if catch_unwind(AssertUnwindSafe(|| job(open_state))).is_err() {
            tracing::error!(sink = name, "a write panicked; it is rolled back and tried again");
            state = None;
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(writer.call(|_| -> i32 { panic!("a job") }).await, Err(WriterGone));
        assert_eq!(writer.call(add).await, Ok(1));
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_so() {
        let started = Writer::<()>::start("test".to_owned(), || Err("no".to_owned())).await;
        assert_eq!(started.err().as_deref(), Some("no"));
    }
}
