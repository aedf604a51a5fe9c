//! One Lua state with one script loaded.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Value, VmState};

use crate::batch::{Transformed, read_messages, read_request};
use crate::effects::Effects;
use crate::error::{CallError, LoadError, describe, place_now};
use crate::guard::{Guard, OUT_OF_TIME};
use crate::options::ScriptOptions;
use crate::outcome::{End, KvChange, Outcome};
use crate::{effects, functions, grok, json, modules, prelude, strings};

/// Instructions between two looks at the clock: some microseconds.
const HOOK_INSTRUCTIONS: u32 = 1_000;
/// A script's file may be so large.
const MAX_SCRIPT_BYTES: u64 = 4 * 1024 * 1024;
/// What Lua says when the VM's memory is at its limit.
pub(crate) const OUT_OF_MEMORY: &str = "not enough memory";
/// `init` and the script's top level may take so many times the time of a call: they compile patterns and fill tables.
const LOAD_FACTOR: u32 = 20;

/// What the functions of this crate share with their VM.
#[derive(Clone)]
pub(crate) struct Host {
    /// The time limit of the call under way.
    pub(crate) guard: Guard,
    /// What the script may do.
    pub(crate) options: Arc<ScriptOptions>,
    /// What the call under way has emitted, logged and remembered.
    pub(crate) effects: Rc<RefCell<Effects>>,
}

/// See [`Vm::is_whole`].
const ESSENTIAL: [&str; 8] =
    ["json_decode", "json_encode", "pairs", "ipairs", "type", "tostring", "tonumber", "pcall"];

/// A Lua state with a script, its libraries and its limits. Lives on one thread.
pub struct Vm {
    lua: Lua,
    host: Host,
    process: Option<Function>,
    timer: Option<Function>,
    transform: Option<Function>,
    extract_status: Option<Function>,
    emit: Function,
    init_changes: Vec<KvChange>,
    /// See [`Self::is_spent`].
    spent: Cell<bool>,
}

impl Vm {
    /// Reads and runs the script, then its `init`. `kv` is what `kv_get` answers at first.
    ///
    /// # Errors
    /// [`LoadError`], with file and line.
    pub fn load(
        options: Arc<ScriptOptions>,
        kv: BTreeMap<String, Vec<u8>>,
    ) -> Result<Self, LoadError> {
        let text = read_script(&options.path)?;
        Self::from_text(options, kv, &text)
    }

    /// As [`Self::load`], with the script's text at hand.
    ///
    /// # Errors
    /// [`LoadError::Script`].
    pub fn from_text(
        options: Arc<ScriptOptions>,
        kv: BTreeMap<String, Vec<u8>>,
        text: &[u8],
    ) -> Result<Self, LoadError> {
        let name = file_name(&options);
        let script = |error: mlua::Error| LoadError::Script(describe(&error));
        let mut vm = Self::empty(options, kv).map_err(script)?;
        vm.arm(LOAD_FACTOR);
        let chunk = prelude::parse(&vm.lua, &vm.host, lua_text(text), &name).map_err(script)?;
        chunk.call::<()>(()).map_err(script)?;
        if let Some(init) = hook(&vm.lua, "init").map_err(script)? {
            init.call::<()>(()).map_err(script)?;
        }
        if vm.host.guard.expired() {
            vm.host.guard.check().map_err(script)?;
        }
        vm.init_changes = vm.host.effects.borrow_mut().take_changes();
        vm.process = hook(&vm.lua, "Process").map_err(script)?;
        vm.timer = hook(&vm.lua, "TimerHandler").map_err(script)?;
        vm.transform = hook(&vm.lua, "TransformBatch").map_err(script)?;
        vm.extract_status = hook(&vm.lua, "extractStatus").map_err(script)?;
        Ok(vm)
    }

