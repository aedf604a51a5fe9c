//! Which files there are: those that are configured, and those that rotations have made of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::os::unix::fs::DirEntryExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use glob::{MatchOptions, Pattern};

use super::record::FileId;
use super::settings::Settings;
use super::walk::{Walked, walk};

/// Digits that a date in the middle of a name has at least: `app-2.log` may be a file of its own.
const DATE_DIGITS: usize = 6;
/// A pattern for paths says where its slashes are.
const PATHS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A file that is there.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// As it was found, perhaps by a link.
    pub(super) name: PathBuf,
    /// The path that its lines were written to; its own, unless a rotation made it.
    pub(super) family: PathBuf,
    /// It is configured by its name, or a pattern matches it.
    pub(super) asked: bool,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A look at the file system.
#[derive(Debug, Default)]
pub(super) struct Discovery {
    pub(super) files: Vec<Found>,
    /// Where names are watched.
    pub(super) folders: Vec<PathBuf>,
    /// What cannot be looked at, though it is configured or may hold what is.
    pub(super) hidden: BTreeMap<PathBuf, Hidden>,
    /// Folders that patterns would lead into, and why they do not.
    pub(super) closed: BTreeMap<PathBuf, String>,
    /// Configured files that are not there, and patterns that no file matches.
    pub(super) absent: Vec<PathBuf>,
}

/// What cannot be looked at, with the reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hidden {
    File(String),
    Folder(String),
}

/// What the records say of where to look.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    /// Paths where files were seen, with their families.
    pub(super) places: Vec<(PathBuf, PathBuf)>,
    /// Inodes, with their families.
    pub(super) inodes: HashMap<u64, PathBuf>,
}

pub(super) fn discover(settings: &Settings, remembered: &Remembered) -> Discovery {
    let mut look = Look {
        settings,
        seen: HashSet::new(),
        families: HashMap::new(),
        found: Discovery::default(),
    };
    let mut folders: Vec<PathBuf> = Vec::new();
    for path in &settings.literals {
        look.family(path, &mut folders);
        look.literal(path);
    }
    for pattern in &settings.patterns {
        folders.extend(fixed_folder(pattern.as_str()));
        look.pattern(pattern, &mut folders);
    }
    for (path, family) in remembered.places.iter().filter(|(_, family)| settings.covers(family)) {
        folders.extend(folder(path));
        look.families.entry(family.clone()).or_insert_with(|| family.clone());
        look.add(path, family, false);
    }
    folders.sort();
    folders.dedup();
    for folder in &folders {
        look.rotated(folder, &remembered.inodes);
    }
    look.found.folders = folders;
    look.found
}

struct Look<'a> {
    settings: &'a Settings,
    seen: HashSet<(u64, u64)>,
    /// Paths that rotations start from, with the configured ones that they stand for.
    families: HashMap<PathBuf, PathBuf>,
    found: Discovery,
}

