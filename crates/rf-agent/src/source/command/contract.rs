//! The contract of sources, with programs that print a file: again at each run, or on and on as it grows.

use std::io::Write;

use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::source::Source;
use crate::source::contract::{Delivery, Origin, build_source, check_source_contract};

#[derive(Debug, Clone, Copy)]
enum Manner {
    /// Each run prints the whole file.
    Runs,
    /// One program prints the file and what is added to it.
    Stream,
}

/// A file of which each line is an item.
struct Printed {
    file: NamedTempFile,
    manner: Manner,
}

impl Origin for Printed {
    fn source(&self) -> Box<dyn Source> {
        let path = self.file.path();
        let params = match self.manner {
            Manner::Runs => {
                json!({ "command": ["cat", path], "mode": "lines", "intervalSeconds": "50ms" })
            }
            Manner::Stream => {
                json!({ "command": ["tail", "-n", "+1", "-f", path], "mode": "stream" })
            }
        };
        build_source("command", &params)
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        // In one piece, so that no program prints a part of a line.
        self.file.as_file().write_all(format!("{number}\n").as_bytes()).unwrap();
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
        body["content"].as_str()?.parse().ok()
    }

    /// The program prints everything again after a start.
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }
}

async fn check(manner: Manner) {
    check_source_contract(|| Printed { file: NamedTempFile::new().unwrap(), manner }).await;
}

#[tokio::test]
pub(crate) async fn lines_of_runs_keep_the_contract() {
    check(Manner::Runs).await;
}

#[tokio::test]
pub(crate) async fn a_stream_keeps_the_contract() {
    check(Manner::Stream).await;
}
