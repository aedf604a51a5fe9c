//! The events of an input file, one a line or the whole as one.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use anyhow::Context;
use rf_script::clock::{ScriptClock, SystemScriptClock};
use rf_script::testing::{EventKind, HttpRequest};

use crate::cli::{EventForm, ScriptInputArgs};

/// No event is that large.
const MAX_EVENT_BYTES: u64 = 64 * 1024 * 1024;

/// An event with the number of its line.
pub(super) struct Event {
    pub(super) line: u64,
    pub(super) content: Vec<u8>,
}

/// Reads as it goes: standard input may have no end.
pub(super) struct Events {
    reader: Box<dyn BufRead>,
    name: String,
    kind: EventKind,
    whole: bool,
    line: u64,
}

impl Events {
    pub(super) fn open(args: &ScriptInputArgs) -> anyhow::Result<Self> {
        let name = args.input.display().to_string();
        let reader: Box<dyn BufRead> = if args.input == Path::new("-") {
            Box::new(BufReader::new(io::stdin()))
        } else {
            Box::new(BufReader::new(File::open(&args.input).with_context(|| name.clone())?))
        };
        let kind = match args.event {
            EventForm::Raw => EventKind::Raw,
            EventForm::Http => EventKind::Http,
            EventForm::Logline => EventKind::LogLine,
        };
        Ok(Self { reader, name, kind, whole: args.whole, line: 0 })
    }

    /// The next event; lines without text are none.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<Event>> {
        let mut text = Vec::new();
        loop {
            text.clear();
            let mut bounded = self.reader.by_ref().take(MAX_EVENT_BYTES + 1);
            let read = if self.whole {
                bounded.read_to_end(&mut text)
            } else {
                bounded.read_until(b'\n', &mut text)
            };
            let read = read.with_context(|| self.name.clone())?;
            self.line += 1;
            let (name, line) = (&self.name, self.line);
            anyhow::ensure!(
                text.len() as u64 <= MAX_EVENT_BYTES,
                "{name}: line {line} has more than {MAX_EVENT_BYTES} bytes"
            );
            if read == 0 {
                return Ok(None);
            }
            if !self.whole {
                let end = text.strip_suffix(b"\n").map_or(text.len(), <[u8]>::len);
                text.truncate(end);
                let end = text.strip_suffix(b"\r").map_or(text.len(), <[u8]>::len);
                text.truncate(end);
            }
            if !text.is_empty() {
                break;
            }
        }
        let now_us = u64::try_from(SystemScriptClock.now_us()).unwrap_or_default();
        let request = HttpRequest::with_body(&text);
        let content = self.kind.wrap(&text, &request, now_us, self.line);
        Ok(Some(Event { line: self.line, content }))
    }
}
