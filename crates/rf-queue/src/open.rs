//! Opening a database: lock, damage check, tables, events of the original, counters.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::admit::Room;
use crate::ahead::Early;
use crate::aside::SetAside;
use crate::errors::{Notice, OpenError};
use crate::failure::{self, Kind};
use crate::housekeeping::Housekeeping;
use crate::limits::{Limits, PAGE, PageEstimate};
use crate::mailbox::{Lock, Mailbox};
use crate::shared::Shared;
use crate::space::{Checkpointer, Reserve, Wal, beside, file_number};
use crate::state::{State, orphans};
use crate::types::{MIN_STORE_BYTES, StoreOptions};
use crate::writer::Writer;
use crate::{aside, migrate, salvage, schema};

/// Files up to this size are checked whole at every start; larger ones only after damage was seen.
const ALWAYS_CHECKED_BYTES: u64 = 32 * 1024 * 1024;
/// Beside a database that was found emptied, until that can be told.
const EMPTIED: &str = ".emptied";

/// What no opening would mend.
pub(crate) fn check(options: &StoreOptions) -> Result<(), OpenError> {
    if options.max_bytes < MIN_STORE_BYTES {
        return Err(OpenError::TooSmall(options.max_bytes));
    }
    for (index, queue) in options.queues.iter().enumerate() {
        if options.queues[..index].iter().any(|other| other.name == queue.name) {
            return Err(OpenError::SameName(queue.name.clone()));
        }
    }
    Ok(())
}

/// Locks `NAME.lock` beside the database for as long as the file lives.
pub(crate) fn take_lock(options: &StoreOptions) -> Result<File, OpenError> {
    let path = beside(&options.path, ".lock");
    let io = |source| OpenError::Io { path: path.clone(), source };
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse { path: options.path.clone() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// The first opening, with the lock; whatever comes of it, a lock that was taken is kept.
pub(crate) fn first(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    lock: &Lock,
) -> Result<(Writer, Vec<Notice>), OpenError> {
    if lock.get().is_none() {
        // Nobody else fills it: a store is opened by one thread.
        drop(lock.set(take_lock(options)?));
    }
    open(options, shared, mailbox)
}

/// The first opening: everything is looked at. On a full disk the reserve makes room for it.
pub(crate) fn open(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
) -> Result<(Writer, Vec<Notice>), OpenError> {
    let is_emptied = note_emptied(&options.path);
    let open = || open_whole(options, shared, mailbox);
    let (writer, mut notices) = with_reserve(options, open, |(writer, _)| writer)?;
    if is_emptied {
        forget_emptied(&options.path)?;
        notices.insert(0, Notice::Emptied { path: options.path.clone() });
    }
    Ok((writer, notices))
}

/// Opening again after hibernation: the file was healthy when this process closed it.
pub(crate) fn reopen(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
) -> Result<Writer, OpenError> {
    let open = || -> Result<Writer, OpenError> {
        let mut writer = assemble(options, shared, mailbox)?;
        writer.state.count_on(shared);
        Ok(writer)
    };
    with_reserve(options, open, |writer| writer)
}

fn with_reserve<T>(
    options: &StoreOptions,
    open: impl Fn() -> Result<T, OpenError>,
    writer: impl Fn(&mut T) -> &mut Writer,
) -> Result<T, OpenError> {
    let is_full = |error: &OpenError| match error {
        OpenError::Database { source, .. } => failure::kind(source) == Kind::DiskFull,
        _ => false,
    };
    let reserve = Reserve::new(&options.path, 0);
    match open() {
        Err(error) if is_full(&error) && reserve.exists() => {
            // Where even that fails, the next try says why.
            drop(reserve.give_up());
            let mut opened = open()?;
            writer(&mut opened).disk_is_full();
            Ok(opened)
        }
        done => done,
    }
}

fn open_whole(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
) -> Result<(Writer, Vec<Notice>), OpenError> {
    let damaged = find_damage(options)?;
    let error = match open_found(options, shared, mailbox, damaged.clone()) {
        Err(error) if error.is_damage_of(&options.path) => error,
        done => return done,
    };
    let damaged = match damaged {
        // The new database is damaged as well, in which a killed process may have begun to salvage.
        Some(damaged) => aside::begin_again(options, damaged, &error)?,
        // Of a file that is too large to be checked.
        None => aside::set_aside(options, error.to_string())?,
    };
    open_found(options, shared, mailbox, Some(damaged))
}

fn open_found(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
    damaged: Option<SetAside>,
) -> Result<(Writer, Vec<Notice>), OpenError> {
    let mut notices = Vec::new();
    if damaged.is_none() {
        migrate::move_original(options)?;
    }
    let is_salvaged = damaged.is_some();
    let mut writer = assemble(options, shared, mailbox)?;
    if let Some(old) = damaged {
        notices.push(salvage::salvage(&mut writer, old)?);
    }
    migrate::take_over(&mut writer, &mut notices)?;
    let db = |source| OpenError::Database { path: options.path.clone(), source };
    notices.extend(orphans(&writer.conn, options).map_err(db)?);
    match writer.empty_wal() {
        // Killed on a full disk, when the reserve was gone already: what there is can still be read and, mostly, removed.
        Err(error) if failure::kind(&error) == Kind::DiskFull => {
            writer.disk_is_full();
        }
        done => done.map_err(db)?,
    }
    if is_salvaged {
        // What was salvaged is on disk, whatever the durability, and nothing can keep its loss from being told any more.
        aside::unmark(&options.path)
            .map_err(|source| OpenError::Io { path: options.path.clone(), source })?;
    }
    writer.publish();
    Ok((writer, notices))
}

fn assemble(
    options: &StoreOptions,
    shared: &Arc<Shared>,
    mailbox: &Arc<Mailbox>,
) -> Result<Writer, OpenError> {
    let db = |source| OpenError::Database { path: options.path.clone(), source };
    let mut conn = schema::connect(&options.path, options.durability).map_err(db)?;
    let found = schema::format(&conn).map_err(db)?;
    if found > schema::FORMAT {
        return Err(OpenError::Newer { path: options.path.clone(), found, known: schema::FORMAT });
    }
    if found < schema::FORMAT {
        schema::create(&conn, found).map_err(db)?;
    }
    conn.pragma_update(None, "cache_size", -i64::from(options.cache_bytes / 1024)).map_err(db)?;
    let limits = Limits::new(options.max_bytes);
    let wal = Wal::watch(&mut conn, &options.path).map_err(db)?;
    let state = State::load_or_create(&conn, options, &limits).map_err(db)?;
    let room = Room::look(&conn, PageEstimate::default()).map_err(db)?;
    let mut writer = Writer {
        state,
        limits,
        options: options.clone(),
        shared: Arc::clone(shared),
        mailbox: Arc::clone(mailbox),
        checkpointer: Checkpointer::new(&options.path, options.durability, &wal),
        wal,
        reserve: Reserve::new(&options.path, limits.reserve()),
        disk_full: false,
        disk_refused: false,
        data_version: None,
        room: Some(room),
        file: file_number(&options.path),
        file_pages: fs::metadata(&options.path).map_or(0, |meta| meta.len() / PAGE),
        parts_left: false,
        stopped: false,
        housekeeping: Housekeeping::default(),
        tx: None,
        applied: Vec::new(),
        early: Early::default(),
        conn,
    };
    writer.remove_left_parts().map_err(db)?;
    Ok(writer)
}

/// Whether the database was emptied, and nobody has been told yet. Noted in a file: an opening that fails may leave a new
/// database, and the reserve, which shows it, may be given up.
fn note_emptied(path: &Path) -> bool {
    let note = beside(path, EMPTIED);
    if note.exists() {
        return true;
    }
    let is_emptied = is_emptied(path);
    if is_emptied && let Err(error) = File::create(&note) {
        // A disk that may only be read leaves it to be seen at the next try.
        tracing::debug!(path = %note.display(), %error, "the loss cannot be noted");
    }
    is_emptied
}

/// One that stays would tell of the loss at each start.
fn forget_emptied(path: &Path) -> Result<(), OpenError> {
    let path = beside(path, EMPTIED);
    match fs::remove_file(&path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::Io { path, source })
        }
        _ => Ok(()),
    }
}

