//! What a script names of Lua's library although it is not there: said at the start, not by the first event that comes to it.

use std::path::Path;

use rf_script::{MissingName, missing_names};

/// What a script asks for without a call.
const VALUES: [&str; 5] =
    ["package.config", "package.cpath", "package.path", "package.preload", "package.searchers"];

/// A sentence for each such name, with file and line. `unsafe_scripts` is what the key of that name says, where the component
/// has it.
pub(crate) fn warnings(path: &Path, text: &[u8], unsafe_scripts: Option<bool>) -> Vec<String> {
    let missing = missing_names(text, unsafe_scripts.unwrap_or_default());
    let sentence = |missing: &MissingName| {
        let remedy = match (missing.is_unsafe, unsafe_scripts) {
            (false, _) => "no script can use it",
            (true, None) => "a script of an alert cannot use it",
            (true, Some(_)) => {
                "set \"unsafeScripts\": true if you trust this script as you would a program"
            }
        };
        let (path, line, name) = (path.display(), missing.line, &missing.name);
        let so = if VALUES.contains(&name.as_str()) { "it is nil" } else { "calling it fails" };
        format!("{path}:{line}: `{name}` is not available, {so}: {remedy}")
    };
    missing.iter().map(sentence).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::warnings;

    #[test]
    fn what_is_no_function_is_nil() {
        let script = b"local path = package.path\npackage.loadlib('a', 'b')";
        assert_eq!(
            warnings(Path::new("a.lua"), script, None),
            [
                "a.lua:1: `package.path` is not available, it is nil: no script can use it",
                "a.lua:2: `package.loadlib` is not available, calling it fails: no script can use it",
            ]
        );
    }
}
