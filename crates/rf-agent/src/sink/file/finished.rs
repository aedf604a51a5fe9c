//! Files that are finished: compressed, and the oldest removed when all of them are too large.
//!
//! Which files these are stands in a list beside the queue, so nothing is ever removed that this sink did not write. A
//! name is put into the list before its file gets it. A compressed file appears under its name when it is whole, and only
//! then the plain one goes; killed in between, the next start goes on. Nothing is removed before what was written in its
//! place is on the disk.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::write::GzEncoder;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use super::writer::{FileError, Fsync, free_name, sync_folder};

/// Once files go, so many parts of one of the limit are spared.
const SPARED: u64 = 16;
/// Names in the list at the most; older files are left where they are, for a person to remove.
const MAX_LISTED: usize = 100_000;
const COPY_BYTES: usize = 64 * 1024;
const GZIP_LEVEL: u32 = 6;
const ZSTD_LEVEL: i32 = 3;

/// `compress` of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Compress {
    /// Finished files stay as they are.
    #[default]
    None,
    /// `.gz`
    Gzip,
    /// `.zst`
    Zstd,
}

impl Compress {
    fn ending(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gz"),
            Self::Zstd => Some("zst"),
        }
    }
}

/// The finished files of one sink.
#[derive(Debug)]
pub(super) struct Finished {
    list: PathBuf,
    compress: Compress,
    /// Bytes of all files, if there is a limit.
    max_total: Option<u64>,
    /// With more bytes than this in the files that are being written, a finished one has to go: as the last
    /// [`Self::tidy`] has found, so that nobody looks at all files with each batch.
    tidy_above: AtomicU64,
    names: Mutex<Names>,
}

/// The files that are being written.
#[derive(Debug, Default)]
pub(super) struct Active {
    /// Where they are, and how many bytes of each are whole.
    pub(super) files: Vec<(PathBuf, u64)>,
    /// When they are synced.
    pub(super) fsync: Fsync,
}

impl Active {
    fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, good)| good).sum()
    }

    /// The same without those that have been finished meanwhile, or taken away.
    fn bytes_there(&self) -> u64 {
        let there = |path: &Path| std::fs::metadata(path).map_or(0, |meta| meta.len());
        self.files.iter().map(|(path, good)| there(path).min(*good)).sum()
    }

    /// Has them on the disk: what replaces files that go must not be lost after them, with the power.
    fn sync(&self) -> io::Result<()> {
        if self.fsync == Fsync::Batch {
            return Ok(());
        }
        for (path, _) in &self.files {
            let synced = File::open(path).and_then(|file| file.sync_all());
            match synced.and_then(|()| sync_folder(path)) {
                // It was synced when it was finished.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                synced => synced.map_err(|error| named(path, &error))?,
            }
        }
        Ok(())
    }
}

/// The files in the list, as they were called before they were compressed.
#[derive(Debug)]
struct Names {
    oldest_first: Vec<PathBuf>,
    /// The same, to find one.
    all: HashSet<PathBuf>,
}

impl Names {
    fn new(oldest_first: Vec<PathBuf>) -> Self {
        Self { all: oldest_first.iter().cloned().collect(), oldest_first }
    }

    fn push(&mut self, name: PathBuf) {
        self.all.insert(name.clone());
        self.oldest_first.push(name);
    }
}

impl Finished {
    pub(super) fn open(
        list: PathBuf,
        compress: Compress,
        max_total: Option<u64>,
    ) -> io::Result<Self> {
        let bytes = match std::fs::read(&list) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        // A line that broke off, perhaps within a character, names a file that did not get its name.
        let text = String::from_utf8_lossy(&bytes);
        let names = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let (tidy_above, names) = (AtomicU64::new(u64::MAX), Mutex::new(Names::new(names)));
        Ok(Self { list, compress, max_total, tidy_above, names })
    }

