//! Rows as the `db` and `alert` sinks keep them: JSON objects in tables whose schema grows by itself.

use rusqlite::{Connection, params};
use serde_json::{Map, Value};

use super::batch::Apply;
use super::call::{Call, Verb, value_of};
use super::failure::WriteError;
use super::identifier::Identifier;
use super::known::KnownTables;
use super::row_table::{ID, MAX_NOTICES, RowTable};

/// Counters live here and not in the rows, so that a number is never given twice, also when the last row is deleted.
pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _rpf_tables (
  name TEXT PRIMARY KEY,
  next_id INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";
const PUT_NEXT: &str = "INSERT OR REPLACE INTO _rpf_tables (name, next_id) VALUES (?1, ?2)";

/// The rows of all tables.
#[derive(Default)]
pub(crate) struct Rows {
    tables: KnownTables<RowTable>,
}

impl Apply for Rows {
    type Body = Map<String, Value>;

    fn begin(&mut self, conn: &Connection) -> Result<(), WriteError> {
        Ok(self.tables.begin(conn)?)
    }

    fn apply(
        &mut self,
        conn: &Connection,
        call: &Call<Self::Body>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        match &call.verb {
            Verb::Put(body) => self.put(conn, &call.table, body, now_us),
            Verb::Delete(body) => self.delete(conn, &call.table, body),
            Verb::Nothing => Ok(()),
        }
    }

    fn finish(&mut self, conn: &Connection) -> Result<(), WriteError> {
        let mut put = conn.prepare_cached(PUT_NEXT)?;
        for table in self.tables.all() {
            if let Some(next) = table.take_next() {
                put.execute(params![table.name().folded(), next])?;
            }
        }
        Ok(self.tables.finish(conn)?)
    }

    fn forget(&mut self) {
        self.tables.forget();
    }

    fn notices(&mut self) -> Vec<String> {
        let mut notices: Vec<String> = self.tables.all().flat_map(RowTable::take_notices).collect();
        notices.truncate(MAX_NOTICES);
        notices
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
        body: &Map<String, Value>,
        now_us: i64,
    ) -> Result<(), WriteError> {
        let table = self.tables.get(name.clone(), |name| RowTable::open_or_create(conn, name))?;
        table.put(conn, body, now_us)
    }

    /// Removes the row whose id the body names; one that is not there is removed already.
    fn delete(
        &mut self,
        conn: &Connection,
        name: &Identifier,
        body: &Map<String, Value>,
    ) -> Result<(), WriteError> {
        let id = match value_of(body, ID) {
            Some(Value::String(id)) => id.clone(),
            Some(Value::Number(id)) => id.to_string(),
            Some(Value::Bool(id)) => id.to_string(),
            _ => return Err(WriteError::Refused("DELETE needs a body with an id".to_owned())),
        };
        match self.tables.find(name.clone(), |name| RowTable::open(conn, name))? {
            Some(table) => table.delete(conn, &id),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The notices of a batch of events of one table.
    fn notices(rows: &mut Rows, conn: &Connection, bodies: &[Value]) -> Vec<String> {
        rows.begin(conn).unwrap();
        for body in bodies {
            let Value::Object(body) = body else { panic!("no body: {body}") };
            rows.put(conn, &Identifier::own("t"), body, 1).unwrap();
        }
        rows.finish(conn).unwrap();
        rows.notices()
    }

    #[test]
    fn what_is_not_stored_as_it_came_is_told() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(TABLES).unwrap();
        let mut rows = Rows::default();
        let mut told = |bodies: &[Value]| notices(&mut rows, &conn, bodies).join("\n");
        let long = "k".repeat(129);
        assert_eq!(told(&[json!({ "n": 1, "zip": "007", "\u{1f389}": null })]), "");
        let dropped =
            told(&[json!({ "\u{1f389}": 1 }), json!({ "\u{1f389}": 2, (long.clone()): 1 })]);
        assert_eq!(dropped.lines().count(), 2, "{dropped}");
        assert!(
            dropped.contains("table `t`: the values of key `\u{1f389}` are dropped"),
            "{dropped}"
        );
        assert!(dropped.contains(&format!("key `{}`", "k".repeat(60))), "{dropped}");
        assert_eq!(told(&[json!({ "n": "7", "zip": "1e5", "timestamp": "1136214245.0" })]), "");
        let changed = told(&[json!({ "n": "007" }), json!({ "n": "1e5" })]);
        assert!(changed.starts_with("table `t`: column `n` holds numbers"), "{changed}");
        assert_eq!(changed.lines().count(), 1, "{changed}");
        let keys = (0..20).map(|number| ("!".repeat(number + 1), json!(1))).collect();
        assert_eq!(told(&[Value::Object(keys)]).lines().count(), 3);
        assert_eq!(told(&[json!({ "n": 2 })]), "");
    }
}
