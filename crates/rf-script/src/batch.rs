//! What `TransformBatch` takes and returns.

use bytes::Bytes;
use mlua::{Lua, Table, Value};

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
    // As the original, which takes what there is: also behind a hole, and of a table that is no list.
    let (mut listed, mut named) = (Vec::new(), Vec::new());
    for pair in messages.pairs::<Value, Value>() {
        match pair? {
            // A place that a script has emptied.
            (_, Value::Boolean(_)) => {}
            (Value::Integer(at), message) => listed.push((at, message)),
            (key, message) => {
                let key = text(lua, key, "the key of a message")?;
                // How many there are, as `table.pack` says.
                if key != "n" || !message.is_integer() {
                    named.push((key, message));
                }
            }
        }
    }
    listed.sort_by_key(|(at, _)| *at);
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    let messages = listed.into_iter().map(|(_, message)| message);
    let messages = messages.chain(named.into_iter().map(|(_, message)| message));
    messages.map(|message| effects::content(lua, &message)).collect()
}

/// The request as `TransformBatch` left it.
pub(crate) fn read_request(lua: &Lua, request: &Table) -> mlua::Result<Request> {
    let mut read = Request::default();
    let path = request.get::<Value>("path")?;
    if !path.is_nil() {
        read.path = text(lua, path, "request.path")?;
    }
    let headers = match request.get::<Value>("headers")? {
        Value::Nil => return Ok(read),
        Value::Table(headers) => headers,
        other => return Err(unexpected("request.headers", "a table", &other)),
    };
    for pair in headers.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let name = text(lua, name, "request.headers: a name")?;
        let value = text(lua, value, &format!("request.headers: the value of `{name}`"))?;
        read.headers.push((name, value));
    }
    read.headers.sort();
    Ok(read)
}

/// A text, or a number, which Lua takes for one; the error calls it `what`.
fn text(lua: &Lua, value: Value, what: &str) -> mlua::Result<String> {
    let text = lua.coerce_string(value.clone())?;
    let text = text.ok_or_else(|| unexpected(what, "a text", &value))?;
    Ok(text.to_string_lossy())
}

fn unexpected(what: &str, expected: &str, value: &Value) -> mlua::Error {
    let kind = value.type_name();
    mlua::Error::RuntimeError(format!("{what} is of type {kind}: expected {expected}"))
}
