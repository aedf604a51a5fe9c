//! To be written.

use mlua::Lua;

use crate::vm::Host;

pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    host.guard.check()?;
    lua.globals().set("__json", true)
}

pub(crate) fn encode(lua: &Lua, value: &mlua::Value) -> mlua::Result<Vec<u8>> {
    Ok(format!("{:?} {:?}", lua.used_memory(), value).into_bytes())
}
