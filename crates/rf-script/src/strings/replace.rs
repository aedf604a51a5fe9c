//! `string.gsub`.

use std::rc::Rc;

use mlua::{Function, Lua, LuaString, Table, Value};

use super::arguments::{integer, kind, refused, text};
use super::pattern::{Budget, Captured, Fault, Matcher, fault};
use super::{anchor, captures, value};

/// `gsub` within its own replacement function; each takes kilobytes of the thread's stack.
const MAX_NESTED: usize = 40;

/// What stands in for a match.
enum Replacement {
    Text(LuaString),
    Table(Table),
    Function(Function),
}

/// Makes `gsub`, whose result may have `max_bytes`: it grows outside of Lua's memory.
pub(super) fn function(lua: &Lua, budget: Rc<Budget>, max_bytes: usize) -> mlua::Result<Function> {
    type Arguments = (Value, Value, Value, Value);
    let nested = Rc::new(());
    lua.create_function(move |lua, (subject, pattern, replacement, max): Arguments| {
        let _nested = Rc::clone(&nested);
        if Rc::strong_count(&nested) > MAX_NESTED + 1 {
            let reason =
                format!("gsub: nested deeper than {MAX_NESTED} in its replacement function");
            return Err(mlua::Error::RuntimeError(reason));
        }
        let subject = text(lua, subject, "gsub", 1)?;
        let pattern = text(lua, pattern, "gsub", 2)?;
        let replacement = read_replacement(lua, replacement)?;
        let bytes = subject.as_bytes();
        let all = i64::try_from(bytes.len()).unwrap_or(i64::MAX).saturating_add(1);
        let max = integer(lua, max, "gsub", 4)?.unwrap_or(all);
        let pattern = pattern.as_bytes();
        let (anchored, pattern) = anchor(&pattern);
        let replaced = Replaced { bytes: Vec::new(), copied: 0, max_bytes };
        let matcher = Matcher::new(&bytes, pattern, &budget);
        let mut run = Run { lua, subject: &bytes, matcher, replacement: &replacement, replaced };
        let count = run.all(max, anchored)?;
        if run.replaced.copied == 0 && run.replaced.bytes.is_empty() {
            return Ok((subject.clone(), count));
        }
        let rest = bytes.get(run.replaced.copied..).unwrap_or_default();
        run.replaced.add(rest).map_err(|fault| *fault)?;
        Ok((lua.create_string(&run.replaced.bytes)?, count))
    })
}

fn read_replacement(lua: &Lua, value: Value) -> mlua::Result<Replacement> {
    match value {
        Value::Table(table) => Ok(Replacement::Table(table)),
        Value::Function(function) => Ok(Replacement::Function(function)),
        Value::String(_) | Value::Integer(_) | Value::Number(_) => {
            Ok(Replacement::Text(text(lua, value, "gsub", 3)?))
        }
        other => {
            let reason = format!("string/function/table expected, got {}", kind(&other));
            Err(refused("gsub", 3, &reason))
        }
    }
}

/// The result so far.
struct Replaced {
    bytes: Vec<u8>,
    /// The subject is in `bytes` up to here.
    copied: usize,
    max_bytes: usize,
}

impl Replaced {
    fn add(&mut self, piece: &[u8]) -> Result<(), Fault> {
        if piece.len() > self.max_bytes.saturating_sub(self.bytes.len()) {
            return Err(fault(format!(
                "gsub: the result has more than {} bytes, the memory limit",
                self.max_bytes
            )));
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

struct Run<'a> {
    lua: &'a Lua,
    subject: &'a [u8],
    matcher: Matcher<'a>,
    replacement: &'a Replacement,
    replaced: Replaced,
}

impl Run<'_> {
    /// Replaces up to `max` matches; how many there were.
    fn all(&mut self, max: i64, anchored: bool) -> mlua::Result<i64> {
        let (mut at, mut last, mut count) = (0, None, 0);
        while count < max {
            let end = self.matcher.match_at(at).map_err(|fault| *fault)?;
            match end.filter(|end| last != Some(*end)) {
                Some(end) => {
                    count += 1;
                    self.one(at, end)?;
                    at = end;
                    last = Some(end);
                }
                None if at < self.subject.len() => at += 1,
                None => break,
            }
            if anchored {
                break;
            }
        }
        Ok(count)
    }

    fn one(&mut self, begin: usize, end: usize) -> mlua::Result<()> {
        let with = match self.replacement {
            Replacement::Text(text) => {
                return self.expand(&text.as_bytes(), begin, end).map_err(|fault| *fault);
            }
            Replacement::Table(table) => {
                table.get::<Value>(value(self.lua, &self.matcher, 0, begin, end)?)?
            }
            Replacement::Function(function) => {
                let arguments = captures(self.lua, &self.matcher, begin, end)?;
                function.call::<Value>(arguments)?
            }
        };
        let with = match with {
            Value::Nil | Value::Boolean(false) => return Ok(()),
            Value::String(_) | Value::Integer(_) | Value::Number(_) => {
                text(self.lua, with, "gsub", 3)?
            }
            other => {
                let reason = format!("invalid replacement value (a {})", kind(&other));
                return Err(mlua::Error::RuntimeError(reason));
            }
        };
        self.skip_to(begin, end).map_err(|fault| *fault)?;
        self.replaced.add(&with.as_bytes()).map_err(|fault| *fault)
    }

    /// Takes over what lies between the last match and this one.
    fn skip_to(&mut self, begin: usize, end: usize) -> Result<(), Fault> {
        let between = self.subject.get(self.replaced.copied..begin).unwrap_or_default();
        self.replaced.add(between)?;
        self.replaced.copied = end;
        Ok(())
    }

    /// A replacement text with its `%1`.
    fn expand(&mut self, text: &[u8], begin: usize, end: usize) -> Result<(), Fault> {
        self.skip_to(begin, end)?;
        self.matcher.spend(text.len())?;
        let mut rest = text;
        while let Some(at) = memchr::memchr(b'%', rest) {
            self.replaced.add(rest.get(..at).unwrap_or_default())?;
            match rest.get(at + 1) {
                Some(b'%') => self.replaced.add(b"%")?,
                Some(b'0') => {
                    self.replaced.add(self.subject.get(begin..end).unwrap_or_default())?;
                }
                Some(digit @ b'1'..=b'9') => {
                    let index = usize::from(digit - b'1');
                    match self.matcher.capture(index, begin, end)? {
                        Captured::Text(text) => {
                            self.matcher.spend(text.len())?;
                            self.replaced.add(text)?;
                        }
                        Captured::Position(at) => self.replaced.add(at.to_string().as_bytes())?,
                    }
                }
                _ => return Err(fault("invalid use of '%' in replacement string")),
            }
            rest = rest.get(at + 2..).unwrap_or_default();
        }
        self.replaced.add(rest)
    }
}
