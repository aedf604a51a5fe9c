//! Everything that the writer knows: its queues (see [`QueueState`]), and what they share.
//!
//! The writer thread alone owns it. It is loaded from the database and written back in the same transaction as the rows
//! that it counts; after a rolled-back transaction it is loaded again.

use std::path::Path;

use rusqlite::Connection;

use crate::clock::Clock;
use crate::ends::Ends;
use crate::errors::Notice;
use crate::limits::Limits;
use crate::queue_state::{QueueShares, QueueState};
use crate::schema::{set_max_bytes, set_token_epoch, token_epoch};
use crate::shared::Shared;
use crate::sql;
use crate::types::{QueueOptions, StoreOptions};

/// Bits of a lease's token that count the leases of one epoch. An epoch begins with the first lease after a start.
const TOKENS_PER_EPOCH: u32 = 32;

/// Everything that the writer keeps in memory.
pub(crate) struct State {
    pub(crate) queues: Vec<QueueState>,
    next_token: u64,
    /// That tokens of this epoch are given is stored.
    epoch_stored: bool,
    pub(crate) dead_letters: u64,
    pub(crate) dead_bytes: u64,
    /// Dead letters that are gone, those of queues that are no longer configured among them; and by the open transaction.
    dropped_dead: u64,
    dropping_dead: u64,
}

impl State {
    /// Creates the rows and tables of queues that are new, and reads the counters.
    pub(crate) fn load_or_create(
        conn: &Connection,
        options: &StoreOptions,
        limits: &Limits,
    ) -> rusqlite::Result<Self> {
        // One transaction, so one sync for all new queues together.
        let tx = conn.unchecked_transaction()?;
        set_max_bytes(&tx, options.max_bytes)?;
        for queue in &options.queues {
            QueueState::create(&tx, queue, options.clock.as_ref())?;
        }
        let state = Self::load(&tx, options, limits, Vec::new())?;
        tx.commit()?;
        Ok(state)
    }

    /// With the ends of leases that are known, by queue.
    fn load(
        conn: &Connection,
        options: &StoreOptions,
        limits: &Limits,
        ends: Vec<Ends>,
    ) -> rusqlite::Result<Self> {
        let shares = QueueShares {
            share_bytes: limits.share(options.queues.len()),
            segment_bytes: limits.segment_bytes_of(options),
        };
        let clock = options.clock.as_ref();
        let mut ends = ends.into_iter();
        let load = |queue: &QueueOptions| {
            let ends = ends.next().unwrap_or_default();
            QueueState::load(conn, queue, shares, clock, ends)
        };
        let queues = options.queues.iter().map(load).collect::<rusqlite::Result<Vec<_>>>()?;
        // Tokens of leases that are gone are not given again either: somebody may still try to extend one.
        let next_token = (token_epoch(conn)? + 1) << TOKENS_PER_EPOCH;
        let mut state = Self {
            queues,
            next_token,
            epoch_stored: false,
            dead_letters: 0,
            dead_bytes: 0,
            dropped_dead: 0,
            dropping_dead: 0,
        };
        state.count_dead(conn)?;
        Ok(state)
    }

