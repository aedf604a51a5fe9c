//! The user's own patterns, from the config's map or from a folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::pattern::Program;
use super::stock;

/// There may be so many.
const MAX_PATTERNS: usize = 2_000;
/// Each may have so many bytes.
const MAX_PATTERN_BYTES: usize = 16 * 1024;
/// A folder may have so many files.
const MAX_FILES: usize = 256;
/// A file may have so many bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;
/// A name may have so many bytes.
const MAX_NAME_BYTES: usize = 128;

/// Patterns beside the stock ones; one with the name of a stock pattern takes its place, also inside other stock patterns.
///
/// Invariant: each of them compiles.
#[derive(Debug, Default)]
pub struct GrokPatterns {
    patterns: BTreeMap<String, Own>,
}

#[derive(Debug)]
struct Own {
    text: String,
    /// What an error about it begins with.
    place: String,
}

impl GrokPatterns {
    /// Patterns by name.
    ///
    /// # Errors
    /// Which pattern cannot be used, and why.
    pub fn from_map<N, P>(map: impl IntoIterator<Item = (N, P)>) -> Result<Self, String>
    where
        N: Into<String>,
        P: Into<String>,
    {
        let mut patterns = Self::default();
        for (name, text) in map {
            let name = name.into();
            patterns.add(format!("grok pattern `{name}`"), name, text.into())?;
        }
        patterns.checked()
    }

    /// Patterns from all files of a folder: lines `NAME pattern`, empty lines and lines that begin with `#`. Folders inside it and
    /// files whose name begins with a dot are left out.
    ///
    /// # Errors
    /// Which file and line cannot be used, and why.
    pub fn from_folder(folder: &Path) -> Result<Self, String> {
        let mut patterns = Self::default();
        for path in files(folder)? {
            let shown = path.display();
            let size = std::fs::metadata(&path).map_err(|error| format!("{shown}: {error}"))?.len();
            if size > MAX_FILE_BYTES {
                return Err(format!(
                    "{shown}: {size} bytes, a file of patterns may have {MAX_FILE_BYTES}"
                ));
            }
            let text =
                std::fs::read_to_string(&path).map_err(|error| format!("{shown}: {error}"))?;
            for (number, line) in text.lines().enumerate() {
                patterns.add_line(format!("{shown}:{}", number + 1), line)?;
            }
        }
        patterns.checked()
    }

    fn add_line(&mut self, place: String, line: &str) -> Result<(), String> {
        let line = line.trim_start_matches('\u{feff}').trim_start();
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let Some((name, text)) = line.split_once([' ', '\t']) else {
            return Err(format!("{place}: expected `NAME pattern`"));
        };
        self.add(place, name.to_owned(), text.trim_start().to_owned())
    }

    fn add(&mut self, place: String, name: String, text: String) -> Result<(), String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(fits) {
            return Err(format!(
                "{place}: the name of a pattern has 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-` or `.`"
            ));
        }
        if text.is_empty() || text.len() > MAX_PATTERN_BYTES {
            return Err(format!("{place}: a pattern has 1 to {MAX_PATTERN_BYTES} bytes"));
        }
        if self.patterns.len() >= MAX_PATTERNS {
            return Err(format!("{place}: more than {MAX_PATTERNS} patterns"));
        }
        if let Some(first) = self.patterns.get(&name) {
            return Err(format!("{place}: pattern `{name}` is also at {}", first.place));
        }
        self.patterns.insert(name, Own { text, place });
        Ok(())
    }

    /// Compiles each once all are known: they may refer to each other in any order.
    fn checked(self) -> Result<Self, String> {
        for own in self.patterns.values() {
            Program::compile(&self, &own.text)
                .map_err(|reason| format!("{}: {reason}", own.place))?;
        }
        Ok(self)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.patterns.get(name).map(|own| own.text.as_str())
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.patterns.keys().map(String::as_str)
    }

    pub(super) fn overrides_stock(&self) -> bool {
        self.names().any(|name| stock::get(name).is_some())
    }
}

/// In the order of their names, so that an error is the same on every system.
fn files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if hidden || !entry.path().is_file() {
            continue;
        }
        if files.len() >= MAX_FILES {
            return Err(format!("{}: more than {MAX_FILES} files", folder.display()));
        }
        files.push(entry.path());
    }
    files.sort();
    Ok(files)
}
