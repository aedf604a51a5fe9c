//! The bytes of an open file, by position; of one that gzip has compressed, those that were in it.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use rustix::fs::OFlags;

use super::print::{HEAD_BYTES, TAIL_BYTES};

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
/// What is passed over of compressed content is unpacked in pieces of this.
const SKIP_BYTES: usize = 64 * 1024;

/// An open file.
pub(super) enum Content {
    Plain(File),
    Compressed(Box<Compressed>),
}

impl Content {
    /// Opens a file and says which one it is; one that begins as gzip does is unpacked.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Metadata)> {
        let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
        // Were it a pipe by now, opening must not wait for a writer.
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut magic = [0; 2];
        let read = file.read_at(&mut magic, 0)?;
        let content = if read == 2 && magic == GZIP_MAGIC {
            Self::Compressed(Box::new(Compressed::new(Arc::new(file))))
        } else {
            Self::Plain(file)
        };
        Ok((content, meta))
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        match self {
            Self::Plain(file) => file.metadata(),
            Self::Compressed(compressed) => compressed.file.metadata(),
        }
    }

    /// Whether it has exactly this much content; of compressed content as its last bytes say.
    pub(super) fn has_len(&self, len: u64) -> io::Result<bool> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len() == len),
            Self::Compressed(compressed) => compressed.has_len(len),
        }
    }

    /// Its first bytes, up to so many.
    pub(super) fn head(&self, len: usize) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        match self {
            Self::Plain(file) => {
                read_plain(file, 0, len, &mut head)?;
            }
            Self::Compressed(compressed) => {
                let decoder = MultiGzDecoder::new(Cursor::new(Arc::clone(&compressed.file)));
                decoder.take(len as u64).read_to_end(&mut head)?;
            }
        }
        Ok(head)
    }

    /// Whether `copy`, a file of `size` bytes, is what this holds or the beginning of it, as far as the first and the last
    /// bytes of the copy tell; of a compressed copy only the first ones, and its length. This itself must be plain.
    pub(super) fn begins_as(&self, copy: &Self, size: u64) -> io::Result<bool> {
        let Self::Plain(original) = self else { return Ok(false) };
        let len = original.metadata()?.len();
        let head = copy.head(HEAD_BYTES)?;
        if !self.head(head.len())?.starts_with(&head) {
            return Ok(false);
        }
        match copy {
            Self::Plain(copy) => {
                let from = size.saturating_sub(TAIL_BYTES as u64);
                let (mut one, mut other) = (Vec::new(), Vec::new());
                read_plain(copy, from, TAIL_BYTES, &mut one)?;
                read_plain(original, from, one.len(), &mut other)?;
                Ok(size <= len && one == other)
            }
            Self::Compressed(_) => Ok(!head.is_empty() && copy.has_len(len)?),
        }
    }

    /// Fills `buffer` with `len` bytes from `from` on, or as many as there are; true when these are the last.
    ///
    /// Compressed content is unpacked in order: going back begins anew.
    pub(super) fn read(&mut self, from: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
        match self {
            Self::Plain(file) => read_plain(file, from, len, buffer),
            Self::Compressed(compressed) => compressed.read(from, len, buffer),
        }
    }
}

fn read_plain(file: &File, from: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.resize(len, 0);
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut buffer[filled..], from + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(filled < len)
}

/// A reader with a place of its own in a file that others read as well.
struct Cursor {
    file: Arc<File>,
    at: u64,
}

impl Cursor {
    fn new(file: Arc<File>) -> Self {
        Self { file, at: 0 }
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Content in the making.
pub(super) struct Compressed {
    file: Arc<File>,
    decoder: MultiGzDecoder<Cursor>,
    /// Unpacked bytes from `start` on that were asked for and may be again.
    window: Vec<u8>,
    start: u64,
}

impl Compressed {
    fn new(file: Arc<File>) -> Self {
        let decoder = MultiGzDecoder::new(Cursor::new(Arc::clone(&file)));
        Self { file, decoder, window: Vec::new(), start: 0 }
    }

    /// The last four bytes of a gzip file are the length of what it holds, without the higher ones.
    fn has_len(&self, len: u64) -> io::Result<bool> {
        let end = self.file.metadata()?.len();
        let mut told = [0; 4];
        self.file.read_exact_at(&mut told, end.saturating_sub(4))?;
        Ok(u64::from(u32::from_le_bytes(told)) == len & u64::from(u32::MAX))
    }

    fn read(&mut self, from: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<bool> {
        if from < self.start {
            *self = Self::new(Arc::clone(&self.file));
        }
        let mut ended = false;
        while !ended && self.start + (self.window.len() as u64) < from {
            self.start += self.window.len() as u64;
            self.window.clear();
            let want = usize::try_from(from - self.start).unwrap_or(SKIP_BYTES).min(SKIP_BYTES);
            ended = self.fill(want)?;
        }
        let passed =
            usize::try_from(from - self.start).unwrap_or(usize::MAX).min(self.window.len());
        self.window.drain(..passed);
        self.start += passed as u64;
        if !ended {
            ended = self.fill(len)?;
        }
        buffer.clear();
        buffer.extend_from_slice(self.window.get(..len).unwrap_or(&self.window));
        Ok(ended && self.window.len() <= len)
    }

    /// Unpacks until the window has so much; true at the end.
    fn fill(&mut self, len: usize) -> io::Result<bool> {
        let missing = len.saturating_sub(self.window.len()) as u64;
        let got = self.decoder.by_ref().take(missing).read_to_end(&mut self.window)?;
        Ok((got as u64) < missing)
    }
}
