//! Events become rows, as in `db`, and move the watch of their table.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, params};
use serde_json::{Map, Value};

use super::config::{AlertSinkConfig, AlertTableConfig};
use super::outbox;
use super::scope::Scope;
use super::scripts::Scripts;
use super::silence::Silences;
use super::watcher::{Notice, Rule, Watch};
use crate::sink::table::batch::Apply;
use crate::sink::table::call::{Call, Verb};
use crate::sink::table::failure::WriteError;
use crate::sink::table::identifier::Identifier;
use crate::sink::table::rows::Rows;

pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_watches (
  name TEXT PRIMARY KEY,
  watch TEXT NOT NULL
) STRICT, WITHOUT ROWID;
";
const GET: &str = "SELECT name, watch FROM _rpf_watches";
const PUT: &str = "INSERT OR REPLACE INTO _rpf_watches (name, watch) VALUES (?1, ?2)";

/// The tables that a sink watches.
pub(super) struct Alerts {
    pub(super) scope: Scope,
    config: Arc<AlertSinkConfig>,
    defaults: AlertTableConfig,
    rows: Rows,
    pub(super) scripts: Scripts,
    /// By table, in lower case.
    watches: BTreeMap<String, Watch>,
    /// Tables whose watch is not stored yet.
    moved: BTreeSet<String>,
    /// Notices of the transaction under way, with their tables, for the log: it may still be rolled back.
    told: Vec<(String, String)>,
    pub(super) silences: Silences,
    /// The transaction was rolled back: watches are read anew.
    stale: bool,
    /// When this program began to listen.
    started_us: i64,
}

/// What the API shows of a table.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) table: String,
    pub(super) watch: Watch,
    pub(super) rule: Rule,
    pub(super) silenced: Option<Silent>,
}

/// The silence over a table that lasts longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silent {
    pub(super) until_us: i64,
    /// By `silencedUntil` of the file, which no request can end.
    pub(super) by_file: bool,
}

impl Alerts {
    pub(super) fn load(
        conn: &Connection,
        scope: Scope,
        config: Arc<AlertSinkConfig>,
        scripts: Scripts,
        now_us: i64,
    ) -> rusqlite::Result<Self> {
        let mut alerts = Self {
            silences: Silences::load(conn, scope.clone())?,
            scope,
            config,
            defaults: AlertTableConfig::default(),
            rows: Rows::default(),
            scripts,
            watches: BTreeMap::new(),
            moved: BTreeSet::new(),
            told: Vec::new(),
            stale: false,
            started_us: now_us,
        };
        alerts.load_watches(conn)?;
        Ok(alerts)
    }

    fn load_watches(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut statement = conn.prepare_cached(GET)?;
        let rows = statement
            .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
        self.watches.clear();
        for row in rows {
            let (name, text) = row?;
            let Some(table) = self.scope.own(&name) else { continue };
            // One that cannot be read begins anew with the next event.
            let watch = serde_json::from_str(&text).unwrap_or_default();
            self.watches.insert(table.to_owned(), watch);
        }
        // A table that must have events is watched before its first one.
        for (table, config) in &self.config.scripts {
            if config.rule().heartbeat.is_some() {
                self.watches.entry(table.to_ascii_lowercase()).or_default();
            }
        }
        self.moved.clear();
        self.told.clear();
        self.stale = false;
        Ok(())
    }

    fn config_of(&self, table: &str) -> &AlertTableConfig {
        let known = self.config.scripts.iter();
        let found = known.into_iter().find(|(name, _)| name.to_ascii_lowercase() == table);
        found.map_or(&self.defaults, |(_, config)| config)
    }

    fn silenced(&self, table: &str, now_us: i64) -> Option<Silent> {
        let file = self.config_of(table).silenced_until_us().filter(|until| *until > now_us);
        let asked = self.silences.until(table, now_us);
        let until_us = file.max(asked)?;
        Some(Silent { until_us, by_file: file >= asked })
    }

    fn put(
        &mut self,
        conn: &Connection,
        name: &Identifier,
        body: &Map<String, Value>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        let table = name.as_str().to_ascii_lowercase();
        let status = self.scripts.status(&table, body)?;
        let shown = if status.trim().is_empty() { "ok" } else { &status };
        let mut body = body.clone();
        body.insert("status".to_owned(), Value::String(shown.to_owned()));
        self.rows.put(conn, name, &body, now_us)?;
        let rule = self.config_of(&table).rule();
        let silenced = self.silenced(&table, now_us).is_some();
        let watch = self.watches.entry(table.clone()).or_default();
        let notices = watch.event(&rule, &status, now_us, silenced);
        self.tell(conn, &table, &notices, now_us).map_err(WriteError::Own)?;
        self.moved.insert(table);
        Ok(())
    }

