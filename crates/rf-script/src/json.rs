//! `json_decode` and `json_encode`: straight between text and Lua values.
//!
//! What Lua's tables do not say is kept in metatables: an array from JSON has the array mark (so an empty one stays `[]`),
//! an object has the mark of its *shape*, the sequence of its keys, which all objects with the same keys share. The encoder
//! writes the keys of the shape in their order, then those that the script has added, sorted. A table without a mark is an
//! array when its keys are 1 to n with n > 0, else an object; an object that was decoded empty has none. The marks have no
//! metamethods, so tables behave as any other.
//!
//! A field that is `null` is `nil` for the script, as scripts expect of what is not there: the mark says which fields are, and
//! the encoder writes them. Within an array a `null` is `json_null`, a value, since holes have no place in Lua's lists.
//!
//! Numbers: integers stay 64 bits wide, those above the signed range as a value of their own ([`large`]); a float that is
//! integral becomes an integer, and is written without `.0`.

mod decode;
mod encode;
mod large;
mod shapes;
#[cfg(test)]
mod tests;

use mlua::{Function, Lua, LuaString, Table, Value};

pub(crate) use decode::decode;
use encode::OutputLimit;
pub(crate) use encode::encode;
use shapes::{Mark, Shapes};

use crate::vm::Host;

/// Texts from here on ask for the time when they are done: a loop over long ones has too few instructions for the hook.
const LONG_TEXT_BYTES: usize = 16 * 1024;
/// Tables within tables that are written, as many as `serde_json` reads. Also what ends a table that contains itself.
const MAX_DEPTH: usize = 128;

/// Installs `json_decode`, `json_encode`, `json_null`, `json_array`, `json_object` and `json_omit`.
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
            Err(reason) => {
                let told = format!("json_decode: the text cannot be read as JSON: {reason}");
                Ok((Value::Nil, Some(told)))
            }
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
    globals.set("json_array", marker(lua, "json_array", |shapes, _| Some(shapes.array_mark()))?)?;
    let object = marker(lua, "json_object", |shapes, before| match before {
        // Its mark says more: the order of its keys, and which of them were null.
        Some(Mark::Object | Mark::Shape(_)) => None,
        _ => Some(shapes.object_mark()),
    })?;
    globals.set("json_object", object)?;
    globals.set("json_omit", omit_function(lua)?)
}

/// A function that marks a table, or a new one, as array or object, where it is not marked so already.
fn marker(
    lua: &Lua,
    name: &'static str,
    mark: fn(&Shapes, Option<Mark>) -> Option<&Table>,
) -> mlua::Result<Function> {
    lua.create_function(move |lua, table: Option<Table>| {
        let table = table.map_or_else(|| lua.create_table(), Ok)?;
        let shapes = Shapes::of(lua)?;
        let before = shapes.told(&table)?.mark;
        if before.is_none() && table.metatable().is_some() {
            return Err(mlua::Error::RuntimeError(format!(
                "{name}: the table has a metatable of its own"
            )));
        }
        if let Some(mark) = mark(&shapes, before) {
            table.set_metatable(Some(mark.clone()))?;
        }
        Ok(table)
    })
}

/// A function that takes a field out of a table, also one that was `null`.
fn omit_function(lua: &Lua) -> mlua::Result<Function> {
    lua.create_function(|lua, (table, key): (Table, Value)| {
        if key.is_nil() {
            return Err(mlua::Error::RuntimeError(
                "json_omit: bad argument #2: expected a key, not nil".to_owned(),
            ));
        }
        // As it is: to Lua the number 1 and the text "1" are two keys. Those that were null are texts.
        table.raw_set(&key, Value::Nil)?;
        if let Value::String(key) = &key {
            Shapes::of_mut(lua)?.forget_null(lua, &table, key)?;
        }
        Ok(table)
    })
}
