//! All files of a source: what is read of them goes into batches, with the records that say how far.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::lines::Piece;
use super::record::Record;
use super::settings::Settings;
use super::tracked::{LineReceiver, Look, Tracked};
use rf_core::clock::unix_ms;

/// Events of a batch at the most, and their bytes, but for the last one.
const BATCH_EVENTS: usize = 8192;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// Files whose content was lost while a rest of it was not read; a copy of the oldest is no longer known when there are more.
const MAX_LOST: usize = 64;
/// A file is emptied (`removeAfterSecs`) only when nothing was added for so long: a line that is added between the look
/// and the emptying would be lost.
const EMPTYING_QUIET: Duration = Duration::from_millis(200);

/// Records by their numbers, as they are stored with a batch; `None` removes one.
pub(super) type Records = BTreeMap<u64, Option<Record>>;

/// The files, in the order in which they are read: those of a family together, the older first.
pub(super) struct Tailer {
    pub(super) settings: Arc<Settings>,
    pub(super) files: Vec<Tracked>,
    pub(super) next_key: u64,
    /// No look at the file system was made in this run.
    pub(super) is_first_look: bool,
    /// No batch was made in this run.
    is_new: bool,
    /// When the last look was made.
    pub(super) looked_at: SystemTime,
    /// Records that changed without a line, and what is to be removed.
    pub(super) changed: Records,
    /// Where the next batch begins, so that a busy file does not keep the others from their turn.
    turn: usize,
    max_events: usize,
    buffer: Vec<u8>,
    /// For comparing contents.
    pub(super) scratch: Vec<u8>,
}

/// A batch that is ready to be stored.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    pub(super) events: Vec<Bytes>,
    /// What is to be stored with it.
    pub(super) records: Records,
    /// There is more to read.
    pub(super) more: bool,
    /// Lines that were too long.
    pub(super) truncated: usize,
    /// Compressed files whose rest is given up with it.
    pub(super) broken: Vec<Broken>,
    /// When something is due although nothing is added.
    pub(super) due: Option<Duration>,
}

/// A compressed file whose content breaks off.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) path: PathBuf,
    /// All before this place in its content was read.
    pub(super) offset: u64,
    pub(super) reason: &'static str,
}

impl Prepared {
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.records.is_empty()
    }
}

