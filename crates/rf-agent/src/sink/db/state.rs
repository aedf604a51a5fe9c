//! What the writer thread of a `db` sink owns.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use crate::sink::SinkBatch;
use crate::sink::table::failure::WriteError;
use crate::sink::table::retention::{Step, remove_older};
use crate::sink::table::row_table::UPDATED;
use crate::sink::table::rows::{self, Rows};
use crate::sink::table::schema::{self, Table};
use crate::sink::table::{applied, batch, connect, database, timestamp};

pub(super) struct State {
    conn: Connection,
    rows: Rows,
}

impl database::State for State {
    fn write(&mut self, sink: &str, batch: &SinkBatch) -> Result<u64, WriteError> {
        batch::write(&mut self.conn, &mut self.rows, sink, batch, timestamp::now_us())
    }
}

impl State {
    pub(super) fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, String> {
        let conn = connect::open(path, max_bytes, &[applied::TABLES, rows::TABLES])?;
        Ok(Self { conn, rows: Rows::default() })
    }

    /// One step of retention: the first table with rows that were not written for `row_ttl` loses some of them.
    pub(super) fn remove_old(&mut self, row_ttl: Duration) -> rusqlite::Result<Step> {
        let ttl = i64::try_from(row_ttl.as_secs()).unwrap_or(i64::MAX);
        let before = timestamp::now_seconds().saturating_sub(ttl);
        for name in schema::tables(&self.conn)? {
            let Some(table) = Table::load(&self.conn, name.as_str())? else { continue };
            if !table.is_view
                && table.column(UPDATED).is_some()
                && remove_older(&self.conn, &table.name, UPDATED, before)? == Step::More
            {
                return Ok(Step::More);
            }
        }
        Ok(Step::Done)
    }
}
