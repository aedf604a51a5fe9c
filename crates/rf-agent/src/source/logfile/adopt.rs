//! Which file that was found is which one that is remembered.
//!
//! First by device, inode and birth, with the content as a check. What is left is compared by content with the records
//! whose file was not found: so a copy, or a compressed file, goes on where the lost one was. What is left then is new.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{fs, io};

use tokio::time::Instant;

use super::content::Content;
use super::discover::{Found, Remembered, discover};
use super::judge::{Same, Suspect, Verdict, compare};
use super::print::{HEAD_BYTES, Print, TAIL_BYTES};
use super::record::{FileId, Record, Within};
use super::settings::StartAt;
use super::tailer::Tailer;
use super::tracked::{Family, Tracked};
use rf_core::clock::unix_ms;

/// A record whose file is not found is forgotten after so long.
const FORGET: Duration = Duration::from_secs(600);
/// Files that a source reads or remembers. More are not read, and an error says so.
pub(super) const MAX_FILES: usize = 4096;
/// So many files that went while nobody looked are named; of more, the number is told.
const NAMED_GONE: usize = 10;
/// Times of files and of the clock differ by less.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// What one look has seen so far.
pub(super) struct Round {
    /// Families that had a record before it.
    known: HashSet<PathBuf>,
    /// Records whose files were found.
    pub(super) seen: HashSet<u64>,
    /// Devices and inodes of all that was found.
    found: HashSet<(u64, u64)>,
    /// Files that are too many: the first of them, and how many there are.
    pub(super) left_out: Option<(PathBuf, usize)>,
    /// Files that went before the first look, and how far they were read.
    pub(super) gone: Vec<(PathBuf, u64)>,
    /// Records whose files were compared with them.
    current: HashMap<u64, bool>,
}

impl Round {
    /// Whether a file has come to this path since the look began.
    pub(super) fn has_missed(&self, path: &Path) -> bool {
        fs::metadata(path)
            .is_ok_and(|meta| meta.is_file() && !self.found.contains(&(meta.dev(), meta.ino())))
    }

    /// Whether a file that is read still holds what its record was made of. One look at it is enough: what was found before
    /// that is no copy of what came into it since.
    pub(super) fn is_current(&mut self, file: &Tracked, content: &Content) -> io::Result<bool> {
        if let Some(is_current) = self.current.get(&file.key) {
            return Ok(*is_current);
        }
        let head = file.record.head;
        let is_current = head.begins(&content.head(head.len)?);
        self.current.insert(file.key, is_current);
        Ok(is_current)
    }
}

impl Tailer {
    /// Looks at the file system, and opens what is to be read. The folders to watch.
    pub(super) fn scan(&mut self) -> Vec<PathBuf> {
        let (folders, round) = self.look_around();
        for (file, offset) in round.gone.iter().take(NAMED_GONE) {
            tracing::warn!(source = self.settings.id, file = %file.display(), offset, "the file is gone: what was written to it after this position is lost, unless it comes back under a name that is read");
        }
        if let Some(files) = round.gone.len().checked_sub(NAMED_GONE).filter(|files| *files > 0) {
            tracing::warn!(
                source = self.settings.id,
                files,
                "more files are gone: what was not read of them is lost, unless they come back under names that are read"
            );
        }
        if let Some((first, files)) = round.left_out {
            tracing::error!(source = self.settings.id, first = %first.display(), files, limit = MAX_FILES, "too many files: these are not read; use narrower patterns, exclude, or a second source");
        }
        folders
    }

