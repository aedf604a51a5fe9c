//! The byte bound: how `max_bytes` is divided, and how many pages a transaction may need.
//!
//! On disk a store is four files: database, `-wal`, `-shm` and `.reserve`. In WAL mode an event is written twice: into the
//! WAL at once, into the database at the next checkpoint. So the bound that holds *at every moment* is
//!
//! ```text
//! database + WAL + shm + reserve <= max_bytes
//! ```
//!
//! Shm and reserve are constant shares. Database and WAL share the rest: what the database does not take, the WAL may
//! ([`Limits::wal_allowed`]), so that a store that is nearly empty, which is how stores usually are, checkpoints rarely
//! and takes large events, while one that is full still has [`Limits::wal_min`] to remove events with. The rule is
//! checked before anything is written, with an estimate from above of what it will write ([`PageEstimate`]).

use crate::types::StoreOptions;

/// Page size of new databases. Larger pages raise peak inserts a little and write more WAL for small commits.
pub(crate) const PAGE: u64 = 4096;
/// A WAL frame is a page and its header.
const FRAME: u64 = PAGE + 24;
/// `-shm` grows by this for each 4,062 frames, or part of them.
const SHM_STEP: u64 = 32 * 1024;
const FRAMES_PER_SHM: u64 = 4062;
/// The WAL that a full database still has beside it, for removals, leases and appends one by one.
const WAL_MIN: (u64, u64) = (128 * 1024, 16 * 1024 * 1024);
/// The WAL never grows beyond this, however empty the database: it is what a start after a crash has to read.
const WAL_MAX: u64 = 64 * 1024 * 1024;
/// Bytes of a row beside its content: cell header, rowid, `at`, record header, cell pointer.
const ROW_OVERHEAD: u64 = 30;
/// Bytes of a leaf page that cells can use.
const LEAF: u64 = PAGE - 8;
/// Bytes of content on an overflow page.
const OVERFLOW: u64 = PAGE - 4;
/// Largest record that stays in its leaf page, and the least that does of one that overflows (SQLite file format, 1.6).
const MAX_LOCAL: u64 = PAGE - 35;
const MIN_LOCAL: u64 = (PAGE - 12) * 32 / 255 - 23;
/// Leaves under one interior page, at the least, and pages under one pointer-map page.
const LEAVES_PER_INTERIOR: u64 = 150;
const PAGES_PER_MAP: u64 = 800;
/// Pages of counters, leases, schema and free list that any transaction may write beside its rows.
pub(crate) const FIXED_PAGES: u64 = 10;
/// Pages that a few leases, batch ids and checkpoints may add to the file in one transaction beside its rows, or take of the free
/// ones that the rows were to have. How many frames a transaction writes is an estimate from above, which has room for them;
/// the length of the WAL's file is none.
const UNCOUNTED_GROWTH: u64 = 8;
/// Pages by which a transaction grows at the most before it is committed: beyond, waiting costs more than syncing.
const MAX_GROUP_PAGES: u64 = 1024;
/// Pages that events leave to dead letters in a full store: their estimate may be so far above what they need.
const LETTER_PAGES: u64 = 4;
/// A letter costs its event's place as long as it is kept, so live events are left most of the store.
const DEAD_SHARE: u64 = 8;
/// A table of events is begun anew after this share of the store, and not before it has so many bytes: it costs a page or two.
const SEGMENT_SHARE: u64 = 1024;
const MIN_SEGMENT: u64 = 256 * 1024;
/// Pages that a new table may add to the file, and those that making or dropping it may write beside [`moving_pages`]: its
/// root, what lay or comes to lie in the root's place, the parent of that, and the schema.
const SEGMENT_GROWTH: u64 = 3;
pub(crate) const SEGMENT_DIRTY: u64 = 12;
/// Children of an interior page, at the most.
const MAX_CHILDREN: u64 = PAGE / 8;
/// Free pages that one page of the free list names.
const FREE_PER_TRUNK: u64 = 1000;
/// Bytes of `batches` and its index that one remembered id takes at the most.
const BATCH_ROW: u64 = 2 * (crate::types::MAX_BATCH_ID_BYTES as u64 + 20) * 3 / 2;
/// Bytes that a row of `leases` takes at the most.
const LEASE_ROW: u64 = 100;

