//! Work that gives way: a thread of low priority that does one thing after the other.
//!
//! Promises: on a busy processor it gets the share that its nice value leaves it, and all that is idle; at most one job is
//! in hand and one waits in the channel, whoever has more waits outside, in the order of asking, and a job whose caller
//! has gone before its turn is not done; a job that panics costs that job.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::{mpsc, oneshot};

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Background {
    jobs: mpsc::Sender<Job>,
}

type Job = Box<dyn FnOnce() + Send>;

impl Background {
    /// Starts the thread. Its weight beside a thread at nice 0 is a ninth at nice 10, and a twenty-eighth at nice 15.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(name: &'static str, niceness: i32) -> io::Result<Background> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(1);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(error) = setpriority_process(Some(gettid()), niceness) {
                tracing::debug!(thread = name, %error, "works at the priority of everything else");
            }
            while let Some(job) = waiting.blocking_recv() {
                // What a job shares is behind locks that are whole after a panic; what it owns is gone.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    tracing::error!(thread = name, "a job panicked");
                }
            }
        })?;
        Ok(Background { jobs })
    }

    /// Does it there. `None`: it panicked, which was logged, or the thread has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let place = self.jobs.reserve().await.ok()?;
        let (done, outcome) = oneshot::channel();
        place.send(Box::new(move || {
            if !done.is_closed() {
                // Nobody waits any more where the caller went meanwhile.
                drop(done.send(work()));
            }
        }));
        outcome.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn jobs_are_done_in_turn_on_a_thread_that_gives_way() {
        let background = Background::start("test-low", 15).unwrap();
        let look = || {
            let name = std::thread::current().name().map(str::to_owned);
            (name, rustix::process::getpriority_process(Some(gettid())).unwrap())
        };
        let here = rustix::process::getpriority_process(None).unwrap();
        let (name, niceness) = background.run(look).await.unwrap();
        assert_eq!(name.as_deref(), Some("test-low"));
        assert_eq!((niceness, here), (15, 0), "that thread alone");
    }

    #[tokio::test]
    async fn a_panic_costs_one_job() {
        let background = Background::start("test-panic", 10).unwrap();
        let panics: fn() -> u8 = || panic!("expected");
        assert_eq!(background.run(panics).await, None);
        assert_eq!(background.run(|| 7).await, Some(7));
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_is_not_done() {
        let background = Arc::new(Background::start("test-gone", 10).unwrap());
        let (open, gate) = std::sync::mpsc::channel::<()>();
        let is_done = Arc::new(AtomicBool::new(false));
        let mut first = Box::pin(background.run(move || gate.recv()));
        let done = Arc::clone(&is_done);
        let mut second = Box::pin(background.run(move || done.store(true, Ordering::SeqCst)));
        tokio::select! {
            biased;
            _ = &mut first => panic!("the gate is closed"),
            _ = &mut second => panic!("it stands behind the first"),
            () = std::future::ready(()) => {}
        }
        drop(second);
        open.send(()).unwrap();
        assert_eq!(first.await, Some(Ok(())));
        assert_eq!(background.run(|| 1).await, Some(1), "the second had its turn before this");
        assert!(!is_done.load(Ordering::SeqCst));
    }
}
