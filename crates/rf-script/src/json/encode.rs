//! Lua to text.

use std::ops::Range;

use mlua::{Lua, Table, Value};

use super::shapes::{Mark, Nulls, Shapes, Told};
use super::{MAX_DEPTH, large};

/// Whole floats below this are written as digits alone, as Go's encoder does.
const MAX_PLAIN: f64 = 1e21;

/// A value as JSON.
///
/// # Errors
/// For what JSON has no word for (functions, NaN), and for tables nested too deep or within themselves.
pub(crate) fn encode(lua: &Lua, value: &Value) -> mlua::Result<Vec<u8>> {
    let shapes = Shapes::of(lua)?;
    let limit = OutputLimit::of(lua);
    let mut encoder = Encoder { shapes: &shapes, out: Vec::with_capacity(256), limit };
    encoder.value(value, 0)?;
    Ok(encoder.out)
}

/// Bytes that one text may have: what is built here lies outside of the VM's own bound.
pub(super) struct OutputLimit(pub(super) usize);

impl OutputLimit {
    pub(super) fn of(lua: &Lua) -> usize {
        lua.app_data_ref::<Self>().map_or(usize::MAX, |limit| limit.0)
    }
}

struct Encoder<'a> {
    shapes: &'a Shapes,
    out: Vec<u8>,
    limit: usize,
}

/// One entry of a table, written already.
struct Entry {
    key: Key,
    written: Range<usize>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// In its place of the shape.
    Known(usize),
    Index(i64),
    Added(Vec<u8>),
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> mlua::Result<()> {
        self.check_size()?;
        match value {
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Integer(integer) => self.display(integer),
            Value::Number(number) => self.number(*number)?,
            Value::String(text) => self.string(&text.as_bytes())?,
            Value::Table(table) => self.table(table, depth)?,
            other if other.is_null() => self.out.extend_from_slice(b"null"),
            other => match large::exact(other) {
                Some(integer) => self.display(&integer.0),
                None => {
                    return Err(refused(&format!(
                        "a {} cannot be written as JSON",
                        other.type_name()
                    )));
                }
            },
        }
        Ok(())
    }

    fn check_size(&self) -> mlua::Result<()> {
        if self.out.len() > self.limit {
            return Err(refused(&format!("the text is larger than {} bytes", self.limit)));
        }
        Ok(())
    }

    fn display(&mut self, number: &impl std::fmt::Display) {
        self.out.extend_from_slice(number.to_string().as_bytes());
    }

    fn number(&mut self, number: f64) -> mlua::Result<()> {
        if !number.is_finite() {
            return Err(refused("JSON has no NaN and no infinity"));
        }
        if number.fract() == 0.0 && number.abs() < MAX_PLAIN {
            self.display(&number);
            return Ok(());
        }
        serde_json::to_writer(&mut self.out, &number).map_err(|error| refused(&error.to_string()))
    }

    fn string(&mut self, text: &[u8]) -> mlua::Result<()> {
        let text = String::from_utf8_lossy(text);
        serde_json::to_writer(&mut self.out, &*text).map_err(|error| refused(&error.to_string()))
    }

    fn table(&mut self, table: &Table, depth: usize) -> mlua::Result<()> {
        if depth >= MAX_DEPTH {
            return Err(refused(&format!(
                "tables more than {MAX_DEPTH} levels deep, or one within itself"
            )));
        }
        let shapes = self.shapes;
        let told = shapes.told(table)?;
        let mark = told.mark;
        if matches!(mark, None | Some(Mark::Array)) && self.sequence(table, mark, depth)? {
            return Ok(());
        }
        self.entries(table, &told, depth)
    }

    /// Writes an array whose items come in order, as they do unless the script has built it oddly; false, and nothing
    /// written, when they do not.
    fn sequence(&mut self, table: &Table, mark: Option<Mark>, depth: usize) -> mlua::Result<bool> {
        let start = self.out.len();
        let (mut count, mut ordered) = (0, true);
        self.out.push(b'[');
        let walked = table.for_each(|key: Value, value: Value| {
            if !ordered || key != Value::Integer(count + 1) {
                ordered = false;
                return Err(refused("out of order"));
            }
            self.shapes.guard.step()?;
            if count > 0 {
                self.out.push(b',');
            }
            count += 1;
            self.value(&value, depth + 1)
        });
        if !ordered {
            self.out.truncate(start);
            return Ok(false);
        }
        walked?;
        self.out.push(b']');
        if count == 0 && mark.is_none() {
            self.out.truncate(start);
            self.out.extend_from_slice(b"{}");
        }
        Ok(true)
    }