/// Pages of a lease, a release or an extension beside the rows of ranges: its note, the token.
pub(crate) const LEASE_CHANGE: u64 = 3;

/// How one store's bytes are divided.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    max_bytes: u64,
    wal_min: u64,
    shm: u64,
}

impl Limits {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let wal_min = (max_bytes / 16).clamp(WAL_MIN.0, WAL_MIN.1);
        // No transaction can take more than half: what it appends needs as much again in the database.
        Self { max_bytes, wal_min, shm: shm_bytes(max_bytes / 2) }
    }

    /// Bytes of the file that is given up when the disk is full, so that removing goes on.
    pub(crate) fn reserve(&self) -> u64 {
        self.wal_min
    }

    /// Pages that the database file can grow by in the place of the reserve.
    pub(crate) fn reserve_pages(&self) -> u64 {
        self.reserve() / PAGE
    }

    /// Pages that the database file may ever have.
    pub(crate) fn db_cap(&self) -> u64 {
        self.max_bytes.saturating_sub(self.wal_min + self.reserve() + self.shm) / PAGE
    }

    /// Pages up to which dead letters are kept beside leases of so many ranges; the rest is for the ranges that there may be
    /// in addition, which are not asked whether there is room.
    pub(crate) fn letter_cap(&self, ranges: u64) -> u64 {
        let more = self.max_ranges().saturating_sub(ranges);
        self.db_cap().saturating_sub(more * LEASE_ROW / PAGE)
    }

    /// Pages up to which events are taken; the rest is for what must go on in a full store: leases and dead letters.
    pub(crate) fn append_cap(&self) -> u64 {
        self.letter_cap(0).saturating_sub(LETTER_PAGES)
    }

    /// Bytes that the WAL may have beside a database of so many pages.
    fn wal_allowed(&self, db_pages: u64) -> u64 {
        let rest = self.max_bytes.saturating_sub(self.reserve() + self.shm + db_pages * PAGE);
        // A database that is too large already (its limit was lowered) must still be drained.
        rest.max(self.wal_min)
    }

    /// Whether a WAL file of `len` bytes, `used` frames of which hold something, may take `dirty` more.
    pub(crate) fn wal_fits(&self, len: u64, used: u64, dirty: u64, db_pages: u64) -> bool {
        let wanted = wal_bytes(used + dirty);
        let cap = WAL_MAX.max(wal_bytes(dirty));
        wanted <= self.wal_allowed(db_pages).min(cap)
            && len <= self.wal_allowed(db_pages + UNCOUNTED_GROWTH)
    }

    /// Whether an append fits on an empty WAL, when the database will then have so many pages.
    pub(crate) fn append_fits(&self, dirty: u64, db_pages: u64) -> bool {
        db_pages <= self.append_cap() && self.wal_fits(0, 0, dirty, db_pages)
    }

    /// Un-checkpointed frames after which the checkpoint thread is woken. No more than the reserve can pay for: on a full
    /// disk the database file must be able to take what only the WAL has.
    pub(crate) fn checkpoint_frames(&self) -> u64 {
        self.reserve() / FRAME / 2
    }

    /// Pages by which a transaction is cut.
    pub(crate) fn group_pages(&self) -> u64 {
        MAX_GROUP_PAGES
    }

    /// Pages of one step of a work that is done in steps; fits at any fill.
    pub(crate) fn step_pages(&self) -> u64 {
        (self.wal_min / FRAME).saturating_sub(FIXED_PAGES) / 2
    }

    /// Bytes after which a queue goes on in another table; 0, in stores of less than 17 MiB: never. A segment can be deleted
    /// in one step.
    pub(crate) fn segment_bytes(&self) -> u64 {
        let step = self.step_pages() * PAGE / 2;
        if step < MIN_SEGMENT {
            0
        } else {
            step.min(self.max_bytes / SEGMENT_SHARE).max(MIN_SEGMENT)
        }
    }

    /// The same, unless the options say otherwise.
    pub(crate) fn segment_bytes_of(&self, options: &StoreOptions) -> u64 {
        options.segment_bytes.unwrap_or_else(|| self.segment_bytes())
    }

    /// Whether so little of the file is left that events which leave it should make room at once.
    pub(crate) fn is_tight(&self, used_pages: u64) -> bool {
        used_pages * 4 > self.append_cap() * 3
    }

    /// Bytes in the file that a queue without a limit of its own may take, beside others.
    pub(crate) fn share(&self, queues: usize) -> u64 {
        if queues <= 1 {
            return self.max_bytes;
        }
        let queues = queues as u64;
        let pages = self.append_cap().saturating_sub(base_pages(queues));
        (pages - pages / DEAD_SHARE) * PAGE / queues
    }

    /// Content bytes of dead letters that are kept.
    pub(crate) fn dead_bytes(&self) -> u64 {
        self.append_cap() * PAGE / DEAD_SHARE
    }

    /// Batch ids remembered, of all senders together.
    pub(crate) fn max_batch_ids(&self) -> u64 {
        (self.max_bytes / 16 / BATCH_ROW).clamp(64, 20_000)
    }

    /// Ranges that a lease book may have.
    pub(crate) fn max_ranges(&self) -> u64 {
        (self.max_bytes / 64 / LEASE_ROW).clamp(128, 10_000)
    }

    /// Pages that changing so many rows of leases dirties at the most, where a queue then has so many ranges: a few rows may
    /// lie anywhere, many are the whole table.
    pub(crate) fn lease_pages(&self, rows: u64, ranges: u64) -> u64 {
        let before = rows.min(self.max_ranges());
        let all = (before + ranges) * LEASE_ROW / PAGE + 2;
        rows.saturating_mul(3).min(all)
    }

    /// Pages that so many new rows of leases may add to the file.
    pub(crate) fn lease_growth(&self, rows: u64) -> u64 {
        rows.min(self.max_ranges()) * LEASE_ROW / PAGE
    }

    /// Content bytes of the largest single event that an empty store can take.
    pub(crate) fn largest_event(&self, base_pages: u64) -> u64 {
        let fits = |bytes: u64| {
            let mut rows = PageEstimate::of_row(bytes);
            rows.add_segments(u64::from(self.segment_bytes() > 0));
            let db_pages = base_pages + rows.pages();
            self.append_fits(rows.dirty_pages(db_pages), db_pages)
        };
        // `fits` falls once from true to false, so it is found by halving.
        let (mut low, mut high) = (0, self.max_bytes);
        while low + 1 < high {
            let middle = low.midpoint(high);
            if fits(middle) { low = middle } else { high = middle }
        }
        low
    }
}

