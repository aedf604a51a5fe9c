//! The bytes of an open file, by position; of one that gzip has compressed, those that were in it.

use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::OFlags;

use super::print::{HEAD_BYTES, TAIL_BYTES};
use super::trouble::is_settled;
use super::unpack::Compressed;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// An open file.
pub(super) enum Content {
    Plain(Arc<File>),
    Compressed(Box<Compressed>),
}

/// How far a read came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// As far as was asked for.
    Asked,
    /// To the end.
    End,
    /// To where compressed content breaks off, and why: it is damaged, or somebody is still writing it.
    Break(&'static str),
}

impl Content {
    /// Opens a file and says which one it is; one that begins as gzip does is unpacked.
    pub(super) fn open(path: &Path) -> io::Result<(Self, Metadata)> {
        let file = without_waiting(OpenOptions::new().read(true)).open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok((Self::of(Arc::new(file))?, meta))
    }

    fn of(file: Arc<File>) -> io::Result<Self> {
        Ok(if begins_compressed(&file)? {
            Self::Compressed(Box::new(Compressed::new(file)))
        } else {
            Self::Plain(file)
        })
    }

    /// Looks again what it is, for as long as nothing of it was read: many a file is there before its first bytes are.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        let file = Arc::clone(self.file());
        if begins_compressed(&file)? != self.is_compressed() {
            *self = Self::of(file)?;
        }
        Ok(())
    }

    fn file(&self) -> &Arc<File> {
        match self {
            Self::Plain(file) => file,
            Self::Compressed(compressed) => &compressed.file,
        }
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }

    pub(super) fn metadata(&self) -> io::Result<Metadata> {
        self.file().metadata()
    }

    /// Whether it has exactly this much content; of compressed content as its last bytes say.
    pub(super) fn has_len(&self, len: u64) -> io::Result<bool> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len() == len),
            Self::Compressed(compressed) => Ok(compressed.told_len()?.may_be(len)),
        }
    }

    /// Its first bytes, up to so many; an error where it is compressed and somebody may still be writing them.
    pub(super) fn head(&self, len: usize) -> io::Result<Vec<u8>> {
        let (head, reached) = self.first(len)?;
        self.check_whole(reached)?;
        Ok(head)
    }

    /// Its first bytes, up to so many, and how far that came.
    pub(super) fn first(&self, len: usize) -> io::Result<(Vec<u8>, Reached)> {
        match self {
            Self::Plain(file) => {
                let mut head = Vec::new();
                let is_end = read_plain(file, 0, len, &mut head)?;
                Ok((head, if is_end { Reached::End } else { Reached::Asked }))
            }
            Self::Compressed(compressed) => compressed.head(len),
        }
    }

    /// What is compared must not be taken for shorter than it will be.
    pub(super) fn check_whole(&self, reached: Reached) -> io::Result<()> {
        match reached {
            Reached::Break(what) if !self.metadata()?.modified().is_ok_and(is_settled) => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, what))
            }
            _ => Ok(()),
        }
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

    /// Fills `buffer` with `len` bytes from `from` on, or as many as there are.
    ///
    /// Compressed content is unpacked in order: going back begins anew.
    pub(super) fn read(
        &mut self,
        from: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Reached> {
        match self {
            Self::Plain(file) => {
                let is_end = read_plain(file, from, len, buffer)?;
                Ok(if is_end { Reached::End } else { Reached::Asked })
            }
            Self::Compressed(compressed) => compressed.read(from, len, buffer),
        }
    }

    /// As [`Self::read`], for comparing: an error where there is less because somebody may still be writing it.
    pub(super) fn peek(&mut self, from: u64, len: usize, buffer: &mut Vec<u8>) -> io::Result<()> {
        let reached = self.read(from, len, buffer)?;
        self.check_whole(reached)
    }
}

/// Were it a pipe by now, opening must not wait for somebody at its other end.
pub(super) fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::CLOEXEC).bits()).unwrap_or(0);
    options.custom_flags(flags)
}

fn begins_compressed(file: &File) -> io::Result<bool> {
    let mut magic = [0; 2];
    let read = file.read_at(&mut magic, 0)?;
    Ok(read == magic.len() && magic == GZIP_MAGIC)
}

/// Fills `buffer` with `len` bytes from `from` on, or as many as there are; true when these are the last.
pub(super) fn read_plain(
    file: &File,
    from: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<bool> {
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
