//! `string.find`, `match`, `gmatch`, `gsub`, with Lua's semantics and a time limit.
//!
//! Lua's own are written in C and backtrack without executing an instruction, so its hook cannot stop a pattern that takes
//! exponential time. Replaced in the table `string`, which is also where the methods of strings are looked up.

mod arguments;
mod pattern;
mod replace;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::rc::Rc;

use mlua::{Function, Lua, MultiValue, Table, Value};

use crate::vm::Host;
use arguments::{integer, start, text};
use pattern::{Budget, Captured, Matcher};

/// Saves Lua's raising function, which the log function `error` is about to hide, and replaces the functions with patterns.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let globals = lua.globals();
    let raise: Value = globals.get("error")?;
    globals.set("lua_error", &raise)?;
    globals.set("raise", raise)?;
    let string: Table = globals.get("string")?;
    let budget = Rc::new(Budget::new(host.guard.clone()));
    string.set("find", find_function(lua, Rc::clone(&budget))?)?;
    string.set("match", match_function(lua, Rc::clone(&budget))?)?;
    string.set("gmatch", gmatch_function(lua, Rc::clone(&budget))?)?;
    string.set("gsub", replace::function(lua, budget, host.options.limits.memory_bytes)?)
}

fn find_function(lua: &Lua, budget: Rc<Budget>) -> mlua::Result<Function> {
    type Arguments = (Value, Value, Value, Value);
    lua.create_function(move |lua, (subject, pattern, init, plain): Arguments| {
        let subject = text(lua, subject, "find", 1)?;
        let pattern = text(lua, pattern, "find", 2)?;
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let init = integer(lua, init, "find", 3)?.unwrap_or(1);
        let from = start(init, subject.len());
        let Some(rest) = subject.get(from..) else { return Ok(nothing()) };
        let plain = !matches!(plain, Value::Nil | Value::Boolean(false));
        if plain || !has_specials(&pattern) {
            budget.spend(rest.len().min(64 * 1024)).map_err(|fault| *fault)?;
            let Some(at) = memchr::memmem::find(rest, &pattern) else { return Ok(nothing()) };
            return Ok(places(from + at, from + at + pattern.len()));
        }
        let (anchored, pattern) = anchor(&pattern);
        let mut matcher = Matcher::new(&subject, pattern, &budget);
        let found = matcher.first(from, anchored).map_err(|fault| *fault)?;
        let Some((begin, end)) = found else { return Ok(nothing()) };
        let mut values = places(begin, end);
        for index in 0..matcher.count() {
            values.push_back(value(lua, &matcher, index, begin, end)?);
        }
        Ok(values)
    })
}

fn match_function(lua: &Lua, budget: Rc<Budget>) -> mlua::Result<Function> {
    lua.create_function(move |lua, (subject, pattern, init): (Value, Value, Value)| {
        let subject = text(lua, subject, "match", 1)?;
        let pattern = text(lua, pattern, "match", 2)?;
        let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
        let from = start(integer(lua, init, "match", 3)?.unwrap_or(1), subject.len());
        if from > subject.len() {
            return Ok(nothing());
        }
        let (anchored, pattern) = anchor(&pattern);
        let mut matcher = Matcher::new(&subject, pattern, &budget);
        let found = matcher.first(from, anchored).map_err(|fault| *fault)?;
        let Some((begin, end)) = found else { return Ok(nothing()) };
        captures(lua, &matcher, begin, end)
    })
}

fn gmatch_function(lua: &Lua, budget: Rc<Budget>) -> mlua::Result<Function> {
    lua.create_function(move |lua, (subject, pattern, init): (Value, Value, Value)| {
        let subject = text(lua, subject, "gmatch", 1)?;
        let pattern = text(lua, pattern, "gmatch", 2)?;
        let init = integer(lua, init, "gmatch", 3)?.unwrap_or(1);
        let next = Cell::new(start(init, subject.as_bytes().len()));
        let last = Cell::new(None);
        let budget = Rc::clone(&budget);
        lua.create_function(move |lua, ()| {
            let (subject, pattern) = (subject.as_bytes(), pattern.as_bytes());
            let mut matcher = Matcher::new(&subject, &pattern, &budget);
            for at in next.get()..=subject.len() {
                let end = matcher.match_at(at).map_err(|fault| *fault)?;
                if let Some(end) = end.filter(|end| last.get() != Some(*end)) {
                    next.set(end);
                    last.set(Some(end));
                    return captures(lua, &matcher, at, end);
                }
            }
            next.set(subject.len() + 1);
            Ok(nothing())
        })
    })
}

fn nothing() -> MultiValue {
    MultiValue::from_iter([Value::Nil])
}

/// The first and the last place of a match, as Lua counts.
fn places(begin: usize, end: usize) -> MultiValue {
    MultiValue::from_iter([number(begin + 1), number(end)])
}

fn number(place: usize) -> Value {
    Value::Integer(i64::try_from(place).unwrap_or(i64::MAX))
}

fn has_specials(pattern: &[u8]) -> bool {
    pattern.iter().any(|byte| b"^$*+?.([%-".contains(byte))
}

/// Splits off a leading `^`.
fn anchor(pattern: &[u8]) -> (bool, &[u8]) {
    pattern.strip_prefix(b"^").map_or((false, pattern), |rest| (true, rest))
}

/// All captures, or the whole match where the pattern has none.
fn captures(
    lua: &Lua,
    matcher: &Matcher<'_>,
    begin: usize,
    end: usize,
) -> mlua::Result<MultiValue> {
    let count = matcher.count().max(1);
    (0..count).map(|index| value(lua, matcher, index, begin, end)).collect()
}

fn value(
    lua: &Lua,
    matcher: &Matcher<'_>,
    index: usize,
    begin: usize,
    end: usize,
) -> mlua::Result<Value> {
    match matcher.capture(index, begin, end).map_err(|fault| *fault)? {
        Captured::Text(text) => Ok(Value::String(lua.create_string(text)?)),
        Captured::Position(at) => Ok(number(at)),
    }
}
