//! What the writer thread of a `time_series` sink owns.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::name::Form;
use super::point::Point;
use super::series::Series;
use crate::sink::table::batch::{Reading, Room};
use crate::sink::table::failure::{OpenError, WriteError};
use crate::sink::table::retention::{Step, give_back, remove_older};
use crate::sink::table::schema::{self, Table};
use crate::sink::table::table_sink::Tables;
use crate::sink::table::{applied, batch, connect, database, timestamp};

pub(super) struct State {
    conn: Connection,
    series: Series,
    room: Room,
}

impl database::State for State {
    type Body = Point;

    fn write(&mut self, reading: Reading<'_, Self::Body>) -> Result<(), WriteError> {
        let now_us = timestamp::now_us();
        batch::write(&mut self.conn, &mut self.series, &mut self.room, reading, now_us)
    }
}

impl Tables for State {
    fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, OpenError> {
        let conn = connect::open(path, max_bytes, &[applied::TABLES])?;
        Ok(Self { conn, series: Series::default(), room: Room::default() })
    }

    /// In each table rows may be `row_ttl` older than its newest one. A row from the future, of a
    /// machine with a wrong clock, counts as one from now: it must not cost all the others.
    fn remove_old(&mut self, row_ttl: Duration) -> rusqlite::Result<Step> {
        let ttl = i64::try_from(row_ttl.as_secs()).unwrap_or(i64::MAX);
        for name in schema::own_tables(&self.conn)? {
            let Some(table) = Table::load(&self.conn, name.as_str())? else { continue };
            if Form::of(name.as_str()).is_err() {
                continue;
            }
            let newest: Option<i64> = self
                .conn
                .prepare_cached(&format!("SELECT max(timestamp) FROM {}", table.name))?
                .query_row([], |row| row.get(0))?;
            let Some(newest) = newest else { continue };
            let before = newest.min(timestamp::now_seconds()).saturating_sub(ttl);
            if remove_older(&self.conn, &table, "timestamp", before)? == Step::More {
                return Ok(Step::More);
            }
        }
        give_back(&self.conn)
    }
}