/// Pages of a store without events.
pub(crate) fn base_pages(queues: u64) -> u64 {
    queues + 15
}

fn wal_bytes(frames: u64) -> u64 {
    if frames == 0 { 0 } else { 32 + frames * FRAME }
}

pub(crate) fn frames_in(wal_len: u64) -> u64 {
    wal_len.saturating_sub(32).div_ceil(FRAME)
}

fn shm_bytes(wal: u64) -> u64 {
    (wal / FRAME).div_ceil(FRAMES_PER_SHM).max(1) * SHM_STEP
}

/// Bytes that an event takes in the file when its neighbours are of its size: what a queue's limit counts.
pub(crate) fn stored_bytes(content: u64) -> u64 {
    let record = content + ROW_OVERHEAD;
    if record <= MAX_LOCAL {
        return LEAF / (LEAF / record);
    }
    let (local, overflow) = split(record);
    local + overflow * PAGE
}

/// [`stored_bytes`] of `length(content)` in SQL.
pub(crate) fn stored_bytes_sql() -> String {
    let record = format!("(length(content)+{ROW_OVERHEAD})");
    let (whole, rest) = (
        format!("({record}-{MIN_LOCAL})/{OVERFLOW}"),
        format!("({record}-{MIN_LOCAL})%{OVERFLOW}"),
    );
    format!(
        "CASE WHEN {record}<={MAX_LOCAL} THEN {LEAF}/({LEAF}/{record}) \
         WHEN {MIN_LOCAL}+{rest}<={MAX_LOCAL} THEN {MIN_LOCAL}+{rest}+{whole}*{PAGE} \
         ELSE {MIN_LOCAL}+({whole}+1)*{PAGE} END"
    )
}

/// Bytes in the leaf and overflow pages of a record that does not fit into a leaf.
fn split(record: u64) -> (u64, u64) {
    let spill = MIN_LOCAL + (record - MIN_LOCAL) % OVERFLOW;
    let local = if spill <= MAX_LOCAL { spill } else { MIN_LOCAL };
    (local, (record - local).div_ceil(OVERFLOW))
}