/// Whether the database is empty or gone beside its reserve, which is made with the first event: as a file system may leave
/// it after a crash. Not where it was moved out of the way.
fn is_emptied(path: &Path) -> bool {
    let is_empty = match fs::metadata(path) {
        Ok(meta) => meta.len() == 0,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    };
    let is_noted = || !matches!(aside::noted(path), Ok(None));
    let was_moved = || is_noted() || beside(path, migrate::ORIGINAL).exists();
    is_empty && beside(path, ".reserve").exists() && !was_moved()
}

/// A file that cannot be used is moved out of the way.
fn find_damage(options: &StoreOptions) -> Result<Option<SetAside>, OpenError> {
    let path = &options.path;
    let io = |source| OpenError::Io { path: beside(path, ".damaged"), source };
    let note = aside::noted(path).map_err(io)?;
    if let Some(name) = note.as_deref().filter(|name| !name.is_empty()) {
        return aside::resume(options, name).map(Some);
    }
    let Ok(meta) = fs::metadata(path) else { return Ok(None) };
    let check = note.is_some() || meta.len() <= ALWAYS_CHECKED_BYTES;
    match look(path, options, check) {
        Ok(None) => {
            if let Err(error) = aside::unmark(path) {
                tracing::debug!(path = %path.display(), %error, "the next start looks at the whole file again");
            }
            Ok(None)
        }
        Ok(Some(reason)) => aside::set_aside(options, reason).map(Some),
        Err(error) if failure::kind(&error) == Kind::Damaged => {
            aside::set_aside(options, error.to_string()).map(Some)
        }
        Err(source) => Err(OpenError::Database { path: path.clone(), source }),
    }
}

fn look(path: &Path, options: &StoreOptions, check: bool) -> rusqlite::Result<Option<String>> {
    let conn = schema::connect(path, options.durability)?;
    schema::format(&conn)?;
    if !check {
        return Ok(None);
    }
    let verdict: String = conn.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok((verdict != "ok").then_some(verdict))
}
