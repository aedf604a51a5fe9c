//! To be written.

use mlua::Lua;

use crate::vm::Host;

/// Patterns beside the stock ones.
#[derive(Debug, Default)]
pub struct GrokPatterns {}

pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    host.guard.check()?;
    lua.globals().set("__grok", true)
}