impl Tailer {
    pub(super) fn new(settings: Arc<Settings>, stored: Vec<(u64, Record)>) -> Self {
        let next_key = stored.last().map_or(0, |(key, _)| key + 1);
        let files = stored.into_iter().map(|(key, record)| Tracked::new(key, record, &settings));
        let mut files: Vec<Tracked> = files.collect();
        let mut families: HashMap<PathBuf, usize> = HashMap::new();
        for file in &files {
            let next = families.len();
            families.entry(file.record.family.clone()).or_insert(next);
        }
        files.sort_by_key(|file| families.get(&file.record.family).copied());
        Self {
            settings,
            files,
            next_key,
            is_first_look: true,
            is_new: true,
            looked_at: UNIX_EPOCH,
            changed: Records::new(),
            turn: 0,
            max_events: BATCH_EVENTS,
            buffer: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Reads the next batch. `settled`: no other one is under way.
    pub(super) fn prepare(&mut self, settled: bool) -> Prepared {
        if std::mem::take(&mut self.is_new) && !self.changed.is_empty() {
            // Before a line is read, the files count as seen: a rotation after a kill finds them known.
            let records = std::mem::take(&mut self.changed);
            return Prepared { records, more: true, ..Prepared::default() };
        }
        if settled {
            self.empty_old_files();
        }
        let settings = Arc::clone(&self.settings);
        let mut building = Building::new(&settings, self.max_events);
        let mut more = self.read_all(&mut building);
        more |= self.settle_looks(&mut building.looks);
        let due = self.files.iter().filter_map(|file| file.next_look(&settings)).min();
        let broken = std::mem::take(&mut building.broken);
        let (events, truncated) = building.finish();
        let records = std::mem::take(&mut self.changed);
        Prepared { events, records, more, truncated, broken, due }
    }

    /// True when there is more.
    fn read_all(&mut self, building: &mut Building<'_>) -> bool {
        let count = self.files.len();
        let first = self.turn.min(count);
        let mut waits: HashSet<PathBuf> = HashSet::new();
        let mut more = false;
        self.turn = 0;
        for index in (first..count).chain(0..first) {
            let file = &mut self.files[index];
            if file.content.is_none() || waits.contains(&file.record.family) {
                continue;
            }
            if !building.has_room() {
                self.turn = index;
                more = true;
                break;
            }
            let before = (file.record.offset, file.record.done, file.record.ended_at);
            match file.look(&self.settings, &mut self.buffer, building) {
                Ok(look) => {
                    if look == Look::More {
                        // The lines of a family keep their order: what was written later waits.
                        waits.insert(file.record.family.clone());
                        more = true;
                    }
                    if matches!(look, Look::Emptied | Look::Gone) {
                        building.looks.push((file.key, look));
                    }
                    if look == Look::GivenUp {
                        let (path, offset) = (file.path().to_owned(), file.record.offset);
                        let reason = file.broken().unwrap_or_default();
                        building.broken.push(Broken { path, offset, reason });
                    }
                }
                Err(error) => {
                    tracing::warn!(source = self.settings.id, file = %file.path().display(), %error, "file cannot be read, trying again");
                }
            }
            if file.holds_up() {
                // Their order is kept if it can be read soon.
                waits.insert(file.record.family.clone());
            }
            if (file.record.offset, file.record.done, file.record.ended_at) != before {
                self.changed.insert(file.key, Some(file.record.clone()));
            }
        }
        // A family is read from its oldest file on.
        while self.turn > 0
            && self.files[self.turn - 1].record.family == self.files[self.turn].record.family
        {
            self.turn -= 1;
        }
        more
    }

    /// What looks have found besides lines; true when there is more to read.
    fn settle_looks(&mut self, looks: &mut Vec<(u64, Look)>) -> bool {
        let mut more = false;
        for (key, look) in looks.drain(..) {
            let Some(index) = self.files.iter().position(|file| file.key == key) else { continue };
            if look == Look::Gone {
                self.close_deleted(index);
                continue;
            }
            let file = &self.files[index];
            tracing::info!(source = self.settings.id, file = %file.path().display(), "the file was emptied or rewritten, reading it from the beginning");
            self.set_lost_aside(index);
            more = true;
        }
        more
    }

    /// A deleted file was read to its end. Its record stays for a while: it may come back compressed.
    fn close_deleted(&mut self, index: usize) {
        let file = &mut self.files[index];
        file.content = None;
        file.record.id = None;
        file.record.done = true;
        self.changed.insert(file.key, Some(file.record.clone()));
        self.forget_oldest_lost();
    }

    /// The content of a file is not in it any more. Its record is kept under a number of its own, for a copy may have the
    /// rest; the file begins anew.
    pub(super) fn set_lost_aside(&mut self, index: usize) {
        let file = &mut self.files[index];
        let lost = Record { id: None, ..file.record.clone() };
        let stored = Record { id: None, ..file.stored.clone() };
        file.begin_anew();
        self.changed.insert(file.key, Some(file.record.clone()));
        if lost.head.len > 0 {
            let mut lost = self.track(lost);
            lost.stored = stored;
            self.files.insert(index, lost);
            self.forget_oldest_lost();
        }
    }

    fn forget_oldest_lost(&mut self) {
        let is_lost = |file: &Tracked| file.record.id.is_none() && file.record.offset > 0;
        if self.files.iter().filter(|file| is_lost(file)).count() > MAX_LOST
            && let Some(index) = self.files.iter().position(is_lost)
        {
            self.changed.insert(self.files[index].key, None);
            self.files.remove(index);
        }
    }

    /// A new record; the caller puts it into its place.
    pub(super) fn track(&mut self, record: Record) -> Tracked {
        let key = self.next_key;
        self.next_key += 1;
        self.changed.insert(key, Some(record.clone()));
        Tracked::new(key, record, &self.settings)
    }

    /// The batch is stored.
    pub(super) fn committed(&mut self, batch: &Prepared) {
        for file in &mut self.files {
            if let Some(Some(record)) = batch.records.get(&file.key) {
                file.stored = record.clone();
            }
        }
        // Slowly: what was too large for the queue once is refused again. A batch without events says nothing of its room.
        if !batch.events.is_empty() {
            self.max_events = (self.max_events + self.max_events / 8 + 1).min(BATCH_EVENTS);
        }
    }

    /// The batch will not be stored: its lines are read again, in smaller batches.
    pub(super) fn rewind(&mut self, batch: Prepared) {
        self.max_events = (batch.events.len() / 2).max(1);
        for (key, record) in batch.records {
            self.changed.entry(key).or_insert(record);
        }
        for file in &mut self.files {
            file.rewind();
            if let Some(record) = self.changed.get_mut(&file.key) {
                *record = Some(file.record.clone());
            }
        }
    }

    /// `removeAfterSecs`.
    fn empty_old_files(&mut self) {
        let Some(after) = self.settings.remove_after else { return };
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        let now = unix_ms();
        for file in self.files.iter_mut().filter(|file| file.asked && file.content.is_some()) {
            let is_due = now.saturating_sub(file.record.since_ms) >= after;
            if !is_due || !file.is_stored_whole(EMPTYING_QUIET) {
                continue;
            }
            match file.truncate() {
                Ok(true) => {
                    tracing::info!(source = self.settings.id, file = %file.path().display(), "file emptied, all of it is stored");
                    self.changed.insert(file.key, Some(file.record.clone()));
                }
                Ok(false) => {}
                Err(error) => {
                    tracing::warn!(source = self.settings.id, file = %file.path().display(), %error, "removeAfterSecs: file cannot be emptied");
                }
            }
        }
    }
}

/// A batch in the making: the events lie behind each other in one piece of memory.
struct Building<'a> {
    settings: &'a Settings,
    max_events: usize,
    content: Vec<u8>,
    ends: Vec<usize>,
    truncated: usize,
    broken: Vec<Broken>,
    now_us: Vec<u8>,
    looks: Vec<(u64, Look)>,
}

impl<'a> Building<'a> {
    fn new(settings: &'a Settings, max_events: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            settings,
            max_events,
            content: Vec::new(),
            ends: Vec::new(),
            truncated: 0,
            broken: Vec::new(),
            now_us: now.as_micros().to_string().into_bytes(),
            looks: Vec::new(),
        }
    }

    fn finish(self) -> (Vec<Bytes>, usize) {
        let content = Bytes::from(self.content);
        let mut start = 0;
        let events =
            self.ends.iter().map(|&end| content.slice(std::mem::replace(&mut start, end)..end));
        (events.collect(), self.truncated)
    }
}

impl LineReceiver for Building<'_> {
    fn has_room(&self) -> bool {
        self.ends.len() < self.max_events && self.content.len() < BATCH_BYTES
    }

    fn push(&mut self, piece: &Piece<'_>, label: &[u8]) {
        self.settings.template.write(&mut self.content, piece, label, &self.now_us);
        self.ends.push(self.content.len());
        self.truncated += usize::from(piece.truncated);
    }
}
