//! A damaged database is moved out of the way, so that a new one can be begun.
//!
//! The file that was set aside is kept for a person; only the newest one, so that a failing disk cannot be filled.
//!
//! The file `NAME.damaged` remembers where a killed process was. Empty: damage was seen, the next start looks whole.
//! With a name: the damaged file goes, or has gone, by that name, and not all of it has been taken over (see
//! [`crate::salvage`]).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::errors::OpenError;
use crate::space::{beside, sync_folder};
use crate::types::StoreOptions;

/// A database that was moved out of the way.
#[derive(Clone)]
pub(crate) struct SetAside {
    pub(crate) path: PathBuf,
    /// What was wrong with it.
    pub(crate) reason: String,
}

/// Leaves a note for the next start that the file was seen damaged. One that is there stays: without the name in it nobody
/// would look into the file of that name again, and the next one that is set aside would take its place.
pub(crate) fn mark(path: &Path) {
    match File::create_new(beside(path, ".damaged")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            tracing::warn!(path = %path.display(), %error, "the damage cannot be recorded");
        }
        _ => {}
    }
}

/// What the note says, if there is one. One that cannot be read may have a name in it.
pub(crate) fn noted(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(beside(path, ".damaged")) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Notes what the damaged file is called. Without this text, after a loss of power, nobody would look into it again.
fn note(path: &Path, name: &str) -> io::Result<()> {
    let mut file = File::create(beside(path, ".damaged"))?;
    file.write_all(name.as_bytes())?;
    file.sync_all()
}

/// A note that is not there is as good as removed. One that stays, or comes back after a loss of power, would bring back what
/// has been delivered since.
pub(crate) fn unmark(path: &Path) -> io::Result<()> {
    match fs::remove_file(beside(path, ".damaged")) {
        Ok(()) => sync_folder(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// Renames the database and its WAL to `NAME.corrupt-SECONDS`, removing the one set aside before.
pub(crate) fn set_aside(options: &StoreOptions, reason: String) -> Result<SetAside, OpenError> {
    let path = &options.path;
    let io = |source| OpenError::Io { path: path.clone(), source };
    let aside = beside(path, &format!(".corrupt-{}", options.clock.wall_ms() / 1000));
    let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
    remove_older(path);
    note(path, &name).map_err(io)?;
    finish_renaming(path, &aside).map_err(io)?;
    Ok(SetAside { path: aside, reason })
}

/// Goes on where a killed process was.
pub(crate) fn resume(options: &StoreOptions, name: &str) -> Result<SetAside, OpenError> {
    let aside = options.path.with_file_name(name);
    let io = |source| OpenError::Io { path: options.path.clone(), source };
    if !aside.try_exists().map_err(io)? {
        finish_renaming(&options.path, &aside).map_err(io)?;
    }
    Ok(SetAside { path: aside, reason: "damage found at an earlier start".to_owned() })
}

/// Moves the new database out of the way, too, when it turns out to be damaged before all of `old` is in it. It has served nobody
/// yet: what it holds was taken over from other files. It is kept all the same, since a bucket's file of the original is
/// gone by then. The note still has the name of the old one.
pub(crate) fn begin_again(
    options: &StoreOptions,
    old: SetAside,
    error: &OpenError,
) -> Result<SetAside, OpenError> {
    let path = &options.path;
    let unfinished = beside(&old.path, ".unfinished");
    tracing::error!(path = %path.display(), kept_as = %unfinished.display(), %error, "the new database is damaged as well: it is set aside, and salvaging begins again");
    finish_renaming(path, &unfinished)
        .map_err(|source| OpenError::Io { path: path.clone(), source })?;
    Ok(old)
}

/// The WAL first: a new database must never lie beside an old WAL.
fn finish_renaming(path: &Path, aside: &Path) -> io::Result<()> {
    for suffix in ["-wal", ""] {
        match fs::rename(beside(path, suffix), beside(aside, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    drop(fs::remove_file(beside(path, "-shm")));
    Ok(())
}

/// Also what has the name that the next one gets, if that is within the same second: a WAL of it would be taken for the next
/// one's.
fn remove_older(path: &Path) {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return };
    let prefix = format!("{}.corrupt-", name.to_string_lossy());
    let Ok(entries) =
        fs::read_dir(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            drop(fs::remove_file(entry.path()));
        }
    }
}
