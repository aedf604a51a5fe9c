//! The contract of sources, with a pipe as the standard input of this process.

use std::io::{PipeWriter, Write};
use std::os::fd::OwnedFd;

use futures_util::future::BoxFuture;
use rustix::io::fcntl_dupfd_cloexec;
use rustix::stdio::{dup2_stdin, stdin};
use serde_json::{Value, json};

use crate::source::Source;
use crate::source::contract::{Origin, Survives, build_source, check_source_contract};

/// Standard input is this pipe until it is dropped.
struct Pipe {
    writer: PipeWriter,
    before: OwnedFd,
}

impl Pipe {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let before = fcntl_dupfd_cloexec(stdin(), 0).unwrap();
        dup2_stdin(&reader).unwrap();
        Self { writer, before }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        dup2_stdin(&self.before).expect("what was open can be put back");
    }
}

impl Origin for Pipe {
    fn source(&self) -> Box<dyn Source> {
        build_source("stdin", &json!({}))
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        // In one piece, so that no read ends within a line.
        (&self.writer).write_all(format!("{number}\n").as_bytes()).unwrap();
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
        body["content"].as_str()?.parse().ok()
    }

    /// What was read from a pipe is not in it any more.
    fn survives(&self) -> Survives {
        Survives::Stops
    }
}

#[tokio::test]
pub(crate) async fn a_pipe_keeps_the_contract() {
    check_source_contract(Pipe::new).await;
}