    fn entries(&mut self, table: &Table, told: &Told<'_>, depth: usize) -> mlua::Result<()> {
        let start = self.out.len();
        let mark = told.mark;
        let keys = if let Some(Mark::Shape(node)) = mark { self.shapes.keys(node) } else { 0 };
        let mut entries: Vec<Entry> = Vec::with_capacity(keys);
        table.for_each(|key: Value, value: Value| {
            self.shapes.guard.step()?;
            let from = self.out.len();
            let key = self.key(&key, mark)?;
            self.value(&value, depth + 1)?;
            entries.push(Entry { key, written: from..self.out.len() });
            Ok(())
        })?;
        self.nulls(told, &mut entries)?;
        entries.sort_by(|one, other| one.key.cmp(&other.key));
        if !matches!(told.nulls, Nulls::None) {
            // The sort has kept their order: a value of the script stands before the null.
            entries.dedup_by(|later, earlier| later.key == earlier.key);
        }
        let object = matches!(mark, Some(Mark::Object | Mark::Shape(_)));
        let array = !object && is_sequence(&entries);
        let written = self.out.split_off(start);
        self.out.push(if array { b'[' } else { b'{' });
        for (position, entry) in entries.iter().enumerate() {
            if position > 0 {
                self.out.push(b',');
            }
            let range = entry.written.start - start..entry.written.end - start;
            let text = written.get(range).unwrap_or_default();
            self.out.extend_from_slice(if array { without_key(text) } else { text });
        }
        self.out.push(if array { b']' } else { b'}' });
        Ok(())
    }

    /// Adds the fields that were null. One that the script has given a value comes twice so.
    fn nulls(&mut self, told: &Told<'_>, entries: &mut Vec<Entry>) -> mlua::Result<()> {
        match &told.nulls {
            Nulls::None => {}
            Nulls::Known(fields) => {
                for field in *fields {
                    self.shapes.guard.step()?;
                    self.check_size()?;
                    let from = self.out.len();
                    self.out.extend_from_slice(self.shapes.written(*field));
                    self.out.extend_from_slice(b"null");
                    let key = Key::Known(field.position);
                    entries.push(Entry { key, written: from..self.out.len() });
                }
            }
            Nulls::Named(names) => {
                for index in 1..=names.raw_len() {
                    self.shapes.guard.step()?;
                    self.check_size()?;
                    let from = self.out.len();
                    let key = self.key(&names.raw_get::<Value>(index)?, told.mark)?;
                    self.out.extend_from_slice(b"null");
                    entries.push(Entry { key, written: from..self.out.len() });
                }
            }
        }
        Ok(())
    }

    /// Writes the key; where it goes.
    fn key(&mut self, key: &Value, mark: Option<Mark>) -> mlua::Result<Key> {
        if let (Value::String(text), Some(Mark::Shape(node))) = (key, mark)
            && let Some((position, written)) = self.shapes.place(node, text)
        {
            self.out.extend_from_slice(written);
            return Ok(Key::Known(position));
        }
        let (text, place) = match key {
            Value::String(text) => (text.as_bytes().to_vec(), None),
            Value::Integer(index) => (index.to_string().into_bytes(), Some(Key::Index(*index))),
            Value::Number(number) => (number.to_string().into_bytes(), None),
            Value::Boolean(value) => (value.to_string().into_bytes(), None),
            other => return Err(refused(&format!("a {} cannot be a key", other.type_name()))),
        };
        self.string(&text)?;
        self.out.push(b':');
        Ok(place.unwrap_or(Key::Added(text)))
    }
}

/// Whether the keys are 1 to n, sorted as they are.
fn is_sequence(entries: &[Entry]) -> bool {
    (1..).zip(entries).all(|(index, entry)| entry.key == Key::Index(index)) && !entries.is_empty()
}

/// An entry of an array was written as `"12":value`.
fn without_key(text: &[u8]) -> &[u8] {
    let colon = text.iter().position(|&byte| byte == b':');
    colon.and_then(|colon| text.get(colon + 1..)).unwrap_or(text)
}

fn refused(reason: &str) -> mlua::Error {
    mlua::Error::RuntimeError(format!("json_encode: {reason}"))
}
