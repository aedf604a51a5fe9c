//! What an event says: its message and its fields, as values that can be hashed and rendered.

use std::error::Error;
use std::fmt::{self, Debug, Write};

use serde_json::{Number, Value};
use tracing::field::{Field, Visit};

use super::gate::Change;

/// The most that is kept of one message or field. A script may log a whole body; the log is not
/// the place to keep it.
const MAX_TEXT_BYTES: usize = 8 * 1024;

/// The field that marks a change of state; it is not shown.
const STATE: &str = "state";

/// Characters of the message, and of each field, in a brief form.
const BRIEF_CHARS: usize = 200;

/// Fields in a brief form.
const BRIEF_FIELDS: usize = 4;

/// The message and the fields of an event, or the fields of a span.
///
/// A name that is set again, such as by an event inside of a span, replaces the earlier value.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Fields {
    pub(crate) message: String,
    /// Strings, numbers and booleans only.
    pub(crate) values: Vec<(&'static str, Value)>,
}

fn cut(text: &str) -> String {
    let mut rest = text.chars();
    let mut kept: String = rest.by_ref().take(BRIEF_CHARS).collect();
    if rest.next().is_some() {
        kept.push('…');
    }
    kept
}

impl Fields {
    /// Takes over the fields of `other`, but not its message.
    pub(crate) fn extend(&mut self, other: &Self) {
        for (name, value) in &other.values {
            self.set(name, value.clone());
        }
    }

    /// The value of this name.
    pub(crate) fn value(&self, wanted: &str) -> Option<&Value> {
        self.values.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value)
    }

    /// Takes out the mark of a line that tells of a change of state.
    pub(crate) fn take_change(&mut self) -> Option<Change> {
        let place = self.values.iter().position(|(name, _)| *name == STATE)?;
        let change = match self.values[place].1.as_str() {
            Some("down") => Change::Down,
            Some("up") => Change::Up,
            _ => return None,
        };
        self.values.remove(place);
        Some(change)
    }

    /// What tells it from others, bounded: the first fields that are no numbers, texts cut.
    pub(crate) fn brief(&self) -> Self {
        let others = self.values.iter().filter(|(_, value)| !value.is_number());
        let values = others.take(BRIEF_FIELDS).map(|(name, value)| {
            (*name, value.as_str().map_or_else(|| value.clone(), |text| cut(text).into()))
        });
        Self { message: cut(&self.message), values: values.collect() }
    }

    fn set(&mut self, name: &'static str, value: Value) {
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    fn set_text(&mut self, field: &Field, text: fmt::Arguments<'_>) {
        let mut clipped = Clipped { text: String::new(), full: false };
        // A value that fails to format itself is cut where it failed: a log line is no place to
        // fail.
        if clipped.write_fmt(text).is_err() {
            clipped.text.push('…');
        }
        match field.name() {
            "message" => self.message = clipped.text,
            name => self.set(name, Value::String(clipped.text)),
        }
    }

    fn set_number(&mut self, field: &Field, number: Option<Number>, text: fmt::Arguments<'_>) {
        match number {
            Some(number) if field.name() != "message" => {
                self.set(field.name(), Value::Number(number));
            }
            // JSON has no such number (not finite, or beyond 64 bits); text can hold it.
            _ => self.set_text(field, text),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set_number(field, Number::from_f64(value), format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set_number(field, Some(Number::from(value)), format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set_number(field, Some(Number::from(value)), format_args!("{value}"));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.set_number(field, Number::from_i128(value), format_args!("{value}"));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.set_number(field, Number::from_u128(value), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set_text(field, format_args!("{value}"));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        self.set_text(field, format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.set_text(field, format_args!("{value:?}"));
    }
}

/// A text that takes [`MAX_TEXT_BYTES`] and drops the rest, without building it first.
struct Clipped {
    text: String,
    full: bool,
}

impl Write for Clipped {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.full {
            return Ok(());
        }
        let room = MAX_TEXT_BYTES - self.text.len();
        let fits = part.floor_char_boundary(room);
        self.text.extend(part.get(..fits));
        if fits < part.len() {
            self.full = true;
            self.text.push('…');
        }
        Ok(())
    }
}
