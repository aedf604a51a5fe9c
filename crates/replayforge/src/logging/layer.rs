//! An event's way: collect its fields, ask the gate, render, write.

use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::io::Write;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use rf_core::node_info::LogLine;
use rf_core::recent_logs::{Part, RecentLogs};
use serde_json::Value;
use tokio::time::Instant;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

use super::fields::Fields;
use super::gate::{About, Change, Gate, Note};
use super::render::{Line, Look};

/// How often is looked for mutes that have ended, while there are any.
const MUTES_EVERY: Duration = Duration::from_secs(10);

/// Writes events to `out`, as far as the gate lets them pass.
pub(crate) struct LogLayer {
    look: Look,
    hasher: RandomState,
    /// One lock for the decision and the writing, so that "muted from now" is never overtaken by a
    /// line that passed before it. Values are formatted outside of it: their code may log as well.
    exit: Arc<Mutex<Exit>>,
    recent: Arc<RecentLogs>,
}

struct Exit {
    gate: Gate,
    look: Look,
    out: Box<dyn Write + Send>,
    /// A thread waits for the end of the mutes.
    is_watched: bool,
}

impl Exit {
    fn write(&mut self, text: &str, lines: u64) {
        // There is nobody left to tell that stderr is closed or full; should it work again, the
        // loss is announced.
        if self.out.write_all(text.as_bytes()).is_err() {
            self.gate.suppress(lines);
        }
    }

    /// Says of the messages whose mute is over how often they were muted.
    fn announce_ended(&mut self, now: Instant) {
        for (About { level, target, fields }, note) in self.gate.take_ended(now) {
            let time = timestamp();
            let line = Line { time: &time, level, target, fields: &fields, note }.render(self.look);
            self.write(&line, 1);
        }
    }
}

impl LogLayer {
    pub(crate) fn new(look: Look, out: Box<dyn Write + Send>) -> Self {
        let exit = Exit { gate: Gate::new(Instant::now()), look, out, is_watched: false };
        let exit = Arc::new(Mutex::new(exit));
        Self { look, hasher: RandomState::new(), exit, recent: Arc::default() }
    }

    /// The same, with another place for the lines of sources and sinks.
    pub(crate) fn keeping(self, recent: Arc<RecentLogs>) -> Self {
        Self { recent, ..self }
    }

    /// What makes a message identical to another. A hash is kept and not the text, which bounds the
    /// gate's table in bytes; that two messages of three minutes share one is next to impossible.
    fn key(&self, metadata: &Metadata<'_>, fields: &Fields) -> u64 {
        let numbers_count = *metadata.level() >= Level::DEBUG;
        let mut hasher = self.hasher.build_hasher();
        metadata.level().hash(&mut hasher);
        metadata.target().hash(&mut hasher);
        fields.message.hash(&mut hasher);
        for (name, value) in &fields.values {
            if numbers_count || !value.is_number() {
                name.hash(&mut hasher);
                value.hash(&mut hasher);
            }
        }
        hasher.finish()
    }

    fn emit(&self, metadata: &'static Metadata<'static>, fields: &Fields, change: Option<Change>) {
        let key = self.key(metadata, fields);
        let now = Instant::now();
        let name = level_name(*metadata.level());
        self.recent.count(name);
        let mut exit = self.exit.lock();
        if change == Some(Change::Up) {
            let brief = fields.brief();
            exit.gate.settle(|about| is_trouble_of(about, metadata.target(), &brief));
        }
        let admitted = match change {
            Some(_) => exit.gate.admit_change(key, now),
            None => exit.gate.admit(key, now),
        };
        let Some(note) = admitted else { return };
        let suppressed = exit.gate.take_suppressed(now);
        let time = timestamp();
        let mut text = String::new();
        if let Some(lines) = suppressed {
            text = suppressed_line(&time, lines, self.look);
        }
        let (level, target) = (*metadata.level(), metadata.target());
        text.push_str(&Line { time: &time, level, target, fields, note }.render(self.look));
        exit.write(&text, 1 + suppressed.unwrap_or(0));
        if note == Note::MutedFromNow {
            exit.gate.describe(key, About { level, target, fields: fields.brief() });
            if !exit.is_watched {
                exit.is_watched = watch_mutes(Arc::downgrade(&self.exit));
            }
        }
        drop(exit);
        // At debug there is a line for each batch, and soon nothing else would be left on the pages.
        if level <= Level::INFO {
            self.keep(name, fields);
        }
    }

    /// A line about a source or sink, as status pages show it: the message, and what went wrong.
    fn keep(&self, level: &str, fields: &Fields) {
        let value = |wanted: &str| {
            let found = fields.value(wanted);
            found.map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let part = value("source").map(|id| (Part::Source, id));
        let Some((part, id)) = part.or_else(|| value("sink").map(|id| (Part::Sink, id))) else {
            return;
        };
        let why = value("error").or_else(|| value("reason"));
        let text =
            why.map_or_else(|| fields.message.clone(), |why| format!("{}: {why}", fields.message));
        let line = LogLine { at_ms: unix_ms(), level: level.to_owned(), text };
        self.recent.keep(part, &id, line);
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(known) = span.extensions_mut().get_mut::<Fields>()
        {
            known.extend(&fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flat_map(Scope::from_root) {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields.extend(outer);
            }
        }
        event.record(&mut fields);
        let change = fields.take_change();
        self.emit(event.metadata(), &fields, change);
    }
}

/// Whether a muted message is of the trouble that is over, as a line with these fields says: about the same source or sink
/// from the same module, or about the same file.
fn is_trouble_of(about: &About, target: &str, fields: &Fields) -> bool {
    let is_same =
        |name| fields.value(name).is_some_and(|value| about.fields.value(name) == Some(value));
    let is_of_part = about.target == target && (is_same("source") || is_same("sink"));
    about.level <= Level::WARN && (is_of_part || is_same("path"))
}

/// Starts a thread that tells of ended mutes until none is left. False when there can be none.
fn watch_mutes(exit: Weak<Mutex<Exit>>) -> bool {
    let watch = move || {
        loop {
            std::thread::park_timeout(MUTES_EVERY);
            let Some(exit) = exit.upgrade() else { return };
            let mut exit = exit.lock();
            exit.announce_ended(Instant::now());
            if !exit.gate.is_muting() {
                exit.is_watched = false;
                return;
            }
        }
    };
    std::thread::Builder::new().name("rf-log-mutes".to_owned()).spawn(watch).is_ok()
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn suppressed_line(time: &str, lines: u64, look: Look) -> String {
    let message = "log lines were suppressed: too many at once, or stderr accepted none".to_owned();
    let fields = Fields { message, values: vec![("lines", Value::from(lines))] };
    let target = module_path!();
    Line { time, level: Level::WARN, target, fields: &fields, note: Note::Nothing }.render(look)
}

fn timestamp() -> String {
    let mut text = String::new();
    // Writing into a string cannot fail, and a line without a time is better than none.
    SystemTime.format_time(&mut Writer::new(&mut text)).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests;
