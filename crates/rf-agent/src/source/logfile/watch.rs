//! Waiting for news of files: the kernel's word where it gives one (inotify), and a slow poll for the rest.
//!
//! Folders are watched, not files: a folder tells of writes to its files, too, and of names that come and go.

use std::path::PathBuf;

/// What a folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Files were written to.
    Content,
    /// Names have come or gone: it is worth looking which files there are.
    Names,
}

#[cfg(target_os = "linux")]
pub(super) use linux::Watcher;

#[cfg(target_os = "linux")]
mod linux {
    use std::collections::HashMap;
    use std::io::{self, PipeReader, PipeWriter};
    use std::mem::MaybeUninit;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::sync::Arc;
    use std::thread::JoinHandle;

    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
    use rustix::io::Errno;
    use tokio::sync::mpsc;

    use super::{News, PathBuf};

    /// Folders that are watched; the files of further ones are found by the poll.
    const MAX_FOLDERS: usize = 1024;
    const BUFFER_BYTES: usize = 16 * 1024;
    /// News that nobody has asked for yet hold back the next, so that a busy file wakes nobody for every line.
    const NEWS_AHEAD: usize = 1;

    /// Watches folders, on a thread of its own that has ended when this is dropped.
    pub(in crate::source::logfile) struct Watcher {
        source: String,
        /// `None`: this machine gives no more; then there are never news.
        watching: Option<Watching>,
        folders: HashMap<PathBuf, i32>,
    }

    struct Watching {
        inotify: Arc<OwnedFd>,
        news: mpsc::Receiver<News>,
        /// Closed to end the thread.
        alive: Option<PipeWriter>,
        thread: Option<JoinHandle<()>>,
    }

    impl Watcher {
        pub(in crate::source::logfile) fn new(source: &str) -> Self {
            let watching = Watching::start().map_err(|error| {
                tracing::warn!(source, %error, "files cannot be watched, checking them at every hookInterval instead");
            });
            Self { source: source.to_owned(), watching: watching.ok(), folders: HashMap::new() }
        }

        /// Watches these folders and no others. True when one of them was not watched before: what has changed there since it
        /// was looked at was not told.
        pub(in crate::source::logfile) fn watch(&mut self, folders: &[PathBuf]) -> bool {
            let Some(Watching { inotify, .. }) = &self.watching else { return false };
            self.folders.retain(|folder, watch| {
                let keep = folders.contains(folder);
                if !keep && let Err(error) = inotify::remove_watch(inotify, *watch) {
                    // The kernel ends the watch of a folder that is removed by itself.
                    tracing::debug!(folder = %folder.display(), %error, "no watch to remove");
                }
                keep
            });
            let mut is_new = false;
            for folder in folders {
                if self.folders.len() >= MAX_FOLDERS {
                    break;
                }
                // A folder that was made anew is another one: adding it again watches that.
                match add(inotify, folder) {
                    Ok(watch) => {
                        is_new |= self.folders.insert(folder.clone(), watch) != Some(watch);
                    }
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
                    Err(error) => {
                        tracing::warn!(source = self.source, folder = %folder.display(), %error, "folder cannot be watched, checking its files at every hookInterval instead");
                    }
                }
            }
            is_new
        }

        /// Waits for news; what has come until then is one piece of news.
        pub(in crate::source::logfile) async fn news(&mut self) -> News {
            match &mut self.watching {
                Some(watching) => match watching.news.recv().await {
                    Some(news) => news,
                    None => std::future::pending().await,
                },
                None => std::future::pending().await,
            }
        }
    }

    impl Watching {
        fn start() -> io::Result<Self> {
            let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
            let inotify = Arc::new(inotify);
            let (ended, alive) = io::pipe()?;
            let (tell, news) = mpsc::channel(NEWS_AHEAD);
            let watched = Arc::clone(&inotify);
            let thread = std::thread::Builder::new().name("rf-watch".to_owned());
            let thread = thread.spawn(move || listen(&watched, &ended, &tell))?;
            Ok(Self { inotify, news, alive: Some(alive), thread: Some(thread) })
        }
    }

    impl Drop for Watching {
        fn drop(&mut self) {
            // So the thread neither waits for more to come nor for somebody to take what has come: joining it takes no time.
            self.news.close();
            drop(self.alive.take());
            if let Some(thread) = self.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("the thread that watches files panicked");
            }
        }
    }

    /// Until nobody listens any more.
    fn listen(inotify: &OwnedFd, ended: &PipeReader, tell: &mpsc::Sender<News>) {
        loop {
            let mut waits =
                [PollFd::new(inotify, PollFlags::IN), PollFd::new(ended, PollFlags::IN)];
            match poll(&mut waits, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    return tracing::warn!(%error, "files can no longer be watched, checking them at every hookInterval instead");
                }
            }
            if !waits[1].revents().is_empty() {
                return;
            }
            if let Some(news) = read(inotify)
                && tell.blocking_send(news).is_err()
            {
                return;
            }
        }
    }

    fn add(inotify: &OwnedFd, folder: &Path) -> Result<i32, Errno> {
        let names = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF;
        inotify::add_watch(inotify, folder, names | WatchFlags::MODIFY | WatchFlags::ONLYDIR)
    }

    /// All that waits.
    fn read(inotify: &OwnedFd) -> Option<News> {
        let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        let mut news = None;
        while let Ok(event) = reader.next() {
            if event.events().contains(ReadFlags::MODIFY) {
                news = news.or(Some(News::Content));
            } else if !event.events().contains(ReadFlags::IGNORED) {
                news = Some(News::Names);
            }
        }
        news
    }

    #[cfg(test)]
    mod tests {
        use std::time::Duration;

        use tokio::time::timeout;

        use super::*;

        const SOON: Duration = Duration::from_secs(15);

        /// Drops a watcher whose thread has told of so many writes, of which nobody has heard.
        async fn check(writes: usize) {
            let folder = tempfile::tempdir().unwrap();
            let mut watcher = Watcher::new("s");
            let folders = [folder.path().to_owned()];
            assert_eq!([watcher.watch(&folders), watcher.watch(&folders)], [true, false]);
            for number in 0..writes {
                std::fs::write(folder.path().join(number.to_string()), "x").unwrap();
            }
            let watching = watcher.watching.as_ref().expect("folders can be watched");
            let told = async {
                while watching.news.len() < writes.min(NEWS_AHEAD) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(SOON, told).await.expect("the writes are told");
            // The thread has the other handle for as long as it runs.
            let inotify = Arc::downgrade(&watching.inotify);
            drop(watcher);
            assert!(inotify.upgrade().is_none(), "the thread has ended after {writes} writes");
        }

        #[tokio::test]
        async fn the_thread_has_ended_with_its_watcher() {
            for writes in [0, 1, 100] {
                check(writes).await;
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) struct Watcher;

#[cfg(not(target_os = "linux"))]
impl Watcher {
    pub(super) fn new(_source: &str) -> Self {
        Self
    }

    pub(super) fn watch(&mut self, _folders: &[PathBuf]) -> bool {
        false
    }

    pub(super) async fn news(&mut self) -> News {
        std::future::pending().await
    }
}
