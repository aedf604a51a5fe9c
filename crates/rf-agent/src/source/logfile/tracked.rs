//! One file: read on from where it was left, in windows.
//!
//! Nothing of a file is kept in memory between two looks but its record. A line whose end has not come is read again
//! when it has.

use std::fs::OpenOptions;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use tokio::time::Instant;

use super::content::{Content, Reached, without_waiting};
use super::lines::{Flush, Lines, Piece, Rules};
use super::print::{Print, TAIL_BYTES, most_of_head};
use super::record::{Record, Within};
use super::settings::Settings;
use super::trouble::{State, Trouble, Wrong, state_of};
use rf_core::clock::unix_ms;

/// Bytes of a file that are looked at together; more where a line is longer.
const WINDOW_BYTES: usize = 256 * 1024;
/// A file that was deleted, or that a rotation has set aside, is closed when its lines are stored and nothing was added to it
/// for so long.
const DELETED_QUIET: Duration = Duration::from_secs(5);
const ASIDE_QUIET: Duration = Duration::from_secs(60);

/// A file that is read, or whose record is kept to know it again.
pub(super) struct Tracked {
    /// Number of its record in the store.
    pub(super) key: u64,
    /// As far as it was read.
    pub(super) record: Record,
    /// As far as its lines are stored.
    pub(super) stored: Record,
    pub(super) content: Option<Content>,
    /// Of its family.
    family: u64,
    /// The family of the path where it lies: another one where rotations lead into another folder.
    lies_with: (PathBuf, u64),
    /// It lies at a path that is asked for.
    pub(super) asked: bool,
    /// It lies where the lines of its family are written to.
    pub(super) live: bool,
    /// Not open, and not found by the looks since then.
    pub(super) missing_since: Option<Instant>,
    /// What is the same in all of its events.
    label: Vec<u8>,
    /// At the last look that left nothing to read.
    looked: Option<State>,
    /// At the last look.
    state: State,
    /// Why it cannot be read on.
    trouble: Option<Trouble>,
    grown: Instant,
    /// What may be taken without its end was taken since it grew last.
    flushed: bool,
}

/// A family that many files are compared with: a hash, which most of them have not, spares most comparisons of paths.
#[derive(Debug, Clone, Copy)]
pub(super) struct Family<'a> {
    path: &'a Path,
    hash: u64,
}

impl<'a> Family<'a> {
    pub(super) fn of(path: &'a Path) -> Self {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        Self { path, hash: hasher.finish() }
    }
}

/// What a look at a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// There is no more to read now.
    Done,
    /// There is more.
    More,
    /// What was read is no longer in it.
    Emptied,
    /// It is not at any path, and read to its end.
    Gone,
    /// It breaks off, and its rest may still come.
    Broken,
    /// It breaks off, and its rest will not come.
    GivenUp,
}

/// Where the events of a look go.
pub(super) trait LineReceiver {
    fn has_room(&self) -> bool;
    fn push(&mut self, piece: &Piece<'_>, label: &[u8]);
}

impl Tracked {
    pub(super) fn new(key: u64, record: Record, settings: &Settings) -> Self {
        let label = settings.template.file(&record.name);
        Self {
            key,
            stored: record.clone(),
            family: Family::of(&record.family).hash,
            lies_with: lies_with(&record.path, settings),
            record,
            content: None,
            asked: false,
            live: false,
            missing_since: None,
            label,
            looked: None,
            state: (0, UNIX_EPOCH),
            trouble: None,
            grown: Instant::now(),
            flushed: false,
        }
    }

    /// Reads from `content` from now on.
    pub(super) fn open(&mut self, content: Content) {
        self.record.packed = content.is_compressed();
        (self.record.done, self.record.ended_at) = (false, None);
        self.content = Some(content);
        self.missing_since = None;
        self.forget_look();
        self.grown = Instant::now();
    }

    /// The content is new: it is read from its beginning.
    pub(super) fn begin_anew(&mut self) {
        let Record { family, name, path, id, packed, .. } = std::mem::take(&mut self.record);
        self.record = Record { family, name, path, id, packed, ..Record::default() };
        self.forget_look();
    }

