//! Arguments of the string functions, refused in Lua's words.

use mlua::{Lua, LuaString, Value};

/// A string, or a number as one.
pub(super) fn text(lua: &Lua, value: Value, function: &str, at: u8) -> mlua::Result<LuaString> {
    match value {
        Value::String(text) => Ok(text),
        Value::Integer(_) | Value::Number(_) => {
            let text = lua.coerce_string(value)?;
            text.ok_or_else(|| refused(function, at, "string expected"))
        }
        other => {
            let reason = format!("string expected, got {}", kind(&other));
            Err(refused(function, at, &reason))
        }
    }
}

/// An integer, or what Lua takes for one; `None` where nothing is given.
pub(super) fn integer(
    lua: &Lua,
    value: Value,
    function: &str,
    at: u8,
) -> mlua::Result<Option<i64>> {
    match value {
        Value::Nil => Ok(None),
        Value::Integer(integer) => Ok(Some(integer)),
        Value::Number(_) | Value::String(_) => {
            let integer = lua.coerce_integer(value.clone())?;
            if integer.is_some() {
                return Ok(integer);
            }
            let numeric = lua.coerce_number(value.clone())?.is_some();
            let reason = if numeric {
                "number has no integer representation".to_owned()
            } else {
                format!("number expected, got {}", kind(&value))
            };
            Err(refused(function, at, &reason))
        }
        other => {
            let reason = format!("number expected, got {}", kind(&other));
            Err(refused(function, at, &reason))
        }
    }
}

/// Where to begin, from 0, for Lua's `init`; past the subject's end as it comes.
pub(super) fn start(init: i64, length: usize) -> usize {
    let signed = i64::try_from(length).unwrap_or(i64::MAX);
    let from = if init > 0 {
        init - 1
    } else if init == 0 {
        0
    } else {
        (signed + init).max(0)
    };
    usize::try_from(from).unwrap_or(usize::MAX)
}

pub(super) fn refused(function: &str, at: u8, reason: &str) -> mlua::Error {
    mlua::Error::RuntimeError(format!("bad argument #{at} to '{function}' ({reason})"))
}

/// The name of the value's type in Lua.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) | Value::Number(_) => "number",
        Value::LightUserData(_) | Value::UserData(_) | Value::Error(_) => "userdata",
        other => other.type_name(),
    }
}
