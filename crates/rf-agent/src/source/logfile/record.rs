//! What is remembered of a file: a checkpoint each, stored with the lines that it counts.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::UNIX_EPOCH;

use rf_queue::Checkpoint;
use serde::{Deserialize, Serialize};

use super::print::{Marks, Print};

/// A file as the file system names it, whatever its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct FileId {
    pub(super) dev: u64,
    pub(super) ino: u64,
    /// Nanoseconds since 1970; 0 where the file system does not keep it.
    pub(super) born: u64,
}

impl FileId {
    pub(super) fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born = born.and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(0);
        Self { dev: meta.dev(), ino: meta.ino(), born }
    }

    /// Whether both may be one file. An inode is used again soon after its file is gone, so the birth counts; and
    /// numbers of devices change with a boot of the machine, so with a birth they do not.
    pub(super) fn may_be(self, other: Self) -> bool {
        self.ino == other.ino
            && if self.born == 0 || other.born == 0 {
                self.dev == other.dev
            } else {
                self.born == other.born
            }
    }
}

/// Where in a line the offset lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Within {
    /// At the beginning of one.
    #[default]
    Nothing,
    /// Its first part was sent when its end did not come; the rest is sent with its end.
    Partial,
    /// Its first part was sent because it is too long; the rest is left out.
    Cut,
}

/// How far one file was read, and how it is known again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// The path that its lines were written to.
    pub(super) family: PathBuf,
    /// What its events call it.
    pub(super) name: PathBuf,
    /// Where it was seen last.
    pub(super) path: PathBuf,
    /// `None`: the content is gone from its file; a copy may be found.
    pub(super) id: Option<FileId>,
    /// What is before has been stored; of a compressed file, in its content.
    pub(super) offset: u64,
    pub(super) within: Within,
    /// Of the beginning, as far as it was read.
    pub(super) head: Print,
    /// Of the bytes before the offset.
    pub(super) tail: Print,
    /// Of what lies between, as far as it was read in this file.
    #[serde(default, skip_serializing_if = "Marks::is_empty")]
    pub(super) marks: Marks,
    /// The file is compressed.
    pub(super) packed: bool,
    /// Nothing more will come: it was read whole, or is not to be read, or its rest was given up.
    pub(super) done: bool,
    /// Where nothing more came. Of a compressed file its size, at its end or where it was given up: with another size it is
    /// read on. Of a plain one that is not written to any more, its offset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ended_at: Option<u64>,
    /// Milliseconds since 1970 when its first line was seen since it was empty.
    pub(super) since_ms: u64,
}

impl Record {
    /// All of it was read, and nothing more is expected.
    pub(super) fn is_complete(&self) -> bool {
        self.done || self.ended_at == Some(self.offset)
    }
}

/// Under which a source keeps its records; the number behind it is the record's.
pub(super) fn prefix(source: &str) -> String {
    format!("tail:{source}:")
}

/// The checkpoint of a record; `None` removes it.
pub(super) fn checkpoint(source: &str, key: u64, record: Option<&Record>) -> Checkpoint {
    let value = record.map(|record| {
        serde_json::to_vec(record).expect("a record of texts and numbers is always JSON")
    });
    Checkpoint { key: format!("{}{key}", prefix(source)), value }
}

/// Reads what was stored; what is not one of ours (another source's id may begin with this one's) is passed over.
pub(super) fn parse(source: &str, stored: Vec<Checkpoint>) -> Vec<(u64, Record)> {
    let prefix = prefix(source);
    let parse = |stored: Checkpoint| {
        let key = stored.key.strip_prefix(&prefix)?.parse().ok()?;
        match serde_json::from_slice(stored.value.as_deref()?) {
            Ok(record) => Some((key, record)),
            Err(error) => {
                tracing::error!(source, checkpoint = stored.key, %error, "checkpoint cannot be read: its file counts as never seen");
                None
            }
        }
    };
    let mut records: Vec<_> = stored.into_iter().filter_map(parse).collect();
    records.sort_by_key(|(key, _)| *key);
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_stored_and_so_is_one_of_a_version_without_marks() {
        let content = [b'x'; 5000];
        let mut record = Record { offset: 5000, head: Print::of(&content), ..Record::default() };
        let without_marks = checkpoint("s", 1, Some(&record));
        assert!(!without_marks.value.as_deref().unwrap().windows(5).any(|word| word == b"marks"));
        assert_eq!(parse("s", vec![without_marks]), [(1, record.clone())]);
        record.marks.note(&content, 0, 0);
        assert!(!record.marks.is_empty());
        let stored = checkpoint("s", 2, Some(&record));
        assert_eq!(parse("s", vec![stored]), [(2, record)]);
    }

    #[test]
    fn a_file_is_known_by_inode_and_birth_and_without_a_birth_by_its_device() {
        let id = |dev, ino, born| FileId { dev, ino, born };
        let check = |one: FileId, other: FileId, expected: bool| {
            assert_eq!([one.may_be(other), other.may_be(one)], [expected; 2], "{one:?} {other:?}");
        };
        check(id(1, 2, 3), id(1, 2, 3), true);
        // The inode is used again.
        check(id(1, 2, 3), id(1, 2, 4), false);
        check(id(1, 2, 3), id(1, 3, 3), false);
        // The machine was started anew.
        check(id(1, 2, 3), id(7, 2, 3), true);
        check(id(1, 2, 0), id(1, 2, 3), true);
        check(id(1, 2, 0), id(7, 2, 3), false);
    }
}
