//! The sink's contract: every event is a line, once in a file of its own, at least once in the program's log.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tempfile::TempDir;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_default;
use tracing::{Event, Metadata, Subscriber};

use super::Sink;
use crate::sink::contract::{Promise, Subject, check_sink_contract};
use crate::sink::table::rig::sink;

/// A sink with a file of its own.
struct OwnFile(TempDir);

impl Subject for OwnFile {
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(super::build, self.0.path(), r#"{ "logFilePath": "events.log" }"#)
    }

    fn event(&self, number: usize) -> String {
        number.to_string()
    }

    fn refused(&self) -> Option<String> {
        None
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        let text = std::fs::read_to_string(self.0.path().join("events.log")).unwrap();
        let number = |line: &str| line.rsplit(' ').next()?.parse::<usize>().ok();
        let numbers = text.lines().map(|line| number(line).expect("a number at the end"));
        Box::pin(std::future::ready(numbers.collect()))
    }
}

#[tokio::test(flavor = "multi_thread")]
pub(crate) async fn a_file_of_its_own_keeps_the_contract() {
    check_sink_contract(&OwnFile(tempfile::tempdir().unwrap())).await;
}

/// The program's log: the numbers that it has as `content`.
#[derive(Clone, Default)]
struct ProgramLog(Arc<Mutex<Vec<usize>>>);

impl Subscriber for ProgramLog {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}

    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Contents(&self.0));
    }

    fn enter(&self, _span: &Id) {}

    fn exit(&self, _span: &Id) {}
}

struct Contents<'a>(&'a Mutex<Vec<usize>>);

impl Visit for Contents<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "content"
            && let Ok(number) = format!("{value:?}").parse()
        {
            self.0.lock().push(number);
        }
    }
}

impl Subject for ProgramLog {
    /// A line that was written just before a kill is written again.
    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    fn build(&self) -> Arc<dyn Sink> {
        sink(super::build, Path::new("."), "{}")
    }

    fn event(&self, number: usize) -> String {
        number.to_string()
    }

    fn refused(&self) -> Option<String> {
        None
    }

    fn stored(&self) -> BoxFuture<'_, Vec<usize>> {
        Box::pin(std::future::ready(self.0.lock().clone()))
    }
}

/// On one thread, which is the one whose log is looked at.
#[tokio::test]
pub(crate) async fn the_log_of_the_program_keeps_the_contract() {
    let log = ProgramLog::default();
    let _until_the_end = set_default(log.clone());
    check_sink_contract(&log).await;
}
