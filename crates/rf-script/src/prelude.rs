//! What makes Lua 5.4's own library safe, and scripts for Lua 5.1 and 5.2 run.
//!
//! Installed last. The fences and the compatibility layer are written in Lua: a call from Lua to Lua costs less than one to
//! Rust, and the instruction hook looks in. What Lua cannot tell (the time, a raw metatable) comes from the helpers here.

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use mlua::{Function, Lua, LuaString, Table, Value};

use crate::error::describe;
use crate::vm::{Host, OUT_OF_MEMORY};

/// In order of their installation, with the names that tracebacks give them: places in brackets are not a script's.
const CHUNKS: [(&str, &str); 3] = [
    ("=[prelude]", include_str!("prelude/fences.lua")),
    ("=[compat]", include_str!("prelude/compat.lua")),
    ("=[bit32]", include_str!("prelude/bit32.lua")),
];
/// A function of the table library takes so many elements at once.
const MAX_ELEMENTS: f64 = 10_000_000.0;
/// So many, where metamethods are asked for each: they may be C functions or long chains, in which the hook cannot look.
const MAX_ELEMENTS_WITH_METAMETHODS: f64 = 10_000.0;

/// Where the registry, which no script sees, has what parses the text of a script.
const PARSE: &str = "rf.parse";

/// Replaces and completes the globals.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let helpers = lua.create_table()?;
    add_limits(lua, host, &helpers)?;
    add_inspection(lua, host, &helpers)?;
    for (name, text) in CHUNKS {
        lua.load(text).set_name(name).call::<()>(&helpers)?;
    }
    lua.set_named_registry_value(PARSE, helpers.get::<Function>("parse")?)
}

/// Parses the text of a file, within the time of the call under way: `Lua::load` cannot be stopped. For VMs whose globals are
/// installed.
///
/// # Errors
/// What is wrong with the text, with file and line; that the time or the memory does not suffice, with the file.
pub(crate) fn parse(lua: &Lua, host: &Host, text: &[u8], file: &str) -> mlua::Result<Function> {
    let failed = |error: mlua::Error| {
        let reason = describe(&error);
        mlua::Error::RuntimeError(format!("{file}: cannot be parsed: {reason}"))
    };
    let parse: Function = lua.named_registry_value(PARSE)?;
    let text = lua.create_string(text).map_err(failed)?;
    let parsed = parse.call::<(Option<Function>, Option<LuaString>)>((text, format!("@{file}")));
    let (chunk, message) = parsed.map_err(failed)?;
    if let Some(chunk) = chunk {
        return Ok(chunk);
    }
    host.guard.check().map_err(failed)?;
    let message = message.map(|message| message.to_string_lossy()).unwrap_or_default();
    if message == OUT_OF_MEMORY {
        return Err(failed(mlua::Error::MemoryError(message)));
    }
    Err(mlua::Error::SyntaxError { message, incomplete_input: false })
}

fn add_limits(lua: &Lua, host: &Host, helpers: &Table) -> mlua::Result<()> {
    helpers.set("unsafe_scripts", host.options.unsafe_scripts)?;
    helpers.set("memory_bytes", host.options.limits.memory_bytes)?;
    let guard = host.guard.clone();
    helpers.set("look", lua.create_function(move |_, ()| guard.check())?)?;
    let guard = host.guard.clone();
    helpers.set("expired", lua.create_function(move |_, ()| Ok(guard.expired()))?)?;
    helpers.set("out_of_memory", OUT_OF_MEMORY)?;
    let guard = host.guard.clone();
    let note_full = move |_: &Lua, ()| {
        guard.note_full();
        Ok(())
    };
    helpers.set("note_full", lua.create_function(note_full)?)?;
    let options = host.options.clone();
    let now = move |_: &Lua, ()| Ok(options.clock.now_us().div_euclid(1_000_000));
    helpers.set("now_seconds", lua.create_function(now)?)
}

fn add_inspection(lua: &Lua, host: &Host, helpers: &Table) -> mlua::Result<()> {
    let guard = host.guard.clone();
    let text_of_error = lua.create_function(move |lua, error: Value| match error {
        Value::Error(error) => {
            let text = describe(&error);
            if text.contains(OUT_OF_MEMORY) {
                guard.note_full();
            }
            Ok(Value::String(lua.create_string(text)?))
        }
        other => Ok(other),
    })?;
    helpers.set("text_of_error", text_of_error)?;
    let is_native = |_: &Lua, function: Value| {
        Ok(function.as_function().is_some_and(|function: &Function| function.info().what == "C"))
    };
    helpers.set("is_native", lua.create_function(is_native)?)?;
    helpers.set("check_table", lua.create_function(check_table)?)
}

/// Why the function must not be called with the table: the message, or nothing.
fn check_table(
    _: &Lua,
    (function, table, count): (LuaString, Table, f64),
) -> mlua::Result<Option<String>> {
    let function = function.to_string_lossy();
    if count > MAX_ELEMENTS {
        return Ok(Some(format!("{function}: at most {MAX_ELEMENTS} elements at once")));
    }
    let Some(metatable) = table.metatable() else { return Ok(None) };
    if has(&metatable, "__len")? {
        return Ok(Some(format!("{function}: a table with `__len` is not supported")));
    }
    let asked = has(&metatable, "__index")? || has(&metatable, "__newindex")?;
    if asked && count > MAX_ELEMENTS_WITH_METAMETHODS {
        return Ok(Some(format!(
            "{function}: at most {MAX_ELEMENTS_WITH_METAMETHODS} elements of a table with `__index` or `__newindex`"
        )));
    }
    Ok(None)
}

fn has(metatable: &Table, field: &str) -> mlua::Result<bool> {
    Ok(!metatable.raw_get::<Value>(field)?.is_nil())
}
