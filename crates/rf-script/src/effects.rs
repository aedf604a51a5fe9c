//! What a call of a script does: events emitted, values remembered, lines logged, verdicts.

use std::collections::BTreeMap;

use bytes::Bytes;
use mlua::{Function, Lua, LuaString, MultiValue, Value};

use crate::json;
use crate::outcome::{Emit, End, KvChange, Outcome};
use crate::vm::Host;

/// A reason given by `drop` or `dead` is cut at so many bytes.
const MAX_REASON_BYTES: usize = 1024;
/// Keys that a script may remember.
pub(crate) const MAX_KV_KEYS: usize = 1000;
/// Longest value that a script may remember.
pub(crate) const MAX_KV_BYTES: usize = 64 * 1024;
/// Longest key.
pub(crate) const MAX_KV_KEY_BYTES: usize = 256;

/// Names beside the known ones that `emit` takes where any is taken.
const MAX_MET_SINKS: usize = 1000;

/// What the call under way has done, and what the script remembers.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Names that the script has emitted to beside the known ones, where it may; their indexes go on behind those.
    pub(crate) sinks: Vec<String>,
    emits: Vec<Emit>,
    emitted_bytes: usize,
    verdict: Option<End>,
    log_lines: usize,
    /// Whether what is emitted has somewhere to go: `init` and the script's top level have no event.
    in_call: bool,
    kv: BTreeMap<String, Vec<u8>>,
    /// What the call changed, with what was there before.
    changed: BTreeMap<String, Option<Vec<u8>>>,
}

impl Effects {
    pub(crate) fn new(kv: BTreeMap<String, Vec<u8>>) -> Self {
        Self { kv, ..Self::default() }
    }

    pub(crate) fn begin(&mut self) {
        self.emits.clear();
        self.emitted_bytes = 0;
        self.verdict = None;
        self.log_lines = 0;
        self.in_call = true;
        self.changed.clear();
    }

    /// The outcome of a call that returned.
    pub(crate) fn finish(&mut self) -> Outcome {
        let emits = std::mem::take(&mut self.emits);
        let kv = self.take_changes();
        match self.verdict.take() {
            None => Outcome { emits, kv, end: End::Done },
            Some(end) => Outcome { emits: Vec::new(), kv, end },
        }
    }

    /// What was remembered since the call began.
    pub(crate) fn take_changes(&mut self) -> Vec<KvChange> {
        let changed = std::mem::take(&mut self.changed);
        let change = |(key, before): (String, _)| {
            let value = self.kv.get(&key).cloned();
            KvChange { key, value, before }
        };
        changed.into_iter().map(change).collect()
    }

    /// Takes one change back, unless the key has been changed again.
    pub(crate) fn undo(&mut self, change: KvChange) {
        if self.kv.get(&change.key) != change.value.as_ref() {
            return;
        }
        match change.before {
            Some(before) => self.kv.insert(change.key, before),
            None => self.kv.remove(&change.key),
        };
    }

    /// All that is remembered.
    pub(crate) fn kv(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.kv
    }

    /// Undoes what a failed call remembered.
    pub(crate) fn forget(&mut self) {
        self.emits.clear();
        for (key, before) in std::mem::take(&mut self.changed) {
            match before {
                Some(value) => self.kv.insert(key, value),
                None => self.kv.remove(&key),
            };
        }
    }

    pub(crate) fn kv_get(&self, key: &str) -> Option<&[u8]> {
        self.kv.get(key).map(Vec::as_slice)
    }

    /// Remembers a value, or forgets the key.
    ///
    /// # Errors
    /// Past the bounds of keys and values, in words.
    pub(crate) fn kv_set(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), String> {
        if key.len() > MAX_KV_KEY_BYTES {
            return Err(format!("kv_set: a key may have {MAX_KV_KEY_BYTES} bytes"));
        }
        if value.is_some_and(|value| value.len() > MAX_KV_BYTES) {
            return Err(format!("kv_set: a value may have {MAX_KV_BYTES} bytes"));
        }
        if value.is_some() && !self.kv.contains_key(key) && self.kv.len() >= MAX_KV_KEYS {
            return Err(format!("kv_set: a script may remember {MAX_KV_KEYS} keys"));
        }
        let before = match value {
            Some(value) => self.kv.insert(key.to_owned(), value.to_vec()),
            None => self.kv.remove(key),
        };
        self.changed.entry(key.to_owned()).or_insert(before);
        Ok(())
    }

    fn emit(&mut self, host: &Host, sink: usize, content: Bytes) -> mlua::Result<()> {
        if !self.in_call {
            return Err(mlua::Error::RuntimeError(
                "emit: no events can be emitted while the script is loaded".to_owned(),
            ));
        }
        let limits = host.options.limits;
        self.emitted_bytes += content.len();
        if self.emits.len() >= limits.emitted_events {
            return Err(mlua::Error::RuntimeError(format!(
                "emit: more than {} events for one input",
                limits.emitted_events
            )));
        }
        if self.emitted_bytes > limits.emitted_bytes {
            return Err(mlua::Error::RuntimeError(format!(
                "emit: more than {} bytes for one input",
                limits.emitted_bytes
            )));
        }
        self.emits.push(Emit { sink, content });
        Ok(())
    }

