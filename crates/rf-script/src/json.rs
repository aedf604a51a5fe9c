//! `json_decode` and `json_encode`: straight between text and Lua values.
//!
//! What Lua's tables do not say is kept in metatables: an array from JSON has the array mark (so an empty one stays `[]`),
//! an object has the mark of its *shape*, the sequence of its keys, which all objects with the same keys share. The encoder
//! writes the keys of the shape in their order, then those that the script has added, sorted. A table without a mark is an
//! array when its keys are 1 to n with n > 0, else an object. The marks have no metamethods, so tables behave as any other.
//!
//! Numbers: integers stay 64 bits wide, those above the signed range as a value of their own ([`large`]); a float that is
//! integral becomes an integer, and is written without `.0`.

mod decode;
mod encode;
mod large;
mod shapes;
#[cfg(test)]
mod tests;

use mlua::{Lua, LuaString, Table, Value};

pub(crate) use decode::decode;
use encode::OutputLimit;
pub(crate) use encode::encode;
use shapes::Shapes;

use crate::vm::Host;

/// Texts from here on ask for the time when they are done: a loop over long ones has too few instructions for the hook.
const LONG_TEXT_BYTES: usize = 16 * 1024;
/// Tables within tables that are written, as many as `serde_json` reads. Also what ends a table that contains itself.
const MAX_DEPTH: usize = 128;

/// Installs `json_decode`, `json_encode`, `json_null`, `json_array` and `json_object`.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    lua.set_app_data(Shapes::new(lua, host.guard.clone())?);
    lua.set_app_data(OutputLimit(host.options.limits.memory_bytes));
    let globals = lua.globals();
    globals.set("json_null", Value::NULL)?;
    let guard = host.guard.clone();
    let decode = lua.create_function(move |lua, text: LuaString| {
        let text = text.as_bytes();
        let read = decode::read(lua, &text)?;
        if text.len() >= LONG_TEXT_BYTES {
            guard.check()?;
        }
        match read {
            Ok(value) => Ok((value, None)),
            Err(reason) => Ok((Value::Nil, Some(format!("json_decode: {reason}")))),
        }
    })?;
    globals.set("json_decode", decode)?;
    let guard = host.guard.clone();
    let encode = lua.create_function(move |lua, value: Value| {
        let text = encode(lua, &value)?;
        if text.len() >= LONG_TEXT_BYTES {
            guard.check()?;
        }
        lua.create_string(text)
    })?;
    globals.set("json_encode", encode)?;
    globals.set("json_array", marker(lua, "json_array", |shapes| shapes.array_mark().clone())?)?;
    globals.set("json_object", marker(lua, "json_object", |shapes| shapes.object_mark().clone())?)
}

/// A function that marks a table, or a new one, as array or object.
fn marker(
    lua: &Lua,
    name: &'static str,
    mark: fn(&Shapes) -> Table,
) -> mlua::Result<mlua::Function> {
    lua.create_function(move |lua, table: Option<Table>| {
        let table = table.map_or_else(|| lua.create_table(), Ok)?;
        let shapes = Shapes::of(lua)?;
        let before = table.metatable();
        if before.is_some_and(|before| !shapes.knows(&before)) {
            return Err(mlua::Error::RuntimeError(format!(
                "{name}: the table has a metatable of its own"
            )));
        }
        table.set_metatable(Some(mark(&shapes)))?;
        Ok(table)
    })
}