    /// The same, without a word on what is not read.
    pub(super) fn look_around(&mut self) -> (Vec<PathBuf>, Round) {
        let began = SystemTime::now();
        let found = discover(&self.settings, &self.remembered());
        found.tell(&self.settings.id, self.is_first_look, self.settings.poll);
        let known = self.files.iter().map(|file| file.record.family.clone()).collect();
        let there = found.files.iter().map(|found| (found.id.dev, found.id.ino)).collect();
        let mut round = Round {
            known,
            seen: HashSet::new(),
            found: there,
            left_out: None,
            gone: Vec::new(),
            current: HashMap::new(),
        };
        self.files.iter_mut().for_each(|file| (file.asked, file.live) = (false, false));
        let mut rest = found.files;
        let inodes = self.inodes();
        rest.retain(|found| !self.find_again(found, &inodes, &mut round.seen));
        // Where lines are written to comes first: what lies beside it may be a copy of it.
        rest.sort_by_key(|found| (!found.is_live(), found.modified));
        for found in rest {
            if let Err(error) = self.take_in(&found, &mut round) {
                tracing::warn!(source = self.settings.id, file = %found.path.display(), %error, "file cannot be opened, trying again");
            }
        }
        if self.is_first_look {
            round.gone = self.gone(&round.seen);
        }
        self.remember_literals();
        self.forget(&round.seen);
        self.is_first_look = false;
        self.looked_at = began;
        (found.folders, round)
    }

    fn remembered(&self) -> Remembered {
        let mut remembered = Remembered::default();
        for Record { family, path, id, .. } in self.files.iter().map(|file| &file.record) {
            if let Some(id) = id {
                remembered.places.push((path.clone(), family.clone()));
                remembered.inodes.insert(id.ino, family.clone());
            }
        }
        remembered
    }

    /// The files of each inode.
    fn inodes(&self) -> HashMap<u64, Vec<usize>> {
        let mut inodes: HashMap<u64, Vec<usize>> = HashMap::new();
        for (index, file) in self.files.iter().enumerate() {
            if let Some(id) = file.record.id {
                inodes.entry(id.ino).or_default().push(index);
            }
        }
        inodes
    }

    /// Whether a record names the file, and its content is still the record's.
    fn find_again(
        &mut self,
        found: &Found,
        inodes: &HashMap<u64, Vec<usize>>,
        seen: &mut HashSet<u64>,
    ) -> bool {
        let is_it =
            |index: &usize| self.files[*index].record.id.is_some_and(|id| id.may_be(found.id));
        let known = inodes.get(&found.id.ino).into_iter().flatten();
        let Some(index) = known.copied().find(is_it) else { return false };
        let file = &mut self.files[index];
        seen.insert(file.key);
        let record = &file.record;
        // To what is compressed something may be added, and what was given up be written to its end.
        let goes_on = record.ended_at.is_some_and(|size| size != found.size);
        let is_read = record.done && !goes_on
            || (record.offset == found.size && !record.packed && !found.asked);
        if file.content.is_some() || is_read {
            (file.asked, file.live) = (found.asked, found.is_live());
            self.move_to(index, found);
            return true;
        }
        match self.open_again(index, found) {
            Ok(true) => true,
            Ok(false) => {
                // The inode is used again, or the file was emptied meanwhile.
                tracing::info!(source = self.settings.id, file = %found.path.display(), "the file was replaced by another one, reading it from the beginning");
                let file = &mut self.files[index];
                file.record.id = None;
                seen.remove(&file.key);
                self.changed.insert(file.key, Some(file.record.clone()));
                false
            }
            Err(error) => {
                tracing::warn!(source = self.settings.id, file = %found.path.display(), %error, "file cannot be opened, trying again");
                true
            }
        }
    }

    fn open_again(&mut self, index: usize, found: &Found) -> io::Result<bool> {
        let (mut content, meta) = Content::open(&found.path)?;
        let file = &mut self.files[index];
        if !file.record.id.is_some_and(|id| id.may_be(FileId::of(&meta))) {
            // Switched since it was found: the next look sees it.
            return Ok(true);
        }
        let goes_on = file.record.offset == 0
            || compare(&mut content, meta.len(), &file.record, &mut self.scratch)?
                == Same::Continues;
        if goes_on {
            file.open(content);
            (file.asked, file.live) = (found.asked, found.is_live());
            self.move_to(index, found);
        }
        Ok(goes_on)
    }

