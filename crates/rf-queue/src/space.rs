//! Bytes on disk: the WAL's length, the reserve for a full disk, giving free pages back, and the checkpoint thread.
//!
//! Who checkpoints: normally the thread here, in PASSIVE mode beside the writer, so that no commit waits for it. The
//! writer does it itself in two cases only: the next transaction would take the WAL over its cap (RESTART: the file keeps
//! its length and is written from the start again), or the file is to shrink (TRUNCATE). Both take turns: SQLite answers
//! a second checkpoint with BUSY at once, without waiting for the first.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use parking_lot::Mutex;
use rusqlite::Connection;

use crate::limits::frames_in;
use crate::schema;
use crate::step::reached;
use crate::types::Durability;

/// Free pages that are not worth giving back.
const MIN_FREE_PAGES: u64 = 8;

/// Frames after which the WAL is begun anew as soon as that is cheap: 16 MiB. A WAL that is written over and over costs less
/// to sync than one that grows.
const RESTART_FRAMES: u64 = 4096;
/// What is left to copy then, at the most: 2 MiB, a few milliseconds.
const RESTART_TAIL: u64 = 512;

/// Held during a checkpoint. What it guards lies in SQLite, so a panic of the other thread leaves nothing half-done here.
type Turn = Arc<Mutex<()>>;

/// The WAL as the last commit left it.
pub(crate) struct Wal {
    path: PathBuf,
    frames: Arc<AtomicU64>,
    /// `frames` is what SQLite said, not only a bound.
    exact: Arc<AtomicBool>,
    /// Frames that the checkpoint thread has copied into the database; those of an earlier round when above `frames`.
    copied: Arc<AtomicU64>,
    turn: Turn,
}

impl Wal {
    /// Watches the commits of `conn`.
    pub(crate) fn watch(conn: &mut Connection, database: &Path) -> rusqlite::Result<Self> {
        let wal = Self {
            path: beside(database, "-wal"),
            frames: Arc::default(),
            exact: Arc::default(),
            copied: Arc::default(),
            turn: Turn::default(),
        };
        let (seen, exact) = (Arc::clone(&wal.frames), Arc::clone(&wal.exact));
        conn.wal_hook(Some(move |_wal: &mut rusqlite::hooks::Wal, pages: i32| {
            seen.store(u64::try_from(pages).unwrap_or(0), Ordering::Relaxed);
            exact.store(true, Ordering::Relaxed);
            Ok(())
        }))?;
        wal.distrust();
        Ok(wal)
    }

    /// Frames in the WAL, at the most.
    pub(crate) fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    /// Whether [`Wal::frames`] is no mere bound.
    pub(crate) fn is_exact(&self) -> bool {
        self.exact.load(Ordering::Relaxed)
    }

    /// Frames that only the WAL has, at the most.
    pub(crate) fn frames_to_copy(&self) -> u64 {
        let (frames, copied) = (self.frames(), self.copied.load(Ordering::Relaxed));
        // The WAL has been begun anew since the thread looked.
        if copied > frames { frames } else { frames - copied }
    }

    /// Length of the file; it stays when the WAL is written from the start again.
    pub(crate) fn len(&self) -> u64 {
        fs::metadata(&self.path).map_or(0, |meta| meta.len())
    }

    /// Somebody else may have written: what the file could hold counts as held.
    pub(crate) fn distrust(&self) {
        self.frames.store(frames_in(self.len()), Ordering::Relaxed);
        self.exact.store(false, Ordering::Relaxed);
    }

    /// Begins the WAL anew when the checkpoint thread has just copied nearly all of it. Under a steady load it never gets to
    /// the end by itself, and waiting for the cap would make one commit wait for a whole checkpoint.
    pub(crate) fn restart_if_cheap(&self, conn: &Connection) -> rusqlite::Result<()> {
        if self.frames() > RESTART_FRAMES && self.frames_to_copy() < RESTART_TAIL {
            // The thread at work would have to be waited for.
            if let Some(turn) = self.turn.try_lock() {
                drop(turn);
                self.restart(conn)?;
            }
        }
        Ok(())
    }

    /// The next commit starts the WAL anew; the file keeps its length. False when a reader kept that from happening.
    pub(crate) fn restart(&self, conn: &Connection) -> rusqlite::Result<bool> {
        reached("before restart");
        self.checkpoint(conn, "PRAGMA wal_checkpoint(RESTART)")
    }

    /// The WAL file becomes empty, and the database file as short as its pages allow.
    pub(crate) fn truncate(&self, conn: &Connection) -> rusqlite::Result<bool> {
        reached("before truncate");
        self.checkpoint(conn, "PRAGMA wal_checkpoint(TRUNCATE)")
    }

    fn checkpoint(&self, conn: &Connection, sql: &str) -> rusqlite::Result<bool> {
        let _turn = self.turn.lock();
        let busy: i64 = conn.query_row(sql, [], |row| row.get(0))?;
        if busy == 0 {
            self.frames.store(0, Ordering::Relaxed);
            self.exact.store(true, Ordering::Relaxed);
            self.copied.store(0, Ordering::Relaxed);
        }
        reached("checkpointed");
        Ok(busy == 0)
    }
}

/// Whether so many pages are free that the file should shrink.
pub(crate) fn is_worth_shrinking(pages: u64, free: u64) -> bool {
    free > MIN_FREE_PAGES && free * 4 > pages
}