/// Sums up, from above, the pages that appended rows will need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PageEstimate {
    overflow: u64,
    leaf_bytes: u64,
    largest_local: u64,
    rows: u64,
    tables: u64,
    segments: u64,
}

impl PageEstimate {
    /// One row in a table of its own.
    pub(crate) fn of_row(content: u64) -> Self {
        let mut one = Self { tables: 1, ..Self::default() };
        one.add_row(content);
        one
    }

    pub(crate) fn add_row(&mut self, content: u64) {
        self.rows += 1;
        let record = content + ROW_OVERHEAD;
        let (local, overflow) = if record <= MAX_LOCAL { (record, 0) } else { split(record) };
        self.leaf_bytes += local;
        self.largest_local = self.largest_local.max(local);
        self.overflow += overflow;
    }

    /// Rows from now on go to one more table, or to one of those that there have been, if that is all.
    pub(crate) fn add_table(&mut self, tables: u64) {
        self.tables = (self.tables + 1).min(tables);
    }

    /// So many tables may have to be made for the rows.
    pub(crate) fn add_segments(&mut self, segments: u64) {
        self.segments += segments;
    }

    /// The same rows, when no table is made for them.
    pub(crate) fn in_one_segment(self) -> Self {
        Self { segments: 0, ..self }
    }

    pub(crate) fn plus(self, other: Self, tables: u64) -> Self {
        Self {
            overflow: self.overflow + other.overflow,
            leaf_bytes: self.leaf_bytes + other.leaf_bytes,
            largest_local: self.largest_local.max(other.largest_local),
            rows: self.rows + other.rows,
            tables: (self.tables + other.tables).min(tables),
            segments: self.segments + other.segments,
        }
    }

    /// What came after `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            overflow: self.overflow - earlier.overflow,
            leaf_bytes: self.leaf_bytes - earlier.leaf_bytes,
            largest_local: self.largest_local,
            rows: self.rows - earlier.rows,
            tables: self.tables,
            segments: self.segments - earlier.segments,
        }
    }

    /// New pages at the most. A leaf is left when the next row does not fit: so what stays free in it is less than the
    /// largest row, and two neighbours together fill more than one.
    pub(crate) fn pages(&self) -> u64 {
        if self.rows == 0 {
            return 0;
        }
        let by_pairs = (self.leaf_bytes * 2).div_ceil(LEAF);
        let by_rest = self.leaf_bytes.div_ceil(LEAF - self.largest_local);
        let leaves = by_pairs.min(by_rest).min(self.rows) + self.tables;
        let total = self.overflow + leaves + self.segments * SEGMENT_GROWTH;
        total + leaves / LEAVES_PER_INTERIOR + total / PAGES_PER_MAP + 1
    }

    /// Pages that a transaction with these rows writes at the most, in a file of so many: the new ones, the old right edges,
    /// and the maps of the free pages that it takes.
    pub(crate) fn dirty_pages(&self, file_pages: u64) -> u64 {
        let pages = self.pages();
        let edges = self.tables + self.segments * SEGMENT_DIRTY;
        pages + map_pages(pages, file_pages) + edges + FIXED_PAGES
    }
}

/// Map pages that are written when so many pages become free, or are taken from the free list, in a file of so many: they
/// may lie anywhere.
pub(crate) fn map_pages(pages: u64, file_pages: u64) -> u64 {
    pages.min(file_pages / PAGES_PER_MAP + 1)
}

/// Pages that removing one run of rows dirties at the most, in a file of so many: their leaves, each at least a third full,
/// and the neighbours that the first and the last are merged with. Overflow pages are freed without being written, but for
/// those that name others in the free list.
pub(crate) fn removal_pages(rows: u64, stored: u64, file_pages: u64) -> u64 {
    if rows == 0 {
        return 0;
    }
    let leaves = rows.min(stored * 3 / LEAF + 2);
    let freed = leaves + stored / PAGE;
    let listed = freed / FREE_PER_TRUNK + 1;
    leaves + 2 + leaves / LEAVES_PER_INTERIOR + listed + map_pages(freed, file_pages)
}

/// Pages that are free at the most once events of so many bytes have gone: leaves may be a third full.
pub(crate) fn removed_pages(stored: u64) -> u64 {
    stored * 3 / LEAF + 2
}