    /// Notes where a file is now.
    fn move_to(&mut self, index: usize, found: &Found) {
        let file = &mut self.files[index];
        if file.record.path != found.path || file.record.id != Some(found.id) {
            file.move_to(&found.path, &self.settings);
            file.record.id = Some(found.id);
            self.changed.insert(file.key, Some(file.record.clone()));
        }
    }

    /// A file that no record names.
    fn take_in(&mut self, found: &Found, round: &mut Round) -> io::Result<()> {
        let (content, meta) = Content::open(&found.path)?;
        if FileId::of(&meta) != found.id {
            return Ok(());
        }
        if meta.len() == 0 && found.path.extension().is_some_and(|extension| extension == "gz") {
            // Somebody begins to compress: of what, is told by what will be in it.
            return Ok(());
        }
        let mut suspect = Suspect::new(found, content, meta.len());
        match self.judge(&mut suspect, round)? {
            Verdict::Later => {}
            Verdict::Adopt(index) => {
                let file = &mut self.files[index];
                round.seen.insert(file.key);
                tracing::info!(source = self.settings.id, file = %found.path.display(), "found a copy of a file that no longer exists, reading the rest of it");
                (file.asked, file.live) = (found.asked, found.is_live());
                file.open(suspect.content);
                self.move_to(index, found);
            }
            Verdict::Read => {
                let record = self.read_record(&mut suspect)?;
                // What is added to it is read, or written over it.
                let done = suspect.content.is_compressed();
                let ended_at = (!done).then_some(record.offset);
                self.add(found, Record { done, ended_at, ..record }, None, round);
            }
            Verdict::New => self.begin(suspect, round)?,
        }
        Ok(())
    }

    /// A file that was never seen, in any form.
    fn begin(&mut self, mut suspect: Suspect<'_>, round: &mut Round) -> io::Result<()> {
        let found = suspect.found;
        let is_compressed = suspect.content.is_compressed();
        let is_known = round.known.contains(&found.family);
        let is_recent = found.modified + CLOCK_SLACK >= self.looked_at;
        let was_there = self.is_first_look && !is_known;
        let skip = if found.asked {
            was_there && self.settings.start_at == StartAt::End
        } else {
            // What a rotation made before its file was first seen is not asked for.
            !is_known && (self.is_first_look || !is_recent)
        };
        if !skip {
            let record = Record { packed: is_compressed, ..Record::default() };
            self.add(found, record, Some(suspect.content), round);
            return Ok(());
        }
        let mut record = self.read_record(&mut suspect)?;
        if is_compressed {
            self.add(found, Record { done: true, ..record }, None, round);
            return Ok(());
        }
        let is_line_end = self.scratch.ends_with(b"\n") || self.scratch.ends_with(b"\n\0");
        let is_at_start = is_line_end || record.tail.len == 0;
        record.within = if is_at_start { Within::Nothing } else { Within::Cut };
        record.since_ms = unix_ms();
        self.add(found, record, Some(suspect.content), round);
        Ok(())
    }

    /// The record of a file that counts as read; its last bytes are left in `scratch`.
    fn read_record(&mut self, suspect: &mut Suspect<'_>) -> io::Result<Record> {
        let Suspect { found, content, size, .. } = suspect;
        let head = Print::of(&content.head(HEAD_BYTES)?);
        let (family, path) = (found.family.clone(), found.path.clone());
        let record = Record { family, path, id: Some(found.id), head, ..Record::default() };
        if content.is_compressed() {
            // The length of what it holds does not matter: it is done.
            return Ok(Record { offset: head.len as u64, ..record });
        }
        let offset = *size - *size % self.settings.encoding.unit() as u64;
        let guard = offset.min(TAIL_BYTES as u64);
        let len = usize::try_from(guard).unwrap_or(TAIL_BYTES);
        content.read(offset - guard, len, &mut self.scratch)?;
        Ok(Record { offset, tail: Print::of(&self.scratch), ..record })
    }

