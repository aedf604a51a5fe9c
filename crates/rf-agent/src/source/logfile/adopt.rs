//! Which file that was found is which one that is remembered.
//!
//! First by device, inode and birth, with the content as a check. What is left is compared by content with the records
//! whose file was not found: so a copy, or a compressed file, goes on where the lost one was. What is left then is new.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::content::Content;
use super::discover::{Found, Remembered, discover};
use super::print::HEAD_BYTES;
use super::record::{FileId, Record, Within};
use super::settings::StartAt;
use super::tailer::Tailer;
use super::tracked::now_ms;

/// A record whose file is not found is forgotten after so long.
const FORGET: Duration = Duration::from_secs(600);
/// Files that a source reads or remembers. More are not read, and an error says so.
const MAX_FILES: usize = 4096;
/// What may be a copy in the making is judged when nothing was written to it for so long.
const COPYING: Duration = Duration::from_secs(2);
/// Times of files and of the clock differ by less.
const CLOCK_SLACK: Duration = Duration::from_secs(1);

/// How the content of a found file relates to that of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Same {
    /// It is another.
    No,
    /// It ends before the record's offset: all of it was read.
    Contained,
    /// It goes on, or ends, at the record's offset.
    Continues,
}

/// What is to be done with a found file that no record names.
enum Verdict {
    /// Read on where the record of this index was.
    Adopt(usize),
    /// A copy of what was, or is being, read.
    Read,
    /// It cannot be told yet.
    Later,
    New,
}

/// What one look has seen so far.
struct Round {
    /// Families that had a record before it.
    known: HashSet<PathBuf>,
    /// Records whose files were found.
    seen: HashSet<u64>,
}