    /// Counts the dead letters, which the command line may have changed.
    pub(crate) fn count_dead(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        (self.dead_letters, self.dead_bytes) = (0, 0);
        self.queues.iter_mut().for_each(|queue| queue.dead_letters = 0);
        // Counted here: a GROUP BY would carry the contents through a sorter.
        let mut select = conn.prepare_cached(sql::MEASURE_DEAD)?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (queue, bytes): (String, u64) = (row.get(0)?, row.get(1)?);
            self.dead_letters += 1;
            self.dead_bytes += bytes;
            if let Some(queue) = self.named(&queue) {
                queue.dead_letters += 1;
            }
        }
        Ok(())
    }

    /// A dead letter of so many bytes was written.
    pub(crate) fn count_letter_in(&mut self, queue: usize, bytes: u64) {
        self.dead_letters += 1;
        self.dead_bytes += bytes;
        self.queues[queue].dead_letters += 1;
    }

    /// A dead letter was pushed out, perhaps one of a queue that is no longer configured.
    pub(crate) fn count_letter_out(&mut self, queue: &str, bytes: u64) {
        self.dead_letters = self.dead_letters.saturating_sub(1);
        self.dead_bytes = self.dead_bytes.saturating_sub(bytes);
        self.dropping_dead += 1;
        if let Some(queue) = self.named(queue) {
            queue.dead_letters = queue.dead_letters.saturating_sub(1);
            queue.count_letter_lost();
        }
    }

    /// There was no room for a dead letter.
    pub(crate) fn count_letter_lost(&mut self, queue: usize) {
        self.dropping_dead += 1;
        self.queues[queue].count_letter_lost();
    }

    fn named(&mut self, queue: &str) -> Option<&mut QueueState> {
        self.queues.iter_mut().find(|state| state.name == queue)
    }

    /// Loads again after a rollback, keeping what is not in the database.
    pub(crate) fn reload(
        &mut self,
        conn: &Connection,
        options: &StoreOptions,
        limits: &Limits,
    ) -> rusqlite::Result<()> {
        let ends = self.queues.iter_mut().map(QueueState::take_ends).collect();
        let mut fresh = Self::load(conn, options, limits, ends)?;
        for (new, old) in fresh.queues.iter_mut().zip(&self.queues) {
            new.go_on_from(old);
        }
        fresh.dropped_dead = self.dropped_dead;
        *self = fresh;
        Ok(())
    }

    /// Goes on counting from what was shown before the store slept.
    pub(crate) fn count_on(&mut self, shared: &Shared) {
        for (queue, shown) in self.queues.iter_mut().zip(&shared.queues) {
            queue.count_on(&shown.usage.lock());
        }
        self.dropped_dead = shared.disk.lock().dropped_dead;
    }

    /// Writes what changed, inside the running transaction.
    pub(crate) fn save(&mut self, conn: &Connection, clock: &dyn Clock) -> rusqlite::Result<()> {
        for queue in &mut self.queues {
            queue.save(conn, clock)?;
        }
        Ok(())
    }

    /// The token of a new lease, in the open transaction.
    pub(crate) fn take_token(&mut self, conn: &Connection) -> rusqlite::Result<u64> {
        if !self.epoch_stored {
            set_token_epoch(conn, self.next_token >> TOKENS_PER_EPOCH)?;
            self.epoch_stored = true;
        }
        self.next_token += 1;
        Ok(self.next_token - 1)
    }

    /// Tokens up to this epoch were given by the database that this one takes the place of.
    pub(crate) fn skip_tokens(&mut self, epoch: u64) {
        self.next_token = self.next_token.max((epoch + 1) << TOKENS_PER_EPOCH);
    }

    /// Shows the committed state to other threads and wakes the readers.
    pub(crate) fn publish(&mut self, shared: &Shared, path: &Path, used_bytes: u64, now_ms: u64) {
        for (queue, out) in self.queues.iter_mut().zip(&shared.queues) {
            queue.publish(out, path, now_ms);
        }
        self.dropped_dead += std::mem::take(&mut self.dropping_dead);
        let mut disk = shared.disk.lock();
        disk.used_bytes = used_bytes;
        disk.dead_letters = self.dead_letters;
        disk.dropped_dead = self.dropped_dead;
    }

    /// Whether events or dead letters were dropped that are not published.
    pub(crate) fn has_dropped(&self) -> bool {
        self.dropping_dead > 0 || self.queues.iter().any(QueueState::has_dropped)
    }

    pub(crate) fn next_lease_expiry(&self) -> Option<u64> {
        self.queues.iter().filter_map(|q| q.book.next_expiry()).min()
    }
}

/// Events of queues that are no longer configured.
pub(crate) fn orphans(conn: &Connection, options: &StoreOptions) -> rusqlite::Result<Vec<Notice>> {
    let mut select =
        conn.prepare("SELECT name, events FROM queues WHERE events > 0 ORDER BY name")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(String, u64)> = rows.collect::<rusqlite::Result<_>>()?;
    let known = |name: &str| options.queues.iter().any(|q| q.name == name);
    let orphans = rows.into_iter().filter(|(name, _)| !known(name));
    Ok(orphans.map(|(queue, events)| Notice::Orphan { queue, events }).collect())
}
