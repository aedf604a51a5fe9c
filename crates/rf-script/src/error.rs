//! Errors of scripts, as a person reads them: with the script's file and line, without a traceback.

use mlua::Lua;
use mlua::debug::Debug as Frame;

/// What stands between an error and the calls that led to it.
const TRACEBACK: &str = "\nstack traceback:";
/// Calls of functions of ours that may stand above the script's own; C has no room for more of them.
const MAX_FRAMES: usize = 200;
/// Types of which Lua writes name and address.
const WITH_ADDRESS: [&str; 4] = ["table", "function", "userdata", "thread"];

/// Why a script cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file.
    #[error("{path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The script; the text has file and line.
    #[error("{0}")]
    Script(String),
}

/// Why a call other than of an event failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct CallError(pub String);

/// An error for a person: the script's file, line and message, without the traceback.
pub(crate) fn describe(error: &mlua::Error) -> String {
    let text = match error {
        mlua::Error::CallbackError { traceback, cause } => {
            let place = place_in(traceback);
            let cause = describe(cause);
            let file = place.split(':').next().filter(|file| !file.is_empty());
            let is_there = file.is_none_or(|file| cause.starts_with(&format!("{file}:")));
            if is_there || cause.contains(".lua:") { cause } else { place + &cause }
        }
        mlua::Error::RuntimeError(text) => raised(text),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let end = text.find(TRACEBACK).unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).trim_end().to_owned()
}

/// What was raised. Lua makes a text of a value that is none, without a place; of a table or function it says nothing but where
/// in memory it lies.
fn raised(text: &str) -> String {
    let Some((value, traceback)) = text.split_once(TRACEBACK) else { return text.to_owned() };
    if let Some(kind) = kind_of(value) {
        let place = place_in(traceback);
        return format!("{place}an error value that is no text was raised: {kind}");
    }
    if matches!(value, "nil" | "true" | "false") || value.parse::<f64>().is_ok() {
        return place_in(traceback) + value;
    }
    value.to_owned()
}

/// The type of the value that Lua has made such a text of; `None`: the text says something.
fn kind_of(value: &str) -> Option<&str> {
    let (kind, address) = value.split_once(": ")?;
    (WITH_ADDRESS.contains(&kind) && is_address(address)).then_some(kind)
}

/// Where Lua says that a value lies.
fn is_address(text: &str) -> bool {
    let digits = text.strip_prefix("0x");
    text == "(nil)" || digits.is_some_and(|it| it.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Where the script that runs is now, as `name.lua:12: `; nothing where no code of a file runs.
pub(crate) fn place_now(lua: &Lua) -> String {
    let frames = (0..MAX_FRAMES).map_while(|level| lua.inspect_stack(level, place_of));
    frames.flatten().next().unwrap_or_default()
}

fn place_of(frame: &Frame<'_>) -> Option<String> {
    let source = frame.source();
    let name = source.short_src.as_deref().filter(|name| !name.starts_with('['))?;
    let line = frame.current_line()?;
    Some(format!("{name}:{line}: "))
}

/// The first place in the script that a traceback names, as `name.lua:12: `.
fn place_in(traceback: &str) -> String {
    let mut lines = traceback.lines().map(str::trim);
    let place = lines.find_map(|line| {
        let (place, _) = line.split_once(": in ")?;
        place.rsplit_once(':')?.1.parse::<u32>().ok()?;
        (!place.starts_with('[')).then(|| format!("{place}: "))
    });
    place.unwrap_or_default()
}
