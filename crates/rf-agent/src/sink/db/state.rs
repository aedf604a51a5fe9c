//! What the writer thread of a `db` sink owns.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::{Map, Value};

use crate::sink::table::batch::{Reading, Room};
use crate::sink::table::failure::{OpenError, WriteError};
use crate::sink::table::retention::{Step, remove_old_rows};
use crate::sink::table::rows::{self, Rows};
use crate::sink::table::table_sink::Tables;
use crate::sink::table::{applied, batch, connect, database, timestamp};

pub(super) struct State {
    conn: Connection,
    rows: Rows,
    room: Room,
}

impl database::State for State {
    type Body = Map<String, Value>;

    fn write(&mut self, reading: Reading<'_, Self::Body>) -> Result<(), WriteError> {
        let now_us = timestamp::now_us();
        batch::write(&mut self.conn, &mut self.rows, &mut self.room, reading, now_us)
    }
}

impl Tables for State {
    fn open(path: &Path, max_bytes: Option<u64>) -> Result<Self, OpenError> {
        let conn = connect::open(path, max_bytes, &[applied::TABLES, rows::TABLES])?;
        Ok(Self { conn, rows: Rows::default(), room: Room::default() })
    }

    fn remove_old(&mut self, row_ttl: Duration) -> rusqlite::Result<Step> {
        remove_old_rows(&self.conn, row_ttl)
    }
}