    /// Goes back to what is stored.
    pub(super) fn rewind(&mut self) {
        if self.record.offset != self.stored.offset || self.record.within != self.stored.within {
            let Record { path, id, packed, .. } = std::mem::take(&mut self.record);
            self.record = Record { path, id, packed, ..self.stored.clone() };
        }
        (self.record.done, self.record.ended_at) = (self.stored.done, self.stored.ended_at);
        self.forget_look();
    }

    fn forget_look(&mut self) {
        (self.looked, self.trouble) = (None, None);
        self.flushed = false;
    }

    /// Takes what has come since the last look, as far as the receiver has room.
    pub(super) fn look(
        &mut self,
        settings: &Settings,
        buffer: &mut Vec<u8>,
        receiver: &mut impl LineReceiver,
    ) -> io::Result<Look> {
        if self.trouble.as_ref().is_some_and(Trouble::is_fresh) {
            return Ok(Look::Done);
        }
        let looked = self.look_now(settings, buffer, receiver);
        if let Err(error) = &looked {
            self.fails(error);
        }
        looked
    }

    /// It could not be read. What another machine has deleted on a network file system cannot be read ever again: once
    /// closed, it is looked for elsewhere.
    pub(super) fn fails(&mut self, error: &io::Error) {
        self.note_trouble(Wrong::Fails);
        if error.kind() == io::ErrorKind::StaleNetworkFileHandle {
            self.content = None;
        }
    }

    fn look_now(
        &mut self,
        settings: &Settings,
        buffer: &mut Vec<u8>,
        receiver: &mut impl LineReceiver,
    ) -> io::Result<Look> {
        let Some(content) = &mut self.content else { return Ok(Look::Done) };
        let meta = content.metadata()?;
        let state = state_of(&meta);
        if state.0 != self.state.0 {
            (self.grown, self.flushed) = (Instant::now(), false);
        }
        self.state = state;
        if self.record.offset == 0 && self.looked != Some(state) {
            content.settle()?;
            self.record.packed = content.is_compressed();
        }
        let is_compressed = content.is_compressed();
        if !is_compressed && state.0 < self.record.offset {
            return Ok(Look::Emptied);
        }
        let is_deleted = meta.nlink() == 0;
        let flush = if is_compressed {
            let is_final = self.trouble.as_ref().is_some_and(|trouble| trouble.is_final(state));
            Flush { partial: is_final, group: is_final, last: true }
        } else {
            self.flush(settings, is_deleted)
        };
        if self.looked == Some(state) && !flush.partial && !flush.group {
            return Ok(self.quiet(settings, is_deleted));
        }
        let look = self.read_windows(settings, flush, buffer, receiver)?;
        match look {
            Look::Done => {
                (self.looked, self.trouble) = (Some(state), None);
                self.flushed |=
                    flush.partial || (flush.group && settings.partial_timeout.is_none());
            }
            Look::Broken => self.looked = Some(state),
            Look::More | Look::Emptied | Look::Gone | Look::GivenUp => {}
        }
        Ok(look)
    }

    fn note_trouble(&mut self, wrong: Wrong) {
        match &mut self.trouble {
            Some(trouble) => trouble.goes_on(wrong, self.state),
            None => self.trouble = Some(Trouble::new(wrong, self.state)),
        }
    }

    /// Whether the newer files of its family wait, since it cannot be read on.
    pub(super) fn holds_up(&self) -> bool {
        self.trouble.as_ref().is_some_and(Trouble::holds_up)
    }

    /// Why its content breaks off.
    pub(super) fn broken(&self) -> Option<&'static str> {
        match self.trouble.as_ref()?.wrong {
            Wrong::Breaks(what) => Some(what),
            Wrong::Fails => None,
        }
    }

    /// When silence means that the end of what there is may be taken.
    fn flush(&self, settings: &Settings, is_deleted: bool) -> Flush {
        if self.flushed || self.record.offset >= self.state.0 {
            return Flush::default();
        }
        let quiet = self.grown.elapsed();
        let is_over = |after: Duration| quiet >= after;
        Flush {
            partial: settings.partial_timeout.is_some_and(is_over)
                || (is_deleted && is_over(DELETED_QUIET)),
            group: settings.multiline.as_ref().is_some_and(|multiline| is_over(multiline.timeout)),
            last: false,
        }
    }

