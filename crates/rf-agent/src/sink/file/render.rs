//! Events become what is appended to files.

use std::borrow::Cow;

use jiff::Timestamp;
use rf_core::json;
use rf_queue::StoredEvent;
use serde_json::Value;

use super::config::{beside_finished, check_names};
use super::format::FileFormat;
use super::spare::Spare;
use super::writer::Chunk;
use crate::sink::template::{Template, plain_name};

/// How events of a sink stand in which files.
#[derive(Debug)]
pub(super) struct Renderer {
    pub(super) path: Template,
    pub(super) format: FileFormat,
    /// What the chunks are made in.
    pub(super) spare: Spare,
}

impl Renderer {
    /// The events as they are to stand in their files, in order within each.
    ///
    /// # Errors
    /// Why one of them never can stand in a file.
    pub(super) fn chunks(&self, events: &[StoredEvent]) -> Result<Vec<Chunk>, String> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for (number, event) in events.iter().enumerate() {
            let queued = i64::try_from(event.at_ms).unwrap_or(i64::MAX);
            let mut at = Timestamp::from_millisecond(queued).unwrap_or(Timestamp::UNIX_EPOCH);
            // A fixed path was checked when the file was read.
            let mut path = self.path.fixed().map(Cow::Borrowed);
            if path.is_none() || self.format == FileFormat::Har {
                let parsed: Value = json::from_slice(&event.content).map_err(|error| {
                    format!("the event is not JSON, so it has no fields: {error}")
                })?;
                let captured = parsed["capturedAtUs"].as_i64();
                at = captured.and_then(|us| Timestamp::from_microsecond(us).ok()).unwrap_or(at);
                if path.is_none() {
                    let rendered = self.path.render(&parsed, at, |value| plain_name(&value));
                    let rendered = beside_finished(rendered);
                    check_names(&rendered)?;
                    path = Some(Cow::Owned(rendered));
                }
            }
            let path = path.unwrap_or_default();
            let index = chunks.iter().position(|chunk| chunk.path == path).unwrap_or_else(|| {
                // In a file for all events each takes a line of its own length, mostly.
                let lines = events[number..].iter().map(|event| event.content.len() + 1);
                let room = if self.path.fixed().is_some() { lines.sum() } else { 0 };
                chunks.push(Chunk { path: path.into_owned(), bytes: self.spare.take(room) });
                chunks.len() - 1
            });
            let bytes = &mut chunks[index].bytes;
            if !bytes.is_empty() {
                bytes.extend_from_slice(self.format.between());
            }
            self.format.render(&event.content, at, bytes)?;
        }
        Ok(chunks)
    }
}
