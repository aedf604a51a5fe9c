//! What `TransformBatch` takes and returns.

use bytes::Bytes;
use mlua::{Lua, LuaString, Table, Value};

use crate::effects;
use crate::outcome::KvChange;

/// What `TransformBatch` may steer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Appended to the sink's URL.
    pub path: String,
    /// Headers beside the sink's.
    pub headers: Vec<(String, String)>,
}

/// What `TransformBatch` made of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transformed {
    /// What is to be sent.
    pub messages: Vec<Bytes>,
    /// Where to, and with what.
    pub request: Request,
    /// What `kv_set` changed.
    pub kv: Vec<KvChange>,
}

/// The messages that `TransformBatch` returned.
pub(crate) fn read_messages(lua: &Lua, messages: Value) -> mlua::Result<Vec<Bytes>> {
    let Value::Table(messages) = messages else {
        let kind = messages.type_name();
        return Err(mlua::Error::RuntimeError(format!(
            "TransformBatch returned {kind} as its first value: expected a table of strings"
        )));
    };
    let mut read = Vec::with_capacity(messages.raw_len());
    for message in messages.sequence_values::<Value>() {
        read.push(effects::content(lua, &message?)?);
    }
    Ok(read)
}

/// The request as `TransformBatch` left it.
pub(crate) fn read_request(request: &Table) -> mlua::Result<Request> {
    let path: Option<LuaString> = request.get("path")?;
    let mut read = Request {
        path: path.map(|path| path.to_string_lossy()).unwrap_or_default(),
        headers: Vec::new(),
    };
    if let Some(headers) = request.get::<Option<Table>>("headers")? {
        for pair in headers.pairs::<LuaString, LuaString>() {
            let (name, value) = pair?;
            read.headers.push((name.to_string_lossy(), value.to_string_lossy()));
        }
    }
    read.headers.sort();
    Ok(read)
}
