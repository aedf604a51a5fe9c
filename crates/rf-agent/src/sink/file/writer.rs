//! Bytes in files: every file has a good length, up to which it holds whole events of batches that are done. What lies
//! behind it is a write that did not come to its end, and is cut off.
//!
//! Invariant: a start cuts nothing, and a write covers nothing, in a file that is not the one whose length was noted. A disk
//! that is away for a while leaves none in its place, or another one, and comes back with its own. So a file is tracked only
//! once it is there, and known again by its last bytes ([`Tracked::tail`]), or its number before it has any of ours.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::format::FileFormat;
use crate::sink::{SinkError, disk};

/// Files that are kept open; with more, all are closed and opened again as they are written.
const MAX_OPEN: usize = 64;
/// As much is looked through for the end of the last whole line, after a loss of power.
const LOOK_BACK_BYTES: u64 = 16 * 1024 * 1024;
/// By so many bytes before its good length a file is known again: all entries of an archive end with the same few hundred.
const TAIL_BYTES: u64 = 1024;
/// Names that would be the same are numbered so far.
const MAX_NUMBER: usize = 100_000;

/// `fsync` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Fsync {
    /// After each batch: what left the queue survives a loss of power.
    #[default]
    Batch,
    /// When a file is finished: what left the queue survives a killed process.
    Rotation,
}

/// How far the sink is, as it is stored with the removal of each batch.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Grows with each change. Files of earlier versions of this program have none.
    #[serde(default)]
    pub(super) version: u64,
    /// The last event that is in its file.
    pub(super) through: u64,
    /// The files that are being written, by path.
    pub(super) files: BTreeMap<String, Tracked>,
}

impl Progress {
    /// What is whole of all files that are being written.
    pub(super) fn bytes(&self) -> u64 {
        self.files.values().map(|tracked| tracked.good).sum()
    }
}

/// A file that is being written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tracked {
    /// Length of what is whole, without the format's end.
    pub(super) good: u64,
    /// When it was begun, milliseconds since 1970.
    pub(super) since_ms: u64,
    /// When it was written last.
    pub(super) last_ms: u64,
    /// Hash of the last bytes of what is whole. `None` where none of it is known to be ours, and of earlier versions.
    #[serde(default)]
    pub(super) tail: Option<u64>,
    /// The file's number on its disk, until something is appended: by that it is known again without a tail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) inode: Option<u64>,
}

/// What is whole of a file once something was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Appended {
    /// As [`Tracked::good`].
    pub(super) good: u64,
    /// As [`Tracked::tail`].
    pub(super) tail: u64,
}

/// Events of a batch for one file.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
}

/// What could not be done with a file.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(super) struct FileError {
    path: String,
    source: io::Error,
}

