//! The functions for script writers: encodings, URLs, times, regular expressions, events, and what a script remembers.
//!
//! Each group is a file with its own `install`. A function is defined through [`define`] and reads its arguments through
//! [`Call`], so that all of them complain in the same words and none is fed more than it can take.
//!
//! Two ways to fail: what the *text* of an event is to blame for comes back as `nil, error`; what the *script* is to blame for
//! (a missing argument, a bad pattern, a bound) is thrown. Superfluous arguments are ignored, as Lua's own library does: so
//! `sha256(header(event, "X"))` works although `header` returns two values.

mod encoding;
mod events;
mod memory;
mod patterns;
mod time;
mod urls;

use mlua::{IntoLua, IntoLuaMulti, Lua, LuaString, MultiValue, Value};

use crate::vm::Host;

/// No text given to these functions may be longer: what they build outside the VM is not counted as its memory.
const MAX_INPUT_BYTES: usize = 64 * 1024 * 1024;

/// Installs all groups as globals.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    encoding::install(lua, host)?;
    urls::install(lua, host)?;
    time::install(lua, host)?;
    patterns::install(lua, host)?;
    events::install(lua, host)?;
    memory::install(lua, host)
}

/// One call of a function by a script.
struct Call<'a> {
    lua: &'a Lua,
    host: &'a Host,
    function: &'static str,
    arguments: Vec<Value>,
}

/// Bytes that become a Lua string.
struct Bytes(Vec<u8>);

impl IntoLua for Bytes {
    fn into_lua(self, lua: &Lua) -> mlua::Result<Value> {
        lua.create_string(self.0).map(Value::String)
    }
}