/// Moves up to `pages` pages into holes so that the file's end becomes free. The file itself shrinks at the checkpoint.
pub(crate) fn shrink_step(conn: &Connection, pages: u64) -> rusqlite::Result<()> {
    reached("before shrink");
    // Not cached: the number is part of the text.
    let mut vacuum = conn.prepare(&format!("PRAGMA incremental_vacuum({pages})"))?;
    let mut rows = vacuum.query([])?;
    while rows.next()?.is_some() {}
    reached("shrunk");
    Ok(())
}

/// A file of real bytes that is given up when the disk is full, so that removing events (which needs a little WAL) goes on.
pub(crate) struct Reserve {
    path: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(crate) fn new(database: &Path, bytes: u64) -> Self {
        Self { path: beside(database, ".reserve"), bytes }
    }

    /// Makes the file if it is missing or short; on failure nothing is kept.
    pub(crate) fn fill(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.len() == self.bytes) {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        // Allocated, not sparse: a file of holes would reserve nothing.
        let made = match rustix::fs::fallocate(
            &file,
            rustix::fs::FallocateFlags::empty(),
            0,
            self.bytes,
        ) {
            Err(rustix::io::Errno::OPNOTSUPP) => write_zeros(&file, self.bytes),
            made => made.map_err(io::Error::from),
        };
        if made.is_err() {
            drop(self.give_up());
        }
        made
    }

    pub(crate) fn exists(&self) -> bool {
        self.path.exists()
    }

    /// Frees the bytes; a missing file is fine.
    pub(crate) fn give_up(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

fn write_zeros(mut file: &File, bytes: u64) -> io::Result<()> {
    io::copy(&mut io::repeat(0).take(bytes), &mut file).map(drop)
}

/// Bytes that the disk of a file has free; `None` where it does not say.
pub(crate) fn free_bytes(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder_of(path)).ok()?;
    (disk.f_blocks > 0).then(|| disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Device and number of a file on it, by which it is known again.
pub type FileNumber = (u64, u64);

/// That of the file at this path, where another one may be by now; `None` where there is none.
#[must_use]
pub fn file_number(path: &Path) -> Option<FileNumber> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Whether this file is still at its path, as far as the disk says.
#[must_use]
pub fn is_at(path: &Path, file: FileNumber) -> bool {
    match fs::metadata(path) {
        Ok(found) => (found.dev(), found.ino()) == file,
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Makes it durable that a file has gone from its folder, where the file system can do so: after a loss of power it must not
/// be there again.
pub(crate) fn sync_folder(path: &Path) {
    if let Err(error) = File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        tracing::debug!(path = %path.display(), %error, "the folder cannot be synced");
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `NAME` + `suffix` in the same folder.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The checkpoint thread; started at the first call and ended by dropping.
pub(crate) struct Checkpointer {
    path: PathBuf,
    durability: Durability,
    copied: Arc<AtomicU64>,
    turn: Turn,
    thread: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Checkpointer {
    pub(crate) fn new(path: &Path, durability: Durability, wal: &Wal) -> Self {
        let (copied, turn) = (Arc::clone(&wal.copied), Arc::clone(&wal.turn));
        Self { path: path.to_owned(), durability, copied, turn, thread: None }
    }

    /// Asks for a checkpoint; one that is already asked for is enough.
    pub(crate) fn wake(&mut self) {
        if self.thread.is_none() {
            self.start();
        }
        if let Some((sender, _)) = &self.thread
            && let Err(TrySendError::Disconnected(())) = sender.try_send(())
        {
            self.thread = None;
        }
    }

    fn start(&mut self) {
        // One waiting wish: the checkpoint that runs may have started before the newest frames.
        let (sender, receiver) = sync_channel(1);
        let (path, durability) = (self.path.clone(), self.durability);
        let (copied, turn) = (Arc::clone(&self.copied), Arc::clone(&self.turn));
        let thread = std::thread::Builder::new().name("rf-checkpoint".to_owned());
        match thread.spawn(move || run_checkpoints(&path, durability, &copied, &turn, &receiver)) {
            Ok(handle) => self.thread = Some((sender, handle)),
            Err(error) => {
                tracing::warn!(%error, "the checkpoint thread cannot be started; the writer makes checkpoints itself");
            }
        }
    }

    /// Ends the thread and closes its connection.
    pub(crate) fn stop(&mut self) {
        if let Some((sender, handle)) = self.thread.take() {
            drop(sender);
            if handle.join().is_err() {
                tracing::error!("the checkpoint thread panicked");
            }
        }
    }
}

fn run_checkpoints(
    path: &Path,
    durability: Durability,
    copied: &AtomicU64,
    turn: &Turn,
    wishes: &Receiver<()>,
) {
    let conn = match schema::connect(path, durability) {
        Ok(conn) => conn,
        Err(error) => {
            return tracing::warn!(path = %path.display(), %error, "checkpoint thread cannot open the database");
        }
    };
    while wishes.recv().is_ok() {
        let _turn = turn.lock();
        // Failing is safe: the WAL stays, and the writer restarts it itself at its cap, where the error is handled.
        match conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get::<_, i64>(2)) {
            // -1 when there is no WAL.
            Ok(frames) => copied.store(u64::try_from(frames).unwrap_or(0), Ordering::Relaxed),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "checkpoint failed, trying again later");
            }
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.stop();
    }
}