impl FileError {
    pub(super) fn of(path: &str) -> impl Fn(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

impl From<FileError> for SinkError {
    fn from(FileError { path, source }: FileError) -> Self {
        // Somebody else's file is in the way, or in use.
        if matches!(
            source.kind(),
            io::ErrorKind::ResourceBusy
                | io::ErrorKind::AlreadyExists
                | io::ErrorKind::NotADirectory
        ) {
            return Self::Paused(format!("{path}: {source}"));
        }
        disk::refusal(&path, &source, "make room on the disk, or set maxTotalBytes")
    }
}

/// The files of one sink. Dropped, its lock goes.
#[derive(Debug)]
pub(super) struct Writer {
    root: PathBuf,
    format: FileFormat,
    fsync: Fsync,
    /// Has the bytes of a file on the disk when it returns; tests count with it.
    pub(super) sync: fn(&File) -> io::Result<()>,
    open: BTreeMap<String, File>,
    /// A write did not come to its end: all files are cut before the next.
    is_dirty: bool,
    /// Held for as long as this sink may write, so that no second process does.
    _lock: File,
}

impl Writer {
    /// `None` while another process, or an earlier run of this one, holds the lock.
    pub(super) fn lock(
        root: &Path,
        lock: &Path,
        format: FileFormat,
        fsync: Fsync,
    ) -> io::Result<Option<Self>> {
        std::fs::create_dir_all(root)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(lock)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        Ok(Some(Self {
            root: root.to_owned(),
            format,
            fsync,
            sync: File::sync_data,
            open: BTreeMap::new(),
            is_dirty: false,
            _lock: file,
        }))
    }

    pub(super) fn full(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Makes the files what the stored progress says they are; what had to be done, for the log.
    pub(super) fn recover(&mut self, progress: &mut Progress) -> Result<Vec<String>, FileError> {
        let mut notices = Vec::new();
        let mut kept = BTreeMap::new();
        for (path, mut tracked) in std::mem::take(&mut progress.files) {
            let full = self.full(&path);
            let meta = match std::fs::metadata(&full) {
                Ok(meta) => meta,
                // Finished just before the end, or taken away.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(FileError::of(&path)(error)),
            };
            let end = self.format.end().len() as u64;
            let is_shorter = meta.len() < tracked.good;
            let is_other =
                !is_shorter && !self.is_same(&path, &tracked).map_err(FileError::of(&path))?;
            if (is_shorter || is_other) && !self.format.is_lines() {
                let why = if is_shorter { "shorter than before" } else { "not as it was written" };
                let aside = self.set_aside(&path).map_err(FileError::of(&path))?;
                notices.push(format!(
                    "{path}: {why}, so it is kept as {} and a new file is started",
                    aside.display()
                ));
                continue;
            }
            if is_other {
                notices.push(format!(
                    "{path}: not the file that was written before: nothing in it is changed, and new events are written behind its end"
                ));
                continue;
            }
            if is_shorter {
                let whole = self.whole_lines(&path, meta.len()).map_err(FileError::of(&path))?;
                notices.push(format!(
                    "{path}: {} bytes are missing since the last run",
                    tracked.good - whole
                ));
                (tracked.good, tracked.tail, tracked.inode) = (whole, None, Some(meta.ino()));
            } else if meta.len() > tracked.good && meta.len() != tracked.good + end {
                notices.push(format!(
                    "{path}: {} bytes of an incomplete write are removed",
                    meta.len() - tracked.good
                ));
            }
            self.cut(&path, tracked.good).map_err(FileError::of(&path))?;
            kept.insert(path, tracked);
        }
        progress.files = kept;
        Ok(notices)
    }

    /// Gives a file a name under which it is kept.
    fn set_aside(&mut self, path: &str) -> io::Result<PathBuf> {
        let broken = |number: &str| self.root.join(format!("{path}.broken{number}"));
        let aside = free_name(broken, |name| !name.exists())?;
        std::fs::rename(self.full(path), &aside)?;
        self.open.remove(path);
        Ok(aside)
    }

    /// Whether a file, which is no shorter, is the one that was written, or that was to be.
    fn is_same(&mut self, path: &str, tracked: &Tracked) -> io::Result<bool> {
        match (tracked.tail, tracked.inode) {
            (Some(tail), _) => Ok(tail_of(self.file(path)?, tracked.good)? == tail),
            (None, Some(inode)) => {
                let found = self.file(path)?.metadata()?;
                // Some file systems number anew when they are mounted: where nothing is to be cut, it does not matter.
                Ok(found.ino() == inode || found.len() == tracked.good)
            }
            (None, None) => Ok(true),
        }
    }

    /// The length up to the end of the last whole line.
    fn whole_lines(&mut self, path: &str, len: u64) -> io::Result<u64> {
        let from = len.saturating_sub(LOOK_BACK_BYTES);
        let mut tail = vec![0; usize::try_from(len - from).map_err(io::Error::other)?];
        let file = self.file(path)?;
        file.read_exact_at(&mut tail, from)?;
        Ok(memchr::memrchr(b'\n', &tail).map_or(from, |at| from + at as u64 + 1))
    }

    /// Whether the file is still the one that is tracked; else what it is to be tracked as. One that is not there is made: while
    /// that fails, the one that was there may come back, and is still tracked as it was.
    pub(super) fn look(
        &mut self,
        path: &str,
        tracked: Option<&Tracked>,
        now_ms: u64,
    ) -> Result<Option<Tracked>, FileError> {
        let anew = |good, found: &Metadata| {
            let inode = Some(found.ino());
            Some(Tracked { good, since_ms: now_ms, last_ms: now_ms, tail: None, inode })
        };
        let found = match std::fs::metadata(self.full(path)) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => {
                self.open.remove(path);
                let made = self.file(path).and_then(File::metadata);
                return Ok(anew(0, &made.map_err(FileError::of(path))?));
            }
            Err(error) => return Err(FileError::of(path)(error)),
        };
        let opened = self.open.get(path).and_then(|file| file.metadata().ok());
        let is_other = match (opened, tracked) {
            (Some(opened), _) => (opened.dev(), opened.ino()) != (found.dev(), found.ino()),
            (None, Some(tracked)) if found.len() >= tracked.good => {
                !self.is_same(path, tracked).map_err(FileError::of(path))?
            }
            (None, _) => false,
        };
        if is_other {
            self.open.remove(path);
        }
        if let Some(tracked) = tracked
            && !is_other
            && found.len() >= tracked.good
        {
            return Ok(None);
        }
        if self.format.is_lines() || found.len() == 0 {
            return Ok(anew(found.len(), &found));
        }
        let end = self.format.end();
        let good = found.len().saturating_sub(end.len() as u64);
        let mut tail = vec![0; end.len()];
        let read = self.file(path).and_then(|file| file.read_exact_at(&mut tail, good));
        if read.is_err() || tail != end {
            self.open.remove(path);
            let foreign = "there is a file that this sink did not write: move it away";
            let foreign = io::Error::new(io::ErrorKind::AlreadyExists, foreign);
            return Err(FileError::of(path)(foreign));
        }
        Ok(anew(good, &found))
    }

    /// Appends all chunks; what is whole of the file of each then.
    ///
    /// # Errors
    /// What went wrong, naming the file. Nothing counts then: the good lengths are what they were, and so are the files, as
    /// far as they can be cut.
    pub(super) fn append(
        &mut self,
        progress: &Progress,
        chunks: &[Chunk],
    ) -> Result<Vec<Appended>, FileError> {
        self.repair(progress)?;
        self.is_dirty = true;
        let appended = self.append_all(progress, chunks);
        self.is_dirty = appended.is_err();
        // Nobody knows when the next append comes: until then a torn line would stand there for everybody to read.
        if let Err(error) = self.repair(progress) {
            tracing::debug!(%error, "what an append left behind is cut before the next one");
        }
        appended
    }

    fn append_all(
        &mut self,
        progress: &Progress,
        chunks: &[Chunk],
    ) -> Result<Vec<Appended>, FileError> {
        let append = |chunk: &Chunk| {
            let good = progress.files.get(&chunk.path).map_or(0, |tracked| tracked.good);
            self.append_one(chunk, good).map_err(FileError::of(&chunk.path))
        };
        chunks.iter().map(append).collect()
    }

    /// Cuts what an append left behind that did not come to its end; of all files that let themselves be cut.
    pub(super) fn repair(&mut self, progress: &Progress) -> Result<(), FileError> {
        if !self.is_dirty {
            return Ok(());
        }
        let mut repaired = Ok(());
        for (path, tracked) in &progress.files {
            if self.full(path).exists() {
                let cut = self.cut_if_same(path, tracked).map_err(FileError::of(path));
                repaired = repaired.and(cut);
            }
        }
        self.is_dirty = repaired.is_err();
        repaired
    }

    fn append_one(&mut self, chunk: &Chunk, good: u64) -> io::Result<Appended> {
        let (format, fsync, sync) = (self.format, self.fsync, self.sync);
        let is_new = good == 0;
        let file = self.file(&chunk.path)?;
        let between: &[u8] = if is_new {
            format.start()
        } else if format.is_lines() && !ends_line(file, good)? {
            b"\n"
        } else {
            format.between()
        };
        let mut at = good;
        for bytes in [between, &chunk.bytes] {
            file.write_all_at(bytes, at)?;
            at += bytes.len() as u64;
        }
        file.write_all_at(format.end(), at)?;
        let appended = Appended { good: at, tail: tail_of(file, at)? };
        if fsync == Fsync::Batch {
            sync(file)?;
            if is_new {
                sync_folder(&self.full(&chunk.path))?;
            }
        }
        Ok(appended)
    }

    /// Renames a file that is finished.
    pub(super) fn finish(&mut self, path: &str, to: &Path) -> io::Result<()> {
        self.file(path)?.sync_all()?;
        self.open.remove(path);
        std::fs::rename(self.full(path), to)?;
        sync_folder(to)
    }

    /// Cuts it unless somebody has made it shorter, or put another in its place: that is seen when it is written to again.
    fn cut_if_same(&mut self, path: &str, tracked: &Tracked) -> io::Result<()> {
        let is_shorter = self.file(path)?.metadata()?.len() < tracked.good;
        if is_shorter || !self.is_same(path, tracked)? {
            return Ok(());
        }
        self.cut(path, tracked.good)
    }

    /// Cuts what is behind the good length; the format's end stands behind it again.
    fn cut(&mut self, path: &str, good: u64) -> io::Result<()> {
        let end = self.format.end();
        let file = self.file(path)?;
        file.set_len(good)?;
        if good > 0 {
            file.write_all_at(end, good)?;
        }
        file.sync_all()
    }

    fn file(&mut self, path: &str) -> io::Result<&File> {
        if !self.open.contains_key(path) {
            if self.open.len() >= MAX_OPEN {
                self.open.clear();
            }
            let full = self.full(path);
            if let Some(folder) = full.parent() {
                std::fs::create_dir_all(folder).map_err(|error| in_the_way(folder, error))?;
            }
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .read(true)
                .write(true)
                .open(full)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let held = "another sink or program writes it: give each a file of its own";
                    return Err(io::Error::new(io::ErrorKind::ResourceBusy, held));
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            self.open.insert(path.to_owned(), file);
        }
        self.open.get(path).ok_or_else(|| io::Error::other("it was closed"))
    }
}

/// Whether there is no such file; also where a part of its path is a file itself.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Why a folder cannot be made.
fn in_the_way(folder: &Path, error: io::Error) -> io::Error {
    match folder.ancestors().find(|part| part.exists()) {
        Some(part) if !part.is_dir() => {
            let reason = "is not a folder: move it away, or choose another path";
            let reason = format!("{} {reason}", part.display());
            io::Error::new(io::ErrorKind::NotADirectory, reason)
        }
        _ => error,
    }
}

/// The hash of the last bytes before this length.
fn tail_of(file: &File, good: u64) -> io::Result<u64> {
    let length = good.min(TAIL_BYTES);
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, good - length)?;
    let mut hash = [0; 8];
    hash.copy_from_slice(&Sha256::digest(&bytes)[..8]);
    Ok(u64::from_be_bytes(hash))
}

/// A file that somebody else began may lack its last line break.
fn ends_line(file: &File, good: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, good - 1)?;
    Ok(last == *b"\n")
}

/// The first name that is free: without a number, then with `-2`, `-3` ..
pub(super) fn free_name(
    numbered: impl Fn(&str) -> PathBuf,
    is_free: impl Fn(&Path) -> bool,
) -> io::Result<PathBuf> {
    let numbers = (2..=MAX_NUMBER).map(|number| format!("-{number}"));
    std::iter::once(String::new())
        .chain(numbers)
        .map(|number| numbered(&number))
        .find(|name| is_free(name))
        .ok_or_else(|| io::Error::other("there is no free name for it"))
}

/// Makes a new name durable.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
