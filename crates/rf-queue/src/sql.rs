//! The statements, spelled once.

use crate::limits::stored_bytes_sql;
use crate::schema::event_table;

/// SQL of one table of a queue; its name is made of numbers, never of a user's text.
#[derive(Debug, Clone)]
pub(crate) struct QueueSql {
    pub(crate) number: u64,
    pub(crate) insert: String,
    pub(crate) adopt: String,
    pub(crate) read: String,
    pub(crate) sizes: String,
    pub(crate) measure: String,
    pub(crate) delete: String,
    pub(crate) empty: String,
    pub(crate) head: String,
    pub(crate) ends: String,
}

impl QueueSql {
    pub(crate) fn new(queue_row: i64, number: u64) -> Self {
        let table = event_table(queue_row, number);
        let stored = stored_bytes_sql();
        let between = "WHERE id BETWEEN ?1 AND ?2";
        Self {
            insert: format!("INSERT INTO {table} (id, at, content) VALUES (?1, ?2, ?3)"),
            adopt: format!("INSERT OR IGNORE INTO {table} (id, at, content) VALUES (?1, ?2, ?3)"),
            read: format!("SELECT id, at, content FROM {table} {between} ORDER BY id LIMIT ?3"),
            sizes: format!(
                "SELECT id, at, length(content) FROM {table} {between} ORDER BY id LIMIT ?3"
            ),
            measure: format!(
                "SELECT count(*), coalesce(sum(length(content)), 0), coalesce(sum({stored}), 0) FROM {table} {between}"
            ),
            delete: format!("DELETE FROM {table} {between}"),
            // Without a condition, SQLite frees the pages of the table as they are.
            empty: format!("DELETE FROM {table}"),
            head: format!("SELECT id, at FROM {table} {between} ORDER BY id LIMIT 1"),
            // Each by itself is one step into the tree; both at once would be a scan.
            ends: format!("SELECT (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table})"),
            number,
        }
    }
}

pub(crate) const SAVE_COUNTERS: &str = "UPDATE queues SET next_id = ?2, events = ?3, bytes = ?4, stored = ?5, last_at = ?6, removed = ?7 WHERE id = ?1";
pub(crate) const PUT_LEASE: &str = "INSERT OR REPLACE INTO leases (queue, first, last, attempts, until_ms, ttl_ms, token) \
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(crate) const DELETE_LEASE: &str = "DELETE FROM leases WHERE queue = ?1 AND first = ?2";
pub(crate) const PUT_CHECKPOINT: &str =
    "INSERT OR REPLACE INTO checkpoints (key, value) VALUES (?1, ?2)";
pub(crate) const CHECKPOINT_BYTES: &str = "SELECT length(value) FROM checkpoints WHERE key = ?1";
pub(crate) const DELETE_CHECKPOINT: &str = "DELETE FROM checkpoints WHERE key = ?1";
pub(crate) const GET_CHECKPOINT: &str = "SELECT value FROM checkpoints WHERE key = ?1";
pub(crate) const GET_CHECKPOINTS: &str =
    "SELECT key, value FROM checkpoints WHERE key >= ?1 ORDER BY key";
pub(crate) const FIND_BATCH: &str =
    "SELECT seq, (SELECT max(seq) FROM batches) FROM batches WHERE id = ?1";
pub(crate) const MOVE_BATCH: &str = "UPDATE batches SET seq = ?2 WHERE seq = ?1";
pub(crate) const PUT_BATCH: &str = "INSERT INTO batches (id) VALUES (?1)";
pub(crate) const PRUNE_BATCHES: &str = "DELETE FROM batches WHERE seq <= ?1";
pub(crate) const PUT_DEAD: &str = "INSERT INTO dead_letters (queue, at, dead_at, reason, attempts, content) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
pub(crate) const MEASURE_DEAD: &str = "SELECT queue, length(content) FROM dead_letters";
pub(crate) const OLDEST_DEAD: &str =
    "SELECT id, length(content), queue FROM dead_letters ORDER BY id LIMIT 1";
pub(crate) const NEXT_RETRY: &str =
    "SELECT id, queue FROM dead_letters WHERE retry = 1 AND id > ?1 ORDER BY id LIMIT 1";
pub(crate) const GET_RETRY: &str = "SELECT content FROM dead_letters WHERE retry = 1 AND id = ?1";
pub(crate) const DELETE_DEAD: &str = "DELETE FROM dead_letters WHERE id = ?1";