impl Look<'_> {
    /// Where the path's rotations lie: beside it, and where it is a link, beside its target.
    fn family(&mut self, path: &Path, folders: &mut Vec<PathBuf>) {
        self.families.insert(path.to_owned(), path.to_owned());
        folders.extend(folder(path));
        let is_link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        if is_link && let Ok(target) = fs::canonicalize(path) {
            folders.extend(folder(&target));
            self.families.entry(target).or_insert_with(|| path.to_owned());
        }
    }

    /// A path that is configured as it stands: whatever is not a file there is worth a word.
    fn literal(&mut self, path: &Path) {
        match fs::metadata(path) {
            Ok(meta) if meta.is_file() => {
                self.add(path, path, true);
            }
            Ok(meta) if meta.is_dir() => {
                let error = io::Error::from(io::ErrorKind::IsADirectory);
                self.hide(path, Hidden::File(error.to_string()));
            }
            Ok(_) => self.hide(path, Hidden::File("not a regular file".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.found.absent.push(path.to_owned());
            }
            Err(error) => self.hide(path, Hidden::File(error.to_string())),
        }
    }

    fn pattern(&mut self, pattern: &Pattern, folders: &mut Vec<PathBuf>) {
        let settings = self.settings;
        let Walked { paths, closed } = walk(pattern);
        let mut has_files = false;
        for path in paths.iter().filter(|path| !settings.excludes(path)) {
            let family = settings.family(path);
            self.family(&family, folders);
            has_files |= self.add(path, &family, true);
        }
        for (folder, error) in closed {
            self.found.closed.insert(folder, error.to_string());
        }
        if !has_files {
            self.found.absent.push(PathBuf::from(pattern.as_str()));
        }
    }

    /// Of a folder that is hidden, what lies below it is not told as well.
    fn hide(&mut self, path: &Path, hidden: Hidden) {
        if matches!(hidden, Hidden::Folder(_)) {
            self.found.hidden.retain(|other, _| !other.starts_with(path));
            self.found.closed.retain(|other, _| !other.starts_with(path));
        }
        self.found.hidden.insert(path.to_owned(), hidden);
    }

    /// Whether there is a file.
    fn add(&mut self, path: &Path, family: &Path, asked: bool) -> bool {
        let meta = match fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) => {
                if asked && error.kind() != io::ErrorKind::NotFound {
                    self.hide(path, Hidden::File(error.to_string()));
                }
                return false;
            }
        };
        let id = FileId::of(&meta);
        if !meta.is_file() {
            return false;
        }
        if !self.seen.insert((id.dev, id.ino)) {
            return true;
        }
        let modified = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        // A link may lead elsewhere tomorrow; its file is looked for where it is.
        let is_link = fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink());
        let target = is_link.then(|| fs::canonicalize(path).ok()).flatten();
        let name = path.to_owned();
        let path = target.unwrap_or_else(|| path.to_owned());
        let (family, size) = (family.to_owned(), meta.len());
        self.found.files.push(Found { path, name, family, asked, id, size, modified });
        true
    }

    /// Files of a folder that rotations made, by name or because their inode is known.
    fn rotated(&mut self, folder: &Path, inodes: &HashMap<u64, PathBuf>) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.hide(folder, Hidden::Folder(error.to_string()));
                }
                return;
            }
        };
        let entries: Vec<(OsString, u64)> =
            entries.flatten().map(|entry| (entry.file_name(), entry.ino())).collect();
        let names: HashSet<&str> = entries.iter().filter_map(|(name, _)| name.to_str()).collect();
        for (name, inode) in &entries {
            let path = join(folder, name);
            // While both are there, the one is being made of the other, though its inode may have been a file's before.
            let plain = name.to_str().and_then(|name| name.strip_suffix(".gz"));
            if plain.is_some_and(|plain| names.contains(plain)) {
                continue;
            }
            let by_name = name.to_str().and_then(|name| {
                let families = &self.families;
                let family = bases(name)
                    .into_iter()
                    .find_map(|base| families.get(&join(folder, base.as_ref())));
                family.filter(|_| !self.settings.excludes(&path)).cloned()
            });
            let known = inodes.get(inode).filter(|family| self.settings.covers(family)).cloned();
            if let Some(family) = known.or(by_name) {
                self.add(&path, &family, false);
            }
        }
    }
}

impl Discovery {
    /// Says what keeps files from being read. That there is nothing yet, and where patterns do not lead, is said once, at
    /// the first look.
    pub(super) fn tell(&self, source: &str, is_first: bool, poll: Duration) {
        for (path, hidden) in &self.hidden {
            match hidden {
                Hidden::File(error) => {
                    tracing::warn!(source, file = %path.display(), error, "file cannot be opened, trying again");
                }
                Hidden::Folder(error) => {
                    tracing::warn!(source, folder = %path.display(), error, "folder cannot be read, so its files are not found; trying again");
                }
            }
        }
        if !is_first {
            return;
        }
        for path in &self.absent {
            tracing::info!(source, file = %path.display(), every = ?poll, "the file does not exist yet, checking for it regularly");
        }
        if let Some((path, error)) = self.closed.first_key_value() {
            let folders = self.closed.len();
            tracing::warn!(source, folder = %path.display(), folders, error, "folders cannot be read, so patterns find no files in them");
        }
    }
}

impl Found {
    /// It lies where lines are written to, not where a rotation puts it.
    pub(super) fn is_live(&self) -> bool {
        self.asked && self.family == self.name
    }

    /// Where the file lies, or lay, that it is made of if it was compressed there.
    pub(super) fn uncompressed(&self) -> Option<PathBuf> {
        let is_named_so = self.path.extension().is_some_and(|extension| extension == "gz");
        is_named_so.then(|| self.path.with_extension(""))
    }
}