impl Tailer {
    /// Looks at the file system, and opens what is to be read. The folders to watch.
    pub(super) fn scan(&mut self) -> Vec<PathBuf> {
        let began = SystemTime::now();
        let found = discover(&self.settings, &self.remembered());
        let known = self.files.iter().map(|file| file.record.family.clone()).collect();
        let mut round = Round { known, seen: HashSet::new() };
        self.files.iter_mut().for_each(|file| (file.asked, file.live) = (false, false));
        let mut rest = found.files;
        rest.retain(|found| !self.find_again(found, &mut round.seen));
        rest.sort_by_key(|found| (found.is_live(), found.modified));
        for found in rest {
            if let Err(error) = self.take_in(&found, &mut round) {
                tracing::warn!(source = self.settings.id, file = %found.path.display(), %error, "file cannot be opened, trying again");
            }
        }
        self.remember_literals();
        self.forget(&round.seen);
        self.is_first_look = false;
        self.looked_at = began;
        found.folders
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

    /// Whether a record names the file, and its content is still the record's.
    fn find_again(&mut self, found: &Found, seen: &mut HashSet<u64>) -> bool {
        let is_it = |id: &Option<FileId>| id.is_some_and(|id| id.may_be(found.id));
        let Some(index) = self.files.iter().position(|file| is_it(&file.record.id)) else {
            return false;
        };
        let file = &mut self.files[index];
        seen.insert(file.key);
        let record = &file.record;
        let is_read =
            record.done || (record.offset == found.size && !record.packed && !found.asked);
        if file.content.is_some() || is_read {
            (file.asked, file.live) = (found.asked, found.is_live());
            self.move_to(index, found);
            return true;
        }
        match self.open_again(index, found) {
            Ok(true) => true,
            Ok(false) => {
                // The inode is used again, or the file was emptied meanwhile.
                tracing::info!(source = self.settings.id, file = %found.path.display(), "file is not the one that it was, reading from its beginning");
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
            file.record.path.clone_from(&found.path);
            file.record.id = Some(found.id);
            self.changed.insert(file.key, Some(file.record.clone()));
        }
    }

    /// A file that no record names.
    fn take_in(&mut self, found: &Found, round: &mut Round) -> io::Result<()> {
        let (mut content, meta) = Content::open(&found.path)?;
        if FileId::of(&meta) != found.id {
            return Ok(());
        }
        match self.judge(found, &mut content, meta.len(), &round.seen)? {
            Verdict::Later => {}
            Verdict::Adopt(index) => {
                let file = &mut self.files[index];
                round.seen.insert(file.key);
                tracing::info!(source = self.settings.id, file = %found.path.display(), "copy of a file that is gone found, reading its rest");
                (file.asked, file.live) = (found.asked, found.is_live());
                file.record.packed = content.is_compressed();
                file.open(content);
                self.move_to(index, found);
            }
            Verdict::Read => {
                let record = self.read_record(found, &content, meta.len())?;
                let record = Record { done: true, ..record };
                self.add(found, record, None, round);
            }
            Verdict::New => self.begin(found, content, meta.len(), round)?,
        }
        Ok(())
    }

    fn judge(
        &mut self,
        found: &Found,
        content: &mut Content,
        size: u64,
        seen: &HashSet<u64>,
    ) -> io::Result<Verdict> {
        let mut verdict = Verdict::New;
        let is_young = found.modified.elapsed().is_ok_and(|age| age < COPYING);
        let may_grow = is_young && !found.is_live() && !content.is_compressed();
        for index in 0..self.files.len() {
            let file = &self.files[index];
            let record = &file.record;
            if record.family != found.family || record.head.len == 0 {
                continue;
            }
            // At the path itself a new file may well begin as the old one did: only much that is the same tells.
            if found.is_live() && record.head.len < HEAD_BYTES {
                continue;
            }
            let is_lost = file.content.is_none() && !seen.contains(&file.key) && !record.done;
            if !is_lost && file.content.is_none() {
                continue;
            }
            if may_grow && size < record.head.len as u64 {
                // The print covers more than there is. The file itself, where it is open, tells all the same.
                let len = usize::try_from(size).unwrap_or(usize::MAX);
                let original =
                    file.content.as_ref().map(|original| original.head(len)).transpose()?;
                if original
                    .is_none_or(|original| content.head(len).is_ok_and(|head| head == original))
                {
                    return Ok(Verdict::Later);
                }
                continue;
            }
            match compare(content, size, record, &mut self.scratch)? {
                Same::No => {}
                _ if may_grow => return Ok(Verdict::Later),
                Same::Continues if is_lost => return Ok(Verdict::Adopt(index)),
                Same::Contained if found.is_live() => {}
                Same::Contained => verdict = Verdict::Read,
                Same::Continues if content.has_len(record.offset)? => verdict = Verdict::Read,
                // A copy of a file that is being read and has more than was read of it: what is not read there, because
                // it is emptied now, is read here.
                Same::Continues => return Ok(Verdict::Later),
            }
        }
        Ok(verdict)
    }

    /// A file that was never seen, in any form.
    fn begin(
        &mut self,
        found: &Found,
        mut content: Content,
        size: u64,
        round: &mut Round,
    ) -> io::Result<()> {
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
            let record = Record { packed: content.is_compressed(), ..Record::default() };
            self.add(found, record, Some(content), round);
            return Ok(());
        }
        let mut record = self.read_record(found, &content, size)?;
        record.done = content.is_compressed();
        if content.is_compressed() {
            self.add(found, record, None, round);
            return Ok(());
        }
        let unit = self.settings.encoding.unit() as u64;
        record.offset -= record.offset % unit;
        let guard = record.offset.min(super::print::TAIL_BYTES as u64);
        content.read(
            record.offset - guard,
            usize::try_from(guard).unwrap_or(0),
            &mut self.scratch,
        )?;
        record.tail = super::print::Print::of(&self.scratch);
        let is_line_end = self.scratch.ends_with(b"\n") || self.scratch.ends_with(b"\n\0");
        record.within = if is_line_end || guard == 0 { Within::Nothing } else { Within::Cut };
        record.since_ms = now_ms();
        self.add(found, record, Some(content), round);
        Ok(())
    }

    /// The record of a file that counts as read.
    fn read_record(&self, found: &Found, content: &Content, size: u64) -> io::Result<Record> {
        let head = content.head(HEAD_BYTES)?;
        let head = super::print::Print::of(&head);
        // The length of what a compressed file holds does not matter: it is done.
        let offset = if content.is_compressed() { head.len as u64 } else { size };
        let (family, path) = (found.family.clone(), found.path.clone());
        Ok(Record { family, path, id: Some(found.id), offset, head, ..Record::default() })
    }

    fn add(&mut self, found: &Found, record: Record, content: Option<Content>, round: &mut Round) {
        if self.files.len() >= MAX_FILES {
            tracing::error!(source = self.settings.id, file = %found.path.display(), limit = MAX_FILES, "too many files: this one is not read; use narrower patterns, exclude, or a second source");
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
        let of_family = |index: &usize| self.files[*index].record.family == found.family;
        let Some(last) = (0..self.files.len()).rev().find(of_family) else {
            return self.files.len();
        };
        let live = (0..self.files.len()).find(|index| of_family(index) && self.files[*index].live);
        if found.is_live() { last + 1 } else { live.unwrap_or(last + 1) }
    }

    /// A configured file counts as known from the first look on, whether it is there or not: what appears later is read
    /// whole, and so is what a rotation makes of it before it was seen.
    fn remember_literals(&mut self) {
        for path in self.settings.literals.clone() {
            if !self.files.iter().any(|file| file.record.family == path) {
                let record = Record { family: path.clone(), path, done: true, ..Record::default() };
                let file = self.track(record);
                self.files.push(file);
            }
        }
    }

    fn forget(&mut self, seen: &HashSet<u64>) {
        let now = Instant::now();
        let literals: HashMap<PathBuf, usize> = self
            .settings
            .literals
            .iter()
            .map(|path| {
                let count = self.files.iter().filter(|file| file.record.family == *path).count();
                (path.clone(), count)
            })
            .collect();
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

fn compare(
    content: &mut Content,
    size: u64,
    record: &Record,
    scratch: &mut Vec<u8>,
) -> io::Result<Same> {
    if record.head.len > 0 && !record.head.begins(&content.head(record.head.len)?) {
        return Ok(Same::No);
    }
    // Unpacking all of it is spared where its length says that it was read.
    if content.is_compressed() && record.head.len > 0 && content.has_len(record.offset)? {
        return Ok(Same::Continues);
    }
    if !content.is_compressed() && size < record.offset {
        return Ok(Same::Contained);
    }
    let from = record.offset.saturating_sub(record.tail.len as u64);
    content.read(from, record.tail.len, scratch)?;
    if scratch.len() < record.tail.len {
        return Ok(Same::Contained);
    }
    Ok(if record.tail.begins(scratch) { Same::Continues } else { Same::No })
}
