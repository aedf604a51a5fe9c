//! Which paths a pattern matches.
//!
//! Promise: a `**` looks into each folder once, however many links lead there. Where links lead in circles there are paths
//! without end, and their number grows with each circle beyond all that a machine could look at.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use glob::{Pattern, PatternError};

/// What a pattern came to.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// What it matches; nearly all of them files.
    pub(super) paths: Vec<PathBuf>,
    /// Folders that cannot be read.
    pub(super) closed: Vec<(PathBuf, io::Error)>,
}

/// Looks at the file system as the pattern says.
pub(super) fn walk(pattern: &Pattern) -> Walked {
    let text = pattern.as_str();
    let parts = text.split('/').filter(|part| !matches!(*part, "" | "."));
    let parts: Result<Vec<Part>, PatternError> = parts.map(Part::of).collect();
    let mut walk = Walk::default();
    // With a slash at its end it means folders.
    if let Ok(parts) = parts
        && !text.ends_with('/')
    {
        walk.on(Path::new(if text.starts_with('/') { "/" } else { "" }), &parts);
    }
    walk.walked
}

/// A part of a pattern, between its slashes.
enum Part {
    /// It stands for itself.
    Name(String),
    Pattern(Pattern),
    /// `**`: any number of folders, one in another.
    Folders,
}

impl Part {
    fn of(text: &str) -> Result<Self, PatternError> {
        Ok(match text {
            "**" => Self::Folders,
            name if Pattern::escape(name) == name => Self::Name(name.to_owned()),
            pattern => Self::Pattern(Pattern::new(pattern)?),
        })
    }
}

#[derive(Default)]
struct Walk {
    /// Device and inode of folders that a `**` was in, with the number of parts from that on.
    seen: HashSet<(u64, u64, usize)>,
    walked: Walked,
}

impl Walk {
    /// Goes on from a folder, or what may be one, to what the parts match below it.
    fn on(&mut self, folder: &Path, parts: &[Part]) {
        let Some((part, rest)) = parts.split_first() else { return };
        match part {
            Part::Name(name) => {
                let path = folder.join(name);
                if !rest.is_empty() || path.exists() {
                    self.to(path, rest);
                }
            }
            Part::Pattern(pattern) => {
                let is_match =
                    |name: &OsString| name.to_str().is_some_and(|name| pattern.matches(name));
                for name in self.names(folder).into_iter().filter(is_match) {
                    self.to(folder.join(name), rest);
                }
            }
            Part::Folders if self.is_new(folder, parts.len()) => {
                self.on(folder, rest);
                for name in self.names(folder) {
                    self.on(&folder.join(name), parts);
                }
            }
            Part::Folders => {}
        }
    }

    /// A path that all parts before the rest match.
    fn to(&mut self, path: PathBuf, rest: &[Part]) {
        if rest.is_empty() {
            self.walked.paths.push(path);
        } else {
            self.on(&path, rest);
        }
    }

    /// Whether it is a folder, and the first time that it is come to with so many parts left.
    fn is_new(&mut self, folder: &Path, left: usize) -> bool {
        fs::metadata(readable(folder))
            .is_ok_and(|meta| meta.is_dir() && self.seen.insert((meta.dev(), meta.ino(), left)))
    }

    /// The names in a folder, in order; none in what is no folder.
    fn names(&mut self, folder: &Path) -> Vec<OsString> {
        let folder = readable(folder);
        if !folder.is_dir() {
            return Vec::new();
        }
        let names: io::Result<Vec<OsString>> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect());
        let mut names = names.unwrap_or_else(|error| {
            self.walked.closed.push((folder.to_owned(), error));
            Vec::new()
        });
        names.sort_unstable();
        names
    }
}

/// The working directory is written as nothing, so that paths below it are.
fn readable(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The files that a pattern finds in `root`, which has these.
    fn check(root: &Path, pattern: &str, expected: &[&str]) {
        let whole = format!("{}/{pattern}", root.display());
        let walked = walk(&Pattern::new(&whole).unwrap());
        let found: Vec<&Path> =
            walked.paths.iter().map(|path| path.strip_prefix(root).unwrap()).collect();
        assert_eq!(found, expected.iter().map(Path::new).collect::<Vec<_>>(), "{pattern}");
        assert!(walked.closed.is_empty(), "{pattern}: {:?}", walked.closed);
    }

    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in ["a.log", "x/b.log", "x/y/.c.log", "x/y/c.txt"] {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn each_part_is_matched_by_itself() {
        let root = tree();
        let check = |pattern: &str, expected: &[&str]| check(root.path(), pattern, expected);
        check("*.log", &["a.log"]);
        check("*", &["a.log", "x"]);
        check("*/*.log", &["x/b.log"]);
        check("[xy]/./b.lo?", &["x/b.log"]);
        check("*/b.log", &["x/b.log"]);
        check("*/none.log", &[]);
        check("a.log/*", &[]);
        check("x//y/../b.*", &["x/y/../b.log"]);
        check("*/", &[]);
        check("**/*.log", &["a.log", "x/b.log", "x/y/.c.log"]);
        check("x/**/*c.*", &["x/y/.c.log", "x/y/c.txt"]);
        check("**/y/**/c.txt", &["x/y/c.txt"]);
        check("**/**/b.log", &["x/b.log"]);
        check("**", &[]);
        check("none/**/*.log", &[]);
    }

    #[test]
    fn links_in_circles_come_to_an_end() {
        let root = tree();
        for number in 0..5 {
            symlink(root.path(), root.path().join(format!("x/y/link{number}"))).unwrap();
            symlink("..", root.path().join(format!("x/up{number}"))).unwrap();
        }
        check(root.path(), "**/*.log", &["a.log", "x/b.log", "x/y/.c.log"]);
        check(root.path(), "**/x/**/*.txt", &["x/y/c.txt"]);
    }

    #[test]
    fn a_folder_behind_a_link_is_looked_into() {
        let root = tree();
        symlink("x", root.path().join("current")).unwrap();
        check(root.path(), "current/*.log", &["current/b.log"]);
        check(root.path(), "*/b.log", &["current/b.log", "x/b.log"]);
        check(root.path(), "**/b.log", &["current/b.log"]);
    }
}
