//! Rows as the `db` and `alert` sinks keep them: JSON objects in tables whose schema grows by itself.

use std::collections::HashMap;

use rusqlite::{Connection, params};
use serde_json::{Map, Value};

use super::batch::Apply;
use super::call::{Call, Verb};
use super::failure::WriteError;
use super::identifier::Identifier;
use super::row_table::RowTable;
use super::schema::{self, MAX_TABLES};
use super::timestamp;

/// Counters live here and not in the rows, so that a number is never given twice, also when the last row is deleted.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_tables (
  name TEXT PRIMARY KEY,
  next_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";
const PUT_NEXT: &str = "INSERT OR REPLACE INTO _rpf_tables (name, next_id) VALUES (?1, ?2)";

/// The tables that were written lately, so that they need not be looked up for each event.
#[derive(Default)]
pub(crate) struct Rows {
    tables: HashMap<Identifier, RowTable>,
    schema_version: i64,
}

impl Apply for Rows {
    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError> {
        let version = schema::version(conn)?;
        if version != self.schema_version || self.tables.len() > MAX_TABLES {
            self.tables.clear();
            self.schema_version = version;
        }
        Ok(())
    }

    fn apply(&mut self, conn: &Connection, call: Call, now_us: i64) -> Result<(), WriteError> {
        match call.verb {
            Verb::Put => self.put(conn, &call.table, call.body, now_us),
            Verb::Delete => self.delete(conn, &call.table, &call.body),
            Verb::Nothing => Ok(()),
        }
    }

    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError> {
        let mut put = conn.prepare_cached(PUT_NEXT)?;
        for table in self.tables.values_mut() {
            if let Some(next) = table.take_next() {
                put.execute(params![table.name().folded(), next])?;
            }
        }
        self.schema_version = schema::version(conn)?;
        Ok(())
    }

    fn forget(&mut self) {
        self.tables.clear();
    }
}

impl Rows {
    /// Inserts a row, or replaces the one with its id.
    ///
    /// # Errors
    /// [`WriteError`].
    pub(crate) fn put(
        &mut self,
        conn: &Connection,
        name: &Identifier,
        body: Map<String, Value>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        let time = timestamp::of_event(body.get("timestamp")).map_err(WriteError::Refused)?;
        let table = match self.tables.get_mut(name) {
            Some(table) => table,
            None => {
                let table = RowTable::open_or_create(conn, name)?;
                self.tables.entry(name.clone()).or_insert(table)
            }
        };
        table.put(conn, body, now_us, time.unwrap_or(now_us))
    }

    /// Removes the row whose id the body names; one that is not there is removed already.
    fn delete(
        &mut self,
        conn: &Connection,
        name: &Identifier,
        body: &Map<String, Value>,
    ) -> Result<(), WriteError> {
        let id = match body.get("id") {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            _ => return Err(WriteError::Refused("DELETE needs a body with an id".to_owned())),
        };
        if !self.tables.contains_key(name) {
            let Some(table) = RowTable::open(conn, name)? else { return Ok(()) };
            self.tables.insert(name.clone(), table);
        }
        self.tables[name].delete(conn, &id)
    }
}
