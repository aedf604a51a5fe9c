//! The tables that a sink has written lately, so that they need not be looked up for each event.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use rusqlite::Connection;

use super::failure::WriteError;
use super::identifier::Identifier;
use super::schema::{self, MAX_TABLES};

/// What is known of each table, a `T`.
///
/// Invariant: it is what the database has, within the transaction under way. So it goes with one that is rolled back
/// ([`Self::forget`]), and where another program has changed the schema ([`Self::begin`]).
pub(crate) struct KnownTables<T> {
    tables: HashMap<Identifier, T>,
    schema_version: i64,
}

impl<T> Default for KnownTables<T> {
    fn default() -> Self {
        Self { tables: HashMap::new(), schema_version: 0 }
    }
}

impl<T> KnownTables<T> {
    /// To be called first in a transaction.
    pub(crate) fn begin(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        let version = schema::version(conn)?;
        if version != self.schema_version || self.tables.len() > MAX_TABLES {
            self.tables.clear();
            self.schema_version = version;
        }
        Ok(())
    }

    /// To be called last in a transaction: what it has changed in the schema is known.
    pub(crate) fn finish(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.schema_version = schema::version(conn)?;
        Ok(())
    }

    /// The transaction was rolled back.
    pub(crate) fn forget(&mut self) {
        self.tables.clear();
    }

    /// The table of this name, which `open` looks up or makes where it is not known.
    ///
    /// # Errors
    /// What `open` says; then nothing is known of the table.
    pub(crate) fn get(
        &mut self,
        name: Identifier,
        open: impl FnOnce(&Identifier) -> Result<T, WriteError>,
    ) -> Result<&mut T, WriteError> {
        match self.tables.entry(name) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let table = open(unknown.key())?;
                Ok(unknown.insert(table))
            }
        }
    }

    /// As [`Self::get`], of a table that need not be there.
    ///
    /// # Errors
    /// As of [`Self::get`].
    pub(crate) fn find(
        &mut self,
        name: Identifier,
        open: impl FnOnce(&Identifier) -> Result<Option<T>, WriteError>,
    ) -> Result<Option<&mut T>, WriteError> {
        match self.tables.entry(name) {
            Entry::Occupied(known) => Ok(Some(known.into_mut())),
            Entry::Vacant(unknown) => {
                let table = open(unknown.key())?;
                Ok(table.map(|table| unknown.insert(table)))
            }
        }
    }

    /// All of them, in no order.
    pub(crate) fn all(&mut self) -> impl Iterator<Item = &mut T> {
        self.tables.values_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(conn: &Connection, table: &str) {
        conn.execute_batch(&format!("CREATE TABLE {table} (a)")).unwrap();
    }

    /// Begins a transaction, and gives what is known of table `t` in it; 0 is what it opens as.
    fn known(tables: &mut KnownTables<i32>, conn: &Connection) -> i32 {
        tables.begin(conn).unwrap();
        *tables.get(Identifier::own("t"), |_| Ok(0)).unwrap()
    }

    #[test]
    fn a_table_is_known_until_the_schema_is_changed_elsewhere_or_goes_back() {
        let conn = Connection::open_in_memory().unwrap();
        let mut tables = KnownTables::default();
        let mut check = |expected: i32, change: &dyn Fn(&mut KnownTables<i32>)| {
            assert_eq!(known(&mut tables, &conn), expected);
            *tables.get(Identifier::own("T"), |_| panic!("it is known")).unwrap() = 1;
            change(&mut tables);
        };
        check(0, &|tables| {
            create(&conn, "own");
            tables.finish(&conn).unwrap();
        });
        check(1, &|tables| {
            tables.finish(&conn).unwrap();
            create(&conn, "anothers");
        });
        check(0, &KnownTables::<i32>::forget);
        check(0, &|tables| tables.finish(&conn).unwrap());
        check(1, &|_| {});
    }

    #[test]
    fn what_is_not_opened_is_not_known() {
        let mut tables = KnownTables::default();
        let name = || Identifier::own("t");
        let refuse = |_: &Identifier| Err(WriteError::Refused("no".to_owned()));
        assert!(tables.get(name(), refuse).is_err());
        assert_eq!(tables.find(name(), |_| Ok(None)).unwrap(), None);
        assert_eq!(tables.find(name(), |_| Ok(Some(7))).unwrap(), Some(&mut 7));
        assert_eq!(tables.find(name(), |_| Ok(None)).unwrap(), Some(&mut 7));
    }
}