    fn add(&mut self, found: &Found, record: Record, content: Option<Content>, round: &mut Round) {
        if self.files.len() >= MAX_FILES {
            let (_first, count) = round.left_out.get_or_insert_with(|| (found.path.clone(), 0));
            *count += 1;
            return;
        }
        let (family, path) = (found.family.clone(), found.path.clone());
        let name = if found.asked { found.name.clone() } else { family.clone() };
        let record = Record { family, name, path, id: Some(found.id), ..record };
        let mut file = self.track(record);
        round.seen.insert(file.key);
        (file.asked, file.live) = (found.asked, found.is_live());
        if let Some(content) = content {
            file.open(content);
        }
        let index = self.place(found);
        self.files.insert(index, file);
    }

    /// Behind the older files of the family, before the one at its path.
    fn place(&self, found: &Found) -> usize {
        let family = Family::of(&found.family);
        let of_family = |index: &usize| self.files[*index].is_of(family);
        let Some(last) = (0..self.files.len()).rev().find(of_family) else {
            return self.files.len();
        };
        let live = (0..self.files.len()).find(|index| of_family(index) && self.files[*index].live);
        if found.is_live() { last + 1 } else { live.unwrap_or(last + 1) }
    }

    /// A configured file counts as known from the first look on, whether it is there or not: what appears later is read
    /// whole, and so is what a rotation makes of it before it was seen.
    fn remember_literals(&mut self) {
        let mut known: HashSet<&Path> =
            self.files.iter().map(|file| file.record.family.as_path()).collect();
        let mut new = Vec::new();
        for path in &self.settings.literals {
            if known.insert(path) {
                new.push(path.clone());
            }
        }
        for path in new {
            let record = Record { family: path.clone(), path, done: true, ..Record::default() };
            let file = self.track(record);
            self.files.push(file);
        }
    }

    /// Files that are configured, were not read to an end that is known, and are neither where they were nor found elsewhere.
    fn gone(&self, seen: &HashSet<u64>) -> Vec<(PathBuf, u64)> {
        let is_gone = |file: &&Tracked| {
            let record = &file.record;
            let is_found = file.content.is_some() || seen.contains(&file.key);
            let is_missed =
                !is_found && !record.is_complete() && self.settings.covers(&record.family);
            is_missed && record.id.is_some_and(|id| has_left(&record.path, id))
        };
        let gone = self.files.iter().filter(is_gone);
        gone.map(|file| (file.path().to_owned(), file.record.offset)).collect()
    }

    fn forget(&mut self, seen: &HashSet<u64>) {
        let now = Instant::now();
        let literals = self.settings.literals.iter().map(|path| (path.clone(), 0));
        let mut literals: HashMap<PathBuf, usize> = literals.collect();
        for file in &self.files {
            if let Some(count) = literals.get_mut(&file.record.family) {
                *count += 1;
            }
        }
        let (changed, settings) = (&mut self.changed, &self.settings);
        self.files.retain_mut(|file| {
            if file.content.is_some() || seen.contains(&file.key) {
                file.missing_since = None;
                return true;
            }
            // The last record of a configured file says that it was seen.
            if literals.get(&file.record.family) == Some(&1) {
                return true;
            }
            let is_over = file.missing_since.get_or_insert(now).elapsed() > FORGET;
            if is_over {
                tracing::debug!(source = settings.id, file = %file.record.path.display(), "file is gone, its place is forgotten");
                changed.insert(file.key, None);
            }
            !is_over
        });
    }
}

/// Whether there is another file at the path, or none; not if that cannot be told.
fn has_left(path: &Path, id: FileId) -> bool {
    match fs::metadata(path) {
        Ok(meta) => !id.may_be(FileId::of(&meta)),
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}