    /// The index of a sink, which is a new one where any name is taken.
    fn sink_index(&mut self, host: &Host, name: &[u8]) -> Option<usize> {
        let known = &host.options.sinks;
        let mut names = known.iter().chain(&self.sinks);
        let found = names.position(|known| known.as_bytes() == name);
        if found.is_some() || !host.options.any_sink || self.sinks.len() >= MAX_MET_SINKS {
            return found;
        }
        self.sinks.push(String::from_utf8_lossy(name).into_owned());
        Some(known.len() + self.sinks.len() - 1)
    }

    fn may_log(&mut self, limit: usize) -> bool {
        self.log_lines += 1;
        if self.log_lines == limit + 1 {
            tracing::warn!(
                limit,
                "script reached its limit of log lines for one call, further ones are not written"
            );
        }
        self.log_lines <= limit
    }
}

/// What an emitted value is as bytes: a string as it is, a table as JSON.
pub(crate) fn content(lua: &Lua, value: &Value) -> mlua::Result<Bytes> {
    match value {
        Value::String(text) => Ok(Bytes::copy_from_slice(&text.as_bytes())),
        Value::Table(_) => Ok(json::encode(lua, value)?.into()),
        Value::Integer(_) | Value::Number(_) | Value::Boolean(_) => {
            Ok(text_of(lua, &MultiValue::from_iter([value.clone()]))?.into_bytes().into())
        }
        other => Err(mlua::Error::RuntimeError(format!(
            "emit: the content is {}: expected a string or a table",
            other.type_name()
        ))),
    }
}

/// Installs `emit`, the verdicts and the log functions; answers `emit`, which the hooks are also given.
pub(crate) fn install(lua: &Lua, host: &Host) -> mlua::Result<Function> {
    let globals = lua.globals();
    let emit = emit_function(lua, host)?;
    globals.set("emit", &emit)?;
    globals.set("drop", verdict_function(lua, host, End::Dropped)?)?;
    globals.set("dead", verdict_function(lua, host, End::Dead)?)?;
    for level in ["trace", "debug", "info", "warn", "error"] {
        globals.set(level, log_function(lua, host, level)?)?;
    }
    Ok(emit)
}

fn emit_function(lua: &Lua, host: &Host) -> mlua::Result<Function> {
    let host = host.clone();
    lua.create_function(move |lua, (sink, value): (LuaString, Value)| {
        let index = host.effects.borrow_mut().sink_index(&host, &sink.as_bytes());
        let Some(index) = index else {
            return Err(mlua::Error::RuntimeError(format!(
                "emit: no sink has the name `{}`; known: {}",
                sink.to_string_lossy(),
                host.options.sinks.join(", ")
            )));
        };
        let content = content(lua, &value)?;
        host.effects.borrow_mut().emit(&host, index, content)
    })
}

fn verdict_function(lua: &Lua, host: &Host, end: fn(String) -> End) -> mlua::Result<Function> {
    let host = host.clone();
    lua.create_function(move |lua, reason: MultiValue| {
        let mut reason = text_of(lua, &reason)?;
        reason.truncate(reason.floor_char_boundary(MAX_REASON_BYTES));
        if reason.is_empty() {
            "no reason given".clone_into(&mut reason);
        }
        host.effects.borrow_mut().verdict = Some(end(reason));
        Ok(())
    })
}

fn log_function(lua: &Lua, host: &Host, level: &'static str) -> mlua::Result<Function> {
    let host = host.clone();
    lua.create_function(move |lua, values: MultiValue| {
        let text = text_of(lua, &values)?;
        if !host.effects.borrow_mut().may_log(host.options.limits.log_lines) {
            return Ok(());
        }
        let script = host.options.path.display();
        match level {
            "trace" => tracing::trace!(%script, "{text}"),
            "debug" => tracing::debug!(%script, "{text}"),
            "info" => tracing::info!(%script, "{text}"),
            "warn" => tracing::warn!(%script, "{text}"),
            _ => tracing::error!(%script, "{text}"),
        }
        Ok(())
    })
}

/// Values as text for a person or for an event, with a blank between two of them.
pub(crate) fn text_of(lua: &Lua, values: &MultiValue) -> mlua::Result<String> {
    let mut text = String::new();
    for value in values {
        if !text.is_empty() {
            text.push(' ');
        }
        let piece = match value {
            Value::String(piece) => Some(piece.clone()),
            Value::Nil => Some(lua.create_string("nil")?),
            Value::Boolean(yes) => Some(lua.create_string(yes.to_string())?),
            other => lua.coerce_string(other.clone())?,
        };
        match piece {
            Some(piece) => text.push_str(&piece.to_string_lossy()),
            None => text.push_str(value.type_name()),
        }
    }
    Ok(text)
}