/// Makes a global function. The clock is looked at once it is done, because some of the work cannot be interrupted.
fn define<R: IntoLuaMulti>(
    lua: &Lua,
    host: &Host,
    function: &'static str,
    run: impl Fn(&Call<'_>) -> mlua::Result<R> + 'static,
) -> mlua::Result<()> {
    let host = host.clone();
    let wrapped = lua.create_function(move |lua, arguments: MultiValue| {
        let arguments = arguments.into_iter().collect();
        let result = run(&Call { lua, host: &host, function, arguments })?;
        host.guard.check()?;
        Ok(result)
    })?;
    lua.globals().set(function, wrapped)
}

impl Call<'_> {
    /// An argument; an error where the script gave too few.
    fn value(&self, index: usize, name: &str, expected: &str) -> mlua::Result<&Value> {
        self.arguments.get(index).ok_or_else(|| {
            let number = index + 1;
            self.error(format!("argument {number} ({name}) is missing: expected {expected}"))
        })
    }

    /// A string; a number is taken as its text, as Lua's own functions do.
    fn text(&self, index: usize, name: &str) -> mlua::Result<LuaString> {
        let text = match self.value(index, name, "a string")? {
            Value::String(text) => text.clone(),
            number @ (Value::Integer(_) | Value::Number(_)) => {
                let text = self.lua.coerce_string(number.clone())?;
                text.ok_or_else(|| self.unexpected(index, name, "a string"))?
            }
            _ => return Err(self.unexpected(index, name, "a string")),
        };
        let limit = self.max_bytes();
        if text.as_bytes().len() > limit {
            return Err(self.error(format!("{name} has more than {limit} bytes")));
        }
        Ok(text)
    }

    /// A string that must be UTF-8.
    fn utf8(&self, index: usize, name: &str) -> mlua::Result<String> {
        let text = self.text(index, name)?;
        let text = std::str::from_utf8(&text.as_bytes()).map(ToOwned::to_owned);
        text.map_err(|error| self.error(format!("{name} is not UTF-8: {error}")))
    }

    /// As [`Self::utf8`]; `None` where the argument is `nil` or left out.
    fn optional_utf8(&self, index: usize, name: &str) -> mlua::Result<Option<String>> {
        match self.arguments.get(index) {
            None | Some(Value::Nil) => Ok(None),
            Some(_) => self.utf8(index, name).map(Some),
        }
    }

    /// How long a text may be that is read or built outside the VM.
    fn max_bytes(&self) -> usize {
        self.host.options.limits.memory_bytes.min(MAX_INPUT_BYTES)
    }

    fn unexpected(&self, index: usize, name: &str, expected: &str) -> mlua::Error {
        let kind = self.arguments.get(index).map_or("no value", Value::type_name);
        self.error(format!(
            "argument {} ({name}) is of type {kind}: expected {expected}",
            index + 1
        ))
    }

    fn error(&self, reason: impl std::fmt::Display) -> mlua::Error {
        mlua::Error::RuntimeError(format!("{}: {reason}", self.function))
    }

    /// The value alone, or `nil` and what is wrong with the text.
    fn answer<T: IntoLua>(&self, result: Result<T, String>) -> mlua::Result<MultiValue> {
        match result {
            Ok(value) => value.into_lua_multi(self.lua),
            Err(reason) => {
                (Value::Nil, format!("{}: {reason}", self.function)).into_lua_multi(self.lua)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::rc::Rc;
    use std::sync::Arc;
    use std::time::Duration;

    use mlua::{Lua, MultiValue};

    use crate::clock::FakeClock;
    use crate::effects::{Effects, text_of};
    use crate::error::describe;
    use crate::guard::Guard;
    use crate::options::ScriptOptions;
    use crate::vm::Host;

    /// 2026-11-24 03:04:05.678901 UTC.
    pub(super) const NOW_US: i64 = 1_795_489_445_678_901;

    /// A bare state with these functions only.
    pub(super) fn lua(memory_bytes: usize) -> (Lua, Host) {
        let mut options = ScriptOptions::new("test.lua", Vec::new());
        options.clock = Arc::new(FakeClock::new(NOW_US));
        options.limits.memory_bytes = memory_bytes;
        let effects = Rc::new(RefCell::new(Effects::new(BTreeMap::new())));
        let host = Host { guard: Guard::default(), options: Arc::new(options), effects };
        let lua = Lua::new();
        crate::json::install(&lua, &host).expect("JSON is installed");
        super::install(&lua, &host).expect("the functions are installed");
        (lua, host)
    }

    /// What an expression's values are, with a blank between them; an error as `error: ..`.
    pub(super) fn evaluate(script: &str) -> String {
        evaluate_in(&lua(64 << 20).0, script)
    }

    pub(super) fn evaluate_in(lua: &Lua, script: &str) -> String {
        match lua.load(script).set_name("@test.lua").eval::<MultiValue>() {
            Ok(values) => text_of(lua, &values).expect("values have a text"),
            Err(error) => format!("error: {}", describe(&error)),
        }
    }

    #[track_caller]
    pub(super) fn check(script: &str, expected: &str) {
        assert_eq!(evaluate(script), expected, "{script}");
    }

    #[test]
    fn arguments_are_checked() {
        let missing = "error: test.lua:1: sha256: argument 1 (text) is missing: expected a string";
        check("return sha256()", missing);
        check(
            "return hmac_sha256('k', {})",
            "error: test.lua:1: hmac_sha256: argument 2 (text) is of type table: expected a string",
        );
        check(
            "return url_encode(nil)",
            "error: test.lua:1: url_encode: argument 1 (text) is of type nil: expected a string",
        );
        check(
            "return regex_match('\\xff', '')",
            "error: test.lua:1: regex_match: pattern is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
        );
    }

    #[test]
    fn numbers_are_texts_and_superfluous_arguments_are_ignored() {
        check("return hex_encode(12)", "3132");
        check("return hex_encode('a', 1, {})", "61");
    }

    #[test]
    fn a_text_longer_than_the_memory_is_refused() {
        let (lua, _host) = lua(1000);
        assert_eq!(evaluate_in(&lua, "return #hex_encode(('x'):rep(1000))"), "2000");
        assert_eq!(
            evaluate_in(&lua, "return hex_encode(('x'):rep(1001))"),
            "error: test.lua:1: hex_encode: text has more than 1000 bytes"
        );
    }

    #[test]
    fn the_clock_is_looked_at_after_each_call() {
        let (lua, host) = lua(64 << 20);
        host.guard.arm(Duration::ZERO);
        let said = evaluate_in(&lua, "return hex_encode('a')");
        assert!(said.contains(crate::guard::OUT_OF_TIME), "{said}");
    }
}