    /// When [`Self::look`] has something to do although nothing is added.
    pub(super) fn next_look(&self, settings: &Settings) -> Option<Duration> {
        self.content.as_ref()?;
        let trouble = self.trouble.as_ref().and_then(Trouble::next_look);
        self.next_flush(settings).into_iter().chain(trouble).min()
    }

    fn next_flush(&self, settings: &Settings) -> Option<Duration> {
        if self.flushed || self.record.offset >= self.state.0 {
            return None;
        }
        let group = settings.multiline.as_ref().map(|multiline| multiline.timeout);
        let first = [group, settings.partial_timeout].into_iter().flatten();
        let quiet = self.grown.elapsed();
        // A time that is over has had its look.
        first.filter(|after| *after > quiet).map(|after| after.saturating_sub(quiet)).min()
    }

    /// A file to which nothing is added and nothing is left to read, or half a unit.
    fn quiet(&mut self, settings: &Settings, is_deleted: bool) -> Look {
        if self.broken().is_some() {
            return Look::Done;
        }
        self.trouble = None;
        let quiet = self.grown.elapsed();
        if self.record.offset != self.stored.offset {
            // Its lines may have to be read again, in smaller batches: by then it may be at no path.
            return Look::Done;
        }
        let is_read = self.record.offset + settings.encoding.unit() as u64 > self.state.0;
        if is_deleted && quiet > DELETED_QUIET && is_read {
            return Look::Gone;
        }
        if quiet > ASIDE_QUIET {
            if !self.live && is_read {
                self.record.ended_at = Some(self.record.offset);
            }
            if !self.asked {
                self.content = None;
            }
        }
        Look::Done
    }

    /// One window after the other while the receiver has room: a batch costs its synced commit, however little is in it.
    fn read_windows(
        &mut self,
        settings: &Settings,
        flush: Flush,
        buffer: &mut Vec<u8>,
        receiver: &mut impl LineReceiver,
    ) -> io::Result<Look> {
        loop {
            let before = self.record.offset;
            let look = self.read(settings, flush, buffer, receiver)?;
            if look != Look::More || !receiver.has_room() || self.record.offset == before {
                return Ok(look);
            }
        }
    }

    fn read(
        &mut self,
        settings: &Settings,
        flush: Flush,
        buffer: &mut Vec<u8>,
        receiver: &mut impl LineReceiver,
    ) -> io::Result<Look> {
        let Some(content) = &mut self.content else { return Ok(Look::Done) };
        let rules = Rules {
            encoding: settings.encoding,
            max_line: settings.max_line,
            multiline: settings.multiline.as_ref(),
        };
        let head = self.record.head;
        if !content.is_compressed() && head.len > 0 && !head.begins(&content.head(head.len)?) {
            return Ok(Look::Emptied);
        }
        let guard = self.record.tail.len;
        let largest = WINDOW_BYTES + 2 * settings.max_line;
        let mut want = WINDOW_BYTES;
        loop {
            let from = self.record.offset - guard as u64;
            let reached = content.read(from, guard + want, buffer)?;
            // What breaks off before the place where reading goes on says nothing of what was there.
            let is_before = matches!(reached, Reached::Break(_)) && buffer.len() < guard;
            if !is_before && !self.record.tail.begins(buffer) {
                return Ok(Look::Emptied);
            }
            let window = buffer.get(guard..).unwrap_or_default();
            let is_end = reached != Reached::Asked;
            let flush = Flush {
                // The end of a window is the end of the content only where there is no more.
                partial: flush.partial && is_end,
                group: (flush.group && is_end) || want == largest,
                last: flush.last && reached == Reached::End,
            };
            let mut lines = Lines::new(window, self.record.within, rules, flush);
            let mut has_room = receiver.has_room();
            while has_room && let Some(piece) = lines.next() {
                receiver.push(&piece, &self.label);
                has_room = receiver.has_room();
            }
            let (taken, within) = (lines.taken, lines.within);
            if taken == 0 && has_room && !is_end && want < largest {
                want = largest;
                continue;
            }
            if taken > 0 {
                self.advance(buffer.get(..guard + taken).unwrap_or(buffer), from, within);
                self.record.offset += taken as u64;
                self.print_head(settings.fingerprint_lines, from, buffer)?;
            }
            if !has_room || !is_end {
                return Ok(Look::More);
            }
            if let Reached::Break(what) = reached {
                return Ok(self.breaks(what, flush.partial));
            }
            if flush.last {
                self.end();
            }
            return Ok(Look::Done);
        }
    }

