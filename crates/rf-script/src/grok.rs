//! `grok_parse(pattern, text, options)`: named captures of a grok pattern, with the stock patterns and the user's own.
//!
//! It answers a table of the named captures, an empty table where the text does not match, or nil and a text for a bad pattern.
//! A group that took no part in the match is the empty string. A name used more than once has the last capture that is not
//! empty. All of them are strings, as scripts of the original expect; with `{typed = true}` those that the pattern has `:int`
//! and `:float` at are numbers, where they can be.
//!
//! Reading order: `stock` (the well-known patterns), `own` ([`GrokPatterns`]), `expand` (a grok pattern becomes one regex),
//! `pattern` (that regex, compiled, and how its captures become a table), `cache`.
//!
//! The patterns are expanded here and not by the crate `grok`: that one matches `str` only, so a line that is not UTF-8 would
//! have to be copied first; it sets no bound to the expanded text or the compiled size; it looks every name up in a map for
//! each line; it renames a repeated name; and its errors carry whole expanded patterns. What it would save is one loop.
//!
//! Regexes see bytes, not characters, as long as they can: `\w`, `\d`, `\s`, `\b` are ASCII (as they are in RE2, for which the
//! users' patterns were written), and a dot takes one byte. `(?u)` in a pattern turns characters on; a pattern that cannot be
//! had otherwise, such as `[é]` or `\p{L}`, gets them unasked.
//!
//! Invariant: matching is linear in the text, whatever the pattern: there is no look-around and no back-reference.

mod cache;
mod expand;
mod own;
mod pattern;
mod stock;
#[cfg(test)]
mod stock_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use mlua::{Lua, LuaString, Value};

pub use own::GrokPatterns;

use crate::vm::Host;
use cache::Cache;
use pattern::{Pattern, Values};

/// A pattern may have so many bytes before it is expanded.
const MAX_PATTERN_BYTES: usize = 64 * 1024;
/// A match on a text longer than this is followed by a look at the clock.
const LONG_TEXT_BYTES: usize = 16 * 1024;

type Compiled = Result<Rc<Pattern>, String>;

/// Installs `grok_parse`.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    type Arguments = (Value, Value, Value);
    let cache = RefCell::new(Cache::default());
    let guard = host.guard.clone();
    let own = Arc::clone(&host.options.grok_patterns);
    let parse = lua.create_function(move |lua, (pattern, text, options): Arguments| {
        let pattern = argument(lua, pattern, "a pattern")?;
        let text = argument(lua, text, "a text")?;
        let values = values_of(&options)?;
        let pattern = pattern.as_bytes();
        // The borrow ends here: what follows may run finalizers of the script, and they may call this function.
        let known = cache.borrow().get(&pattern);
        let compiled = if let Some(known) = known {
            guard.step()?;
            known
        } else {
            guard.check()?;
            let (compiled, weight) = compile(lua, &own, &pattern)?;
            cache.borrow_mut().insert(&pattern, compiled.clone(), weight);
            guard.check()?;
            compiled
        };
        let pattern = match compiled {
            Ok(pattern) => pattern,
            Err(reason) => return Ok((Value::Nil, Some(reason))),
        };
        let text = text.as_bytes();
        let table = pattern.parse(lua, &text, values)?;
        if text.len() > LONG_TEXT_BYTES {
            guard.check()?;
        }
        Ok((Value::Table(table), None))
    })?;
    lua.globals().set("grok_parse", parse)
}

/// Anything but a table with this field is a superfluous argument, such as the count behind a `gsub`, and is passed over.
fn values_of(options: &Value) -> mlua::Result<Values> {
    match options {
        Value::Table(options) if options.raw_get::<bool>("typed")? => Ok(Values::Typed),
        _ => Ok(Values::Texts),
    }
}

/// A string, or a number as Lua would print it.
fn argument(lua: &Lua, value: Value, what: &str) -> mlua::Result<LuaString> {
    if let Value::String(text) = value {
        return Ok(text);
    }
    let kind = value.type_name();
    lua.coerce_string(value)?.ok_or_else(|| {
        mlua::Error::RuntimeError(format!("grok_parse: {what} was expected, got {kind}"))
    })
}

/// The pattern, or why it is bad, with what it weighs in the cache.
fn compile(lua: &Lua, own: &GrokPatterns, pattern: &[u8]) -> mlua::Result<(Compiled, usize)> {
    let bad = |reason: String| Ok((Err(format!("grok_parse: {reason}")), 1));
    if pattern.len() > MAX_PATTERN_BYTES {
        return bad(format!(
            "the pattern has {} bytes, a pattern may have {MAX_PATTERN_BYTES}",
            pattern.len()
        ));
    }
    let Ok(pattern) = std::str::from_utf8(pattern) else {
        return bad("the pattern is not valid UTF-8".to_owned());
    };
    match pattern::Program::compile(own, pattern) {
        Ok(program) => {
            let weight = program.weight();
            Ok((Ok(Rc::new(Pattern::new(lua, program)?)), weight))
        }
        Err(reason) => bad(reason),
    }
}
