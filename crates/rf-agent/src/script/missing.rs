//! What a script names of Lua's library although it is not there: said at the start, not by the first event that comes to it.

use std::path::Path;

use rf_script::{MissingName, missing_names};

/// A sentence for each such name, with file and line. `unsafe_scripts` is what the key of that name says, where the component
/// has it.
pub(crate) fn warnings(path: &Path, text: &[u8], unsafe_scripts: Option<bool>) -> Vec<String> {
    let missing = missing_names(text, unsafe_scripts.unwrap_or_default());
    let sentence = |missing: &MissingName| {
        let remedy = match (missing.is_unsafe, unsafe_scripts) {
            (false, _) => "no script has it",
            (true, None) => "a script of an alert cannot have it",
            (true, Some(_)) => {
                "set \"unsafeScripts\": true if you trust this script as you would a program"
            }
        };
        let (path, line, name) = (path.display(), missing.line, &missing.name);
        format!("{path}:{line}: `{name}` is not there, a call that comes to it fails: {remedy}")
    };
    missing.iter().map(sentence).collect()
}
