//! A compiled pattern and how its captures become a table.

use std::cell::Cell;

use mlua::{Either, Lua, LuaString, Table, Value};
use regex::bytes::{CaptureLocations, Regex, RegexBuilder};

use super::expand::{self, Capture, Kind};
use super::own::GrokPatterns;

/// A compiled regex may have so many bytes.
const MAX_COMPILED_BYTES: usize = 10 * 1024 * 1024;
/// One up to this size weighs 1 in the cache; a larger one [`HEAVY`].
const COMMON_COMPILED_BYTES: usize = 640 * 1024;
const HEAVY: usize = 16;
/// After so many texts that match, but not from their beginning, looking there first is given up.
const MAX_VAIN_STARTS: u32 = 32;

/// What the captures of a match become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Values {
    Texts,
    /// Numbers where the pattern says so.
    Typed,
}

/// A pattern before it belongs to a Lua state.
pub(super) struct Program {
    full: Regex,
    start: Option<Regex>,
    captures: Vec<Capture>,
    heavy: bool,
}

impl Program {
    pub(super) fn compile(own: &GrokPatterns, pattern: &str) -> Result<Self, String> {
        let expanded = expand::expand(own, pattern)?;
        let (full, heavy) = build(&expanded.regex)?;
        let narrow = expand::expand_fast(own, pattern)
            .filter(|narrow| narrow.captures == expanded.captures)
            .map(|narrow| narrow.regex);
        // The one-pass engine, several times faster than the others, wants a regex that is bound to the beginning.
        let start = format!(r"\A(?:{})", narrow.unwrap_or(expanded.regex));
        let start = build(&start).ok().map(|(start, _)| start);
        let start = start.filter(|start| start.captures_len() == full.captures_len());
        Ok(Self { full, start, captures: expanded.captures, heavy })
    }

    /// What it counts in the cache.
    pub(super) fn weight(&self) -> usize {
        if self.heavy { HEAVY } else { 1 }
    }
}

fn build(regex: &str) -> Result<(Regex, bool), String> {
    let build = |limit: usize, unicode: bool| {
        RegexBuilder::new(regex).unicode(unicode).size_limit(limit).build()
    };
    let mut last = None;
    for unicode in [false, true] {
        for (limit, heavy) in [(COMMON_COMPILED_BYTES, false), (MAX_COMPILED_BYTES, true)] {
            match build(limit, unicode) {
                Ok(regex) => return Ok((regex, heavy)),
                Err(error) => last = Some(error),
            }
            if matches!(last, Some(regex::Error::Syntax(_))) {
                break;
            }
        }
    }
    Err(last.map_or_else(String::new, |error| reason(&error)))
}

/// The regex crate's message without the expanded pattern, which the user did not write.
fn reason(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("the pattern is too large: compiled, it may have {limit} bytes")
        }
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!("bad regex: {}", last.strip_prefix("error: ").unwrap_or(last))
        }
    }
}

/// A name of the table and the groups that may fill it.
struct Field {
    key: LuaString,
    groups: Vec<(usize, Kind)>,
}

/// A pattern of one Lua state.
pub(super) struct Pattern {
    full: Search,
    start: Option<Search>,
    vain_starts: Cell<u32>,
    fields: Vec<Field>,
}

/// A regex with the room for its captures, which is lent to the match under way.
struct Search {
    regex: Regex,
    room: Cell<Option<CaptureLocations>>,
}

impl Search {
    fn new(regex: Regex) -> Self {
        Self { regex, room: Cell::new(None) }
    }

    /// Lends the room to `read` where the text matches.
    fn find<T>(&self, text: &[u8], read: impl FnOnce(&CaptureLocations) -> T) -> Option<T> {
        // Taken, not borrowed: `read` may run a finalizer of the script that parses with this same pattern.
        let mut room = self.room.take().unwrap_or_else(|| self.regex.capture_locations());
        let found = self.regex.captures_read(&mut room, text).is_some();
        let result = found.then(|| read(&room));
        self.room.set(Some(room));
        result
    }
}

impl Pattern {
    pub(super) fn new(lua: &Lua, program: Program) -> mlua::Result<Self> {
        let names: Vec<Option<&str>> = program.full.capture_names().collect();
        let mut fields: Vec<(&str, Vec<(usize, Kind)>)> = Vec::new();
        for (number, capture) in program.captures.iter().enumerate() {
            let group = format!("g{number}");
            let Some(group) = names.iter().position(|name| *name == Some(&group)) else { continue };
            match fields.iter_mut().find(|(name, _)| *name == capture.name) {
                Some((_, groups)) => groups.push((group, capture.kind)),
                None => fields.push((&capture.name, vec![(group, capture.kind)])),
            }
        }
        let fields = fields
            .into_iter()
            .map(|(name, groups)| Ok(Field { key: lua.create_string(name)?, groups }))
            .collect::<mlua::Result<_>>()?;
        Ok(Self {
            full: Search::new(program.full),
            start: program.start.map(Search::new),
            vain_starts: Cell::new(0),
            fields,
        })
    }

    /// The named captures; an empty table where the text does not match.
    pub(super) fn parse(&self, lua: &Lua, text: &[u8], values: Values) -> mlua::Result<Table> {
        let read = |room: &CaptureLocations| self.table(lua, text, room, values);
        let start = self.start.as_ref().filter(|_| self.vain_starts.get() < MAX_VAIN_STARTS);
        if let Some(table) = start.and_then(|start| start.find(text, read)) {
            self.vain_starts.set(0);
            return table;
        }
        match self.full.find(text, read) {
            Some(table) => {
                self.vain_starts.set(self.vain_starts.get().saturating_add(1));
                table
            }
            None => lua.create_table(),
        }
    }

    fn table(
        &self,
        lua: &Lua,
        text: &[u8],
        room: &CaptureLocations,
        values: Values,
    ) -> mlua::Result<Table> {
        // Lua takes a `str` without a detour; bytes only by way of a handle.
        let chars = std::str::from_utf8(text).ok();
        let mut failed = None;
        let pairs = self.fields.iter().map(|field| {
            let (start, end, kind) = field.value(room);
            let kind = if values == Values::Typed { kind } else { Kind::Text };
            let value = match chars.and_then(|chars| chars.get(start..end)) {
                Some(chars) if kind == Kind::Text => Either::Left(chars),
                chars => {
                    let bytes = text.get(start..end).unwrap_or_default();
                    Either::Right(value_of(lua, kind, chars, bytes).unwrap_or_else(|error| {
                        failed = Some(error);
                        Value::Nil
                    }))
                }
            };
            (&field.key, value)
        });
        let table = lua.create_table_from(pairs)?;
        failed.map_or(Ok(table), Err)
    }
}

impl Field {
    /// Where its text is: the last group that is not empty, or nothing.
    fn value(&self, room: &CaptureLocations) -> (usize, usize, Kind) {
        let mut taken = self.groups.iter().rev().filter_map(|(group, kind)| {
            let (start, end) = room.get(*group)?;
            (start < end).then_some((start, end, *kind))
        });
        taken.next().unwrap_or((0, 0, Kind::Text))
    }
}

/// The number that the text says, or else the text.
fn value_of(lua: &Lua, kind: Kind, chars: Option<&str>, bytes: &[u8]) -> mlua::Result<Value> {
    let number = chars.and_then(|chars| match kind {
        Kind::Text => None,
        Kind::Int => chars.parse().ok().map(Value::Integer),
        Kind::Float => {
            chars.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number)
        }
    });
    match number {
        Some(number) => Ok(number),
        None => lua.create_string(bytes).map(Value::String),
    }
}
