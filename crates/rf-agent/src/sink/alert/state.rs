//! What the writer thread of an `alert` sink owns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rf_core::config::ByteSize;
use rusqlite::Connection;
use serde_json::{Map, Value};

use super::alerts::{self, Alerts, Shown};
use super::config::AlertSinkConfig;
use super::outbox::{self, Waiting};
use super::scope::Scope;
use super::scripts::Scripts;
use super::silence::{self, ALL, Silence};
use crate::sink::table::batch::{Reading, Room};
use crate::sink::table::failure::{OpenError, WriteError};
use crate::sink::table::retention::{Step, remove_old_rows};
use crate::sink::table::{applied, batch, connect, database, rows, timestamp};

/// What became of a silence that was asked for.
pub(super) enum Silenced {
    /// It lasts.
    Done,
    /// It lasts, and no event of the table has come yet.
    Ahead,
    /// There are as many as there may be.
    TooMany,
}

pub(super) struct State {
    conn: Connection,
    alerts: Alerts,
    room: Room,
}

impl database::State for State {
    type Body = Map<String, Value>;

    fn write(&mut self, reading: Reading<'_, Self::Body>) -> Result<(), WriteError> {
        let now_us = timestamp::now_us();
        batch::write(&mut self.conn, &mut self.alerts, &mut self.room, reading, now_us)
    }
}

impl State {
    pub(super) fn open(
        path: &Path,
        scope: &Scope,
        config: &Arc<AlertSinkConfig>,
        scripts: &BTreeMap<String, PathBuf>,
    ) -> Result<Self, OpenError> {
        let tables =
            [applied::TABLES, rows::TABLES, alerts::TABLES, silence::TABLES, outbox::TABLES];
        let conn = connect::open(path, config.max_bytes.map(ByteSize::bytes), &tables)?;
        let scripts = Scripts::new(scripts.clone());
        let now_us = timestamp::now_us();
        let alerts = scope
            .adopt(&conn)
            .and_then(|()| Alerts::load(&conn, scope.clone(), Arc::clone(config), scripts, now_us))
            .map_err(|error| OpenError::of_database(path, &error))?;
        Ok(Self { conn, alerts, room: Room::default() })
    }

    /// Lets time pass; the notices that wait then.
    pub(super) fn tick(&mut self) -> rusqlite::Result<Vec<Waiting>> {
        self.alerts.tick(&mut self.conn, timestamp::now_us())?;
        outbox::waiting(&self.conn, &self.alerts.scope)
    }

    /// Loads the scripts anew.
    pub(super) fn reload(&mut self, sink: &str) {
        self.alerts.scripts.reload(sink);
    }

    /// Forgets a notice that was handed over.
    pub(super) fn handed_over(&mut self, seq: i64) -> rusqlite::Result<()> {
        outbox::remove(&self.conn, seq)
    }

    /// What is known of every table.
    pub(super) fn shown(&mut self) -> Vec<Shown> {
        self.alerts.shown(timestamp::now_us())
    }

    /// The silences that last.
    pub(super) fn silences(&mut self) -> Vec<Silence> {
        self.alerts.silences.lasting(timestamp::now_us())
    }

    /// Adds a silence of a table, or of all.
    pub(super) fn silence(&mut self, silence: Silence) -> rusqlite::Result<Silenced> {
        let is_known = silence.name == ALL || self.alerts.has(&silence.name);
        let is_added = self.alerts.silences.put(&self.conn, silence, timestamp::now_us())?;
        Ok(match (is_added, is_known) {
            (false, _) => Silenced::TooMany,
            (true, true) => Silenced::Done,
            (true, false) => Silenced::Ahead,
        })
    }

    /// Ends a silence; false when there is none.
    pub(super) fn end_silence(&mut self, name: &str) -> rusqlite::Result<bool> {
        self.alerts.silences.remove(&self.conn, name, timestamp::now_us())
    }

    /// One step of retention.
    pub(super) fn remove_old(&mut self, row_ttl: Duration) -> rusqlite::Result<Step> {
        remove_old_rows(&self.conn, row_ttl)
    }
}