    fn empty(options: Arc<ScriptOptions>, kv: BTreeMap<String, Vec<u8>>) -> mlua::Result<Self> {
        let mut libraries = StdLib::COROUTINE | StdLib::TABLE | StdLib::STRING | StdLib::UTF8;
        libraries |= StdLib::MATH | StdLib::OS;
        if options.unsafe_scripts {
            libraries |= StdLib::IO;
        }
        let lua = Lua::new_with(libraries, LuaOptions::new().catch_rust_panics(true))?;
        lua.set_memory_limit(options.limits.memory_bytes)?;
        let effects = Rc::new(RefCell::new(Effects::new(kv)));
        let host = Host { guard: Guard::default(), options, effects };
        host.guard.arm(host.options.limits.call_time * LOAD_FACTOR);
        let guard = host.guard.clone();
        let triggers = HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS);
        lua.set_global_hook(triggers, move |lua, _| {
            guard.check_at(|| place_now(lua)).map(|()| VmState::Continue)
        })?;
        json::install(&lua, &host)?;
        strings::install(&lua, &host)?;
        grok::install(&lua, &host)?;
        functions::install(&lua, &host)?;
        modules::install(&lua, &host)?;
        let emit = effects::install(&lua, &host)?;
        prelude::install(&lua, &host)?;
        Ok(Self {
            lua,
            host,
            process: None,
            timer: None,
            transform: None,
            extract_status: None,
            emit,
            init_changes: Vec::new(),
            spent: Cell::new(false),
        })
    }

    fn arm(&self, factor: u32) {
        self.host.guard.arm(self.host.options.limits.call_time * factor);
    }

    /// Whether the script has `Process`.
    pub fn has_process(&self) -> bool {
        self.process.is_some()
    }

    /// Whether the script has `TimerHandler`.
    pub fn has_timer(&self) -> bool {
        self.timer.is_some()
    }

    /// Whether the script has `TransformBatch`.
    pub fn has_transform_batch(&self) -> bool {
        self.transform.is_some()
    }

    /// Whether the script has `extractStatus`.
    pub fn has_extract_status(&self) -> bool {
        self.extract_status.is_some()
    }

    /// Whether the limit of time or memory has cut a call short. What ran then may have been left half done: a coroutine that
    /// the hook has ended keeps its hook off, and nothing could stop it again. So the VM must be replaced; also where the
    /// script has caught that there is no memory and then given its event up in its own words, for the memory may be full of
    /// its variables, and no later event would fare better. After any other error Lua has unwound what the call was doing,
    /// and the script goes on with its variables.
    pub fn is_spent(&self) -> bool {
        self.spent.get()
    }

    /// The name of a sink that something was emitted to, by [`crate::Emit::sink`].
    pub fn sink_name(&self, index: usize) -> String {
        let effects = self.host.effects.borrow();
        let mut names = self.host.options.sinks.iter().chain(&effects.sinks);
        names.nth(index).cloned().unwrap_or_default()
    }

    /// Memory in use, bytes.
    pub fn used_memory(&self) -> usize {
        self.lua.used_memory()
    }

    /// Calls `Process` with an event.
    pub fn process(&self, content: &[u8]) -> Outcome {
        let Some(process) = &self.process else {
            return Outcome::failed("the script has no function Process".to_owned());
        };
        self.call(|lua| process.call::<()>((lua.create_string(content)?, &self.emit)))
    }

    /// Calls `TimerHandler`; nothing happens where the script has none.
    pub fn timer(&self) -> Outcome {
        self.call(|_| self.timer.as_ref().map_or(Ok(()), |timer| timer.call::<()>(&self.emit)))
    }

    fn call(&self, run: impl FnOnce(&Lua) -> mlua::Result<()>) -> Outcome {
        match self.guarded(1, run) {
            Ok(()) => {
                let outcome = self.host.effects.borrow_mut().finish();
                if outcome.end != End::Done && self.host.guard.was_full() {
                    self.spent.set(true);
                }
                outcome
            }
            Err(reason) => Outcome::failed(reason),
        }
    }

    /// Runs one call, which may last `factor` times the time of a call. What it remembered is forgotten when it fails.
    fn guarded<T>(
        &self,
        factor: u32,
        run: impl FnOnce(&Lua) -> mlua::Result<T>,
    ) -> Result<T, String> {
        self.host.effects.borrow_mut().begin();
        self.arm(factor);
        let result = run(&self.lua);
        let result = match result {
            // It may say more: which line, which file could not be parsed.
            Err(error) if describe(&error).contains(OUT_OF_TIME) => Err(error),
            // A script that swallowed the error of its time limit was still cut short.
            result if self.host.guard.expired() => self.host.guard.check().and(result),
            result => result,
        };
        result.map_err(|error| {
            self.host.effects.borrow_mut().forget();
            self.reason(&error)
        })
    }

    /// Why a call failed; notes whether the VM can go on after that. A limit names the script's file at least: Lua does not
    /// say where it was when the memory was full.
    fn reason(&self, error: &mlua::Error) -> String {
        let reason = describe(error);
        let guard = &self.host.guard;
        // By its text where nobody has caught it.
        let is_full = guard.was_full() || reason.contains(OUT_OF_MEMORY);
        if guard.has_expired() || is_full || !self.is_whole() {
            self.spent.set(true);
        }
        let file = file_name(&self.host.options);
        let is_limit = is_full || guard.has_expired();
        let has_place = reason.contains(".lua:") || reason.contains(&format!("{file}:"));
        if is_limit && !has_place { format!("{file}: {reason}") } else { reason }
    }

    /// Whether the functions are still there that hardly a script does without: one that has torn its globals down would
    /// fail over every other event, too.
    fn is_whole(&self) -> bool {
        let globals = self.lua.globals();
        let is_gone = |name| matches!(globals.raw_get(name), Ok(Value::Nil));
        !ESSENTIAL.into_iter().any(is_gone)
    }

    /// Calls `TransformBatch` with the contents of a batch; what is to be sent instead, and where to.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn transform_batch(&self, messages: &[Bytes]) -> Result<Transformed, CallError> {
        let Some(transform) = &self.transform else {
            return Ok(Transformed { messages: messages.to_vec(), ..Transformed::default() });
        };
        let transformed = self.guarded(LOAD_FACTOR, |lua| {
            let table = lua.create_table_with_capacity(messages.len(), 0)?;
            for message in messages {
                table.raw_push(lua.create_string(message)?)?;
            }
            let request = lua.create_table()?;
            request.raw_set("path", "")?;
            request.raw_set("headers", lua.create_table()?)?;
            let (messages, changed) = transform.call::<(Value, Value)>((table, &request))?;
            let changed = if let Value::Table(changed) = changed { changed } else { request };
            Ok((read_messages(lua, messages)?, read_request(lua, &changed)?))
        });
        let (messages, request) = transformed.map_err(CallError)?;
        let kv = self.host.effects.borrow_mut().take_changes();
        Ok(Transformed { messages, request, kv })
    }

    /// What `kv_set` remembered so far, to make another VM with.
    pub fn kv(&self) -> BTreeMap<String, Vec<u8>> {
        self.host.effects.borrow().kv().clone()
    }

    /// What `init` remembered, once.
    pub fn take_init_changes(&mut self) -> Vec<KvChange> {
        std::mem::take(&mut self.init_changes)
    }

    /// Takes back what a call remembered, unless the key has been changed again.
    pub fn undo(&self, change: KvChange) {
        self.host.effects.borrow_mut().undo(change);
    }

    /// Whether what a call remembered is still what is remembered.
    pub fn remembers(&self, change: &KvChange) -> bool {
        self.host.effects.borrow().kv_get(&change.key) == change.value.as_deref()
    }

    /// What is remembered of a key.
    pub fn remembered(&self, key: &str) -> Option<Vec<u8>> {
        self.host.effects.borrow().kv_get(key).map(<[u8]>::to_vec)
    }

    /// Calls `extractStatus` with the JSON text of a body; its answer, where nil is an empty text.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn extract_status(&self, json: &[u8]) -> Result<String, CallError> {
        let Some(extract) = &self.extract_status else {
            return Err(CallError("the script has no function extractStatus".to_owned()));
        };
        let status = self.guarded(1, |lua| {
            let status = extract.call::<Value>(lua.create_string(json)?)?;
            match lua.coerce_string(status.clone())? {
                Some(text) => Ok(text.to_string_lossy()),
                None if status.is_nil() => Ok(String::new()),
                None => Err(mlua::Error::RuntimeError(format!(
                    "extractStatus returned {}: expected a text",
                    status.type_name()
                ))),
            }
        });
        status.map_err(CallError)
    }
}