    /// Has the file that was written as `path` renamed to a free name, which is in the list from now on.
    ///
    /// # Errors
    /// What went wrong, naming the file: the list may lie on another disk.
    pub(super) fn add(
        &self,
        path: &Path,
        stamp: &str,
        rename: impl FnOnce(&Path) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy()));
        let ending = ending.unwrap_or_default();
        // Held until the file has its name: what is listed and not there is forgotten by `tidy`.
        let mut names = self.names.lock();
        let numbered =
            |number: &str| path.with_file_name(format!("{stem}-{stamp}{number}{ending}"));
        let is_free = |name: &Path| {
            !names.all.contains(name) && forms(name).iter().all(|form| !form.exists())
        };
        let name = free_name(numbered, is_free).map_err(FileError::of(&path.to_string_lossy()))?;
        if names.oldest_first.len() < MAX_LISTED {
            self.put(&name).map_err(FileError::of(&self.list.to_string_lossy()))?;
            names.push(name.clone());
        }
        let renamed = rename(&name);
        drop(names);
        // Each further try, at another time, would leave one more name.
        if renamed.is_err()
            && let Err(error) = self.forget(&[&name])
        {
            tracing::debug!(path = %name.display(), %error, "a name that no file got stays in the list");
        }
        renamed.map_err(FileError::of(&path.to_string_lossy()))
    }

    /// Puts a name into the list.
    fn put(&self, name: &Path) -> io::Result<()> {
        let mut list = OpenOptions::new().create(true).append(true).open(&self.list)?;
        // The line break comes first: it ends a line that broke off with an earlier process.
        list.write_all(format!("\n{}", serde_json::to_string(name)?).as_bytes())?;
        list.sync_data()
    }

    /// Whether a finished file has to go, now that so many bytes are in the files that are being written.
    pub(super) fn is_above(&self, active: u64) -> bool {
        active > self.tidy_above.load(Ordering::Relaxed)
    }

    /// Compresses what is not yet, then removes the oldest until all, with those that are being written, fit. What
    /// cannot be compressed, as on a full disk, is removed in its turn all the same.
    pub(super) fn tidy(&self, active: &Active, stop: &CancellationToken) -> io::Result<()> {
        // Before the others are looked at: one that gets its name meanwhile must not count twice.
        let names = self.names.lock().oldest_first.clone();
        let compress =
            |name: &PathBuf| self.compress(name, stop).map_err(|error| named(name, &error));
        let compressed = names.iter().try_for_each(compress);
        if stop.is_cancelled() {
            return Ok(());
        }
        // What cannot be removed is tried again when another file is finished, and not with each batch.
        self.tidy_above.store(u64::MAX, Ordering::Relaxed);
        let room = self.remove_oldest(active, &names)?;
        self.tidy_above.store(active.bytes().saturating_add(room), Ordering::Relaxed);
        compressed
    }

    /// By how much the files that are being written may grow before one more has to go.
    fn remove_oldest(&self, active: &Active, names: &[PathBuf]) -> io::Result<u64> {
        let most = self.max_total.unwrap_or(u64::MAX);
        let sizes: Vec<u64> = names.iter().map(|name| size(name)).collect();
        let finished: u64 = sizes.iter().sum();
        let mut total = active.bytes_there() + finished;
        // With some to spare, so that the next look at all files is not with the next batch.
        let goal = if total > most { most - most / SPARED } else { most };
        if finished > 0 && total > most {
            active.sync()?;
        }
        let mut gone = Vec::new();
        for (name, size) in names.iter().zip(sizes) {
            if size > 0 && total > goal {
                remove(name).map_err(|error| named(name, &error))?;
                tracing::info!(path = %name.display(), bytes = size, "file removed: the sink's files together are larger than maxTotalBytes");
                total -= size;
            } else if size > 0 {
                break;
            }
            gone.push(name);
        }
        if !gone.is_empty() {
            self.forget(&gone)?;
        }
        // Where none is left, there is nothing to look for until the next is finished.
        let is_any_left = gone.len() < names.len();
        Ok(if is_any_left { most.saturating_sub(total) } else { u64::MAX })
    }

    /// Writes the list anew, without these.
    fn forget(&self, gone: &[&PathBuf]) -> io::Result<()> {
        let mut names = self.names.lock();
        // One that got its name meanwhile stays.
        let mut left = std::mem::take(&mut names.oldest_first);
        left.retain(|name| !gone.contains(&name) || size(name) > 0);
        *names = Names::new(left);
        let mut text = String::new();
        for name in &names.oldest_first {
            text.push_str(&serde_json::to_string(name)?);
            text.push('\n');
        }
        let new = self.list.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, &self.list)?;
        sync_folder(&self.list)
    }

    fn compress(&self, name: &Path, stop: &CancellationToken) -> io::Result<()> {
        let Some(ending) = self.compress.ending() else { return Ok(()) };
        if !name.exists() {
            return Ok(());
        }
        let whole = with_ending(name, ending);
        if !whole.exists() {
            let part = with_ending(name, "part");
            let packed = self.pack(name, &part, stop);
            if !matches!(packed, Ok(true)) {
                // What there is of it only takes room, and the next try writes over it.
                drop(std::fs::remove_file(&part));
                return packed.map(drop);
            }
            std::fs::rename(&part, &whole)?;
            sync_folder(&whole)?;
        }
        std::fs::remove_file(name)
    }

    /// False when it was cut short by the stop.
    fn pack(&self, name: &Path, part: &Path, stop: &CancellationToken) -> io::Result<bool> {
        let mut from = BufReader::new(File::open(name)?);
        let to = BufWriter::new(File::create(part)?);
        match self.compress {
            Compress::Gzip => {
                let mut encoder = GzEncoder::new(to, flate2::Compression::new(GZIP_LEVEL));
                Ok(copy(&mut from, &mut encoder, stop)? && done(encoder.finish()?)?)
            }
            Compress::Zstd => {
                let mut encoder = zstd::Encoder::new(to, ZSTD_LEVEL)?;
                Ok(copy(&mut from, &mut encoder, stop)? && done(encoder.finish()?)?)
            }
            Compress::None => Ok(false),
        }
    }
}

/// False when it was cut short by the stop.
fn copy(from: &mut impl Read, to: &mut impl Write, stop: &CancellationToken) -> io::Result<bool> {
    let mut buffer = vec![0; COPY_BYTES];
    loop {
        if stop.is_cancelled() {
            return Ok(false);
        }
        let count = from.read(&mut buffer)?;
        let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(true);
        };
        to.write_all(bytes)?;
    }
}

fn done(writer: BufWriter<File>) -> io::Result<bool> {
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    Ok(true)
}

fn with_ending(name: &Path, ending: &str) -> PathBuf {
    let mut full = name.as_os_str().to_owned();
    full.push(".");
    full.push(ending);
    full.into()
}

fn forms(name: &Path) -> [PathBuf; 3] {
    [name.to_owned(), with_ending(name, "gz"), with_ending(name, "zst")]
}

/// Zero when there is no such file.
fn size(name: &Path) -> u64 {
    forms(name).iter().filter_map(|form| std::fs::metadata(form).ok()).map(|meta| meta.len()).sum()
}

fn remove(name: &Path) -> io::Result<()> {
    for form in forms(name) {
        match std::fs::remove_file(form) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn named(name: &Path, error: &io::Error) -> io::Error {
    io::Error::other(format!("{}: {error}", name.display()))
}
