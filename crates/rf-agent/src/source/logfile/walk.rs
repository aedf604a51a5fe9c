//! Which paths a pattern matches.
//!
//! Promises: a `**` looks into each folder once, however many links lead there. Where links lead in circles there are paths
//! without end, and their number grows with each circle beyond all that a machine could look at. What can be come to without
//! a link is: the path of a file does not depend on where a link leads today, and `exclude` may be about the link alone.

use std::collections::{HashSet, VecDeque};
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
    let parts = parts.unwrap_or_default();
    let mut walk = Walk::default();
    // With a slash at its end it means folders.
    if !text.ends_with('/') {
        walk.on(Path::new(if text.starts_with('/') { "/" } else { "" }), &parts);
    }
    while let Some((folder, parts)) = walk.links.pop_front() {
        walk.search(&folder, parts);
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
struct Walk<'a> {
    /// Device and inode of folders that a `**` was in, with the number of parts from that on.
    seen: HashSet<(u64, u64, usize)>,
    /// Links that a `**` has come to, with the parts from that on: they are followed last.
    links: VecDeque<(PathBuf, &'a [Part])>,
    walked: Walked,
}

impl<'a> Walk<'a> {
    /// Goes on from a folder, or what may be one, to what the parts match below it.
    fn on(&mut self, folder: &Path, parts: &'a [Part]) {
        let Some((part, rest)) = parts.split_first() else { return };
        match part {
            Part::Name(name) => {
                let path = folder.join(name);
                if !rest.is_empty() || path.symlink_metadata().is_ok() {
                    self.to(path, rest);
                }
            }
            Part::Pattern(pattern) => {
                let is_match = |name: &str| pattern.matches(name);
                for Entry { name, is_file } in self.entries(folder) {
                    if name.to_str().is_some_and(is_match) && (rest.is_empty() || !is_file) {
                        self.to(folder.join(name), rest);
                    }
                }
            }
            Part::Folders if folder.is_symlink() => {
                self.links.push_back((folder.to_owned(), parts));
            }
            Part::Folders => self.search(folder, parts),
        }
    }

    /// A path that all parts before the rest match.
    fn to(&mut self, path: PathBuf, rest: &'a [Part]) {
        if rest.is_empty() {
            self.walked.paths.push(path);
        } else {
            self.on(&path, rest);
        }
    }

    /// Looks into a folder and those in it, as the `**` says that the parts begin with.
    fn search(&mut self, folder: &Path, parts: &'a [Part]) {
        let Some((_, rest)) = parts.split_first() else { return };
        if !self.is_new(folder, parts.len()) {
            return;
        }
        self.on(folder, rest);
        for Entry { name, is_file } in self.entries(folder) {
            if !is_file {
                self.on(&folder.join(name), parts);
            }
        }
    }

    /// Whether it is a folder, and the first time that it is come to with so many parts left.
    fn is_new(&mut self, folder: &Path, left: usize) -> bool {
        match fs::metadata(readable(folder)) {
            Ok(meta) => meta.is_dir() && self.seen.insert((meta.dev(), meta.ino(), left)),
            Err(error) => {
                self.note_closed(folder, error);
                false
            }
        }
    }

    /// What is in a folder, in the order of names; nothing in what is no folder.
    fn entries(&mut self, folder: &Path) -> Vec<Entry> {
        let entries: io::Result<Vec<Entry>> = fs::read_dir(readable(folder))
            .and_then(|entries| entries.map(|entry| Ok(Entry::of(&entry?))).collect());
        let mut entries = entries.unwrap_or_else(|error| {
            self.note_closed(folder, error);
            Vec::new()
        });
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        entries
    }

    fn note_closed(&mut self, folder: &Path, error: io::Error) {
        // What is no folder, or gone by now, holds nothing.
        if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            self.walked.closed.push((readable(folder).to_owned(), error));
        }
    }
}

/// What a folder holds.
struct Entry {
    name: OsString,
    /// What is not may be a folder, or a link to one.
    is_file: bool,
}

impl Entry {
    fn of(entry: &fs::DirEntry) -> Self {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        Self { name: entry.file_name(), is_file }
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
        check(root.path(), "**/b.log", &["x/b.log"]);
        check(root.path(), "*/**/b.log", &["x/b.log"]);
        let other = tree();
        symlink(other.path(), root.path().join("a")).unwrap();
        check(root.path(), "**/b.log", &["x/b.log", "a/x/b.log"]);
    }

    #[test]
    fn a_link_to_a_folder_that_is_gone_is_passed_over() {
        let root = tree();
        symlink("none", root.path().join("gone")).unwrap();
        for pattern in ["**/b.log", "**/b.*"] {
            check(root.path(), pattern, &["x/b.log"]);
        }
        check(root.path(), "gone/**/*.log", &[]);
    }
}