/// A script's file as errors name it.
fn file_name(options: &ScriptOptions) -> String {
    options.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn hook(lua: &Lua, name: &str) -> mlua::Result<Option<Function>> {
    match lua.globals().get::<Value>(name)? {
        Value::Nil => Ok(None),
        Value::Function(function) => Ok(Some(function)),
        other => Err(mlua::Error::RuntimeError(format!(
            "the global `{name}` is of type {}: expected a function, which would be called",
            other.type_name()
        ))),
    }
}

/// A script as Lua's parser takes it: without a byte order mark, and without a first line for a shell (`#!/usr/bin/env lua`),
/// which Lua and the original pass over in files. The end of that line stays, so that all others keep their numbers.
pub(crate) fn lua_text(text: &[u8]) -> &[u8] {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    if !text.starts_with(b"#") {
        return text;
    }
    let end = memchr::memchr(b'\n', text).unwrap_or(text.len());
    text.get(end..).unwrap_or_default()
}

/// Reads a script's file.
///
/// # Errors
/// [`LoadError::File`]; also for one that is larger than a script may be.
pub fn read_script(path: &Path) -> Result<Vec<u8>, LoadError> {
    let file = |reason: String| LoadError::File { path: path.display().to_string(), reason };
    let size = std::fs::metadata(path).map_err(|error| file(error.to_string()))?.len();
    if size > MAX_SCRIPT_BYTES {
        return Err(file(format!("{size} bytes, a script may have {MAX_SCRIPT_BYTES}")));
    }
    std::fs::read(path).map_err(|error| file(error.to_string()))
}