    /// All that is before the place where compressed content breaks off was taken.
    fn breaks(&mut self, what: &'static str, is_final: bool) -> Look {
        self.note_trouble(Wrong::Breaks(what));
        if !is_final {
            return Look::Broken;
        }
        self.end();
        Look::GivenUp
    }

    /// Nothing more comes of compressed content, unless its file changes.
    fn end(&mut self) {
        (self.record.done, self.record.ended_at) = (true, Some(self.state.0));
        self.content = None;
    }

    /// `read` is what is before the new offset, from `from` on.
    fn advance(&mut self, read: &[u8], from: u64, within: Within) {
        self.record.marks.note(read, from, self.record.offset);
        let tail = read.get(read.len().saturating_sub(TAIL_BYTES)..).unwrap_or(read);
        self.record.tail = Print::of(tail);
        self.record.within = within;
        if self.record.since_ms == 0 {
            self.record.since_ms = unix_ms();
        }
    }

    /// Lets the print of the beginning cover what was read of it; `read` are the bytes from `from` on that were read last.
    fn print_head(&mut self, lines: usize, from: u64, read: &[u8]) -> io::Result<()> {
        let (Some(content), record) = (&self.content, &mut self.record) else { return Ok(()) };
        let most = most_of_head(lines);
        let len = usize::try_from(record.offset).unwrap_or(most).min(most);
        if record.head.len >= len {
            return Ok(());
        }
        let head = match read.get(..len) {
            Some(read) if from == 0 => read.to_vec(),
            _ => content.head(len)?,
        };
        // The file may have been emptied and filled again since those bytes were read: then this is another beginning.
        let overlap =
            usize::try_from(from).ok().and_then(|from| head.get(from..)).unwrap_or_default();
        let is_same = head.len() == len && read.starts_with(overlap);
        if is_same && let Some(grown) = record.head.grown(&head, lines) {
            record.head = grown;
        }
        Ok(())
    }

    /// Whether all that is in the file is stored, and has been for `quiet`.
    pub(super) fn is_stored_whole(&self, quiet: Duration) -> bool {
        self.record.offset > 0
            && self.record.offset == self.state.0
            && self.record.offset == self.stored.offset
            && self.grown.elapsed() >= quiet
    }

    /// Empties the file at its path, if that is still the file, and still as it was looked at; false when it is not.
    pub(super) fn truncate(&mut self) -> io::Result<bool> {
        let file = without_waiting(OpenOptions::new().write(true)).open(self.path())?;
        let meta = file.metadata()?;
        let is_same = self.record.id.is_some_and(|id| id.may_be(super::record::FileId::of(&meta)));
        if !is_same || meta.len() != self.record.offset {
            return Ok(false);
        }
        file.set_len(0)?;
        self.begin_anew();
        self.state.0 = 0;
        Ok(true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.record.path
    }

    /// It is found at this path now.
    pub(super) fn move_to(&mut self, path: &Path, settings: &Settings) {
        path.clone_into(&mut self.record.path);
        self.lies_with = lies_with(path, settings);
    }

    pub(super) fn is_of(&self, family: Family<'_>) -> bool {
        self.family == family.hash && self.record.family == *family.path
    }

    /// Whether files of this family may be copies of it.
    pub(super) fn belongs_to(&self, family: Family<'_>) -> bool {
        let (path, hash) = &self.lies_with;
        self.is_of(family) || (*hash == family.hash && path == family.path)
    }

    /// How much is in it; if it is closed, how much of it was read.
    pub(super) fn len(&self) -> io::Result<u64> {
        match &self.content {
            Some(content) => Ok(content.metadata()?.len()),
            None => Ok(self.record.offset),
        }
    }
}

/// The family of a path.
fn lies_with(path: &Path, settings: &Settings) -> (PathBuf, u64) {
    let family = settings.family(path);
    let hash = Family::of(&family).hash;
    (family, hash)
}