    fn tell(
        &mut self,
        conn: &Connection,
        table: &str,
        notices: &[Notice],
        now_us: i64,
    ) -> rusqlite::Result<()> {
        for notice in notices {
            let watch = &self.watches[table];
            let (subject, message) = outbox::text(table, watch, notice);
            if !self.config.notification_sink.is_empty() {
                outbox::put(conn, &self.scope, &subject, &message, now_us)?;
            }
            self.told.push((table.to_owned(), message));
        }
        Ok(())
    }

    fn log_told(&mut self) {
        for (table, text) in self.told.drain(..) {
            tracing::info!(table, text, "alert");
        }
    }

    /// Lets time pass for every table, in a transaction if that tells anything.
    pub(super) fn tick(&mut self, conn: &mut Connection, now_us: i64) -> rusqlite::Result<()> {
        if self.stale {
            self.load_watches(conn)?;
        }
        // Unless the clock was set back.
        self.started_us = self.started_us.min(now_us);
        let mut told: Vec<(String, Vec<Notice>)> = Vec::new();
        let tables: Vec<String> = self.watches.keys().cloned().collect();
        for table in tables {
            let rule = self.config_of(&table).rule();
            let silenced = self.silenced(&table, now_us).is_some();
            let started = self.started_us;
            let Some(watch) = self.watches.get_mut(&table) else { continue };
            let before = watch.clone();
            let notices = watch.tick(&rule, now_us, started, silenced);
            if *watch != before {
                self.moved.insert(table.clone());
            }
            told.push((table, notices));
        }
        if self.moved.is_empty() {
            return Ok(());
        }
        self.stale = true;
        let transaction =
            conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for (table, notices) in &told {
            self.tell(&transaction, table, notices, now_us)?;
        }
        self.store(&transaction)?;
        transaction.commit()?;
        self.stale = false;
        self.log_told();
        Ok(())
    }

    fn store(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let mut put = conn.prepare_cached(PUT)?;
        for table in std::mem::take(&mut self.moved) {
            let text = serde_json::to_string(&self.watches[&table])
                .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
            put.execute(params![self.scope.full(&table), text])?;
        }
        Ok(())
    }

    /// Whether a table had an event, or is named in the file; its name is in lower case.
    pub(super) fn has(&self, table: &str) -> bool {
        let is_named =
            || self.config.scripts.keys().any(|named| named.to_ascii_lowercase() == table);
        self.watches.contains_key(table) || is_named()
    }

    /// What is known of every table.
    pub(super) fn shown(&self, now_us: i64) -> Vec<Shown> {
        let shown = self.watches.iter().map(|(table, watch)| Shown {
            table: table.clone(),
            watch: watch.clone(),
            rule: self.config_of(table).rule(),
            silenced: self.silenced(table, now_us),
        });
        shown.collect()
    }
}

impl Apply for Alerts {
    type Body = Map<String, Value>;

    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError> {
        if self.stale {
            self.load_watches(conn)?;
        }
        self.rows.begin(conn)
    }

    fn apply(
        &mut self,
        conn: &Connection,
        call: &Call<Self::Body>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        match &call.verb {
            Verb::Put(body) => self.put(conn, &call.table, body, now_us),
            // A row less is no sign of life.
            Verb::Delete(_) | Verb::Nothing => self.rows.apply(conn, call, now_us),
        }
    }

    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError> {
        self.store(conn)?;
        self.rows.finish(conn)
    }

    fn forget(&mut self) {
        self.stale = true;
        self.rows.forget();
    }

    fn committed(&mut self) {
        self.log_told();
    }

    fn notices(&mut self) -> Vec<String> {
        self.rows.notices()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sink::alert::silence;
    use crate::sink::table::rows;

    /// Applies three bad events; the notices that are to be told of them.
    fn three_bad(alerts: &mut Alerts, conn: &Connection) -> usize {
        alerts.begin(conn).unwrap();
        for _ in 0..3 {
            let Value::Object(body) = json!({ "status": "down" }) else { panic!("no object") };
            let table = Identifier::own("web");
            alerts.apply(conn, &Call { verb: Verb::Put(body), table, key: None }, 1).unwrap();
        }
        alerts.finish(conn).unwrap();
        alerts.told.len()
    }

    #[test]
    fn what_is_rolled_back_is_not_told() {
        let mut conn = Connection::open_in_memory().unwrap();
        for tables in [rows::TABLES, TABLES, silence::TABLES, outbox::TABLES] {
            conn.execute_batch(tables).unwrap();
        }
        let config = serde_json::from_value(json!({ "database": "a.sqlite3" })).unwrap();
        let scripts = Scripts::new(BTreeMap::new());
        let scope = Scope::of("checks");
        let mut alerts = Alerts::load(&conn, scope, Arc::new(config), scripts, 0).unwrap();
        let transaction = conn.transaction().unwrap();
        assert_eq!(three_bad(&mut alerts, &transaction), 1);
        transaction.rollback().unwrap();
        alerts.forget();
        let transaction = conn.transaction().unwrap();
        assert_eq!(three_bad(&mut alerts, &transaction), 1);
        transaction.commit().unwrap();
        alerts.committed();
        assert!(alerts.told.is_empty(), "{:?}", alerts.told);
    }
}