impl Settings {
    /// The path that a file's lines were written to, which is configured, too: `app.log` for `app.log.1.gz`.
    pub(super) fn family(&self, path: &Path) -> PathBuf {
        let mut family = path.to_owned();
        // Each turn makes the name shorter.
        while let Some(base) = self.base(&family) {
            family = base;
        }
        family
    }

    fn base(&self, path: &Path) -> Option<PathBuf> {
        let bases = bases(path.file_name()?.to_str()?);
        bases.iter().map(|base| path.with_file_name(base)).find(|base| self.covers(base))
    }

    fn excludes(&self, path: &Path) -> bool {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.exclude.iter().any(|pattern| {
            if pattern.as_str().contains('/') {
                pattern.matches_path_with(path, PATHS)
            } else {
                pattern.matches(name)
            }
        })
    }

    /// Whether a family that is remembered is configured still.
    pub(super) fn covers(&self, family: &Path) -> bool {
        let is_literal = self.literals.iter().any(|path| path == family);
        let matches = |pattern: &Pattern| pattern.matches_path_with(family, PATHS);
        is_literal || (!self.excludes(family) && self.patterns.iter().any(matches))
    }
}

/// The folder of a path; that of a bare name is the working directory.
fn folder(path: &Path) -> Option<PathBuf> {
    let folder = path.parent()?;
    Some(if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder.to_owned() })
}

/// As the paths of a folder are written in the configuration: those of the working directory without `./`.
fn join(folder: &Path, name: &std::ffi::OsStr) -> PathBuf {
    if folder == Path::new(".") { PathBuf::from(name) } else { folder.join(name) }
}

/// The folder that a pattern's matches lie in or below.
fn fixed_folder(pattern: &str) -> Option<PathBuf> {
    let fixed: PathBuf = Path::new(pattern)
        .iter()
        .take_while(|part| !part.to_str().is_some_and(|part| part.contains(['*', '?', '['])))
        .collect();
    if fixed.as_os_str().is_empty() { Some(PathBuf::from(".")) } else { Some(fixed) }
}

/// Names of files whose rotation may make a file of this name.
fn bases(name: &str) -> Vec<String> {
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let mut bases = Vec::new();
    if plain.len() < name.len() {
        bases.push(plain.to_owned());
    }
    for (at, _) in plain.match_indices(['.', '-', '_']).filter(|(at, _)| *at > 0) {
        let (base, rest) = plain.split_at(at);
        let rest = rest.split_at(1).1;
        if is_stamp(rest) || rest == "old" {
            bases.push(base.to_owned());
        }
        if let Some((stamp, ending)) = rest.rsplit_once('.')
            && is_stamp(stamp)
            && stamp.bytes().filter(u8::is_ascii_digit).count() >= DATE_DIGITS
        {
            bases.push(format!("{base}.{ending}"));
        }
    }
    bases
}

/// A number or a date.
fn is_stamp(text: &str) -> bool {
    let may = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b':' | b'T');
    text.bytes().next().is_some_and(|byte| byte.is_ascii_digit()) && text.bytes().all(may)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, base: &str, expected: bool) {
        assert_eq!(bases(name).iter().any(|found| found == base), expected, "{name} of {base}");
    }

    #[test]
    fn names_that_rotations_make() {
        for name in [
            "app.log.1",
            "app.log.12.gz",
            "app.log.gz",
            "app.log-20260131",
            "app.log-20260131.gz",
            "app.log-2026-01-31_10:00",
            "app.log.2026-01-31",
            "app.log.old",
            "app-20260131.log",
            "app-2026-01-31.log.gz",
            "app.20260131-1769850845.log",
        ] {
            check(name, "app.log", true);
        }
        for name in [
            "app.log",
            "app.log.bak",
            "app-2.log",
            "app2.log",
            "other.log.1",
            "app.logs.1",
            "app.log.d",
        ] {
            check(name, "app.log", false);
        }
        check("syslog.1", "syslog", true);
        check("syslog-20260131", "syslog", true);
    }

    #[test]
    fn the_folder_of_a_pattern() {
        for (pattern, folder) in [
            ("/var/log/*.log", "/var/log"),
            ("*.log", "."),
            ("/a/*/b/c.log", "/a"),
            ("a/b/**/x", "a/b"),
        ] {
            assert_eq!(fixed_folder(pattern), Some(PathBuf::from(folder)), "{pattern}");
        }
    }
}
