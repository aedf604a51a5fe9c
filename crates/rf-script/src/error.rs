//! Errors of scripts, as a person reads them: with the script's file and line, without a traceback.

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
            if cause.contains(".lua:") { cause } else { format!("{place}{cause}") }
        }
        mlua::Error::RuntimeError(text) => text.clone(),
        mlua::Error::SyntaxError { message, .. } => message.clone(),
        other => other.to_string(),
    };
    let end = text.find("\nstack traceback:").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).trim_end().to_owned()
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
