//! `require`: files beside the script, else, as in the original, below the working directory.

use std::path::{Path, PathBuf};

use mlua::{Lua, LuaString, Table, Value};

use crate::prelude;
use crate::vm::{Host, lua_text};

/// A module's file may be so large.
const MAX_MODULE_BYTES: u64 = 4 * 1024 * 1024;

/// Installs `require` and `package.loaded`.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let package: Table = lua.create_table()?;
    let loaded = lua.create_table()?;
    // `io` is nothing here, but for scripts that may use it.
    for library in ["string", "table", "math", "os", "coroutine", "utf8", "io"] {
        loaded.set(library, lua.globals().get::<Value>(library)?)?;
    }
    package.set("loaded", &loaded)?;
    lua.globals().set("package", package)?;
    let host = host.clone();
    let require = lua.create_function(move |lua, name: LuaString| {
        let present: Value = loaded.get(&name)?;
        if !present.is_nil() {
            return Ok(present);
        }
        let name = name.to_string_lossy();
        let folder = host.options.path.parent().unwrap_or(Path::new("."));
        let path = file_of(&name, [folder, Path::new("")]);
        let refused = |reason: String| {
            let path = path.display();
            mlua::Error::RuntimeError(format!("require: module `{name}` ({path}): {reason}"))
        };
        if name.contains(['/', '\\', '\0']) || name.split('.').any(str::is_empty) {
            return Err(refused("expected a name such as `helpers` or `lib.helpers`".to_owned()));
        }
        let size = std::fs::metadata(&path).map_err(|error| refused(error.to_string()))?.len();
        if size > MAX_MODULE_BYTES {
            return Err(refused(format!("{size} bytes, a module may have {MAX_MODULE_BYTES}")));
        }
        let text = std::fs::read(&path).map_err(|error| refused(error.to_string()))?;
        let chunk = prelude::parse(lua, &host, lua_text(&text), &format!("{name}.lua"))?;
        let mut value: Value = chunk.call(name.as_str())?;
        if value.is_nil() {
            value = Value::Boolean(true);
        }
        loaded.set(name.as_str(), &value)?;
        Ok(value)
    })?;
    lua.globals().set("require", require)
}

/// The file of a module: in the first of the folders that has it, else what it would be in the very first.
fn file_of(name: &str, folders: [&Path; 2]) -> PathBuf {
    let file = format!("{}.lua", name.replace('.', "/"));
    let [beside, below] = folders.map(|folder| folder.join(&file));
    if !beside.exists() && below.exists() { below } else { beside }
}
