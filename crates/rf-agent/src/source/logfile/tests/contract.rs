//! The contract of sources, with a log that is rotated meanwhile in each of the usual manners.

use std::fs::{self, File};
use std::path::PathBuf;

use futures_util::future::BoxFuture;
use serde_json::json;
use tempfile::TempDir;

use super::rig::{append, body, compress};
use crate::source::Source;
use crate::source::contract::{Origin, build_source, check_source_contract};

/// Lines between two rotations.
const ROTATE_EVERY: u64 = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// No rotation.
    Grow,
    /// No rotation, and each line is written in two pieces.
    Pieces,
    Rename,
    CopyAndTruncate,
    RenameAndCompress,
}

/// A log file; all that lies in its folder is asked for.
struct Log {
    folder: TempDir,
    manner: Manner,
}

impl Log {
    fn new(manner: Manner) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), manner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn rotate(&self, turn: u64) {
        let (log, aside) = (self.path("app.log"), self.path(&format!("app.log.{turn}")));
        match self.manner {
            Manner::Grow | Manner::Pieces => {}
            Manner::Rename => fs::rename(&log, &aside).unwrap(),
            Manner::CopyAndTruncate => {
                fs::copy(&log, &aside).unwrap();
                File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
            }
            Manner::RenameAndCompress => {
                fs::rename(&log, &aside).unwrap();
                compress(&aside);
            }
        }
    }
}

impl Origin for Log {
    fn source(&self) -> Box<dyn Source> {
        build_source("logfile", &json!({ "filePaths": [self.path("app.log*")] }))
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        let line = format!("line number {number} of this log\n");
        if self.manner == Manner::Pieces {
            let (first, second) = line.split_at(9);
            append(&self.path("app.log"), first.as_bytes());
            append(&self.path("app.log"), second.as_bytes());
        } else {
            append(&self.path("app.log"), line.as_bytes());
        }
        if number % ROTATE_EVERY == ROTATE_EVERY - 1 {
            self.rotate(number / ROTATE_EVERY);
        }
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let body = body(event);
        let line = body["content"].as_str().unwrap();
        let number =
            line.strip_prefix("line number ").and_then(|rest| rest.strip_suffix(" of this log"));
        Some(number.unwrap_or_else(|| panic!("not a line of the log: {line}")).parse().unwrap())
    }
}

async fn check(manner: Manner) {
    check_source_contract(|| Log::new(manner)).await;
}

#[tokio::test]
pub(crate) async fn the_contract_holds_for_a_file_that_grows() {
    check(Manner::Grow).await;
}

#[tokio::test]
pub(crate) async fn the_contract_holds_for_lines_that_come_in_pieces() {
    check(Manner::Pieces).await;
}

#[tokio::test]
pub(crate) async fn the_contract_holds_for_renames() {
    check(Manner::Rename).await;
}

#[tokio::test]
pub(crate) async fn the_contract_holds_for_copies() {
    check(Manner::CopyAndTruncate).await;
}

#[tokio::test]
pub(crate) async fn the_contract_holds_for_compression() {
    check(Manner::RenameAndCompress).await;
}