/// Pages that emptying a table of so many bytes, if that is known, dirties at the most, in a file of so many pages: its root,
/// those of the free list and of the maps, for its pages may lie anywhere.
pub(crate) fn emptying_pages(stored: Option<u64>, file_pages: u64) -> u64 {
    let pages = stored.map_or(file_pages, removed_pages);
    3 + pages / FREE_PER_TRUNK + map_pages(pages, file_pages)
}

/// Map pages that are written when SQLite moves a page, in a file of so many: those of its children.
pub(crate) fn moving_pages(file_pages: u64) -> u64 {
    map_pages(MAX_CHILDREN, file_pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u64; 6] = [1, 2, 10, 64, 1024, 100_000];

    #[test]
    fn the_parts_of_a_full_store_add_up_to_its_bound() {
        for mib in SIZES {
            let limits = Limits::new(mib << 20);
            let total = limits.db_cap() * PAGE + limits.wal_min + limits.reserve() + limits.shm;
            assert!(total <= limits.max_bytes, "{mib} MiB");
            assert!(
                total + PAGE > limits.max_bytes,
                "{mib} MiB wastes {}",
                limits.max_bytes - total
            );
            assert!(limits.append_fits(FIXED_PAGES, limits.append_cap()));
            assert!(!limits.append_fits(FIXED_PAGES, limits.append_cap() + 1));
        }
    }

    #[test]
    fn most_of_a_store_is_for_events() {
        let share = |mib: u64| Limits::new(mib << 20).append_cap() * PAGE * 100 / (mib << 20);
        assert_eq!(SIZES.map(share), [69, 83, 85, 85, 96, 99]);
    }

    #[test]
    fn a_step_fits_beside_a_full_database() {
        for mib in SIZES {
            let limits = Limits::new(mib << 20);
            assert!(limits.step_pages() >= 10);
            assert!(
                limits.wal_fits(0, 0, limits.step_pages() + FIXED_PAGES, limits.db_cap()),
                "{mib} MiB"
            );
        }
    }

    #[test]
    fn a_change_of_all_leases_fits_beside_a_full_database() {
        for mib in SIZES {
            let limits = Limits::new(mib << 20);
            let all = limits.lease_pages(u64::MAX, limits.max_ranges() + 2);
            let pages = all + LEASE_CHANGE + FIXED_PAGES;
            assert!(limits.wal_fits(0, 0, pages, limits.db_cap()), "{mib} MiB: {pages} pages");
        }
        // One range, as nearly always.
        assert_eq!(Limits::new(1 << 30).lease_pages(1, 1), 2);
        assert_eq!(Limits::new(1 << 30).lease_pages(2, 5000), 6);
    }

    #[test]
    fn beside_a_long_wal_small_tables_may_grow() {
        let limits = Limits::new(1 << 20);
        let longest = |pages| limits.wal_allowed(pages) / FRAME * FRAME;
        assert!(!limits.wal_fits(longest(100), 0, 1, 100));
        assert!(limits.wal_fits(longest(100 + UNCOUNTED_GROWTH), 0, 1, 100));
        // A full store has the least that there ever is, all the same.
        assert!(limits.wal_fits(limits.wal_allowed(limits.db_cap()), 0, 1, limits.db_cap()));
    }

    #[test]
    fn the_largest_event_takes_nearly_half_of_an_empty_store() {
        let largest =
            |mib: u64| Limits::new(mib << 20).largest_event(base_pages(1)) * 100 / (mib << 20);
        assert_eq!(SIZES.map(largest), [35, 42, 45, 46, 48, 49]);
    }

    #[test]
    fn small_rows_share_pages_and_large_ones_overflow() {
        let pages = |rows: u64, content: u64| {
            let mut estimate = PageEstimate { tables: 1, ..PageEstimate::default() };
            (0..rows).for_each(|_| estimate.add_row(content));
            estimate.pages()
        };
        assert_eq!(pages(1, 100), 3);
        assert_eq!(pages(1000, 700), 221);
        assert!((978..=990).contains(&pages(1, 4_000_000)));
    }

    #[test]
    fn stored_bytes_follow_the_pages() {
        assert_eq!([1, 700, 2100, 4031].map(stored_bytes), [31, 817, 4088, 4088]);
        assert_eq!([4032, 5000, 60_000].map(stored_bytes), [4585, 5034, 60_086]);
    }
}
